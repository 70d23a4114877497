//! The third seam: bytes of the network on one side, bytes of the protocol on the other.
//!
//! TLS sits behind it in real agents; in the simulator a plain twin with the same record sizes does, because key exchange
//! draws entropy outside of our control.

use std::fmt;

/// One connection's encryption and the proof of who is on the other side. Does no I/O and never waits.
///
/// After an error from `receive` or `send` the session is over: what `output` still gives (an alert that tells the other
/// side why) may be sent, then the connection is closed.
pub trait Session {
    /// Takes bytes that came from the network, any number of them, and appends decrypted bytes to `plain`. Bytes that
    /// wait for the rest of their record are kept, within a bound.
    ///
    /// # Errors
    /// What the other side did wrong, or [`SessionError::Closed`] where it said goodbye; `plain` has what came before.
    /// A connection that ends without `Closed` was cut.
    fn receive(&mut self, wire: &[u8], plain: &mut Vec<u8>) -> Result<(), SessionError>;

    /// Encrypts `plain` and appends the bytes for the network to `out`, after everything that `output` has to send. May be called once
    /// `peer()` gives a name.
    ///
    /// # Errors
    /// [`SessionError::Closed`] after either side said goodbye, [`SessionError::Ours`] where there is no peer yet.
    fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), SessionError>;

    /// Appends what the handshake, or an alert, has to send. To be called after it was made, and after each `receive`.
    fn output(&mut self, out: &mut Vec<u8>);

    /// The other side's verified name, once the handshake is done; none before.
    ///
    /// The side that connected may see it while the other is still checking ours, and may yet be refused.
    fn peer(&self) -> Option<&str>;

    /// Since when the certificate holds by which the other side is proven, in seconds since 1970; none before the handshake is done.
    fn valid_from(&self) -> Option<u64>;

    /// Says goodbye: appends it to `out`, after everything that `output` has to send. Nothing can be sent after it.
    fn close(&mut self, out: &mut Vec<u8>);
}

/// Why a session ended, by who is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionError {
    /// The other side's certificate doesn't prove that it is who it should be: wrong CA, wrong name, expired, none.
    PeerCertificate(String),
    /// The other side refused us, in most cases our certificate.
    RefusedByPeer(String),
    /// The other side sent what the protocol forbids, or doesn't speak it at all.
    Protocol(String),
    /// One side said goodbye; everything sent before it arrived.
    Closed,
    /// We did what can't be done, or our cryptography failed.
    Ours(String),
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerCertificate(why) => {
                write!(
                    f,
                    "the peer's certificate was refused: {why}; issue it one with this mesh's CA and its node name"
                )
            }
            Self::RefusedByPeer(why) => write!(
                f,
                "the peer refused this node: {why}; see the peer's log, and whether both nodes have certificates of the same CA and clocks that agree"
            ),
            Self::Protocol(why) => {
                write!(
                    f,
                    "the other side doesn't speak SyncMesh over TLS 1.3: {why}; is it an agent, and the right port?"
                )
            }
            Self::Closed => f.write_str("the connection was closed in order"),
            Self::Ours(why) => write!(f, "the session failed on this side: {why}; please report it"),
        }
    }
}

impl std::error::Error for SessionError {}

//! TLS 1.3 behind [`Session`], on rustls' unbuffered interface, all of whose states are handled in this one file.

use crate::identity::{self, ALPN, Identity};
use crate::session::{Session, SessionError};
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use syncmesh_config::NodeName;

/// Most bytes that wait for the rest of their record or handshake message. RFC 8446: a record has at most 2^14 + 256 bytes and
/// a header of 5; rustls takes handshake messages up to 2^16 - 1 bytes, cut into records as the peer likes.
const INCOMING_BYTES: usize = 96 << 10;
/// Bytes that are taken into the buffer at a time, so that it stays small where records are read as fast as they come.
const PIECE_BYTES: usize = 32 << 10;
const _: () =
    assert!(INCOMING_BYTES > (1 << 16) + PIECE_BYTES - (1 << 12), "a whole handshake message and a piece fit");

/// Largest plain text of a record (RFC 8446, section 5.1).
const RECORD_BYTES: usize = 1 << 14;
/// What a record adds to it: header, content type, tag.
const RECORD_OVERHEAD: usize = 5 + 1 + 16;
/// Room for what rustls puts before the data by itself, a key update.
const ROOM: usize = 64;

/// One TLS connection, either side of it.
pub struct TlsSession {
    connection: Connection,
    /// The name that the other side must show; any node of the mesh where we accepted.
    expected: Option<NodeName>,
    /// Bytes from the network that are not processed yet: less than a record, or than a handshake message.
    incoming: Vec<u8>,
    /// Bytes for the network that `output` hands out.
    outgoing: Vec<u8>,
    state: State,
    /// Whether our goodbye is said; it is said once.
    left: bool,
}

enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

enum State {
    Handshake,
    Open {
        peer: NodeName,
        /// Since when its certificate holds.
        valid_from: u64,
    },
    Ended(SessionError),
}

/// What a pass over the connection's states is for.
enum Purpose<'a> {
    /// To take in what came; decrypted bytes are appended.
    Receive(&'a mut Vec<u8>),
    /// To encrypt these bytes.
    Send(&'a [u8]),
    /// To say goodbye, if the handshake is so far.
    Close,
}

/// How a pass goes on after one state.
enum Next {
    Again,
    PeerClosed,
    /// Nothing more can be done until bytes come.
    Rest,
}

impl TlsSession {
    /// Begins a connection to the node `expected`; `output` has the first bytes. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`SessionError::Ours`] where cryptography fails.
    pub fn client(identity: &Identity, expected: &NodeName, now: u64) -> Result<Self, SessionError> {
        identity.set_now(now);
        let connection =
            UnbufferedClientConnection::new(identity.client_config.clone(), identity::server_name(expected))
                .map_err(blame)?;
        Self::new(Connection::Client(connection), Some(expected.clone()))
    }

    /// Answers a connection from any node of the mesh. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`SessionError::Ours`] where cryptography fails.
    pub fn server(identity: &Identity, now: u64) -> Result<Self, SessionError> {
        identity.set_now(now);
        let connection = UnbufferedServerConnection::new(identity.server_config.clone()).map_err(blame)?;
        Self::new(Connection::Server(connection), None)
    }

    fn new(connection: Connection, expected: Option<NodeName>) -> Result<Self, SessionError> {
        let mut session = Self {
            connection,
            expected,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            state: State::Handshake,
            left: false,
        };
        session.pass(&mut Purpose::Receive(&mut Vec::new()))?;
        Ok(session)
    }

    /// Lets rustls go on until it rests; gives whether the peer said goodbye.
    fn pass(&mut self, purpose: &mut Purpose<'_>) -> Result<bool, SessionError> {
        let mut done = 0;
        let mut peer_closed = false;
        let result = loop {
            let rest = &mut self.incoming[done..];
            let (discard, next) = match &mut self.connection {
                Connection::Client(client) => handle(client.process_tls_records(rest), purpose, &mut self.outgoing),
                Connection::Server(server) => handle(server.process_tls_records(rest), purpose, &mut self.outgoing),
            };
            done += discard;
            match next {
                Ok(Next::Again) => {}
                Ok(Next::PeerClosed) => peer_closed = true,
                Ok(Next::Rest) => break Ok(peer_closed),
                Err(error) => break Err(error),
            }
        };
        self.incoming.drain(..done);
        result
    }

    fn end(&mut self, error: SessionError) -> SessionError {
        if error != SessionError::Closed {
            self.take_alert();
            // An alert was said in place of a goodbye.
            self.left = true;
            self.incoming = Vec::new();
        }
        self.state = State::Ended(error.clone());
        error
    }

    /// After an error: takes what tells the other side why into `outgoing`.
    fn take_alert(&mut self) {
        // As long as something waits to be sent rustls hands that out first. Once more would let it look at the incoming
        // bytes again, which it may not after an error: it asserts that it found no second one.
        while self.common().wants_write() {
            let purpose = &mut Purpose::Receive(&mut Vec::new());
            let (_, next) = match &mut self.connection {
                Connection::Client(client) => {
                    handle(client.process_tls_records(&mut self.incoming), purpose, &mut self.outgoing)
                }
                Connection::Server(server) => {
                    handle(server.process_tls_records(&mut self.incoming), purpose, &mut self.outgoing)
                }
            };
            if !matches!(next, Ok(Next::Again)) {
                break;
            }
        }
    }

    fn common(&self) -> &rustls::CommonState {
        match &self.connection {
            Connection::Client(client) => client,
            Connection::Server(server) => server,
        }
    }

    /// Once the handshake is done: who is there? TLS has verified the chain, and a server's name; that it names one node
    /// and speaks our protocol is checked here.
    fn meet(&mut self) -> Result<(), SessionError> {
        let common = self.common();
        if !matches!(self.state, State::Handshake) || common.is_handshaking() {
            return Ok(());
        }
        if common.alpn_protocol() != Some(ALPN) {
            return Err(SessionError::Protocol("it doesn't offer the protocol syncmesh/1 (ALPN)".into()));
        }
        let certificates = common.peer_certificates().unwrap_or(&[]);
        let name =
            identity::peer_node(certificates).map_err(|error| SessionError::PeerCertificate(error.to_string()))?;
        if let Some(expected) = self.expected.as_ref().filter(|expected| **expected != name) {
            return Err(SessionError::PeerCertificate(format!("it is for \"{name}\", expected was \"{expected}\"")));
        }
        let valid_from =
            identity::valid_from(certificates).map_err(|error| SessionError::PeerCertificate(error.to_string()))?;
        self.state = State::Open { peer: name, valid_from };
        Ok(())
    }

    fn take(&mut self, wire: &[u8], plain: &mut Vec<u8>) -> Result<(), SessionError> {
        let mut rest = wire;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(PIECE_BYTES).min(INCOMING_BYTES - self.incoming.len()));
            if piece.is_empty() {
                return Err(SessionError::Protocol("it sent a message that is too long".into()));
            }
            self.incoming.extend_from_slice(piece);
            rest = after;
            let before = plain.len();
            let peer_closed = self.pass(&mut Purpose::Receive(plain))?;
            // Nothing is handed out before we know from whom it is.
            self.meet().inspect_err(|_| plain.truncate(before))?;
            if peer_closed {
                return Err(SessionError::Closed);
            }
        }
        Ok(())
    }
}

impl Session for TlsSession {
    fn receive(&mut self, wire: &[u8], plain: &mut Vec<u8>) -> Result<(), SessionError> {
        if let State::Ended(error) = &self.state {
            return Err(error.clone());
        }
        self.take(wire, plain).map_err(|error| self.end(error))
    }

    fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), SessionError> {
        match &self.state {
            State::Open { .. } => {}
            State::Handshake => {
                return Err(SessionError::Ours("data was to be sent before the handshake's end".into()));
            }
            State::Ended(error) => return Err(error.clone()),
        }
        if !plain.is_empty() {
            // Waiting bytes are `out`'s first, so that rustls writes behind them without a copy.
            self.output(out);
            std::mem::swap(&mut self.outgoing, out);
            let passed = self.pass(&mut Purpose::Send(plain));
            std::mem::swap(&mut self.outgoing, out);
            passed.map_err(|error| self.end(error))?;
        }
        Ok(())
    }

    fn output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.outgoing);
    }

    fn peer(&self) -> Option<&str> {
        match &self.state {
            State::Open { peer, .. } => Some(peer.as_str()),
            State::Handshake | State::Ended(_) => None,
        }
    }

    fn valid_from(&self) -> Option<u64> {
        match &self.state {
            State::Open { valid_from, .. } => Some(*valid_from),
            State::Handshake | State::Ended(_) => None,
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.left, true) {
            // Who leaves isn't stopped by an error; without a finished handshake there is no goodbye to say.
            let _ = self.pass(&mut Purpose::Close);
        }
        self.output(out);
        if !matches!(self.state, State::Ended(_)) {
            self.end(SessionError::Closed);
        }
    }
}

/// Does what one state of rustls asks for; gives how many incoming bytes are used up.
fn handle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    purpose: &mut Purpose<'_>,
    out: &mut Vec<u8>,
) -> (usize, Result<Next, SessionError>) {
    let UnbufferedStatus { discard, state } = status;
    let next = match state {
        Err(error) => Err(blame(error)),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match (traffic.next_record(), &mut *purpose) {
                (None, _) => break Ok(Next::Again),
                (Some(Err(error)), _) => break Err(blame(error)),
                (Some(Ok(record)), Purpose::Receive(plain)) => plain.extend_from_slice(record.payload),
                // `receive` rests only when nothing is left to read.
                (Some(Ok(_)), _) => break Err(SessionError::Ours("data came while none was taken in".into())),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let encoded = append(out, RECORD_BYTES, |room| {
                data.encode(room).map_err(|error| match error {
                    EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => {
                        Shortage::Of(required_size)
                    }
                    EncodeError::AlreadyEncoded => Shortage::Other("a message was written twice"),
                })
            });
            encoded.map(|()| Next::Again)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Next::Again)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Next::PeerClosed),
        Ok(ConnectionState::WriteTraffic(traffic)) => write(traffic, purpose, out).map(|()| Next::Rest),
        Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => Ok(Next::Rest),
        Ok(ConnectionState::ReadEarlyData(_)) => Err(SessionError::Ours("early data came though we offer none".into())),
        Ok(other) => Err(SessionError::Ours(format!("rustls has a state that is new to us: {other:?}"))),
    };
    (discard, next)
}

fn write<Data>(
    mut traffic: WriteTraffic<'_, Data>,
    purpose: &Purpose<'_>,
    out: &mut Vec<u8>,
) -> Result<(), SessionError> {
    let shortage = |error| match error {
        EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => Shortage::Of(required_size),
        EncryptError::EncryptExhausted => Shortage::Other("so much was sent that the keys are used up"),
    };
    match purpose {
        Purpose::Receive(_) => Ok(()),
        Purpose::Send(plain) => {
            let records = plain.len().div_ceil(RECORD_BYTES);
            let room = plain.len() + records * RECORD_OVERHEAD + ROOM;
            append(out, room, |room| traffic.encrypt(plain, room).map_err(shortage))
        }
        Purpose::Close => {
            append(out, RECORD_OVERHEAD + ROOM, |room| traffic.queue_close_notify(room).map_err(shortage))
        }
    }
}

enum Shortage {
    Of(usize),
    Other(&'static str),
}

/// Appends to `out` what `fill` writes into a space of `guess` bytes, or of as many as it then says it needs.
fn append(
    out: &mut Vec<u8>,
    guess: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, Shortage>,
) -> Result<(), SessionError> {
    let before = out.len();
    let mut room = guess;
    for _ in 0..2 {
        out.resize(before + room, 0);
        match fill(&mut out[before..]) {
            Ok(written) => {
                out.truncate(before + written);
                return Ok(());
            }
            Err(Shortage::Of(required)) => room = required,
            Err(Shortage::Other(why)) => {
                out.truncate(before);
                return Err(SessionError::Ours(why.into()));
            }
        }
    }
    out.truncate(before);
    Err(SessionError::Ours("rustls needs more space than it said".into()))
}

fn blame(error: rustls::Error) -> SessionError {
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(why) => SessionError::PeerCertificate(why.to_string()),
        E::NoCertificatesPresented => SessionError::PeerCertificate("it showed none".into()),
        E::AlertReceived(alert) => SessionError::RefusedByPeer(format!("TLS alert {alert:?}")),
        E::EncryptError
        | E::FailedToGetCurrentTime
        | E::FailedToGetRandomBytes
        | E::General(_)
        | E::HandshakeNotComplete
        | E::BadMaxFragmentSize
        | E::InconsistentKeys(_) => SessionError::Ours(error.to_string()),
        other => SessionError::Protocol(other.to_string()),
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;

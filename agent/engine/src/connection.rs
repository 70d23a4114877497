//! One connection: bytes to frames and back, in lanes by priority. Knows nothing of what the frames mean.

use crate::limits::{CONTROL_BYTES, SEND_BYTES};
use crate::session::{Session, SessionError};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use syncmesh_io::Socket;
use syncmesh_protocol::frame;
use syncmesh_protocol::message::Message;

use crate::link::Link;

/// Which frames go first when several wait.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// Heartbeats, progress, requests.
    Control,
    /// Entries with small contents.
    Small,
    /// Blocks of large files.
    Bulk,
}

/// How far a session is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// TLS, then the hello; ends at this time.
    Handshake {
        /// Nanoseconds on the loop's clock.
        deadline: u64,
    },
    /// Both hellos were exchanged.
    Ready,
    /// A goodbye is on its way out; then the socket closes, at the latest at this time.
    Closing {
        /// Nanoseconds on the loop's clock.
        deadline: u64,
    },
}

/// A connection and its session.
pub struct Connection {
    /// The socket.
    pub socket: Socket,
    /// We called it.
    pub dialled: bool,
    /// The other side's address, for messages.
    pub address: Option<SocketAddr>,
    /// TLS, or its simulated twin.
    pub session: Box<dyn Session>,
    /// How far it is.
    pub phase: Phase,
    /// The other node's verified name.
    pub peer: Option<String>,
    /// The other side said that it won't talk to us: calling it again at once would be no use.
    pub turned_away: bool,
    /// When its last byte came.
    pub heard: u64,
    /// When the next heartbeat goes out.
    pub ping_at: u64,
    /// Volumes that both keep, by our number.
    pub links: BTreeMap<u16, Link>,
    /// Our number of each volume by theirs.
    pub numbers: BTreeMap<u16, u16>,
    /// Plain bytes that aren't a whole frame yet.
    pub plain: Vec<u8>,
    /// Bytes on the wire.
    pub sent_bytes: u64,
    /// Bytes on the wire.
    pub received_bytes: u64,
    /// A send is under way.
    pub sending: bool,
    /// The other side gets nothing more.
    left: bool,
    lanes: [VecDeque<Vec<u8>>; 3],
}

impl Connection {
    /// A connection whose handshake begins.
    pub fn new(
        socket: Socket,
        address: Option<SocketAddr>,
        session: Box<dyn Session>,
        dialled: bool,
        now: u64,
        deadline: u64,
    ) -> Self {
        Self {
            socket,
            dialled,
            address,
            session,
            phase: Phase::Handshake { deadline },
            peer: None,
            turned_away: false,
            heard: now,
            ping_at: deadline,
            links: BTreeMap::new(),
            numbers: BTreeMap::new(),
            plain: Vec::new(),
            sent_bytes: 0,
            received_bytes: 0,
            sending: false,
            left: false,
            lanes: Default::default(),
        }
    }

    /// Puts a message into its lane; returns the frame's bytes. None where nothing more is said.
    pub fn send(&mut self, lane: Lane, volume: u16, message: &Message<'_>) -> u64 {
        if self.left {
            return 0;
        }
        let mut bytes = Vec::new();
        frame::encode(message, volume, &mut bytes);
        let length = bytes.len() as u64;
        self.lanes[lane as usize].push_back(bytes);
        length
    }

    /// Says these last words, in place of all that waits if the other side was let in, and nothing more: at the latest at `deadline` the socket closes.
    pub fn leave<'a>(&mut self, words: impl IntoIterator<Item = Message<'a>>, deadline: u64) {
        // Nobody listens to last words before a hello, and nothing else waits then.
        if self.phase == Phase::Ready {
            self.lanes = Default::default();
        }
        for message in words {
            self.send(Lane::Control, 0, &message);
        }
        self.left = true;
        self.phase = Phase::Closing { deadline };
    }

    /// Does more wait for the peer than it can have asked for? It doesn't take what it is sent.
    pub fn is_flooded(&self) -> bool {
        self.waiting(Lane::Control) > CONTROL_BYTES
    }

    /// Bytes that wait in a lane.
    pub fn waiting(&self, lane: Lane) -> usize {
        self.lanes[lane as usize].iter().map(Vec::len).sum()
    }

    /// The next bytes for the wire: what the session itself has to say, then frames by priority. Empty if there is
    /// nothing.
    pub fn output(&mut self, mut wire: Vec<u8>) -> Result<Vec<u8>, SessionError> {
        wire.clear();
        self.session.output(&mut wire);
        if self.session.peer().is_none() {
            return Ok(wire);
        }
        let mut plain = Vec::new();
        for lane in &mut self.lanes {
            while plain.len() < SEND_BYTES
                && let Some(bytes) = lane.pop_front()
            {
                if plain.is_empty() {
                    plain = bytes;
                } else {
                    plain.extend_from_slice(&bytes);
                }
            }
        }
        if !plain.is_empty() {
            self.session.send(&plain, &mut wire)?;
        }
        Ok(wire)
    }
}

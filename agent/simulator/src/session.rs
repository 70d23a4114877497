//! The plain twin of TLS: no secrets, no entropy, the same sizes on the wire.

use std::cell::Cell;
use std::rc::Rc;
use syncmesh_engine::node::Sessions;
use syncmesh_engine::session::{Session, SessionError};

const HEADER: usize = 5;
const TAG: usize = 17;
const RECORD: usize = 16 * 1024;

/// Makes plain sessions for one node.
pub struct PlainSessions {
    /// The node's name, which it says instead of proving it.
    pub node: String,
    /// Since when its certificate holds, in seconds since 1970. It says that, too.
    pub valid_from: Rc<Cell<u64>>,
}

/// The only authority that there is.
pub const AUTHORITY: &str = "simulated";

/// Its signature: anybody could make it, and nobody makes it by chance.
pub fn signature(signed: &[u8]) -> Vec<u8> {
    let sum = signed
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    sum.to_le_bytes().to_vec()
}

impl Sessions for PlainSessions {
    fn client(&self, node: &str) -> Result<Box<dyn Session>, String> {
        Ok(Box::new(PlainSession::new(self, Some(node.to_owned()))))
    }

    fn server(&self) -> Result<Box<dyn Session>, String> {
        Ok(Box::new(PlainSession::new(self, None)))
    }

    fn has_signed(&self, authority: &str, signed: &[u8], by: &[u8]) -> Result<(), String> {
        if authority == AUTHORITY && signature(signed) == by { Ok(()) } else { Err("nobody has signed it".into()) }
    }

    fn valid_from(&self) -> Option<u64> {
        Some(self.valid_from.get())
    }
}

struct PlainSession {
    expected: Option<String>,
    peer: Option<(String, u64)>,
    output: Vec<u8>,
    incoming: Vec<u8>,
}

impl PlainSession {
    fn new(own: &PlainSessions, expected: Option<String>) -> Self {
        let mut output = Vec::new();
        let shown = match own.valid_from.get() {
            0 => own.node.clone(),
            valid_from => format!("{} {valid_from}", own.node),
        };
        record(shown.as_bytes(), &mut output);
        Self { expected, peer: None, output, incoming: Vec::new() }
    }
}

fn record(plain: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(plain.len() + TAG).expect("records are cut to 16 KiB");
    out.extend_from_slice(&[23, 3, 3]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(plain);
    out.extend_from_slice(&[0; TAG]);
}

impl Session for PlainSession {
    fn receive(&mut self, wire: &[u8], plain: &mut Vec<u8>) -> Result<(), SessionError> {
        self.incoming.extend_from_slice(wire);
        let mut used = 0;
        while let Some(header) = self.incoming[used..].first_chunk::<HEADER>() {
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            let Some(body) = self.incoming[used + HEADER..].get(..length) else { break };
            let body = &body[..length - TAG];
            used += HEADER + length;
            if self.peer.is_some() {
                plain.extend_from_slice(body);
                continue;
            }
            let shown = String::from_utf8_lossy(body);
            let (name, valid_from) = shown.split_once(' ').unwrap_or((&shown, "0"));
            let (name, valid_from) = (name.to_owned(), valid_from.parse().unwrap_or(0));
            if self.expected.as_ref().is_some_and(|expected| *expected != name) {
                return Err(SessionError::PeerCertificate(name));
            }
            self.peer = Some((name, valid_from));
        }
        self.incoming.drain(..used);
        Ok(())
    }

    fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), SessionError> {
        self.output(out);
        plain.chunks(RECORD).for_each(|part| record(part, out));
        Ok(())
    }

    fn output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.output);
    }

    fn peer(&self) -> Option<&str> {
        self.peer.as_ref().map(|(name, _)| name.as_str())
    }

    fn valid_from(&self) -> Option<u64> {
        self.peer.as_ref().map(|(_, valid_from)| *valid_from)
    }

    fn close(&mut self, _: &mut Vec<u8>) {}
}

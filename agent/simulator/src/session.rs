//! The plain twin of TLS: no secrets, no entropy, the same sizes on the wire.

use syncmesh_engine::node::Sessions;
use syncmesh_engine::session::{Session, SessionError};

const HEADER: usize = 5;
const TAG: usize = 17;
const RECORD: usize = 16 * 1024;

/// Makes plain sessions for one node.
pub struct PlainSessions {
    /// The node's name, which it says instead of proving it.
    pub node: String,
}

impl Sessions for PlainSessions {
    fn client(&self, node: &str) -> Result<Box<dyn Session>, String> {
        Ok(Box::new(PlainSession::new(&self.node, Some(node.to_owned()))))
    }

    fn server(&self) -> Result<Box<dyn Session>, String> {
        Ok(Box::new(PlainSession::new(&self.node, None)))
    }
}

struct PlainSession {
    expected: Option<String>,
    peer: Option<String>,
    output: Vec<u8>,
    incoming: Vec<u8>,
}

impl PlainSession {
    fn new(node: &str, expected: Option<String>) -> Self {
        let mut output = Vec::new();
        record(node.as_bytes(), &mut output);
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
            let name = String::from_utf8_lossy(body).into_owned();
            if self.expected.as_ref().is_some_and(|expected| *expected != name) {
                return Err(SessionError::PeerCertificate(name));
            }
            self.peer = Some(name);
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
        self.peer.as_deref()
    }

    fn close(&mut self, _: &mut Vec<u8>) {}
}

//! Certificates that count no more, in a mesh with one authority, which never fails.

use crate::mesh::{Mesh, name};
use crate::session::{AUTHORITY, signature};
use std::convert::Infallible;
use syncmesh_engine::node::Taken;
use syncmesh_engine::revoked::Revoked;

impl Mesh {
    /// Seconds since 1970 on the authority's clock.
    fn seconds(&self) -> u64 {
        1_767_225_600 + self.world.now() / 1_000_000_000
    }

    /// The authority revokes a node's certificate. Its list, which nobody has yet.
    pub fn revoke(&mut self, node: u32) -> String {
        self.note(&format!("the certificate of n{node} is revoked"));
        let mut nodes = self.revoked.as_ref().map(|list| list.nodes().clone()).unwrap_or_default();
        nodes.insert(name(node), self.seconds());
        let number = self.revoked.as_ref().map_or(1, |list| list.number() + 1);
        let sign = |signed: &[u8]| Ok::<_, Infallible>(signature(signed));
        let list = match Revoked::write(number, AUTHORITY, &nodes, sign) {
            Ok(list) => list,
            Err(never) => match never {},
        };
        let text = list.text().to_owned();
        self.revoked = Some(list);
        text
    }

    /// A running node is given a list.
    ///
    /// # Errors
    /// Why it doesn't take it.
    pub fn tell(&mut self, id: u32, list: &str) -> Result<Taken, String> {
        self.note(&format!("n{id} is given a revocation list"));
        let node = self.node(id).expect("only a running agent can be told");
        let taken = node.revoke(list);
        self.turn(id);
        taken
    }

    /// A node gets a certificate that counts. Sessions that begin from then on show it.
    pub fn certify(&mut self, node: u32) {
        self.note(&format!("n{node} gets another certificate"));
        let now = self.seconds();
        self.certified.entry(node).or_default().set(now);
    }

    /// Does a node's certificate count, by the list that a running node keeps?
    pub fn counts(&mut self, id: u32, node: u32) -> bool {
        let valid_from = self.certified.get(&node).map_or(0, |cell| cell.get());
        let list = self.node(id).and_then(|node| node.revoked());
        !list.is_some_and(|list| list.revokes(&name(node), valid_from))
    }

    /// Has a running node a session with another one?
    pub fn is_connected(&mut self, id: u32, node: u32) -> bool {
        let peers = self.status(id).map(|status| status.peers).unwrap_or_default();
        peers.iter().any(|peer| peer.node == name(node) && peer.state == "connected")
    }

    /// Nobody who knows that a certificate counts no more has a session by it.
    ///
    /// # Errors
    /// Who has.
    pub fn check_revoked(&mut self) -> Result<(), String> {
        if self.revoked.is_none() {
            return Ok(());
        }
        let nodes = self.shape.nodes;
        for (id, node) in (1..=nodes).flat_map(|id| (1..=nodes).map(move |node| (id, node))) {
            if !self.counts(id, node) && self.is_connected(id, node) {
                return Err(format!(
                    "n{id} knows that the certificate of n{node} is revoked, and has a session with it"
                ));
            }
        }
        Ok(())
    }
}

//! Certificates that are revoked while everything goes on, and nodes that get other ones, in random stories.

use crate::Random;
use crate::mesh::Mesh;

/// Makes a seed of its own from a story's, so that all other stories stay as they are.
const REVOKING: u64 = 0x7d31_a90c_44e5_b2f8;

/// Nodes whose certificates count no more.
pub struct Revocations {
    happen: bool,
    revoked: Vec<u32>,
}

impl Revocations {
    /// In an eighth of the stories.
    pub fn new(seed: u64) -> Self {
        Self { happen: Random::new(seed ^ REVOKING).once_in(8), revoked: Vec::new() }
    }

    /// A node is revoked, of which one other hears; or one that was gets another certificate. Says whether anything happened.
    pub fn act(&mut self, mesh: &mut Mesh, node: u32) -> bool {
        if !self.happen || !mesh.random.once_in(12) {
            return false;
        }
        if mesh.random.once_in(2)
            && let Some(revoked) = self.revoked.pop()
        {
            mesh.certify(revoked);
            return true;
        }
        let hears = mesh.random.between(1, u64::from(mesh.shape.nodes)) as u32;
        if !mesh.runs(hears) || self.revoked.contains(&node) {
            return false;
        }
        let list = mesh.revoke(node);
        mesh.tell(hears, &list).expect("no list is newer, and the authority has signed it");
        self.revoked.push(node);
        true
    }

    /// All have certificates that count.
    pub fn end(&mut self, mesh: &mut Mesh) {
        self.revoked.drain(..).for_each(|node| mesh.certify(node));
    }
}

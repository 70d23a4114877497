//! Two live copies of one machine, in random stories: a template that was shut down and started twice. Users write on both.

use crate::Random;
use crate::mesh::Mesh;

const SECOND: u64 = 1_000_000_000;

/// The copy, if a story has one.
pub struct Twins {
    may_appear: bool,
    /// The machine that was copied, and the copy.
    pair: Option<(u32, u32)>,
}

impl Twins {
    /// In a few stories.
    pub fn new(choice: &mut Random) -> Self {
        Self { may_appear: choice.once_in(8), pair: None }
    }

    /// Is there no copy?
    pub fn is_empty(&self) -> bool {
        self.pair.is_none()
    }

    /// A node that is about to start is copied, and the copy starts, too. Not where one node alone writes: of that one there
    /// would be two.
    pub fn appear(&mut self, mesh: &mut Mesh, writer: Option<u32>, node: u32) {
        if !self.may_appear || self.pair.is_some() || writer.is_some() {
            return;
        }
        let image = mesh.image(node);
        let twin = mesh.clone_of(node, &image);
        mesh.start(twin);
        self.pair = Some((node, twin));
    }

    /// Where a node's user works: on it, or on its copy.
    pub fn one_of(&self, mesh: &mut Mesh, node: u32) -> u32 {
        match self.pair {
            Some((copied, twin)) if copied == node && mesh.random.once_in(2) => twin,
            _ => node,
        }
    }

    /// Peers talk to one of the two at a time: each gets its turn, twice, because what the one knows of may lie on the other
    /// alone. Then the copy goes for good.
    pub fn end(&mut self, mesh: &mut Mesh) {
        let Some((node, twin)) = self.pair.take() else { return };
        let others: Vec<u32> = (1..=mesh.shape.nodes).filter(|id| *id != node).collect();
        for (runs, rests) in [(node, twin), (twin, node), (node, twin), (twin, node), (node, twin)] {
            mesh.kill(rests);
            if !mesh.runs(runs) {
                mesh.start(runs);
            }
            let these: Vec<u32> = others.iter().copied().chain([runs]).collect();
            // Not an error: they may wait for the other one.
            let _ = mesh.run_until_these_are_in_sync(&these, 60 * SECOND);
        }
    }
}

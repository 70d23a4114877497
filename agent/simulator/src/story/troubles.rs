//! What goes wrong on a machine while its agent runs, in random stories, and comes right again: directories and files that
//! can't be read, a disk that takes no changes, one without room, events that are lost.

use crate::mesh::Mesh;
use crate::{Faults, Random};
use syncmesh_io::FsError;

/// Calls that look at users' files.
const READS: &[&str] =
    &["open_directory", "list", "stat", "stat_self", "open", "read_link", "file.read_at", "file.stat", "watch"];

/// Calls that change something of a volume.
const WRITES: &[&str] = &[
    "stage_file",
    "stage_directory",
    "stage_symlink",
    "file.write_at",
    "file.set_len",
    "set_slot_metadata",
    "publish",
    "withdraw",
    "link",
    "remove_directory",
    "set_metadata",
    "store_slot",
];

/// A disk's bytes when nothing is wrong with it, and events that wait in the kernel.
const ROOM: u64 = 1 << 40;
const EVENTS: usize = 16_384;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    /// Some or all looks at files fail.
    Unreadable,
    /// Some or all changes fail.
    Unwritable,
    /// No directory can be watched.
    Unwatchable,
    /// Hardly anything fits on the disk any more.
    Full,
    /// The kernel keeps a few events only, and tells that it lost the others.
    Overflowing,
}

/// What may go wrong in a story, and what is wrong.
pub struct Troubles {
    kinds: Vec<Trouble>,
    ongoing: Option<(u32, Trouble)>,
}

impl Troubles {
    /// Those of one story: none in most.
    pub fn new(choice: &mut Random) -> Self {
        let all = [Trouble::Unreadable, Trouble::Unwritable, Trouble::Unwatchable, Trouble::Full, Trouble::Overflowing];
        let kinds =
            if choice.once_in(2) { all.into_iter().filter(|_| choice.once_in(3)).collect() } else { Vec::new() };
        Self { kinds, ongoing: None }
    }

    /// Something goes wrong on a node, if anything does in this story, or comes right.
    pub fn begin_or_end(&mut self, mesh: &mut Mesh, node: u32) {
        if self.ongoing.is_some() {
            return self.end(mesh);
        }
        let Some(last) = self.kinds.len().checked_sub(1).filter(|_| mesh.runs(node)) else { return };
        let trouble = self.kinds[mesh.random.between(0, last as u64) as usize];
        mesh.note(&format!("n{node}: {trouble:?}"));
        self.ongoing = Some((node, trouble));
        let share = [30_000, 300_000, 1_000_000][mesh.random.between(0, 2) as usize];
        let (seed, faults) = (mesh.random.bits(), mesh.faults(node));
        match trouble {
            Trouble::Unreadable => faults.fail_some(seed, share, READS, &[FsError::Denied, FsError::Os(5)]),
            Trouble::Unwritable => faults.fail_some(seed, share, WRITES, &[FsError::ReadOnly, FsError::Os(5)]),
            Trouble::Unwatchable => faults.fail_some(seed, share, &["watch"], &[FsError::Limit]),
            Trouble::Full => {
                let left = mesh.random.between(0, 300_000);
                let disk = mesh.disk(node);
                disk.set_capacity(ROOM - disk.free() + left);
            }
            Trouble::Overflowing => {
                let events = mesh.random.between(0, 8) as usize;
                mesh.limit_events(node, events);
            }
        }
    }

    /// What is wrong comes right.
    pub fn end(&mut self, mesh: &mut Mesh) {
        let Some((node, trouble)) = self.ongoing.take() else { return };
        mesh.note(&format!("n{node}: no longer {trouble:?}"));
        match trouble {
            Trouble::Unreadable | Trouble::Unwritable | Trouble::Unwatchable => mesh.faults(node).end(),
            Trouble::Full => mesh.disk(node).set_capacity(ROOM),
            Trouble::Overflowing => mesh.limit_events(node, EVENTS),
        }
    }

    /// The same if it is this node on which something is wrong: its agent is about to start.
    pub fn end_on(&mut self, mesh: &mut Mesh, node: u32) {
        if self.ongoing.is_some_and(|(where_, _)| where_ == node) {
            self.end(mesh);
        }
    }
}

impl Faults {
    /// No call is drawn to fail any more.
    fn end(&self) {
        self.fail_randomly(0, 0, &[]);
    }
}

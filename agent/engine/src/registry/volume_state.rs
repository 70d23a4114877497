//! What the registry keeps of a volume beside its rows: knowledge, sums and counts, brought up to date row by row.

use super::Key;
use crate::suspect::{Suspicion, is_suspect};
use serde::{Deserialize, Serialize};
use syncmesh_core::decide::{self, joined};
use syncmesh_core::entry::{Entry, Origin, Row, Why};
use syncmesh_core::summary::Sum;
use syncmesh_core::version::Knowledge;

/// What is kept of a volume beside its rows.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct VolumeState {
    /// The number that its rows' keys have.
    pub number: u16,
    /// What this replica knows.
    pub knowledge: Knowledge,
    /// The last number of this replica's own sequence.
    pub sequence: u64,
    /// The marker that the volume's root must show.
    pub marker: Vec<u8>,
    /// Counts of what is published here and what is only wanted.
    pub counts: Counts,
    /// The sum over what is known of all paths.
    pub sum: Sum,
    /// Where contents come from that a scan finds and no row knows. Until the first scan is over they lay there before;
    /// from then on they were written.
    pub finds: Origin,
    /// Somebody has ordered it to pause.
    pub paused: bool,
    /// The mount that the rows are about.
    pub mount: u64,
    /// What a power loss has made doubtful, until it is decided.
    pub suspicion: Option<Suspicion>,
    /// When the last epoch began with which its file system was synced, in milliseconds since 1970: files that were changed
    /// since may be torn if power fails.
    pub synced_millis: u64,
}

impl VolumeState {
    /// Counts one row's change.
    pub fn count(&mut self, key: &Key, old: Option<&Row>, new: &Row) {
        self.counts.replace(old.map(Counts::of).unwrap_or_default(), Counts::of(new));
        let path = key.path();
        self.sum.replace(old.map(|old| Sum::of(&path, old)).unwrap_or_default(), Sum::of(&path, new));
    }
}

/// Sums over a volume's rows, kept up to date row by row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Files and links that are published here.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows that want something which isn't here.
    pub wanted: u64,
    /// Bytes of files that are wanted.
    pub wanted_bytes: u64,
    /// Versions that lost a conflict, or wait for a person's decision, and weren't superseded since.
    pub conflicts: u64,
    /// Rows that wait for a person's decision.
    pub undecided: u64,
    /// Rows whose deletion waits for approval. This and the next two aren't stored but counted when the registry is opened.
    #[serde(skip)]
    pub held: u64,
    /// Files and links among them that peers deleted, and that are here still.
    #[serde(skip)]
    pub held_here: u64,
    /// Files and links among them that are gone from here, and that peers have still.
    #[serde(skip)]
    pub held_gone: u64,
    /// Rows that wait for space, and bytes of the files among them; counted when the registry is opened, too.
    #[serde(skip)]
    pub no_space: u64,
    /// See `no_space`.
    #[serde(skip)]
    pub no_space_bytes: u64,
    /// Rows of files that power loss has made doubtful. Counted, too.
    #[serde(skip)]
    pub suspects: u64,
}

impl Counts {
    /// What one row adds.
    pub fn of(row: &Row) -> Self {
        let mut counts = Self::default();
        if let Some(here) = row.live()
            && here.entry.content.body.rank() == 1
        {
            counts.files = 1;
            counts.bytes = here.entry.content.body.size();
        }
        let undecided = row.wanted.as_ref().is_some_and(|wanted| wanted.why == Why::Conflict);
        counts.undecided = u64::from(undecided);
        counts.conflicts = conflicts(row);
        if let Some(wanted) = &row.wanted
            && wanted.why != Why::Unselected
        {
            counts.wanted = 1;
            counts.wanted_bytes = wanted.entries.first().map_or(0, |entry| entry.content.body.size());
        }
        counts.add_waiting(row);
        counts
    }

    pub(super) fn add_waiting(&mut self, row: &Row) {
        self.suspects += u64::from(is_suspect(row));
        if let Some(wanted) = row.wanted.as_ref().filter(|wanted| wanted.why == Why::NoSpace) {
            self.no_space += 1;
            self.no_space_bytes += wanted.entries.first().map_or(0, |entry| entry.content.body.size());
        }
        if let Some(wanted) = row.wanted.as_ref().filter(|wanted| wanted.why == Why::Held) {
            let is_file = |entry: &Entry| u64::from(entry.content.body.rank() == 1);
            self.held += 1;
            match row.live() {
                Some(here) => self.held_here += is_file(&here.entry),
                None => self.held_gone += wanted.entries.first().map_or(0, is_file),
            }
        }
    }

    /// Takes one row's part out and puts another's in. A registry that lost or changed a row may have less than is taken out:
    /// then nothing is left, until rows are counted again.
    pub fn replace(&mut self, old: Self, new: Self) {
        let change = |sum: &mut u64, old: u64, new: u64| *sum = (*sum + new).saturating_sub(old);
        change(&mut self.files, old.files, new.files);
        change(&mut self.bytes, old.bytes, new.bytes);
        change(&mut self.wanted, old.wanted, new.wanted);
        change(&mut self.wanted_bytes, old.wanted_bytes, new.wanted_bytes);
        change(&mut self.conflicts, old.conflicts, new.conflicts);
        change(&mut self.undecided, old.undecided, new.undecided);
        change(&mut self.held, old.held, new.held);
        change(&mut self.held_here, old.held_here, new.held_here);
        change(&mut self.held_gone, old.held_gone, new.held_gone);
        change(&mut self.no_space, old.no_space, new.no_space);
        change(&mut self.no_space_bytes, old.no_space_bytes, new.no_space_bytes);
        change(&mut self.suspects, old.suspects, new.suspects);
    }
}

/// Versions of a path that a person may still care about, beside the one that has the name.
pub fn conflicts(row: &Row) -> u64 {
    let undecided = row.wanted.as_ref().filter(|wanted| wanted.why == Why::Conflict);
    let entries =
        row.here.iter().map(|here| &here.entry).chain(undecided.into_iter().flat_map(|wanted| &wanted.entries));
    joined(entries).map_or(0, |entry| decide::conflicts(&entry) as u64)
}

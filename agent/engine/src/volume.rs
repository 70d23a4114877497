//! One volume's state on the loop: what is dirty, what waits to be applied, what is known.

use crate::compare::Recount;
use crate::epoch::Durability;
use crate::fetch;
use crate::guard::Guard;
use crate::job::Done;
use crate::limits::RETRY;
use crate::linger::Lingerers;
use crate::node::open::OpenFiles;
use crate::node::suspects::Suspects;
use crate::node::unsynced::Unsynced;
use crate::pace::Pace;
use crate::publish::Item;
use crate::registry::{Key, VolumeState};
use crate::revert::Reverted;
use crate::second_names::SecondNames;
use crate::settings::{Current, Members, Role};
use crate::space::Usage;
use crate::store::Stock;
use crate::suspect::Doubt;
use crate::watch::{Dirty, Watches};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use syncmesh_core::entry::{Body, Content, ContentHash, Row};
use syncmesh_core::path::RelativePath;
use syncmesh_core::policy::Policies;
use syncmesh_core::version::Dot;
use syncmesh_io::Watcher;

/// A volume.
pub struct Volume {
    /// Its number in the registry.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// Where its directory is, for people who name paths in it.
    pub path: PathBuf,
    /// Where its events come from.
    pub watcher: Watcher,
    /// What may change while it runs.
    pub settings: Current,
    /// Its file system tells who has a file open for writing.
    pub leases: bool,
    /// Displaced files that programs have open.
    pub lingering: Arc<Lingerers>,
    /// What programs hold open otherwise.
    pub open: OpenFiles,
    /// Its files with several names.
    pub second_names: SecondNames,
    /// Its conflict policies.
    pub policies: Policies,
    /// The peers that keep it.
    pub members: Members,
    /// What the registry keeps of it.
    pub state: VolumeState,
    /// The counter of the last version that this replica made.
    pub counter: u64,
    /// Rows up to this sequence number are in the journal.
    pub journalled: u64,
    /// When versions are told and shown.
    pub durability: Durability,
    /// A peer has everything up to this sequence number, durably.
    pub copied: u64,
    /// Rows up to this sequence number belong to durable epochs.
    pub durable: u64,
    /// Its last sequence number when the last epoch closed.
    pub closing: u64,
    /// The sequence number of the last row that mentions a version of this run.
    pub made: u64,
    /// What must be looked at.
    pub dirty: Dirty,
    /// Which directory a watch belongs to.
    pub watches: Watches,
    /// Directories that a scan or apply job works on.
    pub busy: BTreeSet<RelativePath>,
    /// Scans under way.
    pub scans: usize,
    /// Those among them that look at what may have changed without showing it.
    pub glances: usize,
    /// The first scan of everything is over: before, nothing is applied.
    pub scanned: bool,
    /// What its first scan finds was there before the volume was: somebody's files, and nobody's breach of the right to write.
    pub meets: bool,
    /// What is taken back may have been written while this node was the writer: it becomes conflict copies.
    pub beside: bool,
    /// What was taken back since the start.
    pub reverted: Reverted,
    /// Contents that are to be put back and that no member has: which, and since when, on the loop's clock.
    pub nowhere: BTreeMap<Key, (ContentHash, u64)>,
    /// Versions that wait to be applied, by directory.
    pub incoming: BTreeMap<RelativePath, VecDeque<Item>>,
    /// Directories that are being made again for what was written below them.
    pub remaking: BTreeSet<RelativePath>,
    /// When to try again what is wanted, and how often it was tried.
    pub retry: Retry,
    /// When more contents may be sent.
    pub pace: Pace,
    /// Files to fetch.
    pub fetch_queue: VecDeque<FetchWanted>,
    /// Contents for which somebody has decided a conflict, and which must be here before that becomes a version.
    pub decisions: BTreeMap<Key, Content>,
    /// Deletions that wait.
    pub guard: Guard,
    /// What power loss has made doubtful, for jobs.
    pub doubt: Arc<Doubt>,
    /// The same, being decided.
    pub suspects: Suspects,
    /// This run found out that power was lost.
    pub lost_power: bool,
    /// When its rows are counted again to see that their sum is right.
    pub recount: Recount,
    /// Paths that differ from a peer's, and whose files were read again for that; the first thousand.
    pub disputed: BTreeSet<RelativePath>,
    /// Paths that differed from a peer's although both knew the same.
    pub differences: u64,
    /// When it was last asked whether the root is in its place, and whether it isn't.
    pub placed: u64,
    /// Somebody moved the root away, replaced or unmounted it.
    pub is_elsewhere: bool,
    /// Why the volume as a whole can't be synchronised.
    pub failed: Option<String>,
    /// Paths that couldn't be read or written, and why; the first hundred.
    pub problems: BTreeMap<RelativePath, String>,
    /// When it was last in sync, in milliseconds since 1970.
    pub last_sync: Option<u64>,
    /// Its file system couldn't be synced: it stands still.
    pub unsynced: Option<Unsynced>,
    /// The state directory says so, until an epoch is durable that has everything of it.
    pub noted: bool,
    /// Syncs that failed since its last durable epoch.
    pub failed_syncs: u32,
    /// Its file system is being synced.
    pub syncing: bool,
    /// Jobs that work on its rows.
    pub jobs: usize,
    /// Files changed on its file system in the open epoch.
    pub touched: bool,
    /// How much its store has.
    pub stock: Arc<Stock>,
    /// How much its files take, for jobs.
    pub usage: Arc<Usage>,
    /// When its store was looked at for what may go, and when at all that it has, on the loop's clock; the start before that.
    pub pruned: u64,
    /// See `pruned`.
    pub thoroughly_pruned: u64,
    /// Whether its files are read again.
    pub reading: Reading,
    /// The oldest stamp among what is wanted, in milliseconds since 1970, as far as known.
    pub wanted_since: Option<u64>,
}

/// Something to fetch.
#[derive(Clone)]
pub struct FetchWanted {
    /// Whose contents.
    pub key: Key,
    /// Which.
    pub hash: ContentHash,
    /// Bytes.
    pub size: u64,
    /// It has holes.
    pub sparse: bool,
    /// The version that wrote them: who knows it may have them.
    pub dot: Dot,
    /// Sessions that couldn't give it.
    pub refused: Vec<u64>,
    /// Those among them that said that they have nothing of it.
    pub lacking: Vec<u64>,
    /// This node was searched for them.
    pub looked_here: bool,
    /// They are copied from this path, and fetched from nobody: an edit follows a rename.
    pub from: Option<Key>,
}

impl FetchWanted {
    /// What a row lacks, if it is a file's contents.
    pub fn of(key: &Key, row: &Row) -> Option<Self> {
        let (hash, size, sparse) = fetch::wanted_file(row)?;
        let dot = row.wanted.as_ref()?.entries.first()?.content.stamp.dot;
        Some(Self {
            key: key.clone(),
            hash,
            size,
            sparse,
            dot,
            refused: Vec::new(),
            lacking: Vec::new(),
            looked_here: false,
            from: None,
        })
    }

    /// One of several versions of a path, if it is a file.
    pub fn of_content(key: &Key, content: &Content) -> Option<Self> {
        let Body::File { hash, size, sparse, .. } = content.body else { return None };
        Some(Self {
            key: key.clone(),
            hash,
            size,
            sparse,
            dot: content.stamp.dot,
            refused: Vec::new(),
            lacking: Vec::new(),
            looked_here: false,
            from: None,
        })
    }
}

/// How far reading all files again has got.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reading {
    /// They aren't.
    Not,
    /// It goes on behind this row.
    Next(Option<Key>),
    /// A job reads some.
    Running,
}

/// The sweep over what is wanted.
#[derive(Default)]
pub struct Retry {
    /// When, on the loop's clock.
    pub due: Option<u64>,
    /// Sweeps since anything became visible.
    pub attempt: u32,
    /// A sweep is under way.
    pub running: bool,
    /// Where it goes on.
    pub after: Option<Key>,
}

impl Retry {
    /// Sweep after the usual wait.
    pub fn later(&mut self, now: u64) {
        let (first, longest) = RETRY;
        let wait = first.saturating_mul(1 << self.attempt.min(8)).min(longest).as_nanos() as u64;
        self.at(now + wait);
    }

    /// Sweep at a time, or earlier if that is planned.
    pub fn at(&mut self, due: u64) {
        self.due = Some(self.due.map_or(due, |old| old.min(due)));
    }
}

impl Volume {
    /// The dot of the next version that this replica makes.
    pub fn next_dot(&mut self, replica: syncmesh_core::version::ReplicaId) -> Dot {
        self.counter += 1;
        Dot { replica, counter: self.counter }
    }

    /// When something was seen to be gone or new: all that a first scan finds at one moment, however long it takes.
    pub fn moment(&self, now: u64) -> u64 {
        if self.scanned { now } else { 0 }
    }

    /// Does it stand still, until somebody says otherwise?
    pub fn is_paused(&self) -> bool {
        let settings = self.settings.get();
        settings.paused || self.state.paused || settings.role == Role::Fenced
    }

    /// Does an epoch have to end before what was made here is told?
    pub fn waits_for_epoch(&self) -> bool {
        self.durability == Durability::Strict && self.durable < self.made
    }

    /// Rows up to this sequence number may be told to peers.
    pub fn tellable(&self) -> u64 {
        if self.waits_for_epoch() { self.durable } else { self.journalled }
    }

    /// May contents be sent now?
    pub fn may_send(&self, now: u64) -> bool {
        self.settings.get().send_limit.is_none() || self.pace.due() <= now
    }

    /// Notes contents that are being sent.
    pub fn sends(&mut self, bytes: u64, now: u64) {
        let limit = self.settings.get().send_limit;
        self.pace.sent(limit, bytes, now);
    }

    /// Counts one row's change.
    pub fn count(&mut self, key: &Key, old: Option<&Row>, new: &Row) {
        self.state.count(key, old, new);
        if !self.second_names.is_empty() {
            let shows = new.live().and_then(|here| here.identity).map(|identity| identity.inode);
            let other = self.second_names.shows(&(key.directory.clone(), key.name.clone()), shows);
            if let Some((directory, name)) = other {
                // Due since the beginning: at once.
                self.dirty.mark(&directory, name, 0, 0);
            }
        }
        if self.state.counts.wanted == 0 {
            self.wanted_since = None;
        }
    }

    /// Queues a version to be applied.
    pub fn queue(&mut self, directory: RelativePath, item: Item) {
        self.incoming.entry(directory).or_default().push_back(item);
    }

    /// Is everything that the disk and the peers brought here recorded and visible?
    pub fn is_settled(&self) -> bool {
        self.scanned
            && self.failed.is_none()
            && self.problems.is_empty()
            && self.unsynced.is_none()
            && !self.is_paused()
            && self.reading == Reading::Not
            && self.dirty.is_empty()
            && !self.second_names.seeks()
            && self.busy.len() <= self.glances
            && self.incoming.is_empty()
            && self.state.counts.wanted == 0
            && self.tellable() == self.state.sequence
    }

    /// Remembers a problem with a path.
    pub fn problem(&mut self, path: RelativePath, message: String) {
        if self.problems.len() < 100 {
            self.problems.insert(path, message);
        }
    }
}

/// Does an outcome of a job need room in the overlay? Only those may be left waiting while it is full.
pub fn needs_room(done: &Done) -> bool {
    matches!(done, Done::Findings(_))
}

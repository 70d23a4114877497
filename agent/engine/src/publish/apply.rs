//! What is asked of a job that publishes, and what came of it: plain values.

use crate::follow::Heard;
use crate::scan::What;
use crate::stage::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use syncmesh_core::entry::{ContentHash, Entry, Row};
use syncmesh_core::path::{Name, RelativePath};
use syncmesh_core::version::ReplicaId;
use syncmesh_io::{FsError, Log};

/// Versions for names of one directory. No name comes twice.
pub struct Apply {
    /// Which volume.
    pub volume: u16,
    /// Which directory.
    pub directory: RelativePath,
    /// What to apply.
    pub items: Vec<Item>,
    /// The open epoch's journal.
    pub log: Log,
    /// Our own replica: what nobody has recorded yet was written here.
    pub replica: ReplicaId,
    /// Which node each replica belongs to, for names of conflict copies.
    pub replicas: Arc<BTreeMap<ReplicaId, String>>,
    /// The wall clock in milliseconds since 1970, for names in the store.
    pub now_millis: u64,
    /// Names that are given although a program has the old version open: it was waited for long enough.
    pub overdue: BTreeSet<Name>,
    /// May a path that isn't known here still be told of?
    pub heard: Heard,
    /// What is taken back becomes a conflict copy; otherwise a stored version.
    pub beside: bool,
}

/// A version for one name.
pub struct Item {
    /// The name.
    pub name: Name,
    /// What is declared.
    pub entry: Entry,
    /// Where the contents are.
    pub source: Source,
    /// The session and sequence number that it came with.
    pub stream: Option<(u64, u64)>,
    /// Why it is applied now.
    pub errand: Errand,
}

/// Why an item is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Errand {
    /// It is new.
    New,
    /// It is new and deletes; few came with it, so it passes the guard.
    FewDeletions,
    /// It was tried before: a parent that was deleted is made again now instead of waited for.
    Again,
    /// As [`Self::Again`], for a directory's deletion: all that its author had deleted before was recorded when the job was made.
    AllHeard,
    /// A peer knows it otherwise although both know the same: if one version is two things, what is here is read again.
    Repair,
    /// The guard's verdict on a deletion that was held. It counts only as long as that is held.
    Judged,
    /// Somebody decided a conflict. It becomes a version only if what was decided about is still so, and its contents are here.
    Decision,
    /// An edit here follows a rename to this name. It becomes a version only over what was known when that was decided.
    Follow,
    /// What a user here has put there, where only another node may write, is taken away. The item's version says nothing.
    Revert,
}

impl Errand {
    /// What can't be published at once isn't recorded: it exists only if its contents are here.
    pub fn lapses(self) -> bool {
        matches!(self, Self::Decision | Self::Follow)
    }
}

/// What came of an [`Apply`].
pub struct Applied {
    /// Which volume.
    pub volume: u16,
    /// Which directory.
    pub directory: RelativePath,
    /// One for each item.
    pub items: Vec<AppliedItem>,
    /// Names in the directory that must be looked at: conflict copies, and what changed under our hands.
    pub dirty: Vec<Name>,
}

/// What came of one item.
pub struct AppliedItem {
    /// The name.
    pub name: Name,
    /// See [`Item::stream`].
    pub stream: Option<(u64, u64)>,
    /// Its contents were in a slot that an exchange had filled: see [`Source::Displaced`].
    pub displaced: bool,
    /// The row as it was.
    pub old: Option<Row>,
    /// The row from here on; `None` if it stays. Its sequence number isn't set yet.
    pub row: Option<Row>,
    /// See [`Item::errand`].
    pub errand: Errand,
    /// How far it got.
    pub fate: Fate,
    /// What the exchange displaced, if that wasn't what the row said: a local version that nobody has recorded.
    pub local: Option<DisplacedVersion>,
}

/// How far an item got.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is visible, or what is visible includes it.
    Visible,
    /// It is recorded and waits, because …
    Waits(Cause),
}

/// Why a version isn't visible yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Its contents must be fetched.
    Contents,
    /// Its directory isn't here.
    Parent {
        /// The directory was deleted here while somebody wrote below it: it must be made again.
        deleted: bool,
    },
    /// A directory that is to be removed or replaced still has something in it.
    NotEmpty {
        /// Nothing that it has is about to go, and all was heard ([`Errand::AllHeard`]).
        stays: bool,
    },
    /// The disk shows something that no scan has recorded yet.
    LocalChange,
    /// It deletes, and the guard hasn't judged it.
    Guard,
    /// A user here deleted the path, and that is held: it must be decided first.
    Overtaken,
    /// It deletes what was renamed elsewhere while a user here edited it: the edit follows.
    Moved,
    /// A person must decide between it and what is here.
    Undecided,
    /// The file system takes its name for another one that is here, or can't hold it.
    Collision,
    /// It isn't selected here.
    Unselected,
    /// A program here has the old version open for writing.
    Open {
        /// The slot in which the contents wait, and their hash.
        kept: Option<(u64, ContentHash)>,
    },
    /// The disk refused.
    Disk(FsError),
}

/// A local version that an exchange brought to light.
pub struct DisplacedVersion {
    /// Where its bytes are.
    pub slot: u64,
    /// What it is.
    pub what: What,
    /// The entry over which it was written.
    pub over: Option<Entry>,
}

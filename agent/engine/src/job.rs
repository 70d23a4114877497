//! Work that blocks: plain values in, plain values out. Jobs run on worker threads, in the simulator on coroutines; they
//! make all file-system calls, read the registry, and decide nothing about order. A directory is in at most one scan or
//! apply job at a time.

use crate::announce::{Collect, Collected};
use crate::compare::{Compared, Comparison};
use crate::epoch::{Commit, Committed, Durability};
use crate::fetch::{ReadBlock, StageBlock, StagedBlock};
use crate::forget::{Forget, Mentioned};
use crate::linger::{Linger, Lingered, Lingerers};
use crate::publish::{Applied, Apply};
use crate::registry::{Key, Registry};
use crate::reuse::{Reuse, Reused};
use crate::scan::{Findings, Scan, Scanned};
use crate::second_names::{Found, Seek};
use crate::settings::Current;
use crate::space::{self, Room, Usage};
use crate::store::Stock;
use crate::suspect::Doubt;
use crate::unsynced::{HasReadBack, ReadBack, Sync, Synced};
use crate::verify::{Verified, Verify};
use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use syncmesh_core::entry::{Identity, Owner, Row, Why};
use syncmesh_core::policy::Policies;
use syncmesh_core::select::Selection;
use syncmesh_io::{FileKind, Fs, FsError, Stat, StateFiles};

/// What jobs need of the world.
pub struct Context {
    /// The volumes.
    pub volumes: Volumes,
    /// The registry.
    pub registry: Registry,
    /// The state directory, for the journal.
    pub state: Arc<dyn StateFiles>,
}

/// Volumes by their registry numbers. While an agent runs some may come, and none goes.
#[derive(Default)]
pub struct Volumes(RwLock<BTreeMap<u16, Arc<VolumeContext>>>);

impl Volumes {
    /// The one with a number.
    pub fn get(&self, number: u16) -> Option<Arc<VolumeContext>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<(u16, Arc<VolumeContext>)> {
        let volumes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        volumes.iter().map(|(number, volume)| (*number, volume.clone())).collect()
    }

    /// One more.
    pub fn add(&self, number: u16, volume: VolumeContext) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::new(volume));
    }
}

/// What jobs need of one volume.
pub struct VolumeContext {
    /// Its file system.
    pub fs: Arc<dyn Fs>,
    /// Which paths take part.
    pub selection: Selection,
    /// What becomes of losers.
    pub policies: Policies,
    /// The marker that the root must show; as long as it doesn't, nothing counts as deleted.
    pub marker: Vec<u8>,
    /// The root's device: a directory on another is unknown, never empty.
    pub device: u64,
    /// We may give files to other users. Without it owners are neither applied nor announced.
    pub change_owner: bool,
    /// The next slot that nobody uses.
    pub next_slot: AtomicU64,
    /// When versions are told and shown.
    pub durability: Durability,
    /// What may change while it runs.
    pub settings: Current,
    /// How much the store has.
    pub stock: Arc<Stock>,
    /// How much its files take.
    pub usage: Arc<Usage>,
    /// Which files power loss has made doubtful.
    pub doubt: Arc<Doubt>,
    /// See [`syncmesh_io::Probe::leases`].
    pub leases: bool,
    /// See [`syncmesh_io::Probe::exact_stamps`].
    pub exact_stamps: bool,
    /// See [`syncmesh_io::Probe::exact_metadata`].
    pub exact_metadata: bool,
    /// Displaced files that programs have open.
    pub lingering: Arc<Lingerers>,
}

impl VolumeContext {
    /// A slot that is free.
    pub fn slot(&self) -> u64 {
        self.next_slot.fetch_add(1, Ordering::Relaxed)
    }

    /// The owner to declare for what the disk shows.
    pub fn declared_owner(&self, stat: &Stat) -> Option<Owner> {
        self.change_owner.then(|| owner(stat))
    }
}

fn owner(stat: &Stat) -> Owner {
    Owner { uid: stat.owner.uid, gid: stat.owner.gid }
}

/// What a row remembers of what the disk showed. Of directories only what changes with the directory itself: size and
/// times change with its children, so the time is that of its birth, which tells it from a later one with its inode number.
pub fn identity(stat: &Stat) -> Identity {
    let children_move_it = stat.kind == FileKind::Directory;
    Identity {
        inode: stat.id.inode,
        size: if children_move_it { 0 } else { stat.size },
        mtime: if children_move_it { stat.born } else { stat.mtime },
        ctime: if children_move_it { 0 } else { stat.ctime },
        mode: stat.mode,
        owner: owner(stat),
    }
}

/// A question, see [`crate::inquiry`].
pub type Look = Box<dyn FnOnce(&Context) + Send>;

/// What somebody walks over the rows for that want something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sweep {
    /// To try them again.
    Retry,
    /// To let held deletions go, or take them back.
    Held,
    /// To decide what power loss has made doubtful.
    Suspects,
}

/// One piece of work.
pub enum Job {
    /// See [`Scan`].
    Scan(Scan),
    /// See [`Apply`].
    Apply(Apply),
    /// See [`Collect`].
    Collect(Collect),
    /// See [`ReadBlock`].
    ReadBlock(ReadBlock),
    /// See [`Reuse`].
    Reuse(Reuse),
    /// See [`StageBlock`].
    StageBlock(StageBlock),
    /// Look for rows that want something, after a key.
    Wanted(u16, Sweep, Option<Key>),
    /// See [`Comparison`].
    Compare(Comparison),
    /// See [`Seek`].
    Seek(Seek),
    /// See whether a volume's root is in its place.
    Place(u16),
    /// Let go of stored versions beyond what is kept: the wall clock in milliseconds, and whether to look at all of them.
    Prune(u16, u64, bool),
    /// See [`Linger`].
    Linger(Linger),
    /// Remove what was staged for a fetch that ended.
    DropSlot(u16, u64),
    /// See [`Verify`].
    Verify(Verify),
    /// See [`Forget`].
    Forget(Forget),
    /// Answer somebody's question.
    Look(Look),
    /// Find a peer's address: its name, and `host:port`.
    Resolve(String, String),
    /// See [`Sync`]. Runs on a thread of its own.
    Sync(Sync),
    /// See [`ReadBack`].
    ReadBack(ReadBack),
    /// See [`Commit`]. Runs on a thread of its own.
    Commit(Commit),
}

/// What came of it. `Findings` may come several times before `Scanned`.
pub enum Done {
    /// A part of what a scan found.
    Findings(Findings),
    /// A scan ended.
    Scanned(Scanned),
    /// An apply job ended.
    Applied(Applied),
    /// Entries to send.
    Collected(Collected),
    /// A block that a peer asked for.
    BlockRead(crate::fetch::BlockRead),
    /// Contents were looked for here.
    Reused(Reused),
    /// A block is in its slot.
    BlockStaged(StagedBlock),
    /// Whether a volume's root is in its place.
    Placed(u16, Result<bool, FsError>),
    /// Rows that want something, and behind which one there may be more.
    Wanted(u16, Sweep, Vec<(Key, Row)>, Option<Key>),
    /// Names of files were looked for.
    Sought(Found),
    /// Rows were summed up, or compared with a peer's.
    Compared(Compared),
    /// Pruning, dropping a slot, or answering a question ended.
    Tidied,
    /// Displaced files were looked after.
    Lingered(Lingered),
    /// Files were read again.
    Verified(Verified),
    /// What mentions a node's replicas.
    Mentioned(Mentioned),
    /// A peer's address, or why there is none.
    Resolved(String, Result<SocketAddr, String>),
    /// A file system is synced, or can't be.
    Synced(Synced),
    /// What isn't durable was read back.
    HasReadBack(HasReadBack),
    /// An epoch is durable, or failed to become so.
    Committed(Committed),
    /// The registry failed: the agent can't go on.
    Broken(String),
}

impl Done {
    /// See [`Job::works_on`].
    pub fn worked_on(&self) -> Option<u16> {
        match self {
            Self::Scanned(scanned) => Some(scanned.volume),
            Self::Applied(applied) => Some(applied.volume),
            Self::Collected(collected) => Some(collected.volume),
            Self::Wanted(number, ..) => Some(*number),
            Self::Compared(compared) => Some(compared.volume),
            Self::Sought(found) => Some(found.volume),
            Self::Verified(verified) => Some(verified.volume),
            Self::Lingered(lingered) => Some(lingered.volume),
            Self::Findings(_)
            | Self::Reused(_)
            | Self::BlockRead(_)
            | Self::BlockStaged(_)
            | Self::Placed(..)
            | Self::Tidied
            | Self::Mentioned(_)
            | Self::Resolved(..)
            | Self::Synced(_)
            | Self::HasReadBack(_)
            | Self::Committed(_)
            | Self::Broken(_) => None,
        }
    }
}

/// How many wanted rows one look returns.
pub const WANTED_ROWS: usize = 256;

impl Job {
    /// Does the job run beside the workers, on the thread that owns commits?
    pub fn is_commit(&self) -> bool {
        matches!(self, Self::Commit(_))
    }

    /// May it take as long as a disk pleases? Then it gets a thread.
    pub fn is_sync(&self) -> bool {
        matches!(self, Self::Sync(_))
    }

    /// The volume of whose rows it reads what the loop then acts on. [`Done::worked_on`] says the same afterwards.
    pub fn works_on(&self) -> Option<u16> {
        match self {
            Self::Scan(scan) => Some(scan.volume),
            Self::Apply(apply) => Some(apply.volume),
            Self::Collect(collect) => Some(collect.volume),
            Self::Wanted(number, ..) => Some(*number),
            Self::Compare(comparison) => Some(comparison.volume),
            Self::Seek(seek) => Some(seek.volume),
            Self::Verify(verify) => Some(verify.volume),
            Self::Linger(linger) => Some(linger.volume),
            Self::ReadBlock(_)
            | Self::Reuse(_)
            | Self::StageBlock(_)
            | Self::Place(_)
            | Self::Prune(..)
            | Self::DropSlot(..)
            | Self::Forget(_)
            | Self::Look(_)
            | Self::Resolve(..)
            | Self::Sync(_)
            | Self::ReadBack(_)
            | Self::Commit(_) => None,
        }
    }

    /// Does the work. `emit` takes what is found on the way and at the end, and may wait.
    pub fn run(self, context: &Context, emit: &mut dyn FnMut(Done)) {
        let volume = |number: u16| context.volumes.get(number).expect("jobs are made for volumes that exist");
        let result = match self {
            Self::Scan(scan) => {
                let volume = &*volume(scan.volume);
                scan.run(volume, &context.registry, &mut |part| emit(Done::Findings(part))).map(Done::Scanned)
            }
            Self::Apply(apply) => {
                let volume = &*volume(apply.volume);
                apply.run(volume, context).map(Done::Applied)
            }
            Self::Collect(collect) => {
                let volume = &*volume(collect.volume);
                collect.run(volume, &context.registry).map(Done::Collected)
            }
            Self::ReadBlock(read) => {
                let volume = &*volume(read.volume);
                read.run(volume, &context.registry).map(Done::BlockRead)
            }
            Self::Reuse(reuse) => {
                let volume = &*volume(reuse.volume);
                reuse.run(volume, &context.registry).map(Done::Reused)
            }
            Self::StageBlock(stage) => {
                let volume = &*volume(stage.volume);
                Ok(Done::BlockStaged(stage.run(volume)))
            }
            Self::Wanted(number, sweep, after) => {
                context.registry.wanted(number, after.as_ref(), WANTED_ROWS).map(|mut rows| {
                    let more = rows.last().filter(|_| rows.len() == WANTED_ROWS).map(|(key, _)| key.clone());
                    // What there is no room for stays as it is, without a look at each.
                    let (volume, mut room) = (&*volume(number), Room::default());
                    rows.retain(|(_, row)| {
                        let waits = row.wanted.as_ref().is_some_and(|wanted| wanted.why == Why::NoSpace);
                        sweep != Sweep::Retry || !waits || room.take(volume, space::row_needs(row))
                    });
                    Done::Wanted(number, sweep, rows, more)
                })
            }
            Self::Seek(seek) => seek.run(&context.registry).map(Done::Sought),
            Self::Compare(comparison) => comparison.run(&context.registry).map(Done::Compared),
            Self::Prune(number, now, thorough) => {
                crate::store::prune(&volume(number), now, thorough);
                Ok(Done::Tidied)
            }
            Self::Linger(linger) => {
                let volume = &*volume(linger.volume);
                linger.run(volume, context).map(Done::Lingered)
            }
            Self::Place(number) => Ok(Done::Placed(number, volume(number).fs.is_in_place())),
            Self::DropSlot(number, slot) => {
                // What can't be dropped now is dropped at the next start: nothing in the registry names it.
                let _ = volume(number).fs.drop_slot(slot);
                Ok(Done::Tidied)
            }
            Self::Verify(verify) => {
                let volume = &*volume(verify.volume);
                verify.run(volume, &context.registry).map(Done::Verified)
            }
            Self::Forget(forget) => forget.run(context).map(Done::Mentioned),
            Self::Look(look) => {
                look(context);
                Ok(Done::Tidied)
            }
            Self::Resolve(peer, address) => {
                let found = address.to_socket_addrs().map_err(|error| format!("can't resolve {address}: {error}"));
                let found = found.and_then(|mut found| found.next().ok_or(format!("{address} has no address")));
                Ok(Done::Resolved(peer, found))
            }
            Self::Sync(sync) => {
                let volume = &*volume(sync.volume);
                Ok(Done::Synced(sync.run(volume, context)))
            }
            Self::ReadBack(back) => {
                let volume = &*volume(back.volume);
                back.run(volume, context).map(Done::HasReadBack)
            }
            Self::Commit(commit) => Ok(Done::Committed(commit.run(context))),
        };
        emit(result.unwrap_or_else(|error| Done::Broken(error.to_string())));
    }
}

//! A file system that couldn't write what it had taken (SYNC 8, "if syncfs fails").
//!
//! Linux says so once. The pages that it couldn't write count as written from then on: the next sync succeeds, and programs
//! read from memory what the disk doesn't have. So a failed sync is noted durably before anything is done about it, and never
//! simply tried again. The volume stands still, its rows stay out of the epoch, and what changed since its last durable epoch is
//! read back from the disk. If all of it is what its rows say the volume goes on. If not, the rows that aren't durable are given
//! up, as after power loss: peers tell again what they heard, and files that differ are suspect (`suspect.rs`).

use crate::fetch::FETCH_SLOT;
use crate::hash::{Hashed, hash_open};
use crate::job::{Context, VolumeContext, identity};
use crate::registry::{Key, Registry, RegistryError, VolumeState};
use std::collections::BTreeSet;
use syncmesh_core::entry::{Body, ContentHash, Row};
use syncmesh_core::path::RelativePath;
use syncmesh_io::{Directory, FsError, OpenFile, Stat, StateFiles};

/// Paths whose contents are known to be lost are remembered up to this many; beyond, all that is suspect waits for a word.
const TORN: usize = 1_024;

/// The file in the state directory that says that a volume's files couldn't be synced.
fn note_name(volume: u16) -> String {
    format!("unsynced-{volume:04x}")
}

/// Notes that an epoch of a volume isn't durable.
///
/// # Errors
/// The state directory can't be written. Then nothing may go on.
pub fn note(state: &dyn StateFiles, volume: u16) -> Result<(), FsError> {
    if noted(state, volume)? { Ok(()) } else { state.write(&note_name(volume), b"") }
}

/// Is there an epoch of a volume that isn't durable?
///
/// # Errors
/// The state directory can't be read.
pub fn noted(state: &dyn StateFiles, volume: u16) -> Result<bool, FsError> {
    match state.read(&note_name(volume)) {
        Ok(_) => Ok(true),
        Err(FsError::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Forgets the note: an epoch is durable that has everything of the volume. One that can't be removed makes the next start
/// look at more than it must.
pub fn forget(state: &dyn StateFiles, volume: u16) {
    let _ = state.remove(&note_name(volume));
}

/// Sync a volume's file system. It has a thread to itself: one that hangs holds up nobody.
pub struct Sync {
    /// Which volume.
    pub volume: u16,
}

/// How it went.
pub struct Synced {
    /// Which volume.
    pub volume: u16,
    /// Why it failed.
    pub result: Result<(), FsError>,
    /// Why that couldn't be noted.
    pub noted: Result<(), FsError>,
}

impl Sync {
    /// Syncs. A failure is noted at once: whoever starts next must know.
    pub fn run(self, volume: &VolumeContext, context: &Context) -> Synced {
        let result = volume.fs.sync();
        let noted = match &result {
            Ok(()) => Ok(()),
            Err(_) => note(&*context.state, self.volume),
        };
        Synced { volume: self.volume, result, noted }
    }
}

/// Read back what isn't durable. Nothing else works on the volume meanwhile, and no epoch closes.
pub struct ReadBack {
    /// Which volume.
    pub volume: u16,
}

/// What the disk has.
pub struct HasReadBack {
    /// Which volume.
    pub volume: u16,
    /// What came of it.
    pub outcome: Outcome,
}

/// What the disk has of the files that aren't durable.
pub enum Outcome {
    /// All that its rows say, or what somebody wrote since.
    Sound,
    /// Nobody knows: a directory can't be looked at.
    Unseen(FsError),
    /// Not all: rows that weren't durable are given up.
    Lost {
        /// The volume as of its last durable epoch.
        state: Box<VolumeState>,
        /// What is lost.
        torn: BTreeSet<RelativePath>,
    },
}

impl ReadBack {
    /// Reads all files of rows that aren't durable. What was staged goes: of that nobody knows what the disk has.
    pub fn run(self, volume: &VolumeContext, context: &Context) -> Result<HasReadBack, RegistryError> {
        for slot in volume.fs.list_slots().unwrap_or_default().into_iter().filter(|slot| slot & FETCH_SLOT != 0) {
            // What can't be dropped now is dropped at the next start.
            let _ = volume.fs.drop_slot(slot);
        }
        let outcome = match torn(volume, &context.registry, self.volume) {
            Err(error) => Outcome::Unseen(error),
            Ok(torn) if torn.is_empty() => Outcome::Sound,
            Ok(torn) => {
                let state = context.registry.take_back(self.volume)?.map(Box::new);
                let state = state.expect("a volume that runs was committed by its start");
                Outcome::Lost { state, torn }
            }
        };
        Ok(HasReadBack { volume: self.volume, outcome })
    }
}

/// Files of rows that aren't durable, and of which the disk hasn't what the row says. The root stands for more than are named.
///
/// # Errors
/// A directory can't be looked at.
pub fn torn(volume: &VolumeContext, registry: &Registry, number: u16) -> Result<BTreeSet<RelativePath>, FsError> {
    let mut torn = BTreeSet::new();
    for (key, row) in registry.undurable(number) {
        if !is_sound(volume, &key, &row)? {
            tracing::error!(path = %key.path(), "the disk hasn't what was written: taken from peers if they have it");
            torn.insert(if torn.len() < TORN { key.path() } else { RelativePath::root() });
        }
    }
    Ok(torn)
}

/// Has the disk what the row says? What was written since, or isn't there any more, is a later change, which a scan judges.
///
/// # Errors
/// Its directory can't be looked at.
fn is_sound(volume: &VolumeContext, key: &Key, row: &Row) -> Result<bool, FsError> {
    // What was written while it was hashed is hashed again by a scan.
    let Some(here) = row.live().filter(|here| !here.unsure.any()) else { return Ok(true) };
    let Body::File { hash, .. } = &here.entry.content.body else { return Ok(true) };
    let directory = match volume.fs.open_directory(&key.directory.components()) {
        Ok(directory) => directory,
        Err(FsError::NotFound | FsError::Outside | FsError::Collision) => return Ok(true),
        Err(error) => return Err(error),
    };
    let shown = match directory.stat(key.name.as_bytes()) {
        Ok(stat) if here.identity.is_some_and(|row| row.same_but_ctime(&identity(&stat))) => stat,
        Ok(_) | Err(FsError::NotFound | FsError::Collision) => return Ok(true),
        Err(error) => return Err(error),
    };
    // A file that can't be read has lost what it had.
    let found = read_from_disk(volume, &*directory, key.name.as_bytes(), &shown);
    Ok(found.is_ok_and(|found| found.is_none_or(|found| found == *hash)))
}

/// The hash of what the disk has of a file that showed `before`; none if it changed meanwhile.
fn read_from_disk(
    volume: &VolumeContext,
    directory: &dyn Directory,
    name: &[u8],
    before: &Stat,
) -> Result<Option<ContentHash>, FsError> {
    let file = directory.open(name)?;
    forget_cached(&*file)?;
    // Blocks may differ: what is lost has none.
    let shown = file.stat()?;
    if identity(&shown) != identity(before) {
        return Ok(None);
    }
    Ok(match hash_open(volume, &*file, &shown)? {
        Hashed::Body(body, ..) => body.hash(),
        Hashed::Unstable => None,
    })
}

/// From here on reads see what the disk has: what waits to be written is written, and then memory forgets the file.
///
/// # Errors
/// It can't be written.
pub fn forget_cached(file: &dyn OpenFile) -> Result<(), FsError> {
    file.sync()?;
    file.forget_cached()
}

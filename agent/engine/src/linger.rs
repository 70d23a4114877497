//! Displaced files that a program still has open for writing. They lie in the store and are never let go of; what was
//! written to them there is a local version once nobody can write any more (SYNC 6).

use crate::hash::{Hashed, hash_open, is_open};
use crate::job::{Context, VolumeContext};
use crate::journal::{self, Intent, Record};
use crate::publish::DisplacedVersion;
use crate::registry::{Key, Registry, RegistryError};
use crate::scan::What;
use crate::settings::Role;
use crate::store::{Stored, closed, digits};
use std::sync::{Mutex, MutexGuard, PoisonError};
use syncmesh_core::entry::Entry;
use syncmesh_core::path::RelativePath;
use syncmesh_io::{FsError, Log};

/// Rows that one read of the registry brings while a path is looked for.
const ROWS: usize = 1_024;

/// A stored file that may still be written.
pub struct Lingering {
    /// Its name in the store.
    pub stored: String,
    /// Where it was displaced from; unknown after a restart.
    pub path: Option<RelativePath>,
    /// As what it was recorded there, if it was.
    pub over: Option<Entry>,
}

/// All of a volume, shared by the jobs that displace and the loop that has them looked after.
#[derive(Default)]
pub struct Lingerers(Mutex<Vec<Lingering>>);

impl Lingerers {
    /// One more.
    pub fn add(&self, lingering: Lingering) {
        self.files().push(lingering);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.files().len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.files().is_empty()
    }

    fn files(&self) -> MutexGuard<'_, Vec<Lingering>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See which of them are closed.
pub struct Linger {
    /// Which volume.
    pub volume: u16,
    /// The open epoch's journal.
    pub log: Log,
}

/// What was seen.
pub struct Lingered {
    /// Which volume.
    pub volume: u16,
    /// What was written after it was displaced.
    pub found: Vec<(Key, DisplacedVersion)>,
    /// Some were closed.
    pub any_closed: bool,
}

enum End {
    /// Somebody may still write, or it can't be read now.
    Open,
    /// Nothing was written, or nobody knows what path it belongs to.
    Stays,
    /// Something was.
    Version(Key, DisplacedVersion),
}

impl Linger {
    /// Looks at each once. What is still open stays on the list.
    pub fn run(self, volume: &VolumeContext, context: &Context) -> Result<Lingered, RegistryError> {
        let mut lingered = Lingered { volume: self.volume, found: Vec::new(), any_closed: false };
        // One at a time, the oldest last: what is displaced meanwhile goes on the list beside them.
        for _ in 0..volume.lingering.len() {
            let Some(file) = volume.lingering.files().pop() else { break };
            match self.look(volume, context, &file) {
                Ok(End::Open) => volume.lingering.files().insert(0, file),
                Ok(End::Stays) => lingered.any_closed = true,
                Ok(End::Version(key, version)) => {
                    lingered.any_closed = true;
                    lingered.found.push((key, version));
                }
                Err(error) => {
                    volume.lingering.add(file);
                    return Err(error);
                }
            }
        }
        Ok(lingered)
    }

    fn look(&self, volume: &VolumeContext, context: &Context, file: &Lingering) -> Result<End, RegistryError> {
        let Some(stored) = Stored::parse(file.stored.clone()) else { return Ok(End::Stays) };
        let opened = match volume.fs.open_stored(&stored.name) {
            Ok(opened) => opened,
            Err(FsError::NotFound | FsError::WrongKind) => return Ok(End::Stays),
            Err(_) => return Ok(End::Open),
        };
        let Ok(before) = opened.stat() else { return Ok(End::Open) };
        if is_open(volume, &*opened, &before) {
            return Ok(End::Open);
        }
        let Ok(Hashed::Body(body, stat, _)) = hash_open(volume, &*opened, &before) else { return Ok(End::Open) };
        drop(opened);
        let slot = volume.slot();
        let changed = body.hash().as_ref().map(digits) != Some(stored.contents);
        // Where only another node may write, it is nobody's version.
        let is_version = changed && volume.settings.get().role != Role::Reader;
        let place = if is_version { self.place(&context.registry, file, &stored)? } else { None };
        let Some((key, known)) = place else {
            if is_version {
                tracing::warn!(version = %stored.name, "a program wrote to a file that nobody knows the path of any more: its version stays in the store");
            }
            // Between the two it has no name that says whose it is; recovery then keeps it all the same.
            let kept = volume.fs.take_stored(&stored.name, slot);
            return Ok(match kept.and_then(|()| volume.fs.store_slot(slot, &closed(&stored, changed))) {
                Ok(()) => End::Stays,
                Err(_) => End::Open,
            });
        };
        // Should this run end before the version has a name, recovery gives it one.
        let mut record = Vec::new();
        let intent = Intent { key: key.clone(), slot, staged: None, old: None, new: known, only_copy: true };
        journal::encode(&Record::Intent(intent), &mut record);
        let taken = context.state.append(self.log, &record);
        if taken.and_then(|()| volume.fs.take_stored(&stored.name, slot)).is_err() {
            return Ok(End::Open);
        }
        let what = What::contents(volume, body, &stat);
        Ok(End::Version(key, DisplacedVersion { slot, what, over: file.over.clone() }))
    }

    /// Where it was displaced from, and a version that is known of that path.
    fn place(
        &self,
        registry: &Registry,
        file: &Lingering,
        stored: &Stored,
    ) -> Result<Option<(Key, Entry)>, RegistryError> {
        let entry =
            |key: &Key| Ok::<_, RegistryError>(registry.get(key)?.and_then(|row| row.here).map(|here| here.entry));
        if let Some(key) = file.path.as_ref().and_then(|path| Key::of(self.volume, path)) {
            return Ok(entry(&key)?.or(file.over.clone()).map(|known| (key, known)));
        }
        let mut after = None;
        loop {
            let rows = registry.between(self.volume, after.as_ref(), None, ROWS)?;
            if let Some((key, _)) = rows.iter().find(|(key, _)| stored.is_of(&key.path())) {
                return Ok(entry(key)?.map(|known| (key.clone(), known)));
            }
            match rows.last() {
                Some((key, _)) if rows.len() == ROWS => after = Some(key.clone()),
                _ => return Ok(None),
            }
        }
    }
}

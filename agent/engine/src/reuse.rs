//! Contents that this node has already under another path, or in its store: copied instead of fetched. So a rename, a copy or
//! a file that comes back moves no contents between nodes.

use crate::contents::{Copying, Found};
use crate::fetch::FETCH_SLOT;
use crate::job::VolumeContext;
use crate::registry::{Key, Registry, RegistryError};
use crate::space::Room;
use crate::store;
use syncmesh_core::entry::ContentHash;
use syncmesh_io::FsError;

/// What one job copies: a worker isn't kept for longer than that takes.
const JOB_BYTES: u64 = 16 * 1024 * 1024;

/// How often other places are looked for when one has vanished under the copy, as the old path of a rename does.
const ATTEMPTS: u32 = 2;

/// Look for contents here, and copy some of them into a slot.
pub struct Reuse {
    /// Which volume.
    pub volume: u16,
    /// Which of the copies under way.
    pub id: u64,
    /// What the contents must be.
    pub hash: ContentHash,
    /// Bytes of all of them.
    pub size: u64,
    /// They have holes.
    pub sparse: bool,
    /// Only what is published under this path counts.
    pub from: Option<Key>,
    /// How far it has got.
    pub copy: Copied,
}

/// A copy under way.
#[derive(Default)]
pub struct Copied {
    from: Option<Found>,
    copying: Copying,
    attempt: u32,
}

/// How far a job has got.
pub struct Reused {
    /// Which of the copies under way.
    pub id: u64,
    /// See [`Progress`].
    pub progress: Progress,
}

/// How far a copy has got.
pub enum Progress {
    /// There is more to copy.
    Part(Copied),
    /// All is in the slot, and verified.
    Whole,
    /// This node doesn't have them, or can't copy them. Nothing is in the slot.
    Nothing,
}

/// The slot of a copy. Like those of fetches it is emptied by the next start.
pub fn slot(id: u64) -> u64 {
    id | FETCH_SLOT
}

impl Reuse {
    /// Looks, or goes on copying.
    pub fn run(mut self, volume: &VolumeContext, registry: &Registry) -> Result<Reused, RegistryError> {
        let id = self.id;
        let progress = loop {
            if self.copy.from.is_none() {
                self.copy.from = self.find(volume, registry)?;
            }
            let Some(from) = self.copy.from.take() else { break Progress::Nothing };
            match self.copy_some(volume, &from) {
                Ok(true) if self.copy.copying.offset < self.size => {
                    self.copy.from = Some(from);
                    break Progress::Part(self.copy);
                }
                Ok(true) if self.copy.copying.hash() == self.hash => break Progress::Whole,
                Ok(_) | Err(_) if self.copy.attempt < ATTEMPTS => {
                    self.copy = Copied { attempt: self.copy.attempt + 1, ..Copied::default() };
                }
                Ok(_) | Err(_) => break Progress::Nothing,
            }
        };
        if matches!(progress, Progress::Nothing) {
            // It needn't be there; what can't be dropped now is dropped at the next start.
            let _ = volume.fs.drop_slot(slot(id));
        }
        Ok(Reused { id, progress })
    }

    fn find(&self, volume: &VolumeContext, registry: &Registry) -> Result<Option<Found>, RegistryError> {
        if let Some(key) = &self.from {
            let here = registry.get(key)?.and_then(|row| row.here);
            let here = here.filter(|here| here.entry.content.body.hash() == Some(self.hash));
            return Ok(here.map(|here| Found::Published(key.clone(), Box::new(here))));
        }
        if let Some((key, here)) = registry.with_contents(self.volume, self.hash)? {
            return Ok(Some(Found::Published(key, Box::new(here))));
        }
        Ok(store::find_contents(volume, self.hash).map(Found::Stored))
    }

    /// False if they aren't there any more.
    fn copy_some(&mut self, volume: &VolumeContext, from: &Found) -> Result<bool, FsError> {
        let copying = &mut self.copy.copying;
        let end = self.size.min(copying.offset + JOB_BYTES);
        if !Room::default().take(volume, end - copying.offset) {
            return Err(FsError::NoSpace);
        }
        copying.go_on(volume, from, slot(self.id), end, self.size, self.sparse)
    }
}

//! Contents that no name publishes any more: those of a version that lost a conflict live on in its conflict copy, or in
//! the version store. When the winner is deleted by somebody who never saw the loser, the loser gets the name again, and
//! its contents are found here by their hash.

use crate::announce::read;
use crate::job::VolumeContext;
use crate::registry::{Key, Registry, RegistryError};
use crate::stage::{open_part, write};
use crate::store;
use crate::suspect::is_suspect;
use syncmesh_core::entry::{ContentHash, Here, Identity};
use syncmesh_core::path::Name;
use syncmesh_io::FsError;

const BUFFER_BYTES: usize = 256 * 1024;

/// Where contents are.
pub enum Found {
    /// A published file.
    Published(Key, Box<Here>),
    /// A stored version.
    Stored(String),
}

impl Found {
    /// Reads a part.
    pub fn read(&self, volume: &VolumeContext, offset: u64, length: usize) -> Result<Vec<u8>, FsError> {
        match self {
            Self::Published(key, here) => read(volume, key, here, offset, length, may_have_it),
            Self::Stored(name) => {
                let mut bytes = vec![0; length];
                let read = volume.fs.open_stored(name)?.read_at(&mut bytes, offset)?;
                bytes.truncate(read);
                Ok(bytes)
            }
        }
    }
}

/// A file that is appended to all the time is never again what its row says, and has it still. Whoever takes contents
/// verifies their hash before anything is published, so a file that was changed otherwise costs a transfer and no more.
fn may_have_it(row: &Identity, now: &Identity) -> bool {
    row.inode == now.inode && row.size <= now.size
}

/// Looks for a path's contents by their hash: under its name, under those of its conflict copies, in the store.
pub fn find(
    volume: &VolumeContext,
    registry: &Registry,
    key: &Key,
    hash: ContentHash,
) -> Result<Option<Found>, RegistryError> {
    let has = |here: &&Here| here.entry.content.body.hash() == Some(hash);
    // Of what is suspect the disk hasn't what the row says, and the store may have it.
    if let Some(row) = registry.get(key)?.filter(|row| !is_suspect(row))
        && let Some(here) = row.live().filter(has)
    {
        return Ok(Some(Found::Published(key.clone(), Box::new(here.clone()))));
    }
    let bytes = key.name.as_bytes();
    let stem = bytes.iter().rposition(|&b| b == b'.').filter(|at| *at > 0).map_or(bytes, |at| &bytes[..at]);
    let prefix = [stem, b" (conflict "].concat();
    let mut after = Name::new(&prefix).ok();
    while let Some(name) = after.take() {
        for (name, row) in registry.children(key.volume, &key.directory, Some(&name), 64)? {
            if !name.as_bytes().starts_with(&prefix) {
                after = None;
                break;
            }
            if let Some(here) = row.live().filter(has) {
                let key = Key { name, ..key.clone() };
                return Ok(Some(Found::Published(key, Box::new(here.clone()))));
            }
            after = Some(name);
        }
    }
    Ok(store::find(volume, &key.path(), hash).map(Found::Stored))
}

/// A copy of contents into a slot, as far as it has got.
#[derive(Default)]
pub struct Copying {
    /// So many bytes are in the slot.
    pub offset: u64,
    hasher: Box<blake3::Hasher>,
}

impl Copying {
    /// Goes on to `end`, where the file has `size` bytes. False if they aren't there any more.
    pub fn go_on(
        &mut self,
        volume: &VolumeContext,
        found: &Found,
        slot: u64,
        end: u64,
        size: u64,
        sparse: bool,
    ) -> Result<bool, FsError> {
        let file = open_part(volume, slot, self.offset)?;
        while self.offset < end {
            let length = usize::try_from(end - self.offset).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
            let bytes = found.read(volume, self.offset, length)?;
            if bytes.len() != length {
                return Ok(false);
            }
            self.hasher.update(&bytes);
            write(&*file, &bytes, self.offset, sparse)?;
            self.offset += length as u64;
        }
        if sparse && end == size {
            file.set_len(size)?;
        }
        Ok(true)
    }

    /// The hash of what was copied.
    pub fn hash(&self) -> ContentHash {
        ContentHash::from(self.hasher.finalize())
    }
}

/// Copies found contents into a slot, verified against their hash. `None` if they can't be read or aren't what they were.
pub fn copy(volume: &VolumeContext, found: &Found, size: u64, hash: ContentHash, sparse: bool) -> Option<u64> {
    let slot = volume.slot();
    let mut copying = Copying::default();
    if copying.go_on(volume, found, slot, size, size, sparse) == Ok(true) && copying.hash() == hash {
        return Some(slot);
    }
    let _ = volume.fs.drop_slot(slot);
    None
}

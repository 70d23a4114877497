//! Reading contents again although nothing shows that they changed (`rescan --contents`). What differs then wasn't written by
//! anybody through the file system: it is reported, and never announced.

use crate::hash::{Hashed, hash};
use crate::job::{VolumeContext, identity};
use crate::limits::{VERIFY_BYTES, VERIFY_ROWS};
use crate::registry::{Key, Registry, RegistryError};
use syncmesh_core::entry::{Body, Row};
use syncmesh_core::path::RelativePath;

/// Read the next files of a volume.
pub struct Verify {
    /// Which volume.
    pub volume: u16,
    /// Behind which row it goes on.
    pub after: Option<Key>,
}

/// What was read.
pub struct Verified {
    /// Which volume.
    pub volume: u16,
    /// Files whose contents aren't what was recorded, while size, times and inode are.
    pub rotten: Vec<RelativePath>,
    /// Behind which row it goes on; none at the end.
    pub next: Option<Key>,
}

impl Verify {
    /// Reads some files, at most as many as keep a worker for a second or so, or one.
    pub fn run(self, volume: &VolumeContext, registry: &Registry) -> Result<Verified, RegistryError> {
        let rows = registry.between(self.volume, self.after.as_ref(), None, VERIFY_ROWS)?;
        let next = rows.last().filter(|_| rows.len() == VERIFY_ROWS).map(|(key, _)| key.clone());
        let mut verified = Verified { volume: self.volume, rotten: Vec::new(), next };
        let mut bytes = 0;
        for (key, row) in rows {
            bytes += row.live().map_or(0, |here| here.entry.content.body.size());
            if is_rotten(volume, &key, &row) {
                verified.rotten.push(key.path());
            }
            if bytes >= VERIFY_BYTES {
                verified.next = Some(key);
                break;
            }
        }
        Ok(verified)
    }
}

/// Only what was read whole, while everything else stood still as the row has it, says anything.
fn is_rotten(volume: &VolumeContext, key: &Key, row: &Row) -> bool {
    // What may change without showing it is looked at again anyway.
    let Some(here) = row.live().filter(|here| !here.unsure.any()) else { return false };
    let Body::File { hash: recorded, .. } = &here.entry.content.body else { return false };
    let Ok(directory) = volume.fs.open_directory(&key.directory.components()) else { return false };
    let name = key.name.as_bytes();
    let Ok(before) = directory.stat(name) else { return false };
    if here.identity != Some(identity(&before)) {
        return false; // a change that a scan finds
    }
    match hash(volume, &*directory, name, &before) {
        Ok(Hashed::Body(body, after, unsure)) => before == after && !unsure.any() && body.hash() != Some(*recorded),
        Ok(Hashed::Unstable) | Err(_) => false,
    }
}

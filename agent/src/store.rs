//! The version store: what this node displaced, one file each, named by path digest, time and slot.

use crate::job::VolumeContext;
use crate::limits::STORE_AGE;
use std::collections::BTreeMap;
use syncmesh_core::entry::ContentHash;
use syncmesh_core::path::RelativePath;
use syncmesh_io::FsError;

/// The name of a stored version: 16 hexadecimal digits of the path's hash, the time in milliseconds since 1970, and the
/// slot that it came from.
pub fn name(path: &RelativePath, millis: u64, slot: u64) -> String {
    let digest = ContentHash::of(path.as_bytes());
    let digest = u64::from_be_bytes(digest.as_bytes()[..8].try_into().expect("eight bytes of 32"));
    format!("{digest:016x}-{millis:013}-{slot:016x}")
}

/// Moves what lies in a slot into the store.
pub fn keep(volume: &VolumeContext, slot: u64, path: &RelativePath, now_millis: u64) -> Result<(), FsError> {
    volume.fs.store_slot(slot, &name(path, now_millis, slot))
}

/// Lets go of the oldest versions of each path beyond `keep_versions`, and of those older than [`STORE_AGE`]. What can't
/// be removed stays for the next time.
pub fn prune(volume: &VolumeContext, now_millis: u64) {
    let Ok(mut names) = volume.fs.list_store() else { return };
    names.sort_unstable();
    let mut of_path: BTreeMap<&str, usize> = BTreeMap::new();
    let oldest = now_millis.saturating_sub(STORE_AGE.as_millis() as u64);
    for name in names.iter().rev() {
        let mut parts = name.split('-');
        let (Some(path), Some(Ok(millis))) = (parts.next(), parts.next().map(str::parse::<u64>)) else { continue };
        let count = of_path.entry(path).or_default();
        *count += 1;
        if *count > volume.keep_versions || millis < oldest {
            let _ = volume.fs.drop_stored(name);
        }
    }
}

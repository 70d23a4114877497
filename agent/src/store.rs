//! The version store: what this node displaced, one file each, named by path digest, time and slot.

use crate::job::VolumeContext;
use crate::limits::STORE_AGE;
use std::collections::BTreeMap;
use syncmesh_core::entry::ContentHash;
use syncmesh_core::path::RelativePath;
use syncmesh_io::FsError;

/// The name of a stored version: 16 hexadecimal digits of the path's hash, the time in milliseconds since 1970, the slot
/// that it came from, and 16 digits of the contents' hash (zeros where that isn't known).
pub fn name(path: &RelativePath, millis: u64, slot: u64, hash: Option<ContentHash>) -> String {
    let path = digits(&ContentHash::of(path.as_bytes()));
    format!("{path:016x}-{millis:013}-{slot:016x}-{:016x}", hash.as_ref().map_or(0, digits))
}

/// A stored version's name, taken apart.
pub struct Stored {
    /// The name itself.
    pub name: String,
    /// When it was displaced, in milliseconds since 1970.
    pub millis: u64,
    /// The slot that it came from.
    pub slot: u64,
    /// See [`digits`]; 0 where its hash wasn't known.
    pub contents: u64,
    path: u64,
}

impl Stored {
    /// Takes a name apart that [`name`] made; `None` for any other.
    pub fn parse(name: String) -> Option<Self> {
        let parts: Vec<&str> = name.split('-').collect();
        let &[path, millis, slot, contents] = parts.as_slice() else { return None };
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        let (path, slot, contents) = (number(path)?, number(slot)?, number(contents)?);
        Some(Self { millis: millis.parse().ok()?, slot, contents, path, name })
    }

    /// Was it displaced from this path?
    pub fn is_of(&self, path: &RelativePath) -> bool {
        self.path == digits(&ContentHash::of(path.as_bytes()))
    }
}

/// The first eight bytes of a hash, as they stand in names.
pub fn digits(hash: &ContentHash) -> u64 {
    u64::from_be_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes of 32"))
}

/// Moves what lies in a slot into the store.
pub fn keep(
    volume: &VolumeContext,
    slot: u64,
    path: &RelativePath,
    now_millis: u64,
    hash: Option<ContentHash>,
) -> Result<(), FsError> {
    volume.fs.store_slot(slot, &name(path, now_millis, slot, hash))
}

/// A stored version of a path with these contents.
pub fn find(volume: &VolumeContext, path: &RelativePath, hash: ContentHash) -> Option<String> {
    let (path, contents) = (digits(&ContentHash::of(path.as_bytes())), digits(&hash));
    let (start, end) = (format!("{path:016x}-"), format!("-{contents:016x}"));
    let names = volume.fs.list_store().ok()?;
    names.into_iter().find(|name| name.starts_with(&start) && name.ends_with(&end))
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

//! The version store: what this node displaced, one file each, named by path digest, time and slot. The name says all that is
//! known of a version, so nothing else has to survive a restart with it.

use crate::contents::{self, Found};
use crate::hash::{Hashed, hash_open, is_open};
use crate::job::VolumeContext;
use crate::linger::Lingering;
use crate::space;
use std::sync::atomic::{AtomicU64, Ordering};
use syncmesh_core::entry::{Body, ContentHash, Entry};
use syncmesh_core::path::RelativePath;
use syncmesh_core::retention::{self, give_way, surplus};
use syncmesh_io::{FsError, Metadata, Stat};

/// Why a version is in the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Somebody who had seen it replaced or deleted it.
    Superseded,
    /// It lost against a concurrent version, or nobody ever recorded it, and has no copy under a name: only its age ends it.
    Loser,
}

/// Files of up to this size are copied when they go to the store and have other names.
const SET_APART_BYTES: u64 = 16 * 1024 * 1024;

/// What the names of losers end in.
const LOSER: &str = "-loser";

/// What the names end in, last of all, of files that a program still has open for writing.
const OPEN: &str = "-open";

/// The name of a stored version: 16 hexadecimal digits of the path's hash, the time in milliseconds since 1970, the slot
/// that it came from, 16 digits of the contents' hash (zeros where that isn't known), and what it is if it is a loser.
fn name(path: &RelativePath, millis: u64, slot: u64, hash: Option<ContentHash>, kind: Kind) -> String {
    name_of(digits(&ContentHash::of(path.as_bytes())), millis, slot, hash, kind)
}

/// The name of what recovery found in a slot and nobody knows the path of. It may be all that is left of a version.
pub fn nameless(millis: u64, slot: u64) -> String {
    name_of(0, millis, slot, None, Kind::Loser)
}

fn name_of(path: u64, millis: u64, slot: u64, hash: Option<ContentHash>, kind: Kind) -> String {
    let end = match kind {
        Kind::Superseded => "",
        Kind::Loser => LOSER,
    };
    format!("{path:016x}-{millis:013}-{slot:016x}-{:016x}{end}", hash.as_ref().map_or(0, digits))
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
    /// Why it is here.
    pub kind: Kind,
    /// A program had it open for writing when it was displaced, and it isn't known yet what became of that.
    pub is_open: bool,
    path: u64,
}

impl Stored {
    /// Takes a name apart that [`name`] made; `None` for any other.
    pub fn parse(name: String) -> Option<Self> {
        let (parts, is_open) = match name.strip_suffix(OPEN) {
            Some(parts) => (parts, true),
            None => (name.as_str(), false),
        };
        let (parts, kind) = match parts.strip_suffix(LOSER) {
            Some(parts) => (parts, Kind::Loser),
            None => (parts, Kind::Superseded),
        };
        let parts: Vec<&str> = parts.split('-').collect();
        let &[path, millis, slot, contents] = parts.as_slice() else { return None };
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        let (path, slot, contents) = (number(path)?, number(slot)?, number(contents)?);
        Some(Self { millis: millis.parse().ok()?, slot, contents, kind, is_open, path, name })
    }

    /// Was it displaced from this path?
    pub fn is_of(&self, path: &RelativePath) -> bool {
        self.path == digits(&ContentHash::of(path.as_bytes()))
    }
}

/// The name of a version whose file is closed now. One that was `written` meanwhile is a loser that nobody recorded.
pub fn closed(stored: &Stored, written: bool) -> String {
    let name = stored.name.trim_end_matches(OPEN);
    let is_loser = stored.kind == Kind::Loser;
    if written && !is_loser { format!("{name}{LOSER}") } else { name.to_owned() }
}

/// The first eight bytes of a hash, as they stand in names.
pub fn digits(hash: &ContentHash) -> u64 {
    u64::from_be_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes of 32"))
}

/// How much a store has, counted along and counted anew at each pruning. For the status, and to see when it is time to prune.
#[derive(Debug, Default)]
pub struct Stock {
    files: AtomicU64,
    bytes: AtomicU64,
    /// Those of versions that aren't pinned.
    loose: AtomicU64,
}

impl Stock {
    /// Versions.
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes that only their age gives back.
    pub fn pinned_bytes(&self) -> u64 {
        self.bytes().saturating_sub(self.loose.load(Ordering::Relaxed))
    }

    fn add(&self, bytes: u64, pinned: bool) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if !pinned {
            self.loose.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn count(&self, stored: &[retention::Stored]) {
        let sum = |stored: &mut dyn Iterator<Item = &retention::Stored>| stored.map(|stored| stored.bytes).sum();
        self.files.store(stored.len() as u64, Ordering::Relaxed);
        self.bytes.store(sum(&mut stored.iter()), Ordering::Relaxed);
        self.loose.store(sum(&mut stored.iter().filter(|stored| !stored.pinned)), Ordering::Relaxed);
    }
}

/// Bytes that an inode takes.
pub fn takes(stat: &Stat) -> u64 {
    stat.blocks * 512
}

/// Moves what lies in a slot into the store. `entry` is what it was recorded as, if it was. What a program has open for
/// writing is looked after until it is closed.
pub fn keep(
    volume: &VolumeContext,
    slot: u64,
    path: &RelativePath,
    now_millis: u64,
    entry: Option<&Entry>,
    kind: Kind,
) -> Result<(), FsError> {
    let hash = entry.and_then(|entry| entry.content.body.hash());
    keep_contents(volume, slot, path, now_millis, hash, entry, kind)
}

/// Moves a suspect file into the store: what power loss may have torn. Its name tells what it has now, so that only what a
/// program writes to it from here on is somebody's version.
pub fn keep_suspect(volume: &VolumeContext, slot: u64, path: &RelativePath, now_millis: u64) -> Result<(), FsError> {
    let file = volume.fs.open_slot(slot)?;
    let hash = match hash_open(volume, &*file, &file.stat()?)? {
        Hashed::Body(body, ..) => body.hash(),
        Hashed::Unstable => None,
    };
    drop(file);
    keep_contents(volume, slot, path, now_millis, hash, None, Kind::Loser)
}

fn keep_contents(
    volume: &VolumeContext,
    slot: u64,
    path: &RelativePath,
    now_millis: u64,
    hash: Option<ContentHash>,
    entry: Option<&Entry>,
    kind: Kind,
) -> Result<(), FsError> {
    let mut name = name(path, now_millis, slot, hash, kind);
    let is_open = is_in_use(volume, slot);
    if is_open {
        name.push_str(OPEN);
    }
    volume.fs.store_slot(slot, &name)?;
    let stat = volume.fs.stat_stored(&name);
    if let (Ok(stat), Some(entry), false) = (&stat, entry, is_open) {
        set_apart(volume, &name, stat, path, now_millis, entry, kind);
    }
    let bytes = stat.map_or(0, |stat| takes(&stat));
    volume.stock.add(bytes, kind == Kind::Loser || is_open);
    if is_open {
        volume.lingering.add(Lingering { stored: name, path: Some(path.clone()), over: entry.cloned() });
    }
    Ok(())
}

/// What is written through another name of a stored file would change the version: a copy takes its place. Without room for
/// one it stays as it is, and so does one that would keep a worker for long.
fn set_apart(
    volume: &VolumeContext,
    stored: &str,
    stat: &Stat,
    path: &RelativePath,
    now_millis: u64,
    entry: &Entry,
    kind: Kind,
) {
    let Body::File { size, hash, sparse, .. } = entry.content.body else { return };
    if stat.links < 2 || size > SET_APART_BYTES {
        return;
    }
    let found = Found::Stored(stored.to_owned());
    let Some(copy) = contents::copy(volume, &found, size, hash, sparse) else { return };
    let owner = volume.change_owner.then_some(stat.owner);
    let metadata = Metadata { owner, mode: Some(stat.mode), mtime: Some(stat.mtime) };
    // What is let go of for it may have been on the disk for long.
    let is_durable = volume.fs.resume_slot(copy).and_then(|file| file.sync());
    let is_copied = is_durable.and_then(|()| volume.fs.set_slot_metadata(copy, &metadata));
    match is_copied.and_then(|()| volume.fs.store_slot(copy, &name(path, now_millis, copy, Some(hash), kind))) {
        // Should that fail the version is there twice.
        Ok(()) => _ = volume.fs.drop_stored(stored),
        Err(_) => _ = volume.fs.drop_slot(copy),
    }
}

/// May somebody still write to what lies in a slot? Only to a file.
pub fn is_in_use(volume: &VolumeContext, slot: u64) -> bool {
    let Ok(file) = volume.fs.open_slot(slot) else { return false };
    file.stat().is_ok_and(|stat| is_open(volume, &*file, &stat))
}

/// After a start: what a program had open for writing before is looked after again.
pub fn look_after_open(volume: &VolumeContext) {
    let stored = volume.fs.list_store().unwrap_or_default().into_iter().filter_map(Stored::parse);
    for stored in stored.filter(|stored| stored.is_open) {
        volume.lingering.add(Lingering { stored: stored.name, path: None, over: None });
    }
}

/// A stored version of a path with these contents.
pub fn find(volume: &VolumeContext, path: &RelativePath, hash: ContentHash) -> Option<String> {
    let contents = digits(&hash);
    let stored = volume.fs.list_store().ok()?.into_iter().filter_map(Stored::parse);
    stored.filter(|stored| stored.is_of(path)).find(|stored| stored.contents == contents).map(|stored| stored.name)
}

/// A stored version of any path with these contents. Not looked for among very many.
pub fn find_contents(volume: &VolumeContext, hash: ContentHash) -> Option<String> {
    const VERSIONS: u64 = 10_000;
    if !(1..=VERSIONS).contains(&volume.stock.files()) {
        return None;
    }
    let contents = digits(&hash);
    let stored = volume.fs.list_store().ok()?.into_iter().filter_map(Stored::parse);
    stored.filter(|stored| !stored.is_open).find(|stored| stored.contents == contents).map(|stored| stored.name)
}

/// What a store has, with the space of each.
struct Shelf<'a> {
    volume: &'a VolumeContext,
    names: Vec<String>,
    stored: Vec<retention::Stored>,
}

impl<'a> Shelf<'a> {
    fn look(volume: &'a VolumeContext) -> Result<Self, FsError> {
        let mut shelf = Self { volume, names: Vec::new(), stored: Vec::new() };
        let all = volume.fs.list_store()?.into_iter().filter_map(Stored::parse);
        // What somebody may still write to isn't let go of, however old it is.
        for stored in all.filter(|stored| !stored.is_open) {
            // What can't be looked at is left alone.
            let Ok(stat) = volume.fs.stat_stored(&stored.name) else { continue };
            let pinned = stored.kind == Kind::Loser;
            let (path, millis) = (stored.path, stored.millis);
            shelf.stored.push(retention::Stored { path, millis, bytes: takes(&stat), pinned });
            shelf.names.push(stored.name);
        }
        Ok(shelf)
    }

    /// Lets go of some, and counts what is left; the bytes that they took. What can't be removed stays for the next time.
    fn drop(&mut self, going: &[usize]) -> u64 {
        let mut given = 0;
        for &position in going {
            if self.volume.fs.drop_stored(&self.names[position]).is_ok() {
                given += self.stored[position].bytes;
                self.names[position].clear();
            }
        }
        let mut left = self.names.iter().map(|name| !name.is_empty());
        self.stored.retain(|_| left.next().unwrap_or(true));
        self.names.retain(|name| !name.is_empty());
        self.volume.stock.count(&self.stored);
        given
    }
}

/// Lets go of what exceeds number, age and budget, and of as much as reserve or capacity lack. Unless it is a `thorough` look, only
/// if the counts say that there is something to do.
pub fn prune(volume: &VolumeContext, now_millis: u64, thorough: bool) {
    let Ok(disk) = volume.fs.space() else { return };
    let limits = volume.settings.get().limits;
    let lacks = space::lacks(volume);
    let exceeds = volume.stock.bytes() > limits.budget.of(disk.total_bytes);
    if !thorough && !exceeds && (lacks == 0 || volume.stock.loose.load(Ordering::Relaxed) == 0) {
        return;
    }
    let Ok(mut shelf) = Shelf::look(volume) else { return };
    let going = surplus(&shelf.stored, &limits, disk.total_bytes, now_millis);
    let given = shelf.drop(&going);
    if given < lacks {
        let going = give_way(&shelf.stored, lacks - given);
        shelf.drop(&going);
    }
}

/// Lets go of the oldest that nobody could want, until so many bytes are given back: all of them, or else `at_least` as many.
/// The bytes that they took.
pub fn make_room(volume: &VolumeContext, bytes: u64, at_least: u64) -> u64 {
    let loose = volume.stock.loose.load(Ordering::Relaxed);
    let asked = if loose >= bytes { bytes } else { at_least };
    if loose == 0 || asked == 0 {
        return 0;
    }
    let Ok(mut shelf) = Shelf::look(volume) else { return 0 };
    let going = give_way(&shelf.stored, asked);
    shelf.drop(&going)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_a_version_is() {
        let path = RelativePath::new(b"d/f").unwrap();
        let hash = ContentHash::of(b"contents");
        for kind in [Kind::Superseded, Kind::Loser] {
            let stored = Stored::parse(name(&path, 1_764_000_000_000, 77, Some(hash), kind)).unwrap();
            assert_eq!((stored.millis, stored.slot, stored.kind), (1_764_000_000_000, 77, kind));
            assert_eq!(stored.contents, digits(&hash));
            assert!(stored.is_of(&path) && !stored.is_of(&RelativePath::new(b"d").unwrap()));
            assert!(!stored.is_open);
            let open = Stored::parse(format!("{}{OPEN}", stored.name)).unwrap();
            assert_eq!((open.kind, open.contents, open.is_open), (kind, digits(&hash), true));
            assert_eq!(closed(&open, false), stored.name);
            assert_eq!(Stored::parse(closed(&open, true)).unwrap().kind, Kind::Loser);
        }
        let unknown = Stored::parse(nameless(5, 6)).unwrap();
        assert_eq!((unknown.kind, unknown.contents, unknown.path), (Kind::Loser, 0, 0));
        assert!(Stored::parse("README".into()).is_none());
        assert!(Stored::parse(format!("{}-winner", nameless(5, 6).trim_end_matches(LOSER))).is_none());
    }
}

//! What the version store has of a path, and bringing it back.
//!
//! A restore is an edit like any user's: staged, published by exchange, found by the next look. What had the name goes to the
//! store in its turn, so a restore can be taken back.

use crate::epoch::Durability;
use crate::inquiry::Place;
use crate::job::{Context, VolumeContext, identity};
use crate::registry::Key;
use crate::stage::write;
use crate::store::{self, Kind, Stored};
use serde::{Deserialize, Serialize};
use syncmesh_core::entry::{Attributes, Body, ContentHash};
use syncmesh_core::path::RelativePath;
use syncmesh_io::{Directory, FileKind, FsError, Metadata};

const BUFFER_BYTES: usize = 256 * 1024;

/// A stored version, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// What `restore --version` takes: when it was displaced, in milliseconds since 1970.
    pub version: u64,
    /// Bytes.
    pub size: u64,
    /// Its modification time in nanoseconds since 1970.
    pub modified: i64,
    /// The first eight digits of its BLAKE3 hash, where it was known.
    pub contents: Option<String>,
    /// It lost a conflict, or nobody ever recorded it: only its age ends it.
    pub pinned: bool,
}

/// Which version of a path is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Which {
    /// The one that was displaced last.
    Newest,
    /// One that was listed.
    Version(u64),
    /// The one that had the name at this time, in milliseconds since 1970.
    At(u64),
}

/// What a restore did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// Files that were brought back.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that weren't, and why; the first hundred.
    pub left: Vec<String>,
}

/// Versions of a path that this node's store has, newest first. What can't be read is left out.
pub fn list(context: &Context, place: &Place) -> Result<Vec<Version>, String> {
    let volume = &*place.volume(context)?;
    let mut found = stored(volume)?;
    found.retain(|stored| stored.is_of(&place.path));
    found.sort_unstable_by_key(|stored| std::cmp::Reverse((stored.millis, stored.slot)));
    let versions = found.iter().filter_map(|stored| {
        let stat = volume.fs.open_stored(&stored.name).ok()?.stat().ok()?;
        Some(Version {
            version: stored.millis,
            size: stat.size,
            modified: stat.mtime,
            contents: (stored.contents != 0).then(|| format!("{:08x}", stored.contents >> 32)),
            pinned: stored.kind == Kind::Loser,
        })
    });
    Ok(versions.collect())
}

/// Brings a file back, or every deleted file below a directory; under another path if one is given. `now_millis` is the wall
/// clock.
pub fn restore(
    context: &Context,
    place: &Place,
    which: Which,
    to: Option<&RelativePath>,
    now_millis: u64,
) -> Result<Restored, String> {
    let volume = &*place.volume(context)?;
    let found = stored(volume)?;
    let work = Work { context, volume, number: place.number, found, which, now_millis };
    let target = to.unwrap_or(&place.path);
    let mut restored = Restored::default();
    let directory = {
        let opened = volume.fs.open_directory(&place.path.components());
        opened.is_ok() || work.newest_body(&place.path)? == Some(Body::Directory) || work.has_rows(&place.path)?
    };
    let is_file = work.pick(&place.path).is_some();
    if directory && !is_file {
        work.below(&place.path, target, &mut restored)?;
        if restored.files == 0 && restored.left.is_empty() {
            return Err(format!(
                "this node's store has no version of anything deleted below {}; other nodes may: ask there",
                place.path
            ));
        }
        return Ok(restored);
    }
    if !is_file {
        return Err(format!(
            "this node's store has no such version of {}: `syncmesh-agent versions` lists what it has, and other nodes may have more",
            place.path
        ));
    }
    work.file(&place.path, target, &mut restored);
    match restored.left.pop() {
        Some(why) => Err(why),
        None => Ok(restored),
    }
}

fn stored(volume: &VolumeContext) -> Result<Vec<Stored>, String> {
    let names = volume.fs.list_store().map_err(|error| format!("the version store can't be listed: {error}"))?;
    Ok(names.into_iter().filter_map(Stored::parse).collect())
}

struct Work<'a> {
    context: &'a Context,
    volume: &'a VolumeContext,
    number: u16,
    found: Vec<Stored>,
    which: Which,
    now_millis: u64,
}

impl Work<'_> {
    fn pick(&self, path: &RelativePath) -> Option<&Stored> {
        let of_path = self.found.iter().filter(|stored| stored.is_of(path));
        match self.which {
            Which::Newest => of_path.max_by_key(|stored| (stored.millis, stored.slot)),
            Which::Version(millis) => of_path.filter(|stored| stored.millis == millis).max_by_key(|stored| stored.slot),
            // What had the name then is what was displaced next.
            Which::At(millis) => {
                of_path.filter(|stored| stored.millis > millis).min_by_key(|stored| (stored.millis, stored.slot))
            }
        }
    }

    fn newest_body(&self, path: &RelativePath) -> Result<Option<Body>, String> {
        let Some(key) = Key::of(self.number, path) else { return Ok(Some(Body::Directory)) };
        let row = self.context.registry.get(&key).map_err(|error| error.to_string())?;
        Ok(row.and_then(|row| row.here).map(|here| here.entry.content.body))
    }

    fn has_rows(&self, path: &RelativePath) -> Result<bool, String> {
        let rows = self.context.registry.children(self.number, path, None, 1);
        rows.map(|rows| !rows.is_empty()).map_err(|error| error.to_string())
    }

    /// Every path below a directory that is known and isn't on the disk.
    fn below(&self, directory: &RelativePath, to: &RelativePath, restored: &mut Restored) -> Result<(), String> {
        const ROWS: usize = 256;
        let mut after = None;
        loop {
            let rows = self.context.registry.children(self.number, directory, after.as_ref(), ROWS);
            let rows = rows.map_err(|error| error.to_string())?;
            for (name, row) in &rows {
                let (Ok(path), Ok(target)) = (directory.join(name), to.join(name)) else { continue };
                if self.has_rows(&path)? {
                    self.below(&path, &target, restored)?;
                }
                let is_gone = row.live().is_none();
                if (is_gone || directory != to) && self.pick(&path).is_some() {
                    self.file(&path, &target, restored);
                }
            }
            match rows.last() {
                Some((name, _)) if rows.len() == ROWS => after = Some(name.clone()),
                _ => return Ok(()),
            }
        }
    }

    fn file(&self, path: &RelativePath, to: &RelativePath, restored: &mut Restored) {
        let Some(stored) = self.pick(path) else { return };
        match self.bring_back(stored, to) {
            Ok(bytes) => {
                restored.files += 1;
                restored.bytes += bytes;
            }
            Err(error) if restored.left.len() < 100 => {
                restored.left.push(format!("{path} can't be restored to {to}: {error}"));
            }
            Err(_) => {}
        }
    }

    fn bring_back(&self, stored: &Stored, to: &RelativePath) -> Result<u64, FsError> {
        let Some((parent, name)) = to.split() else { return Err(FsError::Exists) };
        let slot = self.volume.slot();
        let staged = self.stage(stored, slot);
        let published = staged.and_then(|bytes| {
            let directory = self.directory(&parent)?;
            let taken = match directory.stat(name.as_bytes()) {
                Ok(stat) if stat.kind == FileKind::Directory => return Err(FsError::Exists),
                Ok(stat) => {
                    directory.keep_attributes(name.as_bytes(), stat.id, slot)?;
                    Some(identity(&stat))
                }
                Err(FsError::NotFound) => None,
                Err(error) => return Err(error),
            };
            directory.publish(slot, name.as_bytes(), taken.is_some())?;
            Ok((bytes, taken))
        });
        match published {
            Ok((bytes, Some(shown))) => {
                let row = Key::of(self.number, to).and_then(|key| self.context.registry.get(&key).ok().flatten());
                let here = row.and_then(|row| row.here).filter(|here| here.identity == Some(shown));
                let entry = here.as_ref().map(|here| &here.entry);
                store::keep(self.volume, slot, to, self.now_millis, entry, Kind::Superseded).map(|()| bytes)
            }
            Ok((bytes, None)) => Ok(bytes),
            Err(error) => {
                // What can't be dropped now is dropped at the next start.
                let _ = self.volume.fs.drop_slot(slot);
                Err(error)
            }
        }
    }

    /// A copy of a stored version, with its metadata.
    fn stage(&self, stored: &Stored, slot: u64) -> Result<u64, FsError> {
        let from = self.volume.fs.open_stored(&stored.name)?;
        let stat = from.stat()?;
        let file = self.volume.fs.stage_file(slot)?;
        let sparse = stat.blocks * 512 < stat.size;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut offset = 0;
        loop {
            let read = from.read_at(&mut buffer, offset)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            write(&*file, &buffer[..read], offset, sparse)?;
            offset += read as u64;
        }
        if sparse {
            file.set_len(offset)?;
        }
        if self.volume.durability == Durability::Strict {
            file.sync()?;
        }
        if stored.contents != 0 && store::digits(&ContentHash::from(hasher.finalize())) != stored.contents {
            // Not what was stored: somebody wrote through an old descriptor, or the disk is bad.
            tracing::warn!(version = %stored.name, "a stored version isn't what it was when it was displaced");
        }
        let owner = self.volume.change_owner.then_some(stat.owner);
        self.volume.fs.set_slot_metadata(slot, &Metadata { owner, mode: Some(stat.mode), mtime: Some(stat.mtime) })?;
        Ok(offset)
    }

    /// Opens a directory, made again with its old mode and owner if it is gone.
    fn directory(&self, path: &RelativePath) -> Result<Box<dyn Directory + '_>, FsError> {
        match self.volume.fs.open_directory(&path.components()) {
            Err(FsError::NotFound) => {}
            opened => return opened,
        }
        let Some((parent, name)) = path.split() else { return Err(FsError::NotFound) };
        let slot = self.volume.slot();
        self.volume.fs.stage_directory(slot)?;
        let old = Key::of(self.number, path).and_then(|key| self.context.registry.get(&key).ok().flatten());
        let attributes: Option<Attributes> = old.and_then(|row| row.here).map(|here| here.entry.attributes);
        let owner = attributes.and_then(|attributes| attributes.owner).filter(|_| self.volume.change_owner);
        let owner = owner.map(|owner| syncmesh_io::Owner { uid: owner.uid, gid: owner.gid });
        let mode = Some(attributes.map_or(0o755, |attributes| attributes.mode));
        self.volume.fs.set_slot_metadata(slot, &Metadata { owner, mode, mtime: None })?;
        let made = self.directory(&parent).and_then(|parent| match parent.publish(slot, name.as_bytes(), false) {
            Err(FsError::Exists) => Ok(()), // somebody was faster
            published => published.map(drop),
        });
        let _ = self.volume.fs.drop_slot(slot);
        made?;
        self.volume.fs.open_directory(&path.components())
    }
}

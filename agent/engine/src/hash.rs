//! Reading a changed file once: stat, read, stat again. What changed meanwhile is left for later; what may change without
//! showing it is marked.

use crate::job::VolumeContext;
use crate::limits::SETTLE_CAP;
use syncmesh_core::entry::{Body, ContentHash, Unsure};
use syncmesh_io::{Directory, FileKind, FsError, OpenFile, Stat};

const BUFFER_BYTES: usize = 256 * 1024;

/// A file's body, and what the disk showed while it was read.
pub enum Hashed {
    /// It stood still.
    Body(Body, Stat, Unsure),
    /// It was changed or replaced while it was read, is still being made, or isn't a file any more.
    Unstable,
}

/// Hashes the regular file `name`, which showed `before`.
pub fn hash(volume: &VolumeContext, directory: &dyn Directory, name: &[u8], before: &Stat) -> Result<Hashed, FsError> {
    match directory.open(name) {
        Ok(file) => match hash_open(volume, &*file, before)? {
            Hashed::Body(_, stat, unsure) if unsure.open && is_being_made(volume, &*file, &stat) => {
                Ok(Hashed::Unstable)
            }
            hashed => Ok(hashed),
        },
        Err(FsError::NotFound | FsError::WrongKind | FsError::Outside) => Ok(Hashed::Unstable),
        Err(error) => Err(error),
    }
}

/// Hashes a regular file, opened for reading, which showed `before`.
pub fn hash_open(volume: &VolumeContext, file: &dyn OpenFile, before: &Stat) -> Result<Hashed, FsError> {
    // Asked before and after: who maps a file, and lets go of it while we read, may leave no trace in its times.
    let was_open = is_open(volume, file, before);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES.min(before.size as usize + 1)];
    let mut offset = 0;
    loop {
        let read = file.read_at(&mut buffer, offset)?;
        hasher.update(&buffer[..read]);
        offset += read as u64;
        // What has grown is read no further: it is no version, and may be read in pieces of one byte.
        if read < buffer.len() || offset > before.size {
            break;
        }
    }
    let after = file.stat()?;
    if after.kind != FileKind::File || after != *before || offset != after.size {
        return Ok(Hashed::Unstable);
    }
    let body = Body::File {
        size: after.size,
        mtime: after.mtime,
        algorithm: 0,
        hash: ContentHash::from(hasher.finalize()),
        sparse: is_sparse(&after),
        moved_from: None,
    };
    // A change from now on gets the time of now or later. Is that the time that the file shows?
    let racy = !volume.exact_stamps && volume.fs.stamp().is_ok_and(|now| now <= after.ctime);
    Ok(Hashed::Body(body, after, Unsure { racy, open: was_open || is_open(volume, file, &after) }))
}

/// May somebody have it open for writing? Where that can't be told, whoever wrote it lately may.
pub fn is_open(volume: &VolumeContext, file: &dyn OpenFile, stat: &Stat) -> bool {
    match file.has_writers() {
        Ok(open) => open,
        Err(_) => {
            volume.fs.stamp().is_ok_and(|now| now < stat.ctime.saturating_add_unsigned(volume.settings.get().open_wait))
        }
    }
}

/// Was what may be open created just now, and is its maker still at it? Parts of it are no version: they would win over, or
/// lose to, what somebody else has whole. What is written without end is read all the same once it isn't new any more.
fn is_being_made(volume: &VolumeContext, file: &dyn OpenFile, stat: &Stat) -> bool {
    let is_new = |now: i64| now < stat.born.saturating_add(SETTLE_CAP.as_nanos() as i64);
    volume.fs.stamp().is_ok_and(is_new) && file.has_writers() == Ok(true)
}

/// Does the file have holes worth keeping? Small files may lie inside their inode, without a block.
fn is_sparse(stat: &Stat) -> bool {
    stat.size >= 64 * 1024 && stat.blocks * 512 + 4096 <= stat.size
}

//! Reading a changed file once: stat, read, stat again. What changed meanwhile is left for later.

use syncmesh_core::entry::{Body, ContentHash};
use syncmesh_io::{Directory, FileKind, FsError, Stat};

const BUFFER_BYTES: usize = 256 * 1024;

/// A file's body, and what the disk showed while it was read.
pub enum Hashed {
    /// It stood still.
    Body(Body, Stat),
    /// It was changed or replaced while it was read, or isn't a file any more.
    Unstable,
}

/// Hashes the regular file `name`, which showed `before`.
pub fn hash(directory: &dyn Directory, name: &[u8], before: &Stat) -> Result<Hashed, FsError> {
    let file = match directory.open(name) {
        Ok(file) => file,
        Err(FsError::NotFound | FsError::WrongKind | FsError::Outside) => return Ok(Hashed::Unstable),
        Err(error) => return Err(error),
    };
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES.min(before.size as usize + 1)];
    let mut offset = 0;
    loop {
        let read = file.read_at(&mut buffer, offset)?;
        hasher.update(&buffer[..read]);
        offset += read as u64;
        if read < buffer.len() {
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
    Ok(Hashed::Body(body, after))
}

/// Does the file have holes worth keeping? Small files may lie inside their inode, without a block.
fn is_sparse(stat: &Stat) -> bool {
    stat.size >= 64 * 1024 && stat.blocks * 512 + 4096 <= stat.size
}

//! Fetching contents that didn't ride along: blocks are asked for in order, staged and hashed as they come, and verified
//! as a whole against the announced hash before anything is published.

use crate::contents;
use crate::job::VolumeContext;
use crate::registry::{Key, Registry, RegistryError};
use crate::space::Room;
use crate::stage::{open_part, write};
use syncmesh_core::entry::{ContentHash, Row};
use syncmesh_core::path::RelativePath;
use syncmesh_io::FsError;
use syncmesh_protocol::message::Refusal;

/// Set in the number of slots into which fetches assemble.
pub const FETCH_SLOT: u64 = 1 << 63;

/// A peer asked for a part of a file.
pub struct ReadBlock {
    /// Which volume.
    pub volume: u16,
    /// For which session.
    pub session: u64,
    /// The request's id.
    pub id: u64,
    /// Whose contents.
    pub path: RelativePath,
    /// Which contents.
    pub hash: ContentHash,
    /// First byte.
    pub offset: u64,
    /// Bytes at most.
    pub length: u32,
}

/// The answer.
pub struct BlockRead {
    /// For which session.
    pub session: u64,
    /// Which volume.
    pub volume: u16,
    /// The request's id.
    pub id: u64,
    /// The request's offset.
    pub offset: u64,
    /// The bytes.
    pub result: Result<Vec<u8>, Refusal>,
}

impl ReadBlock {
    /// Reads. Only contents that a version of the path has, or had, are given out.
    pub fn run(self, volume: &VolumeContext, registry: &Registry) -> Result<BlockRead, RegistryError> {
        let key = Key::of(self.volume, &self.path);
        let found = match &key {
            Some(key) => contents::find(volume, registry, key, self.hash)?,
            None => None,
        };
        let result = match found {
            None => Err(Refusal::Changed),
            Some(found) => found.read(volume, self.offset, self.length as usize).map_err(|error| match error {
                FsError::NotFound | FsError::Outside | FsError::WrongKind => Refusal::Changed,
                _ => Refusal::Unreadable,
            }),
        };
        Ok(BlockRead { session: self.session, volume: self.volume, id: self.id, offset: self.offset, result })
    }
}

/// Put a block that came into its slot.
pub struct StageBlock {
    /// Which volume.
    pub volume: u16,
    /// Which fetch.
    pub fetch: u64,
    /// The slot; made with the first block.
    pub slot: u64,
    /// Where the block begins.
    pub offset: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The hash so far; travels with the blocks, which come in order.
    pub hasher: Box<blake3::Hasher>,
    /// The file's size, if this is its last block.
    pub last: Option<u64>,
    /// The file has holes.
    pub sparse: bool,
}

/// A block is staged.
pub struct StagedBlock {
    /// Which fetch.
    pub fetch: u64,
    /// The hash so far.
    pub hasher: Box<blake3::Hasher>,
    /// The hash of all, after the last block; or why it couldn't be staged.
    pub result: Result<Option<ContentHash>, FsError>,
}

impl StageBlock {
    /// Writes and hashes.
    pub fn run(mut self, volume: &VolumeContext) -> StagedBlock {
        self.hasher.update(&self.bytes);
        let result = self.write(volume).map(|()| self.last.map(|_| ContentHash::from(self.hasher.finalize())));
        StagedBlock { fetch: self.fetch, hasher: self.hasher, result }
    }

    fn write(&self, volume: &VolumeContext) -> Result<(), FsError> {
        if !Room::default().take(volume, self.bytes.len() as u64) {
            return Err(FsError::NoSpace);
        }
        let file = open_part(volume, self.slot, self.offset)?;
        write(&*file, &self.bytes, self.offset, self.sparse)?;
        match self.last {
            Some(size) if self.sparse => file.set_len(size),
            _ => Ok(()),
        }
    }
}

/// What a row wants and could be fetched: the file's hash, size, and whether it has holes.
pub fn wanted_file(row: &Row) -> Option<(ContentHash, u64, bool)> {
    use syncmesh_core::entry::Body;
    let entry = row.wanted.as_ref()?.entries.first()?;
    match &entry.content.body {
        Body::File { hash, size, sparse, .. } => Some((*hash, *size, *sparse)),
        _ => None,
    }
}

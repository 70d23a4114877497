//! Assembling a version beside the volume, with its metadata, before it gets its name.

use crate::job::{VolumeContext, identity};
use syncmesh_core::entry::{Attributes, Body, ContentHash, Identity};
use syncmesh_io::{Directory, FileId, FsError, Metadata, OpenFile, Owner};

/// Where a version's contents come from.
pub enum Source {
    /// They aren't here: directories, links, deletions and empty files need none.
    None,
    /// They came with the announcement.
    Inline(Vec<u8>),
    /// They were fetched into this slot and verified.
    Slot(u64),
    /// A publish displaced them: what lies in this slot exists nowhere else, and must get a name.
    Displaced(u64),
}

impl Source {
    /// The slot that it occupies.
    pub fn slot(&self) -> Option<u64> {
        match self {
            Self::Slot(slot) | Self::Displaced(slot) => Some(*slot),
            Self::None | Self::Inline(_) => None,
        }
    }
}

/// What a version is about to replace. Its extended attributes, ACL and label are its owner's, on this node, and stay with the
/// name.
pub struct Replaced<'a> {
    /// The directory.
    pub directory: &'a dyn Directory,
    /// The name.
    pub name: &'a [u8],
    /// What has the name.
    pub id: FileId,
}

impl Replaced<'_> {
    fn keep_attributes(&self, slot: u64) -> Result<(), FsError> {
        match self.directory.keep_attributes(self.name, self.id, slot) {
            // Somebody replaced it meanwhile, which the exchange brings to light.
            Err(FsError::NotFound | FsError::Collision) => Ok(()),
            result => result,
        }
    }
}

/// Why a version can't be staged.
pub enum StageError {
    /// Its contents aren't here.
    NoContents,
    /// The contents that came aren't what was announced.
    Mismatch,
    /// The disk refused.
    Disk(FsError),
}

impl From<FsError> for StageError {
    fn from(error: FsError) -> Self {
        Self::Disk(error)
    }
}

/// The metadata that an entry declares, as far as this process may set it.
pub fn metadata(volume: &VolumeContext, body: &Body, attributes: &Attributes) -> Metadata {
    let owner = attributes.owner.filter(|_| volume.change_owner).map(|owner| Owner { uid: owner.uid, gid: owner.gid });
    match body {
        Body::File { mtime, .. } => Metadata { owner, mode: Some(attributes.mode), mtime: Some(*mtime) },
        Body::Symlink { mtime, .. } => Metadata { owner, mode: None, mtime: Some(*mtime) },
        Body::Directory => Metadata { owner, mode: Some(attributes.mode), mtime: None },
        Body::Tombstone { .. } => Metadata::default(),
    }
}

/// Makes a version in a slot: contents first, verified, then what stays of the file that it replaces, then owner, mode and
/// time. Returns the slot and what it shows. After an error nothing is left in a slot of its own making.
pub fn stage(
    volume: &VolumeContext,
    body: &Body,
    attributes: &Attributes,
    source: &Source,
    replaced: Option<&Replaced<'_>>,
) -> Result<(u64, Identity), StageError> {
    let slot = source.slot().unwrap_or_else(|| volume.slot());
    let fs = &*volume.fs;
    let made = match (body, source) {
        (Body::File { .. }, Source::Slot(_) | Source::Displaced(_)) => Ok(()),
        (Body::File { size, hash, sparse, .. }, source) => {
            let contents = match source {
                Source::Inline(contents) => contents.as_slice(),
                _ if *size == 0 => &[],
                _ => return Err(StageError::NoContents),
            };
            if ContentHash::of(contents) != *hash {
                return Err(StageError::Mismatch);
            }
            write_file(volume, slot, contents, *sparse)
        }
        (Body::Symlink { target, .. }, Source::None | Source::Inline(_)) => fs.stage_symlink(slot, target),
        (Body::Directory, Source::None | Source::Inline(_)) => fs.stage_directory(slot),
        (Body::Symlink { .. } | Body::Directory, _) => Ok(()),
        (Body::Tombstone { .. }, _) => Err(FsError::WrongKind),
    };
    let kept = match (body, source) {
        // What a user wrote here has the attributes that its user gave it.
        (_, Source::Displaced(_)) => None,
        (Body::File { .. }, _) => replaced,
        (Body::Symlink { .. } | Body::Directory | Body::Tombstone { .. }, _) => None,
    };
    let shown = made
        .and_then(|()| kept.map_or(Ok(()), |replaced| replaced.keep_attributes(slot)))
        .and_then(|()| fs.set_slot_metadata(slot, &metadata(volume, body, attributes)))
        .and_then(|()| fs.stat_slot(slot));
    match shown {
        Ok(stat) => Ok((slot, identity(&stat))),
        Err(error) => {
            if source.slot().is_none() {
                let _ = fs.drop_slot(slot);
            }
            Err(error.into())
        }
    }
}

fn write_file(volume: &VolumeContext, slot: u64, contents: &[u8], sparse: bool) -> Result<(), FsError> {
    let file = volume.fs.stage_file(slot)?;
    write(&*file, contents, 0, sparse)?;
    if sparse { file.set_len(contents.len() as u64) } else { Ok(()) }
}

/// Opens a slot for the part that begins at an offset; made with the first.
pub fn open_part(volume: &VolumeContext, slot: u64, offset: u64) -> Result<Box<dyn OpenFile + '_>, FsError> {
    if offset == 0 { volume.fs.stage_file(slot) } else { volume.fs.resume_slot(slot) }
}

/// Writes contents at an offset; of a sparse file only the pages that aren't zero.
pub fn write(file: &dyn OpenFile, contents: &[u8], offset: u64, sparse: bool) -> Result<(), FsError> {
    if !sparse {
        return file.write_at(contents, offset);
    }
    const PAGE: usize = 4096;
    for (number, page) in contents.chunks(PAGE).enumerate() {
        if page.iter().any(|&byte| byte != 0) {
            file.write_at(page, offset + (number * PAGE) as u64)?;
        }
    }
    Ok(())
}

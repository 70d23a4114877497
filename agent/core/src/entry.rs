//! What is declared of a path, and what a replica keeps about it: entries and rows, in their final encoding.
//!
//! Encoded with postcard behind one format byte. Fields whose behaviour comes later (other hashes) have their place already,
//! so that a row written today can be read then.

use crate::clock::Hlc;
use crate::limits::{LINK_TARGET_BYTES, LOSERS};
use crate::path::RelativePath;
use crate::version::{Dot, ReplicaId, Vector};
use serde::{Deserialize, Serialize};
use std::fmt;

/// First byte of an encoded row. A reader refuses what it doesn't know.
pub const ROW_FORMAT: u8 = 1;

/// A BLAKE3 hash of a file's contents.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// Stands for contents that nobody could read: no contents have it.
    pub const UNKNOWN: Self = Self([0; 32]);

    /// Hashes contents that are in memory.
    pub fn of(contents: &[u8]) -> Self {
        Self(*blake3::hash(contents).as_bytes())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<blake3::Hash> for ContentHash {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for ContentHash {
    /// The first eight hexadecimal digits, as conflict names and logs have them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// When and by whom a part of an entry was written. The order (time, then replica, then counter) decides between
/// concurrent versions alike on all nodes (I7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Stamp {
    /// When.
    pub hlc: Hlc,
    /// By whom, and which of their versions.
    pub dot: Dot,
}

/// Contents of a path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Body {
    /// The path was deleted.
    Tombstone {
        /// What was deleted (see [`Body::recognised_by`]), so that a rebuilt registry recognises it.
        deleted: Option<ContentHash>,
        /// Where a user moved it, if that was seen: edits that didn't know of it follow (see [`crate::follow`]).
        moved_to: Option<MovedTo>,
        /// Which replica's user approved a held deletion.
        approved_by: Option<ReplicaId>,
    },
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// Nanoseconds since 1970.
        mtime: i64,
        /// Which function made the hash (0: BLAKE3).
        algorithm: u8,
        /// Hash of all bytes.
        hash: ContentHash,
        /// It has holes, which stay holes.
        sparse: bool,
        /// The name under which it was edited, if it followed a rename from there.
        moved_from: Option<RelativePath>,
    },
    /// A symbolic link, which is never followed or interpreted.
    Symlink {
        /// Its target's bytes, 1 to 4,095.
        target: Vec<u8>,
        /// Nanoseconds since 1970.
        mtime: i64,
    },
    /// A directory. Its times aren't synchronised.
    Directory,
}

/// Where contents were moved.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MovedTo {
    /// Their new name.
    pub path: RelativePath,
    /// The version that was moved: whoever edits the old name over it has seen all that the new name has.
    pub version: Dot,
    /// The version whose mode and owner were moved with it.
    pub attributes: Dot,
}

impl Body {
    /// A plain deletion of what was there.
    pub fn tombstone(deleted: Option<ContentHash>) -> Self {
        Self::Tombstone { deleted, moved_to: None, approved_by: None }
    }

    /// Does the path exist with this body?
    pub fn is_live(&self) -> bool {
        !matches!(self, Self::Tombstone { .. })
    }

    /// What a deletion of it remembers: a file's hash, and for links and directories a hash that no file has. None of a
    /// deletion.
    pub fn recognised_by(&self) -> Option<ContentHash> {
        match self {
            Self::File { hash, .. } => Some(*hash),
            Self::Symlink { target, .. } => Some(ContentHash(blake3::derive_key("syncmesh deleted link", target))),
            Self::Directory => Some(ContentHash(blake3::derive_key("syncmesh deleted directory", b""))),
            Self::Tombstone { .. } => None,
        }
    }

    /// The file's hash, if it is one.
    pub fn hash(&self) -> Option<ContentHash> {
        match self {
            Self::File { hash, .. } => Some(*hash),
            _ => None,
        }
    }

    /// The file's size in bytes; 0 for all else.
    pub fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            _ => 0,
        }
    }

    /// Would a reader find the same? Times don't count.
    pub fn same_contents(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tombstone { .. }, Self::Tombstone { .. }) | (Self::Directory, Self::Directory) => true,
            (
                Self::File { hash, size, algorithm, .. },
                Self::File { hash: other_hash, size: other_size, algorithm: other_algorithm, .. },
            ) => (hash, size, algorithm) == (other_hash, other_size, other_algorithm),
            (Self::Symlink { target, .. }, Self::Symlink { target: other, .. }) => target == other,
            _ => false,
        }
    }

    /// Who keeps the name when versions are concurrent: a directory before a file or link, anything before a deletion.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Directory => 2,
            Self::File { .. } | Self::Symlink { .. } => 1,
            Self::Tombstone { .. } => 0,
        }
    }
}

/// How contents came into the mesh: what may be assumed of them when they meet others that their writer never saw. Where two
/// replicas know different things of one version the later in this list is true.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub enum Origin {
    /// Somebody wrote them.
    #[default]
    Written,
    /// They lay in a directory that was a replica before, and whose registry was lost: what a deletion elsewhere names is
    /// what was deleted, and not a new file.
    Returned,
    /// They lay in a directory that became a replica, and whose node names another one as its seed: they lose against any
    /// that don't.
    Yielding,
    /// They lost a conflict that somebody has decided so: they stand beside the winner, as a conflict copy.
    Beside,
}

/// A body and when it was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Content {
    /// Who wrote it, when.
    pub stamp: Stamp,
    /// What was written.
    pub body: Body,
    /// How it came into the mesh.
    pub origin: Origin,
}

impl Content {
    /// Is it the same version? Two replicas may know different things of where it came from. A number alone doesn't tell:
    /// two copies of one machine that run at the same time may give it twice.
    pub fn is_version(&self, other: &Self) -> bool {
        self.stamp == other.stamp && self.body == other.body
    }
}

/// Owner and group, by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Mode and owner, which change apart from contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attributes {
    /// Who set them, when.
    pub stamp: Stamp,
    /// Permission bits and sticky (0o1777); setuid and setgid are never synchronised.
    pub mode: u32,
    /// Owner; `None` where the maker couldn't know or mustn't say.
    pub owner: Option<Owner>,
}

/// What the mesh declares of one path.
///
/// The version that it is has no number of its own: it is `content.stamp.dot` or `attributes.stamp.dot`, whichever is
/// newer, and a join of two versions makes none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// All versions of the path that this entry includes or supersedes.
    pub vector: Vector,
    /// The contents that have the name.
    pub content: Content,
    /// Contents that were concurrent with them and that nothing has superseded since; highest first, at most 8. Keeping
    /// them is what makes [`crate::decide::merge`] associative: a deletion of the winner must not take with it a
    /// version that its maker never saw.
    pub losers: Vec<Content>,
    /// Mode and owner.
    pub attributes: Attributes,
}

impl Entry {
    /// Does the path exist?
    pub fn is_live(&self) -> bool {
        self.content.body.is_live()
    }

    /// The newest stamp in it.
    pub fn newest(&self) -> Stamp {
        self.content.stamp.max(self.attributes.stamp)
    }

    /// Checks what an encoding can't: stamps inside the vector, limits of lists and targets. Entries of peers go
    /// through it before anything else.
    pub fn validate(&self) -> Result<(), EntryError> {
        let contents = || std::iter::once(&self.content).chain(&self.losers);
        if self.losers.len() > LOSERS {
            return Err(EntryError::TooManyLosers);
        }
        for content in contents() {
            if !self.vector.includes(content.stamp.dot) || content.stamp.dot.counter == 0 {
                return Err(EntryError::StampOutsideVector);
            }
            match &content.body {
                Body::Symlink { target, .. } => {
                    if target.is_empty() || target.len() > LINK_TARGET_BYTES || target.contains(&0) {
                        return Err(EntryError::LinkTarget);
                    }
                }
                Body::File { algorithm, size, .. } => {
                    if *algorithm != 0 {
                        return Err(EntryError::UnknownHash);
                    }
                    if i64::try_from(*size).is_err() {
                        return Err(EntryError::Size);
                    }
                }
                Body::Tombstone { moved_to: Some(moved), .. } if !self.vector.includes(moved.version) => {
                    return Err(EntryError::StampOutsideVector);
                }
                Body::Tombstone { .. } | Body::Directory => {}
            }
        }
        if !self.vector.includes(self.attributes.stamp.dot) {
            return Err(EntryError::StampOutsideVector);
        }
        if self.attributes.mode & !0o1777 != 0 {
            return Err(EntryError::Mode);
        }
        Ok(())
    }
}

/// Why an entry can't be what a correct replica made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryError {
    /// More than 8 concurrent contents.
    TooManyLosers,
    /// A part was written by a version that the vector lacks.
    StampOutsideVector,
    /// A link without target, or one that is too long or has a NUL byte.
    LinkTarget,
    /// A hash function that this release doesn't know.
    UnknownHash,
    /// A size no file can have.
    Size,
    /// Mode bits beyond permissions and sticky.
    Mode,
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooManyLosers => "an entry has more than 8 concurrent contents",
            Self::StampOutsideVector => "an entry's stamp isn't in its vector",
            Self::LinkTarget => "a link's target is empty, too long or contains a NUL byte",
            Self::UnknownHash => "an entry's hash function is unknown to this release",
            Self::Size => "a file's size is beyond what files can have",
            Self::Mode => "an entry's mode has bits beyond permissions and sticky",
        })
    }
}

impl std::error::Error for EntryError {}

/// What this disk showed of a name when we last looked or published: as long as `stat` says the same, nothing happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Inode number (the device is the volume's).
    pub inode: u64,
    /// Bytes; 0 for directories.
    pub size: u64,
    /// Nanoseconds since 1970; of directories when they were made.
    pub mtime: i64,
    /// Nanoseconds since 1970; 0 for directories.
    pub ctime: i64,
    /// Permission bits as they are (0o7777).
    pub mode: u32,
    /// Owner as it is.
    pub owner: Owner,
}

impl Identity {
    /// Is it the same but for the ctime, which exchanges, renames and second names move?
    pub fn same_but_ctime(&self, other: &Self) -> bool {
        Self { ctime: other.ctime, ..*self } == *other
    }

    /// Is it the same inode? Inode numbers are used again at once; of directories the time of their birth tells them apart.
    pub fn same_directory(&self, other: &Self) -> bool {
        (self.inode, self.mtime) == (other.inode, other.mtime)
    }
}

/// What is published on this disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Here {
    /// The entry.
    pub entry: Entry,
    /// What the disk showed; `None` for a tombstone.
    pub identity: Option<Identity>,
    /// Why it may have other contents although the disk shows the same.
    pub unsure: Unsure,
}

/// Why a file may have other contents than those that were hashed although its size and times are the same.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Unsure {
    /// It was hashed so soon after its last change that a later one might not show: hash it again.
    pub racy: bool,
    /// A program had it open for writing when it was hashed: hash it again when that is closed.
    pub open: bool,
}

impl Unsure {
    /// Is there any reason?
    pub fn any(self) -> bool {
        self.racy || self.open
    }
}

/// Why something that is known isn't published here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Why {
    /// Its contents, or the directory that it belongs to, aren't here yet.
    Fetching,
    /// A bulk deletion that waits for approval.
    Held,
    /// The selection leaves it out.
    Unselected,
    /// After power loss, until peers were asked.
    Suspect,
    /// The disk is full.
    NoSpace,
    /// A conflict that a person decides.
    Conflict,
    /// The file system can't hold the name beside another.
    Collision,
}

/// What is known and not here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wanted {
    /// The entry; several only under the policy `manual`.
    pub entries: Vec<Entry>,
    /// Why it isn't here.
    pub why: Why,
}

/// What a replica keeps about one path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Its place in this replica's own sequence of changes, for peers that read along.
    pub sequence: u64,
    /// What is published on this disk.
    pub here: Option<Here>,
    /// What is known and not here.
    pub wanted: Option<Wanted>,
}

impl Row {
    /// The format byte and the row.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![ROW_FORMAT]).expect("a row has no type that postcard refuses")
    }

    /// Reads what [`Row::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        match bytes.split_first() {
            Some((&ROW_FORMAT, body)) => postcard::from_bytes(body).map_err(|_| RowError::Damaged),
            Some((&format, _)) => Err(RowError::Newer { format }),
            None => Err(RowError::Damaged),
        }
    }

    /// All entries that are known of the path.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.here.iter().map(|here| &here.entry).chain(self.wanted.iter().flat_map(|wanted| &wanted.entries))
    }

    /// The entry over which what the disk shows was written: what is published here, or was until its deletion by a user
    /// here was held.
    pub fn base(&self) -> Option<&Entry> {
        let held = self.wanted.as_ref().filter(|wanted| self.here.is_none() && wanted.why == Why::Held);
        match held {
            Some(held) => held.entries.first(),
            None => self.here.as_ref().map(|here| &here.entry),
        }
    }

    /// Is the path published here, and not deleted?
    pub fn live(&self) -> Option<&Here> {
        self.here.as_ref().filter(|here| here.entry.is_live())
    }
}

/// Why an encoded row can't be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowError {
    /// Written by a newer release.
    Newer {
        /// Its format byte.
        format: u8,
    },
    /// Not a row.
    Damaged,
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { format } => {
                write!(f, "a row has format {format}, which a newer release wrote: install that release again")
            }
            Self::Damaged => f.write_str("a row can't be read: the registry is damaged"),
        }
    }
}

impl std::error::Error for RowError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_row_or_a_row_but_never_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Row::decode(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = ROW_FORMAT;
            }
            if let Ok(row) = Row::decode(&bytes) {
                prop_assert_eq!(Row::decode(&row.encode()).unwrap(), row);
            }
        }
    }

    #[test]
    fn a_row_of_a_newer_release_is_refused_with_its_format() {
        assert_eq!(Row::decode(&[9, 1, 2]), Err(RowError::Newer { format: 9 }));
    }
}

//! The file-system calls that jobs make: blocking, on one volume, beneath a directory that is held open.
//!
//! Names are single components as bytes; a [`Directory`] is reached from the root component by component without
//! following links or leaving the mount, and everything else is relative to such a handle, so nothing outside of the
//! volume can be named. A name stands for itself alone, also where the file system ignores case or Unicode form: what such a
//! name leads to under another spelling isn't there ([`FsError::NotFound`]), or is in the way ([`FsError::Collision`]). Slots are small numbers that name places in the volume's meta directory, on the same mount as
//! the data, where contents are assembled before and kept after they were visible.

use crate::{Log, Watcher};
use std::fmt;

/// What kind of thing a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A socket, FIFO or device: never synchronised.
    Special,
}

/// Owner and group by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Identity of an inode on its mount: device and inode number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileId {
    /// Device number (major and minor packed as the system does).
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// What `statx` says. Times are nanoseconds since 1970 and may be negative.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Device and inode.
    pub id: FileId,
    /// Bytes.
    pub size: u64,
    /// 512-byte blocks that are allocated; less than the size needs means holes.
    pub blocks: u64,
    /// Permission bits, with setuid, setgid and sticky (0o7777).
    pub mode: u32,
    /// Owner and group.
    pub owner: Owner,
    /// Last change of contents.
    pub mtime: i64,
    /// Last change of the inode, set by the system alone.
    pub ctime: i64,
    /// When the inode was made; 0 where the file system doesn't say. Inode numbers are used again, a pair of both isn't.
    pub born: i64,
    /// Number of names.
    pub links: u32,
}

/// What a name gets besides contents. `None` leaves that part as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Metadata {
    /// Owner and group.
    pub owner: Option<Owner>,
    /// Permission bits (0o7777); ignored for links.
    pub mode: Option<u32>,
    /// Modification time in nanoseconds since 1970.
    pub mtime: Option<i64>,
}

/// One name in a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// The name, without `/` and NUL.
    pub name: Vec<u8>,
    /// What the listing says it is; `None` where the file system doesn't say.
    pub kind: Option<FileKind>,
}

/// What came out of a place when something was put there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Displaced {
    /// The name was free.
    Nothing,
    /// What had the name is now in the slot.
    InSlot(Stat),
}

/// A watched directory's number, as events name it.
pub type WatchDescriptor = i32;

/// What a volume's file system can do, tried at start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Device of the root.
    pub device: u64,
    /// Name of the file system's type, such as `ext4`, or its magic number in hexadecimal.
    pub file_system: String,
    /// Two names can be exchanged atomically. Without it a volume can't be written.
    pub exchange: bool,
    /// A name can be given without replacing another.
    pub no_replace: bool,
    /// This process may give files to other users.
    pub change_owner: bool,
    /// Whoever has a file open for writing can be told, see [`OpenFile::has_writers`].
    pub leases: bool,
    /// Once somebody has looked at a file's times, its next change shows in them, however soon it comes. Kernels before 6.13
    /// stamp by a clock that ticks every 1 to 10 ms.
    pub exact_stamps: bool,
    /// What is set of a file's mode and modification time is shown just so. FAT has neither modes nor nanoseconds.
    pub exact_metadata: bool,
    /// The mount's number. Another one than before means that the file system was taken down in between, in order or not.
    pub mount: u64,
}

/// How much room a file system has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Bytes that anybody may still fill.
    pub free_bytes: u64,
    /// Bytes in total.
    pub total_bytes: u64,
}

/// Why a file-system call failed, by what the caller can do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FsError {
    /// The name, or a directory on the way to it, isn't there.
    NotFound,
    /// The name is taken.
    Exists,
    /// Another name is taken that this file system takes for the same, or it can't hold such a name at all.
    Collision,
    /// A directory still has names in it.
    NotEmpty,
    /// A component on the way is a link, a file, or another mount: we don't go there.
    Outside,
    /// It is another kind of thing than the call is for.
    WrongKind,
    /// The disk or quota is full.
    NoSpace,
    /// We may not.
    Denied,
    /// The file system is read-only.
    ReadOnly,
    /// The limit on watches or open descriptors is reached.
    Limit,
    /// Another reason, as the system numbers it: treat what we know as unknown.
    Os(i32),
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no such file or directory"),
            Self::Exists => f.write_str("the name is taken"),
            Self::Collision => f.write_str(
                "this file system takes the name for another one that is there (they differ in case or Unicode form only), or can't hold it",
            ),
            Self::NotEmpty => f.write_str("the directory isn't empty"),
            Self::Outside => f.write_str("a link, a file or another mount is in the way"),
            Self::WrongKind => f.write_str("it is another kind of file"),
            Self::NoSpace => f.write_str("no space left"),
            Self::Denied => f.write_str("permission denied"),
            Self::ReadOnly => f.write_str("the file system is read-only"),
            Self::Limit => f.write_str("the limit on watches or descriptors is reached"),
            Self::Os(code) => write!(f, "{}", std::io::Error::from_raw_os_error(*code)),
        }
    }
}

impl std::error::Error for FsError {}

/// One volume: the tree of its users, and beside it the meta directory with slots and store.
pub trait Fs: Send + Sync {
    /// Tries what the file system can do, and makes the meta directory if it isn't there.
    fn probe(&self) -> Result<Probe, FsError>;

    /// How much room there is now.
    fn space(&self) -> Result<Space, FsError>;

    /// Opens a directory below the root; no component at all opens the root itself. Links, other mounts and `..` end
    /// in [`FsError::Outside`].
    fn open_directory(&self, components: &[&[u8]]) -> Result<Box<dyn Directory + '_>, FsError>;

    /// Does the path at which the volume was opened still lead to its root? Not if that was moved away, replaced, or
    /// unmounted, although it can be worked with as before.
    fn is_in_place(&self) -> Result<bool, FsError>;

    /// Reads the root's marker, `None` where there is none.
    fn read_marker(&self) -> Result<Option<Vec<u8>>, FsError>;

    /// Writes the root's marker durably, replacing the old one atomically.
    fn write_marker(&self, contents: &[u8]) -> Result<(), FsError>;

    /// Makes an empty regular file in a slot, open for writing, mode 0600. A file left there is replaced.
    fn stage_file(&self, slot: u64) -> Result<Box<dyn OpenFile + '_>, FsError>;

    /// Opens the regular file in a slot for reading.
    fn open_slot(&self, slot: u64) -> Result<Box<dyn OpenFile + '_>, FsError>;

    /// Opens a file that is being staged, to go on with it.
    fn resume_slot(&self, slot: u64) -> Result<Box<dyn OpenFile + '_>, FsError>;

    /// Makes an empty directory in a slot, mode 0700.
    fn stage_directory(&self, slot: u64) -> Result<(), FsError>;

    /// Makes a symbolic link in a slot. The target isn't interpreted.
    fn stage_symlink(&self, slot: u64, target: &[u8]) -> Result<(), FsError>;

    /// Sets owner, then mode, then time of what lies in a slot (a link's own, never its target's).
    fn set_slot_metadata(&self, slot: u64, metadata: &Metadata) -> Result<(), FsError>;

    /// What lies in a slot.
    fn stat_slot(&self, slot: u64) -> Result<Stat, FsError>;

    /// The slots that are in use, in no order.
    fn list_slots(&self) -> Result<Vec<u64>, FsError>;

    /// Removes what lies in a slot for good: staged data, or an empty directory. Never what users wrote, unless it has
    /// another name.
    fn drop_slot(&self, slot: u64) -> Result<(), FsError>;

    /// Moves what lies in a slot into the version store under this name, where [`Fs::list_store`] finds it.
    fn store_slot(&self, slot: u64, name: &str) -> Result<(), FsError>;

    /// Moves a stored version back into a slot, which must be empty.
    fn take_stored(&self, name: &str, slot: u64) -> Result<(), FsError>;

    /// Names in the version store, in no order.
    fn list_store(&self) -> Result<Vec<String>, FsError>;

    /// What a stored version is.
    fn stat_stored(&self, name: &str) -> Result<Stat, FsError>;

    /// Opens a stored version, if it is a regular file, for reading.
    fn open_stored(&self, name: &str) -> Result<Box<dyn OpenFile + '_>, FsError>;

    /// Removes a stored version for good.
    fn drop_stored(&self, name: &str) -> Result<(), FsError>;

    /// What a change that is made now gets as its time, in nanoseconds since 1970, by the file system's own clock.
    fn stamp(&self) -> Result<i64, FsError>;

    /// The source of this volume's events, for [`crate::Operation::Watch`].
    fn watch_source(&self) -> Watcher;

    /// Makes durable all that was done to the file system so far. Reports what couldn't be written since the last call, once.
    fn sync(&self) -> Result<(), FsError>;

    /// The same, and takes no report away from [`Fs::sync`]: for what is staged and must be on the disk now.
    fn write_out(&self) -> Result<(), FsError>;
}

/// A directory that is held open. It stays the same directory when it is renamed.
pub trait Directory {
    /// Starts to watch this directory's names. Watching twice gives the same number.
    fn watch(&self) -> Result<WatchDescriptor, FsError>;

    /// All names but `.`, `..` and, in the root, the meta directory; complete or an error, in no order.
    fn list(&self) -> Result<Vec<DirEntry>, FsError>;

    /// What the directory itself is.
    fn stat_self(&self) -> Result<Stat, FsError>;

    /// What a name stands for, without following links. [`FsError::Collision`] if only another spelling of it is there.
    fn stat(&self, name: &[u8]) -> Result<Stat, FsError>;

    /// Opens a regular file for reading.
    fn open(&self, name: &[u8]) -> Result<Box<dyn OpenFile + '_>, FsError>;

    /// A link's target.
    fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, FsError>;

    /// Gives what lies in a slot this name. What had the name before is in the slot afterwards: one atomic exchange.
    /// Fails with [`FsError::Exists`] if the name is taken and `replace` is false, with [`FsError::NotFound`] if this
    /// directory was removed, with [`FsError::Collision`] if another spelling of the name is taken.
    fn publish(&self, slot: u64, name: &[u8], replace: bool) -> Result<Displaced, FsError>;

    /// Takes a name away: what had it is in the slot, which must be empty, afterwards.
    fn withdraw(&self, name: &[u8], slot: u64) -> Result<Stat, FsError>;

    /// Gives the file or link that `name` stands for a second name in the same directory, if that is free.
    fn link(&self, name: &[u8], other: &[u8]) -> Result<(), FsError>;

    /// Removes an empty directory.
    fn remove_directory(&self, name: &[u8]) -> Result<(), FsError>;

    /// Gives the file that lies in a slot the extended attributes, ACL and label of the file that `name` stands for, if that is
    /// still the inode `id`, as far as this process may. The slot's mode stays, and bounds the ACL. What is about the contents
    /// isn't taken over: file capabilities are privileges of the old ones, signatures are theirs. Kinds other than files, and
    /// file systems without attributes, have nothing to give.
    fn keep_attributes(&self, name: &[u8], id: FileId, slot: u64) -> Result<(), FsError>;

    /// Sets metadata of what a name stands for, if it is still the inode `id`, on a pinned descriptor.
    fn set_metadata(&self, name: &[u8], id: FileId, metadata: &Metadata) -> Result<Stat, FsError>;
}

/// A regular file that is open.
pub trait OpenFile {
    /// Reads at an offset until the buffer is full or the file ends; returns the bytes read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, FsError>;

    /// Writes all bytes at an offset.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), FsError>;

    /// Sets the length; what is added is a hole.
    fn set_len(&self, bytes: u64) -> Result<(), FsError>;

    /// Makes the file's data durable.
    fn sync(&self) -> Result<(), FsError>;

    /// Has memory forget what it has of the file's data and doesn't have to write: what is read next is what the disk has.
    fn forget_cached(&self) -> Result<(), FsError>;

    /// Does anybody have the file open for writing, or mapped so that it can be written? Ask a file that was opened for
    /// reading: one's own descriptor counts, too. An error where this can't be told.
    fn has_writers(&self) -> Result<bool, FsError>;

    /// What the open file is now.
    fn stat(&self) -> Result<Stat, FsError>;

    /// Sets owner, then mode, then time, on the open descriptor.
    fn set_metadata(&self, metadata: &Metadata) -> Result<(), FsError>;
}

/// Small files of the agent's own in its state directory: the journals. The registry has a file of its own.
pub trait StateFiles: Send + Sync {
    /// Names of all files.
    fn list(&self) -> Result<Vec<String>, FsError>;

    /// Reads a file whole.
    fn read(&self, name: &str) -> Result<Vec<u8>, FsError>;

    /// Opens a file for appending, making it if it isn't there, and keeps it open until [`StateFiles::close_log`].
    fn open_log(&self, name: &str) -> Result<Log, FsError>;

    /// Appends to an open log, not durably. Calls from several threads, and [`crate::Operation::Append`], don't mix
    /// their bytes.
    fn append(&self, log: Log, bytes: &[u8]) -> Result<(), FsError>;

    /// Closes a log.
    fn close_log(&self, log: Log);

    /// Writes a file durably, replacing it atomically.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FsError>;

    /// Removes a file; it may be gone already.
    fn remove(&self, name: &str) -> Result<(), FsError>;
}

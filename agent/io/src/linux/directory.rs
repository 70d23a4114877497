//! A directory that is held open, and the way there.

use super::attributes;
use super::file::LinuxFile;
use super::fs::{LinuxFs, META, slot_name};
use super::metadata::{check_name, error, kind, magic_link, pin, set_pinned, stat_descriptor, stat_name};
use crate::{DirEntry, Directory, Displaced, FileId, FileKind, FsError, Metadata, OpenFile, Stat, WatchDescriptor};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, StatxFlags, inotify, linkat, openat, openat2,
    readlinkat, renameat_with, statx, unlinkat,
};
use rustix::io::Errno;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// How often a name may appear and vanish under us before we say that it is taken.
const PUBLISH_ATTEMPTS: u32 = 16;

/// `openat2` gives up with EAGAIN when a rename anywhere races with it.
const RESOLVE_ATTEMPTS: u32 = 32;

/// How a path is resolved without leaving the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Resolve {
    /// The kernel does it in one call.
    Kernel,
    /// `openat2` is missing or forbidden: one component after the other.
    Walk,
}

const OPEN_DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens what `components`, already checked, lead to.
pub(super) fn open_below(root: BorrowedFd<'_>, components: &[&[u8]], resolve: Resolve) -> Result<OwnedFd, Errno> {
    if components.is_empty() {
        return openat(root, c".", OPEN_DIRECTORY, Mode::empty());
    }
    match resolve {
        Resolve::Walk => walk(root, components),
        Resolve::Kernel => match resolve_in_kernel(root, &components.join(&b'/')) {
            // Deeper than the kernel takes in one path.
            Err(Errno::NAMETOOLONG) => walk(root, components),
            result => result,
        },
    }
}

fn resolve_in_kernel(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let beneath =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let mut attempts = 0;
    loop {
        match openat2(root, path, OPEN_DIRECTORY, Mode::empty(), beneath) {
            Err(Errno::AGAIN) if attempts < RESOLVE_ATTEMPTS => attempts += 1,
            result => return result,
        }
    }
}

/// The same by hand: each component is opened without following a link and must lie on the root's mount.
fn walk(root: BorrowedFd<'_>, components: &[&[u8]]) -> Result<OwnedFd, Errno> {
    let mount = mount_of(root)?;
    let mut here: Option<OwnedFd> = None;
    for component in components {
        let from = here.as_ref().map_or(root, OwnedFd::as_fd);
        let next = openat(from, *component, OPEN_DIRECTORY, Mode::empty())?;
        if mount_of(next.as_fd())? != mount {
            return Err(Errno::XDEV);
        }
        here = Some(next);
    }
    here.ok_or(Errno::NOENT)
}

/// Device, and the mount's number where the kernel tells (5.8): a bind mount has the same device.
fn mount_of(descriptor: BorrowedFd<'_>) -> Result<(u32, u32, u64), Errno> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let found = statx(descriptor, c"", AtFlags::EMPTY_PATH, mask)?;
    let mount = if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 { 0 } else { found.stx_mnt_id };
    Ok((found.stx_dev_major, found.stx_dev_minor, mount))
}

/// Opens a directory beside the one that is open, so that listings have positions of their own.
fn reopen(directory: BorrowedFd<'_>) -> Result<OwnedFd, FsError> {
    openat(directory, c".", OPEN_DIRECTORY, Mode::empty()).map_err(error)
}

/// All names in a directory but `.` and `..`.
pub(super) fn list_names(directory: BorrowedFd<'_>) -> Result<Vec<(Vec<u8>, Option<FileKind>)>, FsError> {
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut entries = RawDir::new(reopen(directory)?, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(error)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            let kind = match entry.file_type() {
                FileType::Unknown => None,
                known => Some(kind(known)),
            };
            names.push((name.to_vec(), kind));
        }
    }
    Ok(names)
}

pub(super) struct LinuxDirectory<'a> {
    pub(super) volume: &'a LinuxFs,
    pub(super) descriptor: OwnedFd,
    /// The volume's root, where the meta directory is hidden.
    pub(super) is_root: bool,
    /// The names as they are spelled, as far as they were listed; used only where the file system takes others for them.
    spelled: RefCell<BTreeSet<Vec<u8>>>,
}

impl<'a> LinuxDirectory<'a> {
    pub(super) fn new(volume: &'a LinuxFs, descriptor: OwnedFd, is_root: bool) -> Self {
        Self { volume, descriptor, is_root, spelled: RefCell::default() }
    }

    /// Whether the name is there as it is spelled, once it is known that the file system finds something under it.
    fn is_spelled(&self, name: &[u8]) -> Result<bool, FsError> {
        if !self.volume.folds() || self.spelled.borrow().contains(name) {
            return Ok(true);
        }
        let names = list_names(self.descriptor.as_fd())?;
        *self.spelled.borrow_mut() = names.into_iter().map(|(name, _)| name).collect();
        Ok(self.spelled.borrow().contains(name))
    }

    /// For what changes or reads something that must be there: under another spelling it isn't. Looked up anew, because what
    /// was listed may have been renamed since.
    fn must_be_spelled(&self, name: &[u8]) -> Result<(), FsError> {
        self.spelled.borrow_mut().clear();
        if self.is_spelled(name)? { Ok(()) } else { Err(FsError::NotFound) }
    }

    /// Pins the inode that has a name, if it is the one that is meant.
    fn pin_known(&self, name: &[u8], id: FileId) -> Result<(OwnedFd, Stat), FsError> {
        self.check(name)?;
        self.must_be_spelled(name)?;
        let pinned = pin(&self.descriptor, name)?;
        let found = stat_descriptor(&pinned)?;
        if found.id == id { Ok((pinned, found)) } else { Err(FsError::NotFound) }
    }

    fn check(&self, name: &[u8]) -> Result<(), FsError> {
        check_name(name)?;
        if self.is_root && name == META {
            return Err(FsError::Outside);
        }
        Ok(())
    }

    /// Moves from a slot to a name as the flags say.
    fn rename(&self, slot: &str, name: &[u8], flags: RenameFlags) -> Result<(), Errno> {
        let stage = &self.volume.meta().map_err(|_| Errno::NOENT)?.stage;
        renameat_with(stage, slot, &self.descriptor, name, flags)
    }
}

impl Directory for LinuxDirectory<'_> {
    fn watch(&self) -> Result<WatchDescriptor, FsError> {
        use inotify::WatchFlags;
        let flags = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR
            | WatchFlags::EXCL_UNLINK;
        let path = magic_link(self.descriptor.as_fd());
        inotify::add_watch(self.volume.inotify(), path, flags).map_err(|errno| match errno {
            Errno::NOSPC => FsError::Limit,
            other => error(other),
        })
    }

    fn list(&self) -> Result<Vec<DirEntry>, FsError> {
        Ok(list_names(self.descriptor.as_fd())?
            .into_iter()
            .filter(|(name, _)| !(self.is_root && name == META))
            .map(|(name, kind)| DirEntry { name, kind })
            .collect())
    }

    fn stat_self(&self) -> Result<Stat, FsError> {
        stat_descriptor(&self.descriptor)
    }

    fn stat(&self, name: &[u8]) -> Result<Stat, FsError> {
        self.check(name)?;
        let found = stat_name(&self.descriptor, name).map_err(|why| match why {
            // A name that isn't UTF-8, where the file system insists on it.
            FsError::Os(code) if code == Errno::INVAL.raw_os_error() => FsError::Collision,
            other => other,
        })?;
        if self.is_spelled(name)? { Ok(found) } else { Err(FsError::Collision) }
    }

    fn open(&self, name: &[u8]) -> Result<Box<dyn OpenFile + '_>, FsError> {
        self.check(name)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let open = |flags| openat(&self.descriptor, name, flags, Mode::empty());
        // Reading must not write access times back, but only owners may ask for that.
        let descriptor = match open(flags | OFlags::NOATIME) {
            Err(Errno::PERM) => open(flags),
            result => result,
        }
        .map_err(|errno| match errno {
            // A link, or a socket.
            Errno::LOOP | Errno::NXIO => FsError::WrongKind,
            other => error(other),
        })?;
        if !self.is_spelled(name)? {
            return Err(FsError::NotFound);
        }
        let file = LinuxFile(descriptor);
        match file.stat()?.kind {
            FileKind::File => Ok(Box::new(file)),
            _ => Err(FsError::WrongKind),
        }
    }

    fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, FsError> {
        self.check(name)?;
        readlinkat(&self.descriptor, name, Vec::new()).map(|target| target.into_bytes()).map_err(|errno| match errno {
            Errno::INVAL => FsError::WrongKind,
            other => error(other),
        })
    }

    fn publish(&self, slot: u64, name: &[u8], replace: bool) -> Result<Displaced, FsError> {
        self.check(name)?;
        if self.volume.folds() && stat_name(&self.descriptor, name).is_ok() {
            self.must_be_spelled(name).map_err(|_| FsError::Collision)?;
        }
        let from = slot_name(slot);
        for _ in 0..PUBLISH_ATTEMPTS {
            if replace {
                match self.rename(&from, name, RenameFlags::EXCHANGE) {
                    Ok(()) => {
                        let stage = &self.volume.meta()?.stage;
                        return stat_name(stage, from.as_bytes()).map(Displaced::InSlot);
                    }
                    Err(Errno::NOENT) => {}
                    Err(errno) => return Err(error(errno)),
                }
            }
            match self.rename(&from, name, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(Displaced::Nothing),
                // Someone took the name between the two calls.
                Err(Errno::EXIST) if replace => {}
                Err(errno) => return Err(error(errno)),
            }
        }
        Err(FsError::Exists)
    }

    fn withdraw(&self, name: &[u8], slot: u64) -> Result<Stat, FsError> {
        self.check(name)?;
        self.must_be_spelled(name)?;
        let stage = &self.volume.meta()?.stage;
        let to = slot_name(slot);
        renameat_with(&self.descriptor, name, stage, to.as_str(), RenameFlags::NOREPLACE).map_err(error)?;
        stat_name(stage, to.as_bytes())
    }

    fn link(&self, name: &[u8], other: &[u8]) -> Result<(), FsError> {
        self.check(name)?;
        self.check(other)?;
        self.must_be_spelled(name)?;
        // Only for a clear answer: of a link it is the link itself that gets the second name.
        if stat_name(&self.descriptor, name)?.kind == FileKind::Directory {
            return Err(FsError::WrongKind);
        }
        linkat(&self.descriptor, name, &self.descriptor, other, AtFlags::empty()).map_err(error)
    }

    fn remove_directory(&self, name: &[u8]) -> Result<(), FsError> {
        self.check(name)?;
        self.must_be_spelled(name)?;
        unlinkat(&self.descriptor, name, AtFlags::REMOVEDIR).map_err(error)
    }

    fn keep_attributes(&self, name: &[u8], id: FileId, slot: u64) -> Result<(), FsError> {
        let (from, found) = self.pin_known(name, id)?;
        let to = pin(&self.volume.meta()?.stage, slot_name(slot).as_bytes())?;
        let staged = stat_descriptor(&to)?;
        match (found.kind, staged.kind) {
            (FileKind::File, FileKind::File) => attributes::copy(from.as_fd(), to.as_fd(), staged.mode),
            _ => Ok(()),
        }
    }

    fn set_metadata(&self, name: &[u8], id: FileId, metadata: &Metadata) -> Result<Stat, FsError> {
        let (pinned, found) = self.pin_known(name, id)?;
        set_pinned(pinned.as_fd(), found.kind, metadata)?;
        stat_descriptor(&pinned)
    }
}

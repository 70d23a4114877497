//! Numbers of the system into ours and back: errnos, `statx`, and setting metadata on pinned descriptors.

use crate::{FileId, FileKind, FsError, Metadata, Owner, Stat};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Statx, StatxFlags, Timespec, Timestamps, UTIME_OMIT, Uid, chmodat,
    chownat, fchmod, fchown, futimens, openat, statx, utimensat,
};
use rustix::io::Errno;

/// What an errno means for the caller. Calls that know better (a link where a file was asked for) say so themselves.
pub(super) fn error(errno: Errno) -> FsError {
    match errno {
        Errno::NOENT => FsError::NotFound,
        Errno::EXIST => FsError::Exists,
        Errno::NOTEMPTY => FsError::NotEmpty,
        // A name that is a mount point answers renames and removals with EBUSY.
        Errno::LOOP | Errno::XDEV | Errno::BUSY => FsError::Outside,
        Errno::NOTDIR | Errno::ISDIR => FsError::WrongKind,
        Errno::NOSPC | Errno::DQUOT => FsError::NoSpace,
        Errno::ACCESS | Errno::PERM => FsError::Denied,
        Errno::ROFS => FsError::ReadOnly,
        Errno::MFILE | Errno::NFILE => FsError::Limit,
        other => FsError::Os(other.raw_os_error()),
    }
}

/// A single component as the system takes it; anything else leads outside.
pub(super) fn check_name(name: &[u8]) -> Result<(), FsError> {
    let single = !name.is_empty() && name != b"." && name != b".." && !name.iter().any(|byte| matches!(byte, b'/' | 0));
    if single { Ok(()) } else { Err(FsError::Outside) }
}

pub(super) fn kind(file_type: FileType) -> FileKind {
    match file_type {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Special,
    }
}

/// What a name in a directory stands for, without following links or triggering automounts.
pub(super) fn stat_name(directory: impl AsFd, name: &[u8]) -> Result<Stat, FsError> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(directory, name, flags, ASKED).map(|found| convert(&found)).map_err(error)
}

/// What a descriptor, `O_PATH` or not, stands for.
pub(super) fn stat_descriptor(descriptor: impl AsFd) -> Result<Stat, FsError> {
    statx(descriptor, c"", AtFlags::EMPTY_PATH, ASKED).map(|found| convert(&found)).map_err(error)
}

/// The number of the mount that a descriptor is on: one that is never used again where the kernel has such (6.8), else one
/// that a later mount may get; 0 before 5.8.
pub(super) fn mount_number(descriptor: impl AsFd) -> Result<u64, FsError> {
    /// `STATX_MNT_ID_UNIQUE` of linux/stat.h.
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    let found = statx(descriptor, c"", AtFlags::EMPTY_PATH, UNIQUE | StatxFlags::MNT_ID).map_err(error)?;
    let known = UNIQUE.bits() | StatxFlags::MNT_ID.bits();
    Ok(if found.stx_mask & known == 0 { 0 } else { found.stx_mnt_id })
}

const ASKED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

fn convert(found: &Statx) -> Stat {
    let nanoseconds = |seconds: i64, rest: u32| seconds.saturating_mul(1_000_000_000).saturating_add(rest.into());
    let mode = u32::from(found.stx_mode);
    Stat {
        kind: kind(FileType::from_raw_mode(mode)),
        id: FileId { device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor), inode: found.stx_ino },
        size: found.stx_size,
        blocks: found.stx_blocks,
        mode: mode & 0o7777,
        owner: Owner { uid: found.stx_uid, gid: found.stx_gid },
        mtime: nanoseconds(found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
        ctime: nanoseconds(found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
        // All zeros where the file system has none.
        born: nanoseconds(found.stx_btime.tv_sec, found.stx_btime.tv_nsec),
        links: found.stx_nlink,
    }
}

/// Holds on to the inode that a name stands for now, whatever becomes of the name.
pub(super) fn pin(directory: impl AsFd, name: &[u8]) -> Result<OwnedFd, FsError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty()).map_err(error)
}

/// Sets metadata of a pinned (`O_PATH`) inode: owner first, because a change of owner takes setuid away; time last.
pub(super) fn set_pinned(pinned: BorrowedFd<'_>, kind: FileKind, metadata: &Metadata) -> Result<(), FsError> {
    if let Some(owner) = metadata.owner {
        let (uid, gid) = numbers(owner);
        chownat(pinned, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH).map_err(error)?;
    }
    if let Some(mode) = metadata.mode
        && kind != FileKind::Symlink
    {
        // An O_PATH descriptor can't be given to fchmod; its magic link names the inode itself, so nothing can be
        // swapped in between. Never for links: the last step would follow them.
        chmodat(CWD, magic_link(pinned), permission(mode), AtFlags::empty()).map_err(error)?;
    }
    if let Some(mtime) = metadata.mtime {
        let times = timestamps(mtime);
        match utimensat(pinned, c"", &times, AtFlags::EMPTY_PATH) {
            // Before Linux 5.8 there is no AT_EMPTY_PATH here; a link's time can't be set then.
            Err(Errno::INVAL) if kind != FileKind::Symlink => {
                utimensat(CWD, magic_link(pinned), &times, AtFlags::empty())
            }
            result => result,
        }
        .map_err(error)?;
    }
    Ok(())
}

/// Sets metadata of an open file.
pub(super) fn set_open(file: BorrowedFd<'_>, metadata: &Metadata) -> Result<(), FsError> {
    if let Some(owner) = metadata.owner {
        let (uid, gid) = numbers(owner);
        fchown(file, Some(uid), Some(gid)).map_err(error)?;
    }
    if let Some(mode) = metadata.mode {
        fchmod(file, permission(mode)).map_err(error)?;
    }
    if let Some(mtime) = metadata.mtime {
        futimens(file, &timestamps(mtime)).map_err(error)?;
    }
    Ok(())
}

/// The path of an open descriptor's inode.
pub(super) fn magic_link(descriptor: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

fn numbers(owner: Owner) -> (Uid, Gid) {
    (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid))
}

fn permission(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

fn timestamps(mtime: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: mtime.div_euclid(1_000_000_000),
            tv_nsec: mtime.rem_euclid(1_000_000_000),
        },
    }
}

//! A volume on Linux: its root, and the meta directory beside the users' names.
//!
//! ```text
//! META/          0700: ROOT/.syncmesh, never synchronised; or a directory elsewhere on the file system
//!      stage/    slots, named by 16 hexadecimal digits
//!      store/    versions that were kept
//!      marker    what volume this is
//!      stamp     touched to see the file system's time
//! ```
//! The directories are held open, so that whoever renames things in the root can't turn us elsewhere.

use super::directory::{LinuxDirectory, Resolve, list_names, open_below};
use super::file::LinuxFile;
use super::lease;
use super::metadata::{check_name, error, mount_number, pin, set_open, set_pinned, stat_descriptor, stat_name};
use crate::{Directory, FileKind, Fs, FsError, Metadata, OpenFile, Probe, Space, Stat, Watcher};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW, fchmod, fstat, fstatfs, fstatvfs, fsync,
    futimens, inotify, mkdirat, openat, renameat, renameat_with, statat, symlinkat, syncfs, unlinkat,
};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// The meta directory's name in the root: reserved there.
pub(super) const META: &[u8] = b".syncmesh";

const MARKER: &str = "marker";
const NEW_MARKER: &str = "marker.new";
/// A file beside the marker that is touched to see what time it is for the file system.
const STAMP: &str = "stamp";
/// So many changes in a row that all show mean that every change does.
const STAMPS: usize = 8;
/// Names in the stage that aren't slots, for the probe.
const TRIALS: [&str; 2] = ["trial-a", "trial-b"];
/// A time with nanoseconds, in them since 1970, for the probe.
const TRIAL_TIME: i64 = 1_000_000_000_123_456_789;
/// A name, and other spellings of it: in case, and in Unicode form.
const SPELLINGS: [&str; 3] = ["trial-\u{e9}", "TRIAL-\u{e9}", "trial-e\u{301}"];

/// A directory that is followed to, links and all.
const OPEN_ROOT: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const OPEN_META: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A volume on a local file system.
#[derive(Debug)]
pub struct LinuxFs {
    /// Open since the start and not `O_PATH`: `syncfs` reports the errors since its descriptor was opened.
    root: OwnedFd,
    /// Where it may be.
    places: Vec<PathBuf>,
    /// Where the meta directory is, or is to be made.
    meta_place: MetaPlace,
    /// Found at the start, or made by the probe.
    meta: OnceLock<Meta>,
    inotify: OwnedFd,
    walk: AtomicBool,
    /// It takes different names for the same. Found by the probe.
    folds: AtomicBool,
}

/// A directory, and the meta directory's name in it.
#[derive(Debug)]
struct MetaPlace {
    /// None is the root.
    parent: Option<OwnedFd>,
    name: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Meta {
    directory: OwnedFd,
    pub(super) stage: OwnedFd,
    store: OwnedFd,
}

/// A slot's name in the stage.
pub(super) fn slot_name(slot: u64) -> String {
    format!("{slot:016x}")
}

fn parse_slot(name: &[u8]) -> Option<u64> {
    let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if name.len() != 16 || !name.iter().all(hex) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(name).ok()?, 16).ok()
}

impl LinuxFs {
    /// Opens a volume's root, the one place where paths of the system are followed, links and all: in the first of the places
    /// where it is. Somebody may rename it from one to another. Its meta directory is `meta`, or in the root. Makes nothing:
    /// [`Fs::probe`] does, and until it did everything about slots, store and marker answers [`FsError::NotFound`].
    pub fn open(places: &[&Path], meta: Option<&Path>) -> Result<Self, FsError> {
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|error| FsError::Os(error.raw_os_error().unwrap_or_default()))
        };
        let places = places.iter().map(|path| absolute(path)).collect::<Result<Vec<_>, _>>()?;
        let mut root = Err(FsError::NotFound);
        for place in &places {
            root = openat(CWD, place, OPEN_ROOT, Mode::empty()).map_err(error);
            if root.as_ref().err() != Some(&FsError::NotFound) {
                break;
            }
        }
        let root = root?;
        let meta_place = MetaPlace::open(meta.map(absolute).transpose()?.as_deref(), &root)?;
        // Not O_NONBLOCK: the ring reads it, and would get EAGAIN instead of waiting.
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC).map_err(error)?;
        let meta = OnceLock::new();
        match Meta::open(&meta_place, root.as_fd()) {
            Ok(found) => {
                let _ = meta.set(found);
            }
            Err(FsError::NotFound) => {}
            Err(why) => return Err(why),
        }
        let (walk, folds) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { root, places, meta_place, meta, inotify, walk, folds })
    }

    pub(super) fn meta(&self) -> Result<&Meta, FsError> {
        self.meta.get().ok_or(FsError::NotFound)
    }

    pub(super) fn inotify(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    fn make_meta(&self) -> Result<&Meta, FsError> {
        if let Some(meta) = self.meta.get() {
            return Ok(meta);
        }
        let parent = self.meta_place.parent(self.root.as_fd());
        make_directory(parent, &self.meta_place.name)?;
        let directory = open_own(parent, &self.meta_place.name)?;
        make_directory(directory.as_fd(), b"stage")?;
        make_directory(directory.as_fd(), b"store")?;
        let meta = Meta::open(&self.meta_place, self.root.as_fd())?;
        Ok(self.meta.get_or_init(|| meta))
    }

    /// Whether two names exchange, and whether a name is refused to a second file, on this very mount.
    fn try_renames(&self, stage: BorrowedFd<'_>) -> Result<(bool, bool), FsError> {
        let clean = || -> Result<(), FsError> {
            for name in TRIALS {
                remove(stage, name.as_bytes()).or_else(absent_is_fine)?;
            }
            Ok(())
        };
        clean()?;
        let mut before = Vec::new();
        for name in TRIALS {
            before.push(stat_descriptor(create(stage, name)?)?.id);
        }
        let [one, other] = TRIALS;
        let exchange = renameat_with(stage, one, stage, other, RenameFlags::EXCHANGE).is_ok()
            && stat_name(stage, one.as_bytes())?.id == before[1]
            && stat_name(stage, other.as_bytes())?.id == before[0];
        let refused = renameat_with(stage, one, stage, other, RenameFlags::NOREPLACE);
        let no_replace = refused == Err(Errno::EXIST);
        clean()?;
        Ok((exchange, no_replace))
    }

    /// Whether a name is found under another spelling, on this very mount.
    fn try_spellings(&self, stage: BorrowedFd<'_>) -> Result<bool, FsError> {
        let [name, others @ ..] = SPELLINGS;
        remove(stage, name.as_bytes()).or_else(absent_is_fine)?;
        create(stage, name)?;
        let found = others.iter().any(|other| stat_name(stage, other.as_bytes()).is_ok());
        remove(stage, name.as_bytes())?;
        Ok(found)
    }

    /// Whether each component is there as it is spelled; only looked at where the file system takes others for it.
    fn is_spelled(&self, components: &[&[u8]]) -> Result<bool, FsError> {
        if !self.folds() {
            return Ok(true);
        }
        for (depth, component) in components.iter().enumerate() {
            let parent = open_below(self.root.as_fd(), &components[..depth], Resolve::Walk).map_err(error)?;
            if !list_names(parent.as_fd())?.iter().any(|(name, _)| name == component) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether writers are told, on this very mount.
    fn try_lease(&self, stage: BorrowedFd<'_>) -> Result<bool, FsError> {
        let name = TRIALS[0];
        remove(stage, name.as_bytes()).or_else(absent_is_fine)?;
        let writer = create(stage, name)?;
        let reader = openat(stage, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(error)?;
        remove(stage, name.as_bytes())?;
        let while_open = lease::has_writers(reader.as_fd());
        drop(writer);
        Ok(while_open == Ok(true) && lease::has_writers(reader.as_fd()) == Ok(false))
    }

    /// Whether each change of a file that was looked at shows in its times, on this very mount.
    fn try_stamps(&self) -> Result<bool, FsError> {
        let stamps = (0..STAMPS).map(|_| self.stamp()).collect::<Result<Vec<_>, _>>()?;
        Ok(stamps.windows(2).all(|pair| pair[0] < pair[1]))
    }

    /// Whether modes and times are shown as they were set.
    fn try_metadata(&self, stage: BorrowedFd<'_>) -> Result<bool, FsError> {
        let name = TRIALS[0];
        remove(stage, name.as_bytes()).or_else(absent_is_fine)?;
        let file = create(stage, name)?;
        remove(stage, name.as_bytes())?;
        let tried = Metadata { owner: None, mode: Some(0o604), mtime: Some(TRIAL_TIME) };
        let Ok(()) = set_open(file.as_fd(), &tried) else { return Ok(false) };
        let shown = stat_descriptor(&file)?;
        Ok((Some(shown.mode), Some(shown.mtime)) == (tried.mode, tried.mtime))
    }

    pub(super) fn folds(&self) -> bool {
        self.folds.load(Ordering::Relaxed)
    }

    fn open_staged(&self, slot: u64, access: OFlags) -> Result<OwnedFd, FsError> {
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = slot_name(slot);
        let stage = &self.meta()?.stage;
        // Users' own FIFOs and devices can lie here after a publish: opening them isn't harmless.
        if stat_name(stage, name.as_bytes())?.kind != FileKind::File {
            return Err(FsError::WrongKind);
        }
        openat(stage, name, flags, Mode::empty()).map_err(error)
    }
}

impl MetaPlace {
    fn open(path: Option<&Path>, root: &OwnedFd) -> Result<Self, FsError> {
        let Some(path) = path else { return Ok(Self { parent: None, name: META.to_vec() }) };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(FsError::Outside) };
        let parent = openat(CWD, parent, OPEN_ROOT, Mode::empty()).map_err(error)?;
        // Files go to and from there by rename.
        if stat_descriptor(&parent)?.id.device != stat_descriptor(root)?.id.device {
            return Err(FsError::Outside);
        }
        Ok(Self { parent: Some(parent), name: name.as_bytes().to_vec() })
    }

    fn parent<'a>(&'a self, root: BorrowedFd<'a>) -> BorrowedFd<'a> {
        self.parent.as_ref().map_or(root, OwnedFd::as_fd)
    }
}

impl Meta {
    fn open(place: &MetaPlace, root: BorrowedFd<'_>) -> Result<Self, FsError> {
        let directory = open_own(place.parent(root), &place.name)?;
        let stage = open_own(directory.as_fd(), b"stage")?;
        let store = open_own(directory.as_fd(), b"store")?;
        Ok(Self { directory, stage, store })
    }
}

/// Opens a directory of ours. One that belongs to someone else isn't ours: its owner could move our files about.
fn open_own(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, FsError> {
    let directory = openat(parent, name, OPEN_META, Mode::empty()).map_err(|errno| match errno {
        // With O_DIRECTORY a link is ENOTDIR.
        Errno::NOTDIR | Errno::LOOP => FsError::Outside,
        other => error(other),
    })?;
    let found = stat_descriptor(&directory)?;
    if found.id.device != stat_descriptor(parent)?.id.device {
        return Err(FsError::Outside);
    }
    if found.owner.uid != rustix::process::geteuid().as_raw() {
        return Err(FsError::Denied);
    }
    // Kubernetes' fsGroup opens everything on a volume to its group, ours included.
    if found.mode != 0o700 {
        fchmod(&directory, Mode::RWXU).map_err(error)?;
    }
    Ok(directory)
}

fn make_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), FsError> {
    match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(error(errno)),
    }
}

fn create(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, FsError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::RUSR | Mode::WUSR).map_err(error)
}

/// Removes a file, a link or an empty directory.
fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), FsError> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => unlinkat(parent, name, AtFlags::REMOVEDIR),
        result => result,
    }
    .map_err(error)
}

fn absent_is_fine(why: FsError) -> Result<(), FsError> {
    match why {
        FsError::NotFound => Ok(()),
        other => Err(other),
    }
}

fn file_system_name(magic: u64) -> String {
    match magic {
        0xef53 => "ext4".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683e => "btrfs".to_owned(),
        0x0102_1994 => "tmpfs".to_owned(),
        0x794c_7630 => "overlay".to_owned(),
        other => format!("{other:#x}"),
    }
}

impl Fs for LinuxFs {
    fn probe(&self) -> Result<Probe, FsError> {
        let meta = self.make_meta()?;
        let (exchange, no_replace) = self.try_renames(meta.stage.as_fd())?;
        self.folds.store(self.try_spellings(meta.stage.as_fd())?, Ordering::Relaxed);
        let magic = fstatfs(&self.root).map_err(error)?.f_type;
        let capabilities = rustix::thread::capabilities(None).map_err(error)?;
        Ok(Probe {
            device: stat_descriptor(&self.root)?.id.device,
            // The field's width and sign depend on the architecture; magic numbers have 32 bits.
            file_system: file_system_name(u64::from(magic as u32)),
            exchange,
            no_replace,
            change_owner: capabilities.effective.contains(CapabilitySet::CHOWN),
            leases: self.try_lease(meta.stage.as_fd())?,
            exact_stamps: self.try_stamps()?,
            exact_metadata: self.try_metadata(meta.stage.as_fd())?,
            mount: mount_number(&self.root)?,
        })
    }

    fn space(&self) -> Result<Space, FsError> {
        let space = fstatvfs(&self.root).map_err(error)?;
        // Not what is left for root alone: that is others' reserve.
        Ok(Space {
            free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
            total_bytes: space.f_blocks.saturating_mul(space.f_frsize),
        })
    }

    fn open_directory(&self, components: &[&[u8]]) -> Result<Box<dyn Directory + '_>, FsError> {
        for component in components {
            check_name(component)?;
        }
        if components.first() == Some(&META) {
            return Err(FsError::Outside);
        }
        let root = self.root.as_fd();
        let opened = if self.walk.load(Ordering::Relaxed) {
            open_below(root, components, Resolve::Walk)
        } else {
            match open_below(root, components, Resolve::Kernel) {
                // No such call, or a sandbox that doesn't know it.
                Err(Errno::NOSYS | Errno::PERM) => {
                    self.walk.store(true, Ordering::Relaxed);
                    open_below(root, components, Resolve::Walk)
                }
                result => result,
            }
        };
        let descriptor = opened.map_err(|errno| match errno {
            Errno::NOTDIR => FsError::Outside,
            other => error(other),
        })?;
        if !self.is_spelled(components)? {
            return Err(FsError::NotFound);
        }
        Ok(Box::new(LinuxDirectory::new(self, descriptor, components.is_empty())))
    }

    fn is_in_place(&self) -> Result<bool, FsError> {
        let own = fstat(&self.root).map_err(error)?;
        for place in &self.places {
            match statat(CWD, place, AtFlags::empty()) {
                Ok(shown) if (shown.st_dev, shown.st_ino) == (own.st_dev, own.st_ino) => return Ok(true),
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(error(errno)),
            }
        }
        Ok(false)
    }

    fn read_marker(&self) -> Result<Option<Vec<u8>>, FsError> {
        let Some(meta) = self.meta.get() else {
            return Ok(None);
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(&meta.directory, MARKER, flags, Mode::empty()) {
            Ok(descriptor) => LinuxFile(descriptor),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(error(errno)),
        };
        read_whole(&file).map(Some)
    }

    fn write_marker(&self, contents: &[u8]) -> Result<(), FsError> {
        replace_durably(self.meta()?.directory.as_fd(), NEW_MARKER, MARKER, contents)
    }

    fn stage_file(&self, slot: u64) -> Result<Box<dyn OpenFile + '_>, FsError> {
        let stage = self.meta()?.stage.as_fd();
        let name = slot_name(slot);
        let file = match create(stage, &name) {
            Err(FsError::Exists) => {
                // Only a file is replaced: EISDIR says that it is something else.
                unlinkat(stage, name.as_str(), AtFlags::empty()).map_err(error)?;
                create(stage, &name)?
            }
            result => result?,
        };
        Ok(Box::new(LinuxFile(file)))
    }

    fn open_slot(&self, slot: u64) -> Result<Box<dyn OpenFile + '_>, FsError> {
        Ok(Box::new(LinuxFile(self.open_staged(slot, OFlags::RDONLY)?)))
    }

    fn resume_slot(&self, slot: u64) -> Result<Box<dyn OpenFile + '_>, FsError> {
        Ok(Box::new(LinuxFile(self.open_staged(slot, OFlags::RDWR)?)))
    }

    fn stage_directory(&self, slot: u64) -> Result<(), FsError> {
        mkdirat(&self.meta()?.stage, slot_name(slot), Mode::RWXU).map_err(error)
    }

    fn stage_symlink(&self, slot: u64, target: &[u8]) -> Result<(), FsError> {
        symlinkat(target, &self.meta()?.stage, slot_name(slot)).map_err(error)
    }

    fn set_slot_metadata(&self, slot: u64, metadata: &Metadata) -> Result<(), FsError> {
        let pinned = pin(&self.meta()?.stage, slot_name(slot).as_bytes())?;
        let kind = stat_descriptor(&pinned)?.kind;
        set_pinned(pinned.as_fd(), kind, metadata)
    }

    fn stat_slot(&self, slot: u64) -> Result<Stat, FsError> {
        stat_name(&self.meta()?.stage, slot_name(slot).as_bytes())
    }

    fn list_slots(&self) -> Result<Vec<u64>, FsError> {
        let names = list_names(self.meta()?.stage.as_fd())?;
        Ok(names.iter().filter_map(|(name, _)| parse_slot(name)).collect())
    }

    fn drop_slot(&self, slot: u64) -> Result<(), FsError> {
        remove(self.meta()?.stage.as_fd(), slot_name(slot).as_bytes())
    }

    fn store_slot(&self, slot: u64, name: &str) -> Result<(), FsError> {
        check_name(name.as_bytes())?;
        let meta = self.meta()?;
        renameat_with(&meta.stage, slot_name(slot), &meta.store, name, RenameFlags::NOREPLACE).map_err(error)
    }

    fn take_stored(&self, name: &str, slot: u64) -> Result<(), FsError> {
        check_name(name.as_bytes())?;
        let meta = self.meta()?;
        renameat_with(&meta.store, name, &meta.stage, slot_name(slot), RenameFlags::NOREPLACE).map_err(error)
    }

    fn list_store(&self) -> Result<Vec<String>, FsError> {
        let names = list_names(self.meta()?.store.as_fd())?;
        Ok(names.into_iter().filter_map(|(name, _)| String::from_utf8(name).ok()).collect())
    }

    fn stat_stored(&self, name: &str) -> Result<Stat, FsError> {
        check_name(name.as_bytes())?;
        stat_name(&self.meta()?.store, name.as_bytes())
    }

    fn open_stored(&self, name: &str) -> Result<Box<dyn OpenFile + '_>, FsError> {
        check_name(name.as_bytes())?;
        let store = &self.meta()?.store;
        if stat_name(store, name.as_bytes())?.kind != FileKind::File {
            return Err(FsError::WrongKind);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(Box::new(LinuxFile(openat(store, name, flags, Mode::empty()).map_err(error)?)))
    }

    fn drop_stored(&self, name: &str) -> Result<(), FsError> {
        check_name(name.as_bytes())?;
        remove(self.meta()?.store.as_fd(), name.as_bytes())
    }

    fn stamp(&self) -> Result<i64, FsError> {
        // Not kept open: a file that is open for writing keeps the file system from being made read-only.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.meta()?.directory, STAMP, flags, Mode::RUSR | Mode::WUSR).map_err(error)?;
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        futimens(&file, &Timestamps { last_access: now, last_modification: now }).map_err(error)?;
        Ok(stat_descriptor(&file)?.ctime)
    }

    fn watch_source(&self) -> Watcher {
        Watcher(number(&self.inotify))
    }

    fn sync(&self) -> Result<(), FsError> {
        syncfs(&self.root).map_err(error)
    }

    fn write_out(&self) -> Result<(), FsError> {
        // A descriptor of its own: each is told of an error once, and the root's is for epochs.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = openat(&self.root, c".", flags, Mode::empty()).map_err(error)?;
        syncfs(&own).map_err(error)
    }
}

/// A descriptor's number, as the ring takes it.
pub(super) fn number(descriptor: &OwnedFd) -> u32 {
    u32::try_from(descriptor.as_raw_fd()).expect("an open descriptor's number isn't negative")
}

pub(super) fn read_whole(file: &LinuxFile) -> Result<Vec<u8>, FsError> {
    let mut contents = Vec::new();
    loop {
        // One byte more than there should be shows the end without another call.
        let expected = usize::try_from(file.stat()?.size).unwrap_or(usize::MAX);
        let start = contents.len();
        contents.resize(expected.max(start).saturating_add(1), 0);
        let bytes = file.read_at(&mut contents[start..], start as u64)?;
        let ended = start + bytes < contents.len();
        contents.truncate(start + bytes);
        if ended {
            return Ok(contents);
        }
    }
}

/// After a crash there is the old file or the new one, whole.
pub(super) fn replace_durably(
    directory: BorrowedFd<'_>,
    temporary: &str,
    name: &str,
    contents: &[u8],
) -> Result<(), FsError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = LinuxFile(openat(directory, temporary, flags, mode).map_err(error)?);
    file.write_at(contents, 0)?;
    fsync(&file.0).map_err(error)?;
    renameat(directory, temporary, directory, name).map_err(error)?;
    fsync(directory).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walking_by_hand_refuses_what_the_kernel_refuses() {
        let root = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir_all(root.path().join("a/b")).expect("a directory");
        std::fs::write(root.path().join("file"), b"x").expect("a file");
        std::os::unix::fs::symlink("a", root.path().join("link")).expect("a link");
        let volume = LinuxFs::open(&[root.path()], None).expect("a volume");
        for walk in [false, true] {
            volume.walk.store(walk, Ordering::Relaxed);
            let open = |components: &[&[u8]]| volume.open_directory(components).map(|_| ()).err();
            assert_eq!(open(&[b"a", b"b"]), None);
            assert_eq!(open(&[b"link"]), Some(FsError::Outside));
            assert_eq!(open(&[b"link", b"b"]), Some(FsError::Outside));
            assert_eq!(open(&[b"file"]), Some(FsError::Outside));
            assert_eq!(open(&[b"a", b".."]), Some(FsError::Outside));
            assert_eq!(open(&[b"a", b"gone"]), Some(FsError::NotFound));
        }
        let proc = LinuxFs::open(&[Path::new("/")], None).expect("the root");
        for walk in [false, true] {
            proc.walk.store(walk, Ordering::Relaxed);
            assert_eq!(proc.open_directory(&[b"proc"]).map(|_| ()).err(), Some(FsError::Outside));
        }
    }

    #[test]
    fn a_meta_directory_that_is_a_link_is_refused() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let elsewhere = tempfile::tempdir().expect("another");
        std::os::unix::fs::symlink(elsewhere.path(), root.path().join(".syncmesh")).expect("a link");
        assert_eq!(LinuxFs::open(&[root.path()], None).map(|_| ()).err(), Some(FsError::Outside));
    }

    #[test]
    fn only_sixteen_hexadecimal_digits_are_a_slot() {
        assert_eq!(parse_slot(b"00000000000000ff"), Some(255));
        assert_eq!(parse_slot(b"+0000000000000ff"), None);
        assert_eq!(parse_slot(b"ff"), None);
        assert_eq!(parse_slot(slot_name(u64::MAX).as_bytes()), Some(u64::MAX));
    }
}

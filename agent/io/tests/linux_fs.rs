//! The file-system suite on Linux: in the temporary directory, and in memory where there is `/dev/shm`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::BorrowedFd;
use rustix::fs::inotify::{ReadFlags, Reader};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use std::{fs, io};
use syncmesh_io::linux::{LinuxFs, LinuxStateFiles, LockError};
use syncmesh_io::suite_fs::{FsWorld, run_all};
use syncmesh_io::{FileId, FileKind, Fs, FsError, Owner, Stat, StateFiles, WatchEvent, WatchKind};
use tempfile::TempDir;

struct LinuxWorld {
    volume: LinuxFs,
    root: TempDir,
}

impl LinuxWorld {
    fn new(parent: &Path) -> Self {
        let root = tempfile::tempdir_in(parent).unwrap();
        Self { volume: LinuxFs::open(&[root.path()], None).unwrap(), root }
    }

    fn path(&self, path: &[u8]) -> PathBuf {
        self.root.path().join(OsStr::from_bytes(path))
    }
}

impl FsWorld for LinuxWorld {
    fn fs(&self) -> &dyn Fs {
        &self.volume
    }

    fn write(&self, path: &[u8], bytes: &[u8]) {
        fs::write(self.path(path), bytes).unwrap();
    }

    fn read(&self, path: &[u8]) -> Option<Vec<u8>> {
        fs::read(self.path(path)).ok()
    }

    fn mkdir(&self, path: &[u8]) {
        fs::create_dir(self.path(path)).unwrap();
    }

    fn remove(&self, path: &[u8]) {
        let path = self.path(path);
        if path.symlink_metadata().unwrap().is_dir() {
            fs::remove_dir(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    fn symlink(&self, target: &[u8], path: &[u8]) {
        symlink(OsStr::from_bytes(target), self.path(path)).unwrap();
    }

    fn hold(&self, path: &[u8]) -> Box<dyn std::any::Any> {
        Box::new(fs::OpenOptions::new().write(true).open(self.path(path)).unwrap())
    }

    fn rename(&self, from: &[u8], to: &[u8]) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn chmod(&self, path: &[u8], mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn set_attribute(&self, path: &[u8], name: &str, value: &[u8]) -> bool {
        rustix::fs::setxattr(self.path(path), name, value, rustix::fs::XattrFlags::empty()).is_ok()
    }

    fn attribute(&self, path: &[u8], name: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 1_024];
        let length = rustix::fs::getxattr(self.path(path), name, &mut value[..]).ok()?;
        value.truncate(length);
        Some(value)
    }

    fn stat(&self, path: &[u8]) -> Option<Stat> {
        let found = match self.path(path).symlink_metadata() {
            Ok(found) => found,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return None,
            Err(why) => panic!("{why}"),
        };
        let kind = match found.file_type() {
            kind if kind.is_file() => FileKind::File,
            kind if kind.is_dir() => FileKind::Directory,
            kind if kind.is_symlink() => FileKind::Symlink,
            _ => FileKind::Special,
        };
        Some(Stat {
            kind,
            id: FileId { device: found.dev(), inode: found.ino() },
            size: found.size(),
            blocks: found.blocks(),
            mode: found.mode() & 0o7777,
            owner: Owner { uid: found.uid(), gid: found.gid() },
            mtime: found.mtime() * 1_000_000_000 + found.mtime_nsec(),
            ctime: found.ctime() * 1_000_000_000 + found.ctime_nsec(),
            born: found
                .created()
                .ok()
                .map_or(0, |born| i64::try_from(born.duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()),
            links: u32::try_from(found.nlink()).unwrap(),
        })
    }

    fn events(&self) -> Vec<WatchEvent> {
        // SAFETY: the volume keeps its descriptor open, and outlives this borrow.
        #[allow(unsafe_code)]
        let source = unsafe { BorrowedFd::borrow_raw(self.volume.watch_source().0 as i32) };
        let mut events = Vec::new();
        loop {
            let mut ready = [PollFd::new(&source, PollFlags::IN)];
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            if poll(&mut ready, Some(&now)).unwrap() == 0 {
                return events;
            }
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = Reader::new(source, &mut buffer);
            loop {
                let event = reader.next().unwrap();
                let flags = event.events();
                events.push(WatchEvent {
                    directory: event.wd(),
                    kind: kind(flags),
                    name: event.file_name().map_or_else(Vec::new, |name| name.to_bytes().to_vec()),
                    is_directory: flags.contains(ReadFlags::ISDIR),
                });
                if reader.is_buffer_empty() {
                    break;
                }
            }
        }
    }
}

fn kind(flags: ReadFlags) -> WatchKind {
    match flags.difference(ReadFlags::ISDIR) {
        ReadFlags::CREATE => WatchKind::Created,
        ReadFlags::MODIFY => WatchKind::Modified,
        ReadFlags::CLOSE_WRITE => WatchKind::Closed,
        ReadFlags::ATTRIB => WatchKind::Attributes,
        ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO | ReadFlags::DELETE => WatchKind::Moved,
        ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED => WatchKind::DirectoryGone,
        ReadFlags::QUEUE_OVERFLOW => WatchKind::Overflow,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_suite_passes_in_the_temporary_directory() {
    run_all(|| Box::new(LinuxWorld::new(&std::env::temp_dir())));
}

#[test]
fn the_suite_passes_in_memory() {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        run_all(|| Box::new(LinuxWorld::new(memory)));
    }
}

#[test]
fn a_root_that_is_moved_away_or_replaced_isnt_in_its_place_until_it_is_back() {
    let home = tempfile::tempdir().unwrap();
    let (root, away) = (home.path().join("root"), home.path().join("away"));
    fs::create_dir(&root).unwrap();
    let volume = LinuxFs::open(&[&root], None).unwrap();
    assert_eq!(volume.is_in_place(), Ok(true));
    fs::rename(&root, &away).unwrap();
    assert_eq!(volume.is_in_place(), Ok(false));
    fs::create_dir(&root).unwrap();
    assert_eq!(volume.is_in_place(), Ok(false));
    fs::remove_dir(&root).unwrap();
    fs::rename(&away, &root).unwrap();
    assert_eq!(volume.is_in_place(), Ok(true));
}

#[test]
fn opening_a_volume_makes_nothing() {
    let world = LinuxWorld::new(&std::env::temp_dir());
    assert_eq!(world.volume.read_marker(), Ok(None));
    assert_eq!(world.volume.write_marker(b"x"), Err(FsError::NotFound));
    assert_eq!(world.volume.list_slots(), Err(FsError::NotFound));
    assert_eq!(fs::read_dir(world.root.path()).unwrap().count(), 0);
}

#[test]
fn a_volume_that_is_opened_again_has_its_slots_and_private_directories() {
    let world = LinuxWorld::new(&std::env::temp_dir());
    world.volume.probe().unwrap();
    world.volume.stage_directory(5).unwrap();
    // As a killed probe leaves them.
    world.write(b".syncmesh/stage/trial-a", b"");
    world.chmod(b".syncmesh", 0o770);
    let again = LinuxFs::open(&[world.root.path()], None).unwrap();
    assert_eq!(again.list_slots(), Ok(vec![5]));
    assert_eq!(world.stat(b".syncmesh").unwrap().mode, 0o700);
    assert!(again.probe().unwrap().exchange);
}

#[test]
fn state_files_append_replace_and_lock() {
    let directory = tempfile::tempdir().unwrap();
    let state = LinuxStateFiles::open(directory.path()).unwrap();
    state.lock().unwrap();
    state.lock().unwrap();
    let other = LinuxStateFiles::open(directory.path()).unwrap();
    assert_eq!(other.lock(), Err(LockError::Held(Some(std::process::id()))));
    assert_eq!(state.list(), Ok(vec![]));

    let log = state.open_log("journal").unwrap();
    state.append(log, b"one").unwrap();
    state.append(log, b"two").unwrap();
    assert_eq!(state.read("journal"), Ok(b"onetwo".to_vec()));
    state.close_log(log);
    assert_eq!(state.append(log, b"x"), Err(FsError::NotFound));
    let log = state.open_log("journal").unwrap();
    state.append(log, b"!").unwrap();
    assert_eq!(state.read("journal"), Ok(b"onetwo!".to_vec()));

    state.write("identity", b"first").unwrap();
    state.write("identity", b"2nd").unwrap();
    assert_eq!(state.read("identity"), Ok(b"2nd".to_vec()));
    let mut names = state.list().unwrap();
    names.sort();
    assert_eq!(names, ["identity", "journal"]);
    state.remove("identity").unwrap();
    state.remove("identity").unwrap();
    assert_eq!(state.read("identity"), Err(FsError::NotFound));
    assert_eq!(state.remove("lock"), Err(FsError::Denied));
    assert_eq!(state.read("../x"), Err(FsError::Outside));

    drop(state);
    other.lock().unwrap();
}

/// What the file system can't hold is told apart from what isn't there, and what differs in case only isn't in the way where both
/// can be held.
#[test]
fn a_name_that_cant_be_held_collides() {
    let world = LinuxWorld::new(&std::env::temp_dir());
    let volume = &world.volume;
    volume.probe().unwrap();
    let root = volume.open_directory(&[]).unwrap();
    let long = [b'x'; 256];
    assert_eq!(root.stat(&long).unwrap_err(), FsError::Collision);
    drop(volume.stage_file(1).unwrap());
    assert_eq!(root.publish(1, &long, false).unwrap_err(), FsError::Collision);
    world.write(b"a", b"small");
    assert_eq!(root.stat(b"A").unwrap_err(), FsError::NotFound);
    root.publish(1, b"A", false).unwrap();
    assert_eq!(world.read(b"a").unwrap(), b"small");
    let left = fs::read_dir(world.path(b".syncmesh/stage")).unwrap().count();
    assert_eq!(left, 0, "the probe leaves nothing behind");
}

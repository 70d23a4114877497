//! The simulated file system takes part in the suite, and in what only a simulation can do.
#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use syncmesh_io::suite_fs::{FsWorld, run_all};
use syncmesh_io::{FileKind, Fs, FsError, Stat, StateFiles, WatchEvent, WatchKind, Watcher};
use syncmesh_simulator::{Disk, Faults, SimFs, SimStateFiles, StateDisk, StepHook, UserFile};

const WATCHER: Watcher = Watcher(3);

fn disk() -> Disk {
    Disk::new(42, Arc::new(AtomicU64::new(1_700_000_000_000_000_000)))
}

fn volume(disk: &Disk) -> SimFs {
    SimFs::new(disk.clone(), WATCHER, Faults::none(), Arc::new(|_| ()))
}

struct SimWorld {
    disk: Disk,
    volume: SimFs,
}

struct Open(Disk, UserFile);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.user_close(self.1);
    }
}

impl FsWorld for SimWorld {
    fn fs(&self) -> &dyn Fs {
        &self.volume
    }

    fn write(&self, path: &[u8], bytes: &[u8]) {
        self.disk.user_write(path, bytes).unwrap();
    }

    fn read(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.disk.user_read(path).ok()
    }

    fn mkdir(&self, path: &[u8]) {
        self.disk.user_mkdir(path).unwrap();
    }

    fn remove(&self, path: &[u8]) {
        self.disk.user_remove(path).unwrap();
    }

    fn symlink(&self, target: &[u8], path: &[u8]) {
        self.disk.user_symlink(target, path).unwrap();
    }

    fn hold(&self, path: &[u8]) -> Box<dyn std::any::Any> {
        Box::new(Open(self.disk.clone(), self.disk.user_create_open(path).unwrap()))
    }

    fn rename(&self, from: &[u8], to: &[u8]) {
        self.disk.user_rename(from, to).unwrap();
    }

    fn chmod(&self, path: &[u8], mode: u32) {
        self.disk.user_chmod(path, mode).unwrap();
    }

    fn set_attribute(&self, path: &[u8], name: &str, value: &[u8]) -> bool {
        self.disk.user_set_attribute(path, name, value).is_ok()
    }

    fn attribute(&self, path: &[u8], name: &str) -> Option<Vec<u8>> {
        self.disk.user_attribute(path, name)
    }

    fn stat(&self, path: &[u8]) -> Option<Stat> {
        self.disk.user_stat(path).ok()
    }

    fn events(&self) -> Vec<WatchEvent> {
        self.disk.take_events(WATCHER)
    }
}

#[test]
fn the_suite_passes() {
    run_all(|| {
        let disk = disk();
        Box::new(SimWorld { volume: volume(&disk), disk })
    });
}

/// On a disk that ignores case a name stands for itself alone, and another spelling of it is in the way of nothing but a new
/// name.
#[test]
fn names_are_exact_where_the_disk_ignores_case() {
    let disk = disk();
    disk.fold_case();
    let volume = volume(&disk);
    volume.probe().unwrap();
    disk.user_mkdir(b"d").unwrap();
    disk.user_write(b"a", b"theirs").unwrap();
    disk.user_write(b"A", b"the same file").unwrap();
    assert_eq!(disk.user_list(b"").unwrap(), [b".syncmesh".to_vec(), b"a".to_vec(), b"d".to_vec()]);
    let root = volume.open_directory(&[]).unwrap();
    assert_eq!(root.stat(b"A").unwrap_err(), FsError::Collision);
    assert_eq!(root.stat(b"B").unwrap_err(), FsError::NotFound);
    assert_eq!(root.open(b"A").err(), Some(FsError::NotFound));
    assert_eq!(root.withdraw(b"A", 1).unwrap_err(), FsError::NotFound);
    assert_eq!(root.remove_directory(b"D").unwrap_err(), FsError::NotFound);
    assert_eq!(volume.open_directory(&[b"D"]).err(), Some(FsError::NotFound));
    let id = root.stat(b"a").unwrap().id;
    let metadata = syncmesh_io::Metadata { mode: Some(0o600), ..Default::default() };
    assert_eq!(root.set_metadata(b"A", id, &metadata).unwrap_err(), FsError::NotFound);
    drop(volume.stage_file(2).unwrap());
    for replace in [false, true] {
        assert_eq!(root.publish(2, b"A", replace).unwrap_err(), FsError::Collision);
    }
    assert_eq!(disk.user_read(b"a").unwrap(), b"the same file");
    root.publish(2, b"a", true).unwrap();
    assert_eq!(disk.user_read(b"a").unwrap(), b"");
}

/// A hook that counts its steps, and acts as a user on one of them.
fn acting(at: usize, act: impl Fn() + Send + Sync + 'static) -> (StepHook, Arc<Mutex<Vec<&'static str>>>) {
    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&steps);
    let hook: StepHook = Arc::new(move |call| {
        seen.lock().unwrap().push(call);
        let now = seen.lock().unwrap().len();
        if now == at {
            act();
        }
    });
    (hook, steps)
}

#[test]
fn users_act_between_the_steps_of_a_call() {
    let disk = disk();
    volume(&disk).probe().unwrap();
    disk.user_write(b"f", b"old").unwrap();
    let user = disk.clone();
    // The steps: open_directory twice, stage_file twice, then publish.
    let (hook, steps) = acting(5, move || user.user_rename(b"f", b"g").unwrap());
    let fs = SimFs::new(disk.clone(), WATCHER, Faults::none(), hook);
    let root = fs.open_directory(&[]).unwrap();
    drop(fs.stage_file(1).unwrap());
    root.publish(1, b"f", true).unwrap();
    assert_eq!(disk.user_list(b"").unwrap(), [b".syncmesh".to_vec(), b"f".to_vec(), b"g".to_vec()]);
    assert_eq!(fs.list_slots(), Ok(vec![]));
    let steps = steps.lock().unwrap();
    assert_eq!(steps[4..6], ["publish", "publish"]);
}

#[test]
fn a_disk_survives_its_agent() {
    let disk = disk();
    disk.user_mkdir(b"d").unwrap();
    disk.user_write(b"d/f", b"theirs").unwrap();
    let first = volume(&disk);
    first.probe().unwrap();
    first.write_marker(b"mark").unwrap();
    first.stage_file(1).unwrap().write_at(b"staged", 0).unwrap();
    first.stage_file(2).unwrap().write_at(b"kept", 0).unwrap();
    first.store_slot(2, "v").unwrap();
    {
        let root = first.open_directory(&[]).unwrap();
        root.withdraw(b"d", 3).unwrap();
    }
    drop(first);

    let stored = [
        (b"stage/0000000000000001".to_vec(), b"staged".to_vec()),
        (b"stage/0000000000000003/f".to_vec(), b"theirs".to_vec()),
        (b"store/v".to_vec(), b"kept".to_vec()),
    ];
    assert_eq!(disk.stored_contents(), BTreeMap::from(stored));
    assert!(disk.snapshot().is_empty());
    let second = volume(&disk);
    assert_eq!(second.read_marker(), Ok(Some(b"mark".to_vec())));
    assert_eq!(second.list_slots(), Ok(vec![1, 3]));
    let root = second.open_directory(&[]).unwrap();
    root.publish(3, b"e", false).unwrap();
    let snapshot = disk.snapshot();
    let kinds: Vec<_> = snapshot.iter().map(|(path, found)| (path.as_slice(), found.kind)).collect();
    assert_eq!(kinds, [(b"e".as_slice(), FileKind::Directory), (b"e/f", FileKind::File)]);
    assert_eq!(snapshot[b"e/f".as_slice()].contents, b"theirs");
}

#[test]
fn ordered_and_drawn_failures_leave_the_disk_as_it_was() {
    let disk = disk();
    let faults = Faults::none();
    let fs = SimFs::new(disk.clone(), WATCHER, faults.clone(), Arc::new(|_| ()));
    fs.probe().unwrap();
    faults.fail_next("file.write_at", FsError::NoSpace);
    let file = fs.stage_file(1).unwrap();
    assert_eq!(file.write_at(b"x", 0), Err(FsError::NoSpace));
    assert_eq!(file.stat().unwrap().size, 0);
    file.write_at(b"x", 0).unwrap();

    let draw = |seed| {
        faults.fail_randomly(seed, 300_000, &[FsError::NoSpace, FsError::Os(5)]);
        (0..100).map(|_| fs.stat_slot(1).err()).collect::<Vec<_>>()
    };
    let (first, again, other) = (draw(1), draw(1), draw(2));
    assert_eq!(first, again);
    assert_ne!(first, other);
    let failed = first.iter().flatten().count();
    assert!((15..50).contains(&failed), "{failed}");
    faults.fail_randomly(0, 0, &[]);
    assert!(draw_none(&fs));
}

fn draw_none(fs: &SimFs) -> bool {
    (0..100).all(|_| fs.stat_slot(1).is_ok())
}

#[test]
fn each_step_of_a_user_is_told_for_itself() {
    let disk = disk();
    let fs = volume(&disk);
    fs.open_directory(&[]).unwrap().watch().unwrap();
    let told = RefCell::new(Vec::new());
    let look = || told.borrow_mut().push(disk.take_events(WATCHER).len());
    let file = disk.user_create_open(b"f").unwrap();
    look();
    disk.user_write_at(file, b"one", 0).unwrap();
    look();
    disk.user_write_at(file, b"two", 3).unwrap();
    disk.user_write_at(file, b"three", 6).unwrap();
    look();
    disk.user_close(file);
    look();
    disk.user_touch(b"f", 5).unwrap();
    look();
    assert_eq!(told.into_inner(), [1, 1, 1, 1, 1]);
    assert_eq!(disk.user_stat(b"f").unwrap().mtime, 5);
    assert_eq!(disk.user_stat(b"f").unwrap().blocks, 8);

    disk.limit_events(WATCHER, 3);
    for name in [b"a", b"b", b"c", b"d", b"e"] {
        disk.user_mkdir(name).unwrap();
    }
    let kinds: Vec<_> = disk.take_events(WATCHER).into_iter().map(|event| event.kind).collect();
    let made = WatchKind::Created;
    assert_eq!(kinds, [made, made, made, WatchKind::Overflow]);
    assert!(!disk.has_events(WATCHER));
}

#[test]
fn time_stamps_follow_the_clock_in_ticks() {
    let clock = Arc::new(AtomicU64::new(10_000_001));
    let disk = Disk::new(1, Arc::clone(&clock));
    disk.user_write(b"f", b"x").unwrap();
    assert_eq!(disk.user_stat(b"f").unwrap().mtime, 10_000_001);
    disk.set_tick(4_000_000);
    clock.store(27_000_000, Ordering::Relaxed);
    disk.user_chmod(b"f", 0o600).unwrap();
    let stat = disk.user_stat(b"f").unwrap();
    assert_eq!((stat.mtime, stat.ctime), (10_000_001, 24_000_000));
}

#[test]
fn state_files_survive_and_logs_end_with_their_agent() {
    let disk = StateDisk::new();
    let open = || SimStateFiles::new(disk.clone(), Faults::none(), Arc::new(|_| ()));
    let first = open();
    assert!(first.lock());
    assert!(!open().lock());
    let log = first.open_log("journal").unwrap();
    first.append(log, b"one").unwrap();
    disk.append_from_io(log, b"two").unwrap();
    first.write("identity", b"1").unwrap();
    first.write("identity", b"2").unwrap();
    assert_eq!(first.list(), Ok(vec!["identity".to_owned(), "journal".to_owned()]));
    first.remove("identity").unwrap();
    first.remove("identity").unwrap();
    drop(first);

    let second = open();
    assert!(second.lock());
    assert_eq!(disk.append_from_io(log, b"late"), Err(FsError::NotFound));
    assert_eq!(second.read("journal"), Ok(b"onetwo".to_vec()));
    let log = second.open_log("journal").unwrap();
    second.remove("journal").unwrap();
    second.append(log, b"nowhere").unwrap();
    second.close_log(log);
    assert_eq!(second.append(log, b"x"), Err(FsError::NotFound));
    assert!(disk.snapshot().is_empty());
}

#[test]
fn a_removed_file_lives_while_it_is_open() {
    let disk = disk();
    let fs = volume(&disk);
    fs.probe().unwrap();
    let file = fs.stage_file(1).unwrap();
    fs.drop_slot(1).unwrap();
    assert_eq!(file.stat().unwrap().links, 0);
}

//! What a replica shows is what was written: contents, kinds, names, modes, owners, times; at every moment.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Mesh, noise, replace, tree, wait_until, words};
use rustix::fs::{AtFlags, CWD, Gid, Timespec, Timestamps, Uid};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Sets a modification time of a file or of a link itself.
fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Sets owner and group of a file or of a link itself, where we may.
fn set_owner(path: &Path, owner: u32, group: u32) {
    if rustix::process::geteuid().is_root() {
        let (owner, group) = (Uid::from_raw(owner), Gid::from_raw(group));
        rustix::fs::chownat(CWD, path, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// One of everything that a directory may hold.
fn one_of_everything(root: &Path) {
    let name = |bytes: &[u8]| root.join(OsStr::from_bytes(bytes));
    fs::write(name(b"empty"), "").unwrap();
    fs::write(name(b"one byte"), "x").unwrap();
    for (number, size) in
        [4095, 4096, 4097, 65_535, 65_536, 65_537, 300 << 10, (1 << 20) - 1, 5 << 20].into_iter().enumerate()
    {
        fs::write(name(format!("size {size}").as_bytes()), noise(number as u64, size)).unwrap();
    }
    fs::write(name(b"zeros"), vec![0; 200_000]).unwrap();
    for odd in [
        &b"not \xff\xfe UTF-8 \x80"[..],
        b"new\nline",
        b"tab\tand\x01control\x7f",
        b" blanks around ",
        b"-dash",
        b"*?[]{}\\'\"$`!#",
        b"...",
        b".hidden",
        "Ünïcödé ☃ 日本".as_bytes(),
        b"e\xcc\x81 in two parts",
        b"\xc3\xa9 in one",
        b"UPPER",
        b"upper",
        &[b'n'; 255],
        &[0xff; 255],
    ] {
        fs::write(name(odd), odd).unwrap();
        let directory = name(b"directories").join(OsStr::from_bytes(odd));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(OsStr::from_bytes(odd)), odd).unwrap();
    }
    // Only the one at the root is ours.
    fs::create_dir_all(name(b"sub/.syncmesh")).unwrap();
    fs::write(name(b"sub/.syncmesh/file"), "theirs").unwrap();
    for mode in [0o000, 0o400, 0o444, 0o600, 0o640, 0o755, 0o777] {
        let file = name(format!("mode {mode:o}").as_bytes());
        fs::write(&file, format!("{mode:o}")).unwrap();
        set_mode(&file, mode);
        let directory = name(format!("directory {mode:o}").as_bytes());
        fs::create_dir(&directory).unwrap();
        // Who isn't root couldn't read what is inside.
        if mode & 0o500 == 0o500 || rustix::process::geteuid().is_root() {
            fs::write(directory.join("inside"), "x").unwrap();
            set_mode(&directory, mode);
        }
    }
    for (number, (seconds, nanoseconds)) in
        [(0, 0), (1, 1), (1_700_000_000, 123_456_789), (1_700_000_000, 999_999_999), (4_000_000_000, 5), (-1, 500)]
            .iter()
            .enumerate()
    {
        let file = name(format!("time {number}").as_bytes());
        fs::write(&file, format!("{number}")).unwrap();
        set_mtime(&file, *seconds, *nanoseconds);
        let link = name(format!("link time {number}").as_bytes());
        symlink("one byte", &link).unwrap();
        set_mtime(&link, *seconds, *nanoseconds);
    }
    for (number, target) in
        [&b"nowhere"[..], b"/etc/passwd", b"../../outside", b"directories", b"loop", b"not \xff UTF-8", &[b't'; 4000]]
            .iter()
            .enumerate()
    {
        symlink(OsStr::from_bytes(target), name(format!("link {number}").as_bytes())).unwrap();
    }
    symlink("loop", name(b"loop")).unwrap();
    fs::write(name(b"owned"), "x").unwrap();
    set_owner(&name(b"owned"), 1234, 4321);
    fs::create_dir(name(b"owned directory")).unwrap();
    set_owner(&name(b"owned directory"), 1234, 4321);
    symlink("owned", name(b"owned link")).unwrap();
    set_owner(&name(b"owned link"), 1234, 4321);
    let deep = (0..60).fold(root.to_owned(), |deep, level| deep.join(format!("level {level}")));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "deep").unwrap();
    fs::create_dir_all(name(b"empty directory/in an empty directory")).unwrap();
}

#[test]
fn everything_that_a_directory_may_hold_arrives_as_it_is() {
    let mut mesh = Mesh::new(["a", "b"]);
    one_of_everything(&mesh.agents[0].volume);
    mesh.start();
    mesh.converge();
    mesh.assert_no_conflicts();
    let count = mesh.agents[1].names().len();
    assert!(count > 150, "{count} names");
}

#[test]
fn everything_that_a_directory_may_hold_arrives_while_the_agents_run_and_goes_again() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    mesh.converge();
    one_of_everything(&mesh.agents[1].volume);
    mesh.converge();
    mesh.assert_no_conflicts();
    for entry in fs::read_dir(&mesh.agents[0].volume).unwrap().map(|entry| entry.unwrap()) {
        match entry.file_type().unwrap().is_dir() {
            true if entry.file_name() == ".syncmesh" => {}
            true => fs::remove_dir_all(entry.path()).unwrap(),
            false => fs::remove_file(entry.path()).unwrap(),
        }
    }
    // So much at once is held.
    let a = &mesh.agents[0];
    wait_until("held deletions can be approved", || {
        let output = a.ask(&["holds", "approve"]);
        if output.status.success() { Ok(()) } else { Err(words(&output)) }
    });
    mesh.converge();
    assert_eq!(mesh.agents[1].names(), [""; 0]);
    mesh.stages_are_empty();
}

#[test]
fn sockets_and_pipes_stay_where_they_are() {
    let mut mesh = Mesh::new(["a", "b"]);
    let root = mesh.agents[0].volume.clone();
    drop(UnixListener::bind(root.join("socket")).unwrap());
    rustix::fs::mknodat(CWD, root.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    fs::write(root.join("file"), "x").unwrap();
    mesh.start();
    mesh.in_sync();
    assert_eq!(mesh.agents[1].names(), ["file"]);
    assert_eq!(mesh.agents[0].names(), ["file", "pipe", "socket"]);
}

#[test]
fn a_sparse_file_stays_sparse() {
    let mut mesh = Mesh::new(["a", "b"]);
    for (name, size) in [("large", 64 << 20), ("small", 200 << 10)] {
        let file = fs::File::create(mesh.agents[0].volume.join(name)).unwrap();
        file.set_len(size).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"middle", size / 2).unwrap();
        file.write_all_at(b"end", size - 3).unwrap();
    }
    fs::File::create(mesh.agents[0].volume.join("hole")).unwrap().set_len(3 << 20).unwrap();
    mesh.start();
    mesh.converge();
    for name in ["large", "small", "hole"] {
        let found = fs::metadata(mesh.agents[1].volume.join(name)).unwrap();
        let occupied = found.blocks() * 512;
        assert!(occupied < found.len() / 2, "{name} has {} bytes and occupies {occupied}", found.len());
    }
}

#[test]
fn changes_of_metadata_alone_arrive() {
    let mut mesh = Mesh::new(["a", "b"]);
    let root = mesh.agents[0].volume.clone();
    fs::create_dir(root.join("directory")).unwrap();
    fs::write(root.join("directory/file"), noise(1, 100_000)).unwrap();
    symlink("file", root.join("directory/link")).unwrap();
    mesh.start();
    mesh.converge();
    set_mode(&root.join("directory/file"), 0o640);
    mesh.converge();
    set_mode(&root.join("directory"), 0o750);
    mesh.converge();
    set_mtime(&root.join("directory/file"), 1_600_000_000, 42);
    mesh.converge();
    set_mtime(&root.join("directory/link"), 1_600_000_000, 43);
    mesh.converge();
    for name in ["directory/file", "directory", "directory/link"] {
        set_owner(&root.join(name), 77, 88);
        mesh.converge();
    }
    mesh.assert_no_conflicts();
}

#[test]
fn one_kind_takes_the_place_of_another() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    mesh.converge();
    let path = mesh.agents[0].volume.join("x");
    let file = || fs::write(&path, "file").unwrap();
    let directory = || {
        fs::create_dir_all(path.join("deep/deeper")).unwrap();
        fs::write(path.join("deep/deeper/file"), "x").unwrap();
    };
    let link = || symlink("elsewhere", &path).unwrap();
    let remove = || match fs::symlink_metadata(&path).map(|found| found.is_dir()) {
        Ok(true) => fs::remove_dir_all(&path).unwrap(),
        Ok(false) => fs::remove_file(&path).unwrap(),
        Err(_) => {}
    };
    let kinds: [&dyn Fn(); 4] = [&file, &directory, &link, &|| {}];
    for from in 0..kinds.len() {
        for to in 0..kinds.len() {
            remove();
            kinds[from]();
            mesh.converge();
            remove();
            kinds[to]();
            mesh.converge();
        }
    }
    mesh.assert_no_conflicts();
    mesh.stages_are_empty();
}

#[test]
fn a_directory_removed_and_made_again_at_once_is_looked_into_again() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    mesh.converge();
    let root = mesh.agents[0].volume.clone();
    for round in 0..60 {
        // File systems give a new directory the inode number of one that has just gone.
        if round > 0 {
            fs::remove_dir_all(root.join("x")).unwrap();
        }
        fs::create_dir_all(root.join("x/deep/deeper")).unwrap();
        fs::write(root.join("x/deep/deeper/file"), format!("{round}")).unwrap();
        mesh.converge();
    }
    mesh.assert_no_conflicts();
}

#[test]
fn what_was_written_before_a_wait_is_everywhere_after_it() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    mesh.converge();
    let root = mesh.agents[0].volume.clone();
    // Held open: it is read only when it has been quiet for a while.
    let open = fs::File::create(root.join("open")).unwrap();
    for round in 0..100_u64 {
        match round % 4 {
            0 => fs::write(root.join("file"), noise(round, 5_000)).unwrap(),
            1 => open.write_all_at(&noise(round, 100), 0).unwrap(),
            2 => fs::create_dir_all(root.join(format!("made/in/{round}"))).unwrap(),
            _ => fs::write(root.join("made/in").join((round - 1).to_string()).join("file"), "x").unwrap(),
        }
        mesh.agents[0].in_sync();
        mesh.assert_equal();
    }
}

#[test]
fn renames_arrive_with_everything_below() {
    let mut mesh = Mesh::new(["a", "b"]);
    let root = mesh.agents[0].volume.clone();
    for number in 0..100_u64 {
        let directory = root.join(format!("from/d{}", number % 4));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("f{number}")), noise(number, 5_000)).unwrap();
    }
    mesh.start();
    mesh.converge();
    fs::rename(root.join("from"), root.join("to")).unwrap();
    mesh.converge();
    assert!(!mesh.agents[1].volume.join("from").exists());
    // The watches went with it.
    fs::write(root.join("to/d1/new"), "x").unwrap();
    mesh.agents[1].shows("to/d1/new", b"x");
    // Two names change places.
    fs::rename(root.join("to/d0"), root.join("t")).unwrap();
    fs::rename(root.join("to/d1"), root.join("to/d0")).unwrap();
    fs::rename(root.join("t"), root.join("to/d1")).unwrap();
    mesh.converge();
    fs::rename(root.join("to/d2/f2"), root.join("to/d3/f3")).unwrap();
    mesh.converge();
    mesh.assert_no_conflicts();
}

#[test]
fn a_renamed_directory_of_large_files_is_not_sent_again() {
    let mut mesh = Mesh::new(["a", "b"]);
    let root = mesh.agents[0].volume.clone();
    fs::create_dir(root.join("from")).unwrap();
    for number in 0..4_u64 {
        fs::write(root.join(format!("from/{number}")), noise(number, 8 << 20)).unwrap();
    }
    mesh.start();
    mesh.converge();
    let received = |mesh: &Mesh| mesh.agents[1].peer_status("a").unwrap()["receivedBytes"].as_u64().unwrap();
    let before = received(&mesh);
    assert!(before > 32 << 20, "{before}");
    fs::rename(root.join("from"), root.join("to")).unwrap();
    mesh.agents[1].shows("to/3", &noise(3, 8 << 20));
    mesh.converge();
    let more = received(&mesh) - before;
    assert!(more < 1 << 20, "{more} bytes were sent for a rename");
}

#[test]
fn a_file_that_is_appended_to_and_edited_in_place_arrives() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    mesh.converge();
    let path = mesh.agents[0].volume.join("log");
    let file = fs::File::options().create(true).append(true).open(&path).unwrap();
    for round in 0..50_u64 {
        std::io::Write::write_all(&mut &file, &noise(round, 30_000)).unwrap();
    }
    // It is still open: nobody closes a log.
    mesh.agents[1].shows("log", &fs::read(&path).unwrap());
    let edit = fs::File::options().write(true).open(&path).unwrap();
    edit.write_all_at(b"in the middle", 700_000).unwrap();
    edit.set_len(1_000_000).unwrap();
    mesh.agents[1].shows("log", &fs::read(&path).unwrap());
    drop((file, edit));
    mesh.converge();
    mesh.assert_no_conflicts();
}

/// Contents that tell whether they are whole: number, hash, body.
fn whole(number: u64) -> Vec<u8> {
    let body = noise(number, (number * 7919 % 40_000) as usize);
    [&number.to_le_bytes()[..], blake3::hash(&body).as_bytes(), &body].concat()
}

#[track_caller]
fn number_of(contents: &[u8]) -> u64 {
    assert!(contents.len() >= 40, "torn: {} bytes", contents.len());
    let number = u64::from_le_bytes(contents[..8].try_into().unwrap());
    assert!(contents == whole(number), "version {number} is torn: {} bytes", contents.len());
    number
}

#[test]
fn a_reader_never_sees_a_missing_or_torn_file_during_three_thousand_replacements() {
    const REPLACEMENTS: u64 = 3_000;
    let mut mesh = Mesh::new(["a", "b"]);
    let [from, to] = [0, 1].map(|node: usize| mesh.agents[node].volume.join("file"));
    fs::write(&from, whole(0)).unwrap();
    mesh.start();
    mesh.converge();
    let (seen, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let different = std::thread::scope(|scope| {
        // However this ends, the reader ends too.
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let guard = Done(&done);
        let reader = scope.spawn(|| {
            let mut numbers = BTreeSet::new();
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let contents = match fs::read(&to) {
                    Ok(contents) => contents,
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        panic!("the file is missing after version {last}")
                    }
                    Err(error) => panic!("{error}"),
                };
                let number = number_of(&contents);
                assert!(number >= last, "after version {last} comes {number}");
                last = number;
                numbers.insert(number);
                seen.store(number, Ordering::Relaxed);
            }
            numbers.len()
        });
        for number in 1..=REPLACEMENTS {
            replace(&from, &whole(number));
            if number % 4 == 0 {
                wait_until("the reader sees a new version", || {
                    assert!(!reader.is_finished(), "the reader has failed");
                    let seen = seen.load(Ordering::Relaxed);
                    if seen + 4 > number { Ok(()) } else { Err(format!("{seen} after {number} was written")) }
                });
            }
        }
        drop(guard);
        reader.join().unwrap()
    });
    assert!(different >= 700, "the reader saw {different} versions only");
    mesh.converge();
    mesh.assert_no_conflicts();
    mesh.stages_are_empty();
    assert_eq!(number_of(&fs::read(&to).unwrap()), REPLACEMENTS);
    assert_eq!(tree::names(&mesh.agents[1].volume), [b"file"]);
}

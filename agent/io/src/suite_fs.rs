//! One suite for every twin of [`Fs`]: what holds on Linux must hold in the simulator, event for event.
//!
//! Each case gets a fresh world, in which a user acts beside the agent. [`run_all`] prints a case's name before it runs.

#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

use crate::{Directory, Displaced, FileKind, Fs, FsError, Metadata, Stat, WatchEvent, WatchKind};

/// A volume and its user. Paths are relative to the root, components divided by `/`; actions that fail panic.
pub trait FsWorld {
    /// The agent's side.
    fn fs(&self) -> &dyn Fs;
    /// Writes a file as `O_CREAT | O_TRUNC`, one write unless there is nothing to write, and close do.
    fn write(&self, path: &[u8], bytes: &[u8]);
    /// Reads a file, following nothing.
    fn read(&self, path: &[u8]) -> Option<Vec<u8>>;
    /// Makes a directory.
    fn mkdir(&self, path: &[u8]);
    /// Removes a file, a link or an empty directory.
    fn remove(&self, path: &[u8]);
    /// Makes a link.
    fn symlink(&self, target: &[u8], path: &[u8]);
    /// Opens a file for writing; it is closed when what is returned goes.
    fn hold(&self, path: &[u8]) -> Box<dyn std::any::Any>;
    /// Renames, replacing.
    fn rename(&self, from: &[u8], to: &[u8]);
    /// Sets permission bits.
    fn chmod(&self, path: &[u8], mode: u32);
    /// Sets an extended attribute; false if it can't be set.
    fn set_attribute(&self, path: &[u8], name: &str, value: &[u8]) -> bool;
    /// An extended attribute's value.
    fn attribute(&self, path: &[u8], name: &str) -> Option<Vec<u8>>;
    /// What a name stands for.
    fn stat(&self, path: &[u8]) -> Option<Stat>;
    /// All events since the last call. Those of actions that have returned are there: nothing is waited for.
    fn events(&self) -> Vec<WatchEvent>;
}

/// A case's name and body.
pub type Case = (&'static str, fn(&dyn FsWorld));

/// Runs every case in a world of its own.
pub fn run_all(mut world: impl FnMut() -> Box<dyn FsWorld>) {
    for (name, case) in CASES {
        println!("{name}");
        let world = world();
        world.fs().probe().unwrap();
        case(world.as_ref());
    }
}

/// All cases.
pub const CASES: &[Case] = &[
    ("a probe can be repeated and leaves no slot", probe),
    ("before the marker is written there is none", marker),
    ("a root that nobody moved is in its place", in_place),
    ("a staged file is published under a free name", publish_new),
    ("an exchange puts what was displaced into the slot", exchange),
    ("without replace a taken name is refused", no_replace),
    ("publishing into a removed directory finds nothing", removed),
    ("publishing an empty slot finds nothing", empty_slot),
    ("directories and links are displaced like files", other_kinds),
    ("withdrawing moves the name's inode into the slot", withdraw),
    ("stored versions are listed until they are dropped", store),
    ("there is never more room than the file system has", space),
    ("slots are listed until they are dropped", slots),
    ("staging a file again replaces it, and nothing else", restage),
    ("names needn't be UTF-8", raw_names),
    ("metadata of staged files, directories and links is theirs", slot_metadata),
    ("metadata of an open file is kept by the exchange", file_metadata),
    ("unwritten parts of a file are holes", holes),
    ("a link or a file on the way leads outside", outside),
    ("only single components are names", names),
    ("the meta directory is neither listed nor reached", meta_directory),
    ("a listing has all of three thousand names", long_listing),
    ("a second name is the same file", second_name),
    ("a directory with names in it isn't removed", remove_directory),
    ("metadata isn't set on another inode", swapped_inode),
    ("who reads keeps the old contents through an exchange", open_reader),
    ("only regular files open, only links have targets", kinds),
    ("a directory stays the same when it is renamed", renamed_directory),
    ("what users do to files is reported in order", user_events),
    ("what users do to directories is reported in order", directory_events),
    ("what we do is reported as what it is", own_events),
    ("watching twice is one watch", watch_twice),
    ("who has a file open for writing is told wherever the file lies", writers),
    ("a stored version goes back into a slot", take_stored),
    ("the time now isn't before that of a change", stamps),
    ("what memory forgets is read from the disk", forget_cached),
    ("a staged file takes over attributes, and no privileges", keep_attributes),
];

fn root(world: &dyn FsWorld) -> Box<dyn Directory + '_> {
    world.fs().open_directory(&[]).unwrap()
}

fn stage(world: &dyn FsWorld, slot: u64, bytes: &[u8]) -> Stat {
    let file = world.fs().stage_file(slot).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.stat().unwrap()
}

fn slot_contents(world: &dyn FsWorld, slot: u64) -> Vec<u8> {
    let file = world.fs().open_slot(slot).unwrap();
    let mut contents = vec![0; usize::try_from(file.stat().unwrap().size).unwrap() + 1];
    let bytes = file.read_at(&mut contents, 0).unwrap();
    contents.truncate(bytes);
    contents
}

fn in_slot(displaced: Displaced) -> Stat {
    match displaced {
        Displaced::InSlot(stat) => stat,
        Displaced::Nothing => panic!("nothing was displaced"),
    }
}

fn error<T>(result: Result<T, FsError>) -> FsError {
    match result {
        Err(why) => why,
        Ok(_) => panic!("this should have failed"),
    }
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values
}

fn names_of(directory: &dyn Directory) -> Vec<Vec<u8>> {
    let entries = directory.list().unwrap();
    sorted(entries.into_iter().map(|entry| entry.name).collect())
}

fn probe(world: &dyn FsWorld) {
    let probe = world.fs().probe().unwrap();
    assert!(probe.exchange && probe.no_replace && probe.leases && probe.exact_metadata);
    assert_eq!(probe.device, root(world).stat_self().unwrap().id.device);
    assert_eq!(world.fs().list_slots().unwrap(), []);
    assert_eq!(names_of(root(world).as_ref()), Vec::<Vec<u8>>::new());
    world.fs().sync().unwrap();
    world.fs().write_out().unwrap();
}

fn in_place(world: &dyn FsWorld) {
    world.mkdir(b"d");
    world.rename(b"d", b"e");
    assert_eq!(world.fs().is_in_place(), Ok(true));
}

fn marker(world: &dyn FsWorld) {
    assert_eq!(world.fs().read_marker().unwrap(), None);
    world.fs().write_marker(b"one").unwrap();
    world.fs().write_marker(b"second").unwrap();
    assert_eq!(world.fs().read_marker().unwrap(), Some(b"second".to_vec()));
}

fn publish_new(world: &dyn FsWorld) {
    world.mkdir(b"d");
    let staged = stage(world, 1, b"new");
    assert_eq!((staged.kind, staged.mode, staged.size), (FileKind::File, 0o600, 3));
    let directory = world.fs().open_directory(&[b"d"]).unwrap();
    assert_eq!(directory.publish(1, b"f", false).unwrap(), Displaced::Nothing);
    assert_eq!(world.read(b"d/f").unwrap(), b"new");
    assert_eq!(directory.stat(b"f").unwrap().id, staged.id);
    assert_eq!(error(world.fs().stat_slot(1)), FsError::NotFound);

    // The name may be free although replacing is allowed.
    stage(world, 2, b"other");
    assert_eq!(directory.publish(2, b"g", true).unwrap(), Displaced::Nothing);
    assert_eq!(world.read(b"d/g").unwrap(), b"other");
}

fn exchange(world: &dyn FsWorld) {
    world.write(b"f", b"old");
    let old = world.stat(b"f").unwrap();
    let staged = stage(world, 7, b"new");
    let displaced = in_slot(root(world).publish(7, b"f", true).unwrap());
    assert_eq!((displaced.id, displaced.size), (old.id, 3));
    assert_eq!((displaced.mtime, displaced.mode), (old.mtime, old.mode));
    assert_eq!(world.stat(b"f").unwrap().id, staged.id);
    assert_eq!(world.fs().stat_slot(7).unwrap(), displaced);
    assert_eq!(slot_contents(world, 7), b"old");
    assert_eq!(world.read(b"f").unwrap(), b"new");
}

fn no_replace(world: &dyn FsWorld) {
    world.write(b"f", b"theirs");
    stage(world, 1, b"ours");
    assert_eq!(error(root(world).publish(1, b"f", false)), FsError::Exists);
    assert_eq!(world.read(b"f").unwrap(), b"theirs");
    assert_eq!(slot_contents(world, 1), b"ours");
}

fn removed(world: &dyn FsWorld) {
    world.mkdir(b"d");
    let directory = world.fs().open_directory(&[b"d"]).unwrap();
    world.remove(b"d");
    stage(world, 1, b"x");
    for replace in [false, true] {
        assert_eq!(error(directory.publish(1, b"f", replace)), FsError::NotFound);
    }
    assert_eq!(slot_contents(world, 1), b"x");
    assert_eq!(error(directory.list()), FsError::NotFound);
    assert_eq!(error(world.fs().open_directory(&[b"d"])), FsError::NotFound);
}

fn empty_slot(world: &dyn FsWorld) {
    world.write(b"f", b"x");
    let root = root(world);
    assert_eq!(error(root.publish(1, b"g", false)), FsError::NotFound);
    assert_eq!(error(root.publish(1, b"g", true)), FsError::NotFound);
    assert_eq!(world.read(b"f").unwrap(), b"x");
    assert_eq!(error(world.fs().open_slot(1)), FsError::NotFound);
    assert_eq!(error(world.fs().drop_slot(1)), FsError::NotFound);
    assert_eq!(error(world.fs().store_slot(1, "x")), FsError::NotFound);
}

fn other_kinds(world: &dyn FsWorld) {
    world.mkdir(b"d");
    world.write(b"d/inside", b"kept");
    world.symlink(b"d", b"l");
    let root = root(world);

    let directory = world.stat(b"d").unwrap();
    stage(world, 1, b"a file");
    let displaced = in_slot(root.publish(1, b"d", true).unwrap());
    assert_eq!((displaced.id, displaced.kind), (directory.id, FileKind::Directory));
    assert_eq!(world.read(b"d").unwrap(), b"a file");
    assert_eq!(error(world.fs().drop_slot(1)), FsError::NotEmpty);

    // The link itself gives way, not what it points to.
    let link = world.stat(b"l").unwrap();
    stage(world, 2, b"another");
    let displaced = in_slot(root.publish(2, b"l", true).unwrap());
    assert_eq!((displaced.id, displaced.kind), (link.id, FileKind::Symlink));
    assert_eq!(world.read(b"l").unwrap(), b"another");
    assert_eq!(world.read(b"d").unwrap(), b"a file");
    assert_eq!(error(world.fs().open_slot(2)), FsError::WrongKind);

    // And back: a directory with its names, over a file.
    let displaced = in_slot(root.publish(1, b"d", true).unwrap());
    assert_eq!(displaced.kind, FileKind::File);
    assert_eq!(world.read(b"d/inside").unwrap(), b"kept");
}

fn withdraw(world: &dyn FsWorld) {
    world.write(b"f", b"theirs");
    let before = world.stat(b"f").unwrap();
    let root = root(world);
    stage(world, 1, b"taken");
    assert_eq!(error(root.withdraw(b"f", 1)), FsError::Exists);
    assert_eq!(root.withdraw(b"f", 2).unwrap().id, before.id);
    assert_eq!(world.stat(b"f"), None);
    assert_eq!(slot_contents(world, 2), b"theirs");
    assert_eq!(error(root.withdraw(b"f", 3)), FsError::NotFound);
}

fn store(world: &dyn FsWorld) {
    let fs = world.fs();
    stage(world, 1, b"one");
    stage(world, 2, b"two");
    fs.store_slot(1, "v1").unwrap();
    assert_eq!(error(fs.store_slot(2, "v1")), FsError::Exists);
    assert_eq!(error(fs.store_slot(2, "../v2")), FsError::Outside);
    fs.store_slot(2, "v2").unwrap();
    assert_eq!(sorted(fs.list_store().unwrap()), ["v1", "v2"]);
    assert_eq!(fs.list_slots().unwrap(), []);
    let stat = fs.stat_stored("v1").unwrap();
    assert_eq!((stat.kind, stat.size), (FileKind::File, 3));
    assert_eq!(error(fs.stat_stored("v3")), FsError::NotFound);
    assert_eq!(error(fs.stat_stored("../stage")), FsError::Outside);
    fs.stage_symlink(3, b"to").unwrap();
    fs.store_slot(3, "link").unwrap();
    assert_eq!(fs.stat_stored("link").unwrap().kind, FileKind::Symlink);
    fs.drop_stored("link").unwrap();
    fs.drop_stored("v1").unwrap();
    assert_eq!(fs.list_store().unwrap(), ["v2"]);
    assert_eq!(error(fs.drop_stored("v1")), FsError::NotFound);
}

fn space(world: &dyn FsWorld) {
    let before = world.fs().space().unwrap();
    assert!(before.free_bytes > 0 && before.free_bytes <= before.total_bytes);
    stage(world, 1, &[7; 1 << 20]);
    let after = world.fs().space().unwrap();
    // Others use the same disk: how much is free now isn't only ours to say.
    assert_eq!(after.total_bytes, before.total_bytes);
    assert!(after.free_bytes <= after.total_bytes);
}

fn slots(world: &dyn FsWorld) {
    let fs = world.fs();
    stage(world, u64::MAX, b"file");
    fs.stage_directory(0xab).unwrap();
    fs.stage_symlink(3, b"/any/where").unwrap();
    assert_eq!(sorted(fs.list_slots().unwrap()), [3, 0xab, u64::MAX]);
    assert_eq!(fs.stat_slot(0xab).unwrap().kind, FileKind::Directory);
    assert_eq!(fs.stat_slot(0xab).unwrap().mode, 0o700);
    assert_eq!(fs.stat_slot(3).unwrap().kind, FileKind::Symlink);
    assert_eq!(error(fs.stage_directory(3)), FsError::Exists);
    assert_eq!(error(fs.stage_symlink(0xab, b"x")), FsError::Exists);
    for slot in [3, 0xab, u64::MAX] {
        fs.drop_slot(slot).unwrap();
    }
    assert_eq!(fs.list_slots().unwrap(), []);
}

fn restage(world: &dyn FsWorld) {
    let fs = world.fs();
    let first = stage(world, 1, b"longer");
    let held = fs.open_slot(1).unwrap();
    let second = stage(world, 1, b"short");
    assert_ne!(first.id, second.id);
    assert_eq!(slot_contents(world, 1), b"short");
    assert_eq!(held.stat().unwrap().size, 6);
    fs.stage_directory(2).unwrap();
    assert_eq!(error(fs.stage_file(2)), FsError::WrongKind);
    assert_eq!(error(fs.open_slot(2)), FsError::WrongKind);
}

fn raw_names(world: &dyn FsWorld) {
    let (raw, newline) = (b"\xff\xfe b\x80".as_slice(), b"a\nb\\".as_slice());
    world.mkdir(raw);
    let directory = world.fs().open_directory(&[raw]).unwrap();
    stage(world, 1, b"x");
    directory.publish(1, newline, false).unwrap();
    assert_eq!(names_of(root(world).as_ref()), [raw.to_vec()]);
    assert_eq!(names_of(directory.as_ref()), [newline.to_vec()]);
    assert_eq!(directory.stat(newline).unwrap().size, 1);
}

const MTIME: i64 = 1_600_000_000_123_456_789;

fn slot_metadata(world: &dyn FsWorld) {
    let fs = world.fs();
    stage(world, 1, b"x");
    fs.stage_directory(2).unwrap();
    fs.stage_symlink(3, b"target").unwrap();
    let owner = fs.stat_slot(1).unwrap().owner;
    for slot in 1..=3 {
        let before = fs.stat_slot(slot).unwrap();
        let all =
            Metadata { owner: Some(owner), mode: Some(0o2751), mtime: Some(MTIME + i64::try_from(slot).unwrap()) };
        fs.set_slot_metadata(slot, &all).unwrap();
        let after = fs.stat_slot(slot).unwrap();
        assert_eq!(after.mtime, MTIME + i64::try_from(slot).unwrap());
        let mode = if slot == 3 { before.mode } else { 0o2751 };
        assert_eq!(after.mode, mode);

        // Before 1970, with a rest of nanoseconds; the mode stays.
        let early = Metadata { mtime: Some(-1_500_000_001), ..Metadata::default() };
        fs.set_slot_metadata(slot, &early).unwrap();
        let after = fs.stat_slot(slot).unwrap();
        assert_eq!((after.mtime, after.mode), (-1_500_000_001, mode));
    }
    let root = root(world);
    root.publish(3, b"l", false).unwrap();
    assert_eq!(root.read_link(b"l").unwrap(), b"target");
    assert_eq!(root.stat(b"l").unwrap().size, 6);
}

fn file_metadata(world: &dyn FsWorld) {
    world.write(b"f", b"old");
    let file = world.fs().stage_file(1).unwrap();
    file.write_at(b"contents", 0).unwrap();
    let metadata = Metadata { owner: Some(file.stat().unwrap().owner), mode: Some(0o4640), mtime: Some(MTIME) };
    file.set_metadata(&metadata).unwrap();
    let before = file.stat().unwrap();
    root(world).publish(1, b"f", true).unwrap();
    let after = file.stat().unwrap();
    // The exchange may change the ctime and nothing else.
    assert_eq!(Stat { ctime: 0, ..before }, Stat { ctime: 0, ..after });
    assert_eq!(root(world).stat(b"f").unwrap(), after);
    assert_eq!((after.mode, after.mtime, after.size), (0o4640, MTIME, 8));
}

fn holes(world: &dyn FsWorld) {
    let size = 8 << 20;
    let file = world.fs().stage_file(1).unwrap();
    file.set_len(size).unwrap();
    assert_eq!(file.stat().unwrap().size, size);
    file.write_at(b"end", size - 3).unwrap();
    file.write_at(b"more", size).unwrap();
    let stat = file.stat().unwrap();
    assert_eq!(stat.size, size + 4);
    assert!(stat.blocks > 0 && stat.blocks * 512 < size / 2, "{stat:?}");
    let mut buffer = [1; 16];
    assert_eq!(file.read_at(&mut buffer, 1 << 20).unwrap(), 16);
    assert_eq!(buffer, [0; 16]);
    assert_eq!(file.read_at(&mut buffer, size - 3).unwrap(), 7);
    assert_eq!(&buffer[..7], b"endmore");
    assert_eq!(file.read_at(&mut buffer, size + 4).unwrap(), 0);
    // What is cut off doesn't come back.
    file.set_len(size - 2).unwrap();
    file.set_len(size).unwrap();
    assert_eq!(file.read_at(&mut buffer, size - 3).unwrap(), 3);
    assert_eq!(&buffer[..3], b"e\0\0");
}

fn outside(world: &dyn FsWorld) {
    world.mkdir(b"d");
    world.mkdir(b"d/e");
    world.write(b"file", b"x");
    world.symlink(b"d", b"link");
    world.symlink(b"/", b"d/away");
    let open = |components: &[&[u8]]| error(world.fs().open_directory(components));
    assert!(world.fs().open_directory(&[b"d", b"e"]).is_ok());
    assert_eq!(open(&[b"link"]), FsError::Outside);
    assert_eq!(open(&[b"link", b"e"]), FsError::Outside);
    assert_eq!(open(&[b"d", b"away"]), FsError::Outside);
    assert_eq!(open(&[b"d", b"away", b"tmp"]), FsError::Outside);
    assert_eq!(open(&[b"file"]), FsError::Outside);
    assert_eq!(open(&[b"file", b"e"]), FsError::Outside);
    assert_eq!(open(&[b"d", b"gone"]), FsError::NotFound);
}

fn names(world: &dyn FsWorld) {
    world.mkdir(b"d");
    world.write(b"d/f", b"x");
    stage(world, 1, b"x");
    let root = root(world);
    for name in [b"..".as_slice(), b".", b"", b"d/f", b"/", b"a\0b"] {
        assert_eq!(error(world.fs().open_directory(&[name])), FsError::Outside);
        assert_eq!(error(world.fs().open_directory(&[b"d", name])), FsError::Outside);
        assert_eq!(error(root.stat(name)), FsError::Outside);
        assert_eq!(error(root.open(name)), FsError::Outside);
        assert_eq!(error(root.publish(1, name, true)), FsError::Outside);
        assert_eq!(error(root.withdraw(name, 2)), FsError::Outside);
        assert_eq!(error(root.link(b"d", name)), FsError::Outside);
    }
}

fn meta_directory(world: &dyn FsWorld) {
    let meta: &[u8] = b".syncmesh";
    world.mkdir(b"d");
    world.mkdir(b"d/.syncmesh");
    stage(world, 1, b"x");
    let root = root(world);
    assert_eq!(names_of(root.as_ref()), [b"d".to_vec()]);
    assert_eq!(world.stat(meta).unwrap().mode, 0o700);
    assert_eq!(error(world.fs().open_directory(&[meta])), FsError::Outside);
    assert_eq!(error(world.fs().open_directory(&[meta, b"stage"])), FsError::Outside);
    assert_eq!(error(root.stat(meta)), FsError::Outside);
    assert_eq!(error(root.withdraw(meta, 2)), FsError::Outside);
    assert_eq!(error(root.publish(1, meta, true)), FsError::Outside);
    assert_eq!(error(root.remove_directory(meta)), FsError::Outside);
    // Only the root's is ours.
    let directory = world.fs().open_directory(&[b"d"]).unwrap();
    assert_eq!(names_of(directory.as_ref()), [meta.to_vec()]);
    assert!(world.fs().open_directory(&[b"d", meta]).is_ok());
}

fn long_listing(world: &dyn FsWorld) {
    world.mkdir(b"d");
    let mut expected = Vec::new();
    for number in 0..3_000 {
        let name = format!("a name that is somewhat longer than most {number:06}").into_bytes();
        world.write(&[b"d/".as_slice(), &name].concat(), b"");
        expected.push(name);
    }
    let directory = world.fs().open_directory(&[b"d"]).unwrap();
    // Twice: a listing starts at the beginning.
    for _ in 0..2 {
        assert_eq!(names_of(directory.as_ref()), expected);
    }
    let entries = directory.list().unwrap();
    assert!(entries.iter().all(|entry| matches!(entry.kind, None | Some(FileKind::File))));
}

fn second_name(world: &dyn FsWorld) {
    world.write(b"f", b"x");
    world.write(b"taken", b"y");
    world.mkdir(b"d");
    world.symlink(b"f", b"l");
    let root = root(world);
    assert_eq!(root.stat(b"f").unwrap().links, 1);
    root.link(b"f", b"g").unwrap();
    assert_eq!(root.stat(b"g").unwrap().id, root.stat(b"f").unwrap().id);
    assert_eq!(root.stat(b"g").unwrap().links, 2);
    assert_eq!(error(root.link(b"f", b"taken")), FsError::Exists);
    assert_eq!(error(root.link(b"gone", b"h")), FsError::NotFound);
    assert_eq!(error(root.link(b"d", b"h")), FsError::WrongKind);
    root.link(b"l", b"second link").unwrap();
    assert_eq!(root.read_link(b"second link").unwrap(), root.read_link(b"l").unwrap());
    world.remove(b"f");
    assert_eq!(world.read(b"g").unwrap(), b"x");
    assert_eq!(root.stat(b"g").unwrap().links, 1);
}

fn remove_directory(world: &dyn FsWorld) {
    world.mkdir(b"d");
    world.write(b"d/f", b"x");
    let root = root(world);
    assert_eq!(error(root.remove_directory(b"d")), FsError::NotEmpty);
    world.remove(b"d/f");
    root.remove_directory(b"d").unwrap();
    assert_eq!(error(root.remove_directory(b"d")), FsError::NotFound);
    world.write(b"f", b"x");
    world.symlink(b"f", b"l");
    assert_eq!(error(root.remove_directory(b"f")), FsError::WrongKind);
    assert_eq!(error(root.remove_directory(b"l")), FsError::WrongKind);
}

fn swapped_inode(world: &dyn FsWorld) {
    world.write(b"f", b"one");
    world.write(b"g", b"two");
    world.mkdir(b"d");
    world.symlink(b"f", b"l");
    let root = root(world);
    let metadata = Metadata { owner: None, mode: Some(0o640), mtime: Some(MTIME) };
    for name in [b"f", b"d", b"l"] {
        let before = root.stat(name).unwrap();
        let after = root.set_metadata(name, before.id, &metadata).unwrap();
        assert_eq!((after.id, after.mtime), (before.id, MTIME));
        assert_eq!(root.stat(name).unwrap(), after);
        if name != b"l" {
            assert_eq!(after.mode, 0o640);
        }
    }
    let expected = root.stat(b"f").unwrap().id;
    let other = root.stat(b"g").unwrap();
    world.rename(b"g", b"f");
    assert_eq!(error(root.set_metadata(b"f", expected, &metadata)), FsError::NotFound);
    let after = root.stat(b"f").unwrap();
    assert_eq!((after.mode, after.mtime), (other.mode, other.mtime));
    // The link's target wasn't touched through the link: mode as the new file has it.
    let link = root.stat(b"l").unwrap();
    root.set_metadata(b"l", link.id, &metadata).unwrap();
    assert_eq!(root.stat(b"f").unwrap().mode, other.mode);
}

fn open_reader(world: &dyn FsWorld) {
    world.write(b"f", b"old contents");
    let root = root(world);
    let reader = root.open(b"f").unwrap();
    stage(world, 1, b"new");
    root.publish(1, b"f", true).unwrap();
    let mut buffer = [0; 32];
    assert_eq!(reader.read_at(&mut buffer, 4).unwrap(), 8);
    assert_eq!(&buffer[..8], b"contents");
    world.fs().drop_slot(1).unwrap();
    assert_eq!(reader.read_at(&mut buffer, 0).unwrap(), 12);
    assert_eq!(reader.stat().unwrap().links, 0);
}

fn kinds(world: &dyn FsWorld) {
    world.write(b"f", b"x");
    world.mkdir(b"d");
    world.symlink(b"f", b"l");
    let root = root(world);
    assert!(root.open(b"f").is_ok());
    assert_eq!(error(root.open(b"d")), FsError::WrongKind);
    assert_eq!(error(root.open(b"l")), FsError::WrongKind);
    assert_eq!(error(root.open(b"gone")), FsError::NotFound);
    assert_eq!(root.read_link(b"l").unwrap(), b"f");
    assert_eq!(error(root.read_link(b"f")), FsError::WrongKind);
    assert_eq!(error(root.read_link(b"d")), FsError::WrongKind);
    assert_eq!(error(root.read_link(b"gone")), FsError::NotFound);
    assert_eq!(root.stat(b"d").unwrap().kind, FileKind::Directory);
    assert_eq!(root.stat(b"l").unwrap().kind, FileKind::Symlink);
}

fn renamed_directory(world: &dyn FsWorld) {
    world.mkdir(b"d");
    let directory = world.fs().open_directory(&[b"d"]).unwrap();
    let before = directory.stat_self().unwrap().id;
    world.rename(b"d", b"e");
    stage(world, 1, b"x");
    directory.publish(1, b"f", false).unwrap();
    assert_eq!(world.read(b"e/f").unwrap(), b"x");
    assert_eq!(directory.stat_self().unwrap().id, before);
}

/// Events as `(watch, kind, name, is_directory)`.
fn told(world: &dyn FsWorld) -> Vec<(i32, WatchKind, String, bool)> {
    let text = |name: Vec<u8>| String::from_utf8(name).unwrap();
    let events = world.events().into_iter();
    events.map(|event| (event.directory, event.kind, text(event.name), event.is_directory)).collect()
}

fn expect(world: &dyn FsWorld, events: &[(i32, WatchKind, &str, bool)]) {
    let told = told(world);
    let told: Vec<_> =
        told.iter().map(|(watch, kind, name, is_directory)| (*watch, *kind, name.as_str(), *is_directory)).collect();
    assert_eq!(told, events);
}

fn user_events(world: &dyn FsWorld) {
    use WatchKind::{Attributes, Closed, Created, Modified, Moved};
    world.mkdir(b"s");
    world.mkdir(b"unwatched");
    let top = root(world).watch().unwrap();
    let sub = world.fs().open_directory(&[b"s"]).unwrap().watch().unwrap();
    expect(world, &[]);
    world.write(b"empty", b"");
    expect(world, &[(top, Created, "empty", false), (top, Closed, "empty", false)]);
    world.write(b"f", b"x");
    let made = [Created, Modified, Closed].map(|kind| (top, kind, "f", false));
    expect(world, &made);
    world.write(b"f", b"longer");
    expect(world, &made[1..]);
    world.chmod(b"f", 0o600);
    expect(world, &[(top, Attributes, "f", false)]);
    world.rename(b"f", b"g");
    expect(world, &[(top, Moved, "f", false), (top, Moved, "g", false)]);
    world.rename(b"g", b"s/g");
    expect(world, &[(top, Moved, "g", false), (sub, Moved, "g", false)]);
    world.rename(b"s/g", b"unwatched/g");
    expect(world, &[(sub, Moved, "g", false)]);
    world.rename(b"unwatched/g", b"empty");
    expect(world, &[(top, Moved, "empty", false)]);
    world.symlink(b"x", b"l");
    expect(world, &[(top, Created, "l", false)]);
    world.remove(b"empty");
    expect(world, &[(top, Moved, "empty", false)]);
    world.write(b"unwatched/x", b"x");
    expect(world, &[]);
}

fn directory_events(world: &dyn FsWorld) {
    use WatchKind::{Attributes, Created, DirectoryGone, Moved};
    world.mkdir(b"s");
    world.mkdir(b"unwatched");
    let top = root(world).watch().unwrap();
    let sub = world.fs().open_directory(&[b"s"]).unwrap().watch().unwrap();
    world.mkdir(b"d");
    expect(world, &[(top, Created, "d", true)]);
    world.chmod(b"s", 0o711);
    expect(world, &[(top, Attributes, "s", true), (sub, Attributes, "", true)]);
    world.chmod(b"", 0o755);
    expect(world, &[(top, Attributes, "", true)]);
    // A watch goes with its directory.
    world.rename(b"s", b"unwatched/s");
    expect(world, &[(top, Moved, "s", true), (sub, DirectoryGone, "", false)]);
    world.mkdir(b"unwatched/s/x");
    expect(world, &[(sub, Created, "x", true)]);
    world.rename(b"unwatched/s", b"s");
    expect(world, &[(top, Moved, "s", true), (sub, DirectoryGone, "", false)]);
    world.remove(b"s/x");
    expect(world, &[(sub, Moved, "x", true)]);
    // While we hold it the directory itself lives on.
    let held = world.fs().open_directory(&[b"s"]).unwrap();
    world.remove(b"s");
    expect(world, &[(top, Moved, "s", true)]);
    drop(held);
    expect(world, &[(sub, DirectoryGone, "", false), (sub, DirectoryGone, "", false)]);
    world.mkdir(b"s");
    let again = world.fs().open_directory(&[b"s"]).unwrap().watch().unwrap();
    assert_ne!(again, sub);
    world.remove(b"s");
    let gone = (again, DirectoryGone, "", false);
    expect(world, &[(top, Created, "s", true), gone, gone, (top, Moved, "s", true)]);
    // An empty directory gives way to another.
    world.mkdir(b"target");
    let target = world.fs().open_directory(&[b"target"]).unwrap().watch().unwrap();
    world.rename(b"d", b"target");
    let gone = (target, DirectoryGone, "", false);
    expect(
        world,
        &[
            (top, Created, "target", true),
            (top, Moved, "d", true),
            (top, Moved, "target", true),
            (target, Attributes, "", true),
            gone,
            gone,
        ],
    );
}

fn own_events(world: &dyn FsWorld) {
    use WatchKind::{Attributes, Closed, Created, DirectoryGone, Modified, Moved};
    world.mkdir(b"s");
    world.write(b"f", b"old");
    let root = root(world);
    let top = root.watch().unwrap();
    let sub = world.fs().open_directory(&[b"s"]).unwrap().watch().unwrap();

    // Nothing is told of the stage. The staged descriptor tells under its new name.
    let file = world.fs().stage_file(1).unwrap();
    file.write_at(b"new", 0).unwrap();
    expect(world, &[]);
    root.publish(1, b"f", true).unwrap();
    let moved = (top, Moved, "f", false);
    expect(world, &[moved, moved]);
    file.write_at(b"NEW", 0).unwrap();
    let mode = Metadata { mode: Some(0o644), mtime: Some(MTIME), ..Metadata::default() };
    file.set_metadata(&mode).unwrap();
    drop(file);
    // Linux calls it a modification when the time of modification is set alone.
    let told = [Modified, Attributes, Modified, Closed].map(|kind| (top, kind, "f", false));
    expect(world, &told);

    // What was displaced tells nothing, wherever it is held open.
    let slot = world.fs().resume_slot(1).unwrap();
    slot.write_at(b"x", 0).unwrap();
    drop(slot);
    expect(world, &[]);

    // A file for a directory, and back.
    root.publish(1, b"s", true).unwrap();
    let gone = (sub, DirectoryGone, "", false);
    let (file, directory) = ((top, Moved, "s", false), (top, Moved, "s", true));
    expect(world, &[file, directory, gone]);
    root.publish(1, b"s", true).unwrap();
    expect(world, &[directory, gone, file]);

    let read = root.open(b"f").unwrap();
    drop(read);
    expect(world, &[]);
    root.withdraw(b"f", 2).unwrap();
    root.publish(2, b"f", false).unwrap();
    root.link(b"f", b"g").unwrap();
    root.set_metadata(b"g", root.stat(b"g").unwrap().id, &mode).unwrap();
    root.remove_directory(b"s").unwrap();
    let second = |kind| (top, kind, "g", false);
    expect(world, &[moved, moved, second(Created), second(Attributes), second(Modified), gone, gone, directory]);
}

fn watch_twice(world: &dyn FsWorld) {
    let first = root(world).watch().unwrap();
    assert_eq!(root(world).watch().unwrap(), first);
    world.mkdir(b"d");
    expect(world, &[(first, WatchKind::Created, "d", true)]);
    assert_eq!(world.fs().watch_source(), world.fs().watch_source());
}

fn writers(world: &dyn FsWorld) {
    let fs = world.fs();
    world.write(b"f", b"old");
    let root = root(world);
    let published = |name: &[u8]| root.open(name).unwrap().has_writers();
    assert_eq!(published(b"f"), Ok(false));
    let reader = root.open(b"f").unwrap();
    let held = world.hold(b"f");
    assert_eq!((published(b"f"), reader.has_writers()), (Ok(true), Ok(true)));
    stage(world, 1, b"new");
    root.publish(1, b"f", true).unwrap();
    assert_eq!((published(b"f"), reader.has_writers()), (Ok(false), Ok(true)));
    assert_eq!(fs.open_slot(1).unwrap().has_writers(), Ok(true));
    fs.store_slot(1, "v").unwrap();
    assert_eq!(fs.open_stored("v").unwrap().has_writers(), Ok(true));
    drop(held);
    assert_eq!(fs.open_stored("v").unwrap().has_writers(), Ok(false));
    // A staged file counts its own descriptor.
    let staged = fs.stage_file(2).unwrap();
    assert_eq!(fs.open_slot(2).unwrap().has_writers(), Ok(true));
    drop(staged);
    assert_eq!(fs.open_slot(2).unwrap().has_writers(), Ok(false));
}

fn take_stored(world: &dyn FsWorld) {
    let fs = world.fs();
    stage(world, 1, b"one");
    fs.store_slot(1, "v").unwrap();
    stage(world, 2, b"two");
    assert_eq!(fs.take_stored("v", 2), Err(FsError::Exists));
    assert_eq!(fs.take_stored("w", 3), Err(FsError::NotFound));
    fs.take_stored("v", 3).unwrap();
    assert_eq!(fs.list_store().unwrap(), Vec::<String>::new());
    assert_eq!((slot_contents(world, 2), slot_contents(world, 3)), (b"two".to_vec(), b"one".to_vec()));
}

fn stamps(world: &dyn FsWorld) {
    for name in [b"a", b"b"] {
        world.write(name, b"x");
        let changed = world.stat(name).unwrap().ctime;
        assert!(world.fs().stamp().unwrap() >= changed);
    }
    assert_eq!(names_of(root(world).as_ref()), [b"a", b"b"]);
    assert_eq!(world.fs().list_slots().unwrap(), []);
}

fn forget_cached(world: &dyn FsWorld) {
    world.write(b"f", &[7; 10_000]);
    let root = world.fs().open_directory(&[]).unwrap();
    let file = root.open(b"f").unwrap();
    let before = file.stat().unwrap();
    for _ in 0..2 {
        file.sync().unwrap();
        file.forget_cached().unwrap();
        let mut bytes = vec![0; 20_000];
        assert_eq!(file.read_at(&mut bytes, 0), Ok(10_000));
        assert_eq!(bytes[..10_000], [7; 10_000]);
    }
    assert_eq!((before.size, before.mtime, before.ctime), {
        let after = file.stat().unwrap();
        (after.size, after.mtime, after.ctime)
    });
}

/// `cap_net_raw+ep`, as the kernel stores it.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn keep_attributes(world: &dyn FsWorld) {
    world.write(b"f", b"old");
    let root = world.fs().open_directory(&[]).unwrap();
    let old = world.stat(b"f").unwrap();
    world.fs().stage_file(1).unwrap().write_at(b"new", 0).unwrap();
    // Nothing to keep.
    root.keep_attributes(b"f", old.id, 1).unwrap();
    if !world.set_attribute(b"f", "user.note", b"mine") {
        return; // the file system has none
    }
    let privileged = world.set_attribute(b"f", "security.capability", CAPABILITY);
    let before = world.fs().stat_slot(1).unwrap();
    root.keep_attributes(b"f", old.id, 1).unwrap();
    let after = world.fs().stat_slot(1).unwrap();
    assert_eq!((after.id, after.mode, after.size, after.mtime), (before.id, before.mode, 3, before.mtime));
    world.fs().stage_directory(2).unwrap();
    root.keep_attributes(b"f", old.id, 2).unwrap();
    assert_eq!(root.keep_attributes(b"f", before.id, 1), Err(FsError::NotFound));
    assert_eq!(root.keep_attributes(b"g", old.id, 1), Err(FsError::NotFound));
    root.publish(1, b"f", true).unwrap();
    assert_eq!(world.read(b"f").unwrap(), b"new");
    assert_eq!(world.attribute(b"f", "user.note").unwrap(), b"mine");
    if privileged {
        assert_eq!(world.attribute(b"f", "security.capability"), None);
    }
}

//! Volumes that one node writes at a time (SingleWriter).
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use syncmesh_engine::settings::Role;
use syncmesh_io::FileKind;
use syncmesh_simulator::Cut;
use syncmesh_simulator::Snapshot;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 50;
const SECOND: u64 = 1_000_000_000;

/// Three nodes, of which the first writes.
fn one_writes() -> Shape {
    let roles = [(1, Role::Writer), (2, Role::Reader), (3, Role::Reader)].into();
    Shape { nodes: 3, roles, ..Shape::default() }
}

fn meshes(shape: Shape) -> impl Iterator<Item = Mesh> {
    (1..=SEEDS).map(move |seed| Mesh::new(seed, shape.clone()))
}

/// A node is told that it has another right from now on.
fn becomes(mesh: &mut Mesh, node: u32, role: Role) {
    mesh.shape.roles.insert(node, role);
    mesh.configure(node);
}

/// All contents in a node's version store.
fn stored(mesh: &Mesh, node: u32) -> BTreeSet<Vec<u8>> {
    mesh.stored(node).into_values().collect()
}

/// Contents too large to ride along with their announcement.
fn large(byte: u8) -> Vec<u8> {
    vec![byte; 100_000]
}

fn reverted(mesh: &mut Mesh, node: u32) -> u64 {
    mesh.status(node).unwrap().volumes[0].reverted
}

/// The contents of the only conflict copy of a file, which all nodes have.
fn copy(mesh: &Mesh, stem: &str) -> Vec<u8> {
    let names = mesh.names(1);
    let mut copies = names.iter().filter(|name| name.starts_with(&format!("{stem} (conflict n1 ")));
    let (Some(copy), None) = (copies.next(), copies.next()) else { panic!("seed {}: {names:?}", mesh.seed) };
    let contents = mesh.read(1, copy).unwrap();
    for node in 2..=mesh.shape.nodes {
        assert_eq!(mesh.read(node, copy).as_ref(), Some(&contents), "seed {} n{node}", mesh.seed);
    }
    contents
}

#[test]
fn what_a_reader_writes_is_taken_back_and_stored() {
    for mut mesh in meshes(one_writes()) {
        mesh.mkdir(1, "d");
        mesh.write(1, "d/small", "theirs");
        mesh.write(1, "large", large(1));
        mesh.in_sync();
        mesh.write(2, "d/small", "ours");
        mesh.write(2, "large", large(2));
        mesh.write(2, "new", "nobody's");
        mesh.mkdir(2, "e");
        mesh.mkdir(2, "e/deep");
        mesh.write(2, "e/deep/new", "below");
        mesh.run_for(5 * SECOND);
        mesh.in_sync();
        for node in 1..=3 {
            assert_eq!(mesh.names(node), ["d", "d/small", "large"], "seed {} n{node}", mesh.seed);
            assert_eq!(mesh.read(node, "d/small").unwrap(), b"theirs", "seed {} n{node}", mesh.seed);
            assert!(mesh.read(node, "large").unwrap() == large(1), "seed {} n{node}", mesh.seed);
        }
        let stored = stored(&mesh, 2);
        for lost in [b"ours".to_vec(), large(2), b"nobody's".to_vec(), b"below".to_vec()] {
            assert!(stored.contains(&lost), "seed {}: {:?}", mesh.seed, lost.get(..8));
        }
        assert!(reverted(&mut mesh, 2) >= 4 && reverted(&mut mesh, 1) == 0, "seed {}", mesh.seed);
        assert_eq!(mesh.counters(2).unwrap().versions_made, 0, "seed {}", mesh.seed);
    }
}

/// All that a node shows, but for times of directories, which are its own.
fn shown(mesh: &Mesh, node: u32) -> Vec<String> {
    let all = mesh.disk(node).snapshot().into_iter();
    let text = |(path, shown): (Vec<u8>, Snapshot)| {
        let time = if shown.kind == FileKind::Directory { 0 } else { shown.mtime };
        let (contents, target) = (shown.contents, shown.target);
        format!("{} {:o} {time} {contents:?} {target:?}", String::from_utf8_lossy(&path), shown.mode)
    };
    all.map(text).collect()
}

#[test]
fn what_a_reader_deletes_renames_or_sets_otherwise_is_as_before() {
    for mut mesh in meshes(one_writes()) {
        mesh.mkdir(1, "d");
        for name in ["gone", "moved", "mode", "time", "link", "directory", "d/1", "d/2"] {
            mesh.write(1, name, name);
        }
        mesh.disk(1).user_symlink(b"target", b"pointer").unwrap();
        mesh.in_sync();
        mesh.run_for(10 * SECOND);
        let before = shown(&mesh, 1);
        let disk = mesh.disk(2).clone();
        disk.user_remove(b"gone").unwrap();
        disk.user_rename(b"moved", b"elsewhere").unwrap();
        disk.user_chmod(b"mode", 0o600).unwrap();
        disk.user_chmod(b"d", 0o700).unwrap();
        disk.user_touch(b"time", 1_000_000_000).unwrap();
        for name in ["link", "directory", "pointer", "d/1", "d/2", "d"] {
            mesh.remove(2, name);
        }
        disk.user_symlink(b"target", b"link").unwrap();
        disk.user_symlink(b"other", b"pointer").unwrap();
        mesh.mkdir(2, "directory");
        mesh.write(2, "directory/inside", "kept");
        mesh.run_for(5 * SECOND);
        mesh.in_sync();
        for node in 1..=3 {
            assert_eq!(shown(&mesh, node), before, "seed {} n{node}", mesh.seed);
        }
        assert!(stored(&mesh, 2).contains(b"kept".as_slice()), "seed {}", mesh.seed);
        assert!(mesh.counters(2).unwrap().versions_made == 0, "seed {}", mesh.seed);
    }
}

/// Also large trees, which a guard would ask about if they were deleted where one may.
#[test]
fn a_reader_that_is_emptied_is_filled_again() {
    for mut mesh in meshes(one_writes()).take(10) {
        let names: Vec<String> = (0..150).map(|number| format!("f{number}")).collect();
        names.iter().for_each(|name| mesh.write(1, name, name));
        mesh.in_sync();
        names.iter().for_each(|name| mesh.remove(3, name));
        mesh.run_for(5 * SECOND);
        mesh.in_sync();
        assert_eq!(mesh.tree(3), mesh.tree(1), "seed {}", mesh.seed);
        assert_eq!(mesh.names(1).len(), 150, "seed {}", mesh.seed);
    }
}

#[test]
fn the_right_to_write_moves_to_another_node() {
    for mut mesh in meshes(one_writes()) {
        mesh.write(1, "f", "1");
        mesh.in_sync();
        becomes(&mut mesh, 1, Role::Reader);
        becomes(&mut mesh, 2, Role::Writer);
        mesh.write(2, "f", "2");
        mesh.in_sync();
        mesh.run_for(SECOND);
        mesh.write(1, "f", "late");
        mesh.run_for(5 * SECOND);
        mesh.in_sync();
        for node in 1..=3 {
            assert_eq!(mesh.tree(node), [("f".to_owned(), "2".to_owned())], "seed {} n{node}", mesh.seed);
        }
        assert!(stored(&mesh, 1).contains(b"late".as_slice()), "seed {}", mesh.seed);
    }
}

/// Nobody hears of what a writer writes that isn't sure of its right; it has its files as they are.
#[test]
fn a_fenced_writer_keeps_its_files_and_tells_them_when_it_has_its_right_again() {
    for mut mesh in meshes(one_writes()) {
        mesh.write(1, "f", "1");
        mesh.in_sync();
        becomes(&mut mesh, 1, Role::Fenced);
        mesh.write(1, "f", "2");
        mesh.write(1, "g", "new");
        mesh.run_for(20 * SECOND);
        assert_eq!(mesh.tree(2), [("f".to_owned(), "1".to_owned())], "seed {}", mesh.seed);
        assert_eq!(mesh.read(1, "f").unwrap(), b"2", "seed {}", mesh.seed);
        let status = mesh.status(1).unwrap().volumes.remove(0);
        assert_eq!((status.state.as_str(), status.in_sync, status.writes), ("Fenced", false, false));
        if mesh.random.once_in(2) {
            mesh.kill(1);
            mesh.start(1);
            mesh.run_for(5 * SECOND);
            assert_eq!(mesh.tree(2), [("f".to_owned(), "1".to_owned())], "seed {}", mesh.seed);
        }
        becomes(&mut mesh, 1, Role::Writer);
        mesh.in_sync();
        let expected = [("f".to_owned(), "2".to_owned()), ("g".to_owned(), "new".to_owned())];
        (1..=3).for_each(|node| assert_eq!(mesh.tree(node), expected, "seed {} n{node}", mesh.seed));
    }
}

/// The writer before may not have heard yet, or be away for good: the pod of the next one runs already, and is neither told nor undone.
#[test]
fn what_is_written_where_the_right_is_on_its_way_to_waits_for_it() {
    for mut mesh in meshes(one_writes()) {
        mesh.write(1, "f", "1");
        mesh.in_sync();
        mesh.world.cut(1, 2, Cut::Silent);
        mesh.world.cut(1, 3, Cut::Silent);
        becomes(&mut mesh, 2, Role::Fenced);
        mesh.write(2, "f", "2");
        mesh.write(2, "g", "new");
        mesh.run_for(40 * SECOND);
        assert_eq!(mesh.read(2, "f").unwrap(), b"2", "seed {}", mesh.seed);
        assert_eq!(mesh.tree(3), [("f".to_owned(), "1".to_owned())], "seed {}", mesh.seed);
        becomes(&mut mesh, 2, Role::Writer);
        becomes(&mut mesh, 1, Role::Reader);
        mesh.world.heal(1, 2);
        mesh.world.heal(1, 3);
        mesh.in_sync();
        let expected = [("f".to_owned(), "2".to_owned()), ("g".to_owned(), "new".to_owned())];
        (1..=3).for_each(|node| assert_eq!(mesh.tree(node), expected, "seed {} n{node}", mesh.seed));
    }
}

/// The loop counts a right down by itself, whoever else has stopped to answer; an older right is no right.
#[test]
fn a_right_to_write_that_is_not_renewed_runs_out() {
    for mut mesh in meshes(Shape { rights: [(1, 1)].into(), ..one_writes() }) {
        mesh.write(1, "f", "before anybody said so");
        mesh.run_for(5 * SECOND);
        assert_eq!(mesh.status(1).unwrap().volumes[0].state, "Fenced", "seed {}", mesh.seed);
        mesh.renew_right(1, 1, 30 * SECOND);
        mesh.write(1, "f", "1");
        mesh.in_sync();
        assert_eq!(mesh.tree(2), [("f".to_owned(), "1".to_owned())], "seed {}", mesh.seed);
        mesh.run_for(20 * SECOND);
        mesh.renew_right(1, 1, 30 * SECOND);
        mesh.run_for(20 * SECOND);
        assert!(mesh.status(1).unwrap().volumes[0].writes, "seed {}: it was renewed", mesh.seed);
        mesh.run_for(11 * SECOND);
        mesh.write(1, "f", "late");
        mesh.run_for(5 * SECOND);
        let status = mesh.status(1).unwrap().volumes.remove(0);
        assert_eq!((status.state.as_str(), status.writes), ("Fenced", false), "seed {}", mesh.seed);
        mesh.shape.rights.insert(1, 3);
        mesh.configure(1);
        mesh.renew_right(1, 2, 30 * SECOND);
        mesh.run_for(5 * SECOND);
        assert_eq!(mesh.tree(2), [("f".to_owned(), "1".to_owned())], "seed {}", mesh.seed);
        mesh.renew_right(1, 3, 3600 * SECOND);
        mesh.in_sync();
        assert_eq!(mesh.tree(2), [("f".to_owned(), "late".to_owned())], "seed {}", mesh.seed);
    }
}

/// What it wrote stands beside what the new writer has.
#[test]
fn what_a_fenced_writer_wrote_becomes_conflict_copies_once_another_node_is_the_writer() {
    for mut mesh in meshes(one_writes()) {
        mesh.write(1, "f", "1");
        mesh.write(1, "kept", "1");
        mesh.in_sync();
        becomes(&mut mesh, 1, Role::Fenced);
        mesh.write(1, "f", "late");
        mesh.write(1, "new", large(7));
        mesh.remove(1, "kept");
        mesh.run_for(SECOND);
        becomes(&mut mesh, 2, Role::Writer);
        if mesh.random.once_in(2) {
            mesh.write(2, "f", "2");
        }
        let restarts = mesh.random.once_in(2);
        if restarts {
            mesh.kill(1);
        }
        mesh.shape.roles.insert(1, Role::Reader);
        if restarts {
            mesh.start(1)
        } else {
            mesh.configure(1)
        }
        mesh.run_for(5 * SECOND);
        mesh.in_sync();
        let name = mesh.read(2, "f").unwrap();
        assert!(name == b"1" || name == b"2", "seed {}", mesh.seed);
        for node in 1..=3 {
            assert_eq!(mesh.read(node, "f"), Some(name.clone()), "seed {} n{node}", mesh.seed);
            assert_eq!(mesh.read(node, "kept").unwrap(), b"1", "seed {} n{node}", mesh.seed);
            assert_eq!(mesh.read(node, "new"), None, "seed {} n{node}", mesh.seed);
            assert_eq!(mesh.names(node).len(), 4, "seed {} n{node}: {:?}", mesh.seed, mesh.names(node));
        }
        assert_eq!(copy(&mesh, "f"), b"late", "seed {}", mesh.seed);
        assert!(copy(&mesh, "new") == large(7), "seed {}", mesh.seed);
    }
}

/// Versions that it had made before, and that nobody had heard of, are versions still.
#[test]
fn what_a_writer_made_that_was_cut_off_is_never_lost() {
    for mut mesh in meshes(one_writes()) {
        mesh.write(1, "f", "1");
        mesh.in_sync();
        for peer in 2..=3 {
            mesh.world.cut(1, peer, Cut::Silent);
        }
        mesh.write(1, "f", "unheard");
        mesh.run_for(3 * SECOND);
        becomes(&mut mesh, 1, Role::Fenced);
        becomes(&mut mesh, 2, Role::Writer);
        mesh.run_for(10 * SECOND);
        mesh.write(2, "f", "2");
        mesh.run_for(3 * SECOND);
        becomes(&mut mesh, 1, Role::Reader);
        (2..=3).for_each(|peer| mesh.world.heal(1, peer));
        mesh.in_sync();
        mesh.run_for(15 * SECOND);
        mesh.in_sync();
        (1..=3).for_each(|node| assert_eq!(mesh.read(node, "f").unwrap(), b"2", "seed {} n{node}", mesh.seed));
        assert_eq!(copy(&mesh, "f"), b"unheard", "seed {}", mesh.seed);
    }
}

/// Directories that had files before: nothing happens to them until somebody may write, and then they meet as any do.
#[test]
fn before_anybody_may_write_nothing_is_told_and_nothing_is_touched() {
    for seed in 1..=SEEDS {
        let roles = (1..=3).map(|node| (node, Role::Fenced)).collect();
        let mut mesh = Mesh::asleep(seed, Shape { nodes: 3, roles, ..Shape::default() });
        mesh.write(1, "same", "s");
        mesh.write(2, "same", "s");
        mesh.write(2, "other", "o");
        (1..=3).for_each(|node| mesh.start(node));
        mesh.run_for(10 * SECOND);
        mesh.write(1, "more", "m");
        mesh.run_for(10 * SECOND);
        assert_eq!(mesh.names(1), ["more", "same"], "seed {seed}");
        assert_eq!(mesh.names(2), ["other", "same"], "seed {seed}");
        assert!(mesh.names(3).is_empty(), "seed {seed}");
        let mut order = vec![(1, Role::Writer), (2, Role::Reader), (3, Role::Reader)];
        while !order.is_empty() {
            let next = mesh.random.between(0, order.len() as u64 - 1) as usize;
            let (node, role) = order.swap_remove(next);
            becomes(&mut mesh, node, role);
            mesh.run_for(SECOND / 10);
        }
        mesh.in_sync();
        (1..=3).for_each(|node| assert_eq!(mesh.names(node), ["more", "other", "same"], "seed {seed} n{node}"));
    }
}

/// What all nodes have overwritten at once is on no disk any more. The next writer's file is then what there is.
#[test]
fn a_new_writer_goes_on_with_what_it_shows_where_nobody_has_what_was_there_before() {
    for mut mesh in meshes(one_writes()) {
        mesh.write(1, "f", large(0));
        mesh.in_sync();
        for node in 1..=3 {
            becomes(&mut mesh, node, if node == 1 { Role::Fenced } else { Role::Reader });
            mesh.write(node, "f", large(node as u8));
        }
        mesh.run_for(SECOND);
        becomes(&mut mesh, 1, Role::Reader);
        mesh.run_for(5 * SECOND);
        becomes(&mut mesh, 3, Role::Writer);
        mesh.in_sync();
        for node in 1..=3 {
            assert!(mesh.read(node, "f").unwrap() == large(3), "seed {} n{node}", mesh.seed);
            assert!(mesh.has_contents(node, large(node as u8)), "seed {} n{node}", mesh.seed);
        }
    }
}

/// A version of the first node that it tells of, and that nobody gets in time; what there was before is `1`.
fn told_and_not_sent(seed: u64) -> Mesh {
    let mut mesh = Mesh::new(seed, Shape { send_limit: NonZeroU64::new(100), ..one_writes() });
    mesh.write(1, "f", "1");
    mesh.write(1, "long", large(0));
    mesh.run_for(5 * SECOND);
    mesh.write(1, "f", large(1));
    mesh.run_for(2 * SECOND);
    mesh
}

/// Nothing limits any more what nodes send.
fn lift_limits(mesh: &mut Mesh) {
    mesh.shape.send_limit = None;
    (1..=3).for_each(|node| mesh.configure(node));
}

/// Its maker had told of it, and nobody had it yet, when it was overwritten everywhere: what is there stays.
#[test]
fn what_was_written_over_contents_that_nobody_has_is_a_version() {
    for seed in 1..=SEEDS {
        let mut mesh = told_and_not_sent(seed);
        becomes(&mut mesh, 1, Role::Reader);
        mesh.write(1, "f", large(2));
        mesh.write(2, "f", large(3));
        mesh.remove(3, "f");
        mesh.run_for(2 * SECOND);
        becomes(&mut mesh, 3, Role::Writer);
        lift_limits(&mut mesh);
        mesh.run_for(100 * SECOND);
        assert!(mesh.read(3, "f").is_none(), "seed {seed}: too early");
        mesh.run_for(40 * SECOND);
        mesh.in_sync();
        let name = mesh.read(3, "f").unwrap();
        assert!(name == large(2) || name == large(3), "seed {seed}");
        for node in 1..=3 {
            assert!(mesh.read(node, "f").as_ref() == Some(&name), "seed {seed} n{node}");
        }
        assert!(mesh.has_contents(1, large(2)) && mesh.has_contents(2, large(3)), "seed {seed}");
    }
}

/// Its maker had told of it, and nobody had it yet, when it was deleted or overwritten there: what was there before stays.
#[test]
fn a_version_that_is_gone_before_anybody_had_it_is_given_up() {
    for seed in 1..=SEEDS {
        let mut mesh = told_and_not_sent(seed);
        becomes(&mut mesh, 1, Role::Fenced);
        let overwrites = mesh.random.once_in(2);
        if overwrites {
            mesh.write(1, "f", "late")
        } else {
            mesh.remove(1, "f")
        }
        lift_limits(&mut mesh);
        mesh.run_for(90 * SECOND);
        assert!((2..=3).all(|node| mesh.wanted(node).len() == 1), "seed {seed}: its maker may have it");
        becomes(&mut mesh, 1, Role::Reader);
        becomes(&mut mesh, 2, Role::Writer);
        mesh.run_for(20 * SECOND);
        mesh.in_sync();
        (1..=3).for_each(|node| assert_eq!(mesh.read(node, "f").unwrap(), b"1", "seed {seed} n{node}"));
        assert!(!overwrites || mesh.has_contents(1, "late"), "seed {seed}");
    }
}

/// A program on a reader writes to a file that it has open while the writer writes another version.
#[test]
fn what_a_program_on_a_reader_writes_through_an_open_file_is_stored() {
    for mut mesh in meshes(one_writes()) {
        mesh.write(1, "f", "1");
        mesh.in_sync();
        mesh.run_for(SECOND);
        let file = mesh.disk(2).user_create_open(b"f").unwrap();
        mesh.disk(2).user_write_at(file, b"OPEN", 0).unwrap();
        let fresh = mesh.disk(2).user_create_open(b"fresh").unwrap();
        mesh.disk(2).user_write_at(fresh, b"FRESH", 0).unwrap();
        mesh.run_for(3 * SECOND);
        if mesh.random.once_in(2) {
            mesh.write(1, "f", "2");
        }
        mesh.run_for(20 * SECOND);
        mesh.disk(2).user_write_at(file, b"LAST", 0).unwrap();
        mesh.disk(2).user_write_at(fresh, b"ALSO!", 0).unwrap();
        if mesh.random.once_in(2) {
            mesh.kill(2);
            mesh.start(2);
        }
        mesh.run_for(SECOND);
        mesh.disk(2).user_close(file);
        mesh.disk(2).user_close(fresh);
        mesh.run_for(20 * SECOND);
        mesh.in_sync();
        let theirs = mesh.tree(1);
        assert_eq!(theirs.len(), 1, "seed {}: {theirs:?}", mesh.seed);
        (2..=3).for_each(|node| assert_eq!(mesh.tree(node), theirs, "seed {} n{node}", mesh.seed));
        let stored = stored(&mesh, 2);
        assert!(stored.contains(b"LAST".as_slice()), "seed {}: {stored:?}", mesh.seed);
        assert!(stored.contains(b"ALSO!".as_slice()), "seed {}: {stored:?}", mesh.seed);
    }
}

/// A reader is killed while it takes writes back, at any moment: each is somewhere.
#[test]
fn a_kill_while_writes_are_taken_back_loses_none() {
    for mut mesh in meshes(one_writes()) {
        mesh.mkdir(1, "d");
        mesh.write(1, "d/f", "theirs");
        mesh.write(1, "large", large(1));
        mesh.in_sync();
        mesh.run_for(SECOND);
        mesh.write(2, "d/f", "ours");
        mesh.write(2, "d/new", "nobody's");
        mesh.write(2, "large", large(2));
        for _ in 0..3 {
            let pause = mesh.random.between(0, SECOND / 5);
            mesh.run_for(pause);
            mesh.kill(2);
            mesh.start(2);
        }
        mesh.run_for(5 * SECOND);
        mesh.in_sync();
        let all: BTreeSet<Vec<u8>> = mesh.disk(2).snapshot().into_values().map(|shown| shown.contents).collect();
        let all: BTreeSet<Vec<u8>> = all.union(&stored(&mesh, 2)).cloned().collect();
        for written in [b"ours".to_vec(), b"nobody's".to_vec(), large(2)] {
            assert!(all.contains(&written), "seed {}: {:?}", mesh.seed, written.get(..8));
        }
        for node in 1..=3 {
            assert_eq!(mesh.read(node, "d/f").unwrap(), b"theirs", "seed {} n{node}", mesh.seed);
            assert!(mesh.read(node, "large").unwrap() == large(1), "seed {} n{node}", mesh.seed);
            assert_eq!(mesh.read(node, "d/new"), None, "seed {} n{node}", mesh.seed);
        }
    }
}

/// Users write everywhere, the right to write moves, agents are killed, links are cut. At the end all are equal, and whatever
/// somebody wrote last under a name of his node is somewhere.
#[test]
fn however_the_right_to_write_moves_all_end_equal_and_nothing_is_lost() {
    for mut mesh in (1..=4 * SEEDS).map(|seed| Mesh::new(seed, one_writes())) {
        let mut writer = 1;
        let mut last: BTreeMap<(u32, String), String> = BTreeMap::new();
        for action in 0..40 {
            let node = mesh.random.between(1, 3) as u32;
            let name = format!("f{}", mesh.random.between(0, 4));
            match mesh.random.between(0, 9) {
                0..=4 => {
                    let contents = format!("{action} of n{node}");
                    mesh.write(node, &name, &contents);
                    last.insert((node, name), contents);
                }
                5 if node == writer => {
                    // What goes with it is gone, whoever wrote it.
                    let removed = mesh.read(node, &name).map(|contents| String::from_utf8(contents).unwrap());
                    if mesh.disk(node).user_remove(name.as_bytes()).is_ok() {
                        last.retain(|_, contents| Some(&*contents) != removed.as_ref());
                    }
                }
                6 => {
                    becomes_if_it_runs(&mut mesh, writer, Role::Fenced);
                    if mesh.random.once_in(2) {
                        becomes_if_it_runs(&mut mesh, writer, Role::Writer);
                    } else {
                        becomes_if_it_runs(&mut mesh, node, Role::Writer);
                        if node != writer {
                            becomes_if_it_runs(&mut mesh, writer, Role::Reader);
                        }
                        writer = node;
                    }
                }
                7 if mesh.runs(node) => mesh.kill(node),
                8 if !mesh.runs(node) => mesh.start(node),
                _ => {
                    let peer = node % 3 + 1;
                    if mesh.random.once_in(2) {
                        mesh.world.cut(node, peer, Cut::Silent)
                    } else {
                        mesh.world.heal(node, peer)
                    }
                }
            }
            let pause = mesh.random.between(0, SECOND);
            mesh.run_for(pause);
        }
        for node in 1..=3 {
            mesh.world.heal(node, node % 3 + 1);
            if !mesh.runs(node) {
                mesh.start(node);
            }
        }
        // What nobody has any more is given up after two minutes.
        mesh.run_for(180 * SECOND);
        mesh.in_sync();
        let tree = mesh.tree(writer);
        for node in 1..=3 {
            assert_eq!(mesh.tree(node), tree, "seed {} n{node}", mesh.seed);
        }
        for ((node, name), contents) in last {
            let is_somewhere = (1..=3).any(|node| mesh.has_contents(node, &contents));
            assert!(is_somewhere, "seed {}: {name} of n{node}: {contents} is nowhere, {tree:?}", mesh.seed);
        }
    }
}

fn becomes_if_it_runs(mesh: &mut Mesh, node: u32, role: Role) {
    mesh.shape.roles.insert(node, role);
    if mesh.runs(node) {
        mesh.configure(node);
    }
}

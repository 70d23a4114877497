//! Files with several names (hard links): what is written through one name is announced under all, and what others change
//! under one name leaves the others alone.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 60;
const SECOND: u64 = 1_000_000_000;
const NAMES: [&str; 3] = ["a", "b", "d/c"];

fn meshes() -> impl Iterator<Item = Mesh> {
    (1..=SEEDS).map(|seed| Mesh::new(seed, Shape::default()))
}

/// The first node has one file under three names, and everybody knows that.
fn linked(mesh: &mut Mesh) {
    linked_with(mesh, b"the first");
}

fn linked_with(mesh: &mut Mesh, contents: &[u8]) {
    mesh.mkdir(1, "d");
    mesh.write(1, "a", contents);
    for name in &NAMES[1..] {
        mesh.disk(1).user_link(b"a", name.as_bytes()).unwrap();
    }
    mesh.in_sync();
}

fn some_name(mesh: &mut Mesh) -> &'static str {
    NAMES[mesh.random.between(0, 2) as usize]
}

/// All nodes show this, and nothing else, under all names.
#[track_caller]
fn all_show(mesh: &Mesh, contents: &str) {
    for node in 1..=2 {
        let expected = NAMES.map(|name| (name.to_owned(), contents.to_owned()));
        let files: Vec<_> = mesh.tree(node).into_iter().filter(|(path, _)| path != "d").collect();
        assert_eq!(files, expected, "seed {}, n{node}", mesh.seed);
    }
}

fn made(mesh: &mut Mesh, node: u32) -> u64 {
    mesh.activity(node).unwrap().0
}

/// The kernel tells of the name that was used. It may be gone, or be another file's, before anybody has looked.
#[test]
fn what_is_written_through_a_name_that_goes_at_once_arrives_under_the_others() {
    for mut mesh in meshes() {
        linked(&mut mesh);
        let name = some_name(&mut mesh);
        mesh.write(1, name, "the last");
        if mesh.random.once_in(2) {
            mesh.remove(1, name);
        } else {
            mesh.write(1, "new", "another");
            mesh.disk(1).user_rename(b"new", name.as_bytes()).unwrap();
        }
        mesh.in_sync();
        for other in NAMES.iter().filter(|other| **other != name) {
            assert_eq!(mesh.read(2, other).unwrap(), b"the last", "seed {}: {other} beside {name}", mesh.seed);
        }
    }
}

/// The names were there when the agent started, came one by one while it ran, or are new.
#[test]
fn what_is_written_through_one_name_arrives_under_all() {
    for mut mesh in meshes() {
        mesh.mkdir(1, "d");
        mesh.write(1, "a", "the first");
        let waits = mesh.random.once_in(2);
        for name in &NAMES[1..] {
            if waits {
                mesh.in_sync();
            }
            mesh.disk(1).user_link(b"a", name.as_bytes()).unwrap();
        }
        if mesh.random.once_in(2) {
            mesh.in_sync();
        }
        if mesh.random.once_in(3) {
            mesh.kill(1);
            mesh.start(1);
            mesh.in_sync();
        }
        for contents in ["the second", "the third, longer than the others", ""] {
            let name = some_name(&mut mesh);
            mesh.write(1, name, contents);
            let steps = mesh.random.between(0, 300);
            mesh.take_steps(steps);
        }
        mesh.in_sync();
        all_show(&mesh, "");
        let name = some_name(&mut mesh);
        mesh.disk(1).user_chmod(name.as_bytes(), 0o600).unwrap();
        mesh.write(1, name, "the last");
        mesh.in_sync();
        all_show(&mesh, "the last");
        let modes: Vec<u32> = mesh.disk(2).snapshot().values().map(|shown| shown.mode).collect();
        assert_eq!(modes, [0o600, 0o600, 0o755, 0o600], "seed {}", mesh.seed);
        assert_eq!(mesh.status(1).unwrap().volumes[0].linked_elsewhere, 0, "seed {}", mesh.seed);
    }
}

/// A name that is given while another is written through, before anybody has looked at either: its file's other names aren't
/// known as its names, and must be found.
#[test]
fn a_name_that_is_new_when_it_is_written_through_arrives_with_all_others() {
    for mut mesh in meshes() {
        mesh.mkdir(1, "d");
        mesh.write(1, "a", "the first");
        mesh.write(1, "d/many", "of these rows");
        mesh.in_sync();
        for name in &NAMES[1..] {
            mesh.disk(1).user_link(b"a", name.as_bytes()).unwrap();
        }
        let steps = mesh.random.between(0, 200);
        mesh.take_steps(steps);
        mesh.write(1, "d/c", "the second");
        mesh.remove(1, "d/many");
        mesh.in_sync();
        all_show(&mesh, "the second");
    }
}

/// Contents, mode or time of one name: elsewhere it is a file of its own, so here it becomes one.
#[test]
fn what_another_node_changes_under_one_name_leaves_the_others_alone() {
    for mut mesh in meshes() {
        let is_large = mesh.random.once_in(2);
        let contents = if is_large { vec![b'L'; 100_000] } else { b"the first".to_vec() };
        linked_with(&mut mesh, &contents);
        let files = |mesh: &Mesh, node: u32| {
            let mut shown = mesh.disk(node).snapshot();
            shown.retain(|path, _| path != b"d"); // times of directories are their node's own
            shown
        };
        let before = files(&mesh, 1);
        let made_before = made(&mut mesh, 1);
        match mesh.random.between(0, 2) {
            0 => mesh.write(2, "b", "of n2"),
            1 => mesh.disk(2).user_chmod(b"b", 0o600).unwrap(),
            _ => mesh.disk(2).user_touch(b"b", 1_700_000_000_000_000_000).unwrap(),
        }
        // At the same time: no conflict with what nobody has done.
        mesh.write(2, "a", "of n2, too");
        mesh.in_sync();
        assert_eq!(made(&mut mesh, 1), made_before, "seed {}: nobody changed anything on n1", mesh.seed);
        assert_eq!(mesh.counters(1).unwrap().fetched_bytes, 0, "seed {}: it has the large contents", mesh.seed);
        let (here, there) = (files(&mesh, 1), files(&mesh, 2));
        assert_eq!(here, there, "seed {}", mesh.seed);
        assert_eq!(here[&b"d/c"[..]], before[&b"d/c"[..]], "seed {}", mesh.seed);
        assert_eq!(here[&b"a"[..]].contents, b"of n2, too", "seed {}", mesh.seed);
    }
}

/// What is written through a name that is left doesn't change the old version of the one that was replaced.
#[test]
fn an_old_version_stays_what_it_was_when_another_name_of_it_is_written_to() {
    for mut mesh in meshes() {
        linked(&mut mesh);
        mesh.write(2, "b", "of n2");
        mesh.in_sync();
        mesh.write(1, "a", "written later");
        mesh.in_sync();
        assert_eq!(mesh.read(2, "d/c").unwrap(), b"written later", "seed {}", mesh.seed);
        assert_eq!(mesh.read(2, "b").unwrap(), b"of n2", "seed {}", mesh.seed);
        let stored: Vec<_> = mesh.stored(1).into_values().collect();
        assert_eq!(stored, [b"the first"], "seed {}", mesh.seed);
    }
}

/// A name outside of the volume is counted; what is written through it nobody is told of, and a look at everything finds it.
#[test]
fn names_outside_of_the_volume_are_counted_and_a_rescan_finds_what_is_written_through_them() {
    for mut mesh in meshes().take(20) {
        linked(&mut mesh);
        let outside = mesh.disk(1).user_link_outside(b"a").unwrap();
        mesh.write(1, "b", "the second");
        mesh.in_sync();
        all_show(&mesh, "the second");
        let elsewhere = |mesh: &mut Mesh, node| mesh.status(node).unwrap().volumes[0].linked_elsewhere;
        assert_eq!([elsewhere(&mut mesh, 1), elsewhere(&mut mesh, 2)], [1, 0], "seed {}", mesh.seed);
        mesh.disk(1).user_write_outside(outside, b"from outside").unwrap();
        mesh.run_for(20 * SECOND);
        mesh.rescan(1, false);
        mesh.in_sync();
        all_show(&mesh, "from outside");
        for name in NAMES {
            mesh.remove(1, name);
        }
        mesh.in_sync();
        assert_eq!(elsewhere(&mut mesh, 1), 0, "seed {}", mesh.seed);
    }
}

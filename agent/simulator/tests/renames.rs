//! An edit that didn't know of a rename follows it to the new name (SYNC 11); where that would take something from somebody it
//! stays where it is.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use std::collections::BTreeSet;
use syncmesh_core::policy::Policy;
use syncmesh_simulator::Cut;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 60;
const SECOND: u64 = 1_000_000_000;
const POLICIES: [Policy; 3] = [Policy::KeepBoth, Policy::LastWriterWins, Policy::Manual];

/// Contents of `size` bytes at least, which nothing else has.
fn contents(what: &str, size: usize) -> Vec<u8> {
    let mut contents = what.as_bytes().to_vec();
    contents.resize(size.max(what.len()), b'.');
    contents
}

/// So many nodes with a file `a`, small or too large to ride along, which can't talk to each other any more.
fn apart(nodes: u32) -> impl Iterator<Item = (Mesh, usize)> {
    (1..=SEEDS).map(move |seed| {
        let size = if seed % 2 == 0 { 10 } else { 150_000 };
        let policy = POLICIES[(seed % 3) as usize];
        let mut mesh = Mesh::new(seed, Shape { nodes, policy, ..Shape::default() });
        mesh.write(1 + (seed / 6 % u64::from(nodes)) as u32, "a", contents("base", size));
        mesh.in_sync();
        cut(&mut mesh);
        (mesh, size)
    })
}

fn pairs(nodes: u32) -> impl Iterator<Item = (u32, u32)> {
    (1..=nodes).flat_map(move |one| (one + 1..=nodes).map(move |other| (one, other)))
}

fn cut(mesh: &mut Mesh) {
    pairs(mesh.shape.nodes).for_each(|(one, other)| mesh.world.cut(one, other, Cut::Silent));
    let pause = mesh.random.between(0, 20 * SECOND);
    mesh.run_for(pause);
}

/// They can talk again, in one direction before the other, one pair before another.
fn heal(mesh: &mut Mesh) {
    let pause = mesh.random.between(0, 20 * SECOND);
    mesh.run_for(pause);
    for (one, other) in pairs(mesh.shape.nodes) {
        match mesh.random.between(0, 3) {
            0 => mesh.world.cut(one, other, Cut::SilentOneWay),
            1 => mesh.world.cut(other, one, Cut::SilentOneWay),
            _ => {}
        }
        let pause = mesh.random.between(0, SECOND);
        mesh.run_for(pause);
        mesh.world.heal(one, other);
        let pause = mesh.random.between(0, SECOND);
        mesh.run_for(pause);
    }
}

fn rename(mesh: &Mesh, node: u32, from: &str, to: &str) {
    mesh.disk(node).user_rename(from.as_bytes(), to.as_bytes()).unwrap();
}

/// All nodes have just these names and contents.
#[track_caller]
fn assert_has(mesh: &Mesh, expected: &[(&str, &[u8])]) {
    for node in 1..=mesh.shape.nodes {
        let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
        assert_eq!(mesh.names(node), names, "seed {}, n{node}", mesh.seed);
        for (name, contents) in expected.iter().filter(|(_, contents)| !contents.is_empty()) {
            assert!(mesh.read(node, name).unwrap() == *contents, "seed {}, n{node}: {name}", mesh.seed);
        }
    }
}

/// Somewhere under some name, on all nodes.
#[track_caller]
fn assert_shows(mesh: &Mesh, contents: &[u8]) {
    for node in 1..=mesh.shape.nodes {
        let shown = mesh.disk(node).snapshot();
        assert!(
            shown.values().any(|shown| shown.contents == contents),
            "seed {}, n{node}: {:?} is in none of {:?}",
            mesh.seed,
            String::from_utf8_lossy(&contents[..contents.len().min(20)]),
            mesh.names(node)
        );
    }
}

#[test]
fn an_edit_follows_a_rename_that_its_author_did_not_know_of() {
    for (mut mesh, size) in apart(2) {
        let edits = mesh.random.between(1, 3);
        let first = mesh.random.once_in(2);
        if first {
            rename(&mesh, 2, "a", "b");
        }
        for edit in 1..=edits {
            mesh.write(1, "a", contents(&format!("edit {edit}"), size));
            let pause = mesh.random.between(0, 3 * SECOND);
            mesh.run_for(pause);
        }
        if !first {
            rename(&mesh, 2, "a", "b");
        }
        mesh.run_for(SECOND);
        heal(&mut mesh);
        mesh.in_sync();
        assert_has(&mesh, &[("b", &contents(&format!("edit {edits}"), size))]);
        assert!(mesh.conflicts(1).is_empty(), "seed {}", mesh.seed);
    }
}

/// Whichever of the two was stamped first: a rename is no change of mode.
#[test]
fn an_edit_takes_the_mode_along_that_its_author_set() {
    for (mut mesh, size) in apart(2) {
        let first = mesh.random.once_in(2);
        if first {
            rename(&mesh, 2, "a", "b");
            mesh.run_for(SECOND);
        }
        let mut mode = 0o644;
        for _ in 0..mesh.random.between(1, 3) {
            if mesh.random.once_in(2) {
                mode = 0o600 + mesh.random.between(0, 0o70) as u32;
                mesh.disk(1).user_chmod(b"a", mode).unwrap();
            }
            let pause = mesh.random.between(0, 2) * SECOND;
            mesh.run_for(pause);
            mesh.write(1, "a", contents("edit", size));
            let pause = mesh.random.between(0, 2) * SECOND;
            mesh.run_for(pause);
        }
        if !first {
            rename(&mesh, 2, "a", "b");
        }
        mesh.run_for(SECOND);
        if mesh.random.once_in(3) {
            mode = 0o604;
            mesh.disk(2).user_chmod(b"b", mode).unwrap();
            mesh.run_for(SECOND);
        }
        heal(&mut mesh);
        mesh.in_sync();
        assert_has(&mesh, &[("b", &contents("edit", size))]);
        for node in 1..=2 {
            assert_eq!(mesh.disk(node).snapshot()[b"b".as_slice()].mode, mode, "seed {}, n{node}", mesh.seed);
        }
    }
}

#[test]
fn an_edit_follows_although_its_node_was_killed() {
    for (mut mesh, size) in apart(2) {
        mesh.write(1, "a", contents("edit", size));
        rename(&mesh, 2, "a", "b");
        mesh.run_for(SECOND);
        if mesh.random.once_in(2) {
            mesh.kill(1);
            mesh.start(1);
        }
        mesh.world.heal(1, 2);
        for _ in 0..3 {
            let steps = mesh.random.between(0, 400);
            mesh.take_steps(steps);
            mesh.kill(1);
            mesh.start(1);
        }
        mesh.in_sync();
        assert_has(&mesh, &[("b", &contents("edit", size))]);
    }
}

#[test]
fn edits_below_a_renamed_directory_follow() {
    for seed in 1..=SEEDS {
        let mut mesh = Mesh::new(seed, Shape { nodes: 3, ..Shape::default() });
        mesh.mkdir(1, "d");
        for file in 0..6 {
            mesh.write(1, format!("d/{file}"), format!("base {file}"));
        }
        mesh.in_sync();
        cut(&mut mesh);
        rename(&mesh, 2, "d", "e");
        for file in 0..4 {
            mesh.write(1 + file % 2 * 2, format!("d/{file}"), format!("edit {file}"));
        }
        mesh.run_for(SECOND);
        heal(&mut mesh);
        mesh.in_sync();
        for node in 1..=3 {
            let files: Vec<String> = mesh.names(node).into_iter().filter(|name| name.contains('/')).collect();
            assert_eq!(files, ["e/0", "e/1", "e/2", "e/3", "e/4", "e/5"], "seed {seed}, n{node}");
            for file in 0..6 {
                let what = if file < 4 { "edit" } else { "base" };
                let contents = mesh.read(node, format!("e/{file}")).unwrap();
                assert_eq!(contents, format!("{what} {file}").into_bytes(), "seed {seed}, n{node}");
            }
        }
    }
}

/// No guard asks: nobody has deleted anything.
#[test]
fn many_edits_that_follow_are_held_nowhere() {
    const FILES: u64 = 130;
    for seed in 1..=SEEDS / 6 {
        let mut mesh = Mesh::new(seed, Shape::default());
        mesh.mkdir(1, "d");
        for file in 0..FILES {
            mesh.write(1, format!("d/{file}"), format!("base {file}"));
        }
        mesh.in_sync();
        cut(&mut mesh);
        rename(&mesh, 2, "d", "e");
        for file in 0..FILES {
            mesh.write(1, format!("d/{file}"), format!("edit {file}"));
        }
        mesh.run_for(SECOND);
        heal(&mut mesh);
        mesh.in_sync();
        for file in 0..FILES {
            assert_eq!(mesh.read(2, format!("e/{file}")).unwrap(), format!("edit {file}").into_bytes(), "seed {seed}");
            assert!(mesh.read(2, format!("d/{file}")).is_none(), "seed {seed}");
        }
    }
}

#[test]
fn an_edit_stays_beside_the_new_name_if_that_was_edited_or_deleted() {
    for (mut mesh, size) in apart(2) {
        mesh.write(1, "a", contents("edit", size));
        let theirs = contents("theirs", size);
        let what = mesh.random.between(0, 3);
        match what {
            // What the author of the edit never saw is moved, and mustn't be written over.
            0 => {
                mesh.write(2, "a", &theirs);
                mesh.run_for(SECOND);
                rename(&mesh, 2, "a", "b");
            }
            1 => {
                rename(&mesh, 2, "a", "b");
                mesh.run_for(SECOND);
                mesh.write(2, "b", &theirs);
            }
            // Somebody here has another file under the new name.
            2 => {
                mesh.write(1, "b", &theirs);
                rename(&mesh, 2, "a", "b");
            }
            _ => {
                rename(&mesh, 2, "a", "b");
                mesh.run_for(SECOND);
                mesh.remove(2, "b");
            }
        }
        mesh.run_for(SECOND);
        // What a connection still holds would tell of the new name as it was before: then two edited the same contents there.
        mesh.world.cut(1, 2, Cut::Reset);
        heal(&mut mesh);
        if mesh.shape.policy == Policy::Manual && what == 2 {
            // Two files under the new name, which nobody decides.
            continue;
        }
        mesh.in_sync();
        for node in 1..=2 {
            assert!(mesh.read(node, "a") == Some(contents("edit", size)), "seed {}, n{node}", mesh.seed);
            assert!(what == 3 || mesh.has_contents(node, &theirs), "seed {}, n{node}", mesh.seed);
            assert_eq!(mesh.read(node, "b").is_some(), what < 3, "seed {}, n{node}", mesh.seed);
        }
    }
}

#[test]
fn an_edit_follows_a_file_that_was_moved_on() {
    for (mut mesh, size) in apart(3) {
        mesh.write(1, "a", contents("edit", size));
        for (from, to) in [("a", "b"), ("b", "c"), ("c", "d")] {
            rename(&mesh, 2, from, to);
            let pause = mesh.random.between(0, SECOND);
            mesh.run_for(pause);
        }
        mesh.run_for(SECOND);
        heal(&mut mesh);
        mesh.in_sync();
        assert_has(&mesh, &[("d", &contents("edit", size))]);
        // Only the node that made the edit declares anything.
        let followed = [1, 2, 3].map(|node| mesh.counters(node).unwrap().followed_edits);
        assert!(followed[0] > 0 && followed[1..] == [0, 0], "seed {}: {followed:?}", mesh.seed);
    }
}

/// Whatever of it is seen: the edit has a name, and so has the other file.
#[test]
fn an_edit_of_a_file_whose_name_was_exchanged_or_given_back_is_not_lost() {
    for (mut mesh, size) in apart(3) {
        mesh.write(2, "other", contents("other", size));
        pairs(3).for_each(|(one, other)| mesh.world.heal(one, other));
        mesh.in_sync();
        cut(&mut mesh);
        mesh.write(1, "a", contents("edit", size));
        let moves = if mesh.random.once_in(2) {
            vec![("a", "t"), ("other", "a"), ("t", "other")]
        } else {
            vec![("a", "b"), ("b", "a")]
        };
        for (from, to) in moves {
            rename(&mesh, 2, from, to);
            let pause = mesh.random.between(0, SECOND);
            mesh.run_for(pause);
        }
        mesh.run_for(SECOND);
        heal(&mut mesh);
        if mesh.shape.policy == Policy::Manual {
            mesh.run_for(60 * SECOND);
            assert!(mesh.read(1, "a").unwrap() == contents("edit", size), "seed {}", mesh.seed);
            assert!(mesh.has_contents(2, contents("other", size)), "seed {}", mesh.seed);
            continue;
        }
        mesh.in_sync();
        for what in ["edit", "other"] {
            if mesh.shape.policy == Policy::KeepBoth {
                assert_shows(&mesh, &contents(what, size));
            }
            assert!((1..=3).any(|node| mesh.has_contents(node, contents(what, size))), "seed {}: {what}", mesh.seed);
        }
    }
}

#[test]
fn an_edit_follows_one_of_two_renames() {
    for (mut mesh, size) in apart(3) {
        mesh.write(1, "a", contents("edit", size));
        rename(&mesh, 2, "a", "b");
        rename(&mesh, 3, "a", "c");
        mesh.run_for(SECOND);
        heal(&mut mesh);
        mesh.in_sync();
        for node in 1..=3 {
            assert_eq!(mesh.names(node), ["b", "c"], "seed {}, n{node}", mesh.seed);
            let both: BTreeSet<Vec<u8>> = ["b", "c"].map(|name| mesh.read(node, name).unwrap()).into();
            assert_eq!(both, [contents("base", size), contents("edit", size)].into(), "seed {}, n{node}", mesh.seed);
        }
    }
}

/// Two edits are a conflict, wherever they meet.
#[test]
fn of_two_edits_against_a_rename_none_is_lost() {
    for (mut mesh, size) in apart(3) {
        mesh.write(1, "a", contents("edit", size));
        mesh.write(3, "a", contents("another", size));
        rename(&mesh, 2, "a", "b");
        mesh.run_for(SECOND);
        heal(&mut mesh);
        if mesh.shape.policy == Policy::Manual {
            mesh.run_for(60 * SECOND);
        } else {
            mesh.in_sync();
        }
        for what in ["edit", "another"] {
            assert!((1..=3).any(|node| mesh.has_contents(node, contents(what, size))), "seed {}: {what}", mesh.seed);
            if mesh.shape.policy == Policy::KeepBoth {
                assert_shows(&mesh, &contents(what, size));
            }
        }
    }
}

/// Nobody stops working because an edit follows.
#[test]
fn what_users_do_while_an_edit_follows_is_not_lost() {
    for (mut mesh, size) in apart(2) {
        mesh.write(1, "a", contents("edit", size));
        rename(&mesh, 2, "a", "b");
        mesh.run_for(SECOND);
        mesh.world.heal(1, 2);
        let acts = mesh.random.between(1, 4);
        let mut written = None;
        for act in 0..acts {
            let pause = mesh.random.between(0, SECOND / 10);
            mesh.run_for(pause);
            let node = mesh.random.between(1, 2) as u32;
            let names = mesh.names(node);
            let Some(name) = names.get(mesh.random.between(0, 1) as usize).cloned() else { continue };
            // Who writes over the last one has seen it; anything else is apart from it.
            if written.as_ref().is_none_or(|last| mesh.read(node, &name).as_ref() == Some(last)) {
                let what = contents(&format!("then {act}"), size);
                mesh.write(node, &name, &what);
                written = Some(what);
            }
        }
        if mesh.shape.policy == Policy::Manual {
            mesh.run_for(60 * SECOND);
            let written = written.unwrap_or_else(|| contents("edit", size));
            assert!((1..=2).any(|node| mesh.has_contents(node, &written)), "seed {}", mesh.seed);
            continue;
        }
        mesh.in_sync();
        if let Some(written) = written {
            // Where the last writer won over it the node that it was written on has it among the old versions.
            assert!((1..=2).any(|node| mesh.has_contents(node, &written)), "seed {}", mesh.seed);
            if mesh.shape.policy == Policy::KeepBoth {
                assert_shows(&mesh, &written);
            }
        }
    }
}

#[test]
fn links_modes_and_owners_follow() {
    for (mut mesh, size) in apart(2) {
        mesh.world.heal(1, 2);
        mesh.disk(1).user_symlink(b"old", b"l").unwrap();
        mesh.in_sync();
        cut(&mut mesh);
        mesh.write(1, "a", contents("edit", size));
        mesh.disk(1).user_chmod(b"a", 0o750).unwrap();
        mesh.remove(1, "l");
        mesh.disk(1).user_symlink(b"new", b"l").unwrap();
        rename(&mesh, 2, "a", "b");
        rename(&mesh, 2, "l", "m");
        mesh.run_for(SECOND);
        mesh.world.heal(1, 2);
        mesh.in_sync();
        assert_has(&mesh, &[("b", &contents("edit", size)), ("m", b"")]);
        for node in 1..=2 {
            let shown = mesh.disk(node).snapshot();
            assert_eq!(shown[&b"m"[..]].target.as_deref(), Some(&b"new"[..]), "seed {}", mesh.seed);
            assert_eq!(shown[&b"b"[..]].mode, 0o750, "seed {}", mesh.seed);
        }
    }
}

/// Where the two names are one the new one is held back until the old one goes; the edit stays.
#[test]
fn an_edit_of_a_file_that_was_spelled_anew_is_not_lost() {
    for seed in 1..=SEEDS {
        let mut mesh = Mesh::asleep(seed, Shape::default());
        mesh.disk(1).fold_case();
        (1..=2).for_each(|node| mesh.start(node));
        mesh.write(1, "a", "base");
        mesh.in_sync();
        cut(&mut mesh);
        mesh.write(1, "a", "edit");
        rename(&mesh, 2, "a", "A");
        mesh.run_for(SECOND);
        heal(&mut mesh);
        mesh.run_for(60 * SECOND);
        for node in 1..=2 {
            assert!(mesh.has_contents(node, "edit"), "seed {seed}, n{node}");
        }
    }
}

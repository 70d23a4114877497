//! Directories that meet with contents: for the first time, with a seed, and again after a registry was lost.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 50;

fn shape(nodes: u32, seed: Option<u32>) -> Shape {
    Shape { nodes, seed, ..Shape::default() }
}

fn remove_all(mesh: &Mesh, node: u32, paths: &[&str]) {
    paths.iter().for_each(|path| mesh.remove(node, path));
}

fn is_stored(mesh: &Mesh, node: u32, contents: &str) -> bool {
    mesh.disk(node).stored_contents().values().any(|stored| stored == contents.as_bytes())
}

fn conflicts(mesh: &mut Mesh, node: u32) -> u64 {
    mesh.status(node).unwrap().volumes[0].conflicts
}

/// Three nodes with some files, of which the second is down and has lost its registry.
fn with_a_lost_registry() -> impl Iterator<Item = Mesh> {
    (1..=SEEDS).map(|seed| {
        let mut mesh = Mesh::new(seed, shape(3, None));
        for directory in ["d", "e"] {
            mesh.mkdir(1, directory);
        }
        for path in ["kept", "gone", "edited", "d/gone", "e/gone"] {
            mesh.write(1, path, format!("the first {path}"));
        }
        mesh.disk(1).user_symlink(b"target", b"link").unwrap();
        mesh.in_sync();
        mesh.kill(2);
        mesh.lose_state(2);
        mesh
    })
}

/// A tombstone keeps the hash that it deleted: a rebuilt registry treats equal contents as that deleted version (SYNC 10).
#[test]
fn a_rebuilt_registry_recognises_what_was_deleted_meanwhile() {
    for mut mesh in with_a_lost_registry() {
        remove_all(&mesh, 1, &["gone", "edited", "d/gone", "d", "e/gone", "link"]);
        mesh.write(2, "edited", "edited while the agent was down");
        mesh.write(2, "e/new", "added while the agent was down");
        mesh.run_for(2_000_000_000);
        mesh.start(2);
        mesh.in_sync();
        for node in 1..=3 {
            assert_eq!(mesh.names(node), ["e", "e/new", "edited", "kept"], "seed {}, n{node}", mesh.seed);
            assert_eq!(conflicts(&mut mesh, node), 0);
        }
        for path in ["gone", "d/gone", "e/gone"] {
            assert!(is_stored(&mesh, 2, &format!("the first {path}")), "seed {}: {path}", mesh.seed);
        }
    }
}

/// A directory that was deleted, and into which somebody wrote while no agent ran, returns with what was written alone.
#[test]
fn a_deleted_directory_returns_with_what_was_added_to_it() {
    for mut mesh in with_a_lost_registry() {
        remove_all(&mesh, 1, &["d/gone", "d"]);
        mesh.write(2, "d/new", "added");
        mesh.start(2);
        mesh.in_sync();
        for node in 1..=3 {
            let below: Vec<String> = mesh.names(node).into_iter().filter(|name| name.starts_with('d')).collect();
            assert_eq!(below, ["d", "d/new"], "seed {}, n{node}", mesh.seed);
        }
    }
}

/// What the rebuilt registry has recognised is known like any other: made again with the same contents it is a new file.
#[test]
fn what_was_recognised_can_be_written_again() {
    for mut mesh in with_a_lost_registry().take(20) {
        remove_all(&mesh, 1, &["gone"]);
        mesh.start(2);
        mesh.in_sync();
        mesh.write(2, "gone", "the first gone");
        mesh.in_sync();
        assert_eq!(mesh.read(3, b"gone").unwrap(), b"the first gone", "seed {}", mesh.seed);
    }
}

/// A directory that never was a replica has nothing that was deleted: what is in it is new, whatever peers deleted before.
#[test]
fn nothing_is_deleted_at_a_first_meeting() {
    for seed in 1..=SEEDS {
        let mut mesh = Mesh::asleep(seed, shape(2, None));
        mesh.write(2, "f", "contents");
        mesh.start(1);
        mesh.run_for(1_000_000_000);
        mesh.write(1, "f", "contents");
        mesh.run_for(2_000_000_000);
        remove_all(&mesh, 1, &["f"]);
        mesh.run_for(2_000_000_000);
        mesh.start(2);
        mesh.in_sync();
        assert_eq!((mesh.names(1), mesh.names(2)), (vec!["f".into()], vec!["f".into()]), "seed {seed}");
    }
}

/// Two directories with contents, of which the first is the seed.
fn seeded() -> impl Iterator<Item = Mesh> {
    (1..=SEEDS).map(|seed| {
        let mut mesh = Mesh::asleep(seed, shape(2, Some(1)));
        for node in 1..=2 {
            mesh.mkdir(node, b"d");
            mesh.write(node, "d/same", "same");
            mesh.write(node, "d/differs", format!("of n{node}"));
            mesh.write(node, format!("d/only n{node}"), "alone");
        }
        // Whatever is newer.
        mesh.disk(2).user_touch(b"d/differs", 2_000_000_000_000_000_000).unwrap();
        mesh.disk(1).user_chmod(b"d", 0o700).unwrap();
        mesh.disk(1).user_chmod(b"d/same", 0o600).unwrap();
        mesh.start(1);
        mesh.start(2);
        mesh.in_sync();
        mesh
    })
}

/// At a first meeting the seed's version wins and the others go to the store; nothing is deleted (SYNC 10).
#[test]
fn what_differs_from_the_seed_gives_way_to_it() {
    for mut mesh in seeded() {
        for node in 1..=2 {
            let expected = ["d", "d/differs", "d/only n1", "d/only n2", "d/same"];
            assert_eq!(mesh.names(node), expected, "seed {}, n{node}", mesh.seed);
            let disk = mesh.disk(node);
            assert_eq!(disk.user_read(b"d/differs").unwrap(), b"of n1");
            assert_eq!(disk.user_stat(b"d").unwrap().mode, 0o700, "modes are the seed's, too");
            assert_eq!(disk.user_stat(b"d/same").unwrap().mode, 0o600);
            assert_eq!(conflicts(&mut mesh, node), 0);
        }
        assert!(is_stored(&mesh, 2, "of n2"), "seed {}", mesh.seed);
    }
}

/// Afterwards the seed is a node like others, also when a registry is lost.
#[test]
fn a_seed_means_nothing_after_the_first_meeting() {
    for lost in [false, true] {
        for mut mesh in seeded().take(20) {
            mesh.kill(1);
            mesh.kill(2);
            if lost {
                mesh.lose_state(2);
            }
            mesh.write(1, "d/differs", "later, n1");
            mesh.write(2, "d/differs", "later, n2");
            mesh.start(1);
            mesh.start(2);
            mesh.in_sync();
            let copies = mesh.names(1).into_iter().filter(|name| name.contains("(conflict "));
            assert_eq!(copies.count(), 1, "seed {}: {:?}", mesh.seed, mesh.names(1));
        }
    }
}

/// What somebody writes on a node with a seed before the two have met is no longer what was found there.
#[test]
fn an_edit_before_the_meeting_doesnt_give_way() {
    for seed in 1..=20 {
        let mut mesh = Mesh::asleep(seed, shape(2, Some(1)));
        mesh.write(1, "f", "of n1");
        mesh.write(2, "f", "of n2");
        mesh.start(2);
        mesh.run_for(2_000_000_000);
        mesh.write(2, "f", "an edit");
        mesh.run_for(2_000_000_000);
        mesh.start(1);
        mesh.in_sync();
        let snapshot = mesh.disk(1).snapshot();
        assert!(snapshot.values().any(|shown| shown.contents == b"an edit"), "seed {seed}: {:?}", mesh.names(1));
        assert_eq!(snapshot.len(), 2, "seed {seed}: {:?}", mesh.names(1));
    }
}

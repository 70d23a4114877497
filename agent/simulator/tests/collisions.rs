//! Names that one node's file system takes for the same, and others don't: held there and reported, never merged or mangled.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 50;
const SECOND: u64 = 1_000_000_000;

/// Two nodes, of which the second ignores case.
fn pairs() -> impl Iterator<Item = Mesh> {
    let shape = Shape::default();
    (1..=SEEDS).map(move |seed| {
        let mut mesh = Mesh::asleep(seed, shape.clone());
        mesh.disk(2).fold_case();
        mesh.start(1);
        mesh.start(2);
        mesh.in_sync();
        mesh
    })
}

fn is_reported(mesh: &mut Mesh) {
    let volume = mesh.status(2).unwrap().volumes.remove(0);
    assert!(volume.message.contains("differ in case") && !volume.in_sync, "seed {}: {volume:?}", mesh.seed);
}

#[test]
fn a_name_that_collides_is_held_until_the_other_goes() {
    for mut mesh in pairs() {
        mesh.write(1, "a", "small");
        mesh.write(1, "A", "capital");
        mesh.run_for(20 * SECOND);
        assert_eq!(mesh.tree(1).len(), 2, "seed {}: nothing happens to the others", mesh.seed);
        let here = mesh.tree(2);
        let [(name, contents)] = here.as_slice() else { panic!("seed {}: {here:?}", mesh.seed) };
        assert_eq!(contents, if name == "a" { "small" } else { "capital" });
        is_reported(&mut mesh);
        // An edit of the one that is here goes both ways, an edit of the other waits with it.
        mesh.write(2, name, "edited here");
        mesh.write(1, if name == "a" { "A" } else { "a" }, "edited there");
        mesh.run_for(20 * SECOND);
        assert_eq!(mesh.read(1, name).unwrap(), b"edited here");
        assert_eq!(mesh.tree(2).len(), 1);
        mesh.remove(1, name);
        mesh.in_sync();
        let other = if name == "a" { "A" } else { "a" };
        assert_eq!(mesh.tree(2), [(other.to_owned(), "edited there".to_owned())], "seed {}", mesh.seed);
    }
}

#[test]
fn directories_that_collide_are_not_merged() {
    for mut mesh in pairs() {
        for directory in ["d", "D"] {
            mesh.mkdir(1, directory);
            for file in ["f", "g"] {
                mesh.write(1, format!("{directory}/{file}"), format!("in {directory}"));
            }
        }
        mesh.run_for(20 * SECOND);
        let here = mesh.tree(2);
        let directory = here[0].0.clone();
        let file = |name: &str| (format!("{directory}/{name}"), format!("in {directory}"));
        assert_eq!(here, [(directory.clone(), String::new()), file("f"), file("g")], "seed {}", mesh.seed);
        is_reported(&mut mesh);
        assert_eq!(mesh.tree(1).len(), 6);
        // The other goes: nothing of what is here is touched.
        let other = if directory == "d" { "D" } else { "d" };
        for path in [format!("{other}/f"), format!("{other}/g"), other.to_owned()] {
            mesh.remove(1, path);
        }
        mesh.in_sync();
        assert_eq!(mesh.tree(2), here, "seed {}", mesh.seed);
        assert_eq!(mesh.tree(1), here);
    }
}

/// To a file system that ignores case the two names are one; the file keeps its contents on both nodes.
#[test]
fn a_name_that_is_spelled_anew_loses_nothing() {
    for node in [1, 2] {
        for mut mesh in pairs() {
            mesh.mkdir(1, b"d");
            mesh.write(1, "d/x", "below");
            mesh.write(1, "a", "contents");
            mesh.in_sync();
            mesh.disk(node).user_rename(b"a", b"A").unwrap();
            mesh.disk(node).user_rename(b"d", b"D").unwrap();
            mesh.in_sync();
            let expected = [("A", "contents"), ("D", ""), ("D/x", "below")];
            let expected = expected.map(|(name, contents)| (name.to_owned(), contents.to_owned()));
            assert_eq!(mesh.tree(1), expected, "seed {}, n{node}", mesh.seed);
            assert_eq!(mesh.tree(2), expected, "seed {}, n{node}", mesh.seed);
        }
    }
}

/// A kill at any time leaves nothing that a start takes for a user's work.
#[test]
fn a_kill_while_names_collide_changes_nothing() {
    for mut mesh in pairs() {
        mesh.write(1, "a", "small");
        mesh.write(1, "A", "capital");
        let steps = mesh.random.between(1, 1_000);
        mesh.take_steps(steps);
        mesh.kill(2);
        mesh.start(2);
        mesh.run_for(20 * SECOND);
        assert_eq!(mesh.activity(2).unwrap().0, 0, "seed {}: versions that n2 made", mesh.seed);
        assert_eq!((mesh.tree(1).len(), mesh.tree(2).len()), (2, 1));
    }
}

/// Names that one node's file system can't hold wait there alone, with what is below them; nothing is renamed, nothing is taken
/// for deleted. Under another name they come.
#[test]
fn names_that_a_file_system_cant_hold_wait_there_and_nowhere_else() {
    let long = "n".repeat(200);
    for seed in 1..=SEEDS {
        let mut mesh = Mesh::asleep(seed, Shape { nodes: 3, ..Shape::default() });
        mesh.disk(2).refuse_names(143);
        (1..=3).for_each(|id| mesh.start(id));
        mesh.write(1, b"caf\xe9", "latin");
        mesh.mkdir(1, b"d\xff");
        mesh.write(1, b"d\xff/f", "below");
        mesh.write(1, &long, "long");
        mesh.write(1, "plain", "plain");
        mesh.run_for(20 * SECOND);
        assert_eq!(mesh.names(2), ["plain"], "seed {seed}");
        assert_eq!(mesh.names(3).len(), 5, "seed {seed}: {:?}", mesh.names(3));
        let volume = mesh.status(2).unwrap().volumes.remove(0);
        assert!(volume.message.contains("held back here") && !volume.in_sync, "seed {seed}: {volume:?}");
        if mesh.random.once_in(2) {
            mesh.kill(2);
            mesh.start(2);
            mesh.run_for(20 * SECOND);
        }
        // What is deleted or edited elsewhere goes on without that node.
        mesh.write(3, &long, "edited");
        mesh.remove(3, b"d\xff/f");
        mesh.run_for(20 * SECOND);
        assert_eq!(mesh.read(1, &long).unwrap(), b"edited", "seed {seed}");
        assert_eq!(mesh.names(1).len(), 4, "seed {seed}: {:?}", mesh.names(1));
        mesh.disk(1).user_rename(b"caf\xe9", "café".as_bytes()).unwrap();
        mesh.disk(1).user_rename(b"d\xff", b"d").unwrap();
        mesh.disk(1).user_rename(long.as_bytes(), b"short").unwrap();
        mesh.in_sync();
        for node in 1..=3 {
            assert_eq!(mesh.names(node), ["café", "d", "plain", "short"], "seed {seed}, n{node}");
        }
        assert_eq!(mesh.activity(2).unwrap().0, 0, "seed {seed}: versions that n2 made");
    }
}

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
        mesh.machines[1].disk.fold_case();
        mesh.start(1);
        mesh.start(2);
        in_sync(&mut mesh);
        mesh
    })
}

fn in_sync(mesh: &mut Mesh) {
    let result = mesh.run_until_in_sync(120 * SECOND);
    result.unwrap_or_else(|why| panic!("seed {}: {why}", mesh.seed));
}

fn tree(mesh: &Mesh, node: usize) -> Vec<(String, String)> {
    let snapshot = mesh.machines[node - 1].disk.snapshot();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    snapshot.iter().map(|(path, shown)| (text(path), text(&shown.contents))).collect()
}

fn write(mesh: &Mesh, node: usize, path: &str, contents: &str) {
    mesh.machines[node - 1].disk.user_write(path.as_bytes(), contents.as_bytes()).unwrap();
}

fn is_reported(mesh: &mut Mesh) {
    let volume = mesh.status(2).unwrap().volumes.remove(0);
    assert!(volume.message.contains("differ in case") && !volume.in_sync, "seed {}: {volume:?}", mesh.seed);
}

#[test]
fn a_name_that_collides_is_held_until_the_other_goes() {
    for mut mesh in pairs() {
        write(&mesh, 1, "a", "small");
        write(&mesh, 1, "A", "capital");
        mesh.run_for(20 * SECOND);
        assert_eq!(tree(&mesh, 1).len(), 2, "seed {}: nothing happens to the others", mesh.seed);
        let here = tree(&mesh, 2);
        let [(name, contents)] = here.as_slice() else { panic!("seed {}: {here:?}", mesh.seed) };
        assert_eq!(contents, if name == "a" { "small" } else { "capital" });
        is_reported(&mut mesh);
        // An edit of the one that is here goes both ways, an edit of the other waits with it.
        write(&mesh, 2, name, "edited here");
        write(&mesh, 1, if name == "a" { "A" } else { "a" }, "edited there");
        mesh.run_for(20 * SECOND);
        assert_eq!(mesh.machines[0].disk.user_read(name.as_bytes()).unwrap(), b"edited here");
        assert_eq!(tree(&mesh, 2).len(), 1);
        mesh.machines[0].disk.user_remove(name.as_bytes()).unwrap();
        in_sync(&mut mesh);
        let other = if name == "a" { "A" } else { "a" };
        assert_eq!(tree(&mesh, 2), [(other.to_owned(), "edited there".to_owned())], "seed {}", mesh.seed);
    }
}

#[test]
fn directories_that_collide_are_not_merged() {
    for mut mesh in pairs() {
        for directory in ["d", "D"] {
            mesh.machines[0].disk.user_mkdir(directory.as_bytes()).unwrap();
            for file in ["f", "g"] {
                write(&mesh, 1, &format!("{directory}/{file}"), &format!("in {directory}"));
            }
        }
        mesh.run_for(20 * SECOND);
        let here = tree(&mesh, 2);
        let directory = here[0].0.clone();
        let file = |name: &str| (format!("{directory}/{name}"), format!("in {directory}"));
        assert_eq!(here, [(directory.clone(), String::new()), file("f"), file("g")], "seed {}", mesh.seed);
        is_reported(&mut mesh);
        assert_eq!(tree(&mesh, 1).len(), 6);
        // The other goes: nothing of what is here is touched.
        let other = if directory == "d" { "D" } else { "d" };
        for path in [format!("{other}/f"), format!("{other}/g"), other.to_owned()] {
            mesh.machines[0].disk.user_remove(path.as_bytes()).unwrap();
        }
        in_sync(&mut mesh);
        assert_eq!(tree(&mesh, 2), here, "seed {}", mesh.seed);
        assert_eq!(tree(&mesh, 1), here);
    }
}

/// To a file system that ignores case the two names are one; the file keeps its contents on both nodes.
#[test]
fn a_name_that_is_spelled_anew_loses_nothing() {
    for node in [1, 2] {
        for mut mesh in pairs() {
            mesh.machines[0].disk.user_mkdir(b"d").unwrap();
            write(&mesh, 1, "d/x", "below");
            write(&mesh, 1, "a", "contents");
            in_sync(&mut mesh);
            mesh.machines[node - 1].disk.user_rename(b"a", b"A").unwrap();
            mesh.machines[node - 1].disk.user_rename(b"d", b"D").unwrap();
            in_sync(&mut mesh);
            let expected = [("A", "contents"), ("D", ""), ("D/x", "below")];
            let expected = expected.map(|(name, contents)| (name.to_owned(), contents.to_owned()));
            assert_eq!(tree(&mesh, 1), expected, "seed {}, n{node}", mesh.seed);
            assert_eq!(tree(&mesh, 2), expected, "seed {}, n{node}", mesh.seed);
        }
    }
}

/// A kill at any time leaves nothing that a start takes for a user's work.
#[test]
fn a_kill_while_names_collide_changes_nothing() {
    for mut mesh in pairs() {
        write(&mesh, 1, "a", "small");
        write(&mesh, 1, "A", "capital");
        let steps = mesh.random.between(1, 1_000);
        (0..steps).for_each(|_| _ = mesh.step());
        mesh.kill(2);
        mesh.start(2);
        mesh.run_for(20 * SECOND);
        assert_eq!(mesh.activity(2).unwrap().0, 0, "seed {}: versions that n2 made", mesh.seed);
        assert_eq!((tree(&mesh, 1).len(), tree(&mesh, 2).len()), (2, 1));
    }
}

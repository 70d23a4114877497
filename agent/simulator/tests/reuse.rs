//! Contents that a node has already under another path aren't fetched again.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 40;
const SECOND: u64 = 1_000_000_000;
/// Too large to come with an announcement.
const LARGE: usize = 150_000;

/// Two nodes with some large files in a directory, durable or still in the overlay.
fn meshes() -> impl Iterator<Item = Mesh> {
    (1..=SEEDS).map(|seed| {
        let mut mesh = Mesh::new(seed, Shape::default());
        mesh.mkdir(1, "d");
        for name in 0..4_u8 {
            mesh.write(1, format!("d/{name}"), vec![name; LARGE]);
        }
        mesh.in_sync();
        let pause = mesh.random.between(0, 5 * SECOND);
        mesh.run_for(pause);
        assert_eq!(mesh.counters(2).unwrap().fetched_bytes, 4 * LARGE as u64);
        mesh
    })
}

/// What node 2 has fetched since, in bytes.
fn fetched(mesh: &Mesh) -> u64 {
    mesh.counters(2).unwrap().fetched_bytes - 4 * LARGE as u64
}

#[test]
fn a_renamed_directory_is_not_sent_again() {
    for mut mesh in meshes() {
        mesh.disk(1).user_rename(b"d", b"e").unwrap();
        mesh.in_sync();
        assert_eq!(mesh.tree(1), mesh.tree(2), "seed {}", mesh.seed);
        assert_eq!(mesh.names(2), ["e", "e/0", "e/1", "e/2", "e/3"], "seed {}", mesh.seed);
        assert_eq!(fetched(&mesh), 0, "seed {}", mesh.seed);
    }
}

#[test]
fn copies_and_exchanged_names_are_not_sent_again() {
    for mut mesh in meshes() {
        let disk = mesh.disk(1).clone();
        mesh.write(1, "copy", vec![0; LARGE]);
        for (from, to) in [("d/1", "t"), ("d/2", "d/1"), ("t", "d/2")] {
            disk.user_rename(from.as_bytes(), to.as_bytes()).unwrap();
        }
        mesh.in_sync();
        assert_eq!(mesh.tree(1), mesh.tree(2), "seed {}", mesh.seed);
        assert_eq!(fetched(&mesh), 0, "seed {}", mesh.seed);
    }
}

#[test]
fn a_file_that_was_deleted_and_comes_back_elsewhere_is_taken_from_the_store() {
    for mut mesh in meshes() {
        mesh.remove(1, "d/3");
        mesh.in_sync();
        mesh.write(1, "again", vec![3; LARGE]);
        mesh.in_sync();
        assert_eq!(mesh.tree(1), mesh.tree(2), "seed {}", mesh.seed);
        assert_eq!(fetched(&mesh), 0, "seed {}", mesh.seed);
    }
}

/// What was found may change while it is copied: then it is fetched.
#[test]
fn what_changes_under_the_copy_is_fetched() {
    for mut mesh in meshes() {
        mesh.write(1, "copy", vec![0; LARGE]);
        let steps = mesh.random.between(0, 400);
        mesh.take_steps(steps);
        mesh.write(2, "d/0", vec![9; LARGE]);
        mesh.in_sync();
        assert_eq!(mesh.tree(1), mesh.tree(2), "seed {}", mesh.seed);
        assert_eq!(mesh.read(2, "copy").unwrap(), vec![0; LARGE], "seed {}", mesh.seed);
        assert_eq!(mesh.read(1, "d/0").unwrap(), vec![9; LARGE], "seed {}", mesh.seed);
    }
}

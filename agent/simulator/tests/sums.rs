//! Registries that lost or changed what they knew, although nobody wrote anything (SYNC 1, sums): found, repaired, and
//! said. A clean run never finds such a difference: the end of each story asks for that.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_core::entry::{Body, ContentHash, Here, Row};
use syncmesh_engine::job::identity;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SECOND: u64 = 1_000_000_000;
const EMPTY: Row = Row { sequence: 0, here: None, wanted: None };

fn meshes(seeds: u64) -> impl Iterator<Item = Mesh> {
    let shape = Shape::default();
    (1..=seeds).map(move |seed| Mesh::new(seed, shape.clone()))
}

/// The first node's agent isn't there while its registry is changed, and everything that it had recorded is durable.
fn without_first(mesh: &mut Mesh, change: impl FnOnce(&mut Mesh)) {
    mesh.in_sync();
    mesh.run_for(5 * SECOND);
    mesh.kill(1);
    change(mesh);
    mesh.start(1);
    mesh.in_sync();
}

/// Runs past the first counting of rows, and checks that what it found is repaired: how many paths were said to differ.
fn repaired(mesh: &mut Mesh) -> u64 {
    mesh.run_for(90 * SECOND);
    mesh.in_sync();
    mesh.run_for(30 * SECOND);
    let volumes: Vec<_> = (1..=2).map(|id| mesh.status(id).unwrap().volumes.remove(0)).collect();
    assert_eq!(volumes[0].sum, volumes[1].sum, "seed {}: {volumes:?}", mesh.seed);
    let found: u64 = (1..=2).map(|id| mesh.counters(id).unwrap().sum_differences).sum();
    assert!(found > 0, "seed {}: nobody noticed", mesh.seed);
    let before: Vec<_> = (1..=2).map(|id| mesh.counters(id).unwrap().sum_differences).collect();
    mesh.run_for(60 * SECOND);
    let after: Vec<_> = (1..=2).map(|id| mesh.counters(id).unwrap().sum_differences).collect();
    assert_eq!(before, after, "seed {}: it is found again and again", mesh.seed);
    (1..=2).map(|id| mesh.counters(id).unwrap().repaired_paths).sum()
}

fn disks_are_equal(mesh: &Mesh) {
    let disk = |node: usize| {
        let shown = mesh.machines[node].disk.snapshot();
        shown.into_iter().map(|(path, shown)| (path, shown.contents, shown.mode)).collect::<Vec<_>>()
    };
    assert_eq!(disk(0), disk(1), "seed {}", mesh.seed);
}

/// Knowledge that covers an entry which was never recorded: nobody would ever send it again.
#[test]
fn what_a_registry_knows_of_and_doesnt_have_comes_from_the_peers() {
    for mut mesh in meshes(5) {
        mesh.write(1, b"f", b"contents");
        mesh.write(1, b"g", b"others");
        without_first(&mut mesh, |mesh| {
            mesh.damage(1, b"f", EMPTY);
            mesh.remove(1, b"f");
        });
        assert!(mesh.disk(1).user_read(b"f").is_err(), "nothing else brings it back");
        assert_eq!(repaired(&mut mesh), 1, "seed {}", mesh.seed);
        assert_eq!(mesh.read(1, b"f").unwrap(), b"contents");
        disks_are_equal(&mesh);
    }
}

/// Few of many, far apart: only they are talked about, and a large part that one side lacks as a whole comes, too.
#[test]
fn what_differs_is_found_among_many() {
    for mut mesh in meshes(2) {
        for directory in 0..8 {
            mesh.mkdir(1, format!("d{directory}").as_bytes());
            for file in 0..150 {
                let path = format!("d{directory}/f{file}");
                mesh.write(1, &path, path.as_bytes());
            }
        }
        let lost: Vec<String> =
            (0..150).map(|file| format!("d3/f{file}")).chain(["d0/f0".into(), "d7/f149".into()]).collect();
        without_first(&mut mesh, |mesh| {
            for path in &lost {
                mesh.damage(1, path.as_bytes(), EMPTY);
                mesh.remove(1, path);
            }
        });
        assert_eq!(repaired(&mut mesh), lost.len() as u64, "seed {}", mesh.seed);
        disks_are_equal(&mesh);
    }
}

/// A row, and its file, as they were some versions ago.
#[test]
fn a_version_that_was_forgotten_comes_again_and_what_it_replaces_is_stored() {
    for mut mesh in meshes(5) {
        mesh.write(1, b"f", b"old");
        mesh.in_sync();
        let old = mesh.row(1, b"f").unwrap();
        mesh.write(2, b"f", b"new");
        without_first(&mut mesh, |mesh| {
            let disk = &mesh.disk(1);
            disk.user_write(b"f", b"old").unwrap();
            let shown = identity(&disk.user_stat(b"f").unwrap());
            let here = Here { identity: Some(shown), ..old.here.clone().unwrap() };
            mesh.damage(1, b"f", Row { here: Some(here), ..old.clone() });
        });
        repaired(&mut mesh);
        assert_eq!(mesh.read(1, b"f").unwrap(), b"new", "seed {}", mesh.seed);
        assert!(mesh.disk(1).stored_contents().values().any(|stored| stored == b"old"));
        disks_are_equal(&mesh);
    }
}

/// A deletion that a registry forgot is carried out; nothing returns anywhere else.
#[test]
fn a_deletion_that_was_forgotten_comes_again() {
    for mut mesh in meshes(5) {
        mesh.write(1, b"f", b"contents");
        mesh.write(1, b"g", b"stays");
        mesh.in_sync();
        let live = mesh.row(1, b"f").unwrap();
        mesh.remove(2, b"f");
        without_first(&mut mesh, |mesh| {
            let disk = &mesh.disk(1);
            disk.user_write(b"f", b"contents").unwrap();
            let shown = identity(&disk.user_stat(b"f").unwrap());
            let here = Here { identity: Some(shown), ..live.here.clone().unwrap() };
            mesh.damage(1, b"f", Row { here: Some(here), ..live.clone() });
        });
        repaired(&mut mesh);
        assert!(mesh.disk(2).user_read(b"f").is_err(), "seed {}", mesh.seed);
        disks_are_equal(&mesh);
    }
}

/// One version that is two things on two nodes: the file itself says which it is.
#[test]
fn a_row_that_says_what_its_file_isnt_is_put_right_by_reading_the_file() {
    for mut mesh in meshes(5) {
        mesh.write(1, b"f", b"contents");
        without_first(&mut mesh, |mesh| {
            mesh.start(1);
            let mut row = mesh.row(1, b"f").unwrap();
            mesh.run_for(5 * SECOND);
            mesh.kill(1);
            let here = row.here.as_mut().unwrap();
            let Body::File { hash, .. } = &mut here.entry.content.body else { panic!("a file") };
            *hash = ContentHash::of(b"nonsense");
            mesh.damage(1, b"f", row);
        });
        repaired(&mut mesh);
        assert_eq!(mesh.read(1, b"f").unwrap(), b"contents");
        disks_are_equal(&mesh);
    }
}

/// Two clones used one number twice, and both wrote: neither is lost.
#[test]
fn one_version_that_is_two_things_on_two_disks_is_kept_as_both() {
    for mut mesh in meshes(5) {
        mesh.write(1, b"f", b"contents");
        mesh.in_sync();
        let mut row = mesh.row(1, b"f").unwrap();
        without_first(&mut mesh, |mesh| {
            let disk = &mesh.disk(1);
            disk.user_write(b"f", b"of a clone").unwrap();
            let here = row.here.as_mut().unwrap();
            let shown = identity(&disk.user_stat(b"f").unwrap());
            let Body::File { hash, size, mtime, .. } = &mut here.entry.content.body else { panic!("a file") };
            (*hash, *size, *mtime) = (ContentHash::of(b"of a clone"), 10, shown.mtime);
            here.identity = Some(shown);
            mesh.damage(1, b"f", row);
        });
        repaired(&mut mesh);
        for machine in &mesh.machines {
            let files = machine.disk.snapshot().into_values().map(|shown| shown.contents).collect::<Vec<_>>();
            for contents in [&b"contents"[..], b"of a clone"] {
                assert!(files.iter().any(|file| file == contents), "seed {}: {files:?}", mesh.seed);
            }
        }
        disks_are_equal(&mesh);
    }
}

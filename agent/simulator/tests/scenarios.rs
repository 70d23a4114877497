//! Named scenarios: each once broke a rule, or would break it if the rule were taken out. Each is told for several seeds,
//! because the order of steps is the seed's.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_core::policy::Policy;
use syncmesh_io::Owner;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 30;
const PATIENCE: u64 = 120_000_000_000;

/// Two nodes that exclude `*.tmp`.
fn pairs() -> impl Iterator<Item = Mesh> {
    let shape = Shape { nodes: 2, policy: Policy::KeepBoth, exclude: vec!["*.tmp".into()] };
    (1..=SEEDS).map(move |seed| Mesh::new(seed, shape.clone()))
}

fn in_sync(mesh: &mut Mesh) {
    let result = mesh.run_until_in_sync(PATIENCE);
    result.unwrap_or_else(|why| panic!("seed {}: {why}", mesh.seed));
}

fn names(mesh: &Mesh, node: usize) -> Vec<String> {
    let snapshot = mesh.machines[node - 1].disk.snapshot();
    snapshot.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
}

/// Directory `d` was deleted by the first node while an excluded file of the second was in it.
fn leftover(mesh: &mut Mesh) {
    mesh.machines[0].disk.user_mkdir(b"d").unwrap();
    in_sync(mesh);
    mesh.machines[1].disk.user_write(b"d/own.tmp", b"kept").unwrap();
    mesh.machines[0].disk.user_remove(b"d").unwrap();
    in_sync(mesh);
}

/// A deleted directory in which only an excluded file is, and directories of that kind, counts as deleted (SYNC 10).
#[test]
fn nested_leftovers_are_in_sync() {
    for mut mesh in pairs() {
        mesh.machines[0].disk.user_mkdir(b"d").unwrap();
        mesh.machines[0].disk.user_mkdir(b"d/e").unwrap();
        in_sync(&mut mesh);
        mesh.machines[1].disk.user_write(b"d/e/own.tmp", b"kept").unwrap();
        mesh.machines[0].disk.user_remove(b"d/e").unwrap();
        mesh.machines[0].disk.user_remove(b"d").unwrap();
        in_sync(&mut mesh);
        assert!(names(&mesh, 1).is_empty());
        assert_eq!(names(&mesh, 2), ["d", "d/e", "d/e/own.tmp"]);
    }
}

/// A leftover is taken over by the directory that is made again elsewhere.
#[test]
fn a_directory_that_is_made_again_takes_over_the_leftover() {
    for mut mesh in pairs() {
        leftover(&mut mesh);
        mesh.machines[0].disk.user_mkdir(b"d").unwrap();
        mesh.machines[0].disk.user_chmod(b"d", 0o700).unwrap();
        mesh.machines[0].disk.user_write(b"d/new", b"new").unwrap();
        in_sync(&mut mesh);
        assert_eq!(names(&mesh, 2), ["d", "d/new", "d/own.tmp"]);
        assert_eq!(mesh.machines[1].disk.user_stat(b"d").unwrap().mode, 0o700);
        // It is watched again.
        mesh.machines[1].disk.user_write(b"d/back", b"back").unwrap();
        in_sync(&mut mesh);
        assert_eq!(names(&mesh, 1), ["d", "d/back", "d/new"]);
    }
}

/// A file whose name a leftover holds waits, says so, and comes when the owner of the excluded file has taken it away.
#[test]
fn a_file_waits_for_the_leftover_that_has_its_name() {
    for mut mesh in pairs() {
        leftover(&mut mesh);
        mesh.machines[0].disk.user_write(b"d", b"a file").unwrap();
        mesh.run_for(20_000_000_000);
        let status = mesh.status(2).unwrap();
        assert!(status.volumes[0].message.contains("isn't empty"), "seed {}: {}", mesh.seed, status.volumes[0].message);
        mesh.machines[1].disk.user_remove(b"d/own.tmp").unwrap();
        mesh.machines[1].disk.user_remove(b"d").unwrap();
        in_sync(&mut mesh);
        assert_eq!(mesh.machines[1].disk.user_read(b"d").unwrap(), b"a file");
    }
}

/// A directory that a file replaces elsewhere stays until the file's contents have come: a node on which nobody writes
/// declares nothing.
#[test]
fn a_directory_stays_until_the_file_that_replaces_it_has_come() {
    for mut mesh in pairs() {
        mesh.machines[0].disk.user_mkdir(b"d").unwrap();
        in_sync(&mut mesh);
        mesh.machines[0].disk.user_remove(b"d").unwrap();
        // Too large to ride along.
        mesh.machines[0].disk.user_write(b"d", &[7; 700_000]).unwrap();
        in_sync(&mut mesh);
        assert_eq!(mesh.machines[1].disk.user_read(b"d").unwrap().len(), 700_000);
        assert_eq!(mesh.activity(2).unwrap().0, 0, "seed {}: versions that n2 made", mesh.seed);
    }
}

/// A node that is killed after any step of carrying out a peer's change declares nothing when it is back: what it had
/// carried out is recognised as the peer's, whichever part of it was on the disk.
#[test]
fn a_node_killed_while_it_carries_out_a_change_declares_nothing() {
    let changes: [(&str, fn(&Mesh)); 6] = [
        ("a deletion", |mesh| mesh.machines[0].disk.user_remove(b"d/f").unwrap()),
        ("a replacement", |mesh| mesh.machines[0].disk.user_write(b"d/f", b"new").unwrap()),
        ("a new mode", |mesh| mesh.machines[0].disk.user_chmod(b"d/f", 0o600).unwrap()),
        ("a new owner and mode", |mesh| {
            mesh.machines[0].disk.user_chown(b"d/f", Owner { uid: 7, gid: 8 }).unwrap();
            mesh.machines[0].disk.user_chmod(b"d/f", 0o640).unwrap();
        }),
        ("a removed directory", |mesh| mesh.machines[0].disk.user_remove(b"e").unwrap()),
        ("a directory in place of a file", |mesh| {
            mesh.machines[0].disk.user_remove(b"d/f").unwrap();
            mesh.machines[0].disk.user_mkdir(b"d/f").unwrap();
        }),
    ];
    for (what, change) in changes {
        let begin = |seed| {
            let shape = Shape { nodes: 2, policy: Policy::KeepBoth, exclude: vec![] };
            let mut mesh = Mesh::new(seed, shape);
            mesh.machines[0].disk.user_mkdir(b"d").unwrap();
            mesh.machines[0].disk.user_mkdir(b"e").unwrap();
            mesh.machines[0].disk.user_write(b"d/f", b"old").unwrap();
            in_sync(&mut mesh);
            change(&mesh);
            mesh
        };
        let mut whole = begin(0);
        let before = whole.steps;
        in_sync(&mut whole);
        // The order of steps is the seed's: each kill meets another one.
        for steps in 1..whole.steps - before {
            let mut mesh = begin(steps);
            (0..steps).for_each(|_| _ = mesh.step());
            mesh.kill(2);
            mesh.start(2);
            in_sync(&mut mesh);
            assert_eq!(mesh.activity(2).unwrap().0, 0, "{what}, killed after {steps} steps");
        }
    }
}

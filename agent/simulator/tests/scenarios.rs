//! Named scenarios: each once broke a rule, or would break it if the rule were taken out. Each is told for several seeds,
//! because the order of steps is the seed's.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_agent::guard::Verdict;
use syncmesh_core::guard::Limits;
use syncmesh_io::Owner;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 50;
const PATIENCE: u64 = 120_000_000_000;

/// Two nodes that exclude `*.tmp`.
fn pairs() -> impl Iterator<Item = Mesh> {
    let shape = Shape { exclude: vec!["*.tmp".into()], ..Shape::default() };
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

/// A start watches leftovers, too: what is written into one makes it a directory again, everywhere.
#[test]
fn a_leftover_is_watched_after_a_restart() {
    for mut mesh in pairs() {
        leftover(&mut mesh);
        mesh.kill(2);
        mesh.start(2);
        in_sync(&mut mesh);
        mesh.machines[1].disk.user_write(b"d/new", b"new").unwrap();
        in_sync(&mut mesh);
        assert_eq!(names(&mesh, 1), ["d", "d/new"], "seed {}", mesh.seed);
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
            let mut mesh = Mesh::new(seed, Shape::default());
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

const FILES: usize = 30;

fn file(number: usize) -> Vec<u8> {
    format!("d/{number}").into_bytes()
}

/// Thirty files in a directory, on both nodes.
fn filled() -> impl Iterator<Item = Mesh> {
    pairs().map(|mut mesh| {
        mesh.machines[0].disk.user_mkdir(b"d").unwrap();
        for number in 0..FILES {
            mesh.machines[0].disk.user_write(&file(number), format!("contents {number}").as_bytes()).unwrap();
        }
        in_sync(&mut mesh);
        mesh
    })
}

fn empty(mesh: &Mesh, node: usize) {
    let disk = &mesh.machines[node - 1].disk;
    (0..FILES).for_each(|number| disk.user_remove(&file(number)).unwrap());
    disk.user_remove(b"d").unwrap();
}

fn state(mesh: &mut Mesh, node: u32) -> (String, u64) {
    let volume = mesh.status(node).unwrap().volumes.remove(0);
    (volume.state, volume.holds)
}

/// An emptied directory empties no other until somebody says so (SYNC 10, I15).
#[test]
fn an_emptied_volume_is_held_until_it_is_approved() {
    for mut mesh in filled() {
        empty(&mesh, 1);
        mesh.run_for(70_000_000_000);
        assert_eq!(state(&mut mesh, 1), ("Held".into(), FILES as u64), "seed {}", mesh.seed);
        assert_eq!(names(&mesh, 2).len(), FILES + 1);
        mesh.decide_holds(1, Verdict::Approve).unwrap();
        in_sync(&mut mesh);
        assert!(names(&mesh, 2).is_empty(), "seed {}: {:?}", mesh.seed, names(&mesh, 2));
        assert_eq!(mesh.decide_holds(1, Verdict::Approve).unwrap_err(), "nothing is held");
    }
}

/// Taken back, everything returns from the peers as it was, and nobody declares anything.
#[test]
fn held_deletions_that_are_rejected_return_from_the_peers() {
    for mut mesh in filled() {
        let before = mesh.machines[0].disk.snapshot();
        empty(&mesh, 1);
        mesh.run_for(5_000_000_000);
        mesh.decide_holds(1, Verdict::Reject).unwrap();
        in_sync(&mut mesh);
        assert_eq!(names(&mesh, 1).len(), FILES + 1, "seed {}", mesh.seed);
        assert_eq!(before.keys().collect::<Vec<_>>(), mesh.machines[0].disk.snapshot().keys().collect::<Vec<_>>());
        assert_eq!(mesh.activity(2).unwrap().0, 0);
    }
}

/// A restart forgets no hold, and decides none.
#[test]
fn held_deletions_stay_held_over_a_kill_at_any_time() {
    for mut mesh in filled() {
        empty(&mesh, 1);
        let steps = mesh.random.between(1, 2_000);
        (0..steps).for_each(|_| _ = mesh.step());
        mesh.kill(1);
        mesh.start(1);
        mesh.run_for(70_000_000_000);
        assert_eq!(state(&mut mesh, 1), ("Held".into(), FILES as u64), "seed {}", mesh.seed);
        assert_eq!(names(&mesh, 2).len(), FILES + 1);
    }
}

/// What is deleted and created again within a minute was no deletion: nothing waits for anybody's word.
#[test]
fn what_is_created_again_within_a_minute_drops_out() {
    for mut mesh in filled() {
        empty(&mesh, 1);
        mesh.run_for(5_000_000_000);
        mesh.machines[0].disk.user_mkdir(b"d").unwrap();
        for number in 0..FILES - 5 {
            mesh.machines[0].disk.user_write(&file(number), format!("again {number}").as_bytes()).unwrap();
        }
        in_sync(&mut mesh);
        assert_eq!(names(&mesh, 2).len(), FILES - 5 + 1, "seed {}", mesh.seed);
        assert_eq!(mesh.machines[1].disk.user_read(&file(3)).unwrap(), b"again 3");
    }
}

/// A moved directory is no deletion.
#[test]
fn a_moved_directory_is_not_held() {
    for mut mesh in filled() {
        mesh.machines[0].disk.user_rename(b"d", b"e").unwrap();
        mesh.run_for(10_000_000_000);
        in_sync(&mut mesh);
        assert_eq!(names(&mesh, 2).len(), FILES + 1);
        assert_eq!(mesh.machines[1].disk.user_read(b"e/3").unwrap(), b"contents 3");
    }
}

/// A peer whose guard is off, or broken, doesn't empty this node: receivers guard themselves.
#[test]
fn a_receiver_guards_itself() {
    for verdict in [Verdict::Approve, Verdict::Reject] {
        for mut mesh in filled() {
            mesh.kill(1);
            mesh.shape.guard = Limits { files: 0, percent: 100 };
            mesh.start(1);
            in_sync(&mut mesh);
            // Few pass at once, and the rest is measured by what is left.
            for number in 0..100 {
                mesh.machines[0].disk.user_write(format!("d/more {number}").as_bytes(), b"more").unwrap();
            }
            in_sync(&mut mesh);
            empty_all(&mesh, 1);
            mesh.run_for(70_000_000_000);
            let (state, holds) = state(&mut mesh, 2);
            assert_eq!(state, "Held", "seed {}", mesh.seed);
            assert!(holds >= 110, "seed {}: {holds}", mesh.seed);
            mesh.decide_holds(2, verdict).unwrap();
            in_sync(&mut mesh);
            let expected = if verdict == Verdict::Approve { 0 } else { holds as usize + 1 };
            assert_eq!((names(&mesh, 1).len(), names(&mesh, 2).len()), (expected, expected), "seed {}", mesh.seed);
        }
    }
}

fn empty_all(mesh: &Mesh, node: usize) {
    let disk = &mesh.machines[node - 1].disk;
    let paths: Vec<Vec<u8>> = disk.snapshot().keys().rev().cloned().collect();
    paths.iter().for_each(|path| disk.user_remove(path).unwrap());
}

/// A file that was edited on one node, and edited and deleted on another before the two met: the edit that the deletion's
/// user never saw stays, and nobody waits for contents that nobody has.
#[test]
fn a_deletion_that_waits_doesnt_take_a_concurrent_edit_with_it() {
    for mut mesh in pairs() {
        mesh.machines[0].disk.user_write(b"f", b"first").unwrap();
        in_sync(&mut mesh);
        mesh.machines[0].disk.user_write(b"f", b"one").unwrap();
        mesh.machines[1].disk.user_write(b"f", b"two").unwrap();
        let wait = mesh.random.between(0, 300_000_000);
        mesh.run_for(wait);
        if mesh.machines[1].disk.user_read(b"f").unwrap() == b"two" {
            mesh.machines[1].disk.user_remove(b"f").unwrap();
        }
        in_sync(&mut mesh);
        for machine in &mesh.machines {
            let found = machine.disk.snapshot().keys().any(|path| machine.disk.user_read(path).unwrap() == b"one");
            assert!(found, "seed {}: {:?}", mesh.seed, names(&mesh, machine.id as usize));
        }
    }
}

/// A file takes the name of a directory with files in it: the deletions of those, which wait for a moment, have no directory
/// any more to be looked for in.
#[test]
fn a_file_takes_the_name_of_a_directory_with_files_in_it() {
    for mut mesh in filled() {
        mesh.machines[0].disk.user_mkdir(b"x").unwrap();
        mesh.machines[0].disk.user_mkdir(b"x/deep").unwrap();
        mesh.machines[0].disk.user_write(b"x/deep/f", b"old").unwrap();
        in_sync(&mut mesh);
        for path in [&b"x/deep/f"[..], b"x/deep", b"x"] {
            mesh.machines[0].disk.user_remove(path).unwrap();
        }
        mesh.machines[0].disk.user_write(b"x", b"new").unwrap();
        in_sync(&mut mesh);
        assert_eq!(mesh.machines[1].disk.user_read(b"x").unwrap(), b"new", "seed {}", mesh.seed);
    }
}

/// A program that makes and deletes files without end, never quiet, is no accident.
#[test]
fn files_that_come_and_go_without_end_are_not_held() {
    for mut mesh in filled().take(10) {
        for round in 0..300 {
            let (new, old) = (file(1_000 + round), file(1_000 + round.saturating_sub(10)));
            mesh.machines[0].disk.user_write(&new, b"for a moment").unwrap();
            if round >= 10 {
                mesh.machines[0].disk.user_remove(&old).unwrap();
            }
            mesh.run_for(40_000_000);
            assert_ne!(state(&mut mesh, 1).0, "Held", "seed {}, round {round}", mesh.seed);
        }
        in_sync(&mut mesh);
        assert_eq!(names(&mesh, 2).len(), 1 + FILES + 10, "seed {}", mesh.seed);
    }
}

/// Deletions that go on for longer than they gather are seen as a whole: those that passed count.
#[test]
fn slow_deletions_of_a_large_part_are_held() {
    for mut mesh in filled().take(10) {
        for number in FILES..300 {
            mesh.machines[0].disk.user_write(&file(number), b"one of many").unwrap();
        }
        in_sync(&mut mesh);
        for number in 0..290 {
            mesh.machines[0].disk.user_remove(&file(number)).unwrap();
            mesh.run_for(100_000_000);
        }
        mesh.run_for(5_000_000_000);
        assert_eq!(state(&mut mesh, 1).0, "Held", "seed {}", mesh.seed);
        assert!(names(&mesh, 2).len() > 190, "seed {}: {}", mesh.seed, names(&mesh, 2).len());
    }
}

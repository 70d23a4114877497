//! Named scenarios: each once broke a rule, or would break it if the rule were taken out. Each is told for several seeds,
//! because the order of steps is the seed's.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_core::guard::Limits;
use syncmesh_engine::guard::Verdict;
use syncmesh_io::Owner;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 50;

/// Two nodes that exclude `*.tmp`.
fn pairs() -> impl Iterator<Item = Mesh> {
    let shape = Shape { exclude: vec!["*.tmp".into()], ..Shape::default() };
    (1..=SEEDS).map(move |seed| Mesh::new(seed, shape.clone()))
}

/// Directory `d` was deleted by the first node while an excluded file of the second was in it.
fn leftover(mesh: &mut Mesh) {
    mesh.mkdir(1, b"d");
    mesh.in_sync();
    mesh.write(2, b"d/own.tmp", b"kept");
    mesh.remove(1, b"d");
    mesh.in_sync();
}

/// A deleted directory in which only an excluded file is, and directories of that kind, counts as deleted (SYNC 10).
#[test]
fn nested_leftovers_are_in_sync() {
    for mut mesh in pairs() {
        mesh.mkdir(1, b"d");
        mesh.mkdir(1, b"d/e");
        mesh.in_sync();
        mesh.write(2, b"d/e/own.tmp", b"kept");
        mesh.remove(1, b"d/e");
        mesh.remove(1, b"d");
        mesh.in_sync();
        assert!(mesh.names(1).is_empty());
        assert_eq!(mesh.names(2), ["d", "d/e", "d/e/own.tmp"]);
    }
}

/// Once what is excluded has gone, nobody can tell it from a new directory: it is one, everywhere.
#[test]
fn a_leftover_that_somebody_empties_is_a_directory_again() {
    for mut mesh in pairs() {
        mesh.mkdir(1, b"d");
        mesh.mkdir(1, b"d/e");
        mesh.in_sync();
        mesh.write(2, b"d/e/own.tmp", b"kept");
        mesh.remove(1, b"d/e");
        mesh.remove(1, b"d");
        mesh.in_sync();
        mesh.remove(2, b"d/e/own.tmp");
        mesh.remove(2, b"d/e");
        mesh.in_sync();
        assert_eq!((mesh.names(1), mesh.names(2)), (vec!["d".into()], vec!["d".into()]), "seed {}", mesh.seed);
    }
}

/// A leftover is taken over by the directory that is made again elsewhere.
#[test]
fn a_directory_that_is_made_again_takes_over_the_leftover() {
    for mut mesh in pairs() {
        leftover(&mut mesh);
        mesh.mkdir(1, b"d");
        mesh.disk(1).user_chmod(b"d", 0o700).unwrap();
        mesh.write(1, b"d/new", b"new");
        mesh.in_sync();
        assert_eq!(mesh.names(2), ["d", "d/new", "d/own.tmp"]);
        assert_eq!(mesh.disk(2).user_stat(b"d").unwrap().mode, 0o700);
        // It is watched again.
        mesh.write(2, b"d/back", b"back");
        mesh.in_sync();
        assert_eq!(mesh.names(1), ["d", "d/back", "d/new"]);
    }
}

/// A start watches leftovers, too: what is written into one makes it a directory again, everywhere.
#[test]
fn a_leftover_is_watched_after_a_restart() {
    for mut mesh in pairs() {
        leftover(&mut mesh);
        mesh.kill(2);
        mesh.start(2);
        mesh.in_sync();
        mesh.write(2, b"d/new", b"new");
        mesh.in_sync();
        assert_eq!(mesh.names(1), ["d", "d/new"], "seed {}", mesh.seed);
    }
}

/// A file whose name a leftover holds waits, says so, and comes when the owner of the excluded file has taken it away.
#[test]
fn a_file_waits_for_the_leftover_that_has_its_name() {
    for mut mesh in pairs() {
        leftover(&mut mesh);
        mesh.write(1, b"d", b"a file");
        mesh.run_for(20_000_000_000);
        let status = mesh.status(2).unwrap();
        assert!(status.volumes[0].message.contains("isn't empty"), "seed {}: {}", mesh.seed, status.volumes[0].message);
        mesh.remove(2, b"d/own.tmp");
        mesh.remove(2, b"d");
        mesh.in_sync();
        assert_eq!(mesh.read(2, b"d").unwrap(), b"a file");
    }
}

/// A directory that a file replaces elsewhere stays until the file's contents have come: a node on which nobody writes
/// declares nothing.
#[test]
fn a_directory_stays_until_the_file_that_replaces_it_has_come() {
    for mut mesh in pairs() {
        mesh.mkdir(1, b"d");
        mesh.in_sync();
        mesh.remove(1, b"d");
        // Too large to ride along.
        mesh.disk(1).user_write(b"d", &[7; 700_000]).unwrap();
        mesh.in_sync();
        assert_eq!(mesh.read(2, b"d").unwrap().len(), 700_000);
        assert_eq!(mesh.activity(2).unwrap().0, 0, "seed {}: versions that n2 made", mesh.seed);
    }
}

/// A node that is killed after any step of carrying out a peer's change declares nothing when it is back: what it had
/// carried out is recognised as the peer's, whichever part of it was on the disk.
#[test]
fn a_node_killed_while_it_carries_out_a_change_declares_nothing() {
    let changes: [(&str, fn(&Mesh)); 6] = [
        ("a deletion", |mesh| mesh.remove(1, b"d/f")),
        ("a replacement", |mesh| mesh.write(1, b"d/f", b"new")),
        ("a new mode", |mesh| mesh.disk(1).user_chmod(b"d/f", 0o600).unwrap()),
        ("a new owner and mode", |mesh| {
            mesh.disk(1).user_chown(b"d/f", Owner { uid: 7, gid: 8 }).unwrap();
            mesh.disk(1).user_chmod(b"d/f", 0o640).unwrap();
        }),
        ("a removed directory", |mesh| mesh.remove(1, b"e")),
        ("a directory in place of a file", |mesh| {
            mesh.remove(1, b"d/f");
            mesh.mkdir(1, b"d/f");
        }),
    ];
    for (what, change) in changes {
        let begin = |seed| {
            let mut mesh = Mesh::new(seed, Shape::default());
            mesh.mkdir(1, b"d");
            mesh.mkdir(1, b"e");
            mesh.write(1, b"d/f", b"old");
            mesh.in_sync();
            change(&mesh);
            mesh
        };
        let mut whole = begin(0);
        let before = whole.steps;
        whole.in_sync();
        // The order of steps is the seed's: each kill meets another one.
        for steps in 1..whole.steps - before {
            let mut mesh = begin(steps);
            mesh.take_steps(steps);
            mesh.kill(2);
            mesh.start(2);
            mesh.in_sync();
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
        mesh.mkdir(1, b"d");
        for number in 0..FILES {
            mesh.write(1, file(number), format!("contents {number}").as_bytes());
        }
        mesh.in_sync();
        mesh
    })
}

fn empty(mesh: &Mesh, node: u32) {
    let disk = mesh.disk(node);
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
        assert_eq!(mesh.names(2).len(), FILES + 1);
        mesh.decide_holds(1, Verdict::Approve).unwrap();
        mesh.in_sync();
        assert!(mesh.names(2).is_empty(), "seed {}: {:?}", mesh.seed, mesh.names(2));
        assert_eq!(mesh.decide_holds(1, Verdict::Approve).unwrap_err(), "nothing is held");
    }
}

/// Whoever hears of a tree's deletion bit by bit takes no directory of it for one that has something new in it.
#[test]
fn a_tree_that_was_deleted_comes_back_nowhere() {
    for seed in 1..=SEEDS {
        let mut mesh = Mesh::new(seed, Shape::default());
        let trees: Vec<String> = (0..20).map(|tree| format!("tree {tree}")).collect();
        let insides: Vec<String> = (0..8).map(|inside| format!("inside {inside}")).collect();
        for tree in &trees {
            mesh.mkdir(1, tree);
            for inside in &insides {
                mesh.mkdir(1, format!("{tree}/{inside}"));
                mesh.write(1, format!("{tree}/{inside}/file"), "x");
            }
        }
        mesh.in_sync();
        for tree in &trees {
            for inside in &insides {
                mesh.remove(1, format!("{tree}/{inside}/file"));
                mesh.remove(1, format!("{tree}/{inside}"));
            }
            mesh.remove(1, tree);
        }
        mesh.run_for(5_000_000_000);
        mesh.decide_holds(1, Verdict::Approve).unwrap();
        mesh.in_sync();
        assert_eq!(mesh.names(2), [""; 0], "seed {seed}");
    }
}

/// Taken back, everything returns from the peers as it was, and nobody declares anything.
#[test]
fn held_deletions_that_are_rejected_return_from_the_peers() {
    for mut mesh in filled() {
        let before = mesh.disk(1).snapshot();
        empty(&mesh, 1);
        mesh.run_for(5_000_000_000);
        mesh.decide_holds(1, Verdict::Reject).unwrap();
        mesh.in_sync();
        assert_eq!(mesh.names(1).len(), FILES + 1, "seed {}", mesh.seed);
        assert_eq!(before.keys().collect::<Vec<_>>(), mesh.disk(1).snapshot().keys().collect::<Vec<_>>());
        assert_eq!(mesh.activity(2).unwrap().0, 0);
    }
}

/// A restart forgets no hold, and decides none.
#[test]
fn held_deletions_stay_held_over_a_kill_at_any_time() {
    for mut mesh in filled() {
        empty(&mesh, 1);
        let steps = mesh.random.between(1, 2_000);
        mesh.take_steps(steps);
        mesh.kill(1);
        mesh.start(1);
        mesh.run_for(70_000_000_000);
        assert_eq!(state(&mut mesh, 1), ("Held".into(), FILES as u64), "seed {}", mesh.seed);
        assert_eq!(mesh.names(2).len(), FILES + 1);
    }
}

/// What is deleted and created again within a minute was no deletion: nothing waits for anybody's word.
#[test]
fn what_is_created_again_within_a_minute_drops_out() {
    for mut mesh in filled() {
        empty(&mesh, 1);
        mesh.run_for(5_000_000_000);
        mesh.mkdir(1, b"d");
        for number in 0..FILES - 5 {
            mesh.write(1, file(number), format!("again {number}").as_bytes());
        }
        mesh.in_sync();
        assert_eq!(mesh.names(2).len(), FILES - 5 + 1, "seed {}", mesh.seed);
        assert_eq!(mesh.read(2, file(3)).unwrap(), b"again 3");
    }
}

/// A moved directory is no deletion.
#[test]
fn a_moved_directory_is_not_held() {
    for mut mesh in filled() {
        mesh.disk(1).user_rename(b"d", b"e").unwrap();
        mesh.run_for(10_000_000_000);
        mesh.in_sync();
        assert_eq!(mesh.names(2).len(), FILES + 1);
        assert_eq!(mesh.read(2, b"e/3").unwrap(), b"contents 3");
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
            mesh.in_sync();
            // Few pass at once, and the rest is measured by what is left.
            for number in 0..100 {
                mesh.write(1, format!("d/more {number}").as_bytes(), b"more");
            }
            mesh.in_sync();
            empty_all(&mesh, 1);
            mesh.run_for(70_000_000_000);
            let (state, holds) = state(&mut mesh, 2);
            assert_eq!(state, "Held", "seed {}", mesh.seed);
            assert!(holds >= 110, "seed {}: {holds}", mesh.seed);
            mesh.decide_holds(2, verdict).unwrap();
            mesh.in_sync();
            let expected = if verdict == Verdict::Approve { 0 } else { holds as usize + 1 };
            assert_eq!((mesh.names(1).len(), mesh.names(2).len()), (expected, expected), "seed {}", mesh.seed);
        }
    }
}

fn empty_all(mesh: &Mesh, node: u32) {
    let disk = mesh.disk(node);
    let paths: Vec<Vec<u8>> = disk.snapshot().keys().rev().cloned().collect();
    paths.iter().for_each(|path| disk.user_remove(path).unwrap());
}

/// A file that was edited on one node, and edited and deleted on another before the two met: the edit that the deletion's
/// user never saw stays, and nobody waits for contents that nobody has.
#[test]
fn a_deletion_that_waits_doesnt_take_a_concurrent_edit_with_it() {
    for mut mesh in pairs() {
        mesh.write(1, b"f", b"first");
        mesh.in_sync();
        mesh.write(1, b"f", b"one");
        mesh.write(2, b"f", b"two");
        let wait = mesh.random.between(0, 300_000_000);
        mesh.run_for(wait);
        if mesh.read(2, b"f").unwrap() == b"two" {
            mesh.remove(2, b"f");
        }
        mesh.in_sync();
        for machine in &mesh.machines {
            let found = machine.disk.snapshot().keys().any(|path| machine.disk.user_read(path).unwrap() == b"one");
            assert!(found, "seed {}: {:?}", mesh.seed, mesh.names(machine.id));
        }
    }
}

/// A file takes the name of a directory with files in it: the deletions of those, which wait for a moment, have no directory
/// any more to be looked for in.
#[test]
fn a_file_takes_the_name_of_a_directory_with_files_in_it() {
    for mut mesh in filled() {
        mesh.mkdir(1, b"x");
        mesh.mkdir(1, b"x/deep");
        mesh.write(1, b"x/deep/f", b"old");
        mesh.in_sync();
        for path in [&b"x/deep/f"[..], b"x/deep", b"x"] {
            mesh.remove(1, path);
        }
        mesh.write(1, b"x", b"new");
        mesh.in_sync();
        assert_eq!(mesh.read(2, b"x").unwrap(), b"new", "seed {}", mesh.seed);
    }
}

/// A program that makes and deletes files without end, never quiet, is no accident.
#[test]
fn files_that_come_and_go_without_end_are_not_held() {
    for mut mesh in filled().take(10) {
        for round in 0..300 {
            let (new, old) = (file(1_000 + round), file(1_000 + round.saturating_sub(10)));
            mesh.write(1, &new, b"for a moment");
            if round >= 10 {
                mesh.remove(1, &old);
            }
            mesh.run_for(40_000_000);
            assert_ne!(state(&mut mesh, 1).0, "Held", "seed {}, round {round}", mesh.seed);
        }
        mesh.in_sync();
        assert_eq!(mesh.names(2).len(), 1 + FILES + 10, "seed {}", mesh.seed);
    }
}

/// Deletions that go on for longer than they gather are seen as a whole: those that passed count.
#[test]
fn slow_deletions_of_a_large_part_are_held() {
    for mut mesh in filled().take(10) {
        for number in FILES..300 {
            mesh.write(1, file(number), b"one of many");
        }
        mesh.in_sync();
        for number in 0..290 {
            mesh.remove(1, file(number));
            mesh.run_for(100_000_000);
        }
        mesh.run_for(5_000_000_000);
        assert_eq!(state(&mut mesh, 1).0, "Held", "seed {}", mesh.seed);
        assert!(mesh.names(2).len() > 190, "seed {}: {}", mesh.seed, mesh.names(2).len());
    }
}

/// Deletions are let go in parts. A directory whose own deletion was seen before those of what is in it waits for these: a peer that hears
/// of it alone takes it for one with something new in it, and brings it back.
#[test]
fn a_directory_goes_with_the_last_deletion_that_is_held_in_it() {
    for mut mesh in filled() {
        mesh.shape.guard = Limits { files: 20, percent: 25 };
        (1..=2).for_each(|node| mesh.configure(node));
        mesh.mkdir(1, b"e");
        (0..FILES).for_each(|number| mesh.write(1, format!("e/{number}"), format!("more {number}")));
        mesh.in_sync();
        (0..FILES).for_each(|number| mesh.remove(1, file(number)));
        mesh.run_for(70_000_000_000);
        assert_eq!(state(&mut mesh, 1).0, "Held", "seed {}", mesh.seed);
        (0..FILES).for_each(|number| mesh.remove(1, format!("e/{number}")));
        mesh.remove(1, b"e");
        let steps = mesh.random.between(0, 60);
        mesh.take_steps(steps);
        mesh.decide_holds(1, Verdict::Approve).unwrap();
        mesh.run_for(70_000_000_000);
        if state(&mut mesh, 1).0 == "Held" {
            mesh.decide_holds(1, Verdict::Approve).unwrap();
        }
        mesh.in_sync();
        for node in 1..=2 {
            assert_eq!(mesh.names(node), ["d"], "seed {} n{node}", mesh.seed);
        }
    }
}

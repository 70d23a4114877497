//! Power loss (SYNC 9): what a file system has made of the last seconds is told to nobody on suspicion.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_engine::guard::Verdict;
use syncmesh_io::FsError;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 100;
const SECOND: u64 = 1_000_000_000;

fn meshes() -> impl Iterator<Item = Mesh> {
    (1..=SEEDS).map(|seed| Mesh::new(seed, Shape::default()))
}

/// A file's new contents are on their way, and power fails on their origin. Has that torn them?
fn torn_edit(mesh: &mut Mesh, old: &[u8], new: &[u8], wait: u64) -> u32 {
    mesh.settled(old);
    mesh.write(1, b"f", new);
    mesh.run_for(wait);
    mesh.lose_power(1);
    let left = mesh.read(1, b"f").unwrap_or_default();
    u32::from(left != old && left != new)
}

/// No node shows anything but these.
fn assert_whole(mesh: &Mesh, whole: &[&Vec<u8>]) {
    for (path, contents) in mesh.tree(1).into_iter().chain(mesh.tree(2)) {
        let is_whole = whole.iter().any(|whole| whole.as_slice() == contents.as_bytes());
        assert!(is_whole, "seed {}: {path} is what nobody wrote", mesh.seed);
    }
}

/// Power fails on the origin, and its file is empty or ends in zeros: the newest version of all by its time, and nobody's.
/// What the peer has, or the row says, is what stays.
#[test]
fn an_edit_that_power_loss_has_torn_wins_nowhere() {
    let (old, new) = (vec![b'o'; 5_000], vec![b'n'; 9_000]);
    let mut torn = 0;
    for mut mesh in meshes() {
        let wait = mesh.random.between(0, SECOND);
        torn += torn_edit(&mut mesh, &old, &new, wait);
        mesh.start(1);
        mesh.run_for(60 * SECOND);
        // Only if nobody has heard of the edit does anything wait.
        let _ = mesh.decide_holds(1, Verdict::Reject);
        mesh.in_sync();
        let ends = [mesh.read(1, b"f").unwrap(), mesh.read(2, b"f").unwrap()];
        assert!(ends[0] == ends[1] && [&old, &new].contains(&&ends[0]), "seed {}", mesh.seed);
        assert_eq!(mesh.names(1), ["f"], "seed {}: a conflict copy of what nobody wrote", mesh.seed);
    }
    assert!(torn > 10, "the disk tears files, or this shows nothing: {torn}");
}

/// Power fails before the run's first epoch is durable: nobody knows whom it had met, so all members are heard. What one of them
/// has seen isn't superseded by what the disk has kept, and there is nothing to decide.
#[test]
fn a_run_that_ends_before_its_first_epoch_hears_all_members() {
    for mut mesh in meshes() {
        mesh.settled(b"old");
        mesh.lose_power(1);
        mesh.start(1);
        mesh.in_sync();
        let mut last = vec![];
        for number in 1..=8_u8 {
            last = vec![number; 300];
            mesh.write(1, b"f", &last);
            let pause = mesh.random.between(0, 60_000_000);
            mesh.run_for(pause);
        }
        let seen = mesh.read(2, b"f").unwrap();
        mesh.lose_power(1);
        mesh.start(1);
        mesh.run_for(60 * SECOND);
        let _ = mesh.decide_holds(1, Verdict::Reject);
        mesh.in_sync();
        let end = mesh.read(1, b"f").unwrap();
        assert!(end >= seen && end <= last, "seed {}: n2 had seen {}, and {} is left", mesh.seed, seen[0], end[0]);
        assert_eq!(mesh.names(2), ["f"], "seed {}", mesh.seed);
    }
}

/// A file that couldn't be read when it was written, and was torn when it could: epochs came and went meanwhile, and none of
/// them synced the file's disk.
#[test]
fn what_was_written_long_before_power_failed_and_never_synced_is_suspect_too() {
    let (old, new) = (vec![b'o'; 5_000], vec![b'n'; 9_000]);
    let mut torn = 0;
    for mut mesh in meshes() {
        mesh.settled(&old);
        mesh.faults(1).fail_some(mesh.seed, 1_000_000, &["open"], &[FsError::Denied]);
        mesh.write(1, b"f", &new);
        mesh.run_for(10 * SECOND);
        // Its new run is something to remember.
        mesh.kill(2);
        mesh.start(2);
        mesh.run_for(30 * SECOND);
        mesh.lose_power(1);
        mesh.faults(1).fail_some(0, 0, &[], &[]);
        let left = mesh.read(1, b"f").unwrap_or_default();
        torn += u32::from(left != old && left != new);
        mesh.start(1);
        mesh.run_for(60 * SECOND);
        let _ = mesh.decide_holds(1, Verdict::Reject);
        mesh.in_sync();
        let ends = [mesh.read(1, b"f").unwrap(), mesh.read(2, b"f").unwrap()];
        assert!(ends[0] == ends[1] && [&old, &new].contains(&&ends[0]), "seed {}", mesh.seed);
    }
    assert!(torn > 10, "the disk tears files, or this shows nothing: {torn}");
}

/// A program opens what power loss has left of a file, and writes nothing. It's nobody's version, also when it was replaced
/// meanwhile and is looked at once it is closed.
#[test]
fn a_torn_file_that_a_program_had_open_is_nobodys_version() {
    let (old, new, newer) = (vec![b'o'; 5_000], vec![b'n'; 9_000], vec![b'N'; 7_000]);
    let mut torn = 0;
    for mut mesh in meshes() {
        let wait = mesh.random.between(0, SECOND);
        torn += torn_edit(&mut mesh, &old, &new, wait);
        let program = mesh.disk(1).user_create_open(b"f").unwrap();
        mesh.write(2, b"f", &newer);
        mesh.start(1);
        mesh.run_for(60 * SECOND);
        let _ = mesh.decide_holds(1, Verdict::Reject);
        mesh.run_for(60 * SECOND);
        mesh.disk(1).user_close(program);
        mesh.in_sync();
        assert_whole(&mesh, &[&old, &new, &newer]);
    }
    assert!(torn > 10, "the disk tears files, or this shows nothing: {torn}");
}

/// Somebody changes the mode of a torn file while what a peer knows takes its name. That isn't a word for its contents.
#[test]
fn a_chmod_while_a_torn_file_is_replaced_makes_it_no_version() {
    let (old, new) = (vec![b'o'; 5_000], vec![b'n'; 9_000]);
    let mut torn = 0;
    for mut mesh in meshes() {
        torn += torn_edit(&mut mesh, &old, &new, SECOND / 2);
        mesh.start(1);
        let end = mesh.world.now() + 20 * SECOND;
        let mut modes = [0o640, 0o600, 0o644].into_iter().cycle();
        while mesh.world.now() < end && mesh.read(1, b"f").as_ref() != Some(&new) {
            mesh.step();
            if mesh.random.once_in(16) {
                let _ = mesh.disk(1).user_chmod(b"f", modes.next().unwrap_or_default());
            }
        }
        mesh.run_for(60 * SECOND);
        let _ = mesh.decide_holds(1, Verdict::Reject);
        mesh.in_sync();
        assert_whole(&mesh, &[&old, &new]);
    }
    assert!(torn > 10, "the disk tears files, or this shows nothing: {torn}");
}

/// A receiver that loses power right after it published declares nothing, whatever its disk shows then.
#[test]
fn a_receiver_that_loses_power_declares_nothing() {
    for mut mesh in meshes() {
        mesh.settled([b'o'; 5_000]);
        mesh.disk(1).user_write(b"f", &[b'n'; 9_000]).unwrap();
        mesh.disk(1).user_write(b"g", &[b'g'; 300]).unwrap();
        let wait = mesh.random.between(0, SECOND);
        mesh.run_for(wait);
        mesh.lose_power(2);
        mesh.start(2);
        mesh.in_sync();
        assert_eq!(mesh.read(2, b"f").unwrap(), [b'n'; 9_000], "seed {}", mesh.seed);
        assert_eq!(mesh.read(2, b"g").unwrap(), [b'g'; 300], "seed {}", mesh.seed);
        assert_eq!(mesh.activity(2).unwrap().0, 0, "seed {}: versions that n2 made", mesh.seed);
    }
}

/// A new file that nobody heard of: whole it is a version like any other, damaged it waits for somebody's word.
#[test]
fn a_damaged_file_that_nobody_knows_waits_for_somebodys_word() {
    let mut damaged = 0;
    for mut mesh in meshes() {
        mesh.settled(b"old");
        mesh.kill(2);
        mesh.disk(1).user_write(b"new", &[b'n'; 200]).unwrap();
        let wait = mesh.random.between(0, SECOND);
        mesh.run_for(wait);
        mesh.lose_power(1);
        let left = mesh.read(1, b"new");
        mesh.start(1);
        mesh.start(2);
        mesh.run_for(60 * SECOND);
        if left.as_ref().is_some_and(|left| left != &[b'n'; 200]) {
            damaged += 1;
            let volume = mesh.status(1).unwrap().volumes.remove(0);
            assert_eq!((volume.state.as_str(), volume.holds), ("Held", 1), "seed {}", mesh.seed);
            assert_eq!(mesh.read(2, b"new"), None, "seed {}", mesh.seed);
            assert_eq!(mesh.decide_holds(1, Verdict::Approve).unwrap(), 1);
        }
        mesh.in_sync();
        assert_eq!(mesh.read(2, b"new"), left, "seed {}", mesh.seed);
    }
    assert!(damaged > 5, "the disk damages files, or this shows nothing: {damaged}");
}

/// Another mode, or another name, doesn't make whole what power loss has damaged.
#[test]
fn a_chmod_or_a_rename_makes_no_suspect_believed() {
    let mut damaged = 0;
    for mut mesh in meshes() {
        mesh.settled(b"old");
        mesh.kill(2);
        mesh.machines[0].disk.user_write(b"new", &[b'n'; 200]).unwrap();
        mesh.lose_power(1);
        let left = mesh.read(1, "new");
        mesh.start(1);
        mesh.start(2);
        mesh.run_for(60 * SECOND);
        if left.is_none_or(|left| left == [b'n'; 200]) {
            continue;
        }
        damaged += 1;
        let disk = mesh.disk(1);
        if damaged % 2 == 0 {
            disk.user_chmod(b"new", 0o600).unwrap();
        } else {
            disk.user_rename(b"new", b"renamed").unwrap();
        }
        mesh.run_for(60 * SECOND);
        assert_eq!(mesh.names(2), ["f"], "seed {}: what nobody wrote was announced", mesh.seed);
        assert_eq!(mesh.decide_holds(1, Verdict::Approve).unwrap(), 1, "seed {}", mesh.seed);
        mesh.in_sync();
    }
    assert!(damaged > 5, "the disk damages files, or this shows nothing: {damaged}");
}

/// A member that the lost run knew is away: nothing is announced, until somebody has been asked after ten minutes.
#[test]
fn suspects_wait_for_members_that_are_away_and_then_somebody_is_asked() {
    let mut suspect = 0;
    for mut mesh in meshes().take(30) {
        mesh.settled(b"old");
        mesh.disk(1).user_write(b"new", &[b'n'; 200]).unwrap();
        mesh.lose_power(1);
        mesh.kill(2);
        mesh.start(1);
        mesh.run_for(60 * SECOND);
        if mesh.read(1, b"new").is_none() {
            continue;
        }
        suspect += 1;
        assert_eq!(mesh.activity(1).unwrap().0, 0, "seed {}: announced on suspicion", mesh.seed);
        assert!(mesh.decide_holds(1, Verdict::Approve).is_err(), "seed {}: asked too early", mesh.seed);
        mesh.run_for(600 * SECOND);
        assert_eq!(mesh.decide_holds(1, Verdict::Approve).unwrap(), 1, "seed {}", mesh.seed);
        mesh.start(2);
        mesh.in_sync();
        assert_eq!(mesh.read(1, b"new"), mesh.read(2, b"new"), "seed {}", mesh.seed);
    }
    assert!(suspect > 5, "power loss leaves files, or this shows nothing: {suspect}");
}

/// A directory is deleted on one node while somebody writes into it on the other; then power loss brings it back on the first.
/// No node has it as deleted any more that could make it again, and yet it stays.
#[test]
fn a_deleted_directory_that_power_loss_brought_back_stays_with_what_was_written_in_it() {
    let mut came_back = 0;
    for mut mesh in meshes() {
        mesh.mkdir(1, "d");
        mesh.write(1, "d/f", "old");
        mesh.in_sync();
        mesh.run_for(10 * SECOND);
        mesh.remove(1, "d/f");
        mesh.remove(1, "d");
        let pause = mesh.random.between(0, SECOND / 12);
        mesh.run_for(pause);
        if mesh.disk(2).user_write(b"d/new", b"new").is_err() {
            continue;
        }
        let pause = mesh.random.between(0, SECOND / 3);
        mesh.run_for(pause);
        mesh.lose_power(1);
        came_back += u32::from(mesh.names(1).contains(&"d".to_owned()));
        mesh.start(1);
        mesh.run_for(30 * SECOND);
        let _ = mesh.decide_holds(1, Verdict::Reject);
        mesh.in_sync();
        assert_eq!(mesh.tree(1), mesh.tree(2), "seed {}", mesh.seed);
        assert_eq!(mesh.read(1, "d/new").unwrap(), b"new", "seed {}", mesh.seed);
    }
    assert!(came_back > 5, "power loss brings directories back, or this shows nothing: {came_back}");
}

/// As long as the machine and its mount go on nothing was lost, and nothing is suspect.
#[test]
fn an_empty_file_written_while_the_agent_was_off_is_an_edit_like_any_other_after_kill_9() {
    for mut mesh in meshes().take(10) {
        mesh.settled(b"old");
        mesh.kill(1);
        mesh.write(1, b"f", b"");
        mesh.start(1);
        mesh.in_sync();
        assert_eq!(mesh.read(2, b"f").unwrap(), b"", "seed {}", mesh.seed);
    }
}

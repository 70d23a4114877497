//! A sync fails (SYNC 8): the system told it once, and memory shows what the disk doesn't have. Nothing of that counts as durable,
//! and nothing that was torn is told.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_engine::epoch::Durability;
use syncmesh_engine::guard::Verdict;
use syncmesh_io::FsError;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 100;
const SECOND: u64 = 1_000_000_000;

fn meshes() -> impl Iterator<Item = Mesh> {
    (1..=SEEDS).map(|seed| Mesh::new(seed, Shape::default()))
}

fn state(mesh: &mut Mesh, node: u32) -> String {
    mesh.status(node).unwrap().volumes.remove(0).state
}

/// What a disk has is what everybody reads, once memory has forgotten the rest.
fn forget_cached(mesh: &Mesh) -> usize {
    mesh.machines.iter().for_each(|machine| machine.disk.forget_cached());
    mesh.machines.iter().map(|machine| machine.disk.take_losses().len()).sum()
}

/// The second node has just published what its disk is about to lose.
fn receives_what_it_will_lose(mesh: &mut Mesh) {
    mesh.settled(b"old");
    mesh.fail_sync(2);
    mesh.write(1, b"f", [b'n'; 9_000]);
    while mesh.read(2, b"f").unwrap() == b"old" {
        mesh.step();
    }
}

/// Somebody gives up what nobody has any more.
fn decide(mesh: &mut Mesh, node: u32) {
    mesh.run_for(60 * SECOND);
    let _ = mesh.decide_holds(node, Verdict::Reject);
    mesh.in_sync();
}

/// The disk of a node that received files couldn't take them: they are fetched again, whether the agent goes on, is killed or
/// loses power meanwhile.
#[test]
fn what_a_receivers_disk_could_not_take_comes_again() {
    let mut lost = 0;
    for mut mesh in meshes() {
        mesh.settled([b'o'; 5_000]);
        mesh.fail_sync(2);
        mesh.write(1, b"f", [b'n'; 9_000]);
        mesh.write(1, b"g", [b'g'; 300]);
        let wait = mesh.random.between(0, 3 * SECOND);
        mesh.run_for(wait);
        match mesh.seed % 3 {
            0 => {}
            1 => {
                mesh.kill(2);
                mesh.start(2);
            }
            _ => {
                mesh.lose_power(2);
                mesh.start(2);
            }
        }
        mesh.in_sync();
        mesh.run_for(10 * SECOND);
        lost += forget_cached(&mesh);
        assert!(mesh.read(2, b"f").unwrap() == [b'n'; 9_000], "seed {}: f of n2", mesh.seed);
        assert!(mesh.read(2, b"g").unwrap() == [b'g'; 300], "seed {}: g of n2", mesh.seed);
        assert_eq!(mesh.activity(2).unwrap().0, 0, "seed {}: versions that n2 made", mesh.seed);
        mesh.in_sync();
    }
    assert!(lost > 20, "the disk loses files, or this shows nothing: {lost}");
}

/// An edit that its own disk couldn't take: whoever heard of it has it, and gives it back. What nobody has is asked about. No
/// part of it is ever a version.
#[test]
fn what_its_makers_disk_could_not_take_comes_back_from_who_has_it_and_nothing_torn_is_told() {
    let (old, new) = (vec![b'o'; 5_000], vec![b'n'; 9_000]);
    let (mut lost, mut kept) = (0, 0);
    for mut mesh in meshes() {
        mesh.settled(&old);
        if mesh.seed.is_multiple_of(3) {
            mesh.kill(2);
        }
        mesh.fail_sync(1);
        mesh.write(1, b"f", &new);
        let wait = mesh.random.between(0, 3 * SECOND);
        mesh.run_for(wait);
        if mesh.seed.is_multiple_of(4) {
            mesh.kill(1);
            mesh.start(1);
        }
        if !mesh.runs(2) {
            mesh.start(2);
        }
        decide(&mut mesh, 1);
        mesh.run_for(10 * SECOND);
        lost += forget_cached(&mesh);
        let ends = [mesh.read(1, b"f").unwrap(), mesh.read(2, b"f").unwrap()];
        assert!(ends[0] == ends[1] && [&old, &new].contains(&&ends[0]), "seed {}", mesh.seed);
        assert_eq!(mesh.disk(1).snapshot().len(), 1, "seed {}: a conflict copy of what nobody wrote", mesh.seed);
        kept += usize::from(ends[0] == new);
    }
    assert!(lost > 20 && kept > 20, "the disk loses files, and peers have them, or this shows nothing: {lost}, {kept}");
}

/// If the disk took what the agent cares about, and lost what it doesn't, the volume goes on as it was: no session ends, no
/// row is given up.
#[test]
fn where_all_is_on_the_disk_the_volume_goes_on_with_what_it_has() {
    for seed in 1..=30 {
        let mut mesh = Mesh::new(seed, Shape { exclude: vec!["*.tmp".into()], ..Shape::default() });
        mesh.settled(b"old");
        let before = mesh.replicas(1);
        let disk = mesh.disk(1).clone();
        disk.user_write(b"f", b"new").unwrap();
        mesh.run_for(SECOND / 10);
        // The file itself is synced by its writer; the sync fails on another.
        disk.user_sync(b"f").unwrap();
        mesh.fail_sync(1);
        disk.user_write(b"other.tmp", &[b'x'; 300]).unwrap();
        mesh.run_for(SECOND / 2);
        disk.user_write(b"g", b"").unwrap();
        mesh.in_sync();
        mesh.run_for(10 * SECOND);
        forget_cached(&mesh);
        assert!(mesh.read(1, b"f").unwrap() == b"new", "seed {}: f of n1", mesh.seed);
        assert!(mesh.read(2, b"f").unwrap() == b"new", "seed {}: f of n2", mesh.seed);
        assert_eq!(mesh.replicas(1), before, "seed {}: a new incarnation", mesh.seed);
    }
}

/// A hole in the middle doesn't look damaged. The agent knows what the file should have had.
#[test]
fn a_file_that_has_lost_its_middle_waits_for_a_word() {
    let whole: Vec<u8> = (0..5 * 4096).map(|at| (at / 4096) as u8 + 1).collect();
    for mut mesh in meshes().take(30) {
        mesh.settled(b"old");
        mesh.kill(2);
        let disk = mesh.disk(1).clone();
        disk.user_write(b"new", &whole).unwrap();
        mesh.run_for(SECOND / 2);
        disk.lose_page(b"new", 2);
        mesh.run_for(20 * SECOND);
        mesh.start(2);
        mesh.run_for(60 * SECOND);
        assert_eq!(state(&mut mesh, 1), "Held", "seed {}", mesh.seed);
        assert!(mesh.read(2, b"new").is_none(), "seed {}: it was told", mesh.seed);
        decide(&mut mesh, 1);
        assert!((mesh.read(1, b"new"), mesh.read(2, b"new")) == (None, None), "seed {}", mesh.seed);
    }
}

/// The disk stays broken: the volume says so and changes nothing, and goes on by itself when the disk does.
#[test]
fn a_volume_whose_disk_stays_broken_stands_still_and_says_so() {
    for mut mesh in meshes().take(20) {
        mesh.settled(b"old");
        mesh.disk(1).break_syncs(true);
        mesh.write(1, b"f", b"new");
        mesh.run_for(10 * SECOND);
        assert_eq!(state(&mut mesh, 1), "Failed", "seed {}", mesh.seed);
        mesh.write(2, b"g", b"from the other");
        mesh.run_for(30 * SECOND);
        assert_eq!(state(&mut mesh, 1), "Failed", "seed {}", mesh.seed);
        assert_eq!(mesh.read(1, b"g"), None, "seed {}", mesh.seed);
        if mesh.seed.is_multiple_of(2) {
            mesh.kill(1);
            mesh.start(1);
            mesh.run_for(SECOND);
            assert_eq!(state(&mut mesh, 1), "Failed", "seed {}: after a restart", mesh.seed);
        }
        mesh.disk(1).break_syncs(false);
        mesh.run_for(600 * SECOND);
        mesh.in_sync();
        assert!(mesh.read(1, b"g").unwrap() == b"from the other", "seed {}: g of n1", mesh.seed);
        assert!(mesh.read(2, b"f").unwrap() == b"new", "seed {}: f of n2", mesh.seed);
    }
}

/// The agent is killed when the sync has just failed, before it could note that. The next sync succeeds.
#[test]
fn a_kill_right_after_a_failed_sync_hides_nothing() {
    for mut mesh in meshes() {
        receives_what_it_will_lose(&mut mesh);
        let end = mesh.world.now() + 3 * SECOND;
        while !mesh.disk(2).has_lost() && mesh.world.now() < end {
            mesh.step();
        }
        mesh.kill(2);
        mesh.start(2);
        mesh.in_sync();
        mesh.run_for(10 * SECOND);
        forget_cached(&mesh);
        assert!(mesh.read(2, b"f").unwrap() == [b'n'; 9_000], "seed {}: f of n2", mesh.seed);
        assert_eq!(mesh.names(2), ["f"], "seed {}", mesh.seed);
    }
}

/// What can't be looked at isn't what its row says: the volume stands still until it can.
#[test]
fn a_volume_whose_files_can_not_be_read_back_stands_still() {
    let mut lost = 0;
    for mut mesh in meshes() {
        receives_what_it_will_lose(&mut mesh);
        let error = if mesh.seed.is_multiple_of(2) { FsError::Denied } else { FsError::Os(5) };
        mesh.faults(2).fail_some(mesh.seed, 1_000_000, &["open_directory"], &[error]);
        mesh.run_for(20 * SECOND);
        assert_eq!(state(&mut mesh, 2), "Failed", "seed {}", mesh.seed);
        mesh.faults(2).fail_some(0, 0, &[], &[]);
        mesh.run_for(60 * SECOND);
        mesh.in_sync();
        mesh.run_for(10 * SECOND);
        lost += forget_cached(&mesh);
        assert!(mesh.read(2, b"f").unwrap() == [b'n'; 9_000], "seed {}: f of n2", mesh.seed);
    }
    assert!(lost > 20, "the disk loses files, or this shows nothing: {lost}");
}

/// A disk that doesn't answer: the volume is left out, nothing of it counts as durable, and it goes on once the sync has ended.
#[test]
fn a_sync_that_takes_too_long_leaves_its_volume_out() {
    for mut mesh in meshes().take(3) {
        mesh.settled(b"old");
        let durable = mesh.counters(1).unwrap().epochs;
        mesh.disk(1).hang_syncs(true);
        mesh.write(1, b"f", b"new");
        mesh.run_for(25 * SECOND);
        assert_ne!(state(&mut mesh, 1), "Failed", "seed {}", mesh.seed);
        assert_eq!(mesh.counters(1).unwrap().epochs, durable, "seed {}: epochs", mesh.seed);
        mesh.run_for(10 * SECOND);
        assert_eq!(state(&mut mesh, 1), "Failed", "seed {}", mesh.seed);
        assert!(mesh.status(1).unwrap().volumes[0].message.contains("longer than 30 s"), "seed {}", mesh.seed);
        mesh.write(2, b"g", b"from the other");
        mesh.run_for(5 * SECOND);
        assert_eq!(mesh.read(1, b"g"), None, "seed {}", mesh.seed);
        mesh.disk(1).hang_syncs(false);
        mesh.in_sync();
        assert!(mesh.read(1, b"g").unwrap() == b"from the other", "seed {}: g of n1", mesh.seed);
        assert!(mesh.read(2, b"f").unwrap() == b"new", "seed {}: f of n2", mesh.seed);
    }
}

/// Under `strict` what can't be written gets no name.
#[test]
fn with_strict_durability_what_can_not_be_written_gets_no_name() {
    for seed in 1..=SEEDS {
        let mut mesh = Mesh::new(seed, Shape { durability: Durability::Strict, ..Shape::default() });
        mesh.settled(b"old");
        mesh.fail_sync(2);
        mesh.write(1, b"f", [b'n'; 9_000]);
        for _ in 0..2_000 {
            mesh.step();
            let disk = mesh.disk(2).copy();
            disk.forget_cached();
            let shown = disk.user_read(b"f").unwrap();
            assert!(shown == b"old" || shown == [b'n'; 9_000], "seed {seed}: torn on the disk");
        }
        mesh.in_sync();
        mesh.run_for(10 * SECOND);
        forget_cached(&mesh);
        assert!(mesh.read(2, b"f").unwrap() == [b'n'; 9_000], "seed {seed}");
    }
}

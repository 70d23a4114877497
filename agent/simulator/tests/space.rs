//! Full disks, and what version stores give for them: named scenarios, each told for several seeds.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use std::num::NonZeroU64;
use syncmesh_core::policy::Policy;
use syncmesh_core::retention::{Limits, Share};
use syncmesh_simulator::Cut;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 30;
const SECOND: u64 = 1_000_000_000;
const KIB: usize = 1024;

/// Two nodes that leave 64 KiB of their disks free.
fn pairs(policy: Policy, limits: Limits) -> impl Iterator<Item = Mesh> {
    let limits = Limits { reserve: Some(Share::Bytes(64 * KIB as u64)), ..limits };
    (1..=SEEDS).map(move |seed| Mesh::new(seed, Shape { policy, limits, ..Shape::default() }))
}

fn many() -> Limits {
    Limits { keep: 1_000, budget: Share::Percent(100), ..Limits::default() }
}

fn waits_for_space(mesh: &mut Mesh, node: u32) -> u64 {
    let status = mesh.status(node).unwrap();
    let volume = &status.volumes[0];
    assert_eq!(volume.message.contains("wait for space"), volume.no_space_files > 0, "{}", volume.message);
    volume.no_space_files
}

/// A full disk stops fetching and nothing else: what its own user does flows, what others delete goes, smaller files come,
/// also after a restart. When there is room it goes on by itself.
#[test]
fn a_receiver_with_a_full_disk_goes_on_when_room_is_made() {
    for mut mesh in pairs(Policy::KeepBoth, many()) {
        for name in [&b"old"[..], b"theirs", b"edited"] {
            mesh.write(1, name, b"from n1");
        }
        mesh.in_sync();
        mesh.disk(2).set_capacity(600 * KIB as u64);
        mesh.disk(1).user_write(b"large", &vec![7; 700 * KIB]).unwrap();
        mesh.disk(1).user_write(b"small", &[8; 60_000]).unwrap();
        mesh.remove(1, b"theirs");
        mesh.run_for(20 * SECOND);
        assert_eq!(waits_for_space(&mut mesh, 2), 1, "seed {}", mesh.seed);
        assert_eq!(mesh.names(2), ["edited", "old", "small"], "seed {}", mesh.seed);
        if mesh.random.once_in(2) {
            mesh.kill(2);
            mesh.start(2);
        }
        mesh.remove(2, b"old");
        mesh.write(2, b"edited", b"by n2");
        mesh.run_for(20 * SECOND);
        assert_eq!(mesh.names(1), ["edited", "large", "small"], "seed {}", mesh.seed);
        assert_eq!(mesh.read(1, b"edited").unwrap(), b"by n2");
        assert_eq!(waits_for_space(&mut mesh, 2), 1, "seed {}: counted again after a restart", mesh.seed);
        mesh.disk(2).set_capacity(2_000 * KIB as u64);
        mesh.in_sync();
        assert_eq!(waits_for_space(&mut mesh, 2), 0);
        assert_eq!(mesh.read(2, b"large").unwrap().len(), 700 * KIB);
    }
}

/// What is above the reserve is filled, the reserve is not, however many files are on their way at the same time.
#[test]
fn the_reserve_stays_free() {
    for mut mesh in pairs(Policy::KeepBoth, many()) {
        mesh.disk(2).set_capacity(1_000 * KIB as u64);
        for number in 0..20 {
            let size = if number % 2 == 0 { 40 * KIB } else { 200 * KIB };
            mesh.disk(1).user_write(format!("f{number}").as_bytes(), &vec![number; size]).unwrap();
        }
        for _ in 0..40 {
            mesh.run_for(SECOND / 2);
            let free = mesh.disk(2).free();
            // Directories of the agent's own take some, and blocks that are on their way in two jobs at once.
            assert!(free >= 16 * KIB as u64, "seed {}: {free}", mesh.seed);
        }
        assert!(waits_for_space(&mut mesh, 2) > 0, "seed {}", mesh.seed);
        assert!(mesh.names(2).len() >= 4, "seed {}: {:?}", mesh.seed, mesh.names(2));
        mesh.disk(2).set_capacity(1 << 30);
        mesh.in_sync();
        assert_eq!(mesh.names(2).len(), 20);
    }
}

/// Old versions give way before fetching stops, the oldest first, and not for a file for which they wouldn't be enough.
#[test]
fn the_store_gives_way_before_fetching_stops() {
    for mut mesh in pairs(Policy::KeepBoth, many()) {
        mesh.disk(2).set_capacity(800 * KIB as u64);
        for version in 1..=12 {
            mesh.disk(1).user_write(b"f", &vec![version; 100 * KIB]).unwrap();
            mesh.in_sync();
            assert_eq!(waits_for_space(&mut mesh, 2), 0, "seed {}", mesh.seed);
        }
        let kept: Vec<u8> = mesh.stored(2).values().map(|contents| contents[0]).collect();
        assert!((3..=6).contains(&kept.len()), "seed {}: {kept:?}", mesh.seed);
        assert!(kept.iter().all(|version| *version > 5), "seed {}: the oldest go: {kept:?}", mesh.seed);
        mesh.disk(1).user_write(b"too large", &vec![0; 900 * KIB]).unwrap();
        mesh.run_for(20 * SECOND);
        assert_eq!(waits_for_space(&mut mesh, 2), 1, "seed {}", mesh.seed);
        assert_eq!(mesh.stored(2).len(), kept.len(), "seed {}: kept for nothing", mesh.seed);
    }
}

/// A disk that its users fill below the reserve gets back what old versions take.
#[test]
fn users_who_fill_the_disk_get_the_stores_room() {
    for mut mesh in pairs(Policy::KeepBoth, many()) {
        for version in 1..=5 {
            mesh.disk(1).user_write(b"f", &vec![version; 50 * KIB]).unwrap();
            mesh.in_sync();
        }
        assert_eq!(mesh.stored(2).len(), 4);
        let room = mesh.disk(2).free();
        mesh.disk(2).set_capacity((1 << 40) - room + 20 * KIB as u64);
        mesh.run_for(90 * SECOND);
        let stored = mesh.stored(2);
        assert_eq!(stored.len(), 3, "seed {}: one was enough", mesh.seed);
        assert!(stored.values().all(|contents| contents[0] > 1), "seed {}", mesh.seed);
    }
}

/// The loser of a conflict under lastWriterWins exists nowhere else: no flood of newer versions takes it away, no budget and
/// no full disk; and a restart forgets none.
#[test]
fn a_pinned_loser_survives_a_flood_of_superseded_versions() {
    let limits = Limits { keep: 3, budget: Share::Bytes(50 * KIB as u64), ..Limits::default() };
    for mut mesh in pairs(Policy::LastWriterWins, limits) {
        mesh.in_sync();
        mesh.world.cut(1, 2, Cut::Reset);
        mesh.disk(1).user_write(b"f", &vec![b'1'; 20 * KIB]).unwrap();
        mesh.disk(2).user_write(b"f", &vec![b'2'; 20 * KIB]).unwrap();
        mesh.run_for(SECOND);
        mesh.world.heal(1, 2);
        mesh.in_sync();
        let winner = mesh.read(1, b"f").unwrap()[0];
        let (loser, at) = if winner == b'1' { (b'2', 2) } else { (b'1', 1) };
        let is_there = |mesh: &Mesh| mesh.stored(at).values().any(|contents| contents[0] == loser);
        assert!(is_there(&mesh), "seed {}", mesh.seed);
        let other = 3 - at;
        for version in 0..10 {
            mesh.write(other, b"f", vec![version; 20 * KIB]);
            mesh.write(other, b"g", vec![version; 20 * KIB]);
            mesh.in_sync();
            if version == 5 {
                mesh.kill(at);
                mesh.start(at);
            }
        }
        mesh.run_for(90 * SECOND);
        assert!(is_there(&mesh), "seed {}", mesh.seed);
        assert!(mesh.stored(at).len() <= 3, "seed {}: {}", mesh.seed, mesh.stored(at).len());
        let used = 1 << 40;
        let free = mesh.disk(at).free();
        mesh.disk(at).set_capacity(used - free + 10 * KIB as u64);
        mesh.run_for(90 * SECOND);
        assert!(is_there(&mesh) && mesh.stored(at).len() == 1, "seed {}: only the loser is left", mesh.seed);
    }
}

/// A displaced local version that nobody had recorded when it lost its name is pinned too, wherever the agent was killed.
#[test]
fn what_recovery_stores_of_a_conflict_is_pinned() {
    let limits = Limits { keep: 0, ..Limits::default() };
    for mut mesh in pairs(Policy::LastWriterWins, limits) {
        mesh.in_sync();
        mesh.world.cut(1, 2, Cut::Reset);
        mesh.write(1, b"f", b"one");
        mesh.write(2, b"f", b"two");
        mesh.run_for(SECOND);
        mesh.world.heal(1, 2);
        for _ in 0..4 {
            let steps = mesh.random.between(1, 400);
            mesh.take_steps(steps);
            let node = mesh.random.between(1, 2) as u32;
            mesh.kill(node);
            mesh.start(node);
        }
        mesh.in_sync();
        mesh.run_for(700 * SECOND);
        let winner = mesh.read(1, b"f").unwrap();
        let loser: &[u8] = if winner == b"one" { b"two" } else { b"one" };
        let found = (1..=2).any(|node| mesh.stored(node).values().any(|contents| contents == loser));
        assert!(found, "seed {}: {:?} {:?}", mesh.seed, mesh.stored(1), mesh.stored(2));
    }
}

/// What a volume takes on a node: files, stored versions, and what is on its way.
fn taken(mesh: &Mesh, node: u32) -> usize {
    let files = mesh.names(node).into_iter().filter_map(|name| mesh.read(node, name.as_bytes())).map(|file| file.len());
    files.sum::<usize>() + mesh.stored(node).values().map(Vec::len).sum::<usize>()
}

fn is_over_capacity(mesh: &mut Mesh, node: u32) -> bool {
    mesh.status(node).unwrap().volumes[0].over_capacity
}

/// A volume that has as much as it may stops fetching and nothing else, on a disk with room for all. What its own users write beyond
/// it stays, and is told. When it may have more it goes on by itself.
#[test]
fn a_volume_takes_no_more_from_others_than_its_capacity() {
    const CAPACITY: usize = 6_000 * KIB;
    let limits = Limits { capacity: Some(CAPACITY as u64), ..many() };
    for mut mesh in pairs(Policy::KeepBoth, limits) {
        mesh.shape.send_limit = NonZeroU64::new(2_000_000);
        (1..=2).for_each(|node| mesh.configure(node));
        for name in [&b"theirs"[..], b"edited"] {
            mesh.write(1, name, b"from n1");
        }
        mesh.in_sync();
        assert!(!is_over_capacity(&mut mesh, 2), "seed {}", mesh.seed);
        for number in 0..6 {
            mesh.disk(1).user_write(format!("f{number}").as_bytes(), &vec![number; 30 * KIB]).unwrap();
        }
        // The second comes while the first is on its way, and both would fit without the other.
        for (name, byte) in [(&b"one"[..], 77), (b"other", 78)] {
            mesh.disk(1).user_write(name, &vec![byte; 4_000 * KIB]).unwrap();
            mesh.run_for(SECOND);
        }
        mesh.remove(1, b"theirs");
        for _ in 0..40 {
            mesh.run_for(SECOND / 2);
            // Blocks that are on their way in two jobs at once.
            assert!(taken(&mesh, 2) <= CAPACITY + 512 * KIB, "seed {}: {}", mesh.seed, taken(&mesh, 2));
        }
        assert!(taken(&mesh, 2) > CAPACITY / 2, "seed {}: {}", mesh.seed, taken(&mesh, 2));
        assert!(is_over_capacity(&mut mesh, 1) && is_over_capacity(&mut mesh, 2), "seed {}", mesh.seed);
        let message = mesh.status(2).unwrap().volumes[0].message.clone();
        assert!(message.contains("raise `capacity`"), "seed {}: {message}", mesh.seed);
        assert!(mesh.read(2, b"theirs").is_none(), "seed {}: deletions flow", mesh.seed);
        mesh.disk(2).user_write(b"own", &vec![9; 200 * KIB]).unwrap();
        mesh.write(2, b"edited", b"by n2");
        mesh.run_for(20 * SECOND);
        assert_eq!(mesh.read(2, b"own").unwrap().len(), 200 * KIB, "seed {}: its users wrote it", mesh.seed);
        if mesh.random.once_in(2) {
            mesh.kill(2);
            mesh.start(2);
            mesh.run_for(5 * SECOND);
            assert!(is_over_capacity(&mut mesh, 2), "seed {}", mesh.seed);
        }
        mesh.shape.limits.capacity = Some(20_000 * KIB as u64);
        (1..=2).for_each(|node| mesh.configure(node));
        mesh.in_sync();
        for node in 1..=2 {
            assert!(!is_over_capacity(&mut mesh, node), "seed {} n{node}", mesh.seed);
            assert_eq!(mesh.names(node).len(), 10, "seed {} n{node}", mesh.seed);
            assert_eq!(mesh.read(node, b"edited").unwrap(), b"by n2", "seed {} n{node}", mesh.seed);
        }
    }
}

/// Stored versions are a part of a volume's capacity, and the first to go.
#[test]
fn stored_versions_give_way_to_files_within_the_capacity() {
    let limits = Limits { capacity: Some(800 * KIB as u64), ..many() };
    for mut mesh in pairs(Policy::KeepBoth, limits) {
        for version in 1..=12 {
            mesh.disk(1).user_write(b"f", &vec![version; 100 * KIB]).unwrap();
            mesh.in_sync();
            assert!(!is_over_capacity(&mut mesh, 2) && taken(&mesh, 2) <= 800 * KIB, "seed {}", mesh.seed);
        }
        let kept: Vec<u8> = mesh.stored(2).values().map(|contents| contents[0]).collect();
        assert!((3..=7).contains(&kept.len()), "seed {}: {kept:?}", mesh.seed);
        assert!(kept.iter().all(|version| *version > 4), "seed {}: the oldest go: {kept:?}", mesh.seed);
    }
}

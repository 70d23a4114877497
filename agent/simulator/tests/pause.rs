//! Volumes that stand still, and looking at everything again: named scenarios, each told for several seeds.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 30;
const SECOND: u64 = 1_000_000_000;

fn pairs() -> impl Iterator<Item = Mesh> {
    (1..=SEEDS).map(move |seed| Mesh::new(seed, Shape::default()))
}

fn state(mesh: &mut Mesh, node: u32) -> (String, String) {
    let status = mesh.status(node).unwrap();
    (status.volumes[0].state.clone(), status.volumes[0].message.clone())
}

/// A paused volume gives nothing and takes nothing, its peers say why, no kill forgets it, and it catches up afterwards.
#[test]
fn a_paused_volume_stands_still_over_kills_and_catches_up() {
    for mut mesh in pairs() {
        mesh.mkdir(1, b"d");
        mesh.write(1, b"d/f", b"old");
        mesh.in_sync();
        mesh.pause(2, true);
        // Within the turn that journals it.
        let steps = mesh.random.between(60, 1_000);
        mesh.take_steps(steps);
        if mesh.random.once_in(2) {
            mesh.kill(2);
            mesh.start(2);
        }
        mesh.write(2, b"d/theirs", b"of n2");
        mesh.write(1, b"d/f", b"new");
        mesh.disk(1).user_write(b"large", &[7; 700_000]).unwrap();
        mesh.run_for(20 * SECOND);
        if mesh.random.once_in(2) {
            mesh.kill(1);
            mesh.start(1);
            mesh.run_for(20 * SECOND);
        }
        assert_eq!(mesh.read(2, b"d/f").unwrap(), b"old", "seed {}", mesh.seed);
        assert!(mesh.disk(2).user_read(b"large").is_err(), "seed {}", mesh.seed);
        assert!(mesh.disk(1).user_read(b"d/theirs").is_err(), "seed {}", mesh.seed);
        assert_eq!(state(&mut mesh, 2).0, "Paused", "seed {}", mesh.seed);
        let (there, why) = state(&mut mesh, 1);
        assert!(there == "Degraded" && why.contains("n2 has paused this volume"), "seed {}: {there} {why}", mesh.seed);
        mesh.pause(2, false);
        mesh.in_sync();
        assert_eq!(mesh.read(2, b"d/f").unwrap(), b"new");
        assert_eq!(mesh.read(1, b"d/theirs").unwrap(), b"of n2");
        assert_eq!(mesh.read(2, b"large").unwrap().len(), 700_000);
        mesh.kill(2);
        mesh.start(2);
        mesh.in_sync();
    }
}

/// A pause at any moment of an exchange: what lies only in a slot gets its name all the same, epochs end, and nothing is lost.
#[test]
fn a_pause_at_any_time_keeps_no_epoch_open_and_loses_nothing() {
    for mut mesh in pairs() {
        mesh.in_sync();
        for round in 0..10 {
            mesh.write(1, b"f", format!("n1 {round}").as_bytes());
            let steps = mesh.random.between(0, 200);
            mesh.take_steps(steps);
            mesh.write(2, b"f", format!("n2 {round}").as_bytes());
            let steps = mesh.random.between(0, 200);
            mesh.take_steps(steps);
            mesh.pause(2, true);
            mesh.run_for(5 * SECOND);
            let lag = mesh.status(2).unwrap().volumes[0].durable_lag_ms;
            assert!(lag < 3_000, "seed {}: an epoch stays open for {lag} ms", mesh.seed);
            mesh.pause(2, false);
            mesh.in_sync();
        }
    }
}

/// Contents that changed although nothing shows it are found when all files are read again, are told and never sent; a user
/// who writes the file anew mends it.
#[test]
fn contents_that_changed_by_themselves_are_told_and_never_announced() {
    for mut mesh in pairs() {
        for name in [&b"a"[..], b"b", b"c"] {
            mesh.write(1, name, b"as it was written");
        }
        mesh.in_sync();
        mesh.disk(1).rot(b"b");
        mesh.rescan(1, false);
        mesh.in_sync();
        mesh.rescan(1, true);
        mesh.run_for(10 * SECOND);
        let (_, why) = state(&mut mesh, 1);
        assert!(why.starts_with("b: its contents changed"), "seed {}: {why}", mesh.seed);
        assert_eq!(mesh.read(2, b"b").unwrap(), b"as it was written", "seed {}", mesh.seed);
        mesh.write(1, b"b", b"written anew");
        mesh.in_sync();
        assert_eq!(mesh.read(2, b"b").unwrap(), b"written anew");
        mesh.rescan(1, true);
        mesh.in_sync();
    }
}

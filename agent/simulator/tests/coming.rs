//! A volume comes while agents run: 0041.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 60;
const SECOND: u64 = 1_000_000_000;

/// What was in the directories before is there on all nodes, and what is written afterwards follows.
#[test]
fn a_volume_that_comes_to_running_agents_gets_in_sync() {
    for seed in 1..=SEEDS {
        let mut mesh = Mesh::asleep(seed, Shape { nodes: 3, ..Shape::default() });
        for id in 1..=3 {
            mesh.write(id, format!("before {id}"), "was there");
            mesh.start_without(id);
        }
        let mut waiting = vec![1, 2, 3];
        while !waiting.is_empty() {
            let pause = mesh.random.between(0, 3 * SECOND);
            mesh.run_for(pause);
            let next = mesh.random.between(0, waiting.len() as u64 - 1) as usize;
            let id = waiting.swap_remove(next);
            mesh.open(id);
            mesh.write(id, format!("after {id}"), "came later");
        }
        mesh.in_sync();
        for id in 1..=3 {
            let expected = ["after 1", "after 2", "after 3", "before 1", "before 2", "before 3"];
            assert_eq!(mesh.names(id), expected, "seed {seed}, n{id}");
        }
    }
}

/// Nothing that was told is lost, and no number is used twice, though the volume was in no epoch before.
#[test]
fn a_volume_that_has_just_come_survives_a_kill() {
    for seed in 1..=SEEDS {
        let mut mesh = Mesh::asleep(seed, Shape::default());
        mesh.start_without(1);
        mesh.start(2);
        mesh.write(2, "theirs", "theirs");
        let pause = mesh.random.between(0, SECOND);
        mesh.run_for(pause);
        mesh.open(1);
        mesh.write(1, "ours", "ours");
        let steps = mesh.random.between(0, 600);
        mesh.take_steps(steps);
        mesh.kill(1);
        if mesh.read(2, "ours").is_some() && mesh.random.once_in(2) {
            mesh.remove(1, "ours");
        }
        let is_left = mesh.read(1, "ours").is_some();
        mesh.start(1);
        mesh.in_sync();
        for id in 1..=2 {
            assert_eq!(mesh.read(id, "ours").is_some(), is_left, "seed {seed}, n{id}");
            assert_eq!(mesh.read(id, "theirs").unwrap(), b"theirs", "seed {seed}, n{id}");
        }
    }
}

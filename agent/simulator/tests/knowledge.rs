//! What a node says that it knows, it has recorded: nobody sends it again (SYNC 3).
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_simulator::Cut;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SECOND: u64 = 1_000_000_000;

/// A node is killed while entries wait, for their contents or to be recorded at all: it knows none that it hasn't recorded,
/// so what it lacks is sent again.
#[test]
fn what_a_killed_node_hadnt_recorded_is_sent_again() {
    for seed in 1..=300 {
        let mut mesh = Mesh::new(seed, Shape::default());
        mesh.in_sync();
        for number in 0..4 {
            mesh.write(1, format!("small {number}"), "contents");
            mesh.write(1, format!("large {number}"), [b'.'; 200_000]);
        }
        let steps = mesh.random.between(1, 800);
        mesh.take_steps(steps);
        // Whatever is durable by then, after a kill or a power loss.
        if mesh.random.once_in(2) {
            mesh.kill(2);
        } else {
            mesh.lose_power(2);
        }
        mesh.start(2);
        mesh.in_sync();
        assert_eq!(mesh.names(2).len(), 8, "seed {seed}: {:?}", mesh.names(2));
    }
}

/// A node that doesn't want a directory records what others tell of it all the same: whoever hears of it through this node
/// alone would otherwise believe to know it (SYNC 3).
#[test]
fn a_node_that_excludes_a_directory_relays_what_is_in_it() {
    for seed in 1..=50 {
        let shape = Shape { nodes: 3, ..Shape::default() };
        let mut mesh = Mesh::asleep(seed, shape);
        mesh.world.cut(1, 3, Cut::Silent);
        mesh.shape.exclude = vec!["cache/".into()];
        mesh.start(2);
        mesh.shape.exclude = Vec::new();
        mesh.start(1);
        mesh.start(3);
        mesh.mkdir(1, "cache");
        mesh.write(1, "cache/f", "for n1 and n3");
        mesh.write(1, "g", "for all");
        mesh.run_for(20 * SECOND);
        assert_eq!(mesh.read(3, "g").unwrap(), b"for all", "seed {seed}");
        assert_eq!(mesh.names(2), ["g"], "seed {seed}");
        mesh.world.heal(1, 3);
        mesh.in_sync();
        assert_eq!(mesh.names(3), ["cache", "cache/f", "g"], "seed {seed}");
        assert_eq!(mesh.read(3, "cache/f").unwrap(), b"for n1 and n3", "seed {seed}");
        // And what n3 makes of it reaches n1 through n2.
        mesh.world.cut(1, 3, Cut::Silent);
        mesh.run_for(20 * SECOND);
        mesh.remove(3, "cache/f");
        mesh.run_for(5 * SECOND);
        assert_eq!(mesh.names(1), ["cache", "g"], "seed {seed}");
    }
}

//! Clocks that are wrong decide ties, the same on all nodes, and nothing else (SYNC 4, I7).
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_simulator::Cut;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SECOND: u64 = 1_000_000_000;

/// Three nodes whose clocks are hours apart edit one file while nobody hears of another: all choose the same winner,
/// although one's stamps are far in the future of the others, because nobody rewrites a stamp.
#[test]
fn all_choose_the_same_winner_whatever_their_clocks_say() {
    for seed in 1..=50 {
        let mut mesh = Mesh::asleep(seed, Shape { nodes: 3, ..Shape::default() });
        mesh.set_clock(1, 7_200 * SECOND as i64);
        mesh.set_clock(3, -7_200 * SECOND as i64);
        (1..=3).for_each(|id| mesh.start(id));
        mesh.write(2, "f", "the first");
        mesh.in_sync();
        for (a, b) in [(1, 2), (1, 3), (2, 3)] {
            mesh.world.cut(a, b, Cut::Silent);
        }
        (1..=3).for_each(|id| mesh.write(id, "f", format!("by n{id}")));
        mesh.run_for(SECOND);
        for (a, b) in [(2, 3), (1, 3), (1, 2)] {
            mesh.world.heal(a, b);
            let pause = mesh.random.between(0, SECOND);
            mesh.run_for(pause);
        }
        mesh.in_sync();
        // By itself, and not because somebody found a difference and repaired it.
        for node in 1..=3 {
            assert_eq!(mesh.counters(node).unwrap().sum_differences, 0, "seed {seed}, n{node}");
        }
        let winner = mesh.read(1, "f").unwrap();
        assert_eq!(winner, b"by n1", "seed {seed}: the highest stamp");
        for node in 2..=3 {
            assert_eq!(mesh.tree(node), mesh.tree(1), "seed {seed}, n{node}");
        }
        assert_eq!(mesh.names(1).len(), 3, "seed {seed}: {:?}", mesh.names(1));
    }
}

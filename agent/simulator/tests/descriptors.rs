//! Nodes that have no descriptors left for their peers' calls.
#![allow(missing_docs)]

use syncmesh_simulator::mesh::{Mesh, Shape};

const SECOND: u64 = 1_000_000_000;

#[test]
fn who_cannot_accept_tries_again_every_second_and_goes_on_once_it_can() {
    for seed in 0..10 {
        let mut mesh = Mesh::asleep(seed, Shape { nodes: 2, ..Shape::default() });
        for id in 1..=2 {
            mesh.exhaust(id);
            mesh.start(id);
        }
        mesh.write(1, "file", "contents");
        mesh.run_for(20 * SECOND);
        for id in 1..=2 {
            let tries = mesh.relieve(id);
            assert!((1..=21).contains(&tries), "seed {seed}: n{id} has tried {tries} times in 20 seconds");
        }
        mesh.in_sync();
    }
}

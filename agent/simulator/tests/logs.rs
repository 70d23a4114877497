//! Files that are appended to without end (SYNC 5): what was written arrives while more is being written.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_simulator::mesh::{Mesh, Shape};

const SECOND: u64 = 1_000_000_000;

/// Too large to ride along with its announcement, and never again what was announced when it is asked for.
#[test]
fn a_large_file_that_grows_all_the_time_keeps_arriving() {
    for seed in 1..=10 {
        let shape = Shape::default();
        let mut mesh = Mesh::new(seed, shape);
        mesh.disk(1).user_write(b"log", &[b'.'; 200_000]).unwrap();
        mesh.run_until_in_sync(120 * SECOND).unwrap();
        let file = mesh.disk(1).user_create_open(b"log").unwrap();
        let mut size = 200_000;
        let mut arrived = std::collections::BTreeSet::new();
        for _ in 0..1_500 {
            mesh.disk(1).user_write_at(file, b"another line\n", size).unwrap();
            size += 13;
            mesh.run_for(20_000_000);
            arrived.insert(mesh.disk(2).user_stat(b"log").unwrap().size);
        }
        assert!(arrived.len() > 8, "seed {seed}: in 30 s only {arrived:?} arrived");
        mesh.disk(1).user_close(file);
        mesh.run_until_in_sync(120 * SECOND).unwrap();
        let [one, other] = [0, 1].map(|node| mesh.machines[node].disk.user_read(b"log").unwrap());
        assert!(one == other && one.len() as u64 == size, "seed {seed}");
    }
}

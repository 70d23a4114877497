//! A root that isn't in its place while its agent runs (SYNC 10, I15).
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_simulator::mesh::{Mesh, Shape};

const SECOND: u64 = 1_000_000_000;

/// What happens in a directory that was moved away is nobody's business until it is back: neither is it told to others, nor
/// do others put anything there.
#[test]
fn what_happens_in_a_root_that_was_moved_away_waits_until_it_is_back() {
    for seed in 1..=20 {
        let shape = Shape::default();
        let mut mesh = Mesh::new(seed, shape);
        mesh.mkdir(1, b"d");
        for number in 0..10 {
            mesh.write(1, format!("d/{number}").as_bytes(), b"contents");
        }
        mesh.in_sync();
        mesh.disk(1).user_move_root(true);
        mesh.run_for(6 * SECOND);
        assert_eq!(mesh.status(1).unwrap().volumes[0].state, "Failed", "seed {seed}");
        mesh.remove(1, b"d/3");
        mesh.write(1, b"d/4", b"edited");
        mesh.write(2, b"d/5", b"edited elsewhere");
        mesh.run_for(60 * SECOND);
        assert_eq!(mesh.read(2, b"d/3").unwrap(), b"contents", "seed {seed}");
        assert_eq!(mesh.read(2, b"d/4").unwrap(), b"contents", "seed {seed}");
        assert_eq!(mesh.read(1, b"d/5").unwrap(), b"contents", "seed {seed}");
        mesh.disk(1).user_move_root(false);
        mesh.in_sync();
        assert!(mesh.disk(2).user_read(b"d/3").is_err(), "seed {seed}");
        assert_eq!(mesh.read(2, b"d/4").unwrap(), b"edited");
        assert_eq!(mesh.read(1, b"d/5").unwrap(), b"edited elsewhere");
    }
}

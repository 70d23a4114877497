//! A root that isn't in its place while its agent runs (SYNC 10, I15).
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_simulator::mesh::{Mesh, Shape};

const SECOND: u64 = 1_000_000_000;

fn in_sync(mesh: &mut Mesh) {
    let result = mesh.run_until_in_sync(120 * SECOND);
    result.unwrap_or_else(|why| panic!("seed {}: {why}", mesh.seed));
}

/// What happens in a directory that was moved away is nobody's business until it is back: neither is it told to others, nor
/// do others put anything there.
#[test]
fn what_happens_in_a_root_that_was_moved_away_waits_until_it_is_back() {
    for seed in 1..=20 {
        let shape = Shape::default();
        let mut mesh = Mesh::new(seed, shape);
        mesh.machines[0].disk.user_mkdir(b"d").unwrap();
        for number in 0..10 {
            mesh.machines[0].disk.user_write(format!("d/{number}").as_bytes(), b"contents").unwrap();
        }
        in_sync(&mut mesh);
        mesh.machines[0].disk.user_move_root(true);
        mesh.run_for(6 * SECOND);
        assert_eq!(mesh.status(1).unwrap().volumes[0].state, "Failed", "seed {seed}");
        mesh.machines[0].disk.user_remove(b"d/3").unwrap();
        mesh.machines[0].disk.user_write(b"d/4", b"edited").unwrap();
        mesh.machines[1].disk.user_write(b"d/5", b"edited elsewhere").unwrap();
        mesh.run_for(60 * SECOND);
        assert_eq!(mesh.machines[1].disk.user_read(b"d/3").unwrap(), b"contents", "seed {seed}");
        assert_eq!(mesh.machines[1].disk.user_read(b"d/4").unwrap(), b"contents", "seed {seed}");
        assert_eq!(mesh.machines[0].disk.user_read(b"d/5").unwrap(), b"contents", "seed {seed}");
        mesh.machines[0].disk.user_move_root(false);
        in_sync(&mut mesh);
        assert!(mesh.machines[1].disk.user_read(b"d/3").is_err(), "seed {seed}");
        assert_eq!(mesh.machines[1].disk.user_read(b"d/4").unwrap(), b"edited");
        assert_eq!(mesh.machines[0].disk.user_read(b"d/5").unwrap(), b"edited elsewhere");
    }
}

//! Mode and owner are judged apart from contents (SYNC 1).
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_simulator::Cut;
use syncmesh_simulator::mesh::{Mesh, Shape};

const FILES: usize = 40;
const SECOND: u64 = 1_000_000_000;

fn file(number: usize) -> String {
    format!("d/{number}")
}

/// `chmod -R` on one node during a build on another: both take effect, and there are no conflict copies.
#[test]
fn a_chmod_of_everything_during_a_build_elsewhere_makes_no_conflicts() {
    for seed in 1..=50 {
        let mut mesh = Mesh::new(seed, Shape::default());
        mesh.mkdir(1, "d");
        (0..FILES).for_each(|number| mesh.write(1, file(number), format!("source {number}")));
        mesh.in_sync();
        mesh.world.cut(1, 2, Cut::Silent);
        for number in 0..FILES {
            mesh.disk(1).user_chmod(file(number).as_bytes(), 0o600).unwrap();
            mesh.write(2, file(number), format!("built {number}"));
            mesh.take_steps(20);
        }
        mesh.run_for(SECOND);
        mesh.world.heal(1, 2);
        mesh.in_sync();
        for node in 1..=2 {
            assert_eq!(mesh.names(node).len(), FILES + 1, "seed {seed}, n{node}: {:?}", mesh.names(node));
            assert_eq!(mesh.status(node).unwrap().volumes[0].conflicts, 0, "seed {seed}, n{node}");
            for number in 0..FILES {
                assert_eq!(mesh.read(node, file(number)).unwrap(), format!("built {number}").as_bytes(), "seed {seed}");
                let shown = mesh.disk(node).user_stat(file(number).as_bytes()).unwrap();
                assert_eq!(shown.mode, 0o600, "seed {seed}, n{node}");
            }
        }
    }
}

/// A mode that a user sets in the moment in which another node's is set isn't taken for that one: it takes effect everywhere, or
/// nowhere.
#[test]
fn a_mode_that_is_set_while_another_one_arrives_is_not_hidden() {
    for seed in 1..=300 {
        let mut mesh = Mesh::new(seed, Shape::default());
        mesh.write(1, "a", "x");
        mesh.in_sync();
        mesh.disk(2).user_chmod(b"a", 0o755).unwrap();
        let arrives = |mesh: &Mesh| mesh.disk(1).user_stat(b"a").unwrap().mode == 0o755;
        while !arrives(&mesh) {
            assert!(mesh.step());
        }
        let mode = if seed % 2 == 0 { 0o600 } else { 0o644 };
        mesh.disk(1).user_chmod(b"a", mode).unwrap();
        mesh.in_sync();
        let modes = [1, 2].map(|node| mesh.disk(node).user_stat(b"a").unwrap().mode);
        assert_eq!(modes[0], modes[1], "seed {seed}");
        assert!(modes[0] == mode || mode == 0o644, "seed {seed}: {:o}", modes[0]);
    }
}

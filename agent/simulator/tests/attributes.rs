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

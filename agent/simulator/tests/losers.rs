//! What lost a conflict and has no copy yet: nobody who writes over the winner, or deletes it, has seen it (I2).
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_simulator::Cut;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 50;
const SECOND: u64 = 1_000_000_000;

/// The first node has heard of the second one's edit, which lost against its own; the second one has heard of nothing yet,
/// and is the only one that has the contents.
fn lost_unheard() -> impl Iterator<Item = Mesh> {
    (1..=SEEDS).map(|seed| {
        let mut mesh = Mesh::new(seed, Shape::default());
        mesh.write(1, "f", "the first");
        mesh.in_sync();
        mesh.world.cut(1, 2, Cut::SilentOneWay);
        // Too large to ride along.
        mesh.write(2, "f", [b'2'; 100_000]);
        mesh.run_for(SECOND);
        // Until nothing is on its way any more.
        mesh.world.cut(1, 2, Cut::Silent);
        mesh.run_for(20 * SECOND);
        mesh.write(1, "f", "by n1");
        mesh.run_for(SECOND);
        mesh
    })
}

#[test]
fn a_loser_without_a_copy_gets_one_although_the_winner_was_edited_meanwhile() {
    for mut mesh in lost_unheard() {
        for edit in ["again", "and again"] {
            mesh.write(1, "f", edit);
            mesh.run_for(SECOND);
        }
        mesh.world.heal(1, 2);
        mesh.in_sync();
        for node in 1..=2 {
            let names = mesh.names(node);
            let [name, copy] = names.as_slice() else { panic!("seed {}, n{node}: {names:?}", mesh.seed) };
            assert!(copy.starts_with("f (conflict n2 ") && name == "f", "{names:?}");
            assert_eq!(mesh.read(node, "f").unwrap(), b"and again");
            assert_eq!(mesh.read(node, copy).unwrap(), [b'2'; 100_000]);
        }
    }
}

#[test]
fn a_loser_without_a_copy_has_the_name_when_the_winner_is_deleted() {
    for mut mesh in lost_unheard() {
        mesh.remove(1, "f");
        mesh.run_for(SECOND);
        if mesh.random.once_in(2) {
            mesh.kill(1);
            mesh.start(1);
        }
        mesh.world.heal(1, 2);
        mesh.in_sync();
        for node in 1..=2 {
            assert_eq!(mesh.names(node), ["f"], "seed {}, n{node}", mesh.seed);
            assert_eq!(mesh.read(node, "f").unwrap(), [b'2'; 100_000], "seed {}, n{node}", mesh.seed);
        }
    }
}

/// With a copy it has its place: the winner can be edited and deleted like any file.
#[test]
fn a_loser_with_a_copy_returns_no_more() {
    for mut mesh in lost_unheard() {
        mesh.world.heal(1, 2);
        mesh.in_sync();
        let copy = mesh.names(1).remove(1);
        assert!(copy.starts_with("f (conflict n2 "), "seed {}: {copy}", mesh.seed);
        mesh.remove(2, "f");
        mesh.in_sync();
        assert_eq!(mesh.names(1), std::slice::from_ref(&copy), "seed {}", mesh.seed);
        mesh.remove(1, copy);
        mesh.in_sync();
        assert!(mesh.names(2).is_empty(), "seed {}: {:?}", mesh.seed, mesh.names(2));
    }
}

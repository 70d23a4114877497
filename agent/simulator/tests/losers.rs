//! What lost a conflict and has no copy yet: nobody who writes over the winner, or deletes it, has seen it (I2).
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_io::FsError;
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

/// A name that only shows what the old name shows still is no copy.
#[test]
fn a_copy_whose_winner_can_not_be_published_is_taken_back() {
    for seed in 1..=SEEDS {
        let mut mesh = Mesh::new(seed, Shape::default());
        mesh.write(1, "f", "the first");
        mesh.in_sync();
        mesh.world.cut(1, 2, Cut::Silent);
        mesh.write(2, "f", "the loser");
        mesh.run_for(SECOND);
        mesh.write(1, "f", "the winner");
        mesh.run_for(SECOND);
        let faults = mesh.faults(2);
        faults.fail_some(seed, 1_000_000, &["publish"], &[FsError::NoSpace]);
        mesh.world.heal(1, 2);
        mesh.run_for(30 * SECOND);
        assert_eq!(mesh.names(2), ["f"], "seed {seed}");
        mesh.write(2, "f", "the loser, and more");
        mesh.run_for(SECOND);
        faults.fail_some(seed, 0, &[], &[]);
        mesh.in_sync();
        let contents: Vec<_> = mesh.names(1).iter().map(|name| mesh.read(2, name).unwrap()).collect();
        assert!(contents.contains(&b"the loser, and more".to_vec()), "seed {seed}: {contents:?}");
    }
}

/// Both unpack the same archive. Whatever stands where when the one's version arrives at the other, it is what that one has.
#[test]
fn equal_contents_written_on_both_nodes_at_once_are_no_conflict() {
    for mut mesh in (1..=SEEDS).map(|seed| Mesh::new(seed, Shape::default())) {
        for number in 0..20 {
            mesh.write(1, format!("f{number}"), format!("old {number}"));
        }
        mesh.in_sync();
        for number in 0..20 {
            for node in 1..=2 {
                mesh.remove(node, format!("f{number}"));
                mesh.write(node, format!("f{number}"), format!("new {number}"));
                let pause = mesh.random.between(0, 2_000_000);
                mesh.run_for(pause);
            }
        }
        mesh.in_sync();
        for node in 1..=2 {
            let copies: Vec<String> = mesh.names(node).into_iter().filter(|name| name.contains("conflict")).collect();
            assert!(copies.is_empty(), "seed {}, n{node}: {copies:?}", mesh.seed);
        }
    }
}

/// The user of the node that loses saves again while the winner is on its way to the name.
#[test]
fn a_conflict_copy_has_the_contents_that_its_name_tells() {
    for mut mesh in (1..=4 * SEEDS).map(|seed| Mesh::new(seed, Shape::default())) {
        for number in 0..10 {
            mesh.write(1, format!("f{number}"), "old");
        }
        mesh.in_sync();
        mesh.world.cut(1, 2, Cut::Silent);
        for number in 0..10 {
            mesh.write(1, format!("f{number}"), format!("loses {number}"));
        }
        mesh.run_for(SECOND);
        for number in 0..10 {
            mesh.write(2, format!("f{number}"), format!("wins {number}"));
        }
        mesh.run_for(20 * SECOND);
        mesh.world.heal(1, 2);
        for number in 0..10 {
            while mesh.read(1, format!("f{number}")).unwrap().starts_with(b"loses") && mesh.names(1).len() < 11 + number
            {
                let pause = mesh.random.between(0, 100_000);
                mesh.run_for(pause);
            }
            mesh.write(1, format!("f{}", 9 - number), format!("saved {number}"));
        }
        mesh.in_sync();
        for copy in mesh.names(1).into_iter().filter(|name| name.contains("conflict")) {
            let contents = mesh.read(1, &copy).unwrap();
            let hash = syncmesh_core::entry::ContentHash::of(&contents).to_string();
            assert!(
                copy.contains(&hash[..8]),
                "seed {}: {copy} has {:?}",
                mesh.seed,
                String::from_utf8_lossy(&contents)
            );
        }
    }
}

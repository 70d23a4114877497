//! Volumes that not all nodes of a mesh keep, and copies that are filled for the first time.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 20;
const SECOND: u64 = 1_000_000_000;

fn keepers(nodes: u32, keepers: &[u32]) -> Shape {
    Shape { nodes, keepers: Some(keepers.to_vec()), ..Shape::default() }
}

/// All nodes are told who keeps the volume now, in any order.
fn kept_by(mesh: &mut Mesh, keepers: &[u32]) {
    mesh.shape.keepers = Some(keepers.to_vec());
    let mut told: Vec<u32> = (1..=mesh.shape.nodes).collect();
    while !told.is_empty() {
        let next = mesh.random.between(0, told.len() as u64 - 1) as usize;
        mesh.configure(told.swap_remove(next));
        mesh.run_for(SECOND / 10);
    }
}

#[test]
fn a_node_that_doesnt_keep_a_volume_gets_and_gives_nothing() {
    for seed in 0..SEEDS {
        let mut mesh = Mesh::new(seed, keepers(3, &[1, 2]));
        mesh.write(3, "theirs", "of a volume of the same name");
        mesh.write(1, "ours", "for 2");
        mesh.run_until_these_are_in_sync(&[1, 2], 60 * SECOND).unwrap();
        mesh.run_for(5 * SECOND);
        let [one, two, three] = [1, 2, 3].map(|id| mesh.names(id));
        assert_eq!((one, two, three), (vec!["ours".into()], vec!["ours".into()], vec!["theirs".to_owned()]), "{seed}");
    }
}

/// Whoever joins gets them from others, although their maker is a peer of its, too.
#[test]
fn versions_of_a_node_that_keeps_the_volume_no_more_reach_one_that_joins() {
    for seed in 0..SEEDS {
        let mut mesh = Mesh::new(seed, keepers(4, &[1, 2, 3]));
        mesh.write(3, "f", "by a node that leaves");
        mesh.run_until_these_are_in_sync(&[1, 2, 3], 60 * SECOND).unwrap();
        kept_by(&mut mesh, &[1, 2, 4]);
        mesh.write(3, "late", "after it left");
        let joined = mesh.run_until_these_are_in_sync(&[1, 2, 4], 60 * SECOND);
        joined.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert_eq!(mesh.names(4), ["f"], "seed {seed}");
    }
}

#[test]
fn a_node_that_leaves_and_comes_back_gets_what_changed() {
    for seed in 0..SEEDS {
        let mut mesh = Mesh::new(seed, keepers(3, &[1, 2, 3]));
        mesh.write(3, "f", "1");
        mesh.in_sync();
        kept_by(&mut mesh, &[1, 2]);
        mesh.write(1, "f", "2");
        mesh.write(3, "g", "3");
        mesh.run_until_these_are_in_sync(&[1, 2], 60 * SECOND).unwrap();
        kept_by(&mut mesh, &[1, 2, 3]);
        mesh.in_sync();
        for id in 1..=3 {
            let tree = mesh.tree(id);
            assert_eq!(tree, [("f".into(), "2".into()), ("g".into(), "3".to_owned())], "seed {seed}");
        }
    }
}

fn is_filled(mesh: &mut Mesh, id: u32) -> bool {
    mesh.status(id).unwrap().volumes[0].filled
}

/// Two copies that have the same, which isn't all, are in sync with each other; only a full copy fills them.
#[test]
fn a_copy_is_filled_by_a_full_one_and_not_by_another_that_is_being_filled() {
    for seed in 0..SEEDS {
        let mut mesh = Mesh::asleep(seed, Shape { nodes: 3, filling: vec![2, 3], ..Shape::default() });
        mesh.start(1);
        mesh.write(1, "f", "1");
        mesh.run_for(SECOND);
        mesh.kill(1);
        mesh.start(2);
        mesh.start(3);
        mesh.run_for(20 * SECOND);
        assert!(!is_filled(&mut mesh, 2) && !is_filled(&mut mesh, 3), "seed {seed}");
        mesh.start(1);
        mesh.in_sync();
        assert!(is_filled(&mut mesh, 2) && is_filled(&mut mesh, 3), "seed {seed}");
        assert_eq!(mesh.names(2), ["f"], "seed {seed}");
    }
}

/// Nodes 1 and 3 are cut from each other; 3 is filled by 2 as soon as that says that it is full.
#[test]
fn a_copy_that_was_filled_fills_others() {
    for seed in 0..SEEDS {
        let mut mesh = Mesh::asleep(seed, Shape { nodes: 3, filling: vec![2, 3], ..Shape::default() });
        mesh.start(1);
        mesh.start(2);
        mesh.write(1, "f", "1");
        mesh.run_for(20 * SECOND);
        assert!(is_filled(&mut mesh, 2), "seed {seed}");
        mesh.kill(1);
        mesh.start(3);
        mesh.run_for(20 * SECOND);
        assert!(!is_filled(&mut mesh, 3), "seed {seed}");
        mesh.shape.filling = vec![3];
        mesh.configure(2);
        mesh.run_for(20 * SECOND);
        assert!(is_filled(&mut mesh, 3), "seed {seed}");
        assert_eq!(mesh.names(3), ["f"], "seed {seed}");
    }
}

//! What a node says that it knows, it has recorded: nobody sends it again (SYNC 3).
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_io::FsError;
use syncmesh_simulator::Cut;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SECOND: u64 = 1_000_000_000;

/// A node is killed, or loses power, while entries wait for their contents or to be recorded at all: it knows none that it
/// hasn't recorded, so what it lacks is sent again. Nobody has to find it out by comparing sums.
#[test]
fn what_a_killed_node_hadnt_recorded_is_sent_again() {
    const DIRECTORIES: u64 = 12;
    for seed in 1..=60 {
        let mut mesh = Mesh::new(seed, Shape::default());
        (0..DIRECTORIES).for_each(|directory| mesh.mkdir(1, format!("d{directory}")));
        mesh.in_sync();
        let end = mesh.world.now() + mesh.random.between(SECOND / 2, 3 * SECOND);
        let mut files = 0;
        while mesh.world.now() < end {
            for directory in 0..DIRECTORIES {
                mesh.write(1, format!("d{directory}/{files}"), "contents");
            }
            mesh.write(1, format!("d0/large {files}"), [b'.'; 70_000]);
            files += 1;
            mesh.run_for(30_000_000);
        }
        if mesh.random.once_in(3) {
            mesh.kill(2);
        } else {
            mesh.lose_power(2);
        }
        mesh.start(2);
        mesh.in_sync();
        mesh.run_for(30 * SECOND);
        assert_eq!(mesh.names(2), mesh.names(1), "seed {seed}");
        for node in 1..=2 {
            assert_eq!(mesh.counters(node).unwrap().sum_differences, 0, "seed {seed}, n{node}");
        }
    }
}

/// A node that doesn't want a directory records what others tell of it all the same: whoever hears of it through this node
/// alone would otherwise believe to know it (SYNC 3).
#[test]
fn a_node_that_excludes_a_directory_relays_what_is_in_it() {
    for seed in 1..=50 {
        let shape = Shape { nodes: 3, ..Shape::default() };
        let mut mesh = Mesh::asleep(seed, shape);
        mesh.world.cut(1, 3, Cut::Silent);
        mesh.shape.exclude = vec!["cache/".into()];
        mesh.start(2);
        mesh.shape.exclude = Vec::new();
        mesh.start(1);
        mesh.start(3);
        mesh.mkdir(1, "cache");
        mesh.write(1, "cache/f", "for n1 and n3");
        mesh.write(1, "g", "for all");
        mesh.run_for(20 * SECOND);
        assert_eq!(mesh.read(3, "g").unwrap(), b"for all", "seed {seed}");
        assert_eq!(mesh.names(2), ["g"], "seed {seed}");
        mesh.world.heal(1, 3);
        mesh.in_sync();
        assert_eq!(mesh.names(3), ["cache", "cache/f", "g"], "seed {seed}");
        assert_eq!(mesh.read(3, "cache/f").unwrap(), b"for n1 and n3", "seed {seed}");
        // And what n3 makes of it reaches n1 through n2.
        mesh.world.cut(1, 3, Cut::Silent);
        mesh.run_for(20 * SECOND);
        mesh.remove(3, "cache/f");
        mesh.run_for(5 * SECOND);
        assert_eq!(mesh.names(1), ["cache", "g"], "seed {seed}");
    }
}

/// A node can record nothing for a while, and meanwhile its session with one peer ends and begins anew, but not that with the
/// maker of what waits: the peer that had left it to the maker doesn't say then that the node knows it.
#[test]
fn a_session_that_begins_anew_forgets_nothing_that_was_left_to_makers() {
    for seed in 1..=50 {
        let mut mesh = Mesh::new(seed, Shape { nodes: 3, ..Shape::default() });
        mesh.in_sync();
        mesh.faults(3).fail_some(seed, 1_000_000, &["open_directory"], &[FsError::Denied]);
        mesh.rescan(3, false);
        mesh.run_for(SECOND);
        mesh.write(2, "f", "by n2");
        mesh.run_for(2 * SECOND);
        assert_eq!(mesh.read(1, "f").unwrap(), b"by n2", "seed {seed}");
        mesh.world.cut(1, 3, Cut::Reset);
        mesh.run_for(3 * SECOND);
        mesh.faults(3).fail_randomly(0, 0, &[]);
        mesh.in_sync();
        mesh.run_for(30 * SECOND);
        assert_eq!(mesh.read(3, "f").unwrap(), b"by n2", "seed {seed}");
        for node in 1..=3 {
            assert_eq!(mesh.counters(node).unwrap().sum_differences, 0, "seed {seed}, n{node}");
        }
    }
}

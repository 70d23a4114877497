//! What can't be read or listed is unknown, never deleted, and is looked at again until it can (I15).
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_io::FsError;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 30;
const SECOND: u64 = 1_000_000_000;

fn pairs() -> impl Iterator<Item = Mesh> {
    (1..=SEEDS).map(|seed| Mesh::new(seed, Shape::default()))
}

/// From now on a share of these calls on a node fails.
fn fail(mesh: &mut Mesh, node: u32, per_million: u32, calls: &'static [&'static str]) {
    let seed = mesh.random.bits();
    mesh.faults(node).fail_some(seed, per_million, calls, &[FsError::Denied, FsError::Os(5)]);
}

fn message(mesh: &mut Mesh, node: u32) -> String {
    mesh.status(node).unwrap().volumes[0].message.clone()
}

/// A file that couldn't be read and was gone when it could isn't complained about any more.
#[test]
fn a_file_that_couldnt_be_read_and_is_gone_is_no_problem_any_more() {
    for mut mesh in pairs() {
        mesh.in_sync();
        fail(&mut mesh, 1, 1_000_000, &["open"]);
        mesh.write(1, "f", "for a moment");
        mesh.run_for(SECOND);
        let said = message(&mut mesh, 1);
        assert!(said.contains("f: can't be read"), "seed {}: {said}", mesh.seed);
        mesh.remove(1, "f");
        fail(&mut mesh, 1, 0, &[]);
        mesh.in_sync();
        assert!(mesh.names(2).is_empty(), "seed {}", mesh.seed);
    }
}

/// What couldn't be written, and was written over by a user meanwhile, isn't complained about any more.
#[test]
fn a_fetch_that_failed_for_what_nobody_wants_any_more_is_no_problem() {
    for mut mesh in pairs() {
        mesh.in_sync();
        mesh.write(1, "f", [b'o'; 300_000]);
        fail(&mut mesh, 2, 1_000_000, &["file.write_at"]);
        while mesh.status(2).unwrap().volumes[0].pending_files == 0 {
            mesh.step();
        }
        let steps = mesh.random.between(0, 40);
        (0..steps).for_each(|_| _ = mesh.step());
        mesh.write(2, "f", [b'n'; 300_000]);
        mesh.run_for(SECOND);
        fail(&mut mesh, 2, 0, &[]);
        mesh.in_sync();
    }
}

/// A volume with thirty files in a directory, on both nodes.
fn filled() -> impl Iterator<Item = Mesh> {
    pairs().map(|mut mesh| {
        mesh.mkdir(1, "d");
        (0..30).for_each(|number| mesh.write(1, format!("d/{number}"), format!("contents {number}")));
        mesh.in_sync();
        mesh
    })
}

/// Mode and owner that a peer changed were set here, and then the file couldn't be looked at: nobody here changed them.
#[test]
fn a_mode_that_was_set_for_a_peer_is_nobodys_change_here() {
    for mut mesh in pairs() {
        mesh.write(1, "f", "contents");
        mesh.in_sync();
        fail(&mut mesh, 2, 500_000, &["stat"]);
        mesh.disk(1).user_chmod(b"f", 0o600).unwrap();
        let wait = mesh.random.between(0, 15 * SECOND);
        mesh.run_for(wait);
        fail(&mut mesh, 2, 0, &[]);
        mesh.in_sync();
        assert_eq!(mesh.activity(2).unwrap().0, 0, "seed {}: versions that n2 made", mesh.seed);
        assert_eq!(mesh.disk(1).snapshot(), mesh.disk(2).snapshot(), "seed {}", mesh.seed);
    }
}

/// What changed in a directory while the agent was off is found although the start scan couldn't look at the directory.
#[test]
fn what_changed_in_a_directory_that_a_start_couldnt_look_at_is_found() {
    for mut mesh in filled() {
        mesh.kill(1);
        mesh.write(1, "d/0", "changed while nobody looked");
        mesh.write(1, "d/new", "made while nobody looked");
        fail(&mut mesh, 1, 1_000_000, &["stat"]);
        mesh.start(1);
        mesh.run_for(3 * SECOND);
        fail(&mut mesh, 1, 0, &[]);
        mesh.run_for(20 * SECOND);
        mesh.in_sync();
        assert_eq!(mesh.read(2, "d/0").unwrap(), b"changed while nobody looked", "seed {}", mesh.seed);
        assert_eq!(mesh.read(2, "d/new").unwrap(), b"made while nobody looked", "seed {}", mesh.seed);
    }
}

/// A directory that can't be opened, listed or looked into, or that shows a part of what is in it: nothing of it is deleted
/// anywhere, nothing is declared, and afterwards everything goes on.
#[test]
fn a_directory_that_cant_be_looked_at_deletes_nothing() {
    let calls: [&'static [&'static str]; 5] = [&["open_directory"], &["list"], &["stat"], &["read_marker"], &["watch"]];
    for calls in calls {
        for share in [200_000, 1_000_000] {
            for mut mesh in filled().take(10) {
                let before = mesh.activity(1).unwrap().0;
                fail(&mut mesh, 1, share, calls);
                for _ in 0..4 {
                    mesh.rescan(1, false);
                    mesh.run_for(3 * SECOND);
                }
                assert_eq!(mesh.names(2).len(), 31, "seed {}, {calls:?}: {:?}", mesh.seed, mesh.names(2));
                if share == 1_000_000 {
                    assert!(!mesh.status(1).unwrap().volumes[0].in_sync, "seed {}, {calls:?}", mesh.seed);
                    assert!(!message(&mut mesh, 1).is_empty(), "seed {}, {calls:?}", mesh.seed);
                }
                mesh.write(2, "d/3", "edited elsewhere");
                mesh.run_for(SECOND);
                fail(&mut mesh, 1, 0, &[]);
                mesh.in_sync();
                assert_eq!(mesh.activity(1).unwrap().0, before, "seed {}, {calls:?}: versions that n1 made", mesh.seed);
                assert_eq!(mesh.read(1, "d/3").unwrap(), b"edited elsewhere", "seed {}", mesh.seed);
            }
        }
    }
}

/// A file that can't be read keeps its version everywhere, and an edit of it waits until it can.
#[test]
fn a_file_that_cant_be_read_keeps_the_version_that_it_had() {
    for mut mesh in filled() {
        fail(&mut mesh, 1, 1_000_000, &["open", "file.read_at"]);
        mesh.write(1, "d/3", "edited, and unreadable");
        mesh.run_for(15 * SECOND);
        assert_eq!(mesh.read(2, "d/3").unwrap(), b"contents 3", "seed {}", mesh.seed);
        let said = message(&mut mesh, 1);
        assert!(said.contains("d/3: can't be read"), "seed {}: {said}", mesh.seed);
        fail(&mut mesh, 1, 0, &[]);
        mesh.in_sync();
        assert_eq!(mesh.read(2, "d/3").unwrap(), b"edited, and unreadable", "seed {}", mesh.seed);
    }
}

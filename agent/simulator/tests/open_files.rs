//! Programs that hold files open (SYNC 6), and clocks too coarse to show every change (SYNC 5).
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_core::policy::Policy;
use syncmesh_simulator::UserFile;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 60;
const SECOND: u64 = 1_000_000_000;

fn meshes(shape: Shape) -> impl Iterator<Item = Mesh> {
    (1..=SEEDS).map(move |seed| Mesh::new(seed, shape.clone()))
}

/// All files' contents, by no name.
fn contents(mesh: &Mesh, node: u32) -> Vec<Vec<u8>> {
    let mut contents: Vec<_> = mesh.disk(node).snapshot().into_values().map(|shown| shown.contents).collect();
    contents.sort();
    contents
}

/// A file on both nodes, which a program on node 2 has open for writing.
fn held(mesh: &mut Mesh) -> UserFile {
    mesh.write(1, "f", b"first");
    mesh.in_sync();
    mesh.disk(2).user_create_open(b"f").unwrap()
}

/// A new version waits for the program; closed, the old one is replaced.
#[test]
fn what_a_program_has_open_is_replaced_when_it_is_closed() {
    for mut mesh in meshes(Shape::default()) {
        let file = held(&mut mesh);
        mesh.write(1, "f", b"second");
        mesh.run_for(5 * SECOND);
        assert_eq!(mesh.read(2, b"f").unwrap(), b"first", "seed {}", mesh.seed);
        let why = format!("{:?}", mesh.status(2).unwrap().volumes);
        assert!(why.contains("open for writing"), "seed {}: {why}", mesh.seed);
        mesh.disk(2).user_close(file);
        mesh.in_sync();
        assert_eq!(contents(&mesh, 2), [b"second"], "seed {}", mesh.seed);
        assert_eq!(contents(&mesh, 1), [b"second"], "seed {}", mesh.seed);
    }
}

/// A large version is fetched once, however long it waits.
#[test]
fn what_waits_for_a_program_is_fetched_once() {
    for mut mesh in meshes(Shape::default()).take(20) {
        let file = held(&mut mesh);
        let new = vec![b'n'; 300_000];
        mesh.write(1, "f", &new);
        mesh.run_for(5 * SECOND);
        mesh.disk(2).user_close(file);
        mesh.in_sync();
        assert!(mesh.read(2, b"f").unwrap() == new, "seed {}", mesh.seed);
        assert_eq!(mesh.counters(2).unwrap().fetched_bytes, 300_000, "seed {}", mesh.seed);
        assert!(mesh.disk(2).stored_contents().keys().all(|name| name.starts_with(b"store/")), "seed {}", mesh.seed);
    }
}

/// The program doesn't end: the new version takes the name after `openWait`, and what is written to the old one afterwards is
/// a version of its own, decided by policy, also after a kill of the agent.
#[test]
fn what_is_written_through_an_old_descriptor_is_a_version() {
    for policy in [Policy::KeepBoth, Policy::LastWriterWins] {
        for mut mesh in meshes(Shape { policy, ..Shape::default() }) {
            let file = held(&mut mesh);
            mesh.write(1, "f", b"second");
            mesh.run_for(20 * SECOND);
            assert_eq!(mesh.read(2, b"f").unwrap(), b"second", "seed {}", mesh.seed);
            mesh.disk(2).user_write_at(file, b"LATE.", 0).unwrap();
            if mesh.random.once_in(2) {
                mesh.kill(2);
                mesh.start(2);
                let pause = mesh.random.between(0, SECOND);
                mesh.run_for(pause);
            }
            if mesh.random.once_in(2) {
                mesh.run_for(10 * SECOND);
            }
            mesh.disk(2).user_close(file);
            mesh.run_for(10 * SECOND);
            mesh.in_sync();
            let end = contents(&mesh, 1);
            assert_eq!(end, contents(&mesh, 2), "seed {}", mesh.seed);
            match policy {
                Policy::KeepBoth => assert_eq!(end, [b"LATE.".to_vec(), b"second".to_vec()], "seed {}", mesh.seed),
                _ => assert_eq!(end, [b"LATE."], "seed {}: it was written last", mesh.seed),
            }
        }
    }
}

/// An agent that is killed at any moment while it looks after such a file loses nothing of it.
#[test]
fn a_kill_while_displaced_files_are_looked_after_loses_nothing() {
    for mut mesh in (1..=5 * SEEDS).map(|seed| Mesh::new(seed, Shape::default())) {
        let file = held(&mut mesh);
        mesh.write(1, "f", b"second");
        mesh.run_for(20 * SECOND);
        mesh.disk(2).user_write_at(file, b"LATE.", 0).unwrap();
        mesh.disk(2).user_close(file);
        for _ in 0..3 {
            let steps = mesh.random.between(0, 600);
            mesh.take_steps(steps);
            mesh.kill(2);
            mesh.start(2);
        }
        mesh.run_for(20 * SECOND);
        mesh.in_sync();
        assert_eq!(contents(&mesh, 1), [b"LATE.".to_vec(), b"second".to_vec()], "seed {}", mesh.seed);
        assert_eq!(contents(&mesh, 2), contents(&mesh, 1), "seed {}", mesh.seed);
    }
}

/// Nothing was written: the old version is a stored version like any other, and nobody hears of it.
#[test]
fn an_old_descriptor_that_writes_nothing_makes_no_version() {
    for mut mesh in meshes(Shape::default()).take(20) {
        let file = held(&mut mesh);
        mesh.write(1, "f", b"second");
        mesh.run_for(20 * SECOND);
        let stored = |mesh: &Mesh| mesh.disk(2).stored_contents().into_keys().collect::<Vec<_>>();
        assert!(stored(&mesh).iter().any(|name| name.ends_with(b"-open")), "seed {}", mesh.seed);
        mesh.disk(2).user_close(file);
        mesh.run_for(10 * SECOND);
        mesh.in_sync();
        assert!(stored(&mesh).iter().all(|name| !name.ends_with(b"-open")), "seed {}", mesh.seed);
        assert_eq!(
            (contents(&mesh, 2), mesh.activity(2).unwrap().0),
            (vec![b"second".to_vec()], 0),
            "seed {}",
            mesh.seed
        );
    }
}

/// A file is deleted elsewhere while a program here writes to it: what it writes wins over the deletion.
#[test]
fn a_deleted_file_that_a_program_writes_to_comes_back() {
    for mut mesh in meshes(Shape::default()) {
        let file = held(&mut mesh);
        mesh.disk(1).user_remove(b"f").unwrap();
        mesh.run_for(5 * SECOND);
        assert_eq!(mesh.read(2, b"f"), None, "seed {}", mesh.seed);
        mesh.disk(2).user_write_at(file, b"LATE.", 0).unwrap();
        mesh.disk(2).user_close(file);
        mesh.run_for(10 * SECOND);
        mesh.in_sync();
        assert_eq!(
            (contents(&mesh, 1), contents(&mesh, 2)),
            (vec![b"LATE.".to_vec()], vec![b"LATE.".to_vec()]),
            "seed {}",
            mesh.seed
        );
    }
}

/// Where nobody tells who has a file open, a displaced one is looked at once more after `openWait`. The status warns.
#[test]
fn without_leases_what_is_written_soon_after_is_a_version() {
    for mut mesh in meshes(Shape::default()).take(20) {
        mesh.kill(2);
        mesh.disk(2).forbid_leases();
        mesh.start(2);
        let file = held(&mut mesh);
        assert!(mesh.status(2).unwrap().warnings[0].contains("open for writing"), "seed {}", mesh.seed);
        mesh.run_for(20 * SECOND);
        mesh.write(1, "f", b"second");
        mesh.in_sync();
        assert_eq!(mesh.read(2, b"f").unwrap(), b"second", "seed {}", mesh.seed);
        mesh.disk(2).user_write_at(file, b"LATE.", 0).unwrap();
        mesh.disk(2).user_close(file);
        mesh.run_for(30 * SECOND);
        mesh.in_sync();
        assert_eq!(contents(&mesh, 1), [b"LATE.".to_vec(), b"second".to_vec()], "seed {}", mesh.seed);
        assert_eq!(contents(&mesh, 2), contents(&mesh, 1), "seed {}", mesh.seed);
    }
}

/// What is written through a mapping moves no time and tells of nothing until the mapping goes.
#[test]
fn what_is_written_through_a_mapping_arrives_when_it_is_closed() {
    for mut mesh in meshes(Shape::default()) {
        let file = mesh.disk(1).user_create_open(b"f").unwrap();
        mesh.disk(1).user_write_at(file, b"mapped", 0).unwrap();
        mesh.in_sync();
        assert_eq!(mesh.read(2, b"f").unwrap(), b"mapped", "seed {}", mesh.seed);
        mesh.disk(1).user_write_mapped(file, b"MAPPED").unwrap();
        if mesh.random.once_in(2) {
            mesh.kill(1);
            mesh.disk(1).user_close(file);
            mesh.start(1);
        } else {
            mesh.disk(1).user_close(file);
        }
        mesh.run_for(5 * SECOND);
        mesh.in_sync();
        assert_eq!(mesh.read(2, b"f").unwrap(), b"MAPPED", "seed {}", mesh.seed);
    }
}

/// Two writes within one tick of a coarse clock, and the first was read between them: size and times are the same.
#[test]
fn a_second_write_within_a_tick_of_the_clock_arrives() {
    for mut mesh in meshes(Shape::default()) {
        for node in 1..=2 {
            mesh.kill(node);
            mesh.disk(node).set_tick(4_000_000);
            mesh.start(node);
        }
        for round in 0..5_u8 {
            mesh.write(1, "f", [b'a', round]);
            let pause = mesh.random.between(0, 3_000_000);
            mesh.run_for(pause);
            mesh.write(1, "f", [b'b', round]);
            mesh.in_sync();
            assert_eq!(mesh.read(2, b"f").unwrap(), [b'b', round], "seed {}", mesh.seed);
        }
    }
}

/// Both nodes unpack the same archive: what the one has only created mustn't meet what the other has whole.
#[test]
fn a_file_that_is_being_made_is_no_version_yet() {
    for mut mesh in meshes(Shape::default()) {
        mesh.in_sync();
        let file = mesh.disk(1).user_create_open(b"f").unwrap();
        mesh.run_for(SECOND / 2);
        assert!(mesh.names(2).is_empty(), "seed {}: {:?}", mesh.seed, mesh.names(2));
        mesh.write(2, "f", b"whole");
        mesh.run_for(SECOND / 4);
        mesh.disk(1).user_write_at(file, b"whole", 0).unwrap();
        mesh.disk(1).user_close(file);
        mesh.in_sync();
        for node in 1..=2 {
            assert_eq!(contents(&mesh, node), [b"whole"], "seed {}, n{node}: {:?}", mesh.seed, mesh.names(node));
        }
    }
}

/// It is recorded once it isn't new any more, although it is never closed.
#[test]
fn a_file_that_stays_open_arrives_all_the_same() {
    for mut mesh in meshes(Shape::default()).take(20) {
        mesh.in_sync();
        let file = mesh.disk(1).user_create_open(b"log").unwrap();
        mesh.disk(1).user_write_at(file, b"a line", 0).unwrap();
        mesh.run_for(3 * SECOND);
        assert_eq!(mesh.read(2, "log").as_deref(), Some(&b"a line"[..]), "seed {}", mesh.seed);
        mesh.disk(1).user_close(file);
    }
}

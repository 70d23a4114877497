//! A node whose disk was put back from an older copy: volume and state as they were at some time.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Mesh, noise, replace};
use std::fs;
use std::path::Path;
use std::process::Command;

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// Two nodes in sync, a copy of the first one's disk, and then changes on both that the copy hasn't.
fn changed_since_the_copy() -> Mesh {
    let mut mesh = Mesh::new(["a", "b"]);
    let root = &mesh.agents[0].volume;
    fs::create_dir_all(root.join("d/e")).unwrap();
    for number in 0..40 {
        fs::write(root.join(format!("d/e/{number}")), noise(number, 900)).unwrap();
    }
    for name in ["edited by a", "edited by b", "deleted by b", "edited here", "edited on both"] {
        fs::write(root.join(name), "as it was").unwrap();
    }
    mesh.start();
    mesh.converge();
    let older = mesh.home().join("older");
    let (a, _) = mesh.pair();
    assert!(a.stop().success());
    copy(&a.place, &older);
    mesh.start();
    let (a, b) = mesh.pair();
    replace(&a.volume.join("edited by a"), b"a's edit");
    fs::write(a.volume.join("new by a"), "a's new file").unwrap();
    replace(&b.volume.join("edited by b"), b"b's edit");
    replace(&b.volume.join("edited on both"), b"b's edit");
    fs::remove_file(b.volume.join("deleted by b")).unwrap();
    fs::write(b.volume.join("d/new by b"), "b's new file").unwrap();
    mesh.converge();
    mesh
}

/// Puts the first node's disk back.
fn put_back(mesh: &mut Mesh) {
    let older = mesh.home().join("older");
    let (a, _) = mesh.pair();
    assert!(a.stop().success());
    fs::remove_dir_all(&a.place).unwrap();
    copy(&older, &a.place);
}

#[test]
fn old_files_are_recognised_as_superseded_and_brought_forward() {
    let mut mesh = changed_since_the_copy();
    put_back(&mut mesh);
    mesh.start();
    mesh.converge();
    mesh.assert_no_conflicts();
    let agent = &mesh.agents[1];
    let read = |name: &str| fs::read(agent.volume.join(name)).unwrap();
    assert_eq!(read("edited by a"), b"a's edit", "what it wrote itself and forgot comes back from the peer");
    assert_eq!(read("new by a"), b"a's new file");
    assert_eq!(read("edited by b"), b"b's edit");
    assert!(fs::metadata(agent.volume.join("deleted by b")).is_err(), "a deletion stays one");
    assert_eq!(agent.names().len(), 2 + 40 + 6);
}

#[test]
fn edits_after_the_disk_was_put_back_survive() {
    let mut mesh = changed_since_the_copy();
    put_back(&mut mesh);
    let root = &mesh.agents[0].volume;
    replace(&root.join("edited here"), b"edited on the old disk");
    replace(&root.join("edited on both"), b"edited on the old disk, too");
    fs::write(root.join("made here"), "made on the old disk").unwrap();
    mesh.start();
    mesh.converge();
    let agent = &mesh.agents[1];
    let read = |name: &str| fs::read(agent.volume.join(name)).unwrap();
    assert_eq!(read("edited here"), b"edited on the old disk");
    assert_eq!(read("made here"), b"made on the old disk");
    let copies: Vec<String> = agent.names().into_iter().filter(|name| name.contains("(conflict ")).collect();
    assert_eq!(copies.len(), 1, "{copies:?}");
    let mut both = [read("edited on both"), read(&copies[0])];
    both.sort();
    assert_eq!(both, [b"b's edit".to_vec(), b"edited on the old disk, too".to_vec()]);
    // What it makes from now on has numbers that nobody has used.
    replace(&mesh.agents[0].volume.join("edited by a"), b"edited again");
    mesh.agents[1].shows("edited by a", b"edited again");
    mesh.converge();
}

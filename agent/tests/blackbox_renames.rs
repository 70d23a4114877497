//! One node renames what another one edits.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Agent, Mesh, noise, replace};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

/// Too large to come with an announcement.
const LARGE: usize = 3_000_000;

fn filled() -> Mesh {
    let mut mesh = Mesh::new(["a", "b"]);
    let root = &mesh.agents[0].volume;
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("small"), "as it was").unwrap();
    fs::write(root.join("d/large"), noise(1, LARGE)).unwrap();
    fs::write(root.join("d/in place"), "as it was").unwrap();
    symlink("old", root.join("link")).unwrap();
    mesh.start();
    mesh.converge();
    mesh
}

fn edit(agent: &Agent) {
    let root = &agent.volume;
    replace(&root.join("small"), b"edited");
    fs::set_permissions(root.join("small"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::write(root.join("d/large"), noise(2, LARGE)).unwrap();
    fs::write(root.join("d/in place"), "edited").unwrap();
    fs::remove_file(root.join("link")).unwrap();
    symlink("new", root.join("link")).unwrap();
}

fn rename(agent: &Agent) {
    let root = &agent.volume;
    fs::create_dir(root.join("e")).unwrap();
    for (from, to) in [("small", "e/small"), ("d/large", "large"), ("d/in place", "d/there"), ("link", "e/link")] {
        fs::rename(root.join(from), root.join(to)).unwrap();
    }
}

fn assert_followed(mesh: &Mesh) {
    mesh.assert_no_conflicts();
    for agent in &mesh.agents {
        let root = &agent.volume;
        assert_eq!(agent.names(), ["d", "d/there", "e", "e/link", "e/small", "large"], "{}", agent.name);
        assert_eq!(fs::read(root.join("e/small")).unwrap(), b"edited");
        assert_eq!(fs::metadata(root.join("e/small")).unwrap().permissions().mode() & 0o777, 0o751);
        assert!(fs::read(root.join("large")).unwrap() == noise(2, LARGE));
        assert_eq!(fs::read(root.join("d/there")).unwrap(), b"edited");
        assert_eq!(fs::read_link(root.join("e/link")).unwrap().as_os_str(), "new");
    }
}

#[test]
fn what_was_edited_while_its_node_was_away_follows() {
    let mut mesh = filled();
    let (a, b) = mesh.pair();
    assert!(b.stop().success());
    rename(a);
    edit(b);
    mesh.start();
    mesh.converge();
    assert_followed(&mesh);
}

#[test]
fn what_was_renamed_while_its_node_was_away_is_followed() {
    let mut mesh = filled();
    let (a, b) = mesh.pair();
    assert!(a.stop().success());
    edit(b);
    rename(a);
    mesh.start();
    mesh.converge();
    assert_followed(&mesh);
}

//! Machines that were copied: both copies run, or one goes on from an older copy of its disk.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Agent, Mesh, free_ports, replace, wait_until, words};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Copies a directory with all that is in it, times and modes included.
fn copy(from: &Path, to: &Path) {
    let output = Command::new("cp").arg("-a").arg(from).arg(to).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
}

/// Waits until an agent warns of something.
fn warns(agent: &Agent, part: &str) {
    wait_until(&format!("{} warns of {part:?}", agent.name), || {
        let status = agent.status().ok_or("it can't be reached")?;
        let warnings = status["warnings"].to_string();
        if warnings.contains(part) { Ok(()) } else { Err(warnings) }
    });
}

#[test]
fn two_running_copies_of_a_node_are_told_apart_and_reported() {
    let mut mesh = Mesh::new(["a", "b"]);
    fs::write(mesh.agents[0].volume.join("file"), "the first").unwrap();
    mesh.start();
    mesh.converge();
    assert!(mesh.agents[1].stop().success());
    let elsewhere = mesh.home().join("copy");
    fs::create_dir(&elsewhere).unwrap();
    let (a_port, b_place) = (mesh.agents[0].port, mesh.agents[1].place.clone());
    copy(&b_place, &elsewhere);
    let mut twin = Agent::new(&elsewhere, "b", free_ports(1)[0]);
    twin.configure("b", &[("a", a_port)], "");
    mesh.start();
    mesh.converge();
    twin.start();
    warns(&twin, "another agent with this node's name has a session with a");
    warns(&mesh.agents[0], "two agents run under the name b");
    // The one that has the session keeps it.
    replace(&mesh.agents[0].volume.join("file"), b"the second");
    mesh.converge();
    // What the other one writes meanwhile isn't lost: it comes when the session is free.
    fs::write(twin.volume.join("of the copy"), "written apart").unwrap();
    mesh.agents[1].kill();
    mesh.agents[0].shows("of the copy", b"written apart");
    twin.shows("file", b"the second");
    twin.in_sync();
    warns(&twin, "[]");
    twin.kill();
}

#[test]
fn a_node_that_is_set_back_to_an_older_copy_of_its_disk_catches_up() {
    let mut mesh = Mesh::new(["a", "b"]);
    for name in ["edited", "deleted", "kept"] {
        fs::write(mesh.agents[0].volume.join(name), "the first").unwrap();
    }
    mesh.start();
    mesh.converge();
    assert!(mesh.agents[1].stop().success());
    let (place, older) = (mesh.agents[1].place.clone(), mesh.home().join("older"));
    copy(&place, &older);
    mesh.start();
    mesh.converge();
    replace(&mesh.agents[1].volume.join("edited"), b"after the copy was made");
    fs::remove_file(mesh.agents[1].volume.join("deleted")).unwrap();
    fs::write(mesh.agents[1].volume.join("new"), "after the copy was made").unwrap();
    mesh.converge();
    assert!(mesh.agents[1].stop().success());
    // The same inodes would need the same disk: what is copied back is looked at anew, and is what the registry says.
    fs::remove_dir_all(&place).unwrap();
    copy(&older, &place);
    mesh.start();
    mesh.converge();
    mesh.assert_no_conflicts();
    assert_eq!(mesh.agents[1].names(), ["edited", "kept", "new"]);
    assert_eq!(fs::read(mesh.agents[1].volume.join("edited")).unwrap(), b"after the copy was made");
}

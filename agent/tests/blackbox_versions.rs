//! What was replaced or deleted comes back.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Agent, Mesh, noise, replace, words};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn versions(agent: &Agent, path: &str) -> Vec<Value> {
    let output = agent.ask(&["versions", path, "-o", "json"]);
    assert!(output.status.success(), "{}", words(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn each_version_that_a_peer_replaced_can_be_restored_and_taken_back() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    let contents: Vec<Vec<u8>> = (0..4).map(|n| noise(n, 20_000 + n as usize)).collect();
    fs::create_dir(mesh.agents[0].volume.join("d")).unwrap();
    let path = mesh.agents[0].volume.join("d/f");
    for version in &contents {
        replace(&path, version);
        mesh.agents[1].shows("d/f", version);
    }
    let b = &mesh.agents[1];
    let listed = versions(b, "d/f");
    let sizes: Vec<u64> = listed.iter().map(|version| version["size"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [20_002, 20_001, 20_000], "newest first");
    assert!(versions(&mesh.agents[0], "d/f").is_empty(), "a user replaced it here: nothing was displaced");

    // By number, to its own name; on all nodes.
    let oldest = listed[2]["version"].as_u64().unwrap();
    let output = b.ask(&["restore", "d/f", "--version", &oldest.to_string()]);
    assert!(output.status.success(), "{}", words(&output));
    mesh.agents[0].shows("d/f", &contents[0]);
    // What it took the name from is stored in its turn; by an absolute path.
    let b = &mesh.agents[1];
    let full = b.volume.join("d/f");
    let output = b.ask(&["restore", full.to_str().unwrap()]);
    assert!(output.status.success(), "{}", words(&output));
    mesh.agents[0].shows("d/f", &contents[3]);
    // As it was at a time, under another name.
    let b = &mesh.agents[1];
    let output = b.ask(&["restore", "d/f", "--at", "1h", "--to", "other/place/f"]);
    assert!(output.status.success(), "{}", words(&output));
    mesh.agents[0].shows("other/place/f", &contents[0]);
    mesh.converge();
    mesh.assert_no_conflicts();
    mesh.stages_are_empty();
}

#[test]
fn a_deleted_directory_returns_with_its_modes() {
    let mut mesh = Mesh::new(["a", "b"]);
    let root = mesh.agents[0].volume.clone();
    fs::create_dir_all(root.join("d/e")).unwrap();
    fs::set_permissions(root.join("d/e"), fs::Permissions::from_mode(0o750)).unwrap();
    for number in 0..15_u64 {
        fs::write(root.join(format!("d/e/{number}")), noise(number, 100)).unwrap();
    }
    fs::set_permissions(root.join("d/e/3"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(root.join("kept"), "kept").unwrap();
    mesh.start();
    mesh.converge();
    fs::remove_dir_all(root.join("d")).unwrap();
    mesh.agents[1].lacks("d");
    mesh.converge();

    let output = mesh.agents[1].ask(&["restore", "d"]);
    assert!(output.status.success() && words(&output).contains("15 files restored"), "{}", words(&output));
    mesh.converge();
    assert_eq!(mesh.agents[0].names().len(), 2 + 15 + 1);
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("d/e"), mode("d/e/3")), (0o750, 0o600));
}

#[test]
fn what_cant_be_restored_is_said() {
    let mut mesh = Mesh::new(["a", "b"]);
    fs::write(mesh.agents[0].volume.join("f"), "one").unwrap();
    mesh.start();
    mesh.converge();
    let a = &mesh.agents[0];
    for (arguments, part) in [
        (&["restore", "f"][..], "no such version of f"),
        (&["restore", "never"], "no such version of never"),
        (&["restore", "/etc/passwd"], "in none of the volumes' directories"),
        (&["restore", "--volume", "other", "f"], "no volume other"),
        (&["restore", "../f"], "is `.` or `..`"),
        (&["versions", ".syncmesh/marker"], ".syncmesh"),
    ] {
        let output = a.ask(arguments);
        assert!(words(&output).contains(part), "{arguments:?}: {}", words(&output));
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    }
    mesh.assert_equal();
}

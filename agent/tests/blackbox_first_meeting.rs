//! Directories that meet with contents: with a seed, and again after a state directory was lost.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Mesh, replace, words};
use std::fs;

#[test]
fn after_its_state_directory_was_lost_a_node_brings_back_nothing_that_was_deleted_meanwhile() {
    let mut mesh = Mesh::new(["a", "b"]);
    let volume = mesh.agents[0].volume.clone();
    fs::create_dir(volume.join("dir")).unwrap();
    for name in ["kept", "gone", "edited", "dir/gone"] {
        fs::write(volume.join(name), format!("the first {name}")).unwrap();
    }
    mesh.start();
    mesh.converge();
    let (a, b) = mesh.pair();
    assert!(b.stop().success());
    fs::remove_dir_all(b.place.join("state")).unwrap();
    for name in ["gone", "edited", "dir/gone"] {
        fs::remove_file(a.volume.join(name)).unwrap();
    }
    fs::remove_dir(a.volume.join("dir")).unwrap();
    replace(&b.volume.join("edited"), b"edited while the agent was down");
    let plan = mesh::run(&["plan", "--config", &b.configuration.to_string_lossy()]);
    assert!(words(&plan).contains("rebuilds the registry"), "{}", words(&plan));
    b.start();
    mesh.converge();
    assert_eq!(mesh.agents[0].names(), ["edited", "kept"]);
    mesh.assert_no_conflicts();
    let stored = mesh.agents[1].stored();
    for name in ["gone", "dir/gone"] {
        let contents = format!("the first {name}").into_bytes();
        assert!(stored.contains(&contents), "{name} isn't in the store");
    }
}

#[test]
fn at_a_first_meeting_the_seed_wins_and_nothing_is_deleted() {
    let mut mesh = Mesh::configured(["a", "b"], "    seed: a\n");
    for agent in &mesh.agents {
        fs::create_dir(agent.volume.join("dir")).unwrap();
        fs::write(agent.volume.join("dir/same"), "same").unwrap();
        fs::write(agent.volume.join(format!("dir/only on {}", agent.name)), "x").unwrap();
    }
    // The seed's is the older one.
    fs::write(mesh.agents[0].volume.join("dir/differs"), "a's").unwrap();
    fs::write(mesh.agents[1].volume.join("dir/differs"), "b's").unwrap();
    let plan = mesh::run(&["plan", "--config", &mesh.agents[1].configuration.to_string_lossy()]);
    assert!(words(&plan).contains("what differs from a goes to the version store"), "{}", words(&plan));
    mesh.start();
    mesh.converge();
    assert_eq!(mesh.agents[1].names(), ["dir", "dir/differs", "dir/only on a", "dir/only on b", "dir/same"]);
    assert_eq!(fs::read(mesh.agents[1].volume.join("dir/differs")).unwrap(), b"a's");
    mesh.assert_no_conflicts();
    assert!(mesh.agents[1].stored().contains(&b"b's".to_vec()));
}

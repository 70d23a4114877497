//! Full disks: fetching stops and nothing else does.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Agent, Mesh, noise, replace, wait_until, words};
use std::fs;

const MIB: usize = 1 << 20;

fn waits(agent: &Agent, files: u64) {
    wait_until(&format!("{files} files wait for space"), || {
        let status = agent.volume_status().unwrap_or_default();
        if status["noSpaceFiles"] == files { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn a_full_disk_stops_fetching_and_nothing_else_and_goes_on_by_itself() {
    let mut mesh = Mesh::configured(["a", "b"], "    reserve: 1Mi\n    versions: { budget: 100% }\n");
    for name in ["old", "theirs", "edited"] {
        fs::write(mesh.agents[0].volume.join(name), name).unwrap();
    }
    mesh.agents[0].start();
    if !mesh.agents[1].start_on_tmpfs(16 * 1024) {
        return;
    }
    mesh.converge();
    let (a, b) = (mesh.agents[0].volume.clone(), mesh.agents[1].volume.clone());
    fs::write(a.join("large"), noise(1, 30 * MIB)).unwrap();
    waits(&mesh.agents[1], 1);
    let status = mesh.agents[1].volume_status().unwrap();
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("wait for space") && message.contains("`reserve`"), "{status}");
    let waited = mesh.agents[1].ask(&["wait", "--in-sync", "--timeout", "100ms"]);
    assert!(waited.status.code() == Some(1) && words(&waited).contains("wait for space"), "{}", words(&waited));

    // What its user does flows, deletions too; so do deletions of others and what there is room for.
    mesh.stages_are_empty();
    fs::write(b.join("filler"), noise(2, 10 * MIB)).unwrap();
    mesh.agents[0].shows("filler", &noise(2, 10 * MIB));
    fs::write(b.join("edited"), "by b").unwrap();
    mesh.agents[0].shows("edited", b"by b");
    fs::remove_file(b.join("old")).unwrap();
    mesh.agents[0].lacks("old");
    fs::remove_file(a.join("theirs")).unwrap();
    mesh.agents[1].lacks("theirs");
    fs::write(a.join("small"), noise(3, MIB)).unwrap();
    mesh.agents[1].shows("small", &noise(3, MIB));
    fs::write(a.join("later"), noise(4, 8 * MIB)).unwrap();
    waits(&mesh.agents[1], 2);

    // Its user makes room.
    fs::remove_file(b.join("filler")).unwrap();
    mesh.agents[1].shows("later", &noise(4, 8 * MIB));
    waits(&mesh.agents[1], 1);
    fs::remove_file(a.join("large")).unwrap();
    mesh.converge();
    mesh.stages_are_empty();
}

#[test]
fn the_store_gives_way_to_what_comes() {
    let mut mesh = Mesh::configured(["a", "b"], "    reserve: 1Mi\n    versions: { budget: 100% }\n");
    mesh.agents[0].start();
    if !mesh.agents[1].start_on_tmpfs(16 * 1024) {
        return;
    }
    for version in 0..12 {
        let contents = noise(version, 3 * MIB);
        replace(&mesh.agents[0].volume.join("f"), &contents);
        mesh.agents[1].shows("f", &contents);
    }
    mesh.converge();
    let status = mesh.agents[1].volume_status().unwrap();
    let stored = status["storedFiles"].as_u64().unwrap();
    assert!((1..=4).contains(&stored), "{status}");
    assert_eq!(status["storedBytes"].as_u64(), Some(stored * 3 * MIB as u64), "{status}");
    assert_eq!(mesh.agents[1].stored().len() as u64, stored);
    assert!(mesh.agents[1].stored().contains(&noise(10, 3 * MIB)), "the newest of the old ones stay");
    mesh.stages_are_empty();
}

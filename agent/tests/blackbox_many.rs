//! Many files.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Mesh, noise, wait_until};
use std::fs;

/// What an agent may have resident at any time, in bytes.
const MEMORY: u64 = 100 << 20;

#[test]
fn a_hundred_thousand_files_arrive_equal_in_bounded_memory() {
    let mut mesh = Mesh::new(["a", "b"]);
    for directory in 0..200_u64 {
        let path = mesh.agents[0].volume.join(format!("d{directory}"));
        fs::create_dir(&path).unwrap();
        for file in 0..500_u64 {
            fs::write(path.join(format!("f{file}")), noise(directory * 500 + file, 1024)).unwrap();
        }
    }
    mesh.start();
    mesh.converge();
    for agent in &mesh.agents {
        let volume = agent.volume_status().unwrap();
        assert_eq!((&volume["files"], &volume["bytes"]), (&100_000.into(), &102_400_000.into()), "{}", agent.name);
        let peak = agent.peak_memory();
        assert!(peak < MEMORY, "{} had {peak} bytes resident", agent.name);
    }
    mesh.assert_no_conflicts();

    // A start that finds all as it was.
    assert!(mesh.agents.iter_mut().all(|agent| agent.stop().success()));
    mesh.start();
    mesh.converge();
    for agent in &mesh.agents {
        let peak = agent.peak_memory();
        assert!(peak < MEMORY, "{} had {peak} bytes resident after a new start", agent.name);
    }

    // And everything goes, once somebody has said so.
    for directory in 0..200 {
        fs::remove_dir_all(mesh.agents[1].volume.join(format!("d{directory}"))).unwrap();
    }
    wait_until("b holds what it has seen vanish", || {
        let status = mesh.agents[1].volume_status().unwrap_or_default();
        let is_held = status["state"] == "Held" && status["files"] == 0;
        if is_held { Ok(()) } else { Err(status.to_string()) }
    });
    // What the guard lets pass unasked is at most what it allows.
    assert!(mesh.agents[0].names().len() >= 90_000, "{}", mesh.agents[0].names().len());
    assert!(mesh.agents[1].ask(&["holds", "approve"]).status.success());
    mesh.converge();
    assert_eq!(mesh.agents[0].names(), [""; 0]);
    for agent in &mesh.agents {
        let peak = agent.peak_memory();
        assert!(peak < MEMORY, "{} had {peak} bytes resident after all was deleted", agent.name);
    }
}

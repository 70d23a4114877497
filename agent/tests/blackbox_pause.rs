//! Volumes that stand still, and looking at everything again.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Agent, Mesh, noise, wait_until, words};
use std::fs;

fn state(agent: &Agent, state: &str, part: &str) {
    wait_until(&format!("{} is {state}", agent.name), || {
        let status = agent.volume_status().unwrap_or_default();
        let says = status["message"].as_str().unwrap_or_default().contains(part);
        if status["state"] == state && says { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn a_paused_volume_stands_still_until_it_is_resumed_over_restarts_too() {
    let mut mesh = Mesh::new(["a", "b"]);
    fs::write(mesh.agents[0].volume.join("f"), "old").unwrap();
    mesh.start();
    mesh.converge();
    let paused = mesh.agents[1].ask(&["pause", "-o", "json"]);
    assert_eq!(String::from_utf8_lossy(&paused.stdout), "{\"volumes\":[\"docs\"]}\n", "{}", words(&paused));
    state(&mesh.agents[1], "Paused", "syncmesh-agent resume");
    state(&mesh.agents[0], "Degraded", "b has paused this volume");
    fs::write(mesh.agents[0].volume.join("f"), "new").unwrap();
    fs::write(mesh.agents[0].volume.join("large"), noise(1, 3 << 20)).unwrap();
    fs::write(mesh.agents[1].volume.join("theirs"), "of b").unwrap();
    // Killed, not stopped: the order is in the journal.
    mesh.agents[1].restart();
    state(&mesh.agents[1], "Paused", "syncmesh-agent resume");
    mesh.agents[0].connected("b");
    state(&mesh.agents[0], "Degraded", "b has paused this volume");
    let waited = mesh.agents[1].ask(&["wait", "--in-sync", "--timeout", "100ms"]);
    assert!(waited.status.code() == Some(1) && words(&waited).contains("is Paused"), "{}", words(&waited));
    mesh.agents[1].stop();
    mesh.agents[1].start();
    state(&mesh.agents[1], "Paused", "syncmesh-agent resume");
    mesh.agents[1].shows("f", b"old");
    mesh.agents[0].lacks("theirs");
    let wrong = mesh.agents[1].ask(&["resume", "--volume", "other"]);
    assert!(wrong.status.code() == Some(1) && words(&wrong).contains("no volume other"), "{}", words(&wrong));
    let resumed = mesh.agents[1].ask(&["resume", "--volume", "docs"]);
    assert_eq!(words(&resumed), "docs: goes on\n");
    mesh.converge();
    mesh.agents[1].shows("f", b"new");
    mesh.agents[0].shows("theirs", b"of b");
    mesh.assert_no_conflicts();
}

#[test]
fn what_the_configuration_pauses_no_command_resumes() {
    let mut mesh = Mesh::configured(["a"], "    paused: true\n");
    fs::write(mesh.agents[0].volume.join("f"), "one").unwrap();
    mesh.start();
    state(&mesh.agents[0], "Paused", "`paused: true`");
    let refused = mesh.agents[0].ask(&["resume"]);
    let told = words(&refused);
    assert!(refused.status.code() == Some(1) && told.contains("stands in the configuration; take it out"), "{told}");
    assert_eq!(mesh.agents[0].volume_status().unwrap()["files"], 0, "it looked at nothing");
    // It goes on by itself once that is done.
    mesh.agents[0].configure("a", &[], "");
    let a = &mesh.agents[0];
    wait_until("it has found the file", || match a.volume_status() {
        Some(volume) if volume["files"] == 1 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    mesh.agents[0].in_sync();
}

#[test]
fn a_rescan_reads_everything_and_declares_nothing_that_nobody_wrote() {
    let mut mesh = Mesh::new(["a", "b"]);
    let path = mesh.agents[0].volume.join("d");
    fs::create_dir(&path).unwrap();
    for number in 0..200_u64 {
        fs::write(path.join(number.to_string()), noise(number, 1_000)).unwrap();
    }
    mesh.start();
    mesh.converge();
    let again = mesh.agents[0].ask(&["rescan", "--contents"]);
    assert_eq!(words(&again), "docs: is looked at again\n");
    let sequence = mesh.agents[0].volume_status().unwrap()["sequence"].clone();
    mesh.converge();
    assert_eq!(mesh.agents[0].volume_status().unwrap()["sequence"], sequence, "nothing was recorded");
    // And whatever was missed is found.
    fs::write(path.join("77"), "edited").unwrap();
    assert!(mesh.agents[0].ask(&["rescan", "--volume", "docs", "-o", "json"]).status.success());
    mesh.converge();
    mesh.agents[1].shows("d/77", b"edited");
}

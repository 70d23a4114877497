//! Many deletions at once: peers keep everything until somebody says so.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Agent, Mesh, noise, wait_until, words};
use std::fs;

fn filled(files: u64, fields: &str) -> Mesh {
    let mut mesh = Mesh::configured(["a", "b", "c"], fields);
    let root = &mesh.agents[0].volume;
    for directory in 0..9 {
        fs::create_dir(root.join(format!("d{directory}"))).unwrap();
    }
    for number in 0..files {
        fs::write(root.join(format!("d{}/{number}", number % 9)), noise(number, 500)).unwrap();
    }
    mesh.start();
    mesh.converge();
    mesh
}

fn holds(agent: &Agent, files: u64) {
    wait_until("it holds deletions", || {
        let status = agent.volume_status().unwrap_or_default();
        let is_held = status["state"] == "Held" && status["holds"] == files;
        if is_held { Ok(()) } else { Err(status.to_string()) }
    });
}

fn delete(agent: &Agent, from: u64, to: u64) {
    (from..to).for_each(|number| fs::remove_file(agent.volume.join(format!("d{}/{number}", number % 9))).unwrap());
}

#[test]
fn of_900_files_600_deleted_are_held_and_approved_once_for_all_nodes() {
    let mut mesh = filled(900, "");
    delete(&mesh.agents[0], 0, 600);
    holds(&mesh.agents[0], 600);
    // What else happens goes on.
    fs::write(mesh.agents[0].volume.join("more"), "more").unwrap();
    mesh.agents[1].shows("more", b"more");
    fs::write(mesh.agents[1].volume.join("d8/899"), "edited").unwrap();
    mesh.agents[0].shows("d8/899", b"edited");
    for peer in &mesh.agents[1..] {
        assert_eq!(peer.names().len(), 9 + 900 + 1);
    }
    let list = mesh.agents[0].ask(&["holds", "list"]);
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(text.contains("600 paths are held") && text.contains("d0/0") && text.contains("and 100 more"), "{text}");
    let wrong = mesh.agents[0].ask(&["holds", "approve", "--volume", "other"]);
    assert!(words(&wrong).contains("no volume other"), "{}", words(&wrong));
    // A restart changes nothing.
    mesh.agents[0].restart();
    holds(&mesh.agents[0], 600);
    assert!(mesh.agents[0].ask(&["holds", "approve"]).status.success());
    mesh.converge();
    assert_eq!(mesh.agents[2].names().len(), 9 + 300 + 1);
    let none = mesh.agents[0].ask(&["holds", "approve"]);
    assert!(words(&none).contains("nothing is held") && none.status.code() == Some(1), "{}", words(&none));
}

#[test]
fn an_emptied_directory_returns_from_the_peers_when_that_is_rejected() {
    let mut mesh = filled(200, "");
    mesh.agents[0].stop();
    for entry in fs::read_dir(&mesh.agents[0].volume).unwrap().map(Result::unwrap) {
        if entry.file_name() != ".syncmesh" {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    mesh.agents[0].start();
    holds(&mesh.agents[0], 200);
    assert_eq!(mesh.agents[1].names().len(), 9 + 200);
    assert!(mesh.agents[0].ask(&["holds", "reject", "--volume", "docs"]).status.success());
    mesh.converge();
    assert_eq!(mesh.agents[0].names().len(), 9 + 200);
}

#[test]
fn few_deletions_a_moved_directory_and_a_guard_that_is_off_wait_for_nobody() {
    let mut mesh = filled(200, "");
    delete(&mesh.agents[0], 0, 19);
    mesh.converge();
    assert_eq!(mesh.agents[1].names().len(), 9 + 181);
    let root = mesh.agents[0].volume.clone();
    fs::create_dir(root.join("moved")).unwrap();
    (0..9).for_each(|d| fs::rename(root.join(format!("d{d}")), root.join(format!("moved/d{d}"))).unwrap());
    mesh.converge();
    assert_eq!(mesh.agents[1].names().len(), 1 + 9 + 181);

    let mut mesh = filled(200, "    deletionGuard: { files: 0, percent: 100 }\n");
    delete(&mesh.agents[0], 0, 200);
    mesh.converge();
    assert_eq!(mesh.agents[1].names().len(), 9);
}

//! A node whose key was stolen: its certificate is revoked by a list that one agent reads and tells the others.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Agent, Mesh, issue, run, wait_until, words};
use rustix::process::Signal;
use std::fs;

/// One agent reads a list, which isn't there yet.
fn reads_a_list(agent: &Agent) {
    let text = fs::read_to_string(&agent.configuration).unwrap();
    fs::write(&agent.configuration, text.replace(".key\" }", ".key\", revoked: revoked }")).unwrap();
}

/// The CA's list, with one node more, in the place where an agent reads it.
fn revoke(mesh: &Mesh, node: &str, reader: usize) {
    let output = run(&["ca", "revoke", "--node", node, "--ca", mesh.ca.to_str().unwrap()]);
    assert!(output.status.success(), "{}", words(&output));
    hand(mesh, reader, &fs::read(mesh.ca.join("revoked")).unwrap());
}

fn hand(mesh: &Mesh, reader: usize, list: &[u8]) {
    let place = &mesh.agents[reader].place;
    fs::write(place.join("revoked.new"), list).unwrap();
    fs::rename(place.join("revoked.new"), place.join("revoked")).unwrap();
}

#[test]
fn a_revoked_nodes_sessions_end_on_all_and_another_identity_lets_it_in_again() {
    let mut mesh = Mesh::new(["a", "b", "c"]);
    reads_a_list(&mesh.agents[0]);
    mesh.start();
    fs::write(mesh.agents[0].volume.join("before"), "for all").unwrap();
    mesh.converge();
    revoke(&mesh, "c", 0);
    for agent in &mesh.agents[..2] {
        agent.logs(&["its certificate is revoked: the session ends", "peer=c"]);
        agent.says_of("c", &["its certificate is revoked"]);
        mesh.agents[2].says_of(&agent.name, &["this node's certificate is revoked there", "issue it another one"]);
    }
    let status = mesh.agents[2].status().unwrap();
    assert!(status["warnings"].to_string().contains("this node's certificate is revoked"), "{status}");
    fs::write(mesh.agents[0].volume.join("after"), "not for c").unwrap();
    fs::write(mesh.agents[2].volume.join("stolen"), "for nobody").unwrap();
    mesh.agents[1].shows("after", b"not for c");
    // All have it on disk, and nobody a file any more that says so.
    fs::remove_file(mesh.agents[0].place.join("revoked")).unwrap();
    for agent in &mut mesh.agents[..2] {
        assert!(agent.stop().success());
        agent.start();
    }
    mesh.agents[0].connected("b");
    mesh.agents[0].says_of("c", &["its certificate is revoked"]);
    assert_eq!(mesh.agents[1].names(), ["after", "before"]);
    assert_eq!(mesh.agents[2].names(), ["before", "stolen"]);

    let c = &mesh.agents[2];
    for file in ["ca.pem", "c.pem", "c.key"] {
        fs::remove_file(c.place.join(file)).unwrap();
    }
    issue(&mesh.ca, "c", &c.place);
    c.signal(Signal::HUP);
    mesh.converge();
    assert_eq!(mesh.agents[2].names(), ["after", "before", "stolen"]);
    assert_eq!(mesh.agents[2].status().unwrap()["warnings"].to_string(), "[]");
}

#[test]
fn a_list_that_cant_be_believed_is_warned_of_and_changes_nothing() {
    let mut mesh = Mesh::new(["a", "b", "c"]);
    reads_a_list(&mesh.agents[0]);
    mesh.start();
    mesh.converge();
    hand(&mesh, 0, b"nonsense");
    mesh.agents[0].logs(&["the revocation list isn't taken over", "it is no revocation list"]);
    revoke(&mesh, "c", 0);
    let old = fs::read_to_string(mesh.ca.join("revoked")).unwrap();
    mesh.agents[1].says_of("c", &["its certificate is revoked"]);
    let other = mesh.home().join("other-ca");
    mesh::create_ca(&other);
    let output = run(&["ca", "revoke", "--node", "b", "--ca", other.to_str().unwrap()]);
    assert!(output.status.success(), "{}", words(&output));
    let number = |list: &str| list.lines().nth(1).unwrap().replace("number ", "").parse::<u64>().unwrap();
    let later = old.replace(&number(&old).to_string(), &(number(&old) + 9).to_string());
    for (list, why) in [
        (fs::read_to_string(other.join("revoked")).unwrap(), "a CA that this node doesn't trust"),
        (later.replace("node c", "node b"), "isn't that of the mesh's CA"),
        (" ".repeat(1 << 20), "longer than"),
    ] {
        hand(&mesh, 0, list.as_bytes());
        mesh.agents[0].logs(&["the revocation list isn't taken over", why]);
    }
    hand(&mesh, 0, old.as_bytes());
    mesh.agents[0].connected("b");
    mesh.agents[0].says_of("c", &["its certificate is revoked"]);
    wait_until("b still has a session with a", || match mesh.agents[1].peer_status("a") {
        Some(peer) if peer["state"] == "connected" => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

//! One file edited on two nodes that can't talk to each other.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Mesh, replace, words};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;

const LAST_WRITER_WINS: &str = "    conflicts: { policy: lastWriterWins }\n";

/// How the nodes are kept from talking.
#[derive(Clone, Copy)]
enum Apart {
    /// Both stopped in order.
    Stopped,
    /// Both killed.
    Killed,
    /// The second one stands still, and finds its own edit and the peer's at the same time.
    Frozen,
}

/// Lets the two nodes of a mesh edit one file that both know, apart from each other.
fn edit_apart(mesh: &mut Mesh, apart: Apart, name: &str, ours: &[u8], theirs: &[u8]) {
    let (a, b) = mesh.pair();
    match apart {
        Apart::Stopped => assert!(a.stop().success() && b.stop().success()),
        Apart::Killed => {
            a.kill();
            b.kill();
        }
        Apart::Frozen => b.signal(Signal::STOP),
    }
    replace(&a.volume.join(name), ours);
    replace(&b.volume.join(name), theirs);
    match apart {
        Apart::Stopped | Apart::Killed => {
            // The kernel lets go of the port a moment after a kill.
            mesh::wait_until("the ports are free", || {
                [a.port, b.port]
                    .into_iter()
                    .try_for_each(|port| std::net::TcpListener::bind(("127.0.0.1", port)).map(drop))
            });
            mesh.start();
        }
        Apart::Frozen => {
            // Until a has recorded its edit, and has had the time to send it into b's socket.
            mesh::wait_until("a has the edit to send", || {
                let volume = a.volume_status().ok_or("a can't be reached")?;
                if volume["inSync"] == false { Ok(()) } else { Err("a still thinks that it is in sync") }
            });
            b.signal(Signal::CONT);
        }
    }
    mesh.converge();
}

/// The conflict copies on a node: names and contents.
fn copies(mesh: &Mesh, node: usize) -> Vec<(String, Vec<u8>)> {
    let agent = &mesh.agents[node];
    let names = agent.names().into_iter().filter(|name| name.contains("(conflict "));
    names.map(|name| (name.clone(), fs::read(agent.volume.join(name)).unwrap())).collect()
}

fn keeps_both(apart: Apart) {
    let mut mesh = Mesh::new(["a", "b"]);
    fs::create_dir(mesh.agents[0].volume.join("dir")).unwrap();
    fs::write(mesh.agents[0].volume.join("dir/report.txt"), "the first").unwrap();
    mesh.start();
    mesh.converge();
    edit_apart(&mut mesh, apart, "dir/report.txt", b"a's edit", b"b's edit");
    for (node, agent) in mesh.agents.iter().enumerate() {
        let copies = copies(&mesh, node);
        assert_eq!(copies.len(), 1, "{} has {copies:?}", agent.name);
        let (name, loser) = &copies[0];
        let winner = fs::read(agent.volume.join("dir/report.txt")).unwrap();
        let both = BTreeSet::from([winner.as_slice(), loser.as_slice()]);
        assert_eq!(both, BTreeSet::from([&b"a's edit"[..], b"b's edit"]), "{}", agent.name);
        let writer = if loser == b"a's edit" { "a" } else { "b" };
        assert!(name.starts_with(&format!("dir/report (conflict {writer} ")) && name.ends_with(").txt"), "{name}");
        assert_eq!(agent.volume_status().unwrap()["conflicts"], 1, "{}", agent.name);
    }
    mesh.stages_are_empty();

    // An edit of the winner is ordered: it makes no further copy, and settles the conflict.
    replace(&mesh.agents[1].volume.join("dir/report.txt"), b"merged by hand");
    mesh.agents[0].shows("dir/report.txt", b"merged by hand");
    mesh.converge();
    assert_eq!(copies(&mesh, 0).len(), 1);
    // The copy is an ordinary file.
    fs::remove_file(mesh.agents[0].volume.join(&copies(&mesh, 0)[0].0)).unwrap();
    mesh.converge();
    assert_eq!(mesh.agents[1].names(), ["dir", "dir/report.txt"]);
}

fn last_writer_wins(apart: Apart) {
    let mut mesh = Mesh::configured(["a", "b"], LAST_WRITER_WINS);
    fs::write(mesh.agents[0].volume.join("report.txt"), "the first").unwrap();
    mesh.start();
    mesh.converge();
    edit_apart(&mut mesh, apart, "report.txt", b"a's edit", b"b's edit");
    let winner = fs::read(mesh.agents[0].volume.join("report.txt")).unwrap();
    assert!([&b"a's edit"[..], b"b's edit"].contains(&winner.as_slice()), "{winner:?}");
    for agent in &mesh.agents {
        assert_eq!(agent.names(), ["report.txt"], "{}", agent.name);
    }
    let loser: &[u8] = if winner == b"a's edit" { b"b's edit" } else { b"a's edit" };
    let stored: Vec<_> = mesh.agents.iter().flat_map(|agent| agent.stored()).collect();
    assert!(stored.iter().any(|version| version == loser), "no store has the loser: {stored:?}");
    mesh.stages_are_empty();
}

#[test]
fn keep_both_leaves_one_copy_of_the_loser_on_both_nodes_after_both_were_stopped() {
    keeps_both(Apart::Stopped);
}

#[test]
fn keep_both_leaves_one_copy_of_the_loser_on_both_nodes_after_both_were_killed() {
    keeps_both(Apart::Killed);
}

#[test]
fn keep_both_leaves_one_copy_of_the_loser_on_both_nodes_after_one_stood_still() {
    keeps_both(Apart::Frozen);
}

#[test]
fn last_writer_wins_keeps_the_loser_in_the_store_after_both_were_stopped() {
    last_writer_wins(Apart::Stopped);
}

#[test]
fn last_writer_wins_keeps_the_loser_in_the_store_after_both_were_killed() {
    last_writer_wins(Apart::Killed);
}

#[test]
fn last_writer_wins_keeps_the_loser_in_the_store_after_one_stood_still() {
    last_writer_wins(Apart::Frozen);
}

#[test]
fn the_first_rule_that_fits_decides() {
    let rules = "    conflicts: { policy: keepBoth, rules: [ { match: \"*.log\", policy: lastWriterWins } ] }\n";
    let mut mesh = Mesh::configured(["a", "b"], rules);
    mesh.start();
    mesh.converge();
    edit_apart(&mut mesh, Apart::Stopped, "x.log", b"a's", b"b's");
    assert_eq!(mesh.agents[0].names(), ["x.log"]);
    edit_apart(&mut mesh, Apart::Stopped, "x.txt", b"a's", b"b's");
    assert_eq!(copies(&mesh, 1).len(), 1);
}

#[test]
fn equal_edits_are_no_conflict() {
    let mut mesh = Mesh::new(["a", "b"]);
    fs::write(mesh.agents[0].volume.join("same"), "the first").unwrap();
    mesh.start();
    mesh.converge();
    edit_apart(&mut mesh, Apart::Stopped, "same", b"the second", b"the second");
    mesh.assert_no_conflicts();
    assert_eq!(mesh.agents[0].names(), ["same"]);
}

#[test]
fn trees_that_meet_for_the_first_time_are_joined() {
    let mut mesh = Mesh::new(["a", "b"]);
    for agent in &mesh.agents {
        fs::create_dir(agent.volume.join("dir")).unwrap();
        fs::write(agent.volume.join("dir/same"), "same").unwrap();
        fs::write(agent.volume.join("dir/different"), format!("{}'s", agent.name)).unwrap();
        fs::write(agent.volume.join(format!("dir/only on {}", agent.name)), "x").unwrap();
    }
    mesh.start();
    mesh.converge();
    let names = mesh.agents[0].names();
    let copies = copies(&mesh, 0);
    assert_eq!(copies.len(), 1, "{names:?}");
    assert!(copies[0].0.starts_with("dir/different (conflict "), "{names:?}");
    assert_eq!(names.len(), 6, "{names:?}");
}

#[test]
fn an_edit_wins_over_a_deletion_that_did_not_know_it() {
    let mut mesh = Mesh::new(["a", "b"]);
    fs::create_dir(mesh.agents[0].volume.join("dir")).unwrap();
    fs::write(mesh.agents[0].volume.join("dir/file"), "the first").unwrap();
    mesh.start();
    mesh.converge();
    let (a, b) = mesh.pair();
    assert!(a.stop().success() && b.stop().success());
    fs::remove_dir_all(a.volume.join("dir")).unwrap();
    replace(&b.volume.join("dir/file"), b"edited");
    mesh.start();
    mesh.converge();
    assert_eq!(fs::read(mesh.agents[0].volume.join("dir/file")).unwrap(), b"edited");
    assert_eq!(mesh.agents[0].names(), ["dir", "dir/file"]);
}

#[test]
fn under_manual_each_node_keeps_its_own_until_somebody_decides() {
    let mut mesh = Mesh::configured(["a", "b"], "    conflicts: { policy: manual }\n");
    fs::write(mesh.agents[0].volume.join("report.txt"), "the first").unwrap();
    mesh.start();
    mesh.converge();
    let (a, b) = mesh.pair();
    assert!(a.stop().success() && b.stop().success());
    replace(&a.volume.join("report.txt"), b"a's edit");
    replace(&b.volume.join("report.txt"), b"b's edit");
    mesh.start();
    for agent in &mesh.agents {
        mesh::wait_until(&format!("{} knows of the conflict", agent.name), || {
            let volume = agent.volume_status().ok_or("it can't be reached")?;
            if volume["state"] == "Held" && volume["conflicts"] == 1 { Ok(()) } else { Err(volume.to_string()) }
        });
        let own = format!("{}'s edit", agent.name);
        assert_eq!(fs::read_to_string(agent.volume.join("report.txt")).unwrap(), own);
    }
    let (a, _) = mesh.pair();
    let waited = a.ask(&["wait", "--in-sync", "--timeout", "100ms"]);
    assert!(!waited.status.success() && words(&waited).contains("conflicts resolve"), "{}", words(&waited));
    let listed = a.ask(&["conflicts", "list", "-o", "json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let conflict = &listed[0]["paths"][0];
    assert_eq!((&conflict["path"], &conflict["undecided"]), (&"report.txt".into(), &true.into()), "{listed}");
    assert_eq!((&conflict["versions"][0]["node"], &conflict["versions"][1]["node"]), (&"a".into(), &"b".into()));
    let resolved = a.ask(&["conflicts", "resolve", "report.txt", "remote"]);
    assert!(resolved.status.success(), "{}", words(&resolved));
    a.shows("report.txt", b"b's edit");
    mesh::wait_until("a has stored its own", || {
        if a.stored().contains(&b"a's edit".to_vec()) { Ok(()) } else { Err("it hasn't") }
    });
    mesh.converge();
    mesh.assert_no_conflicts();
    assert_eq!(mesh.agents[0].names(), ["report.txt"]);
}

#[test]
fn a_decision_takes_a_conflict_off_the_list_of_all_nodes() {
    let mut mesh = Mesh::new(["a", "b"]);
    fs::write(mesh.agents[0].volume.join("report.txt"), "the first").unwrap();
    mesh.start();
    mesh.converge();
    edit_apart(&mut mesh, Apart::Stopped, "report.txt", b"a's edit", b"b's edit");
    let listed = mesh.agents[0].ask(&["conflicts", "list"]);
    assert!(words(&listed).contains("report (conflict "), "{}", words(&listed));
    let resolved = mesh.agents[0].ask(&["conflicts", "resolve", "report.txt", "local"]);
    assert!(resolved.status.success(), "{}", words(&resolved));
    mesh.converge();
    for agent in &mesh.agents {
        assert_eq!(agent.volume_status().unwrap()["conflicts"], 0, "{}", agent.name);
    }
    assert_eq!(copies(&mesh, 1).len(), 1, "the copy is a file like others");
    assert!(words(&mesh.agents[1].ask(&["conflicts", "list"])).contains("there are no conflicts"));
}

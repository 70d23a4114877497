//! A configuration that changes while the agent runs: taken over as a whole, or refused as a whole, with the reason.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Agent, Mesh, VOLUME, wait_until, words};
use rustix::process::Signal;
use std::fs;

/// Writes another configuration in one step, as an editor does.
fn configure(agent: &Agent, change: impl FnOnce(&str) -> String) {
    let text = change(&fs::read_to_string(&agent.configuration).unwrap());
    let new = agent.place.join("agent.yaml.new");
    fs::write(&new, text).unwrap();
    fs::rename(new, &agent.configuration).unwrap();
}

/// Waits until the status warns with all of these words, or of nothing if there are none.
#[track_caller]
fn warns(agent: &Agent, parts: &[&str]) {
    wait_until(&format!("{} warns of {parts:?}", agent.name), || {
        let status = agent.status().ok_or("it can't be reached")?;
        let warnings = status["warnings"].to_string();
        let fits = if parts.is_empty() { warnings == "[]" } else { parts.iter().all(|part| warnings.contains(part)) };
        if fits { Ok(()) } else { Err(warnings) }
    });
}

fn member(agent: &Agent) -> String {
    format!("  - {{ node: \"{}\", address: \"127.0.0.1:{}\" }}\n", agent.name, agent.port)
}

#[test]
fn members_come_and_go_without_a_restart() {
    let mut mesh = Mesh::with_peers(&[("a", vec!["b"]), ("b", vec!["a"]), ("c", vec!["a", "b"])], "");
    fs::write(mesh.agents[0].volume.join("old"), "from before").unwrap();
    mesh.start();
    mesh.agents[..2].iter_mut().for_each(Agent::in_sync);
    let c = member(&mesh.agents[2]);
    for agent in &mesh.agents[..2] {
        configure(agent, |text| text.replace("volumes:\n", &format!("{c}volumes:\n")));
        // Both ways: told, and found.
        if agent.name == "a" {
            agent.signal(Signal::HUP);
        }
    }
    mesh.converge();
    mesh.agents[2].shows("old", b"from before");
    let (pid, list) = (mesh.agents[0].pid(), c);
    for agent in &mesh.agents[..2] {
        configure(agent, |text| text.replace(&list, ""));
    }
    for agent in &mesh.agents[..2] {
        wait_until("c is no member", || match agent.peer_status("c") {
            None => Ok(()),
            Some(peer) => Err(peer.to_string()),
        });
    }
    mesh.agents[2].says_of("a", &["doesn't list this node among its peers"]);
    mesh.agents.pop().unwrap().kill();
    fs::write(mesh.agents[1].volume.join("new"), "afterwards").unwrap();
    mesh.converge();
    assert_eq!(mesh.agents[0].pid(), pid);
}

#[test]
fn volumes_come_and_go_and_what_they_are_told_changes() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    mesh.converge();
    let with_second = |text: &str| format!("{text}  - name: second\n    path: second\n");
    for agent in &mesh.agents {
        fs::create_dir(agent.place.join("second")).unwrap();
        configure(agent, with_second);
    }
    fs::write(mesh.agents[0].place.join("second/file"), "in the second").unwrap();
    let there = mesh.agents[1].place.join("second/file");
    wait_until("the second volume is in sync", || match fs::read(&there) {
        Ok(found) if found == b"in the second" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    mesh.converge();
    let starts = |agent: &Agent| agent.log_text().matches("the agent runs").count();
    assert_eq!(mesh.agents.iter().map(starts).collect::<Vec<_>>(), [1, 1], "engines that started");
    // Paused by the configuration, and going on.
    let paused = format!("    path: {VOLUME}\n    paused: true\n");
    configure(&mesh.agents[0], |text| text.replace(&format!("    path: {VOLUME}\n"), &paused));
    let says = |agent: &Agent, state: &str| {
        wait_until(&format!("it is {state}"), || match agent.volume_status() {
            Some(volume) if volume["state"] == state => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    says(&mesh.agents[0], "Paused");
    fs::write(mesh.agents[1].volume.join("file"), "later").unwrap();
    configure(&mesh.agents[0], |text| text.replace("    paused: true\n", ""));
    mesh.agents[0].shows("file", b"later");
    // Without a volume its files stay where they are.
    for agent in &mesh.agents {
        configure(agent, |text| text.replace("  - name: second\n    path: second\n", ""));
    }
    wait_until("the second volume is gone", || match mesh.agents[0].status() {
        Some(status) if status["volumes"].as_array().unwrap().len() == 1 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    mesh.converge();
    assert_eq!(fs::read(&there).unwrap(), b"in the second");
    // It comes back, and is the one that it was: what was deleted meanwhile is deleted.
    fs::remove_file(there).unwrap();
    mesh.agents.iter().for_each(|agent| configure(agent, with_second));
    let here = mesh.agents[0].place.join("second/file");
    wait_until("the file is deleted", || if here.exists() { Err("it is there") } else { Ok(()) });
}

#[test]
fn what_can_not_be_used_is_refused_as_a_whole_and_everything_goes_on() {
    let mut mesh = Mesh::new(["a", "b"]);
    configure(&mesh.agents[0], |text| format!("log: {{ level: warn }}\n{text}"));
    mesh.start();
    mesh.converge();
    let a = &mesh.agents[0];
    let good = fs::read_to_string(&a.configuration).unwrap();
    // One bad field: the good ones beside it aren't taken over either.
    configure(a, |_| format!("{good}    settle: soon\n    paused: true\n"));
    warns(a, &["settle", "isn't in force"]);
    assert!(words(&a.ask(&["status"])).contains("warning: the configuration isn't in force as it stands"));
    assert_ne!(a.volume_status().unwrap()["state"], "Paused");
    a.logs(&["isn't taken over"]);
    a.logs(&["settle: \"soon\" is no duration"]);
    configure(a, |_| "nonsense: [".to_owned());
    warns(a, &["isn't in force"]);
    configure(a, |_| good.replace("node: \"a\"", "node: \"other\""));
    warns(a, &["node can't change while the agent runs"]);
    // It is sound, and can't be run: the one before comes back.
    configure(a, |_| format!("{good}  - name: second\n    path: nowhere\n"));
    warns(a, &["nowhere", "goes on by the configuration before"]);
    fs::write(a.volume.join("file"), "all the same").unwrap();
    mesh.agents[1].shows("file", b"all the same");
    let a = &mesh.agents[0];
    assert!(!a.log_text().contains("INFO"));
    configure(a, |_| good.replace("level: warn", "level: info"));
    warns(a, &[]);
    a.logs(&["INFO", "is in force"]);
    mesh.converge();
}

//! A node that left the mesh is forgotten.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Agent, Mesh, wait_until, words};
use serde_json::{Value, json};
use std::fs;

fn forget(agent: &Agent, node: &str) -> Result<Value, String> {
    let output = agent.ask(&["peers", "forget", node, "-o", "json"]);
    match output.status.code() {
        Some(0) => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        Some(1) => Err(words(&output)),
        _ => panic!("{}", words(&output)),
    }
}

#[test]
fn a_node_that_left_is_forgotten_and_its_versions_stay() {
    let mut mesh = Mesh::new(["a", "b", "c"]);
    mesh.start();
    fs::write(mesh.agents[1].volume.join("of b"), "one").unwrap();
    mesh.converge();
    // A second run of b, which makes nothing.
    mesh.agents[1].restart();
    mesh.converge();
    let refused = forget(&mesh.agents[0], "b").unwrap_err();
    assert!(refused.contains("among `peers`") && refused.contains("take it out"), "{refused}");
    assert!(forget(&mesh.agents[0], "a").unwrap_err().contains("this node itself"));
    assert!(forget(&mesh.agents[0], "nobody").unwrap_err().contains("no node nobody is known"));

    mesh.agents[1].stop();
    let port = mesh.agents[2].port;
    mesh.agents[0].stop();
    mesh.agents[0].configure("a", &[("c", port)], "");
    mesh.agents[0].start();
    mesh.agents[0].in_sync();
    assert_eq!(forget(&mesh.agents[0], "b"), Ok(json!({ "node": "b", "dropped": 1, "kept": 1, "paths": 1 })));
    // The answer comes before the journal has it: a kill within that moment forgets the order.
    wait_until("the order is durable", || {
        let status = mesh.agents[0].volume_status().unwrap_or_default();
        if status["durableLagMs"] == 0 { Ok(()) } else { Err(status.to_string()) }
    });
    // Neither a kill nor what c tells brings it back.
    mesh.agents[0].restart();
    mesh.agents[0].in_sync();
    mesh.agents[0].connected("c");
    assert_eq!(forget(&mesh.agents[0], "b"), Ok(json!({ "node": "b", "dropped": 0, "kept": 1, "paths": 1 })));
    mesh.agents[0].shows("of b", b"one");
    // Written anew by another, nothing mentions b's first run but the vector, which stays: retirement comes later.
    fs::write(mesh.agents[0].volume.join("of b"), "of a now").unwrap();
    mesh.agents[2].shows("of b", b"of a now");

    // It comes back as a member like any other.
    let (b, c) = (mesh.agents[1].port, mesh.agents[2].port);
    mesh.agents[0].stop();
    mesh.agents[0].configure("a", &[("b", b), ("c", c)], "");
    mesh.agents[0].start();
    mesh.agents[1].start();
    mesh.converge();
    mesh.agents[1].shows("of b", b"of a now");
    mesh.assert_no_conflicts();
}

/// A member is taken out and forgotten, much happens, and it comes back, as it was or without its registry: nothing that was
/// deleted returns, and nothing that only it has is lost.
#[test]
fn a_forgotten_member_that_comes_back_brings_nothing_deleted_back() {
    for reset in [false, true] {
        let mut mesh = Mesh::new(["a", "b", "c"]);
        let file = |number: usize| format!("f{number}");
        for number in 0..40 {
            fs::write(mesh.agents[0].volume.join(file(number)), format!("contents {number}")).unwrap();
        }
        mesh.start();
        mesh.converge();
        let ports: Vec<u16> = mesh.agents.iter().map(|agent| agent.port).collect();
        mesh.agents.iter_mut().for_each(|agent| assert!(agent.stop().success()));
        for (this, other, name) in [(0, 2, "c"), (2, 0, "a")] {
            let own = mesh.agents[this].name.clone();
            mesh.agents[this].configure(&own, &[(name, ports[other])], "");
            mesh.agents[this].start();
        }
        mesh.agents[0].in_sync();
        mesh.agents[2].in_sync();
        for agent in [&mesh.agents[0], &mesh.agents[2]] {
            assert_eq!(forget(agent, "b").map(|said| said["node"].clone()), Ok(json!("b")));
        }
        (0..10).for_each(|number| fs::remove_file(mesh.agents[0].volume.join(file(number))).unwrap());
        fs::write(mesh.agents[2].volume.join("made meanwhile"), "by c").unwrap();
        mesh.agents[0].shows("made meanwhile", b"by c");
        mesh.agents[2].lacks("f9");
        fs::write(mesh.agents[1].volume.join("f3"), "edited where it wasn't deleted").unwrap();
        fs::write(mesh.agents[1].volume.join("f20"), "edited by b").unwrap();
        fs::write(mesh.agents[1].volume.join("alone"), "of b").unwrap();
        if reset {
            fs::remove_dir_all(mesh.agents[1].place.join("state")).unwrap();
        }
        for this in [0, 2] {
            assert!(mesh.agents[this].stop().success());
            let own = mesh.agents[this].name.clone();
            let others = ["a", "b", "c"].into_iter().zip(ports.iter().copied()).filter(|(name, _)| *name != own);
            mesh.agents[this].configure(&own, &others.collect::<Vec<_>>(), "");
        }
        mesh.start();
        mesh.converge();
        let names: Vec<String> = mesh.agents[0].names();
        let (copies, names): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.contains("(conflict "));
        let mut expected: Vec<String> = (10..40).chain([3]).map(file).collect();
        expected.extend(["alone".into(), "made meanwhile".into()]);
        expected.sort();
        assert_eq!(names, expected, "reset: {reset}");
        // What b edited while it had no registry has no order with what a has.
        assert_eq!(copies.len(), usize::from(reset), "{copies:?}");
        mesh.agents[0].shows("f3", b"edited where it wasn't deleted");
        mesh.agents[0].shows("f20", b"edited by b");
        assert!(mesh.agents[1].stored().len() >= 9, "what was deleted elsewhere is in b's store");
    }
}

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

//! What changed, and what is wrong: `history`, and the worst paths in `status`.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Agent, Mesh, noise, wait_until, words};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn history(agent: &Agent, arguments: &[&str]) -> Vec<Value> {
    let output = agent.ask(&[&["history", "-o", "json"], arguments].concat());
    assert!(output.status.success(), "{}", words(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn told(changes: &[Value]) -> Vec<(&str, &str, &str, &str)> {
    let text = |change: &'static str, of: &Value| of[change].as_str().unwrap_or("-").to_owned().leak() as &str;
    changes.iter().map(|of| (text("path", of), text("what", of), text("node", of), text("state", of))).collect()
}

#[test]
fn history_tells_who_changed_what_newest_first() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    let (a, b) = (mesh.agents[0].volume.clone(), mesh.agents[1].volume.clone());
    fs::create_dir(a.join("d")).unwrap();
    mesh.converge();
    fs::write(a.join("d/f"), "one").unwrap();
    mesh.converge();
    fs::write(b.join("d/f"), b"two, longer").unwrap();
    mesh.converge();
    fs::write(a.join("d-e"), "beside").unwrap();
    mesh.converge();
    fs::set_permissions(a.join("d/f"), fs::Permissions::from_mode(0o600)).unwrap();
    mesh.converge();
    fs::write(b.join("gone"), "soon").unwrap();
    mesh.converge();
    fs::remove_file(a.join("gone")).unwrap();
    mesh.converge();

    for agent in &mesh.agents {
        let expected = [
            ("gone", "deleted", "a", "current"),
            ("d/f", "attributes", "a", "current"),
            ("d-e", "written", "a", "current"),
            ("d", "made", "a", "current"),
        ];
        assert_eq!(told(&history(agent, &[])), expected, "{}", agent.name);
        assert_eq!(told(&history(agent, &["-n", "2"])), expected[..2]);
        assert_eq!(told(&history(agent, &["d"])), [expected[1], expected[3]]);
    }
    // The version that b's user replaced lies in a's store.
    let file = history(&mesh.agents[0], &["d/f"]);
    let expected =
        [("d/f", "attributes", "a", "current"), ("d/f", "written", "b", "current"), ("d/f", "written", "-", "stored")];
    let mut found = told(&file);
    found.sort_unstable();
    let mut sorted = expected;
    sorted.sort_unstable();
    assert_eq!(found, sorted);
    assert_eq!(file.iter().filter(|change| change["size"] == 11).count(), 2, "{file:?}");
    let table = mesh.agents[1].ask(&["history", b.join("d").to_str().unwrap()]);
    assert!(words(&table).contains("mode or owner"), "{}", words(&table));
    let unknown = mesh.agents[1].ask(&["history", "never"]);
    assert!(unknown.status.code() == Some(1) && words(&unknown).contains("nothing is known of never"));
}

#[test]
fn status_names_the_worst_paths_with_reasons() {
    let mut mesh = Mesh::configured(["a", "b"], "    reserve: 1Mi\n");
    mesh.agents[0].start();
    if !mesh.agents[1].start_on_tmpfs(16 * 1024) {
        return;
    }
    mesh.converge();
    assert_eq!(mesh.agents[1].volume_status().unwrap()["worst"], Value::Array(vec![]));
    for number in 0..12_u64 {
        fs::write(mesh.agents[0].volume.join(format!("large {number}")), noise(number, 17 << 20)).unwrap();
    }
    wait_until("twelve files wait for space", || {
        let status = mesh.agents[1].volume_status().unwrap_or_default();
        if status["noSpaceFiles"] == 12 { Ok(()) } else { Err(status.to_string()) }
    });
    let status = mesh.agents[1].volume_status().unwrap();
    let worst = status["worst"].as_array().unwrap();
    assert_eq!(worst.len(), 10, "{status}");
    let first = &worst[0];
    assert_eq!(first["path"], "large 0", "the one that was written first: {status}");
    assert!(first["reason"].as_str().unwrap().contains("no room for its 17825792 bytes"), "{status}");
    assert!(first["sinceMs"].as_u64().is_some(), "{status}");
    let text = mesh.agents[1].ask(&["status"]);
    assert!(words(&text).contains("worst in docs:\nPATH"), "{}", words(&text));
}

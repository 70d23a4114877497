//! The command line: bad configurations, exit codes, output that nobody reads.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{BINARY, Mesh, run, wait_until, words};
use serde_json::json;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const GOOD: &str = "\
node: a
stateDir: state
listen: 127.0.0.1:0
identity: { ca: ca.pem, certificate: a.pem, key: a.key }
peers: [ { node: b, address: \"127.0.0.1:1\" } ]
volumes:
  - name: docs
    path: docs
";

#[track_caller]
fn code(output: &Output, expected: i32) -> String {
    let said = words(output);
    assert_eq!(output.status.code(), Some(expected), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// Runs a command that must end by itself.
#[track_caller]
fn run_to_its_end(arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    let mut child =
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ended = mesh::eventually(Duration::from_secs(20), || child.try_wait().unwrap().map(drop).ok_or(()));
    if ended.is_err() {
        let _ = child.kill();
    }
    let output = child.wait_with_output().unwrap();
    assert!(ended.is_ok(), "{arguments:?} doesn't end: {}", words(&output));
    output
}

#[test]
fn bad_configurations_are_refused_alike_by_check_config_and_run_with_line_and_field() {
    let aliases = (0..12).fold("x0: &x0 [1,2,3,4,5,6,7,8,9]\n".to_owned(), |text, level| {
        let one = format!("*x{level}");
        format!("{text}x{}: &x{} [{}]\n", level + 1, level + 1, [one.as_str(); 9].join(","))
    });
    let cases: Vec<(String, Vec<&str>)> = vec![
        (String::new(), vec!["empty"]),
        ("just a text".into(), vec!["line 1"]),
        ("- a\n- list\n".into(), vec!["line 1"]),
        ("node: [".into(), vec!["line"]),
        ("node: a\n\tstateDir: x\n".into(), vec!["line", "tab"]),
        ("node: a".into(), vec!["stateDir", "identity", "volumes"]),
        (GOOD.replace("node: a\n", "node: Not_A_Name\n"), vec!["line 1", "node"]),
        (GOOD.replace("stateDir", "statedir"), vec!["line 2", "statedir", "stateDir"]),
        (GOOD.replace("127.0.0.1:0", "localhost"), vec!["line 3", "listen"]),
        (GOOD.replace("key: a.key", "key: docs/a.key"), vec!["key"]),
        (GOOD.replace("node: b", "node: a"), vec!["line 5", "peers[0]"]),
        (GOOD.replace("path: docs", "path: state/docs"), vec!["line 8", "path"]),
        (GOOD.replace("stateDir: state", "stateDir: docs/state"), vec!["docs"]),
        (format!("{GOOD}  - name: docs\n    path: other\n"), vec!["line 9", "twice"]),
        (format!("{GOOD}  - name: other\n    path: docs/inside\n"), vec!["line 10", "inside"]),
        (format!("{GOOD}    durability: none\n"), vec!["line 9", "durability", "strict"]),
        (format!("{GOOD}    reserve: 95%\n"), vec!["line 9", "reserve", "90%"]),
        (format!("{GOOD}    conflicts: {{ policy: merge }}\n"), vec!["line 9", "policy", "later"]),
        (format!("{GOOD}    settle: 50\n"), vec!["line 9", "settle"]),
        (format!("{GOOD}    select: {{ exclude: 5 }}\n"), vec!["line 9", "exclude"]),
        (
            format!("{GOOD}connections: 0\nmaxClockSkew: never\nmemory: {{ budget: 1 }}\n"),
            vec!["3 problems", "line 9", "connections", "line 10", "maxClockSkew", "line 11", "budget"],
        ),
        (format!("{GOOD}node: a\n"), vec!["line 9", "node", "twice"]),
        ("[".repeat(100_000), vec!["line 1"]),
        (aliases, vec!["line"]),
        ("a: ".repeat(10_000), vec!["line 1"]),
        ("\0\0\0".into(), vec![]),
        ("node: \"\\u0007\\e[31m\"\n".into(), vec!["line 1"]),
    ];
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("agent.yaml");
    let path = file.to_str().unwrap();
    for (text, parts) in &cases {
        fs::write(&file, text).unwrap();
        let start: String = text.chars().take(200).collect();
        for arguments in [&["check-config", path][..], &["run", "--config", path], &["plan", "--config", path]] {
            let output = run_to_its_end(arguments);
            assert_eq!(output.status.code(), Some(1), "{arguments:?} of {start:?}: {}", words(&output));
            let said = words(&output);
            assert!(said.contains("agent.yaml") && said.contains("problem"), "{arguments:?} of {start:?}: {said}");
            assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} of {start:?}: {said}");
            assert!(!said.contains("panicked") && said.len() < 20_000, "{start:?}: {said}");
            assert!(said.bytes().all(|byte| byte >= b' ' || byte == b'\n'), "control characters: {said:?}");
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is made");
    }
    fs::write(&file, GOOD).unwrap();
    assert_eq!(code(&run(&["check-config", path]), 0), "ok: node a, 1 volume\n");
}

#[test]
fn a_configuration_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let none = directory.path().join("none.yaml");
    let binary = directory.path().join("binary.yaml");
    fs::write(&binary, mesh::noise(1, 10_000)).unwrap();
    for path in [none.to_str().unwrap(), directory.path().to_str().unwrap(), binary.to_str().unwrap()] {
        for arguments in [&["check-config", path][..], &["run", "--config", path], &["plan", "--config", path]] {
            let said = code(&run_to_its_end(arguments), 1);
            assert!(said.contains("can't read the configuration") && said.contains(path), "{said}");
        }
    }
}

#[test]
fn what_only_the_disk_can_tell_is_told_by_run() {
    let mesh = Mesh::new(["a", "b"]);
    let a = &mesh.agents[0];
    let path = a.configuration.to_str().unwrap();
    let refused = || code(&run_to_its_end(&["run", "--config", path]), 1);
    let good = fs::read_to_string(&a.configuration).unwrap();

    let taken = std::net::TcpListener::bind(("127.0.0.1", a.port)).unwrap();
    let said = refused();
    assert!(said.contains("can't listen on") && said.contains(&a.port.to_string()), "{said}");
    drop(taken);

    fs::write(&a.configuration, good.replace("path: docs", "path: nowhere")).unwrap();
    assert!(refused().contains("the directory isn't there"));
    fs::write(&a.configuration, good.replace("path: docs", "path: a.pem")).unwrap();
    let said = refused();
    assert!(said.contains("volume docs") && said.contains("a.pem"), "{said}");
    fs::write(&a.configuration, good.replace("stateDir: state", "stateDir: a.pem")).unwrap();
    let said = refused();
    assert!(said.contains("stateDir") && said.contains("a.pem"), "{said}");
    fs::write(&a.configuration, good.replace("stateDir: state", &format!("stateDir: {}", "d".repeat(120)))).unwrap();
    assert!(refused().contains("shorter stateDir"));
    fs::write(&a.configuration, good.replace("ca.pem", "no.pem")).unwrap();
    let said = refused();
    assert!(said.contains("no.pem") && said.contains("can't read"), "{said}");
}

#[test]
fn the_version_names_the_release_and_the_commit() {
    let said = code(&run(&["--version"]), 0);
    let rest = said.strip_prefix(&format!("syncmesh-agent {} (", env!("CARGO_PKG_VERSION"))).expect("name and release");
    let commit = rest.strip_suffix(")\n").expect("a commit in parentheses");
    let is_hash = commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_hash || commit == "unknown", "{said}");
    let object = format!("{commit}^{{commit}}");
    if let Ok(git) =
        Command::new("git").args(["cat-file", "-e", &object]).current_dir(env!("CARGO_MANIFEST_DIR")).output()
        && is_hash
    {
        assert!(git.status.success(), "{commit} is no commit of this repository: {}", words(&git));
    }
}

#[test]
fn a_command_line_that_cannot_be_read_ends_with_2() {
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["run"],
        &["wait"],
        &["wait", "--in-sync", "--timeout", "soon"],
        &["status", "-o", "yaml"],
        &["ca", "issue", "--ca", "x", "--node", "UPPER", "--out", "y"],
    ] {
        code(&run(arguments), 2);
    }
}

#[test]
fn status_and_wait_end_with_2_where_no_agent_answers() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let path = socket.to_str().unwrap();
    let nobody = |expected: &str| {
        let said = code(&run(&["status", "--socket", path]), 2);
        assert!(said.contains(expected), "{said}");
        let said = code(&run(&["wait", "--in-sync", "--timeout", "1s", "--socket", path]), 2);
        assert!(said.contains(expected), "{said}");
    };
    nobody("is the agent running");
    // One that was killed leaves its socket.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    nobody("is the agent running");
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "no socket").unwrap();
    nobody("can't ask the agent");
    let config = directory.path().join("agent.yaml");
    fs::write(&config, GOOD).unwrap();
    code(&run(&["status", "--config", config.to_str().unwrap()]), 2);
}

#[test]
fn wait_ends_with_0_in_sync_and_with_1_and_the_reason_otherwise() {
    let mut mesh = Mesh::new(["a", "b"]);
    fs::write(mesh.agents[0].volume.join("file"), "x").unwrap();
    mesh.agents[0].start();
    mesh.agents[0].logs(&["admin socket answers"]);
    let a = &mesh.agents[0];
    let said = code(&a.ask(&["wait", "--in-sync", "--timeout", "1s"]), 1);
    assert!(
        said.contains("not in sync") && said.contains("Degraded") && said.contains("member b is missing"),
        "{said}"
    );
    let said = code(&a.ask(&["wait", "--in-sync", "--volume", "other", "--timeout", "1s"]), 1);
    assert!(said.contains("no volume \"other\"") && said.contains("docs"), "{said}");
    mesh.start();
    mesh.converge();
    for arguments in [&["wait", "--in-sync"][..], &["wait", "--in-sync", "--volume", "docs", "--timeout", "30s"]] {
        assert_eq!(code(&mesh.agents[0].ask(arguments), 0), "in sync\n");
    }
    let config = mesh.agents[0].configuration.to_str().unwrap();
    assert_eq!(code(&run(&["wait", "--in-sync", "--config", config]), 0), "in sync\n");
}

#[test]
fn status_tells_people_and_programs_the_same() {
    let mut mesh = Mesh::new(["a", "b"]);
    fs::write(mesh.agents[0].volume.join("file"), "12345").unwrap();
    mesh.start();
    mesh.converge();
    let (a, b) = mesh.pair();
    let status = a.status().unwrap();
    assert_eq!(status["node"], "a");
    assert!(["io_uring", "epoll"].contains(&status["engine"].as_str().unwrap()), "{status}");
    assert!(status["version"].as_str().unwrap().starts_with(env!("CARGO_PKG_VERSION")), "{status}");
    assert!(status["uptimeSeconds"].is_u64() && status["memoryBytes"].as_u64().unwrap() > 1 << 20, "{status}");
    let peer = &status["peers"][0];
    assert_eq!((&peer["node"], &peer["state"]), (&"b".into(), &"connected".into()));
    assert!(peer["sentBytes"].as_u64().unwrap() > 0 && peer["receivedBytes"].as_u64().unwrap() > 0, "{peer}");
    assert!(peer.get("rttMicros").is_some() && peer["lastError"].is_null(), "{peer}");
    let volume = &status["volumes"][0];
    for (field, expected) in [
        ("name", json!("docs")),
        ("state", json!("InSync")),
        ("inSync", json!(true)),
        ("syncedPercent", json!(100)),
        ("files", json!(1)),
        ("bytes", json!(5)),
        ("pendingFiles", json!(0)),
        ("pendingBytes", json!(0)),
        ("conflicts", json!(0)),
        ("holds", json!(0)),
        ("message", json!("")),
    ] {
        assert_eq!(volume[field], expected, "{field} in {volume}");
    }
    assert!(volume["lagMs"].is_u64() && volume["durableLagMs"].is_u64() && volume["lastSync"].is_u64(), "{volume}");
    let table = code(&a.ask(&["status"]), 0);
    assert!(table.contains("node a") && table.contains("InSync") && table.contains("connected"), "{table}");

    b.kill();
    wait_until("a sees that b has gone", || {
        let volume = a.volume_status().unwrap();
        if volume["state"] == "Degraded" && volume["inSync"] == false { Ok(()) } else { Err(volume) }
    });
    let table = code(&a.ask(&["status"]), 0);
    assert!(table.contains("Degraded") && table.contains("no session with b"), "{table}");
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    mesh.in_sync();
    let a = &mesh.agents[0];
    let (socket, config) = (a.socket.to_str().unwrap(), a.configuration.to_str().unwrap());
    for arguments in [
        &["status", "--socket", socket][..],
        &["status", "-o", "json", "--socket", socket],
        &["wait", "--in-sync", "--socket", socket],
        &["plan", "--config", config],
        &["check-config", config],
        &["--version"],
        &["--help"],
        &["run", "--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(BINARY);
        let output =
            command.args(arguments).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let said = words(&output);
        assert!(output.status.success() && said.is_empty(), "{arguments:?} ended with {}: {said}", output.status);
    }
}

#[test]
fn ca_files_are_made_once_and_keys_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (ca, out) = (at("ca"), at("a"));
    let create = ["ca", "create", "--out", &ca];
    let issue = ["ca", "issue", "--ca", &ca, "--node", "a", "--out", &out];
    code(&run(&issue), 1);
    code(&run(&create), 0);
    code(&run(&issue), 0);
    let files = ["ca/ca.pem", "ca/ca.key", "a/ca.pem", "a/a.pem", "a/a.key"];
    let before: Vec<Vec<u8>> = files.iter().map(|file| fs::read(at(file)).unwrap()).collect();
    for key in ["ca/ca.key", "a/a.key"] {
        assert_eq!(fs::metadata(at(key)).unwrap().permissions().mode() & 0o777, 0o600, "{key}");
    }
    let said = code(&run(&create), 1);
    assert!(said.contains("ca"), "{said}");
    let said = code(&run(&issue), 1);
    assert!(said.contains("a.pem") || said.contains("a.key"), "{said}");
    let after: Vec<Vec<u8>> = files.iter().map(|file| fs::read(at(file)).unwrap()).collect();
    assert!(before == after, "nothing is overwritten");
    assert_eq!(fs::read_dir(at("a")).unwrap().count(), 3);
}

#[test]
fn plan_counts_and_writes_nothing() {
    let mesh = Mesh::new(["a", "b"]);
    let a = &mesh.agents[0];
    fs::create_dir(a.volume.join("directory")).unwrap();
    fs::write(a.volume.join("directory/file"), "12345").unwrap();
    fs::write(a.volume.join(std::ffi::OsStr::from_bytes(b"\xff\n")), "1").unwrap();
    let said = code(&run(&["plan", "--config", a.configuration.to_str().unwrap()]), 0);
    assert!(said.contains("docs") && said.contains("first: reads all, deletes nothing"), "{said}");
    assert!(!a.place.join("state").exists() && !a.volume.join(".syncmesh").exists());
}

#[test]
fn an_agent_without_peers_runs_alone_and_is_in_sync() {
    let mut mesh = Mesh::with_peers(&[("a", vec![])], "");
    fs::write(mesh.agents[0].volume.join("file"), "x").unwrap();
    mesh.start();
    mesh.in_sync();
    assert_eq!(mesh.agents[0].volume_status().unwrap()["files"], 1);
}

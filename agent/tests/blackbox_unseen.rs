//! What an agent can't see is unknown, never deleted: files and directories that it may not read, and what something else is
//! mounted over.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Agent, Mesh, noise, wait_until, words};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Root that may read only what its modes allow.
const WITHOUT_OVERRIDE: [&str; 2] = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
const IN_A_NAMESPACE: [&str; 4] = ["unshare", "--mount", "--propagation", "private"];

/// May this be done here?
fn works(program: &[&str]) -> bool {
    let mut command = Command::new(program[0]);
    let done = command.args(&program[1..]).arg("true").stdin(Stdio::null()).stderr(Stdio::null()).status();
    let works = done.is_ok_and(|status| status.success()) && rustix::process::geteuid().is_root();
    if !works {
        println!("not tested: {} isn't allowed here", program[0]);
    }
    works
}

/// Two nodes, of which the first was started by a program, with thirty files in a directory and one beside it.
fn filled(program: &[&str]) -> Mesh {
    let mut mesh = Mesh::new(["a", "b"]);
    let root = &mesh.agents[0].volume;
    fs::create_dir(root.join("d")).unwrap();
    for number in 0..30 {
        fs::write(root.join(format!("d/f{number}")), noise(number, 700)).unwrap();
    }
    fs::write(root.join("beside"), "as it was").unwrap();
    mesh.agents[0].start_by(program);
    mesh.start();
    mesh.converge();
    mesh
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn rescan(agent: &Agent) {
    let output = agent.ask(&["rescan"]);
    assert!(output.status.success(), "{}", words(&output));
}

/// Waits until an agent's status says so of its volume.
fn says(agent: &Agent, what: &str) {
    wait_until(&format!("{} says: {what}", agent.name), || {
        let status = agent.volume_status().unwrap_or_default();
        if status["message"].as_str().is_some_and(|message| message.contains(what)) {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
}

#[test]
fn a_directory_that_cant_be_read_keeps_its_files_on_all_nodes() {
    if !works(&WITHOUT_OVERRIDE) {
        return;
    }
    let mut mesh = filled(&WITHOUT_OVERRIDE);
    let (a, b) = mesh.pair();
    set_mode(&a.volume.join("d"), 0o000);
    rescan(a);
    says(a, "nothing in it counts as changed");
    fs::remove_file(a.volume.join("d/f1")).unwrap();
    fs::write(b.volume.join("d/f3"), "edited elsewhere").unwrap();
    // The rest goes on.
    fs::write(a.volume.join("beside"), "edited").unwrap();
    b.shows("beside", b"edited");
    assert_eq!(b.names().len(), 32, "{:?}", b.names());
    assert_eq!(fs::read(a.volume.join("d/f3")).unwrap(), noise(3, 700), "nothing is put where nobody can look");
    set_mode(&a.volume.join("d"), 0o755);
    a.shows("d/f3", b"edited elsewhere");
    b.lacks("d/f1");
    mesh.converge();
    mesh.assert_no_conflicts();
}

#[test]
fn a_file_that_cant_be_read_keeps_its_version_on_all_nodes() {
    if !works(&WITHOUT_OVERRIDE) {
        return;
    }
    let mut mesh = filled(&WITHOUT_OVERRIDE);
    let (a, b) = mesh.pair();
    let file = a.volume.join("beside");
    set_mode(&file, 0o000);
    fs::write(&file, "edited, and unreadable").unwrap();
    says(a, "beside: can't be read");
    fs::write(a.volume.join("d/f3"), "edited").unwrap();
    b.shows("d/f3", b"edited");
    assert_eq!(fs::read(b.volume.join("beside")).unwrap(), b"as it was");
    set_mode(&file, 0o600);
    b.shows("beside", b"edited, and unreadable");
    mesh.converge();
    mesh.assert_no_conflicts();
}

#[test]
fn what_something_else_is_mounted_over_is_neither_deleted_nor_replaced_by_it() {
    if !works(&IN_A_NAMESPACE) {
        return;
    }
    let mut mesh = filled(&IN_A_NAMESPACE);
    let (a, b) = mesh.pair();
    let (pid, d) = (a.pid().to_string(), a.volume.join("d").display().to_string());
    let inside = |script: &str| {
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--mount", "--", "sh", "-c", script, "sh", &d]).stdin(Stdio::null());
        command.status().unwrap().success()
    };
    if !inside("mount -t tmpfs -o size=1m none \"$1\" && echo x > \"$1\"/mounted") {
        println!("not tested: mounting isn't allowed here");
        return;
    }
    rescan(a);
    says(a, "another mount is in the way");
    fs::write(b.volume.join("d/f3"), "edited elsewhere").unwrap();
    fs::write(b.volume.join("beside"), "edited").unwrap();
    a.shows("beside", b"edited");
    assert_eq!(b.names().len(), 32, "{:?}", b.names());
    assert!(inside("test -e \"$1\"/mounted && ! test -e \"$1\"/f3"), "nothing is put onto what is mounted");
    assert!(inside("umount \"$1\""));
    a.shows("d/f3", b"edited elsewhere");
    mesh.converge();
    mesh.assert_no_conflicts();
    assert_eq!(mesh.agents[1].names().len(), 32);
}

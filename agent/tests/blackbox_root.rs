//! A root that isn't what it was, while the agent runs: moved away, replaced, unmounted. Nothing is taken for a deletion.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Agent, BINARY, Mesh, noise, tree, wait_until};
use std::fs;
use std::process::{Command, Stdio};

fn filled() -> Mesh {
    let mesh = Mesh::new(["a", "b"]);
    let root = &mesh.agents[0].volume;
    for number in 0..60 {
        let directory = root.join(format!("d{}", number % 3));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("f{number}")), noise(number, 700)).unwrap();
    }
    mesh
}

/// Waits until a node says that its volume can't be synchronised.
fn has_failed(agent: &Agent) {
    wait_until(&format!("{} says that its directory isn't what it was", agent.name), || {
        let status = agent.volume_status().unwrap_or_default();
        if status["state"] == "Failed" { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn a_root_that_is_moved_away_and_replaced_deletes_nothing_and_goes_on_when_it_is_back() {
    let mut mesh = filled();
    mesh.start();
    mesh.converge();
    let (a, b) = mesh.pair();
    let kept = tree::read(&b.volume);
    let elsewhere = a.place.join("elsewhere");
    fs::rename(&a.volume, &elsewhere).unwrap();
    fs::create_dir(&a.volume).unwrap();
    fs::write(a.volume.join("in the wrong place"), "x").unwrap();
    has_failed(a);
    // What others write isn't put where nobody would look for it.
    fs::write(b.volume.join("meanwhile"), "written meanwhile").unwrap();
    tree::assert_same(("elsewhere", &kept), ("a", &tree::read(&elsewhere)));
    assert_eq!(a.names(), ["in the wrong place"]);
    fs::remove_dir_all(&a.volume).unwrap();
    fs::rename(&elsewhere, &a.volume).unwrap();
    a.shows("meanwhile", b"written meanwhile");
    mesh.converge();
    assert_eq!(mesh.agents[1].names().len(), kept.len() + 1);
    assert!(mesh.agents[1].stored().is_empty(), "nothing was deleted or replaced");
}

#[test]
fn a_marker_that_vanishes_while_the_agent_runs_deletes_nothing() {
    let mut mesh = filled();
    mesh.start();
    mesh.converge();
    let (a, b) = mesh.pair();
    let kept = tree::read(&b.volume);
    let marker = a.volume.join(".syncmesh/marker");
    let own = fs::read(&marker).unwrap();
    fs::remove_file(&marker).unwrap();
    fs::remove_file(a.volume.join("d0/f0")).unwrap();
    wait_until("a says that it doesn't know this directory", || {
        let status = a.volume_status().unwrap_or_default();
        let message = status["message"].as_str().unwrap_or_default();
        if message.contains("nothing in it counts as changed") { Ok(()) } else { Err(status.to_string()) }
    });
    tree::assert_same(("before", &kept), ("b", &tree::read(&b.volume)));
    fs::write(&marker, own).unwrap();
    b.lacks("d0/f0");
    mesh.converge();
}

/// A mount namespace of its own, with a small file system mounted where a directory is. None where that isn't allowed.
fn namespace(agent: &Agent) -> Option<std::process::Child> {
    let script = format!("mount -t tmpfs -o size=64m none '{}' && echo mounted && exec cat", agent.volume.display());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let mut line = String::new();
    let mut lines = std::io::BufReader::new(child.stdout.take()?);
    std::io::BufRead::read_line(&mut lines, &mut line).ok()?;
    if line != "mounted\n" {
        let _ = child.kill();
        let _ = child.wait();
        return None;
    }
    Some(child)
}

/// A process that is killed when the test ends, however it ends.
struct Guarded(std::process::Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is mounted where an agent's directory is, in a namespace that ends with this.
struct Mounted(Guarded);

impl Mounted {
    fn at(agent: &Agent) -> Option<Mounted> {
        namespace(agent).map(|holder| Mounted(Guarded(holder)))
    }

    /// A program in the namespace.
    fn inside(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        let holder = self.0.0.id().to_string();
        command.args(["--target", &holder, "--mount", "--", program]).args(arguments).stdin(Stdio::null());
        command
    }

    /// The agent, in the namespace.
    fn run(&self, agent: &Agent) -> Guarded {
        let log = fs::File::create(&agent.log).unwrap();
        let mut command = self.inside(BINARY, &["run", "--config", agent.configuration.to_str().unwrap()]);
        Guarded(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

fn has_all(agent: &Agent, files: u64) {
    wait_until("the mounted directory has everything", || {
        let status = agent.volume_status().unwrap_or_default();
        if status["inSync"] == true && status["files"] == files { Ok(()) } else { Err(status.to_string()) }
    });
}

#[test]
fn a_root_that_is_unmounted_deletes_nothing() {
    let mut mesh = Mesh::new(["a", "b"]);
    let Some(mounted) = Mounted::at(&mesh.agents[0]) else {
        println!("not tested: mounting isn't allowed here");
        return;
    };
    let (a, b) = mesh.pair();
    for number in 0..60 {
        fs::write(b.volume.join(format!("f{number}")), noise(number, 700)).unwrap();
    }
    b.start();
    let _agent = mounted.run(a);
    has_all(a, 60);
    let kept = tree::read(&b.volume);
    assert!(a.names().is_empty(), "what is mounted is seen in the namespace only");
    // Lazily, as an administrator does whose device has gone; the agent holds it open.
    assert!(mounted.inside("umount", &["--lazy", a.volume.to_str().unwrap()]).status().unwrap().success());
    has_failed(a);
    fs::write(b.volume.join("meanwhile"), "x").unwrap();
    b.connected("a");
    has_failed(a);
    let mut now = tree::read(&b.volume);
    now.remove(&b"meanwhile"[..]);
    tree::assert_same(("before", &kept), ("b", &now));
    assert!(a.names().is_empty(), "nothing is written below the mount point");
    assert!(b.stored().is_empty());
}

/// As after an error of the disk, when the kernel makes the file system read-only: nothing is lost, nothing is taken for
/// deleted, the status says why, and it goes on when the file system can be written again.
#[test]
fn a_root_that_becomes_read_only_deletes_nothing_and_goes_on_when_it_can_be_written() {
    let mut mesh = Mesh::new(["a", "b"]);
    let Some(mounted) = Mounted::at(&mesh.agents[0]) else {
        println!("not tested: mounting isn't allowed here");
        return;
    };
    let (a, b) = mesh.pair();
    for number in 0..30 {
        fs::write(b.volume.join(format!("f{number}")), noise(number, 700)).unwrap();
    }
    b.start();
    let root = a.volume.to_str().unwrap().to_owned();
    let _agent = mounted.run(a);
    has_all(a, 30);
    assert!(mounted.inside("mount", &["-o", "remount,ro", &root]).status().unwrap().success());
    fs::write(b.volume.join("f0"), "while a can't be written").unwrap();
    fs::remove_file(b.volume.join("f1")).unwrap();
    fs::write(b.volume.join("new"), "new").unwrap();
    wait_until("a says that it is read-only", || {
        let status = a.volume_status().unwrap_or_default().to_string();
        if status.contains("read-only") { Ok(()) } else { Err(status) }
    });
    assert_eq!(b.names().len(), 30, "what b has stays");
    assert!(mounted.inside("mount", &["-o", "remount,rw", &root]).status().unwrap().success());
    has_all(a, 30);
    let shown = mounted.inside("cat", &[&format!("{root}/f0"), &format!("{root}/new")]).output().unwrap();
    assert_eq!(shown.stdout, b"while a can't be writtennew");
    assert!(!mounted.inside("test", &["-e", &format!("{root}/f1")]).status().unwrap().success());
}

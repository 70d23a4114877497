//! Programs that hold files open while others replace them.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Mesh, pause, wait_until};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

fn open(path: &std::path::Path) -> File {
    OpenOptions::new().write(true).open(path).unwrap()
}

#[test]
fn a_file_is_replaced_when_the_program_that_has_it_open_closes_it() {
    let mut mesh = Mesh::configured(["a", "b"], "    openWait: 1h\n");
    mesh.start();
    let (a, b) = (mesh.agents[0].volume.clone(), mesh.agents[1].volume.clone());
    fs::write(a.join("closed"), "first").unwrap();
    mesh.agents[1].shows("closed", b"first");
    mesh.converge();
    let held = open(&b.join("closed"));
    fs::write(a.join("closed"), "second").unwrap();
    wait_until("the status names the program", || {
        let status = mesh.agents[1].ask(&["status"]);
        let text = mesh::words(&status);
        if text.contains("open for writing") { Ok(()) } else { Err(text) }
    });
    assert_eq!(fs::read(b.join("closed")).unwrap(), b"first");
    drop(held);
    mesh.agents[1].shows("closed", b"second");
    mesh.converge();
    mesh.assert_no_conflicts();
}

#[test]
fn a_program_that_holds_a_file_open_loses_nothing_and_keeps_nobody_waiting() {
    let mut mesh = Mesh::configured(["a", "b"], "    openWait: 1s\n");
    mesh.start();
    let (a, b) = (mesh.agents[0].volume.clone(), mesh.agents[1].volume.clone());
    for name in ["never", "deleted"] {
        fs::write(a.join(name), "first").unwrap();
        mesh.agents[1].shows(name, b"first");
    }
    mesh.converge();

    // Not closed: the new version comes all the same, and what the program writes is a version that its closing brings forth,
    // also if the agent was killed meanwhile.
    let held = open(&b.join("never"));
    fs::write(a.join("never"), "second").unwrap();
    mesh.agents[1].shows("never", b"second");
    held.write_all_at(b"late!", 0).unwrap();
    mesh.agents[1].kill();
    mesh.agents[1].start();
    mesh.converge();
    mesh.assert_no_conflicts();
    drop(held);
    mesh.agents[0].shows("never", b"late!");

    // What is deleted elsewhere goes at once, and comes back if the program writes.
    let mut held = open(&b.join("deleted"));
    fs::remove_file(a.join("deleted")).unwrap();
    mesh.agents[1].lacks("deleted");
    held.write_all(b"late!").unwrap();
    drop(held);
    mesh.agents[0].shows("deleted", b"late!");

    mesh.converge();
    let copies: Vec<String> = mesh.agents[0].names().into_iter().filter(|name| name.contains("(conflict ")).collect();
    assert!(copies.len() == 1 && copies[0].starts_with("never (conflict a "), "{copies:?}");
    assert_eq!(fs::read(a.join(&copies[0])).unwrap(), b"second");
    let open_in_store = |agent: &mesh::Agent| {
        let names = fs::read_dir(agent.volume.join(".syncmesh/store")).unwrap();
        names.filter(|name| name.as_ref().unwrap().file_name().to_string_lossy().ends_with("-open")).count()
    };
    assert_eq!(mesh.agents.iter().map(open_in_store).sum::<usize>(), 0);
}

/// Python maps the file, writes to it, lets the agent read, and writes again: the second write moves no time.
#[test]
fn what_is_written_through_a_mapping_arrives() {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        println!("not run: needs python3");
        return;
    }
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    let path = mesh.agents[0].volume.join("f");
    fs::write(&path, vec![b'0'; 8192]).unwrap();
    mesh.converge();
    let script = "import mmap, sys\n\
                  f = open(sys.argv[1], 'r+b')\n\
                  m = mmap.mmap(f.fileno(), 0)\n\
                  f.close()\n\
                  m[0:1] = b'1'\n\
                  print('one', flush=True)\n\
                  sys.stdin.readline()\n\
                  m[1:2] = b'2'\n\
                  m.close()\n";
    let mut program = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(program.stdout.take().unwrap()), &mut line).unwrap();
    // Read while it is mapped.
    let touched = OpenOptions::new().append(true).open(&path).unwrap();
    drop(touched);
    mesh.agents[1].shows("f", &[b"1".to_vec(), vec![b'0'; 8191]].concat());
    pause();
    program.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(program.wait().unwrap().success());
    mesh.agents[1].shows("f", &[b"12".to_vec(), vec![b'0'; 8190]].concat());
    mesh.converge();
    mesh.assert_no_conflicts();
}

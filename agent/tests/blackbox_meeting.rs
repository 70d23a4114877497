//! Directories with contents that meet for the first time: nothing is deleted, and nothing is lost.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Mesh, noise, tree};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Writes a file, and gives it a time.
fn write(path: &Path, contents: &[u8], age: Duration) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
    fs::File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

fn some_tree(root: &Path) {
    for number in 0..120_u64 {
        let path = root.join(format!("d{}/e{}/f{number}", number % 4, number % 3));
        write(&path, &noise(number, 200 + 700 * number as usize), Duration::from_secs(3600 + number));
    }
    std::os::unix::fs::symlink("d0/e0", root.join("link")).unwrap();
}

#[test]
fn equal_directories_join_and_nothing_is_sent_or_replaced() {
    let mut mesh = Mesh::new(["a", "b", "c"]);
    some_tree(&mesh.agents[0].volume);
    for other in 1..3 {
        let from = mesh.agents[0].volume.join(".");
        let copied = Command::new("cp").arg("-a").arg(from).arg(&mesh.agents[other].volume).status().unwrap();
        assert!(copied.success());
    }
    let inodes = |root: &Path| {
        let names = tree::names(root);
        let inode = |name: &Vec<u8>| {
            use std::os::unix::{ffi::OsStrExt, fs::MetadataExt};
            fs::symlink_metadata(root.join(std::ffi::OsStr::from_bytes(name))).unwrap().ino()
        };
        names.iter().map(inode).collect::<Vec<_>>()
    };
    let before: Vec<_> = mesh.agents.iter().map(|agent| inodes(&agent.volume)).collect();
    mesh.start();
    mesh.converge();
    mesh.assert_no_conflicts();
    for (agent, before) in mesh.agents.iter().zip(before) {
        assert_eq!(inodes(&agent.volume), before, "{} replaced files that were equal", agent.name);
        assert!(agent.stored().is_empty(), "{}", agent.name);
    }
}

#[test]
fn a_directory_that_only_one_has_is_copied_to_the_others() {
    let mut mesh = Mesh::new(["a", "b", "c"]);
    some_tree(&mesh.agents[1].volume);
    let before = tree::read(&mesh.agents[1].volume);
    mesh.start();
    mesh.converge();
    tree::assert_same(("before", &before), ("b", &tree::read(&mesh.agents[1].volume)));
}

#[test]
fn of_different_files_the_one_that_was_written_later_has_the_name_whoever_is_scanned_first() {
    let mut mesh = Mesh::new(["a", "b"]);
    let (old, new) = (Duration::from_secs(7200), Duration::from_secs(60));
    let root = |node: usize| mesh.agents[node].volume.clone();
    for (node, name) in ["a", "b"].into_iter().enumerate() {
        let age = |newer: usize| if node == newer { new } else { old };
        write(&root(node).join("d/later on a"), format!("{name}'s").as_bytes(), age(0));
        write(&root(node).join("d/later on b"), format!("{name}'s").as_bytes(), age(1));
        write(&root(node).join("d/same"), b"same", age(0));
        write(&root(node).join(format!("d/only on {name}")), name.as_bytes(), old);
    }
    mesh.start();
    mesh.converge();
    let shown = |name: &str| fs::read(mesh.agents[0].volume.join(name)).unwrap();
    assert_eq!((shown("d/later on a"), shown("d/later on b")), (b"a's".to_vec(), b"b's".to_vec()));
    let copies: BTreeSet<String> =
        mesh.agents[1].names().into_iter().filter(|name| name.contains("(conflict ")).collect();
    assert_eq!(copies.len(), 2, "{copies:?}");
    for (copy, contents) in [("d/later on a (conflict b ", b"b's"), ("d/later on b (conflict a ", b"a's")] {
        let name = copies.iter().find(|name| name.starts_with(copy)).unwrap_or_else(|| panic!("{copies:?}"));
        assert_eq!(shown(name), contents);
    }
}

#[test]
fn under_last_writer_wins_the_older_of_two_different_files_is_stored() {
    let mut mesh = Mesh::configured(["a", "b"], "    conflicts: { policy: lastWriterWins }\n");
    write(&mesh.agents[0].volume.join("f"), b"older", Duration::from_secs(7200));
    write(&mesh.agents[1].volume.join("f"), b"newer", Duration::from_secs(60));
    mesh.start();
    mesh.converge();
    assert_eq!(mesh.agents[0].names(), ["f"]);
    assert_eq!(fs::read(mesh.agents[0].volume.join("f")).unwrap(), b"newer");
    assert!(mesh.agents[0].stored().contains(&b"older".to_vec()));
}

#[test]
fn deep_directories_meet_and_what_is_a_file_on_one_and_a_directory_on_the_other_stays_both() {
    let mut mesh = Mesh::new(["a", "b"]);
    let deep = |side: &str| (0..60).map(|depth| format!("level {depth}/")).collect::<String>() + side;
    for agent in &mesh.agents {
        write(&agent.volume.join(deep(&agent.name)), agent.name.as_bytes(), Duration::from_secs(60));
    }
    write(&mesh.agents[0].volume.join("thing"), b"a file", Duration::from_secs(60));
    write(&mesh.agents[1].volume.join("thing/inside"), b"in a directory", Duration::from_secs(7200));
    mesh.start();
    mesh.converge();
    let agent = &mesh.agents[0];
    assert_eq!(fs::read(agent.volume.join(deep("b"))).unwrap(), b"b");
    assert_eq!(fs::read(agent.volume.join("thing/inside")).unwrap(), b"in a directory");
    let copy = agent.names().into_iter().find(|name| name.starts_with("thing (conflict a ")).unwrap();
    assert_eq!(fs::read(mesh.agents[1].volume.join(copy)).unwrap(), b"a file");
}

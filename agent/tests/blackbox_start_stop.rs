//! Starting and stopping: what an agent refuses to start on, and how it ends.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{BINARY, Mesh, noise, replace, tree, wait_until, words};
use redb::{Database, TableDefinition};
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs an agent that is expected to end by itself.
#[track_caller]
fn run_refused(configuration: &Path) -> Output {
    let mut command = Command::new(BINARY);
    command
        .args(["run", "--config"])
        .arg(configuration)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let ended = mesh::eventually(Duration::from_secs(20), || match child.try_wait().unwrap() {
        Some(_) => Ok(()),
        None => Err(()),
    });
    if ended.is_err() {
        let _ = child.kill();
    }
    let output = child.wait_with_output().unwrap();
    assert!(ended.is_ok(), "it runs instead of refusing: {}", words(&output));
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert!(!words(&output).contains("panicked"), "{}", words(&output));
    output
}

fn some_files(volume: &Path) {
    for number in 0..50_u64 {
        let directory = volume.join(format!("d{}", number % 5));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("f{number}")), noise(number, 3000)).unwrap();
    }
}

#[test]
fn an_emptied_directory_is_refused_and_peers_keep_their_files() {
    let mut mesh = Mesh::new(["a", "b"]);
    some_files(&mesh.agents[0].volume);
    mesh.start();
    mesh.converge();
    let (a, b) = mesh.pair();
    let kept = tree::read(&b.volume);
    assert!(a.stop().success());
    fs::remove_dir_all(&a.volume).unwrap();
    let gone = words(&run_refused(&a.configuration));
    assert!(gone.contains("volume docs") && gone.contains("create it, or mount its disk"), "{gone}");
    fs::create_dir(&a.volume).unwrap();
    let empty = words(&run_refused(&a.configuration));
    assert!(empty.contains("volume docs") && empty.contains("isn't the one that this agent knows"), "{empty}");
    assert!(empty.contains("mount it"), "{empty}");

    // As the sentence says: without the state directory everything comes back.
    fs::remove_dir_all(a.place.join("state")).unwrap();
    a.start();
    b.must_run();
    mesh.converge();
    tree::assert_same(("before", &kept), ("b", &tree::read(&mesh.agents[1].volume)));
}

#[test]
fn a_directory_that_is_refused_is_left_untouched() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    mesh.converge();
    let (a, _) = mesh.pair();
    assert!(a.stop().success());
    fs::remove_dir_all(&a.volume).unwrap();
    // As where a disk isn't mounted: the mount point is there.
    fs::create_dir(&a.volume).unwrap();
    run_refused(&a.configuration);
    let left: Vec<_> = fs::read_dir(&a.volume).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "it wrote {left:?}");
}

#[test]
fn a_directory_without_its_marker_or_with_that_of_another_is_refused() {
    let mut mesh = Mesh::new(["a", "b"]);
    some_files(&mesh.agents[0].volume);
    mesh.start();
    mesh.converge();
    let (a, b) = mesh.pair();
    assert!(a.stop().success());
    let marker = a.volume.join(".syncmesh/marker");
    let own = fs::read(&marker).unwrap();
    fs::remove_file(&marker).unwrap();
    let why = words(&run_refused(&a.configuration));
    assert!(why.contains(".syncmesh/marker is missing or differs"), "{why}");
    fs::copy(b.volume.join(".syncmesh/marker"), &marker).unwrap();
    let why = words(&run_refused(&a.configuration));
    assert!(why.contains(".syncmesh/marker is missing or differs"), "{why}");
    fs::write(&marker, own).unwrap();
    a.start();
    mesh.converge();
}

#[test]
fn a_lost_state_directory_is_made_anew_from_files_and_peers() {
    let mut mesh = Mesh::new(["a", "b"]);
    some_files(&mesh.agents[0].volume);
    mesh.start();
    mesh.converge();
    let before = tree::read(&mesh.agents[0].volume);
    let (a, _) = mesh.pair();
    assert!(a.stop().success());
    fs::remove_dir_all(a.place.join("state")).unwrap();
    a.start();
    mesh.converge();
    mesh.assert_no_conflicts();
    tree::assert_same(("before", &before), ("a", &tree::read(&mesh.agents[0].volume)));
}

#[test]
fn a_second_agent_on_one_state_directory_is_refused() {
    let mut mesh = Mesh::new(["a", "b"]);
    some_files(&mesh.agents[0].volume);
    mesh.start();
    mesh.converge();
    let (a, _) = mesh.pair();
    let why = words(&run_refused(&a.configuration));
    assert!(why.contains("stateDir") && why.contains("state"), "{why}");
    assert!(why.contains("lock") || why.contains("another agent") || why.contains("in use"), "{why}");
    // The one that was there first hasn't noticed.
    fs::write(a.volume.join("after"), "x").unwrap();
    mesh.agents[1].shows("after", b"x");
    mesh.converge();
}

#[test]
fn a_terminated_agent_ends_in_time_with_success_and_goes_on_where_it_was() {
    let mut mesh = Mesh::new(["a", "b"]);
    some_files(&mesh.agents[0].volume);
    mesh.start();
    mesh.converge();
    let (a, b) = mesh.pair();
    let began = Instant::now();
    let ended = b.stop();
    assert!(ended.success(), "{ended}");
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    a.logs(&["a session ended", "peer=b", "goodbye"]);
    fs::write(a.volume.join("while b is away"), "x").unwrap();
    b.start();
    mesh.converge();
    mesh.assert_no_conflicts();
}

#[test]
fn an_agent_terminated_in_the_middle_of_its_first_sync_ends_in_time() {
    let mut mesh = Mesh::new(["a", "b"]);
    for number in 0..3000_u64 {
        fs::write(mesh.agents[0].volume.join(format!("f{number}")), noise(number, 2000)).unwrap();
    }
    fs::write(mesh.agents[0].volume.join("large"), noise(9, 32 << 20)).unwrap();
    mesh.start();
    let (_, b) = mesh.pair();
    for aim in [50, 600] {
        wait_until("b has received more", || {
            b.must_run();
            if tree::names(&b.volume).len() >= aim { Ok(()) } else { Err("too few") }
        });
        let began = Instant::now();
        let ended = b.stop();
        assert!(ended.success(), "{ended}");
        assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
        b.start();
    }
    mesh.converge();
    mesh.assert_no_conflicts();
    mesh.stages_are_empty();
}

#[test]
fn an_interrupted_agent_ends_with_success() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    mesh.in_sync();
    let (a, _) = mesh.pair();
    a.signal(Signal::INT);
    assert!(a.ended().success());
}

#[test]
fn a_killed_agent_that_is_started_at_once_gets_its_port_again() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    mesh.in_sync();
    let (a, b) = mesh.pair();
    for round in 0..20 {
        let name = format!("f{}", round % 3);
        let contents = noise(round, 20_000);
        replace(&a.volume.join(&name), &contents);
        b.shows(&name, &contents);
        a.kill();
        a.start();
        a.in_sync();
    }
}

#[test]
fn a_newer_registry_is_refused_and_left_alone() {
    let mut mesh = Mesh::new(["a", "b"]);
    some_files(&mesh.agents[0].volume);
    mesh.start();
    mesh.converge();
    let (a, b) = mesh.pair();
    assert!(a.stop().success());
    let kept = tree::read(&b.volume);
    let file = a.place.join("state/registry.redb");
    let set_format = |format: u32| {
        let database = Database::open(&file).unwrap();
        let transaction = database.begin_write().unwrap();
        let meta: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
        transaction.open_table(meta).unwrap().insert("format", &format.to_le_bytes()[..]).unwrap();
        transaction.commit().unwrap();
    };
    set_format(99);
    let why = words(&run_refused(&a.configuration));
    assert!(why.contains("format 99") && why.contains("newer release") && why.contains("install"), "{why}");
    tree::assert_same(("b", &kept), ("a", &tree::read(&a.volume)));
    set_format(1);
    a.start();
    mesh.converge();
}

#[test]
fn a_registry_that_is_no_registry_is_refused_with_what_to_do() {
    let mut mesh = Mesh::new(["a", "b"]);
    some_files(&mesh.agents[0].volume);
    mesh.start();
    mesh.converge();
    let (a, _) = mesh.pair();
    assert!(a.stop().success());
    let kept = tree::read(&a.volume);
    let registry = a.place.join("state/registry.redb");
    fs::write(&registry, noise(1, 200_000)).unwrap();
    let why = words(&run_refused(&a.configuration));
    assert!(why.contains("registry") && why.contains("move `registry.redb` away"), "{why}");
    // And doing so helps.
    fs::remove_file(&registry).unwrap();
    a.start();
    mesh.converge();
    mesh.assert_no_conflicts();
    tree::assert_same(("before", &kept), ("a", &tree::read(&mesh.agents[0].volume)));
}

#[test]
fn what_is_excluded_stays_on_its_node() {
    let mut mesh = Mesh::configured(["a", "b"], "    select: { exclude: [ \"*.swp\", \"cache/\", \"!keep.swp\" ] }\n");
    let volumes: Vec<_> = mesh.agents.iter().map(|agent| agent.volume.clone()).collect();
    for directory in ["cache/deep", "sub/cache", "sub/other"] {
        fs::create_dir_all(volumes[0].join(directory)).unwrap();
    }
    for name in ["x.swp", "keep.swp", "sub/y.swp", "cache/deep/z", "sub/cache/w", "sub/other/v", "plain"] {
        fs::write(volumes[0].join(name), name).unwrap();
    }
    fs::write(volumes[1].join("x.swp"), "b's own").unwrap();
    mesh.start();
    mesh.in_sync();
    assert_eq!(mesh.agents[1].names(), ["keep.swp", "plain", "sub", "sub/other", "sub/other/v", "x.swp"]);
    // The same while they run; what isn't excluded shows that the rest has been looked at.
    replace(&volumes[0].join("sub/new.swp"), b"no");
    fs::write(volumes[0].join("cache/new"), "no").unwrap();
    fs::create_dir_all(volumes[0].join("other/cache/x")).unwrap();
    fs::rename(volumes[0].join("plain"), volumes[0].join("plain.swp")).unwrap();
    fs::write(volumes[0].join("last"), "yes").unwrap();
    mesh.in_sync();
    let names = mesh.agents[1].names();
    assert_eq!(names, ["keep.swp", "last", "other", "sub", "sub/other", "sub/other/v", "x.swp"]);
    assert_eq!(fs::read(volumes[1].join("x.swp")).unwrap(), b"b's own");
    assert_eq!(fs::read(volumes[0].join("x.swp")).unwrap(), b"x.swp");
    assert!(volumes[0].join("cache/deep/z").exists() && volumes[0].join("plain.swp").exists());
}

#[test]
fn what_is_excluded_keeps_its_directories_from_nobody() {
    let mut mesh = Mesh::configured(["a", "b"], "    select: { exclude: [\"*.tmp\"] }\n");
    mesh.start();
    let (a, b) = (mesh.agents[0].volume.clone(), mesh.agents[1].volume.clone());
    fs::create_dir_all(a.join("d/e/f")).unwrap();
    mesh.in_sync();
    fs::write(b.join("d/e/f/mine.tmp"), "mine").unwrap();
    fs::remove_dir_all(a.join("d")).unwrap();
    mesh.in_sync();
    assert_eq!(fs::read(b.join("d/e/f/mine.tmp")).unwrap(), b"mine");
    // It is made again elsewhere: both are in it.
    fs::create_dir_all(a.join("d/e")).unwrap();
    fs::write(a.join("d/e/file"), "new").unwrap();
    mesh.in_sync();
    assert_eq!(fs::read(b.join("d/e/file")).unwrap(), b"new");
    assert!(!a.join("d/e/f").exists());
    assert_eq!(fs::read(b.join("d/e/f/mine.tmp")).unwrap(), b"mine");
    // Something selected in a leftover makes it known again.
    fs::write(b.join("d/e/f/theirs"), "theirs").unwrap();
    mesh.in_sync();
    assert_eq!(fs::read(a.join("d/e/f/theirs")).unwrap(), b"theirs");
    mesh.assert_no_conflicts();
}

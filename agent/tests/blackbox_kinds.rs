//! What of a file belongs to its node alone.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::Mesh;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime};

#[test]
fn second_names_are_files_of_their_own_elsewhere() {
    let mut mesh = Mesh::new(["a", "b"]);
    let root = mesh.agents[0].volume.clone();
    fs::write(root.join("one"), "contents").unwrap();
    fs::hard_link(root.join("one"), root.join("two")).unwrap();
    mesh.start();
    mesh.converge();
    let there = mesh.agents[1].volume.clone();
    let inode = |name: &str| fs::metadata(there.join(name)).unwrap().ino();
    assert_ne!(inode("one"), inode("two"));
    // Written through one name here, the others change with it. The kernel reports only the name that was used.
    let edit = |mesh: &mut Mesh, through: &str, names: &[&str]| {
        let contents = format!("edited through {through}");
        fs::write(root.join(through), &contents).unwrap();
        for name in names {
            mesh.agents[1].shows(name, contents.as_bytes());
        }
        mesh.converge();
    };
    edit(&mut mesh, "two", &["one", "two"]);
    // A name that comes later, in another directory, and at once is written through.
    fs::write(root.join("later"), "contents of another").unwrap();
    mesh.converge();
    fs::create_dir(root.join("d")).unwrap();
    fs::hard_link(root.join("later"), root.join("d/other")).unwrap();
    edit(&mut mesh, "d/other", &["later", "d/other"]);
    edit(&mut mesh, "later", &["later", "d/other"]);
    mesh.agents[0].restart();
    edit(&mut mesh, "one", &["one", "two"]);
    // Written on the other node, it is a file of its own here, too.
    fs::set_permissions(there.join("later"), fs::Permissions::from_mode(0o600)).unwrap();
    mesh.converge();
    let mode = |name: &str| fs::metadata(root.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("later"), mode("d/other")), (0o600, fs::metadata(there.join("d/other")).unwrap().mode() & 0o777));
    assert_ne!(mode("d/other"), 0o600);
    mesh.assert_no_conflicts();
}

#[test]
fn setuid_and_setgid_stay_where_they_are_and_the_sticky_bit_arrives() {
    let mut mesh = Mesh::new(["a", "b"]);
    let root = mesh.agents[0].volume.clone();
    let modes = [("uid", 0o4755, 0o755), ("gid", 0o2750, 0o750), ("plain", 0o640, 0o640)];
    for (name, mode, _) in modes {
        fs::write(root.join(name), name).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir(root.join("sticky")).unwrap();
    fs::set_permissions(root.join("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
    mesh.start();
    mesh.in_sync();
    let mode = |node: usize, name: &str| {
        fs::metadata(mesh.agents[node].volume.join(name)).unwrap().permissions().mode() & 0o7777
    };
    for (name, here, there) in modes {
        assert_eq!((mode(0, name), mode(1, name)), (here, there), "{name}");
    }
    assert_eq!(mode(1, "sticky"), 0o1777);
}

#[test]
fn times_of_directories_are_their_nodes_own() {
    let mut mesh = Mesh::new(["a", "b"]);
    let directory = mesh.agents[0].volume.join("d");
    fs::create_dir(&directory).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(1_000_000);
    fs::File::open(&directory).unwrap().set_modified(long_ago).unwrap();
    mesh.start();
    mesh.converge();
    let there = fs::metadata(mesh.agents[1].volume.join("d")).unwrap().modified().unwrap();
    assert!(there > long_ago + Duration::from_secs(900_000));
    assert_eq!(fs::metadata(&directory).unwrap().modified().unwrap(), long_ago);
}

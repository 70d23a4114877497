//! Both sides edited while they were apart: directories and files, under each policy.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Agent, Mesh, replace};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Stops both nodes, lets each side's users do something, and starts them again.
fn apart(mesh: &mut Mesh, on_a: impl FnOnce(&Agent), on_b: impl FnOnce(&Agent)) {
    let (a, b) = mesh.pair();
    assert!(a.stop().success() && b.stop().success());
    on_a(a);
    on_b(b);
    mesh.start();
    mesh.converge();
}

/// Two nodes that have the directory `d` with the files `one`, `two` and `three`.
fn filled(policy: &str) -> Mesh {
    let mut mesh = Mesh::configured(["a", "b"], &format!("    conflicts: {{ policy: {policy} }}\n"));
    let root = &mesh.agents[0].volume;
    fs::create_dir(root.join("d")).unwrap();
    for name in ["one", "two", "three"] {
        fs::write(root.join("d").join(name), name).unwrap();
    }
    mesh.start();
    mesh.converge();
    mesh
}

/// Everything that can still be read anywhere: in volumes and in stores.
fn everything(mesh: &Mesh) -> BTreeSet<Vec<u8>> {
    let files = mesh.agents.iter().flat_map(|agent| {
        let names = agent.names().into_iter().map(|name| agent.volume.join(name));
        names.filter(|path| path.is_file()).map(|path| fs::read(path).unwrap()).collect::<Vec<_>>()
    });
    files.chain(mesh.agents.iter().flat_map(Agent::stored)).collect()
}

fn copies(mesh: &Mesh) -> Vec<String> {
    mesh.agents[0].names().into_iter().filter(|name| name.contains("(conflict ")).collect()
}

/// Edits of different files, new files, a deletion, and a new mode: nothing of that is a conflict, under any policy.
fn what_doesnt_conflict(policy: &str) {
    let mut mesh = filled(policy);
    apart(
        &mut mesh,
        |a| {
            replace(&a.volume.join("d/one"), b"edited on a");
            fs::write(a.volume.join("d/new on a"), "new").unwrap();
            fs::create_dir(a.volume.join("both made")).unwrap();
            fs::write(a.volume.join("both made/a"), "a").unwrap();
        },
        |b| {
            replace(&b.volume.join("d/two"), b"edited on b");
            fs::remove_file(b.volume.join("d/three")).unwrap();
            fs::set_permissions(b.volume.join("d/one"), fs::Permissions::from_mode(0o600)).unwrap();
            fs::create_dir(b.volume.join("both made")).unwrap();
            fs::write(b.volume.join("both made/b"), "b").unwrap();
        },
    );
    mesh.assert_no_conflicts();
    let agent = &mesh.agents[1];
    assert_eq!(
        agent.names(),
        ["both made", "both made/a", "both made/b", "d", "d/new on a", "d/one", "d/two"],
        "{policy}"
    );
    assert_eq!(fs::read(agent.volume.join("d/one")).unwrap(), b"edited on a");
    assert_eq!(fs::read(mesh.agents[0].volume.join("d/two")).unwrap(), b"edited on b");
    for agent in &mesh.agents {
        let mode = fs::metadata(agent.volume.join("d/one")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "the new mode and the new contents both take effect on {}", agent.name);
    }
}

#[test]
fn what_doesnt_conflict_is_joined_under_keep_both() {
    what_doesnt_conflict("keepBoth");
}

#[test]
fn what_doesnt_conflict_is_joined_under_last_writer_wins() {
    what_doesnt_conflict("lastWriterWins");
}

#[test]
fn what_doesnt_conflict_is_joined_under_manual() {
    what_doesnt_conflict("manual");
}

/// A directory that one side deleted and in which the other wrote stays, with what was written, and only that.
fn a_deleted_directory(policy: &str) {
    let mut mesh = filled(policy);
    apart(
        &mut mesh,
        |a| fs::remove_dir_all(a.volume.join("d")).unwrap(),
        |b| {
            fs::write(b.volume.join("d/new"), "new").unwrap();
            replace(&b.volume.join("d/one"), b"edited");
        },
    );
    assert_eq!(mesh.agents[0].names(), ["d", "d/new", "d/one"], "{policy}");
    assert_eq!(fs::read(mesh.agents[0].volume.join("d/one")).unwrap(), b"edited");
}

#[test]
fn a_deleted_directory_in_which_somebody_wrote_stays_under_keep_both() {
    a_deleted_directory("keepBoth");
}

#[test]
fn a_deleted_directory_in_which_somebody_wrote_stays_under_last_writer_wins() {
    a_deleted_directory("lastWriterWins");
}

#[test]
fn a_deleted_directory_in_which_somebody_wrote_stays_under_manual() {
    a_deleted_directory("manual");
}

/// A directory that one side renamed while the other edited a file in it: the edit follows to the new name.
fn a_renamed_directory(policy: &str) {
    let mut mesh = filled(policy);
    apart(
        &mut mesh,
        |a| fs::rename(a.volume.join("d"), a.volume.join("moved")).unwrap(),
        |b| replace(&b.volume.join("d/one"), b"edited"),
    );
    let mut names = mesh.agents[0].names();
    // It may have been made again for the edit before that had followed.
    names.retain(|name| name != "d");
    assert_eq!(names, ["moved", "moved/one", "moved/three", "moved/two"], "{policy}");
    assert_eq!(fs::read(mesh.agents[0].volume.join("moved/one")).unwrap(), b"edited");
    mesh.assert_no_conflicts();
}

#[test]
fn an_edit_in_a_renamed_directory_follows_under_keep_both() {
    a_renamed_directory("keepBoth");
}

#[test]
fn an_edit_in_a_renamed_directory_follows_under_last_writer_wins() {
    a_renamed_directory("lastWriterWins");
}

#[test]
fn an_edit_in_a_renamed_directory_follows_under_manual() {
    a_renamed_directory("manual");
}

/// A file on one side, a directory of its name on the other: the directory keeps the name, the file isn't lost.
fn a_file_against_a_directory(policy: &str) {
    let mut mesh = filled(policy);
    apart(
        &mut mesh,
        |a| replace(&a.volume.join("d/one"), b"edited on a"),
        |b| {
            fs::remove_file(b.volume.join("d/one")).unwrap();
            fs::create_dir(b.volume.join("d/one")).unwrap();
            fs::write(b.volume.join("d/one/inside"), "inside").unwrap();
        },
    );
    assert_eq!(fs::read(mesh.agents[0].volume.join("d/one/inside")).unwrap(), b"inside", "{policy}");
    assert!(everything(&mesh).contains(&b"edited on a"[..]), "{policy}: {:?}", mesh.agents[0].names());
    assert_eq!(copies(&mesh).len(), usize::from(policy == "keepBoth"), "{policy}: {:?}", copies(&mesh));
}

#[test]
fn a_file_against_a_directory_becomes_a_copy_under_keep_both() {
    a_file_against_a_directory("keepBoth");
}

#[test]
fn a_file_against_a_directory_is_stored_under_last_writer_wins() {
    a_file_against_a_directory("lastWriterWins");
}

/// Two edits, and two links, of one name each: one wins on both nodes, the other can be found.
fn two_edits(policy: &str) {
    let mut mesh = filled(policy);
    let edit = |agent: &Agent| {
        replace(&agent.volume.join("d/one"), format!("edited on {}", agent.name).as_bytes());
        std::os::unix::fs::symlink(format!("to {}", agent.name), agent.volume.join("d/link")).unwrap();
    };
    apart(&mut mesh, edit, edit);
    let found = everything(&mesh);
    for name in ["a", "b"] {
        assert!(found.contains(format!("edited on {name}").as_bytes()), "{policy}: {:?}", mesh.agents[0].names());
    }
    let copies = copies(&mesh);
    let expected = if policy == "keepBoth" { 2 } else { 0 };
    assert_eq!(copies.len(), expected, "{policy}: {copies:?}");
}

#[test]
fn of_two_edits_one_becomes_a_copy_under_keep_both() {
    two_edits("keepBoth");
}

#[test]
fn of_two_edits_one_is_stored_under_last_writer_wins() {
    two_edits("lastWriterWins");
}

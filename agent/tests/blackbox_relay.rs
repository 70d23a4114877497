//! Nodes that don't list each other, with one between them.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Mesh, noise, replace};
use std::fs;

fn chain() -> Mesh {
    Mesh::with_peers(&[("a", vec!["b"]), ("b", vec!["a", "c"]), ("c", vec!["b"])], "")
}

#[test]
fn changes_travel_both_ways_through_a_node_between() {
    let mut mesh = chain();
    for number in 0..300_u64 {
        fs::write(mesh.agents[0].volume.join(format!("a{number}")), noise(number, 2_000)).unwrap();
        fs::write(mesh.agents[2].volume.join(format!("c{number}")), noise(number + 500, 2_000)).unwrap();
    }
    fs::write(mesh.agents[0].volume.join("large"), noise(1, 8 << 20)).unwrap();
    mesh.start();
    mesh.agents[2].shows("large", &noise(1, 8 << 20));
    mesh.converge();
    mesh.assert_no_conflicts();
    assert_eq!(mesh.agents[1].names().len(), 601);

    // Ordered edits of one file, to and fro.
    for round in 0..20_u64 {
        let (from, to) = if round % 2 == 0 { (0, 2) } else { (2, 0) };
        let contents = noise(round, 3_000);
        replace(&mesh.agents[from].volume.join("shared"), &contents);
        mesh.agents[to].shows("shared", &contents);
    }
    fs::remove_file(mesh.agents[0].volume.join("c7")).unwrap();
    mesh.agents[2].lacks("c7");
    fs::remove_file(mesh.agents[2].volume.join("a7")).unwrap();
    mesh.agents[0].lacks("a7");
    mesh.converge();
    mesh.assert_no_conflicts();
}

#[test]
fn what_was_written_while_the_node_between_was_away_arrives_when_it_returns() {
    let mut mesh = chain();
    mesh.start();
    mesh.converge();
    assert!(mesh.agents[1].stop().success());
    fs::write(mesh.agents[0].volume.join("from a"), "a").unwrap();
    fs::write(mesh.agents[2].volume.join("from c"), "c").unwrap();
    mesh.agents[1].start();
    mesh.agents[0].shows("from c", b"c");
    mesh.agents[2].shows("from a", b"a");
    mesh.converge();
    mesh.assert_no_conflicts();
}

#[test]
fn a_version_passed_on_before_its_maker_left_isnt_lost() {
    let mut mesh = chain();
    mesh.start();
    mesh.converge();
    assert!(mesh.agents[2].stop().success());
    fs::write(mesh.agents[0].volume.join("early"), "a").unwrap();
    mesh.agents[1].shows("early", b"a");
    assert!(mesh.agents[0].stop().success());
    mesh.agents[2].start();
    mesh.agents[2].shows("early", b"a");
    mesh.agents[0].start();
    mesh.converge();
    mesh.assert_no_conflicts();
}

#[test]
fn three_nodes_that_all_know_each_other_stay_equal_while_all_write_and_one_is_killed() {
    let mut mesh = Mesh::new(["a", "b", "c"]);
    mesh.start();
    mesh.converge();
    for round in 0..60_u64 {
        for agent in &mesh.agents {
            replace(&agent.volume.join(format!("{}{}", agent.name, round % 5)), &noise(round, 4_000));
        }
        if round % 20 == 10 {
            mesh.agents[(round / 20) as usize].restart();
        }
    }
    mesh.converge();
    mesh.assert_no_conflicts();
    mesh.stages_are_empty();
    assert_eq!(mesh.agents[0].names().len(), 15);
}

#[test]
fn a_member_that_joins_late_gets_everything() {
    let mut mesh = Mesh::new(["a", "b", "c"]);
    for number in 0..500_u64 {
        fs::write(mesh.agents[0].volume.join(format!("f{number}")), noise(number, 2_000)).unwrap();
    }
    mesh.agents[0].start();
    mesh.agents[1].start();
    mesh.agents[1].shows("f499", &noise(499, 2_000));
    fs::remove_file(mesh.agents[1].volume.join("f0")).unwrap();
    mesh.agents[0].lacks("f0");
    mesh.agents[2].start();
    mesh.converge();
    mesh.assert_no_conflicts();
    assert_eq!(mesh.agents[2].names().len(), 499);
}

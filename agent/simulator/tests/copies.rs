//! Machines that are set back to older images, copied and run twice, and clocks that are wrong or jump (SYNC 2).
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 30;
const SECOND: u64 = 1_000_000_000;

fn meshes() -> impl Iterator<Item = Mesh> {
    let shape = Shape { nodes: 3, ..Shape::default() };
    (1..=SEEDS).map(move |seed| {
        let mut mesh = Mesh::new(seed, shape.clone());
        for path in ["a", "b", "c"] {
            mesh.write(1, path, "the first");
        }
        mesh.in_sync();
        mesh
    })
}

fn pairs<const N: usize>(expected: [(&str, &str); N]) -> Vec<(String, String)> {
    expected.map(|(path, contents)| (path.to_owned(), contents.to_owned())).to_vec()
}

/// A node that is restored from an older image of disk, registry and journal: its old files are recognised as superseded and
/// brought forward, its lost versions come back from the others, and its new versions are none of the old ones (SYNC 3).
#[test]
fn an_older_image_is_brought_forward_and_what_it_lost_comes_back() {
    for mut mesh in meshes() {
        mesh.kill(2);
        let image = mesh.image(2);
        mesh.start(2);
        mesh.write(2, "a", "after the image, n2");
        mesh.write(1, "b", "after the image, n1");
        mesh.remove(2, b"c");
        mesh.in_sync();
        mesh.kill(2);
        mesh.restore(2, &image);
        // Somebody works on with what is old.
        mesh.write(2, "d", "on the old image");
        mesh.start(2);
        mesh.in_sync();
        let expected = pairs([("a", "after the image, n2"), ("b", "after the image, n1"), ("d", "on the old image")]);
        for node in 1..=3 {
            assert_eq!(mesh.tree(node), expected, "seed {}, n{node}", mesh.seed);
        }
    }
}

/// A template that was shut down in order and is started twice: both copies are told apart, and say so; nothing that either
/// writes is lost, and nothing flaps (SYNC 2).
#[test]
fn two_copies_of_one_machine_are_told_apart_and_reported() {
    for mut mesh in meshes() {
        mesh.kill(2);
        let image = mesh.image(2);
        let twin = mesh.clone_of(2, &image);
        mesh.start(2);
        mesh.run_for(3 * SECOND);
        mesh.start(twin);
        mesh.write(2, "a", "by the one");
        mesh.write(twin, "b", "by the other");
        mesh.run_for(90 * SECOND);
        let warnings: Vec<String> = (1..=4).flat_map(|id| mesh.status(id).unwrap().warnings).collect();
        let has = |words: &str| warnings.iter().any(|warning| warning.contains(words));
        assert!(has("two agents run under the name n2"), "seed {}: {warnings:?}", mesh.seed);
        assert!(has("another agent with this node's name"), "seed {}: {warnings:?}", mesh.seed);
        // One of the two has the sessions, and keeps them.
        let before = mesh.activity(1).unwrap();
        mesh.run_for(30 * SECOND);
        assert_eq!(mesh.activity(1).unwrap(), before, "seed {}: nothing is written, nothing is sent", mesh.seed);
        mesh.kill(2);
        mesh.run_for(90 * SECOND);
        let expected = pairs([("a", "by the one"), ("b", "by the other"), ("c", "the first")]);
        for node in [1, 3, twin] {
            assert_eq!(mesh.tree(node), expected, "seed {}, n{node}", mesh.seed);
        }
        let warnings: Vec<String> = [1, 3, twin].iter().flat_map(|id| mesh.status(*id).unwrap().warnings).collect();
        assert_eq!(warnings, Vec::<String>::new(), "seed {}", mesh.seed);
    }
}

/// A wall clock that jumps by more than ten seconds against the boot-time clock may mean that the machine was copied while it
/// ran: from then on it is another replica, without a restart.
#[test]
fn a_clock_that_jumps_makes_a_new_replica() {
    for (jump, renewed) in [(3_600, true), (-3_600, true), (9, false)] {
        for mut mesh in meshes().take(10) {
            let before = mesh.replicas(1);
            mesh.set_clock(2, jump * SECOND as i64);
            mesh.run_for(20 * SECOND);
            mesh.write(2, "a", "after the jump");
            mesh.in_sync();
            assert_eq!(mesh.tree(3)[0].1, "after the jump", "seed {}", mesh.seed);
            assert_eq!(mesh.replicas(1) - before, usize::from(renewed), "seed {}, {jump} s", mesh.seed);
            mesh.write(1, "a", "and after that");
            mesh.in_sync();
            assert_eq!(mesh.tree(2)[0].1, "and after that", "a wrong clock decides ties and no more");
            // What was made under the new number is there after a kill.
            mesh.kill(2);
            mesh.start(2);
            mesh.in_sync();
            assert_eq!(mesh.activity(2).unwrap().0, 0, "seed {}: versions that n2 made", mesh.seed);
        }
    }
}

/// A node whose clock is far ahead of most others is told so, and the others aren't.
#[test]
fn a_node_whose_clock_is_ahead_of_most_is_told_so() {
    for mut mesh in meshes().take(10) {
        mesh.set_clock(3, 3_600 * SECOND as i64);
        mesh.run_for(20 * SECOND);
        mesh.in_sync();
        assert!(mesh.status(3).unwrap().warnings[0].contains("3600 s ahead of most"), "seed {}", mesh.seed);
        for node in 1..=2 {
            assert_eq!(mesh.status(node).unwrap().warnings, Vec::<String>::new());
        }
        // Its stamps don't drag others' clocks along: an edit elsewhere that has seen its edit wins.
        mesh.write(3, "a", "from the future");
        mesh.in_sync();
        mesh.write(1, "a", "from the present");
        mesh.in_sync();
        assert_eq!(mesh.tree(3)[0].1, "from the present", "seed {}", mesh.seed);
    }
}

/// Two copies of a machine that was copied while its agent ran give one number to two versions: both versions are kept as
/// concurrent, the duplicate is reported, and who gave the number takes a new one (SYNC 2).
#[test]
fn two_versions_with_one_number_are_both_kept_and_reported() {
    for mut mesh in meshes() {
        mesh.kill(2);
        let image = mesh.image(2);
        let twin = mesh.running_clone_of(2, &image);
        // What each writes first gets the same number.
        mesh.write(2, "a", "by the one");
        mesh.write(twin, "a", "by the other");
        mesh.start(2);
        mesh.run_for(5 * SECOND);
        mesh.start(twin);
        mesh.run_for(120 * SECOND);
        let warnings: Vec<String> = (1..=4).flat_map(|id| mesh.status(id).unwrap().warnings).collect();
        let reported = warnings.iter().any(|warning| warning.contains("gave one number to two versions"));
        assert!(reported, "seed {}: {warnings:?}", mesh.seed);
        mesh.kill(2);
        mesh.run_for(60 * SECOND);
        for node in [1, 3, twin] {
            let contents: Vec<String> = mesh.tree(node).into_iter().map(|(_, contents)| contents).collect();
            for written in ["by the one", "by the other"] {
                assert!(contents.iter().any(|found| found == written), "seed {}, n{node}: {contents:?}", mesh.seed);
            }
        }
    }
}

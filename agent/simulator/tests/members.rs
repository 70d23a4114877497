//! Members that are taken out of the mesh and come back, with what they had or with nothing (SYNC 10, "full comparison"): nothing
//! that was deleted returns, and nothing that only they have is lost.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_engine::guard::Verdict;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 20;
const SECOND: u64 = 1_000_000_000;
const FILES: usize = 60;
/// So many that deleting most of them is guarded although some are left.
const MANY: usize = 150;

fn file(number: usize) -> String {
    format!("d/{number}")
}

/// How a node that was a member comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Back {
    /// With its registry, and its disk as it left it.
    AsItWas,
    /// Its state directory is gone, its files are there: it was reset.
    Reset,
    /// With an older image of disk and registry.
    Older,
}

/// A node's configuration has changed: it is started again, or reads that while it runs.
fn hears_of_members(mesh: &mut Mesh, id: u32) {
    if mesh.random.once_in(2) {
        mesh.kill(id);
        mesh.start(id);
    } else {
        mesh.configure(id);
    }
}

/// Three nodes with files, of which the third was taken out and forgotten by the others, which went on without it.
fn without_the_third(seed: u64, back: Back, files: usize) -> Mesh {
    let mut mesh = Mesh::new(seed, Shape { nodes: 3, ..Shape::default() });
    mesh.mkdir(1, "d");
    (0..files).for_each(|number| mesh.write(1, file(number), format!("contents {number}")));
    mesh.in_sync();
    mesh.kill(3);
    if back == Back::Older {
        let image = mesh.image(3);
        mesh.start(3);
        mesh.write(3, "d/after the image", "that n1 and n2 have, too");
        mesh.in_sync();
        mesh.kill(3);
        mesh.restore(3, &image);
    }
    mesh.shape.outside = vec![3];
    (1..=2).for_each(|id| hears_of_members(&mut mesh, id));
    mesh.run_until_these_are_in_sync(&[1, 2], 120 * SECOND).unwrap();
    for id in 1..=2 {
        mesh.forget(id, 3).unwrap();
    }
    // In small steps, so that nobody's guard minds.
    for number in 0..15 {
        mesh.remove(1 + number as u32 % 2, file(number));
        mesh.run_for(SECOND);
    }
    for number in 15..25 {
        mesh.write(2, file(number), format!("edited {number}"));
    }
    mesh.write(1, "d/made meanwhile", "by n1");
    mesh.run_until_these_are_in_sync(&[1, 2], 120 * SECOND).unwrap();
    // Whoever has the third node goes on working there.
    mesh.write(3, file(3), "edited where it wasn't deleted");
    mesh.write(3, file(40), "edited by n3");
    mesh.write(3, "d/alone", "of n3");
    mesh.remove(3, file(50));
    mesh.start(3);
    mesh.run_for(20 * SECOND);
    assert_eq!(mesh.read(3, file(0)).unwrap(), b"contents 0", "nobody talks to it");
    mesh.kill(3);
    if back == Back::Reset {
        mesh.lose_state(3);
    }
    mesh
}

/// All are members again.
fn come_back(mesh: &mut Mesh) {
    mesh.shape.outside = Vec::new();
    (1..=2).for_each(|id| hears_of_members(mesh, id));
    mesh.start(3);
}

#[test]
fn a_member_that_was_forgotten_and_comes_back_revives_nothing_and_loses_nothing() {
    for back in [Back::AsItWas, Back::Reset, Back::Older] {
        for seed in 1..=SEEDS {
            let mut mesh = without_the_third(seed, back, FILES);
            come_back(&mut mesh);
            mesh.in_sync();
            // A registry that is built anew knows of no deletion that its user made: the file comes back.
            let deleted_by_n3 = back != Back::Reset;
            let mut expected: Vec<(String, String)> = (15..FILES)
                .filter(|number| *number != 40 && !(deleted_by_n3 && *number == 50))
                .map(|number| (number, if number < 25 { "edited" } else { "contents" }))
                .map(|(number, what)| (file(number), format!("{what} {number}")))
                .collect();
            expected.extend(
                [
                    ("d", ""),
                    ("d/3", "edited where it wasn't deleted"),
                    ("d/40", "edited by n3"),
                    ("d/alone", "of n3"),
                    ("d/made meanwhile", "by n1"),
                ]
                .map(|(path, contents)| (path.to_owned(), contents.to_owned())),
            );
            if back == Back::Older {
                expected.push(("d/after the image".into(), "that n1 and n2 have, too".into()));
            }
            expected.sort();
            for node in 1..=3 {
                let is_copy = |(name, _): &(String, String)| name.contains("(conflict ");
                let (copies, tree): (Vec<_>, Vec<_>) = mesh.tree(node).into_iter().partition(is_copy);
                assert_eq!(tree, expected, "seed {seed}, n{node}, {back:?}");
                // A rebuilt registry knows of no order between what was edited on one side and what lies here.
                let conflicts = if back == Back::Reset { 11 } else { 0 };
                assert_eq!(copies.len(), conflicts, "seed {seed}, n{node}, {back:?}");
            }
            for number in 0..15 {
                let is_kept = mesh.has_contents(3, format!("contents {number}"));
                assert!(is_kept || number == 3, "seed {seed}, {back:?}: what went from n3 is in its store");
            }
        }
    }
}

/// While a member was away a large part was deleted, step by step, and nobody's guard minded. Its own does.
#[test]
fn the_guard_of_a_member_that_comes_back_asks_before_it_empties_the_node() {
    for verdict in [Verdict::Approve, Verdict::Reject] {
        for reset in [false, true] {
            for seed in 1..=SEEDS / 4 {
                let mut mesh = without_the_third(seed, Back::AsItWas, MANY);
                for number in 15..MANY {
                    mesh.remove(1, file(number));
                    mesh.run_for(SECOND);
                }
                mesh.remove(2, "d/made meanwhile");
                mesh.run_until_these_are_in_sync(&[1, 2], 120 * SECOND).unwrap();
                assert_eq!(mesh.names(1), ["d"], "seed {seed}");
                if reset {
                    mesh.lose_state(3);
                }
                come_back(&mut mesh);
                mesh.run_for(70 * SECOND);
                let volume = mesh.status(3).unwrap().volumes.remove(0);
                assert_eq!(volume.state, "Held", "seed {seed}, reset {reset}: {volume:?}");
                assert!(mesh.names(3).len() > 100, "seed {seed}: {:?}", mesh.names(3));
                mesh.decide_holds(3, verdict).unwrap();
                mesh.in_sync();
                // Three files that only the third node has, and ten that were edited before they were deleted: what a rebuilt
                // registry finds of those is no version that a deletion names.
                let left = mesh.names(1).len();
                match verdict {
                    Verdict::Reject => assert!(left > 100, "seed {seed}: {:?}", mesh.names(1)),
                    Verdict::Approve | Verdict::Pass => {
                        assert_eq!(left, if reset { 14 } else { 4 }, "seed {seed}: {:?}", mesh.names(1));
                    }
                }
                assert_eq!(mesh.tree(1), mesh.tree(3), "seed {seed}");
            }
        }
    }
}

/// Whether a node may leave, and whether an agent that stops has handed over, is asked by it.
#[test]
fn a_member_that_follows_when_all_is_quiet_learns_that_others_have_what_it_has() {
    for seed in 0..SEEDS {
        let mut mesh = Mesh::new(seed, Shape { nodes: 3, ..Shape::default() });
        mesh.in_sync();
        mesh.pause(3, true);
        (0..20).for_each(|number| mesh.write(1, format!("{number}"), "contents"));
        mesh.run_for(40 * SECOND);
        assert_eq!((mesh.names(2).len(), mesh.names(3).len()), (20, 0), "seed {seed}");
        mesh.pause(3, false);
        mesh.in_sync();
        mesh.run_for(20 * SECOND);
        for id in 1..=3 {
            let volume = mesh.status(id).unwrap().volumes.remove(0);
            let (copied, sequence) = (volume.copied, volume.sequence);
            assert!(volume.is_copied(), "seed {seed} n{id}: {copied} of {sequence} are known to be elsewhere");
        }
    }
}

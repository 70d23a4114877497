//! Conflicts that a person decides (policy `manual`), and decisions about those that the policy has decided.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_core::policy::Policy;
use syncmesh_engine::conflicts::{Choice, Whereabouts};
use syncmesh_simulator::Cut;
use syncmesh_simulator::ledger::Ledger;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 50;
const SECOND: u64 = 1_000_000_000;

/// Contents too large to ride along with their announcement.
fn large(byte: u8) -> Vec<u8> {
    vec![byte; 100_000]
}

/// Three nodes, of which two edited a file apart from each other, and have met since.
fn edited_apart(policy: Policy) -> impl Iterator<Item = Mesh> {
    (1..=SEEDS).map(move |seed| {
        let shape = Shape { nodes: 3, policy, ..Shape::default() };
        let mut mesh = Mesh::new(seed, shape);
        mesh.write(1, "f.txt", b"the first");
        mesh.in_sync();
        mesh.kill(1);
        mesh.kill(2);
        mesh.write(1, "f.txt", large(1));
        mesh.write(2, "f.txt", large(2));
        mesh.start(1);
        mesh.start(2);
        match policy {
            Policy::Manual => mesh.run_for(20 * SECOND),
            Policy::KeepBoth | Policy::LastWriterWins => mesh.in_sync(),
        }
        mesh
    })
}

/// Each node keeps the version that it has, says so, and isn't in sync; a restart forgets nothing (SYNC 1, 4).
#[test]
fn each_node_keeps_its_own_version_until_somebody_decides() {
    for mut mesh in edited_apart(Policy::Manual) {
        mesh.kill(1);
        mesh.start(1);
        mesh.run_for(10 * SECOND);
        for node in 1..=2 {
            let volume = mesh.status(node).unwrap().volumes.remove(0);
            assert_eq!((volume.state.as_str(), volume.conflicts, volume.in_sync), ("Held", 1, false), "n{node}");
            assert!(volume.message.contains("conflicts resolve"), "{}", volume.message);
            assert_eq!(mesh.read(node, "f.txt").unwrap(), large(node as u8), "seed {}", mesh.seed);
            let conflicts = mesh.conflicts(node);
            let [conflict] = conflicts.as_slice() else { panic!("{conflicts:?}") };
            let shown: Vec<_> = conflict.versions.iter().map(|one| (one.node.clone(), one.place.clone())).collect();
            let other = format!("n{}", 3 - node);
            assert_eq!(shown, [(format!("n{node}"), Whereabouts::Here), (other, Whereabouts::Elsewhere)]);
            assert!(conflict.undecided);
        }
        let third = mesh.read(3, "f.txt").unwrap();
        assert!(third == large(1) || third == large(2), "seed {}", mesh.seed);
        assert!(!mesh.status(3).unwrap().volumes[0].in_sync, "an open conflict is nobody's sync");
        assert_eq!(mesh.names(3), ["f.txt"], "nobody makes copies");
    }
}

/// Decided on one node is decided on all, and what lost its name is stored where it was.
#[test]
fn a_decision_on_one_node_holds_on_all() {
    for (choice, wins) in [(Choice::Local, 1), (Choice::Remote, 2)] {
        for mut mesh in edited_apart(Policy::Manual) {
            mesh.resolve(1, "f.txt", choice).unwrap();
            mesh.in_sync();
            for node in 1..=3 {
                assert_eq!(mesh.read(node, "f.txt").unwrap(), large(wins), "seed {}, n{node}", mesh.seed);
                assert_eq!(mesh.names(node), ["f.txt"]);
                assert!(mesh.conflicts(node).is_empty());
                assert_eq!(mesh.status(node).unwrap().volumes[0].conflicts, 0);
            }
            let lost = 3 - wins;
            let stored = mesh.disk(u32::from(lost)).stored_contents();
            assert!(stored.values().any(|stored| *stored == large(lost)), "seed {}", mesh.seed);
            assert!(mesh.resolve(2, "f.txt", choice).unwrap_err().contains("no conflict"));
        }
    }
}

/// `both`: what has the name keeps it, the other becomes a conflict copy as under `keepBoth`, and nobody counts it any more.
#[test]
fn both_versions_stay_when_somebody_says_so() {
    for mut mesh in edited_apart(Policy::Manual) {
        mesh.resolve(2, "f.txt", Choice::Both).unwrap();
        mesh.in_sync();
        for node in 1..=3 {
            let names = mesh.names(node);
            let [copy, name] = names.as_slice() else { panic!("seed {}: {names:?}", mesh.seed) };
            assert!(copy.starts_with("f (conflict n1 ") && name == "f.txt", "{names:?}");
            assert_eq!((mesh.read(node, name).unwrap(), mesh.read(node, copy).unwrap()), (large(2), large(1)));
            assert_eq!(mesh.status(node).unwrap().volumes[0].conflicts, 0);
        }
    }
}

/// An edit while a conflict is open supersedes its author's version alone, on every node.
#[test]
fn an_edit_while_a_conflict_is_open_decides_nothing() {
    for mut mesh in edited_apart(Policy::Manual) {
        mesh.write(1, "f.txt", b"edited again");
        mesh.run_for(10 * SECOND);
        assert_eq!(
            (mesh.read(1, "f.txt").unwrap(), mesh.read(2, "f.txt").unwrap()),
            (b"edited again".to_vec(), large(2))
        );
        assert_eq!(mesh.conflicts(2)[0].versions.len(), 2);
        mesh.resolve(2, "f.txt", Choice::Remote).unwrap();
        mesh.in_sync();
        assert_eq!(mesh.read(2, "f.txt").unwrap(), b"edited again", "seed {}", mesh.seed);
    }
}

/// Deleting one's own version leaves the other.
#[test]
fn deleting_ones_own_version_leaves_the_other() {
    for mut mesh in edited_apart(Policy::Manual) {
        mesh.remove(1, b"f.txt");
        mesh.in_sync();
        for node in 1..=3 {
            assert_eq!(mesh.read(node, "f.txt").unwrap(), large(2), "seed {}, n{node}", mesh.seed);
        }
    }
}

/// Where the policy has decided, a decision takes the conflict off everybody's list, or gives the name to the loser.
#[test]
fn a_decision_settles_what_the_policy_had_decided() {
    for policy in [Policy::KeepBoth, Policy::LastWriterWins] {
        for choice in [Choice::Local, Choice::Remote, Choice::Both] {
            for mut mesh in edited_apart(policy).take(10) {
                let winner = mesh.read(1, "f.txt").unwrap();
                let (before, conflicts) = (mesh.names(1), mesh.conflicts(1));
                assert_eq!((conflicts.len(), conflicts[0].undecided), (1, false));
                let copied = conflicts[0].versions.iter().any(|one| matches!(one.place, Whereabouts::Copy(_)));
                assert_eq!(copied, policy == Policy::KeepBoth, "{conflicts:?}");
                mesh.resolve(1, "f.txt", choice).unwrap();
                mesh.in_sync();
                let other = if winner == large(1) { large(2) } else { large(1) };
                let expected = if choice == Choice::Remote { other } else { winner };
                for node in 1..=3 {
                    assert_eq!(mesh.read(node, "f.txt").unwrap(), expected, "seed {}, n{node}, {choice:?}", mesh.seed);
                    assert_eq!(mesh.status(node).unwrap().volumes[0].conflicts, 0);
                    assert_eq!(mesh.names(node), before);
                }
            }
        }
    }
}

/// Whatever users write and decide, whoever is cut off or killed: once everything is decided all nodes are equal, and each
/// version is somewhere.
#[test]
fn stories_of_writers_and_deciders_end_alike_and_lose_nothing() {
    for seed in 1..=200 {
        let shape = Shape { nodes: 3, policy: Policy::Manual, ..Shape::default() };
        let mut mesh = Mesh::new(seed, shape);
        let mut ledger = Ledger::default();
        let mut cut = None;
        for _ in 0..40 {
            let node = mesh.random.between(1, 3) as u32;
            let path = ["f.txt", "g", "d"][mesh.random.between(0, 2) as usize];
            let disk = mesh.disk(node).clone();
            match mesh.random.between(0, 99) {
                0..=54 => {
                    let seen = disk.user_read(path.as_bytes()).ok();
                    let contents = ledger.contents(node, path.as_bytes(), 20);
                    match disk.user_write(path.as_bytes(), &contents) {
                        Ok(()) => seen.iter().for_each(|seen| ledger.supersede(seen)),
                        Err(_) => ledger.supersede(&contents),
                    }
                }
                55..=59 => {
                    if let Ok(seen) = disk.user_read(path.as_bytes())
                        && disk.user_remove(path.as_bytes()).is_ok()
                    {
                        ledger.supersede(&seen);
                    }
                }
                60..=64 => _ = disk.user_mkdir(b"d"),
                65..=79 if mesh.runs(node) => {
                    let choice = [Choice::Local, Choice::Remote, Choice::Both][mesh.random.between(0, 2) as usize];
                    // There may be nothing to decide, or too much.
                    let _ = mesh.resolve(node, path, choice);
                }
                80..=89 if mesh.runs(node) => mesh.kill(node),
                80..=89 => mesh.start(node),
                _ => match cut.take() {
                    Some((a, b)) => mesh.world.heal(a, b),
                    None => {
                        let other = node % 3 + 1;
                        mesh.world.cut(node, other, Cut::Silent);
                        cut = Some((node, other));
                    }
                },
            }
            let pause = mesh.random.between(0, 2 * SECOND);
            mesh.run_for(pause);
        }
        if let Some((a, b)) = cut {
            mesh.world.heal(a, b);
        }
        (1..=3).filter(|id| !mesh.runs(*id)).collect::<Vec<_>>().into_iter().for_each(|id| mesh.start(id));
        for round in 0.. {
            mesh.run_for(40 * SECOND);
            let open = (1..=3).find_map(|id| Some((id, mesh.conflicts(id).into_iter().find(|one| one.undecided)?)));
            let Some((id, conflict)) = open else { break };
            assert!(round < 20, "seed {seed}: {conflict:?}");
            let choice = if conflict.versions.len() == 2 { Choice::Both } else { Choice::Local };
            let _ = mesh.resolve(id, &conflict.path, choice);
        }
        mesh.in_sync();
        let contents = |node: u32| {
            let snapshot = mesh.disk(node).snapshot();
            snapshot.into_iter().map(|(path, shown)| (path, shown.contents)).collect::<Vec<_>>()
        };
        assert_eq!(contents(1), contents(2), "seed {seed}");
        assert_eq!(contents(1), contents(3), "seed {seed}");
        let stored: Vec<_> = mesh.machines.iter().map(|machine| machine.disk.stored_contents()).collect();
        let here = contents(1);
        let files = here.iter().map(|(path, contents)| (path.as_slice(), contents.as_slice()));
        let stored = stored.iter().flat_map(|all| all.values().map(Vec::as_slice));
        ledger.check(files, stored).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

//! Certificates that count no more: who shows one is cut off on every member, as soon as any of them has the list.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_engine::node::Taken;
use syncmesh_simulator::Cut;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 50;
const SECOND: u64 = 1_000_000_000;

fn four(seed: u64) -> Mesh {
    let mut mesh = Mesh::new(seed, Shape { nodes: 4, ..Shape::default() });
    mesh.settled("by 1");
    mesh
}

/// Goes on step by step, and never sees a session by a certificate of which either side knows that it is revoked.
#[track_caller]
fn watched(mesh: &mut Mesh, nanos: u64) {
    let end = mesh.world.now() + nanos;
    while mesh.world.now() < end && mesh.step() {
        let checked = mesh.check_revoked();
        checked.unwrap_or_else(|why| panic!("seed {}: {why}", mesh.seed));
    }
}

#[track_caller]
fn sees(mesh: &mut Mesh, id: u32, node: u32, connected: bool) {
    assert_eq!(mesh.is_connected(id, node), connected, "seed {}: n{id} and n{node}", mesh.seed);
}

#[test]
fn a_live_session_ends_on_every_member_once_any_of_them_has_the_list() {
    for seed in 0..SEEDS {
        let mut mesh = four(seed);
        let list = mesh.revoke(4);
        assert_eq!(mesh.tell(1, &list), Ok(Taken::Now));
        // At once where it is known, and on the others as fast as they are told.
        sees(&mut mesh, 1, 4, false);
        watched(&mut mesh, SECOND);
        (1..=3).for_each(|id| sees(&mut mesh, id, 4, false));
        mesh.write(1, "after", "not for 4");
        mesh.write(4, "stolen", "not for the others");
        watched(&mut mesh, 30 * SECOND);
        assert_eq!(mesh.names(3), ["after", "f"], "seed {seed}: the others go on");
        assert_eq!(mesh.names(4), ["f", "stolen"], "seed {seed}");
        // It has heard why, and gets a certificate that counts.
        assert!(!mesh.counts(4, 4), "seed {seed}: it wasn't told");
        mesh.certify(4);
        mesh.in_sync();
        assert_eq!(mesh.names(2), ["after", "f", "stolen"], "seed {seed}");
        assert_eq!(mesh.names(4), ["after", "f", "stolen"], "seed {seed}");
    }
}

#[test]
fn a_member_that_was_away_hears_of_it_when_a_session_begins_and_a_restart_forgets_nothing() {
    for seed in 0..SEEDS {
        let mut mesh = four(seed);
        for (one, other) in [(3, 1), (3, 2), (4, 1), (4, 2)] {
            mesh.world.cut(one, other, Cut::Silent);
        }
        mesh.run_for(20 * SECOND);
        let list = mesh.revoke(4);
        mesh.tell(1, &list).unwrap();
        watched(&mut mesh, 20 * SECOND);
        // Neither of the two can know.
        sees(&mut mesh, 3, 4, true);
        mesh.world.heal(3, 2);
        watched(&mut mesh, 30 * SECOND);
        sees(&mut mesh, 3, 4, false);
        mesh.kill(3);
        // Nobody tells it again, not even the honest agent of the node that is revoked.
        [2, 4].into_iter().for_each(|peer| mesh.world.cut(3, peer, Cut::Silent));
        mesh.start(3);
        mesh.run_for(SECOND);
        assert!(!mesh.counts(3, 4), "seed {seed}: it has forgotten the list");
        mesh.world.heal(3, 4);
        watched(&mut mesh, 30 * SECOND);
        sees(&mut mesh, 3, 4, false);
    }
}

#[test]
fn what_one_member_has_of_a_revoked_node_reaches_those_that_it_was_cut_off_from() {
    for seed in 0..SEEDS {
        let mut mesh = four(seed);
        mesh.world.cut(3, 4, Cut::Silent);
        mesh.write(4, "late", "for those that can hear it");
        mesh.run_for(SECOND / 2);
        assert_eq!(mesh.names(1), ["f", "late"], "seed {seed}");
        assert_eq!(mesh.names(3), ["f"], "seed {seed}: its maker would tell it, if it could");
        let list = mesh.revoke(4);
        mesh.tell(1, &list).unwrap();
        watched(&mut mesh, 60 * SECOND);
        assert_eq!(mesh.names(3), ["f", "late"], "seed {seed}: everybody leaves it to a maker that is gone");
    }
}

#[test]
fn a_list_that_cant_be_believed_lets_nobody_in_and_shuts_nobody_out() {
    let mut mesh = four(1);
    let first = mesh.revoke(4);
    let second = mesh.revoke(3);
    mesh.tell(1, &second).unwrap();
    mesh.run_for(SECOND);
    let forged = second.replace("node n3", "node n2");
    let later = forged.replace("number 2", "number 9");
    let long = format!("{second}{}", "x".repeat(1 << 20));
    for (list, part) in [
        (first.as_str(), "isn't above 2"),
        (&forged, "isn't above 2"),
        (&later, "nobody has signed it"),
        ("", "no revocation list"),
        (&long, "longer than"),
    ] {
        let why = mesh.tell(1, list).unwrap_err();
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(mesh.tell(1, &second), Ok(Taken::Before));
    watched(&mut mesh, 20 * SECOND);
    sees(&mut mesh, 1, 2, true);
    for revoked in [3, 4] {
        sees(&mut mesh, 1, revoked, false);
        sees(&mut mesh, 2, revoked, false);
    }
}

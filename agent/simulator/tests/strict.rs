//! `durability: strict`: nothing is told before it is durable where it was made, and nothing gets its name elsewhere before its
//! contents are on the disk.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use std::collections::BTreeMap;
use syncmesh_core::entry::Entry;
use syncmesh_core::version::Vector;
use syncmesh_engine::epoch::Durability;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 200;
const SECOND: u64 = 1_000_000_000;
const FILES: [&[u8]; 3] = [b"small", b"page", b"large"];

fn mesh(seed: u64, durability: Durability) -> Mesh {
    Mesh::new(seed, Shape { durability, ..Shape::default() })
}

fn in_sync(mesh: &mut Mesh) {
    let result = mesh.run_until_in_sync(120 * SECOND);
    result.unwrap_or_else(|why| panic!("seed {}: {why}", mesh.seed));
}

/// The contents of a file's n-th version: all bytes say which, so that a part of it isn't taken for another.
fn version(file: &[u8], number: u8) -> Vec<u8> {
    let size = match file {
        b"small" => 300,
        b"page" => 9_000,
        _ => 300_000,
    };
    vec![number; size]
}

fn is_whole(file: &[u8], contents: &[u8]) -> bool {
    contents.first().is_some_and(|&number| contents == version(file, number))
}

/// Writes on the first node, a few steps apart, and stops at any of them.
fn write_a_while(mesh: &mut Mesh) {
    for number in 1..=mesh.random.between(1, 6) as u8 {
        for file in FILES {
            mesh.machines[0].disk.user_write(file, &version(file, number)).unwrap();
            for _ in 0..mesh.random.between(0, 300) {
                mesh.step();
            }
        }
        let pause = mesh.random.between(0, SECOND / 2);
        mesh.run_for(pause);
    }
}

/// Files on the second node's disk that aren't whole right after its power came back, before its agent has looked at any.
fn torn_at_the_receiver(durability: Durability) -> usize {
    let mut torn = 0;
    for seed in 1..=SEEDS {
        let mut mesh = mesh(seed, durability);
        in_sync(&mut mesh);
        write_a_while(&mut mesh);
        mesh.lose_power(2);
        let left = mesh.machines[1].disk.snapshot();
        torn += left.iter().filter(|(file, shown)| !is_whole(file, &shown.contents)).count();
        mesh.start(2);
        in_sync(&mut mesh);
        let ends = [0, 1].map(|node: usize| mesh.machines[node].disk.snapshot());
        for file in FILES {
            assert_eq!(ends[0].get(file).map(|f| &f.contents), ends[1].get(file).map(|f| &f.contents), "seed {seed}");
            assert!(is_whole(file, &ends[1][file].contents), "seed {seed}");
        }
        assert_eq!(ends[0].len(), FILES.len(), "seed {seed}: {:?}", ends[0].keys());
    }
    torn
}

#[test]
fn no_reader_at_a_receiver_ever_finds_a_torn_file() {
    assert_eq!(torn_at_the_receiver(Durability::Strict), 0);
}

#[test]
fn without_strict_readers_at_a_receiver_may_find_torn_files_until_it_has_recovered() {
    assert!(torn_at_the_receiver(Durability::Epoch) > 10, "the disk tears files, or the test before shows nothing");
}

/// What a node knows of each file.
fn known(mesh: &Mesh, node: u32) -> BTreeMap<&'static [u8], Vector> {
    let vector = |file: &&'static [u8]| {
        let row = mesh.row(node, file)?;
        let vectors = row.entries().map(|entry: &Entry| entry.vector.clone());
        Some((*file, vectors.reduce(|a, b| a.join(&b))?))
    };
    FILES.iter().filter_map(vector).collect()
}

/// Files of which the second node knows versions of the first that the first doesn't know any more after it lost power.
fn forgotten_by_the_origin(durability: Durability) -> usize {
    let mut forgotten = 0;
    for seed in 1..=SEEDS {
        let mut mesh = mesh(seed, durability);
        in_sync(&mut mesh);
        write_a_while(&mut mesh);
        let heard = known(&mesh, 2);
        mesh.lose_power(1);
        let left = mesh.machines[0].disk.snapshot();
        mesh.start(1);
        let knows = known(&mesh, 1);
        for (file, vector) in &heard {
            let is_known = knows.get(file).is_some_and(|known| known.includes_all(vector));
            forgotten += usize::from(!is_known || !left.contains_key(*file));
        }
    }
    forgotten
}

#[test]
fn what_a_peer_has_heard_its_origin_knows_after_power_loss() {
    assert_eq!(forgotten_by_the_origin(Durability::Strict), 0);
}

#[test]
fn without_strict_an_origin_may_forget_what_its_peers_have_heard() {
    assert!(forgotten_by_the_origin(Durability::Epoch) > 10, "the test before shows nothing");
}

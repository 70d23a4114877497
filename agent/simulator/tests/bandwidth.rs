//! Limits on how much a volume sends.
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use std::num::NonZeroU64;
use syncmesh_simulator::mesh::{Mesh, Shape};

const SEEDS: u64 = 10;
const SECOND: u64 = 1_000_000_000;
const LIMIT: u64 = 1_000_000;

fn shape(limit: u64) -> Shape {
    Shape { send_limit: NonZeroU64::new(limit), another: true, ..Shape::default() }
}

/// Contents that nothing else has.
fn contents(number: u64, size: usize) -> Vec<u8> {
    (0..size).map(|at| (number as usize * 31 + at * 7 + at / 251) as u8).collect()
}

/// Until a node has so many files of the volume, or of the other one, at most for a while: how long it took.
fn until_has(mesh: &mut Mesh, node: u32, files: u64, other: bool) -> u64 {
    let start = mesh.world.now();
    loop {
        // Where nothing is left to do, time goes on to whatever comes next.
        let now = mesh.world.now();
        while mesh.world.now() == now && mesh.step() {}
        let has = mesh.status(node).unwrap().volumes[usize::from(other)].files;
        if has >= files || now > start + 120 * SECOND {
            return now - start;
        }
    }
}

/// Ten seconds' worth, in large files and in such as ride along with what is told of them.
#[test]
fn a_volume_sends_as_much_as_its_limit_allows() {
    for (files, size) in [(10, 1_000_000), (500, 20_000)] {
        for seed in 1..=SEEDS {
            let mut mesh = Mesh::new(seed, shape(LIMIT));
            mesh.run_for(SECOND);
            (0..files).for_each(|file| mesh.write(1, format!("f{file}"), contents(file, size)));
            let took = until_has(&mut mesh, 2, files, false);
            assert!((9 * SECOND..=11 * SECOND).contains(&took), "seed {seed}: {files} files took {took} ns");
            mesh.in_sync();
        }
    }
}

/// What is told needs no contents: names and deletions come at once.
#[test]
fn what_is_told_does_not_wait_for_what_is_sent() {
    for seed in 1..=SEEDS {
        let mut mesh = Mesh::new(seed, shape(LIMIT / 10));
        mesh.write(1, "old", b"old");
        mesh.in_sync();
        mesh.write(1, "large", contents(1, 5_000_000));
        mesh.run_for(2 * SECOND);
        mesh.remove(1, "old");
        mesh.mkdir(1, "new");
        mesh.run_for(2 * SECOND);
        assert_eq!(mesh.names(2), ["new"], "seed {seed}");
    }
}

/// The other volume takes as long as it does alone, also when it begins later.
#[test]
fn a_limited_volume_slows_no_other() {
    for seed in 1..=SEEDS {
        let mut took = [0, 0];
        for (limited, took) in [false, true].into_iter().zip(&mut took) {
            let mut mesh = Mesh::new(seed, shape(LIMIT / 10));
            mesh.run_for(SECOND);
            if limited {
                (0..40).for_each(|file| mesh.write(1, format!("f{file}"), contents(file, 2_000_000)));
                mesh.run_for(3 * SECOND);
            }
            let other = mesh.machines[0].other.as_ref().unwrap().0.clone();
            for file in 0..40 {
                other.user_write(format!("g{file}").as_bytes(), &contents(100 + file, 500_000)).unwrap();
            }
            *took = until_has(&mut mesh, 2, 40, true);
        }
        let [alone, beside] = took;
        assert!(beside <= alone + alone / 10 + SECOND / 10, "seed {seed}: {alone} ns alone, {beside} ns beside it");
    }
}

#[test]
fn a_limit_that_is_raised_counts_no_more() {
    for seed in 1..=SEEDS {
        let mut mesh = Mesh::new(seed, shape(1_000));
        mesh.write(1, "f", contents(1, 2_000_000));
        mesh.run_for(10 * SECOND);
        assert!(mesh.names(2).is_empty(), "seed {seed}");
        mesh.shape.send_limit = if mesh.random.once_in(2) { None } else { NonZeroU64::new(LIMIT) };
        mesh.configure(1);
        let took = until_has(&mut mesh, 2, 1, false);
        assert!(took < 5 * SECOND, "seed {seed}: {took} ns");
    }
}

//! Agents that are killed with -9, while they receive, publish, or have just seen a write.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Dice, Mesh, noise, replace, tree, wait_until};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Contents that tell whether they are whole: a number, a hash, and a body of the length and seed that the number gives.
fn whole(id: u64) -> Vec<u8> {
    let body = noise(id, (id.wrapping_mul(7919) % 90_000) as usize);
    let mut contents = id.to_le_bytes().to_vec();
    contents.extend_from_slice(blake3::hash(&body).as_bytes());
    contents.extend_from_slice(&body);
    contents
}

/// The number of contents that are whole.
fn id_of(contents: &[u8]) -> Result<u64, String> {
    let (id, rest) = contents.split_first_chunk::<8>().ok_or(format!("{} bytes only", contents.len()))?;
    let (hash, body) = rest.split_at_checked(32).ok_or(format!("{} bytes only", contents.len()))?;
    let id = u64::from_le_bytes(*id);
    if blake3::hash(body) == *<&[u8; 32]>::try_from(hash).unwrap() {
        Ok(id)
    } else {
        Err(format!("version {id} is torn: {} bytes", contents.len()))
    }
}

#[test]
fn a_receiver_killed_again_and_again_during_the_initial_sync_ends_equal() {
    let mut mesh = Mesh::new(["a", "b"]);
    let from = mesh.agents[0].volume.clone();
    for number in 0..1500_u64 {
        let directory = from.join(format!("d{}/e{}", number % 10, number % 7));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join(format!("f{number}"));
        fs::write(&file, noise(number, (number * 37 % 9000) as usize)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode([0o644, 0o600, 0o755, 0o444][number as usize % 4]))
            .unwrap();
        if number % 10 == 0 {
            symlink(format!("f{number}"), directory.join(format!("l{number}"))).unwrap();
        }
    }
    fs::write(from.join("large"), noise(1, 8 << 20)).unwrap();
    mesh.start();
    let (_, b) = mesh.pair();
    let mut kills = 0;
    for aim in (100..1500).step_by(150) {
        wait_until("b has received more", || {
            b.must_run();
            let found = tree::names(&b.volume).len();
            if found >= aim { Ok(()) } else { Err(format!("it has {found} of {aim} names")) }
        });
        b.restart();
        kills += 1;
    }
    assert_eq!(kills, 10);
    mesh.converge();
    mesh.assert_no_conflicts();
    mesh.stages_are_empty();
}

#[test]
fn a_receiver_killed_while_it_fetches_a_large_file_ends_equal() {
    let mut mesh = Mesh::new(["a", "b"]);
    fs::write(mesh.agents[0].volume.join("large"), noise(2, 64 << 20)).unwrap();
    mesh.start();
    let (_, b) = mesh.pair();
    let stage = b.volume.join(".syncmesh/stage");
    for _ in 0..5 {
        wait_until("b fetches, or has fetched", || {
            b.must_run();
            let staged = fs::read_dir(&stage)
                .is_ok_and(|slots| slots.flatten().any(|slot| slot.metadata().is_ok_and(|slot| slot.len() > 0)));
            if staged || b.volume.join("large").exists() { Ok(()) } else { Err("nothing is staged") }
        });
        b.restart();
        if let Ok(found) = fs::metadata(b.volume.join("large")) {
            assert_eq!(found.len(), 64 << 20, "what has its name is whole");
        }
    }
    mesh.converge();
    mesh.assert_no_conflicts();
    mesh.stages_are_empty();
}

/// Replaces, makes and removes files until it is told to stop; says what the last state of each is.
fn keep_writing(volume: &Path, stop: &AtomicBool) -> BTreeMap<String, Option<u64>> {
    let mut dice = Dice::new(7);
    let mut ledger = BTreeMap::new();
    let mut id = 0;
    while !stop.load(Ordering::Relaxed) {
        id += 1;
        let name = format!("f{}", dice.below(30));
        let path = volume.join(&name);
        if dice.below(10) == 0 {
            // It may not be there.
            let _ = fs::remove_file(&path);
            ledger.insert(name, None);
        } else {
            replace(&path, &whole(id));
            ledger.insert(name, Some(id));
        }
        std::thread::sleep(Duration::from_millis(1 + dice.below(4)));
    }
    ledger
}

/// The version of each file that a volume shows; fails if one is torn.
#[track_caller]
fn versions(volume: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for name in tree::names(volume) {
        let name = String::from_utf8(name).unwrap();
        let Ok(contents) = fs::read(volume.join(&name)) else { continue };
        // The writer's own names for what isn't whole yet.
        if name.ends_with(".new") {
            continue;
        }
        let id = id_of(&contents).unwrap_or_else(|why| panic!("{name}: {why}"));
        found.insert(name, id);
    }
    found
}

#[test]
fn a_receiver_killed_fifty_times_while_it_publishes_loses_and_tears_nothing() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    mesh.in_sync();
    let stop = AtomicBool::new(false);
    let from = mesh.agents[0].volume.clone();
    let ledger = std::thread::scope(|scope| {
        let writer = scope.spawn(|| keep_writing(&from, &stop));
        // The writer ends even if a round fails.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let stopping = Stop(&stop);
        let (_, b) = mesh.pair();
        let mut dice = Dice::new(11);
        for _ in 0..50 {
            let before = versions(&b.volume);
            wait_until("b publishes", || {
                b.must_run();
                if versions(&b.volume) == before { Err("nothing changed") } else { Ok(()) }
            });
            // Some moment of publishing, any.
            std::thread::sleep(Duration::from_micros(dice.below(60_000)));
            b.restart();
            versions(&b.volume);
        }
        drop(stopping);
        writer.join().unwrap()
    });
    mesh.converge();
    mesh.assert_no_conflicts();
    mesh.stages_are_empty();
    let last: BTreeMap<String, u64> = ledger.into_iter().filter_map(|(name, id)| Some((name, id?))).collect();
    for agent in &mesh.agents {
        assert_eq!(versions(&agent.volume), last, "{} has what was written last, and nothing else", agent.name);
    }
}

#[test]
fn an_origin_killed_right_after_a_write_neither_loses_nor_doubles_the_version() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    mesh.in_sync();
    let mut dice = Dice::new(3);
    let mut last = BTreeMap::new();
    for round in 0..30_u64 {
        let (a, b) = mesh.pair();
        let name = format!("f{}", dice.below(5));
        match round % 5 {
            4 => {
                // It may not be there.
                let _ = fs::remove_file(a.volume.join(&name));
                last.remove(&name);
            }
            3 => {
                fs::write(a.volume.join(&name), whole(round)).unwrap();
                last.insert(name, round);
            }
            _ => {
                replace(&a.volume.join(&name), &whole(round));
                last.insert(name, round);
            }
        }
        std::thread::sleep(Duration::from_micros(dice.below(90_000)));
        a.restart();
        b.must_run();
        if round % 3 == 0 {
            mesh.converge();
        }
    }
    mesh.converge();
    mesh.assert_no_conflicts();
    mesh.stages_are_empty();
    for agent in &mesh.agents {
        assert_eq!(versions(&agent.volume), last, "{}", agent.name);
    }
}

#[test]
fn both_killed_while_both_write_to_files_of_their_own_end_equal() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    mesh.in_sync();
    let mut dice = Dice::new(5);
    let mut last = BTreeMap::new();
    for round in 0..40_u64 {
        for agent in &mesh.agents {
            let name = format!("{}{}", agent.name, dice.below(8));
            replace(&agent.volume.join(&name), &whole(round));
            last.insert(name, round);
        }
        std::thread::sleep(Duration::from_micros(dice.below(30_000)));
        let who = dice.below(4) as usize;
        if let Some(agent) = mesh.agents.get_mut(who) {
            agent.restart();
        }
    }
    mesh.converge();
    mesh.assert_no_conflicts();
    mesh.stages_are_empty();
    for agent in &mesh.agents {
        assert_eq!(versions(&agent.volume), last, "{}", agent.name);
    }
}

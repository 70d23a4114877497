//! Programs as people use them, on both nodes at once: version control, archives, editors, a log that never rests.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Agent, Mesh, eventually, noise, pause};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Keeps more old versions of one path than a test makes.
const KEEP: &str = "    versions: { keep: 500 }\n";

#[track_caller]
fn program(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

fn git(repository: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(repository).args(arguments);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for (name, value) in [("NAME", "somebody"), ("EMAIL", "somebody@example.com")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    program(&mut command)
}

/// A repository with two branches that differ in many files: edited, deleted, added, renamed, a file that becomes a
/// directory.
fn repository(at: &Path) {
    fs::create_dir(at).unwrap();
    git(at, &["init", "--quiet", "--initial-branch", "main"]);
    for number in 0..120_u64 {
        let directory = at.join(format!("src/part{}", number % 6));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("file{number}.txt")), noise(number, 1_000)).unwrap();
    }
    fs::write(at.join("thing"), "a file on main").unwrap();
    git(at, &["add", "."]);
    git(at, &["commit", "--quiet", "-m", "first"]);
    git(at, &["checkout", "--quiet", "-b", "other"]);
    for number in 0..60_u64 {
        let file = at.join(format!("src/part{}/file{number}.txt", number % 6));
        match number % 4 {
            0 => fs::write(file, noise(1_000 + number, 1_200)).unwrap(),
            1 => fs::remove_file(file).unwrap(),
            2 => fs::rename(&file, at.join(format!("src/renamed{number}"))).unwrap(),
            _ => fs::write(file.with_extension("new"), noise(2_000 + number, 300)).unwrap(),
        }
    }
    fs::remove_file(at.join("thing")).unwrap();
    fs::create_dir(at.join("thing")).unwrap();
    fs::write(at.join("thing/inside"), "a directory on other").unwrap();
    git(at, &["add", "--all", "."]);
    git(at, &["commit", "--quiet", "-m", "second"]);
    git(at, &["checkout", "--quiet", "main"]);
}

#[test]
fn checkouts_between_branches_on_both_nodes_at_once() {
    let mut mesh = Mesh::configured(["a", "b"], KEEP);
    for agent in &mesh.agents {
        repository(&agent.volume.join(format!("of {}", agent.name)));
    }
    mesh.start();
    mesh.converge();
    thread::scope(|scope| {
        for agent in &mesh.agents {
            scope.spawn(|| {
                let own = agent.volume.join(format!("of {}", agent.name));
                for round in 0..8 {
                    git(&own, &["checkout", "--quiet", if round % 2 == 0 { "other" } else { "main" }]);
                }
                git(&own, &["checkout", "--quiet", "other"]);
            });
        }
    });
    mesh.converge();
    mesh.assert_no_conflicts();
    for agent in &mesh.agents {
        for owner in ["a", "b"] {
            let there = agent.volume.join(format!("of {owner}"));
            git(&there, &["fsck", "--strict"]);
            assert_eq!(git(&there, &["status", "--porcelain"]), "", "{owner}'s repository on {}", agent.name);
            assert_eq!(git(&there, &["branch", "--show-current"]), "other\n");
        }
    }
    // Looking wrote each node's index anew: edits of one file, so that one of them may be a conflict; nothing else is.
    mesh.converge();
}

/// An archive of a tree; `generation` decides about contents.
fn archive(home: &Path, generation: u64) -> PathBuf {
    let tree = home.join(format!("tree{generation}"));
    for number in 0..150_u64 {
        let directory = tree.join(format!("d{}", number % 5));
        fs::create_dir_all(&directory).unwrap();
        // A part of the files is the same in all generations.
        let seed = if number.is_multiple_of(3) { number } else { 10_000 * generation + number };
        fs::write(directory.join(format!("f{number}")), noise(seed, 100 + 40 * number as usize)).unwrap();
    }
    std::os::unix::fs::symlink(format!("d{generation}"), tree.join("link")).unwrap();
    let archive = home.join(format!("{generation}.tar"));
    program(Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&archive).arg("."));
    archive
}

#[test]
fn archives_are_unpacked_over_existing_trees_on_both_nodes_at_once() {
    let mut mesh = Mesh::configured(["a", "b"], KEEP);
    let archives: Vec<PathBuf> = (0..4).map(|generation| archive(mesh.home(), generation)).collect();
    let unpack = |archive: &Path, into: &Path| {
        fs::create_dir_all(into).unwrap();
        program(Command::new("tar").arg("-C").arg(into).arg("-xf").arg(archive));
    };
    unpack(&archives[0], &mesh.agents[0].volume.join("of a"));
    unpack(&archives[0], &mesh.agents[1].volume.join("of b"));
    unpack(&archives[0], &mesh.agents[0].volume.join("of both"));
    mesh.start();
    mesh.converge();
    thread::scope(|scope| {
        for agent in &mesh.agents {
            let archives = &archives;
            scope.spawn(move || {
                for archive in &archives[1..] {
                    unpack(archive, &agent.volume.join(format!("of {}", agent.name)));
                }
                // The same on both, at the same time: equal contents never conflict.
                unpack(&archives[3], &agent.volume.join("of both"));
            });
        }
    });
    mesh.converge();
    mesh.assert_no_conflicts();
    // What the archive alone makes of an empty directory. (It keeps seconds only, so the tree that it was made of differs.)
    let alone = mesh.home().join("alone");
    unpack(&archives[3], &alone);
    let expected = mesh::tree::read(&alone);
    for name in ["of a", "of b", "of both"] {
        mesh::tree::assert_same(
            ("the archive", &expected),
            (name, &mesh::tree::read(&mesh.agents[1].volume.join(name))),
        );
    }
}

/// How an editor saves.
#[derive(Clone, Copy, Debug)]
enum Save {
    /// Into a file beside it, which is renamed.
    Rename,
    /// The old file is renamed to a backup, then the name is written anew.
    Backup,
    /// In place: emptied, then written piece by piece.
    InPlace,
    /// Deleted, then made again.
    Anew,
}

const SAVES: [Save; 4] = [Save::Rename, Save::Backup, Save::InPlace, Save::Anew];

impl Save {
    fn save(self, path: &Path, contents: &[u8]) {
        let beside = |suffix: &str| path.with_extension(suffix);
        match self {
            Self::Rename => {
                let mut file = File::create(beside("tmp")).unwrap();
                file.write_all(contents).unwrap();
                file.sync_all().unwrap();
                fs::rename(beside("tmp"), path).unwrap();
            }
            Self::Backup => {
                // Another node may have deleted it at this moment.
                let _ = fs::rename(path, beside("bak"));
                fs::write(path, contents).unwrap();
            }
            Self::InPlace => {
                let mut file = File::create(path).unwrap();
                contents.chunks(1_000).for_each(|piece| file.write_all(piece).unwrap());
            }
            Self::Anew => {
                let _ = fs::remove_file(path);
                fs::write(path, contents).unwrap();
            }
        }
    }
}

/// Contents that are nobody else's, a few kilobytes.
fn contents(node: &str, save: Save, round: usize) -> Vec<u8> {
    let line = format!("saved by {node}, {save:?}, round {round}\n");
    line.repeat(20 + 30 * round).into_bytes()
}

/// Everything that can be read anywhere: in volumes and in stores.
fn everything(mesh: &Mesh) -> BTreeSet<Vec<u8>> {
    let files = mesh.agents.iter().flat_map(|agent| {
        let names = agent.names().into_iter().map(|name| agent.volume.join(name));
        names.filter(|path| path.is_file()).map(|path| fs::read(path).unwrap()).collect::<Vec<_>>()
    });
    files.chain(mesh.agents.iter().flat_map(Agent::stored)).collect()
}

#[test]
fn editors_save_different_files_on_both_nodes_at_once() {
    let mut mesh = Mesh::configured(["a", "b"], KEEP);
    mesh.start();
    mesh.converge();
    const ROUNDS: usize = 25;
    thread::scope(|scope| {
        for agent in &mesh.agents {
            for save in SAVES {
                scope.spawn(move || {
                    let path = agent.volume.join(format!("{save:?} on {}.txt", agent.name));
                    for round in 0..ROUNDS {
                        save.save(&path, &contents(&agent.name, save, round));
                        pause();
                    }
                });
            }
        }
    });
    mesh.converge();
    mesh.assert_no_conflicts();
    for (name, save) in ["a", "b"].into_iter().flat_map(|name| SAVES.map(|save| (name, save))) {
        for agent in &mesh.agents {
            let found = fs::read(agent.volume.join(format!("{save:?} on {name}.txt"))).unwrap();
            assert_eq!(found, contents(name, save, ROUNDS - 1), "{save:?} on {name}, as {} shows it", agent.name);
        }
    }
}

/// Two people save one file at the same time, again and again, without looking. What one of them saved last is the
/// current contents, a conflict copy, or in a store: nobody who hadn't seen it has destroyed it.
#[test]
fn editors_save_the_same_files_on_both_nodes_at_once() {
    let mut mesh = Mesh::configured(["a", "b"], KEEP);
    mesh.start();
    mesh.converge();
    const ROUNDS: usize = 15;
    // What an editor found when it saved over it was seen by its user, or comes from the other node and is kept there.
    let saved: BTreeMap<String, Vec<u8>> = thread::scope(|scope| {
        let editors: Vec<_> = mesh
            .agents
            .iter()
            .flat_map(|agent| SAVES.map(|save| (agent, save)))
            .map(|(agent, save)| {
                scope.spawn(move || {
                    let path = agent.volume.join(format!("{save:?}.txt"));
                    for round in 0..ROUNDS {
                        save.save(&path, &contents(&agent.name, save, round));
                        pause();
                    }
                    (format!("{save:?} by {}", agent.name), contents(&agent.name, save, ROUNDS - 1))
                })
            })
            .collect();
        editors.into_iter().map(|editor| editor.join().unwrap()).collect()
    });
    mesh.converge();
    mesh.stages_are_empty();
    let found = everything(&mesh);
    for (what, contents) in saved {
        assert!(found.contains(&contents), "lost: {what}; there are {:?}", mesh.agents[0].names());
    }
}

#[test]
fn a_log_that_is_appended_to_all_the_time_keeps_arriving_and_ends_equal() {
    let mut mesh = Mesh::new(["a", "b"]);
    // Too large to ride along with its announcement.
    fs::write(mesh.agents[0].volume.join("app.log"), "an old line\n".repeat(20_000)).unwrap();
    mesh.start();
    mesh.converge();
    let (a, b) = (&mesh.agents[0], &mesh.agents[1]);
    let (log, copy) = (a.volume.join("app.log"), b.volume.join("app.log"));
    let (is_over, is_over_there) = (AtomicBool::new(false), AtomicBool::new(false));
    let arrivals = thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = File::options().append(true).open(&log).unwrap();
            let mut line = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                writeln!(file, "line {line} of a log that is written by a program that never stops").unwrap();
                line += 1;
                pause();
            }
            is_over_there.store(true, Ordering::Relaxed);
        });
        let mut arrivals: Vec<Vec<u8>> = Vec::new();
        let arrived = eventually(mesh::DEADLINE, || {
            let shown = fs::read(&copy).unwrap_or_default();
            if arrivals.last().is_none_or(|last| last.len() != shown.len()) && !shown.is_empty() {
                arrivals.push(shown);
            }
            if arrivals.len() >= 5 { Ok(()) } else { Err(()) }
        });
        let was_written = !is_over_there.load(Ordering::Relaxed);
        is_over.store(true, Ordering::Relaxed);
        assert!(arrived.is_ok() && was_written, "only {} versions arrived", arrivals.len());
        arrivals
    });
    mesh.converge();
    mesh.assert_no_conflicts();
    let whole = fs::read(&copy).unwrap();
    for arrived in arrivals {
        assert!(whole.starts_with(&arrived), "{} bytes that were never the log", arrived.len());
    }
}

//! `cargo xtask demo`: a mesh of real agents on loopback, played on with a real directory tree.

pub mod input;
mod mesh;
mod report;
mod steps;

use crate::agents::{AGENT, Agent};
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::repository;
use clap::Args;
use mesh::Mesh;
pub use report::Latency;
use report::{Report, Screen};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
pub use steps::visible;

/// How to play.
#[derive(Args)]
pub struct Options {
    /// Use a copy of this tree instead of the repository's tracked files.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// How many agents.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=26))]
    nodes: u8,
    /// Leave the agents running at the end, and say how to play with them.
    #[arg(long)]
    keep: bool,
    /// Print the report as one line of JSON, last.
    #[arg(long)]
    json: bool,
}

/// Plays all steps; fails when trees differ.
pub fn run(options: &Options) -> Outcome<()> {
    interrupt::listen()?;
    let screen = Screen::new();
    let home = repository::root().join(format!("target/demo-{}", std::process::id()));
    let mut report = Report::new(options.nodes);
    let mut result = play(options, &home, &screen, &mut report);
    screen.clear();
    report.finish(result.as_ref().err().map(ToString::to_string));
    report.print_table();
    // Keep what failed only where somebody asked for it; the logs always.
    match &mut result {
        Ok(Some(agents)) => {
            print!("{}", report::how_to_play(agents, &home));
            agents.iter_mut().for_each(Agent::release);
        }
        Ok(None) => remove(&home),
        Err(_) if options.keep => {
            eprintln!("everything is left in {}", home.display());
        }
        Err(_) => keep_logs(&home),
    }
    if options.json {
        report.print_json();
    }
    result.map(drop)
}

/// The agents, released, if they are to be kept.
fn play(options: &Options, home: &Path, screen: &Screen, report: &mut Report) -> Outcome<Option<Vec<Agent>>> {
    screen.stage("building the release agent");
    let binary = repository::build(&[AGENT], || screen.tick())?.join(AGENT);
    fs::create_dir_all(home).map_err(Failure::io("create", home))?;
    // As the shell sees it: sockets have short paths, and links in the path would count twice.
    let home = home.canonicalize().map_err(Failure::io("find", home))?;
    let mut mesh = Mesh::create(&binary, &home, options.nodes, screen)?;
    screen.stage("preparing the input");
    let copied = match &options.from {
        Some(from) => input::copy_tree(from, mesh.volume(0), &|| screen.tick())?,
        None => input::repository_copies(mesh.volume(0), &|| screen.tick())?,
    };
    if copied.special > 0 {
        eprintln!("left out {} sockets, FIFOs or devices, which are never synchronised", copied.special);
    }
    mesh.room_for(copied.bytes)?;
    report.input(copied.files, copied.bytes);
    let start = Instant::now();
    for play in steps::ALL {
        report.step(play(&mut mesh)?);
        report.claims(mesh.early_claims());
    }
    report.took(start.elapsed());
    if options.keep {
        return Ok(Some(mesh.release()));
    }
    screen.stage("stopping the agents");
    mesh.stop()?;
    Ok(None)
}

fn remove(home: &Path) {
    if let Err(reason) = fs::remove_dir_all(home) {
        eprintln!("could not remove {}: {reason}", home.display());
    }
}

/// Removes all but the logs, and says where they are. Agents are gone by now: they ended with the mesh.
fn keep_logs(home: &Path) {
    let Ok(listing) = fs::read_dir(home) else {
        return;
    };
    for item in listing.flatten() {
        if item.file_name() != "logs" && fs::remove_dir_all(item.path()).is_err() {
            eprintln!("could not remove {}", item.path().display());
        }
    }
    eprintln!("the agents' logs are in {}", home.join("logs").display());
    eprintln!("run it again with --keep to have their directories as well");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    /// Two nodes with an agent that does nothing but claim that all is well.
    fn mesh<'a>(home: &Path, screen: &'a Screen) -> Mesh<'a> {
        let agent = home.join("agent");
        let script = "#!/bin/sh\ncase $1 in\nca) mkdir -p \"$4\";;\nrun) exec sleep 600;;\nesac\n";
        // By another process: a program that another test starts meanwhile would inherit what this one has open for writing, and
        // until it has become that program nobody can run the script.
        let write = "printf %s \"$2\" > \"$1\" && chmod 755 \"$1\"";
        let written = Command::new("sh").args(["-c", write, "sh"]).arg(&agent).arg(script).status().unwrap();
        assert!(written.success());
        let mesh = Mesh::create(&agent, home, 2, screen).unwrap();
        input::repository_copies(mesh.volume(0), &|| {}).unwrap();
        mesh
    }

    #[test]
    fn all_steps_pass_where_both_nodes_have_one_directory() {
        let home = tempfile::tempdir().unwrap();
        let screen = Screen::new();
        let mut mesh = mesh(home.path(), &screen);
        fs::remove_dir(mesh.volume(1)).unwrap();
        symlink(mesh.volume(0), mesh.volume(1)).unwrap();
        for play in &steps::ALL[..steps::ALL.len() - steps::WITH_AGENTS] {
            let step = play(&mut mesh).map_err(|failure| failure.to_string());
            assert!(step.unwrap().files > 0);
        }
        assert_eq!(mesh.early_claims(), 0);
    }

    #[test]
    fn a_mesh_that_copies_nothing_does_not_pass() {
        let home = tempfile::tempdir().unwrap();
        let screen = Screen::new();
        let mut mesh = mesh(home.path(), &screen);
        mesh.observe_all(0).unwrap();
        let told = mesh.compare_once().unwrap_err().to_string();
        assert!(told.contains("b: copy-000: missing directory"), "{told}");
    }
}

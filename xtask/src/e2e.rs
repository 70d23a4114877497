//! `cargo xtask e2e`: the end-to-end stories' binary, in release, with the same flags.

use crate::failure::{Failure, Outcome};
use crate::repository;
use clap::Args;
use std::process::Command;

/// Which stories to tell.
#[derive(Args)]
pub struct Options {
    /// Only this story; can be given several times. `list` names them all.
    #[arg(long, value_name = "NAME")]
    story: Vec<String>,
    /// All stories, not only those that are quick.
    #[arg(long, conflicts_with = "story")]
    all: bool,
    /// Leave in the cluster what a story made, for looking at it.
    #[arg(long)]
    keep: bool,
}

/// Tells the stories; their words go through.
pub fn run(options: &Options) -> Outcome<()> {
    // Stories start the operator from beside their own binary.
    let mut operator = repository::cargo();
    operator.args(["build", "--quiet", "--release", "-p", "syncmesh-operator"]);
    run_to_its_end(operator)?;
    let mut command = repository::cargo();
    command.args(["run", "--quiet", "--release", "-p", "syncmesh-e2e", "--"]);
    for name in &options.story {
        command.args(["--story", name]);
    }
    if options.all {
        command.arg("--all");
    }
    if options.keep {
        command.arg("--keep");
    }
    run_to_its_end(command)
}

fn run_to_its_end(mut command: Command) -> Outcome<()> {
    let status = command.status().map_err(|reason| Failure::new(format!("could not run cargo: {reason}")))?;
    // It has said itself what failed.
    if status.success() { Ok(()) } else { Err(Failure::reported()) }
}

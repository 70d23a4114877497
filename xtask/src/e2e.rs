//! `cargo xtask e2e`: the end-to-end stories' binary, in release, with the same flags.

use crate::failure::{Failure, Outcome};
use crate::repository;
use clap::Args;
use std::process::Command;

/// Which stories to tell.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// The stories' own flags, which `--help` names
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
    flags: Vec<String>,
}

/// Tells the stories; their words go through.
pub fn run(options: &Options) -> Outcome<()> {
    // Stories start the operator and kubectl's plugin from beside their own binary.
    let mut programs = repository::cargo();
    programs.args(["build", "--quiet", "--release", "-p", "syncmesh-operator", "-p", "syncmesh-cli"]);
    run_to_its_end(programs)?;
    let mut command = repository::cargo();
    command.args(["run", "--quiet", "--release", "-p", "syncmesh-e2e", "--"]).args(&options.flags);
    run_to_its_end(command)
}

fn run_to_its_end(mut command: Command) -> Outcome<()> {
    let status = command.status().map_err(|reason| Failure::new(format!("could not run cargo: {reason}")))?;
    // It has said itself what failed.
    if status.success() { Ok(()) } else { Err(Failure::reported()) }
}

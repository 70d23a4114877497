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

/// What stories run: the image's binaries, those that they find beside their own, and their own.
const BINARIES: [&str; 4] = ["syncmesh-agent", "syncmesh-operator", "kubectl-syncmesh", "syncmesh-e2e"];

/// Tells the stories; their words go through.
pub fn run(options: &Options) -> Outcome<()> {
    let stories = repository::build(&BINARIES, || {})?.join("syncmesh-e2e");
    let status = Command::new(&stories).args(&options.flags).current_dir(repository::root()).status();
    // They have said themselves what failed.
    if status.map_err(Failure::io("run", &stories))?.success() { Ok(()) } else { Err(Failure::reported()) }
}

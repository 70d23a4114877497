//! `cargo xtask sim`: the simulator's binary, in release, with the same flags.

use crate::failure::{Failure, Outcome};
use crate::repository;
use clap::Args;
use std::process::Command;

/// Which meshes to simulate.
#[derive(Args)]
pub struct Options {
    /// How many seeds to run, one after another.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run only this seed.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Print every step of it.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Stop after this many minutes, however many seeds are left.
    #[arg(long)]
    minutes: Option<u64>,
}

/// Runs the simulator; its words go through.
pub fn run(options: &Options) -> Outcome<()> {
    let mut command = simulate();
    match options.seed {
        Some(seed) => command.args(["--seed", &seed.to_string()]),
        None => command.args(["--seeds", &options.seeds.to_string(), "--from", &options.from.to_string()]),
    };
    if options.trace {
        command.arg("--trace");
    }
    if let Some(minutes) = options.minutes {
        command.args(["--minutes", &minutes.to_string()]);
    }
    let status = command.status().map_err(|reason| Failure::new(format!("could not run cargo: {reason}")))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "the simulator ended with {status}; repeat one seed with `cargo xtask sim --seed S --trace`"
        )))
    }
}

/// `cargo run` of the simulator, flags to be added.
pub fn simulate() -> Command {
    let mut command = repository::release("run");
    command.args(["--quiet", "--bin", "simulate", "--"]);
    command
}

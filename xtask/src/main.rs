//! `cargo xtask`: what developers and CI run. `cargo xtask --help` lists it.

// Everything here measures or waits for the real world; simulated time ends at the agent's seams.
#![allow(clippy::disallowed_types)]

mod agents;
mod bench;
mod chart;
mod checks;
mod codegen;
mod demo;
mod e2e;
mod failure;
mod image;
mod interrupt;
mod reference;
mod repository;
mod sim;
mod test;
mod testlog;
mod tree;
mod usage;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Developer commands of SyncMesh.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a mesh on this machine and play on a real directory tree.
    ///
    /// Example: cargo xtask demo --from ~/projects --nodes 4 --keep
    Demo(demo::Options),
    /// Run every check and every test that this machine can run.
    Test,
    /// Measure SyncMesh beside `cp -a`, rsync's daemon and Syncthing, where they are installed.
    ///
    /// Example: cargo xtask bench small-files latency --quick
    Bench(bench::Options),
    /// Tell end-to-end stories on the cluster of $KUBECONFIG.
    ///
    /// Example: KUBECONFIG=kind.config cargo xtask e2e --story schema
    E2e(e2e::Options),
    /// Write what is made from something else: the kinds' definitions from their types, their reference, plain manifests from the chart.
    Codegen,
    /// Build the image of agent and operator with Docker, from static binaries.
    ///
    /// Example: cargo xtask image && kind load docker-image syncmesh:0.1.0
    Image(image::Options),
    /// Run simulated meshes from seeds.
    ///
    /// Example: cargo xtask sim --seeds 500, then for a failing one: cargo xtask sim --seed 17 --trace
    Sim(sim::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.command {
        Command::Demo(options) => demo::run(options),
        Command::Test => test::run(),
        Command::Bench(options) => bench::run(options),
        Command::E2e(options) => e2e::run(options),
        Command::Codegen => codegen::run(),
        Command::Image(options) => image::run(options),
        Command::Sim(options) => sim::run(options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Already reported failures are empty: the report stands above.
            let text = failure.to_string();
            if !text.is_empty() {
                eprintln!("error: {text}");
            }
            ExitCode::FAILURE
        }
    }
}

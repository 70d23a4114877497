//! The command line.

use crate::mesh::desired::Home;
use crate::run;
use clap::{Args, Parser, Subcommand};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "syncmesh-operator", version, about = "Runs SyncMesh on a Kubernetes cluster")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs until it is told to stop, or another operator leads
    Run(Run),
}

/// What a run is told.
#[derive(Args)]
struct Run {
    /// The namespace of agents and of the lease
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    namespace: String,
    /// This operator among others, in the lease
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    name: String,
    /// The agents' image, where a mesh names none
    #[arg(long, value_name = "IMAGE", env = "AGENT_IMAGE")]
    agent_image: String,
    /// Where metrics and health are served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9401")]
    metrics: SocketAddr,
    /// The least severity that is logged
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["error", "warn", "info", "debug", "trace"])]
    log_level: String,
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let Command::Run(arguments) = Arguments::parse().command;
    let filter = EnvFilter::new(format!("warn,syncmesh_operator={}", arguments.log_level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    let settings = run::Settings {
        home: Home { namespace: arguments.namespace, image: arguments.agent_image },
        name: arguments.name,
        metrics: arguments.metrics,
    };
    match run::main(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody reads it if this fails; `eprintln!` would panic.
            let _ = writeln!(io::stderr(), "syncmesh-operator: {failure}");
            ExitCode::FAILURE
        }
    }
}

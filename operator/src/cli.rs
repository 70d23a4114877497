//! The command line.

use crate::error::Error;
use crate::mesh::desired::Home;
use crate::mesh::first::{self, FirstMesh};
use crate::{run, uninstall};
use clap::{Args, Parser, Subcommand};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use syncmesh_crds::mesh::SyncMeshSpec;
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
    /// Ends an installation: the chart's hook before it is deleted
    Uninstall(Uninstall),
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
    /// A mesh that is made once, if the cluster has none
    #[arg(long, value_name = "NAME")]
    default_mesh: Option<String>,
    /// What is wanted of that mesh
    #[arg(long, value_name = "JSON", default_value = "{}", requires = "default_mesh", value_parser = first::read_spec)]
    default_mesh_spec: SyncMeshSpec,
    /// Where metrics and health are served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9401")]
    metrics: SocketAddr,
    /// The least severity that is logged
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["error", "warn", "info", "debug", "trace"])]
    log_level: String,
}

/// What an uninstallation is told.
#[derive(Args)]
struct Uninstall {
    /// The namespace of operator and agents
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    namespace: String,
    /// The release's name, for commands that are printed
    #[arg(long, value_name = "NAME", env = "HELM_RELEASE", default_value = "syncmesh")]
    release: String,
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Run(arguments) => run(arguments).map_err(|failure| failure.to_string()),
        Command::Uninstall(arguments) => {
            let Uninstall { namespace, release } = arguments;
            uninstall::main(&uninstall::Settings { namespace, release }).map_err(|stopped| stopped.to_string())
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody reads it if this fails; `eprintln!` would panic.
            let _ = writeln!(io::stderr(), "syncmesh-operator: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Run) -> Result<(), Error> {
    let filter = EnvFilter::new(format!("warn,syncmesh_operator={}", arguments.log_level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    let settings = run::Settings {
        home: Home { namespace: arguments.namespace, image: arguments.agent_image },
        name: arguments.name,
        first_mesh: arguments.default_mesh.map(|name| FirstMesh { name, spec: arguments.default_mesh_spec }),
        metrics: arguments.metrics,
    };
    run::main(settings)
}

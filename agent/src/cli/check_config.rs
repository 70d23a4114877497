//! `check-config`.

use super::{Failure, print, read_config};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  syncmesh-agent check-config agent.yaml
  syncmesh-agent check-config /etc/syncmesh/agent.yaml && systemctl restart syncmesh-agent

Exit code 0: it can be used. 1: it can't; each problem is printed with its line and field. Whether directories and
certificates exist is not looked at: \"plan\" and \"run\" do.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The configuration
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs the command.
pub(super) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let config = read_config(&arguments.file)?;
    let volumes = config.volumes.len();
    print(&format!("ok: node {}, {volumes} volume{}\n", config.node, if volumes == 1 { "" } else { "s" }))
}

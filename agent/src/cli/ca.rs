//! `ca create`, `ca issue`, `ca revoke`.

use super::{Failure, print};
use clap::Subcommand;
use std::path::PathBuf;
use syncmesh_config::NodeName;
use syncmesh_engine::ca;
use syncmesh_engine::wall::unix_now;

const CREATE: &str = "\
Example:
  syncmesh-agent ca create --out ca

Keep ca.key where no node can read it, with a copy in a safe place: whoever has it can join the mesh.";

const ISSUE: &str = "\
Examples:
  syncmesh-agent ca issue --ca ca --node a --out a
  syncmesh-agent ca issue --ca ca --node node-2.site --out renewed --days 90

Copy the three files to the node and name them under identity in its configuration. To renew, issue to a new directory
and move the files over the old ones; the agent loads them without a restart.";

const REVOKE: &str = "\
Example:
  syncmesh-agent ca revoke --ca ca --node b

Copy ca/revoked to one node that names it under identity.revoked: it tells the others, and sessions with b end at once. Keep ca/revoked
with the CA: the next list goes on from it. Identities that are issued to b from then on count.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make the mesh's CA, once, for ten years: DIR/ca.pem and DIR/ca.key
    #[command(after_help = CREATE)]
    Create {
        /// Directory to write to; nothing in it is overwritten
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Issue an identity to a node: DIR/ca.pem, DIR/NAME.pem and DIR/NAME.key
    #[command(after_help = ISSUE)]
    Issue {
        /// Directory that "ca create" wrote
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// The node's name, like a or node-2.site
        #[arg(long, value_name = "NAME")]
        node: NodeName,
        /// Directory to write to; nothing in it is overwritten
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// How long the identity is valid
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
    /// Revoke what was issued to a node so far: DIR/revoked, a list that the CA signs
    #[command(after_help = REVOKE)]
    Revoke {
        /// Directory that "ca create" wrote
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// The node's name, like a or node-2.site
        #[arg(long, value_name = "NAME")]
        node: NodeName,
    },
}

/// Runs the command.
pub(super) fn main(command: &Command) -> Result<(), Failure> {
    let now = unix_now();
    let fail = |error: ca::CaError| Failure::no(error.to_string());
    let days = |not_after: u64| not_after.saturating_sub(now) / (24 * 3600);
    match command {
        Command::Create { out } => {
            let made = ca::create(out, now).map_err(fail)?;
            print(&format!(
                "made a CA for {} days:\n  {}  give it to every node\n  {}  keep it where no node can read it\n",
                days(made.not_after),
                made.certificate.display(),
                made.key.display()
            ))
        }
        Command::Issue { ca, node, out, days: valid } => {
            let issued = ca::issue(ca, node, out, *valid, now).map_err(fail)?;
            print(&format!(
                "issued an identity to {node} for {} days:\n  {}\n  {}\n  {}\n",
                days(issued.not_after),
                issued.ca.display(),
                issued.certificate.display(),
                issued.key.display()
            ))
        }
        Command::Revoke { ca, node } => {
            let listed = ca::revoke(ca, node, now).map_err(fail)?;
            print(&format!(
                "revoked what was issued to {node} so far; nodes on the list: {}\n  {}  give it to one node that names it under identity.revoked\n",
                listed.nodes,
                listed.list.display()
            ))
        }
    }
}

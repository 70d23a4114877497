//! `orphans`.

use super::reach::ask;
use super::status::Output;
use super::table::{bytes, table};
use super::{Failure, Which, print};
use crate::control::admin::Request;
use crate::kubernetes::directories::Owner;
use crate::kubernetes::orphans::{HandOver, Listed};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  syncmesh-agent orphans list
  syncmesh-agent orphans purge 5d0e --yes
  syncmesh-agent orphans hand-over 5d0e --namespace web --namespace-uid 9f1c --volume docs

For agents in a cluster: directories of this node that no object asks for. `kubectl syncmesh orphans` asks all nodes, and sees
whether a pod uses one, which an agent can't.

Exit code 0: done. 1: it is used, or isn't there. 2: the agent can't be reached.";

/// Millions of files may have to be counted, or deleted.
const LIMIT: Duration = Duration::from_secs(3600);

#[derive(Debug, clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Command {
    /// Show them, and whose they were
    List(List),
    /// Delete one for good
    Purge(Purge),
    /// Give one to another volume, with its files
    HandOver(Given),
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
pub(super) struct Purge {
    /// Its volumeID
    #[arg(value_name = "ID")]
    id: String,
    /// Its files are to be deleted
    #[arg(long, required = true)]
    yes: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
pub(super) struct Given {
    /// Its volumeID
    #[arg(value_name = "ID")]
    id: String,
    /// The volume's namespace
    #[arg(long, value_name = "NAME")]
    namespace: String,
    /// The uid of that namespace
    #[arg(long, value_name = "UID")]
    namespace_uid: String,
    /// The volume
    #[arg(long, value_name = "NAME")]
    volume: String,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
struct How {
    #[command(flatten)]
    which: Which,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Runs the command.
pub(super) fn main(command: &Command) -> Result<(), Failure> {
    match command {
        Command::List(List { how }) => {
            let all: Vec<Listed> = answer(how, &Request::Orphans {})?;
            show(how, &all, &all)
        }
        Command::Purge(Purge { id, how, .. }) => {
            let gone: Listed = answer(how, &Request::PurgeOrphan { volume_id: id.clone() })?;
            show(how, &gone, std::slice::from_ref(&gone))
        }
        Command::HandOver(Given { id, namespace, namespace_uid, volume, how }) => {
            let owner =
                Owner { namespace: namespace.clone(), namespace_uid: namespace_uid.clone(), volume: volume.clone() };
            let order = HandOver { volume_id: id.clone(), owner };
            let given: Listed = answer(how, &Request::HandOverOrphan(order))?;
            show(how, &given, std::slice::from_ref(&given))
        }
    }
}

fn answer<T: serde::de::DeserializeOwned>(how: &How, request: &Request) -> Result<T, Failure> {
    ask(&how.which.socket()?, request, LIMIT).map_err(Failure::of_agent)
}

fn show(how: &How, answer: &impl serde::Serialize, listed: &[Listed]) -> Result<(), Failure> {
    match how.output {
        Output::Json => print(&format!("{}\n", serde_json::to_string(answer).expect("it is a plain struct"))),
        Output::Table => print(&lines(listed)),
    }
}

fn lines(listed: &[Listed]) -> String {
    let row = |one: &Listed| {
        let owner = one.owner.as_ref().map(|owner| format!("{}/{}", owner.namespace, owner.volume));
        vec![one.volume_id.clone(), owner.unwrap_or_default(), one.files.to_string(), bytes(one.bytes)]
    };
    table(&["VOLUME ID", "VOLUME", "FILES", "SIZE"], &listed.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_whose_each_was() {
        let owner = Owner { namespace: "web".into(), namespace_uid: "u".into(), volume: "docs".into() };
        let one = Listed { volume_id: "5d0e".into(), owner: Some(owner), files: 2, bytes: 12 };
        let other = Listed { volume_id: "77".into(), owner: None, files: 0, bytes: 0 };
        let text = lines(&[one, other]);
        assert!(text.contains("5d0e       web/docs  2      12 B"), "{text}");
        assert!(text.contains("77         -         0      0 B"), "{text}");
    }
}

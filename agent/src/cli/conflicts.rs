//! `conflicts`.

use super::reach::ask;
use super::status::Output;
use super::table::{bytes, clean, span, table};
use super::versions::named;
use super::{Failure, Which, print};
use crate::control::admin::Request;
use std::path::PathBuf;
use std::time::Duration;
use syncmesh_config::VolumeName;
use syncmesh_engine::ask::Resolve as Order;
use syncmesh_engine::conflicts::{Choice, Conflicts, Resolved, Whereabouts};
use syncmesh_engine::wall::unix_now;

const EXAMPLES: &str = "\
Examples:
  syncmesh-agent conflicts list
  syncmesh-agent conflicts list --volume docs -o json
  syncmesh-agent conflicts resolve report.odt local     what has the name on this node
  syncmesh-agent conflicts resolve report.odt remote    the other version takes the name
  syncmesh-agent conflicts resolve report.odt both      local, and the others beside it as conflict copies

Decided on one node is decided on all. What lost its name is in the version stores of the nodes that had it.

Exit code 0: done. 1: there is no such conflict or volume. 2: the agent can't be reached.";

/// The loop has ten seconds to answer; the rest is for the way.
const LIMIT: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Command {
    /// Show paths with versions that were written apart from each other
    List(List),
    /// Decide which version has the name, on all nodes
    Resolve(Resolve),
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Only this volume [default: all]
    #[arg(long, value_name = "NAME")]
    volume: Option<VolumeName>,
    #[command(flatten)]
    which: Which,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct Resolve {
    /// A path below a volume's directory, or in the volume
    path: PathBuf,
    /// Which version has the name from here on
    #[arg(value_enum)]
    choice: Word,
    /// Of several other versions the one with these contents, as `list` shows them
    #[arg(long, value_name = "HASH8")]
    contents: Option<String>,
    /// The volume that the path is in [default: the one whose directory it is below, or the only one]
    #[arg(long, value_name = "NAME")]
    volume: Option<VolumeName>,
    #[command(flatten)]
    which: Which,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Word {
    /// What has it on this node
    Local,
    /// The other one
    Remote,
    /// What has it on this node; the others stand beside it as conflict copies
    Both,
}

impl Word {
    fn choice(self) -> Choice {
        match self {
            Self::Local => Choice::Local,
            Self::Remote => Choice::Remote,
            Self::Both => Choice::Both,
        }
    }
}

/// Runs the command.
pub(super) fn main(command: &Command) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => {
            let socket = arguments.which.socket()?;
            let volume = arguments.volume.as_ref().map(|volume| volume.as_str().to_owned());
            let found: Vec<Conflicts> =
                ask(&socket, &Request::Conflicts { volume }, LIMIT).map_err(Failure::of_agent)?;
            match arguments.output {
                Output::Json => {
                    let json = serde_json::to_string(&found).expect("conflicts are plain structs");
                    print(&format!("{json}\n"))
                }
                Output::Table => print(&show(&found, unix_now())),
            }
        }
        Command::Resolve(arguments) => resolve(arguments),
    }
}

fn resolve(arguments: &Resolve) -> Result<(), Failure> {
    let socket = arguments.which.socket()?;
    let order = Order {
        path: named(&arguments.path, arguments.volume.as_ref())?,
        choice: arguments.choice.choice(),
        contents: arguments.contents.clone(),
    };
    let resolved: Resolved = ask(&socket, &Request::Resolve(order), LIMIT).map_err(Failure::of_agent)?;
    match arguments.output {
        Output::Json => {
            print(&format!("{}\n", serde_json::to_string(&resolved).expect("a decision is a plain struct")))
        }
        Output::Table => {
            let when = match arguments.choice {
                Word::Remote => " as soon as its contents are here",
                Word::Local | Word::Both => "",
            };
            print(&format!("decided: {} has the name on all nodes{when}\n", clean(&resolved.contents)))
        }
    }
}

fn show(found: &[Conflicts], now: u64) -> String {
    if found.is_empty() {
        return "there are no conflicts\n".into();
    }
    let mut text = String::new();
    for volume in found {
        let mut rows: Vec<Vec<String>> = Vec::new();
        for conflict in &volume.paths {
            for (number, version) in conflict.versions.iter().enumerate() {
                let place = match &version.place {
                    Whereabouts::Here if conflict.undecided => "has the name here; waits for a decision".into(),
                    Whereabouts::Here => "has the name".into(),
                    Whereabouts::Copy(name) => name.clone(),
                    Whereabouts::Stored => "in the version store".into(),
                    Whereabouts::Elsewhere => format!("on other nodes, like {}", version.node),
                };
                rows.push(vec![
                    if number == 0 { conflict.path.clone() } else { String::new() },
                    version.node.clone(),
                    format!("{} ago", span(now.saturating_mul(1_000).saturating_sub(version.written))),
                    bytes(version.size),
                    version.contents.clone(),
                    place,
                ]);
            }
        }
        text.push_str(&format!("{}: {} paths with conflicts\n\n", clean(&volume.volume), volume.paths.len()));
        text.push_str(&table(&["PATH", "WRITTEN ON", "WHEN", "SIZE", "CONTENTS", "WHERE"], &rows));
        text.push('\n');
    }
    text.push_str("syncmesh-agent conflicts resolve PATH local|remote|both: decides, for all nodes\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncmesh_engine::conflicts::{Conflict, Rival};

    #[test]
    fn a_person_sees_the_versions_of_each_path_and_where_they_are() {
        assert_eq!(show(&[], 0), "there are no conflicts\n");
        let rival = |node: &str, written, place| Rival {
            node: node.into(),
            written,
            size: 12,
            contents: "0a1b2c3d".into(),
            place,
        };
        let versions = vec![rival("a", 95_000, Whereabouts::Here), rival("b", 90_000, Whereabouts::Elsewhere)];
        let paths = vec![Conflict { path: "x/y".into(), undecided: true, versions }];
        let text = show(&[Conflicts { volume: "docs".into(), paths }], 100);
        for part in [
            "docs: 1 paths with conflicts",
            "x/y   a           5 s ago   12 B  0a1b2c3d  has the name here; waits for a decision",
            "b           10 s ago  12 B  0a1b2c3d  on other nodes, like b",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }
}

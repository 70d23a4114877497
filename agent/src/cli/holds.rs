//! `holds`.

use super::reach::ask;
use super::status::Output;
use super::table::{bytes, clean, table};
use super::{Failure, Which, print};
use crate::control::admin::{Decided, Request};
use std::time::Duration;
use syncmesh_config::VolumeName;
use syncmesh_engine::inquiry::{Held, Reason};

const EXAMPLES: &str = "\
Examples:
  syncmesh-agent holds list
  syncmesh-agent holds list --volume docs -o json
  syncmesh-agent holds approve --volume docs    what was deleted is deleted everywhere
  syncmesh-agent holds reject --volume docs     what was deleted returns from the peers

Many deletions at once (deletionGuard in the configuration) wait for your word: the peers keep their files until then,
and everything else goes on. So do files that may have been damaged when power was lost, and of which no peer knows a
newer version: approved they count as they are, rejected what was there before returns and they go to the version store. Approve and reject are about all that a volume holds.

Exit code 0: done. 1: nothing is held, or there is no such volume. 2: the agent can't be reached.";

/// The loop has ten seconds to answer; the rest is for the way.
const LIMIT: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Subcommand)]
#[command(after_help = EXAMPLES)]
pub(super) enum Command {
    /// Show deletions that wait for approval
    List(List),
    /// Carry them out, here and on all nodes
    Approve(Word),
    /// Take them back: what was deleted returns
    Reject(Word),
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    word: Word,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct Word {
    /// Only this volume [default: all]
    #[arg(long, value_name = "NAME")]
    volume: Option<VolumeName>,
    #[command(flatten)]
    which: Which,
}

/// Runs the command.
pub(super) fn main(command: &Command) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => {
            let socket = arguments.word.which.socket()?;
            let request = Request::Holds { volume: arguments.word.volume() };
            let held: Vec<Held> = ask(&socket, &request, LIMIT).map_err(Failure::of_agent)?;
            match arguments.output {
                Output::Json => {
                    let json = serde_json::to_string(&held).expect("what is held is plain structs");
                    print(&format!("{json}\n"))
                }
                Output::Table => print(&show(&held)),
            }
        }
        Command::Approve(word) => word.decide(|volume| Request::ApproveHolds { volume }, "approved"),
        Command::Reject(word) => word.decide(|volume| Request::RejectHolds { volume }, "taken back"),
    }
}

impl Word {
    fn volume(&self) -> Option<String> {
        self.volume.as_ref().map(|volume| volume.as_str().to_owned())
    }

    fn decide(&self, request: impl FnOnce(Option<String>) -> Request, done: &str) -> Result<(), Failure> {
        let socket = self.which.socket()?;
        let decided: Decided = ask(&socket, &request(self.volume()), LIMIT).map_err(Failure::of_agent)?;
        print(&format!("{} paths are {done}\n", decided.decided))
    }
}

fn show(held: &[Held]) -> String {
    if held.is_empty() {
        return "nothing is held\n".into();
    }
    let mut text = String::new();
    for volume in held {
        let rows: Vec<Vec<String>> = volume
            .paths
            .iter()
            .map(|path| {
                let reason = match path.reason {
                    Reason::DeletedThere => "deleted by a peer; still here",
                    Reason::DeletedHere => "deleted here; peers have it still",
                    Reason::Suspect => "may be damaged by power loss; told to nobody",
                };
                vec![path.path.clone(), bytes(path.bytes), reason.into()]
            })
            .collect();
        text.push_str(&format!("{}: {} paths are held\n\n", clean(&volume.volume), volume.files));
        text.push_str(&table(&["PATH", "SIZE", "WHY"], &rows));
        let more = volume.files - volume.paths.len() as u64;
        if more > 0 {
            text.push_str(&format!("and {more} more\n"));
        }
        text.push('\n');
    }
    text.push_str("syncmesh-agent holds approve: delete them everywhere, and believe what may be damaged; holds reject: bring back what was there\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncmesh_engine::inquiry::{HeldPath, Reason};

    #[test]
    fn a_person_sees_what_is_held_and_what_to_do() {
        assert_eq!(show(&[]), "nothing is held\n");
        let path = |path: &str, reason| HeldPath { path: path.into(), reason, bytes: 12 };
        let paths = vec![path("a/b", Reason::DeletedHere), path("c", Reason::DeletedThere)];
        let text = show(&[Held { volume: "docs".into(), files: 600, paths }]);
        let expected = "\
docs: 600 paths are held

PATH  SIZE  WHY
a/b   12 B  deleted here; peers have it still
c     12 B  deleted by a peer; still here
and 598 more

syncmesh-agent holds approve: delete them everywhere, and believe what may be damaged; holds reject: bring back what was there
";
        assert_eq!(text, expected);
    }
}

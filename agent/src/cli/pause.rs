//! `pause`, `resume` and `rescan`.

use super::reach::ask;
use super::status::Output;
use super::{Failure, Which, print};
use crate::control::admin::{Ordered, Request};
use std::time::Duration;
use syncmesh_config::VolumeName;

const PAUSE: &str = "\
Examples:
  syncmesh-agent pause
  syncmesh-agent pause --volume docs -o json

A paused volume looks at nothing, announces nothing, applies and fetches nothing; its files are ordinary files. It stays
paused over restarts until \"syncmesh-agent resume\", and then finds what was changed meanwhile.

Exit code 0: done, also if it was paused before. 1: there is no such volume. 2: the agent can't be reached.";

const RESUME: &str = "\
Examples:
  syncmesh-agent resume
  syncmesh-agent resume --volume docs && syncmesh-agent wait --in-sync --volume docs

Exit code 0: done, also if it wasn't paused. 1: there is no such volume, or its configuration says \"paused: true\".
2: the agent can't be reached.";

const RESCAN: &str = "\
Examples:
  syncmesh-agent rescan
  syncmesh-agent rescan --volume docs --contents && syncmesh-agent wait --in-sync --timeout 1h

Changes are found without it: this is for file systems that lose events, and for peace of mind. With --contents every
file is read. One whose contents changed while size and times didn't is named in the status and announced to nobody.

Exit code 0: it has begun. 1: there is no such volume. 2: the agent can't be reached.";

/// The loop has ten seconds to answer; the rest is for the way.
const LIMIT: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
#[command(after_help = PAUSE)]
pub(super) struct Pause {
    #[command(flatten)]
    order: Order,
}

#[derive(Debug, clap::Args)]
#[command(after_help = RESUME)]
pub(super) struct Resume {
    #[command(flatten)]
    order: Order,
}

#[derive(Debug, clap::Args)]
#[command(after_help = RESCAN)]
pub(super) struct Rescan {
    /// Read the contents of all files
    #[arg(long)]
    contents: bool,
    #[command(flatten)]
    order: Order,
}

#[derive(Debug, clap::Args)]
struct Order {
    /// Only this volume [default: all]
    #[arg(long, value_name = "NAME")]
    volume: Option<VolumeName>,
    #[command(flatten)]
    which: Which,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Runs `pause`.
pub(super) fn pause(arguments: &Pause) -> Result<(), Failure> {
    arguments.order.give(|volume| Request::Pause { volume }, "paused")
}

/// Runs `resume`.
pub(super) fn resume(arguments: &Resume) -> Result<(), Failure> {
    arguments.order.give(|volume| Request::Resume { volume }, "goes on")
}

/// Runs `rescan`.
pub(super) fn rescan(arguments: &Rescan) -> Result<(), Failure> {
    let contents = arguments.contents;
    arguments.order.give(|volume| Request::Rescan { volume, contents }, "is looked at again")
}

impl Order {
    fn give(&self, request: impl FnOnce(Option<String>) -> Request, done: &str) -> Result<(), Failure> {
        let socket = self.which.socket()?;
        let volume = self.volume.as_ref().map(|volume| volume.as_str().to_owned());
        let ordered: Ordered = ask(&socket, &request(volume), LIMIT).map_err(Failure::of_agent)?;
        match self.output {
            Output::Json => print(&format!("{}\n", serde_json::to_string(&ordered).expect("it is a plain struct"))),
            Output::Table => {
                let lines: Vec<String> = ordered.volumes.iter().map(|volume| format!("{volume}: {done}\n")).collect();
                print(&lines.concat())
            }
        }
    }
}

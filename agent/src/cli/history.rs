//! `history`.

use super::reach::ask;
use super::status::Output;
use super::table::{bytes, table};
use super::versions::named;
use super::{Failure, Which, print};
use crate::control::admin::Request;
use std::path::{Path, PathBuf};
use std::time::Duration;
use syncmesh_config::VolumeName;
use syncmesh_engine::ask::Past;
use syncmesh_engine::history::{Change, State, What};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const EXAMPLES: &str = "\
Examples:
  syncmesh-agent history                       the latest changes of the only volume
  syncmesh-agent history reports -n 100        of what is below a directory
  syncmesh-agent history reports/may.odt       the versions of a file: current, lost, stored here
  syncmesh-agent history --volume docs -o json

Newest first. Of a directory each path's latest change is shown, by the clock of the node on which it was made. A file has
its older versions only as far as this node's store has them: their time is when they were displaced here.

Exit code 0: shown. 1: nothing is known of it. 2: the agent can't be reached.";

/// A walk over millions of rows takes seconds.
const LIMIT: Duration = Duration::from_secs(75);

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// A path below a volume's directory, or in the volume [default: all of the volume]
    path: Option<PathBuf>,
    /// How many changes
    #[arg(short, long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    number: u32,
    /// The volume that the path is in [default: the one whose directory it is below, or the only one]
    #[arg(long, value_name = "NAME")]
    volume: Option<VolumeName>,
    #[command(flatten)]
    which: Which,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Runs the command.
pub(super) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let socket = arguments.which.socket()?;
    let volume = arguments.volume.as_ref();
    let path = match &arguments.path {
        Some(path) => named(path, volume)?,
        // Not the directory that the command is called in.
        None => syncmesh_engine::ask::Named { absolute: "/".into(), ..named(Path::new("."), volume)? },
    };
    let request = Request::History(Past { path, number: arguments.number });
    let changes: Vec<Change> = ask(&socket, &request, LIMIT).map_err(Failure::of_agent)?;
    match arguments.output {
        Output::Json => print(&format!("{}\n", serde_json::to_string(&changes).expect("changes are plain structs"))),
        Output::Table => print(&show(&changes)),
    }
}

fn show(changes: &[Change]) -> String {
    let rows: Vec<Vec<String>> = changes
        .iter()
        .map(|change| {
            let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(change.at) * 1_000_000).ok();
            let at = at.and_then(|at| at.replace_nanosecond(0).ok()?.format(&Rfc3339).ok());
            let what = match change.what {
                What::Written => "written",
                What::Linked => "linked",
                What::Made => "made",
                What::Deleted => "deleted",
                What::Attributes => "mode or owner",
            };
            let state = match change.state {
                State::Current => "current".to_owned(),
                State::Pending => "not here yet".to_owned(),
                State::Lost => "lost a conflict".to_owned(),
                State::Stored => format!("stored as {}", change.at),
                State::StoredLoser => format!("lost a conflict, stored as {}", change.at),
            };
            let size = if change.what == What::Written { bytes(change.size) } else { String::new() };
            let node = change.node.clone().unwrap_or_default();
            let contents = change.contents.clone().unwrap_or_default();
            vec![at.unwrap_or_default(), node, what.into(), change.path.clone(), size, contents, state]
        })
        .collect();
    table(&["WHEN", "NODE", "WHAT", "PATH", "SIZE", "CONTENTS", "STATE"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_what_changed_when_and_where() {
        let written = Change {
            at: 1_700_000_000_123,
            path: "d/f".into(),
            what: What::Written,
            node: Some("a".into()),
            size: 12,
            contents: Some("0a1b2c3d".into()),
            state: State::Current,
        };
        let deleted = Change {
            at: 1_700_000_100_000,
            what: What::Deleted,
            size: 0,
            contents: None,
            state: State::Pending,
            ..written.clone()
        };
        let stored = Change { node: None, state: State::Stored, ..written.clone() };
        let expected = "\
WHEN                  NODE  WHAT     PATH  SIZE  CONTENTS  STATE
2023-11-14T22:15:00Z  a     deleted  d/f   -     -         not here yet
2023-11-14T22:13:20Z  a     written  d/f   12 B  0a1b2c3d  current
2023-11-14T22:13:20Z  -     written  d/f   12 B  0a1b2c3d  stored as 1700000000123
";
        assert_eq!(show(&[deleted, written, stored]), expected);
    }
}

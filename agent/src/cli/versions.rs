//! `versions` and `restore`.

use super::reach::ask;
use super::status::Output;
use super::table::{bytes, span, table};
use super::{Failure, Which as Agent, print};
use crate::control::admin::Request;
use std::path::{Path, PathBuf};
use std::time::Duration;
use syncmesh_config::{VolumeName, parse_duration};
use syncmesh_engine::ask::{Named, Restore as Order};
use syncmesh_engine::versions::{Restored, Version, Which};
use syncmesh_engine::wall::unix_now;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const VERSIONS: &str = "\
Examples:
  syncmesh-agent versions reports/may.odt
  syncmesh-agent versions /srv/docs/reports/may.odt -o json
  syncmesh-agent versions --volume docs reports/may.odt

A node stores what it took away from its own directory: what peers replaced or deleted, and losers of conflicts. What a
user deleted or overwrote on this node is in the stores of the others: ask there.

Exit code 0: shown, also if there is none. 1: no such path or volume. 2: the agent can't be reached.";

const RESTORE: &str = "\
Examples:
  syncmesh-agent restore reports/may.odt                       the version that was displaced last
  syncmesh-agent restore reports/may.odt --version 1764000000000
  syncmesh-agent restore reports/may.odt --at 2h --to old.odt  as it was two hours ago, under another name
  syncmesh-agent restore reports                               every deleted file below a directory

What has the name goes to the version store in its turn. The restored file is sent to all nodes like any edit.

Exit code 0: all is back. 1: something isn't, and why. 2: the agent can't be reached.";

/// The loop has ten seconds to answer; the rest is for the way.
const LIMIT: Duration = Duration::from_secs(15);

/// A restore may take as long as the agent lets it.
const LONG: Duration = Duration::from_secs(3_620);

#[derive(Debug, clap::Args)]
#[command(after_help = VERSIONS)]
pub(super) struct Versions {
    /// A path below a volume's directory, or in the volume
    path: PathBuf,
    /// The volume that the path is in [default: the one whose directory it is below, or the only one]
    #[arg(long, value_name = "NAME")]
    volume: Option<VolumeName>,
    #[command(flatten)]
    which: Agent,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, clap::Args)]
#[command(after_help = RESTORE)]
pub(super) struct Restore {
    /// A path below a volume's directory, or in the volume
    path: PathBuf,
    /// A version as `versions` shows it [default: the one that was displaced last]
    #[arg(long, value_name = "V", conflicts_with = "at")]
    version: Option<u64>,
    /// As it was then: like 2026-11-22T10:00:00Z, or 2h for two hours ago
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<u64>,
    /// Another path to bring it back under
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,
    /// The volume that the path is in [default: the one whose directory it is below, or the only one]
    #[arg(long, value_name = "NAME")]
    volume: Option<VolumeName>,
    #[command(flatten)]
    which: Agent,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// A moment in milliseconds since 1970: RFC 3339, or a duration ago.
fn moment(text: &str) -> Result<u64, String> {
    if let Ok(ago) = parse_duration(text) {
        let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        return Ok((unix_now() * 1_000).saturating_sub(ago));
    }
    let at = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| format!("{text} is no moment: write 2026-11-22T10:00:00Z, or 2h for two hours ago"))?;
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).map_err(|_| format!("{text} is before 1970"))
}

pub(super) fn named(path: &Path, volume: Option<&VolumeName>) -> Result<Named, Failure> {
    let text = |path: &Path| {
        path.to_str().map(str::to_owned).ok_or_else(|| {
            Failure::no(format!(
                "{} isn't UTF-8: restore its directory, or take it out of .syncmesh/store by hand",
                path.display()
            ))
        })
    };
    let absolute = std::path::absolute(path).map_err(|error| Failure::no(format!("{}: {error}", path.display())))?;
    Ok(Named {
        volume: volume.map(|volume| volume.as_str().to_owned()),
        typed: text(path)?,
        absolute: text(&resolved(&absolute))?,
    })
}

/// With links resolved in what is there of it: volumes are known by their real paths.
fn resolved(path: &Path) -> PathBuf {
    let parent = path.parent().zip(path.file_name());
    match parent {
        Some((parent, name)) => parent.canonicalize().unwrap_or_else(|_| resolved(parent)).join(name),
        None => path.to_path_buf(),
    }
}

/// Runs `versions`.
pub(super) fn list(arguments: &Versions) -> Result<(), Failure> {
    let socket = arguments.which.socket()?;
    let request = Request::Versions(named(&arguments.path, arguments.volume.as_ref())?);
    let versions: Vec<Version> = ask(&socket, &request, LIMIT).map_err(Failure::of_agent)?;
    match arguments.output {
        Output::Json => print(&format!("{}\n", serde_json::to_string(&versions).expect("versions are plain structs"))),
        Output::Table => print(&show(&versions, unix_now())),
    }
}

/// Runs `restore`.
pub(super) fn restore(arguments: &Restore) -> Result<(), Failure> {
    let socket = arguments.which.socket()?;
    let volume = arguments.volume.as_ref();
    let which = match (arguments.version, arguments.at) {
        (Some(version), _) => Which::Version(version),
        (None, Some(at)) => Which::At(at),
        (None, None) => Which::Newest,
    };
    let to = arguments.to.as_ref().map(|to| named(to, volume)).transpose()?;
    let request = Request::Restore(Order { path: named(&arguments.path, volume)?, which, to });
    let restored: Restored = ask(&socket, &request, LONG).map_err(Failure::of_agent)?;
    match arguments.output {
        Output::Json => print(&format!("{}\n", serde_json::to_string(&restored).expect("it is a plain struct")))?,
        Output::Table => print(&format!("{} files restored ({})\n", restored.files, bytes(restored.bytes)))?,
    }
    match restored.left.as_slice() {
        [] => Ok(()),
        left => Err(Failure::no(left.join("\n"))),
    }
}

fn show(versions: &[Version], now: u64) -> String {
    if versions.is_empty() {
        return "this node's store has no version of it; other nodes may: ask there\n".into();
    }
    let rows: Vec<Vec<String>> = versions
        .iter()
        .map(|version| {
            let modified = OffsetDateTime::from_unix_timestamp_nanos(i128::from(version.modified)).ok();
            let modified = modified.and_then(|at| at.replace_nanosecond(0).ok()?.format(&Rfc3339).ok());
            vec![
                version.version.to_string(),
                format!("{} ago", span(now.saturating_mul(1_000).saturating_sub(version.version))),
                bytes(version.size),
                modified.unwrap_or_default(),
                version.contents.clone().unwrap_or_default(),
                if version.pinned { "lost a conflict".into() } else { String::new() },
            ]
        })
        .collect();
    table(&["VERSION", "DISPLACED", "SIZE", "MODIFIED", "CONTENTS", "PINNED"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_or_spans() {
        assert_eq!(moment("2026-11-22T10:00:00Z"), Ok(1_795_341_600_000));
        let now = unix_now() * 1_000;
        assert!(moment("2h").is_ok_and(|at| (now - 7_200_000..now - 7_190_000).contains(&at)));
        assert!(moment("yesterday").unwrap_err().contains("write 2026"));
    }

    #[test]
    fn versions_are_shown_newest_first_as_they_came() {
        let version = |millis, contents: Option<&str>| Version {
            version: millis,
            size: 12,
            modified: 1_700_000_000_123_456_789,
            contents: contents.map(str::to_owned),
            pinned: contents.is_none(),
        };
        let text =
            show(&[version(1_700_000_100_000, Some("0a1b2c3d")), version(1_700_000_000_000, None)], 1_700_000_160);
        let expected = "\
VERSION        DISPLACED       SIZE  MODIFIED              CONTENTS  PINNED
1700000100000  1 min 0 s ago   12 B  2023-11-14T22:13:20Z  0a1b2c3d  -
1700000000000  2 min 40 s ago  12 B  2023-11-14T22:13:20Z  -         lost a conflict
";
        assert_eq!(text, expected);
        assert!(show(&[], 0).contains("other nodes may"));
    }
}

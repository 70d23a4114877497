//! `diff`: in what two nodes differ, by what each knows of every path.

use crate::failure::{Failure, Outcome};
use crate::session::{Session, id};
use crate::show::{Output, show, table};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How many paths of each node are compared: as many as an agent tells at once.
const PATHS: &str = "10000";

/// Which nodes.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// One node
    one: String,
    /// Another one
    other: String,
    /// The volume [default: the only one of the namespace]
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
}

/// The latest change of a path, as an agent tells it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Change {
    path: String,
    what: String,
    size: u64,
    contents: Option<String>,
    state: String,
}

/// A path that isn't the same on both.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference {
    path: String,
    one: String,
    other: String,
}

/// Runs the command. The exit code is 0 also where there are differences.
pub async fn main(session: &Session, arguments: &Arguments, output: Output) -> Outcome<()> {
    let volume = session.volume(arguments.volume.as_deref()).await?;
    let id = id(&volume)?;
    let agents = session.agents(&volume.spec.mesh).await?;
    let told = |node: &str| {
        let agent = agents.iter().find(|agent| agent.node == node);
        let agent = agent.ok_or_else(|| {
            let names: Vec<&str> = agents.iter().map(|agent| agent.node.as_str()).collect();
            Failure::new(format!("no agent runs on {node}: they run on {}", names.join(", ")))
        })?;
        session.ask::<Vec<Change>>(agent, &["history", "--volume", &id, "--number", PATHS])
    };
    let (one, other) = (told(&arguments.one)?, told(&arguments.other)?);
    if one.len().max(other.len()).to_string() == PATHS {
        eprintln!("warning: only the {PATHS} paths that changed last on each node are compared");
    }
    let found = differences(&one, &other);
    let row = |one: &Difference| vec![one.path.clone(), one.one.clone(), one.other.clone()];
    let headline = ["PATH", arguments.one.as_str(), arguments.other.as_str()];
    show(output, &found, |found| table(&headline, &found.iter().map(row).collect::<Vec<_>>()))
}

fn differences(one: &[Change], other: &[Change]) -> Vec<Difference> {
    let (one, other) = (latest(one), latest(other));
    let paths: BTreeSet<&str> = one.keys().chain(other.keys()).copied().collect();
    let said =
        |known: &BTreeMap<&str, String>, path: &str| known.get(path).cloned().unwrap_or_else(|| "not known".into());
    let difference = |path: &str| Difference { path: path.into(), one: said(&one, path), other: said(&other, path) };
    paths.into_iter().map(difference).filter(|found| found.one != found.other).collect()
}

/// What the directory has of each path. What lost or lies in a store isn't in it. Each path's first change is its latest.
fn latest(changes: &[Change]) -> BTreeMap<&str, String> {
    let mut known = BTreeMap::new();
    for change in changes.iter().filter(|change| change.state == "current" || change.state == "pending") {
        let what = match (change.what.as_str(), &change.contents) {
            ("deleted", _) => "deleted".to_owned(),
            (_, Some(contents)) => format!("{contents}, {} bytes", change.size),
            (what, None) => what.to_owned(),
        };
        let what = if change.state == "pending" { format!("pending: {what}") } else { what };
        known.entry(change.path.as_str()).or_insert(what);
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(path: &str, what: &str, contents: Option<&str>, state: &str) -> Change {
        Change {
            path: path.into(),
            what: what.into(),
            size: 1,
            contents: contents.map(Into::into),
            state: state.into(),
        }
    }

    #[test]
    fn what_is_known_on_both_is_no_difference_and_what_is_pending_is_one() {
        let one = [change("a", "written", Some("11"), "current"), change("b", "written", Some("22"), "current")];
        let other = [change("a", "written", Some("11"), "current"), change("b", "written", Some("22"), "pending")];
        let found = differences(&one, &other);
        assert_eq!((found.len(), found[0].path.as_str()), (1, "b"));
        assert_eq!(differences(&one, &one), []);
    }

    #[test]
    fn a_path_that_only_one_knows_is_a_difference_and_a_loser_is_not() {
        let one = [change("a", "written", Some("11"), "current"), change("a", "written", Some("33"), "lost")];
        assert_eq!(differences(&one, &one[..1]), []);
        let missing = differences(&one, &[]);
        assert_eq!(missing[0].other, "not known");
    }
}

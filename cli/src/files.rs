//! `versions` and `restore`: what nodes have stored of a file. Each node stores what it took away from its own directory, so a file
//! that was deleted on one node is in the stores of the others: all of them are asked.

use crate::failure::{Failure, Outcome};
use crate::session::{Agent, Session, id};
use crate::show::{Output, cell, print, show, table};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Which file.
#[derive(clap::Args, Debug)]
pub struct Versions {
    /// The file's path in the volume
    file: String,
    /// The volume [default: the only one of the namespace]
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
}

/// Which file, and which version of it.
#[derive(clap::Args, Debug)]
pub struct Restore {
    #[command(flatten)]
    which: Versions,
    /// The version, as `versions` shows it [default: the one that was displaced last, on whatever node]
    #[arg(long, value_name = "V")]
    version: Option<u64>,
    /// Another path to bring it back under
    #[arg(long, value_name = "PATH")]
    to: Option<String>,
    /// Only from the store of this node
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

/// A stored version, as its agent tells it.
#[derive(Clone, Debug, Deserialize)]
struct Stored {
    version: u64,
    size: u64,
    contents: Option<String>,
    pinned: bool,
}

/// A stored version, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Found {
    node: String,
    version: u64,
    size: u64,
    contents: Option<String>,
    #[serde(rename = "lostAConflict")]
    lost_a_conflict: bool,
}

/// What a restore did, as its agent tells it.
#[derive(Debug, Deserialize)]
struct Restored {
    files: u64,
    bytes: u64,
    left: Vec<String>,
}

/// Runs `versions`.
pub async fn versions(session: &Session, arguments: &Versions, output: Output) -> Outcome<()> {
    let place = Place::of(session, arguments).await?;
    let (found, failures) = place.versions(session, &arguments.file);
    failures.iter().for_each(|failure| eprintln!("warning: {failure}"));
    let row = |one: &Found| {
        vec![
            one.version.to_string(),
            one.node.clone(),
            moment(one.version),
            one.size.to_string(),
            cell(one.contents.as_ref()),
            if one.lost_a_conflict { "lost a conflict".into() } else { "replaced or deleted".to_owned() },
        ]
    };
    let headline = ["VERSION", "NODE", "DISPLACED", "BYTES", "CONTENTS", "WHY"];
    show(output, &found, |found| table(&headline, &found.iter().map(row).collect::<Vec<_>>()))
}

/// Runs `restore`.
pub async fn restore(session: &Session, arguments: &Restore) -> Outcome<()> {
    let place = Place::of(session, &arguments.which).await?;
    let file = &arguments.which.file;
    let (found, failures) = place.versions(session, file);
    let fits = |one: &&Found| {
        arguments.version.is_none_or(|version| one.version == version)
            && arguments.node.as_ref().is_none_or(|node| one.node == *node)
    };
    let Some(wanted) = found.iter().find(fits) else {
        let why = failures.first().map(|failure| format!(" ({failure})")).unwrap_or_default();
        return Err(Failure::new(format!(
            "no node has stored such a version of {file}{why}: `kubectl syncmesh versions {file}` lists what there is"
        )));
    };
    let agent = place.agents.iter().find(|agent| agent.node == wanted.node);
    let agent = agent.ok_or_else(|| Failure::new(format!("the agent on {} is gone", wanted.node)))?;
    let version = wanted.version.to_string();
    let mut order = vec!["restore", file, "--volume", &place.volume, "--version", &version];
    if let Some(to) = &arguments.to {
        order.extend(["--to", to.as_str()]);
    }
    let done: Restored = session.ask(agent, &order)?;
    match done.left.first() {
        Some(why) => Err(Failure::new(format!("not all of it is back: {why}"))),
        None => print(&format!(
            "restored {file} on {}: {} file, {} bytes, displaced {}\n",
            wanted.node,
            done.files,
            done.bytes,
            moment(wanted.version)
        )),
    }
}

/// A volume, and who has it.
struct Place {
    volume: String,
    agents: Vec<Agent>,
}

impl Place {
    async fn of(session: &Session, arguments: &Versions) -> Outcome<Self> {
        let volume = session.volume(arguments.volume.as_deref()).await?;
        Ok(Self { volume: id(&volume)?, agents: session.agents(&volume.spec.mesh).await? })
    }

    /// All stored versions of a file, the one first that was displaced last; and who couldn't be asked.
    fn versions(&self, session: &Session, file: &str) -> (Vec<Found>, Vec<Failure>) {
        let mut found = Vec::new();
        let mut failures = Vec::new();
        for (node, answer) in
            session.ask_all::<Vec<Stored>>(&self.agents, &["versions", file, "--volume", &self.volume])
        {
            match answer {
                Ok(stored) => found.extend(stored.into_iter().map(|one| Found {
                    node: node.clone(),
                    version: one.version,
                    size: one.size,
                    contents: one.contents,
                    lost_a_conflict: one.pinned,
                })),
                Err(failure) => failures.push(failure),
            }
        }
        found.sort_by(|one, other| other.version.cmp(&one.version).then_with(|| one.node.cmp(&other.node)));
        (found, failures)
    }
}

/// Milliseconds since 1970, for people.
fn moment(millis: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(i64::try_from(millis / 1_000).unwrap_or(0)).ok();
    cell(at.and_then(|at| at.format(&Rfc3339).ok()))
}

//! The paths that keep a volume from being as it should, worst first: for the status.

use crate::job::Context;
use serde::{Deserialize, Serialize};
use std::collections::BinaryHeap;
use std::sync::Arc;
use syncmesh_core::entry::{Body, Entry, Row, Why};
use syncmesh_core::path::RelativePath;
use syncmesh_core::version::Knowledge;

/// Paths that are named.
const PATHS: usize = 10;

/// Rows that one read of the registry brings, and reads: a status mustn't walk over millions of rows.
const ROWS: (usize, usize) = (1_024, 10);

/// A path that isn't as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Worst {
    /// The path in its volume; bytes that are no UTF-8 are replaced.
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// How old the version is that isn't here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
}

/// What the loop knows of a volume's troubles.
pub struct Troubles {
    /// The volume's number.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// Paths that couldn't be read or written, and why; some of them.
    pub problems: Vec<(RelativePath, String)>,
    /// What each connected member knows.
    pub known: Vec<Arc<Knowledge>>,
    /// The wall clock in milliseconds since 1970.
    pub wall: u64,
}

/// The ten worst paths of each volume, by its name: what can't be read or written, then what has been wanted longest. Of more
/// than ten thousand wanted ones the first ten thousand are looked at.
pub fn look(context: &Context, all: &[Troubles]) -> Result<Vec<(String, Vec<Worst>)>, String> {
    all.iter().map(|troubles| Ok((troubles.name.clone(), of_volume(context, troubles)?))).collect()
}

fn of_volume(context: &Context, troubles: &Troubles) -> Result<Vec<Worst>, String> {
    let problems = troubles.problems.iter().take(PATHS);
    let mut worst: Vec<Worst> = problems
        .map(|(path, problem)| Worst { path: path.to_string(), reason: problem.clone(), since_ms: None })
        .collect();
    // The ten that were written first, the newest of them on top.
    let mut oldest: BinaryHeap<(u64, RelativePath, String)> = BinaryHeap::new();
    let mut after = None;
    for _ in 0..ROWS.1 {
        let rows =
            context.registry.wanted(troubles.number, after.as_ref(), ROWS.0).map_err(|error| error.to_string())?;
        for (key, row) in &rows {
            let Some((written, reason)) = reason(row, &troubles.known) else { continue };
            let path = key.path();
            if troubles.problems.iter().any(|(named, _)| *named == path) {
                continue;
            }
            oldest.push((written, path, reason));
            if oldest.len() > PATHS {
                oldest.pop();
            }
        }
        match rows.last() {
            Some((key, _)) if rows.len() == ROWS.0 => after = Some(key.clone()),
            _ => break,
        }
    }
    worst.extend(oldest.into_sorted_vec().into_iter().map(|(written, path, reason)| Worst {
        path: path.to_string(),
        reason,
        since_ms: Some(troubles.wall.saturating_sub(written)),
    }));
    worst.truncate(PATHS);
    Ok(worst)
}

/// When what a row wants was written, and why it isn't here. `None` if it needn't be.
fn reason(row: &Row, known: &[Arc<Knowledge>]) -> Option<(u64, String)> {
    let wanted = row.wanted.as_ref()?;
    let entry = wanted.entries.first()?;
    let reason = match wanted.why {
        Why::Unselected => return None,
        Why::Fetching => fetching(entry, known),
        Why::Held => {
            "its deletion waits for others that may come with it, or for `syncmesh-agent holds approve`".into()
        }
        Why::Suspect => "it may be torn since power failed: members are asked for it".into(),
        Why::NoSpace => format!("there is no room for its {} bytes", entry.content.body.size()),
        Why::Conflict => "somebody must decide: `syncmesh-agent conflicts list`".into(),
        Why::Collision => "this file system can't hold its name beside another".into(),
    };
    Some((entry.content.stamp.hlc.millis(), reason))
}

fn fetching(entry: &Entry, known: &[Arc<Knowledge>]) -> String {
    match &entry.content.body {
        Body::File { size, .. } if *size > 0 => {
            if known.iter().any(|known| known.contains(entry.content.stamp.dot)) {
                "it waits for its contents, its directory, or what has its name".into()
            } else {
                "no connected member has its contents".into()
            }
        }
        Body::Tombstone { moved_to: Some(_), .. } => "its rename waits: it was changed here meanwhile".into(),
        Body::Tombstone { .. } => "its deletion waits: something new is in it, or was changed here".into(),
        _ => "it waits for its directory, or for what has its name".into(),
    }
}

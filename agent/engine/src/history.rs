//! What changed, when, and by whom: for people. A path has its versions, a directory the latest change of each path below it.

use crate::inquiry::Place;
use crate::job::{Context, VolumeContext};
use crate::registry::Key;
use crate::store::{self, Kind, Stored};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use syncmesh_core::entry::{Attributes, Body, Content, Entry, Row, Stamp};
use syncmesh_core::path::RelativePath;
use syncmesh_core::version::ReplicaId;

/// Rows that one read of the registry looks at.
const ROWS: usize = 1_024;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// When, in milliseconds since 1970, by the clock of whoever made it. For what was displaced: when that was, here.
    pub at: u64,
    /// The path in its volume; bytes that are no UTF-8 are replaced.
    pub path: String,
    /// What happened.
    pub what: What,
    /// On which node; not known of what lies in the version store.
    pub node: Option<String>,
    /// Bytes of the file.
    pub size: u64,
    /// The first eight digits of the contents' BLAKE3 hash.
    pub contents: Option<String>,
    /// What became of it.
    pub state: State,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// A file got contents.
    Written,
    /// A link was made.
    Linked,
    /// A directory was made.
    Made,
    /// It was deleted.
    Deleted,
    /// Mode or owner changed.
    Attributes,
}

/// What became of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It is what the path has here.
    Current,
    /// It is known, and not here yet.
    Pending,
    /// It lost against a concurrent version.
    Lost,
    /// It lies in this node's version store; `restore --version` with its time brings it back.
    Stored,
    /// It lies there too, and lost a conflict.
    StoredLoser,
}

/// The latest changes of a path, or below a directory; newest first, at most so many.
pub fn look(
    context: &Context,
    place: &Place,
    replicas: &BTreeMap<ReplicaId, String>,
    limit: usize,
) -> Result<Vec<Change>, String> {
    let volume = &*place.volume(context)?;
    let row = match Key::of(place.number, &place.path) {
        Some(key) => context.registry.get(&key).map_err(|error| error.to_string())?,
        None => None,
    };
    let is_directory = |row: &Row| row.entries().any(|entry| entry.content.body == Body::Directory);
    let mut changes = match &row {
        Some(row) if !is_directory(row) => versions(volume, &place.path, row, replicas)?,
        _ => below(context, place, row.as_ref(), replicas, limit)?,
    };
    if changes.is_empty() {
        return Err(format!("nothing is known of {} here", place.path));
    }
    changes.sort_by(|a, b| b.cmp(a));
    changes.truncate(limit);
    Ok(changes)
}

/// All that is known of one path.
fn versions(
    volume: &VolumeContext,
    path: &RelativePath,
    row: &Row,
    replicas: &BTreeMap<ReplicaId, String>,
) -> Result<Vec<Change>, String> {
    let mut changes = Vec::new();
    let here = row.here.iter().map(|here| (&here.entry, State::Current));
    let wanted = row.wanted.iter().flat_map(|wanted| &wanted.entries).map(|entry| (entry, State::Pending));
    let mut seen: Vec<Stamp> = Vec::new();
    let mut add = |seen: &mut Vec<Stamp>, stamp: Stamp, change: Change| {
        // A version that waits includes what is here: each change counts once.
        if !seen.contains(&stamp) {
            seen.push(stamp);
            changes.push(change);
        }
    };
    for (entry, state) in here.chain(wanted) {
        add(&mut seen, entry.content.stamp, of_content(path, &entry.content, state, replicas));
        if let Some(change) = of_attributes(path, entry, state, replicas) {
            add(&mut seen, entry.attributes.stamp, change);
        }
        for loser in &entry.losers {
            add(&mut seen, loser.stamp, of_content(path, loser, State::Lost, replicas));
        }
    }
    let names = volume.fs.list_store().map_err(|error| format!("the version store can't be listed: {error}"))?;
    for stored in names.into_iter().filter_map(Stored::parse).filter(|stored| stored.is_of(path)) {
        let Ok(stat) = volume.fs.stat_stored(&stored.name) else { continue };
        changes.push(Change {
            at: stored.millis,
            path: path.to_string(),
            what: What::Written,
            node: None,
            size: stat.size,
            contents: (stored.contents != 0).then(|| format!("{:08x}", stored.contents >> 32)),
            state: match stored.kind {
                Kind::Superseded => State::Stored,
                Kind::Loser => State::StoredLoser,
            },
        });
    }
    Ok(changes)
}

/// The latest change of each path below a directory, the directory's own included; only the newest are kept while walking.
fn below(
    context: &Context,
    place: &Place,
    own: Option<&Row>,
    replicas: &BTreeMap<ReplicaId, String>,
    limit: usize,
) -> Result<Vec<Change>, String> {
    let mut newest: BinaryHeap<Reverse<Change>> = BinaryHeap::new();
    let mut keep = |path: &RelativePath, row: &Row| {
        let Some(change) = latest(path, row, replicas, newest.peek().filter(|_| newest.len() >= limit)) else { return };
        newest.push(Reverse(change));
        if newest.len() > limit {
            newest.pop();
        }
    };
    own.into_iter().for_each(|row| keep(&place.path, row));
    let mut after = Key::of(place.number, &place.path);
    loop {
        let read = context.registry.between(place.number, after.as_ref(), None, ROWS);
        let rows = read.map_err(|error| error.to_string())?;
        let inside = rows.iter().take_while(|(key, _)| !is_behind(&key.directory, &place.path));
        inside.filter(|(key, _)| key.directory.starts_with(&place.path)).for_each(|(key, row)| keep(&key.path(), row));
        match rows.last() {
            Some((key, _)) if rows.len() == ROWS && !is_behind(&key.directory, &place.path) => {
                after = Some(key.clone())
            }
            _ => return Ok(newest.into_iter().map(|Reverse(change)| change).collect()),
        }
    }
}

/// Does a directory stand behind all those below another in the order of keys? Between the other and those below it stand
/// siblings whose names go on with a byte before `/`.
fn is_behind(directory: &RelativePath, other: &RelativePath) -> bool {
    match directory.as_bytes().strip_prefix(other.as_bytes()) {
        Some(rest) => !other.is_root() && rest.first().is_some_and(|next| *next > b'/'),
        None => directory > other,
    }
}

/// A row's latest change, unless it is older than `least`.
fn latest(
    path: &RelativePath,
    row: &Row,
    replicas: &BTreeMap<ReplicaId, String>,
    least: Option<&Reverse<Change>>,
) -> Option<Change> {
    let here = row.here.iter().map(|here| (&here.entry, State::Current));
    let wanted = row.wanted.iter().flat_map(|wanted| &wanted.entries).map(|entry| (entry, State::Pending));
    let (entry, state) = here.chain(wanted).max_by_key(|(entry, _)| entry.newest())?;
    if least.is_some_and(|Reverse(least)| entry.newest().hlc.millis() < least.at) {
        return None;
    }
    let attributes = of_attributes(path, entry, state, replicas);
    Some(attributes.unwrap_or_else(|| of_content(path, &entry.content, state, replicas)))
}

fn of_content(path: &RelativePath, content: &Content, state: State, replicas: &BTreeMap<ReplicaId, String>) -> Change {
    let what = match &content.body {
        Body::Tombstone { .. } => What::Deleted,
        Body::File { .. } => What::Written,
        Body::Symlink { .. } => What::Linked,
        Body::Directory => What::Made,
    };
    Change {
        at: content.stamp.hlc.millis(),
        path: path.to_string(),
        what,
        node: replicas.get(&content.stamp.dot.replica).cloned(),
        size: content.body.size(),
        contents: content.body.hash().map(|hash| format!("{:08x}", store::digits(&hash) >> 32)),
        state,
    }
}

/// The change of mode or owner, if that came after the contents.
fn of_attributes(
    path: &RelativePath,
    entry: &Entry,
    state: State,
    replicas: &BTreeMap<ReplicaId, String>,
) -> Option<Change> {
    let Attributes { stamp, .. } = entry.attributes;
    (entry.is_live() && stamp > entry.content.stamp).then(|| Change {
        at: stamp.hlc.millis(),
        what: What::Attributes,
        node: replicas.get(&stamp.dot.replica).cloned(),
        ..of_content(path, &entry.content, state, replicas)
    })
}

//! Conflicts, for people: which versions of a path there are, and where.

use crate::inquiry::PATHS;
use crate::job::{Context, VolumeContext};
use crate::publish::copy_name;
use crate::registry::{Key, conflicts};
use crate::store;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use syncmesh_core::decide::{contents_of, joined, rivals};
use syncmesh_core::entry::{Body, Content, Row, Why};
use syncmesh_core::version::ReplicaId;

/// The conflicts of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conflicts {
    /// The volume.
    pub volume: String,
    /// The first 500 of the paths, in order.
    pub paths: Vec<Conflict>,
}

/// A path with several versions of which none supersedes another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conflict {
    /// The path in its volume; bytes that are no UTF-8 are replaced.
    pub path: String,
    /// A person has to decide; otherwise the policy has.
    pub undecided: bool,
    /// What has the name here comes first.
    pub versions: Vec<Rival>,
}

/// One of the versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rival {
    /// The node on which it was written.
    pub node: String,
    /// When, in milliseconds since 1970.
    pub written: u64,
    /// Bytes.
    pub size: u64,
    /// The first eight digits of its BLAKE3 hash; of a link those of its target's.
    pub contents: String,
    /// Where it is.
    pub place: Whereabouts,
}

/// Where a version of a path is, as seen from this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Whereabouts {
    /// It has the name here.
    Here,
    /// It is the conflict copy of this name, in the same directory.
    Copy(String),
    /// This node's version store has it: `versions` lists it.
    Stored,
    /// Another node has it.
    Elsewhere,
}

/// What a person decided about a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Choice {
    /// What has the name here.
    Local,
    /// Another version takes the name.
    Remote,
    /// What has the name here keeps it, and the others stand beside it as conflict copies.
    Both,
}

/// What came of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// The contents that have the name from here on: the first eight digits of their hash.
    pub contents: String,
    /// Versions that lost.
    pub over: u64,
}

/// The first eight digits of contents' hash, as conflict copies have them in their names.
pub fn digits(content: &Content) -> String {
    match &content.body {
        Body::File { hash, .. } => hash.to_string(),
        Body::Symlink { target, .. } => syncmesh_core::entry::ContentHash::of(target).to_string(),
        Body::Directory | Body::Tombstone { .. } => String::new(),
    }
}

/// The conflicts of these volumes, by number and name. Volumes without any are left out.
pub fn list(
    context: &Context,
    volumes: &[(u16, String)],
    replicas: &BTreeMap<ReplicaId, String>,
) -> Result<Vec<Conflicts>, String> {
    const ROWS: usize = 1_024;
    let mut all = Vec::new();
    for (number, name) in volumes {
        let mut found = Conflicts { volume: name.clone(), paths: Vec::new() };
        let Some(volume) = context.volumes.get(*number) else { continue };
        let mut after = None;
        while found.paths.len() < PATHS {
            let rows = context
                .registry
                .between(*number, after.as_ref(), None, ROWS)
                .map_err(|error| format!("can't look: {error}"))?;
            for (key, row) in rows.iter().filter(|(_, row)| conflicts(row) > 0) {
                if found.paths.len() < PATHS {
                    found.paths.push(conflict(context, &volume, key, row, replicas)?);
                }
            }
            if rows.len() < ROWS {
                break;
            }
            after = rows.last().map(|(key, _)| key.clone());
        }
        if !found.paths.is_empty() {
            all.push(found);
        }
    }
    Ok(all)
}

fn conflict(
    context: &Context,
    volume: &VolumeContext,
    key: &Key,
    row: &Row,
    replicas: &BTreeMap<ReplicaId, String>,
) -> Result<Conflict, String> {
    let mut versions = Vec::new();
    if let Some(joined) = joined(row.entries()) {
        let here = row.live().map(|here| &here.entry.content);
        let chosen = here.unwrap_or(&joined.content);
        for content in std::iter::once(chosen).chain(rivals(chosen, &joined)) {
            let place = if here.is_some_and(|here| here.is_version(content)) {
                Whereabouts::Here
            } else {
                place(context, volume, key, content, replicas)?
            };
            versions.push(Rival {
                node: replicas.get(&content.stamp.dot.replica).map_or("unknown", String::as_str).to_owned(),
                written: content.stamp.hlc.millis(),
                size: content.body.size(),
                contents: digits(content),
                place,
            });
        }
    }
    let undecided = row.wanted.as_ref().is_some_and(|wanted| wanted.why == Why::Conflict);
    Ok(Conflict { path: key.path().to_string(), undecided, versions })
}

fn place(
    context: &Context,
    volume: &VolumeContext,
    key: &Key,
    content: &Content,
    replicas: &BTreeMap<ReplicaId, String>,
) -> Result<Whereabouts, String> {
    let name = copy_name(&key.name, content, replicas);
    let copy = Key { name: name.clone(), ..key.clone() };
    let row = context.registry.get(&copy).map_err(|error| format!("can't look: {error}"))?;
    if row.as_ref().and_then(Row::live).is_some_and(|here| here.entry.content.body.same_contents(&content.body)) {
        return Ok(Whereabouts::Copy(name.to_string()));
    }
    let stored = content.body.hash().and_then(|hash| store::find(volume, &key.path(), hash));
    Ok(if stored.is_some() { Whereabouts::Stored } else { Whereabouts::Elsewhere })
}

/// The versions of a row that a decision is about: what has the name, and the others.
pub fn choices(row: &Row) -> Option<(Content, Vec<Content>)> {
    let here = row.live()?.entry.content.clone();
    let joined = joined(row.entries())?;
    let rivals: Vec<Content> = rivals(&here, &joined).cloned().collect();
    contents_of(&joined).any(|content| content.is_version(&here)).then_some((here, rivals))
}

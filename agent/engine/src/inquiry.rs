//! Questions of people that take looking into the registry or at the disk: jobs like others, whose answer goes straight to
//! who asked.

use crate::job::{Context, VolumeContext};
use crate::suspect::{is_suspect, nothing_better};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use syncmesh_core::entry::{Body, Row, Why};
use syncmesh_core::path::RelativePath;

/// Paths in one answer.
pub const PATHS: usize = 500;

/// What a volume holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The volume.
    pub volume: String,
    /// Files and links that wait.
    pub files: u64,
    /// The first 500 of the paths, in order; bytes that are no UTF-8 are replaced.
    pub paths: Vec<HeldPath>,
}

/// A path that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldPath {
    /// The path in its volume.
    pub path: String,
    /// What waits.
    pub reason: Reason,
    /// Bytes of the file.
    pub bytes: u64,
}

/// What waits for somebody's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// It was deleted here, and peers have it still.
    DeletedHere,
    /// A peer deleted it, and it is here still.
    DeletedThere,
    /// Power loss may have damaged it, and no peer knows better.
    Suspect,
}

/// A path in one of this node's volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The volume's number.
    pub number: u16,
    /// The path in it.
    pub path: RelativePath,
}

impl Place {
    /// What jobs need of its volume.
    pub fn volume(&self, context: &Context) -> Result<Arc<VolumeContext>, String> {
        context.volumes.get(self.number).ok_or_else(|| "the volume has gone".into())
    }
}

/// Does a row wait for somebody's word? Why, and of how many bytes.
fn reason(row: &Row) -> Option<(Reason, u64)> {
    let wanted = row.wanted.as_ref()?;
    let here = row.live().map(|here| &here.entry.content.body);
    if is_suspect(row) && nothing_better(row) {
        return Some((Reason::Suspect, here.map_or(0, Body::size)));
    }
    if wanted.why != Why::Held {
        return None;
    }
    let reason = if here.is_some() { Reason::DeletedThere } else { Reason::DeletedHere };
    let body = here.or(wanted.entries.first().map(|entry| &entry.content.body));
    body.filter(|body| body.rank() == 1).map(|body| (reason, body.size()))
}

/// Which deletions are held in these volumes, by number and name. Volumes without any are left out.
pub fn holds(context: &Context, volumes: &[(u16, String)]) -> Result<Vec<Held>, String> {
    const ROWS: usize = 1_024;
    let mut all = Vec::new();
    for (number, name) in volumes {
        let mut held = Held { volume: name.clone(), files: 0, paths: Vec::new() };
        let mut after = None;
        loop {
            let rows = context
                .registry
                .wanted(*number, after.as_ref(), ROWS)
                .map_err(|error| format!("can't look: {error}"))?;
            for (key, row) in &rows {
                let Some((reason, bytes)) = reason(row) else { continue };
                held.files += 1;
                if held.paths.len() < PATHS {
                    held.paths.push(HeldPath { path: key.path().to_string(), reason, bytes });
                }
            }
            if rows.len() < ROWS {
                break;
            }
            after = rows.last().map(|(key, _)| key.clone());
        }
        if held.files > 0 {
            all.push(held);
        }
    }
    Ok(all)
}

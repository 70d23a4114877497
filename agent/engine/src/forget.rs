//! Forgetting a node that was taken out of `peers`: which of its runs does anything still mention?

use crate::job::Context;
use crate::registry::RegistryError;
use crossbeam_channel::Sender;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use syncmesh_core::version::ReplicaId;

const ROWS: usize = 1_024;

/// Look for what mentions a node's replicas.
pub struct Forget {
    /// The node.
    pub node: String,
    /// Its replicas.
    pub replicas: BTreeSet<ReplicaId>,
    /// All volumes that the registry has rows of, by number.
    pub volumes: Vec<u16>,
    /// Who asked.
    pub reply: Sender<Result<Forgotten, String>>,
}

/// What was found.
pub struct Mentioned {
    /// What was looked for.
    pub forget: Forget,
    /// The replicas that are mentioned.
    pub used: BTreeSet<ReplicaId>,
    /// In so many paths.
    pub paths: u64,
}

/// What came of it, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forgotten {
    /// The node.
    pub node: String,
    /// Runs of its agent that nothing mentions, and that are forgotten.
    pub dropped: u64,
    /// Runs that made versions of which something is known still.
    pub kept: u64,
    /// Paths that those versions are of.
    pub paths: u64,
}

impl Forget {
    /// Walks over all rows.
    pub fn run(self, context: &Context) -> Result<Mentioned, RegistryError> {
        let mut used = BTreeSet::new();
        let mut paths = 0;
        for volume in &self.volumes {
            let mut after = None;
            loop {
                let rows = context.registry.between(*volume, after.as_ref(), None, ROWS)?;
                for (_, row) in &rows {
                    // Whatever an entry is made of, its vector names who made it.
                    let dots = row.entries().flat_map(|entry| entry.vector.dots());
                    let found: Vec<ReplicaId> =
                        dots.map(|dot| dot.replica).filter(|replica| self.replicas.contains(replica)).collect();
                    paths += u64::from(!found.is_empty());
                    used.extend(found);
                }
                match rows.last() {
                    Some((key, _)) if rows.len() == ROWS => after = Some(key.clone()),
                    _ => break,
                }
            }
        }
        Ok(Mentioned { forget: self, used, paths })
    }
}

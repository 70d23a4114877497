//! An edit that follows a rename, as far as a job that publishes must know of it.

use super::{Errand, Item, Work};
use crate::follow::{Heard, next};
use crate::registry::RegistryError;
use syncmesh_core::entry::{Entry, Row, Why};

impl Work<'_> {
    /// Does an edit here follow a rename that has come? Then that waits, and the loop takes the steps.
    pub(super) fn follows(&self, item: &Item, row: &Row, target: &Entry) -> Result<bool, RegistryError> {
        let node = self.job.replicas.get(&self.job.replica);
        let is_ours = |replica| node.is_some() && self.job.replicas.get(&replica) == node;
        let heard = if item.errand == Errand::Again { self.job.heard } else { Heard::NotAll };
        let key = self.job.key(&item.name);
        Ok(next(&self.context.registry, &key, row, target, is_ours, heard)?.is_some())
    }
}

/// Is a version over all that is known of its path, and does nothing of that wait for somebody's word?
pub(super) fn is_over(item: &Item, row: &Row) -> bool {
    let waits = row.wanted.as_ref().is_some_and(|wanted| wanted.why != Why::Fetching);
    !waits && row.entries().all(|known| item.entry.vector.includes_all(&known.vector))
}

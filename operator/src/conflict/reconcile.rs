//! Carries questions of a volume's replicas to people, and their answers back.

use super::{decisions, desired};
use crate::error::Error;
use crate::operator::Operator;
use crate::writes::Manager;
use kube::runtime::reflector::ObjectRef;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use syncmesh_crds::{SyncConflict, SyncVolume};

/// Makes a volume's questions what its replicas ask, and tells replicas what was answered.
///
/// # Errors
/// The API server refused a call, or couldn't be reached.
pub async fn reconcile(volume: &SyncVolume, operator: &Operator) -> Result<Option<Duration>, Error> {
    let (caches, writes) = (&operator.caches, &operator.writes);
    // Whoever parts with a volume parts with its questions.
    if volume.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let volume = ObjectRef::from_obj(volume);
    let (replicas, existing) = (caches.replicas.of(&volume), caches.conflicts.of(&volume));
    let desired = desired(&replicas, &existing);
    for question in &desired.asked {
        let status = question.status.clone().unwrap_or_default();
        writes.apply(Manager::Questions, &SyncConflict { status: None, ..question.clone() }).await?;
        writes.apply_status(question, &status).await?;
    }
    let named =
        |name: &str| existing.iter().map(Arc::as_ref).find(|question| question.metadata.name.as_deref() == Some(name));
    for (name, status) in &desired.changed {
        if let Some(question) = named(name) {
            writes.apply_status(question, status).await?;
        }
    }
    for question in desired.settled.iter().filter_map(|name| named(name)) {
        writes.delete(question).await?;
    }
    for replica in &replicas {
        let decisions = decisions(replica, &existing);
        if decisions != replica.spec.decisions {
            let fields = json!({ "spec": { "decisions": decisions } });
            writes.apply_fields(Manager::Decisions, &**replica, fields).await?;
        }
    }
    Ok(None)
}

//! Answers claims of our StorageClasses, and lets their volumes grow with them.

use super::{Refusal, capacity, is_asked, is_for, name, quantity, volume};
use crate::error::Error;
use crate::operator::Operator;
use crate::writes::Manager;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use serde_json::json;
use std::time::Duration;
use syncmesh_crds::SyncVolume;

/// Makes the volume of a claim, or lets it grow. Its PersistentVolume is the volume's matter, and its going the claim's.
///
/// # Errors
/// The API server refused a call, or couldn't be reached.
pub async fn reconcile(claim: &PersistentVolumeClaim, operator: &Operator) -> Result<Option<Duration>, Error> {
    let namespace = claim.namespace().unwrap_or_default();
    let existing = operator.caches.volumes.get(&ObjectRef::new(&name(claim)).within(&namespace));
    if claim.metadata.deletion_timestamp.is_some() || (existing.is_none() && !is_asked(claim)) {
        return Ok(None);
    }
    let done = match existing.as_deref() {
        None => make(claim, operator).await?,
        Some(volume) if is_for(volume, claim) => grow(claim, volume, operator).await?,
        Some(_) => Err(Refusal::Taken { name: name(claim) }),
    };
    if let Err(refusal) = done {
        operator.writes.complain(claim, "ProvisioningFailed", &refusal.to_string()).await?;
    }
    Ok(None)
}

async fn make(claim: &PersistentVolumeClaim, operator: &Operator) -> Result<Result<(), Refusal>, Error> {
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default();
    let class = operator.caches.classes.get(&ObjectRef::new(class));
    match volume(claim, class.as_deref()) {
        Ok(volume) if operator.writes.is_wanted_still(claim).await? => {
            operator.writes.create(Manager::Provisioned, &volume).await.map(Ok)
        }
        Ok(_) => Ok(Ok(())),
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// First the volume, then its PersistentVolume, which follows it, and at last what the claim says that it has.
async fn grow(
    claim: &PersistentVolumeClaim,
    volume: &SyncVolume,
    operator: &Operator,
) -> Result<Result<(), Refusal>, Error> {
    let asked = match capacity(claim) {
        Ok(asked) => asked,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if volume.spec.capacity.is_some_and(|has| has < asked) {
        let fields = json!({ "spec": { "capacity": asked } });
        operator.writes.apply_fields(Manager::Provisioned, volume, fields).await?;
        return Ok(Ok(()));
    }
    let persistent = operator.caches.persistent_volumes.all.get(&ObjectRef::new(&name(claim)));
    let storage =
        persistent.as_deref().and_then(|persistent| persistent.spec.as_ref()?.capacity.as_ref()?.get("storage"));
    let shown = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
    if let (Some(storage), Some(shown)) = (storage, shown)
        && quantity::bytes(&shown.0) < quantity::bytes(&storage.0)
    {
        let fields = json!({ "status": { "capacity": { "storage": storage } } });
        operator.writes.merge_part(Manager::Provisioned, claim, "status", fields).await?;
    }
    Ok(Ok(()))
}

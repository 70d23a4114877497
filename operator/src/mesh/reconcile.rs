//! Carries out what a mesh should have, and writes how it is.

use super::desired::{ACCOUNT, desired};
use super::status::{World, status};
use crate::error::Error;
use crate::names;
use crate::operator::{Operator, copies, now};
use crate::writes::Manager;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::time::Duration;
use syncmesh_crds::SyncMesh;

/// Makes a mesh's agents what they should be. Its objects go with it, by their owner.
///
/// # Errors
/// The API server refused a call, or couldn't be reached.
pub async fn reconcile(mesh: &SyncMesh, operator: &Operator) -> Result<Option<Duration>, Error> {
    let (caches, writes) = (&operator.caches, &operator.writes);
    let name = mesh.name_any();
    let home = &operator.home.namespace;
    let agents = caches.daemon_sets.get(&ObjectRef::new(&names::of_agents(&name)).within(home));
    if mesh.metadata.deletion_timestamp.is_none() {
        let desired = desired(mesh, &operator.home);
        let account = caches.accounts.get(&ObjectRef::new(ACCOUNT).within(home));
        let service = caches.services.get(&ObjectRef::new(&names::of_agents(&name)).within(home));
        writes.ensure(Manager::Agents, desired.account, account.as_deref()).await?;
        writes.ensure(Manager::Agents, desired.service, service.as_deref()).await?;
        writes.ensure(Manager::Agents, desired.agents, agents.as_deref()).await?;
    }
    let volumes = caches.volumes.state_filter(|volume| volume.spec.mesh == name);
    let states: Vec<_> = volumes.iter().filter_map(|volume| volume.status.as_ref()?.state).collect();
    let refused = agents.as_deref().and_then(|agents| refused(agents, operator));
    let status = status(&World {
        mesh,
        nodes: &copies(&caches.nodes, |_| true),
        pods: &copies(&caches.pods, |pod| pod.labels().get(crate::labels::MESH) == Some(&name)),
        replicas: &copies(&caches.replicas, |replica| replica.spec.mesh == name),
        volumes: &states,
        refused: refused.as_deref(),
        now: &now(),
    });
    writes.show(mesh, mesh.status.as_ref(), &status, |status| status.state, status.message.as_deref()).await?;
    Ok(None)
}

/// Why the API server refuses pods of a DaemonSet that has fewer than it should. It says so in events only.
fn refused(agents: &DaemonSet, operator: &Operator) -> Option<String> {
    let status = agents.status.as_ref()?;
    if status.current_number_scheduled >= status.desired_number_scheduled {
        return None;
    }
    let events = operator.caches.refusals.state_filter(|event| event.involved_object.uid == agents.metadata.uid);
    events.iter().max_by_key(|event| event.last_timestamp.clone())?.message.clone()
}

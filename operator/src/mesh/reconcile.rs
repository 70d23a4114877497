//! Carries out what a mesh should have, and writes how it is.

use super::authority::{self, Standing};
use super::desired::{ACCOUNT, desired};
use super::farewell::{holders, part};
use super::status::{World, ready_nodes, status};
use crate::error::Error;
use crate::finalizer;
use crate::labels::{self, MESH_FINALIZER};
use crate::names;
use crate::operator::{Operator, now};
use crate::writes::Manager;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::time::Duration;
use syncmesh_crds::SyncMesh;
use tokio::time::Instant;

/// Makes a mesh's agents what they should be. The result is when to look again without being told.
///
/// # Errors
/// The API server refused a call, or couldn't be reached.
pub async fn reconcile(mesh: &SyncMesh, operator: &Operator) -> Result<Option<Duration>, Error> {
    let (caches, writes) = (&operator.caches, &operator.writes);
    let (name, now) = (mesh.name_any(), now());
    let is_deleted = mesh.metadata.deletion_timestamp.is_some();
    if !is_deleted && !finalizer::is_on(mesh, MESH_FINALIZER) {
        // The mesh comes again with it.
        return finalizer::hold_on(Manager::Agents, mesh, MESH_FINALIZER, writes).await.map(|()| None);
    }
    let volumes = caches.volumes.state_filter(|volume| volume.spec.mesh == name);
    let replicas = caches.replicas.all.state_filter(|replica| replica.spec.mesh == name);
    let holders = holders(&volumes, &replicas);
    if is_deleted && holders.is_empty() {
        return part(mesh, operator).await.map(|()| None);
    }
    // Agents' pods wait for the bundle, and look for it seldom: it comes first.
    let (authority, rest) = authority::reconcile(mesh, &replicas, now.0, operator).await?;
    let home = &operator.home.namespace;
    let agents = caches.daemon_sets.get(&ObjectRef::new(&names::of_agents(&name)).within(home));
    let service = caches.services.get(&ObjectRef::new(&names::of_agents(&name)).within(home));
    let account = caches.accounts.get(&ObjectRef::new(ACCOUNT).within(home));
    let desired = desired(mesh, &operator.home);
    writes.ensure(Manager::Agents, desired.account, account.as_deref()).await?;
    writes.ensure(Manager::Agents, desired.service, service.as_deref()).await?;
    if agents.is_some() || authority != Standing::Missing {
        writes.ensure(Manager::Agents, desired.agents, agents.as_deref()).await?;
    }
    let states: Vec<_> = volumes.iter().filter_map(|volume| volume.status.as_ref()?.state).collect();
    let refused = agents.as_deref().and_then(|agents| refused(agents, operator));
    let pods = caches.pods.state_filter(|pod| pod.labels().get(labels::MESH) == Some(&name));
    let heard = operator.silent.look(&name, &ready_nodes(&pods), &replicas, Instant::now());
    let status = status(&World {
        mesh,
        nodes: &caches.nodes.state(),
        pods: &pods,
        replicas: &replicas,
        silent: &heard.silent,
        volumes: &states,
        refused: refused.as_deref(),
        authority: &authority,
        holders: &holders,
        now: &now,
    });
    writes.show(mesh, mesh.status.as_ref(), &status, |status| status.state, status.message.as_deref()).await?;
    Ok([rest, heard.again].into_iter().flatten().min())
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

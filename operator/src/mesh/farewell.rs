//! How a mesh goes: not under volumes that have files on its nodes, and its agents first.

use crate::error::Error;
use crate::finalizer;
use crate::labels::MESH_FINALIZER;
use crate::names;
use crate::operator::Operator;
use crate::writes::Manager;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::collections::BTreeSet;
use std::sync::Arc;
use syncmesh_crds::{SyncMesh, SyncReplica, SyncVolume};

/// Volumes that a mesh isn't deleted under, with their namespaces: those that have a replica, or had one ready.
pub fn holders(volumes: &[Arc<SyncVolume>], replicas: &[Arc<SyncReplica>]) -> BTreeSet<String> {
    let with_files = volumes.iter().filter(|volume| volume.status.as_ref().is_some_and(|status| status.initialized));
    let with_files = with_files.map(|volume| shown(volume.namespace(), &volume.name_any()));
    let with_replicas = replicas.iter().map(|replica| shown(replica.namespace(), &replica.spec.volume));
    with_files.chain(with_replicas).collect()
}

fn shown(namespace: Option<String>, name: &str) -> String {
    format!("{}/{name}", namespace.unwrap_or_default())
}

/// Deletes what agents need, and lets the mesh go. Its objects have no owner: whoever deletes a mesh in the foreground would have them
/// deleted first, whoever still needs them.
///
/// # Errors
/// The API server refused a call, or couldn't be reached.
pub async fn part(mesh: &SyncMesh, operator: &Operator) -> Result<(), Error> {
    if !finalizer::is_on(mesh, MESH_FINALIZER) {
        return Ok(());
    }
    let (caches, writes, home) = (&operator.caches, &operator.writes, operator.home.namespace.as_str());
    let agents = names::of_agents(&mesh.name_any());
    let authority = names::of_authority(&mesh.name_any());
    if let Some(agents) = caches.daemon_sets.get(&ObjectRef::new(&agents).within(home)) {
        writes.delete(&*agents).await?;
    }
    if let Some(service) = caches.services.get(&ObjectRef::new(&agents).within(home)) {
        writes.delete(&*service).await?;
    }
    if let Some(bundle) = caches.bundles.get(&ObjectRef::new(&authority).within(home)) {
        writes.delete(&*bundle).await?;
    }
    // A mesh that is made again under the name has an authority of its own: certificates of this one open nothing there.
    if let Some(secret) = caches.secrets.get(&ObjectRef::new(&authority).within(home)) {
        writes.delete(&*secret).await?;
    }
    finalizer::let_go(Manager::Agents, mesh, MESH_FINALIZER, writes).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::example::Cluster;

    #[test]
    fn a_volume_that_has_replicas_or_files_holds_its_mesh_and_one_that_was_refused_does_not() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        cluster.volume.metadata.namespace = Some("web".into());
        let volumes = |cluster: &Cluster| vec![Arc::new(cluster.volume.clone())];
        assert!(holders(&volumes(&cluster), &cluster.replicas).is_empty());
        cluster.reconcile();
        let held = BTreeSet::from(["web/docs".to_owned()]);
        assert_eq!(holders(&volumes(&cluster), &cluster.replicas), held);
        assert_eq!(holders(&[], &cluster.replicas), held);
        cluster.initialize();
        assert_eq!(holders(&volumes(&cluster), &[]), held);
    }
}

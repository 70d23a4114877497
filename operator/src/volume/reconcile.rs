//! Carries out what a volume should have, and writes how it is.

use super::binding;
use super::claims::{self, Mount};
use super::desired::{Desired, desired};
use super::farewell::{self, PATIENCE_SECONDS};
use super::status::{status, without_mesh};
use super::{World, grant, volume_id};
use crate::difference;
use crate::error::Error;
use crate::finalizer;
use crate::labels::{self, FINALIZER};
use crate::mesh::status::ready_nodes;
use crate::operator::{Operator, now};
use crate::writes::Manager;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use syncmesh_crds::mesh::SyncMeshSpec;
use syncmesh_crds::replica::SyncReplicaSpec;
use syncmesh_crds::volume::{Grant, SyncVolumeStatus, WriteMode};
use syncmesh_crds::{SyncMesh, SyncReplica, SyncVolume};
use tracing::info;

/// What a `World` borrows, as the caches have it.
struct Gathered {
    mesh: Arc<SyncMesh>,
    namespace: Arc<Namespace>,
    nodes: Vec<Arc<Node>>,
    replicas: Vec<Arc<SyncReplica>>,
    claims: Vec<Arc<PersistentVolumeClaim>>,
    others: Vec<Arc<SyncVolume>>,
    persistent_volumes: Vec<Arc<PersistentVolume>>,
    writer: Option<Grant>,
}

impl Gathered {
    /// None while the namespace isn't known, which is a watch that comes later than another.
    fn of(volume: &SyncVolume, mesh: Arc<SyncMesh>, operator: &Operator) -> Option<Self> {
        let caches = &operator.caches;
        let (name, own) = (volume.name_any(), volume.namespace()?);
        let namespace = caches.namespaces.get(&ObjectRef::new(&own))?;
        let itself = ObjectRef::new(&name).within(&own);
        let replicas = caches.replicas.of(&itself);
        let writer = match volume.spec.mode {
            WriteMode::ReadWriteMany => None,
            WriteMode::SingleWriter => {
                let before = grant::latest(volume.status.as_ref(), &replicas);
                match caches.users.of(&own) {
                    Some(pods) => grant::decide(before, &claims::first(volume), &pods),
                    None => before.cloned(),
                }
            }
        };
        Some(Self {
            namespace,
            nodes: caches.nodes.state(),
            replicas,
            writer,
            claims: claims::names(volume)
                .iter()
                .filter_map(|claim| caches.claims.get(&ObjectRef::new(claim).within(&own)))
                .collect(),
            others: caches
                .volumes
                .state_filter(|other| other.spec.mesh == volume.spec.mesh && other.metadata.uid != volume.metadata.uid),
            persistent_volumes: caches.persistent_volumes.of(&itself),
            mesh,
        })
    }

    fn world<'a>(&'a self, volume: &'a SyncVolume) -> World<'a> {
        World {
            volume,
            mesh: &self.mesh,
            namespace: &self.namespace,
            nodes: &self.nodes,
            replicas: &self.replicas,
            claims: &self.claims,
            others: &self.others,
            writer: self.writer.as_ref(),
            granted_seconds: granted_seconds(volume, self.writer.as_ref()),
            users: &[],
        }
    }
}

/// Makes a volume's replicas and mounts what they should be. The result is when to look again without being told.
///
/// # Errors
/// The API server refused a call, or couldn't be reached.
pub async fn reconcile(volume: &SyncVolume, operator: &Operator) -> Result<Option<Duration>, Error> {
    let mesh = operator.caches.meshes.get(&ObjectRef::new(&volume.spec.mesh));
    let is_deleted = volume.metadata.deletion_timestamp.is_some();
    let mesh = match mesh {
        Some(mesh) => mesh,
        // A mesh that is gone has no say in how a volume goes.
        None if is_deleted => Arc::new(SyncMesh::new(&volume.spec.mesh, SyncMeshSpec::default())),
        None => {
            write_status(volume, without_mesh(volume, &now()), operator).await?;
            return Ok(None);
        }
    };
    let Some(gathered) = Gathered::of(volume, mesh, operator) else { return Ok(None) };
    let mut world = gathered.world(volume);
    let users = users(&world, operator);
    world.users = &users;
    // The volume comes again with it.
    if !is_deleted && !has_finalizer(volume) {
        return finalizer::hold_on(Manager::Replicas, volume, FINALIZER, &operator.writes).await.map(|()| None);
    }
    let desired = desired(&world);
    if !is_deleted {
        carry_out(&world, &desired, &gathered.persistent_volumes, operator).await?;
    }
    let pods = operator.caches.pods.state_filter(|pod| pod.labels().get(labels::MESH) == Some(&volume.spec.mesh));
    write_status(volume, status(&world, &desired, &ready_nodes(&pods), &now()), operator).await?;
    // The status comes first, because after the last step there is no object to write it into.
    if is_deleted {
        return part(&world, &gathered.persistent_volumes, operator).await;
    }
    Ok(grant::waiting(&world).map(|seconds| Duration::from_secs(seconds + 1)))
}

/// Since when a node is to write, in seconds; none as long as the status doesn't say so.
fn granted_seconds(volume: &SyncVolume, writer: Option<&Grant>) -> i64 {
    let status = volume.status.as_ref().filter(|status| status.writer.as_ref() == writer);
    let since = status.and_then(|status| status.writer_since.as_ref());
    since.map_or(0, |since| now().0.as_second() - since.0.as_second())
}

/// Pods that keep the claims of a volume which is being deleted. Those of a namespace that goes, too, go by themselves.
fn users(world: &World<'_>, operator: &Operator) -> Vec<String> {
    let namespace = &world.namespace.metadata;
    let kept = farewell::kept(world);
    if world.volume.metadata.deletion_timestamp.is_none() || namespace.deletion_timestamp.is_some() || kept.is_empty() {
        return Vec::new();
    }
    let pods = operator.caches.users.of(world.namespace_name()).unwrap_or_default();
    let uses = |pod: &&Arc<Pod>| kept.iter().any(|claim| grant::uses(pod, claim));
    let mut names: Vec<String> = pods.iter().filter(uses).map(|pod| pod.name_any()).collect();
    names.sort();
    names
}

fn has_finalizer(volume: &SyncVolume) -> bool {
    finalizer::is_on(volume, FINALIZER)
}

async fn carry_out(
    world: &World<'_>,
    desired: &Desired,
    volumes: &[Arc<PersistentVolume>],
    operator: &Operator,
) -> Result<(), Error> {
    if desired.refusal.is_some() {
        return Ok(());
    }
    for replica in &desired.replicas {
        let existing = world.replicas.iter().find(|old| old.metadata.name == replica.metadata.name);
        if !existing.is_some_and(|existing| is_same(existing, replica)) {
            operator.writes.apply(Manager::Replicas, replica).await?;
        }
    }
    for replica in named(world.replicas, &desired.forgotten) {
        operator.writes.delete(replica).await?;
    }
    for mount in &desired.mounts {
        bind(world, mount, volumes, operator).await?;
    }
    Ok(())
}

/// Decisions are written by somebody else.
fn is_same(existing: &SyncReplica, desired: &SyncReplica) -> bool {
    let spec = SyncReplicaSpec { decisions: Vec::new(), ..existing.spec.clone() };
    spec == desired.spec && existing.metadata.labels == desired.metadata.labels
}

/// Takes the next step towards a bound claim; the watches tell when it is done.
async fn bind(
    world: &World<'_>,
    mount: &Mount,
    volumes: &[Arc<PersistentVolume>],
    operator: &Operator,
) -> Result<(), Error> {
    let writes = &operator.writes;
    let existing = volumes.iter().map(Arc::as_ref).find(|volume| volume.metadata.name == mount.volume.metadata.name);
    let wanted = difference::signed(mount.volume.clone());
    let is_right = existing.is_some_and(|existing| difference::is_there(&wanted, existing));
    match binding::next(world, mount, existing, is_right) {
        binding::Step::Rest => Ok(()),
        binding::Step::ApplyVolume if writes.is_wanted_still(world.volume).await? => {
            writes.apply(Manager::Mounts, &wanted).await
        }
        binding::Step::MakeClaim if writes.is_wanted_still(world.volume).await? => {
            writes.create(Manager::Mounts, &mount.claim).await
        }
        binding::Step::ApplyVolume | binding::Step::MakeClaim => Ok(()),
        binding::Step::Release(uid) => {
            let path = "/spec/claimRef/uid";
            let operations =
                vec![json!({ "op": "test", "path": path, "value": uid }), json!({ "op": "remove", "path": path })];
            writes.change(Manager::Mounts, existing.unwrap_or(&mount.volume), operations).await
        }
        binding::Step::Touch(count) => {
            let fields = json!({ "metadata": { "annotations": { labels::TOUCHED: count.to_string() } } });
            writes.annotate(Manager::Mounts, &mount.claim, fields).await
        }
    }
}

/// Takes the next step of a volume's farewell.
async fn part(
    world: &World<'_>,
    volumes: &[Arc<PersistentVolume>],
    operator: &Operator,
) -> Result<Option<Duration>, Error> {
    let writes = &operator.writes;
    if !has_finalizer(world.volume) {
        return Ok(None);
    }
    let prefix = format!("syncmesh-{}-", volume_id(world.volume));
    // That for a claim of a StorageClass has the name of the volume, which is its id, too.
    let is_ours = |name: String| name.starts_with(&prefix) || name == volume_id(world.volume);
    let volumes: Vec<&PersistentVolume> =
        volumes.iter().map(Arc::as_ref).filter(|volume| is_ours(volume.name_any())).collect();
    let names: Vec<String> = volumes.iter().map(|volume| volume.name_any()).collect();
    let waited = waited_seconds(world.volume);
    match farewell::next(world, &names, waited) {
        farewell::Step::DeleteClaims(names) => {
            for claim in world.claims.iter().filter(|claim| names.contains(&claim.name_any())) {
                writes.delete(&**claim).await?;
            }
        }
        farewell::Step::AwaitClaims(names) => {
            info!("waiting for the claims {} of {} to be deleted", names.join(", "), world.name());
        }
        farewell::Step::DeleteVolumes(_) => {
            for volume in volumes {
                writes.delete(volume).await?;
            }
        }
        farewell::Step::OrderRemoval(names) => {
            for replica in named(world.replicas, &names) {
                let order = json!({ "op": "replace", "path": "/spec/desired", "value": "Absent" });
                writes.change(Manager::Replicas, replica, vec![order]).await?;
            }
        }
        farewell::Step::AwaitRemoval(nodes) => {
            info!("waiting for {} to remove the files of {}", nodes.join(", "), world.name());
            let left = u64::try_from(PATIENCE_SECONDS - waited).unwrap_or(0);
            return Ok(Some(Duration::from_secs(left + 1)));
        }
        farewell::Step::DeleteReplicas(names) => {
            for replica in named(world.replicas, &names) {
                writes.delete(replica).await?;
            }
        }
        farewell::Step::Release => {
            for question in operator.caches.conflicts.of(&ObjectRef::from_obj(world.volume)) {
                writes.delete(&*question).await?;
            }
            finalizer::let_go(Manager::Replicas, world.volume, FINALIZER, writes).await?;
        }
    }
    Ok(None)
}

fn waited_seconds(volume: &SyncVolume) -> i64 {
    let since = volume.metadata.deletion_timestamp.as_ref();
    since.map_or(0, |since| now().0.as_second() - since.0.as_second())
}

fn named<'a>(replicas: &'a [Arc<SyncReplica>], names: &'a [String]) -> impl Iterator<Item = &'a SyncReplica> {
    replicas
        .iter()
        .map(Arc::as_ref)
        .filter(|replica| replica.metadata.name.as_ref().is_some_and(|name| names.contains(name)))
}

/// Writes a status that is another one than before, and tells of another state.
async fn write_status(volume: &SyncVolume, status: SyncVolumeStatus, operator: &Operator) -> Result<(), Error> {
    // A volume without its finalizer is gone, or about to be.
    let is_going = volume.metadata.deletion_timestamp.is_some() && !has_finalizer(volume);
    if is_going {
        return Ok(());
    }
    let (before, message) = (volume.status.as_ref(), status.message.as_deref());
    operator.writes.show(volume, before, &status, |status| status.state, message).await
}

//! Operators, outside of the cluster, and what they make of a mesh and a volume. There are no agents here.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::process::Operator;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use syncmesh_crds::replica::Desired;
use syncmesh_crds::state::State;
use syncmesh_crds::{SyncMesh, SyncReplica, SyncVolume};
use syncmesh_operator::labels::FINALIZER;

/// Where operators and agents are.
const HOME: &str = "syncmesh-operator-home";
/// Where the volume is.
const WEB: &str = "syncmesh-operator-web";
/// The mesh. It has no namespace, so its name is one that nobody else takes.
const MESH: &str = "e2e-operator";
/// Keeps a replica in sight that is being deleted.
const HELD: &str = "syncmesh.io/e2e";

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    cluster.install_kinds().await?;
    cluster.open_namespace(HOME).await?;
    cluster.open_namespace(WEB).await?;
    let told = with_operators(cluster).await;
    cluster.delete(WEB, &mesh()).await?;
    told?;
    cluster.close_namespace(WEB).await?;
    cluster.close_namespace(HOME).await
}

async fn with_operators(cluster: &Cluster) -> Outcome<()> {
    let client = cluster.client();
    let leases: Api<Lease> = Api::namespaced(client.clone(), HOME);
    let first = Operator::start(cluster, "one", HOME).await?;
    leads(cluster, &leases, "one").await?;
    let _second = Operator::start(cluster, "two", HOME).await?;
    let replicas = makes_all(cluster, &client).await?;
    first.kill()?;
    leads(cluster, &leases, "two").await?;
    let volumes: Api<SyncVolume> = Api::namespaced(client.clone(), WEB);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), WEB);
    claims.delete("docs", &DeleteParams::default()).await.map_err(Failure::to("delete the claim"))?;
    cluster.see(&claims, "docs", "the claim made again and bound", is_bound).await?;
    println!("a claim that was deleted is bound again, by the second operator");
    goes(cluster, &client, &volumes, &replicas).await
}

async fn leads(cluster: &Cluster, leases: &Api<Lease>, name: &'static str) -> Outcome<()> {
    let holds = move |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) == Some(name);
    cluster.see(leases, "syncmesh-operator", &format!("operator {name} leading"), holds).await?;
    println!("operator {name} leads");
    Ok(())
}

/// From a mesh and a volume of three lines to a bound claim.
async fn makes_all(cluster: &Cluster, client: &Client) -> Outcome<Vec<SyncReplica>> {
    cluster.stores(WEB, &mesh()).await?;
    let volume = json!({
        "apiVersion": "syncmesh.io/v1alpha1",
        "kind": "SyncVolume",
        "metadata": { "name": "docs" },
        "spec": { "mesh": MESH, "reclaimPolicy": "Delete" },
    });
    cluster.stores(WEB, &volume).await?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), WEB);
    let claim = cluster.see(&claims, "docs", "the claim bound", is_bound).await?;
    let name = claim.spec.and_then(|spec| spec.volume_name).unwrap_or_default();
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    cluster.see(&volumes, &name, "its PersistentVolume", |_| true).await?;
    println!("claim docs is bound to {name}");
    let agents: Api<DaemonSet> = Api::namespaced(client.clone(), HOME);
    cluster.see(&agents, &format!("syncmesh-{MESH}"), "the agents' DaemonSet", |_| true).await?;
    let services: Api<Service> = Api::namespaced(client.clone(), HOME);
    cluster.see(&services, &format!("syncmesh-{MESH}"), "the agents' Service", |_| true).await?;
    let meshes: Api<SyncMesh> = Api::all(client.clone());
    let is_pending = |mesh: &SyncMesh| mesh.status.as_ref().is_some_and(|status| status.state == Some(State::Pending));
    cluster.see(&meshes, MESH, "the mesh Pending", is_pending).await?;
    let volumes: Api<SyncVolume> = Api::namespaced(client.clone(), WEB);
    let says_why = |volume: &SyncVolume| {
        let status = volume.status.as_ref();
        status.is_some_and(|status| status.state == Some(State::Pending) && status.message.is_some())
    };
    let status = cluster.see(&volumes, "docs", "the volume Pending, with a message", says_why).await?.status;
    let status = status.unwrap_or_default();
    let replicas = all_replicas(client).await?;
    let nodes = status.nodes.unwrap_or_default();
    println!("docs {nodes} Pending: {}", status.message.unwrap_or_default());
    if nodes == format!("0/{}", replicas.len()) && !replicas.is_empty() {
        Ok(replicas)
    } else {
        Err(Failure::new(format!("the volume says {nodes}, and there are {} replicas", replicas.len())))
    }
}

/// Neither a mesh that is being deleted nor a volume that goes orders files to be deleted, as nobody confirmed it.
async fn goes(cluster: &Cluster, client: &Client, volumes: &Api<SyncVolume>, made: &[SyncReplica]) -> Outcome<()> {
    cluster.delete(WEB, &mesh()).await?;
    let meshes: Api<SyncMesh> = Api::all(client.clone());
    let is_held = |mesh: &SyncMesh| {
        let message = mesh.status.as_ref().and_then(|status| status.message.as_deref());
        message.is_some_and(|message| message.contains(&format!("delete {WEB}/docs first")))
    };
    let held = cluster.see(&meshes, MESH, "the mesh held by its volume", is_held).await?;
    let agents: Api<DaemonSet> = Api::namespaced(client.clone(), HOME);
    cluster.see(&agents, &format!("syncmesh-{MESH}"), "the agents still there", |_| true).await?;
    println!("mesh {MESH}: {}", held.status.and_then(|status| status.message).unwrap_or_default());
    let left = all_replicas(client).await?;
    let spec = |replicas: &[SyncReplica]| replicas.iter().map(|replica| replica.spec.clone()).collect::<Vec<_>>();
    if spec(&left) != spec(made) {
        return Err(Failure::new("replicas changed with a mesh that is being deleted"));
    }
    println!("all {} replicas are as they were", left.len());
    let replicas: Api<SyncReplica> = Api::namespaced(client.clone(), WEB);
    let name = left.first().map(ResourceExt::name_any).unwrap_or_default();
    finalizers(&replicas, &name, json!([HELD])).await?;
    volumes.delete("docs", &DeleteParams::default()).await.map_err(Failure::to("delete the volume"))?;
    let is_going = |replica: &SyncReplica| replica.metadata.deletion_timestamp.is_some();
    let going = cluster.see(&replicas, &name, "a replica that goes", is_going).await?;
    if going.spec.desired != Desired::Present {
        return Err(Failure::new("files were ordered to be deleted that nobody confirmed"));
    }
    let holds_on = |volume: &SyncVolume| volume.finalizers().iter().any(|one| one == FINALIZER);
    cluster.see(volumes, "docs", "the volume waiting for its replica", holds_on).await?;
    finalizers(&replicas, &name, Value::Null).await?;
    cluster.see_gone(volumes, "docs").await?;
    println!("the volume is gone, and no file was ordered to be deleted");
    cluster.see_gone(&meshes, MESH).await?;
    cluster.see_gone(&agents, &format!("syncmesh-{MESH}")).await?;
    println!("the mesh is gone after it, with its agents");
    Ok(())
}

async fn finalizers(replicas: &Api<SyncReplica>, name: &str, finalizers: Value) -> Outcome<()> {
    let patch = json!({ "metadata": { "finalizers": finalizers } });
    let patched = replicas.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.map(drop).map_err(Failure::to(format!("hold replica {name}")))
}

async fn all_replicas(client: &Client) -> Outcome<Vec<SyncReplica>> {
    let replicas: Api<SyncReplica> = Api::namespaced(client.clone(), WEB);
    Ok(replicas.list(&ListParams::default()).await.map_err(Failure::to("list replicas"))?.items)
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Bound") && claim.metadata.deletion_timestamp.is_none()
}

fn mesh() -> Value {
    json!({ "apiVersion": "syncmesh.io/v1alpha1", "kind": "SyncMesh", "metadata": { "name": MESH }, "spec": {} })
}

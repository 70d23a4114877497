//! Machines that come and go. One of them is only a Node object, so that it can be lost without harm; the story speaks for its agent.

use crate::cluster::{Cluster, Intent};
use crate::failure::{Failure, Outcome};
use crate::process::Operator;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use syncmesh_crds::mesh::MemberState;
use syncmesh_crds::replica::Start;
use syncmesh_crds::{SyncMesh, SyncReplica, SyncVolume};
use syncmesh_operator::labels::FORGET_NODE;
use syncmesh_operator::names;

const HOME: &str = "syncmesh-members-home";
const WEB: &str = "syncmesh-members-web";
const MESH: &str = "e2e-members";
const VOLUME: &str = "docs";
/// The machine that is lost.
const MACHINE: &str = "e2e-machine";

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    cluster.install_kinds().await?;
    cluster.open_namespace(HOME).await?;
    cluster.open_namespace(WEB).await?;
    let _operator = Operator::start(cluster, "members", HOME).await?;
    cluster.stores(HOME, &mesh()).await?;
    let told = with_mesh(cluster).await;
    let nodes: Api<Node> = Api::all(cluster.client());
    // It may have gone in the story.
    let _ = nodes.delete(MACHINE, &DeleteParams::default()).await;
    cluster.close_namespace(WEB).await?;
    cluster.delete(HOME, &mesh()).await?;
    let gone = cluster.see_gone::<SyncMesh>(&Api::all(cluster.client()), MESH).await;
    told.and(gone)?;
    cluster.close_namespace(HOME).await
}

async fn with_mesh(cluster: &Cluster) -> Outcome<()> {
    let client = cluster.client();
    let nodes: Api<Node> = Api::all(client.clone());
    let replicas: Api<SyncReplica> = Api::namespaced(client.clone(), WEB);
    let meshes: Api<SyncMesh> = Api::all(client.clone());
    let volumes: Api<SyncVolume> = Api::namespaced(client.clone(), WEB);
    let first = appears(&nodes).await?;
    cluster.stores(WEB, &volume()).await?;
    let name = names::of_replica(VOLUME, MACHINE);
    let made = cluster.see(&replicas, &name, "the machine's replica", |_| true).await?;
    if made.spec.start != Start::Empty {
        return Err(Failure::new("a replica of a new volume waits for others"));
    }
    cluster.apply_status(WEB, &told(&name), Intent::Store).await?;
    let is_initialized = |volume: &SyncVolume| volume.status.as_ref().is_some_and(|status| status.initialized);
    cluster.see(&volumes, VOLUME, "the volume having files", is_initialized).await?;
    let has_some = |mesh: &SyncMesh| member(mesh).is_some_and(|(_, files)| files == Some(3));
    cluster.see(&meshes, MESH, "the mesh knowing of its only copies", has_some).await?;

    vanishes(cluster, &nodes).await?;
    let is_lost = |mesh: &SyncMesh| member(mesh).is_some_and(|(state, _)| state == MemberState::LostWithData);
    let lost = cluster.see(&meshes, MESH, "the machine missed", is_lost).await?;
    cluster.see(&replicas, &name, "its replica staying", |_| true).await?;
    println!("lost: {}", lost.status.and_then(|status| status.message).unwrap_or_default());

    let second = appears(&nodes).await?;
    let is_anew = |replica: &SyncReplica| {
        replica.metadata.uid != made.metadata.uid && replica.metadata.deletion_timestamp.is_none()
    };
    let anew = cluster.see(&replicas, &name, "a replica of the new machine", is_anew).await?;
    let own = anew.spec.members.iter().find(|member| member.node == MACHINE).cloned();
    let own = own.ok_or_else(|| Failure::new("the new machine is no member"))?;
    if anew.spec.start != Start::FromPeers || own.node_uid != second || own.replica_id.is_some() {
        return Err(Failure::new("another machine under the name was taken for the one that was lost"));
    }
    cluster.see(&meshes, MESH, "the first machine still missed", is_lost).await?;
    println!("another machine under its name is filled by the others, and the first one is missed still");

    let give_up = json!({ "metadata": { "annotations": { FORGET_NODE: first } } });
    let patched = meshes.patch(MESH, &PatchParams::default(), &Patch::Merge(&give_up)).await;
    patched.map_err(Failure::to("give the machine up"))?;
    let is_new = |mesh: &SyncMesh| member(mesh).is_some_and(|(state, _)| state == MemberState::NotReady);
    cluster.see(&meshes, MESH, "the first machine forgotten", is_new).await?;
    println!("the first machine is given up");

    vanishes(cluster, &nodes).await?;
    cluster.see_gone(&replicas, &name).await?;
    cluster.see(&meshes, MESH, "no machine of that name", |mesh| member(mesh).is_none()).await?;
    println!("the second one had nothing that others don't have, and is forgotten at once");
    Ok(())
}

/// A machine registers. The result is its uid.
async fn appears(nodes: &Api<Node>) -> Outcome<String> {
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": MACHINE, "labels": { "kubernetes.io/os": "linux" } },
    });
    let node = serde_json::from_value(node).map_err(Failure::to("make a Node"))?;
    let made = nodes.create(&PostParams::default(), &node).await.map_err(Failure::to("make a Node"))?;
    Ok(made.uid().unwrap_or_default())
}

async fn vanishes(cluster: &Cluster, nodes: &Api<Node>) -> Outcome<()> {
    nodes.delete(MACHINE, &DeleteParams::default()).await.map_err(Failure::to("delete the Node"))?;
    cluster.see_gone(nodes, MACHINE).await
}

fn member(mesh: &SyncMesh) -> Option<(MemberState, Option<u64>)> {
    let members = mesh.status.as_ref().map(|status| status.members.as_slice()).unwrap_or_default();
    members.iter().find(|member| member.node == MACHINE).map(|member| (member.state, member.only_copy_files))
}

/// What the machine's agent says.
fn told(name: &str) -> Value {
    json!({
        "apiVersion": "syncmesh.io/v1alpha1",
        "kind": "SyncReplica",
        "metadata": { "name": name },
        "status": { "data": "Ready", "onlyCopyFiles": 3, "replicaID": "disk-one" },
    })
}

fn volume() -> Value {
    json!({
        "apiVersion": "syncmesh.io/v1alpha1",
        "kind": "SyncVolume",
        "metadata": { "name": VOLUME },
        "spec": { "mesh": MESH },
    })
}

fn mesh() -> Value {
    json!({ "apiVersion": "syncmesh.io/v1alpha1", "kind": "SyncMesh", "metadata": { "name": MESH }, "spec": {} })
}

//! What the API server says to what the operator wants, for a few meshes and volumes. Nothing is stored.

use crate::cluster::{Answer, Cluster};
use crate::failure::{Failure, Outcome};
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::sync::Arc;
use syncmesh_crds::volume::Grant;
use syncmesh_crds::{SyncMesh, SyncVolume};
use syncmesh_operator::mesh::{self, desired::Home};
use syncmesh_operator::volume::{self, World};

const NAMESPACE: &str = "syncmesh-desired";

/// Asks about each object that the operator would apply.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    cluster.install_kinds().await?;
    cluster.open_namespace(NAMESPACE).await?;
    let nodes: Vec<Arc<Node>> = cluster.nodes().await?.into_iter().map(Arc::new).collect();
    let namespace = cluster.namespace(NAMESPACE).await?;
    let mut refused = 0;
    for (what, mesh) in meshes()? {
        println!("-- {what}");
        let home = Home { namespace: NAMESPACE.into(), image: "syncmesh.test/agent:e2e".into() };
        let desired = mesh::desired::desired(&mesh, &home);
        refused += said(cluster, &desired.account).await?;
        refused += said(cluster, &desired.service).await?;
        refused += said(cluster, &desired.agents).await?;
    }
    for (what, mesh, volume) in volumes()? {
        println!("-- {what}");
        refused += of_volume(cluster, &mesh, &volume, &nodes, &namespace).await?;
    }
    cluster.close_namespace(NAMESPACE).await?;
    if refused == 0 { Ok(()) } else { Err(Failure::new(format!("{refused} objects were refused"))) }
}

async fn of_volume(
    cluster: &Cluster,
    mesh: &SyncMesh,
    volume: &SyncVolume,
    nodes: &[Arc<Node>],
    namespace: &Namespace,
) -> Outcome<usize> {
    let writer = nodes.first().map(|node| Grant { node: node.name_any(), epoch: 1 });
    let world = World {
        volume,
        mesh,
        namespace,
        nodes,
        replicas: &[],
        claims: &[],
        others: &[],
        writer: writer.as_ref(),
        granted_seconds: 0,
        users: &[],
    };
    let desired = volume::desired::desired(&world);
    if let Some(refusal) = desired.refusal {
        return Err(Failure::new(format!("the operator itself refuses the volume: {refusal}")));
    }
    let mut refused = 0;
    for replica in &desired.replicas {
        refused += said(cluster, replica).await?;
    }
    for mount in &desired.mounts {
        refused += said(cluster, &mount.volume).await?;
        refused += said(cluster, &mount.claim).await?;
    }
    Ok(refused)
}

/// Prints what the API server says, and counts a refusal.
async fn said<K>(cluster: &Cluster, object: &K) -> Outcome<usize>
where
    K: Resource<DynamicType = ()> + Serialize + Debug,
{
    let what = format!("{} {}", K::kind(&()), object.name_any());
    match cluster.would_take(object).await? {
        Answer::Yes => {
            println!("accepted {what}");
            Ok(0)
        }
        Answer::No(message) => {
            println!("REFUSED {what}: {message}");
            Ok(1)
        }
    }
}

fn meshes() -> Outcome<Vec<(&'static str, SyncMesh)>> {
    Ok(vec![
        ("a mesh of three lines", mesh(json!({}))?),
        (
            "a mesh that says much",
            mesh(json!({
                "nodes": { "matchExpressions": [{ "key": "kubernetes.io/hostname", "operator": "Exists" }] },
                "directories": [{ "name": "media", "path": "/srv/media", "namespaces": {} }],
                "network": { "host": true, "port": 17400, "metricsPort": 19400 },
                "agent": {
                    "seccomp": "syncmesh",
                    "maxUnavailable": "10%",
                    "imagePullSecrets": ["pull"],
                    "tolerations": [{ "operator": "Exists" }],
                    "resources": { "requests": { "cpu": "50m", "memory": "64Mi" }, "limits": { "cpu": 2 } },
                },
            }))?,
        ),
    ])
}

fn volumes() -> Outcome<Vec<(&'static str, SyncMesh, SyncVolume)>> {
    Ok(vec![
        ("a volume of three lines", mesh(json!({}))?, volume(json!({}))?),
        (
            "a SingleWriter volume with a size, on some nodes",
            mesh(json!({ "nodes": { "matchLabels": { "kubernetes.io/os": "linux" } } }))?,
            volume(json!({
                "mode": "SingleWriter",
                "capacity": "20Gi",
                "nodes": { "matchExpressions": [{ "key": "kubernetes.io/hostname", "operator": "Exists" }] },
            }))?,
        ),
        (
            "a volume in a listed directory, with two claims",
            mesh(json!({ "directories": [{ "name": "media", "path": "/srv/media", "namespaces": {} }] }))?,
            volume(json!({ "directory": "media", "claims": [{ "name": "one" }, { "name": "two.b" }] }))?,
        ),
    ])
}

fn mesh(spec: Value) -> Outcome<SyncMesh> {
    let mut mesh = SyncMesh::new("default", serde_json::from_value(spec).map_err(Failure::to("read a mesh"))?);
    mesh.metadata.uid = Some("0c9a9bd8-6f3e-4e6e-8a61-2b1a4f4f4c11".into());
    Ok(mesh)
}

fn volume(spec: Value) -> Outcome<SyncVolume> {
    let mut volume = SyncVolume::new("docs", serde_json::from_value(spec).map_err(Failure::to("read a volume"))?);
    volume.metadata.uid = Some("3d5d5b0e-4b4e-4b57-9e0e-2f4d0a3d6f10".into());
    Ok(volume)
}

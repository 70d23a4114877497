//! The right to write follows the pod that uses the claim. The story speaks for the agents, which aren't there; pods get nodes, and
//! never start.

use crate::cluster::{Cluster, Intent};
use crate::failure::{Failure, Outcome};
use crate::process::Operator;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use syncmesh_crds::volume::Grant;
use syncmesh_crds::{SyncMesh, SyncReplica, SyncVolume};

const HOME: &str = "syncmesh-writer-home";
const WEB: &str = "syncmesh-writer-web";
const MESH: &str = "e2e-writer";

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    cluster.install_kinds().await?;
    cluster.open_namespace(HOME).await?;
    cluster.open_namespace(WEB).await?;
    let _operator = Operator::start(cluster, "writer", HOME).await?;
    let mesh =
        json!({ "apiVersion": "syncmesh.io/v1alpha1", "kind": "SyncMesh", "metadata": { "name": MESH }, "spec": {} });
    cluster.stores(HOME, &mesh).await?;
    let told = with_mesh(cluster).await;
    cluster.close_namespace(WEB).await?;
    cluster.delete(HOME, &mesh).await?;
    let gone = cluster.see_gone::<SyncMesh>(&Api::all(cluster.client()), MESH).await;
    told.and(gone)?;
    cluster.close_namespace(HOME).await
}

async fn with_mesh(cluster: &Cluster) -> Outcome<()> {
    let client = cluster.client();
    let volume = json!({
        "apiVersion": "syncmesh.io/v1alpha1",
        "kind": "SyncVolume",
        "metadata": { "name": "queue" },
        "spec": { "mesh": MESH, "mode": "SingleWriter" },
    });
    cluster.stores(WEB, &volume).await?;
    let replicas = replicas(&client).await?;
    let [first, second, ..] = replicas.as_slice() else {
        return Err(Failure::new("this story takes two nodes without taints"));
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), WEB);
    let volumes: Api<SyncVolume> = Api::namespaced(client.clone(), WEB);
    let all: Api<SyncReplica> = Api::namespaced(client.clone(), WEB);
    run(&pods, "one", &first.spec.node).await?;
    writes(cluster, &volumes, &first.spec.node, 1).await?;
    knows(cluster, &all, first, &first.spec.node, 1).await?;
    println!("the pod's node writes, in epoch 1");
    pods.delete("one", &DeleteParams::default().grace_period(0)).await.map_err(Failure::to("delete a pod"))?;
    cluster.see_gone(&pods, "one").await?;
    run(&pods, "two", &second.spec.node).await?;
    writes(cluster, &volumes, &second.spec.node, 2).await?;
    knows(cluster, &all, first, &second.spec.node, 2).await?;
    let waiting = all.get(&second.name_any()).await.map_err(Failure::to("read a replica"))?;
    if waiting.spec.writer.as_ref().is_some_and(|grant| grant.epoch != 1) {
        return Err(Failure::new("a new writer was told before the old one obeyed"));
    }
    if !waiting.spec.fenced {
        return Err(Failure::new("what a new writer's pod writes before the old one obeyed would be taken back"));
    }
    println!("the old writer is told of epoch 2, the new one isn't yet, and is fenced");
    let asked = Instant::now();
    for replica in &replicas {
        if replica.spec.node != second.spec.node {
            obeys(cluster, replica).await?;
        }
    }
    knows(cluster, &all, second, &second.spec.node, 2).await?;
    if asked.elapsed() > Duration::from_secs(20) {
        return Err(Failure::new("the new writer was told by patience, not by obedience"));
    }
    println!("the old writer obeys, and the new one writes");
    pods.delete("two", &DeleteParams::default().grace_period(0)).await.map_err(Failure::to("delete a pod"))?;
    cluster.see_gone(&pods, "two").await
}

/// All replicas, once there is one for each node of the mesh.
async fn replicas(client: &Client) -> Outcome<Vec<SyncReplica>> {
    let all: Api<SyncReplica> = Api::namespaced(client.clone(), WEB);
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let list = all.list(&ListParams::default()).await.map_err(Failure::to("list replicas"))?.items;
        if list.first().is_some_and(|replica| replica.spec.members.len() == list.len()) {
            return Ok(list);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Err(Failure::new("could not see all replicas"))
}

/// A pod on a node that uses the claim.
async fn run(pods: &Api<Pod>, name: &str, node: &str) -> Outcome<()> {
    let pod: Value = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": {
            "nodeName": node,
            "containers": [{ "name": "main", "image": "syncmesh.test/agent:e2e", "imagePullPolicy": "Never" }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "queue" } }],
        },
    });
    let pod = serde_json::from_value(pod).map_err(Failure::to("make a pod"))?;
    pods.create(&PostParams::default(), &pod).await.map(drop).map_err(Failure::to(format!("make the pod {name}")))
}

async fn writes(cluster: &Cluster, volumes: &Api<SyncVolume>, node: &str, epoch: u64) -> Outcome<()> {
    let expected = Grant { node: node.to_owned(), epoch };
    let is_so =
        |volume: &SyncVolume| volume.status.as_ref().and_then(|status| status.writer.as_ref()) == Some(&expected);
    cluster.see(volumes, "queue", &format!("node {node} writing in epoch {epoch}"), is_so).await.map(drop)
}

async fn knows(
    cluster: &Cluster,
    all: &Api<SyncReplica>,
    replica: &SyncReplica,
    node: &str,
    epoch: u64,
) -> Outcome<()> {
    let expected = Grant { node: node.to_owned(), epoch };
    let is_so = |replica: &SyncReplica| replica.spec.writer.as_ref() == Some(&expected);
    let what = format!("node {} knowing that {node} writes", replica.spec.node);
    cluster.see(all, &replica.name_any(), &what, is_so).await.map(drop)
}

/// What an agent would say.
async fn obeys(cluster: &Cluster, replica: &SyncReplica) -> Outcome<()> {
    let status = json!({
        "apiVersion": "syncmesh.io/v1alpha1",
        "kind": "SyncReplica",
        "metadata": { "name": replica.name_any() },
        "status": { "epoch": 2 },
    });
    cluster.apply_status(WEB, &status, Intent::Store).await.map(drop)
}

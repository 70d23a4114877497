//! An operator with 200 nodes and 1,000 volumes of 10 nodes each. Nodes are objects without a kubelet, and no agents run. Figures are
//! printed and not judged: this machine's load decides about them, too.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::process::Operator;
use crate::release;
use futures::stream::{self, StreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::Resource;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::time::{Duration, Instant};
use syncmesh_crds::{SyncMesh, SyncReplica, SyncVolume};
use tokio::time::sleep;

const HOME: &str = "syncmesh-scale-home";
const WEB: &str = "syncmesh-scale-web";
const MESH: &str = "e2e-scale";
const NODES: usize = 200;
const VOLUMES: usize = 1_000;
/// Nodes of each volume.
const OF_EACH: usize = 10;
/// Which of the mesh's volumes a node is for.
const GROUP: &str = "e2e.syncmesh.io/group";
/// Requests at a time.
const AT_ONCE: usize = 16;
/// How long a cluster gets for ten thousand objects.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    release::clear()?;
    cluster.install_kinds().await?;
    cluster.open_namespace(HOME).await?;
    cluster.open_namespace(WEB).await?;
    make_nodes(cluster).await?;
    let told = with_operator(cluster).await;
    remove_nodes(cluster).await?;
    told?;
    cluster.close_namespace(WEB).await?;
    cluster.close_namespace(HOME).await
}

async fn with_operator(cluster: &Cluster) -> Outcome<()> {
    let operator = Operator::start(cluster, "scale", HOME).await?;
    cluster.stores(HOME, &mesh()).await?;
    let client = cluster.client();
    let volumes: Api<SyncVolume> = Api::namespaced(client.clone(), WEB);
    let replicas: Api<SyncReplica> = Api::namespaced(client.clone(), WEB);
    let start = Instant::now();
    make_volumes(&volumes).await?;
    println!("{VOLUMES} volumes were made in {:.0} s", start.elapsed().as_secs_f64());
    counts(&replicas, VOLUMES * OF_EACH).await?;
    println!(
        "{} replicas are there after {:.0} s; the operator has had {} MiB at most",
        VOLUMES * OF_EACH,
        start.elapsed().as_secs_f64(),
        operator.most_memory()?
    );
    one_change(&volumes, &replicas).await?;
    let start = Instant::now();
    remove_volumes(&volumes).await?;
    counts(&replicas, 0).await?;
    println!(
        "all were taken away after {:.0} s; {} MiB at most",
        start.elapsed().as_secs_f64(),
        operator.most_memory()?
    );
    cluster.delete(HOME, &mesh()).await?;
    cluster.see_gone::<SyncMesh>(&Api::all(client), MESH).await
}

/// From a change of one volume among all the others to the last of its replicas.
async fn one_change(volumes: &Api<SyncVolume>, replicas: &Api<SyncReplica>) -> Outcome<()> {
    // What the last ones made is looked at first.
    sleep(Duration::from_secs(20)).await;
    let start = Instant::now();
    let pause = json!({ "spec": { "paused": true } });
    let patched = volumes.patch(&name(0), &PatchParams::default(), &Patch::Merge(&pause)).await;
    patched.map_err(Failure::to("pause a volume"))?;
    let its = ListParams::default().fields("spec.node=e2e-node-0");
    loop {
        let list = replicas.list(&its).await.map_err(Failure::to("list a node's replicas"))?;
        if list.items.iter().any(|replica| replica.spec.volume == name(0) && replica.spec.paused) {
            println!("a change of one volume is in its replica after {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(Failure::new("a change of a volume doesn't reach its replicas"));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until there are so many objects of a kind.
async fn counts<K>(objects: &Api<K>, wanted: usize) -> Outcome<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let start = Instant::now();
    loop {
        // The API server counts what doesn't fit into the answer.
        let page = objects.list_metadata(&ListParams::default().limit(1)).await;
        let page = page.map_err(Failure::to(format!("count {}", K::plural(&()))))?;
        let rest = page.metadata.remaining_item_count.unwrap_or(0);
        let count = page.items.len() + usize::try_from(rest).unwrap_or(0);
        if count == wanted {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(Failure::new(format!("there are {count} {} instead of {wanted}", K::plural(&()))));
        }
        sleep(Duration::from_secs(1)).await;
    }
}

fn name(volume: usize) -> String {
    format!("v{volume}")
}

async fn make_volumes(volumes: &Api<SyncVolume>) -> Outcome<()> {
    each(VOLUMES, |number| async move {
        let volume = json!({
            "apiVersion": "syncmesh.io/v1alpha1",
            "kind": "SyncVolume",
            "metadata": { "name": name(number) },
            "spec": { "mesh": MESH, "nodes": { "matchLabels": { GROUP: group(number) } } },
        });
        let volume = serde_json::from_value(volume).map_err(Failure::to("make a volume"))?;
        volumes.create(&PostParams::default(), &volume).await.map(drop).map_err(Failure::to("make a volume"))
    })
    .await
}

async fn remove_volumes(volumes: &Api<SyncVolume>) -> Outcome<()> {
    each(VOLUMES, |number| async move {
        let deleted = volumes.delete(&name(number), &DeleteParams::default()).await;
        deleted.map(drop).map_err(Failure::to("delete a volume"))
    })
    .await
}

/// Which nodes a volume has, and which volumes a node.
fn group(number: usize) -> String {
    (number % (NODES / OF_EACH)).to_string()
}

async fn make_nodes(cluster: &Cluster) -> Outcome<()> {
    let nodes: &Api<Node> = &Api::all(cluster.client());
    each(NODES, |number| async move {
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": format!("e2e-node-{number}"),
                "labels": { "kubernetes.io/os": "linux", "e2e.syncmesh.io/scale": "yes", GROUP: group(number) },
            },
        });
        let node = serde_json::from_value(node).map_err(Failure::to("make a Node"))?;
        nodes.create(&PostParams::default(), &node).await.map(drop).map_err(Failure::to("make a Node"))
    })
    .await
}

async fn remove_nodes(cluster: &Cluster) -> Outcome<()> {
    let nodes: &Api<Node> = &Api::all(cluster.client());
    each(NODES, |number| async move {
        let deleted = nodes.delete(&format!("e2e-node-{number}"), &DeleteParams::default()).await;
        deleted.map(drop).map_err(Failure::to("delete a Node"))
    })
    .await
}

/// Does something for each number, some at a time, and stops at the first failure.
async fn each<F: Future<Output = Outcome<()>>>(count: usize, step: impl Fn(usize) -> F) -> Outcome<()> {
    let mut steps = stream::iter(0..count).map(step).buffer_unordered(AT_ONCE);
    while let Some(done) = steps.next().await {
        done?;
    }
    Ok(())
}

fn mesh() -> Value {
    json!({
        "apiVersion": "syncmesh.io/v1alpha1",
        "kind": "SyncMesh",
        "metadata": { "name": MESH },
        "spec": { "nodes": { "matchLabels": { "e2e.syncmesh.io/scale": "yes" } } },
    })
}

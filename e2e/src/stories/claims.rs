//! Claims of a StorageClass, from being made to being gone. There are no agents here, so nothing can be mounted.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::process::Operator;
use k8s_openapi::api::core::v1::{Event, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use syncmesh_crds::{SyncMesh, SyncVolume};
use syncmesh_operator::provision::PROVISIONER;

const HOME: &str = "syncmesh-claims-home";
const WEB: &str = "syncmesh-claims-web";
const MESH: &str = "e2e-claims";
/// A class that can be obeyed.
const CLASS: &str = "syncmesh-e2e";
/// One that can't.
const ODD_CLASS: &str = "syncmesh-e2e-odd";

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    cluster.install_kinds().await?;
    cluster.open_namespace(HOME).await?;
    cluster.open_namespace(WEB).await?;
    let classes: Api<StorageClass> = Api::all(cluster.client());
    for class in [class(CLASS, json!({ "mesh": MESH })), class(ODD_CLASS, json!({ "mesh": MESH, "path": "/etc" }))] {
        let name = text(&class["metadata"]["name"]);
        let by = PatchParams::apply("syncmesh-e2e").force();
        classes.patch(&name, &by, &Patch::Apply(class)).await.map_err(Failure::to("make a StorageClass"))?;
    }
    let _operator = Operator::start(cluster, "claims", HOME).await?;
    let mesh =
        json!({ "apiVersion": "syncmesh.io/v1alpha1", "kind": "SyncMesh", "metadata": { "name": MESH }, "spec": {} });
    cluster.stores(HOME, &mesh).await?;
    let told = with_mesh(cluster).await;
    cluster.close_namespace(WEB).await?;
    cluster.delete(HOME, &mesh).await?;
    let gone = cluster.see_gone::<SyncMesh>(&Api::all(cluster.client()), MESH).await;
    told.and(gone)?;
    for class in [CLASS, ODD_CLASS] {
        classes.delete(class, &DeleteParams::default()).await.map_err(Failure::to("delete a StorageClass"))?;
    }
    cluster.close_namespace(HOME).await
}

async fn with_mesh(cluster: &Cluster) -> Outcome<()> {
    let client = cluster.client();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), WEB);
    let begun = Instant::now();
    make(&claims, "data", CLASS).await?;
    let claim = cluster.see(&claims, "data", "the claim bound", is_bound).await?;
    println!("claim data is bound after {:.1} s", begun.elapsed().as_secs_f64());
    let name = claim.spec.clone().and_then(|spec| spec.volume_name).unwrap_or_default();
    let volumes: Api<SyncVolume> = Api::namespaced(client.clone(), WEB);
    let volume = volumes.get(&name).await.map_err(Failure::to("read the claim's volume"))?;
    if volume.owner_references().iter().all(|owner| Some(&owner.uid) != claim.metadata.uid.as_ref()) {
        return Err(Failure::new("the volume doesn't belong to its claim"));
    }
    println!("it has the volume {name}");
    grows(cluster, &claims, &volumes, &name).await?;
    stays(cluster, &claims, &volumes, &client, &name).await?;
    is_refused(cluster, &claims, &client).await
}

async fn grows(
    cluster: &Cluster,
    claims: &Api<PersistentVolumeClaim>,
    volumes: &Api<SyncVolume>,
    name: &str,
) -> Outcome<()> {
    let more = json!({ "spec": { "resources": { "requests": { "storage": "2Gi" } } } });
    let patched = claims.patch("data", &PatchParams::default(), &Patch::Merge(&more)).await;
    patched.map_err(Failure::to("ask for more"))?;
    let has = |volume: &SyncVolume| volume.spec.capacity.is_some_and(|capacity| capacity.to_string() == "2Gi");
    cluster.see(volumes, name, "a larger volume", has).await?;
    let shows = |claim: &PersistentVolumeClaim| {
        let capacity = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
        capacity.is_some_and(|capacity| capacity.0 == "2Gi")
    };
    cluster.see(claims, "data", "a larger claim", shows).await?;
    println!("volume and claim grew to 2Gi");
    Ok(())
}

/// A volume that somebody deletes waits for its claim, and goes when that does.
async fn stays(
    cluster: &Cluster,
    claims: &Api<PersistentVolumeClaim>,
    volumes: &Api<SyncVolume>,
    client: &Client,
    name: &str,
) -> Outcome<()> {
    volumes.delete(name, &DeleteParams::default()).await.map_err(Failure::to("delete the volume"))?;
    let waits = |volume: &SyncVolume| {
        let conditions = volume.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        conditions.iter().any(|one| one.r#type == "Terminating" && one.message.contains("claim data"))
    };
    cluster.see(volumes, name, "the volume waiting for its claim", waits).await?;
    let claim = claims.get("data").await.map_err(Failure::to("read the claim"))?;
    if !is_bound(&claim) {
        return Err(Failure::new("a claim of a user was deleted with its volume"));
    }
    claims.delete("data", &DeleteParams::default()).await.map_err(Failure::to("delete the claim"))?;
    cluster.see_gone(claims, "data").await?;
    cluster.see_gone(volumes, name).await?;
    cluster.see_gone::<PersistentVolume>(&Api::all(client.clone()), name).await?;
    println!("the volume waited for its claim, and went with it");
    Ok(())
}

async fn is_refused(cluster: &Cluster, claims: &Api<PersistentVolumeClaim>, client: &Client) -> Outcome<()> {
    make(claims, "odd", ODD_CLASS).await?;
    let events: Api<Event> = Api::namespaced(client.clone(), WEB);
    let about = ListParams::default().fields("involvedObject.name=odd,reason=ProvisioningFailed");
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let list = events.list(&about).await.map_err(Failure::to("list events"))?;
        let found = list.items.iter().filter_map(|event| event.message.as_deref()).find(|one| one.contains("path"));
        if let Some(message) = found {
            println!("refused: {message}");
            let claim = cluster.see(claims, "odd", "the odd claim", |_| true).await?;
            return if is_bound(&claim) { Err(Failure::new("an odd claim was bound")) } else { Ok(()) };
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Err(Failure::new("could not see why a claim was refused"))
}

async fn make(claims: &Api<PersistentVolumeClaim>, name: &str, class: &str) -> Outcome<()> {
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": name },
        "spec": {
            "storageClassName": class,
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "1Gi" } },
        },
    });
    let claim = serde_json::from_value(claim).map_err(Failure::to("make a claim"))?;
    claims.create(&PostParams::default(), &claim).await.map(drop).map_err(Failure::to(format!("make the claim {name}")))
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Bound") && claim.metadata.deletion_timestamp.is_none()
}

fn class(name: &str, parameters: Value) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": { "name": name },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Retain",
        "volumeBindingMode": "Immediate",
        "allowVolumeExpansion": true,
        "parameters": parameters,
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

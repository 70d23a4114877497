//! Ends an installation before its objects go: the chart's pre-delete hook. Files are never touched, and neither are claims.

use crate::error::Error;
use crate::labels::{ALL_AGENTS, OURS};
use crate::mesh::first::MEMORY;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use syncmesh_crds::{SyncMesh, SyncVolume};
use tokio::time::{Instant, sleep};

/// The key of that ConfigMap, and its value, by which volumes are no reason to refuse.
const FORCE: (&str, &str) = ("uninstall", "force");
/// The operators' Deployment.
const OPERATOR: &str = "syncmesh-operator";
/// Selects the operators' pods.
const OPERATORS: &str = "app.kubernetes.io/name=syncmesh-operator";
/// How long pods get to end. An agent takes 120 s at most, an operator a second.
const PATIENCE: Duration = Duration::from_secs(150);
/// How often pods are looked at.
const PERIOD: Duration = Duration::from_millis(500);

/// What an uninstallation is told.
pub struct Settings {
    /// Where operator and agents are.
    pub namespace: String,
    /// The release, for commands that are printed.
    pub release: String,
}

/// Why an uninstallation ended early.
#[derive(Debug)]
pub enum Stopped {
    /// There are volumes, and nobody said that they shall stay behind.
    Volumes {
        /// Where their files are, a line each.
        places: Vec<String>,
        /// The namespace of the release.
        namespace: String,
        /// The release.
        release: String,
    },
    /// A call failed.
    Call(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volumes { places, namespace, release } => write!(
                f,
                "nothing was uninstalled, because there are volumes:\n{}\nDelete them first (`kubectl delete svol NAME`), or leave \
                 them and their files where they are:\n  kubectl patch configmap {MEMORY} -n {namespace} --type merge -p \
                 '{{\"data\":{{\"{}\":\"{}\"}}}}'\n  helm uninstall {release} -n {namespace}\nTo go on as before: helm rollback \
                 {release} REVISION -n {namespace}",
                places.join("\n"),
                FORCE.0,
                FORCE.1
            ),
            Self::Call(error) => error.fmt(f),
        }
    }
}

/// Ends an installation.
///
/// # Errors
/// There are volumes and it isn't forced; nothing was changed then. Or the API server refused a call, or couldn't be reached; then it
/// can be done again.
pub fn main(settings: &Settings) -> Result<(), Stopped> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Error::process("make a runtime"))?.block_on(uninstall(settings))
}

async fn uninstall(settings: &Settings) -> Result<(), Stopped> {
    let client = Client::try_default().await.map_err(|reason| Error::Surroundings(Box::new(reason)))?;
    let meshes: Api<SyncMesh> = Api::all(client.clone());
    let volumes: Api<SyncVolume> = Api::all(client.clone());
    let read_meshes = all(&meshes, "SyncMesh").await?;
    let read_volumes = all(&volumes, "SyncVolume").await?;
    let places = places(&read_volumes, &read_meshes);
    if !places.is_empty() && !is_forced(&client, settings).await? {
        let (namespace, release) = (settings.namespace.clone(), settings.release.clone());
        return Err(Stopped::Volumes { places, namespace, release });
    }
    stop_operators(&client, settings).await?;
    // Nobody is left who would take them away once the objects are deleted.
    for volume in &read_volumes {
        let namespaced: Api<SyncVolume> = Api::namespaced(client.clone(), &volume.namespace().unwrap_or_default());
        let what = format!("let go of SyncVolume {}/{}", volume.namespace().unwrap_or_default(), volume.name_any());
        if let Some(operations) = without_ours(volume.finalizers()) {
            patch(&namespaced, volume, operations, what).await?;
        }
    }
    for mesh in &read_meshes {
        let what = format!("delete SyncMesh {}", mesh.name_any());
        if let Some(operations) = without_ours(mesh.finalizers()) {
            patch(&meshes, mesh, operations, what.clone()).await?;
        }
        match meshes.delete(&mesh.name_any(), &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            deleted => deleted.map(drop).map_err(Error::call(what))?,
        }
        println!("SyncMesh {} is deleted; its agents end", mesh.name_any());
    }
    // What operators have made for meshes, in their own namespace.
    delete_ours::<DaemonSet>(&client, settings, "DaemonSets").await?;
    delete_ours::<Service>(&client, settings, "Services").await?;
    delete_ours::<ConfigMap>(&client, settings, "ConfigMaps").await?;
    delete_ours::<Secret>(&client, settings, "Secrets").await?;
    see_pods_end(&client, settings, ALL_AGENTS, "agents").await?;
    if places.is_empty() {
        println!("done: there were no volumes");
    } else {
        println!("done: files, claims and SyncVolume objects stay as they are, here:\n{}", places.join("\n"));
    }
    Ok(())
}

async fn is_forced(client: &Client, settings: &Settings) -> Result<bool, Error> {
    let memories: Api<ConfigMap> = Api::namespaced(client.clone(), &settings.namespace);
    let memory = memories.get_opt(MEMORY).await.map_err(Error::call(format!("read ConfigMap {MEMORY}")))?;
    let data = memory.and_then(|memory| memory.data).unwrap_or_default();
    Ok(data.get(FORCE.0).is_some_and(|value| value == FORCE.1))
}

/// All objects of a kind; none where the kind itself was deleted.
async fn all<K>(api: &Api<K>, kind: &str) -> Result<Vec<K>, Error>
where
    K: Clone + fmt::Debug + serde::de::DeserializeOwned,
{
    match api.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
        listed => Ok(listed.map_err(Error::call(format!("list {kind} objects")))?.items),
    }
}

/// Where volumes' files are, a line each.
fn places(volumes: &[SyncVolume], meshes: &[SyncMesh]) -> Vec<String> {
    let by_name: BTreeMap<String, &SyncMesh> = meshes.iter().map(|mesh| (mesh.name_any(), mesh)).collect();
    let place = |volume: &SyncVolume| {
        let id = volume.status.as_ref().and_then(|status| status.volume_id.clone());
        let id = id.or_else(|| volume.spec.volume_id.clone()).or_else(|| volume.uid()).unwrap_or_default();
        let mesh = by_name.get(&volume.spec.mesh);
        let listed = volume.spec.directory.as_ref().map(|name| {
            let found = mesh.and_then(|mesh| mesh.spec.directories.iter().find(|listed| listed.name == *name));
            found.map_or_else(|| format!("the listed directory {name}"), |listed| listed.path.clone())
        });
        let root = mesh.map_or("the mesh's storage.root", |mesh| mesh.spec.storage.root.as_str());
        let path = listed.unwrap_or_else(|| format!("{root}/volumes/{id}/data"));
        format!(
            "  {}/{}: {path} on the nodes of mesh {}",
            volume.namespace().unwrap_or_default(),
            volume.name_any(),
            volume.spec.mesh
        )
    };
    volumes.iter().map(place).collect()
}

/// What takes our finalizer away, if the list of finalizers is what was read. None where it isn't in it.
fn without_ours(finalizers: &[String]) -> Option<Vec<Value>> {
    let left: Vec<&String> = finalizers.iter().filter(|one| !one.starts_with("syncmesh.io/")).collect();
    (left.len() < finalizers.len()).then(|| {
        vec![
            json!({ "op": "test", "path": "/metadata/finalizers", "value": finalizers }),
            json!({ "op": "replace", "path": "/metadata/finalizers", "value": left }),
        ]
    })
}

async fn patch<K>(api: &Api<K>, object: &K, operations: Vec<Value>, what: String) -> Result<(), Error>
where
    K: kube::Resource<DynamicType = ()> + Clone + fmt::Debug + serde::de::DeserializeOwned,
{
    let patch = serde_json::from_value(Value::Array(operations));
    let patch = patch.map_err(kube::Error::SerdeError).map_err(Error::call(what.clone()))?;
    let patched = api.patch(&object.name_any(), &PatchParams::default(), &Patch::Json::<()>(patch)).await;
    patched.map(drop).map_err(Error::call(what))
}

async fn delete_ours<K>(client: &Client, settings: &Settings, what: &str) -> Result<(), Error>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    K: Clone + fmt::Debug + serde::de::DeserializeOwned,
{
    let all: Api<K> = Api::namespaced(client.clone(), &settings.namespace);
    let deleted = all.delete_collection(&DeleteParams::background(), &ListParams::default().labels(OURS)).await;
    deleted.map(drop).map_err(Error::call(format!("delete {what} of meshes")))
}

/// They would make again what is deleted here.
async fn stop_operators(client: &Client, settings: &Settings) -> Result<(), Error> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &settings.namespace);
    let none = json!({ "spec": { "replicas": 0 } });
    match deployments.patch_scale(OPERATOR, &PatchParams::default(), &Patch::Merge(&none)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        scaled => scaled.map(drop).map_err(Error::call(format!("stop deployment {OPERATOR}")))?,
    }
    see_pods_end(client, settings, OPERATORS, "operators").await
}

/// Waits for pods to end. On a node that is away they can't, and nobody waits for that.
async fn see_pods_end(client: &Client, settings: &Settings, which: &str, who: &str) -> Result<(), Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &settings.namespace);
    let selected = ListParams::default().labels(which);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = pods.list(&selected).await.map_err(Error::call(format!("list pods of {who}")))?.items;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let names: Vec<String> = left.iter().map(ResourceExt::name_any).collect();
            println!("not waited for any longer: {who} {}", names.join(", "));
            return Ok(());
        }
        sleep(PERIOD).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncmesh_crds::mesh::{Directory, SyncMeshSpec};
    use syncmesh_crds::selector::Selector;
    use syncmesh_crds::volume::SyncVolumeSpec;

    fn volume(change: impl FnOnce(&mut SyncVolume)) -> SyncVolume {
        let mut volume = SyncVolume::new("docs", SyncVolumeSpec::default());
        volume.metadata.namespace = Some("web".into());
        volume.metadata.uid = Some("u-1".into());
        change(&mut volume);
        volume
    }

    #[test]
    fn whoever_uninstalls_is_told_where_files_are() {
        let mut mesh = SyncMesh::new("default", SyncMeshSpec::default());
        let media = Directory { name: "media".into(), path: "/srv/media".into(), namespaces: Selector::default() };
        mesh.spec.directories.push(media);
        let volumes = [volume(|_| ()), volume(|volume| volume.spec.directory = Some("media".into()))];
        let places = places(&volumes, &[mesh]);
        assert_eq!(places[0], "  web/docs: /var/lib/syncmesh/volumes/u-1/data on the nodes of mesh default");
        assert!(places[1].contains(": /srv/media on"), "{}", places[1]);
    }

    #[test]
    fn finalizers_of_others_stay() {
        let finalizers = ["syncmesh.io/volume".to_owned(), "other.io/x".to_owned()];
        assert_eq!(without_ours(&finalizers).unwrap()[1]["value"], json!(["other.io/x"]));
        assert_eq!(without_ours(&finalizers[1..]), None);
    }
}

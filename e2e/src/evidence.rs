//! What is kept of a story that failed: objects, events, and what our pods logged.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Event, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{Api, ListParams, LogParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use syncmesh_crds::{SyncConflict, SyncMesh, SyncReplica, SyncVolume};

/// Which pods are ours.
const OURS: &str = "app.kubernetes.io/name in (syncmesh-agent, syncmesh-operator)";
/// How much of each log is kept, in lines from its end.
const LINES: i64 = 10_000;

/// Writes everything to a folder of the story, and says where that is. What can't be had is said and left out: the story has failed
/// already.
pub async fn gather(cluster: &Cluster, story: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e").join(story);
    let _ = fs::remove_dir_all(&folder);
    let evidence = Evidence { client: cluster.client(), folder };
    let written = [
        evidence.objects::<SyncMesh>().await,
        evidence.objects::<SyncVolume>().await,
        evidence.objects::<SyncReplica>().await,
        evidence.objects::<SyncConflict>().await,
        evidence.objects::<Node>().await,
        evidence.objects::<Pod>().await,
        evidence.objects::<DaemonSet>().await,
        evidence.objects::<PersistentVolume>().await,
        evidence.objects::<PersistentVolumeClaim>().await,
        evidence.objects::<Event>().await,
        evidence.logs().await,
    ];
    for failure in written.into_iter().filter_map(Result::err) {
        println!("not kept: {failure}");
    }
    println!("kept: {}", evidence.folder.display());
}

struct Evidence {
    client: Client,
    folder: PathBuf,
}

impl Evidence {
    /// All objects of a kind, of all namespaces.
    async fn objects<K>(&self) -> Outcome<()>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
    {
        let kind = K::plural(&()).into_owned();
        let objects: Api<K> = Api::all(self.client.clone());
        let list = objects.list(&ListParams::default()).await.map_err(Failure::to(format!("list {kind}")))?;
        let text = serde_json::to_string_pretty(&list.items).map_err(Failure::to(format!("write {kind} as JSON")))?;
        self.write(&format!("{kind}.json"), &text)
    }

    /// What our pods logged, also before they were started again.
    async fn logs(&self) -> Outcome<()> {
        let all: Api<Pod> = Api::all(self.client.clone());
        let ours = all.list(&ListParams::default().labels(OURS)).await.map_err(Failure::to("list our pods"))?;
        for pod in ours {
            let namespace = pod.namespace().unwrap_or_default();
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
            for previous in [false, true] {
                let wanted = LogParams { previous, tail_lines: Some(LINES), ..LogParams::default() };
                // A pod that never ran, or ran only once, has none.
                let Ok(text) = pods.logs(&pod.name_any(), &wanted).await else { continue };
                let which = if previous { "-before" } else { "" };
                self.write(&format!("{namespace}-{}{which}.log", pod.name_any()), &text)?;
            }
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Outcome<()> {
        let path = self.folder.join(name);
        fs::create_dir_all(&self.folder)
            .and_then(|()| fs::write(&path, text))
            .map_err(Failure::to(format!("write {}", path.display())))
    }
}

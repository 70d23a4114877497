//! Pods of the namespaces in which a volume has one writer, whose pod's node writes, or is being deleted under its pods. Pods of other
//! namespaces are read by nobody here.

use super::{Bell, Listener, follow};
use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use syncmesh_crds::SyncVolume;
use syncmesh_crds::volume::WriteMode;

/// Pods of some namespaces. A watch that was begun ends with the operator.
pub struct Users {
    client: Client,
    bell: Arc<Bell>,
    watched: Mutex<BTreeMap<String, Store<Pod>>>,
}

impl Users {
    pub(super) fn new(client: &Client, bell: &Arc<Bell>) -> Self {
        Self { client: client.clone(), bell: bell.clone(), watched: Mutex::default() }
    }

    /// The pods of a namespace; none until they have been read, and then the bell rings.
    pub fn of(&self, namespace: &str) -> Option<Vec<Arc<Pod>>> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let pods = watched.entry(namespace.to_owned()).or_insert_with(|| self.watch(namespace));
        pods.wait_until_ready().now_or_never().is_some().then(|| pods.state())
    }

    fn watch(&self, namespace: &str) -> Store<Pod> {
        let (reader, writer) = store();
        let pods = Api::namespaced(self.client.clone(), namespace);
        let listener = Listener::new(|bell, pod: &Pod| {
            let hears = |volume: &SyncVolume| {
                volume.spec.mode == WriteMode::SingleWriter || volume.metadata.deletion_timestamp.is_some()
            };
            bell.volumes(|volume| hears(volume) && volume.namespace() == pod.namespace());
        });
        tokio::spawn(follow(pods, watcher::Config::default(), writer, self.bell.clone(), listener));
        reader
    }
}

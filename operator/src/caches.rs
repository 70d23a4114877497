//! What there is in the cluster, kept up to date by watches, and who is told of changes.

mod users;

use crate::error::with_causes;
use crate::identity::SIGNER;
use crate::labels;
use futures::StreamExt;
use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event as ClusterEvent, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service,
    ServiceAccount,
};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use syncmesh_crds::{SyncConflict, SyncMesh, SyncReplica, SyncVolume};
use tokio::task::JoinSet;
use tracing::warn;
use users::Users;

/// What there is in the cluster.
pub struct Caches {
    /// All meshes.
    pub meshes: Store<SyncMesh>,
    /// All volumes.
    pub volumes: Store<SyncVolume>,
    /// All replicas.
    pub replicas: Store<SyncReplica>,
    /// All questions to people.
    pub conflicts: Store<SyncConflict>,
    /// All nodes.
    pub nodes: Store<Node>,
    /// All namespaces.
    pub namespaces: Store<Namespace>,
    /// All claims, also those of others: theirs are never taken over.
    pub claims: Store<PersistentVolumeClaim>,
    /// Our PersistentVolumes.
    pub persistent_volumes: Store<PersistentVolume>,
    /// The agents' pods.
    pub pods: Store<Pod>,
    /// DaemonSets of the operator's namespace.
    pub daemon_sets: Store<DaemonSet>,
    /// Services of the operator's namespace.
    pub services: Store<Service>,
    /// Accounts of the operator's namespace.
    pub accounts: Store<ServiceAccount>,
    /// Roots of meshes, in the operator's namespace.
    pub secrets: Store<Secret>,
    /// What agents trust, in the operator's namespace.
    pub bundles: Store<ConfigMap>,
    /// StorageClasses, ours among them.
    pub classes: Store<StorageClass>,
    /// Requests to our signer.
    pub requests: Store<CertificateSigningRequest>,
    /// Pods that use claims where one node writes, or of volumes that are being deleted.
    pub users: Users,
    /// Refused pods of the DaemonSets in the operator's namespace.
    pub refusals: Store<ClusterEvent>,
}

/// Where changes are told. Nobody listens before this operator leads; who begins to lead looks at everything.
pub struct Bell {
    meshes: Store<SyncMesh>,
    volumes: Store<SyncVolume>,
    requests: Store<CertificateSigningRequest>,
    claims: Store<PersistentVolumeClaim>,
    listeners: OnceLock<Listeners>,
}

/// Who listens.
pub struct Listeners {
    /// To what meshes depend on.
    pub meshes: UnboundedSender<ObjectRef<SyncMesh>>,
    /// To what volumes depend on.
    pub volumes: UnboundedSender<ObjectRef<SyncVolume>>,
    /// To what questions of volumes depend on.
    pub questions: UnboundedSender<ObjectRef<SyncVolume>>,
    /// To claims of StorageClasses.
    pub claims: UnboundedSender<ObjectRef<PersistentVolumeClaim>>,
    /// To agents' requests for certificates.
    pub requests: UnboundedSender<ObjectRef<CertificateSigningRequest>>,
}

impl Bell {
    /// From now on these listen, and are told of everything once.
    pub fn begin(&self, listeners: Listeners) {
        if self.listeners.set(listeners).is_ok() {
            self.everything();
        }
    }

    // A listener that is gone belongs to an operator that ends.

    fn mesh(&self, name: &str) {
        if let Some(listeners) = self.listeners.get() {
            let _ = listeners.meshes.unbounded_send(ObjectRef::new(name));
        }
    }

    fn volume(&self, namespace: &str, name: &str) {
        if let Some(listeners) = self.listeners.get() {
            let volume = ObjectRef::new(name).within(namespace);
            let _ = listeners.volumes.unbounded_send(volume.clone());
            let _ = listeners.questions.unbounded_send(volume);
        }
    }

    fn request(&self, name: &str) {
        if let Some(listeners) = self.listeners.get() {
            let _ = listeners.requests.unbounded_send(ObjectRef::new(name));
        }
    }

    /// A claim that has or may have a volume of its own.
    fn claim(&self, claim: &PersistentVolumeClaim) {
        let has_class = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.storage_class_name.as_deref())
            .is_some_and(|class| !class.is_empty());
        if let (true, Some(listeners)) = (has_class, self.listeners.get()) {
            let _ = listeners.claims.unbounded_send(ObjectRef::from_obj(claim));
        }
    }

    fn claims(&self) {
        self.claims.state().iter().for_each(|claim| self.claim(claim));
    }

    fn volumes(&self, which: impl Fn(&SyncVolume) -> bool) {
        for volume in self.volumes.state_filter(|volume| which(volume)) {
            self.volume(&volume.namespace().unwrap_or_default(), &volume.name_any());
        }
    }

    fn meshes(&self) {
        self.meshes.state().iter().for_each(|mesh| self.mesh(&mesh.name_any()));
    }

    fn everything(&self) {
        self.meshes();
        self.volumes(|_| true);
        self.claims();
        self.requests.state().iter().for_each(|request| self.request(&request.name_any()));
    }

    /// The volume and the mesh that an object's labels name.
    fn labelled(&self, object: &impl ResourceExt) {
        let label = |key: &str| object.labels().get(key);
        if let (Some(namespace), Some(volume)) = (label(labels::NAMESPACE), label(labels::VOLUME)) {
            self.volume(namespace, volume);
        }
        if let Some(mesh) = label(labels::MESH) {
            self.mesh(mesh);
        }
    }
}

/// Begins to watch. The tasks end with the set.
pub fn follow_all(client: &Client, home: &str) -> (Caches, Arc<Bell>, JoinSet<()>) {
    let (meshes, of_meshes) = store();
    let (volumes, of_volumes) = store();
    let (requests, of_requests) = store();
    let (claims, of_claims) = store();
    let bell = Arc::new(Bell {
        meshes: meshes.clone(),
        volumes: volumes.clone(),
        requests: requests.clone(),
        claims: claims.clone(),
        listeners: OnceLock::new(),
    });
    let mut tasks = JoinSet::new();
    let all = watcher::Config::default;
    let mut watch = Watches { bell: &bell, tasks: &mut tasks };
    watch.follow(Api::all(client.clone()), all(), of_meshes, |bell, mesh| {
        bell.mesh(&mesh.name_any());
        bell.volumes(|volume| volume.spec.mesh == mesh.name_any());
    });
    watch.follow(Api::all(client.clone()), all(), of_volumes, |bell, volume: &SyncVolume| {
        bell.volume(&volume.namespace().unwrap_or_default(), &volume.name_any());
        bell.mesh(&volume.spec.mesh);
    });
    let to_our_signer = all().fields(&format!("spec.signerName={SIGNER}"));
    watch.follow(Api::all(client.clone()), to_our_signer, of_requests, |bell, request: &CertificateSigningRequest| {
        bell.request(&request.name_any());
    });
    // What a claim's name means to a volume isn't in the labels of a claim that isn't ours.
    watch.follow(Api::all(client.clone()), all(), of_claims, |bell, claim: &PersistentVolumeClaim| {
        bell.volumes(|volume| volume.namespace() == claim.namespace());
        bell.claim(claim);
    });
    let caches = Caches {
        meshes,
        volumes,
        requests,
        replicas: watch.cache(Api::all(client.clone()), all(), |bell, replica: &SyncReplica| {
            bell.volume(&replica.namespace().unwrap_or_default(), &replica.spec.volume);
            bell.mesh(&replica.spec.mesh);
        }),
        conflicts: watch.cache(Api::all(client.clone()), all(), |bell, conflict: &SyncConflict| {
            bell.volume(&conflict.namespace().unwrap_or_default(), &conflict.spec.volume);
        }),
        nodes: watch.cache(Api::all(client.clone()), all(), |bell, _: &Node| bell.everything()),
        namespaces: watch.cache(Api::all(client.clone()), all(), |bell, namespace: &Namespace| {
            bell.volumes(|volume| volume.namespace() == Some(namespace.name_any()));
        }),
        claims,
        classes: watch.cache(Api::all(client.clone()), all(), |bell, _: &StorageClass| bell.claims()),
        persistent_volumes: watch.cache(
            Api::all(client.clone()),
            all().labels(labels::OURS),
            |bell, volume: &PersistentVolume| {
                bell.labelled(volume);
                // A claim shows what its volume has.
                bell.claims.state_filter(|claim| is_bound_to(claim, volume)).iter().for_each(|claim| bell.claim(claim));
            },
        ),
        pods: watch.cache(
            Api::namespaced(client.clone(), home),
            all().labels(labels::ALL_AGENTS),
            |bell, pod: &Pod| {
                bell.labelled(pod);
                let mesh = pod.labels().get(labels::MESH);
                bell.volumes(|volume| Some(&volume.spec.mesh) == mesh);
            },
        ),
        daemon_sets: watch.cache(
            Api::namespaced(client.clone(), home),
            all().labels(labels::OURS),
            |bell, agents: &DaemonSet| bell.labelled(agents),
        ),
        services: watch.cache(
            Api::namespaced(client.clone(), home),
            all().labels(labels::OURS),
            |bell, service: &Service| bell.labelled(service),
        ),
        accounts: watch.cache(Api::namespaced(client.clone(), home), all(), |bell, _: &ServiceAccount| bell.meshes()),
        secrets: watch.cache(
            Api::namespaced(client.clone(), home),
            all().labels(labels::OURS),
            |bell, secret: &Secret| bell.labelled(secret),
        ),
        bundles: watch.cache(
            Api::namespaced(client.clone(), home),
            all().labels(labels::OURS),
            |bell, bundle: &ConfigMap| bell.labelled(bundle),
        ),
        users: Users::new(client, &bell),
        refusals: watch.cache(
            Api::namespaced(client.clone(), home),
            all().fields("involvedObject.kind=DaemonSet,reason=FailedCreate"),
            |bell, _: &ClusterEvent| bell.meshes(),
        ),
    };
    (caches, bell, tasks)
}

impl Caches {
    /// Waits until all has been read. Before that, what isn't there may only not have been read.
    pub async fn are_complete(&self) {
        // An error here is a watch that has ended, and then the operator ends, too.
        let _ = tokio::join!(
            self.meshes.wait_until_ready(),
            self.volumes.wait_until_ready(),
            self.replicas.wait_until_ready(),
            self.conflicts.wait_until_ready(),
            self.nodes.wait_until_ready(),
            self.namespaces.wait_until_ready(),
            self.claims.wait_until_ready(),
            self.persistent_volumes.wait_until_ready(),
            self.pods.wait_until_ready(),
            self.daemon_sets.wait_until_ready(),
            self.services.wait_until_ready(),
            self.accounts.wait_until_ready(),
            self.secrets.wait_until_ready(),
            self.bundles.wait_until_ready(),
            self.classes.wait_until_ready(),
            self.requests.wait_until_ready(),
            self.refusals.wait_until_ready(),
        );
    }
}

/// Watches that are begun.
struct Watches<'a> {
    bell: &'a Arc<Bell>,
    tasks: &'a mut JoinSet<()>,
}

impl Watches<'_> {
    fn cache<K>(&mut self, api: Api<DeserializeGuard<K>>, which: watcher::Config, tell: fn(&Bell, &K)) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (reader, writer) = store();
        self.follow(api, which, writer, tell);
        reader
    }

    fn follow<K>(
        &mut self,
        api: Api<DeserializeGuard<K>>,
        which: watcher::Config,
        writer: Writer<K>,
        tell: fn(&Bell, &K),
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        self.tasks.spawn(follow(api, which, writer, self.bell.clone(), tell));
    }
}

async fn follow<K>(
    api: Api<DeserializeGuard<K>>,
    which: watcher::Config,
    mut writer: Writer<K>,
    bell: Arc<Bell>,
    tell: fn(&Bell, &K),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let mut events = pin!(watch(api, which).default_backoff());
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => readable(event),
            Err(error) => {
                warn!("the watch of {} ended and is begun again: {}", K::plural(&()), with_causes(&error));
                continue;
            }
        };
        let Some(event) = event else { continue };
        writer.apply_watcher_event(&event);
        match &event {
            Event::Apply(object) | Event::Delete(object) => tell(&bell, object),
            // What has gone while nobody watched is named by no event.
            Event::InitDone => bell.everything(),
            Event::Init | Event::InitApply(_) => {}
        }
    }
}

/// Whether a claim says that this is its volume.
fn is_bound_to(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some() && spec.volume_name == volume.metadata.name)
}

/// The event without what nobody reads here. An object that can't be read keeps the place that it had.
fn readable<K: Resource<DynamicType = ()>>(event: Event<DeserializeGuard<K>>) -> Option<Event<K>> {
    let object = |guard: DeserializeGuard<K>| match guard.0 {
        Ok(mut object) => {
            object.meta_mut().managed_fields = None;
            Some(object)
        }
        Err(odd) => {
            let (kind, name) = (K::kind(&()), odd.metadata.name.as_deref().unwrap_or_default());
            let namespace = odd.metadata.namespace.as_deref().unwrap_or_default();
            warn!("{kind} {namespace}/{name} is left alone, because it can't be read: {}", odd.error);
            None
        }
    };
    match event {
        Event::Apply(guard) => object(guard).map(Event::Apply),
        Event::Delete(guard) => object(guard).map(Event::Delete),
        Event::InitApply(guard) => object(guard).map(Event::InitApply),
        Event::Init => Some(Event::Init),
        Event::InitDone => Some(Event::InitDone),
    }
}

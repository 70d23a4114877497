//! What there is in the cluster, kept up to date by watches, and who is told of changes.

mod of_volumes;
mod users;

use crate::error::with_causes;
use crate::identity::SIGNER;
use crate::labels;
use crate::volume::claims;
use futures::StreamExt;
use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event as ClusterEvent, Namespace, Node, NodeStatus, PersistentVolume, PersistentVolumeClaim, Pod,
    Secret, Service, ServiceAccount,
};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, Resource, ResourceExt};
use of_volumes::OfVolumes;
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
    pub replicas: OfVolumes<SyncReplica>,
    /// All questions to people.
    pub conflicts: OfVolumes<SyncConflict>,
    /// All nodes, without most of their status.
    pub nodes: Store<Node>,
    /// All namespaces.
    pub namespaces: Store<Namespace>,
    /// All claims, also those of others: theirs are never taken over.
    pub claims: Store<PersistentVolumeClaim>,
    /// Our PersistentVolumes.
    pub persistent_volumes: OfVolumes<PersistentVolume>,
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
        if let Some(volume) = labels::volume(object) {
            self.volume(volume.namespace.as_deref().unwrap_or_default(), &volume.name);
        }
        if let Some(mesh) = object.labels().get(labels::MESH) {
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
    watch.follow(Api::all(client.clone()), all(), of_meshes, |bell, mesh: &SyncMesh| {
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
        let name = claim.name_any();
        bell.volumes(|volume| volume.namespace() == claim.namespace() && claims::names(volume).contains(&name));
        bell.claim(claim);
    });
    let caches = Caches {
        meshes,
        volumes,
        requests,
        replicas: watch.of_volumes(Api::all(client.clone()), all(), of_replica, |bell, replica| {
            bell.volume(&replica.namespace().unwrap_or_default(), &replica.spec.volume);
            bell.mesh(&replica.spec.mesh);
        }),
        conflicts: watch.of_volumes(Api::all(client.clone()), all(), of_conflict, |bell, conflict| {
            bell.volume(&conflict.namespace().unwrap_or_default(), &conflict.spec.volume);
        }),
        nodes: watch.nodes(Api::all(client.clone()), |bell, _| bell.everything()),
        namespaces: watch.cache(Api::all(client.clone()), all(), |bell, namespace: &Namespace| {
            bell.volumes(|volume| volume.namespace() == Some(namespace.name_any()));
        }),
        claims,
        classes: watch.cache(Api::all(client.clone()), all(), |bell, _: &StorageClass| bell.claims()),
        persistent_volumes: watch.of_volumes(
            Api::all(client.clone()),
            all().labels(labels::OURS),
            labels::volume,
            |bell, volume| {
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
            self.replicas.all.wait_until_ready(),
            self.conflicts.all.wait_until_ready(),
            self.nodes.wait_until_ready(),
            self.namespaces.wait_until_ready(),
            self.claims.wait_until_ready(),
            self.persistent_volumes.all.wait_until_ready(),
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

/// A kind of objects that is watched.
trait Kept: Resource<DynamicType = ()> + Clone + Debug + PartialEq + DeserializeOwned + Send + Sync + 'static {}
impl<K> Kept for K where
    K: Resource<DynamicType = ()> + Clone + Debug + PartialEq + DeserializeOwned + Send + Sync + 'static
{
}

impl Watches<'_> {
    fn cache<K: Kept>(
        &mut self,
        api: Api<DeserializeGuard<K>>,
        which: watcher::Config,
        tell: fn(&Bell, &K),
    ) -> Store<K> {
        let (reader, writer) = store();
        self.follow(api, which, writer, tell);
        reader
    }

    fn of_volumes<K: Kept>(
        &mut self,
        api: Api<DeserializeGuard<K>>,
        which: watcher::Config,
        owner: fn(&K) -> Option<ObjectRef<SyncVolume>>,
        tell: fn(&Bell, &K),
    ) -> OfVolumes<K> {
        let (reader, writer) = store();
        let index = OfVolumes::new(reader, owner);
        let listener = Listener { index: Some(index.clone()), ..Listener::new(tell) };
        self.tasks.spawn(follow(api, which, writer, self.bell.clone(), listener));
        index
    }

    fn nodes(&mut self, api: Api<DeserializeGuard<Node>>, tell: fn(&Bell, &Node)) -> Store<Node> {
        let (reader, writer) = store();
        let listener = Listener { trim: trim_node, ..Listener::new(tell) };
        self.tasks.spawn(follow(api, watcher::Config::default(), writer, self.bell.clone(), listener));
        reader
    }

    fn follow<K: Kept>(
        &mut self,
        api: Api<DeserializeGuard<K>>,
        which: watcher::Config,
        writer: Writer<K>,
        tell: fn(&Bell, &K),
    ) {
        self.tasks.spawn(follow(api, which, writer, self.bell.clone(), Listener::new(tell)));
    }
}

/// What is done with what a watch shows.
struct Listener<K: Kept> {
    /// Takes away what nobody reads here.
    trim: fn(&mut K),
    index: Option<OfVolumes<K>>,
    /// Rings for all that depends on an object.
    tell: fn(&Bell, &K),
}

impl<K: Kept> Listener<K> {
    fn new(tell: fn(&Bell, &K)) -> Self {
        Self { trim: |_| (), index: None, tell }
    }
}

async fn follow<K: Kept>(
    api: Api<DeserializeGuard<K>>,
    which: watcher::Config,
    mut writer: Writer<K>,
    bell: Arc<Bell>,
    listener: Listener<K>,
) {
    let known = writer.as_reader();
    let mut events = pin!(watch(api, which).default_backoff());
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => readable(event, listener.trim),
            Err(error) => {
                warn!("the watch of {} ended and is begun again: {}", K::plural(&()), with_causes(&error));
                continue;
            }
        };
        let Some(event) = event else { continue };
        let before = match &event {
            Event::Apply(object) => known.get(&ObjectRef::from_obj(object)),
            Event::Delete(_) | Event::Init | Event::InitApply(_) | Event::InitDone => None,
        };
        writer.apply_watcher_event(&event);
        if let Some(index) = &listener.index {
            index.follow(&event);
        }
        match &event {
            Event::Apply(object) if before.as_deref().is_some_and(|before| is_as_before(before, object)) => {}
            Event::Apply(object) | Event::Delete(object) => (listener.tell)(&bell, object),
            // What has gone while nobody watched is named by no event.
            Event::InitDone => bell.everything(),
            Event::Init | Event::InitApply(_) => {}
        }
    }
}

/// Whether nothing that anybody reads here has changed.
fn is_as_before<K: Kept>(before: &K, now: &K) -> bool {
    let mut before = before.clone();
    before.meta_mut().resource_version.clone_from(&now.meta().resource_version);
    before == *now
}

fn of_replica(replica: &SyncReplica) -> Option<ObjectRef<SyncVolume>> {
    Some(ObjectRef::new(&replica.spec.volume).within(replica.metadata.namespace.as_deref()?))
}

fn of_conflict(conflict: &SyncConflict) -> Option<ObjectRef<SyncVolume>> {
    Some(ObjectRef::new(&conflict.spec.volume).within(conflict.metadata.namespace.as_deref()?))
}

/// Whether a claim says that this is its volume.
fn is_bound_to(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some() && spec.volume_name == volume.metadata.name)
}

/// A node tells every few minutes how it is, and which images it has.
fn trim_node(node: &mut Node) {
    node.metadata.annotations = None;
    if let Some(status) = &mut node.status {
        *status = NodeStatus { node_info: status.node_info.take(), ..NodeStatus::default() };
    }
}

/// The event without what nobody reads here. An object that can't be read keeps the place that it had.
fn readable<K: Kept>(event: Event<DeserializeGuard<K>>, trim: fn(&mut K)) -> Option<Event<K>> {
    let object = |guard: DeserializeGuard<K>| match guard.0 {
        Ok(mut object) => {
            object.meta_mut().managed_fields = None;
            trim(&mut object);
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

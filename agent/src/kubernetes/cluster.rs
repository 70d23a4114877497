//! The part of the control thread that follows the API server: gathers what it says, hands it to the loop as a configuration,
//! carries out orders, and writes how replicas are.

use super::answers::{Questions, at};
use super::certificate;
use super::configuration;
use super::directories::Storage;
use super::last::Said;
use super::orphans::{HandOver, Listed, Orphans};
use super::revoked;
use super::right;
use super::status::{self, Known, News, news};
use super::surroundings::Surroundings;
use crate::control::question::Loop;
use crate::control::{Supervised, part};
use futures::{Stream, StreamExt};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use syncmesh_config::{Config, Volume};
use syncmesh_crds::SyncReplica;
use syncmesh_crds::replica::{Data, Desired, SyncReplicaStatus};
use syncmesh_engine::ask::{Ask, Configured};
use syncmesh_engine::node::{Status, VolumeStatus};
use syncmesh_engine::run::CurrentIdentity;
use syncmesh_engine::wall::unix_now;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

/// Who writes, in the objects' managed fields.
const MANAGER: &str = "syncmesh-agent";
/// Several changes within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How often the loop is asked how it is.
const LOOK: Duration = Duration::from_millis(500);
/// How long the loop may take to say how it is.
const ANSWER: Duration = Duration::from_secs(5);
/// Least time between two writes of a replica's figures.
const FIGURES: Duration = Duration::from_secs(5);
/// Least time between two lists of a volume's conflicts, whose number stays: it takes a walk over all rows.
const QUESTIONS: Duration = Duration::from_secs(30);

/// An agent's way to its cluster.
pub struct Cluster {
    surroundings: Arc<Surroundings>,
    storage: Storage,
    orphans: Orphans,
    replica_id: String,
    /// What was obeyed before the API server said anything in this run.
    last: Option<Said>,
    /// What the loop was told last.
    told: Mutex<Config>,
}

/// What the API server has said so far in this run.
#[derive(Default)]
struct Seen {
    replicas: Mutex<Option<Vec<SyncReplica>>>,
    slices: Mutex<Option<Vec<EndpointSlice>>>,
    changed: Notify,
}

/// What is remembered of a replica between two looks.
#[derive(Default)]
struct Memory {
    questions: Questions,
    /// Conflicts and holds as they were counted when they were listed, and when.
    listed: Option<(u64, u64, Instant)>,
    /// What was written last, and when.
    written: Option<(SyncReplicaStatus, Instant)>,
    /// When a write failed, since the last that didn't.
    failed: Option<Instant>,
    /// Its files were deleted, as ordered.
    removed: bool,
}

impl Cluster {
    /// Prepares the storage root, and gives the configuration to start with: what was obeyed last, as far as it can be.
    ///
    /// # Errors
    /// The storage root can't be used.
    pub fn open(surroundings: Surroundings) -> Result<(Self, Config), String> {
        let storage = Storage::open(surroundings.places.clone())?;
        let last = Said::load(&surroundings.places.state()).unwrap_or_else(|why| {
            error!(%why, "what was obeyed before isn't known: the agent waits for the API server");
            None
        });
        let said = last.clone().unwrap_or_default();
        let orders = Orders::of(&said, &storage);
        let config = configuration::config(&surroundings, orders.volumes, &said.addresses)?;
        let replica_id = storage.id()?;
        let (surroundings, told) = (Arc::new(surroundings), Mutex::new(config.clone()));
        let orphans = Orphans::of(storage.clone());
        let cluster = Self { surroundings, storage, orphans, replica_id, last, told };
        Ok((cluster, config))
    }

    /// Its parts of the control thread; `renewed` is told of each new certificate.
    pub fn parts(self: &Arc<Self>, agent: &Loop, identity: &CurrentIdentity, renewed: &Arc<Notify>) -> Vec<Supervised> {
        let (cluster, agent, identity) = (self.clone(), agent.clone(), identity.clone());
        let (surroundings, renewed, way) = (self.surroundings.clone(), renewed.clone(), agent.clone());
        let (mesh, told) = (self.surroundings.clone(), agent.clone());
        vec![
            part("cluster", move || cluster.clone().follow(agent.clone(), identity.clone())),
            part("certificate", move || certificate::keep(surroundings.clone(), way.clone(), renewed.clone())),
            part("revocations of the cluster", move || revoked::follow(mesh.clone(), told.clone())),
        ]
    }

    /// Directories of this node that no object asks for.
    ///
    /// # Errors
    /// It isn't known yet what is asked for, or they can't be listed.
    pub async fn orphans(&self) -> Result<Vec<Listed>, String> {
        self.orphans.list().await
    }

    /// Deletes one of them.
    ///
    /// # Errors
    /// As of [`Orphans::purge`].
    pub async fn purge_orphan(&self, id: &str, agent: &Loop) -> Result<Listed, String> {
        self.orphans.purge(id, &self.surroundings, agent).await
    }

    /// Gives one of them to another volume.
    ///
    /// # Errors
    /// As of [`Orphans::hand_over`].
    pub async fn hand_over_orphan(&self, order: &HandOver, agent: &Loop) -> Result<Listed, String> {
        self.orphans.hand_over(order, &self.surroundings, agent).await
    }

    async fn follow(self: Arc<Self>, agent: Loop, identity: CurrentIdentity) -> Result<(), String> {
        let client = Client::try_default().await.map_err(|why| format!("can't reach the API server: {why}"))?;
        let seen = Seen::default();
        let node = format!("spec.node={}", self.surroundings.node);
        let all: Api<SyncReplica> = Api::all(client.clone());
        let replicas = watcher(all.clone(), watcher::Config::default().fields(&node));
        let service = format!("kubernetes.io/service-name={}", self.surroundings.service);
        let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), &self.surroundings.namespace);
        let slices = watcher(slices, watcher::Config::default().labels(&service));
        tokio::join!(
            gather(replicas, &seen.replicas, &seen.changed),
            gather(slices, &seen.slices, &seen.changed),
            self.work(&client, &agent, &identity, &seen),
            self.renew(&all, &node, &agent, &seen),
        );
        Err("the watches ended".into())
    }

    /// Asks the API server whether this node may still write where it may, and tells the loop what it says, whatever the rest of this
    /// part waits for.
    async fn renew(&self, all: &Api<SyncReplica>, node: &str, agent: &Loop, seen: &Seen) {
        let own = ListParams::default().fields(node);
        let (mut known, mut is_answered) = (right::Known::default(), true);
        loop {
            sleep(LOOK).await;
            let asked = right::now();
            let Some(said) = self.said(seen).filter(|said| known.must_ask(said.replicas.iter(), asked)) else {
                continue;
            };
            known.asked(asked);
            let why = match timeout(ANSWER, all.list(&own)).await {
                Ok(Ok(list)) => {
                    let is_ours =
                        |replica: &SyncReplica| said.replicas.iter().any(|one| key_of(one) == key_of(replica));
                    let ours: Vec<SyncReplica> = list.items.into_iter().filter(is_ours).collect();
                    is_answered = true;
                    match agent.renew_rights(known.answered(&ours, asked)) {
                        Ok(()) => continue,
                        Err(why) => why.to_string(),
                    }
                }
                Ok(Err(why)) => why.to_string(),
                Err(_) => format!("no answer within {} s", ANSWER.as_secs()),
            };
            if std::mem::take(&mut is_answered) {
                warn!(%why, "it can't be asked whether this node may still write: 30 s after the last answer it stops telling what is written");
            }
        }
    }

    async fn work(&self, client: &Client, agent: &Loop, identity: &CurrentIdentity, seen: &Seen) {
        let mut memory: BTreeMap<(String, String), Memory> = BTreeMap::new();
        let mut saved = self.last.as_ref().map(Said::orders);
        let mut refused: Option<String> = None;
        loop {
            tokio::select! {
                () = seen.changed.notified() => sleep(DEBOUNCE).await,
                () = sleep(LOOK) => {}
            }
            let Some(said) = self.said(seen) else { continue };
            memory.retain(|key, _| said.replicas.iter().any(|replica| key_of(replica) == *key));
            let obey = || Orders::of(&said, &self.storage);
            let orders = self.orphans.beside(&said.replicas, obey).await;
            if let Some(outcome) = self.tell(agent, &said, orders.volumes).await {
                refused = outcome.err();
            }
            let obeyed = said.orders();
            if refused.is_none() && saved.as_ref() != Some(&obeyed) {
                match obeyed.save(&self.surroundings.places.state()) {
                    Ok(()) => saved = Some(obeyed),
                    Err(why) => warn!(%why, "a restart without the API server goes on with what was obeyed before"),
                }
            }
            let Ok((node, _)) = agent.status_within(ANSWER).await else { continue };
            self.carry_out(&said, &node, &orders.data, &mut memory).await;
            self.orphans.look().await;
            let orphans = self.orphans.found();
            let trusts = lock(identity).as_ref().map(|identity| identity.roots.clone()).unwrap_or_default();
            for replica in &said.replicas {
                let known = memory.entry(key_of(replica)).or_default();
                let volume = node.volumes.iter().find(|volume| volume.name == replica.spec.volume_id);
                known.ask(agent, volume).await;
                known.questions.obey(agent, &replica.spec.volume_id, &replica.spec.decisions).await;
                let data = match known.removed {
                    true => Ok(Data::Removed),
                    false => orders.data.get(&key_of(replica)).cloned().unwrap_or(Ok(Data::Missing)),
                };
                let now = at(unix_now().cast_signed());
                let after = status::status(&Known {
                    replica,
                    data: &data,
                    refused: refused.as_deref(),
                    node: Some(&node),
                    questions: &known.questions,
                    replica_id: &self.replica_id,
                    trusts: &trusts,
                    orphans: &orphans,
                    now: &now,
                });
                // Only who hears the API server is heard by it.
                if seen.is_complete() {
                    known.write(client, replica, after).await;
                }
            }
        }
    }

    /// What the API server says; what it said before this run until it does.
    fn said(&self, seen: &Seen) -> Option<Said> {
        let replicas = lock(&seen.replicas).clone().or_else(|| Some(self.last.as_ref()?.replicas.clone()))?;
        let slices = lock(&seen.slices).clone();
        let addresses = match slices {
            Some(slices) => addresses(&slices, self.surroundings.node.as_str()),
            None => self.last.as_ref().map(|last| last.addresses.clone()).unwrap_or_default(),
        };
        // Another mesh may have the same nodes.
        let ours = replicas.into_iter().filter(|replica| replica.spec.mesh == self.surroundings.mesh);
        Some(Said { replicas: ours.collect(), addresses })
    }

    /// Hands the loop a configuration that isn't the one that it has. None if it is.
    async fn tell(&self, agent: &Loop, said: &Said, volumes: Vec<Volume>) -> Option<Result<(), String>> {
        let config = match configuration::config(&self.surroundings, volumes, &said.addresses) {
            Ok(config) => config,
            Err(why) => return Some(Err(why)),
        };
        if *lock(&self.told) == config {
            return None;
        }
        let boxed = Box::new(config.clone());
        // Without an answer the same is asked at the next look.
        let outcome = agent.order(ANSWER, |reply| Ask::Configure(boxed, reply)).await.ok()?;
        match &outcome {
            Ok(Configured::AsBefore | Configured::IsStopping) => {}
            Ok(Configured::InForce) => info!(volumes = config.volumes.len(), "another configuration is in force"),
            Ok(Configured::StartsAgain) => {
                info!(volumes = config.volumes.len(), "the engine ends and starts again with other volumes");
            }
            Err(why) => error!(%why, "what the API server says can't be obeyed, the agent goes on as it was"),
        }
        // What was refused isn't asked again either, until it is another one.
        *lock(&self.told) = config;
        Some(outcome.map(drop))
    }

    /// Shows volumes whose files have all come, and deletes what is ordered to be deleted and the loop has let go.
    async fn carry_out(
        &self,
        said: &Said,
        node: &Status,
        data: &BTreeMap<(String, String), Result<Data, String>>,
        memory: &mut BTreeMap<(String, String), Memory>,
    ) {
        for replica in &said.replicas {
            let id = &replica.spec.volume_id;
            let volume = node.volumes.iter().find(|volume| volume.name == *id);
            match (replica.spec.desired, volume) {
                (Desired::Present, Some(volume)) => {
                    let is_incoming = data.get(&key_of(replica)) == Some(&Ok(Data::Incoming));
                    if is_incoming && volume.filled {
                        match self.storage.promote(id) {
                            Ok(()) => info!(volume = %id, "all files have come: pods can mount it"),
                            Err(why) => error!(volume = %id, %why, "its files have come, and can't be shown"),
                        }
                    }
                }
                (Desired::Absent, None) => {
                    let known = memory.entry(key_of(replica)).or_default();
                    if known.removed {
                        continue;
                    }
                    let (storage, spec) = (self.storage.clone(), replica.spec.clone());
                    // Not on this thread: there may be millions of files.
                    match tokio::task::spawn_blocking(move || storage.remove(&spec)).await {
                        Ok(Ok(())) => {
                            info!(volume = %id, "its files were deleted, as ordered");
                            known.removed = true;
                        }
                        Ok(Err(why)) => {
                            error!(volume = %id, %why, "its files were ordered to be deleted, and can't be")
                        }
                        Err(why) => error!(volume = %id, %why, "deleting its files ended early"),
                    }
                }
                (Desired::Present, None) | (Desired::Absent, Some(_)) => {}
            }
        }
    }
}

impl Seen {
    fn is_complete(&self) -> bool {
        lock(&self.replicas).is_some()
    }
}

/// Volumes to run, and how far each replica's directory is.
#[derive(Default)]
struct Orders {
    volumes: Vec<Volume>,
    data: BTreeMap<(String, String), Result<Data, String>>,
}

impl Orders {
    /// Makes directories that are missing.
    fn of(said: &Said, storage: &Storage) -> Self {
        let mut orders = Self::default();
        let mut taken = BTreeSet::new();
        for replica in &said.replicas {
            let spec = &replica.spec;
            if spec.desired == Desired::Absent {
                orders.data.insert(key_of(replica), Ok(Data::Missing));
                continue;
            }
            let had = replica.status.as_ref().and_then(|status| status.data);
            let had = matches!(had, Some(Data::Ready | Data::Incoming));
            let namespace = replica.namespace().unwrap_or_default();
            let prepared = if taken.insert(spec.volume_id.clone()) {
                storage.prepare(&namespace, spec, had)
            } else {
                Err(format!("another volume of this mesh has the volumeID {}: choose another one", spec.volume_id))
            };
            let outcome = prepared.and_then(|data| {
                let volume = configuration::volume(spec, storage.places(), data == Data::Incoming, right::role(spec))?;
                orders.volumes.push(volume);
                Ok(data)
            });
            orders.data.insert(key_of(replica), outcome);
        }
        orders.volumes.sort_by(|one, other| one.name.cmp(&other.name));
        orders
    }
}

impl Memory {
    /// Lists what waits for people, where the numbers have changed or it is long ago.
    async fn ask(&mut self, agent: &Loop, volume: Option<&VolumeStatus>) {
        let Some(volume) = volume else { return };
        if volume.conflicts == 0 && volume.holds == 0 {
            self.listed = None;
            return self.questions.clear();
        }
        let is_listed = |(conflicts, holds, when): (u64, u64, Instant)| {
            (conflicts, holds) == (volume.conflicts, volume.holds) && when.elapsed() < QUESTIONS
        };
        if self.listed.is_some_and(is_listed) {
            return;
        }
        match self.questions.ask(agent, &volume.name, unix_now().cast_signed()).await {
            Ok(()) => self.listed = Some((volume.conflicts, volume.holds, Instant::now())),
            Err(why) => warn!(volume = %volume.name, %why, "what waits for people can't be listed"),
        }
    }

    /// Writes a status that says something new, figures not too often.
    async fn write(&mut self, client: &Client, replica: &SyncReplica, after: SyncReplicaStatus) {
        let before = self.written.as_ref().map(|(status, _)| status).or(replica.status.as_ref());
        let due = match news(before, &after) {
            News::None => false,
            News::Transition => true,
            News::Figures => self.written.as_ref().is_none_or(|(_, when)| when.elapsed() >= FIGURES),
        };
        if !due || self.failed.is_some_and(|when| when.elapsed() < FIGURES) {
            return;
        }
        let (name, namespace) = (replica.name_any(), replica.namespace().unwrap_or_default());
        let api: Api<SyncReplica> = Api::namespaced(client.clone(), &namespace);
        let patch = json!({
            "apiVersion": SyncReplica::api_version(&()),
            "kind": SyncReplica::kind(&()),
            "metadata": { "name": name, "uid": replica.metadata.uid },
            "status": after,
        });
        let by = PatchParams::apply(MANAGER).force();
        // Whatever the API server is about, what it has said has to be obeyed meanwhile.
        let Ok(written) = timeout(FIGURES, api.patch_status(&name, &by, &Patch::Apply(&patch))).await else {
            self.failed = Some(Instant::now());
            return warn!(replica = %format!("{namespace}/{name}"), "how it is can't be told to the API server: it doesn't answer");
        };
        match written {
            Ok(_) => (self.written, self.failed) = (Some((after, Instant::now())), None),
            // It has gone: the watch tells the same.
            Err(kube::Error::Api(refusal)) if matches!(refusal.code, 404 | 409) => {}
            Err(why) => {
                let why = match why {
                    kube::Error::Api(refusal) => refusal.message.clone(),
                    other => other.to_string(),
                };
                warn!(replica = %format!("{namespace}/{name}"), %why, "how it is can't be told to the API server");
                self.failed = Some(Instant::now());
            }
        }
    }
}

fn key_of(replica: &SyncReplica) -> (String, String) {
    (replica.namespace().unwrap_or_default(), replica.name_any())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a list of objects as the API server has them. What can't be reached stays as it was.
async fn gather<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    into: &Mutex<Option<Vec<K>>>,
    changed: &Notify,
) where
    K: Resource<DynamicType = ()> + Clone + Debug,
{
    let mut events = pin!(events.default_backoff());
    let mut all: BTreeMap<(Option<String>, String), K> = BTreeMap::new();
    let mut listing: Option<BTreeMap<(Option<String>, String), K>> = None;
    let key = |object: &K| (object.meta().namespace.clone(), object.name_any());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listing = Some(BTreeMap::new()),
            Ok(Event::InitApply(object)) => _ = listing.get_or_insert_default().insert(key(&object), object),
            Ok(Event::InitDone) => all = listing.take().unwrap_or_default(),
            Ok(Event::Apply(object)) => _ = all.insert(key(&object), object),
            Ok(Event::Delete(object)) => _ = all.remove(&key(&object)),
            Err(why) => {
                warn!("the watch of {} ended and is begun again: {why}", K::plural(&()));
                continue;
            }
        }
        if listing.is_none() {
            *lock(into) = Some(all.values().cloned().collect());
            changed.notify_one();
        }
    }
}

/// Where agents are, by node. Endpoints may stand in several slices, without a node, and in both families.
fn addresses(slices: &[EndpointSlice], own: &str) -> BTreeMap<String, SocketAddr> {
    let mut found: BTreeMap<String, SocketAddr> = BTreeMap::new();
    for slice in slices {
        let port = slice.ports.iter().flatten().find(|port| port.name.as_deref() == Some("mesh"));
        let Some(port) = port.and_then(|port| u16::try_from(port.port?).ok()) else { continue };
        for endpoint in &slice.endpoints {
            let Some(node) = endpoint.node_name.as_ref().filter(|node| *node != own) else { continue };
            // A pod that is going has given up its node's state directory, or will.
            let is_going = endpoint.conditions.as_ref().and_then(|conditions| conditions.terminating) == Some(true);
            let Some(address) = endpoint.addresses.iter().find_map(|address| address.parse::<IpAddr>().ok()) else {
                continue;
            };
            let address = SocketAddr::new(address, port);
            match found.get(node) {
                // IPv4 where there are both: fewer networks are without it.
                Some(known) if is_going || (known.is_ipv4() && address.is_ipv6()) => {}
                Some(_) | None => _ = found.insert(node.clone(), address),
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(port: &str, endpoints: serde_json::Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": { "name": "s" },
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [ { "name": port, "port": 7400 } ],
        }))
        .unwrap()
    }

    #[test]
    fn agents_are_found_by_their_nodes() {
        let all = [
            slice(
                "mesh",
                json!([
                    { "addresses": ["10.0.0.1"], "nodeName": "a" },
                    { "addresses": ["10.0.0.2"], "nodeName": "b" },
                    { "addresses": ["10.0.0.9"], "nodeName": "b", "conditions": { "terminating": true } },
                    { "addresses": ["10.0.0.3"] },
                ]),
            ),
            slice("mesh", json!([{ "addresses": ["fd00::2"], "nodeName": "b" }])),
            slice("metrics", json!([{ "addresses": ["10.0.0.7"], "nodeName": "c" }])),
        ];
        let found = addresses(&all, "a");
        assert_eq!(found, BTreeMap::from([("b".to_owned(), "10.0.0.2:7400".parse().unwrap())]));
    }

    #[test]
    fn a_list_counts_once_it_is_whole_and_an_error_empties_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let seen: Mutex<Option<Vec<EndpointSlice>>> = Mutex::new(None);
        let changed = Notify::new();
        let one = slice("mesh", json!([]));
        let events = |events: Vec<watcher::Result<Event<EndpointSlice>>>| futures::stream::iter(events);
        runtime.block_on(gather(events(vec![Ok(Event::Init), Ok(Event::InitApply(one.clone()))]), &seen, &changed));
        assert_eq!(*lock(&seen), None);
        let whole = vec![Ok(Event::Init), Ok(Event::InitApply(one)), Ok(Event::InitDone), Ok(Event::Init)];
        runtime.block_on(gather(events(whole), &seen, &changed));
        assert_eq!(lock(&seen).as_ref().map(Vec::len), Some(1));
    }
}

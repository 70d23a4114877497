//! From directories and a registry to a node that can run: probe, compare markers, recover, number the volumes.

use crate::compare::Recount;
use crate::epoch::Durability;
use crate::guard::Guard;
use crate::job::{Context, VolumeContext, Volumes};
use crate::journal;
use crate::node::Setup;
use crate::node::open::OpenFiles;
use crate::node::suspects::Suspects;
use crate::node::unsynced::Unsynced;
use crate::pace::Pace;
use crate::recover::{RecoverError, empty_slots, recover};
use crate::registry::{Last, Registry, RegistryError, VolumeState};
use crate::revert::Reverted;
use crate::revoked::Revoked;
use crate::second_names::SecondNames;
use crate::settings::{Current, Members, Settings};
use crate::store;
use crate::suspect::{Doubt, Suspicion};
use crate::unsynced;
use crate::volume::{Reading, Retry, Volume};
use redb::StorageBackend;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use syncmesh_core::entry::Origin;
use syncmesh_core::policy::Policies;
use syncmesh_core::select::Selection;
use syncmesh_core::version::ReplicaId;
use syncmesh_io::{Fs, FsError, Probe, StateFiles};

/// One volume of the configuration, its directory open.
pub struct VolumeSpec {
    /// Its name.
    pub name: String,
    /// Where its directory is, for people who name paths in it.
    pub path: PathBuf,
    /// Its directory.
    pub fs: Arc<dyn Fs>,
    /// Which paths take part.
    pub selection: Selection,
    /// What becomes of losers.
    pub policies: Policies,
    /// What may change while it runs.
    pub settings: Settings,
    /// The node whose contents win when this directory meets the mesh for the first time.
    pub seed: Option<String>,
    /// When versions are told and shown.
    pub durability: Durability,
    /// The peers that keep it.
    pub members: Members,
    /// An empty directory without a marker is a new copy, whatever was known of the one before.
    pub renews: bool,
}

/// What a start needs besides the volumes.
pub struct Start {
    /// The node's name.
    pub node: String,
    /// Members and where to call them.
    pub peers: Vec<(String, Option<String>)>,
    /// Volumes.
    pub volumes: Vec<VolumeSpec>,
    /// The state directory.
    pub state: Arc<dyn StateFiles>,
    /// Most connections at the same time.
    pub connections: usize,
    /// How far a peer's clock may be ahead.
    pub max_clock_skew_millis: u64,
    /// The wall clock in milliseconds since 1970.
    pub now_millis: u64,
    /// The system's boot id.
    pub boot: String,
    /// This run's incarnation: 64 random bits that were never used before.
    pub replica: ReplicaId,
    /// Random bits for markers.
    pub random: u64,
}

/// Why a node can't start. Nothing was changed in any volume.
#[derive(Debug)]
pub enum StartError {
    /// The registry.
    Registry(RegistryError),
    /// What the run before left.
    Recover(RecoverError),
    /// A volume.
    Volume {
        /// Its name.
        name: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The state directory.
    State(FsError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(error) => write!(f, "{error}"),
            Self::Recover(error) => write!(f, "{error}"),
            Self::Volume { name, why } => write!(f, "volume {name}: {why}"),
            Self::State(error) => write!(f, "the state directory can't be written: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

const NOT_OURS: &str = "its directory isn't the one that this agent knows (.syncmesh/marker is missing or differs). If the disk isn't mounted, mount it. If the data is really gone, or the directory was replaced on purpose, stop the agent, remove its stateDir and start again: what the peers have is then copied here, nothing is deleted there";

const POWER: &str = "power was lost, or the file system taken down, while the agent ran";
const UNSYNCED: &str = "the file system couldn't write everything while the agent ran";

/// A registry that is damaged there keeps nobody from starting: peers tell the list again.
fn kept_list(text: &str) -> Option<Revoked> {
    if text.is_empty() {
        return None;
    }
    let list = Revoked::read(text);
    list.inspect_err(|why| tracing::warn!(%why, "the revocation list of the run before can't be read")).ok()
}

/// Makes everything ready. Afterwards the returned context runs jobs, and the setup makes a node.
pub fn start(storage: impl StorageBackend, start: Start) -> Result<(Arc<Context>, Setup), StartError> {
    let (registry, mut stored) = Registry::open(storage).map_err(StartError::Registry)?;
    stored.replicas.insert(start.replica, start.node.clone());
    let volumes = Volumes::default();
    let mut specs = Vec::new();
    let mut torn = BTreeSet::new();
    let mut noted = BTreeSet::new();
    let configured: BTreeSet<String> = start.volumes.iter().map(|volume| volume.name.clone()).collect();
    for spec in start.volumes {
        let refuse = |why: String| StartError::Volume { name: spec.name.clone(), why };
        // Nothing is written to a directory that isn't the one that is known: it may be an empty mount point.
        let known = stored.volumes.get(&spec.name).cloned().filter(|_| !(spec.renews && is_new(&*spec.fs)));
        let was_known = known.is_some();
        if known.as_ref().is_some_and(|state| spec.fs.read_marker().ok().flatten().as_ref() != Some(&state.marker)) {
            return Err(refuse(NOT_OURS.into()));
        }
        let probe = probe(&spec).map_err(refuse)?;
        let mut state = match known {
            Some(state) => state,
            None => {
                let number = stored.volumes.values().map(|state| state.number + 1).max().unwrap_or(1);
                admit(&spec, &start.node, number, start.random).map_err(refuse)?
            }
        };
        // Another boot or mount than that of the lost run: what it hadn't made durable is what the file system made of it. So it
        // is where the file system couldn't write everything.
        let unsynced = unsynced::noted(&*start.state, state.number).map_err(StartError::State)?;
        let power = !stored.ended && was_known && (stored.last.boot != start.boot || state.mount != probe.mount);
        if power || unsynced {
            let mut members: BTreeSet<String> = stored.last.sessions.iter().cloned().collect();
            if unsynced {
                members.extend(start.peers.iter().map(|(name, _)| name.clone()));
            }
            members.retain(|name| spec.members.has(name));
            let suspicion = Suspicion::new(state.synced_millis, members, state.suspicion.take());
            tracing::warn!(
                volume = %spec.name,
                "{}: files that changed shortly before are compared with what peers have before anybody hears of them",
                if power { POWER } else { UNSYNCED }
            );
            state.suspicion = Some(suspicion);
            torn.insert(state.number);
        }
        if unsynced {
            noted.insert(state.number);
        }
        state.mount = probe.mount;
        volumes.add(state.number, context(&spec, &state, &probe));
        stored.volumes.insert(spec.name.clone(), state);
        specs.push(spec);
    }
    let context = Context { volumes, registry: registry.clone(), state: start.state.clone() };
    let epoch = stored.last.epoch;
    // Whom this run meets before its first epoch is durable isn't known yet: it may be anybody.
    let sessions = start.peers.iter().map(|(name, _)| name.clone()).collect();
    stored.last = Last { epoch, boot: start.boot.clone(), sessions };
    let (recovered, failed) = recover(&context, &mut stored, &torn, start.now_millis).map_err(StartError::Recover)?;
    if recovered != Default::default() {
        tracing::info!(?recovered, "recovered what the run before hadn't made durable");
    }
    for (_, volume) in context.volumes.all() {
        look_into_store(&volume, start.now_millis);
    }
    let epoch = recovered.epoch.max(stored.last.epoch) + 1;
    let open = |epoch| start.state.open_log(&journal::file_name(epoch)).map_err(StartError::State);
    let logs = (open(epoch)?, open(epoch + 1)?);
    let volumes = specs.iter().filter_map(|spec| {
        let state = stored.volumes.get(&spec.name)?.clone();
        let context = context.volumes.get(state.number)?;
        let mut volume = volume(spec, state, &context, start.now_millis);
        let failed = failed.get(&volume.number);
        volume.noted = failed.is_some() || noted.contains(&volume.number);
        volume.unsynced = failed.map(|why| Unsynced::at_start(why.clone()));
        Some(volume)
    });
    // Named as a peer again, it is a member again.
    stored.forgotten.retain(|node| !start.peers.iter().any(|(peer, _)| peer == node));
    let setup = Setup {
        node: start.node,
        replica: start.replica,
        boot: start.boot,
        peers: start.peers,
        volumes: volumes.collect(),
        unconfigured: stored
            .volumes
            .iter()
            .filter(|(n, _)| !configured.contains(*n))
            .map(|(n, s)| (n.clone(), s.clone()))
            .collect(),
        replicas: stored.replicas,
        forgotten: stored.forgotten,
        revoked: kept_list(&stored.revoked),
        last: stored.last,
        registry,
        epoch: (epoch, logs.0, logs.1),
        connections: start.connections,
        max_clock_skew_millis: start.max_clock_skew_millis,
    };
    Ok((Arc::new(context), setup))
}

/// Opens a volume of which the registry knows nothing, while the agent runs; [`Node::admit`](crate::node::Node::admit) takes it. `number`
/// is one that no volume ever had. It blocks as the directory's file system does.
///
/// # Errors
/// What is wrong with the directory, and what to do. Then nothing has become of it but, perhaps, a marker.
pub fn open_new(
    jobs: &Context,
    spec: &VolumeSpec,
    node: &str,
    number: u16,
    random: u64,
    now_millis: u64,
) -> Result<Volume, String> {
    let probe = probe(spec)?;
    let state = VolumeState { mount: probe.mount, ..admit(spec, node, number, random)? };
    let context = context(spec, &state, &probe);
    empty_slots(&context, now_millis).map_err(|error| error.to_string())?;
    jobs.registry.add_volume(&spec.name, &state).map_err(|error| error.to_string())?;
    look_into_store(&context, now_millis);
    let volume = volume(spec, state, &context, now_millis);
    jobs.volumes.add(number, context);
    Ok(volume)
}

fn cant_be_used(error: FsError) -> String {
    format!("its directory can't be used: {error}")
}

fn probe(spec: &VolumeSpec) -> Result<Probe, String> {
    let probe = spec.fs.probe().map_err(cant_be_used)?;
    if probe.exchange && probe.no_replace {
        return Ok(probe);
    }
    Err(format!(
        "its file system ({}) can't exchange two names atomically, so files couldn't be replaced safely: use ext4, xfs, btrfs or tmpfs",
        probe.file_system
    ))
}

/// Marks a directory as a volume that wasn't known before.
fn admit(spec: &VolumeSpec, node: &str, number: u16, random: u64) -> Result<VolumeState, String> {
    let marker = format!("{} {:016x}", spec.name, random ^ u64::from(number)).into_bytes();
    let was_replica = spec.fs.read_marker().map_err(cant_be_used)?.is_some();
    spec.fs.write_marker(&marker).map_err(cant_be_used)?;
    let finds = finds(was_replica, spec.seed.as_deref(), node);
    Ok(VolumeState { number, marker, finds, ..VolumeState::default() })
}

fn context(spec: &VolumeSpec, state: &VolumeState, probe: &Probe) -> VolumeContext {
    let doubt = Arc::new(Doubt::default());
    doubt.set(state.suspicion.as_ref());
    VolumeContext {
        doubt,
        fs: spec.fs.clone(),
        selection: spec.selection.clone(),
        policies: spec.policies.clone(),
        marker: state.marker.clone(),
        device: probe.device,
        change_owner: probe.change_owner,
        next_slot: AtomicU64::new(1),
        durability: spec.durability,
        settings: Current::new(spec.settings),
        stock: Arc::default(),
        usage: Arc::default(),
        leases: probe.leases,
        exact_stamps: probe.exact_stamps,
        exact_metadata: probe.exact_metadata,
        lingering: Arc::default(),
    }
}

/// What the store has is counted before anything is added.
fn look_into_store(volume: &VolumeContext, now_millis: u64) {
    store::prune(volume, now_millis, true);
    store::look_after_open(volume);
}

/// Has nobody put anything into a directory, this agent included?
fn is_new(fs: &dyn Fs) -> bool {
    let is_empty = || fs.open_directory(&[]).and_then(|root| root.list()).is_ok_and(|names| names.is_empty());
    fs.read_marker() == Ok(None) && is_empty()
}

/// What the first scan of a new registry finds. A directory with a marker met the mesh before: its seed has no say any more.
fn finds(was_replica: bool, seed: Option<&str>, node: &str) -> Origin {
    match (was_replica, seed) {
        (true, _) => Origin::Returned,
        (false, Some(seed)) if seed != node => Origin::Yielding,
        (false, _) => Origin::Written,
    }
}

fn volume(spec: &VolumeSpec, state: VolumeState, context: &VolumeContext, now_millis: u64) -> Volume {
    Volume {
        number: state.number,
        name: spec.name.clone(),
        path: spec.path.clone(),
        watcher: spec.fs.watch_source(),
        settings: context.settings.clone(),
        leases: context.leases,
        lingering: context.lingering.clone(),
        open: OpenFiles::default(),
        second_names: SecondNames::default(),
        policies: spec.policies.clone(),
        members: spec.members.clone(),
        counter: 0,
        journalled: state.sequence,
        durability: spec.durability,
        copied: 0,
        durable: state.sequence,
        closing: state.sequence,
        made: 0,
        doubt: context.doubt.clone(),
        suspects: Suspects::default(),
        lost_power: state.suspicion.is_some(),
        guard: Guard::new(spec.settings.guard, state.counts.held, now_millis),
        recount: Recount::default(),
        disputed: BTreeSet::new(),
        differences: 0,
        meets: state.sequence == 0,
        beside: true,
        reverted: Reverted::default(),
        nowhere: BTreeMap::new(),
        state,
        dirty: Default::default(),
        watches: Default::default(),
        busy: BTreeSet::new(),
        scans: 0,
        glances: 0,
        scanned: false,
        incoming: BTreeMap::new(),
        remaking: BTreeSet::new(),
        retry: Retry::default(),
        pace: Pace::default(),
        fetch_queue: VecDeque::new(),
        placed: 0,
        is_elsewhere: false,
        decisions: BTreeMap::new(),
        failed: None,
        problems: BTreeMap::new(),
        last_sync: None,
        unsynced: None,
        noted: false,
        failed_syncs: 0,
        syncing: false,
        jobs: 0,
        touched: false,
        stock: context.stock.clone(),
        usage: context.usage.clone(),
        reading: Reading::Not,
        pruned: 0,
        thoroughly_pruned: 0,
        wanted_since: None,
    }
}

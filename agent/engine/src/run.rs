//! A real agent: opens what the configuration names, starts the threads, and turns the loop until it is told to stop.

use crate::ask::{Ask, Configured, Restore};
use crate::coming::Coming;
use crate::conflicts;
use crate::epoch::Durability;
use crate::history;
use crate::identity::Identity;
use crate::inquiry;
use crate::node::{LeftOut, Node, Sessions};
use crate::session::Session;
use crate::settings::{Members, Rights, Role, Settings, Tuning};
use crate::start::{Start, StartError, VolumeSpec, start};
use crate::threads::Workers;
use crate::tls::TlsSession;
use crate::versions::{self, Restored};
use crate::wall::unix_now;
use crate::worst;
use crossbeam_channel::{Receiver, Sender};
use redb::backends::FileBackend;
use std::collections::VecDeque;
use std::fs::{DirBuilder, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use syncmesh_config::{Change, Config, Engine, NodeName};
use syncmesh_core::guard::Limits;
use syncmesh_core::policy::{Policies, Policy};
use syncmesh_core::retention::{self, Share};
use syncmesh_core::select::Selection;
use syncmesh_core::version::ReplicaId;
use syncmesh_io::linux::{LinuxFs, LinuxIo, LinuxStateFiles};
use syncmesh_io::{Io, IoError, Listener, Waker};

/// Entries of the submission ring: a few for each connection, and the overflow queue behind it.
const RING: u32 = 256;

/// How long a stop may take.
const STOP: Duration = Duration::from_secs(9);

/// How long a port may be taken by an agent that has just ended.
const LISTEN: Duration = Duration::from_secs(10);

const IN_USE: i32 = rustix::io::Errno::ADDRINUSE.raw_os_error();

/// The agent runs.
pub struct Started {
    /// Wakes its loop.
    pub waker: Waker,
    /// Where it listens.
    pub listen: SocketAddr,
}

/// The current identity, if there is one yet; whoever replaces it changes what the next sessions use.
pub type CurrentIdentity = Arc<Mutex<Option<Arc<Identity>>>>;

/// What becomes of a volume that can't be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// The agent doesn't start, or goes on by the configuration before.
    IsRefused,
    /// It is left out, and the status says why.
    IsLeftOut,
}

/// Why an agent can't start.
pub(crate) enum NoStart {
    Volume { name: String, why: String },
    Agent(String),
}

impl From<NoStart> for String {
    fn from(why: NoStart) -> Self {
        match why {
            NoStart::Volume { name, why } => format!("volume {name}: {why}"),
            NoStart::Agent(why) => why,
        }
    }
}

struct TlsSessions {
    identity: CurrentIdentity,
}

impl TlsSessions {
    fn identity(&self) -> Result<Arc<Identity>, String> {
        let identity = self.identity.lock().expect("nobody panics while holding the identity").clone();
        identity.ok_or_else(|| "this node has no certificate yet: the log says what it waits for".into())
    }
}

impl Sessions for TlsSessions {
    fn client(&self, node: &str) -> Result<Box<dyn Session>, String> {
        let node = NodeName::new(node).map_err(|error| error.to_string())?;
        let session = TlsSession::client(&*self.identity()?, &node, unix_now());
        session.map(|session| Box::new(session) as _).map_err(|error| error.to_string())
    }

    fn server(&self) -> Result<Box<dyn Session>, String> {
        let session = TlsSession::server(&*self.identity()?, unix_now());
        session.map(|session| Box::new(session) as _).map_err(|error| error.to_string())
    }

    fn has_signed(&self, authority: &str, signed: &[u8], signature: &[u8]) -> Result<(), String> {
        self.identity()?.has_signed(authority, signed, signature)
    }

    fn valid_from(&self) -> Option<u64> {
        self.identity().ok().map(|identity| identity.not_before)
    }
}

/// Runs an agent on the calling thread until it is told to stop. `started` is called whenever it listens: again when another
/// configuration needs the engine to start again. If it can't start by that, it goes on by the one before.
///
/// # Errors
/// What keeps it from starting or going on, as a sentence that says what to do.
pub fn run(
    config: &Config,
    identity: &CurrentIdentity,
    asks: &Receiver<Ask>,
    unopened: Unopened,
    mut started: impl FnMut(Started),
) -> Result<(), String> {
    let mut config = config.clone();
    let mut before: Option<Config> = None;
    let mut refused = None;
    let mut rights = Rights::new();
    loop {
        let (mut node, workers) = match (open(&config, identity, unopened), before.take()) {
            (Ok(ready), _) => ready,
            (Err(why), None) => return Err(why),
            (Err(why), Some(old)) => {
                let why = format!("{why}. The agent goes on by the configuration before");
                tracing::error!(%why, "the new configuration can't be run");
                (config, refused) = (old, Some(why));
                continue;
            }
        };
        node.misconfigured(refused.take());
        node.renew_rights(std::mem::take(&mut rights));
        let (waker, listen) = (node.io().waker(), node.listen_address());
        tracing::info!(node = %config.node, %listen, engine = node.io().engine(), "the agent runs");
        started(Started { waker, listen });
        match turn(&mut node, &workers, asks, &mut config, unopened)? {
            None => return Ok(()),
            Some(new) => {
                rights.clone_from(node.rights());
                workers.end();
                before = Some(std::mem::replace(&mut config, new));
            }
        }
    }
}

type Ready = (Node<LinuxIo>, Workers);

/// Everything up to the moment in which it listens, with all volumes or those that can be opened.
fn open(config: &Config, identity: &CurrentIdentity, unopened: Unopened) -> Result<Ready, String> {
    let mut config = config.clone();
    let mut left_out = Vec::new();
    loop {
        match prepare(&config, identity.clone()) {
            Err(NoStart::Volume { name, why }) if unopened == Unopened::IsLeftOut => {
                config.volumes.retain(|volume| volume.name.as_str() != name);
                left_out.push(LeftOut { name, why });
            }
            Err(why) => return Err(why.into()),
            Ok((mut node, workers)) => {
                left_out.into_iter().for_each(|volume| node.unopened(volume));
                return Ok((node, workers));
            }
        }
    }
}

/// Everything up to the moment in which it listens.
fn prepare(config: &Config, identity: CurrentIdentity) -> Result<Ready, NoStart> {
    let directory = &config.state_dir;
    let failed = |error: &dyn std::fmt::Display| NoStart::Agent(format!("stateDir {}: {error}", directory.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| failed(&error))?;
    let state = LinuxStateFiles::open(directory).map_err(|error| failed(&error))?;
    state.lock().map_err(|error| failed(&error))?;
    let mut io = on_engine(config.engine).map_err(NoStart::Agent)?;
    let registry = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(directory.join("registry.redb"))
        .map_err(|error| failed(&error))?;
    let registry = FileBackend::new(registry).map_err(|error| failed(&error))?;
    let volumes = config.volumes.iter().map(volume).collect::<Result<Vec<_>, NoStart>>()?;
    let setup = Start {
        node: config.node.to_string(),
        peers: peers(config),
        volumes,
        state: Arc::new(state),
        connections: config.connections as usize,
        max_clock_skew_millis: millis(config.max_clock_skew),
        now_millis: io.wall() / 1_000_000,
        boot: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
        replica: ReplicaId(io.random()),
        random: io.random(),
    };
    let (context, setup) = start(registry, setup).map_err(|error| match error {
        StartError::Volume { name, why } => NoStart::Volume { name, why },
        other => NoStart::Agent(other.to_string()),
    })?;
    let workers = Workers::start(context, &io.waker());
    let listener = listen(&mut io, config.listen).map_err(NoStart::Agent)?;
    Ok((Node::new(io, Box::new(TlsSessions { identity }), setup, listener), workers))
}

/// io_uring where it can be had, unless the configuration names an engine.
fn on_engine(engine: Engine) -> Result<LinuxIo, String> {
    let on_epoll = || LinuxIo::on_epoll().map_err(|error| format!("epoll can't be set up: {error}"));
    match engine {
        Engine::Epoll => on_epoll(),
        Engine::IoUring => LinuxIo::on_uring(RING)
            .map_err(|error| format!("engine: {error}. Or write `engine: auto`, which takes epoll then")),
        Engine::Auto => LinuxIo::on_uring(RING).or_else(|error| {
            tracing::info!(why = %error, "the loop runs on epoll, because io_uring can't be had");
            on_epoll()
        }),
    }
}

/// Listens. The port of an agent that was just killed is free only when the kernel has taken its ring apart.
fn listen(io: &mut LinuxIo, address: SocketAddr) -> Result<(Listener, SocketAddr), String> {
    let give_up = io.now() + LISTEN.as_nanos() as u64;
    loop {
        match io.listen(address) {
            Err(IoError::Os(code)) if code == IN_USE && io.now() < give_up => io.wait(Some(Duration::from_millis(50))),
            result => return result.map_err(|error| format!("can't listen on {address}: {error}")),
        }
    }
}

/// Turns the loop until it is told to stop, or to start again by the configuration that is returned.
fn turn(
    node: &mut Node<LinuxIo>,
    workers: &Workers,
    asks: &Receiver<Ask>,
    config: &mut Config,
    unopened: Unopened,
) -> Result<Option<Config>, String> {
    let mut stop_at = None;
    let mut next = None;
    let mut coming: Option<Coming> = None;
    // Other configurations, which wait until the volumes of the one before have come.
    let mut later = VecDeque::new();
    loop {
        node.turn();
        node.take_jobs().into_iter().for_each(|job| workers.submit(job));
        if let Some(why) = node.broken() {
            return Err(why.to_owned());
        }
        let now = node.io().now();
        if node.is_quiet() {
            return node.end_run().map(|()| next);
        }
        if stop_at.is_some_and(|at| at <= now) {
            return match next {
                None => Ok(None),
                // Jobs may be running still: only a new process is rid of them.
                Some(_) => Err("the agent couldn't stop in time to start again by its new configuration".into()),
            };
        }
        let limit = stop_at.map(|at| Duration::from_nanos(at - now));
        node.io().wait(limit);
        while let Some(done) = workers.outcome(node.has_room()) {
            node.finish(done);
        }
        if coming.as_ref().is_some_and(|coming| coming.end(node, config, unopened)) {
            coming = None;
        }
        while let Some(ask) = later.pop_front_if(|_| coming.is_none()).or_else(|| asks.try_recv().ok()) {
            match ask {
                Ask::Configure(..) if coming.is_some() => later.push_back(ask),
                // An asker that has gone doesn't want to know.
                Ask::Status(reply) => drop(reply.try_send((node.status(), node.counters()))),
                Ask::Holds(name, reply) => match node.volumes_named(name.as_deref()) {
                    Ok(volumes) => node.look(Box::new(move |context| {
                        drop(reply.try_send(inquiry::holds(context, &volumes)));
                    })),
                    Err(why) => drop(reply.try_send(Err(why))),
                },
                Ask::DecideHolds(name, verdict, reply) => {
                    drop(reply.try_send(node.decide_holds(name.as_deref(), verdict)));
                }
                Ask::Versions(named, reply) => match node.place(&named) {
                    Ok(place) => node.look(Box::new(move |context| {
                        drop(reply.try_send(versions::list(context, &place)));
                    })),
                    Err(why) => drop(reply.try_send(Err(why))),
                },
                Ask::History(past, reply) => match node.place(&past.path) {
                    Ok(place) => {
                        let replicas = node.replicas();
                        node.look(Box::new(move |context| {
                            drop(reply.try_send(history::look(context, &place, &replicas, past.number as usize)));
                        }));
                    }
                    Err(why) => drop(reply.try_send(Err(why))),
                },
                Ask::Worst(reply) => {
                    let troubles = node.troubles();
                    node.look(Box::new(move |context| drop(reply.try_send(worst::look(context, &troubles)))));
                }
                Ask::Forget(name, reply) => node.forget(name, reply),
                Ask::Pause(name, reply) => drop(reply.try_send(node.pause(name.as_deref()))),
                Ask::Resume(name, reply) => drop(reply.try_send(node.resume(name.as_deref()))),
                Ask::Rescan(name, contents, reply) => drop(reply.try_send(node.rescan(name.as_deref(), contents))),
                Ask::Restore(order, reply) => restore(node, order, reply),
                Ask::Conflicts(name, reply) => match node.volumes_named(name.as_deref()) {
                    Ok(volumes) => {
                        let replicas = node.replicas();
                        node.look(Box::new(move |context| {
                            drop(reply.try_send(conflicts::list(context, &volumes, &replicas)));
                        }));
                    }
                    Err(why) => drop(reply.try_send(Err(why))),
                },
                Ask::Resolve(order, reply) => drop(reply.try_send(node.resolve(&order))),
                Ask::Configure(new, reply) => {
                    let answer = match config.change_to(&new) {
                        Change::Refused(fields) => Err(format!(
                            "{} can't change while the agent runs: restart it, or take that back",
                            fields.join(", ")
                        )),
                        _ if node.is_stopping() && next.is_none() => Ok(Configured::IsStopping),
                        // It is about to start again by another one.
                        _ if node.is_stopping() => {
                            next = Some(*new);
                            Ok(Configured::StartsAgain)
                        }
                        Change::Nothing => Ok(Configured::AsBefore),
                        Change::Live if comes(config, &new).next().is_none() => {
                            node.configure(tuning(&new));
                            *config = *new;
                            Ok(Configured::InForce)
                        }
                        Change::Live if comes(config, &new).all(|volume| !node.knows(volume.name.as_str())) => {
                            coming = Some(Coming::begin(node, workers, config, *new, reply));
                            continue;
                        }
                        // A volume that was closed once is opened by a start, which recovers what it was left with.
                        Change::Live | Change::Anew => {
                            node.stop();
                            stop_at.get_or_insert(now + STOP.as_nanos() as u64);
                            next = Some(*new);
                            Ok(Configured::StartsAgain)
                        }
                    };
                    drop(reply.try_send(answer));
                }
                Ask::RenewRights(rights) => node.renew_rights(rights),
                Ask::Misconfigured(why) => node.misconfigured(why),
                Ask::Revoke(list, reply) => drop(reply.try_send(node.revoke(&list))),
                Ask::Stop => {
                    next = None;
                    node.stop();
                    stop_at.get_or_insert(now + STOP.as_nanos() as u64);
                }
            }
        }
    }
}

fn restore(node: &mut Node<LinuxIo>, order: Restore, reply: Sender<Result<Restored, String>>) {
    let places = node.place(&order.path).and_then(|place| {
        let to = order.to.as_ref().map(|to| node.place(to)).transpose()?;
        match to {
            Some(to) if to.number != place.number => Err("a version can only be restored within its volume".into()),
            to => Ok((place, to)),
        }
    });
    let now = node.io().wall() / 1_000_000;
    match places {
        Ok((place, to)) => node.look(Box::new(move |context| {
            let to = to.map(|to| to.path);
            drop(reply.try_send(versions::restore(context, &place, order.which, to.as_ref(), now)));
        })),
        Err(why) => drop(reply.try_send(Err(why))),
    }
}

pub(crate) fn volume(config: &syncmesh_config::Volume) -> Result<VolumeSpec, NoStart> {
    let at = |error: &dyn std::fmt::Display| {
        let why = format!("{}: {error}", config.path.display());
        NoStart::Volume { name: config.name.to_string(), why }
    };
    let places = [Some(&config.path), config.incoming.as_ref()];
    let places: Vec<&Path> = places.into_iter().flatten().map(PathBuf::as_path).collect();
    let fs = LinuxFs::open(&places, config.meta.as_deref()).map_err(|error| match error {
        syncmesh_io::FsError::NotFound => at(&"the directory isn't there: create it, or mount its disk"),
        error => at(&error),
    })?;
    let policy = |policy: syncmesh_config::ConflictPolicy| match policy {
        syncmesh_config::ConflictPolicy::KeepBoth => Policy::KeepBoth,
        syncmesh_config::ConflictPolicy::LastWriterWins => Policy::LastWriterWins,
        syncmesh_config::ConflictPolicy::Manual => Policy::Manual,
    };
    let rules: Vec<(String, Policy)> =
        config.conflicts.rules.iter().map(|rule| (rule.pattern.clone(), policy(rule.policy))).collect();
    Ok(VolumeSpec {
        name: config.name.to_string(),
        path: config.path.clone(),
        fs: Arc::new(fs),
        selection: Selection::new(&config.exclude).map_err(|error| at(&error))?,
        policies: Policies::new(policy(config.conflicts.policy), &rules).map_err(|error| at(&error))?,
        settings: settings(config),
        durability: match config.durability {
            syncmesh_config::Durability::Epoch => Durability::Epoch,
            syncmesh_config::Durability::Strict => Durability::Strict,
        },
        seed: config.seed.as_ref().map(ToString::to_string),
        members: members(config),
        // Whoever made its meta directory made the volume's, too.
        renews: config.meta.is_some(),
    })
}

fn settings(config: &syncmesh_config::Volume) -> Settings {
    Settings {
        settle: u64::try_from(config.settle.as_nanos()).unwrap_or(u64::MAX),
        open_wait: u64::try_from(config.open_wait.as_nanos()).unwrap_or(u64::MAX),
        limits: retention::Limits {
            keep: config.versions.keep as usize,
            max_age_millis: u64::try_from(config.versions.max_age.as_millis()).unwrap_or(u64::MAX),
            budget: share(config.versions.budget),
            reserve: config.reserve.map(share),
            capacity: config.capacity.map(|capacity| capacity.0),
        },
        guard: Limits { files: config.deletion_guard.files, percent: config.deletion_guard.percent },
        paused: config.paused,
        filling: config.filling,
        send_limit: config.send_limit,
        role: match config.role {
            syncmesh_config::Role::Writer => Role::Writer,
            syncmesh_config::Role::Reader => Role::Reader,
            // Until the right is renewed for the first time.
            syncmesh_config::Role::Fenced | syncmesh_config::Role::Granted(_) => Role::Fenced,
        },
        right: match config.role {
            syncmesh_config::Role::Granted(epoch) => Some(epoch),
            _ => None,
        },
    }
}

fn members(config: &syncmesh_config::Volume) -> Members {
    match &config.members {
        None => Members::All,
        Some(members) => Members::Only(members.iter().map(ToString::to_string).collect()),
    }
}

/// The volumes that only a new configuration has.
pub(crate) fn comes<'a>(old: &Config, new: &'a Config) -> impl Iterator<Item = &'a syncmesh_config::Volume> {
    new.volumes.iter().filter(|volume| old.volume(&volume.name).is_none())
}

/// What a running engine can take over from a configuration.
pub(crate) fn tuning(config: &Config) -> Tuning {
    Tuning {
        peers: peers(config),
        connections: config.connections as usize,
        max_clock_skew_millis: millis(config.max_clock_skew),
        volumes: config
            .volumes
            .iter()
            .map(|volume| (volume.name.to_string(), (settings(volume), members(volume))))
            .collect(),
    }
}

fn peers(config: &Config) -> Vec<(String, Option<String>)> {
    config.peers.iter().map(|peer| (peer.node.to_string(), peer.address.as_ref().map(ToString::to_string))).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn share(config: syncmesh_config::Share) -> Share {
    match config {
        syncmesh_config::Share::Percent(percent) => Share::Percent(percent),
        syncmesh_config::Share::Size(size) => Share::Bytes(size.0),
    }
}

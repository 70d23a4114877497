//! The event loop's state: every decision about order is made here, by one thread, and nothing here blocks.
//!
//! A driver (threads for a real agent, the simulator for a simulated one) feeds completions of [`Io`] and outcomes of
//! jobs, and takes the jobs that come out of each [`Node::turn`].

mod compare;
mod configure;
mod conflicts;
mod dispatch;
mod follow;
mod holds;
mod incarnation;
mod inspect;
mod messages;
pub mod open;
mod orders;
mod outcomes;
mod peers;
mod reuse;
mod revert;
mod revoked;
mod rights;
pub mod suspects;
pub mod unsynced;

pub use inspect::{LeftOut, PeerStatus, Status, VolumeStatus};
pub use revoked::Taken;

use crate::connection::Connection;
use crate::epoch::Commit;
use crate::fetch::StageBlock;
use crate::job::{Done, Job};
use crate::limits::{ACCEPT_RETRY, OVERLAY_FULL_BYTES, RECEIVE_BYTES, SECOND_DIALER};
use crate::registry::{Last, Registry, Stored, VolumeState};
use crate::revoked::Revoked;
use crate::session::Session;
use crate::settings::Rights;
use crate::volume::{FetchWanted, Volume};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use syncmesh_core::clock::HlcClock;
use syncmesh_core::limits::BLOCK_BYTES;
use syncmesh_core::version::ReplicaId;
use syncmesh_io::{Completion, Io, IoError, Listener, Log, Operation, Outcome, Socket, Token, WatchEvent};

/// Makes sessions: TLS in real agents, a plain twin in the simulator.
pub trait Sessions {
    /// A session with a node that we called.
    fn client(&self, node: &str) -> Result<Box<dyn Session>, String>;
    /// A session with whoever called us.
    fn server(&self) -> Result<Box<dyn Session>, String>;
    /// Whether an authority that this node trusts, the one of this name, has made a signature.
    ///
    /// # Errors
    /// It hasn't, or nobody can tell: why.
    fn has_signed(&self, authority: &str, signed: &[u8], signature: &[u8]) -> Result<(), String>;
    /// Since when this node's own certificate holds, in seconds since 1970, if it has one.
    fn valid_from(&self) -> Option<u64>;
}

/// A configured member of the mesh.
pub struct Peer {
    /// `host:port`, where this node may call it.
    address: Option<String>,
    /// What the address resolved to.
    resolved: Option<SocketAddr>,
    state: PeerState,
    /// Tries since the last session.
    attempt: u32,
    /// Why the last session or try ended.
    last_error: Option<String>,
    /// When the last session ended, on the loop's clock; the start before that.
    away_since: u64,
    /// Its replica in the current or last session.
    replica: Option<ReplicaId>,
    /// Round trip of the last heartbeat.
    rtt: Option<u64>,
    /// Bytes of sessions that ended.
    sent_bytes: u64,
    received_bytes: u64,
    /// How far its clock was behind ours at the last hello, in milliseconds.
    clock_behind: Option<i64>,
    /// Since when another run of it wants a session while one lasts, and when it last tried.
    twin: Option<(u64, u64)>,
    /// It has a session with another run of this node.
    told_of_twin: bool,
    /// Where its streams stood when its last session ended, by volume: its replica, and the recorded position.
    resume: BTreeMap<String, (ReplicaId, u64)>,
    /// Volumes of which its last session was left something to others: where that stood says nothing of those versions.
    left_to_makers: BTreeSet<String>,
}

enum PeerState {
    /// Wait until then, then call.
    Waiting(u64),
    /// A name is being resolved, or a connect is under way.
    Calling,
    /// A connection is in its handshake or ready.
    Session(u64),
}

/// A fetch under way.
struct Fetch {
    volume: u16,
    wanted: FetchWanted,
    slot: u64,
    session: u64,
    /// The next block to ask for, and the next that must come.
    ask: u64,
    expect: u64,
    /// Blocks that came and aren't staged, and the hash so far when no job has it.
    blocks: VecDeque<Vec<u8>>,
    staged: u64,
    hasher: Option<Box<blake3::Hasher>>,
    /// Ended; a running job's outcome is awaited before the slot is dropped.
    cancelled: bool,
}

impl Fetch {
    /// Blocks that were asked for, and that no job has staged yet.
    fn on_the_way(&self) -> usize {
        (self.ask - self.expect).div_ceil(BLOCK_BYTES) as usize + self.blocks.len()
    }
}

/// What a node is made of.
pub struct Setup {
    /// Its name.
    pub node: String,
    /// Its incarnation, new at every start.
    pub replica: ReplicaId,
    /// The system's boot id, for the journal's header.
    pub boot: String,
    /// Members and where to call them.
    pub peers: Vec<(String, Option<String>)>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// Volumes of earlier configurations, whose rows stay in the registry.
    pub unconfigured: BTreeMap<String, VolumeState>,
    /// Which node each replica belongs to, this one included.
    pub replicas: BTreeMap<ReplicaId, String>,
    /// Nodes that were forgotten.
    pub forgotten: BTreeSet<String>,
    /// The revocation list that was in force last.
    pub revoked: Option<Revoked>,
    /// The registry.
    pub registry: Registry,
    /// The last durable epoch.
    pub last: Last,
    /// The open epoch's number, its journal, and the next one's.
    pub epoch: (u64, Log, Log),
    /// Most connections at the same time.
    pub connections: usize,
    /// How far a peer's clock may be ahead.
    pub max_clock_skew_millis: u64,
}

/// One agent's loop.
pub struct Node<I: Io> {
    io: I,
    sessions: Box<dyn Sessions>,
    node: String,
    replica: ReplicaId,
    boot: String,
    replicas: Arc<BTreeMap<ReplicaId, String>>,
    forgotten: BTreeSet<String>,
    revoked: Option<Revoked>,
    registry: Registry,
    volumes: BTreeMap<u16, Volume>,
    unconfigured: BTreeMap<String, VolumeState>,
    last: Last,
    peers: BTreeMap<String, Peer>,
    connections: BTreeMap<u64, Connection>,
    connection_limit: usize,
    connecting: BTreeMap<u64, String>,
    next_id: u64,
    listener: Listener,
    /// When connections are accepted again after a failure. What keeps one away keeps the next one away, and at once.
    accept_at: Option<u64>,
    listen_address: SocketAddr,
    clock: HlcClock,
    /// How far the wall clock was ahead of the loop's at the last turn, in nanoseconds.
    wall_ahead: i128,
    /// Replicas of whose versions two with one number were met.
    duplicates: BTreeSet<ReplicaId>,
    max_clock_skew_millis: u64,
    epoch: Epoch,
    journal: Journal,
    jobs: Vec<Job>,
    jobs_running: usize,
    fetches: BTreeMap<u64, Fetch>,
    /// Contents that are looked for here, and copied.
    reuses: BTreeMap<u64, FetchWanted>,
    fetch_blocks: usize,
    stage_ready: VecDeque<StageBlock>,
    block_requests: VecDeque<crate::fetch::ReadBlock>,
    blocks_reading: BTreeSet<u64>,
    /// Deadlines of timers that were submitted and haven't completed.
    armed: BTreeSet<u64>,
    /// The time at which this turn decided what is due.
    now: u64,
    started: u64,
    /// When it was last looked which volumes are in sync.
    sync_noted: u64,
    stopping: Option<u64>,
    broken: Option<String>,
    /// Why the configuration's file can't be used as it is now.
    misconfigured: Option<String>,
    rights: Rights,
    left_out: Vec<LeftOut>,
    buffers: Vec<Vec<u8>>,
    counters: Counters,
}

/// The open epoch, and the one that is being made durable.
struct Epoch {
    number: u64,
    opened: u64,
    log: Log,
    next_log: Option<Log>,
    committing: bool,
    /// Closed, and its file systems are being synced.
    closing: Option<Closing>,
    applies: usize,
    /// Versions that exist only in a slot which an exchange filled. The journal that names the slot stays until they have
    /// a name.
    displaced: usize,
    /// Something was recorded since it was opened.
    used: bool,
}

/// An epoch that is closed.
struct Closing {
    commit: Commit,
    /// Volumes whose sync hasn't ended.
    waits: BTreeSet<u16>,
    /// When it was closed, on the loop's clock.
    began: u64,
}

/// Records on their way into the journal.
#[derive(Default)]
struct Journal {
    buffer: Vec<u8>,
    appending: bool,
    /// Positions that hold once the append that is under way has completed: volumes' sequence numbers, and sessions'.
    volumes: Vec<(u16, u64)>,
    links: Vec<(u64, u16, u64)>,
}

/// Sums since the start, for metrics and tests.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counters {
    /// Versions that were made here.
    pub versions_made: u64,
    /// Versions of peers that became visible.
    pub versions_applied: u64,
    /// Conflicting contents that were found.
    pub conflicts: u64,
    /// Scans of directories or names.
    pub scans: u64,
    /// Frames that went out.
    pub frames_sent: u64,
    /// Frames that came in.
    pub frames_received: u64,
    /// Epochs that became durable.
    pub epochs: u64,
    /// Connections that ended with an error.
    pub session_errors: u64,
    /// Watch events that came.
    pub events: u64,
    /// Bytes of contents that were fetched by blocks.
    pub fetched_bytes: u64,
    /// Bytes of contents that this node had already, and copied.
    pub reused_bytes: u64,
    /// Edits that followed a rename to the new name.
    pub followed_edits: u64,
    /// Comparisons that found different sums where both sides knew the same, or a sum that wasn't that of its rows.
    pub sum_differences: u64,
    /// Paths that were found by them, and repaired.
    pub repaired_paths: u64,
}

/// What a token's operation is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    Timer,
    Wake,
    Accept,
    Connect(u64),
    Receive(u64),
    Send(u64),
    Watch(u16),
    Append,
}

impl Purpose {
    /// The number of a connection grows with each, so a completion that comes after its connection has gone finds none.
    fn token(self) -> Token {
        let (kind, number) = match self {
            Self::Timer => (0, 0),
            Self::Wake => (1, 0),
            Self::Accept => (2, 0),
            Self::Connect(id) => (3, id),
            Self::Receive(id) => (4, id),
            Self::Send(id) => (5, id),
            Self::Watch(volume) => (6, u64::from(volume)),
            Self::Append => (7, 0),
        };
        Token(kind << 56 | number)
    }

    fn of(token: Token) -> Self {
        let number = token.0 & ((1 << 56) - 1);
        match token.0 >> 56 {
            0 => Self::Timer,
            1 => Self::Wake,
            2 => Self::Accept,
            3 => Self::Connect(number),
            4 => Self::Receive(number),
            5 => Self::Send(number),
            6 => Self::Watch(number as u16),
            _ => Self::Append,
        }
    }
}

impl Peer {
    /// A member that wasn't called yet. The lower of two names calls first.
    fn new(address: Option<String>, own: &str, name: &str, now: u64) -> Self {
        let wait = if own < name { 0 } else { SECOND_DIALER.as_nanos() as u64 };
        Self {
            address,
            resolved: None,
            state: PeerState::Waiting(now + wait),
            attempt: 0,
            last_error: None,
            away_since: now,
            replica: None,
            rtt: None,
            clock_behind: None,
            twin: None,
            told_of_twin: false,
            sent_bytes: 0,
            received_bytes: 0,
            resume: BTreeMap::new(),
            left_to_makers: BTreeSet::new(),
        }
    }
}

impl<I: Io> Node<I> {
    /// Starts to take calls on a listener of `io`, to watch and to call.
    pub fn new(io: I, sessions: Box<dyn Sessions>, setup: Setup, listener: (Listener, SocketAddr)) -> Self {
        let (listener, listen_address) = listener;
        let now = io.now();
        let own = setup.node.clone();
        let peers = setup.peers.into_iter().map(|(name, address)| {
            let peer = Peer::new(address, &own, &name, now);
            (name, peer)
        });
        let (number, log, next_log) = setup.epoch;
        let mut node = Self {
            peers: peers.collect(),
            unconfigured: setup.unconfigured,
            last: setup.last,
            sessions,
            node: setup.node,
            replica: setup.replica,
            boot: setup.boot,
            replicas: Arc::new(setup.replicas),
            forgotten: setup.forgotten,
            revoked: setup.revoked,
            registry: setup.registry,
            volumes: setup.volumes.into_iter().map(|volume| (volume.number, volume)).collect(),
            connections: BTreeMap::new(),
            connection_limit: setup.connections,
            connecting: BTreeMap::new(),
            next_id: 1,
            listener,
            accept_at: None,
            listen_address,
            clock: HlcClock::default(),
            wall_ahead: i128::from(io.wall()) - i128::from(now),
            duplicates: BTreeSet::new(),
            max_clock_skew_millis: setup.max_clock_skew_millis,
            epoch: Epoch {
                number,
                opened: now,
                log,
                next_log: Some(next_log),
                committing: false,
                closing: None,
                applies: 0,
                displaced: 0,
                used: false,
            },
            journal: Journal::default(),
            jobs: Vec::new(),
            jobs_running: 0,
            fetches: BTreeMap::new(),
            reuses: BTreeMap::new(),
            fetch_blocks: 0,
            stage_ready: VecDeque::new(),
            block_requests: VecDeque::new(),
            blocks_reading: BTreeSet::new(),
            armed: BTreeSet::new(),
            now,
            started: now,
            sync_noted: now,
            stopping: None,
            broken: None,
            misconfigured: None,
            rights: Rights::new(),
            left_out: Vec::new(),
            buffers: Vec::new(),
            counters: Counters::default(),
            io,
        };
        node.io.submit(Purpose::Accept.token(), Operation::Accept(listener));
        node.io.submit(Purpose::Wake.token(), Operation::Wake);
        node.begin_journal();
        let names: Vec<(ReplicaId, String)> = node.replicas.iter().map(|(id, name)| (*id, name.clone())).collect();
        for (id, name) in names {
            node.record(&crate::journal::Record::Replica(id, name));
        }
        let numbers: Vec<u16> = node.volumes.keys().copied().collect();
        numbers.into_iter().for_each(|number| node.begin_volume(number));
        node.obey_rights();
        node
    }

    /// Watches a volume, and has its first scan and what it wants done.
    fn begin_volume(&mut self, number: u16) {
        let now = self.io.now();
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        self.io.submit(Purpose::Watch(number).token(), Operation::Watch(volume.watcher));
        volume.dirty.mark_all(&syncmesh_core::path::RelativePath::root(), true, now);
        (volume.pruned, volume.thoroughly_pruned) = (now, now);
        if volume.state.counts.wanted > 0 {
            volume.retry.at(now);
        }
    }

    /// Handles all completions, starts what is due, and hands operations over. Afterwards [`Node::take_jobs`] has work,
    /// and the driver waits for completions or outcomes.
    pub fn turn(&mut self) {
        while let Some(completion) = self.io.completion() {
            self.complete(completion);
        }
        self.tick();
        self.flush();
        self.arm();
    }

    /// The completion interface, for the driver to wait on.
    pub fn io(&mut self) -> &mut I {
        &mut self.io
    }

    /// Jobs to run. Every one must be answered by [`Node::finish`].
    pub fn take_jobs(&mut self) -> Vec<Job> {
        for number in self.jobs.iter().filter_map(Job::works_on) {
            if let Some(volume) = self.volumes.get_mut(&number) {
                volume.jobs += 1;
            }
        }
        self.volumes.values().for_each(|volume| volume.usage.show(volume.state.counts.bytes));
        std::mem::take(&mut self.jobs)
    }

    /// Is there room for findings of scans? While there isn't, the driver leaves them with the workers.
    pub fn has_room(&self) -> bool {
        self.registry.open_bytes() < OVERLAY_FULL_BYTES
    }

    /// Why the agent can't go on.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// The address that it listens on.
    pub fn listen_address(&self) -> SocketAddr {
        self.listen_address
    }

    fn complete(&mut self, Completion { token, outcome }: Completion) {
        match (Purpose::of(token), outcome) {
            (Purpose::Timer, _) => {
                let now = self.io.now();
                self.armed = self.armed.split_off(&(now + 1));
            }
            (Purpose::Wake, _) => self.io.submit(Purpose::Wake.token(), Operation::Wake),
            (Purpose::Accept, Outcome::Accepted(result)) => {
                let failed = result.is_err();
                self.accepted(result);
                if failed {
                    self.accept_at = Some(self.io.now() + ACCEPT_RETRY.as_nanos() as u64);
                } else if self.stopping.is_none() {
                    self.io.submit(Purpose::Accept.token(), Operation::Accept(self.listener));
                }
            }
            (Purpose::Connect(id), Outcome::Connected(result)) => self.connected(id, result),
            (Purpose::Receive(id), Outcome::Received(buffer, result)) => {
                self.received(id, &buffer, result);
                self.buffers.push(buffer);
            }
            (Purpose::Send(id), Outcome::Sent(buffer, result)) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.sending = false;
                    connection.sent_bytes += buffer.len() as u64;
                    if let Err(error) = result {
                        self.end(id, format!("sending failed: {error}"));
                    }
                }
                self.buffers.push(buffer);
            }
            (Purpose::Watch(number), Outcome::Watched(result)) => self.watched(number, result),
            (Purpose::Append, Outcome::Appended(buffer, result)) => {
                self.buffers.push(buffer);
                match result {
                    Ok(()) => self.journalled(),
                    Err(error) => self.fail(format!("the journal can't be written: {error}")),
                }
            }
            // A backend that answers with another kind of outcome is broken beyond what could be mended here.
            (purpose, outcome) => self.fail(format!("{purpose:?} was answered with {outcome:?}")),
        }
        self.buffers.truncate(64);
    }

    fn watched(&mut self, number: u16, result: Result<Vec<WatchEvent>, IoError>) {
        let now = self.io.now();
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        match result {
            Ok(events) => {
                self.counters.events += events.len() as u64;
                let settle = volume.settings.get().settle;
                for event in &events {
                    volume.watches.apply(event, &mut volume.dirty, now, settle);
                }
            }
            Err(error) => {
                volume.problem(
                    syncmesh_core::path::RelativePath::root(),
                    format!("changes can't be watched: {error}. Restart the agent"),
                );
                return;
            }
        }
        let watcher = volume.watcher;
        self.io.submit(Purpose::Watch(number).token(), Operation::Watch(watcher));
    }

    /// Puts a record into the journal's next append.
    fn record(&mut self, record: &crate::journal::Record) {
        crate::journal::encode(record, &mut self.journal.buffer);
        self.epoch.used = true;
    }

    /// The append that was under way is done.
    fn journalled(&mut self) {
        self.journal.appending = false;
        for (number, sequence) in std::mem::take(&mut self.journal.volumes) {
            if let Some(volume) = self.volumes.get_mut(&number) {
                volume.journalled = sequence;
            }
        }
        for (session, number, position) in std::mem::take(&mut self.journal.links) {
            let link = self.connections.get_mut(&session).and_then(|connection| connection.links.get_mut(&number));
            if let Some(link) = link {
                link.incoming.journalled = position;
            }
        }
    }

    /// Hands the journal's records and the connections' bytes over.
    fn flush(&mut self) {
        if !self.journal.appending {
            self.journal.volumes = self.volumes.values().map(|volume| (volume.number, volume.state.sequence)).collect();
            self.journal.links = self
                .connections
                .iter()
                .flat_map(|(&id, connection)| {
                    connection.links.iter().map(move |(&number, link)| (id, number, link.incoming.recorded()))
                })
                .collect();
            if self.journal.buffer.is_empty() {
                self.journalled();
            } else {
                let mut buffer = self.buffers.pop().unwrap_or_default();
                buffer.clear();
                std::mem::swap(&mut buffer, &mut self.journal.buffer);
                self.journal.appending = true;
                self.io.submit(Purpose::Append.token(), Operation::Append(self.epoch.log, buffer));
            }
        }
        self.report_progress();
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            self.send(id);
        }
    }

    fn send(&mut self, id: u64) {
        let buffer = self.buffers.pop().unwrap_or_default();
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| !connection.sending) else {
            self.buffers.push(buffer);
            return;
        };
        match connection.output(buffer) {
            Ok(wire) if wire.is_empty() => {
                self.buffers.push(wire);
                if matches!(connection.phase, crate::connection::Phase::Closing { .. }) {
                    // The peer calls when it has read the goodbye, or has said one, too, which nobody reads any more.
                    self.end(id, "this node said goodbye".into());
                }
            }
            Ok(wire) => {
                connection.sending = true;
                let socket = connection.socket;
                self.io.submit(Purpose::Send(id).token(), Operation::Send(socket, wire));
            }
            Err(error) => self.end(id, error.to_string()),
        }
    }

    fn receive(&mut self, id: u64, socket: Socket) {
        let mut buffer = self.buffers.pop().unwrap_or_default();
        buffer.resize(RECEIVE_BYTES, 0);
        self.io.submit(Purpose::Receive(id).token(), Operation::Receive(socket, buffer));
    }

    /// Makes sure that the loop wakes when something is due.
    fn arm(&mut self) {
        let Some(due) = self.next_due() else { return };
        if self.armed.first().is_none_or(|&first| due < first) {
            self.armed.insert(due);
            self.io.submit(Purpose::Timer.token(), Operation::Timer(due));
        }
    }

    /// Milliseconds since 1970.
    fn wall_millis(&self) -> u64 {
        self.io.wall() / 1_000_000
    }

    /// The agent can't go on; the driver stops it.
    fn fail(&mut self, why: String) {
        tracing::error!(%why, "the agent can't go on");
        self.broken.get_or_insert(why);
    }

    /// What the registry keeps beside rows, as it is now.
    fn stored(&self) -> Stored {
        let current = self.volumes.values().map(|volume| (volume.name.clone(), volume.state.clone()));
        let volumes = self.unconfigured.clone().into_iter().chain(current).collect();
        Stored {
            last: self.last.clone(),
            ended: false,
            volumes,
            replicas: (*self.replicas).clone(),
            forgotten: self.forgotten.clone(),
            revoked: self.revoked.as_ref().map(|list| list.text().to_owned()).unwrap_or_default(),
        }
    }

    /// Takes one outcome of a job.
    pub fn finish(&mut self, done: Done) {
        self.outcome(done);
    }
}

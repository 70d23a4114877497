//! A network, a clock and a machine for each node, all in one thread and from one seed. The driver moves time with
//! [`World::advance_to`]; whatever is due then happens in order, and completions land in the nodes' queues.

mod connection;
mod random;

pub use random::Random;

use connection::End;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use syncmesh_io::{
    Buffer, Completion, IoError, Listener, Log, Operation, Outcome, Socket, Token, Waker, WatchEvent, Watcher,
};

/// When a simulation starts, on the clock of [`syncmesh_io::Io::now`]: not zero, so that there is a time before.
const START_NS: u64 = 1_000_000_000;
/// When it starts on the wall: the first of January 2026.
const START_WALL_NS: u64 = 1_767_225_600_000_000_000;
/// Connections that a system accepts ahead of its process.
const BACKLOG: usize = 128;
/// Attempts to connect into silence, a second apart at first, then twice as long each time (tcp_syn_retries of Linux).
const CONNECT_TRIES: u32 = 7;
const CONNECT_RETRY_NS: u64 = 1_000_000_000;
const APPEND_NS: (u64, u64) = (5_000, 200_000);
const FIRST_LISTENING_PORT: u16 = 20_000;
const FIRST_CONNECTING_PORT: u16 = 32_768;
/// Errnos of Linux.
const ADDRESS_IN_USE: i32 = 98;
const TIMED_OUT: i32 = 110;
const REFUSED: i32 = 111;
/// EMFILE on Linux.
const NO_DESCRIPTOR: i32 = 24;

/// What a node's log appends are given to.
pub type LogSink = Rc<dyn Fn(Log, &[u8])>;

/// How the network behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Least and greatest nanoseconds from one node to another.
    pub latency_ns: (u64, u64),
    /// Bytes that one end of a connection may have sent without its peer having read them.
    pub pipe_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { latency_ns: (100_000, 3_000_000), pipe_bytes: 256 * 1024 }
    }
}

/// Ways in which two nodes lose each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// Their connections are reset at both ends, now; new ones can be made.
    Reset,
    /// Nothing gets through in either direction until it is healed. Connections survive it unless an end gives up.
    Silent,
    /// Nothing gets from the first to the second.
    SilentOneWay,
}

/// One life of a node: operations of an earlier one complete nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Process {
    node: u32,
    incarnation: u32,
}

struct Node {
    incarnation: u32,
    alive: bool,
    fifo: VecDeque<Completion>,
    clock_skew_ns: i64,
    random: Random,
    woken: Arc<AtomicBool>,
    wake: Option<Token>,
    appends: VecDeque<(Token, Log, Buffer)>,
    log_sink: Option<LogSink>,
    next_listening_port: u16,
    next_connecting_port: u16,
}

struct Listening {
    process: Process,
    accepts: VecDeque<Token>,
    /// Accepted by the system: the end, and where its peer is.
    backlog: VecDeque<(u32, SocketAddr)>,
}

#[derive(Default)]
struct Watch {
    process: Option<Process>,
    token: Option<Token>,
    pending: Vec<WatchEvent>,
}

struct Connecting {
    process: Process,
    token: Token,
    from: SocketAddr,
    to: SocketAddr,
    tries: u32,
}

enum Event {
    Complete(Process, Completion),
    Connect(Connecting),
    /// A process waits for something at this end.
    Attend(u32),
    /// Something arrives at this end.
    Wire(u32),
    /// What is to arrive at this end is held up since then.
    GiveUp {
        to: u32,
        since: u64,
    },
    /// The node's oldest append.
    Append(Process),
}

/// What happens outside of the network: bytes go to a log. Done while nothing is borrowed.
struct Appending {
    process: Process,
    token: Token,
    log: Log,
    buffer: Buffer,
    sink: Option<LogSink>,
}

struct Network {
    settings: Settings,
    random: Random,
    now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    nodes: BTreeMap<u32, Node>,
    listeners: BTreeMap<u32, Listening>,
    addresses: BTreeMap<SocketAddr, u32>,
    next_listener: u32,
    ends: BTreeMap<u32, End>,
    next_connection: u32,
    /// From the first, nothing gets to the second.
    silent: BTreeSet<(u32, u32)>,
    /// Nodes that can't accept, and how often they have tried.
    exhausted: BTreeMap<u32, u64>,
    watches: BTreeMap<u32, Watch>,
}

/// The world of a simulation. Clones are the same world.
#[derive(Clone)]
pub struct World(Rc<RefCell<Network>>);

impl World {
    /// A world that its seed determines.
    pub fn new(seed: u64, settings: Settings) -> Self {
        Self(Rc::new(RefCell::new(Network {
            settings,
            random: Random::new(seed),
            now: START_NS,
            sequence: 0,
            events: BTreeMap::new(),
            nodes: BTreeMap::new(),
            listeners: BTreeMap::new(),
            addresses: BTreeMap::new(),
            next_listener: 0,
            ends: BTreeMap::new(),
            next_connection: 0,
            silent: BTreeSet::new(),
            exhausted: BTreeMap::new(),
            watches: BTreeMap::new(),
        })))
    }

    /// A node's address; its loopback and unspecified addresses mean the same.
    pub fn address(node: u32, port: u16) -> SocketAddr {
        SocketAddr::new(ip_of(node), port)
    }

    /// The time, in nanoseconds on every node's own clock.
    pub fn now(&self) -> u64 {
        self.0.borrow().now
    }

    /// When the next thing happens by itself. Not before now.
    pub fn next_event_time(&self) -> Option<u64> {
        let network = self.0.borrow();
        if network.nodes.values().any(|node| node.wake.is_some() && node.woken.load(Ordering::Relaxed)) {
            return Some(network.now);
        }
        network.events.first_key_value().map(|((at, _), _)| (*at).max(network.now))
    }

    /// Lets time pass, and what is due happen.
    pub fn advance_to(&self, time: u64) {
        self.0.borrow_mut().wake_up();
        loop {
            let appending = {
                let mut network = self.0.borrow_mut();
                let Some(entry) = network.events.first_entry().filter(|entry| entry.key().0 <= time) else {
                    network.now = network.now.max(time);
                    return;
                };
                let ((at, _), event) = entry.remove_entry();
                network.now = network.now.max(at);
                network.happen(event)
            };
            if let Some(Appending { process, token, log, buffer, sink }) = appending {
                if let Some(sink) = sink {
                    sink(log, &buffer);
                }
                self.0.borrow_mut().complete(process, token, Outcome::Appended(buffer, Ok(())));
            }
        }
    }

    /// The node has completions that it hasn't taken.
    pub fn node_has_completions(&self, node: u32) -> bool {
        let mut network = self.0.borrow_mut();
        network.wake_up();
        network.nodes.get(&node).is_some_and(|node| !node.fifo.is_empty())
    }

    /// Ends a node's life: operations, listeners and completions are gone, and its connections are reset at the other
    /// side. Of its appends that are under way, some of the oldest still happen. A new [`crate::SimIo`] is its next life.
    pub fn crash(&self, node: u32) {
        let appended = self.0.borrow_mut().crash(node);
        for (sink, log, buffer) in appended {
            sink(log, &buffer);
        }
    }

    /// Cuts two nodes off from each other.
    pub fn cut(&self, a: u32, b: u32, how: Cut) {
        let mut network = self.0.borrow_mut();
        match how {
            Cut::Reset => network.reset_between(a, b),
            Cut::Silent => network.silent.extend([(a, b), (b, a)]),
            Cut::SilentOneWay => {
                network.silent.insert((a, b));
            }
        }
    }

    /// Ends all silence between two nodes: what was held up is resent.
    pub fn heal(&self, a: u32, b: u32) {
        let mut network = self.0.borrow_mut();
        for (from, to) in [(a, b), (b, a)] {
            network.silent.remove(&(from, to));
            network.resend(from, to);
        }
    }

    /// A node has no descriptor left for a connection that it could accept, until [`World::relieve`].
    pub fn exhaust(&self, node: u32) {
        self.0.borrow_mut().exhausted.insert(node, 0);
    }

    /// It has some again. Says how often it has tried meanwhile.
    pub fn relieve(&self, node: u32) -> u64 {
        self.0.borrow_mut().exhausted.remove(&node).unwrap_or(0)
    }

    /// Sets how far a node's wall clock is ahead of the true time.
    pub fn set_clock_skew(&self, node: u32, clock_skew_ns: i64) {
        if let Some(node) = self.0.borrow_mut().nodes.get_mut(&node) {
            node.clock_skew_ns = clock_skew_ns;
        }
    }

    /// File-system events happen at a watcher.
    pub fn push_watch(&self, watcher: Watcher, events: Vec<WatchEvent>) {
        let mut network = self.0.borrow_mut();
        network.watches.entry(watcher.0).or_default().pending.extend(events);
        network.report_watched(watcher);
    }

    /// Says where a node's appends go. It stays when the node crashes.
    pub fn set_log_sink(&self, node: u32, sink: LogSink) {
        self.0.borrow_mut().node(node).log_sink = Some(sink);
    }

    /// Starts a node's next life, ending the one that it may have.
    pub(crate) fn start(&self, node: u32, clock_skew_ns: i64) -> Process {
        self.crash(node);
        let mut network = self.0.borrow_mut();
        let state = network.node(node);
        state.alive = true;
        state.clock_skew_ns = clock_skew_ns;
        Process { node, incarnation: state.incarnation }
    }

    pub(crate) fn wall(&self, process: Process) -> u64 {
        let network = self.0.borrow();
        let skew = network.nodes.get(&process.node).map_or(0, |node| node.clock_skew_ns);
        (START_WALL_NS + network.now - START_NS).saturating_add_signed(skew)
    }

    pub(crate) fn random(&self, process: Process) -> u64 {
        self.0.borrow_mut().node(process.node).random.bits()
    }

    pub(crate) fn waker(&self, process: Process) -> Waker {
        let woken = Arc::clone(&self.0.borrow_mut().node(process.node).woken);
        Waker::new(move || woken.store(true, Ordering::Relaxed))
    }

    pub(crate) fn listen(&self, process: Process, address: SocketAddr) -> Result<(Listener, SocketAddr), IoError> {
        self.0.borrow_mut().listen(process, address)
    }

    pub(crate) fn submit(&self, process: Process, token: Token, operation: Operation) {
        self.0.borrow_mut().submit(process, token, operation);
    }

    pub(crate) fn close(&self, process: Process, socket: Socket) {
        self.0.borrow_mut().close_end(process, socket.0);
    }

    pub(crate) fn process_has_completions(&self, process: Process) -> bool {
        let mut network = self.0.borrow_mut();
        network.wake_up();
        network.living(process).is_some_and(|node| !node.fifo.is_empty())
    }

    pub(crate) fn has_events(&self, process: Process, watcher: Watcher) -> bool {
        let mut network = self.0.borrow_mut();
        let pending = network.watches.get(&watcher.0).is_some_and(|watch| !watch.pending.is_empty());
        let is_watched = |completion: &Completion| matches!(completion.outcome, Outcome::Watched(_));
        pending || network.living(process).is_some_and(|node| node.fifo.iter().any(is_watched))
    }

    pub(crate) fn completion(&self, process: Process) -> Option<Completion> {
        let mut network = self.0.borrow_mut();
        network.wake_up();
        network.living(process)?.fifo.pop_front()
    }
}

impl Network {
    fn schedule(&mut self, at: u64, event: Event) {
        self.events.insert((at, self.sequence), event);
        self.sequence += 1;
    }

    fn latency(&mut self) -> u64 {
        let (least, greatest) = self.settings.latency_ns;
        self.random.between(least, greatest)
    }

    fn node(&mut self, node: u32) -> &mut Node {
        let random = &mut self.random;
        self.nodes.entry(node).or_insert_with(|| Node {
            incarnation: 0,
            alive: false,
            fifo: VecDeque::new(),
            clock_skew_ns: 0,
            random: Random::new(random.bits()),
            woken: Arc::default(),
            wake: None,
            appends: VecDeque::new(),
            log_sink: None,
            next_listening_port: FIRST_LISTENING_PORT,
            next_connecting_port: FIRST_CONNECTING_PORT,
        })
    }

    /// The node, if this is still its life.
    fn living(&mut self, process: Process) -> Option<&mut Node> {
        self.nodes.get_mut(&process.node).filter(|node| node.alive && node.incarnation == process.incarnation)
    }

    fn complete(&mut self, process: Process, token: Token, outcome: Outcome) {
        if let Some(node) = self.living(process) {
            node.fifo.push_back(Completion { token, outcome });
        }
    }

    /// Completes the wake-ups that have come.
    fn wake_up(&mut self) {
        for node in self.nodes.values_mut() {
            if let Some(token) = node.wake
                && node.woken.swap(false, Ordering::Relaxed)
            {
                node.wake = None;
                node.fifo.push_back(Completion { token, outcome: Outcome::Woken });
            }
        }
    }

    fn submit(&mut self, process: Process, token: Token, operation: Operation) {
        if self.living(process).is_none() {
            return;
        }
        match operation {
            Operation::Accept(listener) => match self.listeners.get_mut(&listener.0) {
                Some(listening) if listening.process == process => {
                    listening.accepts.push_back(token);
                    self.accept(listener.0);
                }
                _ => self.complete(process, token, Outcome::Accepted(Err(IoError::Closed))),
            },
            Operation::Connect(to) => {
                let from = Self::connecting_address(self.node(process.node), process.node);
                let to = real_address(process.node, to);
                let at = self.now + self.latency();
                self.schedule(at, Event::Connect(Connecting { process, token, from, to, tries: 0 }));
            }
            Operation::Receive(socket, buffer) => self.receive(process, token, socket.0, buffer),
            Operation::Send(socket, buffer) => self.send(process, token, socket.0, buffer),
            Operation::Timer(deadline) => {
                let elapsed = Completion { token, outcome: Outcome::Elapsed };
                self.schedule(deadline.max(self.now), Event::Complete(process, elapsed));
            }
            Operation::Watch(watcher) => {
                let watch = self.watches.entry(watcher.0).or_default();
                watch.process = Some(process);
                watch.token = Some(token);
                self.report_watched(watcher);
            }
            Operation::Append(log, buffer) => {
                self.node(process.node).appends.push_back((token, log, buffer));
                let at = self.now + self.random.between(APPEND_NS.0, APPEND_NS.1);
                self.schedule(at, Event::Append(process));
            }
            Operation::Wake => self.node(process.node).wake = Some(token),
        }
    }

    fn happen(&mut self, event: Event) -> Option<Appending> {
        match event {
            Event::Complete(process, Completion { token, outcome }) => self.complete(process, token, outcome),
            Event::Connect(connecting) => self.connect(connecting),
            Event::Attend(end) => self.pump(end),
            Event::Wire(end) => self.arrive(end),
            Event::GiveUp { to, since } => self.give_up(to, since),
            Event::Append(process) => {
                let node = self.living(process)?;
                let (token, log, buffer) = node.appends.pop_front().expect("each append is one event");
                let sink = node.log_sink.clone();
                return Some(Appending { process, token, log, buffer, sink });
            }
        }
        None
    }

    fn report_watched(&mut self, watcher: Watcher) {
        let Some(watch) = self.watches.get_mut(&watcher.0) else { return };
        let (Some(process), Some(token), false) = (watch.process, watch.token, watch.pending.is_empty()) else {
            return;
        };
        watch.token = None;
        let events = std::mem::take(&mut watch.pending);
        self.complete(process, token, Outcome::Watched(Ok(events)));
    }

    fn listen(&mut self, process: Process, address: SocketAddr) -> Result<(Listener, SocketAddr), IoError> {
        let mut address = real_address(process.node, address);
        let node = self.living(process).ok_or(IoError::Closed)?;
        if address.port() == 0 {
            // Restarted nodes go on counting, so these are never in use.
            address.set_port(node.next_listening_port);
            node.next_listening_port += 1;
        }
        if self.addresses.contains_key(&address) {
            return Err(IoError::Os(ADDRESS_IN_USE));
        }
        let number = self.next_listener;
        self.next_listener += 1;
        self.addresses.insert(address, number);
        self.listeners.insert(number, Listening { process, accepts: VecDeque::new(), backlog: VecDeque::new() });
        Ok((Listener(number), address))
    }

    fn connecting_address(node: &mut Node, number: u32) -> SocketAddr {
        let port = node.next_connecting_port;
        node.next_connecting_port = port.checked_add(1).unwrap_or(FIRST_CONNECTING_PORT);
        World::address(number, port)
    }

    /// An attempt to connect gets to its target, or doesn't.
    fn connect(&mut self, connecting: Connecting) {
        let Connecting { process, token, from, to, tries } = connecting;
        if self.living(process).is_none() {
            return;
        }
        let number = self.addresses.get(&to).copied();
        let listening = number.and_then(|number| self.listeners.get(&number));
        let target = match listening {
            Some(listening) => Some(listening.process.node),
            None => self.nodes.keys().copied().find(|node| ip_of(*node) == to.ip()),
        };
        let silent = target.is_some_and(|target| {
            self.silent.contains(&(process.node, target)) || self.silent.contains(&(target, process.node))
        });
        let full = listening.is_some_and(|listening| listening.backlog.len() >= BACKLOG);
        let accepting = number.zip(listening.map(|listening| listening.process));
        if silent || full {
            let at = self.now + (CONNECT_RETRY_NS << tries);
            if tries + 1 < CONNECT_TRIES {
                let connecting = Connecting { process, token, from, to, tries: tries + 1 };
                self.schedule(at, Event::Connect(connecting));
            } else {
                self.complete_at(at, process, token, Outcome::Connected(Err(IoError::Os(TIMED_OUT))));
            }
            return;
        }
        let at = self.now + self.latency();
        let Some((number, accepting)) = accepting else {
            self.complete_at(at, process, token, Outcome::Connected(Err(IoError::Os(REFUSED))));
            return;
        };
        let (client, server) = self.connect_ends(process, accepting);
        if let Some(listening) = self.listeners.get_mut(&number) {
            listening.backlog.push_back((server, from));
        }
        self.accept(number);
        self.complete_at(at, process, token, Outcome::Connected(Ok(Socket(client))));
    }

    fn complete_at(&mut self, at: u64, process: Process, token: Token, outcome: Outcome) {
        self.schedule(at, Event::Complete(process, Completion { token, outcome }));
    }

    /// Brings those who accept and those who were accepted together.
    fn accept(&mut self, listener: u32) {
        while let Some(listening) = self.listeners.get_mut(&listener)
            && !listening.backlog.is_empty()
            && let Some(token) = listening.accepts.pop_front()
        {
            let process = listening.process;
            if let Some(tries) = self.exhausted.get_mut(&process.node) {
                *tries += 1;
                self.complete(process, token, Outcome::Accepted(Err(IoError::Os(NO_DESCRIPTOR))));
                continue;
            }
            let (end, from) = listening.backlog.pop_front().expect("it isn't empty");
            self.complete(process, token, Outcome::Accepted(Ok((Socket(end), from))));
        }
    }

    fn crash(&mut self, number: u32) -> Vec<(LogSink, Log, Buffer)> {
        let Some(node) = self.nodes.get_mut(&number).filter(|node| node.alive) else { return Vec::new() };
        let process = Process { node: number, incarnation: node.incarnation };
        node.alive = false;
        node.incarnation += 1;
        node.fifo.clear();
        node.wake = None;
        // Old wakers wake nobody.
        node.woken = Arc::default();
        let mut appends = std::mem::take(&mut node.appends);
        appends.truncate(self.random.between(0, appends.len() as u64) as usize);
        let sink = node.log_sink.clone();
        self.listeners.retain(|_, listening| listening.process != process);
        let listeners = &self.listeners;
        self.addresses.retain(|_, listener| listeners.contains_key(listener));
        self.watches.retain(|_, watch| watch.process != Some(process));
        self.crash_ends(process);
        let appended = appends.into_iter();
        sink.map(|sink| appended.map(|(_, log, buffer)| (Rc::clone(&sink), log, buffer)).collect()).unwrap_or_default()
    }
}

fn ip_of(node: u32) -> IpAddr {
    let [_, b, c, d] = node.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, b, c, d))
}

/// What an address means on a node.
fn real_address(node: u32, address: SocketAddr) -> SocketAddr {
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        World::address(node, address.port())
    } else {
        address
    }
}

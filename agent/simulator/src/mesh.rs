//! A mesh of simulated nodes: the agents' real code over simulated disks, network, clock and workers. What runs next is
//! picked by the seed.

use crate::coroutine::{Running, Stacks, step};
use crate::session::PlainSessions;
use crate::storage::Storage;
use crate::{Disk, Faults, Random, SimFs, SimIo, SimStateFiles, StateDisk, World};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use syncmesh_core::entry::Row;
use syncmesh_core::guard::Limits;
use syncmesh_core::path::RelativePath;
use syncmesh_core::policy::{Policies, Policy};
use syncmesh_core::retention;
use syncmesh_core::select::Selection;
use syncmesh_core::version::ReplicaId;
use syncmesh_engine::ask::{Named, Resolve};
use syncmesh_engine::conflicts::{self, Choice, Conflict, Resolved};
use syncmesh_engine::epoch::Durability;
use syncmesh_engine::forget::Forgotten;
use syncmesh_engine::guard::Verdict;
use syncmesh_engine::job::{Context, Done, Job};
use syncmesh_engine::node::{Counters, Node, Status};
use syncmesh_engine::registry::{Key, Registry};
use syncmesh_engine::revoked::Revoked;
use syncmesh_engine::settings::{Members, Role, Settings, Tuning};
use syncmesh_engine::start::{Start, VolumeSpec, open_new, start};
use syncmesh_io::{Io, Watcher};

/// Jobs that run at the same time, as real workers do.
const WORKERS: usize = 3;

/// Most connections of a node at a time.
const CONNECTIONS: usize = 16;

/// How far a peer's clock may be ahead.
const MAX_CLOCK_SKEW_MILLIS: u64 = 300_000;

/// Parts of scans that wait at most.
const FINDINGS: usize = 4;

const PORT: u16 = 7400;

/// What a mesh is like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// How many nodes: 2 to 5.
    pub nodes: u32,
    /// Nodes that the others don't have among their peers, and that have no peers: they aren't members yet, or any more.
    pub outside: Vec<u32>,
    /// Nodes that keep the volume; none means all. The others have one of the same name, which is nobody's business.
    pub keepers: Option<Vec<u32>>,
    /// Nodes whose copies are being filled for the first time.
    pub filling: Vec<u32>,
    /// There is another volume `w`, with a disk of its own and nothing that limits it.
    pub another: bool,
    /// Whether nodes may write; those that aren't named may.
    pub roles: BTreeMap<u32, Role>,
    /// The epochs of rights to write that nodes have for as long as they are renewed.
    pub rights: BTreeMap<u32, u64>,
    /// How many bytes of the volume's contents a node sends in a second at most.
    pub send_limit: Option<NonZeroU64>,
    /// The policy for concurrent contents.
    pub policy: Policy,
    /// Patterns that are excluded everywhere.
    pub exclude: Vec<String>,
    /// From how many on deletions wait for approval.
    pub guard: Limits,
    /// The node whose contents win at a first meeting.
    pub seed: Option<u32>,
    /// What version stores keep, and what stays free of disks.
    pub limits: retention::Limits,
    /// How long a version waits for a program that has the old one open, in nanoseconds.
    pub open_wait: u64,
    /// When versions are told and shown.
    pub durability: Durability,
}

impl Default for Shape {
    /// Two nodes that keep both, and every version.
    fn default() -> Self {
        let limits = retention::Limits { keep: 1_000, ..retention::Limits::default() };
        Self {
            nodes: 2,
            outside: Vec::new(),
            keepers: None,
            filling: Vec::new(),
            another: false,
            roles: BTreeMap::new(),
            rights: BTreeMap::new(),
            send_limit: None,
            policy: Policy::KeepBoth,
            exclude: Vec::new(),
            guard: Limits::default(),
            seed: None,
            limits,
            open_wait: 10_000_000_000,
            durability: Durability::Epoch,
        }
    }
}

/// A simulated machine with its disks; its agent may run or not.
pub struct Machine {
    /// Its number, from 1.
    pub id: u32,
    /// The node that it is: its number, unless it is a copy of another machine.
    node: u32,
    /// The machine whose random numbers its agent draws at a start: its own, unless it was copied while that ran.
    lineage: u32,
    /// How far its wall clock is ahead, in nanoseconds.
    skew: i64,
    /// The volume's disk.
    pub disk: Disk,
    /// The disk of another volume `w`, and where its events come from, where there is one.
    pub other: Option<(Disk, Watcher)>,
    state: StateDisk,
    storage: Storage,
    starts: u32,
    boots: u32,
    watcher: Watcher,
    /// Which calls of its agents fail.
    faults: Faults,
    agent: Option<Agent>,
}

struct Agent {
    node: Node<SimIo>,
    context: Arc<Context>,
    queue: VecDeque<Job>,
    running: Vec<Running>,
    outcomes: Rc<RefCell<VecDeque<Done>>>,
    findings: Rc<RefCell<VecDeque<Done>>>,
}

/// All that a machine keeps, at some time.
pub struct Image {
    disk: Disk,
    state: StateDisk,
    storage: Storage,
}

/// A mesh.
pub struct Mesh {
    /// What the order of steps came from.
    pub seed: u64,
    /// The network and its clock.
    pub world: World,
    /// What decides.
    pub random: Random,
    /// The machines, by number less one.
    pub machines: Vec<Machine>,
    /// Everything that happened, as a hash: equal for equal seeds (I16).
    pub trace: u64,
    /// Print every step.
    pub print: bool,
    /// Steps so far.
    pub steps: u64,
    /// What it is like; a change counts for agents that start from then on, members and settings for those that are told, too.
    pub shape: Shape,
    clock: Arc<AtomicU64>,
    stacks: Stacks,
    watchers: u32,
    /// Since when each node's certificate holds.
    pub(crate) certified: BTreeMap<u32, Rc<Cell<u64>>>,
    /// The last revocation list.
    pub(crate) revoked: Option<Revoked>,
}

/// A node's name.
pub fn name(id: u32) -> String {
    format!("n{id}")
}

/// Whom a node has among its peers, and where it calls them.
fn peers(shape: &Shape, node: u32) -> Vec<(String, Option<String>)> {
    let is_member = |id: &u32| !shape.outside.contains(id);
    let peers = (1..=shape.nodes).filter(|peer| *peer != node && is_member(peer) && is_member(&node));
    peers.map(|peer| (name(peer), Some(World::address(peer, PORT).to_string()))).collect()
}

fn settings(shape: &Shape, node: u32) -> Settings {
    Settings {
        settle: 50_000_000,
        open_wait: shape.open_wait,
        limits: shape.limits,
        guard: shape.guard,
        paused: false,
        filling: shape.filling.contains(&node),
        send_limit: shape.send_limit,
        role: shape.roles.get(&node).copied().unwrap_or(Role::Writer),
        right: shape.rights.get(&node).copied(),
    }
}

/// Which of its peers a node exchanges the volume with.
fn members(shape: &Shape) -> Members {
    match &shape.keepers {
        None => Members::All,
        Some(keepers) => Members::Only(keepers.iter().map(|id| name(*id)).collect()),
    }
}

/// The registry's key of a path of the volume.
fn key(path: &[u8]) -> Key {
    let path = RelativePath::new(path).expect("scenarios name paths that can be");
    Key::of(1, &path).expect("scenarios don't name the root")
}

impl Mesh {
    /// Machines with empty disks and running agents.
    pub fn new(seed: u64, shape: Shape) -> Self {
        let mut mesh = Self::asleep(seed, shape);
        for id in 1..=mesh.shape.nodes {
            mesh.start(id);
        }
        mesh
    }

    /// Nodes that run already when their volume comes, to one after another.
    pub fn late(seed: u64, shape: Shape) -> Self {
        let mut mesh = Self::asleep(seed, shape);
        let mut waiting: Vec<u32> = (1..=mesh.shape.nodes).collect();
        waiting.iter().for_each(|id| mesh.start_without(*id));
        while !waiting.is_empty() {
            let steps = mesh.random.between(0, 400);
            mesh.take_steps(steps);
            let next = mesh.random.between(0, waiting.len() as u64 - 1) as usize;
            mesh.open(waiting.swap_remove(next));
        }
        mesh
    }

    /// Machines with empty disks, on which no agent runs yet.
    pub fn asleep(seed: u64, shape: Shape) -> Self {
        let world = World::new(seed, crate::Settings::default());
        let clock = Arc::new(AtomicU64::new(0));
        let machines = (1..=shape.nodes).map(|id| Machine {
            id,
            node: id,
            lineage: id,
            skew: 0,
            disk: Disk::new(u64::from(id), clock.clone()),
            other: None,
            state: StateDisk::new(),
            storage: Storage::default(),
            starts: 0,
            boots: 1,
            watcher: Watcher(0),
            faults: Faults::none(),
            agent: None,
        });
        let mut mesh = Self {
            seed,
            machines: machines.collect(),
            world,
            random: Random::new(seed ^ 0x5eed),
            trace: seed,
            print: false,
            steps: 0,
            shape,
            clock,
            stacks: Stacks::default(),
            watchers: 0,
            certified: BTreeMap::new(),
            revoked: None,
        };
        mesh.tick();
        mesh
    }

    /// Notes that something happened.
    pub fn note(&mut self, what: &str) {
        if self.print {
            println!("{:>12.6} {what}", (self.world.now() as f64) / 1e9);
        }
        for byte in what.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.trace = (self.trace ^ self.world.now()).wrapping_mul(0x0100_0000_01b3);
    }

    /// The disks' clocks follow the world's, and no two steps show the same time.
    fn tick(&mut self) {
        self.steps += 1;
        self.set_disk_clocks();
    }

    fn set_disk_clocks(&mut self) {
        // What `SimIo::wall` shows when the world begins, a second after its clock did.
        const START: u64 = 1_767_225_599_000_000_000;
        let now = START + self.world.now() + 1_000;
        self.clock.fetch_max(now, Ordering::Relaxed);
        self.clock.fetch_add(1_000, Ordering::Relaxed);
    }

    fn machine(&mut self, id: u32) -> &mut Machine {
        &mut self.machines[id as usize - 1]
    }

    /// Is the node's agent running?
    pub fn runs(&self, id: u32) -> bool {
        self.machines[id as usize - 1].agent.is_some()
    }

    /// Starts a node's agent.
    pub fn start(&mut self, id: u32) {
        self.note(&format!("n{id} starts"));
        let volumes = [Some(self.volume(id)), self.other_volume(id)];
        self.start_with(id, volumes.into_iter().flatten().collect());
    }

    /// Starts a node's agent whose configuration doesn't name its volume yet.
    pub fn start_without(&mut self, id: u32) {
        self.note(&format!("n{id} starts without its volume"));
        self.start_with(id, Vec::new());
    }

    /// The volume comes to an agent that runs without it.
    pub fn open(&mut self, id: u32) {
        self.note(&format!("n{id}'s volume comes"));
        let (spec, name) = (self.volume(id), name(self.machine(id).node));
        let agent = self.machine(id).agent.as_mut().expect("only a running agent can open a volume");
        let (number, now) = (agent.node.free_number(), agent.node.io().wall() / 1_000_000);
        let volume =
            open_new(&agent.context, &spec, &name, number, u64::from(id), now).expect("a simulated disk can be opened");
        agent.node.admit(volume);
        self.turn(id);
    }

    /// A node's volume as its configuration has it, watched by nobody yet.
    fn volume(&mut self, id: u32) -> VolumeSpec {
        self.watchers += 1;
        let watcher = Watcher(self.watchers);
        let shape = self.shape.clone();
        let machine = self.machine(id);
        machine.watcher = watcher;
        let fs = Arc::new(SimFs::new(machine.disk.clone(), watcher, machine.faults.clone(), Arc::new(step)));
        VolumeSpec {
            name: "v".into(),
            path: "/v".into(),
            fs,
            selection: Selection::new(&shape.exclude).expect("the scenario's patterns are valid"),
            policies: Policies::new(shape.policy, &[]).expect("no rules, nothing to refuse"),
            settings: settings(&shape, machine.node),
            members: members(&shape),
            renews: false,
            durability: shape.durability,
            seed: shape.seed.map(name),
        }
    }

    /// The second volume, where the shape has one.
    fn other_volume(&mut self, id: u32) -> Option<VolumeSpec> {
        if !self.shape.another {
            return None;
        }
        self.watchers += 1;
        let (watcher, clock) = (Watcher(self.watchers), self.clock.clone());
        let machine = self.machine(id);
        let disk = machine.other.take().map(|(disk, _)| disk);
        let disk = disk.unwrap_or_else(|| Disk::new(u64::from(id) + 1_000, clock));
        let fs = Arc::new(SimFs::new(disk.clone(), watcher, Faults::none(), Arc::new(step)));
        machine.other = Some((disk, watcher));
        Some(VolumeSpec {
            name: "w".into(),
            path: "/w".into(),
            fs,
            selection: Selection::new(&[]).expect("no patterns, nothing to refuse"),
            policies: Policies::new(self.shape.policy, &[]).expect("no rules, nothing to refuse"),
            settings: settings(&Shape::default(), self.machine(id).node),
            members: Members::All,
            renews: false,
            durability: Durability::Epoch,
            seed: None,
        })
    }

    fn start_with(&mut self, id: u32, volumes: Vec<VolumeSpec>) {
        let (node, skew) = (self.machine(id).node, self.machine(id).skew);
        let mut io = SimIo::new(self.world.clone(), id, skew);
        let shape = self.shape.clone();
        let world_now = io.wall();
        let machine = self.machine(id);
        machine.starts += 1;
        let state = Arc::new(SimStateFiles::new(machine.state.clone(), Faults::none(), Arc::new(step)));
        let setup = Start {
            node: name(node),
            peers: peers(&shape, node),
            volumes,
            state,
            connections: CONNECTIONS,
            max_clock_skew_millis: MAX_CLOCK_SKEW_MILLIS,
            now_millis: world_now / 1_000_000,
            boot: format!("boot {}", machine.boots),
            replica: ReplicaId(u64::from(machine.lineage) << 32 | u64::from(machine.starts)),
            random: u64::from(id),
        };
        let storage = machine.storage.clone();
        let log = machine.state.clone();
        let (context, setup) = start(storage, setup).expect("a simulated start has no reason to fail");
        context.registry.before_each_read(|| step("read rows"));
        let sink = move |to, bytes: &[u8]| log.append_from_io(to, bytes).expect("the journal is open");
        self.world.set_log_sink(id, Rc::new(sink));
        let valid_from = self.certified.entry(node).or_default().clone();
        let sessions = Box::new(PlainSessions { node: name(node), valid_from });
        let listener = io.listen(World::address(id, PORT)).expect("the simulated port is free");
        let node = Node::new(io, sessions, setup, listener);
        self.machine(id).agent = Some(Agent {
            node,
            context,
            queue: VecDeque::new(),
            running: Vec::new(),
            outcomes: Rc::default(),
            findings: Rc::default(),
        });
        self.turn(id);
    }

    /// The loop of a running node, for what no method here is for.
    pub(crate) fn node(&mut self, id: u32) -> Option<&mut Node<SimIo>> {
        self.machine(id).agent.as_mut().map(|agent| &mut agent.node)
    }

    /// Kills a node's agent: what its calls have done stays, what it was about to do doesn't happen.
    pub fn kill(&mut self, id: u32) {
        self.note(&format!("n{id} is killed"));
        self.world.crash(id);
        let machine = self.machine(id);
        let storage = machine.storage.copy();
        // Unwinds the jobs' stacks, then closes the registry in order, which a killed process wouldn't: hence the copy.
        machine.agent = None;
        machine.storage = storage;
    }

    /// Does a node remember that a sync has failed?
    pub fn has_noted_a_failed_sync(&self, id: u32) -> bool {
        self.machines[id as usize - 1].state.has("unsynced-")
    }

    /// Sets a machine's wall clock ahead of the world's, or behind it.
    pub fn set_clock(&mut self, id: u32, ahead: i64) {
        self.note(&format!("the clock of n{id} is set {ahead} ns ahead"));
        self.machine(id).skew = ahead;
        self.world.set_clock_skew(id, ahead);
    }

    /// A node can't accept connections for want of descriptors.
    pub fn exhaust(&mut self, id: u32) {
        self.note(&format!("n{id} has no descriptor left"));
        self.world.exhaust(id);
    }

    /// It can again. Says how often it has tried meanwhile.
    pub fn relieve(&mut self, id: u32) -> u64 {
        self.note(&format!("n{id} has descriptors again"));
        self.world.relieve(id)
    }

    /// Which calls of a node's agents fail: none, until somebody orders it.
    pub fn faults(&self, id: u32) -> Faults {
        self.machines[id as usize - 1].faults.clone()
    }

    /// How many events wait for a running node's agent before the others become one that says that they are lost.
    pub fn limit_events(&mut self, id: u32, events: usize) {
        let machine = self.machine(id);
        machine.disk.limit_events(machine.watcher, events);
    }

    /// Copies all that a machine keeps, while its agent doesn't run.
    pub fn image(&mut self, id: u32) -> Image {
        let machine = self.machine(id);
        assert!(machine.agent.is_none(), "an image of a running machine isn't whole");
        Image { disk: machine.disk.copy(), state: machine.state.copy(), storage: machine.storage.copy() }
    }

    /// Sets a machine, whose agent doesn't run, back to an image: disk, state directory and registry together.
    pub fn restore(&mut self, id: u32, image: &Image) {
        self.note(&format!("n{id} is set back to an image"));
        let machine = self.machine(id);
        assert!(machine.agent.is_none(), "a machine is set back while it is off");
        (machine.disk, machine.state, machine.storage) = (image.disk.copy(), image.state.copy(), image.storage.copy());
    }

    /// Another machine that is a copy of a node's: the same name and identity. Its number, under which it can be started.
    pub fn clone_of(&mut self, node: u32, image: &Image) -> u32 {
        let id = self.machines.len() as u32 + 1;
        self.note(&format!("n{id} is a copy of n{node}"));
        let boots = self.machine(node).boots;
        let Image { disk, state, storage } = image;
        self.machines.push(Machine {
            id,
            node,
            lineage: id,
            skew: 0,
            disk: disk.copy(),
            other: None,
            state: state.copy(),
            storage: storage.copy(),
            starts: 0,
            boots,
            watcher: Watcher(0),
            faults: Faults::none(),
            agent: None,
        });
        id
    }

    /// The same, of a machine that was copied while its agent ran: started next, both go on under one number.
    pub fn running_clone_of(&mut self, node: u32, image: &Image) -> u32 {
        let id = self.clone_of(node, image);
        let starts = self.machine(node).starts;
        let copy = self.machine(id);
        (copy.lineage, copy.starts) = (node, starts);
        id
    }

    /// Takes the state directory of a node whose agent doesn't run: its registry is rebuilt at the next start.
    pub fn lose_state(&mut self, id: u32) {
        self.note(&format!("n{id} loses its state directory"));
        let machine = self.machine(id);
        assert!(machine.agent.is_none(), "an agent that runs has its files open");
        machine.state = StateDisk::new();
        machine.storage = Storage::default();
    }

    /// Power fails on a node's machine: of what wasn't synced anything may be gone. Its agent must be started again.
    pub fn lose_power(&mut self, id: u32) {
        self.note(&format!("n{id} loses power"));
        self.world.crash(id);
        let mut random = Random::new(self.random.bits());
        let machine = self.machine(id);
        let storage = machine.storage.after_power_loss(&mut random);
        machine.agent = None;
        machine.storage = storage;
        machine.state.lose_power(&mut random);
        machine.disk.lose_power(&mut random);
        machine.boots += 1;
    }

    /// The next sync of a node's file system that has something to write fails, and loses some of it.
    pub fn fail_sync(&mut self, id: u32) {
        self.note(&format!("the disk of n{id} is about to fail a sync"));
        let random = Random::new(self.random.bits());
        self.machine(id).disk.fail_sync(Some(random));
    }

    /// Does one thing that is ready to be done; lets time pass until there is. False if nothing will ever happen.
    pub fn step(&mut self) -> bool {
        self.tick();
        for machine in &self.machines {
            let other = machine.other.iter().map(|(disk, watcher)| (disk, *watcher));
            for (disk, watcher) in std::iter::once((&machine.disk, machine.watcher)).chain(other) {
                let events = disk.take_events(watcher);
                if !events.is_empty() && machine.agent.is_some() {
                    self.world.push_watch(watcher, events);
                }
            }
        }
        let mut ready: Vec<(u32, Option<usize>)> = Vec::new();
        for machine in &self.machines {
            let Some(agent) = &machine.agent else { continue };
            if self.world.node_has_completions(machine.id) || agent.has_outcome() {
                ready.push((machine.id, None));
            }
            let blocked = agent.findings.borrow().len() >= FINDINGS;
            if !blocked {
                ready.extend((0..agent.running.len()).map(|job| (machine.id, Some(job))));
            }
        }
        // Now and then time passes although something is ready: jobs are slow, too.
        if ready.is_empty() || self.random.once_in(64) {
            let Some(next) = self.world.next_event_time() else { return !ready.is_empty() };
            let slow = self.world.now() + self.random.between(0, 5_000_000);
            self.world.advance_to(if ready.is_empty() { next } else { next.min(slow) });
            // Whoever writes before the next step writes now.
            self.set_disk_clocks();
            return true;
        }
        let pick = self.random.between(0, ready.len() as u64 - 1) as usize;
        let (id, job) = ready[pick];
        match job {
            Some(job) => self.resume(id, job),
            None => self.turn(id),
        }
        true
    }

    pub(crate) fn turn(&mut self, id: u32) {
        let Some(agent) = &mut self.machines[id as usize - 1].agent else { return };
        loop {
            let outcome = agent.outcomes.borrow_mut().pop_front();
            let outcome = outcome.or_else(|| {
                let room = agent.node.has_room();
                if room { agent.findings.borrow_mut().pop_front() } else { None }
            });
            let Some(outcome) = outcome else { break };
            agent.node.finish(outcome);
        }
        agent.node.turn();
        agent.queue.extend(agent.node.take_jobs());
        if let Some(why) = agent.node.broken() {
            panic!("n{id} can't go on: {why}");
        }
        self.begin_jobs(id);
        self.note(&format!("n{id} turns"));
    }

    fn begin_jobs(&mut self, id: u32) {
        let Some(agent) = &mut self.machines[id as usize - 1].agent else { return };
        while agent.running.len() < WORKERS
            && let Some(job) = agent.queue.pop_front()
        {
            let context = agent.context.clone();
            let (outcomes, findings) = (agent.outcomes.clone(), agent.findings.clone());
            let work = move || {
                job.run(&context, &mut |done| {
                    let queue = if matches!(done, Done::Findings(_)) { &findings } else { &outcomes };
                    queue.borrow_mut().push_back(done);
                    step("emit");
                });
            };
            agent.running.push(Running::new(&mut self.stacks, work));
        }
    }

    fn resume(&mut self, id: u32, job: usize) {
        let Some(agent) = &mut self.machines[id as usize - 1].agent else { return };
        let running = agent.running.swap_remove(job);
        let call = match running.resume(&mut self.stacks) {
            Some((running, call)) => {
                agent.running.push(running);
                call
            }
            None => "done",
        };
        self.note(&format!("n{id} {call}"));
        self.begin_jobs(id);
    }

    /// What a running node says of itself.
    pub fn status(&mut self, id: u32) -> Option<Status> {
        self.machine(id).agent.as_mut().map(|agent| agent.node.status())
    }

    /// Somebody's word about what a running node holds.
    pub fn decide_holds(&mut self, id: u32, verdict: Verdict) -> Result<u64, String> {
        let agent = self.machine(id).agent.as_mut().expect("only a running agent can be told");
        agent.node.decide_holds(None, verdict)
    }

    /// The conflicts that a running node knows.
    pub fn conflicts(&self, id: u32) -> Vec<Conflict> {
        let agent = self.machines[id as usize - 1].agent.as_ref().expect("only a running agent can be asked");
        let found = conflicts::list(&agent.context, &[(1, "v".into())], &agent.node.replicas());
        found.expect("a simulated registry can be read").pop().map(|volume| volume.paths).unwrap_or_default()
    }

    /// Somebody's word about a conflict, on a running node.
    pub fn resolve(&mut self, id: u32, path: &str, choice: Choice) -> Result<Resolved, String> {
        self.note(&format!("user of n{id} decides {path}: {choice:?}"));
        let agent = self.machine(id).agent.as_mut().expect("only a running agent can be told");
        let path = Named { volume: Some("v".into()), typed: path.into(), absolute: String::new() };
        let resolved = agent.node.resolve(&Resolve { path, choice, contents: None });
        self.turn(id);
        resolved
    }

    /// Somebody orders a running node to forget another that is no member any more. What it said, or why it refused.
    pub fn forget(&mut self, id: u32, node: u32) -> Result<Forgotten, String> {
        self.note(&format!("user of n{id} has n{node} forgotten"));
        let (reply, answer) = crossbeam_channel::bounded(1);
        let agent = self.machine(id).agent.as_mut().expect("only a running agent can be told");
        agent.node.forget(name(node), reply);
        self.turn(id);
        loop {
            match answer.try_recv() {
                Ok(said) => return said,
                Err(_) => assert!(self.step(), "the order is carried out by a job"),
            }
        }
    }

    /// How many replicas a running node knows, itself included.
    pub fn replicas(&self, id: u32) -> usize {
        self.machines[id as usize - 1].agent.as_ref().map_or(0, |agent| agent.node.replicas().len())
    }

    /// A running node is told the members and settings of the shape, which has changed.
    pub fn configure(&mut self, id: u32) {
        let (shape, node) = (self.shape.clone(), self.machine(id).node);
        let agent = self.machine(id).agent.as_mut().expect("only a running agent can be told");
        agent.node.configure(Tuning {
            peers: peers(&shape, node),
            connections: CONNECTIONS,
            max_clock_skew_millis: MAX_CLOCK_SKEW_MILLIS,
            volumes: [("v".to_owned(), (settings(&shape, node), members(&shape)))].into(),
        });
    }

    /// A running node is told that it has the right with this epoch for some nanoseconds more.
    pub fn renew_right(&mut self, id: u32, epoch: u64, nanoseconds: u64) {
        let until = self.world.now() + nanoseconds;
        let agent = self.machine(id).agent.as_mut().expect("only a running agent can be told");
        agent.node.renew_rights([("v".to_owned(), (epoch, until))].into());
    }

    /// Somebody orders a running node's volume to pause, or to go on.
    pub fn pause(&mut self, id: u32, paused: bool) {
        let agent = self.machine(id).agent.as_mut().expect("only a running agent can be told");
        let done = if paused { agent.node.pause(None) } else { agent.node.resume(None) };
        done.expect("the volume is there, and not paused by its configuration");
    }

    /// Somebody orders a running node to look at everything again.
    pub fn rescan(&mut self, id: u32, contents: bool) {
        let agent = self.machine(id).agent.as_mut().expect("only a running agent can be told");
        agent.node.rescan(None, contents).expect("the volume is there");
    }

    /// Rows of a running node that want something.
    pub fn wanted(&self, id: u32) -> Vec<(Key, Row)> {
        let agent = self.machines[id as usize - 1].agent.as_ref();
        agent.and_then(|agent| agent.context.registry.wanted(1, None, 20).ok()).unwrap_or_default()
    }

    /// All rows of a running node.
    pub fn rows(&self, id: u32) -> Vec<(Key, Row)> {
        let agent = self.machines[id as usize - 1].agent.as_ref();
        agent.and_then(|agent| agent.context.registry.between(1, None, None, usize::MAX).ok()).unwrap_or_default()
    }

    /// What a running node's registry keeps of a path.
    pub fn row(&self, id: u32, path: &[u8]) -> Option<Row> {
        let agent = self.machines[id as usize - 1].agent.as_ref()?;
        agent.context.registry.get(&key(path)).ok().flatten()
    }

    /// Puts a row into the registry of a node that doesn't run, as a bug or a broken disk would: nothing else hears of it.
    pub fn damage(&mut self, id: u32, path: &[u8], row: Row) {
        self.note(&format!("n{id} forgets what it knew of {}", String::from_utf8_lossy(path)));
        let machine = self.machine(id);
        assert!(machine.agent.is_none(), "its agent would go on with what it has in memory");
        let (registry, stored) = Registry::open(machine.storage.clone()).expect("it was closed in order");
        registry.put(key(path), row);
        registry.close_epoch();
        registry.commit(&stored, &BTreeSet::new()).expect("a simulated disk has no reason to fail");
    }

    /// What a running node has counted.
    pub fn counters(&self, id: u32) -> Option<Counters> {
        self.machines[id as usize - 1].agent.as_ref().map(|agent| agent.node.counters())
    }

    /// Versions that a running node made since its start, and frames that it sent.
    pub fn activity(&mut self, id: u32) -> Option<(u64, u64)> {
        self.machine(id).agent.as_ref().map(|agent| {
            let counters = agent.node.counters();
            (counters.versions_made, counters.frames_sent)
        })
    }

    /// Runs until so much simulated time has passed.
    pub fn run_for(&mut self, nanos: u64) {
        let end = self.world.now() + nanos;
        while self.world.now() < end && self.step() {}
        // What a user does next is done now.
        self.tick();
    }

    /// Runs until all nodes say that they are in sync, at most for so much simulated time. What keeps them, if they don't.
    pub fn run_until_in_sync(&mut self, nanos: u64) -> Result<(), String> {
        let all: Vec<u32> = (1..=self.shape.nodes).collect();
        self.run_until_these_are_in_sync(&all, nanos)
    }

    /// The same for some machines.
    pub fn run_until_these_are_in_sync(&mut self, ids: &[u32], nanos: u64) -> Result<(), String> {
        let end = self.world.now() + nanos;
        let mut calm = 0;
        while calm < 3 {
            if self.world.now() > end {
                let mut why = String::new();
                for &id in ids {
                    if let Some(status) = self.status(id) {
                        why.push_str(&format!("\n  {}: {:?}\n    {:?}", status.node, status.volumes, status.peers));
                    }
                    for (key, row) in self.wanted(id) {
                        why.push_str(&format!("\n    wants {}: {row:?}", key.path()));
                    }
                }
                return Err(why);
            }
            let before = self.world.now();
            self.run_for(300_000_000);
            if self.world.now() == before {
                return Err("nothing happens any more".into());
            }
            let all = ids.iter().all(|id| self.status(*id).is_some_and(|s| s.volumes.iter().all(|v| v.in_sync)));
            calm = if all { calm + 1 } else { 0 };
        }
        Ok(())
    }
}

impl Agent {
    fn has_outcome(&self) -> bool {
        !self.outcomes.borrow().is_empty() || (self.node.has_room() && !self.findings.borrow().is_empty())
    }
}

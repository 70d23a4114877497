//! The suite of every `Io`, on the simulated one, with several seeds; and what the world does to it.
#![allow(missing_docs)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use syncmesh_io::suite::{self, World as SuiteWorld};
use syncmesh_io::{Io, IoError, Listener, Log, Operation, Outcome, Socket, Token, WatchEvent, WatchKind, Watcher};
use syncmesh_simulator::{Cut, Settings, SimIo, World};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

type Logs = Rc<RefCell<BTreeMap<u32, Vec<u8>>>>;

struct Simulated {
    world: World,
    nodes: u32,
    logs: Logs,
}

impl Simulated {
    fn new(seed: u64) -> Self {
        Self { world: World::new(seed, Settings::default()), nodes: 0, logs: Logs::default() }
    }

    fn event(&self, name: &str, kind: WatchKind) -> WatchEvent {
        WatchEvent { directory: 1, kind, name: name.as_bytes().to_vec(), is_directory: false }
    }
}

fn log_sink(world: &World, node: u32, logs: &Logs) {
    let logs = Rc::clone(logs);
    world.set_log_sink(
        node,
        Rc::new(move |log, bytes| logs.borrow_mut().entry(log.0).or_default().extend_from_slice(bytes)),
    );
}

impl SuiteWorld for Simulated {
    type Backend = SimIo;

    fn backend(&mut self) -> SimIo {
        let node = self.nodes;
        self.nodes += 1;
        log_sink(&self.world, node, &self.logs);
        let mut io = SimIo::new(self.world.clone(), node, 0);
        io.auto_advance = true;
        io
    }

    fn refusing_address(&mut self) -> SocketAddr {
        World::address(0, 1)
    }

    fn log(&mut self) -> Log {
        let mut logs = self.logs.borrow_mut();
        let number = logs.len() as u32;
        logs.insert(number, Vec::new());
        Log(number)
    }

    fn logged(&mut self, log: Log) -> Vec<u8> {
        self.logs.borrow()[&log.0].clone()
    }

    fn watcher(&mut self) -> Watcher {
        Watcher(1)
    }

    fn write_file(&mut self, name: &str) {
        let events = [WatchKind::Created, WatchKind::Modified, WatchKind::Closed].map(|kind| self.event(name, kind));
        self.world.push_watch(Watcher(1), events.to_vec());
    }

    fn remove_file(&mut self, name: &str) {
        self.world.push_watch(Watcher(1), vec![self.event(name, WatchKind::Moved)]);
    }
}

fn with_seeds(case: fn(Simulated)) {
    for seed in 0..20 {
        case(Simulated::new(seed));
    }
}

#[test]
fn timers_elapse_in_order_and_never_early() {
    with_seeds(suite::timers_elapse_in_order_and_never_early);
}

#[test]
fn waiting_ends_at_its_limit() {
    with_seeds(suite::waiting_ends_at_its_limit);
}

#[test]
fn what_is_sent_is_received() {
    with_seeds(suite::what_is_sent_is_received);
}

#[test]
fn one_socket_keeps_its_order() {
    with_seeds(suite::one_socket_keeps_its_order);
}

#[test]
fn what_is_left_is_received_later() {
    with_seeds(suite::what_is_left_is_received_later);
}

#[test]
fn both_directions_go_on_at_once() {
    with_seeds(suite::both_directions_go_on_at_once);
}

#[test]
fn connections_wait_to_be_accepted() {
    with_seeds(suite::connections_wait_to_be_accepted);
}

#[test]
fn later_connections_are_their_own() {
    with_seeds(suite::later_connections_are_their_own);
}

#[test]
fn more_operations_than_the_ring_holds() {
    with_seeds(suite::more_operations_than_the_ring_holds);
}

#[test]
fn nobody_listening_refuses() {
    with_seeds(suite::nobody_listening_refuses);
}

#[test]
fn closing_gives_buffers_back() {
    with_seeds(suite::closing_gives_buffers_back);
}

#[test]
fn closing_ends_a_send_that_is_held_back() {
    suite::closing_ends_a_send_that_is_held_back(Simulated::new(1));
}

#[test]
fn a_closed_peer_reads_as_zero_bytes() {
    with_seeds(suite::a_closed_peer_reads_as_zero_bytes);
}

#[test]
fn wake_ups_coalesce() {
    with_seeds(suite::wake_ups_coalesce);
}

#[test]
fn appends_keep_their_order() {
    with_seeds(suite::appends_keep_their_order);
}

#[test]
fn watches_report_what_happens() {
    with_seeds(suite::watches_report_what_happens);
}

#[test]
fn random_numbers_differ() {
    with_seeds(suite::random_numbers_differ);
}

/// Two connected nodes whose time the test moves.
struct Pair {
    world: World,
    client: SimIo,
    server: SimIo,
    listener: Listener,
    address: SocketAddr,
    from: Socket,
    to: Socket,
}

fn pair(seed: u64) -> Pair {
    let world = World::new(seed, Settings::default());
    let mut client = SimIo::new(world.clone(), 1, 0);
    let mut server = SimIo::new(world.clone(), 2, 0);
    let (listener, address) = server.listen(World::address(2, 7000)).expect("the port is free");
    server.submit(Token(0), Operation::Accept(listener));
    client.submit(Token(0), Operation::Connect(address));
    pass(&world, SECOND);
    let Some(Outcome::Connected(Ok(from))) = outcome(&mut client) else { panic!("not connected") };
    let Some(Outcome::Accepted(Ok((to, peer)))) = outcome(&mut server) else { panic!("not accepted") };
    assert_eq!(peer.ip(), World::address(1, 0).ip());
    Pair { world, client, server, listener, address, from, to }
}

fn pass(world: &World, nanoseconds: u64) {
    world.advance_to(world.now() + nanoseconds);
}

fn outcome(io: &mut SimIo) -> Option<Outcome> {
    io.completion().map(|completion| completion.outcome)
}

#[test]
fn the_same_seed_gives_the_same_run() {
    fn run(seed: u64) -> Vec<(u64, usize)> {
        let Pair { world, mut client, mut server, from, to, .. } = pair(seed);
        client.submit(Token(1), Operation::Send(from, vec![1; 1 << 20]));
        let mut trace = Vec::new();
        let mut total = 0;
        server.submit(Token(1), Operation::Receive(to, vec![0; 9000]));
        while total < 1 << 20 {
            world.advance_to(world.next_event_time().expect("bytes are on the way"));
            if world.node_has_completions(2) {
                let Some(Outcome::Received(buffer, Ok(bytes))) = outcome(&mut server) else { panic!("not received") };
                trace.push((world.now(), bytes));
                total += bytes;
                server.submit(Token(1), Operation::Receive(to, buffer));
            }
        }
        trace
    }
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn wait_leaves_time_to_the_driver() {
    let Pair { world, mut client, .. } = pair(1);
    let now = world.now();
    client.submit(Token(1), Operation::Timer(now + MILLISECOND));
    client.wait(None);
    assert_eq!((world.now(), world.next_event_time()), (now, Some(now + MILLISECOND)));
    assert!(!world.node_has_completions(1));
    world.advance_to(now + MILLISECOND);
    assert!(world.node_has_completions(1));
}

#[test]
fn a_crash_resets_the_other_side_and_forgets_everything() {
    for seed in 0..20 {
        let Pair { world, mut client, mut server, listener, address, from, to } = pair(seed);
        server.submit(Token(1), Operation::Accept(listener));
        server.submit(Token(2), Operation::Receive(to, vec![0; 10]));
        client.submit(Token(3), Operation::Receive(from, vec![0; 10]));
        world.crash(2);
        pass(&world, SECOND);
        assert!(
            matches!(outcome(&mut client), Some(Outcome::Received(buffer, Err(IoError::Closed))) if buffer.len() == 10)
        );
        assert!(outcome(&mut server).is_none());

        client.submit(Token(4), Operation::Connect(address));
        pass(&world, SECOND);
        assert!(matches!(outcome(&mut client), Some(Outcome::Connected(Err(IoError::Os(111))))));

        let mut restarted = SimIo::new(world.clone(), 2, 0);
        let (listener, _) = restarted.listen(address).expect("the port is free again");
        restarted.submit(Token(1), Operation::Accept(listener));
        client.submit(Token(5), Operation::Connect(address));
        pass(&world, SECOND);
        assert!(matches!(outcome(&mut client), Some(Outcome::Connected(Ok(_)))));
        assert!(matches!(outcome(&mut restarted), Some(Outcome::Accepted(Ok(_)))));
    }
}

#[test]
fn a_crash_leaves_a_prefix_of_the_appends() {
    let mut kept = Vec::new();
    for seed in 0..40 {
        let world = World::new(seed, Settings::default());
        let logs = Logs::default();
        log_sink(&world, 1, &logs);
        let mut io = SimIo::new(world.clone(), 1, 0);
        for byte in 0..4 {
            io.submit(Token(u64::from(byte)), Operation::Append(Log(0), vec![byte]));
        }
        world.crash(1);
        pass(&world, SECOND);
        let bytes = logs.borrow().get(&0).cloned().unwrap_or_default();
        assert_eq!(bytes, [0, 1, 2, 3][..bytes.len()]);
        kept.push(bytes.len());
    }
    assert!(kept.contains(&0) && kept.contains(&4));
}

#[test]
fn a_reset_closes_both_ends_and_new_connections_work() {
    let Pair { world, mut client, mut server, listener, address, from, to } = pair(3);
    client.submit(Token(1), Operation::Receive(from, vec![0; 10]));
    server.submit(Token(1), Operation::Receive(to, vec![0; 10]));
    world.cut(1, 2, Cut::Reset);
    assert!(matches!(outcome(&mut client), Some(Outcome::Received(_, Err(IoError::Closed)))));
    assert!(matches!(outcome(&mut server), Some(Outcome::Received(_, Err(IoError::Closed)))));
    server.submit(Token(2), Operation::Accept(listener));
    client.submit(Token(2), Operation::Connect(address));
    pass(&world, SECOND);
    assert!(matches!(outcome(&mut client), Some(Outcome::Connected(Ok(_)))));
}

#[test]
fn a_silent_cut_holds_bytes_up_until_it_is_healed() {
    for how in [Cut::Silent, Cut::SilentOneWay] {
        let Pair { world, mut client, mut server, address, from, to, .. } = pair(4);
        world.cut(1, 2, how);
        server.submit(Token(1), Operation::Receive(to, vec![0; 10]));
        client.submit(Token(1), Operation::Send(from, vec![9; 10]));
        client.submit(Token(2), Operation::Connect(address));
        pass(&world, 20 * SECOND);
        assert!(matches!(outcome(&mut client), Some(Outcome::Sent(_, Ok(())))), "the system has room for it");
        assert!(outcome(&mut client).is_none(), "connecting hangs");
        assert!(outcome(&mut server).is_none());
        if how == Cut::SilentOneWay {
            server.submit(Token(2), Operation::Send(to, vec![8; 3]));
            client.submit(Token(3), Operation::Receive(from, vec![0; 3]));
            pass(&world, SECOND);
            assert!(matches!(outcome(&mut client), Some(Outcome::Received(_, Ok(_)))), "the other way is open");
            assert!(matches!(outcome(&mut server), Some(Outcome::Sent(..))));
        }
        world.heal(1, 2);
        pass(&world, 100 * SECOND);
        assert!(matches!(outcome(&mut server), Some(Outcome::Received(_, Ok(_)))));
        assert!(matches!(outcome(&mut client), Some(Outcome::Connected(Ok(_)))));
    }
}

#[test]
fn senders_give_up_on_a_silence_that_lasts() {
    let Pair { world, mut client, from, address, .. } = pair(5);
    world.cut(1, 2, Cut::Silent);
    client.submit(Token(1), Operation::Send(from, vec![9; 10]));
    client.submit(Token(2), Operation::Receive(from, vec![9; 10]));
    client.submit(Token(3), Operation::Connect(address));
    pass(&world, 1000 * SECOND);
    assert!(matches!(outcome(&mut client), Some(Outcome::Sent(_, Ok(())))));
    assert!(matches!(outcome(&mut client), Some(Outcome::Connected(Err(IoError::Os(110))))));
    assert!(matches!(outcome(&mut client), Some(Outcome::Received(_, Err(IoError::Closed)))));
}

#[test]
fn clocks_are_skewed_on_the_wall_only() {
    let world = World::new(6, Settings::default());
    let straight = SimIo::new(world.clone(), 1, 0);
    let skewed = SimIo::new(world.clone(), 2, -5);
    assert_eq!(straight.now(), skewed.now());
    assert_eq!(straight.wall() - 5, skewed.wall());
    world.set_clock_skew(2, 7);
    assert_eq!(straight.wall() + 7, skewed.wall());
}

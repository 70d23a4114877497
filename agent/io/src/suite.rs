//! The tests that every [`Io`] passes, real or simulated. A backend's own test file makes a [`World`] and calls each
//! case. Cases wait for conditions, never for time.

use crate::{
    Buffer, Completion, Io, IoError, Listener, Log, Operation, Outcome, Socket, Token, WatchEvent, WatchKind, Watcher,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How often [`Ends::outcome`] looks before it gives up: with a millisecond each, a minute.
const LOOKS: u32 = 60_000;
const ONE_LOOK: Duration = Duration::from_millis(1);
/// ECONNREFUSED on Linux.
const REFUSED: i32 = 111;

/// Where a backend is tested: makes backends that reach each other, and acts on them from outside.
pub trait World {
    /// The backend.
    type Backend: Io;

    /// Makes another backend.
    fn backend(&mut self) -> Self::Backend;

    /// An address that refuses connections.
    fn refusing_address(&mut self) -> SocketAddr;

    /// A new, empty log.
    fn log(&mut self) -> Log;

    /// What a log holds.
    fn logged(&mut self, log: Log) -> Vec<u8>;

    /// Watches a new, empty directory.
    fn watcher(&mut self) -> Watcher;

    /// Makes a file in the directory of [`World::watcher`], writes to it and closes it.
    fn write_file(&mut self, name: &str);

    /// Removes a file from that directory.
    fn remove_file(&mut self, name: &str);
}

/// Backends that are driven in turn, and what they have completed.
struct Ends<I> {
    ios: Vec<I>,
    completed: Vec<Vec<Completion>>,
    last_token: u64,
}

impl<I: Io> Ends<I> {
    fn new<W: World<Backend = I>>(world: &mut W, count: usize) -> Self {
        Self {
            ios: (0..count).map(|_| world.backend()).collect(),
            completed: (0..count).map(|_| Vec::new()).collect(),
            last_token: 0,
        }
    }

    fn submit(&mut self, end: usize, operation: Operation) -> Token {
        self.last_token += 1;
        self.ios[end].submit(Token(self.last_token), operation);
        Token(self.last_token)
    }

    /// Looks at every backend once.
    fn look(&mut self) {
        for (io, completed) in self.ios.iter_mut().zip(&mut self.completed) {
            io.wait(Some(ONE_LOOK));
            completed.extend(std::iter::from_fn(|| io.completion()));
        }
    }

    fn has(&self, end: usize, token: Token) -> bool {
        self.completed[end].iter().any(|completion| completion.token == token)
    }

    /// Waits for the completion of one operation. Others that come meanwhile are kept, in order.
    fn outcome(&mut self, end: usize, token: Token) -> Outcome {
        for _ in 0..LOOKS {
            if let Some(position) = self.completed[end].iter().position(|completion| completion.token == token) {
                return self.completed[end].remove(position).outcome;
            }
            self.look();
        }
        panic!("{token:?} of backend {end} hasn't completed")
    }

    fn run(&mut self, end: usize, operation: Operation) -> Outcome {
        let token = self.submit(end, operation);
        self.outcome(end, token)
    }

    fn listen(&mut self, end: usize) -> (Listener, SocketAddr) {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (listener, address) = self.ios[end].listen(any_port).expect("any port of this host can be listened on");
        assert_ne!(address.port(), 0, "the real port is told");
        (listener, address)
    }

    /// Connects backend 0 to backend 1.
    fn connection(&mut self) -> (Socket, Socket) {
        let (listener, address) = self.listen(1);
        let accept = self.submit(1, Operation::Accept(listener));
        let connected = connected(self.run(0, Operation::Connect(address)));
        (connected.expect("the listener is there"), accepted(self.outcome(1, accept)))
    }

    /// Receives exactly this many bytes.
    fn receive_all(&mut self, end: usize, socket: Socket, bytes: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < bytes {
            let (buffer, received) = received(self.run(end, Operation::Receive(socket, vec![0; 64 * 1024])));
            let received = received.expect("the connection holds");
            assert!(received > 0, "the peer hasn't closed, but {} of {bytes} bytes are missing", bytes - all.len());
            all.extend_from_slice(&buffer[..received]);
        }
        all
    }
}

fn connected(outcome: Outcome) -> Result<Socket, IoError> {
    match outcome {
        Outcome::Connected(result) => result,
        other => panic!("expected a connection, got {other:?}"),
    }
}

fn accepted(outcome: Outcome) -> Socket {
    match outcome {
        Outcome::Accepted(Ok((socket, _))) => socket,
        other => panic!("expected an accepted connection, got {other:?}"),
    }
}

fn received(outcome: Outcome) -> (Buffer, Result<usize, IoError>) {
    match outcome {
        Outcome::Received(buffer, result) => (buffer, result),
        other => panic!("expected received bytes, got {other:?}"),
    }
}

fn sent(outcome: Outcome) -> (Buffer, Result<(), IoError>) {
    match outcome {
        Outcome::Sent(buffer, result) => (buffer, result),
        other => panic!("expected a sent buffer, got {other:?}"),
    }
}

/// Bytes that tell where they belong.
fn pattern(length: usize, salt: usize) -> Vec<u8> {
    (0..length).map(|position| (position * 31 + position / 251 + salt * 17) as u8).collect()
}

/// Timers complete by deadline whatever order they came in, equal ones in that order, and none before its time.
pub fn timers_elapse_in_order_and_never_early<W: World>(mut world: W) {
    let mut io = world.backend();
    let start = io.now();
    let deadlines = [3_000_000, 1_000_000, 2_000_000, 0, 1_000_000].map(|after| start + after);
    for (token, deadline) in (0..).zip(deadlines) {
        io.submit(Token(token), Operation::Timer(deadline));
    }
    let mut elapsed = Vec::new();
    while elapsed.len() < deadlines.len() {
        io.wait(None);
        while let Some(completion) = io.completion() {
            assert!(matches!(completion.outcome, Outcome::Elapsed));
            let token = completion.token.0;
            assert!(io.now() >= deadlines[token as usize], "timer {token} is early");
            elapsed.push(token);
        }
    }
    assert_eq!(elapsed, [3, 1, 4, 2, 0]);
}

/// A wait with a limit ends without completions once the limit has passed.
pub fn waiting_ends_at_its_limit<W: World>(mut world: W) {
    let mut io = world.backend();
    let start = io.now();
    io.submit(Token(1), Operation::Timer(start + 3_600_000_000_000));
    io.wait(Some(Duration::from_millis(2)));
    assert!(io.now() >= start + 2_000_000);
    assert!(io.completion().is_none());
    io.wait(Some(Duration::ZERO));
    assert!(io.completion().is_none());
}

/// What goes in at one end comes out at the other, whatever its size, and buffers come back as they were.
pub fn what_is_sent_is_received<W: World>(mut world: W) {
    let mut ends = Ends::new(&mut world, 2);
    let (client, server) = ends.connection();
    for (salt, size) in [1, 2, 100, 4096, 65_536, 65_537, 1 << 20].into_iter().enumerate() {
        let bytes = pattern(size, salt);
        for (from, from_socket, to, to_socket) in [(0, client, 1, server), (1, server, 0, client)] {
            let token = ends.submit(from, Operation::Send(from_socket, bytes.clone()));
            assert!(ends.receive_all(to, to_socket, size) == bytes, "{size} bytes from {from} arrive as they were");
            let (buffer, result) = sent(ends.outcome(from, token));
            assert_eq!(result, Ok(()));
            assert!(buffer == bytes, "the buffer comes back");
        }
    }
}

/// Sends of one socket go out in the order of submission and complete in it; so do receives.
pub fn one_socket_keeps_its_order<W: World>(mut world: W) {
    const SENDS: usize = 40;
    let mut ends = Ends::new(&mut world, 2);
    let (client, server) = ends.connection();
    let receives: Vec<Token> = (0..4).map(|_| ends.submit(1, Operation::Receive(server, vec![0; 100]))).collect();
    let mut expected = Vec::new();
    let tokens: Vec<Token> = (0..SENDS)
        .map(|salt| {
            let bytes = pattern(20_000 + salt, salt);
            expected.extend_from_slice(&bytes);
            ends.submit(0, Operation::Send(client, bytes))
        })
        .collect();
    let mut all = Vec::new();
    for token in receives {
        let (buffer, received) = received(ends.outcome(1, token));
        all.extend_from_slice(&buffer[..received.expect("the connection holds")]);
    }
    let rest = expected.len() - all.len();
    all.extend(ends.receive_all(1, server, rest));
    assert!(all == expected, "bytes arrive in the order of their sends");
    for _ in 0..LOOKS {
        if ends.completed[0].len() >= SENDS {
            break;
        }
        ends.look();
    }
    let order: Vec<Token> = ends.completed[0].iter().map(|completion| completion.token).collect();
    assert_eq!(order, tokens);
}

/// What a receive leaves is there for the next one, also when nothing else comes.
pub fn what_is_left_is_received_later<W: World>(mut world: W) {
    const SIZE: usize = 1000;
    let mut ends = Ends::new(&mut world, 2);
    let (client, server) = ends.connection();
    assert_eq!(sent(ends.run(0, Operation::Send(client, pattern(SIZE, 1)))).1, Ok(()));
    let mut all = Vec::new();
    while all.len() < SIZE {
        ends.look();
        let (buffer, received) = received(ends.run(1, Operation::Receive(server, vec![0; 70])));
        all.extend_from_slice(&buffer[..received.expect("the connection holds")]);
    }
    assert!(all == pattern(SIZE, 1), "nothing is lost between two receives");
}

/// Two ends that send more than fits on the way, and receive meanwhile, don't wait for each other.
pub fn both_directions_go_on_at_once<W: World>(mut world: W) {
    const SIZE: usize = 16 << 20;
    let mut ends = Ends::new(&mut world, 2);
    let (client, server) = ends.connection();
    let sides = [(0, client), (1, server)];
    let sends = sides.map(|(end, socket)| ends.submit(end, Operation::Send(socket, pattern(SIZE, end))));
    let mut arrived = [Vec::new(), Vec::new()];
    while arrived.iter().any(|bytes| bytes.len() < SIZE) {
        let receives = sides.map(|(end, socket)| {
            let missing = SIZE - arrived[end].len();
            (missing > 0).then(|| ends.submit(end, Operation::Receive(socket, vec![0; missing.min(1 << 20)])))
        });
        for (end, token) in receives.into_iter().enumerate() {
            let Some(token) = token else { continue };
            let (buffer, received) = received(ends.outcome(end, token));
            arrived[end].extend_from_slice(&buffer[..received.expect("the connection holds")]);
        }
    }
    for (end, token) in sends.into_iter().enumerate() {
        assert_eq!(sent(ends.outcome(end, token)).1, Ok(()));
        assert!(arrived[1 - end] == pattern(SIZE, end), "what end {end} sent arrives as it was");
    }
}

/// Connections are made before anybody accepts them, and what was sent meanwhile is there.
pub fn connections_wait_to_be_accepted<W: World>(mut world: W) {
    let mut ends = Ends::new(&mut world, 2);
    let (listener, address) = ends.listen(1);
    for byte in 1..=3 {
        let client = connected(ends.run(0, Operation::Connect(address))).expect("the listener is there");
        assert_eq!(sent(ends.run(0, Operation::Send(client, vec![byte]))).1, Ok(()));
    }
    for byte in 1..=3 {
        let server = accepted(ends.run(1, Operation::Accept(listener)));
        assert_eq!(ends.receive_all(1, server, 1), [byte]);
    }
}

/// Connections that come after others have gone are their own, whatever numbers the system gives them.
pub fn later_connections_are_their_own<W: World>(mut world: W) {
    let mut ends = Ends::new(&mut world, 2);
    let (listener, address) = ends.listen(1);
    for round in 0..100 {
        let accept = ends.submit(1, Operation::Accept(listener));
        let client = connected(ends.run(0, Operation::Connect(address))).expect("the listener is there");
        let server = accepted(ends.outcome(1, accept));
        let waiting = ends.submit(0, Operation::Receive(client, vec![0; 10]));
        assert_eq!(sent(ends.run(1, Operation::Send(server, vec![round]))).1, Ok(()));
        let (buffer, result) = received(ends.outcome(0, waiting));
        assert_eq!((buffer[0], result), (round, Ok(1)));
        let waiting = ends.submit(1, Operation::Receive(server, vec![0; 10]));
        ends.ios[0].close(client);
        assert_eq!(received(ends.outcome(1, waiting)).1, Ok(0));
        ends.ios[1].close(server);
    }
}

/// Far more operations at once than a small ring holds all complete.
pub fn more_operations_than_the_ring_holds<W: World>(mut world: W) {
    const CONNECTIONS: usize = 50;
    let mut ends = Ends::new(&mut world, 2);
    let (listener, address) = ends.listen(1);
    let accepts: Vec<Token> = (0..CONNECTIONS).map(|_| ends.submit(1, Operation::Accept(listener))).collect();
    let connects: Vec<Token> = (0..CONNECTIONS).map(|_| ends.submit(0, Operation::Connect(address))).collect();
    let servers: Vec<Socket> = accepts.into_iter().map(|token| accepted(ends.outcome(1, token))).collect();
    let clients: Vec<Socket> =
        connects.into_iter().map(|token| connected(ends.outcome(0, token)).expect("all are accepted")).collect();
    let receives: Vec<Token> =
        servers.iter().map(|server| ends.submit(1, Operation::Receive(*server, vec![0; 8]))).collect();
    let sends: Vec<Token> =
        clients.iter().map(|client| ends.submit(0, Operation::Send(*client, vec![client.0 as u8]))).collect();
    for token in sends {
        assert_eq!(sent(ends.outcome(0, token)).1, Ok(()));
    }
    let mut bytes: Vec<u8> = Vec::new();
    for token in receives {
        let (buffer, result) = received(ends.outcome(1, token));
        assert_eq!(result, Ok(1));
        bytes.push(buffer[0]);
    }
    bytes.sort_unstable();
    let mut expected: Vec<u8> = clients.iter().map(|client| client.0 as u8).collect();
    expected.sort_unstable();
    assert_eq!(bytes, expected);
}

/// Connecting where nobody listens fails with the system's reason.
pub fn nobody_listening_refuses<W: World>(mut world: W) {
    let mut ends = Ends::new(&mut world, 1);
    let address = world.refusing_address();
    let result = connected(ends.run(0, Operation::Connect(address)));
    assert_eq!(result, Err(IoError::Os(REFUSED)));
}

/// Closing a socket ends what it has under way or queued, gives every buffer back, and the peer reads the end.
pub fn closing_gives_buffers_back<W: World>(mut world: W) {
    let mut ends = Ends::new(&mut world, 2);
    let (client, server) = ends.connection();
    let receives = [100, 200].map(|size| ends.submit(0, Operation::Receive(client, pattern(size, 0))));
    ends.look();
    ends.ios[0].close(client);
    for (token, size) in receives.into_iter().zip([100, 200]) {
        let (buffer, result) = received(ends.outcome(0, token));
        assert_eq!(result, Err(IoError::Closed));
        assert!(buffer == pattern(size, 0), "nothing was received");
    }
    let (_, result) = received(ends.run(1, Operation::Receive(server, vec![0; 10])));
    assert_eq!(result, Ok(0));

    // Afterwards the number means nothing.
    let (buffer, result) = received(ends.run(0, Operation::Receive(client, vec![7; 10])));
    assert_eq!((buffer, result), (vec![7; 10], Err(IoError::Closed)));
    let (buffer, result) = sent(ends.run(0, Operation::Send(client, vec![8; 10])));
    assert_eq!((buffer, result), (vec![8; 10], Err(IoError::Closed)));
    ends.ios[0].close(client);
}

/// A peer that doesn't read holds a sender back; closing ends the send that is stuck and those behind it.
pub fn closing_ends_a_send_that_is_held_back<W: World>(mut world: W) {
    // More than what any kernel buffers on both sides.
    const SIZE: usize = 64 << 20;
    let mut ends = Ends::new(&mut world, 2);
    let (client, server) = ends.connection();
    let stuck = ends.submit(0, Operation::Send(client, vec![1; SIZE]));
    let behind = ends.submit(0, Operation::Send(client, vec![2; 10]));
    ends.receive_all(1, server, 100_000);
    assert!(!ends.has(0, stuck), "a send isn't over before it is accepted whole");
    ends.ios[0].close(client);
    let (buffer, result) = sent(ends.outcome(0, stuck));
    assert_eq!((buffer.len(), result), (SIZE, Err(IoError::Closed)));
    let (buffer, result) = sent(ends.outcome(0, behind));
    assert_eq!((buffer, result), (vec![2; 10], Err(IoError::Closed)));
}

/// What was sent before the peer closed is read first, then zero bytes.
pub fn a_closed_peer_reads_as_zero_bytes<W: World>(mut world: W) {
    let mut ends = Ends::new(&mut world, 2);
    let (client, server) = ends.connection();
    assert_eq!(sent(ends.run(1, Operation::Send(server, vec![5; 3000]))).1, Ok(()));
    ends.ios[1].close(server);
    assert_eq!(ends.receive_all(0, client, 3000), vec![5; 3000]);
    let (buffer, result) = received(ends.run(0, Operation::Receive(client, vec![0; 10])));
    assert_eq!((buffer.len(), result), (10, Ok(0)));
}

/// Two wake-ups before the loop looks are one; one before the operation counts; afterwards none is left.
pub fn wake_ups_coalesce<W: World>(mut world: W) {
    let mut ends = Ends::new(&mut world, 1);
    let waker = ends.ios[0].waker();
    waker.wake();
    waker.clone().wake();
    assert!(matches!(ends.run(0, Operation::Wake), Outcome::Woken));

    let second = ends.submit(0, Operation::Wake);
    let deadline = ends.ios[0].now() + 2_000_000;
    ends.run(0, Operation::Timer(deadline));
    assert!(!ends.has(0, second), "both wake-ups were one");
    waker.wake();
    assert!(matches!(ends.outcome(0, second), Outcome::Woken));
}

/// Appends to one log end up in the order of submission, whole, and complete in it.
pub fn appends_keep_their_order<W: World>(mut world: W) {
    const APPENDS: usize = 60;
    let mut ends = Ends::new(&mut world, 1);
    let logs = [world.log(), world.log()];
    let mut expected = [Vec::new(), Vec::new()];
    let mut tokens = [Vec::new(), Vec::new()];
    for salt in 0..APPENDS {
        let bytes = pattern(salt * 700, salt);
        expected[salt % 2].extend_from_slice(&bytes);
        tokens[salt % 2].push(ends.submit(0, Operation::Append(logs[salt % 2], bytes)));
    }
    for _ in 0..LOOKS {
        if ends.completed[0].len() >= APPENDS {
            break;
        }
        ends.look();
    }
    for completion in &ends.completed[0] {
        assert!(matches!(completion.outcome, Outcome::Appended(_, Ok(()))), "{completion:?}");
    }
    for ((log, expected), tokens) in logs.into_iter().zip(expected).zip(tokens) {
        assert!(world.logged(log) == expected, "the log holds what was appended");
        let order: Vec<Token> = ends.completed[0]
            .iter()
            .map(|completion| completion.token)
            .filter(|token| tokens.contains(token))
            .collect();
        assert_eq!(order, tokens);
    }
}

/// What happens in a watched directory is reported in order, also if it happens before anybody asks.
pub fn watches_report_what_happens<W: World>(mut world: W) {
    let mut ends = Ends::new(&mut world, 1);
    let watcher = world.watcher();
    assert!(!ends.ios[0].has_events(watcher));
    world.write_file("early");
    assert!(ends.ios[0].has_events(watcher), "known at once, without waiting");
    let mut events = Vec::new();
    while !reported(&events, "early", WatchKind::Closed) {
        events.extend(watched(ends.run(0, Operation::Watch(watcher))));
    }
    assert!(reported(&events, "early", WatchKind::Created));

    let token = ends.submit(0, Operation::Watch(watcher));
    ends.look();
    world.write_file("late");
    world.remove_file("late");
    events = watched(ends.outcome(0, token));
    while !reported(&events, "late", WatchKind::Moved) {
        events.extend(watched(ends.run(0, Operation::Watch(watcher))));
    }
    assert!(!ends.ios[0].has_events(watcher), "all were taken");
    let place = |kind| events.iter().position(|event| event.kind == kind).expect("every kind is reported");
    assert!(place(WatchKind::Created) < place(WatchKind::Closed));
    assert!(place(WatchKind::Closed) < place(WatchKind::Moved));
}

fn watched(outcome: Outcome) -> Vec<WatchEvent> {
    match outcome {
        Outcome::Watched(Ok(events)) => {
            assert!(!events.is_empty(), "a watch completes with events");
            events
        }
        other => panic!("expected events, got {other:?}"),
    }
}

fn reported(events: &[WatchEvent], name: &str, kind: WatchKind) -> bool {
    events.iter().any(|event| event.kind == kind && event.name == name.as_bytes() && !event.is_directory)
}

/// Random numbers differ from each other.
pub fn random_numbers_differ<W: World>(mut world: W) {
    let mut io = world.backend();
    let mut numbers: Vec<u64> = (0..100).map(|_| io.random()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 100);
}

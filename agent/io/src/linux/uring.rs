//! [`Io`] on io_uring: one ring, one thread. Submissions gather in the ring until [`Io::wait`], which hands them over and
//! waits in one system call.
//!
//! What one socket sends, what it receives, and what one log appends goes in turn, one operation with the kernel at a
//! time: a short transfer is continued before the next begins, and the kernel's own order of completion doesn't matter.

mod events;
mod flight;
mod probe;

pub use probe::ProbeError;

use crate::{Completion, Io, IoError, Listener, Log, Operation, Outcome, Socket, Token, Waker, Watcher};
use events::EventBuffer;
use flight::{Flights, Work};
use io_uring::{IoUring, opcode, squeue, types};
use rustix::event::EventfdFlags;
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, Shutdown, SocketAddrAny, SocketFlags, SocketType, sockopt};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Connections that the kernel accepts ahead of us.
const BACKLOG: i32 = 128;
/// How long [`Uring`]'s end waits for operations that it has cancelled.
const LAST_WAIT_NS: u64 = 1_000_000_000;
/// The number under which cancellations complete, which nobody waits for.
const CANCELLATION: u64 = u64::MAX;
/// Random numbers fetched at once: 256 bytes always come whole (getrandom(2)).
const RANDOM_POOL: usize = 32;

/// [`Io`] on a ring of its own. To be made on the thread that uses it: the kernel refuses others.
///
/// Numbers of [`crate::Watcher`] and [`Log`] are raw descriptors (inotify; a file opened with `O_APPEND`), owned by whoever
/// made them and to be kept open until the operations on them have completed. One [`Operation::Watch`] per watcher at
/// a time.
pub struct Uring {
    ring: IoUring,
    /// What doesn't fit into the ring's queue, oldest first.
    overflow: VecDeque<squeue::Entry>,
    flights: Flights,
    /// Operations that the kernel owes a completion, those in the overflow queue included.
    owed: usize,
    sockets: BTreeMap<u32, Connection>,
    /// Numbers of sockets aren't reused, so that one that is used late means nothing, never another connection.
    next_socket: u32,
    listeners: Vec<OwnedFd>,
    /// Appends of each log in order; the first is with the kernel.
    logs: BTreeMap<u32, VecDeque<u32>>,
    /// By deadline, then in the order of submission.
    timers: BinaryHeap<Reverse<(u64, u64, Token)>>,
    timers_made: u64,
    completions: VecDeque<Completion>,
    wake: Arc<OwnedFd>,
    event_buffer: EventBuffer,
    random: Vec<u64>,
    one_thread: PhantomData<*const ()>,
}

struct Connection {
    fd: OwnedFd,
    /// Closed by us: the descriptor goes when the last operation has come back, so that its number can't be reused
    /// under an operation.
    closing: bool,
    /// In order; the first is with the kernel.
    sends: VecDeque<u32>,
    receives: VecDeque<u32>,
}

impl Uring {
    /// Sets up a ring whose queue holds this many submissions.
    pub fn new(entries: u32) -> Result<Self, ProbeError> {
        let ring = probe::ring(entries)?;
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| ProbeError::Os(errno.raw_os_error()))?;
        Ok(Self {
            ring,
            overflow: VecDeque::new(),
            flights: Flights::default(),
            owed: 0,
            sockets: BTreeMap::new(),
            next_socket: 0,
            listeners: Vec::new(),
            logs: BTreeMap::new(),
            timers: BinaryHeap::new(),
            timers_made: 0,
            completions: VecDeque::new(),
            wake: Arc::new(wake),
            event_buffer: EventBuffer::new(),
            random: Vec::with_capacity(RANDOM_POOL),
            one_thread: PhantomData,
        })
    }

    fn complete(&mut self, token: Token, outcome: Outcome) {
        self.completions.push_back(Completion { token, outcome });
    }

    /// Hands an operation to the kernel, for the first time or to go on with it.
    fn start(&mut self, number: u32) {
        let fd = match &self.flights.get_mut(number).work {
            Work::Accept(listener) => Some(self.listeners[listener.0 as usize].as_raw_fd()),
            Work::Receive(socket, _) | Work::Send(socket, _, _) => Some(self.sockets[&socket.0].fd.as_raw_fd()),
            Work::Wake => Some(self.wake.as_raw_fd()),
            Work::Connect(..) | Work::Watch(_) | Work::Append(..) => None,
        };
        let entry = self.flights.entry(number, fd);
        self.owed += 1;
        self.push(entry);
    }

    fn start_new(&mut self, token: Token, work: Work) {
        let number = self.flights.insert(token, work);
        self.start(number);
    }

    fn cancel(&mut self, number: u32) {
        // Entries keep their order, so this one can't meet a later operation with the same number.
        self.push(opcode::AsyncCancel::new(u64::from(number)).build().user_data(CANCELLATION));
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.overflow.push_back(entry);
        self.fill();
    }

    /// Moves entries from the overflow queue into the ring's, as many as fit.
    fn fill(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.overflow.front() {
            // SAFETY: descriptors stay open and memory stays in place until the completion has come: `flights`,
            // `sockets` and `listeners` own them, and logs and watchers are kept open by their owners (a contract).
            #[allow(unsafe_code)]
            let pushed = unsafe { queue.push(entry) };
            if pushed.is_err() {
                break;
            }
            self.overflow.pop_front();
        }
    }

    /// Hands submissions over and, if `want` is one, waits for a completion: at most for `limit`.
    fn enter(&mut self, want: usize, limit: Option<Duration>) {
        self.fill();
        let queue = self.ring.submission();
        if want == 0 && queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
            // Nothing to hand over, and completions come without a call.
            return;
        }
        drop(queue);
        let result = match limit {
            Some(limit) if want > 0 => {
                let timespec = types::Timespec::from(limit);
                let arguments = types::SubmitArgs::new().timespec(&timespec);
                self.ring.submitter().submit_with_args(want, &arguments)
            }
            _ => self.ring.submitter().submit_and_wait(want),
        };
        match result.map_err(|error| Errno::from_io_error(&error)) {
            // Time is up, a signal came, or the kernel wants completions to be reaped first: the caller comes again.
            Ok(_) | Err(Some(Errno::TIME | Errno::INTR | Errno::BUSY | Errno::AGAIN)) => {}
            Err(errno) => panic!("io_uring_enter fails on a ring that we hold: {errno:?}"),
        }
        self.fill();
    }

    /// Deals with what the kernel has completed.
    fn reap(&mut self) {
        loop {
            let Some(entry) = self.ring.completion().next() else { return };
            if entry.user_data() != CANCELLATION {
                self.owed -= 1;
                self.finish(entry.user_data() as u32, entry.result());
            }
        }
    }

    /// Decides what an operation's result means. Interrupted ones start again.
    fn finish(&mut self, number: u32, result: i32) {
        let result = match usize::try_from(result) {
            Ok(done) => Ok(done),
            Err(_) => Err(Errno::from_raw_os_error(-result)),
        };
        let again = matches!(result, Err(Errno::INTR | Errno::AGAIN));
        match &mut self.flights.get_mut(number).work {
            Work::Receive(socket, _) => {
                let socket = *socket;
                if again && !self.sockets[&socket.0].closing {
                    return self.start(number);
                }
                self.finish_receive(socket, result);
            }
            Work::Send(socket, buffer, sent) => {
                let socket = *socket;
                *sent += result.unwrap_or(0);
                let ended = match result {
                    _ if *sent == buffer.len() => Some(Ok(())),
                    Ok(0) => Some(Err(IoError::Closed)),
                    Ok(_) | Err(Errno::INTR | Errno::AGAIN) => None,
                    Err(errno) => Some(Err(failure(errno))),
                };
                if ended.is_none() && !self.sockets[&socket.0].closing {
                    return self.start(number);
                }
                self.finish_send(socket, ended.unwrap_or(Err(IoError::Closed)));
            }
            Work::Append(log, buffer, written) => {
                let log = *log;
                *written += result.unwrap_or(0);
                let ended = match result {
                    _ if *written == buffer.len() => Ok(()),
                    Ok(0) => Err(failure(Errno::IO)),
                    Ok(_) | Err(Errno::INTR | Errno::AGAIN) => return self.start(number),
                    Err(errno) => Err(failure(errno)),
                };
                self.finish_append(log, ended);
            }
            _ if again => self.start(number),
            Work::Accept(_) => self.finish_accept(number, result),
            Work::Connect(..) => self.finish_connect(number, result),
            Work::Watch(watcher) => {
                let watcher = *watcher;
                let events = result.and_then(|_| self.event_buffer.read(watcher));
                if matches!(events, Err(Errno::INTR | Errno::AGAIN)) {
                    return self.start(number);
                }
                let token = self.flights.remove(number).token;
                self.complete(token, Outcome::Watched(events.map_err(failure)));
            }
            Work::Wake => {
                // Reading sets the counter to zero: all wake-ups so far are this one.
                match rustix::io::read(&*self.wake, &mut [0; 8]) {
                    Ok(_) => {
                        let token = self.flights.remove(number).token;
                        self.complete(token, Outcome::Woken);
                    }
                    Err(_) => self.start(number),
                }
            }
        }
    }

    fn finish_accept(&mut self, number: u32, result: Result<usize, Errno>) {
        let outcome = match result {
            Ok(fd) => {
                let fd = own(fd);
                // A peer that has gone already has no address: wait for the next one.
                let Ok(address) =
                    net::getpeername(&fd).and_then(|any| SocketAddr::try_from(any.ok_or(Errno::NOTCONN)?))
                else {
                    return self.start(number);
                };
                Ok((self.adopt(fd), address))
            }
            Err(Errno::CONNABORTED) => return self.start(number),
            Err(errno) => Err(failure(errno)),
        };
        let token = self.flights.remove(number).token;
        self.complete(token, Outcome::Accepted(outcome));
    }

    fn finish_connect(&mut self, number: u32, result: Result<usize, Errno>) {
        let flight = self.flights.remove(number);
        let Work::Connect(fd, _) = flight.work else { unreachable!("finish has looked") };
        let outcome = result.map(|_| self.adopt(fd)).map_err(failure);
        self.complete(flight.token, Outcome::Connected(outcome));
    }

    /// Gives a connected socket its number.
    fn adopt(&mut self, fd: OwnedFd) -> Socket {
        // It can only fail for a peer that has reset the connection meanwhile; receiving says so.
        let _ = sockopt::set_tcp_nodelay(&fd, true);
        while self.sockets.contains_key(&self.next_socket) {
            self.next_socket = self.next_socket.wrapping_add(1);
        }
        let number = self.next_socket;
        self.next_socket = number.wrapping_add(1);
        let connection = Connection { fd, closing: false, sends: VecDeque::new(), receives: VecDeque::new() };
        self.sockets.insert(number, connection);
        Socket(number)
    }

    fn finish_receive(&mut self, socket: Socket, result: Result<usize, Errno>) {
        let connection = self.connection(socket);
        let number = connection.receives.pop_front().expect("the first receive has completed");
        if !connection.closing {
            let next = connection.receives.front().copied();
            self.give_back_received(number, result.map_err(failure));
            if let Some(next) = next {
                self.start(next);
            }
            return;
        }
        // Our own shutdown looks like the peer's. The others in the queue were never started.
        let waiting = std::mem::take(&mut connection.receives);
        let result = match result {
            Ok(received) if received > 0 => Ok(received),
            _ => Err(IoError::Closed),
        };
        self.give_back_received(number, result);
        for number in waiting {
            self.give_back_received(number, Err(IoError::Closed));
        }
        self.drop_if_idle(socket);
    }

    fn finish_send(&mut self, socket: Socket, result: Result<(), IoError>) {
        let connection = self.connection(socket);
        let number = connection.sends.pop_front().expect("the first send has completed");
        if !connection.closing {
            let next = connection.sends.front().copied();
            self.give_back_sent(number, result);
            if let Some(next) = next {
                self.start(next);
            }
            return;
        }
        let waiting = std::mem::take(&mut connection.sends);
        self.give_back_sent(number, result.map_err(|_| IoError::Closed));
        for number in waiting {
            self.give_back_sent(number, Err(IoError::Closed));
        }
        self.drop_if_idle(socket);
    }

    fn connection(&mut self, socket: Socket) -> &mut Connection {
        self.sockets.get_mut(&socket.0).expect("a socket stays while it has operations")
    }

    /// Lets a closing socket's descriptor go once no operation uses it any more.
    fn drop_if_idle(&mut self, socket: Socket) {
        let connection = self.connection(socket);
        if connection.sends.is_empty() && connection.receives.is_empty() {
            self.sockets.remove(&socket.0);
        }
    }

    fn give_back_received(&mut self, number: u32, result: Result<usize, IoError>) {
        let flight = self.flights.remove(number);
        let Work::Receive(_, buffer) = flight.work else { unreachable!("only receives are in their queue") };
        self.complete(flight.token, Outcome::Received(buffer, result));
    }

    fn give_back_sent(&mut self, number: u32, result: Result<(), IoError>) {
        let flight = self.flights.remove(number);
        let Work::Send(_, buffer, _) = flight.work else { unreachable!("only sends are in their queue") };
        self.complete(flight.token, Outcome::Sent(buffer, result));
    }

    fn finish_append(&mut self, log: Log, result: Result<(), IoError>) {
        let queue = self.logs.get_mut(&log.0).expect("a log's queue stays");
        let number = queue.pop_front().expect("the first append has completed");
        let next = queue.front().copied();
        let flight = self.flights.remove(number);
        let Work::Append(_, buffer, _) = flight.work else { unreachable!("only appends are in their queue") };
        self.complete(flight.token, Outcome::Appended(buffer, result));
        if let Some(next) = next {
            self.start(next);
        }
    }
}

impl Io for Uring {
    fn now(&self) -> u64 {
        // Unlike CLOCK_MONOTONIC it goes on while the machine sleeps, when peers' leases run out as well.
        nanoseconds(ClockId::Boottime)
    }

    fn wall(&self) -> u64 {
        nanoseconds(ClockId::Realtime)
    }

    fn random(&mut self) -> u64 {
        if let Some(number) = self.random.pop() {
            return number;
        }
        let mut bytes = [0; RANDOM_POOL * 8];
        let filled = rustix::io::retry_on_intr(|| getrandom(&mut bytes[..], GetRandomFlags::empty()))
            .expect("getrandom can't fail for 256 bytes once the pool is ready");
        assert_eq!(filled, bytes.len(), "up to 256 random bytes come whole");
        let (words, _) = bytes.as_chunks::<8>();
        self.random.extend(words.iter().map(|word| u64::from_ne_bytes(*word)));
        self.random.pop().expect("just filled")
    }

    fn listen(&mut self, address: SocketAddr) -> Result<(Listener, SocketAddr), IoError> {
        let (fd, address) = listening(address).map_err(failure)?;
        let number = u32::try_from(self.listeners.len()).expect("descriptors are fewer than 2^31");
        self.listeners.push(fd);
        Ok((Listener(number), address))
    }

    fn submit(&mut self, token: Token, operation: Operation) {
        match operation {
            Operation::Accept(listener) => self.start_new(token, Work::Accept(listener)),
            Operation::Connect(address) => match stream_socket(address) {
                Ok(fd) => self.start_new(token, Work::Connect(fd, Box::new(SocketAddrAny::from(address)))),
                Err(errno) => self.complete(token, Outcome::Connected(Err(failure(errno)))),
            },
            Operation::Receive(socket, buffer) => match self.sockets.get_mut(&socket.0) {
                Some(connection) if !connection.closing => {
                    let number = self.flights.insert(token, Work::Receive(socket, buffer));
                    connection.receives.push_back(number);
                    if connection.receives.len() == 1 {
                        self.start(number);
                    }
                }
                _ => self.complete(token, Outcome::Received(buffer, Err(IoError::Closed))),
            },
            Operation::Send(socket, buffer) => match self.sockets.get_mut(&socket.0) {
                Some(connection) if !connection.closing => {
                    let number = self.flights.insert(token, Work::Send(socket, buffer, 0));
                    connection.sends.push_back(number);
                    if connection.sends.len() == 1 {
                        self.start(number);
                    }
                }
                _ => self.complete(token, Outcome::Sent(buffer, Err(IoError::Closed))),
            },
            Operation::Timer(deadline) => {
                self.timers.push(Reverse((deadline, self.timers_made, token)));
                self.timers_made += 1;
            }
            Operation::Watch(watcher) => self.start_new(token, Work::Watch(watcher)),
            Operation::Append(log, buffer) => {
                let number = self.flights.insert(token, Work::Append(log, buffer, 0));
                let queue = self.logs.entry(log.0).or_default();
                queue.push_back(number);
                if queue.len() == 1 {
                    self.start(number);
                }
            }
            Operation::Wake => self.start_new(token, Work::Wake),
        }
    }

    fn close(&mut self, socket: Socket) {
        let Some(connection) = self.sockets.get_mut(&socket.0) else { return };
        if connection.closing {
            return;
        }
        connection.closing = true;
        // Ends what the kernel has under way; it fails only for a connection that is down already.
        let _ = net::shutdown(&connection.fd, Shutdown::Both);
        let under_way = [connection.receives.front().copied(), connection.sends.front().copied()];
        for number in under_way.into_iter().flatten() {
            self.cancel(number);
        }
        self.drop_if_idle(socket);
    }

    fn wait(&mut self, limit: Option<Duration>) {
        let end = limit.map(|limit| self.now().saturating_add(saturating_nanoseconds(limit)));
        loop {
            self.reap();
            let now = self.elapse();
            let first_timer = self.timers.peek().map(|Reverse((deadline, ..))| *deadline);
            let until = [end, first_timer].into_iter().flatten().min();
            // Submissions that didn't fit, or completions that are there already: don't wait.
            let over = !self.completions.is_empty() || end.is_some_and(|end| end <= now);
            let want = usize::from(!over && self.overflow.is_empty());
            self.enter(want, until.map(|until| Duration::from_nanos(until.saturating_sub(now))));
            self.reap();
            let now = self.elapse();
            let over = !self.completions.is_empty() || end.is_some_and(|end| end <= now);
            if over && self.overflow.is_empty() {
                return;
            }
        }
    }

    fn has_events(&self, watcher: Watcher) -> bool {
        let is_watched = |completion: &Completion| matches!(completion.outcome, Outcome::Watched(_));
        self.completions.iter().any(is_watched) || events::waiting(watcher)
    }

    fn completion(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    fn waker(&self) -> Waker {
        let wake = Arc::clone(&self.wake);
        Waker::new(move || {
            // It can only fail when the counter is full, that is, when a wake-up is pending.
            let _ = rustix::io::write(&*wake, &1_u64.to_ne_bytes());
        })
    }

    fn engine(&self) -> &'static str {
        "io_uring"
    }
}

impl Uring {
    /// Completes the timers that are due, and returns what time it is.
    fn elapse(&mut self) -> u64 {
        let now = self.now();
        while let Some(Reverse((deadline, _, token))) = self.timers.peek().copied() {
            if deadline > now {
                break;
            }
            self.timers.pop();
            self.complete(token, Outcome::Elapsed);
        }
        now
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        for number in self.flights.numbers().collect::<Vec<_>>() {
            self.cancel(number);
        }
        let end = self.now().saturating_add(LAST_WAIT_NS);
        while self.owed > 0 {
            let left = end.saturating_sub(self.now());
            if left == 0 {
                // The kernel may still write into these buffers: better lost than reused.
                std::mem::forget(std::mem::take(&mut self.flights));
                return;
            }
            let want = usize::from(self.overflow.is_empty());
            self.enter(want, Some(Duration::from_nanos(left)));
            while let Some(entry) = self.ring.completion().next() {
                self.owed -= usize::from(entry.user_data() != CANCELLATION);
            }
        }
    }
}

/// What the errno of a socket means for its owner.
fn failure(errno: Errno) -> IoError {
    match errno {
        Errno::CONNRESET | Errno::PIPE | Errno::CANCELED => IoError::Closed,
        other => IoError::Os(other.raw_os_error()),
    }
}

/// Takes a descriptor over that the kernel has just made for us.
fn own(fd: usize) -> OwnedFd {
    // SAFETY: accept has returned this number as a new descriptor, and nobody else has seen it.
    #[allow(unsafe_code)]
    unsafe {
        OwnedFd::from_raw_fd(fd as RawFd)
    }
}

/// A socket for connections to or from an address. It blocks, because a ring gives up at once on one that doesn't.
fn stream_socket(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

fn listening(address: SocketAddr) -> Result<(OwnedFd, SocketAddr), Errno> {
    let fd = stream_socket(address)?;
    // A restarted agent gets its port back while old connections linger.
    sockopt::set_socket_reuseaddr(&fd, true)?;
    net::bind(&fd, &address)?;
    net::listen(&fd, BACKLOG)?;
    let address = SocketAddr::try_from(net::getsockname(&fd)?)?;
    Ok((fd, address))
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Before 1970 the clock isn't set: as good as 1970.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn saturating_nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

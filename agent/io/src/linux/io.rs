//! [`Io`] on Linux: one thread, and an engine that works on its operations.
//!
//! What one socket sends, what it receives, and what one log appends goes in turn, one operation with the engine at a
//! time: a short transfer is continued before the next begins, and the order in which an engine is done doesn't matter.

use super::descriptor::own;
use super::engine::Engine;
use super::epoll::Epoll;
use super::events::{self, EventBuffer};
use super::flight::{Flights, Work};
use super::sockets::{self, failure};
use super::timers::{Timers, now, saturating_nanoseconds, wall};
use super::uring::{ProbeError, Ring};
use crate::{Completion, Io, IoError, Listener, Log, Operation, Outcome, Socket, Token, Waker, Watcher};
use rustix::event::EventfdFlags;
use rustix::fd::{AsRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::net::{self, Shutdown, SocketAddrAny, sockopt};
use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Random numbers fetched at once: 256 bytes always come whole (getrandom(2)).
const RANDOM_POOL: usize = 32;

/// [`Io`] on io_uring or epoll. To be made on the thread that uses it.
///
/// Numbers of [`crate::Watcher`] and [`Log`] are raw descriptors (inotify; a file opened with `O_APPEND`), owned by whoever
/// made them and to be kept open until the operations on them have completed. One [`Operation::Watch`] per watcher at
/// a time.
pub struct LinuxIo {
    engine: Engine,
    flights: Flights,
    sockets: BTreeMap<u32, Connection>,
    /// Numbers of sockets aren't reused, so that one that is used late means nothing, never another connection.
    next_socket: u32,
    listeners: Vec<OwnedFd>,
    /// Appends of each log in order; the first is with the engine.
    logs: BTreeMap<u32, VecDeque<u32>>,
    timers: Timers,
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
    /// In order; the first is with the engine.
    sends: VecDeque<u32>,
    receives: VecDeque<u32>,
}

impl LinuxIo {
    /// On a ring whose queue holds this many submissions.
    pub fn on_uring(entries: u32) -> Result<Self, ProbeError> {
        Self::on(Engine::Ring(Ring::new(entries)?)).map_err(|errno| ProbeError::Os(errno.raw_os_error()))
    }

    /// On epoll, which every Linux has.
    pub fn on_epoll() -> Result<Self, IoError> {
        Epoll::new().and_then(|epoll| Self::on(Engine::Epoll(epoll))).map_err(failure)
    }

    fn on(engine: Engine) -> Result<Self, Errno> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            engine,
            flights: Flights::default(),
            sockets: BTreeMap::new(),
            next_socket: 0,
            listeners: Vec::new(),
            logs: BTreeMap::new(),
            timers: Timers::default(),
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

    /// Hands an operation to the engine, for the first time or to go on with it.
    fn start(&mut self, number: u32) {
        let fd = match &self.flights.get_mut(number).work {
            Work::Accept(listener) => self.listeners[listener.0 as usize].as_raw_fd(),
            Work::Connect(fd, _) => fd.as_raw_fd(),
            Work::Receive(socket, _) | Work::Send(socket, ..) => self.sockets[&socket.0].fd.as_raw_fd(),
            Work::Watch(watcher) => watcher.0 as RawFd,
            Work::Append(log, ..) => log.0 as RawFd,
            Work::Wake => self.wake.as_raw_fd(),
        };
        self.engine.start(number, fd, &mut self.flights);
    }

    fn start_new(&mut self, token: Token, work: Work) {
        let number = self.flights.insert(token, work);
        self.start(number);
    }

    /// Deals with what the engine is done with.
    fn reap(&mut self) {
        while let Some((number, result)) = self.engine.ended(&mut self.flights) {
            self.finish(number, result);
        }
    }

    /// Decides what an operation's result means. Interrupted ones start again.
    fn finish(&mut self, number: u32, result: Result<usize, Errno>) {
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
                let fd = own(fd as RawFd);
                // A peer that has gone already has no address: wait for the next one.
                let Ok(address) = sockets::peer(&fd) else { return self.start(number) };
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
        let outcome = match result {
            Ok(_) => Ok(self.adopt(fd)),
            Err(errno) => {
                self.engine.forget(fd.as_raw_fd());
                Err(failure(errno))
            }
        };
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
            let fd = connection.fd.as_raw_fd();
            self.engine.forget(fd);
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

impl Io for LinuxIo {
    fn now(&self) -> u64 {
        now()
    }

    fn wall(&self) -> u64 {
        wall()
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
        let (fd, address) = sockets::listening(address, self.engine.socket_flags()).map_err(failure)?;
        let number = u32::try_from(self.listeners.len()).expect("descriptors are fewer than 2^31");
        self.listeners.push(fd);
        Ok((Listener(number), address))
    }

    fn submit(&mut self, token: Token, operation: Operation) {
        match operation {
            Operation::Accept(listener) => self.start_new(token, Work::Accept(listener)),
            Operation::Connect(address) => match sockets::stream(address, self.engine.socket_flags()) {
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
            Operation::Timer(deadline) => self.timers.add(deadline, token),
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
        // Ends what the engine has under way; it fails only for a connection that is down already.
        let _ = net::shutdown(&connection.fd, Shutdown::Both);
        for number in [connection.receives.front(), connection.sends.front()].into_iter().flatten() {
            self.engine.cancel(*number, connection.fd.as_raw_fd());
        }
        self.drop_if_idle(socket);
    }

    fn wait(&mut self, limit: Option<Duration>) {
        let end = limit.map(|limit| self.now().saturating_add(saturating_nanoseconds(limit)));
        loop {
            self.reap();
            let now = self.elapse();
            let until = [end, self.timers.first()].into_iter().flatten().min();
            let over = !self.completions.is_empty() || end.is_some_and(|end| end <= now);
            self.engine.enter(!over, until.map(|until| Duration::from_nanos(until.saturating_sub(now))));
            self.reap();
            let now = self.elapse();
            let over = !self.completions.is_empty() || end.is_some_and(|end| end <= now);
            if over && !self.engine.is_behind() {
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
        self.engine.name()
    }
}

impl LinuxIo {
    /// Completes the timers that are due, and returns what time it is.
    fn elapse(&mut self) -> u64 {
        let now = now();
        while let Some(token) = self.timers.take_due(now) {
            self.complete(token, Outcome::Elapsed);
        }
        now
    }
}

impl Drop for LinuxIo {
    fn drop(&mut self) {
        if !self.engine.stop(&self.flights) {
            // The kernel may still write into these buffers: better lost than reused.
            std::mem::forget(std::mem::take(&mut self.flights));
        }
    }
}

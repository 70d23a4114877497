//! [`Io`] in a simulated world.

use crate::network::{Process, World};
use std::net::SocketAddr;
use std::time::Duration;
use syncmesh_io::{Completion, Io, IoError, Listener, Operation, Socket, Token, Waker, Watcher};

/// A node's [`Io`]. One that outlives its node's crash does nothing and completes nothing.
pub struct SimIo {
    world: World,
    process: Process,
    /// Whether [`Io::wait`] lets time pass itself. Otherwise it returns at once, and the driver of the world decides.
    pub auto_advance: bool,
}

impl SimIo {
    /// Starts a node's next life; if the node is alive it crashes first. Its wall clock is ahead by so many
    /// nanoseconds.
    pub fn new(world: World, node: u32, clock_skew_ns: i64) -> Self {
        let process = world.start(node, clock_skew_ns);
        Self { world, process, auto_advance: false }
    }
}

impl Io for SimIo {
    fn now(&self) -> u64 {
        self.world.now()
    }

    fn wall(&self) -> u64 {
        self.world.wall(self.process)
    }

    fn random(&mut self) -> u64 {
        self.world.random(self.process)
    }

    fn listen(&mut self, address: SocketAddr) -> Result<(Listener, SocketAddr), IoError> {
        self.world.listen(self.process, address)
    }

    fn submit(&mut self, token: Token, operation: Operation) {
        self.world.submit(self.process, token, operation);
    }

    fn close(&mut self, socket: Socket) {
        self.world.close(self.process, socket);
    }

    fn wait(&mut self, limit: Option<Duration>) {
        if !self.auto_advance {
            return;
        }
        let end = limit.map(|limit| self.now().saturating_add(u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX)));
        while !self.world.process_has_completions(self.process) {
            match (self.world.next_event_time(), end) {
                (Some(next), None) => self.world.advance_to(next),
                (Some(next), Some(end)) if next <= end => self.world.advance_to(next),
                (_, Some(end)) => return self.world.advance_to(end),
                (None, None) => panic!("a wait for ever in a world where nothing happens"),
            }
        }
    }

    fn has_events(&self, watcher: Watcher) -> bool {
        self.world.has_events(self.process, watcher)
    }

    fn completion(&mut self) -> Option<Completion> {
        self.world.completion(self.process)
    }

    fn waker(&self) -> Waker {
        self.world.waker(self.process)
    }

    fn engine(&self) -> &'static str {
        "simulated"
    }
}

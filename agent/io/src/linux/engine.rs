//! What works on operations: a ring, or epoll and calls that don't block. Both take an operation by its number and say
//! later how it ended; order, short transfers and closing are decided above them, in [`super::io`].

use super::epoll::Epoll;
use super::flight::Flights;
use super::uring::Ring;
use rustix::fd::RawFd;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::time::Duration;

pub(super) enum Engine {
    Ring(Ring),
    Epoll(Epoll),
}

impl Engine {
    /// The name that the status prints.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ring(_) => "io_uring",
            Self::Epoll(_) => "epoll",
        }
    }

    /// How the sockets are to be made that it connects or accepts on. A ring gives up at once on one that doesn't
    /// block; the loop would stand still on one that does.
    pub(super) fn socket_flags(&self) -> SocketFlags {
        match self {
            Self::Ring(_) => SocketFlags::empty(),
            Self::Epoll(_) => SocketFlags::NONBLOCK,
        }
    }

    /// Begins an operation, or goes on with it. Its descriptor stays open until it has ended.
    pub(super) fn start(&mut self, number: u32, fd: RawFd, flights: &mut Flights) {
        match self {
            Self::Ring(ring) => ring.start(number, fd, flights),
            Self::Epoll(epoll) => epoll.start(number, fd, flights),
        }
    }

    /// Ends an operation on a socket, which then says what it had done, or [`Errno::CANCELED`].
    pub(super) fn cancel(&mut self, number: u32, fd: RawFd) {
        match self {
            Self::Ring(ring) => ring.cancel(number),
            Self::Epoll(epoll) => epoll.cancel(number, fd),
        }
    }

    /// A socket without operations is about to be closed.
    pub(super) fn forget(&mut self, fd: RawFd) {
        match self {
            Self::Ring(_) => {}
            Self::Epoll(epoll) => epoll.forget(fd),
        }
    }

    /// Hands operations over and, if `idle`, waits until one may have ended: at most for `limit`.
    pub(super) fn enter(&mut self, idle: bool, limit: Option<Duration>) {
        match self {
            Self::Ring(ring) => ring.enter(idle, limit),
            Self::Epoll(epoll) => epoll.enter(idle, limit),
        }
    }

    /// The next operation that has ended, and how.
    pub(super) fn ended(&mut self, flights: &mut Flights) -> Option<(u32, Result<usize, Errno>)> {
        match self {
            Self::Ring(ring) => ring.ended(),
            Self::Epoll(epoll) => epoll.ended(flights),
        }
    }

    /// Are there operations that couldn't be handed over yet?
    pub(super) fn is_behind(&self) -> bool {
        match self {
            Self::Ring(ring) => ring.is_behind(),
            Self::Epoll(_) => false,
        }
    }

    /// Ends everything that is under way. False if the kernel may still use what the operations own.
    pub(super) fn stop(&mut self, flights: &Flights) -> bool {
        match self {
            Self::Ring(ring) => ring.stop(flights),
            // Its thread owns what it writes, and is waited for when it is dropped.
            Self::Epoll(_) => true,
        }
    }
}

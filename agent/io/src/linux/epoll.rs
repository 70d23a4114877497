//! Operations on epoll, for where a sandbox or an old kernel has no io_uring: it says which descriptors are ready, and
//! calls that don't block do the work. Appends are done by a thread, because files are always "ready" and block anyway.
//!
//! A descriptor is registered once, edge-triggered, and what the events said is remembered. So a transfer costs one call,
//! and a wait another, however many descriptors there are. A transfer that moved fewer bytes than were asked for has used
//! its readiness up (epoll(7)); only a connection that has ended gives no further event, and stays ready.

mod append;

use super::descriptor::borrowed;
use super::flight::{Flights, Work};
use append::{Append, Appends};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, SocketFlags, sockopt};
use rustix::time::Timespec;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Events taken by one call. What is ready beyond them comes with the next.
const EVENTS: usize = 256;
/// The number under which the thread of appends reports; descriptors are smaller.
const APPENDED: u64 = u64::MAX;
/// The longest wait of one call, because epoll counts milliseconds in 31 bits. The caller waits again.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

pub(super) struct Epoll {
    epoll: OwnedFd,
    sources: BTreeMap<RawFd, Source>,
    /// Sides of sources that may be able to go on, each for one call.
    runnable: VecDeque<(RawFd, Side)>,
    /// How operations ended that need no call any more.
    ended: VecDeque<(u32, Result<usize, Errno>)>,
    events: Vec<epoll::Event>,
    appends: Appends,
}

/// A registered descriptor.
#[derive(Default)]
struct Source {
    reading: Queue,
    writing: Queue,
    /// The connection has ended, at least for reading.
    hung_up: bool,
}

#[derive(Default)]
struct Queue {
    ready: bool,
    operations: VecDeque<u32>,
}

#[derive(Clone, Copy)]
enum Side {
    Reading,
    Writing,
}

impl Source {
    fn side(&mut self, side: Side) -> &mut Queue {
        match side {
            Side::Reading => &mut self.reading,
            Side::Writing => &mut self.writing,
        }
    }
}

impl Epoll {
    pub(super) fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let appends = Appends::start()?;
        epoll::add(&epoll, appends.news(), EventData::new_u64(APPENDED), EventFlags::IN | EventFlags::ET)?;
        Ok(Self {
            epoll,
            sources: BTreeMap::new(),
            runnable: VecDeque::new(),
            ended: VecDeque::new(),
            events: Vec::with_capacity(EVENTS),
            appends,
        })
    }

    pub(super) fn start(&mut self, number: u32, fd: RawFd, flights: &mut Flights) {
        let side = match &mut flights.get_mut(number).work {
            Work::Append(_, buffer, written) => {
                let buffer = std::mem::take(buffer);
                return self.appends.push(Append { number, fd, buffer, written: *written });
            }
            Work::Connect(socket, address) => match net::connect(socket, &**address) {
                // Interrupted, it goes on by itself as well (connect(2)).
                Err(Errno::INPROGRESS | Errno::INTR) => Side::Writing,
                result => return self.ended.push_back((number, result.map(|()| 0))),
            },
            Work::Send(..) => Side::Writing,
            Work::Accept(_) | Work::Receive(..) | Work::Watch(_) | Work::Wake => Side::Reading,
        };
        if let Err(errno) = self.register(fd) {
            return self.ended.push_back((number, Err(errno)));
        }
        let queue = self.sources.entry(fd).or_default().side(side);
        queue.operations.push_back(number);
        if queue.ready {
            self.runnable.push_back((fd, side));
        }
    }

    /// Events come from now on, and first of all what is ready already.
    fn register(&mut self, fd: RawFd) -> Result<(), Errno> {
        if self.sources.contains_key(&fd) {
            return Ok(());
        }
        let wanted = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, borrowed(fd), EventData::new_u64(fd as u64), wanted)
    }

    pub(super) fn forget(&mut self, fd: RawFd) {
        if self.sources.remove(&fd).is_some() {
            // Closing alone doesn't do it while a program that is being started still has a copy.
            let _ = epoll::delete(&self.epoll, borrowed(fd));
        }
    }

    pub(super) fn cancel(&mut self, number: u32, fd: RawFd) {
        let Some(source) = self.sources.get_mut(&fd) else { return };
        for queue in [&mut source.reading, &mut source.writing] {
            let before = queue.operations.len();
            queue.operations.retain(|other| *other != number);
            // Otherwise it has ended already.
            if queue.operations.len() < before {
                self.ended.push_back((number, Err(Errno::CANCELED)));
            }
        }
    }

    /// Looks for events. If `idle` and nothing can go on without them it waits for one, at most for `limit`: timers are
    /// late by up to a millisecond, which is how epoll counts on kernels before 5.11.
    pub(super) fn enter(&mut self, idle: bool, limit: Option<Duration>) {
        let idle = idle && self.runnable.is_empty() && self.ended.is_empty();
        let limit = if idle { limit } else { Some(Duration::ZERO) };
        let limit = limit.map(whole_milliseconds);
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => panic!("epoll_wait fails on a descriptor that we hold: {errno:?}"),
        }
        for event in &self.events {
            let (data, flags) = (event.data.u64(), event.flags);
            // That of appends wakes us, and that is all.
            let Some(source) = RawFd::try_from(data).ok().and_then(|fd| self.sources.get_mut(&fd)) else { continue };
            let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            source.hung_up |= broken || flags.contains(EventFlags::RDHUP);
            source.reading.ready |= source.hung_up || flags.contains(EventFlags::IN);
            source.writing.ready |= broken || flags.contains(EventFlags::OUT);
            for side in [Side::Reading, Side::Writing] {
                let queue = source.side(side);
                if queue.ready && !queue.operations.is_empty() {
                    self.runnable.push_back((data as RawFd, side));
                }
            }
        }
    }

    /// The next operation that has ended. Sources take turns, one call each.
    pub(super) fn ended(&mut self, flights: &mut Flights) -> Option<(u32, Result<usize, Errno>)> {
        loop {
            if let Some(ended) = self.ended.pop_front() {
                return Some(ended);
            }
            if let Some((append, result)) = self.appends.ended() {
                if let Work::Append(_, buffer, _) = &mut flights.get_mut(append.number).work {
                    *buffer = append.buffer;
                }
                return Some((append.number, result));
            }
            let (fd, side) = self.runnable.pop_front()?;
            if let Some(ended) = self.run(fd, side, flights) {
                return Some(ended);
            }
        }
    }

    fn run(&mut self, fd: RawFd, side: Side, flights: &mut Flights) -> Option<(u32, Result<usize, Errno>)> {
        let source = self.sources.get_mut(&fd)?;
        let hung_up = source.hung_up;
        let queue = source.side(side);
        let number = *queue.operations.front().filter(|_| queue.ready)?;
        let work = &mut flights.get_mut(number).work;
        let is_watch = matches!(work, Work::Watch(_));
        let (result, wanted) = attempt(work, borrowed(fd));
        match result {
            Err(Errno::AGAIN) => {
                queue.ready = false;
                return None;
            }
            Ok(done) if done < wanted && !hung_up => queue.ready = false,
            _ => {}
        }
        queue.operations.pop_front();
        if queue.ready && !queue.operations.is_empty() {
            self.runnable.push_back((fd, side));
        }
        if is_watch {
            // Its owner may close it once nothing waits for it, and doesn't tell us.
            self.forget(fd);
        }
        Some((number, result))
    }
}

/// Does what can be done without waiting, and says how much would show that there is more: fewer bytes mean that the
/// source has no more for now.
fn attempt(work: &mut Work, fd: BorrowedFd<'_>) -> (Result<usize, Errno>, usize) {
    match work {
        Work::Accept(_) => (net::accept_with(fd, SocketFlags::CLOEXEC).map(|fd| fd.into_raw_fd() as usize), 0),
        Work::Connect(..) => (sockopt::socket_error(fd).and_then(|result| result).map(|()| 0), 0),
        Work::Receive(_, buffer) => {
            let space = Work::space(buffer);
            let wanted = space.len();
            (net::recv(fd, space, RecvFlags::DONTWAIT).map(|(received, _)| received), wanted)
        }
        Work::Send(_, buffer, sent) => {
            let rest = Work::rest(buffer, *sent);
            (net::send(fd, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL), rest.len())
        }
        // Whoever is told reads until nothing is left.
        Work::Watch(_) | Work::Wake => (Ok(0), 1),
        Work::Append(..) => unreachable!("appends are the thread's"),
    }
}

/// Rounded up, so that nothing is looked at too early and again at once.
fn whole_milliseconds(limit: Duration) -> Timespec {
    let limit = limit.min(LONGEST_WAIT);
    let millis = limit.as_nanos().div_ceil(1_000_000) as i64;
    Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_never_shorter_than_its_limit() {
        let millis = |nanos| {
            let time = whole_milliseconds(Duration::from_nanos(nanos));
            time.tv_sec * 1000 + time.tv_nsec / 1_000_000
        };
        assert_eq!([0, 1, 1_000_000, 1_000_001, 2_500_000_000].map(millis), [0, 1, 1, 2, 2500]);
        assert_eq!(millis(u64::MAX), 3_600_000);
    }
}

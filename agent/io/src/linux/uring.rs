//! Operations on a ring of io_uring. Submissions gather in its queue until the loop waits: one system call hands them over
//! and waits.

mod probe;

pub use probe::ProbeError;

use super::flight::{Flights, Work};
use super::timers::now;
use io_uring::{IoUring, opcode, squeue, types};
use rustix::event::PollFlags;
use rustix::fd::RawFd;
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags};
use std::collections::VecDeque;
use std::time::Duration;

/// How long the end waits for operations that it has cancelled.
const LAST_WAIT_NS: u64 = 1_000_000_000;
/// The number under which cancellations complete, which nobody waits for.
const CANCELLATION: u64 = u64::MAX;

/// A ring, used by the thread that made it: the kernel refuses others.
pub(super) struct Ring {
    ring: IoUring,
    /// What doesn't fit into the ring's queue, oldest first.
    overflow: VecDeque<squeue::Entry>,
    /// Operations that the kernel owes a completion, those in the overflow queue included.
    owed: usize,
}

impl Ring {
    /// Sets up a ring whose queue holds this many submissions.
    pub(super) fn new(entries: u32) -> Result<Self, ProbeError> {
        Ok(Self { ring: probe::ring(entries)?, overflow: VecDeque::new(), owed: 0 })
    }

    pub(super) fn start(&mut self, number: u32, fd: RawFd, flights: &mut Flights) {
        self.owed += 1;
        self.push(entry(&mut flights.get_mut(number).work, types::Fd(fd)).user_data(u64::from(number)));
    }

    pub(super) fn cancel(&mut self, number: u32) {
        // Entries keep their order, so this one can't meet a later operation with the same number.
        self.push(opcode::AsyncCancel::new(u64::from(number)).build().user_data(CANCELLATION));
    }

    pub(super) fn is_behind(&self) -> bool {
        !self.overflow.is_empty()
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.overflow.push_back(entry);
        self.fill();
    }

    /// Moves entries from the overflow queue into the ring's, as many as fit.
    fn fill(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.overflow.front() {
            // SAFETY: descriptors stay open and memory stays in place until the completion has come: whoever starts an
            // operation keeps its flight and its descriptor until then, or leaks them if the end can't wait for it.
            #[allow(unsafe_code)]
            let pushed = unsafe { queue.push(entry) };
            if pushed.is_err() {
                break;
            }
            self.overflow.pop_front();
        }
    }

    /// Hands submissions over. If `idle` and all of them fit it waits for a completion, at most for `limit`.
    pub(super) fn enter(&mut self, idle: bool, limit: Option<Duration>) {
        self.fill();
        let want = usize::from(idle && self.overflow.is_empty());
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

    pub(super) fn ended(&mut self) -> Option<(u32, Result<usize, Errno>)> {
        loop {
            let entry = self.ring.completion().next()?;
            if entry.user_data() == CANCELLATION {
                continue;
            }
            self.owed -= 1;
            let result = entry.result();
            let result = usize::try_from(result).map_err(|_| Errno::from_raw_os_error(-result));
            return Some((entry.user_data() as u32, result));
        }
    }

    /// Cancels everything and waits for it. False if something is still with the kernel.
    pub(super) fn stop(&mut self, flights: &Flights) -> bool {
        for number in flights.numbers() {
            self.cancel(number);
        }
        let end = now().saturating_add(LAST_WAIT_NS);
        while self.owed > 0 {
            let left = end.saturating_sub(now());
            if left == 0 {
                return false;
            }
            self.enter(true, Some(Duration::from_nanos(left)));
            while self.ended().is_some() {}
        }
        true
    }
}

/// What tells the kernel to do an operation, or to go on with it.
fn entry(work: &mut Work, fd: types::Fd) -> squeue::Entry {
    match work {
        // The peer's address is asked for afterwards: that needs no memory that the kernel writes.
        Work::Accept(_) => opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut())
            .flags(SocketFlags::CLOEXEC.bits() as i32)
            .build(),
        Work::Connect(_, address) => opcode::Connect::new(fd, address.as_ptr().cast(), address.addr_len()).build(),
        Work::Receive(_, buffer) => {
            let space = Work::space(buffer);
            opcode::Recv::new(fd, space.as_mut_ptr(), space.len() as u32).build()
        }
        Work::Send(_, buffer, sent) => {
            let rest = Work::rest(buffer, *sent);
            // Newer kernels continue short sends themselves when told to wait for all.
            const WAIT_ALL: i32 = 0x100;
            opcode::Send::new(fd, rest.as_ptr(), rest.len() as u32)
                .flags(SendFlags::NOSIGNAL.bits() as i32 | WAIT_ALL)
                .build()
        }
        Work::Append(_, buffer, written) => {
            let rest = Work::rest(buffer, *written);
            // Offset -1 is the file's own position, which O_APPEND puts at the end.
            opcode::Write::new(fd, rest.as_ptr(), rest.len() as u32).offset(u64::MAX).build()
        }
        // Readiness, not reading: inotify can't be read without blocking through a ring on older kernels.
        Work::Watch(_) | Work::Wake => opcode::PollAdd::new(fd, u32::from(PollFlags::IN.bits())).build(),
    }
}

//! Clocks, and timers that wait for one of them.

use crate::Token;
use rustix::time::{ClockId, clock_gettime};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Timers by deadline, then in the order of submission.
#[derive(Default)]
pub(super) struct Timers {
    waiting: BinaryHeap<Reverse<(u64, u64, Token)>>,
    made: u64,
}

impl Timers {
    pub(super) fn add(&mut self, deadline: u64, token: Token) {
        self.waiting.push(Reverse((deadline, self.made, token)));
        self.made += 1;
    }

    /// The next deadline.
    pub(super) fn first(&self) -> Option<u64> {
        self.waiting.peek().map(|Reverse((deadline, ..))| *deadline)
    }

    /// Takes the next timer that is due.
    pub(super) fn take_due(&mut self, now: u64) -> Option<Token> {
        self.first().filter(|deadline| *deadline <= now)?;
        self.waiting.pop().map(|Reverse((.., token))| token)
    }
}

/// Unlike CLOCK_MONOTONIC it goes on while the machine sleeps, when peers' leases run out as well.
pub(super) fn now() -> u64 {
    nanoseconds(ClockId::Boottime)
}

/// Nanoseconds since 1970.
pub(super) fn wall() -> u64 {
    nanoseconds(ClockId::Realtime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Before 1970 the clock isn't set: as good as 1970.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

pub(super) fn saturating_nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

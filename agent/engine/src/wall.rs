//! What time it is for people.

use rustix::time::{ClockId, clock_gettime};

/// Seconds since 1970, as the wall clock has it.
pub fn unix_now() -> u64 {
    u64::try_from(clock_gettime(ClockId::Realtime).tv_sec).unwrap_or(0)
}

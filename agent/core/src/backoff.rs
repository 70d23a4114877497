//! How long to wait before the next try: exponential, with full jitter ("Exponential Backoff And Jitter", Brooker, 2015).

use std::time::Duration;

/// The wait before try number `attempt` (0 is the first repetition): uniform between zero and
/// `min(cap, base * 2^attempt)`, picked by 64 random bits.
pub fn backoff(base: Duration, cap: Duration, attempt: u32, random: u64) -> Duration {
    let ceiling = base.saturating_mul(1u32.checked_shl(attempt.min(31)).unwrap_or(u32::MAX)).min(cap);
    let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(if nanos == 0 { 0 } else { random % nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_never_beyond() {
        let (base, cap) = (Duration::from_millis(100), Duration::from_secs(30));
        let longest = |attempt| (0..2_000u64).map(|i| backoff(base, cap, attempt, (i << 53) | (i * 7_919_777))).max();
        assert!(longest(0) <= Some(base));
        assert!(longest(3) > Some(base));
        assert!(longest(60) <= Some(cap));
    }
}

//! How fast a volume's contents may be sent: the virtual scheduling form of the generic cell rate algorithm (ITU-T I.371). A
//! token bucket without a bucket to fill: what was sent takes time, and the next waits until that has passed.

use std::num::NonZeroU64;

/// What may be sent at once after a rest, as time at the limit, in nanoseconds.
const BURST: u64 = 100_000_000;

/// Since when what was sent has taken its time, on the loop's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace(u64);

impl Pace {
    /// When more may be sent.
    pub fn due(self) -> u64 {
        self.0
    }

    /// Notes bytes that are being sent under a limit of so many a second.
    pub fn sent(&mut self, limit: Option<NonZeroU64>, bytes: u64, now: u64) {
        let Some(limit) = limit else { return };
        let takes = u128::from(bytes) * 1_000_000_000 / u128::from(limit.get());
        let takes = u64::try_from(takes).unwrap_or(u64::MAX);
        self.0 = self.0.max(now.saturating_sub(BURST)).saturating_add(takes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_takes_its_time_and_a_rest_saves_a_tenth_of_a_second() {
        let (limit, second) = (NonZeroU64::new(1_000), 1_000_000_000);
        let mut pace = Pace::default();
        pace.sent(limit, 500, 10 * second);
        assert_eq!(pace.due(), 10 * second + second / 2 - BURST);
        pace.sent(limit, 1_000, 10 * second);
        assert_eq!(pace.due(), 11 * second + second / 2 - BURST);
        pace.sent(None, u64::MAX, 20 * second);
        assert!(pace.due() < 12 * second);
        pace.sent(NonZeroU64::new(1), u64::MAX, 20 * second);
        assert_eq!(pace.due(), u64::MAX);
    }
}

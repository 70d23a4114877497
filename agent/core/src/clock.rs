//! Hybrid logical clocks ("Logical Physical Clocks", Kulkarni and others, 2014) and times as the rules use them.

use serde::{Deserialize, Serialize};

/// A stamp that is close to wall-clock time and above every stamp that its maker had seen for the same path. The upper
/// 48 bits are milliseconds since 1970, the lower 16 a counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Hlc(u64);

impl Hlc {
    /// The first stamp of a millisecond since 1970.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis.min((1 << 48) - 1) << 16)
    }

    /// Milliseconds since 1970.
    pub fn millis(self) -> u64 {
        self.0 >> 16
    }

    /// The stamp of what was written at a time that is past, over versions up to `above`. It moves nobody's clock.
    pub fn written(millis: u64, above: Option<Self>) -> Self {
        above.map_or(Self::from_millis(millis), |above| Self::from_millis(millis).max(above.next()))
    }

    fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A node's own clock for stamps.
#[derive(Clone, Copy, Debug, Default)]
pub struct HlcClock {
    last: Hlc,
}

impl HlcClock {
    /// A stamp for a version that is made now and supersedes versions up to `above`. It is above `above` whatever the
    /// clocks say, so what supersedes is always newer than what it superseded (I7 rests on it).
    pub fn stamp(&mut self, now_millis: u64, above: Option<Hlc>) -> Hlc {
        let now = Hlc::from_millis(now_millis);
        self.last = now.max(self.last.next());
        if let Some(above) = above
            && self.last <= above
        {
            return above.next();
        }
        self.last
    }

    /// Takes note of a peer's stamp, so that later own stamps are above it; stamps more than `skew_millis` ahead of our
    /// clock don't move it.
    pub fn observe(&mut self, seen: Hlc, now_millis: u64, skew_millis: u64) {
        if seen.millis() <= now_millis.saturating_add(skew_millis) {
            self.last = self.last.max(seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_above_what_it_supersedes_even_if_clocks_disagree() {
        let mut clock = HlcClock::default();
        let ahead = Hlc::from_millis(9_000_000);
        assert!(clock.stamp(1_000, Some(ahead)) > ahead);
        let first = clock.stamp(1_000, None);
        assert!(clock.stamp(500, None) > first, "the wall clock jumped back");
        assert_eq!(first.millis(), 1_000, "a stamp that only superseded a skewed one doesn't drag the clock along");
    }

    #[test]
    fn a_peer_far_ahead_does_not_move_our_clock() {
        let mut clock = HlcClock::default();
        clock.observe(Hlc::from_millis(1_000_000), 1_000, 300_000);
        assert_eq!(clock.stamp(1_000, None).millis(), 1_000);
        clock.observe(Hlc::from_millis(200_000), 1_000, 300_000);
        assert!(clock.stamp(1_000, None).millis() >= 200_000);
    }
}

//! Which deletions wait for somebody's approval: many at once are more often an accident than a wish (I15).

/// Fewer than this are never held.
pub const FEW: u64 = 20;

/// Fewer than this are held by their share of the volume only if nothing is left.
pub const PERCENT_FROM: u64 = 100;

/// From how many on deletions are held: `deletionGuard` of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// More files than this; 0 means any number.
    pub files: u64,
    /// More than this share of the volume, in percent; 100 means any share.
    pub percent: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files: 10_000, percent: 25 }
    }
}

impl Limits {
    /// Is nothing ever held?
    pub fn is_off(self) -> bool {
        self.files == 0 && self.percent >= 100
    }

    /// Must deletions of so many files wait, in a volume that has so many left without them?
    ///
    /// | deleted | held if |
    /// |---|---|
    /// | 0 to 19 | never |
    /// | 20 and more | none is left |
    /// | 100 and more | they are more than `percent` of what there was |
    /// | any number above `files` | always |
    pub fn hold(self, deleted: u64, left: u64) -> bool {
        if self.is_off() || deleted < FEW {
            return false;
        }
        let share = u128::from(deleted) * 100 > u128::from(self.percent) * u128::from(deleted + left);
        left == 0 || (self.files > 0 && deleted > self.files) || (deleted >= PERCENT_FROM && share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletions_are_held_by_number_by_share_and_when_nothing_is_left() {
        let limits = Limits::default();
        assert!(!limits.hold(19, 0), "few always pass");
        assert!(limits.hold(20, 0) && !limits.hold(20, 1), "none is left");
        assert!(!limits.hold(99, 1) && limits.hold(100, 1), "a share counts from a hundred on");
        assert!(!limits.hold(225, 675) && limits.hold(226, 674), "25 % are allowed, more aren't");
        assert!(limits.hold(600, 300));
        assert!(!limits.hold(10_000, 1_000_000) && limits.hold(10_001, 1_000_000));
    }

    #[test]
    fn each_limit_can_be_taken_away_and_both_switch_the_guard_off() {
        assert!(!Limits { files: 0, percent: 25 }.hold(1_000_000, 100_000_000));
        assert!(Limits { files: 0, percent: 25 }.hold(20, 0));
        assert!(!Limits { files: 10_000, percent: 100 }.hold(9_999, 1));
        assert!(!Limits { files: 0, percent: 100 }.hold(u64::MAX / 2, 0));
    }
}

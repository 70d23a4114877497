//! Which stored versions go, and when: by their number, their age, and the space that they take. A version is pinned if it
//! is all that is left of something that nobody has superseded; only its age ends it.

use std::collections::BTreeMap;

/// A part of a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Share {
    /// Of its size, in percent.
    Percent(u64),
    /// Bytes.
    Bytes(u64),
}

impl Share {
    /// The bytes of a file system of this size.
    pub fn of(self, total_bytes: u64) -> u64 {
        match self {
            Self::Percent(percent) => total_bytes / 100 * percent,
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// How much a version store may keep, and how much of its file system stays free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Versions of one path.
    pub keep: usize,
    /// For how long, in milliseconds.
    pub max_age_millis: u64,
    /// The space of all.
    pub budget: Share,
    /// What stays free for others; none means the smaller of 5 % and 5 GiB.
    pub reserve: Option<Share>,
    /// Bytes that files, stored versions and what is on its way may take together; none means any number.
    pub capacity: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { keep: 10, max_age_millis: 720 * 3600 * 1_000, budget: Share::Percent(10), reserve: None, capacity: None }
    }
}

impl Limits {
    /// The bytes that stay free on a file system of this size.
    pub fn reserve(&self, total_bytes: u64) -> u64 {
        match self.reserve {
            Some(share) => share.of(total_bytes),
            None => Share::Percent(5).of(total_bytes).min(5 << 30),
        }
    }
}

/// A stored version, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Which path it was displaced from, as a number.
    pub path: u64,
    /// When, in milliseconds since 1970.
    pub millis: u64,
    /// Bytes that it takes.
    pub bytes: u64,
    /// It is all that is left of what nobody has superseded.
    pub pinned: bool,
}

/// The positions of those that go now, oldest first. What exceeds its age goes, pinned or not; of what isn't pinned, the
/// oldest beyond `keep` for each path, and then the oldest of all until the rest fits into the budget.
pub fn surplus(stored: &[Stored], limits: &Limits, total_bytes: u64, now_millis: u64) -> Vec<usize> {
    let oldest = now_millis.saturating_sub(limits.max_age_millis);
    let mut of_path: BTreeMap<u64, usize> = BTreeMap::new();
    let mut left = limits.budget.of(total_bytes);
    // Pinned ones are part of the budget; they leave less of it to the others.
    for version in stored.iter().filter(|version| version.pinned && version.millis >= oldest) {
        left = left.saturating_sub(version.bytes);
    }
    let mut is_full = false;
    let mut going = Vec::new();
    for position in oldest_first(stored).into_iter().rev() {
        let version = &stored[position];
        let stays = if version.millis < oldest {
            false
        } else if version.pinned {
            true
        } else {
            let count = of_path.entry(version.path).or_default();
            *count += 1;
            let fits = *count <= limits.keep && !is_full;
            // The first that doesn't fit ends it: a smaller one that is older mustn't outlive it.
            is_full |= fits && version.bytes > left;
            fits && !is_full
        };
        if !stays {
            going.push(position);
        } else if !version.pinned {
            left -= version.bytes;
        }
    }
    going.reverse();
    going
}

/// The positions of the oldest that aren't pinned, until they give back so many bytes; at least one if there is any.
pub fn give_way(stored: &[Stored], bytes: u64) -> Vec<usize> {
    let mut given = 0;
    let mut going = Vec::new();
    for position in oldest_first(stored) {
        if !going.is_empty() && given >= bytes {
            break;
        }
        if !stored[position].pinned {
            given += stored[position].bytes;
            going.push(position);
        }
    }
    going
}

fn oldest_first(stored: &[Stored]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..stored.len()).collect();
    order.sort_by_key(|&position| stored[position].millis);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loose(path: u64, millis: u64, bytes: u64) -> Stored {
        Stored { path, millis, bytes, pinned: false }
    }

    fn pinned(path: u64, millis: u64, bytes: u64) -> Stored {
        Stored { pinned: true, ..loose(path, millis, bytes) }
    }

    const LIMITS: Limits = Limits {
        keep: 2,
        max_age_millis: 1_000,
        budget: Share::Bytes(100),
        reserve: Some(Share::Percent(5)),
        capacity: None,
    };

    #[test]
    fn the_oldest_of_a_path_beyond_its_number_go_and_pinned_ones_dont_count() {
        let stored = [loose(1, 10, 1), loose(1, 30, 1), loose(2, 5, 1), pinned(1, 1, 1), loose(1, 20, 1)];
        assert_eq!(surplus(&stored, &LIMITS, 0, 500), [0]);
    }

    #[test]
    fn age_ends_all_also_what_is_pinned() {
        let stored = [loose(1, 10, 1), pinned(2, 10, 1), pinned(3, 600, 1), loose(4, 600, 1)];
        assert_eq!(surplus(&stored, &LIMITS, 0, 1_500), [0, 1]);
    }

    #[test]
    fn beyond_the_budget_the_oldest_go_and_pinned_ones_take_their_part_of_it() {
        let stored = [loose(1, 10, 40), loose(2, 20, 10), loose(3, 30, 40), loose(4, 40, 40)];
        assert_eq!(surplus(&stored, &LIMITS, 0, 50), [0]);
        let stored = [pinned(9, 1, 30), loose(1, 10, 5), loose(2, 20, 40), loose(3, 30, 40), loose(4, 40, 20)];
        assert_eq!(surplus(&stored, &LIMITS, 0, 50), [1, 2], "a small one doesn't outlive a newer one");
        let stored = [pinned(9, 1, 300), loose(1, 10, 1)];
        assert_eq!(surplus(&stored, &LIMITS, 0, 50), [1]);
        let percent = Limits { budget: Share::Percent(10), ..LIMITS };
        let stored = [loose(1, 10, 60), loose(2, 20, 60)];
        assert_eq!(surplus(&stored, &percent, 1_000, 50), [0]);
    }

    #[test]
    fn what_gives_way_is_the_oldest_that_nobody_could_want() {
        let stored = [pinned(1, 1, 100), loose(2, 30, 10), loose(3, 20, 10), loose(4, 40, 10)];
        assert_eq!(give_way(&stored, 15), [2, 1]);
        assert_eq!(give_way(&stored, 0), [2], "a quota or the number of inodes may be what is short");
        assert_eq!(give_way(&stored, 1_000), [2, 1, 3]);
        assert!(give_way(&stored[..1], 1).is_empty());
    }

    #[test]
    fn the_reserve_is_five_percent_or_five_gibibytes_by_itself() {
        let limits = Limits::default();
        assert_eq!(limits.reserve(1_000), 50);
        assert_eq!(limits.reserve(1 << 40), 5 << 30);
        assert_eq!(LIMITS.reserve(2_000), 100);
    }
}

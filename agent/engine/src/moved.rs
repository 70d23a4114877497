//! Files that were moved rather than deleted: recognised among those that vanished and appeared within some seconds, in
//! whatever order they are seen.

use crate::limits::{GUARD_LONGEST, MOVED, MOVED_PATHS_BYTES};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use syncmesh_core::entry::{Body, ContentHash, Identity};
use syncmesh_core::path::RelativePath;

/// What vanished, what appeared, and what of it belongs together.
#[derive(Default)]
pub struct Moved {
    /// Files that were recognised.
    pub pairs: u64,
    vanished: Seen,
    appeared: Seen,
    since: u64,
    /// Where they are now, by the numbers of their old paths.
    destinations: Paths,
}

/// Files and where they were seen, of this span of time and of the one before.
#[derive(Default)]
struct Seen {
    now: BTreeMap<u64, u64>,
    before: BTreeMap<u64, u64>,
    /// Where, for those that may have been moved there.
    paths: [Paths; 2],
}

/// Paths by number. Some are left out when they become too many: of a file that was moved there nobody is told where it is.
#[derive(Default)]
struct Paths {
    paths: BTreeMap<u64, RelativePath>,
    bytes: usize,
}

impl Paths {
    fn add(&mut self, number: u64, path: &RelativePath) {
        let bytes = path.as_bytes().len();
        if self.bytes + bytes <= MOVED_PATHS_BYTES && self.paths.insert(number, path.clone()).is_none() {
            self.bytes += bytes;
        }
    }

    fn take(&mut self, number: u64) -> Option<RelativePath> {
        let path = self.paths.remove(&number)?;
        self.bytes = self.bytes.saturating_sub(path.as_bytes().len());
        Some(path)
    }
}

impl Seen {
    /// Takes out a file that was seen elsewhere: where.
    fn take(&mut self, file: u64, path: u64) -> Option<u64> {
        let at = self.now.remove(&file).or_else(|| self.before.remove(&file))?;
        (at != path).then_some(at)
    }

    fn add(&mut self, file: u64, path: u64) {
        if self.now.len() < MOVED {
            self.now.insert(file, path);
        }
    }

    fn age(&mut self) {
        self.before = std::mem::take(&mut self.now);
        self.paths.swap(0, 1);
        self.paths[0] = Paths::default();
    }
}

impl Moved {
    /// What a file or link shows wherever it is moved to on one disk. Inode numbers are used again, times to the nanosecond
    /// aren't.
    pub fn on_disk(identity: &Identity) -> u64 {
        identity.inode.rotate_left(32) ^ identity.mtime.cast_unsigned() ^ identity.size.rotate_left(16)
    }

    /// What a file shows wherever it is moved to in the mesh; nothing if it is empty, as many are.
    pub fn in_mesh(body: &Body) -> Option<u64> {
        let hash = match body {
            Body::File { hash, .. } => *hash,
            Body::Tombstone { deleted, .. } => (*deleted)?,
            Body::Symlink { .. } | Body::Directory => return None,
        };
        let first = hash.as_bytes().first_chunk().map(|first| u64::from_le_bytes(*first));
        first.filter(|_| hash != ContentHash::of(b""))
    }

    /// A file is gone from its path.
    pub fn vanished(&mut self, file: u64, path: &RelativePath, now: u64) {
        self.age(now);
        let from = number(path);
        match self.appeared.take(file, from) {
            Some(to) => {
                self.pairs += 1;
                let [now, before] = &mut self.appeared.paths;
                if let Some(to) = now.take(to).or_else(|| before.take(to)) {
                    self.destinations.add(from, &to);
                }
            }
            None => self.vanished.add(file, from),
        }
    }

    /// A file has a new path.
    pub fn appeared(&mut self, file: u64, path: &RelativePath, now: u64) {
        self.age(now);
        let to = number(path);
        match self.vanished.take(file, to) {
            Some(from) => {
                self.pairs += 1;
                self.destinations.add(from, path);
            }
            None => {
                self.appeared.add(file, to);
                self.appeared.paths[0].add(to, path);
            }
        }
    }

    /// Where a file is that was moved away from this path. It is told once.
    pub fn destination(&mut self, path: &RelativePath) -> Option<RelativePath> {
        self.destinations.take(number(path))
    }

    /// Nothing waits any more that could have been moved.
    pub fn clear(&mut self) {
        self.pairs = 0;
        self.destinations = Paths::default();
    }

    /// What was seen before the last but one span of time is forgotten.
    fn age(&mut self, now: u64) {
        if now < self.since + GUARD_LONGEST.as_nanos() as u64 {
            return;
        }
        self.since = now;
        self.vanished.age();
        self.appeared.age();
    }
}

fn number(path: &RelativePath) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.as_bytes().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelativePath {
        RelativePath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_moved_file_is_recognised_in_either_order_and_its_new_path_told_once() {
        let mut moved = Moved::default();
        moved.appeared(1, &path("b"), 0);
        moved.vanished(1, &path("a"), 0);
        moved.vanished(2, &path("c"), 0);
        moved.appeared(2, &path("d"), 0);
        moved.vanished(3, &path("e"), 0);
        assert_eq!(moved.pairs, 2);
        assert_eq!(moved.destination(&path("a")), Some(path("b")));
        assert_eq!(moved.destination(&path("c")), Some(path("d")));
        assert_eq!((moved.destination(&path("a")), moved.destination(&path("e"))), (None, None));
    }

    #[test]
    fn what_was_seen_long_before_is_forgotten() {
        let span = GUARD_LONGEST.as_nanos() as u64;
        let mut moved = Moved::default();
        moved.appeared(1, &path("b"), 0);
        moved.appeared(2, &path("d"), span);
        moved.vanished(2, &path("c"), 2 * span);
        moved.vanished(1, &path("a"), 3 * span);
        assert_eq!((moved.pairs, moved.destination(&path("c"))), (1, Some(path("d"))));
    }
}

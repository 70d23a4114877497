//! Sums by which two replicas see that they know the same of every path (SYNC 1).
//!
//! A sum is taken over what is *known* of each path, wherever in its row that stands: replicas with equal knowledge have
//! equal sums, whatever is published on their disks yet. Deletions, vectors, stamps and identities add nothing.
//!
//! Hashes are added up, as in "A New Paradigm for Collision-free Hashing: Incrementality at Reduced Cost" (Bellare,
//! Micciancio, 1997): in any order, and a changed row is exchanged for its old part without a look at the others. It finds
//! our own mistakes and broken disks; a member of the mesh that wanted two trees with one sum had easier ways to do harm.

use crate::decide::merge;
use crate::entry::{Body, Entry, Row};
use crate::path::RelativePath;
use crate::version::Knowledge;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// A sum over paths and what is declared of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Sum(u128);

impl Sum {
    /// What one row adds.
    pub fn of(path: &RelativePath, row: &Row) -> Self {
        known(row).map_or_else(Self::default, |entry| Self::of_entry(path, &entry))
    }

    /// What one entry adds: a hash of the path and of all that a user could see of it. Nothing if it was deleted.
    pub fn of_entry(path: &RelativePath, entry: &Entry) -> Self {
        let attributes = (entry.attributes.mode, entry.attributes.owner);
        let bytes = match &entry.content.body {
            Body::Tombstone { .. } => return Self::default(),
            Body::Directory => postcard::to_stdvec(&(path, 0u8, attributes)),
            Body::File { size, mtime, algorithm, hash, sparse, moved_from: _ } => {
                postcard::to_stdvec(&(path, 1u8, attributes, size, mtime, algorithm, hash, sparse))
            }
            Body::Symlink { target, mtime } => postcard::to_stdvec(&(path, 2u8, attributes, target, mtime)),
        };
        let bytes = bytes.expect("an entry has no type that postcard refuses");
        let first = *blake3::hash(&bytes).as_bytes().first_chunk().expect("a hash has 32 bytes");
        Self(u128::from_le_bytes(first))
    }

    /// Adds another sum.
    pub fn add(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }

    /// Takes one part out and puts another in.
    pub fn replace(&mut self, old: Self, new: Self) {
        self.0 = self.0.wrapping_sub(old.0).wrapping_add(new.0);
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// All that a row says of its path, as one entry.
pub fn known(row: &Row) -> Option<Cow<'_, Entry>> {
    let mut entries = row.entries();
    let first = Cow::Borrowed(entries.next()?);
    Some(entries.fold(first, |known, entry| Cow::Owned(merge(&known, entry))))
}

/// A number that stands for what somebody knows, to say about which knowledge a comparison is.
pub fn digest(knowledge: &Knowledge) -> u64 {
    let bytes = postcard::to_stdvec(knowledge).expect("knowledge has no type that postcard refuses");
    u64::from_le_bytes(*blake3::hash(&bytes).as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Hlc;
    use crate::entry::{Attributes, Content, ContentHash, Here, Origin, Owner, Stamp, Unsure, Wanted, Why};
    use crate::version::{Dot, ReplicaId, Vector};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn entry(replica: u64, counter: u64, body: Body, mode: u32) -> Entry {
        let dot = Dot { replica: ReplicaId(replica), counter };
        let stamp = Stamp { hlc: Hlc::from_millis(counter), dot };
        let mut vector = Vector::default();
        vector.add(dot);
        let attributes = Attributes { stamp, mode, owner: None };
        Entry { vector, content: Content { stamp, body, origin: Origin::Written }, losers: vec![], attributes }
    }

    fn file(contents: u8, mtime: i64) -> Body {
        let hash = ContentHash::of(&[contents]);
        Body::File { size: 1, mtime, algorithm: 0, hash, sparse: false, moved_from: None }
    }

    fn here(entry: Entry) -> Row {
        Row { sequence: 1, here: Some(Here { entry, identity: None, unsure: Unsure::default() }), wanted: None }
    }

    fn wanted(entries: Vec<Entry>, why: Why) -> Row {
        Row { sequence: 9, here: None, wanted: Some(Wanted { entries, why }) }
    }

    fn path(number: u8) -> RelativePath {
        RelativePath::new(format!("d/{number}").as_bytes()).unwrap()
    }

    fn rows() -> impl Strategy<Value = Row> {
        (1u64..4, 1u64..9, 0u8..3).prop_map(|(replica, counter, place)| {
            // One version is one thing.
            let body = match (replica + 3 * counter) % 5 {
                0 => Body::tombstone(None),
                1 => Body::Directory,
                2 => Body::Symlink { target: b"t".to_vec(), mtime: 1 },
                _ => file((10 * replica + counter) as u8, 1),
            };
            let entry = entry(replica, counter, body, 0o644);
            match place {
                0 => here(entry),
                1 => wanted(vec![entry], Why::Fetching),
                _ => {
                    let mut row = wanted(vec![self::entry(7, counter, file(9, 2), 0o600)], Why::Held);
                    row.here = here(entry).here;
                    row
                }
            }
        })
    }

    proptest! {
        #[test]
        fn a_sum_that_is_kept_row_by_row_is_the_sum_of_all_rows_in_any_order(changes in proptest::collection::vec((0u8..6, rows()), 0..40)) {
            let mut kept = Sum::default();
            let mut now: BTreeMap<u8, Row> = BTreeMap::new();
            for (number, row) in changes {
                let old = now.get(&number).map(|old| Sum::of(&path(number), old)).unwrap_or_default();
                kept.replace(old, Sum::of(&path(number), &row));
                now.insert(number, row);
            }
            let mut forwards = Sum::default();
            now.iter().for_each(|(&number, row)| forwards.add(Sum::of(&path(number), row)));
            let mut backwards = Sum::default();
            now.iter().rev().for_each(|(&number, row)| backwards.add(Sum::of(&path(number), row)));
            prop_assert_eq!(kept, forwards);
            prop_assert_eq!(kept, backwards);
        }

        #[test]
        fn it_doesnt_matter_which_part_of_a_known_path_is_published(a in rows(), b in rows()) {
            let known = |row: &Row| super::known(row).unwrap().into_owned();
            let (a, b) = (known(&a), known(&b));
            let mut both = wanted(vec![b.clone()], Why::Fetching);
            both.here = here(a.clone()).here;
            let mut other = wanted(vec![a.clone()], Why::Held);
            other.here = here(b.clone()).here;
            let sums = [here(merge(&a, &b)), both, other, wanted(vec![a, b], Why::Conflict)].map(|row| Sum::of(&path(1), &row));
            prop_assert!(sums.iter().all(|sum| *sum == sums[0]), "{:?}", sums);
        }
    }

    #[test]
    fn whatever_a_user_could_see_changes_the_sum_and_nothing_else_does() {
        let sum = |at, entry: &Entry| Sum::of_entry(&path(at), entry);
        let plain = entry(1, 1, file(1, 5), 0o644);
        let mut owned = plain.clone();
        owned.attributes.owner = Some(Owner { uid: 1, gid: 2 });
        let link = |target: &[u8]| entry(1, 1, Body::Symlink { target: target.to_vec(), mtime: 5 }, 0o777);
        let others = [
            sum(2, &plain),
            sum(1, &entry(1, 1, file(2, 5), 0o644)),
            sum(1, &entry(1, 1, file(1, 6), 0o644)),
            sum(1, &entry(1, 1, file(1, 5), 0o600)),
            sum(1, &entry(1, 1, Body::Directory, 0o644)),
            sum(1, &owned),
            sum(1, &link(b"a")),
            sum(1, &link(b"b")),
            Sum::default(),
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(*other, sum(1, &plain), "{at}");
            assert!(others.iter().skip(at + 1).all(|later| later != other), "{at}");
        }
        assert_eq!(sum(1, &entry(2, 7, file(1, 5), 0o644)), sum(1, &plain), "who wrote it doesn't matter");
        assert_eq!(sum(1, &entry(2, 7, Body::tombstone(None), 0o644)), Sum::default());
    }

    #[test]
    fn knowledge_is_told_apart_by_its_digest() {
        let mut knowledge = Knowledge::default();
        let empty = digest(&knowledge);
        knowledge.add(Dot { replica: ReplicaId(1), counter: 1 });
        assert_ne!(digest(&knowledge), empty);
        assert_eq!(digest(&knowledge), digest(&knowledge.clone()));
    }
}

//! Who made a version, which versions a version supersedes, and which versions somebody knows.
//!
//! Dots and vectors follow "Dotted Version Vectors" (Almeida, Baquero, Gonçalves, Preguiça, Fonte, 2012); knowledge as
//! ranges of counters follows "Concise server-wide causality management" (Gonçalves and others, 2015).

use crate::limits::{KNOWLEDGE_RANGES, VECTOR_REPLICAS};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One run of one node's agent: the random incarnation that it took at its start. Sixty-four random bits name it alone;
/// which node it belongs to is told once, in the replica table, not in each row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ReplicaId(pub u64);

/// One version that somebody wrote. Counters start at 1 and count the versions of one volume that a replica made.
/// Never used twice (I8, I9).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Dot {
    /// Who made it.
    pub replica: ReplicaId,
    /// Its number among what that replica made in this volume.
    pub counter: u64,
}

/// For one path: which versions are superseded or current. A component (r, n) stands for all versions of this path that
/// r made with counters up to n.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Dot>", into = "Vec<Dot>")]
pub struct Vector(Vec<Dot>);

impl Vector {
    /// Does it include this version?
    pub fn includes(&self, dot: Dot) -> bool {
        self.counter(dot.replica) >= dot.counter
    }

    /// The highest counter of a replica; 0 if it has none.
    pub fn counter(&self, replica: ReplicaId) -> u64 {
        self.0.binary_search_by_key(&replica, |dot| dot.replica).map_or(0, |at| self.0[at].counter)
    }

    /// Does it include every version that the other includes?
    pub fn includes_all(&self, other: &Self) -> bool {
        other.0.iter().all(|&dot| self.includes(dot))
    }

    /// Adds a version.
    pub fn add(&mut self, dot: Dot) {
        match self.0.binary_search_by_key(&dot.replica, |d| d.replica) {
            Ok(at) => self.0[at].counter = self.0[at].counter.max(dot.counter),
            Err(at) => self.0.insert(at, dot),
        }
    }

    /// The least vector that includes both.
    pub fn join(&self, other: &Self) -> Self {
        let mut joined = self.clone();
        for &dot in &other.0 {
            joined.add(dot);
        }
        joined
    }

    /// Its components by replica.
    pub fn dots(&self) -> &[Dot] {
        &self.0
    }
}

impl TryFrom<Vec<Dot>> for Vector {
    type Error = &'static str;
    fn try_from(dots: Vec<Dot>) -> Result<Self, Self::Error> {
        if dots.len() > VECTOR_REPLICAS {
            return Err("a version vector has more than 16384 replicas");
        }
        if !dots.windows(2).all(|pair| pair[0].replica < pair[1].replica) {
            return Err("a version vector isn't in the order of its replicas");
        }
        if dots.iter().any(|dot| dot.counter == 0) {
            return Err("a version vector has a counter of zero");
        }
        Ok(Self(dots))
    }
}

impl From<Vector> for Vec<Dot> {
    fn from(vector: Vector) -> Self {
        vector.0
    }
}

/// First and last counter of a run of versions, both included.
type Range = (u64, u64);

/// For one volume: the versions that somebody has recorded, or whose successors they have recorded. Per replica, sorted
/// ranges that neither overlap nor touch.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<(ReplicaId, Vec<Range>)>", into = "Vec<(ReplicaId, Vec<Range>)>")]
pub struct Knowledge(BTreeMap<ReplicaId, Vec<Range>>);

impl Knowledge {
    /// Is this version known?
    pub fn contains(&self, dot: Dot) -> bool {
        self.0.get(&dot.replica).is_some_and(|ranges| {
            let at = ranges.partition_point(|range| range.1 < dot.counter);
            ranges.get(at).is_some_and(|range| range.0 <= dot.counter)
        })
    }

    /// Is this version known, and each that its replica made before?
    pub fn contains_up_to(&self, dot: Dot) -> bool {
        let first = self.0.get(&dot.replica).and_then(|ranges| ranges.first());
        first.is_some_and(|range| range.0 == 1 && dot.counter <= range.1)
    }

    /// Is every component of this vector known? Then whoever has this knowledge needs nothing that the vector's entry
    /// could tell.
    pub fn covers(&self, vector: &Vector) -> bool {
        vector.dots().iter().all(|&dot| self.contains(dot))
    }

    /// Is everything that the other knows known here?
    pub fn covers_all(&self, other: &Self) -> bool {
        other.0.iter().all(|(replica, theirs)| {
            let Some(ours) = self.0.get(replica) else { return false };
            theirs.iter().all(|range| {
                let at = ours.partition_point(|own| own.1 < range.0);
                ours.get(at).is_some_and(|own| own.0 <= range.0 && range.1 <= own.1)
            })
        })
    }

    /// Adds one version. At the limit of ranges a version that would need a new one is left out: knowing less is safe.
    pub fn add(&mut self, dot: Dot) {
        self.add_range(dot.replica, (dot.counter, dot.counter));
    }

    /// Adds what a recorded entry's vector names.
    pub fn add_vector(&mut self, vector: &Vector) {
        for &dot in vector.dots() {
            self.add(dot);
        }
    }

    /// Adds all that the other knows.
    pub fn join(&mut self, other: &Self) {
        self.join_without(other, &[]);
    }

    /// Adds all that the other knows of replicas that aren't in `except`.
    pub fn join_without(&mut self, other: &Self, except: &[ReplicaId]) {
        for (&replica, ranges) in other.0.iter().filter(|(replica, _)| !except.contains(replica)) {
            for &range in ranges {
                self.add_range(replica, range);
            }
        }
    }

    /// How many ranges it keeps.
    pub fn ranges(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    fn add_range(&mut self, replica: ReplicaId, (first, last): Range) {
        let ranges = self.0.entry(replica).or_default();
        // Ranges that overlap or touch the new one become one with it.
        let from = ranges.partition_point(|range| range.1.saturating_add(1) < first);
        let to = ranges.partition_point(|range| range.0 <= last.saturating_add(1));
        if from < to {
            let joined = (first.min(ranges[from].0), last.max(ranges[to - 1].1));
            ranges.splice(from..to, [joined]);
            return;
        }
        ranges.insert(from, (first, last));
        if self.ranges() > KNOWLEDGE_RANGES
            && let Some(ranges) = self.0.get_mut(&replica)
        {
            ranges.remove(from);
            self.0.retain(|_, ranges| !ranges.is_empty());
        }
    }
}

impl TryFrom<Vec<(ReplicaId, Vec<Range>)>> for Knowledge {
    type Error = &'static str;
    fn try_from(list: Vec<(ReplicaId, Vec<Range>)>) -> Result<Self, Self::Error> {
        let mut replicas = BTreeMap::new();
        let mut count = 0;
        for (replica, ranges) in list {
            count += ranges.len();
            let sorted = ranges.windows(2).all(|pair| pair[0].1.saturating_add(1) < pair[1].0);
            if ranges.is_empty() || !sorted || ranges.iter().any(|range| range.0 == 0 || range.0 > range.1) {
                return Err("knowledge has ranges that are empty, overlap or aren't in order");
            }
            if replicas.insert(replica, ranges).is_some() {
                return Err("knowledge names a replica twice");
            }
        }
        if count > KNOWLEDGE_RANGES {
            return Err("knowledge has more than 8192 ranges");
        }
        Ok(Self(replicas))
    }
}

impl From<Knowledge> for Vec<(ReplicaId, Vec<Range>)> {
    fn from(knowledge: Knowledge) -> Self {
        knowledge.0.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vectors() -> impl Strategy<Value = Vector> {
        proptest::collection::vec((0u64..4, 1u64..5), 0..6).prop_map(|dots| {
            let mut vector = Vector::default();
            for (replica, counter) in dots {
                vector.add(Dot { replica: ReplicaId(replica), counter });
            }
            vector
        })
    }

    fn knowledges() -> impl Strategy<Value = (Knowledge, std::collections::BTreeSet<(u64, u64)>)> {
        proptest::collection::vec((0u64..3, 1u64..20), 0..30).prop_map(|dots| {
            let mut knowledge = Knowledge::default();
            for &(replica, counter) in &dots {
                knowledge.add(Dot { replica: ReplicaId(replica), counter });
            }
            (knowledge, dots.into_iter().collect())
        })
    }

    proptest! {
        #[test]
        fn joining_vectors_is_commutative_associative_and_idempotent(a in vectors(), b in vectors(), c in vectors()) {
            prop_assert_eq!(a.join(&b), b.join(&a));
            prop_assert_eq!(a.join(&b).join(&c), a.join(&b.join(&c)));
            prop_assert_eq!(a.join(&a), a.clone());
            prop_assert!(a.join(&b).includes_all(&a));
        }

        #[test]
        fn knowledge_is_the_set_of_its_dots((a, dots_a) in knowledges(), (b, dots_b) in knowledges(), (c, _) in knowledges()) {
            for replica in 0..3 {
                for counter in 1..20 {
                    let dot = Dot { replica: ReplicaId(replica), counter };
                    prop_assert_eq!(a.contains(dot), dots_a.contains(&(replica, counter)));
                }
            }
            let join = |x: &Knowledge, y: &Knowledge| { let mut joined = x.clone(); joined.join(y); joined };
            prop_assert_eq!(join(&a, &b), join(&b, &a));
            prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
            prop_assert_eq!(join(&a, &a), a.clone());
            prop_assert_eq!(a.covers_all(&b), dots_b.is_subset(&dots_a));
            prop_assert!(join(&a, &b).covers_all(&b));
        }

        #[test]
        fn knowledge_survives_its_encoding((a, _) in knowledges()) {
            let bytes = postcard::to_stdvec(&a).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Knowledge>(&bytes).unwrap(), a);
        }
    }

    #[test]
    fn at_the_limit_knowledge_stays_true_and_bounded() {
        let mut knowledge = Knowledge::default();
        for counter in (1..10_000).map(|n| n * 2) {
            knowledge.add(Dot { replica: ReplicaId(1), counter });
        }
        assert_eq!(knowledge.ranges(), KNOWLEDGE_RANGES);
        assert!(!knowledge.contains(Dot { replica: ReplicaId(1), counter: 3 }));
        knowledge.add(Dot { replica: ReplicaId(2), counter: 1 });
        assert_eq!(knowledge.ranges(), KNOWLEDGE_RANGES);
    }
}

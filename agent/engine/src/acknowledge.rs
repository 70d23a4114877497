//! How far a peer's stream has got here: positions that flow back to it, free its credit and let its knowledge become
//! ours.

use crate::limits::PENDING_KNOWLEDGE;
use std::collections::{BTreeMap, VecDeque};
use syncmesh_protocol::limits::ENTRIES_CREDIT_BYTES;
use syncmesh_protocol::message::{Covers, Progress};

/// What has arrived of one peer's sequence of one volume.
#[derive(Default)]
pub struct Incoming {
    /// Rows that came and aren't recorded: how many entries, and the bytes that count for credit.
    outstanding: BTreeMap<u64, (u32, u64)>,
    /// The highest number that came.
    received: u64,
    /// What the peer said at which position, oldest first. Holds once everything before is recorded.
    covers: VecDeque<Covers>,
    came_bytes: u64,
    taken_bytes: u64,
    /// Everything up to here is recorded, and journalled.
    pub journalled: u64,
    /// Everything up to here is durable.
    pub durable: u64,
    /// What `journalled` was when the closing epoch closed.
    pub closing: u64,
    /// The peer has told everything that it had at some time since the session began, and all of it is recorded.
    pub has_told: bool,
    /// The last positions that the peer was told.
    pub told: Option<Progress>,
}

impl Incoming {
    /// A stream that goes on after this position.
    pub fn new(position: u64) -> Self {
        Self { received: position, journalled: position, ..Self::default() }
    }

    /// An entry came; `bytes` of its frame count for credit once it is recorded.
    pub fn receive(&mut self, sequence: u64, bytes: u64) {
        let slot = self.outstanding.entry(sequence).or_default();
        slot.0 += 1;
        slot.1 += bytes;
        self.came_bytes += bytes;
        self.received = self.received.max(sequence);
    }

    /// Has the peer kept to its credit? A little more is granted than it should use: what it was told is a round trip old.
    pub fn has_credit(&self) -> bool {
        self.came_bytes - self.taken_bytes <= 2 * ENTRIES_CREDIT_BYTES
    }

    /// One entry is recorded.
    pub fn record(&mut self, sequence: u64) {
        if let Some(slot) = self.outstanding.get_mut(&sequence) {
            slot.0 -= 1;
            if slot.0 == 0 {
                self.taken_bytes += slot.1;
                self.outstanding.remove(&sequence);
            }
        }
    }

    /// The peer says what whoever has recorded its rows up to here knows. The newest includes the older, so of many it
    /// stands for the last few.
    pub fn cover(&mut self, covers: Covers) {
        self.received = self.received.max(covers.sequence);
        self.covers.truncate(PENDING_KNOWLEDGE - 1);
        self.covers.push_back(covers);
    }

    /// Everything up to here is recorded.
    pub fn recorded(&self) -> u64 {
        self.outstanding.first_key_value().map_or(self.received, |(sequence, _)| sequence - 1)
    }

    /// Knowledge that has become true since the last call (the newest implies the older).
    pub fn learn(&mut self) -> Option<Covers> {
        let recorded = self.recorded();
        let mut learnt = None;
        while self.covers.front().is_some_and(|covers| covers.sequence <= recorded) {
            learnt = self.covers.pop_front();
            self.has_told = true;
        }
        learnt
    }

    /// Is everything recorded that came?
    pub fn is_idle(&self) -> bool {
        self.outstanding.is_empty() && self.covers.is_empty()
    }

    /// What the peer should hear. `all_visible`: nothing that is recorded waits to be published.
    pub fn progress(&self, all_visible: bool) -> Progress {
        let told = self.told.map_or(0, |told| told.visible);
        Progress {
            recorded: self.journalled,
            visible: if all_visible { self.journalled } else { told.min(self.journalled) },
            durable: self.durable,
            taken_bytes: self.taken_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncmesh_core::summary::Sum;
    use syncmesh_core::version::{Dot, Knowledge, ReplicaId};

    #[test]
    fn knowledge_counts_only_when_everything_before_it_is_recorded() {
        let mut incoming = Incoming::default();
        let mut knowledge = Knowledge::default();
        knowledge.add(Dot { replica: ReplicaId(1), counter: 2 });
        incoming.receive(1, 0);
        incoming.receive(2, 10);
        let covers = Covers { sequence: 2, knowledge, left_out: vec![], sum: Sum::default() };
        incoming.cover(covers.clone());
        incoming.record(2);
        assert_eq!((incoming.recorded(), incoming.learn()), (0, None));
        incoming.record(1);
        assert_eq!((incoming.recorded(), incoming.learn()), (2, Some(covers)));
        assert_eq!(incoming.progress(true).taken_bytes, 10);
    }

    #[test]
    fn a_peer_that_tells_its_knowledge_without_end_takes_no_memory_and_the_newest_counts() {
        let mut incoming = Incoming::default();
        incoming.receive(1, 0);
        let mut knowledge = Knowledge::default();
        for sequence in 2..1_000 {
            knowledge.add(Dot { replica: ReplicaId(1), counter: sequence });
            incoming.cover(Covers { sequence, knowledge: knowledge.clone(), left_out: vec![], sum: Sum::default() });
        }
        assert_eq!(incoming.covers.len(), PENDING_KNOWLEDGE);
        assert_eq!(incoming.learn(), None);
        incoming.record(1);
        assert_eq!(incoming.learn().map(|covers| covers.knowledge), Some(knowledge));
    }
}

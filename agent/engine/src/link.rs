//! One volume over one session: what the peer was sent, what it has taken, what it knows.

use crate::acknowledge::Incoming;
use crate::compare::Comparing;
use crate::limits::PENDING_KNOWLEDGE;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use syncmesh_core::summary::Sum;
use syncmesh_core::version::{Knowledge, ReplicaId};
use syncmesh_protocol::limits::ENTRIES_CREDIT_BYTES;
use syncmesh_protocol::message::{self, Progress};

/// A volume that both sides of a session keep.
pub struct Link {
    /// The peer's number for the volume.
    pub theirs: u16,
    /// The stream to the peer.
    pub outgoing: Stream,
    /// The stream from the peer.
    pub incoming: Incoming,
    /// Whether both sides know the same of every path.
    pub comparing: Comparing,
    /// The peer has paused the volume.
    pub paused_there: bool,
    /// The peer's copy is being filled for the first time.
    pub filling_there: bool,
    /// Runs of agents with which the peer exchanges the volume.
    pub runs_there: BTreeSet<ReplicaId>,
    /// Runs with which we do, as we told it last.
    pub runs_told: BTreeSet<ReplicaId>,
}

impl Link {
    /// A volume that both sides have named, whose streams go on after these positions: ours to the peer, and the peer's.
    pub fn new(message: message::Volume, ours: u64, theirs: u64, number: u16) -> Self {
        Self {
            theirs: number,
            outgoing: Stream::new(ours, message.knowledge),
            incoming: Incoming::new(theirs),
            comparing: Comparing::default(),
            paused_there: message.paused,
            filling_there: message.filling,
            runs_there: BTreeSet::new(),
            runs_told: BTreeSet::new(),
        }
    }

    /// Replicas whose versions the peer has from themselves: its own present incarnation, and those with which it exchanges
    /// the volume. Versions of earlier incarnations aren't among them: a crash may have lost them there.
    pub fn makers(&self, own: Option<ReplicaId>) -> BTreeSet<ReplicaId> {
        self.runs_there.iter().copied().chain(own).collect()
    }
}

/// What goes to the peer.
pub struct Stream {
    /// Our rows up to here were sent, or the peer has no need of them.
    pub position: u64,
    /// A collect job is under way.
    pub collecting: bool,
    /// Start again from the beginning when the running job ends: what the peer gets from others has changed.
    pub restart: bool,
    /// Rows were left to makers that had a session with the peer.
    pub left_to_makers: bool,
    /// What had been left to makers is sent from the beginning. The peer's position says nothing of it.
    pub again: bool,
    /// What the peer knows: what it said, and what it has recorded since.
    pub knowledge: Arc<Knowledge>,
    /// Bytes of entries that were sent.
    pub sent_bytes: u64,
    /// What the peer says of our sequence.
    pub progress: Progress,
    /// Our knowledge as we told it, by position; the peer has it once it has recorded up to there.
    pub told: VecDeque<(u64, Knowledge)>,
    /// The position, knowledge and sum of the last such message.
    pub covered: Option<(u64, Knowledge, Sum)>,
    /// Entries were sent since.
    pub sent_since: bool,
    /// When to tell it again.
    pub cover_at: Option<u64>,
}

impl Stream {
    /// A stream that starts after a position.
    pub fn new(position: u64, knowledge: Knowledge) -> Self {
        Self {
            position,
            collecting: false,
            restart: false,
            left_to_makers: false,
            again: false,
            knowledge: Arc::new(knowledge),
            sent_bytes: 0,
            progress: Progress { recorded: 0, visible: 0, durable: 0, taken_bytes: 0 },
            told: VecDeque::new(),
            covered: None,
            sent_since: false,
            cover_at: None,
        }
    }

    /// Sends again what was left to makers, as far as the peer's knowledge doesn't cover it.
    pub fn start_again(&mut self) {
        if self.collecting {
            self.restart = true;
        } else if self.left_to_makers {
            self.left_to_makers = false;
            self.again = true;
            self.position = 0;
            self.covered = None;
        }
    }

    /// May the peer lack rows up to the position that it has recorded? Then another session begins from the beginning.
    pub fn may_lack(&self, known_here: &Knowledge) -> bool {
        self.left_to_makers || (self.again && !self.knowledge.covers_all(known_here))
    }

    /// Notes what the peer was told that it knows once it has recorded everything up to `position`. What is told later
    /// includes what was told before, so of many the newest stands for the last few.
    pub fn tell(&mut self, position: u64, knowledge: Knowledge) {
        self.told.truncate(PENDING_KNOWLEDGE - 1);
        self.told.push_back((position, knowledge));
    }

    /// May more entries be sent before the peer has taken some?
    pub fn has_credit(&self) -> bool {
        self.sent_bytes.saturating_sub(self.progress.taken_bytes) < ENTRIES_CREDIT_BYTES / 2
    }

    /// The peer said how far it is. False if it can't be true.
    pub fn advance(&mut self, progress: Progress) -> bool {
        if progress.taken_bytes > self.sent_bytes {
            return false;
        }
        self.progress = progress;
        while self.told.front().is_some_and(|(position, _)| *position <= progress.recorded) {
            if let Some((_, knowledge)) = self.told.pop_front() {
                Arc::make_mut(&mut self.knowledge).join(&knowledge);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncmesh_core::version::{Dot, ReplicaId};

    #[test]
    fn a_peer_that_never_says_how_far_it_is_takes_no_memory_and_the_newest_counts() {
        let mut stream = Stream::new(0, Knowledge::default());
        let mut knowledge = Knowledge::default();
        for position in 1..1_000 {
            knowledge.add(Dot { replica: ReplicaId(1), counter: position });
            stream.tell(position, knowledge.clone());
        }
        assert_eq!(stream.told.len(), PENDING_KNOWLEDGE);
        assert!(stream.advance(Progress { recorded: 5, visible: 0, durable: 0, taken_bytes: 0 }));
        assert!(!stream.knowledge.covers_all(&knowledge));
        assert!(stream.advance(Progress { recorded: 999, visible: 0, durable: 0, taken_bytes: 0 }));
        assert!(stream.knowledge.covers_all(&knowledge));
    }
}

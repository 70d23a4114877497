//! The right to write a volume that one node writes at a time, as far as this node can be sure of it.
//!
//! The operator gives it to another node once this one has said that it obeys, or 40 s after it was told to. So a node that has it
//! asks the API server every 10 s whether it still has, and 30 s after it last asked and was told so it has it no more: the engine
//! counts that down. Time is counted from the question, which is the earliest moment that the answer may be about, and while the
//! machine sleeps, too.

use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::time::Duration;
use syncmesh_config::Role;
use syncmesh_crds::SyncReplica;
use syncmesh_crds::replica::SyncReplicaSpec;
use syncmesh_crds::volume::{Grant, WriteMode};
use syncmesh_engine::settings::Rights;

/// For how long it counts that the API server has said so. The operator waits 10 s longer.
const COUNTS: Duration = Duration::from_secs(30);
/// How often it is asked.
const EVERY: Duration = Duration::from_secs(10);
/// Least time between two questions while a right is new, or an answer is missing.
const AGAIN: Duration = Duration::from_secs(1);

const _: () = assert!(EVERY.as_secs() * 2 < COUNTS.as_secs());

/// What the API server has said of this node's rights.
#[derive(Default)]
pub struct Known {
    /// When it was last asked.
    asked: Option<Duration>,
    /// By `volumeID`: the epoch of a right that this node has, and when the question was asked.
    said: BTreeMap<String, (u64, Duration)>,
}

/// Whether this node may write.
pub fn role(spec: &SyncReplicaSpec) -> Role {
    match (spec.mode, &spec.writer) {
        (WriteMode::ReadWriteMany, _) => Role::Writer,
        (WriteMode::SingleWriter, None) => Role::Fenced,
        (WriteMode::SingleWriter, Some(_)) if spec.fenced => Role::Fenced,
        (WriteMode::SingleWriter, Some(grant)) if grant.node != spec.node => Role::Reader,
        (WriteMode::SingleWriter, Some(grant)) => Role::Granted(grant.epoch),
    }
}

impl Known {
    /// Is it time to ask? Where this node has a right, as far as is known.
    pub fn must_ask<'a>(&self, mut replicas: impl Iterator<Item = &'a SyncReplica>, now: Duration) -> bool {
        let is_due = |replica: &SyncReplica| {
            let Some(grant) = own(replica) else { return false };
            let is_fresh = |(epoch, asked): &(u64, Duration)| *epoch == grant.epoch && now < *asked + EVERY;
            !self.said.get(&replica.spec.volume_id).is_some_and(is_fresh)
        };
        self.asked.is_none_or(|asked| now >= asked + AGAIN) && replicas.any(is_due)
    }

    /// It is being asked.
    pub fn asked(&mut self, now: Duration) {
        self.asked = Some(now);
    }

    /// What it answered to the question that was asked then, as the engine's clock counts it.
    pub fn answered(&mut self, replicas: &[SyncReplica], asked: Duration) -> Rights {
        let own = replicas.iter().filter_map(|replica| Some((replica, own(replica)?)));
        self.said = own.map(|(replica, grant)| (replica.spec.volume_id.clone(), (grant.epoch, asked))).collect();
        let until = u64::try_from((asked + COUNTS).as_nanos()).unwrap_or(u64::MAX);
        self.said.iter().map(|(volume, (epoch, _))| (volume.clone(), (*epoch, until))).collect()
    }
}

/// The right that an object gives to its own node.
fn own(replica: &SyncReplica) -> Option<&Grant> {
    replica.spec.writer.as_ref().filter(|grant| grant.node == replica.spec.node)
}

/// Time since the machine was started, while it slept, too: the engine's clock.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::status::tests::replica;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000 + seconds)
    }

    fn granted(node: &str, epoch: u64) -> SyncReplica {
        let mut replica = replica(&["a", "b"]);
        replica.spec.mode = WriteMode::SingleWriter;
        replica.spec.writer = Some(Grant { node: node.into(), epoch });
        replica
    }

    #[test]
    fn a_right_counts_for_30_seconds_from_the_question_that_confirmed_it() {
        let (mut known, replica) = (Known::default(), granted("a", 3));
        let rights = known.answered(std::slice::from_ref(&replica), at(0));
        let until = u64::try_from(at(30).as_nanos()).unwrap();
        assert_eq!(rights, Rights::from([(replica.spec.volume_id.clone(), (3, until))]));
        assert_eq!(known.answered(&[granted("b", 4)], at(42)), Rights::new(), "the watch is late");
    }

    #[test]
    fn another_nodes_right_makes_a_reader_and_nobodys_makes_nobody() {
        assert_eq!(role(&granted("b", 1).spec), Role::Reader);
        assert_eq!(role(&granted("a", 2).spec), Role::Granted(2));
        assert_eq!(role(&replica(&["a"]).spec), Role::Writer, "all may");
        let mut nobody = granted("a", 1);
        nobody.spec.writer = None;
        assert_eq!(role(&nobody.spec), Role::Fenced);
        let mut next = granted("b", 1);
        next.spec.fenced = true;
        assert_eq!(role(&next.spec), Role::Fenced, "its own right is on its way");
    }

    #[test]
    fn it_is_asked_at_once_for_a_new_right_and_every_10_seconds_for_one_that_is_known() {
        let (mut known, replica) = (Known::default(), granted("a", 3));
        let asks = |known: &Known, replica: &SyncReplica, now| known.must_ask(std::iter::once(replica), now);
        assert!(asks(&known, &replica, at(0)) && !asks(&known, &granted("b", 3), at(0)));
        known.asked(at(0));
        assert!(!asks(&known, &replica, at(0)) && asks(&known, &replica, at(1)), "the answer is missing");
        known.answered(std::slice::from_ref(&replica), at(0));
        assert!(!asks(&known, &replica, at(9)) && asks(&known, &replica, at(10)));
        known.asked(at(10));
        assert!(asks(&known, &replica, at(11)), "the answer is missing again");
        assert!(asks(&known, &granted("a", 4), at(11)));
    }
}

//! Agents that are ready and don't take up what changes: nothing from the API server reaches them, and their files go on all the same.

use kube::Resource;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use syncmesh_crds::SyncReplica;
use tokio::time::Instant;

/// How long an agent gets to say that it has seen a change.
const PATIENCE: Duration = Duration::from_secs(60);
/// Statuses that all agents of a mesh may write in a second: what they say comes later by this.
const STATUSES_PER_SECOND: u64 = 50;

/// Since when agents haven't taken up a change, by mesh and node. It ends with the operator, and the next one waits anew.
#[derive(Default)]
pub struct Silent(Mutex<BTreeMap<String, BTreeMap<String, Instant>>>);

/// What is known of a mesh's agents.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    /// Nodes whose agents have been silent for too long.
    pub silent: Vec<String>,
    /// When the next one may be.
    pub again: Option<Duration>,
}

impl Silent {
    /// Looks at a mesh's replicas on nodes whose agents are ready.
    pub fn look(&self, mesh: &str, ready: &BTreeSet<&str>, replicas: &[Arc<SyncReplica>], now: Instant) -> Heard {
        let owing = replicas.iter().filter(|replica| ready.contains(replica.spec.node.as_str()) && owes(replica));
        let owing: BTreeSet<&str> = owing.map(|replica| replica.spec.node.as_str()).collect();
        let mut meshes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = meshes.entry(mesh.to_owned()).or_default();
        since.retain(|node, _| owing.contains(node.as_str()));
        for node in owing {
            since.entry(node.to_owned()).or_insert(now);
        }
        let patience = PATIENCE + Duration::from_secs(replicas.len() as u64 / STATUSES_PER_SECOND);
        let is_silent = |began: &Instant| now.duration_since(*began) >= patience;
        let waiting = since.values().filter(|began| !is_silent(began));
        let again = waiting.map(|began| patience - now.duration_since(*began)).min();
        let silent = since.iter().filter(|(_, began)| is_silent(began)).map(|(node, _)| node.clone()).collect();
        if since.is_empty() {
            meshes.remove(mesh);
        }
        Heard { silent, again }
    }
}

/// Whether an agent hasn't said yet that it has seen the object as it is. One that refuses it has.
fn owes(replica: &SyncReplica) -> bool {
    let status = replica.status.as_ref();
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    let heard = conditions.iter().map(|condition| condition.observed_generation);
    let heard = heard.chain(status.map(|status| status.observed_generation)).flatten().max();
    heard < replica.meta().generation
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::example::Cluster;

    fn cluster() -> Cluster {
        let mut cluster = Cluster::with_nodes(&["a", "b"]);
        cluster.reconcile();
        for replica in &mut cluster.replicas {
            Arc::make_mut(replica).metadata.generation = Some(2);
        }
        for node in ["a", "b"] {
            cluster.report(node, |status| status.observed_generation = Some(2));
        }
        cluster
    }

    fn look(silent: &Silent, cluster: &Cluster, ready: &[&str], now: Instant) -> (Vec<String>, Option<u64>) {
        let heard = silent.look("default", &ready.iter().copied().collect(), &cluster.replicas, now);
        (heard.silent, heard.again.map(|again| again.as_secs()))
    }

    #[test]
    fn an_agent_is_silent_that_is_ready_and_takes_up_no_change_for_a_minute() {
        let (silent, mut cluster, start) = (Silent::default(), cluster(), Instant::now());
        let both = ["a", "b"];
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(look(&silent, &cluster, &both, at(0)), (vec![], None));
        Arc::make_mut(&mut cluster.replicas[1]).metadata.generation = Some(3);
        assert_eq!(look(&silent, &cluster, &both, at(10)), (vec![], Some(60)));
        assert_eq!(look(&silent, &cluster, &both, at(50)), (vec![], Some(20)));
        assert_eq!(look(&silent, &cluster, &["a"], at(70)), (vec![], None), "its pod isn't ready, which says enough");
        assert_eq!(look(&silent, &cluster, &both, at(80)), (vec![], Some(60)));
        assert_eq!(look(&silent, &cluster, &both, at(140)), (vec!["b".to_owned()], None));
        cluster.report("b", |status| status.observed_generation = Some(3));
        assert_eq!(look(&silent, &cluster, &both, at(150)), (vec![], None));
    }

    #[test]
    fn who_never_told_anything_is_waited_for_as_well() {
        let (silent, mut cluster, start) = (Silent::default(), cluster(), Instant::now());
        Arc::make_mut(&mut cluster.replicas[0]).status = None;
        assert_eq!(look(&silent, &cluster, &["a"], start), (vec![], Some(60)));
    }
}

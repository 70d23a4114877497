//! Who writes a volume that one node writes at a time: the node whose pod uses its claim.
//!
//! The right changes in two steps. First all other replicas are told of the new epoch, that of the node before among them; then the new
//! writer is told, once they say that they obey it. One that can't be heard has lost its right by itself by the time that
//! [`PATIENCE_SECONDS`] have passed: an agent without word from the API server for 30 s announces nothing any more. Meanwhile the next
//! writer is fenced: what its pod writes, which runs already, waits until it may be told.

use super::World;
use crate::names;
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;
use syncmesh_crds::SyncReplica;
use syncmesh_crds::volume::{Grant, SyncVolumeStatus};

/// After how long a new writer is told, whoever was not heard of: 30 s, and what clocks and calls may take.
pub const PATIENCE_SECONDS: i64 = 40;

/// Who is to write: as before, unless no pod that uses the claim is left there and there is one elsewhere.
pub fn decide(before: Option<&Grant>, claim: &str, pods: &[Arc<Pod>]) -> Option<Grant> {
    let mut nodes: Vec<&str> = pods.iter().filter(|pod| uses(pod, claim)).filter_map(|pod| node_of(pod)).collect();
    nodes.sort_unstable();
    match (before, nodes.first()) {
        (Some(before), _) if nodes.contains(&before.node.as_str()) => Some(before.clone()),
        (before, Some(node)) => {
            Some(Grant { node: (*node).to_owned(), epoch: before.map_or(0, |before| before.epoch) + 1 })
        }
        (before, None) => before.cloned(),
    }
}

/// The latest grant that was given, whether the operator came to write it into the volume's status or not.
pub fn latest<'a>(status: Option<&'a SyncVolumeStatus>, replicas: &'a [Arc<SyncReplica>]) -> Option<&'a Grant> {
    let told = replicas.iter().filter_map(|replica| replica.spec.writer.as_ref());
    told.chain(status.and_then(|status| status.writer.as_ref())).max_by_key(|grant| grant.epoch)
}

/// What a node is told of who writes.
pub fn told(world: &World<'_>, node: &str) -> Option<Grant> {
    let grant = world.writer?;
    if grant.node != node || is_handed_over(world, grant) {
        return Some(grant.clone());
    }
    let name = names::of_replica(world.name(), node);
    let own = world.replicas.iter().find(|replica| replica.metadata.name.as_deref() == Some(&name));
    own.and_then(|replica| replica.spec.writer.clone())
}

/// Whether a node's pod may write already, and the node isn't told yet. Neither is what it writes told meanwhile, nor taken back.
pub fn is_next(world: &World<'_>, node: &str) -> bool {
    world.writer.is_some_and(|grant| grant.node == node && !is_handed_over(world, grant))
}

/// Seconds until the new writer is told in any case; none if it is told already, or there is none.
pub fn waiting(world: &World<'_>) -> Option<u64> {
    world.writer.filter(|grant| !is_handed_over(world, grant))?;
    u64::try_from(PATIENCE_SECONDS - world.granted_seconds).ok()
}

/// Whether nobody else announces any more what it writes.
fn is_handed_over(world: &World<'_>, grant: &Grant) -> bool {
    let mut others = world.replicas.iter().filter(|replica| replica.spec.node != grant.node);
    let obeys = |replica: &Arc<SyncReplica>| {
        replica.status.as_ref().and_then(|status| status.epoch).is_some_and(|epoch| epoch >= grant.epoch)
    };
    let is_told = |replica: &SyncReplica| replica.spec.writer.as_ref() == Some(grant);
    let is_first = grant.epoch == 1;
    is_first
        || world.granted_seconds >= PATIENCE_SECONDS
        || world.replicas.iter().any(|replica| replica.spec.node == grant.node && is_told(replica))
        || others.all(obeys)
}

/// Whether a pod uses a claim, or may do so still: one that is being deleted runs until it is gone.
pub(super) fn uses(pod: &Pod, claim: &str) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let mut claims = volumes.iter().filter_map(|volume| volume.persistent_volume_claim.as_ref());
    !matches!(phase, Some("Succeeded" | "Failed")) && claims.any(|used| used.claim_name == claim)
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::desired::desired;
    use crate::volume::example::Cluster;
    use serde_json::json;
    use syncmesh_crds::volume::WriteMode;

    fn pod(node: &str, claim: &str, phase: &str) -> Arc<Pod> {
        let pod = json!({
            "spec": {
                "containers": [],
                "nodeName": node,
                "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": claim } }],
            },
            "status": { "phase": phase },
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn grant(node: &str, epoch: u64) -> Grant {
        Grant { node: node.into(), epoch }
    }

    #[test]
    fn the_right_follows_the_pod_and_stays_where_none_is() {
        assert_eq!(decide(None, "docs", &[]), None);
        let first = decide(None, "docs", &[pod("a", "docs", "Pending"), pod("b", "docs-ro", "Running")]);
        assert_eq!(first, Some(grant("a", 1)));
        assert_eq!(decide(first.as_ref(), "docs", &[]), first);
        assert_eq!(decide(first.as_ref(), "docs", &[pod("b", "docs", "Running")]), Some(grant("b", 2)));
        assert_eq!(decide(first.as_ref(), "docs", &[pod("", "docs", "Pending")]), first, "it has no node yet");
    }

    #[test]
    fn a_pod_that_may_still_write_keeps_the_right_and_one_that_has_ended_does_not() {
        let (old, new) = (grant("b", 4), pod("a", "docs", "Running"));
        assert_eq!(decide(Some(&old), "docs", &[new.clone(), pod("b", "docs", "Running")]), Some(old.clone()));
        assert_eq!(decide(Some(&old), "docs", &[new, pod("b", "docs", "Failed")]), Some(grant("a", 5)));
    }

    #[test]
    fn the_latest_grant_is_known_whoever_has_it() {
        let mut cluster = single_writer();
        cluster.writer = Some(grant("a", 3));
        cluster.granted_seconds = PATIENCE_SECONDS;
        cluster.reconcile();
        let status = SyncVolumeStatus { writer: Some(grant("b", 2)), ..SyncVolumeStatus::default() };
        assert_eq!(latest(Some(&status), &cluster.replicas), Some(&grant("a", 3)));
        assert_eq!(latest(Some(&status), &[]), Some(&grant("b", 2)));
    }

    fn single_writer() -> Cluster {
        let mut cluster = Cluster::with_nodes(&["a", "b", "c"]);
        cluster.volume.spec.mode = WriteMode::SingleWriter;
        cluster
    }

    fn writers(cluster: &Cluster) -> Vec<Option<u64>> {
        let replicas = desired(&cluster.world()).replicas;
        replicas.into_iter().map(|replica| replica.spec.writer.map(|writer| writer.epoch)).collect()
    }

    fn fenced(cluster: &Cluster) -> Vec<bool> {
        desired(&cluster.world()).replicas.into_iter().map(|replica| replica.spec.fenced).collect()
    }

    #[test]
    fn a_new_writer_is_told_once_all_others_obey() {
        let mut cluster = single_writer();
        cluster.writer = Some(grant("a", 1));
        assert_eq!(writers(&cluster), [Some(1); 3], "the first one waits for nobody");
        assert_eq!(fenced(&cluster), [false; 3]);
        cluster.reconcile();
        cluster.writer = Some(grant("b", 2));
        assert_eq!(writers(&cluster), [Some(2), Some(1), Some(2)]);
        assert_eq!(fenced(&cluster), [false, true, false], "its pod may write already");
        cluster.reconcile();
        cluster.report("a", |status| status.epoch = Some(2));
        assert_eq!(writers(&cluster), [Some(2), Some(1), Some(2)], "c was not heard");
        assert_eq!(waiting(&cluster.world()), Some(40));
        cluster.report("c", |status| status.epoch = Some(2));
        assert_eq!(writers(&cluster), [Some(2); 3]);
        assert_eq!(fenced(&cluster), [false; 3]);
        assert_eq!(waiting(&cluster.world()), None);
    }

    #[test]
    fn a_new_writer_is_told_after_a_while_and_that_is_not_taken_back() {
        let mut cluster = single_writer();
        cluster.writer = Some(grant("a", 1));
        cluster.reconcile();
        cluster.writer = Some(grant("b", 2));
        cluster.granted_seconds = 39;
        assert_eq!((writers(&cluster)[1], waiting(&cluster.world())), (Some(1), Some(1)));
        cluster.granted_seconds = 40;
        assert_eq!(writers(&cluster), [Some(2); 3]);
        cluster.reconcile();
        cluster.granted_seconds = 0;
        assert_eq!(writers(&cluster), [Some(2); 3]);
    }
}

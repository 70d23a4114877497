//! How a volume goes: what pods mount first, then the files, if they are to go, and its object last.

use super::World;
use super::claims::{Found, Maker, Mount, mounts};
use crate::labels;
use syncmesh_crds::replica::{Data, Desired as Wish};
use syncmesh_crds::volume::ReclaimPolicy;

/// How long the object waits for nodes that can't be reached, in seconds. Their directories become orphans.
pub const PATIENCE_SECONDS: i64 = 600;

/// The next thing to do. Each is done again until the world shows that it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Delete these claims, and wait: pods that use one keep it.
    DeleteClaims(Vec<String>),
    /// Wait until users have deleted these claims, for which the volume was made.
    AwaitClaims(Vec<String>),
    /// Delete these PersistentVolumes. Nobody can use one without its claim.
    DeleteVolumes(Vec<String>),
    /// Write `desired: Absent` into these replicas.
    OrderRemoval(Vec<String>),
    /// Wait for these nodes to report that their files are gone.
    AwaitRemoval(Vec<String>),
    /// Delete these replicas' objects. Files that are still there become orphans.
    DeleteReplicas(Vec<String>),
    /// Take the finalizer away.
    Release,
}

/// The next step of a volume that somebody deletes. `volumes` are its PersistentVolumes that are still there; `waited_seconds` is the time
/// since the deletion was asked for.
pub fn next(world: &World<'_>, volumes: &[String], waited_seconds: i64) -> Step {
    let there: Vec<Mount> = mounts(world)
        .into_iter()
        .filter(|mount| matches!(mount.found(world), Found::Bound(_) | Found::Unbound(_)))
        .collect();
    let of = |maker| {
        let made = there.iter().filter(move |mount| mount.maker == maker);
        made.map(|mount| mount.name().to_owned()).collect::<Vec<_>>()
    };
    match (of(Maker::Operator), of(Maker::User)) {
        (ours, _) if !ours.is_empty() => return Step::DeleteClaims(ours),
        (_, users) if !users.is_empty() => return Step::AwaitClaims(users),
        _ => {}
    }
    if !volumes.is_empty() {
        return Step::DeleteVolumes(volumes.to_vec());
    }
    if world.volume.spec.reclaim_policy == ReclaimPolicy::Delete && is_confirmed(world) {
        let unordered = names(world, |replica| replica.spec.desired == Wish::Present);
        if !unordered.is_empty() {
            return Step::OrderRemoval(unordered);
        }
        let is_there = |replica: &syncmesh_crds::SyncReplica| {
            replica.status.as_ref().and_then(|status| status.data) != Some(Data::Removed)
        };
        let waiting: Vec<String> = world
            .replicas
            .iter()
            .filter(|replica| is_there(replica))
            .map(|replica| replica.spec.node.clone())
            .collect();
        if !waiting.is_empty() && waited_seconds < PATIENCE_SECONDS {
            return Step::AwaitRemoval(waiting);
        }
    }
    let left = names(world, |_| true);
    if left.is_empty() { Step::Release } else { Step::DeleteReplicas(left) }
}

/// Claims of the volume that are there still.
pub fn kept(world: &World<'_>) -> Vec<String> {
    let is_kept = |mount: &Mount| matches!(mount.found(world), Found::Bound(_) | Found::Unbound(_));
    mounts(world).iter().filter(|mount| is_kept(mount)).map(|mount| mount.name().to_owned()).collect()
}

/// Whether somebody has said, by name, that the files are to go. Who deletes the kind or the namespace has not.
fn is_confirmed(world: &World<'_>) -> bool {
    let annotations = world.volume.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(labels::CONFIRM_DELETE)).is_some_and(|name| name == world.name())
}

fn names(world: &World<'_>, which: impl Fn(&syncmesh_crds::SyncReplica) -> bool) -> Vec<String> {
    world.replicas.iter().filter(|replica| which(replica)).filter_map(|replica| replica.metadata.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::of_replica;
    use crate::volume::example::Cluster;
    use std::sync::Arc;

    fn cluster(policy: ReclaimPolicy) -> Cluster {
        let mut cluster = Cluster::with_nodes(&["a", "b"]);
        let confirmed = (labels::CONFIRM_DELETE.to_owned(), "docs".to_owned());
        cluster.volume.metadata.annotations = Some([confirmed].into());
        cluster.volume.spec.reclaim_policy = policy;
        cluster.reconcile();
        cluster.initialize();
        cluster
    }

    #[test]
    fn claims_go_first_and_persistent_volumes_next() {
        let mut cluster = cluster(ReclaimPolicy::Delete);
        cluster.claims = mounts(&cluster.world()).into_iter().map(|mount| mount.claim.into()).collect();
        let volumes = ["syncmesh-x".to_owned()];
        assert_eq!(next(&cluster.world(), &volumes, 0), Step::DeleteClaims(vec!["docs".into()]));
        cluster.claims.clear();
        assert_eq!(next(&cluster.world(), &volumes, 0), Step::DeleteVolumes(volumes.to_vec()));
    }

    #[test]
    fn a_foreign_claim_of_the_same_name_is_left_alone() {
        let mut cluster = cluster(ReclaimPolicy::Retain);
        let mut claim = mounts(&cluster.world()).remove(0).claim;
        claim.spec.as_mut().unwrap().volume_name = None;
        cluster.claims = vec![claim.into()];
        assert!(matches!(next(&cluster.world(), &[], 0), Step::DeleteReplicas(_)));
    }

    #[test]
    fn a_claim_that_a_user_made_is_waited_for() {
        let mut cluster = cluster(ReclaimPolicy::Retain);
        let claim = crate::provision::tests::claim(|_| ());
        let class = k8s_openapi::api::storage::v1::StorageClass {
            provisioner: crate::provision::PROVISIONER.into(),
            ..Default::default()
        };
        cluster.volume = crate::provision::volume(&claim, Some(&class)).unwrap();
        cluster.claims = vec![claim.into()];
        let volumes = ["pvc-x".to_owned()];
        assert_eq!(next(&cluster.world(), &volumes, 0), Step::AwaitClaims(vec!["data-web-0".into()]));
        cluster.claims.clear();
        assert_eq!(next(&cluster.world(), &volumes, 0), Step::DeleteVolumes(volumes.to_vec()));
    }

    #[test]
    fn retained_files_are_ordered_away_on_no_node() {
        let mut cluster = cluster(ReclaimPolicy::Retain);
        let replicas = vec![of_replica("docs", "a"), of_replica("docs", "b")];
        assert_eq!(next(&cluster.world(), &[], 0), Step::DeleteReplicas(replicas));
        cluster.replicas.clear();
        assert_eq!(next(&cluster.world(), &[], 0), Step::Release);
    }

    #[test]
    fn files_that_nobody_confirmed_stay_when_their_kind_or_namespace_is_deleted() {
        let mut cluster = cluster(ReclaimPolicy::Delete);
        cluster.volume.metadata.annotations = None;
        assert!(matches!(next(&cluster.world(), &[], 0), Step::DeleteReplicas(_)));
    }

    #[test]
    fn deleted_files_are_ordered_away_and_waited_for_but_not_for_ever() {
        let mut cluster = cluster(ReclaimPolicy::Delete);
        let replicas = vec![of_replica("docs", "a"), of_replica("docs", "b")];
        assert_eq!(next(&cluster.world(), &[], 0), Step::OrderRemoval(replicas.clone()));
        cluster.replicas.iter_mut().for_each(|replica| Arc::make_mut(replica).spec.desired = Wish::Absent);
        cluster.report("a", |status| status.data = Some(Data::Removed));
        assert_eq!(next(&cluster.world(), &[], 599), Step::AwaitRemoval(vec!["b".into()]));
        assert_eq!(next(&cluster.world(), &[], 600), Step::DeleteReplicas(replicas));
    }
}

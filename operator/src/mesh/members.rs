//! The machines of a mesh: those that are there, and those that went with files which no other node has.

use super::nodes;
use super::status::{World, ready_nodes};
use crate::labels::FORGET_NODE;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use syncmesh_crds::mesh::{MemberState, MeshMember};
use syncmesh_crds::replica::{Data, SyncReplicaStatus};
use syncmesh_crds::{SyncMesh, SyncReplica};

/// Machines whose files somebody has given up, by the uids that their Node objects had. A uid is never a later machine's.
pub fn forgotten(mesh: &SyncMesh) -> BTreeSet<&str> {
    let uids = mesh.annotations().get(FORGET_NODE).map(String::as_str).unwrap_or_default();
    uids.split(',').map(str::trim).filter(|uid| !uid.is_empty()).collect()
}

/// The uid that a replica's node had when the replica was made: it is for that machine.
pub fn machine(replica: &SyncReplica) -> Option<&str> {
    let own = replica.spec.members.iter().find(|member| member.node == replica.spec.node);
    own.map(|member| member.node_uid.as_str())
}

/// Files of which no other node has a copy, as one replica told; none if it has files and didn't tell.
pub fn only_copies(status: &SyncReplicaStatus) -> Option<u64> {
    match status.data {
        Some(Data::Incoming | Data::Ready) => status.only_copy_files,
        Some(Data::Missing | Data::Removed) | None => Some(0),
    }
}

/// Nodes that should have an agent, with their uids.
pub fn wanted<'a>(world: &World<'a>) -> BTreeMap<&'a str, Option<&'a str>> {
    let fitting = world.nodes.iter().filter(|node| nodes::should_run(world.mesh, node));
    fitting.filter_map(|node| Some((node.metadata.name.as_deref()?, node.metadata.uid.as_deref()))).collect()
}

/// All nodes that should have an agent, and those that had one and took files with them which no other node has.
pub fn members(world: &World<'_>, before: &[MeshMember]) -> Vec<MeshMember> {
    let wanted = wanted(world);
    let ready = ready_nodes(world.pods);
    let mut replicas: BTreeMap<&str, Vec<&SyncReplica>> = BTreeMap::new();
    for replica in world.replicas {
        replicas.entry(&replica.spec.node).or_default().push(replica);
    }
    let member = |(node, uid): (&&str, &Option<&str>)| {
        let told = told_by(replicas.get(node).map_or(&[][..], Vec::as_slice), *uid);
        let member = MeshMember {
            node: (*node).to_owned(),
            node_uid: uid.map(Into::into),
            replica_id: told.replica_id,
            state: if ready.contains(node) { MemberState::Ready } else { MemberState::NotReady },
            since: None,
            only_copy_files: told.only_copies,
        };
        fresh(world.now, before, member)
    };
    let mut members: Vec<MeshMember> = wanted.iter().map(member).collect();
    let forgotten = forgotten(world.mesh);
    for old in before {
        let now = members.iter().position(|member| member.node == old.node);
        let is_there = now.is_some_and(|now| is_same_machine(old, &members[now]));
        let is_given_up = old.node_uid.as_deref().is_some_and(|uid| forgotten.contains(uid));
        if is_there || is_given_up || old.only_copy_files == Some(0) {
            continue;
        }
        let lost = fresh(world.now, before, MeshMember { state: MemberState::LostWithData, ..old.clone() });
        match now {
            Some(now) => members[now] = lost,
            None => members.push(lost),
        }
    }
    members.sort_by(|one, other| one.node.cmp(&other.node));
    members
}

/// A machine that was registered anew has another uid, and is known by its disk as soon as its agent tells it.
fn is_same_machine(old: &MeshMember, now: &MeshMember) -> bool {
    old.node_uid == now.node_uid || (old.replica_id.is_some() && old.replica_id == now.replica_id)
}

/// With the time since when it is what it is.
fn fresh(now: &Time, before: &[MeshMember], member: MeshMember) -> MeshMember {
    let same = before.iter().find(|old| old.node == member.node && old.state == member.state);
    let since = same.and_then(|old| old.since.clone()).unwrap_or_else(|| now.clone());
    MeshMember { since: Some(since), ..member }
}

/// What a machine's replicas have told of it.
struct Told {
    replica_id: Option<String>,
    only_copies: Option<u64>,
}

/// Those of another machine under the name tell nothing of this one.
fn told_by(replicas: &[&SyncReplica], uid: Option<&str>) -> Told {
    let own = replicas.iter().filter(|replica| machine(replica) == uid);
    let statuses: Vec<_> = own.filter_map(|replica| replica.status.as_ref()).collect();
    Told {
        replica_id: statuses.iter().find_map(|status| status.replica_id.clone()),
        only_copies: statuses.iter().map(|status| only_copies(status)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::authority::Standing;
    use super::*;
    use crate::volume::example::Cluster;
    use k8s_openapi::jiff::Timestamp;
    use std::sync::Arc;

    fn at(seconds: i64) -> Time {
        Time(Timestamp::from_second(seconds).unwrap())
    }

    fn of(cluster: &Cluster, before: &[MeshMember]) -> Vec<(String, MemberState)> {
        let members = whole(cluster, before);
        members.into_iter().map(|member| (member.node, member.state)).collect()
    }

    fn whole(cluster: &Cluster, before: &[MeshMember]) -> Vec<MeshMember> {
        let (nodes, replicas) = (&cluster.nodes, &cluster.replicas);
        let world = World {
            mesh: &cluster.mesh,
            nodes,
            pods: &[],
            replicas,
            silent: &[],
            volumes: &[],
            refused: None,
            authority: &Standing::Signing,
            holders: &BTreeSet::new(),
            now: &at(9),
        };
        members(&world, before)
    }

    /// Nodes a and b, with files of which b alone has some.
    fn with_only_copies_on_b() -> (Cluster, Vec<MeshMember>) {
        let mut cluster = Cluster::with_nodes(&["a", "b"]);
        cluster.reconcile();
        cluster.initialize();
        cluster.report("b", |status| {
            status.only_copy_files = Some(3);
            status.replica_id = Some("disk-b".into());
        });
        let before = whole(&cluster, &[]);
        (cluster, before)
    }

    fn renew_node_b(cluster: &mut Cluster) {
        Arc::make_mut(&mut cluster.nodes[1]).metadata.uid = Some("new-uid".into());
    }

    #[test]
    fn a_machine_that_went_with_the_only_copies_is_lost_until_it_is_given_up() {
        let (mut cluster, before) = with_only_copies_on_b();
        cluster.nodes.remove(1);
        let not_ready = ("a".to_owned(), MemberState::NotReady);
        let lost = [not_ready.clone(), ("b".to_owned(), MemberState::LostWithData)];
        assert_eq!(of(&cluster, &before), lost);
        let after = whole(&cluster, &before);
        assert_eq!(whole(&cluster, &after), after, "and nothing changes by itself");
        cluster.mesh.annotations_mut().insert(FORGET_NODE.into(), "another, b-uid".into());
        assert_eq!(of(&cluster, &after), [not_ready]);
    }

    #[test]
    fn a_machine_without_only_copies_is_forgotten_at_once_and_one_that_did_not_tell_is_not() {
        let (mut cluster, _) = with_only_copies_on_b();
        cluster.report("b", |status| status.only_copy_files = Some(0));
        let told = whole(&cluster, &[]);
        cluster.report("b", |status| status.only_copy_files = None);
        let untold = whole(&cluster, &[]);
        cluster.nodes.remove(1);
        assert_eq!(of(&cluster, &told).len(), 1);
        assert_eq!(of(&cluster, &untold)[1].1, MemberState::LostWithData);
    }

    #[test]
    fn another_machine_under_the_name_is_not_taken_for_the_one_that_was_lost() {
        let (mut cluster, before) = with_only_copies_on_b();
        renew_node_b(&mut cluster);
        let lost = ("b".to_owned(), MemberState::LostWithData);
        assert_eq!(of(&cluster, &before)[1], lost, "what the old one told says nothing of the new one");
        cluster.reconcile();
        cluster.reconcile();
        cluster.report("b", |status| status.replica_id = Some("disk-new".into()));
        assert_eq!(of(&cluster, &before)[1], lost);
        cluster.mesh.annotations_mut().insert(FORGET_NODE.into(), "b-uid".into());
        assert_eq!(of(&cluster, &before)[1].1, MemberState::NotReady);
    }

    #[test]
    fn a_machine_that_was_registered_anew_is_known_by_its_disk() {
        let (mut cluster, before) = with_only_copies_on_b();
        renew_node_b(&mut cluster);
        cluster.reconcile();
        cluster.reconcile();
        cluster.report("b", |status| status.replica_id = Some("disk-b".into()));
        let known = whole(&cluster, &before);
        assert_eq!((known[1].state, known[1].node_uid.as_deref()), (MemberState::NotReady, Some("new-uid")));
    }
}

//! Which replicas a volume should have, and what each of them is told.

use super::claims::{self, Mount};
use super::refusal::{self, Refusal};
use super::{Place, World, grant};
use crate::mesh::members::{forgotten, machine, only_copies};
use crate::{labels, names};
use kube::core::ObjectMeta;
use std::collections::BTreeMap;
use std::sync::Arc;
use syncmesh_crds::SyncReplica;
use syncmesh_crds::replica::{Desired as Wish, Member, Start, SyncReplicaSpec};
use syncmesh_crds::volume::WriteMode;

/// What should be there for a volume.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Why nothing is made or changed for it, if so.
    pub refusal: Option<Refusal>,
    /// Why it has less room than it asks for, if so.
    pub short_of: Option<Refusal>,
    /// Its replicas.
    pub replicas: Vec<SyncReplica>,
    /// Names of replicas whose objects are to go. Their directories stay, as orphans.
    pub forgotten: Vec<String>,
    /// What pods mount; with a refusal, what they mount if it is there.
    pub mounts: Vec<Mount>,
}

/// What should be there for a volume that nobody deletes.
pub fn desired(world: &World<'_>) -> Desired {
    if let Some(refusal) = refusal::refusal(world) {
        return Desired {
            refusal: Some(refusal),
            short_of: None,
            replicas: Vec::new(),
            forgotten: Vec::new(),
            mounts: claims::mounts(world),
        };
    }
    let places = world.places();
    let (replaced, same): (Vec<&SyncReplica>, Vec<&SyncReplica>) =
        world.replicas.iter().map(Arc::as_ref).partition(|replica| is_of_another_machine(replica, &places));
    let forgotten = forgotten(world.mesh);
    let is_given_up = |replica: &SyncReplica| machine(replica).is_some_and(|uid| forgotten.contains(uid));
    let (staying, going): (Vec<&SyncReplica>, Vec<&SyncReplica>) = same
        .into_iter()
        .filter(|replica| places.iter().all(|place| place.node != replica.spec.node))
        // That no node fits is more likely a mistake, or a list that wasn't read to its end, than a wish.
        .partition(|replica| places.is_empty() || (has_only_copies(replica) && !is_given_up(replica)));
    let members = members(world, &places, &staying);
    // A replica says how its directory begins, and can't say otherwise: that of another machine is made anew once this one is gone.
    let is_replaced = |node: &str| replaced.iter().any(|replica| replica.spec.node == node);
    let wanted = places.iter().map(|place| place.node.as_str()).filter(|node| !is_replaced(node));
    let nodes = wanted.chain(staying.iter().map(|replica| replica.spec.node.as_str()));
    Desired {
        refusal: None,
        short_of: refusal::capacity(world).1,
        replicas: nodes.map(|node| replica(world, node, &members)).collect(),
        forgotten: going
            .into_iter()
            .chain(replaced.iter().copied())
            .filter_map(|replica| replica.metadata.name.clone())
            .collect(),
        mounts: claims::mounts(world),
    }
}

/// Whether a node that shouldn't have the volume any more may have files which nobody else has. What it hasn't told counts as some.
fn has_only_copies(replica: &SyncReplica) -> bool {
    replica.status.as_ref().is_some_and(|status| only_copies(status) != Some(0))
}

/// Whether the node's name is another machine's now. What that one has isn't what the replica has told.
fn is_of_another_machine(replica: &SyncReplica, places: &[Place]) -> bool {
    let place = places.iter().find(|place| place.node == replica.spec.node);
    place.is_some_and(|place| machine(replica).is_some_and(|uid| uid != place.uid))
}

/// A node that leaves is a member until others have its files.
fn members(world: &World<'_>, places: &[Place], staying: &[&SyncReplica]) -> Vec<Member> {
    let known: BTreeMap<&str, &SyncReplica> =
        world.replicas.iter().map(|replica| (replica.spec.node.as_str(), &**replica)).collect();
    let replica_id = |place: &Place| {
        let replica = known.get(place.node.as_str()).filter(|replica| machine(replica) == Some(&place.uid))?;
        replica.status.as_ref()?.replica_id.clone()
    };
    let wanted = places.iter().map(|place| Member {
        node: place.node.clone(),
        node_uid: place.uid.clone(),
        replica_id: replica_id(place),
    });
    let leaving = staying
        .iter()
        .filter_map(|replica| replica.spec.members.iter().find(|member| member.node == replica.spec.node).cloned());
    let mut members: Vec<Member> = wanted.chain(leaving).collect();
    members.sort_by(|one, other| one.node.cmp(&other.node));
    members
}

fn replica(world: &World<'_>, node: &str, members: &[Member]) -> SyncReplica {
    let spec = &world.volume.spec;
    let defaults = &world.mesh.spec.defaults;
    let name = names::of_replica(world.name(), node);
    let before = world.replicas.iter().find(|replica| replica.metadata.name.as_deref() == Some(&name));
    let annotations = world.volume.metadata.annotations.as_ref();
    SyncReplica {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: world.namespace.metadata.name.clone(),
            labels: Some(labels::of_volume(world.mesh_name(), world.namespace_name(), world.name())),
            // No owner: whoever deletes a kind or an object with all that hangs on it deletes no replica, and nothing is told to
            // agents by absence.
            ..ObjectMeta::default()
        },
        spec: SyncReplicaSpec {
            mesh: world.mesh_name().to_owned(),
            volume: world.name().to_owned(),
            volume_id: world.volume_id().to_owned(),
            namespace_uid: world.namespace.metadata.uid.clone().unwrap_or_default(),
            node: node.to_owned(),
            desired: before.map_or(Wish::Present, |replica| replica.spec.desired),
            start: before.map_or_else(|| start(world, node), |replica| replica.spec.start),
            mode: spec.mode,
            writer: match spec.mode {
                WriteMode::ReadWriteMany => None,
                WriteMode::SingleWriter => grant::told(world, node),
            },
            fenced: spec.mode == WriteMode::SingleWriter && grant::is_next(world, node),
            members: members.to_vec(),
            seed: spec.seed.as_ref().map(|seed| seed.node.clone()),
            directory: spec.directory.clone(),
            root: spec.root.unwrap_or_default(),
            capacity: refusal::capacity(world).0,
            reserve: world.mesh.spec.storage.reserve,
            conflicts: spec.conflicts.clone().unwrap_or_else(|| defaults.conflicts.clone()),
            select: spec.select.clone().unwrap_or_default(),
            versions: spec.versions.clone().unwrap_or_else(|| defaults.versions.clone()),
            deletion_guard: spec.deletion_guard.clone().unwrap_or_else(|| defaults.deletion_guard.clone()),
            bandwidth: spec.bandwidth.clone().unwrap_or_else(|| defaults.bandwidth.clone()),
            durability: spec.durability,
            paused: spec.paused,
            barrier: annotations.and_then(|all| all.get(labels::BARRIER)).cloned(),
            // People's decisions are written by whoever watches SyncConflicts, under a field manager of its own.
            decisions: Vec::new(),
        },
        status: None,
    }
}

/// How a new replica begins. Where a node has had files already, or one of several has them from before, the others wait until theirs
/// have come, so that no pod sees a directory which is about to fill.
fn start(world: &World<'_>, node: &str) -> Start {
    match (&world.volume.spec.seed, world.is_initialized()) {
        (_, true) => Start::FromPeers,
        (Some(seed), false) if seed.node != node => Start::FromPeers,
        (_, false) => Start::Empty,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::example::Cluster;
    use std::collections::BTreeMap;
    use syncmesh_crds::contents::Versions;
    use syncmesh_crds::replica::Data;
    use syncmesh_crds::units::Size;
    use syncmesh_crds::volume::{Grant, Seed};

    fn starts(cluster: &Cluster) -> Vec<(String, Start)> {
        let replicas = desired(&cluster.world()).replicas;
        replicas.into_iter().map(|replica| (replica.spec.node, replica.spec.start)).collect()
    }

    #[test]
    fn every_node_of_the_mesh_gets_a_replica_and_knows_all_members() {
        let mut cluster = Cluster::with_nodes(&["b", "a"]);
        let replicas = desired(&cluster.world()).replicas;
        assert_eq!(replicas.iter().map(|replica| replica.spec.node.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(replicas[0].spec.members, replicas[1].spec.members);
        assert_eq!(replicas[0].spec.volume_id, "volume-uid");
        cluster.reconcile();
        cluster.report("b", |status| status.replica_id = Some("disk-b".into()));
        let members = desired(&cluster.world()).replicas[0].spec.members.clone();
        assert_eq!(members[1].replica_id.as_deref(), Some("disk-b"));
    }

    #[test]
    fn a_node_that_comes_later_waits_for_the_files_of_the_others() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        assert_eq!(starts(&cluster), [("a".into(), Start::Empty)]);
        cluster.reconcile();
        cluster.initialize();
        cluster.nodes.extend(Cluster::with_nodes(&["b"]).nodes);
        assert_eq!(starts(&cluster), [("a".into(), Start::Empty), ("b".into(), Start::FromPeers)]);
    }

    #[test]
    fn with_a_seed_all_others_wait_for_it() {
        let mut cluster = Cluster::with_nodes(&["a", "b"]);
        cluster.volume.spec.seed = Some(Seed { node: "b".into() });
        assert_eq!(starts(&cluster), [("a".into(), Start::FromPeers), ("b".into(), Start::Empty)]);
    }

    #[test]
    fn a_node_that_leaves_stays_a_member_until_others_have_its_files() {
        let mut cluster = Cluster::with_nodes(&["a", "b"]);
        cluster.reconcile();
        cluster.initialize();
        cluster.report("b", |status| status.only_copy_files = Some(2));
        cluster.nodes.remove(1);
        let waiting = desired(&cluster.world());
        assert_eq!((waiting.replicas.len(), waiting.forgotten.len()), (2, 0));
        assert_eq!(waiting.replicas[0].spec.members.len(), 2);
        assert_eq!(waiting.replicas[1].spec.desired, Wish::Present, "leaving deletes nothing");
        cluster.report("b", |status| status.only_copy_files = Some(0));
        let left = desired(&cluster.world());
        assert_eq!((left.replicas.len(), left.replicas[0].spec.members.len()), (1, 1));
        assert_eq!(left.forgotten, [names::of_replica("docs", "b")]);
    }

    #[test]
    fn what_a_node_has_not_told_counts_as_a_file_that_nobody_else_has() {
        let mut cluster = Cluster::with_nodes(&["a", "b"]);
        cluster.reconcile();
        cluster.report("b", |status| status.data = Some(Data::Ready));
        cluster.nodes.remove(1);
        assert_eq!(desired(&cluster.world()).forgotten, Vec::<String>::new());
    }

    #[test]
    fn another_machine_under_a_name_gets_a_replica_of_its_own_and_the_files_of_the_others() {
        let mut cluster = Cluster::with_nodes(&["a", "b"]);
        cluster.reconcile();
        cluster.initialize();
        cluster.report("b", |status| {
            status.replica_id = Some("disk-b".into());
            status.only_copy_files = Some(1);
        });
        cluster.reconcile();
        Arc::make_mut(&mut cluster.nodes[1]).metadata.uid = Some("new-uid".into());
        let first = desired(&cluster.world());
        assert_eq!(first.forgotten, [names::of_replica("docs", "b")]);
        assert_eq!(first.replicas.iter().map(|one| one.spec.node.as_str()).collect::<Vec<_>>(), ["a"]);
        let member = first.replicas[0].spec.members[1].clone();
        assert_eq!((member.node_uid.as_str(), member.replica_id), ("new-uid", None));
        cluster.reconcile();
        let second = desired(&cluster.world());
        assert_eq!(second.forgotten, Vec::<String>::new());
        assert_eq!((second.replicas[1].spec.node.as_str(), second.replicas[1].spec.start), ("b", Start::FromPeers));
    }

    #[test]
    fn a_node_that_left_with_only_copies_goes_when_they_are_given_up() {
        let mut cluster = Cluster::with_nodes(&["a", "b"]);
        cluster.reconcile();
        cluster.initialize();
        cluster.report("b", |status| status.only_copy_files = Some(2));
        cluster.nodes.remove(1);
        cluster.mesh.metadata.annotations = Some([(labels::FORGET_NODE.to_owned(), "b-uid".to_owned())].into());
        assert_eq!(desired(&cluster.world()).forgotten, [names::of_replica("docs", "b")]);
    }

    #[test]
    fn an_empty_list_of_nodes_changes_nothing() {
        let mut cluster = Cluster::with_nodes(&["a", "b"]);
        cluster.reconcile();
        cluster.initialize();
        let before = desired(&cluster.world());
        cluster.nodes.clear();
        assert_eq!(desired(&cluster.world()), before);
    }

    #[test]
    fn a_volume_takes_from_its_mesh_the_groups_that_it_does_not_have() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        cluster.mesh.spec.defaults.versions.keep = 3;
        cluster.mesh.spec.defaults.capacity = Some(Size(1 << 30));
        let inherited = desired(&cluster.world()).replicas[0].spec.clone();
        assert_eq!((inherited.versions.keep, inherited.capacity), (3, Some(Size(1 << 30))));
        cluster.volume.spec.versions = Some(Versions { keep: 7, ..Versions::default() });
        assert_eq!(desired(&cluster.world()).replicas[0].spec.versions.keep, 7);
    }

    #[test]
    fn only_a_single_writer_volume_tells_who_writes() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        cluster.writer = Some(Grant { node: "a".into(), epoch: 4 });
        assert_eq!(desired(&cluster.world()).replicas[0].spec.writer, None);
        cluster.volume.spec.mode = WriteMode::SingleWriter;
        assert_eq!(desired(&cluster.world()).replicas[0].spec.writer, cluster.writer);
    }

    #[test]
    fn a_barrier_is_handed_on() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        cluster.volume.metadata.annotations = Some(BTreeMap::from([(labels::BARRIER.into(), "token".into())]));
        assert_eq!(desired(&cluster.world()).replicas[0].spec.barrier.as_deref(), Some("token"));
    }

    #[test]
    fn an_unchanged_world_wants_what_it_has() {
        let mut cluster = Cluster::with_nodes(&["a", "b"]);
        cluster.reconcile();
        cluster.initialize();
        cluster.reconcile();
        let before = cluster.replicas.clone();
        cluster.reconcile();
        assert_eq!(cluster.replicas, before);
    }
}

//! How a volume is, from what its replicas tell.

use super::claims::{Found, Mount};
use super::desired::Desired;
use super::farewell;
use super::{Place, World};
use crate::conditions::{self, Finding};
use crate::labels;
use crate::mesh::status::few;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeSet;
use std::sync::Arc;
use syncmesh_crds::condition::Holds;
use syncmesh_crds::replica::{Data, Orphan, SyncReplicaStatus};
use syncmesh_crds::state::State;
use syncmesh_crds::units::Size;
use syncmesh_crds::volume::{SyncVolumeStatus, WriteMode};
use syncmesh_crds::{SyncReplica, SyncVolume};

/// Conditions of replicas that are conditions of their volume, too, as soon as one of them has it.
const OF_ANY_REPLICA: [&str; 2] = ["QuotaExceeded", "UnsuitableWorkload"];

/// How a volume is. `agents` are the nodes whose agent is ready.
pub fn status(world: &World<'_>, desired: &Desired, agents: &BTreeSet<&str>, now: &Time) -> SyncVolumeStatus {
    let before = world.volume.status.clone().unwrap_or_default();
    let places = world.places();
    let views: Vec<View<'_>> = places.iter().map(|place| View::of(place, world.replicas, agents)).collect();
    let told: Vec<&SyncReplicaStatus> = views.iter().filter_map(|view| view.told).collect();
    let most = |figure: fn(&SyncReplicaStatus) -> Option<u64>| told.iter().filter_map(|status| figure(status)).max();
    let bytes = most(|status| status.bytes);
    let state = state(world, desired, &views);
    let message = message(world, desired, &views, state);
    let conflicts = most(|status| status.conflicts_open).unwrap_or(0);
    let holds: usize = told.iter().map(|status| status.holds.len()).sum();
    let ready = views.iter().filter(|view| view.is_mountable()).count();
    let findings = findings(world, desired, &views, state, message.clone().unwrap_or_default());
    let generation = world.volume.metadata.generation;
    SyncVolumeStatus {
        observed_generation: generation,
        volume_id: Some(world.volume_id().to_owned()),
        initialized: before.initialized || told.iter().any(|status| status.data == Some(Data::Ready)),
        state: Some(state),
        nodes: Some(format!("{ready}/{}", places.len())),
        synced: views.iter().filter_map(|view| view.told?.synced).min(),
        lag: views.iter().filter_map(|view| view.told?.lag).max(),
        files: most(|status| status.files),
        size: bytes.map(rounded),
        bytes,
        pending: most(|status| status.pending),
        conflicts: Some(conflicts + holds as u64),
        writer: match world.volume.spec.mode {
            WriteMode::ReadWriteMany => None,
            WriteMode::SingleWriter => world.writer.cloned(),
        },
        writer_since: match world.volume.spec.mode {
            WriteMode::ReadWriteMany => None,
            WriteMode::SingleWriter if before.writer.as_ref() == world.writer => before.writer_since,
            WriteMode::SingleWriter => Some(now.clone()),
        },
        claim: desired.mounts.first().map(|mount| mount.name().to_owned()).or(before.claim),
        engine: engine(&told),
        last_sync: told.iter().filter_map(|status| status.last_sync.clone()).max(),
        barrier: barrier(world, &views),
        message,
        conditions: conditions::after(&before.conditions, findings, generation, now),
    }
}

/// How a volume is whose mesh isn't there. What was known of it stays.
pub fn without_mesh(volume: &SyncVolume, now: &Time) -> SyncVolumeStatus {
    let before = volume.status.clone().unwrap_or_default();
    let message = format!("mesh {} is not there: make it, or name another one in a new volume", volume.spec.mesh);
    let generation = volume.metadata.generation;
    let findings = vec![Finding::new("Ready", Holds::False, "MeshMissing", message.clone())];
    SyncVolumeStatus {
        observed_generation: generation,
        state: Some(if before.initialized { State::Unknown } else { State::Pending }),
        message: Some(message),
        conditions: conditions::after(&before.conditions, findings, generation, now),
        ..before
    }
}

/// What is known of a node that should have the volume.
struct View<'a> {
    node: &'a str,
    /// What its agent has told, if ever.
    told: Option<&'a SyncReplicaStatus>,
    /// Whether what it has told is true still.
    is_heard: bool,
}

impl<'a> View<'a> {
    fn of(place: &'a Place, replicas: &'a [Arc<SyncReplica>], agents: &BTreeSet<&str>) -> Self {
        let replica = replicas.iter().find(|replica| replica.spec.node == place.node);
        Self {
            node: &place.node,
            told: replica.and_then(|replica| replica.status.as_ref()),
            is_heard: agents.contains(place.node.as_str()),
        }
    }

    fn state(&self) -> State {
        match self.told {
            None => State::Pending,
            Some(_) if !self.is_heard => State::Unknown,
            Some(status) => status.state.unwrap_or(State::Pending),
        }
    }

    fn is_mountable(&self) -> bool {
        self.is_heard && self.told.is_some_and(|status| status.data == Some(Data::Ready))
    }
}

/// The first that holds of Terminating, Failed, Fenced, Held, Paused, Unknown, Degraded, Syncing, InSync, else Pending. Where some nodes
/// are heard and others aren't the volume is Degraded, not Unknown.
fn state(world: &World<'_>, desired: &Desired, views: &[View<'_>]) -> State {
    let any = |state| views.iter().any(|view| view.state() == state);
    let all = |state| !views.is_empty() && views.iter().all(|view| view.state() == state);
    let is_in_doubt = desired.refusal.is_some() || foreign(world, desired).is_some();
    if world.volume.metadata.deletion_timestamp.is_some() {
        State::Terminating
    } else if any(State::Failed) || (is_in_doubt && !world.is_initialized()) {
        State::Failed
    } else if any(State::Fenced) {
        State::Fenced
    } else if any(State::Held) {
        State::Held
    } else if world.volume.spec.paused || any(State::Paused) {
        State::Paused
    } else if all(State::Unknown) {
        State::Unknown
    } else if is_in_doubt || any(State::Unknown) || any(State::Degraded) {
        State::Degraded
    } else if all(State::InSync) {
        State::InSync
    } else if any(State::Syncing) || any(State::InSync) {
        State::Syncing
    } else {
        State::Pending
    }
}

/// A claim of somebody else under a name that the volume wants.
fn foreign<'d>(world: &World<'_>, desired: &'d Desired) -> Option<&'d Mount> {
    desired.mounts.iter().find(|mount| mount.found(world) == Found::Foreign)
}

/// What is wrong, or worth knowing, and what to do.
fn message(world: &World<'_>, desired: &Desired, views: &[View<'_>], state: State) -> Option<String> {
    if let Some(refusal) = desired.refusal.as_ref() {
        return Some(refusal.to_string());
    }
    if let Some(mount) = foreign(world, desired) {
        return Some(format!(
            "claim {} is there already and not this volume's: delete it, or name another one in spec.claims",
            mount.name()
        ));
    }
    if views.is_empty() {
        return Some("no node fits: see the mesh's nodes and spec.nodes".into());
    }
    let told = |state| views.iter().filter(move |view| view.state() == state);
    let of_worst = told(state).chain(told(State::Degraded)).find_map(|view| view.told?.message.clone());
    let silent: Vec<&str> = told(State::Unknown).map(|view| view.node).collect();
    if !silent.is_empty() {
        return Some(format!("no word from the agent of {}: see its pod there", silent.join(", ")));
    }
    if state == State::InSync {
        let alone = (views.len() == 1).then(|| "no second copy: one node has it".to_owned());
        return desired.short_of.as_ref().map(ToString::to_string).or(alone);
    }
    let arriving = views.iter().find_map(|view| {
        let status = view.told.filter(|status| status.data == Some(Data::Incoming))?;
        Some(format!("node {}: {} received", view.node, status.synced?))
    });
    let waiting = views.iter().find(|view| view.told.is_none());
    of_worst
        .or(arriving)
        .or_else(|| waiting.map(|view| format!("waiting for the agent of {}: see its pod there", view.node)))
        .or_else(|| desired.short_of.as_ref().map(ToString::to_string))
}

fn findings(world: &World<'_>, desired: &Desired, views: &[View<'_>], state: State, message: String) -> Vec<Finding> {
    let mut findings = vec![
        ready(world, desired, views, &message),
        in_sync(views, state, &message),
        when(state == State::Degraded || state == State::Unknown, "Degraded", "MembersAway", "AllHeard", message),
        conflicts(world, views),
        holds(views),
    ];
    for about in OF_ANY_REPLICA {
        let has = |view: &View<'_>| {
            let conditions = &view.told?.conditions;
            let found = conditions.iter().find(|one| one.r#type == about && one.status == Holds::True)?;
            Some(format!("node {}: {}", view.node, found.message))
        };
        let found = views.iter().find_map(has);
        findings.push(when(found.is_some(), about, "Reported", "NotReported", found.unwrap_or_default()));
    }
    if let Some(short_of) = &desired.short_of {
        findings.retain(|finding| finding.about != "QuotaExceeded");
        findings.push(Finding::new("QuotaExceeded", Holds::True, short_of.reason(), short_of.to_string()));
    }
    let orphan = views.iter().find_map(|view| Some((view.node, view.told?.orphans.first()?)));
    let orphan = orphan.map(|(node, orphan)| adopt(world, node, orphan));
    findings.push(when(orphan.is_some(), "OrphanFound", "SameName", "None", orphan.unwrap_or_default()));
    if state == State::Terminating {
        findings.push(Finding::new("Terminating", Holds::True, "Deleted", terminating(world)));
    }
    findings
}

/// Pods can use it: a claim is bound, and some node has the files.
fn ready(world: &World<'_>, desired: &Desired, views: &[View<'_>], message: &str) -> Finding {
    let bound = desired.mounts.iter().any(|mount| matches!(mount.found(world), Found::Bound(_)));
    let mountable = views.iter().any(View::is_mountable);
    let no = |reason, message: &str| Finding::new("Ready", Holds::False, reason, message);
    match (&desired.refusal, foreign(world, desired)) {
        (Some(refusal), _) if !world.is_initialized() => no(refusal.reason(), message),
        (_, Some(_)) => no("ClaimTaken", message),
        (_, None) if !mountable => no("NoReplicaReady", message),
        (_, None) if !bound => no("ClaimNotBound", "the claim is about to be bound: `kubectl describe pvc` says more"),
        (_, None) => Finding::new("Ready", Holds::True, "Mountable", ""),
    }
}

/// Exact, never estimated: with a member away nobody knows.
fn in_sync(views: &[View<'_>], state: State, message: &str) -> Finding {
    let (holds, reason) = match state {
        State::InSync => (Holds::True, "EverythingEverywhere"),
        _ if views.iter().any(|view| view.state() == State::Unknown || view.state() == State::Degraded) => {
            (Holds::Unknown, "MembersAway")
        }
        State::Paused => (Holds::False, "Paused"),
        State::Held => (Holds::False, "Held"),
        _ => (Holds::False, "Syncing"),
    };
    Finding::new("InSync", holds, reason, message)
}

fn conflicts(world: &World<'_>, views: &[View<'_>]) -> Finding {
    let open = views.iter().filter_map(|view| view.told?.conflicts_open).max().unwrap_or(0);
    let message = format!(
        "{open} files were changed on two nodes at once: `kubectl get sconf -n {} -l {}={}` shows them",
        world.namespace_name(),
        labels::VOLUME,
        world.name()
    );
    when(open > 0, "ConflictsPresent", "Open", "None", message)
}

fn holds(views: &[View<'_>]) -> Finding {
    let held = |view: &View<'_>| {
        let files: u64 = view.told?.holds.iter().map(|hold| hold.deletions.files).sum();
        (files > 0).then(|| format!("node {} holds {files} deletions: approve or reject its SyncConflict", view.node))
    };
    let found = views.iter().find_map(held);
    when(found.is_some(), "DeletionsHeld", "AwaitingApproval", "None", found.unwrap_or_default())
}

fn when(holds: bool, about: &'static str, yes: &'static str, no: &'static str, message: String) -> Finding {
    if holds { Finding::new(about, Holds::True, yes, message) } else { Finding::new(about, Holds::False, no, "") }
}

/// A volume that has files keeps its own: then the object has to be made again.
fn adopt(world: &World<'_>, node: &str, orphan: &Orphan) -> String {
    let (name, namespace, id) = (world.name(), world.namespace_name(), &orphan.volume_id);
    let how = if !orphan.same_namespace {
        format!(
            "delete {name}, and have an administrator run `kubectl syncmesh orphans adopt {id} --volume {name} -n {namespace}`"
        )
    } else if world.is_initialized() {
        format!("delete {name} and make it again with spec.volumeID: {id}")
    } else {
        format!("`kubectl patch svol {name} -n {namespace} --type merge -p '{{\"spec\":{{\"volumeID\":\"{id}\"}}}}'`")
    };
    format!("node {node} has {} files of an earlier volume of this name: to have them back, {how}", orphan.files)
}

fn terminating(world: &World<'_>) -> String {
    let claims = farewell::kept(world).join(", ");
    let users: Vec<&str> = world.users.iter().map(String::as_str).collect();
    match (claims.is_empty(), users.is_empty()) {
        (true, _) => "nodes are letting go of it".into(),
        (false, true) => format!("waiting for claim {claims}: delete the pods that use it"),
        (false, false) => format!("waiting for claim {claims}: pods use it, delete {}", few(&users)),
    }
}

/// Every node that should have the volume has all that was written before the user asked.
fn barrier(world: &World<'_>, views: &[View<'_>]) -> Option<String> {
    let asked = world.volume.metadata.annotations.as_ref()?.get(labels::BARRIER)?;
    let passed =
        |view: &View<'_>| view.is_heard && view.told.is_some_and(|status| status.barrier.as_ref() == Some(asked));
    (!views.is_empty() && views.iter().all(passed)).then(|| asked.clone())
}

fn engine(told: &[&SyncReplicaStatus]) -> Option<String> {
    let engines: BTreeSet<&str> = told.iter().filter_map(|status| status.engine.as_deref()).collect();
    match engines.len() {
        0 => None,
        1 => engines.first().map(|engine| (*engine).to_owned()),
        _ => Some("mixed".to_owned()),
    }
}

/// Bytes for a column: at most one digit after the point, rounded down.
fn rounded(bytes: u64) -> String {
    for (shift, unit) in [(40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")] {
        if bytes >= 1 << shift {
            let tenths = (u128::from(bytes) * 10) >> shift;
            return match (tenths / 10, tenths % 10) {
                (whole, 0) => format!("{whole}{unit}"),
                (whole, _) if whole >= 10 => format!("{whole}{unit}"),
                (whole, tenth) => format!("{whole}.{tenth}{unit}"),
            };
        }
    }
    Size(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::desired::desired;
    use crate::volume::example::Cluster;
    use std::collections::BTreeMap;
    use syncmesh_crds::units::{Duration, Percent};

    fn now() -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(100).unwrap())
    }

    #[test]
    fn a_volume_whose_mesh_is_missing_says_so_and_keeps_its_figures() {
        let mut cluster = in_sync();
        cluster.volume.status.get_or_insert_default().files = Some(3);
        let status = without_mesh(&cluster.volume, &now());
        assert_eq!((status.state, status.files), (Some(State::Unknown), Some(3)));
        assert!(status.message.unwrap().contains("mesh default is not there: make it"));
    }

    /// Two nodes that are in sync, and a bound claim.
    fn in_sync() -> Cluster {
        let mut cluster = Cluster::with_nodes(&["a", "b"]);
        cluster.reconcile();
        cluster.initialize();
        for node in ["a", "b"] {
            cluster.report(node, |status| {
                status.state = Some(State::InSync);
                status.synced = Some(Percent::ALL);
                status.files = Some(3);
                status.engine = Some("io_uring".into());
            });
        }
        let mut claim = desired(&cluster.world()).mounts.remove(0).claim;
        claim.status.get_or_insert_default().phase = Some("Bound".into());
        cluster.claims = vec![claim.into()];
        cluster
    }

    fn seen(cluster: &Cluster, agents: &[&str]) -> SyncVolumeStatus {
        let world = cluster.world();
        status(&world, &desired(&world), &agents.iter().copied().collect(), &now())
    }

    #[test]
    fn a_volume_that_is_deleted_under_its_pods_names_them() {
        let mut cluster = in_sync();
        cluster.volume.metadata.deletion_timestamp = Some(now());
        let told = |cluster: &Cluster| {
            let status = seen(cluster, &["a", "b"]);
            status.conditions.iter().find(|one| one.r#type == "Terminating").unwrap().message.clone()
        };
        assert_eq!(told(&cluster), "waiting for claim docs: delete the pods that use it");
        cluster.users = vec!["web-1".into(), "web-2".into()];
        assert_eq!(told(&cluster), "waiting for claim docs: pods use it, delete web-1, web-2");
        cluster.claims.clear();
        assert_eq!(told(&cluster), "nodes are letting go of it");
    }

    fn condition(status: &SyncVolumeStatus, about: &str) -> (Holds, String) {
        let found = status.conditions.iter().find(|condition| condition.r#type == about).unwrap();
        (found.status, found.reason.clone())
    }

    #[test]
    fn a_volume_is_in_sync_if_every_node_says_so() {
        let status = seen(&in_sync(), &["a", "b"]);
        assert_eq!((status.state, status.nodes.as_deref()), (Some(State::InSync), Some("2/2")));
        assert_eq!(status.synced, Some(Percent::ALL));
        assert_eq!((status.engine.as_deref(), status.claim.as_deref()), (Some("io_uring"), Some("docs")));
        assert_eq!(condition(&status, "Ready"), (Holds::True, "Mountable".into()));
        assert_eq!(condition(&status, "InSync").0, Holds::True);
        assert_eq!(status.message, None);
    }

    #[test]
    fn what_an_agent_said_before_it_went_silent_is_not_repeated() {
        let one = seen(&in_sync(), &["a"]);
        assert_eq!((one.state, one.nodes.as_deref()), (Some(State::Degraded), Some("1/2")));
        assert_eq!(condition(&one, "InSync"), (Holds::Unknown, "MembersAway".into()));
        assert!(one.message.unwrap().contains("no word from the agent of b"));
        assert_eq!(seen(&in_sync(), &[]).state, Some(State::Unknown));
    }

    #[test]
    fn the_worst_replica_decides_with_its_own_words() {
        let mut cluster = in_sync();
        cluster.report("b", |status| {
            status.state = Some(State::Failed);
            status.message = Some("the root is gone: mount it".into());
            status.lag = Some(Duration(std::time::Duration::from_millis(3)));
        });
        let status = seen(&cluster, &["a", "b"]);
        assert_eq!(status.state, Some(State::Failed));
        assert_eq!(status.message.as_deref(), Some("the root is gone: mount it"));
        assert_eq!(status.lag.unwrap().to_string(), "3ms");
    }

    #[test]
    fn a_node_that_is_being_filled_is_told_with_how_far_it_is() {
        let mut cluster = in_sync();
        cluster.report("b", |status| {
            status.state = Some(State::Syncing);
            status.data = Some(Data::Incoming);
            status.synced = Some(Percent::of(61, 100));
        });
        let status = seen(&cluster, &["a", "b"]);
        assert_eq!((status.state, status.nodes.as_deref()), (Some(State::Syncing), Some("1/2")));
        assert_eq!(status.message.as_deref(), Some("node b: 61% received"));
        assert_eq!(condition(&status, "Ready").0, Holds::True);
    }

    #[test]
    fn one_node_is_no_error_and_no_second_copy() {
        let mut cluster = in_sync();
        cluster.nodes.remove(1);
        let status = seen(&cluster, &["a"]);
        assert_eq!((status.state, status.nodes.as_deref()), (Some(State::InSync), Some("1/1")));
        assert!(status.message.unwrap().contains("no second copy"));
    }

    #[test]
    fn a_refused_volume_says_why_and_one_that_has_files_is_degraded_only() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        cluster.volume.spec.directory = Some("media".into());
        let refused = seen(&cluster, &["a"]);
        assert_eq!(refused.state, Some(State::Failed));
        assert_eq!(condition(&refused, "Ready").1, "DirectoryNotListed");
        let mut running = in_sync();
        running.mesh.spec.namespaces.match_labels = [("team".to_owned(), "x".to_owned())].into();
        let status = seen(&running, &["a", "b"]);
        assert_eq!((status.state, condition(&status, "Ready").0), (Some(State::Degraded), Holds::True));
    }

    #[test]
    fn a_claim_of_somebody_else_is_named() {
        let mut cluster = in_sync();
        Arc::make_mut(&mut cluster.claims[0]).spec.as_mut().unwrap().volume_name = Some("pvc-1".into());
        let status = seen(&cluster, &["a", "b"]);
        assert_eq!(condition(&status, "Ready"), (Holds::False, "ClaimTaken".into()));
        assert!(status.message.unwrap().contains("name another one in spec.claims"));
    }

    #[test]
    fn having_been_ready_once_is_never_taken_back() {
        let mut cluster = in_sync();
        cluster.report("a", |status| status.data = Some(Data::Missing));
        cluster.report("b", |status| status.data = Some(Data::Missing));
        assert!(seen(&cluster, &[]).initialized);
        let mut fresh = Cluster::with_nodes(&["a"]);
        fresh.reconcile();
        assert!(!seen(&fresh, &["a"]).initialized);
    }

    #[test]
    fn a_barrier_is_passed_when_every_node_has_passed_it() {
        let mut cluster = in_sync();
        cluster.volume.metadata.annotations = Some(BTreeMap::from([(labels::BARRIER.into(), "t".into())]));
        cluster.report("a", |status| status.barrier = Some("t".into()));
        assert_eq!(seen(&cluster, &["a", "b"]).barrier, None);
        cluster.report("b", |status| status.barrier = Some("t".into()));
        assert_eq!(seen(&cluster, &["a", "b"]).barrier.as_deref(), Some("t"));
        assert_eq!(seen(&cluster, &["a"]).barrier, None);
    }

    #[test]
    fn an_orphan_of_the_same_name_is_told_with_what_brings_its_files_back() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        cluster.reconcile();
        let orphan = Orphan { volume_id: "old-uid".into(), files: 7, bytes: 1, same_namespace: true };
        cluster.report("a", |status| status.orphans.push(orphan));
        let told = |cluster: &Cluster| {
            let status = seen(cluster, &["a"]);
            let found = status.conditions.into_iter().find(|condition| condition.r#type == "OrphanFound");
            found.unwrap().message
        };
        assert!(told(&cluster).contains(r#"-p '{"spec":{"volumeID":"old-uid"}}'"#));
        cluster.initialize();
        assert!(told(&cluster).contains("delete docs and make it again with spec.volumeID: old-uid"));
        cluster.report("a", |status| status.orphans[0].same_namespace = false);
        assert!(told(&cluster).contains("`kubectl syncmesh orphans adopt old-uid --volume docs -n web`"));
    }

    #[test]
    fn sizes_in_columns_are_short() {
        let shown = [0, 1023, 1024, 1536, 10 << 20, (1 << 30) + (200 << 20), 15 << 39].map(rounded);
        assert_eq!(shown, ["0", "1023", "1Ki", "1.5Ki", "10Mi", "1.1Gi", "7.5Ti"]);
    }
}

//! How a replica is, from what the loop, the disk and people's questions tell.

use super::answers::{Questions, at, cut};
use super::directories::Orphan as Directory;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration as Span;
use syncmesh_crds::SyncReplica;
use syncmesh_crds::condition::{self, Condition, Finding, Holds};
use syncmesh_crds::limits;
use syncmesh_crds::replica::{Data, Orphan, SyncReplicaSpec, SyncReplicaStatus};
use syncmesh_crds::state::State;
use syncmesh_crds::units::{Duration, Percent};
use syncmesh_engine::node::{Status, VolumeStatus};

/// What is known of a replica.
pub struct Known<'a> {
    /// Its object.
    pub replica: &'a SyncReplica,
    /// What is on the disk, or why it can't be used.
    pub data: &'a Result<Data, String>,
    /// Why what the object asks for isn't in force, if so.
    pub refused: Option<&'a str>,
    /// How the node is; none if the loop doesn't answer just now.
    pub node: Option<&'a Status>,
    /// What waits for people.
    pub questions: &'a Questions,
    /// The id of this node's disk.
    pub replica_id: &'a str,
    /// SHA-256 of the CAs that this node trusts.
    pub trusts: &'a [String],
    /// Directories of this node that no object asks for, with their files and bytes.
    pub orphans: &'a [(Directory, u64, u64)],
    /// Now.
    pub now: &'a Time,
}

/// How a replica is.
pub fn status(known: &Known<'_>) -> SyncReplicaStatus {
    let before = known.replica.status.clone().unwrap_or_default();
    let spec = &known.replica.spec;
    let generation = known.replica.metadata.generation;
    let volume = known.node.and_then(|node| node.volumes.iter().find(|volume| volume.name == spec.volume_id));
    let left_out = known.node.and_then(|node| node.left_out.iter().find(|one| one.name == spec.volume_id));
    let why_not = known.data.as_ref().err().map(String::as_str);
    let why_not = why_not.or(known.refused).or(left_out.map(|one| one.why.as_str()));
    let others: Vec<&str> =
        spec.members.iter().map(|member| member.node.as_str()).filter(|node| *node != spec.node).collect();
    let is_connected = |name: &str| {
        known.node.is_some_and(|node| node.peers.iter().any(|peer| peer.node == name && peer.state == "connected"))
    };
    let away: Vec<String> = others.iter().filter(|name| !is_connected(name)).map(|name| (*name).to_owned()).collect();
    let seen = others.len() - away.len() + 1;
    let is_isolated = seen * 2 < others.len() + 1;
    let data = known.data.as_ref().ok().copied();
    let state = match (why_not, volume) {
        _ if data == Some(Data::Removed) => State::Terminating,
        (Some(_), _) => State::Failed,
        // Between two configurations it is as it was.
        (None, None) => before.state.unwrap_or(State::Pending),
        (None, Some(volume)) => state(volume, data),
    };
    let message = match (why_not, volume) {
        (Some(why), _) => Some(why.to_owned()),
        (None, Some(_)) if is_isolated => Some(format!(
            "Isolated: it sees {seen} of {} members; what is written here is told once {} can be reached",
            others.len() + 1,
            away.join(", ")
        )),
        (None, Some(volume)) if data == Some(Data::Incoming) => Some(filling(volume, &others, &away)),
        (None, Some(volume)) => Some(volume.message.clone()).filter(|message| !message.is_empty()),
        (None, None) => before.message.clone(),
    };
    let message = message.map(|message| cut(&message, limits::MESSAGE as usize));
    let in_sync = volume.is_some_and(|volume| volume.in_sync) && state == State::InSync;
    let figures = volume.map(|volume| Figures::of(volume, others.is_empty()));
    let same_name: Vec<Orphan> = known
        .orphans
        .iter()
        .filter_map(|(one, files, bytes)| {
            let owner = one.owner.as_ref()?;
            let is_ours =
                owner.volume == spec.volume && known.replica.metadata.namespace.as_ref() == Some(&owner.namespace);
            is_ours.then(|| Orphan {
                volume_id: one.volume_id.clone(),
                files: *files,
                bytes: *bytes,
                same_namespace: owner.namespace_uid == spec.namespace_uid,
            })
        })
        .take(limits::LISTED_ORPHANS as usize)
        .collect();
    let findings = findings(known, volume, why_not, data, state, message.as_deref().unwrap_or_default());
    let listed_away = away.into_iter().take(limits::LISTED_NODES as usize).collect();
    let last_sync = match volume {
        Some(volume) if in_sync => volume.last_sync.map(|millis| at(i64::try_from(millis / 1_000).unwrap_or(0))),
        Some(_) | None => before.last_sync.clone(),
    };
    SyncReplicaStatus {
        observed_generation: if why_not.is_none() { generation } else { before.observed_generation },
        replica_id: Some(known.replica_id.to_owned()),
        data: data.or(before.data),
        state: Some(state),
        synced: figures.map(|figures| figures.synced).or(before.synced),
        lag: figures.map(|figures| figures.lag).or(before.lag),
        pending: figures.map(|figures| figures.pending).or(before.pending),
        pending_bytes: figures.map(|figures| figures.pending_bytes).or(before.pending_bytes),
        files: figures.map(|figures| figures.files).or(before.files),
        bytes: figures.map(|figures| figures.bytes).or(before.bytes),
        stored_bytes: figures.map(|figures| figures.stored_bytes).or(before.stored_bytes),
        only_copy_files: figures.map_or(before.only_copy_files, |figures| figures.only_copies.map(|only| only.0)),
        only_copy_bytes: figures.map_or(before.only_copy_bytes, |figures| figures.only_copies.map(|only| only.1)),
        members_seen: Some(seen as u64),
        members_away: listed_away,
        epoch: epoch(spec, volume, left_out.is_some()).or(before.epoch),
        engine: known.node.map(|node| node.engine.clone()).or(before.engine),
        version: Some(crate::control::VERSION.to_owned()),
        trusts: known.trusts.to_vec(),
        last_sync,
        // One look suffices, because nothing that was written before it escapes it.
        barrier: if in_sync { spec.barrier.clone() } else { before.barrier },
        conflicts_open: volume.map(|volume| volume.conflicts).or(before.conflicts_open),
        conflicts: known.questions.conflicts.clone(),
        holds: known.questions.holds.clone(),
        refused: known.questions.refused(),
        orphans: same_name,
        orphans_on_node: Some(known.orphans.len() as u64),
        message,
        conditions: condition::after(&before.conditions, findings, generation, known.now),
    }
}

/// The epoch that the engine obeys: another node's once what is written here is told to nobody.
fn epoch(spec: &SyncReplicaSpec, volume: Option<&VolumeStatus>, is_left_out: bool) -> Option<u64> {
    let grant = spec.writer.as_ref()?;
    let is_silent = volume.map_or(is_left_out, |volume| !volume.writes);
    (grant.node == spec.node || is_silent).then_some(grant.epoch)
}

/// Numbers of a volume, as objects have them.
#[derive(Clone, Copy)]
struct Figures {
    synced: Percent,
    lag: Duration,
    pending: u64,
    pending_bytes: u64,
    files: u64,
    bytes: u64,
    stored_bytes: u64,
    /// Files and bytes that nobody else has, where that is known.
    only_copies: Option<(u64, u64)>,
}

impl Figures {
    fn of(volume: &VolumeStatus, alone: bool) -> Self {
        let all = volume.bytes + volume.pending_bytes;
        let only_copies = match (alone, volume.is_copied()) {
            (true, _) => Some((volume.files, volume.bytes)),
            (false, true) => Some((0, 0)),
            (false, false) => None,
        };
        Self {
            synced: match volume.pending_files {
                0 => Percent::ALL,
                // A file that is missing is missing even if it is empty.
                _ => Percent::of(volume.bytes.min(all.saturating_sub(1)), all.max(1)),
            },
            lag: Duration(Span::from_millis(volume.lag_ms)).coarse(),
            pending: volume.pending_files,
            pending_bytes: volume.pending_bytes,
            files: volume.files,
            bytes: volume.bytes,
            stored_bytes: volume.stored_bytes,
            only_copies,
        }
    }
}

fn state(volume: &VolumeStatus, data: Option<Data>) -> State {
    match volume.state.as_str() {
        "Failed" => State::Failed,
        "Fenced" => State::Fenced,
        "Held" => State::Held,
        "Paused" => State::Paused,
        "Degraded" => State::Degraded,
        "InSync" if data == Some(Data::Ready) => State::InSync,
        _ => State::Syncing,
    }
}

/// What a replica waits for whose files are arriving.
fn filling(volume: &VolumeStatus, others: &[&str], away: &[String]) -> String {
    match (others.len(), away.len()) {
        (0, _) => "no other node has this volume, and this one had its files and lost them: delete the volume and make it again, or bring a node back that has them".into(),
        (all, gone) if all == gone => format!("waiting for a node that has the files: {}", away.join(", ")),
        _ => format!("{} % of what others have has come: pods can mount it once all has", volume.synced_percent),
    }
}

fn findings(
    known: &Known<'_>,
    volume: Option<&VolumeStatus>,
    why_not: Option<&str>,
    data: Option<Data>,
    state: State,
    message: &str,
) -> Vec<Finding> {
    let accepted = match why_not {
        Some(why) => Finding::new("Accepted", Holds::False, "Refused", why),
        None => Finding::new("Accepted", Holds::True, "Obeyed", ""),
    };
    let ready = match data {
        Some(Data::Ready) => Finding::new("Ready", Holds::True, "Mountable", ""),
        Some(Data::Incoming) => Finding::new("Ready", Holds::False, "FilesArrive", message),
        Some(Data::Missing | Data::Removed) | None => Finding::new("Ready", Holds::False, "NoDirectory", message),
    };
    let in_sync = match state {
        State::InSync => Finding::new("InSync", Holds::True, "EverythingEverywhere", ""),
        State::Degraded | State::Unknown => Finding::new("InSync", Holds::Unknown, "MembersAway", message),
        State::Paused => Finding::new("InSync", Holds::False, "Paused", message),
        State::Held => Finding::new("InSync", Holds::False, "Held", message),
        State::Fenced => Finding::new("InSync", Holds::False, "Fenced", message),
        State::Pending | State::Syncing | State::Failed | State::Terminating => {
            Finding::new("InSync", Holds::False, "Syncing", message)
        }
    };
    let mut findings = vec![accepted, ready, in_sync];
    findings.extend(volume.and_then(|volume| written_elsewhere(volume, known.now)));
    findings.extend(volume.and_then(over_capacity));
    findings.iter_mut().for_each(|finding| finding.message = cut(&finding.message, limits::MESSAGE as usize));
    findings
}

/// For how long after the last write that was taken back the condition says so, in milliseconds.
const TOLD: u64 = 3_600_000;

/// Whether files wait for room within the capacity, or take more, where there is one.
fn over_capacity(volume: &VolumeStatus) -> Option<Finding> {
    volume.capacity_bytes?;
    Some(match volume.over_capacity {
        true => Finding::new("QuotaExceeded", Holds::True, "CapacitySpent", &volume.message),
        false => Finding::new("QuotaExceeded", Holds::False, "CapacitySuffices", ""),
    })
}

/// What is written where only another node may write.
fn written_elsewhere(volume: &VolumeStatus, now: &Time) -> Option<Finding> {
    let (at, path) = (volume.reverted_at?, volume.reverted_path.as_deref()?);
    let now = u64::try_from(now.0.as_millisecond()).unwrap_or(0);
    if now >= at + TOLD {
        return Some(Finding::new("UnsuitableWorkload", Holds::False, "OneWriter", ""));
    }
    let message = format!(
        "{} changes on this node were taken back, because only another node may write; the last was {path}. They are in the version store or in conflict copies (`syncmesh-agent versions`): mount the claim for readers, whose name ends in -ro",
        volume.reverted
    );
    Some(Finding::new("UnsuitableWorkload", Holds::True, "WritesElsewhere", message))
}

/// How soon a status has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// It says what is written already.
    None,
    /// Only numbers have changed, or it is syncing for a moment.
    Figures,
    /// Something that people or the operator act on.
    Transition,
}

/// How soon a status has to be written over another one.
pub fn news(before: Option<&SyncReplicaStatus>, after: &SyncReplicaStatus) -> News {
    let Some(before) = before else { return News::Transition };
    let holds = |conditions: &[Condition]| -> Vec<(String, Holds)> {
        // It comes and goes with each write.
        let lasting = conditions.iter().filter(|one| one.r#type != "InSync");
        lasting.map(|one| (one.r#type.clone(), one.status)).collect()
    };
    let lasting = |status: &SyncReplicaStatus| SyncReplicaStatus {
        state: status.state.filter(|state| !matches!(state, State::Syncing)),
        conditions: Vec::new(),
        synced: None,
        lag: None,
        pending: None,
        pending_bytes: None,
        files: None,
        bytes: None,
        stored_bytes: None,
        only_copy_files: None,
        only_copy_bytes: None,
        conflicts_open: None,
        last_sync: None,
        message: None,
        ..status.clone()
    };
    let timeless = |status: &SyncReplicaStatus| SyncReplicaStatus { last_sync: None, ..status.clone() };
    let (was, is) = (lasting(before), lasting(after));
    // Out of sync is told with the next figures, in sync at once.
    let falls_behind = was.state == Some(State::InSync) && is.state.is_none();
    let was = SyncReplicaStatus { state: if falls_behind { None } else { was.state }, ..was };
    if was != is || holds(&before.conditions) != holds(&after.conditions) {
        News::Transition
    } else if timeless(before) != timeless(after) {
        News::Figures
    } else {
        News::None
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::kubernetes::surroundings::{Places, Surroundings};
    use syncmesh_config::NodeName;
    use syncmesh_crds::SyncReplica;

    pub(crate) fn surroundings() -> Surroundings {
        Surroundings {
            node: NodeName::new("a").unwrap(),
            namespace: "syncmesh-system".into(),
            mesh: "default".into(),
            service: "syncmesh-default".into(),
            port: 7400,
            metrics_port: 9400,
            all: [0, 0, 0, 0].into(),
            places: Places::default(),
        }
    }

    /// A replica of volume web/docs on node `a`, which these nodes keep.
    pub(crate) fn replica(members: &[&str]) -> SyncReplica {
        let members: Vec<_> =
            members.iter().map(|node| serde_json::json!({ "node": node, "nodeUID": format!("uid-{node}") })).collect();
        serde_json::from_value(serde_json::json!({
            "apiVersion": "syncmesh.io/v1alpha1",
            "kind": "SyncReplica",
            "metadata": { "name": "docs-a", "namespace": "web", "generation": 3 },
            "spec": {
                "mesh": "default", "volume": "docs", "volumeID": "id", "namespaceUID": "ns", "node": "a",
                "desired": "Present", "start": "Empty", "mode": "ReadWriteMany", "members": members,
                "root": {}, "conflicts": {}, "select": {}, "versions": {}, "deletionGuard": {}, "bandwidth": {},
                "durability": "epoch", "paused": false,
            },
        }))
        .unwrap()
    }

    fn node(in_sync: bool) -> Status {
        let mut status = crate::control::fake::status(in_sync, 7);
        status.volumes[0].name = "id".into();
        status
    }

    fn status_of(replica: &SyncReplica, data: &Result<Data, String>, node: Option<&Status>) -> SyncReplicaStatus {
        let questions = Questions::default();
        status(&Known {
            replica,
            data,
            refused: None,
            node,
            questions: &questions,
            replica_id: "disk",
            trusts: &[],
            orphans: &[],
            now: &at(100),
        })
    }

    fn condition(status: &SyncReplicaStatus, about: &str) -> Holds {
        status.conditions.iter().find(|one| one.r#type == about).unwrap().status
    }

    #[test]
    fn a_replica_in_sync_says_so_with_its_figures() {
        let status = status_of(&replica(&["a", "b"]), &Ok(Data::Ready), Some(&node(true)));
        assert_eq!((status.state, status.data), (Some(State::InSync), Some(Data::Ready)));
        assert_eq!((status.files, status.only_copy_files, status.members_seen), (Some(12), Some(0), Some(2)));
        assert_eq!(status.observed_generation, Some(3));
        assert_eq!(condition(&status, "InSync"), Holds::True);
        assert_eq!(status.message, None);
    }

    #[test]
    fn a_member_that_is_away_makes_in_sync_unknown_and_most_of_them_isolate() {
        let status = status_of(&replica(&["a", "b"]), &Ok(Data::Ready), Some(&node(false)));
        assert_eq!((status.state, status.members_away), (Some(State::Degraded), vec!["b".to_owned()]));
        assert_eq!(
            condition(&status_of(&replica(&["a", "b"]), &Ok(Data::Ready), Some(&node(false))), "InSync"),
            Holds::Unknown
        );
        assert_eq!(status.only_copy_files, None, "nobody knows");
        let status = status_of(&replica(&["a", "b", "c"]), &Ok(Data::Ready), Some(&node(false)));
        assert!(status.message.unwrap().starts_with("Isolated: it sees 1 of 3"));
    }

    #[test]
    fn files_that_arrive_are_never_in_sync_nor_ready() {
        let status = status_of(&replica(&["a", "b"]), &Ok(Data::Incoming), Some(&node(true)));
        assert_eq!(status.state, Some(State::Syncing));
        assert_eq!(condition(&status, "Ready"), Holds::False);
        assert!(status.message.unwrap().contains("pods can mount it once all has"));
    }

    #[test]
    fn what_cant_be_obeyed_is_said_and_changes_no_generation() {
        let status = status_of(&replica(&["a", "b"]), &Err("its directory is somebody's".into()), Some(&node(true)));
        assert_eq!((status.state, status.observed_generation), (Some(State::Failed), None));
        assert_eq!(condition(&status, "Accepted"), Holds::False);
        let mut node = node(true);
        node.volumes.clear();
        node.left_out = vec![syncmesh_engine::node::LeftOut { name: "id".into(), why: "its disk is away".into() }];
        let status = status_of(&replica(&["a"]), &Ok(Data::Ready), Some(&node));
        assert_eq!((status.state, status.message.as_deref()), (Some(State::Failed), Some("its disk is away")));
    }

    #[test]
    fn while_the_loop_starts_again_everything_is_as_it_was() {
        let mut replica = replica(&["a", "b"]);
        let before = status_of(&replica, &Ok(Data::Ready), Some(&node(true)));
        replica.status = Some(before.clone());
        let after = status_of(&replica, &Ok(Data::Ready), None);
        assert_eq!((after.state, after.files, after.conditions), (before.state, before.files, before.conditions));
    }

    #[test]
    fn an_epoch_is_obeyed_once_what_is_written_here_is_told_to_nobody() {
        let mut replica = replica(&["a", "b"]);
        replica.spec.mode = syncmesh_crds::volume::WriteMode::SingleWriter;
        let mut at_rest = node(true);
        let mut epoch = |writer: &str, epoch: u64, writes: bool| {
            replica.spec.writer = Some(syncmesh_crds::volume::Grant { node: writer.into(), epoch });
            at_rest.volumes[0].writes = writes;
            let status = status_of(&replica, &Ok(Data::Ready), Some(&at_rest));
            replica.status = Some(status.clone());
            status.epoch
        };
        assert_eq!(epoch("a", 1, true), Some(1));
        assert_eq!(epoch("b", 2, true), Some(1), "the engine hasn't heard of it yet");
        assert_eq!(epoch("b", 2, false), Some(2));
        assert_eq!(status_of(&replica, &Ok(Data::Ready), None).epoch, Some(2), "the loop starts again");
    }

    #[test]
    fn a_fenced_volume_says_so_and_writes_that_were_taken_back_do_for_an_hour() {
        let mut fenced = node(false);
        fenced.volumes[0].state = "Fenced".into();
        let status = status_of(&replica(&["a", "b"]), &Ok(Data::Ready), Some(&fenced));
        assert_eq!((status.state, condition(&status, "InSync")), (Some(State::Fenced), Holds::False));
        let mut reverted = node(true);
        (reverted.volumes[0].reverted, reverted.volumes[0].reverted_path) = (3, Some("d/f".into()));
        reverted.volumes[0].reverted_at = Some(90_000);
        let status = status_of(&replica(&["a", "b"]), &Ok(Data::Ready), Some(&reverted));
        assert_eq!(condition(&status, "UnsuitableWorkload"), Holds::True);
        let told = status.conditions.iter().find(|one| one.r#type == "UnsuitableWorkload").unwrap();
        assert!(told.message.contains("d/f"), "{}", told.message);
        reverted.volumes[0].reverted_at = Some(0);
        let volume = &reverted.volumes[0];
        let later = written_elsewhere(volume, &at(3_600)).unwrap();
        assert_eq!(later.holds, Holds::False);
    }

    #[test]
    fn a_barrier_passes_with_the_first_look_that_is_in_sync() {
        let mut replica = replica(&["a", "b"]);
        replica.spec.barrier = Some("token".into());
        assert_eq!(status_of(&replica, &Ok(Data::Ready), Some(&node(false))).barrier, None);
        assert_eq!(status_of(&replica, &Ok(Data::Ready), Some(&node(true))).barrier.as_deref(), Some("token"));
    }

    #[test]
    fn what_people_act_on_is_written_at_once_and_figures_later() {
        let replica = replica(&["a", "b"]);
        let before = status_of(&replica, &Ok(Data::Ready), Some(&node(true)));
        let mut with_more = node(true);
        with_more.volumes[0].files += 1;
        let after = |node: &Status| status_of(&replica, &Ok(Data::Ready), Some(node));
        assert_eq!(news(Some(&before), &before), News::None);
        assert_eq!(news(Some(&before), &after(&with_more)), News::Figures);
        assert_eq!(news(Some(&before), &after(&node(false))), News::Transition);
        let mut behind = node(true);
        (behind.volumes[0].in_sync, behind.volumes[0].state) = (false, "Syncing".into());
        assert_eq!(news(Some(&before), &after(&behind)), News::Figures);
        assert_eq!(news(Some(&after(&behind)), &before), News::Transition);
        let mut later = node(true);
        later.volumes[0].last_sync = Some(1_800_000_000_000);
        assert_eq!(news(Some(&before), &after(&later)), News::None, "an idle agent writes nothing");
    }
}

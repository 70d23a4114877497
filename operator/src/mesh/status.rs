//! How a mesh is.

use crate::conditions::{self, Finding};
use crate::labels::FORGET_NODE;
use crate::mesh::authority::Standing;
use crate::mesh::members::{members, wanted};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use syncmesh_crds::condition::Holds;
use syncmesh_crds::mesh::{MemberState, MeshMember, SyncMeshStatus};
use syncmesh_crds::state::State;
use syncmesh_crds::{SyncMesh, SyncReplica};

/// What was read of a mesh.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The mesh.
    pub mesh: &'a SyncMesh,
    /// All nodes of the cluster.
    pub nodes: &'a [Arc<Node>],
    /// Its agents' pods.
    pub pods: &'a [Arc<Pod>],
    /// Its replicas.
    pub replicas: &'a [Arc<SyncReplica>],
    /// Nodes whose agents are ready, and don't take up what changes.
    pub silent: &'a [String],
    /// How the volumes are that use it.
    pub volumes: &'a [State],
    /// Why the API server refuses its agents' pods, if it does.
    pub refused: Option<&'a str>,
    /// How its authority is.
    pub authority: &'a Standing,
    /// Volumes that it isn't deleted under.
    pub holders: &'a BTreeSet<String>,
    /// Now.
    pub now: &'a Time,
}

/// How a mesh is.
pub fn status(world: &World<'_>) -> SyncMeshStatus {
    let before = world.mesh.status.clone().unwrap_or_default();
    let members = members(world, &before.members);
    let wanted: BTreeSet<&str> = wanted(world).into_keys().collect();
    let is_ready = |member: &&MeshMember| member.state == MemberState::Ready && wanted.contains(member.node.as_str());
    let ready = members.iter().filter(is_ready).count();
    let lost: Vec<&MeshMember> = members.iter().filter(|member| member.state == MemberState::LostWithData).collect();
    let is_deleted = world.mesh.metadata.deletion_timestamp.is_some();
    let (state, message) = match (is_deleted, world.refused, lost.is_empty()) {
        (true, ..) if world.holders.is_empty() => (State::Terminating, None),
        (true, ..) => (State::Terminating, Some(held(world.holders))),
        (false, Some(why), _) => (State::Failed, Some(blocked(why))),
        (false, None, false) => (State::Degraded, Some(lost_with_data(world.mesh, &lost))),
        (false, None, true) if wanted.is_empty() => {
            (State::Pending, Some("no node fits: correct spec.nodes, or label nodes with what it asks for".to_owned()))
        }
        (false, None, true) if ready == wanted.len() && !world.silent.is_empty() => {
            (State::Degraded, Some(unheard(world.silent)))
        }
        (false, None, true) if ready == wanted.len() => of_volumes(world.volumes),
        (false, None, true) if ready == 0 => (State::Pending, Some(waiting(&members))),
        (false, None, true) => (State::Degraded, Some(waiting(&members))),
    };
    let generation = world.mesh.metadata.generation;
    let orphans = orphans(world.replicas);
    let findings = findings(world, ready, wanted.len(), &lost, orphans, message.clone().unwrap_or_default());
    SyncMeshStatus {
        observed_generation: generation,
        state: Some(state),
        agents: Some(format!("{ready}/{}", wanted.len())),
        volumes: Some(world.volumes.len() as u64),
        version: version(world.replicas).or(before.version),
        orphans: Some(orphans),
        members,
        message,
        conditions: conditions::after(&before.conditions, findings, generation, world.now),
    }
}

/// How a mesh is whose agents are all ready. What somebody wants so, paused or being deleted, is nothing to look at.
fn of_volumes(volumes: &[State]) -> (State, Option<String>) {
    let mut need_somebody = 0;
    let mut are_busy = false;
    for state in volumes {
        match state {
            State::Failed | State::Fenced | State::Held | State::Unknown | State::Degraded => need_somebody += 1,
            State::Pending | State::Syncing => are_busy = true,
            State::InSync | State::Paused | State::Terminating => {}
        }
    }
    match (need_somebody, are_busy) {
        (0, false) => (State::InSync, None),
        (0, true) => (State::Syncing, None),
        (count, _) => {
            (State::Degraded, Some(format!("{count} volumes need somebody: `kubectl get svol -A` shows them")))
        }
    }
}

/// Nodes whose agent's pod is ready.
pub fn ready_nodes(pods: &[Arc<Pod>]) -> BTreeSet<&str> {
    let is_ready = |pod: &&Arc<Pod>| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        pod.metadata.deletion_timestamp.is_none()
            && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    pods.iter().filter(is_ready).filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref()).collect()
}

/// Each node counts once, however many of its replicas tell.
fn orphans(replicas: &[Arc<SyncReplica>]) -> u64 {
    let mut by_node: BTreeMap<&str, u64> = BTreeMap::new();
    for replica in replicas {
        let told = replica.status.as_ref().and_then(|status| status.orphans_on_node).unwrap_or(0);
        let most = by_node.entry(&replica.spec.node).or_default();
        *most = told.max(*most);
    }
    by_node.values().sum()
}

/// The agents' release, or two of them with an arrow.
fn version(replicas: &[Arc<SyncReplica>]) -> Option<String> {
    let versions: BTreeSet<&str> =
        replicas.iter().filter_map(|replica| replica.status.as_ref()?.version.as_deref()).collect();
    let (first, last) = (versions.first()?, versions.last()?);
    Some(if first == last { (*first).to_owned() } else { format!("{first} -> {last}") })
}

fn findings(
    world: &World<'_>,
    ready: usize,
    wanted: usize,
    lost: &[&MeshMember],
    orphans: u64,
    message: String,
) -> Vec<Finding> {
    let holds = |holds| if holds { Holds::True } else { Holds::False };
    let all = wanted > 0 && ready == wanted;
    let mut findings = vec![
        Finding::new("Ready", holds(all), if all { "AllAgentsReady" } else { "AgentsMissing" }, message.clone()),
        Finding::new(
            "Degraded",
            holds(!all || !lost.is_empty()),
            if all { "AllAgentsReady" } else { "AgentsMissing" },
            message,
        ),
        match world.refused {
            Some(why) => Finding::new("AgentsBlocked", Holds::True, "PodsRefused", blocked(why)),
            None => Finding::new("AgentsBlocked", Holds::False, "PodsAccepted", ""),
        },
        match world.silent {
            [] => Finding::new("ControlPlaneUnreachable", Holds::False, "ChangesTakenUp", ""),
            nodes => Finding::new("ControlPlaneUnreachable", Holds::True, "ChangesNotTakenUp", unheard(nodes)),
        },
        authority(world.authority),
    ];
    if world.mesh.metadata.deletion_timestamp.is_some() && !world.holders.is_empty() {
        findings.push(Finding::new("Terminating", Holds::True, "VolumesLeft", held(world.holders)));
    }
    if !lost.is_empty() {
        findings.push(Finding::new("NodeLostWithData", Holds::True, "OnlyCopies", lost_with_data(world.mesh, lost)));
    }
    if orphans > 0 {
        let message = format!("{orphans} directories belong to no volume: `kubectl syncmesh orphans list` names them");
        findings.push(Finding::new("OrphanFound", Holds::True, "NoVolume", message));
    }
    findings
}

fn authority(standing: &Standing) -> Finding {
    let yes = |reason, message: String| Finding::new("AuthorityReady", Holds::True, reason, message);
    match standing {
        Standing::Missing => Finding::new(
            "AuthorityReady",
            Holds::False,
            "Missing",
            "it is about to be made; if that lasts, its Secret lacks our labels",
        ),
        Standing::Unusable(why) => Finding::new("AuthorityReady", Holds::False, "Unusable", why.as_str()),
        Standing::Signing => yes("Signing", String::new()),
        Standing::Introducing(nodes) if nodes.is_empty() => {
            yes("Introducing", "a new root follows within minutes".to_owned())
        }
        Standing::Introducing(nodes) => {
            let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
            yes("Introducing", format!("a new root waits for the agents of {}: see their pods", few(&nodes)))
        }
        Standing::Retiring => {
            yes("Retiring", "the root before is trusted until its certificates have ended".to_owned())
        }
    }
}

fn held(holders: &BTreeSet<String>) -> String {
    let names: Vec<&str> = holders.iter().map(String::as_str).collect();
    format!("volumes use it: delete {} first, and it goes by itself", few(&names))
}

fn unheard(nodes: &[String]) -> String {
    let names: Vec<&str> = nodes.iter().map(String::as_str).collect();
    format!(
        "the agents of {} take up no changes, while files go on: see in their logs whether they reach the API server",
        few(&names)
    )
}

fn blocked(why: &str) -> String {
    format!(
        "the API server refuses the agents' pods ({}): label their namespace with pod-security.kubernetes.io/enforce=privileged",
        why.chars().take(400).collect::<String>()
    )
}

/// The command gives up one machine, not all that are missed.
fn lost_with_data(mesh: &SyncMesh, lost: &[&MeshMember]) -> String {
    let names: Vec<&str> = lost.iter().map(|member| member.node.as_str()).collect();
    let first = lost.first().map(|member| (member.node.as_str(), member.node_uid.as_deref().unwrap_or_default()));
    let (node, uid) = first.unwrap_or_default();
    format!(
        "{} went with files that no other node has: bring it back, or give up those of {node} with \
         `kubectl annotate smesh {} {FORGET_NODE}={uid} --overwrite`",
        few(&names),
        mesh.name_any()
    )
}

fn waiting(members: &[MeshMember]) -> String {
    let away: Vec<&str> = members
        .iter()
        .filter(|member| member.state == MemberState::NotReady)
        .map(|member| member.node.as_str())
        .collect();
    format!("no ready agent on {}: see its pod there", few(&away))
}

/// A few of these names.
pub(crate) fn few(names: &[&str]) -> String {
    match names {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more", rest.len())
        }
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodCondition, PodSpec, PodStatus};
    use k8s_openapi::jiff::Timestamp;
    use kube::core::ObjectMeta;
    use syncmesh_crds::mesh::SyncMeshSpec;

    fn node(name: &str, uid: &str) -> Arc<Node> {
        Arc::new(Node {
            metadata: ObjectMeta { name: Some(name.into()), uid: Some(uid.into()), ..ObjectMeta::default() },
            ..Node::default()
        })
    }

    fn pod(node: &str, ready: &str) -> Arc<Pod> {
        Arc::new(Pod {
            spec: Some(PodSpec { node_name: Some(node.into()), ..PodSpec::default() }),
            status: Some(PodStatus {
                conditions: Some(vec![PodCondition {
                    type_: "Ready".into(),
                    status: ready.into(),
                    ..PodCondition::default()
                }]),
                ..PodStatus::default()
            }),
            ..Pod::default()
        })
    }

    fn at(seconds: i64) -> Time {
        Time(Timestamp::from_second(seconds).unwrap())
    }

    fn with(before: SyncMeshStatus, nodes: &[Arc<Node>], pods: &[Arc<Pod>], refused: Option<&str>) -> SyncMeshStatus {
        let mut mesh = SyncMesh::new("default", SyncMeshSpec::default());
        mesh.status = Some(before);
        of(&mesh, nodes, pods, refused, &BTreeSet::new())
    }

    fn of(
        mesh: &SyncMesh,
        nodes: &[Arc<Node>],
        pods: &[Arc<Pod>],
        refused: Option<&str>,
        holders: &BTreeSet<String>,
    ) -> SyncMeshStatus {
        let authority = &Standing::Signing;
        status(&World {
            mesh,
            nodes,
            pods,
            replicas: &[],
            silent: &[],
            volumes: &[],
            refused,
            authority,
            holders,
            now: &at(9),
        })
    }

    #[test]
    fn a_mesh_that_is_deleted_under_volumes_names_them() {
        let mut mesh = SyncMesh::new("default", SyncMeshSpec::default());
        mesh.metadata.deletion_timestamp = Some(at(1));
        let holders = BTreeSet::from(["web/docs".to_owned()]);
        let held = of(&mesh, &[node("a", "1")], &[pod("a", "True")], None, &holders);
        assert_eq!(held.state, Some(State::Terminating));
        assert!(held.message.unwrap().contains("delete web/docs first"));
        let terminating = held.conditions.iter().find(|one| one.r#type == "Terminating").unwrap();
        assert_eq!((terminating.status, terminating.reason.as_str()), (Holds::True, "VolumesLeft"));
    }

    #[test]
    fn a_mesh_is_in_sync_once_every_node_has_a_ready_agent() {
        let nodes = [node("a", "1"), node("b", "2")];
        let half = with(SyncMeshStatus::default(), &nodes, &[pod("a", "True"), pod("b", "False")], None);
        assert_eq!((half.state, half.agents.as_deref()), (Some(State::Degraded), Some("1/2")));
        assert!(half.message.unwrap().contains("no ready agent on b"));
        let whole = with(SyncMeshStatus::default(), &nodes, &[pod("a", "True"), pod("b", "True")], None);
        assert_eq!((whole.state, whole.agents.as_deref()), (Some(State::InSync), Some("2/2")));
    }

    #[test]
    fn a_mesh_says_whose_agents_hear_nothing_from_the_api_server() {
        let (mesh, nodes) = (SyncMesh::new("default", SyncMeshSpec::default()), [node("a", "1")]);
        let world = World {
            mesh: &mesh,
            nodes: &nodes,
            pods: &[pod("a", "True")],
            replicas: &[],
            silent: &["a".to_owned()],
            volumes: &[State::InSync],
            refused: None,
            authority: &Standing::Signing,
            holders: &BTreeSet::new(),
            now: &at(9),
        };
        let holds = |status: &SyncMeshStatus| {
            status.conditions.iter().find(|one| one.r#type == "ControlPlaneUnreachable").unwrap().status
        };
        let silent = status(&world);
        assert_eq!((silent.state, holds(&silent)), (Some(State::Degraded), Holds::True));
        assert!(silent.message.unwrap().starts_with("the agents of a take up no changes"));
        let heard = status(&World { silent: &[], ..world });
        assert_eq!((heard.state, holds(&heard)), (Some(State::InSync), Holds::False));
    }

    #[test]
    fn a_volume_that_needs_somebody_shows_in_its_mesh_and_one_that_is_paused_does_not() {
        assert_eq!(of_volumes(&[State::InSync, State::Paused, State::Terminating]), (State::InSync, None));
        assert_eq!(of_volumes(&[State::Syncing, State::InSync]), (State::Syncing, None));
        assert_eq!(of_volumes(&[State::Held, State::Syncing]).0, State::Degraded);
    }

    #[test]
    fn refused_pods_are_told_with_what_mends_them() {
        let blocked = with(SyncMeshStatus::default(), &[node("a", "1")], &[], Some("violates PodSecurity"));
        assert_eq!(blocked.state, Some(State::Failed));
        assert!(blocked.message.unwrap().contains("pod-security.kubernetes.io/enforce=privileged"));
    }
}

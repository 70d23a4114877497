//! Whether an agent gets the certificate that it asks for.

use super::refusal::{Refusal, USAGES, account};
use super::{LEAF_LIFE, SIGNER};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use rcgen::{CertificateSigningRequestParams, PublicKey, SanType};
use std::time::Duration;
use syncmesh_crds::SyncMesh;

/// What the API server stamps into a request whose token is bound to a pod.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// What was read for a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct World<'a> {
    /// The operator's namespace, in which the agents are.
    pub home: &'a str,
    /// The pod of the name in the requester's token.
    pub pod: Option<&'a Pod>,
    /// The DaemonSet that controls it.
    pub agents: Option<&'a DaemonSet>,
    /// The mesh whose agents those are.
    pub mesh: Option<&'a SyncMesh>,
}

/// Who asks, as the API server has stamped it into a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requester<'a> {
    /// The pod's name.
    pub pod: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// Its node.
    pub node: &'a str,
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The mesh whose authority signs.
    pub mesh: String,
    /// The one name in the certificate.
    pub node: String,
    /// The key that it is for.
    pub key: PublicKey,
    /// How long it holds.
    pub life: Duration,
}

/// Whether a request is accepted, and what is signed then. What isn't said here isn't in the certificate.
///
/// # Errors
/// The first thing that stands against it.
pub fn verdict(request: &CertificateSigningRequest, world: &World<'_>) -> Result<Accepted, Refusal> {
    let requester = requester(request, world.home)?;
    let (key, life) = (key(request, requester.node)?, life(request)?);
    let pod = || requester.pod.to_owned();
    let found = world.pod.ok_or_else(|| Refusal::NoPod { pod: pod() })?;
    if found.metadata.uid.as_deref() != Some(requester.uid) {
        return Err(Refusal::AnotherPod { pod: pod() });
    }
    let phase = found.status.as_ref().and_then(|status| status.phase.as_deref());
    if found.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed")) {
        return Err(Refusal::DeadPod { pod: pod() });
    }
    let runs_on = found.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    if runs_on != requester.node {
        return Err(Refusal::AnotherNode { pod: pod(), found: runs_on.to_owned() });
    }
    let mesh = mesh(found, world).ok_or_else(|| Refusal::NoAgent { pod: pod() })?;
    Ok(Accepted { mesh, node: requester.node.to_owned(), key, life })
}

/// Who asks.
///
/// # Errors
/// It is no agent, or its token says too little of it.
pub fn requester<'a>(request: &'a CertificateSigningRequest, home: &str) -> Result<Requester<'a>, Refusal> {
    let found = request.spec.username.as_deref().unwrap_or_default();
    if found != account(home) {
        return Err(Refusal::Account { found: found.to_owned(), home: home.to_owned() });
    }
    let extra = |key: &str, missing| match request.spec.extra.as_ref().and_then(|extra| extra.get(key)) {
        Some(values) if values.len() == 1 && !values[0].is_empty() => Ok(values[0].as_str()),
        Some(_) | None => Err(Refusal::Unbound { missing }),
    };
    Ok(Requester {
        pod: extra(POD_NAME, "pod")?,
        uid: extra(POD_UID, "uid of a pod")?,
        node: extra(NODE_NAME, "node")?,
    })
}

/// The name of the DaemonSet that controls a pod, with its uid.
pub fn controller(pod: &Pod) -> Option<&OwnerReference> {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    (owner.kind == "DaemonSet" && owner.api_version.starts_with("apps/")).then_some(owner)
}

/// Whether it is for our signer.
pub fn is_ours(request: &CertificateSigningRequest) -> bool {
    request.spec.signer_name == SIGNER
}

/// Labels are what anybody writes who may make a DaemonSet here; its name is what the operator gives it.
fn mesh(pod: &Pod, world: &World<'_>) -> Option<String> {
    let (owner, agents, mesh) = (controller(pod)?, world.agents?, world.mesh?);
    let name = mesh.metadata.name.as_deref()?;
    let is_controlled = agents.metadata.uid.as_ref() == Some(&owner.uid);
    let is_of_mesh = agents.metadata.name.as_deref() == Some(crate::names::of_agents(name).as_str());
    (is_controlled && is_of_mesh).then(|| name.to_owned())
}

/// The key, if all names are the node's.
fn key(request: &CertificateSigningRequest, node: &str) -> Result<PublicKey, Refusal> {
    let mut usages = request.spec.usages.clone().unwrap_or_default();
    usages.sort();
    if usages != USAGES {
        return Err(Refusal::Usages { found: usages });
    }
    let unreadable = |why: String| Refusal::Unreadable { why };
    let pem = std::str::from_utf8(&request.spec.request.0).map_err(|error| unreadable(error.to_string()))?;
    let read = CertificateSigningRequestParams::from_pem(pem).map_err(|error| unreadable(error.to_string()))?;
    match &read.params.subject_alt_names[..] {
        [SanType::DnsName(name)] if name.as_str() == node => Ok(read.public_key),
        names => Err(Refusal::Names { found: names.iter().map(shown).collect(), node: node.to_owned() }),
    }
}

/// A name that was asked for, cut short, as it is anybody's text.
fn shown(name: &SanType) -> String {
    let text = match name {
        SanType::DnsName(name) => name.as_str().to_owned(),
        other => format!("{other:?}"),
    };
    text.chars().filter(|letter| !letter.is_control()).take(80).collect()
}

fn life(request: &CertificateSigningRequest) -> Result<Duration, Refusal> {
    let Some(found) = request.spec.expiration_seconds else { return Ok(LEAF_LIFE) };
    match u64::try_from(found) {
        Ok(seconds) if seconds > 0 && seconds <= LEAF_LIFE.as_secs() => Ok(Duration::from_secs(seconds)),
        Ok(_) | Err(_) => Err(Refusal::Life { found: found.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::{PodSpec, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use kube::core::ObjectMeta;
    use rcgen::{CertificateParams, KeyPair};
    use syncmesh_crds::mesh::SyncMeshSpec;

    fn pkcs10(names: &[&str]) -> ByteString {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let request = CertificateParams::new(names).unwrap().serialize_request(&KeyPair::generate().unwrap()).unwrap();
        ByteString(request.pem().unwrap().into_bytes())
    }

    /// What a `World` borrows, and a request in it, right in everything.
    struct Example {
        request: CertificateSigningRequest,
        pod: Pod,
        agents: DaemonSet,
        mesh: SyncMesh,
    }

    impl Example {
        fn new() -> Self {
            let mut request = CertificateSigningRequest::default();
            let spec = &mut request.spec;
            spec.username = Some("system:serviceaccount:home:syncmesh-agent".into());
            spec.signer_name = SIGNER.into();
            let stamps = [(POD_NAME, "syncmesh-default-x"), (POD_UID, "pod-uid"), (NODE_NAME, "worker-1")];
            spec.extra = Some(stamps.map(|(key, value)| (key.to_owned(), vec![value.to_owned()])).into());
            spec.usages = Some(["digital signature", "client auth", "server auth"].map(String::from).into());
            spec.expiration_seconds = Some(1_209_600);
            spec.request = pkcs10(&["worker-1"]);
            let owner = OwnerReference {
                api_version: "apps/v1".into(),
                kind: "DaemonSet".into(),
                name: "syncmesh-default".into(),
                uid: "agents-uid".into(),
                controller: Some(true),
                block_owner_deletion: None,
            };
            let named = |name: &str, uid: &str| ObjectMeta {
                name: Some(name.into()),
                uid: Some(uid.into()),
                ..ObjectMeta::default()
            };
            Self {
                request,
                pod: Pod {
                    metadata: ObjectMeta {
                        owner_references: Some(vec![owner]),
                        ..named("syncmesh-default-x", "pod-uid")
                    },
                    spec: Some(PodSpec { node_name: Some("worker-1".into()), ..PodSpec::default() }),
                    status: Some(PodStatus { phase: Some("Running".into()), ..PodStatus::default() }),
                },
                agents: DaemonSet { metadata: named("syncmesh-default", "agents-uid"), ..DaemonSet::default() },
                mesh: SyncMesh::new("default", SyncMeshSpec::default()),
            }
        }

        fn world(&self) -> World<'_> {
            World { home: "home", pod: Some(&self.pod), agents: Some(&self.agents), mesh: Some(&self.mesh) }
        }

        fn verdict(&self) -> Result<Accepted, Refusal> {
            verdict(&self.request, &self.world())
        }
    }

    /// The reason for which a changed example is refused.
    fn refused(change: impl FnOnce(&mut Example)) -> &'static str {
        let mut example = Example::new();
        change(&mut example);
        example.verdict().unwrap_err().reason()
    }

    #[test]
    fn an_agent_gets_a_certificate_for_its_own_node() {
        let accepted = Example::new().verdict().unwrap();
        assert_eq!((accepted.mesh.as_str(), accepted.node.as_str()), ("default", "worker-1"));
        assert_eq!(accepted.life, LEAF_LIFE);
    }

    #[test]
    fn another_account_is_refused_whatever_it_shows() {
        for name in ["system:serviceaccount:web:syncmesh-agent", "system:serviceaccount:home:default", "admin"] {
            assert_eq!(refused(|one| one.request.spec.username = Some(name.into())), "NotAnAgent");
        }
        assert_eq!(refused(|one| one.request.spec.username = None), "NotAnAgent");
    }

    #[test]
    fn a_token_that_is_bound_to_no_pod_is_refused() {
        assert_eq!(refused(|one| one.request.spec.extra = None), "TokenNotBound");
        for key in [POD_NAME, POD_UID, NODE_NAME] {
            assert_eq!(refused(|one| drop(one.request.spec.extra.as_mut().unwrap().remove(key))), "TokenNotBound");
        }
        let doubled = |one: &mut Example| {
            one.request.spec.extra.as_mut().unwrap().insert(NODE_NAME.into(), vec!["worker-1".into(), "b".into()]);
        };
        assert_eq!(refused(doubled), "TokenNotBound");
    }

    #[test]
    fn a_name_of_another_node_a_second_name_and_none_are_refused() {
        for names in [&["worker-2"][..], &["worker-1", "worker-2"], &["worker-1", "10.0.0.1"], &["10.0.0.1"], &[]] {
            assert_eq!(refused(|one| one.request.spec.request = pkcs10(names)), "OtherNames", "{names:?}");
        }
    }

    #[test]
    fn other_usages_and_a_longer_life_are_refused_and_a_shorter_one_is_given() {
        assert_eq!(refused(|one| drop(one.request.spec.usages.as_mut().unwrap().pop())), "OtherUsages");
        assert_eq!(refused(|one| one.request.spec.usages.as_mut().unwrap().push("cert sign".into())), "OtherUsages");
        assert_eq!(refused(|one| one.request.spec.expiration_seconds = Some(1_209_601)), "TooLong");
        assert_eq!(refused(|one| one.request.spec.expiration_seconds = Some(-1)), "TooLong");
        let mut example = Example::new();
        example.request.spec.expiration_seconds = Some(600);
        assert_eq!(example.verdict().unwrap().life, Duration::from_secs(600));
    }

    #[test]
    fn what_is_no_request_or_signed_by_another_key_is_refused() {
        assert_eq!(refused(|one| one.request.spec.request = ByteString(b"x".to_vec())), "Unreadable");
        let tampered = |one: &mut Example| {
            let pem = String::from_utf8(one.request.spec.request.0.clone()).unwrap();
            let mut lines: Vec<&str> = pem.lines().collect();
            let other = String::from_utf8(pkcs10(&["worker-1"]).0).unwrap();
            // The signature stands at the end.
            let from = lines.len() - 3;
            let end: Vec<&str> = other.lines().collect();
            lines.truncate(from);
            lines.extend(&end[from..]);
            one.request.spec.request = ByteString(lines.join("\n").into_bytes());
        };
        assert_eq!(refused(tampered), "Unreadable");
    }

    #[test]
    fn a_pod_that_is_gone_replaced_ended_or_elsewhere_is_refused() {
        let example = Example::new();
        let without = World { pod: None, ..example.world() };
        assert_eq!(verdict(&example.request, &without).unwrap_err().reason(), "PodMissing");
        assert_eq!(refused(|one| one.pod.metadata.uid = Some("another".into())), "AnotherPod");
        assert_eq!(refused(|one| one.pod.status.as_mut().unwrap().phase = Some("Failed".into())), "PodEnded");
        let now = Time(super::super::authority::tests::at(1));
        assert_eq!(refused(|one| one.pod.metadata.deletion_timestamp = Some(now)), "PodEnded");
        assert_eq!(refused(|one| one.pod.spec.as_mut().unwrap().node_name = Some("b".into())), "AnotherNode");
    }

    #[test]
    fn a_pod_that_no_mesh_has_made_is_refused() {
        assert_eq!(refused(|one| one.pod.metadata.owner_references = None), "NoMesh");
        let owner = |one: &mut Example, change: fn(&mut OwnerReference)| {
            change(&mut one.pod.metadata.owner_references.as_mut().unwrap()[0]);
        };
        assert_eq!(refused(|one| owner(one, |owner| owner.kind = "ReplicaSet".into())), "NoMesh");
        assert_eq!(refused(|one| owner(one, |owner| owner.controller = None)), "NoMesh");
        assert_eq!(refused(|one| owner(one, |owner| owner.uid = "another".into())), "NoMesh");
        assert_eq!(refused(|one| one.agents.metadata.name = Some("syncmesh-other".into())), "NoMesh");
        let example = Example::new();
        for world in [World { agents: None, ..example.world() }, World { mesh: None, ..example.world() }] {
            assert_eq!(verdict(&example.request, &world).unwrap_err().reason(), "NoMesh");
        }
    }
}

//! What a mesh's agents need: a ServiceAccount, a headless Service by which they find each other, and a DaemonSet.

use crate::{labels, names};
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::ObjectMeta;
use std::collections::BTreeMap;
use syncmesh_crds::SyncMesh;
use syncmesh_crds::mesh::{Agent, Seccomp, Toleration};
use syncmesh_crds::selector::{Expression, Selector};

/// The account of all agents. The chart gives it its rights.
pub const ACCOUNT: &str = "syncmesh-agent";
/// Where the storage root is inside of an agent's container. The same for all meshes, so that paths in logs are.
pub const ROOT: &str = "/var/lib/syncmesh";
/// Where an agent's container has `ca.pem`, the roots that it trusts.
pub const TRUST: &str = "/etc/syncmesh";
/// Below it each listed directory is mounted under its name.
pub const DIRECTORIES: &str = "/directories";
/// What an agent may do as root: own, open and lease files of every owner.
const CAPABILITIES: &[&str] = &["CHOWN", "FOWNER", "FSETID", "DAC_OVERRIDE", "DAC_READ_SEARCH", "LEASE"];
/// The profile's file below the kubelet's seccomp directory.
const PROFILE: &str = "syncmesh/agent.json";
/// The kubelet's seccomp directory.
const PROFILES: &str = "/var/lib/kubelet/seccomp";
/// How long an agent may go on telling others what they don't have yet: 110 s of its own, and time to end.
const GRACE_SECONDS: i64 = 120;

/// What the operator knows of itself.
#[derive(Clone, Debug)]
pub struct Home {
    /// Its namespace, in which the agents are, too.
    pub namespace: String,
    /// The agents' image, where the mesh names none.
    pub image: String,
}

/// What should be there for a mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// The account. It is nobody's, because the chart's rights for it outlive a mesh.
    pub account: core::ServiceAccount,
    /// The Service.
    pub service: core::Service,
    /// The agents.
    pub agents: DaemonSet,
}

/// What should be there for a mesh.
pub fn desired(mesh: &SyncMesh, home: &Home) -> Desired {
    let name = mesh.metadata.name.as_deref().unwrap_or_default();
    Desired { account: account(home), service: service(mesh, name, home), agents: agents(mesh, name, home) }
}

fn account(home: &Home) -> core::ServiceAccount {
    core::ServiceAccount {
        metadata: ObjectMeta {
            name: Some(ACCOUNT.into()),
            namespace: Some(home.namespace.clone()),
            ..ObjectMeta::default()
        },
        ..core::ServiceAccount::default()
    }
}

/// Of an object that goes with its mesh, which [`super::farewell`] sees to.
fn metadata(name: &str, home: &Home) -> ObjectMeta {
    ObjectMeta {
        name: Some(names::of_agents(name)),
        namespace: Some(home.namespace.clone()),
        labels: Some(labels::of_mesh(name)),
        ..ObjectMeta::default()
    }
}

/// Agents that aren't ready are found, too: how else would they get ready.
fn service(mesh: &SyncMesh, name: &str, home: &Home) -> core::Service {
    let port = |name: &str, port: u16| core::ServicePort {
        name: Some(name.into()),
        port: port.into(),
        target_port: Some(IntOrString::String(name.into())),
        ..core::ServicePort::default()
    };
    let network = &mesh.spec.network;
    core::Service {
        metadata: metadata(name, home),
        spec: Some(core::ServiceSpec {
            cluster_ip: Some("None".into()),
            ip_family_policy: Some("PreferDualStack".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(labels::of_agents(name)),
            ports: Some(vec![port("mesh", network.port), port("metrics", network.metrics_port)]),
            ..core::ServiceSpec::default()
        }),
        ..core::Service::default()
    }
}

fn agents(mesh: &SyncMesh, name: &str, home: &Home) -> DaemonSet {
    let pod_labels: BTreeMap<_, _> = labels::of_mesh(name).into_iter().chain(labels::of_agents(name)).collect();
    DaemonSet {
        metadata: metadata(name, home),
        spec: Some(DaemonSetSpec {
            selector: LabelSelector { match_labels: Some(labels::of_agents(name)), ..LabelSelector::default() },
            // Two agents of one node would meet at the lock of its state directory: the old one goes first.
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDaemonSet {
                    max_unavailable: Some(mesh.spec.agent.max_unavailable.clone()),
                    max_surge: Some(IntOrString::Int(0)),
                }),
            }),
            template: core::PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(pod_labels), ..ObjectMeta::default() }),
                spec: Some(pod(mesh, name, home)),
            },
            ..DaemonSetSpec::default()
        }),
        ..DaemonSet::default()
    }
}

fn pod(mesh: &SyncMesh, name: &str, home: &Home) -> core::PodSpec {
    let agent = &mesh.spec.agent;
    let host = mesh.spec.network.host;
    let image = agent.image.clone().unwrap_or_else(|| home.image.clone());
    let secrets = agent.image_pull_secrets.iter().map(|name| core::LocalObjectReference { name: name.clone() });
    let tolerations: Vec<_> = agent.tolerations.iter().map(toleration).collect();
    core::PodSpec {
        service_account_name: Some(ACCOUNT.into()),
        priority_class_name: Some("system-node-critical".into()),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        affinity: affinity(&mesh.spec.nodes),
        node_selector: Some(BTreeMap::from([("kubernetes.io/os".to_owned(), "linux".to_owned())])),
        tolerations: some(tolerations),
        host_network: host.then_some(true),
        dns_policy: host.then(|| "ClusterFirstWithHostNet".into()),
        enable_service_links: Some(false),
        image_pull_secrets: some(secrets.collect()),
        init_containers: some(init_containers(agent, &image)),
        containers: vec![container(mesh, name, image)],
        volumes: Some(volumes(mesh, name)),
        ..core::PodSpec::default()
    }
}

fn container(mesh: &SyncMesh, name: &str, image: String) -> core::Container {
    let agent = &mesh.spec.agent;
    let network = &mesh.spec.network;
    let port = |name: &str, port: u16| core::ContainerPort {
        name: Some(name.into()),
        container_port: port.into(),
        ..core::ContainerPort::default()
    };
    core::Container {
        name: "agent".into(),
        image: Some(image),
        image_pull_policy: Some(agent.image_pull_policy.as_str().into()),
        args: Some(vec!["run".into(), "--kubernetes".into()]),
        env: Some(vec![
            field("SYNCMESH_NODE", "spec.nodeName"),
            field("SYNCMESH_POD", "metadata.name"),
            field("SYNCMESH_NAMESPACE", "metadata.namespace"),
            value("SYNCMESH_MESH", name),
            value("SYNCMESH_SERVICE", &names::of_agents(name)),
            value("SYNCMESH_LISTEN_PORT", &network.port.to_string()),
            value("SYNCMESH_METRICS_PORT", &network.metrics_port.to_string()),
            value("SYNCMESH_LOG", agent.log_level.as_str()),
        ]),
        ports: Some(vec![port("mesh", network.port), port("metrics", network.metrics_port)]),
        readiness_probe: Some(probe("/readyz", 2, 3)),
        // The loop has 10 s to turn; a slow disk is no reason to kill, a loop that stands is.
        liveness_probe: Some(probe("/livez", 10, 6)),
        resources: Some(resources(agent)),
        security_context: Some(security(match agent.seccomp {
            Seccomp::RuntimeDefault => None,
            Seccomp::Syncmesh => Some(PROFILE),
        })),
        volume_mounts: Some(mounts(mesh)),
        ..core::Container::default()
    }
}

/// Puts our profile where the kubelet looks for it. It runs before the container that names it.
fn init_containers(agent: &Agent, image: &str) -> Vec<core::Container> {
    match agent.seccomp {
        Seccomp::RuntimeDefault => Vec::new(),
        Seccomp::Syncmesh => vec![core::Container {
            name: "seccomp".into(),
            image: Some(image.into()),
            image_pull_policy: Some(agent.image_pull_policy.as_str().into()),
            args: Some(vec!["install-seccomp".into(), format!("{PROFILES}/{PROFILE}")]),
            resources: Some(resources(agent)),
            security_context: Some(security(None)),
            volume_mounts: Some(vec![mount("seccomp", PROFILES)]),
            ..core::Container::default()
        }],
    }
}

/// Root, because other users keep no capability over files of others; with nothing else that root has.
fn security(profile: Option<&str>) -> core::SecurityContext {
    let capabilities = CAPABILITIES.iter().map(|name| (*name).to_owned()).collect();
    core::SecurityContext {
        run_as_user: Some(0),
        run_as_group: Some(0),
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(core::Capabilities { add: Some(capabilities), drop: Some(vec!["ALL".into()]) }),
        seccomp_profile: Some(core::SeccompProfile {
            type_: if profile.is_some() { "Localhost" } else { "RuntimeDefault" }.into(),
            localhost_profile: profile.map(Into::into),
        }),
        ..core::SecurityContext::default()
    }
}

/// One mount for all volumes, so that another volume restarts no agent; one for each listed directory.
fn mounts(mesh: &SyncMesh) -> Vec<core::VolumeMount> {
    let listed = mesh.spec.directories.iter().map(|listed| {
        // What is mounted on the node after the agent began is seen, too.
        core::VolumeMount {
            mount_propagation: Some("HostToContainer".into()),
            ..mount(&volume_name(&listed.name), &format!("{DIRECTORIES}/{}", listed.name))
        }
    });
    let roots = core::VolumeMount { read_only: Some(true), ..mount("trust", TRUST) };
    [mount("root", ROOT), roots].into_iter().chain(listed).collect()
}

fn volumes(mesh: &SyncMesh, name: &str) -> Vec<core::Volume> {
    let spec = &mesh.spec;
    let listed = spec.directories.iter().map(|listed| host_path(&volume_name(&listed.name), &listed.path));
    let profiles = match spec.agent.seccomp {
        Seccomp::RuntimeDefault => None,
        Seccomp::Syncmesh => Some(host_path("seccomp", PROFILES)),
    };
    // No subPath: then the kubelet shows what the ConfigMap becomes.
    let trust = core::Volume {
        name: "trust".into(),
        config_map: Some(core::ConfigMapVolumeSource {
            name: names::of_authority(name),
            ..core::ConfigMapVolumeSource::default()
        }),
        ..core::Volume::default()
    };
    [host_path("root", &spec.storage.root), trust].into_iter().chain(listed).chain(profiles).collect()
}

fn volume_name(directory: &str) -> String {
    format!("directory-{directory}")
}

fn host_path(name: &str, path: &str) -> core::Volume {
    core::Volume {
        name: name.into(),
        host_path: Some(core::HostPathVolumeSource { path: path.into(), type_: Some("DirectoryOrCreate".into()) }),
        ..core::Volume::default()
    }
}

fn mount(name: &str, path: &str) -> core::VolumeMount {
    core::VolumeMount { name: name.into(), mount_path: path.into(), ..core::VolumeMount::default() }
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> core::Probe {
    core::Probe {
        http_get: Some(core::HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("metrics".into()),
            ..core::HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failures),
        timeout_seconds: Some(5),
        ..core::Probe::default()
    }
}

fn resources(agent: &Agent) -> core::ResourceRequirements {
    let quantities = |given: &BTreeMap<String, IntOrString>| {
        let quantity = |(name, value): (&String, &IntOrString)| {
            let text = match value {
                IntOrString::Int(number) => number.to_string(),
                IntOrString::String(text) => text.clone(),
            };
            (name.clone(), Quantity(text))
        };
        (!given.is_empty()).then(|| given.iter().map(quantity).collect())
    };
    core::ResourceRequirements {
        requests: quantities(&agent.resources.requests),
        limits: quantities(&agent.resources.limits),
        ..core::ResourceRequirements::default()
    }
}

fn toleration(ours: &Toleration) -> core::Toleration {
    core::Toleration {
        key: ours.key.clone(),
        operator: Some(ours.operator.as_str().into()),
        value: ours.value.clone(),
        effect: ours.effect.map(|effect| effect.as_str().into()),
        ..core::Toleration::default()
    }
}

/// Where the agents' pods go. None where the mesh has all nodes.
fn affinity(nodes: &Selector) -> Option<core::Affinity> {
    let terms = node_terms(nodes.expressions())?;
    Some(core::Affinity {
        node_affinity: Some(core::NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(terms),
            ..core::NodeAffinity::default()
        }),
        ..core::Affinity::default()
    })
}

/// Nodes for which all of these are true; none where nothing is asked.
pub(crate) fn node_terms(expressions: Vec<Expression>) -> Option<core::NodeSelector> {
    if expressions.is_empty() {
        return None;
    }
    let requirement = |expression: Expression| core::NodeSelectorRequirement {
        key: expression.key,
        operator: expression.operator.as_str().into(),
        values: some(expression.values),
    };
    Some(core::NodeSelector {
        node_selector_terms: vec![core::NodeSelectorTerm {
            match_expressions: Some(expressions.into_iter().map(requirement).collect()),
            match_fields: None,
        }],
    })
}

fn field(name: &str, path: &str) -> core::EnvVar {
    core::EnvVar {
        name: name.into(),
        value_from: Some(core::EnvVarSource {
            field_ref: Some(core::ObjectFieldSelector { field_path: path.into(), api_version: None }),
            ..core::EnvVarSource::default()
        }),
        ..core::EnvVar::default()
    }
}

fn value(name: &str, value: &str) -> core::EnvVar {
    core::EnvVar { name: name.into(), value: Some(value.into()), ..core::EnvVar::default() }
}

/// An empty list isn't written: what isn't there is owned by nobody.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncmesh_crds::mesh::{Directory, SyncMeshSpec};

    fn home() -> Home {
        Home { namespace: "syncmesh-system".into(), image: "agent:1".into() }
    }

    fn mesh(change: impl FnOnce(&mut SyncMeshSpec)) -> SyncMesh {
        let mut mesh = SyncMesh::new("default", SyncMeshSpec::default());
        mesh.metadata.uid = Some("uid".into());
        change(&mut mesh.spec);
        mesh
    }

    fn pod_of(mesh: &SyncMesh) -> core::PodSpec {
        desired(mesh, &home()).agents.spec.unwrap().template.spec.unwrap()
    }

    #[test]
    fn an_agent_has_the_rights_over_files_and_no_others() {
        let pod = pod_of(&mesh(|_| ()));
        let security = pod.containers[0].security_context.clone().unwrap();
        assert_eq!(security.capabilities.unwrap().drop, Some(vec!["ALL".into()]));
        assert_eq!(security.privileged, None);
        assert_eq!(security.read_only_root_filesystem, Some(true));
        assert_eq!((pod.host_network, pod.host_pid), (None, None));
    }

    #[test]
    fn another_volume_restarts_no_agent_and_another_directory_does() {
        let before = pod_of(&mesh(|_| ()));
        assert_eq!(before.volumes.as_ref().map(Vec::len), Some(2));
        let media = Directory { name: "media".into(), path: "/srv/media".into(), namespaces: Selector::default() };
        let after = pod_of(&mesh(|spec| spec.directories.push(media)));
        assert_eq!(after.volumes.as_ref().map(Vec::len), Some(3));
        assert_eq!(after.containers[0].volume_mounts.as_ref().unwrap()[2].mount_path, "/directories/media");
    }

    #[test]
    fn an_agent_reads_whom_it_trusts_and_has_no_key_of_the_authority() {
        let pod = pod_of(&mesh(|_| ()));
        let trust = &pod.volumes.unwrap()[1];
        assert_eq!(trust.config_map.as_ref().map(|map| map.name.as_str()), Some("syncmesh-default-ca"));
        assert_eq!(trust.secret, None);
        let mount = &pod.containers[0].volume_mounts.as_ref().unwrap()[1];
        assert_eq!((mount.mount_path.as_str(), mount.read_only), ("/etc/syncmesh", Some(true)));
    }

    #[test]
    fn our_seccomp_profile_is_installed_before_it_is_used() {
        let pod = pod_of(&mesh(|spec| spec.agent.seccomp = Seccomp::Syncmesh));
        let profile = pod.containers[0].security_context.clone().unwrap().seccomp_profile.unwrap();
        assert_eq!((profile.type_.as_str(), profile.localhost_profile.as_deref()), ("Localhost", Some(PROFILE)));
        let installs = &pod.init_containers.unwrap()[0];
        assert_eq!(installs.args.as_ref().unwrap()[1], format!("{PROFILES}/{PROFILE}"));
        assert_eq!(pod_of(&mesh(|_| ())).init_containers, None);
    }

    #[test]
    fn the_selector_of_the_mesh_is_the_affinity_of_its_agents() {
        assert_eq!(pod_of(&mesh(|_| ())).affinity, None);
        let selected = pod_of(&mesh(|spec| spec.nodes.match_labels = [("tier".to_owned(), "web".to_owned())].into()));
        let terms = selected.affinity.unwrap().node_affinity.unwrap();
        let terms = terms.required_during_scheduling_ignored_during_execution.unwrap().node_selector_terms;
        let requirement = &terms[0].match_expressions.as_ref().unwrap()[0];
        assert_eq!((requirement.key.as_str(), requirement.operator.as_str()), ("tier", "In"));
    }

    #[test]
    fn agents_belong_to_no_object_so_that_none_takes_them_away_from_volumes() {
        let desired = desired(&mesh(|_| ()), &home());
        assert_eq!(desired.agents.metadata.owner_references, None);
        assert_eq!(desired.service.metadata.owner_references, None);
        assert_eq!(desired.account.metadata.owner_references, None);
        let service = desired.service.spec.unwrap();
        assert_eq!(service.publish_not_ready_addresses, Some(true));
        assert_eq!(service.selector, desired.agents.spec.unwrap().selector.match_labels);
    }
}

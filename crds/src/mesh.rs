//! SyncMesh: the nodes on which volumes can be, what they may use there, and who may use them.

use crate::column::Column;
use crate::condition::{self, Condition};
use crate::contents::{Bandwidth, Conflicts, DeletionGuard, Versions};
use crate::selector::Selector;
use crate::state::State;
use crate::units::{Reserve, Size};
use crate::{limits, rules, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What `kubectl get` shows.
pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Agents", ".status.agents", "Agents that are ready, of those that should be"),
    Column::number("Volumes", ".status.volumes", "Volumes that use it"),
    Column::text("State", ".status.state", "How it is, in a word"),
    Column::text("Version", ".status.version", "Release of the agents"),
    Column::age(),
    Column::text("Message", ".status.message", "What is wrong, and what to do").wide(),
];

/// What an administrator wants of a mesh. All fields are optional.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "syncmesh.io",
    version = "v1alpha1",
    kind = "SyncMesh",
    plural = "syncmeshes",
    shortname = "smesh",
    category = "syncmesh",
    status = "SyncMeshStatus",
    derive = "PartialEq",
    doc = "Nodes that keep volumes identical among each other. Who may write it can do on these nodes what root can.",
    validation = rules::short_name()
)]
#[x_kube(validation = rules::fixed("nodes"))]
#[x_kube(validation = Rule::new(
    "!has(self.directories) || self.directories.all(listed, !(self.storage.root + '/').startsWith(listed.path + '/') \
     && !(listed.path + '/').startsWith(self.storage.root + '/'))"
).message("a listed directory lies neither in storage.root nor around it: list another one"))]
pub struct SyncMeshSpec {
    /// Which nodes belong to it; all of them where this is empty. Can't be changed.
    #[serde(default)]
    pub nodes: Selector,
    /// Where files are on each node.
    #[serde(default)]
    pub storage: Storage,
    /// Namespaces whose volumes may use it, by their labels; kubernetes.io/metadata.name is a namespace's name. All of them
    /// where this is empty.
    #[serde(default)]
    pub namespaces: Selector,
    /// Directories that exist on the nodes and that volumes may join, each with the namespaces that may do so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "directories")]
    pub directories: Vec<Directory>,
    /// What holds for volumes that don't say otherwise. A group of fields that a volume has replaces the group here as a whole.
    #[serde(default)]
    pub defaults: Defaults,
    /// What all volumes together may use.
    #[serde(default)]
    pub limits: Limits,
    /// How agents reach each other.
    #[serde(default)]
    pub network: Network,
    /// The agents' pods.
    #[serde(default)]
    pub agent: Agent,
}

/// Where files are on each node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::fixed("root"))]
pub struct Storage {
    /// The directory below which all volumes are, with what the agent knows of them. Made if missing. Can't be changed.
    #[serde(default = "Storage::root")]
    #[schemars(schema_with = "schema::directory")]
    pub root: String,
    /// What stays free of its file system: a percentage, or a size. Below it stored versions go, then nothing is fetched. Where
    /// this is absent it is 2% of a file system of its own, and 16% of one that the node has other files on: kubelets evict pods at 15%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<Reserve>,
}

impl Storage {
    fn root() -> String {
        "/var/lib/syncmesh".into()
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { root: Self::root(), reserve: None }
    }
}

/// A directory that exists on the nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::fixed("path"))]
pub struct Directory {
    /// The name by which volumes ask for it.
    #[schemars(schema_with = "schema::name")]
    pub name: String,
    /// Where it is on each node. No part of the path is a symbolic link, begins with a dot, or belongs to others than root.
    /// Can't be changed.
    #[schemars(schema_with = "schema::directory")]
    pub path: String,
    /// Namespaces whose volumes may use it, by their labels.
    pub namespaces: Selector,
}

/// What holds for volumes that don't say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::at_least("capacity", "1Mi"))]
pub struct Defaults {
    /// How many bytes a volume may have on each node; no limit where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Size>,
    /// What becomes of contents that were changed on two nodes at once.
    #[serde(default)]
    pub conflicts: Conflicts,
    /// What each node keeps of versions that were replaced or deleted.
    #[serde(default)]
    pub versions: Versions,
    /// From how many on deletions at once are held for approval.
    #[serde(default)]
    pub deletion_guard: DeletionGuard,
    /// How much of the network each volume may use on each node.
    #[serde(default)]
    pub bandwidth: Bandwidth,
}

/// What all volumes together may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// The sum of the volumes' capacities; volumes without a capacity are refused where this is set. No limit where it is
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Size>,
    /// How many volumes there may be; no limit where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub volumes: Option<u64>,
}

/// How agents reach each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.port != self.metricsPort")
    .message("port and metricsPort are the same: choose another one"))]
pub struct Network {
    /// Where agents listen for each other, with TLS.
    #[serde(default = "Network::port")]
    #[schemars(schema_with = "port")]
    pub port: u16,
    /// Where agents serve metrics and health, without file names.
    #[serde(default = "Network::metrics_port")]
    #[schemars(schema_with = "port")]
    pub metrics_port: u16,
    /// Whether agents use the node's own network instead of the pods': faster on some networks, reachable from more places.
    #[serde(default)]
    pub host: bool,
}

impl Network {
    fn port() -> u16 {
        7400
    }

    fn metrics_port() -> u16 {
        9400
    }
}

impl Default for Network {
    fn default() -> Self {
        Self { port: Self::port(), metrics_port: Self::metrics_port(), host: false }
    }
}

/// The agents' pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// Their image; that which the operator's release brings where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::image")]
    pub image: Option<String>,
    /// When the image is pulled.
    #[serde(default)]
    pub image_pull_policy: PullPolicy,
    /// Secrets in the operator's namespace with which it is pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::secrets")]
    pub image_pull_secrets: Vec<String>,
    /// What they ask of a node, and may use of it.
    #[serde(default)]
    pub resources: Resources,
    /// Their seccomp profile. RuntimeDefault blocks io_uring with newer container runtimes, so the engine is epoll there;
    /// syncmesh has an init container install our own on each node, and the engine is io_uring.
    #[serde(default)]
    pub seccomp: Seccomp,
    /// Taints that they ignore, beside those that every DaemonSet ignores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::POD_LISTS))]
    pub tolerations: Vec<Toleration>,
    /// How many of them may be away while they are replaced, as a number or a percentage.
    #[serde(default = "Agent::max_unavailable")]
    #[schemars(schema_with = "schema::some_nodes")]
    pub max_unavailable: IntOrString,
    /// The least severity of lines that they log.
    #[serde(default)]
    pub log_level: LogLevel,
}

impl Agent {
    fn max_unavailable() -> IntOrString {
        IntOrString::Int(1)
    }
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            image: None,
            image_pull_policy: PullPolicy::default(),
            image_pull_secrets: Vec::new(),
            resources: Resources::default(),
            seccomp: Seccomp::default(),
            tolerations: Vec::new(),
            max_unavailable: Self::max_unavailable(),
            log_level: LogLevel::default(),
        }
    }
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// Where the node doesn't have it.
    #[default]
    IfNotPresent,
    /// At each start.
    Always,
    /// Not at all: the node has it.
    Never,
}

/// What a container asks of a node, and may use of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    /// What is set aside for it: cpu, memory, ephemeral-storage.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, IntOrString>,
    /// What it may use at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, IntOrString>,
}

/// Which system calls the agent may make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Seccomp {
    /// What the container runtime allows.
    #[default]
    RuntimeDefault,
    /// What our own profile allows, io_uring included.
    #[serde(rename = "syncmesh")]
    Syncmesh,
}

/// A taint that is ignored, as pods have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.operator == 'Exists' ? !has(self.value) || self.value == '' : has(self.key) && self.key != ''"
).message("Exists has no value, and Equal needs a key: remove the value, or write the key"))]
pub struct Toleration {
    /// The taint's key; absent with Exists, it fits all taints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::LABEL_KEY))]
    pub key: Option<String>,
    /// Whether the taint needs this value, or only has to exist.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// The taint's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limits::LABEL_VALUE))]
    pub value: Option<String>,
    /// The taint's effect; all of them where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// How a toleration's value counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// The taint has it.
    #[default]
    Equal,
    /// It doesn't.
    Exists,
}

/// What a taint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// No new pods.
    NoSchedule,
    /// No new pods where others have room.
    PreferNoSchedule,
    /// No pods.
    NoExecute,
}

impl TaintEffect {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

impl TolerationOperator {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "Equal",
            Self::Exists => "Exists",
        }
    }
}

impl PullPolicy {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IfNotPresent => "IfNotPresent",
            Self::Always => "Always",
            Self::Never => "Never",
        }
    }
}

impl LogLevel {
    /// As the agent reads it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Severity of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed and somebody should look.
    Error,
    /// Something may fail soon.
    Warn,
    /// What an operator wants to see of normal work.
    #[default]
    Info,
    /// Each step.
    Debug,
    /// Each message and call.
    Trace,
}

/// How a mesh is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncMeshStatus {
    /// The generation of the spec that this was found for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How it is: its agents first, then its volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Agents that are ready, of those that should be, like `3/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub agents: Option<String>,
    /// Volumes that use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub volumes: Option<u64>,
    /// Release of the agents; two with an arrow between them while they are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub version: Option<String>,
    /// Directories on its nodes that no object asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub orphans: Option<u64>,
    /// Its nodes, also those that can't be reached or were lost with files that no other node has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "members")]
    pub members: Vec<MeshMember>,
    /// What is wrong, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
    /// What holds: Ready, Degraded, AgentsBlocked, ControlPlaneUnreachable, AuthorityReady, NodeLostWithData, OrphanFound, Terminating.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition::list")]
    pub conditions: Vec<Condition>,
}

/// A node of a mesh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshMember {
    /// Its name.
    #[schemars(schema_with = "schema::subdomain")]
    pub node: String,
    /// The Node object's uid: another one under the same name is another machine.
    #[serde(default, rename = "nodeUID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uid")]
    pub node_uid: Option<String>,
    /// The id that its state directory has: another one under the same name is another disk.
    #[serde(default, rename = "replicaID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uid")]
    pub replica_id: Option<String>,
    /// Whether the mesh has it.
    pub state: MemberState,
    /// Since when its state is what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub since: Option<Time>,
    /// Files of which no other node had a copy when it was last heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub only_copy_files: Option<u64>,
}

/// Whether a mesh has a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberState {
    /// Its agent is ready.
    Ready,
    /// Its agent isn't ready.
    NotReady,
    /// Its Node is gone, or another machine has its name, and it had files that no other node had: the others wait for it until
    /// it is forgotten.
    LostWithData,
}

fn directories(generator: &mut SchemaGenerator) -> Schema {
    let mut list = schema::map_list::<Directory>(generator, "name", limits::DIRECTORIES);
    let rule = Rule::new(
        "self.all(one, self.all(other, one.name == other.name || !(one.path + '/').startsWith(other.path + '/')))",
    )
    .message("two directories are the same, or one lies in the other: list them apart");
    kube::core::validate(&mut list, rule).expect("a rule is plain data");
    list
}

fn members(generator: &mut SchemaGenerator) -> Schema {
    schema::map_list::<MeshMember>(generator, "node", limits::MEMBERS)
}

fn port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int32", "minimum": 1024, "maximum": 65535 })
}

fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": limits::POD_LISTS,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "maxLength": limits::WORD,
            "pattern": "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$",
        },
    })
}

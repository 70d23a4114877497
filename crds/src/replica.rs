//! SyncReplica: one volume on one node. The operator writes the spec, with everything filled in that a volume and its mesh
//! may leave open; the agent of that node obeys it and writes the status.

use crate::column::Column;
use crate::condition::{self, Condition};
use crate::conflict::{Contents, Deletions, Resolution};
use crate::contents::{Bandwidth, Conflicts, DeletionGuard, Durability, Select, Versions};
use crate::state::State;
use crate::units::{Duration, Percent, Reserve, Size};
use crate::volume::{Grant, Root, WriteMode};
use crate::{limits, rules, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// What `kubectl get` shows.
pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Volume", ".spec.volume", "Its volume"),
    Column::text("Node", ".spec.node", "Its node"),
    Column::text("State", ".status.state", "How it is, in a word"),
    Column::text("Synced", ".status.synced", "Known bytes that are here"),
    Column::text("Lag", ".status.lag", "Age of the oldest change that isn't here"),
    Column::number("Pending", ".status.pending", "Paths whose latest version isn't here yet"),
    Column::number("Files", ".status.files", "Files and links here"),
    Column::text("Engine", ".status.engine", "How the agent talks to the kernel"),
    Column::age(),
    Column::text("Message", ".status.message", "What is wrong, and what to do").wide(),
];

/// What the agent of a node has to do for a volume. Written by the operator alone.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "syncmesh.io",
    version = "v1alpha1",
    kind = "SyncReplica",
    plural = "syncreplicas",
    shortname = "srep",
    category = "syncmesh",
    namespaced,
    status = "SyncReplicaStatus",
    derive = "PartialEq",
    doc = "One volume on one node. Made by the operator: change the SyncVolume instead.",
    selectable = ".spec.node"
)]
#[x_kube(validation = rules::fixed("mesh"))]
#[x_kube(validation = rules::fixed("volume"))]
#[x_kube(validation = rules::fixed("volumeID"))]
#[x_kube(validation = rules::fixed("node"))]
#[x_kube(validation = rules::fixed("start"))]
#[x_kube(validation = rules::fixed("directory"))]
#[x_kube(validation = Rule::new("oldSelf.desired != 'Absent' || self.desired == 'Absent'")
    .message("a replica whose files were ordered to be deleted doesn't come back: make a new one"))]
#[x_kube(validation = Rule::new(
    "!has(oldSelf.writer) || (has(self.writer) && (self.writer.epoch > oldSelf.writer.epoch || self.writer == oldSelf.writer))"
).message("another writer has a higher epoch: raise it"))]
#[x_kube(validation = Rule::new("has(self.writer) ? self.mode == 'SingleWriter' : true")
    .message("only a SingleWriter volume has a writer: remove it"))]
pub struct SyncReplicaSpec {
    /// The mesh.
    #[schemars(schema_with = "schema::name")]
    pub mesh: String,
    /// The volume's name in this namespace.
    #[schemars(schema_with = "schema::name")]
    pub volume: String,
    /// The name of the volume's directories on nodes.
    #[serde(rename = "volumeID")]
    #[schemars(schema_with = "schema::name")]
    pub volume_id: String,
    /// The uid of this namespace, which the directory's marker keeps: another namespace of the same name doesn't get the files.
    #[serde(rename = "namespaceUID")]
    #[schemars(schema_with = "schema::uid")]
    pub namespace_uid: String,
    /// The node.
    #[schemars(schema_with = "schema::subdomain")]
    pub node: String,
    /// Whether the node should have the files. Absent is the order to delete them, and the only one there is: an agent never
    /// deletes files because an object is missing.
    pub desired: Desired,
    /// How the directory begins: Empty where no node has had files of this volume, FromPeers where it is first filled from others.
    pub start: Start,
    /// Who may write.
    pub mode: WriteMode,
    /// The node that may write, where only one may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<Grant>,
    /// The right to write is on its way to this node, whose pod may write already: until the writer before is silent that is told to
    /// nobody, and isn't taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fenced: bool,
    /// All nodes that have the volume, this one included. Others are served nothing.
    #[schemars(schema_with = "members")]
    pub members: Vec<Member>,
    /// The node whose files win when directories that have files are joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::subdomain")]
    pub seed: Option<String>,
    /// The listed directory that it joins, by the mesh's name for it; one below the storage root where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub directory: Option<String>,
    /// Owner and mode that the directory gets when it is made.
    pub root: Root,
    /// How many bytes it may have here; no limit where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Size>,
    /// What stays free of the file system; the agent's own choice where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<Reserve>,
    /// What becomes of contents that were changed on two nodes at once.
    pub conflicts: Conflicts,
    /// What is kept identical.
    pub select: Select,
    /// What is kept of versions that were replaced or deleted.
    pub versions: Versions,
    /// From how many on deletions at once are held for approval.
    pub deletion_guard: DeletionGuard,
    /// How much of the network it may use here.
    pub bandwidth: Bandwidth,
    /// When a version may be told to other nodes.
    pub durability: Durability,
    /// Stands still while true.
    pub paused: bool,
    /// What the user waits for: once everything written before is on all nodes, the status repeats it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::token")]
    pub barrier: Option<String>,
    /// Decisions of people about what this replica has listed in its status. An agent obeys none about anything else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "decisions")]
    pub decisions: Vec<Decision>,
}

/// Whether a node should have a volume's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Desired {
    /// It should.
    Present,
    /// They are to be deleted.
    Absent,
}

/// How a replica's directory begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Start {
    /// With nothing in it, or with what a listed directory has. Pods can mount it at once.
    Empty,
    /// With all that other nodes have. Pods can mount it once that is here.
    FromPeers,
}

/// A node that has the volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its name, which its certificate shows.
    #[schemars(schema_with = "schema::subdomain")]
    pub node: String,
    /// The Node object's uid: another one under the same name is another machine.
    #[serde(rename = "nodeUID")]
    #[schemars(schema_with = "schema::uid")]
    pub node_uid: String,
    /// The id that its state directory has, once it has told it: another one under the same name is another disk, whose
    /// predecessor is gone.
    #[serde(default, rename = "replicaID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uid")]
    pub replica_id: Option<String>,
}

/// A person's decision about a conflict or a hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The id under which this replica lists it.
    #[schemars(schema_with = "schema::uid")]
    pub id: String,
    /// What was decided.
    pub resolution: Resolution,
}

/// How a replica is, as its agent sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncReplicaStatus {
    /// The generation of the spec that the agent obeys. A spec that it can't obey changes nothing; the condition Accepted is False
    /// then and says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The id that this node's state directory has.
    #[serde(default, rename = "replicaID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::uid")]
    pub replica_id: Option<String>,
    /// What is on the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
    /// How it is, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Known bytes that are here, in percent, rounded down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced: Option<Percent>,
    /// Age of the oldest change that isn't here, like `3ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<Duration>,
    /// Paths whose latest version isn't here yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub pending: Option<u64>,
    /// Bytes of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub pending_bytes: Option<u64>,
    /// Files and links here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub files: Option<u64>,
    /// Their bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub bytes: Option<u64>,
    /// Bytes of versions that were replaced or deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub stored_bytes: Option<u64>,
    /// Files here whose latest version no other member is known to have: lost with this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub only_copy_files: Option<u64>,
    /// Their bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub only_copy_bytes: Option<u64>,
    /// Members that this one is connected with, itself included. Fewer than half of them is being isolated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub members_seen: Option<u64>,
    /// Members that it isn't connected with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::nodes")]
    pub members_away: Vec<String>,
    /// The epoch that it obeys, where only one node may write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub epoch: Option<u64>,
    /// How the agent talks to the kernel: io_uring or epoll.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub engine: Option<String>,
    /// The agent's release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub version: Option<String>,
    /// SHA-256 of the roots that the agent trusts, in lower case hexadecimal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::fingerprints")]
    pub trusts: Vec<String>,
    /// When it was last in sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub last_sync: Option<Time>,
    /// The barrier of the spec, once everything that was written here before it came is on all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::token")]
    pub barrier: Option<String>,
    /// Conflicts that are open here, also those that aren't listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub conflicts_open: Option<u64>,
    /// The oldest of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conflicts")]
    pub conflicts: Vec<OpenConflict>,
    /// Bulk deletions that this node holds until somebody decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "holds")]
    pub holds: Vec<Hold>,
    /// Decisions of the spec that couldn't be carried out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "refusals")]
    pub refused: Vec<Refused>,
    /// Directories of this node that no object asks for and whose markers name this volume's namespace and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "orphans")]
    pub orphans: Vec<Orphan>,
    /// Directories of this node that no object asks for, of whatever volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub orphans_on_node: Option<u64>,
    /// What is wrong, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
    /// What holds: Accepted, Ready, InSync, QuotaExceeded, UnsuitableWorkload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition::list")]
    pub conditions: Vec<Condition>,
}

/// What a node's disk has of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Data {
    /// Nothing yet.
    Missing,
    /// Files are arriving in a directory that pods can't mount yet.
    Incoming,
    /// The directory is there, and pods can mount it.
    Ready,
    /// The files were deleted, as ordered.
    Removed,
}

/// A conflict whose copy still exists, or that waits for a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenConflict {
    /// The same on all nodes.
    #[schemars(schema_with = "schema::uid")]
    pub id: String,
    /// The contents that met.
    pub contents: Contents,
}

/// A bulk deletion that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// This replica's own name for it.
    #[schemars(schema_with = "schema::uid")]
    pub id: String,
    /// What would be deleted.
    pub deletions: Deletions,
}

/// A decision that couldn't be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// What it was about.
    #[schemars(schema_with = "schema::uid")]
    pub id: String,
    /// What was decided.
    pub resolution: Resolution,
    /// Why it couldn't be done, and what to do.
    #[schemars(schema_with = "schema::message")]
    pub message: String,
}

/// A directory that no object asks for. It is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Orphan {
    /// Its name, which adopts it as a volume's volumeID.
    #[serde(rename = "volumeID")]
    #[schemars(schema_with = "schema::name")]
    pub volume_id: String,
    /// Files in it.
    #[schemars(schema_with = "schema::count")]
    pub files: u64,
    /// Their bytes.
    #[schemars(schema_with = "schema::count")]
    pub bytes: u64,
    /// Whether its marker has this namespace's uid; if not, only an administrator can give it to this one.
    pub same_namespace: bool,
}

fn members(generator: &mut SchemaGenerator) -> Schema {
    schema::map_list::<Member>(generator, "node", limits::MEMBERS)
}

fn decisions(generator: &mut SchemaGenerator) -> Schema {
    schema::map_list::<Decision>(generator, "id", limits::RESOLUTIONS)
}

fn refusals(generator: &mut SchemaGenerator) -> Schema {
    schema::map_list::<Refused>(generator, "id", limits::RESOLUTIONS)
}

fn conflicts(generator: &mut SchemaGenerator) -> Schema {
    schema::map_list::<OpenConflict>(generator, "id", limits::LISTED_CONFLICTS)
}

fn holds(generator: &mut SchemaGenerator) -> Schema {
    schema::map_list::<Hold>(generator, "id", limits::LISTED_HOLDS)
}

fn orphans(generator: &mut SchemaGenerator) -> Schema {
    schema::map_list::<Orphan>(generator, "volumeID", limits::LISTED_ORPHANS)
}

//! SyncVolume: one directory that is kept identical on nodes of a mesh.

use crate::column::Column;
use crate::condition::{self, Condition};
use crate::contents::{Bandwidth, Conflicts, DeletionGuard, Durability, Select, Versions};
use crate::selector::Selector;
use crate::state::State;
use crate::units::{Duration, Mode, Percent, Size};
use crate::{limits, rules, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// What `kubectl get` shows.
pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Nodes", ".status.nodes", "Nodes that have it, of those that should"),
    Column::text("State", ".status.state", "How it is, in a word"),
    Column::text("Synced", ".status.synced", "Known bytes that are where they should be"),
    Column::text("Lag", ".status.lag", "Age of the oldest change that isn't everywhere"),
    Column::number("Files", ".status.files", "Files and links in it"),
    Column::text("Size", ".status.size", "Their bytes"),
    Column::number("Conflicts", ".status.conflicts", "Open conflicts and held deletions"),
    Column::age(),
    Column::text("Mesh", ".spec.mesh", "Its mesh").wide(),
    Column::text("Mode", ".spec.mode", "Who may write").wide(),
    Column::text("Writer", ".status.writer.node", "The node that may write, where only one may").wide(),
    Column::text("Claim", ".status.claim", "What pods mount").wide(),
    Column::number("Pending", ".status.pending", "Paths that aren't everywhere yet").wide(),
    Column::text("Engine", ".status.engine", "How agents talk to the kernel").wide(),
    Column::since("LastSync", ".status.lastSync", "When it was last in sync").wide(),
    Column::text("Message", ".status.message", "What is wrong, and what to do").wide(),
];

/// What a user wants of a volume. All fields are optional.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "syncmesh.io",
    version = "v1alpha1",
    kind = "SyncVolume",
    plural = "syncvolumes",
    shortname = "svol",
    category = "syncmesh",
    namespaced,
    status = "SyncVolumeStatus",
    derive = "PartialEq",
    doc = "One directory that is kept identical on nodes of a mesh, and that pods mount by a claim.",
    validation = rules::short_name(),
    validation = pinned_id()
)]
#[x_kube(validation = rules::fixed("mesh"))]
#[x_kube(validation = rules::fixed("nodes"))]
#[x_kube(validation = rules::fixed("mode"))]
#[x_kube(validation = rules::fixed("directory"))]
#[x_kube(validation = rules::fixed("root"))]
#[x_kube(validation = rules::at_least("capacity", "1Mi"))]
#[x_kube(validation = rules::grows("capacity"))]
#[x_kube(validation = Rule::new("self.mode != 'SingleWriter' || !has(self.claims) || size(self.claims) <= 1")
    .message("a SingleWriter volume has one claim, whose pod is the writer: remove the others"))]
#[x_kube(validation = Rule::new("!has(self.directory) || !has(self.root)")
    .message("root is for a directory that is made, and directory names one that exists: remove one of them"))]
pub struct SyncVolumeSpec {
    /// The mesh whose nodes have it. Can't be changed.
    #[serde(default = "default_mesh")]
    #[schemars(schema_with = "schema::name")]
    pub mesh: String,
    /// Which of the mesh's nodes have it; all of them where this is absent. Can't be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Selector>,
    /// Who may write: ReadWriteMany lets all nodes, SingleWriter the one where the pod runs that uses the claim. Can't be
    /// changed.
    #[serde(default)]
    pub mode: WriteMode,
    /// How many bytes it may have on each node, stored versions included: a whole number with Ki, Mi, Gi or Ti. Can grow, never
    /// shrink. The mesh's default where this is absent, and no limit where that is absent too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Size>,
    /// Claims in this namespace through which pods mount it; one of the volume's name where this is absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "claims")]
    pub claims: Vec<Claim>,
    /// Owner and mode of the directory itself, set once, when it is made. Can't be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// A directory that exists on the nodes, by the name under which the mesh lists it. Can't be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub directory: Option<String>,
    /// Whose files win when directories that have files already are joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Seed>,
    /// What becomes of contents that were changed on two nodes at once; the mesh's default where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<Conflicts>,
    /// What is kept identical; everything where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<Select>,
    /// What each node keeps of versions that were replaced or deleted; the mesh's default where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<Versions>,
    /// From how many on deletions at once are held for approval; the mesh's default where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_guard: Option<DeletionGuard>,
    /// How much of the network it may use on each node; the mesh's default where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// When a version may be told to other nodes: epoch at once, strict once it is on the disk.
    #[serde(default)]
    pub durability: Durability,
    /// Stands still while true: nothing is sent or received, and files stay as they are.
    #[serde(default)]
    pub paused: bool,
    /// The name of its directories on the nodes; the object's uid where this is absent. Can't be changed. Written into Git, it
    /// lets an object that is made again find its files; until the volume has files, it can be set to that of an orphan.
    #[serde(default, rename = "volumeID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub volume_id: Option<String>,
    /// What becomes of the files when this object is deleted. Delete asks for the annotation syncmesh.io/confirm-delete with the
    /// volume's name.
    #[serde(default)]
    pub reclaim_policy: ReclaimPolicy,
}

impl Default for SyncVolumeSpec {
    /// A spec in which nothing is said, as the API server completes it.
    fn default() -> Self {
        serde_json::from_value(serde_json::json!({})).expect("every field may be absent")
    }
}

/// Who may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WriteMode {
    /// All nodes.
    #[default]
    ReadWriteMany,
    /// The node where the pod runs that uses the claim.
    SingleWriter,
}

/// What becomes of files whose volume is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReclaimPolicy {
    /// They stay on the nodes, as orphans.
    #[default]
    Retain,
    /// They are deleted, versions included.
    Delete,
}

/// A claim through which pods mount a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Claim {
    /// The claim's name. Readers of a SingleWriter volume use the one that ends in -ro.
    #[schemars(schema_with = "schema::claim")]
    pub name: String,
}

/// Owner and mode of a directory that is made for a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Root {
    /// The user that owns it.
    #[serde(default)]
    #[schemars(schema_with = "schema::owner")]
    pub uid: u32,
    /// The group that owns it.
    #[serde(default)]
    #[schemars(schema_with = "schema::owner")]
    pub gid: u32,
    /// Its permissions, four octal digits in quotes.
    #[serde(default)]
    pub mode: Mode,
}

/// Whose files win.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Seed {
    /// The node that has them.
    #[schemars(schema_with = "schema::subdomain")]
    pub node: String,
}

/// How a volume is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncVolumeStatus {
    /// The generation of the spec that this was found for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The name of its directories on the nodes.
    #[serde(default, rename = "volumeID", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::name")]
    pub volume_id: Option<String>,
    /// Whether any node has had it ready: from then on new nodes get its files from the others before pods can mount it. Never
    /// taken back.
    #[serde(default)]
    pub initialized: bool,
    /// How it is: the first that holds of Terminating, Failed, Fenced, Held, Paused, Unknown, Degraded, Syncing, InSync, else Pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Nodes that have it ready, of those that should, like 2/3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub nodes: Option<String>,
    /// Known bytes that are where they should be, in percent, rounded down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced: Option<Percent>,
    /// Age of the oldest change that isn't everywhere, like `3ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<Duration>,
    /// Files and links in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub files: Option<u64>,
    /// Their bytes, for people, like 1.2Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub size: Option<String>,
    /// Their bytes, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub bytes: Option<u64>,
    /// Paths that aren't everywhere yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub pending: Option<u64>,
    /// Open conflicts and held deletions, also those that have no object of their own because there are too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::count")]
    pub conflicts: Option<u64>,
    /// The node that may write, where only one may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<Grant>,
    /// Since when that node is to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub writer_since: Option<Time>,
    /// The first claim through which pods mount it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::subdomain")]
    pub claim: Option<String>,
    /// How the agents talk to the kernel: io_uring, epoll, or mixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::word")]
    pub engine: Option<String>,
    /// When it was last in sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub last_sync: Option<Time>,
    /// The token of the annotation syncmesh.io/barrier, once all that was written before it is on all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::token")]
    pub barrier: Option<String>,
    /// What is wrong, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
    /// What holds: Ready, InSync, Degraded, ConflictsPresent, DeletionsHeld, QuotaExceeded, Terminating, OrphanFound,
    /// UnsuitableWorkload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition::list")]
    pub conditions: Vec<Condition>,
}

/// The right to write a SingleWriter volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Grant {
    /// The node that may write.
    #[schemars(schema_with = "schema::subdomain")]
    pub node: String,
    /// Grows each time that another node gets the right.
    #[schemars(schema_with = "epoch")]
    pub epoch: u64,
}

/// A volume keeps the directories it has. One that has none in use may be told which are its own.
fn pinned_id() -> Rule {
    Rule::new(
        "has(oldSelf.spec.volumeID) \
         ? has(self.spec.volumeID) && self.spec.volumeID == oldSelf.spec.volumeID \
         : !has(self.spec.volumeID) || !has(self.status) || !has(self.status.volumeID) \
           || self.spec.volumeID == self.status.volumeID || !self.status.initialized",
    )
    .message("volumeID can't be changed once the volume has files: make a new object, with the volumeID that you want")
}

fn default_mesh() -> String {
    "default".into()
}

fn claims(generator: &mut SchemaGenerator) -> Schema {
    schema::map_list::<Claim>(generator, "name", limits::CLAIMS)
}

fn epoch(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "integer", "format": "int64", "minimum": 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::SyncMeshSpec;

    #[test]
    fn a_spec_in_which_nothing_is_said_is_the_default_one() {
        assert_eq!(SyncVolumeSpec::default().mesh, "default");
        let mesh: SyncMeshSpec = serde_json::from_value(serde_json::json!({})).expect("every field may be absent");
        assert_eq!(mesh, SyncMeshSpec::default());
    }
}

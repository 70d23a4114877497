//! SyncConflict: one question to people. Either contents met that were changed on two nodes at once, or a node wants to delete
//! more than it may without asking.

use crate::column::Column;
use crate::rules;
use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What `kubectl get` shows.
pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Volume", ".spec.volume", "Its volume"),
    Column::text("Type", ".spec.type", "What is asked"),
    Column::text("Path", ".status.contents.path", "The file, percent-escaped"),
    Column::number("Files", ".status.deletions.files", "How many files would be deleted"),
    Column::text("State", ".status.state", "How far it is"),
    Column::text("Resolution", ".spec.resolution.action", "The answer"),
    Column::age(),
    Column::text("Node", ".spec.node", "The node that asks").wide(),
    Column::text("Winner", ".status.contents.winner.node", "Where the file was written that has the name").wide(),
    Column::text("Loser", ".status.contents.loser.node", "Where the other one was written").wide(),
    Column::text("Copy", ".status.contents.copy", "Where the other one is").wide(),
    Column::text("Message", ".status.message", "What to do").wide(),
];

/// What is asked, and a person's answer. All but the answer is written by the operator and never changes.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "syncmesh.io",
    version = "v1alpha1",
    kind = "SyncConflict",
    plural = "syncconflicts",
    shortname = "sconf",
    category = "syncmesh",
    namespaced,
    status = "SyncConflictStatus",
    derive = "PartialEq",
    doc = "An open conflict, or a held bulk deletion. Set spec.resolution to answer.",
    validation = answered_once()
)]
#[x_kube(validation = rules::fixed("type"))]
#[x_kube(validation = rules::fixed("volume"))]
#[x_kube(validation = rules::fixed("node"))]
#[x_kube(validation = rules::fixed("id"))]
#[x_kube(validation = Rule::new(
    "!has(self.resolution) || (self.type == 'Contents' ? self.resolution.action in ['winner', 'loser', 'both'] \
     : self.resolution.action in ['approve', 'reject'])"
).message("a conflict of contents is resolved by winner, loser or both, a held deletion by approve or reject: choose one of these"))]
#[x_kube(validation = Rule::new("!has(self.resolution) || !has(self.resolution.pattern) || self.type == 'Contents'")
    .message("a held deletion is approved or rejected as a whole: remove the pattern"))]
pub struct SyncConflictSpec {
    /// What is asked: Contents, which version shall have the name; Deletions, whether all of them are meant.
    pub r#type: Question,
    /// The volume's name in this namespace.
    #[schemars(schema_with = "schema::name")]
    pub volume: String,
    /// The node that asks.
    #[schemars(schema_with = "schema::subdomain")]
    pub node: String,
    /// The id under which its replica lists it.
    #[schemars(schema_with = "schema::uid")]
    pub id: String,
    /// The answer. It can be changed only if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Question {
    /// Which version shall have the name.
    Contents,
    /// Whether that many deletions are meant.
    Deletions,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resolution {
    /// For contents: winner leaves the name to the version that has it, loser gives it to the other one, both keeps both. A conflict
    /// copy is an ordinary file, and stays until somebody deletes it. For deletions: approve carries them out everywhere, reject brings
    /// the files back.
    pub action: Action,
    /// All conflicts of the volume whose path fits this glob get the same answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::glob")]
    pub pattern: Option<String>,
}

/// What shall be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// The copy is deleted.
    Winner,
    /// The copy gets the name.
    Loser,
    /// Both stay.
    Both,
    /// The deletions are carried out.
    Approve,
    /// The files come back.
    Reject,
}

/// How far a question is. Once it is none any more its object is deleted: `kubectl wait --for=delete` waits for that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncConflictStatus {
    /// The generation of the spec that this was found for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Progress>,
    /// The contents that met, if that is the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Contents>,
    /// What would be deleted, if that is the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletions: Option<Deletions>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::message")]
    pub message: Option<String>,
}

/// How far a question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Progress {
    /// Nobody has answered.
    Open,
    /// The answer is on its way to the node.
    Resolving,
    /// The answer couldn't be carried out: the message says why, and another one can be given.
    Failed,
}

/// Contents that were changed on two nodes at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// The file, percent-escaped; a long name is cut.
    #[schemars(schema_with = "schema::file")]
    pub path: String,
    /// The version that has the name.
    pub winner: Version,
    /// The other one.
    pub loser: Version,
    /// Where the other one is, percent-escaped, if it is a file of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::file")]
    pub copy: Option<String>,
    /// When they met.
    #[schemars(schema_with = "schema::time")]
    pub since: Time,
}

/// One version of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// The node on which it was written.
    #[schemars(schema_with = "schema::subdomain")]
    pub node: String,
    /// When it was written.
    #[schemars(schema_with = "schema::time")]
    pub modified: Time,
    /// How many bytes it has.
    #[schemars(schema_with = "schema::count")]
    pub bytes: u64,
}

/// Many deletions at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deletions {
    /// How many files.
    #[schemars(schema_with = "schema::count")]
    pub files: u64,
    /// Their bytes.
    #[schemars(schema_with = "schema::count")]
    pub bytes: u64,
    /// A few of them, percent-escaped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::files")]
    pub paths: Vec<String>,
    /// When they began.
    #[schemars(schema_with = "schema::time")]
    pub since: Time,
}

/// An answer is given once, because it is carried out at once.
fn answered_once() -> Rule {
    Rule::new(
        "!has(oldSelf.spec.resolution) || (has(self.spec.resolution) && self.spec.resolution == oldSelf.spec.resolution) \
         || (has(self.status) && has(self.status.state) && self.status.state == 'Failed')",
    )
    .message("it is resolved already, and can be resolved otherwise only after that failed: see status.message")
}

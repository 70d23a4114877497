//! The stories, one file each.

mod bad_manifests;
mod claims;
mod conflict;
mod control_plane;
mod crash;
mod desired;
mod first_ten_minutes;
mod held;
mod identity;
mod install;
mod lifecycle;
mod many_files;
mod members;
mod nodes;
mod operator;
mod schema;
mod single_writer;
mod stopped_node;
mod update;
mod writer;

use crate::cluster::Cluster;
use crate::failure::Outcome;

/// A story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// What the API server says to examples of our kinds.
    Schema,
    /// What the API server says to what the operator wants.
    Desired,
    /// What operators make of a mesh and a volume.
    Operator,
    /// Who gets a certificate.
    Identity,
    /// Claims of a StorageClass.
    Claims,
    /// Which node may write where one may.
    Writer,
    /// Machines that are lost, given up, or replaced.
    Members,
    /// The chart, installed, upgraded and uninstalled.
    Install,
    /// The guide, word for word.
    FirstTenMinutes,
    /// One file, written on two nodes that are cut from each other.
    Conflict,
    /// Agents that die.
    Crash,
    /// Many deletions at once.
    Held,
    /// Many files, and claims that a StatefulSet makes.
    ManyFiles,
    /// All agents are replaced while a pod writes.
    Update,
    /// The API server is away, and the operator that leads dies.
    ControlPlane,
    /// A volume that one node writes.
    SingleWriter,
    /// Nodes that come, go, are lost and replaced.
    Nodes,
    /// Volumes, claims, kinds, releases and namespaces that go and come again.
    Lifecycle,
    /// Manifests that can't be obeyed.
    BadManifests,
    /// A node that stops and starts again.
    StoppedNode,
}

/// All of them, in the order in which they are told.
pub const STORIES: &[Story] = &[
    Story::Schema,
    Story::Desired,
    Story::Operator,
    Story::Identity,
    Story::Claims,
    Story::Writer,
    Story::Members,
    Story::Install,
    Story::FirstTenMinutes,
    Story::Conflict,
    Story::Crash,
    Story::Held,
    Story::ManyFiles,
    Story::Update,
    Story::ControlPlane,
    Story::SingleWriter,
    Story::Nodes,
    Story::Lifecycle,
    Story::BadManifests,
    Story::StoppedNode,
];

impl Story {
    /// What `--story` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Desired => "desired",
            Self::Operator => "operator",
            Self::Identity => "identity",
            Self::Claims => "claims",
            Self::Writer => "writer",
            Self::Members => "members",
            Self::Install => "install",
            Self::FirstTenMinutes => "first_ten_minutes",
            Self::Conflict => "conflict",
            Self::Crash => "crash",
            Self::Held => "held",
            Self::ManyFiles => "many_files",
            Self::Update => "update",
            Self::ControlPlane => "control_plane",
            Self::SingleWriter => "single_writer",
            Self::Nodes => "nodes",
            Self::Lifecycle => "lifecycle",
            Self::BadManifests => "bad_manifests",
            Self::StoppedNode => "stopped_node",
        }
    }

    /// What it shows.
    pub fn about(self) -> &'static str {
        match self {
            Self::Schema => "the API server takes our kinds, and accepts and refuses the examples as they say",
            Self::Desired => "the API server takes what the operator wants for meshes and volumes",
            Self::Claims => "a claim of a StorageClass gets a volume of its own, grows, and takes the volume with it",
            Self::Writer => "the right to write follows the pod, the old writer being told first",
            Self::Members => {
                "a machine that took files with it is missed until it is given up; another one is filled first"
            }
            Self::Operator => {
                "a volume gets replicas and a bound claim, one operator follows another, and nothing goes by absence"
            }
            Self::Identity => "an agent gets a certificate for its own node, and nobody gets another one",
            Self::Install => "the chart installs without values, guards what it should, and leaves nothing behind",
            Self::FirstTenMinutes => {
                "the guide's first ten minutes, word for word: two pods, a dead agent, a file that comes back"
            }
            Self::Conflict => {
                "two pods write one file while their nodes are cut from each other; nothing is lost, and kubectl resolves it"
            }
            Self::Crash => "agents die in the middle of a sync, and one starts while the API server is away",
            Self::Held => {
                "600 of 900 files are deleted and a directory is emptied: peers keep all until somebody decides"
            }
            Self::ManyFiles => "10,000 files from one pod, and a StatefulSet that claims a volume for each of its pods",
            Self::Update => "all agents are replaced while a pod writes: no write is lost, and mounts stay",
            Self::ControlPlane => {
                "the API server is away for a minute while files flow; the operator that leads dies, and another one leads"
            }
            Self::SingleWriter => "the right to write follows the pod, and what is written elsewhere is taken back",
            Self::Nodes => {
                "nodes labelled in and out, lost and replaced: files come before pods see them, and none is lost"
            }
            Self::Lifecycle => {
                "volumes, claims, kinds, the chart and namespaces go and come again: files stay until somebody orders otherwise"
            }
            Self::BadManifests => "manifests that can't be obeyed are refused, or say what to do",
            Self::StoppedNode => "nodes stop in the middle of a sync and start again: what was written is on both",
        }
    }

    /// Whether it belongs to a run that names no story.
    pub fn is_quick(self) -> bool {
        match self {
            Self::Schema
            | Self::Desired
            | Self::Operator
            | Self::Identity
            | Self::Claims
            | Self::Writer
            | Self::Members => true,
            // They build an image and need a kind cluster.
            Self::Install
            | Self::FirstTenMinutes
            | Self::Conflict
            | Self::Crash
            | Self::Held
            | Self::ManyFiles
            | Self::Update
            | Self::ControlPlane
            | Self::SingleWriter
            | Self::Nodes
            | Self::Lifecycle
            | Self::BadManifests
            | Self::StoppedNode => false,
        }
    }

    /// Tells it.
    pub async fn tell(self, cluster: &Cluster) -> Outcome<()> {
        match self {
            Self::Schema => schema::tell(cluster).await,
            Self::Desired => desired::tell(cluster).await,
            Self::Operator => operator::tell(cluster).await,
            Self::Identity => identity::tell(cluster).await,
            Self::Claims => claims::tell(cluster).await,
            Self::Writer => writer::tell(cluster).await,
            Self::Members => members::tell(cluster).await,
            Self::Install => install::tell(cluster).await,
            Self::FirstTenMinutes => first_ten_minutes::tell(cluster).await,
            Self::Conflict => conflict::tell(cluster).await,
            Self::Crash => crash::tell(cluster).await,
            Self::Held => held::tell(cluster).await,
            Self::ManyFiles => many_files::tell(cluster).await,
            Self::Update => update::tell(cluster).await,
            Self::ControlPlane => control_plane::tell(cluster).await,
            Self::SingleWriter => single_writer::tell(cluster).await,
            Self::Nodes => nodes::tell(cluster).await,
            Self::Lifecycle => lifecycle::tell(cluster).await,
            Self::BadManifests => bad_manifests::tell(cluster).await,
            Self::StoppedNode => stopped_node::tell(cluster).await,
        }
    }
}

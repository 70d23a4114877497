//! The stories, one file each.

mod bad_manifests;
mod claims;
mod commands;
mod conflict;
mod control_plane;
mod crash;
mod desired;
mod engine;
mod figures;
mod first_ten_minutes;
mod held;
mod identity;
mod install;
mod lifecycle;
mod many_files;
mod members;
mod nodes;
mod operator;
mod scale;
mod schema;
mod single_writer;
mod stopped_node;
mod strangers;
mod update;
mod writer;

use crate::cluster::Cluster;
use crate::failure::Outcome;
use std::pin::Pin;

/// A story.
pub struct Story {
    /// What `--story` calls it.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Whether it belongs to a run that names no story.
    pub is_quick: bool,
    tell: fn(&Cluster) -> Telling<'_>,
}

type Telling<'a> = Pin<Box<dyn Future<Output = Outcome<()>> + 'a>>;

impl Story {
    /// Tells it.
    pub async fn tell(&self, cluster: &Cluster) -> Outcome<()> {
        (self.tell)(cluster).await
    }
}

/// The story of a module, quick or long.
macro_rules! story {
    (quick $module:ident: $about:literal) => {
        story!($module, $about, true)
    };
    (long $module:ident: $about:literal) => {
        story!($module, $about, false)
    };
    ($module:ident, $about:literal, $is_quick:literal) => {
        Story {
            name: stringify!($module),
            about: $about,
            is_quick: $is_quick,
            tell: |cluster| Box::pin($module::tell(cluster)),
        }
    };
}

/// All of them, in the order in which they are told. The quick ones need no more than an API server; the long ones build an image and need
/// a kind cluster, and those from `install` on run the product.
pub const STORIES: &[Story] = &[
    story!(quick schema: "the API server takes our kinds, and accepts and refuses the examples as they say"),
    story!(quick desired: "the API server takes what the operator wants for meshes and volumes"),
    story!(quick operator: "a volume gets replicas and a bound claim, one operator follows another, and nothing goes by absence"),
    story!(quick identity: "an agent gets a certificate for its own node, and nobody gets another one"),
    story!(quick claims: "a claim of a StorageClass gets a volume of its own, grows, and takes the volume with it"),
    story!(quick writer: "the right to write follows the pod, the old writer being told first"),
    story!(quick members: "a machine that took files with it is missed until it is given up; another one is filled first"),
    story!(long scale: "an operator with 200 nodes and 1,000 volumes of 10 nodes each, as figures"),
    story!(long install: "the chart installs without values, guards what it should, and leaves nothing behind"),
    story!(long first_ten_minutes: "the guide's first ten minutes, word for word: two pods, a dead agent, a file that comes back"),
    story!(long conflict: "two pods write one file while their nodes are cut from each other; nothing is lost, and kubectl resolves it"),
    story!(long crash: "agents die in the middle of a sync, and one starts while the API server is away"),
    story!(long held: "600 of 900 files are deleted and a directory is emptied: peers keep all until somebody decides"),
    story!(long commands: "commands of kubectl syncmesh that other stories don't tell of, as people use them"),
    story!(long many_files: "10,000 files from one pod, and a StatefulSet that claims a volume for each of its pods"),
    story!(long update: "all agents are replaced while a pod writes: no write is lost, and mounts stay"),
    story!(long control_plane: "the API server is away for a minute while files flow; the operator that leads dies, and another one leads; an agent that hears nothing is found"),
    story!(long single_writer: "the right to write follows the pod and outlives its node; what is written elsewhere is taken back or offered"),
    story!(long bad_manifests: "manifests that can't be obeyed are refused, or say what to do"),
    story!(long nodes: "nodes labelled in and out, lost and replaced: files come before pods see them, and none is lost"),
    story!(long strangers: "strangers at an agent's port, an agent's token, users and pods get no further than they should; a stolen key is revoked"),
    story!(long engine: "io_uring under our profile, epoll under one that blocks it: the columns say so, and both do the same"),
    story!(long figures: "latency, requests of an idle mesh, and restart with 100,000 files, as figures"),
    story!(long lifecycle: "volumes, claims, kinds, the chart and namespaces go and come again: files stay until somebody orders otherwise"),
    story!(long stopped_node: "nodes stop in the middle of a sync and start again: what was written is on both"),
];

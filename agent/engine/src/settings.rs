//! What may change of a running agent: its members, and limits and waits of its volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::{Arc, PoisonError, RwLock};
use syncmesh_core::guard;
use syncmesh_core::retention;

/// Whether this node may write to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It may: all nodes may, or it is the one that may.
    Writer,
    /// Another node may. What is written here is taken back.
    Reader,
    /// Nobody knows who may, or nobody may: the volume stands still, its files stay as they are.
    Fenced,
}

/// What may change of a volume while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a file that is being written must be quiet, in nanoseconds.
    pub settle: u64,
    /// How long a version waits for a program that has the old one open, in nanoseconds.
    pub open_wait: u64,
    /// What the version store keeps, and what stays free of the file system.
    pub limits: retention::Limits,
    /// From how many on deletions wait for approval.
    pub guard: guard::Limits,
    /// It doesn't run, whatever was ordered.
    pub paused: bool,
    /// It is being filled for the first time.
    pub filling: bool,
    /// Whether this node may write.
    pub role: Role,
    /// The epoch of a right to write that has to be renewed: who has it is the writer, and is fenced once it has run out.
    pub right: Option<u64>,
    /// How many bytes of contents it sends in a second at most.
    pub send_limit: Option<NonZeroU64>,
}

/// The peers that keep a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// All peers.
    All,
    /// These. Others are told nothing of it, and not listened to.
    Only(BTreeSet<String>),
}

impl Members {
    /// Does a peer keep it?
    pub fn has(&self, peer: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(peers) => peers.contains(peer),
        }
    }
}

/// A volume's settings, for the loop, which changes them, and its jobs. A job that asks twice may see a change in between.
#[derive(Clone)]
pub struct Current(Arc<RwLock<Settings>>);

impl Current {
    /// From what the configuration says.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(RwLock::new(settings)))
    }

    /// As they are now.
    pub fn get(&self) -> Settings {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on they are these.
    pub fn set(&self, settings: Settings) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }
}

/// Rights to write, by volume: the epoch of each, and when it runs out on the loop's clock, in nanoseconds.
pub type Rights = BTreeMap<String, (u64, u64)>;

/// What may change of a running agent.
pub struct Tuning {
    /// Members and where to call them.
    pub peers: Vec<(String, Option<String>)>,
    /// Most connections at the same time.
    pub connections: usize,
    /// How far a peer's clock may be ahead, in milliseconds.
    pub max_clock_skew_millis: u64,
    /// Volumes by name. One that isn't named stays as it is.
    pub volumes: BTreeMap<String, (Settings, Members)>,
}

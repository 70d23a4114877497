//! The validated configuration of an agent.

use crate::names::{Address, NodeName, VolumeName};
use crate::problem::Problems;
use crate::units::{Share, Size};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that an agent is told. What stands here has been checked, alone and against the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node's name; also the DNS name in its certificate.
    pub node: NodeName,
    /// Directory of registry, journal, admin socket and lock. Neither in a volume nor around one.
    pub state_dir: PathBuf,
    /// Where peers connect to. Port 0 lets the system choose. Default `0.0.0.0:7400`.
    pub listen: SocketAddr,
    /// What the event loop runs on. Default auto.
    pub engine: Engine,
    /// Files that prove who this node is.
    pub identity: IdentityFiles,
    /// The other members, each name once, never this node. Default none.
    pub peers: Vec<Peer>,
    /// Most connections at a time, 1 to 1024. Default 64.
    pub connections: u32,
    /// How far a peer's clock may be ahead before it is reported, 1 s to 24 h. Default 5 min.
    pub max_clock_skew: Duration,
    /// Where metrics and health are served over HTTP; none serves none. Default none.
    pub metrics_listen: Option<SocketAddr>,
    /// Memory that the agent divides among its parts, 32 MiB to 4 GiB. Default 64 MiB.
    pub memory_budget: Size,
    /// What is logged, and how.
    pub log: Log,
    /// The directories to keep identical, at least one.
    pub volumes: Vec<Volume>,
}

/// What the event loop runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// io_uring where it can be had, else epoll.
    Auto,
    /// io_uring, or no start.
    IoUring,
    /// epoll.
    Epoll,
}

/// Files that prove who a node is, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// Certificate of the mesh's CA.
    pub ca: PathBuf,
    /// This node's certificate.
    pub certificate: PathBuf,
    /// Its private key; in no volume.
    pub key: PathBuf,
    /// The list of revoked nodes, signed by the CA. It need not be there. Default none.
    pub revoked: Option<PathBuf>,
}

impl IdentityFiles {
    /// Those that have to be there.
    pub fn paths(&self) -> [&Path; 3] {
        [&self.ca, &self.certificate, &self.key]
    }
}

/// Another member of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name, which its certificate must show.
    pub node: NodeName,
    /// Where it listens; none means that this isn't known yet, and that it calls us.
    pub address: Option<Address>,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Least severity that is logged. Default info.
    pub level: LogLevel,
    /// Form of each line. Default text.
    pub format: LogFormat,
}

/// Severity of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed and somebody should look.
    Error,
    /// Something may fail soon.
    Warn,
    /// What an operator wants to see of normal work.
    Info,
    /// Each step.
    Debug,
    /// Each message and call.
    Trace,
}

impl LogLevel {
    /// The level as it is written in the configuration, which `tracing` also reads.
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

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A directory that is kept identical with its replicas on other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name, the same on all nodes.
    pub name: VolumeName,
    /// Its directory; in no other volume's directory.
    pub path: PathBuf,
    /// The directory's place until somebody renames it to `path`, which may happen while the agent runs. None means that it
    /// is always there. Default none.
    pub incoming: Option<PathBuf>,
    /// The directory of stage, store and marker, on the same file system; none means `.syncmesh` in the volume's own.
    /// Default none.
    pub meta: Option<PathBuf>,
    /// The peers that keep it, too; none means all. Others are told nothing of it. Default none.
    pub members: Option<BTreeSet<NodeName>>,
    /// It is filled from peers for the first time, and peers don't take its contents for all there is. Default false.
    pub filling: bool,
    /// Whether this node may write. Default that it may.
    pub role: Role,
    /// How many bytes of contents it sends in a second at most; none means any number. Default none.
    pub send_limit: Option<NonZeroU64>,
    /// Who wins where contents were changed on two nodes at once.
    pub conflicts: Conflicts,
    /// Patterns in gitignore syntax of what stays on this node alone; the last that fits decides. Default none.
    pub exclude: Vec<String>,
    /// What this node keeps of replaced and deleted versions.
    pub versions: Versions,
    /// How much of the file system stays free; none means the smaller of 5 % and 5 GiB. Default none.
    pub reserve: Option<Share>,
    /// How many bytes files and stored versions may take on this node; none means any number. Default none.
    pub capacity: Option<Size>,
    /// From how many on deletions wait for somebody's approval.
    pub deletion_guard: DeletionGuard,
    /// How long a file that is being written must be quiet before it is read, 1 ms to 60 s. Default 50 ms.
    pub settle: Duration,
    /// How long a version waits for a program here that has the old one open for writing.
    pub open_wait: Duration,
    /// The member whose contents win when this directory meets the mesh for the first time. Default none.
    pub seed: Option<NodeName>,
    /// It doesn't run, whatever was ordered. Default false.
    pub paused: bool,
    /// When a version may be told and shown. Default epoch.
    pub durability: Durability,
}

impl Volume {
    /// How long a file that is being written must be quiet, if nothing else is said.
    pub const SETTLE: Duration = Duration::from_millis(50);
    /// How long a version waits for a program that has the old one open, if nothing else is said.
    pub const OPEN_WAIT: Duration = Duration::from_secs(10);

    /// A volume of which nothing else is said.
    pub fn new(name: VolumeName, path: PathBuf) -> Self {
        Self {
            name,
            path,
            incoming: None,
            meta: None,
            members: None,
            filling: false,
            role: Role::Writer,
            send_limit: None,
            conflicts: Conflicts { policy: ConflictPolicy::KeepBoth, rules: Vec::new() },
            exclude: Vec::new(),
            versions: Versions::default(),
            reserve: None,
            capacity: None,
            deletion_guard: DeletionGuard::default(),
            settle: Self::SETTLE,
            open_wait: Self::OPEN_WAIT,
            seed: None,
            paused: false,
            durability: Durability::Epoch,
        }
    }
}

/// Whether this node may write to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It may: all nodes may, or it is the one that may.
    Writer,
    /// Another node may. What is written here is taken back.
    Reader,
    /// Nobody knows who may, or nobody may.
    Fenced,
    /// It may for as long as the right with this epoch is renewed.
    Granted(u64),
}

/// When a version may be told to others, and get its name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// At once; it is durable about a second later.
    Epoch,
    /// Once its contents are on the disk.
    Strict,
}

/// What a node keeps of versions that it replaced or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Versions of each path, 0 to 1000. Default 10.
    pub keep: u32,
    /// For how long, 1 min to ten years. Default 720 h.
    pub max_age: Duration,
    /// In how much of the file system. Default 10 %.
    pub budget: Share,
}

impl Default for Versions {
    fn default() -> Self {
        Self { keep: 10, max_age: Duration::from_secs(720 * 3600), budget: Share::Percent(10) }
    }
}

/// From how many on deletions at once wait for somebody's approval; fewer than 20 never do. `files: 0` and `percent: 100`
/// together switch it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletionGuard {
    /// More files than this; 0 means any number. Default 10,000.
    pub files: u64,
    /// From 100 files on, more than this share of the volume in percent, 1 to 100. Default 25.
    pub percent: u64,
}

impl Default for DeletionGuard {
    fn default() -> Self {
        Self { files: 10_000, percent: 25 }
    }
}

/// Who wins where contents were changed on two nodes at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflicts {
    /// The policy where no rule fits. Default keepBoth.
    pub policy: ConflictPolicy,
    /// Exceptions by path; the first that fits decides.
    pub rules: Vec<ConflictRule>,
}

/// Another policy for some paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictRule {
    /// A glob as `syncmesh_config::glob` compiles it.
    pub pattern: String,
    /// The policy for paths that it fits.
    pub policy: ConflictPolicy,
}

/// What becomes of the loser of a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictPolicy {
    /// It stays beside the winner as a file of its own.
    KeepBoth,
    /// It goes to the version store.
    LastWriterWins,
    /// A person decides who that is; until then each node keeps its own version.
    Manual,
}

impl Config {
    /// Reads a configuration from YAML. Paths in it are taken relative to `base`, the directory of the file; `base`
    /// should be absolute, so that paths compare whatever the working directory is.
    ///
    /// Decides from the text alone and touches nothing else: whether files exist is for the agent to see.
    ///
    /// # Errors
    /// Every problem at once, each with line and field. Text that isn't YAML is one problem.
    pub fn parse(text: &str, base: &Path) -> Result<Self, Problems> {
        crate::read::config(text, base)
    }
}

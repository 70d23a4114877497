//! What becomes of a volume's contents: the same fields for a volume, for a mesh's defaults, and, filled in, for a replica.
//! They mean what the fields of the same names mean in the agent's configuration.

use crate::rules;
use crate::units::{Duration, Share, Size};
use crate::{limits, schema};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of contents that were changed on two nodes at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conflicts {
    /// What becomes of the loser where no rule fits.
    #[serde(default)]
    pub policy: ConflictPolicy,
    /// Exceptions by path; the first that fits decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::RULES))]
    pub rules: Vec<ConflictRule>,
}

/// Another policy for some paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConflictRule {
    /// A glob. Without a slash it is for names in any directory, with one for the path from the volume's root; `**` crosses
    /// directories, `*` doesn't.
    #[schemars(schema_with = "schema::glob")]
    pub r#match: String,
    /// The policy for paths that it fits.
    pub policy: ConflictPolicy,
}

/// What becomes of the loser of a conflict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ConflictPolicy {
    /// It stays beside the winner, as a file of its own.
    #[default]
    KeepBoth,
    /// It goes to the version store.
    LastWriterWins,
    /// A person decides who the loser is; until then each node keeps its own version.
    Manual,
}

/// What of a volume is kept identical.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Select {
    /// Patterns in gitignore syntax for what stays on the node where it is; the last that fits decides, `!` takes back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::exclusions")]
    pub exclude: Vec<String>,
}

/// What each node keeps of versions that were replaced or deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::lasts("maxAge", "1m", "87600h"))]
pub struct Versions {
    /// How many of each path.
    #[serde(default = "Versions::kept")]
    #[schemars(range(min = 0, max = limits::VERSIONS_KEPT))]
    pub keep: u32,
    /// For how long.
    #[serde(default = "Versions::age")]
    pub max_age: Duration,
    /// In how much space: a share of the file system, or a size. Beyond it the oldest go.
    #[serde(default = "Versions::space")]
    pub budget: Share,
}

impl Versions {
    fn kept() -> u32 {
        10
    }

    fn age() -> Duration {
        Duration(std::time::Duration::from_secs(720 * 3600))
    }

    fn space() -> Share {
        Share::Percent(10)
    }
}

impl Default for Versions {
    fn default() -> Self {
        Self { keep: Self::kept(), max_age: Self::age(), budget: Self::space() }
    }
}

/// From how many on deletions at once are held until somebody approves them. Fewer than 20 never are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeletionGuard {
    /// From 100 files on, more than this share of the volume; 100 means any share.
    #[serde(default = "DeletionGuard::share")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: u32,
    /// More files than this; 0 means any number.
    #[serde(default = "DeletionGuard::number")]
    #[schemars(range(min = 0, max = limits::GUARD_FILES))]
    pub files: u64,
}

impl DeletionGuard {
    fn share() -> u32 {
        25
    }

    fn number() -> u64 {
        10_000
    }
}

impl Default for DeletionGuard {
    fn default() -> Self {
        Self { percent: Self::share(), files: Self::number() }
    }
}

/// How much of the network a volume may use on each node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    /// Bytes of contents that each node sends in a second; absent or 0 means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Size>,
}

/// When a version may be told to other nodes, and get its name there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Durability {
    /// At once; it is durable about a second later.
    #[default]
    Epoch,
    /// Once it is on the disk. Slower.
    Strict,
}

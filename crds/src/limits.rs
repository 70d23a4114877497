//! Every bound of the schemas, in one place. They keep objects small enough for the API server's store, and CEL rules
//! cheap enough that the API server takes them: it estimates a rule's cost from the largest value that the schema allows.
//!
//! Where the agent's configuration has the same limit, a test holds them equal.

/// Longest name of a mesh or a volume: both become parts of other names.
pub const NAME: u32 = 40;
/// Longest name of an object or a node: a DNS-1123 subdomain.
pub const SUBDOMAIN: u32 = 253;
/// Longest name of a claim: readers of a SingleWriter volume get one that ends in `-ro`.
pub const CLAIM: u32 = SUBDOMAIN - 3;
/// Longest uid.
pub const UID: u32 = 64;
/// Longest path of a directory on nodes.
pub const DIRECTORY: u32 = 256;
/// Longest file name in an object, percent-escaped; longer ones are cut.
pub const FILE: u32 = 1024;
/// Longest message.
pub const MESSAGE: u32 = 1024;
/// Longest word that is made for people to read in a column, like `3ms` or `2/3`.
pub const WORD: u32 = 64;
/// Longest token of a barrier.
pub const TOKEN: u32 = 128;
/// Longest image reference: a registry, a path, a tag and a digest.
pub const IMAGE: u32 = 512;

/// Most labels, and most expressions, of a selector.
pub const SELECTOR: u32 = 16;
/// Most values of an expression.
pub const SELECTOR_VALUES: u32 = 64;
/// Longest key of a label: a prefix of 253, a slash, and a name of 63.
pub const LABEL_KEY: u32 = 317;
/// Longest value of a label.
pub const LABEL_VALUE: u32 = 63;

/// Most rules for conflicts of a volume.
pub const RULES: u32 = 64;
/// Most patterns of a volume's selection.
pub const PATTERNS: u32 = 256;
/// Longest pattern.
pub const PATTERN: u32 = 256;
/// Most replaced versions of one path that are kept.
pub const VERSIONS_KEPT: u32 = 1000;
/// Most files that the deletion guard may let pass.
pub const GUARD_FILES: u64 = 1 << 40;
/// Most of a file system that stays free, in percent.
pub const RESERVE_PERCENT: u64 = 90;

/// Most claims of a volume.
pub const CLAIMS: u32 = 8;
/// Most members of a mesh: this node and the agent's 256 peers, rounded down.
pub const MEMBERS: u32 = 256;
/// Most directories that a mesh lists.
pub const DIRECTORIES: u32 = 32;
/// Most tolerations and pull secrets of the agents.
pub const POD_LISTS: u32 = 16;
/// Most conditions of an object.
pub const CONDITIONS: u32 = 16;
/// Most conflicts that an agent lists in a replica's status.
pub const LISTED_CONFLICTS: u32 = 20;
/// Most held bulk deletions and suspicions that an agent lists.
pub const LISTED_HOLDS: u32 = 4;
/// Most file names that a hold shows.
pub const SHOWN_FILES: u32 = 10;
/// Most names of nodes that a status lists.
pub const LISTED_NODES: u32 = 20;
/// Most orphans that a status lists.
pub const LISTED_ORPHANS: u32 = 20;
/// Most roots that an agent says it trusts: two while they change.
pub const TRUSTED_ROOTS: u32 = 8;
/// Most decisions of people that wait in a replica's spec.
pub const RESOLUTIONS: u32 = 32;

const _: () = assert!(LISTED_CONFLICTS + LISTED_HOLDS <= RESOLUTIONS, "all that is listed can be decided at once");

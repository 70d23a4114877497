//! Every limit on what a configuration may ask for, in one place.
//!
//! They keep one wrong line from costing memory or time without bound; each is far above what a real mesh uses.

use crate::units::Size;
use std::time::Duration;

/// Largest configuration text, in bytes. The fullest legal file (64 volumes with 256 patterns each) needs a part of it.
pub const TEXT_BYTES: usize = 1 << 20;
/// Deepest nesting of lists and maps. The schema needs 6.
pub const DEPTH: usize = 24;
/// Most lists, maps and scalars in one text, aliases expanded.
pub const NODES: usize = 100_000;
/// Most nodes that aliases may add, so that a few lines can't expand to millions.
pub const ALIASED_NODES: usize = 10_000;

/// Most volumes of one agent.
pub const VOLUMES: usize = 64;
/// Most peers of one agent.
pub const PEERS: usize = 256;
/// Most patterns in one volume's `select.exclude`.
pub const PATTERNS: usize = 256;
/// Longest pattern, in bytes.
pub const PATTERN_BYTES: usize = 256;
/// Most conflict rules of one volume.
pub const RULES: usize = 64;
/// Longest path of a directory or file, in bytes, as Linux has it (PATH_MAX less its end).
pub const PATH_BYTES: usize = 4095;

/// Longest name of a node: a DNS-1123 subdomain.
pub const NODE_NAME_BYTES: usize = 253;
/// Longest label between two dots of a node's name.
pub const LABEL_BYTES: usize = 63;
/// Longest name of a volume: short enough to be part of other names (claims, metrics, directories).
pub const VOLUME_NAME_BYTES: usize = 40;

/// Fewest and most connections at a time.
pub const CONNECTIONS: (u64, u64) = (1, 1024);
/// The memory budget, which can't be chosen yet.
pub const MEMORY_BUDGET: Size = Size(64 << 20);
/// Shortest and longest time for which a changing file must be quiet.
pub const SETTLE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(60));
/// Shortest and longest time that a version waits for a program that has the old one open.
pub const OPEN_WAIT: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(3600));
/// Smallest and largest difference of clocks that is let pass.
pub const CLOCK_SKEW: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
/// Fewest and most replaced versions of one path that a replica keeps.
pub const VERSIONS_KEPT: (u64, u64) = (0, 1000);
/// Shortest and longest time for which a replaced version is kept.
pub const VERSIONS_AGE: (Duration, Duration) = (Duration::from_secs(60), DURATION);
/// Most of a file system that replaced versions may take, in percent.
pub const VERSIONS_BUDGET_PERCENT: u64 = 100;
/// Most of a file system that can be kept free, in percent: with more nothing would ever be fetched.
pub const RESERVE_PERCENT: u64 = 90;
/// The least `capacity`.
pub const CAPACITY: Size = Size(1 << 20);
/// Fewest and most files that the deletion guard may let pass; 0 means any number.
pub const GUARD_FILES: (u64, u64) = (0, 1 << 40);
/// Smallest and largest share of a volume that the deletion guard may let pass, in percent.
pub const GUARD_PERCENT: (u64, u64) = (1, 100);
/// Longest duration that can be written at all: ten years.
pub const DURATION: Duration = Duration::from_secs(3650 * 24 * 3600);

const _: () = assert!(VOLUME_NAME_BYTES <= LABEL_BYTES, "a volume's name must fit a DNS label");
const _: () = assert!(LABEL_BYTES <= NODE_NAME_BYTES, "a label is part of a name");
const _: () =
    assert!(VOLUMES * (RULES * 5 + PATTERNS + 64) < NODES, "the fullest legal configuration must be readable");
const _: () = assert!(ALIASED_NODES < NODES, "aliases are a part of all nodes");

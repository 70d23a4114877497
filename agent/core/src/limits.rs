//! Limits of the rules, in one place, each with its reason.

/// Longest name of a file or directory: what Linux file systems hold (`NAME_MAX`).
pub const NAME_BYTES: usize = 255;

/// Longest path below a volume's root: `PATH_MAX` less the closing NUL.
pub const PATH_BYTES: usize = 4095;

/// Longest target of a symbolic link, as Linux has it.
pub const LINK_TARGET_BYTES: usize = 4095;

/// Ranges of counters that knowledge keeps over all replicas: one for each start of an agent whose node wrote something. Beyond
/// it knowledge says less than it could, which costs traffic and is always safe.
pub const KNOWLEDGE_RANGES: usize = 8_192;

/// Concurrent versions that an entry remembers beside its winner.
pub const LOSERS: usize = 8;

/// Replicas in one version vector: starts of agents whose node wrote the path. 256 KiB at most.
pub const VECTOR_REPLICAS: usize = 16_384;

/// Contents up to this size ride along with their announcement.
pub const INLINE_BYTES: u64 = 64 * 1024;

/// Transfer blocks of larger contents; aligned, a power of two times BLAKE3's chunk, so that each is a subtree.
pub const BLOCK_BYTES: u64 = 256 * 1024;

const _: () = assert!(NAME_BYTES < PATH_BYTES);
const _: () = assert!(INLINE_BYTES <= BLOCK_BYTES);
const _: () = assert!(BLOCK_BYTES.is_power_of_two() && BLOCK_BYTES.is_multiple_of(1024));

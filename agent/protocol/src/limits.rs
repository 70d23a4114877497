//! Limits of what comes over the wire; all are checked before anything is allocated for it.

use syncmesh_core::limits::{BLOCK_BYTES, INLINE_BYTES, KNOWLEDGE_RANGES, PATH_BYTES, VECTOR_REPLICAS};

/// Longest body of a frame. Room for a block, or for a batch that was filled up to its target and then took one more
/// file of the largest inline size.
pub const BODY_BYTES: usize = 512 * 1024;

/// A batch of entries is closed when it has grown to this.
pub const BATCH_BYTES: usize = 64 * 1024;

/// Entries in one batch, so that one frame isn't too much work for its receiver.
pub const BATCH_ENTRIES: usize = 256;

/// Bytes of entries that a sender may have on the way to a receiver which hasn't recorded them. Bounds the receiver's
/// memory for each session.
pub const ENTRIES_CREDIT_BYTES: u64 = 2 * 1024 * 1024;

/// Most nodes in one list of sessions or replicas.
pub const LIST_ITEMS: usize = 1_024;

/// The longest name of a node: a DNS name.
const NODE_BYTES: usize = 253;

/// Parts of a volume whose sums are told at once when replicas are compared.
pub const PARTS: usize = 16;

/// Rows of a part that is small enough to be told whole.
pub const PART_ROWS: usize = 64;

/// Most nodes of a revocation list.
pub const REVOKED_NODES: usize = 1_024;

/// The longest revocation list: a line for each node, with its name and a moment, and a few lines around them.
pub const REVOKED_BYTES: usize = REVOKED_NODES * (NODE_BYTES + 32) + 1024;

/// A rough upper bound on the encoded size of knowledge: three varints a range.
const KNOWLEDGE_BYTES: usize = KNOWLEDGE_RANGES * 32;

/// The same for a version vector: two varints a replica.
const VECTOR_BYTES: usize = VECTOR_REPLICAS * 16;

const _: () = assert!(BLOCK_BYTES as usize + PATH_BYTES < BODY_BYTES);
const _: () = assert!(BATCH_BYTES + INLINE_BYTES as usize + VECTOR_BYTES < BODY_BYTES);
const _: () = assert!(LIST_ITEMS * (NODE_BYTES + 16) < BODY_BYTES);
const _: () = assert!(REVOKED_BYTES < BODY_BYTES);
const _: () = assert!(PART_ROWS <= BATCH_ENTRIES);
const _: () = assert!(PARTS * (PATH_BYTES + 32) < BODY_BYTES);
const _: () = assert!(KNOWLEDGE_BYTES + 1024 < BODY_BYTES);
const _: () = assert!(ENTRIES_CREDIT_BYTES as usize >= 2 * BODY_BYTES);

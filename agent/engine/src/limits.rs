//! Limits of an agent, derived from each other, each with its reason.

use std::time::Duration;

/// Names that one scan of single names takes; more of one directory are found by listing it.
pub const SCAN_NAMES: usize = 1_024;

/// Findings in one outcome of a scan.
pub const FINDINGS: usize = 128;

/// Items in one apply job: an epoch waits for running jobs, so a job stays at a few milliseconds.
pub const APPLY_ITEMS: usize = 64;

/// Rows that one collect job looks at.
pub const COLLECT_ROWS: usize = 256;

/// Contents that one collect job reads.
pub const COLLECT_BYTES: usize = 256 * 1024;

/// Jobs that wait for or run on a worker. Enough to keep two workers busy, few enough that a new small one is soon
/// served.
pub const JOBS: usize = 8;

/// Scans among them, so that a first scan never starves publishing.
pub const SCAN_JOBS: usize = 2;

/// An epoch lasts at least this long.
pub const EPOCH: Duration = Duration::from_secs(1);

/// A volume whose file system takes longer to sync is left out of the epoch.
pub const SYNC: Duration = Duration::from_secs(30);

/// First and longest wait before a volume whose sync has failed is synced again.
pub const SYNC_RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));

/// Encoded bytes of rows in the open epoch at which it ends early, and beyond which nothing more is taken in: half of
/// the overlay's 12 MiB, three quarters full.
pub const EPOCH_ROWS_BYTES: usize = 4 * 1024 * 1024;

/// Rows of the open epoch beyond which scans and applies wait for the epoch before it to be durable.
pub const OVERLAY_FULL_BYTES: usize = 6 * 1024 * 1024;

/// Cache of the registry.
pub const REGISTRY_CACHE_BYTES: usize = 24 * 1024 * 1024;

/// Files that are fetched at the same time. Of a volume that has less than its share of them more begin all the same: others may
/// be sent slowly. So it is with blocks, and with n volumes there are at most 1 + 1/2 + … + 1/n times as many.
pub const FETCHES: usize = 16;

/// Files that wait to be fetched in memory; more stay in the registry until there is room.
pub const FETCH_QUEUE: usize = 1_024;

/// Blocks of one file that are asked for ahead.
pub const FETCH_WINDOW: u64 = 8;

/// Blocks that are asked for in total, over all files.
pub const FETCH_BLOCKS: usize = 32;

/// Bytes of wire data in one receive.
pub const RECEIVE_BYTES: usize = 128 * 1024;

/// Plain bytes that one send encrypts at most.
pub const SEND_BYTES: usize = 256 * 1024;

/// Deletions gather until none has come for so long.
pub const GUARD_QUIET: Duration = Duration::from_millis(200);

/// Deletions gather at most for so long, so that a program that never stops deleting is seen, too.
pub const GUARD_LONGEST: Duration = Duration::from_secs(2);

/// Held deletions are looked at again after this long: what was created again meanwhile is no deletion.
pub const GUARD_REVIEW: Duration = Duration::from_secs(60);

/// Files that are remembered to recognise moved ones: 2 MiB in each of eight tables at most. Beyond, a moved file counts as
/// deleted, which holds it at worst.
pub const MOVED: usize = 64 * 1024;

/// Bytes of paths to which files may have been moved, in each of six tables. Beyond, nobody is told where a file was moved, so
/// an edit elsewhere doesn't follow.
pub const MOVED_PATHS_BYTES: usize = 2 * 1024 * 1024;

/// Control messages that wait for a peer: its replicas and its volumes' knowledge at the start, requests and answers
/// later. Small and bulk messages are bounded by their credits.
pub const CONTROL_BYTES: usize = 16 * 1024 * 1024;

/// Replicas whose node is known. Each start of an agent is one; what is beyond isn't noted, and a conflict copy of theirs
/// is named after an unknown node.
pub const REPLICAS: usize = 65_536;

/// Knowledge that waits for rows before it to be recorded, for each volume and session, either way.
pub const PENDING_KNOWLEDGE: usize = 16;

/// How often it is looked which volumes are in sync, to know when each last was.
pub const SYNC_NOTED: Duration = Duration::from_secs(1);

/// A difference between replicas is looked into again after this long, at first and at most.
pub const COMPARE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// Questions of a peer about differences that wait; what is beyond is found by the next comparison.
pub const QUESTIONS: usize = 16;

/// Paths that differ from a peer's and are remembered, so that they are joined if reading their files tells nothing.
pub const DISPUTED: usize = 1_024;

/// A volume's rows are counted again so long after its first scan, and then so often.
pub const RECOUNT: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));

/// Rows that are read at once when rows are summed up: the loop can't put rows meanwhile.
pub const SUMMED_ROWS: usize = 256;

/// From accept or connect to a finished hello; and from a goodbye to the end of the connection.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

/// After a failure to accept, which may well have no end: the node has no descriptor left.
pub const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// Connections that haven't finished their handshake.
pub const UNAUTHENTICATED: usize = 16;

/// A peer is asked for a sign of life this often.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// A peer that was silent for this long is gone.
pub const SILENCE: Duration = Duration::from_secs(15);

/// First and longest wait before the next try to connect.
pub const RECONNECT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// The node with the higher name leaves the first tries to the other.
pub const SECOND_DIALER: Duration = Duration::from_secs(3);

/// A wall clock that moves by more than this against the boot-time clock, from one turn of the loop to the next, may mean that
/// the machine was copied while it ran.
pub const CLOCK_JUMP: Duration = Duration::from_secs(10);

/// First and longest wait before what is wanted is tried again.
pub const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Knowledge that follows no own entries is sent after this, so that a burst of relayed changes makes one message.
pub const COVERS_DELAY: Duration = Duration::from_millis(50);

/// A file that is written again and again is looked at this often at least.
pub const SETTLE_CAP: Duration = Duration::from_secs(1);

/// Rows and bytes that one job reads of those that are read again: a worker has other work, too.
pub const VERIFY_ROWS: usize = 64;

/// See [`VERIFY_ROWS`].
pub const VERIFY_BYTES: u64 = 256 * 1024 * 1024;

/// Names of files with several that are remembered in each volume. One takes 170 to 380 bytes, measured with names of 20: 6 MiB
/// at most.
pub const SECOND_NAMES: usize = 16_384;

/// Rows in which one job looks for names of such files.
pub const SEEK_ROWS: usize = 4_096;

/// How often it is looked whether a volume's root is in its place.
pub const PLACE: Duration = Duration::from_secs(5);

/// How often it is looked whether a version store exceeds its budget or the file system's reserve, and how often each of its
/// versions is looked at.
pub const PRUNE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));

/// When members stay away that must be heard after power loss, somebody is asked after this long.
pub const SUSPECTS_ASK: Duration = Duration::from_secs(600);

const _: () = assert!(SCAN_JOBS < JOBS);
const _: () = assert!(PRUNE.0.as_secs() < PRUNE.1.as_secs());
const _: () = assert!(EPOCH_ROWS_BYTES < OVERLAY_FULL_BYTES);
const _: () = assert!(FETCH_WINDOW as usize <= FETCH_BLOCKS);
const _: () = assert!(HEARTBEAT.as_secs() * 2 < SILENCE.as_secs());

/// A file that was hashed within the tick of its last change is hashed again after so long: two ticks of the coarsest clock.
pub const RACY_AGAIN: Duration = Duration::from_millis(20);

/// A file that a program has open is looked at again after so long: what is written through a mapping tells of itself only
/// when that is closed.
pub const OPEN_AGAIN: Duration = Duration::from_secs(2);

/// Files for which that is remembered, in each volume.
pub const OPEN_FILES: usize = 4_096;

/// How often it is tried to replace a file that a program has open.
pub const OPEN_RETRY: Duration = Duration::from_millis(100);

/// How often displaced files are looked at that programs have open: at first, and in the end.
pub const LINGER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

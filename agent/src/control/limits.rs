//! Limits of the control thread, each with its reason.

use std::time::Duration;

/// Longest line of the admin protocol, in bytes, with its end: a request needs a hundred.
pub const LINE_BYTES: usize = 64 * 1024;

/// Admin connections at a time.
pub const ADMIN_CONNECTIONS: usize = 32;

/// An admin connection that asks nothing for this long is closed, so that forgotten ones don't use up all.
pub const ADMIN_IDLE: Duration = Duration::from_secs(60);

/// Longest time that a wait may ask for.
pub const WAIT: Duration = Duration::from_secs(24 * 3600);

/// HTTP connections at a time: a scraper and two probes need three.
pub const HTTP_CONNECTIONS: usize = 16;

/// Longest head of an HTTP request, in bytes; hyper takes no less than 8 KiB.
pub const HTTP_HEAD_BYTES: usize = 16 * 1024;

/// Most header fields of an HTTP request.
pub const HTTP_HEADERS: usize = 64;

/// An HTTP request's head comes within this time.
pub const HTTP_HEAD: Duration = Duration::from_secs(5);

/// An HTTP connection ends after this time, whatever it does.
pub const HTTP_CONNECTION: Duration = Duration::from_secs(60);

/// A loop that hasn't answered for this long hangs.
pub const ANSWER: Duration = Duration::from_secs(10);

/// Longest time that a restore may take for who asked; it goes on without them.
pub const RESTORE: Duration = Duration::from_secs(3600);

/// Longest time that a status waits for the names of the worst paths.
pub const WORST: Duration = Duration::from_secs(1);

/// Longest time for a walk over all rows of a volume.
pub const HISTORY: Duration = Duration::from_secs(60);

/// How often it is looked whether an answer has come, first and later: status requests are rare and the loop answers
/// between two batches.
pub const ANSWER_POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(5));

/// How often a wait looks, at first and later.
pub const WAIT_POLL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(50));

/// How long a wait looks at the first pace.
pub const WAIT_FIRST: Duration = Duration::from_secs(1);

/// How often the configuration's file is looked at.
pub const CONFIGURATION_POLL: Duration = Duration::from_secs(2);

/// How often the revocation list's file is looked at.
pub const REVOKED_POLL: Duration = Duration::from_secs(2);

/// How often identity files are looked at.
pub const IDENTITY_POLL: Duration = Duration::from_secs(10);

/// Warnings that the identity ends begin this many days before.
pub const IDENTITY_WARN_DAYS: u64 = 30;

/// The same where a certificate is renewed daily and lives for two weeks.
pub const CLUSTER_WARN_DAYS: u64 = 7;

/// Time between two such warnings.
pub const IDENTITY_WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// After this the process ends even if the loop has not said goodbye. The loop has ten seconds to end its
/// epoch, and the service manager fifteen before it kills.
pub const STOP: Duration = Duration::from_secs(12);

/// For how long a pod's agent goes on for a peer to have everything. The kubelet kills it after 120 s.
pub const HANDOVER: Duration = Duration::from_secs(105);

/// What is recorded by then is enough of a volume that is never quiet: large files of before may still have been read.
pub const HANDOVER_QUIET: Duration = Duration::from_secs(5);

/// How often it is looked.
pub const HANDOVER_POLL: Duration = Duration::from_millis(100);

/// First and longest pause before a part of the control thread that failed is started again.
pub const RESTART: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// A part that ran for this long is taken for sound: its next restart waits for the first pause.
pub const SOUND: Duration = Duration::from_secs(60);

const _: () = assert!(WAIT_POLL.0.as_millis() < WAIT_POLL.1.as_millis());
const _: () = assert!(HANDOVER.as_secs() + STOP.as_secs() < 120);
const _: () = assert!(HTTP_HEAD_BYTES >= 8 * 1024);

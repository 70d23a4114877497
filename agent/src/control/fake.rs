//! A loop that only answers, for tests of the control thread.

use super::question::Loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use syncmesh_engine::ask::{Ask, Configured, QUEUE};
use syncmesh_engine::node::{Counters, PeerStatus, Status, Taken, VolumeStatus};
use syncmesh_engine::threads;
use syncmesh_io::Waker;

/// Answers each question with what a function gives, until it is stopped.
pub struct Fake {
    /// The way to it.
    pub agent: Loop,
    asked: Arc<AtomicU64>,
}

impl Fake {
    /// Starts its thread.
    pub fn start(answer: impl Fn() -> Status + Send + 'static) -> Self {
        let (asks, asked) = crossbeam_channel::bounded(QUEUE);
        let count = Arc::new(AtomicU64::new(0));
        let counted = count.clone();
        threads::spawn("fake", move || {
            let mut stopping = false;
            for ask in asked {
                match ask {
                    // Dropped, as by a loop that has ended.
                    Ask::Status(_) if stopping => {}
                    Ask::Status(to) => {
                        counted.fetch_add(1, Ordering::Relaxed);
                        // Who asked may have gone.
                        let _ = to.send((answer(), Counters { versions_made: 5, ..Counters::default() }));
                    }
                    Ask::Holds(_, to) => drop(to.send(Ok(Vec::new()))),
                    Ask::DecideHolds(_, _, to) => drop(to.send(Err("no deletions are held".into()))),
                    Ask::Versions(_, to) => drop(to.send(Ok(Vec::new()))),
                    Ask::Pause(_, to) | Ask::Resume(_, to) | Ask::Rescan(_, _, to) => drop(to.send(Ok(Vec::new()))),
                    Ask::Restore(_, to) => drop(to.send(Err("it has no such version".into()))),
                    Ask::Conflicts(_, to) => drop(to.send(Ok(Vec::new()))),
                    Ask::Resolve(_, to) => drop(to.send(Err("it has no conflict".into()))),
                    Ask::History(_, to) => drop(to.send(Err("nothing is known of it".into()))),
                    Ask::Forget(_, to) => drop(to.send(Err("no such node is known here".into()))),
                    Ask::Worst(to) => drop(to.send(Ok(Vec::new()))),
                    Ask::Configure(_, to) => drop(to.send(Ok(Configured::AsBefore))),
                    Ask::Misconfigured(_) | Ask::RenewRights(_) => {}
                    Ask::Revoke(_, to) => drop(to.send(Ok(Taken::Before))),
                    Ask::Stop => stopping = true,
                }
            }
        });
        Self { agent: Loop::new(asks, Waker::new(|| {})), asked: count }
    }

    /// How many questions were answered.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

/// A loop that never answers; it lives as long as what is returned beside it.
pub fn hanging() -> (Loop, crossbeam_channel::Receiver<Ask>) {
    let (asks, asked) = crossbeam_channel::bounded(QUEUE);
    (Loop::new(asks, Waker::new(|| {})), asked)
}

/// A node with one peer and one volume, all well or not.
pub fn status(in_sync: bool, sequence: u64) -> Status {
    let pick = |well: &str, ill: &str| if in_sync { well.to_owned() } else { ill.to_owned() };
    Status {
        node: "a".into(),
        engine: "io_uring".into(),
        version: String::new(),
        uptime_seconds: 3_700,
        memory_bytes: 0,
        peers: vec![PeerStatus {
            node: "b".into(),
            state: pick("connected", "backoff"),
            rtt_micros: in_sync.then_some(250),
            sent_bytes: 10,
            received_bytes: 20,
            last_error: (!in_sync).then(|| "connection refused".into()),
        }],
        volumes: vec![VolumeStatus {
            name: "docs".into(),
            state: pick("InSync", "Degraded"),
            in_sync,
            synced_percent: if in_sync { 100 } else { 41 },
            files: 12,
            bytes: 3_500,
            pending_files: if in_sync { 0 } else { 3 },
            pending_bytes: if in_sync { 0 } else { 900 },
            filled: true,
            members: 1,
            recorded: in_sync,
            copied: if in_sync { sequence } else { 0 },
            lag_ms: 1_500,
            durable_lag_ms: 250,
            conflicts: 0,
            writes: true,
            reverted: 0,
            reverted_path: None,
            reverted_at: None,
            holds: 0,
            no_space_files: 0,
            capacity_bytes: None,
            over_capacity: false,
            stored_files: 5,
            stored_bytes: 8_192,
            linked_elsewhere: 0,
            last_sync: Some(1_700_000_000_000),
            message: pick("", "no session with b: see PEERS for the reason"),
            sequence,
            watches: 4,
            worst: Vec::new(),
            sum: "00".into(),
            differences: 0,
        }],
        left_out: Vec::new(),
        revoked_before: None,
        warnings: Vec::new(),
    }
}

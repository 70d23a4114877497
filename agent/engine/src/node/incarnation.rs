//! Who this run is, and whether another one is it, too: copies of one machine, and clocks that jump (SYNC 2).
//!
//! A run that may not be the only one with its number takes a new number before it makes another version. It stands in the
//! journal before any version does.

use super::{Node, PeerState};
use crate::journal::Record;
use crate::limits::{CLOCK_JUMP, HEARTBEAT, SILENCE};
use std::sync::Arc;
use syncmesh_core::decide::duplicated;
use syncmesh_core::entry::Row;
use syncmesh_core::version::ReplicaId;
use syncmesh_io::Io;
use syncmesh_protocol::message::Farewell;

impl<I: Io> Node<I> {
    /// A wall clock that jumps while the boot-time clock doesn't may mean that this machine was copied while it ran.
    pub(super) fn watch_clock(&mut self, now: u64) {
        let ahead = i128::from(self.io.wall()) - i128::from(now);
        let jump = ahead - self.wall_ahead;
        self.wall_ahead = ahead;
        if jump.unsigned_abs() > CLOCK_JUMP.as_nanos() {
            self.renew(&format!("the wall clock jumped by {} s", jump / 1_000_000_000));
        }
    }

    /// Goes on as a new replica. Peers are greeted anew, because what they know of us is about the old one.
    pub(super) fn renew(&mut self, why: &str) {
        let (old, new) = (self.replica, ReplicaId(self.io.random()));
        tracing::warn!(%why, old = format!("{:016x}", old.0), new = format!("{:016x}", new.0), "a new incarnation is taken");
        self.replica = new;
        Arc::make_mut(&mut self.replicas).insert(new, self.node.clone());
        self.record(&Record::Replica(new, self.node.clone()));
        for volume in self.volumes.values_mut() {
            volume.counter = 0;
        }
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            self.farewell(id, Farewell::Renewed);
            self.send(id);
            self.end(id, "this agent goes on under a new incarnation".into());
        }
    }

    /// Two versions with one number and other contents: both are kept, and whoever gave the number takes a new one.
    pub(super) fn look_for_duplicates(&mut self, row: &Row) {
        let found: Vec<ReplicaId> = row.entries().filter_map(duplicated).collect();
        for replica in found {
            if self.duplicates.insert(replica) {
                let node = self.replicas.get(&replica).map_or("unknown", String::as_str);
                tracing::error!(
                    node,
                    "two versions with one number were met: two copies of one machine ran (DuplicateReplica)"
                );
            }
            if replica == self.replica {
                self.renew("another agent gave one of our numbers to another version");
            }
        }
    }

    /// Was anything heard on a session since the last heartbeats?
    pub(super) fn is_alive(&self, session: u64, now: u64) -> bool {
        let lately = 2 * HEARTBEAT.as_nanos() as u64;
        self.connections.get(&session).is_some_and(|connection| now < connection.heard + lately)
    }

    /// Another run of a node wants a session, and the one that has it is alive.
    pub(super) fn met_twin(&mut self, node: &str, now: u64) {
        if let Some(peer) = self.peers.get_mut(node) {
            let since = peer
                .twin
                .filter(|(_, last)| now < last + 4 * SILENCE.as_nanos() as u64)
                .map_or(now, |(since, _)| since);
            peer.twin = Some((since, now));
        }
    }

    /// A peer that we called turned us away, because it has a session with another run of this node.
    pub(super) fn told_of_twin(&mut self, session: u64) {
        let called = self.peers.values_mut().find(|peer| matches!(peer.state, PeerState::Session(id) if id == session));
        if let Some(peer) = called {
            peer.told_of_twin = true;
        }
    }

    /// What is wrong with the node as a whole, and what to do.
    pub(super) fn warnings(&self, now: u64) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(why) = &self.misconfigured {
            warnings.push(format!("the configuration isn't in force as it stands: {why}"));
        }
        let revoked = self.own_revocation().zip(self.sessions.valid_from());
        if revoked.is_some_and(|(moment, valid_from)| valid_from < moment) {
            warnings.push("this node's certificate is revoked, and peers refuse it: issue it another one with \"syncmesh-agent ca issue\". In a cluster the agent asks for one by itself".into());
        }
        let silence = SILENCE.as_nanos() as u64;
        for (name, peer) in &self.peers {
            // A run that ended without a word is taken for alive until it has been silent for long enough.
            if peer.twin.is_some_and(|(since, last)| last >= since + silence && now < last + 4 * silence) {
                warnings.push(format!(
                    "two agents run under the name {name}: stop one of them, and issue it an identity of its own (DuplicateReplica)"
                ));
            }
        }
        let tellers: Vec<&str> =
            self.peers.iter().filter(|(_, peer)| peer.told_of_twin).map(|(name, _)| name.as_str()).collect();
        if !tellers.is_empty() {
            warnings.push(format!(
                "another agent with this node's name has a session with {}: two copies of one machine run, stop one of them and issue it an identity of its own (DuplicateReplica)",
                tellers.join(", ")
            ));
        }
        for replica in &self.duplicates {
            let node = self.replicas.get(replica).map_or("unknown", String::as_str);
            warnings.push(format!(
                "two copies of {node} gave one number to two versions; both were kept (DuplicateReplica). If both copies still run, stop one of them"
            ));
        }
        warnings.extend(self.clock_warning());
        for volume in self.volumes.values().filter(|volume| !volume.leases) {
            warnings.push(format!(
                "volume {}: the system doesn't tell this agent who has a file open for writing (the file system has no leases, or the agent lacks CAP_LEASE for others' files): what a program writes to a file that was replaced meanwhile is looked for {} s later, once",
                volume.name,
                volume.settings.get().open_wait.div_ceil(1_000_000_000)
            ));
        }
        warnings
    }

    /// Is our clock ahead of most others by more than is allowed?
    fn clock_warning(&self) -> Option<String> {
        let mut ahead: Vec<i64> = self.peers.values().filter_map(|peer| peer.clock_behind).collect();
        ahead.sort_unstable();
        // Of most of them it is at least so far ahead.
        let most = *ahead.get(ahead.len().checked_sub(1)? / 2)?;
        let beyond = u64::try_from(most).is_ok_and(|most| most > self.max_clock_skew_millis);
        beyond.then(|| {
            format!(
                "this node's clock is {} s ahead of most of its peers': set it, by NTP. Until then its edits win over concurrent ones of others",
                most / 1_000
            )
        })
    }
}

//! Members: calling them, taking their calls, ending sessions.

use super::{Node, PeerState, Purpose};
use crate::connection::{Connection, Lane, Phase};
use crate::job::Job;
use crate::limits::{HANDSHAKE, HEARTBEAT, RECONNECT, SILENCE, UNAUTHENTICATED};
use crate::session::Session;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use syncmesh_core::backoff::backoff;
use syncmesh_core::version::ReplicaId;
use syncmesh_io::{Io, IoError, Operation, Socket};
use syncmesh_protocol::message::{Farewell, Message};

impl<I: Io> Node<I> {
    /// Accepts connections again, some time after a failure.
    pub(super) fn tend_listener(&mut self, now: u64) {
        if self.stopping.is_none() && self.accept_at.take_if(|at| *at <= now).is_some() {
            self.io.submit(Purpose::Accept.token(), Operation::Accept(self.listener));
        }
    }

    /// Calls the members whose time has come, asks silent ones for a sign of life, ends those that stay silent.
    pub(super) fn tend_peers(&mut self, now: u64) {
        if self.stopping.is_none() {
            let due: Vec<String> = self
                .peers
                .iter()
                .filter(|(_, peer)| matches!(peer.state, PeerState::Waiting(at) if at <= now))
                .map(|(name, _)| name.clone())
                .collect();
            for name in due {
                self.call(&name, now);
            }
        }
        let mut ended = Vec::new();
        for (&id, connection) in &mut self.connections {
            match connection.phase {
                Phase::Handshake { deadline } if deadline <= now => {
                    ended.push((id, format!("the handshake took longer than {} s", HANDSHAKE.as_secs())));
                }
                Phase::Ready if connection.heard + SILENCE.as_nanos() as u64 <= now => {
                    ended.push((id, format!("nothing was heard for {} s", SILENCE.as_secs())));
                }
                Phase::Ready if connection.ping_at <= now => {
                    connection.ping_at = now + HEARTBEAT.as_nanos() as u64;
                    connection.send(Lane::Control, 0, &Message::Ping(now));
                }
                Phase::Ready if connection.is_flooded() => {
                    ended.push((id, "it doesn't take what it is sent".into()));
                }
                Phase::Closing { deadline } if deadline <= now => {
                    ended.push((id, "it didn't take our goodbye".into()));
                }
                _ => {}
            }
        }
        for (id, why) in ended {
            self.end(id, why);
        }
    }

    fn call(&mut self, name: &str, now: u64) {
        let Some(peer) = self.peers.get_mut(name) else { return };
        let Some(address) = &peer.address else {
            peer.state = PeerState::Waiting(u64::MAX);
            return;
        };
        peer.state = PeerState::Calling;
        match peer.resolved.or_else(|| address.parse().ok()) {
            Some(address) => {
                let id = self.next_id;
                self.next_id += 1;
                self.connecting.insert(id, name.to_owned());
                self.io.submit(Purpose::Connect(id).token(), Operation::Connect(address));
            }
            None => {
                // Not counted against the workers' queue: at most one for each peer, and rare.
                self.jobs.push(Job::Resolve(name.to_owned(), address.clone()));
                self.jobs_running += 1;
            }
        }
        let _ = now;
    }

    pub(super) fn resolved(&mut self, name: &str, result: Result<SocketAddr, String>) {
        let now = self.io.now();
        let Some(peer) = self.peers.get_mut(name) else { return };
        match result {
            Ok(address) => {
                peer.resolved = Some(address);
                if matches!(peer.state, PeerState::Calling) {
                    self.call(name, now);
                }
            }
            Err(error) => self.call_failed(name, error),
        }
    }

    fn call_failed(&mut self, name: &str, error: String) {
        let (now, random) = (self.io.now(), self.io.random());
        let Some(peer) = self.peers.get_mut(name) else { return };
        if !matches!(peer.state, PeerState::Calling) {
            return;
        }
        if peer.last_error.as_ref() != Some(&error) {
            tracing::warn!(peer = name, %error, "the peer can't be reached; trying again with growing waits");
        }
        peer.last_error = Some(error);
        let wait = backoff(RECONNECT.0, RECONNECT.1, peer.attempt, random);
        peer.attempt = peer.attempt.saturating_add(1);
        // Names may move to other addresses.
        peer.resolved = None;
        peer.state = PeerState::Waiting(now + wait.as_nanos() as u64);
    }

    pub(super) fn connected(&mut self, id: u64, result: Result<Socket, IoError>) {
        let Some(name) = self.connecting.remove(&id) else { return };
        let calling = self.peers.get(&name).is_some_and(|peer| matches!(peer.state, PeerState::Calling));
        match result {
            Ok(socket) if !calling || self.stopping.is_some() => self.io.close(socket),
            Ok(socket) => match self.sessions.client(&name) {
                Ok(session) => {
                    self.begin(id, socket, None, session, true);
                    if let Some(peer) = self.peers.get_mut(&name) {
                        peer.state = PeerState::Session(id);
                    }
                }
                Err(error) => {
                    self.io.close(socket);
                    self.call_failed(&name, error);
                }
            },
            Err(error) => {
                let address = self.peers.get(&name).and_then(|peer| peer.address.clone()).unwrap_or_default();
                self.call_failed(&name, format!("can't connect to {address}: {error}"));
            }
        }
    }

    pub(super) fn accepted(&mut self, result: Result<(Socket, SocketAddr), IoError>) {
        let (socket, address) = match result {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection couldn't be accepted");
                return;
            }
        };
        let strangers =
            self.connections.values().filter(|c| !c.dialled && matches!(c.phase, Phase::Handshake { .. })).count();
        if strangers >= UNAUTHENTICATED || self.connections.len() >= self.connection_limit || self.stopping.is_some() {
            self.io.close(socket);
            return;
        }
        match self.sessions.server() {
            Ok(session) => {
                let id = self.next_id;
                self.next_id += 1;
                self.begin(id, socket, Some(address), session, false);
            }
            Err(error) => {
                // Who has no certificate is told so where it is asked for, not at each knock.
                tracing::debug!(%error, "a connection couldn't be served");
                self.io.close(socket);
            }
        }
    }

    fn begin(
        &mut self,
        id: u64,
        socket: Socket,
        address: Option<SocketAddr>,
        session: Box<dyn Session>,
        dialled: bool,
    ) {
        let now = self.io.now();
        let deadline = now + HANDSHAKE.as_nanos() as u64;
        let mut connection = Connection::new(socket, address, session, dialled, now, deadline);
        connection.send(Lane::Control, 0, &Message::Hello(self.hello()));
        self.connections.insert(id, connection);
        self.receive(id, socket);
    }

    pub(super) fn received(&mut self, id: u64, buffer: &[u8], result: Result<usize, IoError>) {
        let now = self.io.now();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let read = match result {
            Ok(0) => return self.end(id, "the peer closed the connection".into()),
            Ok(read) => read,
            Err(error) => return self.end(id, error.to_string()),
        };
        connection.heard = now;
        connection.received_bytes += read as u64;
        let mut plain = std::mem::take(&mut connection.plain);
        let outcome = connection.session.receive(&buffer[..read], &mut plain);
        let socket = connection.socket;
        let (used, ended) = self.frames(id, &plain);
        plain.drain(..used);
        match (ended, outcome) {
            (Some(why), _) => return self.end(id, why),
            (None, Err(error)) => {
                // An alert, if there is one, tells the other side why.
                self.send(id);
                return self.end(id, error.to_string());
            }
            (None, Ok(())) => {}
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.plain = plain;
            self.receive(id, socket);
        }
    }

    /// Ends a session because of `why`, and plans the next call.
    pub(super) fn end(&mut self, id: u64, why: String) {
        let Some(connection) = self.connections.get(&id) else { return };
        if !matches!(connection.phase, Phase::Closing { .. }) {
            self.counters.session_errors += 1;
            let peer = connection.peer.clone().unwrap_or_else(|| "unknown".into());
            let from = connection.address.map(|address| address.to_string()).unwrap_or_default();
            tracing::info!(%peer, %from, %why, "a session ended");
        }
        let owner = self.peers.iter().find(|(_, peer)| matches!(peer.state, PeerState::Session(s) if s == id));
        if let Some(name) = owner.map(|(name, _)| name.clone()) {
            let connection = self.connections.get(&id);
            let was_ready = connection.is_some_and(|c| c.peer.is_some() && !c.turned_away);
            let said_goodbye = connection.is_some_and(|c| matches!(c.phase, Phase::Closing { .. }));
            let is_another = |c: &Connection| c.phase == Phase::Ready && c.peer.as_deref() == Some(&name);
            let another =
                self.connections.iter().find(|(other, c)| **other != id && is_another(c)).map(|(other, _)| *other);
            let (now, random) = (self.io.now(), self.io.random());
            if let (Some(peer), Some(another)) = (self.peers.get_mut(&name), another) {
                peer.state = PeerState::Session(another);
            } else if let Some(peer) = self.peers.get_mut(&name) {
                if was_ready {
                    peer.away_since = now;
                    peer.attempt = 0;
                }
                // Why it did stands there already, where that matters.
                if !said_goodbye {
                    peer.last_error = Some(why);
                }
                let wait = backoff(RECONNECT.0, RECONNECT.1, peer.attempt, random).as_nanos() as u64;
                peer.attempt = peer.attempt.saturating_add(1);
                peer.state = PeerState::Waiting(now + wait);
            }
        }
        self.drop_connection(id);
    }

    /// Lets a connection go, with what is under way on it.
    pub(super) fn drop_connection(&mut self, id: u64) {
        let Some(connection) = self.connections.remove(&id) else { return };
        self.io.close(connection.socket);
        if let Some(name) = &connection.peer
            && let Some(peer) = self.peers.get_mut(name)
        {
            peer.sent_bytes += connection.sent_bytes;
            peer.received_bytes += connection.received_bytes;
            for (number, link) in &connection.links {
                if let (Some(volume), Some(replica)) = (self.volumes.get_mut(number), peer.replica) {
                    peer.resume.insert(volume.name.clone(), (replica, link.incoming.recorded()));
                    if link.outgoing.may_lack(&volume.state.knowledge) {
                        peer.left_to_makers.insert(volume.name.clone());
                    }
                    if volume.stands_still() {
                        // What came and isn't recorded comes again. Kept, it would grow with each session of a long pause.
                        volume.incoming.retain(|_, items| {
                            items.retain(|item| item.stream.is_none_or(|(session, _)| session != id));
                            !items.is_empty()
                        });
                    }
                }
            }
        }
        let orphans: Vec<u64> =
            self.fetches.iter().filter(|(_, fetch)| fetch.session == id).map(|(&fetch, _)| fetch).collect();
        for fetch in orphans {
            self.end_fetch(fetch);
        }
        // Also where a farewell was said: others may have left something to that peer.
        if !connection.links.is_empty() {
            self.tell_sessions();
        }
    }

    /// Says goodbye and closes once it is on its way.
    pub(super) fn farewell(&mut self, id: u64, why: Farewell) {
        let deadline = self.io.now() + HANDSHAKE.as_nanos() as u64;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.send(Lane::Control, 0, &Message::Goodbye(why));
            connection.phase = Phase::Closing { deadline };
        }
    }

    /// Tells peers with which other runs we exchange the volumes that they keep, where that changed.
    pub(super) fn tell_sessions(&mut self) {
        let mut runs: BTreeMap<u16, BTreeSet<ReplicaId>> = BTreeMap::new();
        for connection in self.connections.values().filter(|connection| connection.phase == Phase::Ready) {
            let Some(run) = connection.peer.as_ref().and_then(|name| self.peers.get(name)?.replica) else { continue };
            for number in connection.links.keys() {
                runs.entry(*number).or_default().insert(run);
            }
        }
        for connection in self.connections.values_mut().filter(|connection| connection.phase == Phase::Ready) {
            let mut news = Vec::new();
            for (number, link) in &mut connection.links {
                let Some(runs) = runs.get(number).filter(|runs| **runs != link.runs_told) else { continue };
                link.runs_told.clone_from(runs);
                news.push((*number, runs.iter().copied().collect()));
            }
            for (number, runs) in news {
                connection.send(Lane::Control, number, &Message::Sessions(runs));
            }
        }
    }

    pub(super) fn session_nodes(&self) -> Vec<String> {
        let ready = self.connections.values().filter(|connection| connection.phase == Phase::Ready);
        ready.filter_map(|connection| connection.peer.clone()).collect()
    }

    /// Says goodbye to all and takes no more calls. The driver then waits for [`Node::is_quiet`], for a limited time.
    pub fn stop(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(self.io.now());
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            self.farewell(id, Farewell::Stopping);
        }
    }

    /// It was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Notes that the run has ended in order. Only when it [`is_quiet`](Node::is_quiet).
    ///
    /// # Errors
    /// The registry can't be written; the next start then takes the run for one that was cut off.
    pub fn end_run(&self) -> Result<(), String> {
        self.registry.end().map_err(|error| error.to_string())
    }

    /// After [`Node::stop`]: everything that was recorded is durable, nobody is connected, no job runs.
    pub fn is_quiet(&self) -> bool {
        self.stopping.is_some()
            && self.connections.is_empty()
            && self.jobs_running == 0
            && !self.epoch.committing
            && !self.epoch.used
    }
}

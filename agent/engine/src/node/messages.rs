//! What peers say, and what is said to them.

use super::{Node, PeerState};
use crate::compare::Question;
use crate::connection::{Lane, Phase};
use crate::fetch::ReadBlock;
use crate::limits::{COVERS_DELAY, HEARTBEAT, REPLICAS};
use crate::link::Link;
use crate::moved::Moved;
use crate::publish::{Errand, Item};
use crate::stage::Source;
use crate::volume::Volume;
use std::collections::BTreeSet;
use std::sync::Arc;
use syncmesh_core::entry::{Body, Entry};
use syncmesh_core::path::RelativePath;
use syncmesh_core::summary::Sum;
use syncmesh_core::version::{Knowledge, ReplicaId};
use syncmesh_io::Io;
use syncmesh_protocol::frame;
use syncmesh_protocol::message::{self, Announced, Covers, Farewell, Hello, Message, Progress, Refusal, VERSIONS};

/// Why a session must end; the text goes to the log and the status.
type Ended = Option<String>;

/// Counts what a peer deletes and makes, for the guard.
fn errand(volume: &mut Volume, path: &RelativePath, entry: &Entry, now: u64) -> Errand {
    let guard = &mut volume.guard;
    let file = Moved::in_mesh(&entry.content.body);
    if entry.is_live() {
        file.into_iter().for_each(|file| guard.moved_there.appeared(file, path, now));
        return Errand::New;
    }
    file.into_iter().for_each(|file| guard.moved_there.vanished(file, path, now));
    if guard.passes_at_once(now) { Errand::FewDeletions } else { Errand::New }
}

impl<I: Io> Node<I> {
    pub(super) fn hello(&self) -> Hello {
        Hello {
            lowest: VERSIONS.0,
            highest: VERSIONS.1,
            node: self.node.clone(),
            replica: self.replica,
            wall_millis: self.wall_millis(),
            features: 0,
        }
    }

    /// Handles the whole frames at the front of `plain`; returns how many bytes they took, and why the session ends if it
    /// must.
    pub(super) fn frames(&mut self, id: u64, plain: &[u8]) -> (usize, Ended) {
        let mut used = 0;
        loop {
            match frame::decode(&plain[used..]) {
                Ok(None) => return (used, None),
                Err(error) => {
                    self.farewell(id, Farewell::Protocol);
                    return (used, Some(format!("the peer broke the protocol: {error}")));
                }
                Ok(Some(frame)) => {
                    used += frame.bytes;
                    self.counters.frames_received += 1;
                    if let Some(why) = self.message(id, frame.volume, frame.message, frame.bytes as u64) {
                        return (used, Some(why));
                    }
                    if !self.connections.contains_key(&id) {
                        return (used, None);
                    }
                }
            }
        }
    }

    fn message(&mut self, id: u64, theirs: u16, message: Message<'_>, bytes: u64) -> Ended {
        let connection = self.connections.get(&id)?;
        let number = connection.numbers.get(&theirs).copied();
        match (connection.phase, message) {
            (Phase::Handshake { .. }, Message::Hello(hello)) => return self.greet(id, &hello),
            (_, Message::Goodbye(why)) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.turned_away = matches!(
                        why,
                        Farewell::NotAMember | Farewell::Name | Farewell::Version | Farewell::Twin | Farewell::Revoked
                    );
                }
                if why == Farewell::Twin {
                    self.told_of_twin(id);
                }
                return Some(format!("the peer said goodbye: {why}"));
            }
            (Phase::Handshake { .. }, _) => return Some("the peer broke the protocol: no hello first".into()),
            (Phase::Closing { .. }, _) => {}
            (Phase::Ready, Message::Hello(_)) => return Some("the peer broke the protocol: a second hello".into()),
            (Phase::Ready, Message::Volume(volume)) => return self.volume_message(id, theirs, volume),
            (Phase::Ready, Message::Ping(number)) => {
                self.connections.get_mut(&id)?.send(Lane::Control, 0, &Message::Pong(number));
            }
            (Phase::Ready, Message::Pong(sent)) => {
                let now = self.io.now();
                let name = self.connections.get(&id)?.peer.clone()?;
                self.peers.get_mut(&name)?.rtt = Some(now.saturating_sub(sent));
            }
            (Phase::Ready, Message::Revoked(list)) => self.revoked_message(id, list),
            (Phase::Ready, Message::Sessions(runs)) => self.sessions_message(id, number?, runs),
            (Phase::Ready, Message::Replicas(list)) => self.replicas_message(list),
            // From here on messages are about a volume; ours may have gone, or theirs may be unknown here.
            (Phase::Ready, Message::Entries(entries)) => {
                return self.entries_message(id, number?, entries.rows, bytes);
            }
            (Phase::Ready, Message::Covers(covers)) => {
                if let Some(number) = number {
                    self.covers_message(id, number, covers);
                }
            }
            (Phase::Ready, Message::Paused(paused)) => {
                if let Some(number) = number {
                    self.connections.get_mut(&id)?.links.get_mut(&number)?.paused_there = paused;
                }
            }
            (Phase::Ready, Message::Filling(filling)) => {
                self.connections.get_mut(&id)?.links.get_mut(&number?)?.filling_there = filling;
            }
            (Phase::Ready, Message::Progress(progress)) => {
                let link = self.connections.get_mut(&id)?.links.get_mut(&number?)?;
                if !link.outgoing.advance(progress) {
                    return Some("the peer broke the protocol: it took more than it was sent".into());
                }
                let volume = self.volumes.get_mut(&number?)?;
                volume.copied = volume.copied.max(progress.visible.min(progress.durable));
            }
            (Phase::Ready, Message::Compare(compare)) => self.asked(id, number?, Question::Parts(compare)),
            (Phase::Ready, Message::Rows(rows)) => self.asked(id, number?, Question::Rows(rows)),
            (Phase::Ready, Message::Repair(repair)) => self.repair_message(id, number?, repair.rows),
            (Phase::Ready, Message::Request(request)) => {
                let read = ReadBlock {
                    volume: number?,
                    session: id,
                    id: request.id,
                    path: request.path,
                    hash: request.hash,
                    offset: request.offset,
                    length: request.length,
                };
                // A peer may ask for as much ahead as we would; what is more it must answer for.
                if self.block_requests.len() >= 16 * crate::limits::FETCH_BLOCKS {
                    return Some("the peer broke the protocol: too many requests at once".into());
                }
                self.block_requests.push_back(read);
            }
            (Phase::Ready, Message::Block(block)) => self.block_message(id, block.id, block.offset, block.bytes),
            (Phase::Ready, Message::Refused(fetch, why)) => {
                tracing::debug!(?why, "a block was refused");
                if let Some(refused) = self.fetches.get_mut(&fetch).filter(|fetch| fetch.session == id) {
                    if matches!(why, Refusal::Changed | Refusal::Unknown) {
                        refused.wanted.lacking.push(id);
                    }
                    self.end_fetch(fetch);
                }
            }
        }
        None
    }

    /// The other side's hello: from here on it is a peer, or it is turned away.
    fn greet(&mut self, id: u64, hello: &Hello) -> Ended {
        let now = self.io.now();
        let connection = self.connections.get(&id)?;
        let verified = connection.session.peer()?.to_owned();
        let refuse = |node: &mut Self, why: Farewell| {
            node.farewell(id, why);
            tracing::warn!(peer = %verified, why = why.reason_here(), "a peer was turned away");
            if let Some(peer) = node.peers.get_mut(&verified) {
                peer.last_error = Some(why.reason_here().to_owned());
            }
            None
        };
        if hello.node != verified || hello.node == self.node {
            return refuse(self, Farewell::Name);
        }
        if self.shows_revoked(connection) {
            self.cut_off(id);
            return None;
        }
        if !self.peers.contains_key(&verified) {
            return refuse(self, Farewell::NotAMember);
        }
        if hello.lowest > VERSIONS.1 || hello.highest < VERSIONS.0 {
            return refuse(self, Farewell::Version);
        }
        let ahead = self.wall_millis().cast_signed() - hello.wall_millis.cast_signed();
        if let Some(peer) = self.peers.get_mut(&verified) {
            peer.clock_behind = Some(ahead);
        }
        let skew = ahead.unsigned_abs();
        if skew > self.max_clock_skew_millis {
            tracing::warn!(peer = %verified, seconds = skew / 1000, "the peer's clock differs: set both by NTP");
        }
        let dialled = connection.dialled;
        // Of two sessions with one node the one that the lower name dialled stays; of equal ones the newer.
        let lower = self.node < verified;
        let preferred = |dialled: bool| dialled == lower;
        let others: Vec<u64> = self
            .connections
            .iter()
            .filter(|(other, c)| **other != id && c.phase == Phase::Ready && c.peer.as_deref() == Some(&verified))
            .map(|(other, _)| *other)
            .collect();
        for other in others {
            let theirs = self.connections.get(&other).is_some_and(|c| preferred(c.dialled));
            let same_run = self.peers.get(&verified).is_some_and(|peer| peer.replica == Some(hello.replica));
            if theirs && !preferred(dialled) && same_run {
                return refuse(self, Farewell::Redundant);
            }
            if !same_run && self.is_alive(other, now) {
                self.met_twin(&verified, now);
                return refuse(self, Farewell::Twin);
            }
            self.farewell(other, Farewell::Redundant);
            self.send(other);
            self.drop_connection(other);
        }
        let connection = self.connections.get_mut(&id)?;
        connection.phase = Phase::Ready;
        connection.peer = Some(verified.clone());
        // The next epoch says that there was a session, should power be lost.
        self.epoch.used = true;
        connection.ping_at = now + HEARTBEAT.as_nanos() as u64;
        if let Some(list) = &self.revoked {
            connection.send(Lane::Control, 0, &Message::Revoked(list.text()));
        }
        connection.send(Lane::Control, 0, &Message::Ping(now));
        let replicas: Vec<_> = self.replicas.iter().map(|(&replica, node)| (replica, node.clone())).collect();
        for part in replicas.chunks(syncmesh_protocol::limits::LIST_ITEMS) {
            connection.send(Lane::Control, 0, &Message::Replicas(part.to_vec()));
        }
        for volume in self.volumes.values().filter(|volume| volume.members.has(&verified)) {
            let peer = self.peers.get(&verified);
            let resume = peer.and_then(|peer| peer.resume.get(&volume.name)).copied();
            let message = Message::Volume(message::Volume {
                name: volume.name.clone(),
                policies: volume.policies.digest(),
                knowledge: volume.state.knowledge.clone(),
                forgotten: Knowledge::default(),
                resume,
                files: volume.state.counts.files,
                paused: volume.is_paused(),
                filling: volume.settings.get().filling,
            });
            connection.send(Lane::Control, volume.number, &message);
        }
        let same_run = self.peers.get(&verified).is_some_and(|peer| peer.replica == Some(hello.replica));
        if !same_run {
            // Versions of its earlier run may be lost there, and were left to it.
            let links = self.connections.values_mut().flat_map(|connection| connection.links.values_mut());
            links.for_each(|link| link.outgoing.start_again());
        }
        if let Some(peer) = self.peers.get_mut(&verified) {
            if peer.last_error.is_some() || peer.replica != Some(hello.replica) {
                tracing::info!(peer = %verified, "connected");
            }
            peer.state = PeerState::Session(id);
            peer.replica = Some(hello.replica);
            peer.told_of_twin = false;
        }
        self.replicas_message(vec![(hello.replica, verified)]);
        None
    }

    fn volume_message(&mut self, id: u64, theirs: u16, message: message::Volume) -> Ended {
        let number = self.volumes.values().find(|volume| volume.name == message.name).map(|v| v.number)?;
        let replica = self.replica;
        let (volume, connection) = (self.volumes.get_mut(&number)?, self.connections.get_mut(&id)?);
        let name = connection.peer.clone()?;
        if connection.links.contains_key(&number) {
            // Its stream would start again, and again.
            return Some("the peer broke the protocol: it named a volume a second time".into());
        }
        if !volume.members.has(&name) {
            tracing::debug!(volume = %volume.name, peer = %name, "a peer that doesn't keep a volume has named it");
            return None;
        }
        let path = syncmesh_core::path::RelativePath::root();
        if message.policies != volume.policies.digest() {
            let text = format!(
                "`conflicts` of {name} differs from this node's, so nothing is exchanged with it: make policy and rules the same on all nodes"
            );
            tracing::error!(volume = %volume.name, "{text}");
            volume.problem(path, text);
            return None;
        }
        volume.problems.retain(|at, text| !(at.is_root() && text.contains(&format!("`conflicts` of {name}"))));
        // What was left to makers hasn't been sent, wherever the stream stood, and the makers' word may not be taken yet.
        let left = self.peers.get_mut(&name).is_some_and(|peer| peer.left_to_makers.remove(&volume.name));
        let resume = message.resume.filter(|(run, at)| !left && *run == replica && *at <= volume.state.sequence);
        let position = resume.map_or(0, |(_, at)| at);
        let peer = self.peers.get(&name);
        let resume = peer.and_then(|peer| peer.resume.get(&volume.name).copied().filter(|r| Some(r.0) == peer.replica));
        let mut link = Link::new(message, position, resume.map_or(0, |(_, position)| position), theirs);
        link.outgoing.again = left;
        connection.numbers.insert(theirs, number);
        connection.links.insert(number, link);
        if volume.state.counts.wanted > 0 {
            volume.retry.attempt = 0;
            volume.retry.at(self.io.now());
        }
        self.tell_sessions();
        None
    }

    fn sessions_message(&mut self, id: u64, number: u16, runs: Vec<ReplicaId>) {
        let own = self.replica;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(link) = connection.links.get_mut(&number) else { return };
        // It hears from us what is ours.
        let runs: BTreeSet<ReplicaId> = runs.into_iter().filter(|run| *run != own).collect();
        let lost = link.runs_there.difference(&runs).next().is_some();
        link.runs_there = runs;
        if lost {
            // What was left to a maker that is gone from there is ours to send now.
            link.outgoing.start_again();
        }
    }

    /// Notes which nodes replicas belong to, and tells the others.
    pub(super) fn replicas_message(&mut self, list: Vec<(syncmesh_core::version::ReplicaId, String)>) {
        let room = REPLICAS.saturating_sub(self.replicas.len());
        let new = list.into_iter().filter(|(replica, _)| !self.replicas.contains_key(replica));
        let new = new.filter(|(_, node)| !self.forgotten.contains(node));
        let new: Vec<_> = new.take(room).collect();
        if new.is_empty() {
            return;
        }
        for (replica, node) in &new {
            Arc::make_mut(&mut self.replicas).insert(*replica, node.clone());
            self.record(&crate::journal::Record::Replica(*replica, node.clone()));
        }
        for connection in self.connections.values_mut().filter(|connection| connection.phase == Phase::Ready) {
            connection.send(Lane::Control, 0, &Message::Replicas(new.clone()));
        }
    }

    fn entries_message(&mut self, id: u64, number: u16, rows: Vec<Announced<'_>>, bytes: u64) -> Ended {
        let (now, wall) = (self.io.now(), self.wall_millis());
        let skew = self.max_clock_skew_millis;
        let (volume, connection) = (self.volumes.get_mut(&number)?, self.connections.get_mut(&id)?);
        let link = connection.links.get_mut(&number)?;
        if !link.incoming.has_credit() {
            return Some("the peer broke the protocol: it sent more entries than it has credit for".into());
        }
        let last = rows.len().saturating_sub(1);
        for (index, row) in rows.into_iter().enumerate() {
            let Announced { sequence, path, entry, contents } = row;
            link.incoming.receive(sequence, if index == last { bytes } else { 0 });
            self.clock.observe(entry.newest().hlc, wall, skew);
            if volume.state.knowledge.covers(&entry.vector) {
                link.incoming.record(sequence);
                continue;
            }
            let Some((directory, name)) = path.split() else {
                link.incoming.record(sequence);
                continue;
            };
            if entry.content.body.rank() > 0 {
                let written = entry.content.stamp.hlc.millis();
                volume.wanted_since = Some(volume.wanted_since.map_or(written, |since| since.min(written)));
            }
            let source = match contents {
                Some(contents) if matches!(entry.content.body, Body::File { .. }) => Source::Inline(contents.to_vec()),
                _ => Source::None,
            };
            let errand = errand(volume, &path, &entry, now);
            let item = Item { name, entry, source, stream: Some((id, sequence)), errand };
            volume.queue(directory, item);
        }
        self.learn(id, number);
        None
    }

    fn covers_message(&mut self, id: u64, number: u16, covers: Covers) {
        let Some(link) = self.connections.get_mut(&id).and_then(|c| c.links.get_mut(&number)) else { return };
        // What it says it knows it knows, whatever we have recorded.
        Arc::make_mut(&mut link.outgoing.knowledge).join(&covers.knowledge);
        link.comparing.told = Some((covers.knowledge.clone(), covers.sum));
        link.incoming.cover(covers);
        self.learn(id, number);
    }

    /// Takes over a peer's knowledge once everything before it is recorded.
    pub(super) fn learn(&mut self, id: u64, number: u16) {
        let (Some(volume), Some(connection)) = (self.volumes.get_mut(&number), self.connections.get_mut(&id)) else {
            return;
        };
        let Some(link) = connection.links.get_mut(&number) else { return };
        if let Some(covers) = link.incoming.learn()
            && !volume.state.knowledge.covers_all(&covers.knowledge)
        {
            volume.state.knowledge.join_without(&covers.knowledge, &covers.left_out);
            self.epoch.used = true;
        }
    }

    /// Tells every peer how far its stream has got, where that changed.
    pub(super) fn report_progress(&mut self) {
        for connection in self.connections.values_mut().filter(|connection| connection.phase == Phase::Ready) {
            let mut messages: Vec<(u16, Progress)> = Vec::new();
            for (&number, link) in &mut connection.links {
                let Some(volume) = self.volumes.get(&number) else { continue };
                // No epoch ends for what is known already.
                if volume.durable == volume.state.sequence {
                    link.incoming.durable = link.incoming.journalled;
                }
                let progress = link.incoming.progress(volume.state.counts.wanted == 0);
                if link.incoming.told != Some(progress) {
                    link.incoming.told = Some(progress);
                    messages.push((number, progress));
                }
            }
            for (number, progress) in messages {
                connection.send(Lane::Control, number, &Message::Progress(progress));
                self.counters.frames_sent += 1;
            }
        }
    }

    /// Tells peers that have been sent everything what they know once they have recorded it.
    pub(super) fn tell_knowledge(&mut self, now: u64) {
        for connection in self.connections.values_mut().filter(|connection| connection.phase == Phase::Ready) {
            let mut messages = Vec::new();
            let own = connection.peer.as_ref().and_then(|name| self.peers.get(name)?.replica);
            for (&number, link) in &mut connection.links {
                let makers = link.makers(own);
                let Some(volume) = self.volumes.get(&number).filter(|volume| !volume.stands_still()) else { continue };
                let out = &mut link.outgoing;
                let end = volume.state.sequence;
                let at_end = out.position >= end && !out.collecting && volume.tellable() == end;
                let knowledge = &volume.state.knowledge;
                let sum = volume.state.sum;
                let same = |(at, told, total): &(u64, Knowledge, Sum)| *at == end && *total == sum && told == knowledge;
                let news = !out.covered.as_ref().is_some_and(same);
                if !at_end || !news {
                    continue;
                }
                let due = *out.cover_at.get_or_insert(if out.sent_since || out.covered.is_none() {
                    now
                } else {
                    now + COVERS_DELAY.as_nanos() as u64
                });
                if due > now {
                    continue;
                }
                out.cover_at = None;
                out.sent_since = false;
                out.covered = Some((end, knowledge.clone(), sum));
                if !out.left_to_makers {
                    out.tell(end, knowledge.clone());
                }
                let left_out = if out.left_to_makers { makers.into_iter().collect() } else { Vec::new() };
                messages.push((number, Covers { sequence: end, knowledge: knowledge.clone(), left_out, sum }));
            }
            for (number, covers) in messages {
                connection.send(Lane::Small, number, &Message::Covers(covers));
                self.counters.frames_sent += 1;
            }
        }
    }
}

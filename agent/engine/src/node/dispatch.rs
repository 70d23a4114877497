//! Starting what is due: epochs, scans, applies, collections, fetches, retries.

use super::follow::heard;
use super::unsynced::Unsynced;
use super::{Closing, Fetch, Node, PeerState};
use crate::announce::Collect;
use crate::connection::{Lane, Phase};
use crate::epoch::Commit;
use crate::fetch::{FETCH_SLOT, ReadBlock, StageBlock};
use crate::job::{Job, Sweep};
use crate::limits::{
    APPLY_ITEMS, EPOCH, EPOCH_ROWS_BYTES, FETCH_BLOCKS, FETCH_WINDOW, FETCHES, JOBS, PLACE, PRUNE, RECOUNT, SCAN_JOBS,
    SYNC,
};
use crate::publish::{Apply, Item};
use crate::registry::Last;
use crate::scan::{Scan, Scope};
use crate::second_names::Seek;
use crate::stage::Source;
use crate::unsynced::Sync;
use crate::verify::Verify;
use crate::volume::{FetchWanted, Reading, Volume};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use syncmesh_core::entry::Origin;
use syncmesh_core::limits::BLOCK_BYTES;
use syncmesh_core::path::RelativePath;
use syncmesh_io::Io;
use syncmesh_protocol::message::{Message, Request};

impl<I: Io> Node<I> {
    pub(super) fn tick(&mut self) {
        let now = self.io.now();
        self.now = now;
        self.tend_rights(now);
        self.watch_clock(now);
        self.tend_listener(now);
        self.tend_peers(now);
        self.tend_epoch(now);
        self.tend_closing(now);
        self.tend_unsynced(now);
        self.start_blocks();
        self.start_applies();
        self.start_collects();
        self.start_scans(now);
        self.start_fetches();
        self.start_sweeps(now);
        self.tend_guards(now);
        self.tend_suspects(now);
        self.tend_open(now);
        self.tend_roles();
        self.tell_knowledge(now);
        self.tend_comparisons(now);
        self.note_sync(now);
    }

    /// When the loop must wake without an event.
    pub(super) fn next_due(&self) -> Option<u64> {
        let mut due = Vec::with_capacity(8);
        due.extend(self.accept_at.filter(|_| self.stopping.is_none()));
        for peer in self.peers.values() {
            if let PeerState::Waiting(at) = peer.state
                && self.stopping.is_none()
                && at != u64::MAX
            {
                due.push(at);
            }
        }
        for connection in self.connections.values() {
            match connection.phase {
                Phase::Handshake { deadline } | Phase::Closing { deadline } => due.push(deadline),
                Phase::Ready => due.push(connection.ping_at),
            }
            due.extend(connection.links.values().filter_map(|link| link.outgoing.cover_at));
            due.extend(connection.links.values().filter_map(|link| link.comparing.again));
        }
        for volume in self.volumes.values() {
            due.extend(volume.unsynced.as_ref().and_then(Unsynced::due));
            let is_asked = || self.block_requests.iter().any(|read| read.volume == volume.number);
            due.extend(Some(volume.pace.due()).filter(|&due| due > self.now && is_asked()));
            if volume.stands_still() {
                continue;
            }
            due.extend(volume.dirty.next_due().filter(|_| self.stopping.is_none()));
            due.extend(volume.retry.due.filter(|_| !volume.retry.running));
            due.extend(volume.guard.due(&volume.state.counts, volume.settings.get().settle));
            due.extend(volume.guard.overdue());
            due.extend(volume.recount.due);
            due.extend(volume.second_names.due().filter(|_| volume.scanned && self.stopping.is_none()));
            due.extend(volume.open.due().filter(|_| volume.scanned && self.stopping.is_none()));
            due.extend((volume.scanned && self.stopping.is_none()).then_some(volume.placed + PLACE.as_nanos() as u64));
        }
        due.extend(self.rights.values().map(|(_, until)| *until));
        due.extend(self.epoch.closing.as_ref().map(|closing| closing.began + SYNC.as_nanos() as u64));
        if self.epoch.used && !self.epoch.committing {
            due.push(self.epoch.opened + EPOCH.as_nanos() as u64);
        }
        // What was due at this turn and wasn't started waits for a job or for room: their end wakes the loop, not time.
        due.into_iter().filter(|&at| at > self.now).min()
    }

    pub(super) fn start(&mut self, job: Job) {
        self.jobs_running += 1;
        self.jobs.push(job);
    }

    /// Is it time to end the open epoch? Applies then wait for a moment, so that the journal that goes has no intent whose
    /// row comes later.
    pub(super) fn epoch_is_over(&self, now: u64) -> bool {
        let full = self.registry.open_bytes() >= EPOCH_ROWS_BYTES;
        let old = now >= self.epoch.opened + EPOCH.as_nanos() as u64 || self.stopping.is_some();
        let waited_for = self.volumes.values().any(Volume::waits_for_epoch);
        self.epoch.used && !self.epoch.committing && (full || old || waited_for) && self.epoch.next_log.is_some()
    }

    fn tend_epoch(&mut self, now: u64) {
        if !self.epoch.used {
            self.epoch.opened = now;
        }
        // The append that is under way belongs to the journal that would go.
        let unfinished = self.epoch.applies > 0 || self.epoch.displaced > 0;
        let reading_back = self.volumes.values().any(Volume::is_reading_back);
        if !self.epoch_is_over(now)
            || unfinished
            || reading_back
            || self.journal.appending
            || !self.journal.buffer.is_empty()
        {
            return;
        }
        let Some(next) = self.epoch.next_log.take() else { return };
        self.registry.close_epoch();
        for connection in self.connections.values_mut() {
            for link in connection.links.values_mut() {
                link.incoming.closing = link.incoming.recorded();
            }
        }
        self.last = Last { epoch: self.epoch.number, boot: self.boot.clone(), sessions: self.session_nodes() };
        let mut commit = Commit {
            epoch: self.epoch.number,
            log: self.epoch.log,
            ahead: self.epoch.number + 2,
            began_millis: (self.io.wall() - (now - self.epoch.opened)) / 1_000_000,
            synced: BTreeSet::new(),
            left_out: BTreeSet::new(),
            back: Vec::new(),
            stored: self.stored(),
        };
        for volume in self.volumes.values_mut() {
            volume.closing = volume.state.sequence;
            // One that hangs, or that stands still, is looked after elsewhere.
            if std::mem::take(&mut volume.touched) && volume.unsynced.is_none() && !volume.syncing {
                volume.syncing = true;
                commit.synced.insert(volume.number);
            }
        }
        self.epoch.number += 1;
        self.epoch.log = next;
        self.epoch.opened = now;
        self.epoch.used = false;
        self.epoch.committing = true;
        self.begin_journal();
        let waits = commit.synced.clone();
        for volume in waits.iter().copied() {
            self.start(Job::Sync(Sync { volume }));
        }
        self.epoch.closing = Some(Closing { commit, waits, began: now });
    }

    /// The first record of an epoch's journal.
    pub(super) fn begin_journal(&mut self) {
        let header = crate::journal::Record::Header {
            format: crate::journal::FORMAT,
            boot: self.boot.clone(),
            replica: self.replica,
            epoch: self.epoch.number,
            sessions: self.session_nodes(),
        };
        crate::journal::encode(&header, &mut self.journal.buffer);
    }

    fn start_scans(&mut self, now: u64) {
        if self.stopping.is_some() || !self.has_room() {
            return;
        }
        let running: usize = self.volumes.values().map(|volume| volume.scans).sum();
        let mut free = SCAN_JOBS.saturating_sub(running).min(JOBS.saturating_sub(self.jobs_running));
        let mut jobs = Vec::new();
        for volume in self.volumes.values_mut().filter(|volume| !volume.stands_still()) {
            while free > 0
                && let Some((directory, scope)) = volume.next_look(now)
            {
                volume.busy.insert(directory.clone());
                volume.scans += 1;
                volume.glances += usize::from(matches!(scope, Scope::Unsure(_)));
                self.counters.scans += 1;
                free -= 1;
                jobs.push(Job::Scan(Scan { volume: volume.number, directory, scope }));
            }
            if !volume.scanned && volume.scans == 0 && !volume.dirty.whole_due(now) {
                volume.scanned = true;
                volume.meets = false;
                volume.recount.due = Some(now + RECOUNT.0.as_nanos() as u64);
                if std::mem::take(&mut volume.state.finds) != Origin::Written {
                    self.epoch.used = true;
                }
                tracing::info!(volume = %volume.name, files = volume.state.counts.files, "the first scan is over");
            }
        }
        jobs.into_iter().for_each(|job| self.start(job));
    }

    fn start_applies(&mut self) {
        let now = self.io.now();
        let pause = !self.has_room() || self.epoch_is_over(now) || self.stopping.is_some();
        if pause && self.epoch.displaced == 0 {
            return;
        }
        let wall = self.wall_millis();
        let mut jobs = Vec::new();
        for volume in self.volumes.values_mut().filter(|volume| volume.scanned && volume.failed.is_none()) {
            let stands_still = volume.stands_still();
            while self.jobs_running + jobs.len() < JOBS {
                // Versions that exist only in a slot get a name also while the volume stands still: the journal waits for it.
                let may_go = |item: &Item| !stands_still || matches!(item.source, Source::Displaced(_));
                let ready = |(directory, items): &(&RelativePath, &VecDeque<Item>)| {
                    !volume.busy.contains(*directory) && items.front().is_some_and(may_go)
                };
                let free = volume.incoming.iter().find(ready).map(|(directory, _)| directory.clone());
                let Some(directory) = free else { break };
                let Some(queue) = volume.incoming.get_mut(&directory) else { break };
                let mut names = BTreeSet::new();
                let mut items = Vec::new();
                while items.len() < APPLY_ITEMS
                    && let Some(item) = queue.pop_front_if(|item| may_go(item) && names.insert(item.name.clone()))
                {
                    items.push(item);
                }
                if queue.is_empty() {
                    volume.incoming.remove(&directory);
                }
                let overdue = volume.open.overdue(
                    volume.number,
                    &directory,
                    &items,
                    now.saturating_sub(volume.settings.get().open_wait),
                );
                volume.busy.insert(directory.clone());
                volume.touched = true;
                self.epoch.applies += 1;
                self.epoch.used = true;
                jobs.push(Job::Apply(Apply {
                    volume: volume.number,
                    directory,
                    items,
                    log: self.epoch.log,
                    replica: self.replica,
                    replicas: Arc::clone(&self.replicas),
                    now_millis: wall,
                    overdue,
                    heard: heard(&self.connections, &self.peers, volume),
                    beside: volume.keeps_beside(),
                }));
            }
        }
        jobs.into_iter().for_each(|job| self.start(job));
    }

    fn start_collects(&mut self) {
        let mut jobs = Vec::new();
        for (&id, connection) in &mut self.connections {
            if connection.phase != Phase::Ready {
                continue;
            }
            let own = connection.peer.as_deref().and_then(|name| self.peers.get(name)?.replica);
            for (&number, link) in &mut connection.links {
                let Some(volume) = self.volumes.get(&number).filter(|volume| !volume.stands_still()) else { continue };
                let makers = link.makers(own);
                let out = &mut link.outgoing;
                if out.collecting
                    || out.position >= volume.tellable()
                    || !out.has_credit()
                    || self.jobs_running + jobs.len() >= JOBS
                {
                    continue;
                }
                out.collecting = true;
                jobs.push(Job::Collect(Collect {
                    volume: number,
                    session: id,
                    position: out.position,
                    tellable: volume.tellable(),
                    knowledge: Arc::clone(&out.knowledge),
                    elsewhere: Arc::new(makers),
                    with_contents: volume.may_send(self.now),
                }));
            }
        }
        jobs.into_iter().for_each(|job| self.start(job));
    }

    /// Blocks that peers asked for, and blocks that came; small jobs that keep transfers going.
    fn start_blocks(&mut self) {
        while self.jobs_running < JOBS
            && let Some(stage) = self.stage_ready.pop_front()
        {
            self.start(Job::StageBlock(stage));
        }
        self.block_requests.retain(|read| self.connections.contains_key(&read.session));
        while self.jobs_running < JOBS
            && let Some(next) = self.block_requests.iter().position(|read| self.may_read(read))
            && let Some(read) = self.block_requests.remove(next)
        {
            self.blocks_reading.insert(read.session);
            if let Some(volume) = self.volumes.get_mut(&read.volume) {
                volume.sends(u64::from(read.length), self.now);
            }
            self.start(Job::ReadBlock(read));
        }
    }

    /// One at a time for each session: its blocks go out in the order in which they were asked for, but for volumes that
    /// have sent as much as they may. Bulk waits in the registry of requests, not in memory.
    fn may_read(&self, read: &ReadBlock) -> bool {
        let waiting = self.connections.get(&read.session).map(|connection| connection.waiting(Lane::Bulk));
        !self.blocks_reading.contains(&read.session)
            && waiting.is_some_and(|waiting| waiting <= 4 * BLOCK_BYTES as usize)
            && self.volumes.get(&read.volume).is_none_or(|volume| volume.may_send(self.now))
    }

    fn start_fetches(&mut self) {
        let running = self.volumes.values().filter(|volume| !volume.stands_still());
        let numbers: Vec<u16> = running.map(|volume| volume.number).collect();
        let wants = |volume: &&Volume| {
            !volume.fetch_queue.is_empty() || self.fetches.values().any(|fetch| fetch.volume == volume.number)
        };
        let wanting = self.volumes.values().filter(wants).count().max(1);
        for number in numbers {
            while self.may_begin_fetch(number, wanting) {
                let Some(wanted) = self.volumes.get_mut(&number).and_then(|volume| volume.fetch_queue.pop_front())
                else {
                    break;
                };
                let fetching = self.fetches.values().map(|fetch| &fetch.wanted);
                let is_same = |other: &FetchWanted| other.key == wanted.key && other.from == wanted.from;
                if fetching.chain(self.reuses.values()).any(is_same) {
                    continue;
                }
                if !wanted.looked_here {
                    self.look_here(wanted);
                    continue;
                }
                let Some(session) = self.holder(number, &wanted) else {
                    let now = self.io.now();
                    if let Some(volume) = self.volumes.get_mut(&number) {
                        volume.retry.later(now);
                    }
                    continue;
                };
                let id = self.next_id;
                self.next_id += 1;
                let fetch = Fetch {
                    volume: number,
                    wanted,
                    slot: 0,
                    session,
                    ask: 0,
                    expect: 0,
                    blocks: VecDeque::new(),
                    staged: 0,
                    hasher: Some(Box::default()),
                    cancelled: false,
                };
                self.fetches.insert(id, fetch);
            }
        }
        // Requests, a few ahead for each file, until the blocks on the way are as many as memory allows.
        let mut on_the_way: BTreeMap<u16, usize> = BTreeMap::new();
        for fetch in self.fetches.values().filter(|fetch| !fetch.cancelled) {
            *on_the_way.entry(fetch.volume).or_default() += fetch.on_the_way();
        }
        for (&id, fetch) in &mut self.fetches {
            let ahead = FETCH_WINDOW * BLOCK_BYTES;
            let its = on_the_way.entry(fetch.volume).or_default();
            while !fetch.cancelled
                && (self.fetch_blocks < FETCH_BLOCKS || *its < (FETCH_BLOCKS / wanting).max(1))
                && fetch.ask < fetch.wanted.size
                && fetch.ask < fetch.staged + ahead
            {
                let Some(connection) = self.connections.get_mut(&fetch.session) else { break };
                let length = BLOCK_BYTES.min(fetch.wanted.size - fetch.ask);
                let message = Message::Request(Request {
                    id,
                    path: fetch.wanted.key.path(),
                    hash: fetch.wanted.hash,
                    offset: fetch.ask,
                    length: length as u32,
                });
                connection.send(Lane::Control, fetch.volume, &message);
                fetch.ask += length;
                self.fetch_blocks += 1;
                *its += 1;
            }
        }
    }

    /// Is there room for one more fetch? For a volume that has less than its share always: what others fetch may be sent slowly.
    fn may_begin_fetch(&self, number: u16, wanting: usize) -> bool {
        let reuses = self.reuses.values().filter(|wanted| wanted.key.volume == number).count();
        let own = self.fetches.values().filter(|fetch| fetch.volume == number).count() + reuses;
        self.fetches.len() + self.reuses.len() < FETCHES || own < (FETCHES / wanting).max(1)
    }

    /// The session to fetch from: of those that know the version and haven't refused it, the one with the fewest fetches,
    /// the version's maker before others.
    fn holder(&self, number: u16, wanted: &FetchWanted) -> Option<u64> {
        let maker = self.replicas.get(&wanted.dot.replica);
        let sessions = self.connections.iter().filter(|(_, connection)| connection.phase == Phase::Ready);
        let holders = sessions.filter_map(|(&id, connection)| {
            let is_maker = connection.peer.as_ref() == maker;
            let knows = connection.links.get(&number)?.outgoing.knowledge.contains(wanted.dot);
            let busy = self.fetches.values().filter(|fetch| fetch.session == id).count();
            ((knows || is_maker) && !wanted.refused.contains(&id)).then_some((busy, !is_maker, id))
        });
        holders.min().map(|(_, _, id)| id)
    }

    /// A block came.
    pub(super) fn block_message(&mut self, session: u64, id: u64, offset: u64, bytes: &[u8]) {
        let Some(fetch) = self.fetches.get_mut(&id).filter(|fetch| fetch.session == session && !fetch.cancelled) else {
            return;
        };
        let length = BLOCK_BYTES.min(fetch.wanted.size - fetch.expect);
        if offset != fetch.expect || bytes.len() as u64 != length || fetch.expect >= fetch.ask {
            // Not what was asked for: the file changed under it, or the peer is confused. The retry asks anew.
            self.end_fetch(id);
            return;
        }
        fetch.expect += length;
        fetch.blocks.push_back(bytes.to_vec());
        self.counters.fetched_bytes += length;
        self.stage_next(id);
    }

    /// Hands the next block of a fetch to a job, if none has the hash.
    pub(super) fn stage_next(&mut self, id: u64) {
        let Some(fetch) = self.fetches.get_mut(&id) else { return };
        if fetch.blocks.is_empty() {
            return;
        }
        let Some(hasher) = fetch.hasher.take() else { return };
        if fetch.slot == 0 {
            fetch.slot = id | FETCH_SLOT;
        }
        // Several blocks that wait become one write.
        let mut bytes = fetch.blocks.pop_front().unwrap_or_default();
        let mut blocks = 1;
        while let Some(more) = fetch.blocks.pop_front() {
            bytes.extend_from_slice(&more);
            blocks += 1;
        }
        let end = fetch.staged + bytes.len() as u64;
        let stage = StageBlock {
            volume: fetch.volume,
            fetch: id,
            slot: fetch.slot,
            offset: fetch.staged,
            bytes,
            hasher,
            last: (end == fetch.wanted.size).then_some(end),
            sparse: fetch.wanted.sparse,
        };
        fetch.staged = end;
        self.fetch_blocks = self.fetch_blocks.saturating_sub(blocks);
        if let Some(volume) = self.volumes.get_mut(&stage.volume) {
            volume.touched = true;
        }
        self.stage_ready.push_back(stage);
    }

    /// Gives a fetch up; what it was for is tried again later.
    pub(super) fn end_fetch(&mut self, id: u64) {
        let now = self.io.now();
        let Some(fetch) = self.fetches.get_mut(&id) else { return };
        if !fetch.cancelled {
            self.fetch_blocks = self.fetch_blocks.saturating_sub(fetch.on_the_way());
            fetch.blocks.clear();
            fetch.cancelled = true;
            if let Some(volume) = self.volumes.get_mut(&fetch.volume) {
                volume.retry.later(now);
            }
        }
        if fetch.hasher.is_none() {
            return;
        }
        let Some(mut fetch) = self.fetches.remove(&id) else { return };
        if fetch.slot != 0 {
            self.start(Job::DropSlot(fetch.volume, fetch.slot));
        }
        fetch.wanted.refused.push(fetch.session);
        if self.is_lost(&fetch.wanted) {
            return self.declare_lost(fetch.volume, &fetch.wanted.key);
        }
        if self.is_nowhere(&fetch.wanted) {
            self.cant_be_put_back(&fetch.wanted);
        }
        if self.holder(fetch.volume, &fetch.wanted).is_some()
            && let Some(volume) = self.volumes.get_mut(&fetch.volume)
        {
            volume.fetch_queue.push_back(fetch.wanted);
        }
    }

    fn start_sweeps(&mut self, now: u64) {
        let mut jobs = Vec::new();
        for volume in self.volumes.values_mut().filter(|volume| volume.scanned) {
            let may_go = self.stopping.is_none() && !volume.stands_still();
            if may_go && !volume.retry.running && volume.retry.due.is_some_and(|due| due <= now) {
                volume.retry.due = None;
                volume.retry.running = true;
                jobs.push(Job::Wanted(volume.number, Sweep::Retry, volume.retry.after.take()));
            }
            if now >= volume.placed + PLACE.as_nanos() as u64 && self.stopping.is_none() {
                volume.placed = now;
                jobs.push(Job::Place(volume.number));
            }
            if may_go && let Some((files, after)) = volume.second_names.next(now) {
                jobs.push(Job::Seek(Seek { volume: volume.number, files, after }));
            }
            if may_go && let Reading::Next(after) = &mut volume.reading {
                jobs.push(Job::Verify(Verify { volume: volume.number, after: after.take() }));
                volume.reading = Reading::Running;
            }
            if now >= volume.pruned + PRUNE.0.as_nanos() as u64 && self.stopping.is_none() {
                let thorough = now >= volume.thoroughly_pruned + PRUNE.1.as_nanos() as u64;
                volume.pruned = now;
                volume.thoroughly_pruned = if thorough { now } else { volume.thoroughly_pruned };
                jobs.push(Job::Prune(volume.number, self.io.wall() / 1_000_000, thorough));
            }
        }
        jobs.into_iter().for_each(|job| self.start(job));
    }
}

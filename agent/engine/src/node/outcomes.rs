//! What came of jobs: findings become versions, applied versions become rows, collected rows become messages.

use super::Node;
use crate::connection::{Lane, Phase};
use crate::epoch::Committed;
use crate::fetch::{BlockRead, StagedBlock, wanted_file};
use crate::job::Done;
use crate::job::Sweep;
use crate::journal::Record;
use crate::limits::FETCH_QUEUE;
use crate::moved::Moved;
use crate::publish::{Applied, AppliedItem, Cause, Errand, Fate, Item};
use crate::record::{over_unseen, record, version};
use crate::registry::{Key, conflicts};
use crate::scan::{Finding, Findings, Presence, Scanned, Scope, What};
use crate::stage::Source;
use crate::suspect::is_suspect;
use crate::volume::FetchWanted;
use syncmesh_core::clock::Hlc;
use syncmesh_core::entry::{Body, Entry, Identity, Row, Stamp, Why};
use syncmesh_core::limits::BLOCK_BYTES;
use syncmesh_core::path::{Name, RelativePath};
use syncmesh_core::version::Dot;
use syncmesh_io::{FsError, Io};
use syncmesh_protocol::limits::{BATCH_BYTES, BATCH_ENTRIES};
use syncmesh_protocol::message::{Announced, Block, Entries, Message};

/// A directory or name that can't be read is looked at again after this many nanoseconds.
const UNREADABLE_RETRY: u64 = 10_000_000_000;

/// How what the status says of a name that can't be read begins.
const UNREADABLE: &str = "can't be read: ";

impl<I: Io> Node<I> {
    pub(super) fn outcome(&mut self, done: Done) {
        if !matches!(done, Done::Findings(_)) {
            self.jobs_running -= 1;
        }
        if let Some(volume) = done.worked_on().and_then(|number| self.volumes.get_mut(&number)) {
            volume.jobs -= 1;
        }
        match done {
            Done::Findings(findings) => self.findings(findings),
            Done::Scanned(scanned) => self.scanned(scanned),
            Done::Applied(applied) => self.applied(applied),
            Done::Collected(collected) => self.collected(collected),
            Done::BlockRead(read) => self.block_read(read),
            Done::Reused(reused) => self.reused(reused),
            Done::BlockStaged(staged) => self.block_staged(staged),
            Done::Wanted(number, Sweep::Retry, rows, more) => self.swept(number, rows, more),
            Done::Wanted(number, Sweep::Held, rows, more) => self.judged(number, rows, more),
            Done::Wanted(number, Sweep::Suspects, rows, more) => self.suspects(number, rows, more),
            Done::Lingered(lingered) => self.lingered(lingered),
            Done::Placed(number, placed) => self.placed(number, placed == Ok(true)),
            Done::Compared(compared) => self.compared(compared),
            Done::Sought(found) => {
                if let Some(volume) = self.volumes.get_mut(&found.volume) {
                    volume.second_names.sought(found, &mut volume.dirty, self.io.now());
                }
            }
            Done::Tidied => {}
            Done::Mentioned(mentioned) => self.mentioned(mentioned),
            Done::Verified(verified) => self.verified(verified),
            Done::Resolved(peer, result) => self.resolved(&peer, result),
            Done::Committed(committed) => self.committed(committed),
            Done::Synced(synced) => self.synced(synced),
            Done::HasReadBack(back) => self.has_read_back(back),
            Done::Broken(why) => self.fail(why),
        }
    }

    /// An epoch is durable, but for the volumes that were left out.
    fn committed(&mut self, committed: Committed) {
        self.epoch.committing = false;
        match (committed.error, committed.ahead) {
            (None, Ok(log)) => self.epoch.next_log = Some(log),
            (Some(error), _) => return self.fail(format!("an epoch can't be made durable: {error}")),
            (None, Err(error)) => return self.fail(format!("the next journal can't be opened: {error}")),
        }
        self.counters.epochs += 1;
        let is_in = |number: &u16| !committed.left_out.contains(number);
        for volume in self.volumes.values_mut().filter(|volume| is_in(&volume.number)) {
            volume.durable = volume.closing;
            if committed.synced.contains(&volume.number) {
                volume.state.synced_millis = committed.began_millis;
            }
            if committed.back.contains(&volume.number) {
                (volume.noted, volume.failed_syncs) = (false, 0);
            }
        }
        for connection in self.connections.values_mut() {
            for (_, link) in connection.links.iter_mut().filter(|(number, _)| is_in(number)) {
                link.incoming.durable = link.incoming.closing.max(link.incoming.durable);
            }
        }
    }

    /// Local changes become versions.
    fn findings(&mut self, findings: Findings) {
        let now = self.io.now();
        let Findings { volume: number, directory, findings, seen, directories } = findings;
        for finding in findings {
            self.finding(number, &directory, finding);
        }
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        for seen in seen {
            volume.second_names.seen(&directory, seen, !volume.scanned, &mut volume.dirty, now);
        }
        for name in directories {
            if let Ok(path) = directory.join(&name) {
                volume.dirty.mark_all(&path, true, now);
            }
        }
    }

    fn finding(&mut self, number: u16, directory: &RelativePath, finding: Finding) {
        let (now, wall, replica) = (self.io.now(), self.wall_millis(), self.replica);
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        let key = Key { volume: number, directory: directory.clone(), name: finding.name.clone() };
        let path = key.path();
        volume.problems.remove(&path);
        if matches!(finding.what, What::Vanished) {
            volume.dirty.mark_all(&path, true, now);
            return;
        }
        if self.takes_back(&key, &finding) {
            return;
        }
        if matches!(finding.what, What::Removed) && self.withhold(&key, finding.row.as_ref()) {
            return;
        }
        let unseen = self.unseen(&key, finding.row.as_ref().and_then(Row::base));
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        let is_new = finding.row.as_ref().and_then(Row::base).is_none_or(|base| !base.is_live());
        if let (true, What::Content { body: Body::File { .. } | Body::Symlink { .. }, identity, .. }) =
            (is_new, &finding.what)
        {
            let moment = volume.moment(now);
            volume.guard.moved_here.appeared(Moved::on_disk(identity), &path, moment);
        }
        // What power loss made doubtful was there before this start, too.
        let first = !volume.scanned || finding.row.as_ref().is_some_and(is_suspect);
        let mtime = match &finding.what {
            What::Content { body: Body::File { mtime, .. } | Body::Symlink { mtime, .. }, .. } => Some(*mtime),
            _ => None,
        };
        let origin = volume.state.finds;
        let clock = &mut self.clock;
        let dot = Dot { replica, counter: volume.counter + 1 };
        let stamp = |over: Option<&Entry>| {
            // What a first scan meets was written some time ago: it mustn't win over a later edit elsewhere.
            let hlc = match mtime {
                Some(mtime) if first => {
                    let written = wall.min(u64::try_from(mtime / 1_000_000).unwrap_or(0));
                    Hlc::written(written, over.map(|entry| entry.newest().hlc))
                }
                _ => clock.stamp(wall, over.map(|entry| entry.newest().hlc)),
            };
            Stamp { hlc, dot }
        };
        let Some(recorded) = record(&finding, origin, unseen, stamp) else { return };
        let mut row = recorded.row;
        if recorded.is_version {
            let dot = volume.next_dot(replica);
            volume.state.knowledge.add(dot);
            self.counters.versions_made += 1;
        }
        let wanted = row.wanted.as_ref().and_then(|wanted| wanted.entries.first()).cloned();
        if let Some(entry) = wanted {
            // What waited for this look is decided now.
            let item =
                Item { name: finding.name.clone(), entry, source: Source::None, stream: None, errand: Errand::New };
            volume.queue(directory.clone(), item);
        }
        if matches!(finding.what, What::Content { body: Body::Directory, .. }) {
            volume.dirty.mark_all(&path, true, now);
        }
        if let (false, Some(old)) = (recorded.is_version, finding.row.as_ref()) {
            let old = Some(old);
            row.sequence = old.map_or(0, |row| row.sequence);
            volume.count(&key, old, &row);
            self.keep(key, row);
            return;
        }
        volume.touched = true;
        self.put(key, finding.row.as_ref(), row);
    }

    /// A row with a new version: the next sequence number, counted, recorded, journalled.
    fn put(&mut self, key: Key, old: Option<&Row>, mut row: Row) {
        let replica = self.replica;
        let Some(volume) = self.volumes.get_mut(&key.volume) else { return };
        volume.state.sequence += 1;
        row.sequence = volume.state.sequence;
        for entry in row.entries() {
            volume.state.knowledge.add_vector(&entry.vector);
            if entry.vector.dots().iter().any(|dot| dot.replica == replica) {
                volume.made = row.sequence;
            }
        }
        volume.count(&key, old, &row);
        self.keep(key, row);
    }

    pub(super) fn keep(&mut self, key: Key, row: Row) {
        self.record(&Record::Row(key.clone(), row.clone()));
        self.registry.put(key, row);
    }

    fn scanned(&mut self, scanned: Scanned) {
        let now = self.io.now();
        let Some(volume) = self.volumes.get_mut(&scanned.volume) else { return };
        let directory = &scanned.directory;
        volume.busy.remove(directory);
        volume.scans -= 1;
        volume.glances -= usize::from(matches!(scanned.scope, Scope::Unsure(_)));
        if let Some(watch) = scanned.watch
            && volume.watches.insert(watch, directory)
        {
            volume.dirty.mark_all(directory, true, now);
        }
        if volume.scans == 0 {
            volume.watches.forget_early();
        }
        if scanned.state.is_ok() {
            // Whatever it turned out to be, also nothing: it was looked at.
            let is_seen = |name: &Name| match &scanned.scope {
                Scope::All { .. } => true,
                Scope::Names(names) | Scope::Unsure(names) => names.contains(name),
            };
            let is_here =
                |path: &RelativePath| path.split().is_some_and(|(at, name)| at == *directory && is_seen(&name));
            volume.problems.retain(|path, text| !(text.starts_with(UNREADABLE) && is_here(path)));
        }
        for name in scanned.unstable {
            volume.dirty.mark(directory, name, now, volume.settings.get().settle);
        }
        volume.look_again(directory, scanned.unsure, now);
        for (name, error) in scanned.unreadable {
            if let Ok(path) = directory.join(&name) {
                if scanned.scope == (Scope::All { recurse: true }) {
                    // Should it be a directory, nobody has looked into it yet.
                    volume.dirty.mark_all(&path, true, now + UNREADABLE_RETRY);
                }
                volume.problem(path, format!("{UNREADABLE}{error}"));
            }
            volume.dirty.mark(directory, name, now, UNREADABLE_RETRY);
        }
        match scanned.state {
            Ok(Presence::There) => {
                if directory.is_root() {
                    volume.failed = None;
                }
                if let Some((parent, name)) = directory.split().filter(|_| scanned.emptied) {
                    volume.dirty.mark(&parent, name, now, 0);
                }
                let about_us = |text: &String| text.starts_with("the directory");
                if volume.problems.get(directory).is_some_and(about_us) {
                    volume.problems.remove(directory);
                }
            }
            Ok(Presence::Gone) => {
                volume.problems.retain(|path, _| !path.starts_with(directory));
                if let Some((parent, name)) = directory.split() {
                    volume.dirty.mark(&parent, name, now, 0);
                }
            }
            Err(error) => {
                let message = match &error {
                    FsError::Limit => {
                        "the directory can't be watched: raise fs.inotify.max_user_watches and max_user_instances, see docs/operations.md".to_owned()
                    }
                    error => format!("the directory can't be looked at, so nothing in it counts as changed: {error}"),
                };
                tracing::warn!(volume = %volume.name, path = %directory, "{message}");
                if directory.is_root() {
                    volume.failed = Some(format!(
                        "the volume's directory isn't the one that this agent knows ({error}): mount it again or move it back, or remove the agent's stateDir to start anew"
                    ));
                }
                volume.problem(directory.clone(), message);
                let again = now + UNREADABLE_RETRY;
                match scanned.scope {
                    Scope::All { recurse } => volume.dirty.mark_all(directory, recurse, again),
                    Scope::Names(names) | Scope::Unsure(names) => {
                        for name in names {
                            volume.dirty.mark(directory, name, now, UNREADABLE_RETRY);
                        }
                    }
                }
            }
        }
    }

    /// Looks at the root again when it is gone from its place, and at everything when it is back.
    fn placed(&mut self, number: u16, is_in_place: bool) {
        let now = self.io.now();
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        if volume.is_elsewhere == is_in_place {
            volume.is_elsewhere = !is_in_place;
            volume.dirty.mark_all(&RelativePath::root(), is_in_place, now);
        }
    }

    fn applied(&mut self, applied: Applied) {
        let now = self.io.now();
        self.epoch.applies -= 1;
        let Applied { volume: number, directory, items, dirty } = applied;
        let mut touched: Vec<(u64, u64)> = Vec::new();
        for item in items {
            touched.extend(item.stream);
            self.epoch.displaced -= usize::from(item.displaced);
            self.applied_item(number, &directory, item);
        }
        for (session, sequence) in &touched {
            if let Some(link) = self.connections.get_mut(session).and_then(|c| c.links.get_mut(&number)) {
                link.incoming.record(*sequence);
            }
        }
        touched.dedup_by_key(|(session, _)| *session);
        for (session, _) in touched {
            self.learn(session, number);
        }
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        volume.busy.remove(&directory);
        volume.remaking.remove(&directory);
        for name in dirty {
            volume.dirty.mark(&directory, name, now, 0);
        }
    }

    fn applied_item(&mut self, number: u16, directory: &RelativePath, item: AppliedItem) {
        let now = self.io.now();
        let key = Key { volume: number, directory: directory.clone(), name: item.name.clone() };
        let path = key.path();
        let old = item.old;
        if item.errand == Errand::Decision {
            self.decided(&key, &item.fate);
        }
        match &item.fate {
            Fate::Waits(Cause::Open { kept }) => self.wait_for_program(&key, *kept),
            Fate::Visible | Fate::Waits(_) => self.waits_no_more(&key),
        }
        if item.errand == Errand::Revert {
            return self.taken_away(&key, item.fate != Fate::Visible);
        }
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        match &item.fate {
            // It wasn't recorded, and nothing waits for it.
            Fate::Waits(_) if item.errand == Errand::Decision => {}
            Fate::Waits(cause) if item.errand == Errand::Follow => {
                if *cause == Cause::LocalChange {
                    volume.dirty.mark(directory, item.name.clone(), now, 0);
                }
                volume.retry.later(now);
            }
            Fate::Visible => {
                self.counters.versions_applied += 1;
                volume.problems.remove(&path);
                volume.retry.attempt = 0;
                let structural =
                    item.row.as_ref().and_then(|row| row.here.as_ref()).is_some_and(|here| {
                        matches!(here.entry.content.body, Body::Directory | Body::Tombstone { .. })
                    });
                if structural && volume.state.counts.wanted > 0 {
                    // Something may have waited for this directory, or for this name to go.
                    volume.retry.at(now + 20_000_000);
                }
            }
            Fate::Waits(cause) => {
                match cause {
                    Cause::Contents => {
                        let wanted = item.row.as_ref().and_then(|row| FetchWanted::of(&key, row));
                        match wanted {
                            Some(wanted) if volume.fetch_queue.len() < FETCH_QUEUE => {
                                volume.fetch_queue.push_back(wanted)
                            }
                            _ => volume.retry.later(now),
                        }
                    }
                    Cause::Parent { deleted } => {
                        volume.retry.later(now);
                        if *deleted && item.errand == Errand::Again {
                            self.make_again(number, directory);
                        }
                    }
                    Cause::LocalChange => {
                        volume.dirty.mark(directory, item.name.clone(), now, 0);
                        volume.retry.later(now);
                    }
                    Cause::NotEmpty { stays } => {
                        // What is in it may be new, or gone from the disk, and unseen.
                        volume.dirty.mark_all(&path, false, now);
                        volume.retry.later(now);
                        let deletion = item.row.as_ref().and_then(|row| row.wanted.as_ref());
                        if let (true, Some(deletion)) = (*stays, deletion.and_then(|wanted| wanted.entries.first())) {
                            // Its deleter hadn't seen what is in it. He would make it again when he hears of that, unless power
                            // loss has brought it back there, too.
                            let deletion = deletion.clone();
                            self.counters.versions_made += 1;
                            self.queue_directory_over(number, directory, item.name.clone(), &deletion);
                        }
                    }
                    Cause::Moved => volume.retry.later(now),
                    Cause::Guard => volume.guard.gather(now, volume.state.counts.files),
                    Cause::Overtaken => {
                        if let Some(held) = item.row.as_ref().and_then(Row::base) {
                            self.bury(number, directory, &item.name, held);
                        }
                    }
                    Cause::Unselected | Cause::Undecided | Cause::Open { .. } => {}
                    Cause::Collision => {
                        volume.problem(path, format!("held back here: {}. Rename one of the two", FsError::Collision));
                        volume.retry.later(now);
                    }
                    // How many they are and what to do says the status for all of them.
                    Cause::Disk(FsError::NoSpace) => volume.retry.later(now),
                    Cause::Disk(error) => {
                        volume.problem(path, format!("can't be written: {error}"));
                        volume.retry.later(now);
                    }
                }
            }
        }
        let shown = |row: Option<&Row>| {
            let here = row.and_then(Row::live).filter(|here| here.entry.content.body == Body::Directory);
            here.and_then(|here| here.identity)
        };
        let before = shown(old.as_ref());
        let is_new = |now: Identity| before.is_none_or(|before| !before.same_directory(&now));
        if shown(item.row.as_ref()).is_some_and(is_new)
            && let Some(volume) = self.volumes.get_mut(&number)
        {
            // Watched, and looked at: somebody may have written into it already.
            volume.dirty.mark_all(&key.path(), true, now);
        }
        // What is here has changed: it is decided once more whether a person must choose.
        let reopened = item.row.as_ref().filter(|row| row.here != old.as_ref().and_then(|old| old.here.clone()));
        let reopened = reopened.and_then(|row| row.wanted.as_ref()).filter(|wanted| wanted.why == Why::Conflict);
        let reopened = reopened.and_then(|wanted| wanted.entries.first()).cloned();
        if let Some(row) = &item.row {
            self.look_for_duplicates(row);
        }
        let moved = (item.errand == Errand::Follow && item.fate == Fate::Visible).then(|| item.row.clone()).flatten();
        let moves = (item.fate == Fate::Waits(Cause::Moved)).then(|| key.clone());
        if let Some(row) = item.row {
            let vectors = |row: &Row| row.entries().map(|entry| entry.vector.clone()).collect::<Vec<_>>();
            let news = old.as_ref().is_none_or(|old| vectors(old) != vectors(&row));
            if news {
                self.counters.conflicts += conflicts(&row).saturating_sub(old.as_ref().map_or(0, conflicts));
                self.put(key, old.as_ref(), row);
            } else {
                // Known before, published now: peers hear nothing new.
                let mut row = row;
                row.sequence = old.as_ref().map_or(0, |old| old.sequence);
                if old.as_ref() != Some(&row) {
                    if let Some(volume) = self.volumes.get_mut(&number) {
                        volume.count(&key, old.as_ref(), &row);
                    }
                    self.keep(key, row);
                }
            }
        }
        if let Some(key) = moves {
            self.follow(&key);
        }
        if let Some(row) = moved {
            self.counters.followed_edits += 1;
            let key = Key { volume: number, directory: directory.clone(), name: item.name.clone() };
            self.edit_moved(&key, Some(&row));
        }
        if let Some(other) = reopened {
            let name = item.name.clone();
            let item = Item { name, entry: other, source: Source::None, stream: None, errand: Errand::Again };
            if let Some(volume) = self.volumes.get_mut(&number) {
                volume.queue(directory.clone(), item);
            }
        }
        if let Some(local) = item.local {
            self.displaced(number, directory, item.name, local);
        }
    }

    /// A local version that an exchange brought to light: it is decided like any other, with its bytes in a slot.
    pub(super) fn displaced(
        &mut self,
        number: u16,
        directory: &RelativePath,
        name: Name,
        local: crate::publish::DisplacedVersion,
    ) {
        let (wall, replica) = (self.wall_millis(), self.replica);
        let key = Key { volume: number, directory: directory.clone(), name: name.clone() };
        let unseen = self.unseen(&key, local.over.as_ref());
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        let What::Content { body, mode, owner, .. } = local.what else { return };
        let over = local.over.as_ref().map(|entry| entry.newest().hlc);
        let stamp = Stamp { hlc: self.clock.stamp(wall, over), dot: volume.next_dot(replica) };
        let entry = over_unseen(version(local.over.as_ref(), body, mode, owner, stamp), unseen);
        self.counters.versions_made += 1;
        let item = Item { name, entry, source: Source::Displaced(local.slot), stream: None, errand: Errand::Again };
        volume.incoming.entry(directory.clone()).or_default().push_front(item);
        self.epoch.displaced += 1;
    }

    /// A directory was deleted here while somebody wrote below it: the edit wins, so the directory returns.
    fn make_again(&mut self, number: u16, directory: &RelativePath) {
        let Some((parent, name)) = directory.split() else { return };
        let key = Key { volume: number, directory: parent.clone(), name: name.clone() };
        let row = match self.registry.get(&key) {
            Ok(row) => row,
            Err(error) => return self.fail(error.to_string()),
        };
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        let Some(here) = row.and_then(|row| row.here).filter(|here| !here.entry.is_live()) else { return };
        if volume.remaking.insert(directory.clone()) {
            self.queue_directory_over(number, &parent, name, &here.entry);
        }
    }

    /// A directory is a version over its deletion.
    fn queue_directory_over(&mut self, number: u16, parent: &RelativePath, name: Name, deletion: &Entry) {
        let (wall, replica) = (self.wall_millis(), self.replica);
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        let over = Some(deletion.newest().hlc);
        let stamp = Stamp { hlc: self.clock.stamp(wall, over), dot: volume.next_dot(replica) };
        let attributes = deletion.attributes;
        // The old attributes keep their stamp: this isn't a chmod, and mustn't win over one.
        let entry = version(Some(deletion), Body::Directory, attributes.mode, attributes.owner, stamp);
        let item = Item { name, entry, source: Source::None, stream: None, errand: Errand::Again };
        volume.queue(parent.clone(), item);
    }

    fn collected(&mut self, collected: crate::announce::Collected) {
        let Some(connection) = self.connections.get_mut(&collected.session) else { return };
        let Some(link) = connection.links.get_mut(&collected.volume) else { return };
        let out = &mut link.outgoing;
        out.collecting = false;
        out.left_to_makers |= collected.left_to_makers;
        out.position = collected.position;
        if std::mem::take(&mut out.restart) {
            out.start_again();
        }
        if connection.phase != Phase::Ready {
            return;
        }
        if let Some(volume) = self.volumes.get_mut(&collected.volume) {
            let contents = collected.rows.iter().filter_map(|row| row.contents.as_ref());
            volume.sends(contents.map(|contents| contents.len() as u64).sum(), self.now);
        }
        let mut rows: Vec<Announced<'_>> = Vec::new();
        let mut size = 0;
        let mut sent = 0;
        for row in &collected.rows {
            let bytes = row.contents.as_ref().map_or(0, Vec::len) + 200;
            if size + bytes > BATCH_BYTES && !rows.is_empty() || rows.len() >= BATCH_ENTRIES {
                let entries = Message::Entries(Entries { rows: std::mem::take(&mut rows) });
                sent += connection.send(Lane::Small, collected.volume, &entries);
                self.counters.frames_sent += 1;
                size = 0;
            }
            size += bytes;
            rows.push(Announced {
                sequence: row.sequence,
                path: row.path.clone(),
                entry: row.entry.clone(),
                contents: row.contents.as_deref(),
            });
        }
        if !rows.is_empty() {
            sent += connection.send(Lane::Small, collected.volume, &Message::Entries(Entries { rows }));
            self.counters.frames_sent += 1;
        }
        if let Some(link) = connection.links.get_mut(&collected.volume) {
            link.outgoing.sent_bytes += sent;
            link.outgoing.sent_since |= sent > 0;
            if sent > 0 {
                link.outgoing.cover_at = None;
            }
        }
    }

    fn block_read(&mut self, read: BlockRead) {
        self.blocks_reading.remove(&read.session);
        let Some(connection) = self.connections.get_mut(&read.session).filter(|c| c.phase == Phase::Ready) else {
            return;
        };
        match &read.result {
            Ok(bytes) => {
                let block = Block { id: read.id, offset: read.offset, bytes, proof: &[] };
                connection.send(Lane::Bulk, read.volume, &Message::Block(block));
            }
            Err(why) => {
                connection.send(Lane::Control, read.volume, &Message::Refused(read.id, *why));
            }
        }
        self.counters.frames_sent += 1;
    }

    fn block_staged(&mut self, staged: StagedBlock) {
        let Some(fetch) = self.fetches.get_mut(&staged.fetch) else { return };
        fetch.hasher = Some(staged.hasher);
        if fetch.cancelled {
            return self.end_fetch(staged.fetch);
        }
        match staged.result {
            Ok(None) => self.stage_next(staged.fetch),
            Ok(Some(hash)) if hash == fetch.wanted.hash => {
                let Some(fetch) = self.fetches.remove(&staged.fetch) else { return };
                self.fetched(fetch.wanted, fetch.slot);
            }
            Ok(Some(_)) => {
                tracing::warn!(path = %fetch.wanted.key.path(), "fetched contents aren't what was announced; fetching again");
                self.end_fetch(staged.fetch);
            }
            // The next try finds out whether there is room, and marks it if there isn't.
            Err(FsError::NoSpace) => self.end_fetch(staged.fetch),
            Err(error) => {
                let (number, key, hash) = (fetch.volume, &fetch.wanted.key, fetch.wanted.hash);
                // Something else may have its name by now, and nobody would take back what is said of it.
                let wanted = self.registry.get(key).ok().flatten().and_then(|row| wanted_file(&row));
                if let Some(volume) = self.volumes.get_mut(&number)
                    && wanted.is_some_and(|(wanted, ..)| wanted == hash)
                {
                    volume.problem(key.path(), format!("can't be written: {error}"));
                }
                self.end_fetch(staged.fetch);
            }
        }
    }

    /// Contents are whole and verified: what is wanted now is decided once more. If that has changed meanwhile, other
    /// contents are fetched.
    pub(super) fn fetched(&mut self, fetched: FetchWanted, slot: u64) {
        if let Some(from) = &fetched.from {
            return self.edit_copied(from, &fetched, slot);
        }
        let row = match self.registry.get(&fetched.key) {
            Ok(row) => row,
            Err(error) => return self.fail(error.to_string()),
        };
        if self.decide_for(&fetched, row.as_ref(), slot) {
            return;
        }
        let number = fetched.key.volume;
        let other = row.as_ref().and_then(|row| FetchWanted::of(&fetched.key, row));
        let entry = row.and_then(|row| row.wanted).and_then(|wanted| wanted.entries.into_iter().next());
        let entry = entry.filter(|entry| entry.content.body.hash() == Some(fetched.hash));
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        match entry {
            Some(entry) => {
                let Key { directory, name, .. } = fetched.key;
                volume.queue(
                    directory,
                    Item { name, entry, source: Source::Slot(slot), stream: None, errand: Errand::Again },
                );
            }
            None => {
                volume.fetch_queue.extend(other);
                self.jobs_running += 1;
                self.jobs.push(crate::job::Job::DropSlot(number, slot));
            }
        }
    }

    /// What is wanted is tried again: what waited for others may go on now.
    fn swept(&mut self, number: u16, rows: Vec<(Key, Row)>, more: Option<Key>) {
        let now = self.io.now();
        let fetching: Vec<Key> = self
            .fetches
            .values()
            .filter(|fetch| fetch.volume == number && !fetch.cancelled)
            .map(|fetch| fetch.wanted.key.clone())
            .chain(self.reuses.values().map(|wanted| wanted.key.clone()))
            .collect();
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        volume.retry.running = false;
        for (key, row) in rows {
            let waits = |why| matches!(why, Why::Fetching | Why::NoSpace | Why::Suspect | Why::Collision);
            let Some(wanted) = row.wanted.filter(|wanted| waits(wanted.why)) else {
                continue;
            };
            let queued = volume.fetch_queue.iter().any(|queued| queued.key == key)
                || volume.incoming.get(&key.directory).is_some_and(|q| q.iter().any(|item| item.name == key.name));
            if queued || fetching.contains(&key) || volume.open.waits(&key) {
                continue;
            }
            let is_directory = row.here.is_some_and(|here| here.entry.content.body == Body::Directory);
            for entry in wanted.entries {
                let all_heard =
                    is_directory && !entry.is_live() && volume.state.knowledge.contains_up_to(entry.content.stamp.dot);
                let errand = if all_heard { Errand::AllHeard } else { Errand::Again };
                let item = Item { name: key.name.clone(), entry, source: Source::None, stream: None, errand };
                volume.queue(key.directory.clone(), item);
            }
        }
        if more.is_some() {
            volume.retry.after = more;
            volume.retry.at(now + 1_000_000);
        } else {
            volume.retry.after = None;
            volume.retry.attempt = volume.retry.attempt.saturating_add(1);
            if volume.state.counts.wanted > 0 {
                volume.retry.later(now);
            }
            self.fetch_decided(number);
        }
    }
}

const _: () = assert!(BLOCK_BYTES > BATCH_BYTES as u64);

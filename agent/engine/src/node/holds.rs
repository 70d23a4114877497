//! Deletions that wait: how they are taken in, judged, and let go or taken back.

use super::Node;
use crate::guard::{Deciding, State, Verdict, Walk, withheld};
use crate::job::{Job, Sweep};
use crate::moved::Moved;
use crate::publish::{Errand, Item};
use crate::record::{over_unseen, version};
use crate::registry::{Key, Registry};
use crate::stage::Source;
use crate::volume::Volume;
use std::collections::BTreeSet;
use syncmesh_core::clock::HlcClock;
use syncmesh_core::decide::merge;
use syncmesh_core::entry::{Body, Entry, MovedTo, Row, Stamp, Why};
use syncmesh_core::path::{Name, RelativePath};
use syncmesh_core::version::ReplicaId;
use syncmesh_io::Io;

/// Directories whose order is kept while deletions are let go.
const DIRECTORIES: usize = 1_024;

impl<I: Io> Node<I> {
    /// A user's deletion waits for others that may come with it. False if it needn't, and is recorded at once.
    pub(super) fn withhold(&mut self, key: &Key, row: Option<&Row>) -> bool {
        let now = self.io.now();
        let Some(volume) = self.volumes.get_mut(&key.volume).filter(|volume| !volume.guard.limits.is_off()) else {
            return false;
        };
        let Some((old, held)) = row.and_then(|row| Some((row, withheld(row)?))) else { return false };
        if let Some(here) = old.live().filter(|here| here.entry.content.body.rank() == 1)
            && let Some(identity) = &here.identity
        {
            let moment = volume.moment(now);
            volume.guard.moved_here.vanished(Moved::on_disk(identity), &key.path(), moment);
        }
        volume.guard.gather(now, volume.state.counts.files);
        volume.count(key, Some(old), &held);
        self.keep(key.clone(), held);
        true
    }

    pub(super) fn tend_guards(&mut self, now: u64) {
        if self.stopping.is_some() {
            return;
        }
        let (wall, replica, room) = (self.wall_millis(), self.replica, self.has_room());
        let mut jobs = Vec::new();
        for volume in self.volumes.values_mut().filter(|volume| volume.scanned && !volume.stands_still()) {
            let counts = volume.state.counts;
            if matches!(volume.guard.state, State::Held { .. }) && counts.held == 0 {
                volume.guard.decided(&counts, now);
            }
            if volume.guard.due(&counts, volume.settings.get().settle).is_some_and(|due| due <= now) {
                let unseen = volume.scans > 0
                    || volume.dirty.next_due().is_some_and(|due| due <= now)
                    || !volume.incoming.is_empty()
                    || self.io.has_events(volume.watcher);
                if (!unseen || volume.guard.overdue().is_some_and(|at| at <= now))
                    && volume.guard.judge(&counts, now, wall)
                    && matches!(volume.guard.state, State::Held { .. })
                {
                    tracing::warn!(
                        volume = %volume.name,
                        deletions = counts.held_here + counts.held_gone,
                        "many deletions at once are held: see `syncmesh-agent holds list`, then approve or reject them"
                    );
                }
            }
            let State::Deciding(deciding) = &mut volume.guard.state else { continue };
            if deciding.running || !room || !volume.incoming.is_empty() || !volume.busy.is_empty() {
                continue;
            }
            match &mut deciding.walk {
                Walk::Rows(after) => {
                    jobs.push(Job::Wanted(volume.number, Sweep::Held, after.take()));
                    deciding.running = true;
                }
                Walk::Directories(directories) => {
                    let directories = std::mem::take(directories);
                    deciding.walk = Walk::End;
                    let verdict = deciding.verdict;
                    // What has come since may lie in one of them, and still waits. A directory that went alone would be taken for
                    // one that has something new in it, elsewhere, and come back.
                    let is_all = counts.held <= directories.len() as u64;
                    let mut gone = BTreeSet::new();
                    for (key, entry) in directories.into_iter().rev() {
                        if !is_all && holds_something(&self.registry, &key, &gone) {
                            continue;
                        }
                        gone.insert(key.clone());
                        let entry = buried(volume, &mut self.clock, wall, replica, &entry, None, verdict);
                        volume.queue(key.directory, item(key.name, entry));
                        self.counters.versions_made += 1;
                    }
                }
                Walk::End => {
                    tracing::info!(volume = %volume.name, verdict = ?deciding.verdict, "held deletions are decided");
                    volume.guard.decided(&counts, now);
                }
            }
        }
        for job in jobs {
            self.jobs_running += 1;
            self.jobs.push(job);
        }
    }

    /// Some of the deletions that wait get their end. A job carries it out, because the row may have changed since it was
    /// read.
    pub(super) fn judged(&mut self, number: u16, waiting: Vec<(Key, Row)>, more: Option<Key>) {
        let (wall, replica) = (self.wall_millis(), self.replica);
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        let State::Deciding(Deciding { verdict, mut rows, walk, running }) = volume.guard.state.clone() else { return };
        debug_assert!(running && matches!(walk, Walk::Rows(_)), "one walk at a time");
        let mut directories = std::mem::take(&mut volume.guard.directories);
        for (key, row) in waiting {
            let Some(held) = row.wanted.as_ref().filter(|wanted| wanted.why == Why::Held) else { continue };
            let Some(entry) = held.entries.first() else { continue };
            let Some(rest) = rows.checked_sub(1) else { break };
            rows = rest;
            let is_deletion_here = row.live().is_none() && verdict != Verdict::Reject;
            let unseen = if is_deletion_here { self.unseen(&key, Some(entry)) } else { Vec::new() };
            let Some(volume) = self.volumes.get_mut(&number) else { return };
            let clock = &mut self.clock;
            let entry = match (row.live(), verdict) {
                (None, Verdict::Reject) | (Some(_), Verdict::Pass) => entry.clone(),
                (None, _) if entry.content.body == Body::Directory && directories.len() < DIRECTORIES => {
                    directories.push((key, entry.clone()));
                    continue;
                }
                (None, _) => {
                    let to = volume.guard.moved_here.destination(&key.path());
                    over_unseen(buried(volume, clock, wall, replica, entry, to, verdict), unseen)
                }
                (Some(here), Verdict::Approve) => {
                    buried(volume, clock, wall, replica, &merge(&here.entry, entry), None, verdict)
                }
                (Some(here), Verdict::Reject) => {
                    let attributes = here.entry.attributes;
                    let over = merge(&here.entry, entry);
                    let stamp = stamp(volume, clock, wall, replica, &over);
                    version(Some(&over), here.entry.content.body.clone(), attributes.mode, attributes.owner, stamp)
                }
            };
            self.counters.versions_made += u64::from(entry.content.stamp.dot.replica == replica);
            volume.queue(key.directory, item(key.name, entry));
        }
        let walk = match more {
            Some(after) if rows > 0 => Walk::Rows(Some(after)),
            Some(_) | None => Walk::Directories(std::mem::take(&mut directories)),
        };
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        volume.guard.directories = directories;
        volume.guard.state = State::Deciding(Deciding { verdict, rows, walk, running: false });
    }

    /// A deletion that is held becomes a version at once, because another version of the path came: an edit, which wins.
    pub(super) fn bury(&mut self, number: u16, directory: &RelativePath, name: &Name, held: &Entry) {
        let (wall, replica) = (self.wall_millis(), self.replica);
        let key = Key { volume: number, directory: directory.clone(), name: name.clone() };
        let unseen = self.unseen(&key, Some(held));
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        let to = volume.guard.moved_here.destination(&key.path());
        let entry = buried(volume, &mut self.clock, wall, replica, held, to, Verdict::Pass);
        let entry = over_unseen(entry, unseen);
        volume.queue(directory.clone(), item(name.clone(), entry));
        self.counters.versions_made += 1;
    }

    /// Somebody's word about what a volume holds, or all volumes hold. How many deletions that is about, or why none.
    pub fn decide_holds(&mut self, name: Option<&str>, verdict: Verdict) -> Result<u64, String> {
        let mut decided = 0;
        for (number, _) in self.volumes_named(name)? {
            if let Some(volume) = self.volumes.get_mut(&number)
                && matches!(volume.guard.state, State::Held { .. })
            {
                decided += volume.state.counts.held_here + volume.state.counts.held_gone;
                volume.guard.state = State::deciding(verdict, &volume.state.counts);
            }
            decided += self.decide_suspects(number, verdict);
        }
        match decided {
            0 => Err("nothing is held".into()),
            decided => Ok(decided),
        }
    }
}

/// Does a deletion wait in a directory, but for those of directories that go now? Also if that can't be read.
fn holds_something(registry: &Registry, directory: &Key, gone: &BTreeSet<Key>) -> bool {
    const ROWS: usize = 64;
    let path = directory.path();
    let mut after = None;
    loop {
        let Ok(rows) = registry.children(directory.volume, &path, after.as_ref(), ROWS) else { return true };
        let waits = |(name, row): &(Name, Row)| {
            let is_held = row.wanted.as_ref().is_some_and(|wanted| wanted.why == Why::Held);
            is_held && !gone.contains(&Key { volume: directory.volume, directory: path.clone(), name: name.clone() })
        };
        if rows.iter().any(waits) {
            return true;
        }
        match rows.last() {
            Some((name, _)) if rows.len() == ROWS => after = Some(name.clone()),
            _ => return false,
        }
    }
}

fn item(name: Name, entry: Entry) -> Item {
    Item { name, entry, source: Source::None, stream: None, errand: Errand::Judged }
}

/// The stamp of a new version over another.
pub(super) fn stamp(volume: &mut Volume, clock: &mut HlcClock, wall: u64, replica: ReplicaId, over: &Entry) -> Stamp {
    Stamp { hlc: clock.stamp(wall, Some(over.newest().hlc)), dot: volume.next_dot(replica) }
}

/// A deletion of what an entry declares, which may have been moved.
fn buried(
    volume: &mut Volume,
    clock: &mut HlcClock,
    wall: u64,
    replica: ReplicaId,
    over: &Entry,
    to: Option<RelativePath>,
    verdict: Verdict,
) -> Entry {
    let (version_moved, attributes) = (over.content.stamp.dot, over.attributes.stamp.dot);
    let moved = |path| MovedTo { path, version: version_moved, attributes };
    let (deleted, moved_to) = match &over.content.body {
        Body::Tombstone { deleted, moved_to, .. } => (*deleted, moved_to.clone()),
        body => (body.recognised_by(), to.map(moved)),
    };
    let approved_by = (verdict == Verdict::Approve).then_some(replica);
    let body = Body::Tombstone { deleted, moved_to, approved_by };
    let attributes = over.attributes;
    let stamp = stamp(volume, clock, wall, replica, over);
    version(Some(over), body, attributes.mode, attributes.owner, stamp)
}

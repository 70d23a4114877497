//! Suspects of a power loss (SYNC 9) on the loop: who is still to be heard, what is looked at again, somebody's word.

use super::{Node, PeerState};
use crate::connection::Phase;
use crate::guard::Verdict;
use crate::job::{Job, Sweep};
use crate::limits::SUSPECTS_ASK;
use crate::publish::{Errand, Item};
use crate::record::version;
use crate::registry::Key;
use crate::stage::Source;
use crate::suspect::{Believed, is_suspect, nothing_better};
use crate::volume::{FetchWanted, Volume};
use syncmesh_core::decide::merge;
use syncmesh_core::entry::{Body, Entry, Row, Stamp, Wanted, Why};
use syncmesh_io::Io;

/// A walk over suspects.
#[derive(Default)]
pub struct Suspects {
    /// When waiting for members began, on the loop's clock.
    begun: Option<u64>,
    walk: Option<Walk>,
    running: bool,
}

struct Walk {
    /// They are taken back, rather than looked at again.
    take_back: bool,
    after: Option<Key>,
}

impl Suspects {
    /// Begins to look at all suspects again, or to take them back.
    fn walk(&mut self, take_back: bool) {
        self.walk = Some(Walk { take_back, after: None });
    }

    /// Do suspects wait for somebody's word? Those that look damaged do, and all of them when members stay away.
    pub fn ask(&self, believed: Believed, now: u64) -> bool {
        let waited = self.begun.is_some_and(|begun| now >= begun + SUSPECTS_ASK.as_nanos() as u64);
        self.walk.is_none() && (believed == Believed::Whole || (believed == Believed::Nothing && waited))
    }
}

impl<I: Io> Node<I> {
    /// Hears members, looks at suspects again once all were heard, and ends the suspicion when none is left.
    pub(super) fn tend_suspects(&mut self, now: u64) {
        if self.stopping.is_some() {
            return;
        }
        let wall = self.wall_millis();
        let mut jobs = Vec::new();
        for volume in self.volumes.values_mut().filter(|volume| volume.scanned && !volume.stands_still()) {
            let Some(suspicion) = &mut volume.state.suspicion else { continue };
            let suspects = &mut volume.suspects;
            if suspects.begun.is_none() {
                suspects.begun = Some(now);
                suspicion.window.close(wall);
                volume.doubt.set(Some(suspicion));
            }
            if suspicion.window.believed == Believed::Nothing {
                // Heard is who has told us everything that it had when it met us, and all of it is recorded.
                let sessions = self.connections.values().filter(|connection| connection.phase == Phase::Ready);
                for connection in sessions {
                    let link = connection.links.get(&volume.number);
                    if let (Some(peer), true) = (&connection.peer, link.is_some_and(|link| link.incoming.has_told)) {
                        self.epoch.used |= suspicion.members.remove(peer);
                    }
                }
                if suspicion.members.is_empty() {
                    suspicion.window.believed = Believed::Whole;
                    volume.doubt.set(Some(suspicion));
                    suspects.walk(false);
                    self.epoch.used = true;
                }
            }
            match &mut suspects.walk {
                Some(walk) if !suspects.running => {
                    jobs.push(Job::Wanted(volume.number, Sweep::Suspects, walk.after.take()));
                    suspects.running = true;
                }
                Some(_) => {}
                // What couldn't be read yet, or changed while it was, may be suspect, too.
                None if !volume.dirty.is_empty() || !volume.busy.is_empty() => {}
                None if suspicion.window.believed != Believed::Nothing && volume.state.counts.suspects == 0 => {
                    tracing::info!(volume = %volume.name, "what power loss had made doubtful is decided");
                    volume.state.suspicion = None;
                    volume.suspects = Suspects::default();
                    volume.doubt.set(None);
                    self.epoch.used = true;
                }
                None => {}
            }
        }
        for job in jobs {
            self.jobs_running += 1;
            self.jobs.push(job);
        }
    }

    /// Some of the suspects: looked at again, or taken back.
    pub(super) fn suspects(&mut self, number: u16, rows: Vec<(Key, Row)>, more: Option<Key>) {
        let (now, wall, replica) = (self.io.now(), self.wall_millis(), self.replica);
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        volume.suspects.running = false;
        let Some(walk) = &mut volume.suspects.walk else { return };
        let take_back = walk.take_back;
        walk.after = more;
        if walk.after.is_none() {
            volume.suspects.walk = None;
        }
        for (key, row) in rows.into_iter().filter(|(_, row)| is_suspect(row) && nothing_better(row)) {
            let Some(volume) = self.volumes.get_mut(&number) else { return };
            if !take_back {
                volume.dirty.mark(&key.directory, key.name, now, 0);
                continue;
            }
            let item =
                |entry, errand| Item { name: key.name.clone(), entry, source: Source::None, stream: None, errand };
            match row.live().map(|here| here.entry.clone()) {
                Some(entry) => {
                    // What the row says is wanted from here on, in the place of what is shown.
                    volume.queue(key.directory.clone(), item(entry.clone(), Errand::Again));
                    let wanted = Some(Wanted { entries: vec![entry], why: Why::Suspect });
                    let next = Row { wanted, ..row.clone() };
                    volume.count(&key, Some(&row), &next);
                    self.keep(key, next);
                }
                None => {
                    let over = row.here.as_ref().map(|here| &here.entry);
                    let hlc = self.clock.stamp(wall, over.map(|entry| entry.newest().hlc));
                    let stamp = Stamp { hlc, dot: volume.next_dot(replica) };
                    let entry = version(over, Body::tombstone(None), 0o644, None, stamp);
                    volume.queue(key.directory.clone(), item(entry, Errand::Judged));
                    self.counters.versions_made += 1;
                }
            }
        }
    }

    /// Is a version lost for good? It was made by an earlier run of this node, whose disk hasn't its contents any more, and every
    /// member says that it has nothing of it: its announcement was faster than its contents, and then power was lost here.
    /// (If it wasn't, another copy of this machine may have them.)
    pub(super) fn is_lost(&self, wanted: &FetchWanted) -> bool {
        let made_here =
            self.replicas.get(&wanted.dot.replica) == Some(&self.node) && wanted.dot.replica != self.replica;
        made_here
            && self.volumes.get(&wanted.key.volume).is_some_and(|volume| volume.lost_power)
            && self.is_nowhere(wanted)
    }

    /// Does every member say that it has nothing of a version's contents?
    pub(super) fn is_nowhere(&self, wanted: &FetchWanted) -> bool {
        self.volumes.get(&wanted.key.volume).is_some_and(|volume| {
            let mut members = self.peers.iter().filter(|(name, _)| volume.members.has(name));
            members.all(|(_, peer)| match peer.state {
                PeerState::Session(id) => wanted.lacking.contains(&id),
                PeerState::Waiting(_) | PeerState::Calling => false,
            })
        })
    }

    /// What is lost for good is given up, by a version over it: what this disk has of the path, or that it has nothing.
    pub(super) fn declare_lost(&mut self, number: u16, key: &Key) {
        let (wall, replica) = (self.wall_millis(), self.replica);
        let row = match self.registry.get(key) {
            Ok(row) => row,
            Err(error) => return self.fail(error.to_string()),
        };
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        let Some(row) = row.filter(|row| !is_suspect(row)) else { return };
        let Some(wanted) = row.wanted.as_ref().filter(|wanted| wanted.why == Why::Fetching) else { return };
        let Some(over) = row.entries().cloned().reduce(|all, entry| merge(&all, &entry)) else { return };
        tracing::warn!(
            volume = %volume.name,
            path = %key.path(),
            versions = wanted.entries.len(),
            "a version that was told is gone, and no member has its contents: it is given up"
        );
        let here = row.live().map(|here| here.entry.content.body.clone());
        let hlc = self.clock.stamp(wall, Some(over.newest().hlc));
        let stamp = Stamp { hlc, dot: volume.next_dot(replica) };
        let (mode, owner) = (over.attributes.mode, over.attributes.owner);
        let body = here.unwrap_or_else(|| Body::tombstone(None));
        let entry = version(Some(&over), body, mode, owner, stamp);
        let item = Item { name: key.name.clone(), entry, source: Source::None, stream: None, errand: Errand::Again };
        volume.queue(key.directory.clone(), item);
        self.counters.versions_made += 1;
    }

    /// Somebody's word about suspects that wait for it: approved they are versions as they are, rejected what the rows say
    /// returns and they go to the version store. How many.
    pub(super) fn decide_suspects(&mut self, number: u16, verdict: Verdict) -> u64 {
        let now = self.io.now();
        let Some(volume) = self.volumes.get_mut(&number) else { return 0 };
        if volume.asks_about_suspects(now) == 0 {
            return 0;
        }
        let Some(suspicion) = &mut volume.state.suspicion else { return 0 };
        suspicion.members.clear();
        suspicion.window.believed = if verdict == Verdict::Reject { Believed::Whole } else { Believed::All };
        volume.doubt.set(Some(suspicion));
        volume.suspects.walk(verdict == Verdict::Reject);
        self.epoch.used = true;
        volume.state.counts.suspects
    }
}

impl Volume {
    /// How many suspects wait for somebody's word.
    pub fn asks_about_suspects(&self, now: u64) -> u64 {
        match &self.state.suspicion {
            // As long as something is looked at it may turn out to be whole.
            Some(_) if !self.dirty.is_empty() || !self.busy.is_empty() => 0,
            Some(suspicion) if self.suspects.ask(suspicion.window.believed, now) => self.state.counts.suspects,
            _ => 0,
        }
    }
}

/// The row of a path whose contents on the disk aren't believed.
pub fn doubted(row: Option<&Row>) -> Row {
    let entries: Vec<Entry> =
        row.and_then(|row| row.wanted.as_ref()).map(|wanted| wanted.entries.clone()).unwrap_or_default();
    let (sequence, here) = row.map_or((0, None), |row| (row.sequence, row.here.clone()));
    Row { sequence, here, wanted: Some(Wanted { entries, why: Why::Suspect }) }
}

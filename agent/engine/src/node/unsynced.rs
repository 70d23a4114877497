//! Volumes whose file system couldn't be synced, on the loop: they stand still and are left out of epochs, until what they have
//! was read back.

use super::Node;
use crate::guard::Guard;
use crate::job::Job;
use crate::limits::{SYNC, SYNC_RETRY};
use crate::node::open::OpenFiles;
use crate::node::suspects::Suspects;
use crate::registry::VolumeState;
use crate::stage::Source;
use crate::suspect::Suspicion;
use crate::unsynced::{HasReadBack, Outcome, ReadBack, Sync, Synced};
use crate::volume::{Reading, Retry, Volume};
use std::collections::BTreeSet;
use std::time::Duration;
use syncmesh_core::path::RelativePath;
use syncmesh_io::Io;

/// Why a volume stands still, and how far it is on the way back.
pub struct Unsynced {
    /// What the file system answered.
    why: String,
    step: Step,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is synced again then, once nothing works on it.
    Again(u64),
    /// A sync is under way.
    Syncing,
    /// It was synced: whatever could be written is written, and what couldn't isn't told any more.
    Synced,
    /// A job reads what isn't durable.
    ReadingBack,
}

impl Unsynced {
    /// A volume that a start couldn't sync.
    pub fn at_start(why: String) -> Self {
        Self { why, step: Step::Again(0) }
    }

    /// When to look after it.
    pub fn due(&self) -> Option<u64> {
        match self.step {
            Step::Again(at) => Some(at),
            Step::Syncing | Step::Synced | Step::ReadingBack => None,
        }
    }

    /// For the status: what is wrong, and what to do.
    pub fn message(&self) -> String {
        format!(
            "its file system couldn't write everything, or what it has can't be read back ({}): nothing is announced or changed until what was written is read back, which is tried again and again. Look at the system's log and at the disk",
            self.why
        )
    }
}

/// How long to wait after so many syncs that failed in a row: the first may have been an accident.
fn wait(failures: u32) -> u64 {
    let (first, longest) = SYNC_RETRY;
    let wait = match failures {
        0 | 1 => Duration::ZERO,
        more => first.saturating_mul(1 << (more - 2).min(8)).min(longest),
    };
    wait.as_nanos() as u64
}

impl Volume {
    /// Is nothing begun for it, because it is paused or its file system couldn't be synced?
    pub fn stands_still(&self) -> bool {
        self.is_paused() || self.unsynced.is_some()
    }

    /// Does a job read what isn't durable? No epoch closes meanwhile.
    pub fn is_reading_back(&self) -> bool {
        self.unsynced.as_ref().is_some_and(|unsynced| unsynced.step == Step::ReadingBack)
    }
}

impl<I: Io> Node<I> {
    /// A sync ended, or couldn't: at an epoch's end, or of a volume that stands still.
    pub(super) fn synced(&mut self, synced: Synced) {
        let now = self.io.now();
        if let Err(error) = synced.noted {
            return self.fail(format!("a failed sync can't be noted in the state directory: {error}"));
        }
        if let Some(closing) = &mut self.epoch.closing {
            closing.waits.remove(&synced.volume);
        }
        let Some(volume) = self.volumes.get_mut(&synced.volume) else { return };
        volume.syncing = false;
        match (&mut volume.unsynced, synced.result) {
            (None, Ok(())) => {}
            (None, Err(error)) => self.leave_out(synced.volume, error.to_string()),
            (Some(unsynced), result) if unsynced.step == Step::Syncing => match result {
                Ok(()) => unsynced.step = Step::Synced,
                Err(error) => {
                    unsynced.why = error.to_string();
                    volume.failed_syncs += 1;
                    unsynced.step = Step::Again(now + wait(volume.failed_syncs));
                }
            },
            // One that hung: it is synced once more.
            (Some(_), _) => {}
        }
    }

    /// A volume is left out of the closing epoch and of those after it, and stands still.
    pub(super) fn leave_out(&mut self, number: u16, why: String) {
        let now = self.io.now();
        let Some(volume) = self.volumes.get_mut(&number).filter(|volume| volume.unsynced.is_none()) else { return };
        tracing::error!(
            volume = %volume.name, %why,
            "the file system couldn't write everything: the volume stands still until what was written is read back"
        );
        volume.failed_syncs += 1;
        volume.unsynced = Some(Unsynced { why, step: Step::Again(now + wait(volume.failed_syncs)) });
        volume.noted = true;
        let fetches = self.fetches.iter().filter(|(_, fetch)| fetch.volume == number);
        let under_way: Vec<u64> = fetches.map(|(id, _)| *id).collect();
        under_way.into_iter().for_each(|id| self.end_fetch(id));
    }

    /// Goes on with the end of an epoch once its file systems are synced. Those that take too long are left out.
    pub(super) fn tend_closing(&mut self, now: u64) {
        let Some(closing) = &self.epoch.closing else { return };
        let is_late = now >= closing.began + SYNC.as_nanos() as u64;
        if !closing.waits.is_empty() && !is_late {
            return;
        }
        for number in closing.waits.clone() {
            self.leave_out(number, format!("a sync takes longer than {} s", SYNC.as_secs()));
        }
        let Some(closing) = self.epoch.closing.take() else { return };
        let mut commit = closing.commit;
        for volume in self.volumes.values() {
            if volume.unsynced.is_some() {
                commit.left_out.insert(volume.number);
                commit.synced.remove(&volume.number);
            } else if volume.noted {
                commit.back.push(volume.number);
            }
        }
        self.start(Job::Commit(commit));
    }

    /// Brings volumes that stand still back, as soon as nothing works on them.
    pub(super) fn tend_unsynced(&mut self, now: u64) {
        let mut jobs = Vec::new();
        let committing = self.epoch.committing;
        for volume in self.volumes.values_mut() {
            let is_displaced = |source: &Source| matches!(source, Source::Displaced(_));
            let unnamed = volume.incoming.values().flatten().any(|item| is_displaced(&item.source));
            let fetches = self.fetches.values().any(|fetch| fetch.volume == volume.number)
                || self.reuses.values().any(|wanted| wanted.key.volume == volume.number);
            let busy = volume.jobs > 0 || volume.syncing || unnamed || fetches;
            let Some(unsynced) = volume.unsynced.as_mut().filter(|_| !busy && self.stopping.is_none()) else {
                continue;
            };
            match unsynced.step {
                Step::Again(at) if at <= now => {
                    unsynced.step = Step::Syncing;
                    volume.syncing = true;
                    jobs.push(Job::Sync(Sync { volume: volume.number }));
                }
                Step::Synced if !committing => {
                    unsynced.step = Step::ReadingBack;
                    jobs.push(Job::ReadBack(ReadBack { volume: volume.number }));
                }
                Step::Again(_) | Step::Syncing | Step::Synced | Step::ReadingBack => {}
            }
        }
        jobs.into_iter().for_each(|job| self.start(job));
    }

    /// What isn't durable was read back: the volume goes on with it, or, where the disk hasn't all of it, as after power loss.
    pub(super) fn has_read_back(&mut self, back: HasReadBack) {
        let (now, wall) = (self.io.now(), self.wall_millis());
        // Whoever heard of what is lost may tell it, whether it has a session now or not.
        let Some(volume) = self.volumes.get_mut(&back.volume) else { return };
        let members: BTreeSet<String> = self.peers.keys().filter(|name| volume.members.has(name)).cloned().collect();
        let Some(mut unsynced) = volume.unsynced.take() else { return };
        let torn = match back.outcome {
            Outcome::Unseen(error) => {
                volume.failed_syncs += 1;
                unsynced.why = error.to_string();
                unsynced.step = Step::Again(now + wait(volume.failed_syncs));
                volume.unsynced = Some(unsynced);
                return;
            }
            Outcome::Sound => BTreeSet::new(),
            Outcome::Lost { state, torn } => {
                volume.give_up(*state, wall);
                self.journal.volumes.retain(|(number, _)| *number != back.volume);
                torn
            }
        };
        tracing::warn!(volume = %volume.name, lost = torn.len(), "what was written is read back: the volume goes on");
        let mut suspicion = Suspicion::new(volume.state.synced_millis, members, volume.state.suspicion.take());
        let given_up = !torn.is_empty();
        suspicion.torn.extend(torn);
        for item in volume.incoming.values_mut().flatten() {
            if let Source::Slot(_) = item.source {
                // Discarded: it is fetched again.
                item.source = Source::None;
            }
        }
        volume.open.forget_staged();
        volume.doubt.set(Some(&suspicion));
        volume.state.suspicion = Some(suspicion);
        volume.suspects = Suspects::default();
        volume.dirty.mark_all(&RelativePath::root(), true, now);
        volume.scanned = false;
        volume.touched = true;
        volume.retry.at(now);
        self.epoch.used = true;
        if given_up {
            let name = volume.name.clone();
            self.renew("rows were given up that weren't durable");
            // What of theirs was recorded may be among them: all comes again.
            self.peers.values_mut().for_each(|peer| _ = peer.resume.remove(&name));
        }
    }
}

impl Volume {
    /// Goes back to the last durable epoch. Nothing works on it.
    fn give_up(&mut self, state: VolumeState, wall_millis: u64) {
        let paused = self.state.paused;
        self.state = VolumeState { paused, ..state };
        let sequence = self.state.sequence;
        (self.journalled, self.durable, self.closing, self.made) = (sequence, sequence, sequence, 0);
        self.lost_power = true;
        self.guard = Guard::new(self.guard.limits, self.state.counts.held, wall_millis);
        self.incoming.clear();
        self.open = OpenFiles::default();
        self.remaking.clear();
        self.fetch_queue.clear();
        self.decisions.clear();
        self.disputed.clear();
        self.problems.clear();
        self.retry = Retry::default();
        self.reading = Reading::Not;
        self.wanted_since = None;
    }
}

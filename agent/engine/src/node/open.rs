//! Programs that hold files open (SYNC 6): what may change without showing it is looked at again, what replaces an open
//! file waits for a while, and a displaced file is looked after until nobody can write to it any more.

use super::Node;
use crate::job::Job;
use crate::limits::{LINGER, OPEN_AGAIN, OPEN_FILES, OPEN_RETRY, RACY_AGAIN, RETRY};
use crate::linger::{Linger, Lingered};
use crate::publish::{Errand, Item};
use crate::registry::Key;
use crate::scan::Scope;
use crate::stage::Source;
use crate::volume::Volume;
use std::collections::{BTreeMap, BTreeSet};
use syncmesh_core::entry::{ContentHash, Unsure};
use syncmesh_core::path::{Name, RelativePath};
use syncmesh_io::Io;

/// What programs hold open in a volume.
#[derive(Default)]
pub struct OpenFiles {
    /// Published files that may change without showing it, and when each is looked at again.
    unsure: BTreeMap<(RelativePath, Name), u64>,
    /// Versions that wait for programs to close the old ones.
    waiting: BTreeMap<Key, Waiting>,
    /// When displaced files are looked after next, and how long the wait before that was.
    review: Option<(u64, u64)>,
    reviewing: bool,
}

struct Waiting {
    since: u64,
    again: u64,
    /// The slot in which the contents are, and their hash.
    kept: Option<(u64, ContentHash)>,
}

impl OpenFiles {
    /// A file was read that may change without showing it.
    pub fn unsure(&mut self, directory: &RelativePath, name: Name, unsure: Unsure, now: u64) {
        // Of more of them than this their being closed is what tells.
        if self.unsure.len() < OPEN_FILES {
            let wait = if unsure.racy { RACY_AGAIN } else { OPEN_AGAIN };
            self.unsure.insert((directory.clone(), name), now + wait.as_nanos() as u64);
        }
    }

    /// What is due of one directory that isn't busy.
    fn take_unsure(&mut self, now: u64, busy: &BTreeSet<RelativePath>) -> Option<(RelativePath, Vec<Name>)> {
        let mut due = self.unsure.iter().filter(|(_, due)| **due <= now).map(|((directory, _), _)| directory);
        let directory = due.find(|directory| !busy.contains(*directory))?.clone();
        let is_due = |place: &(RelativePath, Name), due: &mut u64| place.0 == directory && *due <= now;
        let names = self.unsure.extract_if(.., is_due).map(|((_, name), _)| name).collect();
        Some((directory, names))
    }

    /// Does a version wait for a program?
    pub fn waits(&self, key: &Key) -> bool {
        self.waiting.contains_key(key)
    }

    /// Which of these names are given now although programs have the old versions open?
    pub fn overdue(&self, number: u16, directory: &RelativePath, items: &[Item], until: u64) -> BTreeSet<Name> {
        if self.waiting.is_empty() {
            return BTreeSet::new();
        }
        let names = items.iter().map(|item| item.name.clone());
        let is_overdue = |name: &Name| {
            let key = Key { volume: number, directory: directory.clone(), name: name.clone() };
            self.waiting.get(&key).is_some_and(|waiting| waiting.since <= until)
        };
        names.filter(is_overdue).collect()
    }

    /// What was staged for versions that wait is gone: it comes again.
    pub fn forget_staged(&mut self) {
        self.waiting.values_mut().for_each(|waiting| waiting.kept = None);
    }

    /// When something is due.
    pub fn due(&self) -> Option<u64> {
        let review = self.review.filter(|_| !self.reviewing).map(|(due, _)| due);
        let waiting = self.waiting.values().map(|waiting| waiting.again);
        self.unsure.values().copied().chain(waiting).chain(review).min()
    }
}

impl<I: Io> Node<I> {
    pub(super) fn tend_open(&mut self, now: u64) {
        if self.stopping.is_some() {
            return;
        }
        let mut retries = Vec::new();
        for (&number, volume) in &mut self.volumes {
            if !may_work(volume) {
                continue;
            }
            for (key, waiting) in volume.open.waiting.iter_mut().filter(|(_, waiting)| waiting.again <= now) {
                // Its outcome says when next.
                waiting.again = now + RETRY.1.as_nanos() as u64;
                retries.push((number, key.clone(), waiting.kept.take()));
            }
        }
        for (number, key, kept) in retries {
            self.try_open_again(number, key, kept);
        }
        self.start_reviews(now);
    }

    /// A version for a name whose old one a program has open, or had.
    fn try_open_again(&mut self, number: u16, key: Key, kept: Option<(u64, ContentHash)>) {
        let row = match self.registry.get(&key) {
            Ok(row) => row,
            Err(error) => return self.fail(error.to_string()),
        };
        let Some(volume) = self.volumes.get_mut(&number) else { return };
        let wanted: Vec<_> = row.and_then(|row| row.wanted).map(|wanted| wanted.entries).unwrap_or_default();
        let mut kept = kept;
        if wanted.is_empty() {
            volume.open.waiting.remove(&key);
        }
        for entry in wanted {
            let fits = kept.filter(|(_, hash)| entry.content.body.hash() == Some(*hash));
            let source = fits.map_or(Source::None, |(slot, _)| Source::Slot(slot));
            kept = kept.filter(|_| fits.is_none());
            let item = Item { name: key.name.clone(), entry, source, stream: None, errand: Errand::Again };
            volume.queue(key.directory.clone(), item);
        }
        self.drop_kept(number, kept);
    }

    fn drop_kept(&mut self, number: u16, kept: Option<(u64, ContentHash)>) {
        if let Some((slot, _)) = kept {
            self.start(Job::DropSlot(number, slot));
        }
    }

    /// A version waits for a program that has the old one open.
    pub(super) fn wait_for_program(&mut self, key: &Key, kept: Option<(u64, ContentHash)>) {
        let now = self.io.now();
        let Some(volume) = self.volumes.get_mut(&key.volume) else { return };
        let wait = volume.settings.get().open_wait;
        volume.problem(
            key.path(),
            format!(
                "a program on this node has it open for writing: the new version takes its place when that is closed, or {} s after it came",
                wait.div_ceil(1_000_000_000)
            ),
        );
        let waiting = volume.open.waiting.entry(key.clone()).or_insert(Waiting { since: now, again: 0, kept: None });
        waiting.again = (now + OPEN_RETRY.as_nanos() as u64).min((waiting.since + wait).max(now + 1));
        let before = std::mem::replace(&mut waiting.kept, kept);
        self.drop_kept(key.volume, before);
    }

    /// A version was tried, and doesn't wait for a program any more.
    pub(super) fn waits_no_more(&mut self, key: &Key) {
        let waiting = self.volumes.get_mut(&key.volume).and_then(|volume| volume.open.waiting.remove(key));
        self.drop_kept(key.volume, waiting.and_then(|waiting| waiting.kept));
    }

    fn start_reviews(&mut self, now: u64) {
        let may_start = self.has_room() && !self.epoch_is_over(now);
        let (shortest, _) = review_waits();
        let mut jobs = Vec::new();
        for volume in self.volumes.values_mut().filter(|volume| may_work(volume)) {
            let lingering = !volume.lingering.is_empty();
            let open = &mut volume.open;
            match open.review {
                None if lingering => open.review = Some((now + shortest, shortest)),
                Some((due, _)) if lingering && due <= now && may_start && !open.reviewing => {
                    open.reviewing = true;
                    jobs.push(Job::Linger(Linger { volume: volume.number, log: self.epoch.log }));
                }
                Some(_) if !lingering && !open.reviewing => open.review = None,
                _ => {}
            }
        }
        for job in jobs {
            // What it finds is journalled in the epoch that is open now.
            self.epoch.applies += 1;
            self.start(job);
        }
    }

    pub(super) fn lingered(&mut self, lingered: Lingered) {
        let now = self.io.now();
        self.epoch.applies -= 1;
        let Some(volume) = self.volumes.get_mut(&lingered.volume) else { return };
        volume.open.reviewing = false;
        let (shortest, longest) = review_waits();
        let before = volume.open.review.map_or(shortest, |(_, wait)| wait);
        let wait = if lingered.any_closed { shortest } else { (before * 2).min(longest) };
        volume.open.review = Some((now + wait, wait));
        for (key, version) in lingered.found {
            self.displaced(lingered.volume, &key.directory, key.name, version);
        }
    }
}

/// The shortest and the longest wait before displaced files are looked at again, in nanoseconds.
fn review_waits() -> (u64, u64) {
    (LINGER.0.as_nanos() as u64, LINGER.1.as_nanos() as u64)
}

/// What would be found is decided at once only then; an epoch waits for that.
fn may_work(volume: &Volume) -> bool {
    volume.scanned && !volume.stands_still() && volume.failed.is_none()
}

impl Volume {
    /// A directory that is due and not busy, and what of it: what is dirty first, then what may have changed without showing it.
    pub(super) fn next_look(&mut self, now: u64) -> Option<(RelativePath, Scope)> {
        if let Some(dirty) = self.dirty.take(now, &self.busy) {
            return Some(dirty);
        }
        let may_glance = may_work(self);
        let unsure = may_glance.then(|| self.open.take_unsure(now, &self.busy)).flatten();
        unsure.map(|(directory, names)| (directory, Scope::Unsure(names)))
    }

    /// Notes what a scan read that may change without showing it.
    pub(super) fn look_again(&mut self, directory: &RelativePath, unsure: Vec<(Name, Unsure)>, now: u64) {
        for (name, unsure) in unsure {
            self.open.unsure(directory, name, unsure, now);
        }
    }
}

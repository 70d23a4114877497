//! What must be looked at, and when. Events of the kernel only mark names; what changed is found by looking.

use crate::limits::{SCAN_NAMES, SETTLE_CAP};
use crate::scan::Scope;
use std::collections::{BTreeMap, BTreeSet};
use syncmesh_core::path::{Name, RelativePath};
use syncmesh_io::{WatchDescriptor, WatchEvent, WatchKind};

/// Directories and names that must be looked at.
#[derive(Default)]
pub struct Dirty {
    marks: BTreeMap<RelativePath, Marks>,
    due: BTreeSet<(u64, RelativePath)>,
}

#[derive(Default)]
struct Marks {
    /// The whole directory, from this time on.
    whole: Option<Whole>,
    names: BTreeMap<Name, Times>,
    /// The earliest time of all marks, as it stands in `Dirty::due`.
    due: Option<u64>,
}

#[derive(Clone, Copy)]
struct Whole {
    recurse: bool,
    due: u64,
}

#[derive(Clone, Copy)]
struct Times {
    first: u64,
    due: u64,
}

impl Marks {
    fn earliest(&self) -> Option<u64> {
        self.names.values().map(|times| times.due).chain(self.whole.map(|whole| whole.due)).min()
    }
}

impl Dirty {
    /// Marks a whole directory; with `recurse` all directories below it too.
    pub fn mark_all(&mut self, directory: &RelativePath, recurse: bool, due: u64) {
        let marks = self.marks.entry(directory.clone()).or_default();
        let old = marks.whole;
        let (recurse, due) = (recurse || old.is_some_and(|old| old.recurse), old.map_or(due, |old| old.due.min(due)));
        marks.whole = Some(Whole { recurse, due });
        self.note(directory);
    }

    /// Marks a name to be looked at after `wait` nanoseconds of quiet; the wait starts anew with each mark, up to a cap
    /// after the first.
    pub fn mark(&mut self, directory: &RelativePath, name: Name, now: u64, wait: u64) {
        let marks = self.marks.entry(directory.clone()).or_default();
        if marks.names.len() >= SCAN_NAMES && !marks.names.contains_key(&name) {
            // Listing finds them all, and costs no memory for each.
            self.mark_all(directory, false, now + wait);
            return;
        }
        let times = marks.names.entry(name).or_insert(Times { first: now, due: u64::MAX });
        let cap = times.first + SETTLE_CAP.as_nanos() as u64;
        times.due = if wait == 0 { now } else { (now + wait).min(cap.max(now)) };
        self.note(directory);
    }

    fn note(&mut self, directory: &RelativePath) {
        let Some(marks) = self.marks.get_mut(directory) else { return };
        let earliest = marks.earliest();
        if marks.due == earliest {
            return;
        }
        if let Some(old) = marks.due {
            self.due.remove(&(old, directory.clone()));
        }
        marks.due = earliest;
        match earliest {
            Some(due) => {
                self.due.insert((due, directory.clone()));
            }
            None => {
                self.marks.remove(directory);
            }
        }
    }

    /// A directory that is due and not busy, and what of it; its marks are taken.
    pub fn take(&mut self, now: u64, busy: &BTreeSet<RelativePath>) -> Option<(RelativePath, Scope)> {
        let due = self.due.iter().take_while(|(due, _)| *due <= now);
        let directory = due.map(|(_, directory)| directory).find(|directory| !busy.contains(directory))?.clone();
        let marks = self.marks.get_mut(&directory).expect("what is due is marked");
        let scope = match marks.whole.filter(|whole| whole.due <= now) {
            Some(whole) => {
                marks.whole = None;
                // Names that settle still keep their time: listing them early would read them too early.
                marks.names.retain(|_, times| times.due > now);
                Scope::All { recurse: whole.recurse }
            }
            None => {
                let names: Vec<Name> =
                    marks.names.iter().filter(|(_, times)| times.due <= now).map(|(name, _)| name.clone()).collect();
                marks.names.retain(|_, times| times.due > now);
                Scope::Names(names)
            }
        };
        self.note(&directory);
        Some((directory, scope))
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Is anything marked?
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Is a whole directory marked that is due by now? As long as that is so a full scan isn't over.
    pub fn whole_due(&self, now: u64) -> bool {
        self.due
            .iter()
            .take_while(|(due, _)| *due <= now)
            .any(|(_, directory)| self.marks.get(directory).is_some_and(|marks| marks.whole.is_some()))
    }

    /// How many directories have marks.
    pub fn len(&self) -> usize {
        self.marks.len()
    }
}

/// Which directory a watch belongs to.
#[derive(Default)]
pub struct Watches {
    directories: BTreeMap<WatchDescriptor, RelativePath>,
    /// Descriptors whose events came before we heard which directory they belong to.
    early: BTreeSet<WatchDescriptor>,
}

impl Watches {
    /// Notes a directory's watch. True if events may have been missed or misplaced, so that it must be listed again.
    pub fn insert(&mut self, watch: WatchDescriptor, directory: &RelativePath) -> bool {
        let early = self.early.remove(&watch);
        match self.directories.insert(watch, directory.clone()) {
            Some(old) if old != *directory => true,
            _ => early,
        }
    }

    /// No scan is under way: whichever descriptor is unknown now belongs to a directory that is gone.
    pub fn forget_early(&mut self) {
        self.early.clear();
    }

    /// How many directories are watched.
    pub fn len(&self) -> usize {
        self.directories.len()
    }

    /// Is nothing watched?
    pub fn is_empty(&self) -> bool {
        self.directories.is_empty()
    }

    /// Turns one event into marks. `settle` is in nanoseconds.
    pub fn apply(&mut self, event: &WatchEvent, dirty: &mut Dirty, now: u64, settle: u64) {
        if event.kind == WatchKind::Overflow {
            dirty.mark_all(&RelativePath::root(), true, now);
            return;
        }
        let Some(directory) = self.directories.get(&event.directory).cloned() else {
            // Also if it is gone already: its directory may have been replaced while a scan was listing it.
            self.early.insert(event.directory);
            return;
        };
        let name = Name::new(&event.name).ok();
        match (event.kind, name) {
            (WatchKind::DirectoryGone, _) => {
                self.directories.remove(&event.directory);
                // Its name may stand for a new directory already, even one with the old inode number: listing it watches it
                // again. If it is really gone, that is what the listing finds.
                dirty.mark_all(&directory, true, now);
                if let Some((parent, name)) = directory.split() {
                    dirty.mark(&parent, name, now, 0);
                }
            }
            (_, None) => {
                // About the directory itself: its mode or owner, or it was moved.
                match directory.split() {
                    Some((parent, name)) => dirty.mark(&parent, name, now, settle),
                    None => dirty.mark_all(&directory, false, now),
                }
            }
            (WatchKind::Closed | WatchKind::Moved, Some(name)) => dirty.mark(&directory, name, now, 0),
            (WatchKind::Created, Some(name)) if event.is_directory => dirty.mark(&directory, name, now, 0),
            (WatchKind::Created | WatchKind::Modified | WatchKind::Attributes, Some(name)) => {
                dirty.mark(&directory, name, now, settle);
            }
            (WatchKind::Overflow, Some(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_file_that_is_written_without_end_is_looked_at_within_the_cap() {
        let mut dirty = Dirty::default();
        let root = RelativePath::root();
        let (mut now, settle) = (0, 50_000_000);
        while dirty.take(now, &BTreeSet::new()).is_none() {
            dirty.mark(&root, name("log"), now, settle);
            now += 10_000_000;
        }
        assert!(now <= SETTLE_CAP.as_nanos() as u64 + 10_000_000);
    }

    #[test]
    fn busy_directories_wait_and_others_go_first() {
        let mut dirty = Dirty::default();
        let (a, b) = (RelativePath::new(b"a").unwrap(), RelativePath::new(b"b").unwrap());
        dirty.mark(&a, name("x"), 0, 0);
        dirty.mark(&b, name("y"), 1, 0);
        let busy = BTreeSet::from([a.clone()]);
        assert_eq!(dirty.take(5, &busy).unwrap(), (b, Scope::Names(vec![name("y")])));
        assert!(dirty.take(5, &busy).is_none());
        assert_eq!(dirty.take(5, &BTreeSet::new()).unwrap().0, a);
        assert!(dirty.is_empty());
    }

    #[test]
    fn thousands_of_names_become_one_listing() {
        let mut dirty = Dirty::default();
        for number in 0..5_000 {
            dirty.mark(&RelativePath::root(), name(&number.to_string()), 0, 0);
        }
        let (_, scope) = dirty.take(0, &BTreeSet::new()).unwrap();
        assert_eq!(scope, Scope::All { recurse: false });
    }
}

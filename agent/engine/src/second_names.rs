//! Files with several names (hard links). What is written through one name shows under the others, and the kernel tells of the
//! one alone. So names are remembered by their file, and when one shows something new the others are looked at, too.
//!
//! Names that aren't remembered (a link was made to a file that had one name; or there are too many) stand in rows with their
//! file's inode number, and are looked for there.

use crate::limits::{SECOND_NAMES, SEEK_ROWS, SETTLE_CAP, SUMMED_ROWS};
use crate::registry::{Key, Registry, RegistryError};
use crate::watch::Dirty;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use syncmesh_core::entry::{ContentHash, Identity, Row};
use syncmesh_core::path::{Name, RelativePath};

/// A directory and a name in it.
type Place = (RelativePath, Name);

/// What a look found of a file that has, or had, several names.
pub struct Seen {
    /// Under which name.
    pub name: Name,
    /// Its inode's number.
    pub inode: u64,
    /// How many names it has.
    pub links: u32,
    /// See [`shown`].
    pub shown: u64,
    /// The name's row knew it otherwise.
    pub changed: bool,
    /// The name had no row.
    pub is_new: bool,
}

/// A digest of all that shows under each name of a file.
pub fn shown(contents: Option<ContentHash>, identity: &Identity) -> u64 {
    let mut hasher = DefaultHasher::new();
    let owner = (identity.owner.uid, identity.owner.gid);
    (contents.map(|hash| *hash.as_bytes()), identity.mtime, identity.mode, owner).hash(&mut hasher);
    hasher.finish()
}

/// A row's file: its inode's number, and what its name showed when it was looked at last.
fn of_row(row: &Row) -> Option<(u64, u64)> {
    let here = row.live()?;
    let identity = here.identity?;
    Some((identity.inode, shown(here.entry.content.body.hash(), &identity)))
}

struct File {
    /// What was shown at the last look, under whichever name.
    shown: u64,
    /// Names that it has, known or not.
    links: u32,
    /// In their order.
    names: Vec<Place>,
    /// Its names were looked for among the rows; a name that is given later is found by a look.
    was_sought: bool,
    /// When its other names were last marked.
    told: Option<u64>,
}

impl File {
    /// At once, and once a second at most: each look at a file that is written without end finds something new.
    fn look_at_others(&mut self, place: &Place, dirty: &mut Dirty, now: u64) {
        let due = match self.told {
            Some(told) if told > now => told,
            Some(told) => now.max(told + SETTLE_CAP.as_nanos() as u64),
            None => now,
        };
        for (directory, name) in self.names.iter().filter(|other| *other != place) {
            dirty.mark(directory, name.clone(), now, due - now);
        }
        self.told = Some(due);
    }
}

/// The files of one volume that have several names.
#[derive(Default)]
pub struct SecondNames {
    files: BTreeMap<u64, File>,
    places: BTreeMap<Place, u64>,
    /// There were more names than are remembered.
    is_full: bool,
    /// Files whose names must be looked for among the rows.
    sought: BTreeSet<u64>,
    search: Search,
}

/// How far looking for names has got. Times are the loop's.
enum Search {
    /// Nobody looks; from this time on somebody may.
    Rests(u64),
    /// It began at this time, for these files, and goes on behind this row.
    Next(u64, Arc<BTreeSet<u64>>, Key),
    /// A job looks; the search began at this time.
    Running(u64, Arc<BTreeSet<u64>>),
}

impl Default for Search {
    fn default() -> Self {
        Self::Rests(0)
    }
}

/// Look for names of files among the rows.
pub struct Seek {
    /// Which volume.
    pub volume: u16,
    /// The files' inode numbers.
    pub files: Arc<BTreeSet<u64>>,
    /// Behind which row it goes on.
    pub after: Option<Key>,
}

/// What was found.
pub struct Found {
    /// Which volume.
    pub volume: u16,
    names: Vec<(Key, u64, u64)>,
    next: Option<Key>,
}

impl Seek {
    /// Looks at some rows, at most as many as keep a worker for a few milliseconds.
    pub fn run(self, registry: &Registry) -> Result<Found, RegistryError> {
        let mut found = Found { volume: self.volume, names: Vec::new(), next: self.after };
        for _ in 0..SEEK_ROWS.div_ceil(SUMMED_ROWS) {
            let rows = registry.between(self.volume, found.next.as_ref(), None, SUMMED_ROWS)?;
            found.next = rows.last().filter(|_| rows.len() == SUMMED_ROWS).map(|(key, _)| key.clone());
            for (key, row) in rows {
                if let Some((inode, shown)) = of_row(&row).filter(|(inode, _)| self.files.contains(inode)) {
                    found.names.push((key, inode, shown));
                }
            }
            if found.next.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

impl SecondNames {
    /// A look found a file. What else must be looked at is marked. `is_first` while the first scan is under way: it meets all
    /// names anyway.
    pub fn seen(&mut self, directory: &RelativePath, seen: Seen, is_first: bool, dirty: &mut Dirty, now: u64) {
        let place = (directory.clone(), seen.name);
        if let Some((directory, name)) = self.shows(&place, Some(seen.inode)) {
            dirty.mark(&directory, name, now, 0);
        }
        if seen.links < 2 {
            self.leave(&place);
            return;
        }
        self.enter(&place, seen.inode, seen.links, seen.shown);
        let is_unknown = match self.files.get_mut(&seen.inode) {
            Some(file) => {
                file.links = seen.links;
                let is_news = file.shown != seen.shown;
                if is_news {
                    file.shown = seen.shown;
                    file.look_at_others(&place, dirty, now);
                }
                let is_unknown = file.names.len() < file.links as usize
                    && (!file.was_sought && !is_first || is_news && (!file.was_sought || self.is_full));
                file.was_sought |= is_unknown;
                is_unknown
            }
            None => seen.changed && !(is_first && seen.is_new),
        };
        if is_unknown {
            self.seek(seen.inode, dirty, now);
        }
    }

    /// Remembers a name, if there is room.
    fn enter(&mut self, place: &Place, inode: u64, links: u32, shown: u64) {
        if self.places.contains_key(place) {
            return;
        }
        if self.places.len() >= SECOND_NAMES {
            self.is_full = true;
            return;
        }
        let new = || File { shown, links, names: Vec::new(), was_sought: false, told: None };
        let names = &mut self.files.entry(inode).or_insert_with(new).names;
        let at = names.partition_point(|other| other < place);
        names.insert(at, place.clone());
        self.places.insert(place.clone(), inode);
    }

    /// A name shows this file now, or none. Another name of the file that it showed before must be looked at: what was written
    /// through this one just before it went shows there.
    #[must_use]
    pub fn shows(&mut self, place: &Place, inode: Option<u64>) -> Option<Place> {
        if self.places.get(place).is_some_and(|known| Some(*known) != inode) { self.leave(place) } else { None }
    }

    /// A name is none of its file's any more. Another one of that, if one is known.
    fn leave(&mut self, place: &Place) -> Option<Place> {
        let inode = self.places.remove(place)?;
        let file = self.files.get_mut(&inode)?;
        if let Ok(at) = file.names.binary_search(place) {
            file.names.remove(at);
        }
        let other = file.names.first().cloned();
        // An old version in the store is no name.
        file.links = file.links.saturating_sub(1).max(file.names.len() as u32);
        if (file.names.is_empty() || file.links < 2)
            && let Some(file) = self.files.remove(&inode)
        {
            file.names.iter().for_each(|place| _ = self.places.remove(place));
        }
        other
    }

    /// Nothing is remembered of any name.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Files of which names are known, and others aren't: those are outside of the volume, or not selected.
    pub fn elsewhere(&self) -> u64 {
        self.files.values().filter(|file| file.links as usize > file.names.len()).count() as u64
    }

    fn seek(&mut self, inode: u64, dirty: &mut Dirty, now: u64) {
        self.sought.insert(inode);
        if self.sought.len() > SECOND_NAMES {
            // Looking at everything finds them, and costs no memory for each.
            self.sought.clear();
            dirty.mark_all(&RelativePath::root(), true, now);
        }
    }

    /// Are names being looked for, or must be?
    pub fn seeks(&self) -> bool {
        !self.sought.is_empty() || matches!(self.search, Search::Next(..) | Search::Running(..))
    }

    /// When looking for names goes on.
    pub fn due(&self) -> Option<u64> {
        match self.search {
            Search::Rests(due) => (!self.sought.is_empty()).then_some(due),
            Search::Next(began, ..) => Some(began),
            Search::Running(..) => None,
        }
    }

    /// The next part of the search, if there is one: for which files, and behind which row.
    pub fn next(&mut self, now: u64) -> Option<(Arc<BTreeSet<u64>>, Option<Key>)> {
        if self.due()? > now {
            return None;
        }
        let (began, sought, after) = match std::mem::take(&mut self.search) {
            Search::Next(began, sought, after) => (began, sought, Some(after)),
            _ => (now, Arc::new(std::mem::take(&mut self.sought)), None),
        };
        self.search = Search::Running(began, Arc::clone(&sought));
        Some((sought, after))
    }

    /// What a part of the search found. Names that showed something else when they were looked at are looked at again.
    pub fn sought(&mut self, found: Found, dirty: &mut Dirty, now: u64) {
        for (key, inode, shown) in found.names {
            let place = (key.directory, key.name);
            match self.files.get(&inode).map(|file| (file.shown, file.links)) {
                Some((last, links)) if last == shown => self.enter(&place, inode, links, shown),
                _ => dirty.mark(&place.0, place.1, now, 0),
            }
        }
        let Search::Running(began, sought) = std::mem::take(&mut self.search) else { return };
        self.search = match found.next {
            Some(after) => Search::Next(began, sought, after),
            // Most of the time is for other work, however many rows there are.
            None => Search::Rests(now + (now - began).saturating_mul(4)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Scope;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    #[derive(Default)]
    struct Volume {
        names: SecondNames,
        dirty: Dirty,
        now: u64,
    }

    impl Volume {
        /// A look after the first scan.
        fn look(&mut self, at: &str, inode: u64, links: u32, shown: u64) {
            let seen = Seen { name: name(at), inode, links, shown, changed: true, is_new: false };
            self.names.seen(&RelativePath::root(), seen, false, &mut self.dirty, self.now);
        }

        /// What is due, as one listing or by names.
        fn due(&mut self) -> Option<String> {
            let (_, scope) = self.dirty.take(self.now, &BTreeSet::new())?;
            Some(match scope {
                Scope::Names(names) => names.iter().map(|name| format!("{name} ")).collect(),
                scope => format!("{scope:?}"),
            })
        }

        fn search(&mut self) -> Option<Vec<u64>> {
            Some(self.names.next(self.now)?.0.iter().copied().collect())
        }

        fn found(&mut self, rows: &[(&str, u64, u64)]) {
            let key = |at: &str| Key { volume: 1, directory: RelativePath::root(), name: name(at) };
            let names = rows.iter().map(|(at, inode, shown)| (key(at), *inode, *shown)).collect();
            self.names.sought(Found { volume: 1, names, next: None }, &mut self.dirty, self.now);
        }
    }

    #[test]
    fn what_one_name_shows_the_others_are_looked_at_for_once() {
        let mut volume = Volume::default();
        for at in ["a", "b", "c"] {
            volume.look(at, 7, 3, 1);
        }
        assert_eq!(volume.search(), Some(vec![7]), "when the first came, two were unknown");
        volume.found(&[("a", 7, 1)]);
        assert_eq!(volume.due(), None);
        volume.look("b", 7, 3, 2);
        assert_eq!(volume.due().as_deref(), Some("a c "));
        volume.look("a", 7, 3, 2);
        volume.look("c", 7, 3, 2);
        assert_eq!((volume.due(), volume.search()), (None, None));
        // One that is written without end costs a look a second.
        volume.look("a", 7, 3, 3);
        assert_eq!(volume.due(), None);
        volume.now += SETTLE_CAP.as_nanos() as u64;
        assert_eq!(volume.due().as_deref(), Some("b c "));
    }

    #[test]
    fn names_that_are_gone_or_show_other_files_are_none_of_its_names() {
        let mut volume = Volume::default();
        for at in ["a", "b", "c"] {
            volume.look(at, 7, 3, 1);
        }
        let other = volume.names.shows(&(RelativePath::root(), name("a")), None);
        assert_eq!(other, Some((RelativePath::root(), name("b"))));
        volume.look("b", 8, 1, 1);
        assert!(volume.names.is_empty(), "the last name has no others");
        volume.look("c", 7, 2, 1);
        assert_eq!(volume.names.elsewhere(), 1);
        volume.look("c", 7, 1, 1);
        assert_eq!(volume.names.elsewhere(), 0);
    }

    #[test]
    fn names_that_arent_remembered_are_found_in_rows() {
        let mut volume = Volume::default();
        volume.look("new", 7, 2, 1);
        assert!(volume.names.seeks());
        assert_eq!(volume.search(), Some(vec![7]));
        volume.found(&[("new", 7, 1), ("old", 7, 5)]);
        assert!(!volume.names.seeks());
        assert_eq!(volume.due().as_deref(), Some("old "));
        // Of a file whose names were sought others are elsewhere.
        volume.look("new", 7, 2, 2);
        assert_eq!(volume.search(), None);
    }

    #[test]
    fn of_too_many_names_the_others_are_found_in_rows_at_each_change() {
        let mut volume = Volume::default();
        for file in 0..SECOND_NAMES as u64 - 1 {
            volume.look(&format!("{file}"), file, 2, 1);
        }
        volume.search();
        volume.found(&[]);
        volume.look("a", 1 << 40, 3, 1);
        for at in ["b", "c"] {
            volume.look(at, 1 << 40, 3, 1);
        }
        volume.search();
        volume.found(&[("a", 1 << 40, 1), ("b", 1 << 40, 1), ("c", 1 << 40, 1)]);
        assert_eq!(volume.due(), None);
        volume.look("c", 1 << 40, 3, 2);
        assert_eq!(volume.due().as_deref(), Some("a "));
        assert_eq!(volume.search(), Some(vec![1 << 40]));
        volume.found(&[("a", 1 << 40, 1), ("b", 1 << 40, 1), ("c", 1 << 40, 2)]);
        assert_eq!(volume.due().as_deref(), Some("a b "));
        // A file of which no name is remembered.
        volume.look("x", 1 << 41, 2, 2);
        assert_eq!(volume.search(), Some(vec![1 << 41]));
        volume.found(&[("x", 1 << 41, 2), ("y", 1 << 41, 1)]);
        assert_eq!(volume.due().as_deref(), Some("x y "));
        // So many that everything is looked at.
        for file in 0..=SECOND_NAMES as u64 {
            volume.look("z", 1 << 42 | file, 2, 2);
        }
        assert!(!volume.names.seeks() && volume.due().unwrap().contains("recurse: true"));
    }
}

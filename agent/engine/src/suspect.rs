//! After power loss: which files aren't believed, and until when (SYNC 9).
//!
//! A file system shows after power loss what it had made durable, and of the last seconds what it likes: names without
//! contents, contents that end in zeros. Told to peers, an empty file would be the newest version of it, and win everywhere.
//! So a file that changed since the last durable epoch began, and that isn't what its row says, is *suspect*: it is no
//! version of anybody's until every member was heard with which the lost run had a session. If one of them has a newer
//! version than the row that is taken, and what the disk shows goes to the version store. What nobody knows better is then
//! a version like any other, unless it is empty or ends in a page of zeros: that waits for somebody's word.

use crate::unsynced::forget_cached;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use syncmesh_core::entry::{Row, Why};
use syncmesh_core::path::{Name, RelativePath};
use syncmesh_io::{Directory, FileKind, FsError, Stat};

/// Files may show a change this long before it was noticed: time stamps are coarse, and clocks are set. In nanoseconds.
const EARLIER: i64 = 2_000_000_000;

/// Two ticks of a coarse clock: a change just before a time may carry a stamp from just after it.
const TICKS: i64 = 20_000_000;

/// What is known about a power loss until its suspects are decided. Durable, because power may fail again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Suspicion {
    /// Which files are suspect.
    pub window: Window,
    /// Members with which a lost run had a session, and that weren't heard since.
    pub members: BTreeSet<String>,
    /// Files that are known to have lost contents, whatever they look like. With the root among them, all in the window.
    pub torn: BTreeSet<RelativePath>,
}

/// Files whose inodes changed in a span of time, in nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Window {
    /// Its beginning.
    pub since: i64,
    /// Its end, which isn't part of it: when the first scan since then was over. Until then it has none: whoever lost power
    /// may have lost the time, too, and find files from the future.
    pub until: i64,
    /// What of them is believed already.
    pub believed: Believed,
}

/// What of the suspect files is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Believed {
    /// None: not everybody was heard.
    Nothing,
    /// Those that show no damage.
    Whole,
    /// All: somebody said so.
    All,
}

impl Suspicion {
    /// After a run that was lost, whose last durable epoch began at `epoch_millis` since 1970; with what an earlier power
    /// loss has left.
    pub fn new(epoch_millis: u64, members: BTreeSet<String>, before: Option<Self>) -> Self {
        let since = nanos(epoch_millis).saturating_sub(EARLIER);
        let window = Window { since, until: i64::MAX, believed: Believed::Nothing };
        let mut suspicion = Self { window, members, torn: BTreeSet::new() };
        if let Some(before) = before {
            suspicion.window.since = since.min(before.window.since);
            suspicion.members.extend(before.members);
            suspicion.torn.extend(before.torn);
        }
        suspicion
    }
}

fn nanos(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

/// What is suspect, as jobs see it.
#[derive(Debug, Default)]
pub struct Doubt(Mutex<Option<Seen>>);

#[derive(Clone, Debug)]
struct Seen {
    window: Window,
    torn: Arc<BTreeSet<RelativePath>>,
}

impl Doubt {
    /// From now on.
    pub fn set(&self, suspicion: Option<&Suspicion>) {
        let seen = suspicion.map(|known| Seen { window: known.window, torn: Arc::new(known.torn.clone()) });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }

    /// What is known of a file that changed in the window.
    fn seen(&self, stat: &Stat, was_suspect: bool) -> Option<Seen> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        seen.filter(|seen| stat.kind == FileKind::File && seen.window.has(stat, was_suspect))
    }

    /// Makes sure that a file which may be suspect is read from the disk: memory may have what the disk couldn't take. What the
    /// disk shows of it then.
    ///
    /// # Errors
    /// The file can't be opened, or its file system can't write what waits.
    pub fn read_anew(
        &self,
        directory: &dyn Directory,
        name: &Name,
        stat: Stat,
        was_suspect: bool,
    ) -> Result<Stat, FsError> {
        if self.seen(&stat, was_suspect).is_none() {
            return Ok(stat);
        }
        let file = directory.open(name.as_bytes())?;
        forget_cached(&*file)?;
        file.stat()
    }

    /// Is a file suspect that differs from its row?
    ///
    /// # Errors
    /// The file can't be read.
    pub fn suspects(
        &self,
        directory: &dyn Directory,
        path: &RelativePath,
        name: &Name,
        stat: &Stat,
        row: Option<&Row>,
    ) -> Result<bool, FsError> {
        let was_suspect = row.is_some_and(is_suspect);
        let Some(Seen { window, torn }) = self.seen(stat, was_suspect) else { return Ok(false) };
        let known_better = row.is_some_and(|row| is_suspect(row) && !nothing_better(row));
        let is_torn = torn.contains(path) || torn.contains(&RelativePath::root());
        match window.believed {
            Believed::Nothing => Ok(true),
            Believed::Whole => Ok(known_better || is_torn || is_damaged(directory, name, stat)?),
            Believed::All => Ok(false),
        }
    }
}

impl Window {
    /// A chmod or a rename since then says nothing of the contents: only who writes them takes a file out of it.
    fn has(&self, stat: &Stat, was_suspect: bool) -> bool {
        let span = self.since..self.until;
        span.contains(&stat.ctime) || span.contains(&stat.mtime) || (was_suspect && stat.mtime < self.until)
    }

    /// The first scan since then is over.
    pub fn close(&mut self, now_millis: u64) {
        self.until = self.until.min(nanos(now_millis).saturating_add(TICKS));
    }
}

/// Is what the disk shows of the path suspect?
pub fn is_suspect(row: &Row) -> bool {
    row.wanted.as_ref().is_some_and(|wanted| wanted.why == Why::Suspect)
}

/// Is no version wanted in the place of what is suspect?
pub fn nothing_better(row: &Row) -> bool {
    row.wanted.as_ref().is_none_or(|wanted| wanted.entries.is_empty())
}

/// Is the file empty, or its last page nothing but zeros?
fn is_damaged(directory: &dyn Directory, name: &Name, stat: &Stat) -> Result<bool, FsError> {
    const PAGE: u64 = 4096;
    let Some(last) = stat.size.checked_sub(1) else { return Ok(true) };
    let start = last / PAGE * PAGE;
    let mut page = vec![0; (stat.size - start) as usize];
    let read = directory.open(name.as_bytes())?.read_at(&mut page, start)?;
    Ok(page[..read].iter().all(|&byte| byte == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_power_loss_widens_the_window_and_forgets_nobody() {
        let members = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let mut first = Suspicion::new(10_000, members(&["b"]), None);
        first.window.close(11_000);
        assert_eq!((first.window.since, first.window.until), (8_000_000_000, 11_020_000_000));
        let second = Suspicion::new(20_000, members(&["c"]), Some(first));
        assert_eq!((second.window.since, second.window.until), (8_000_000_000, i64::MAX));
        assert_eq!(second.members, members(&["b", "c"]));
    }
}

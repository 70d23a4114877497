//! The guard over many deletions at once (SYNC 10, I15), as far as it is the loop's: what gathers, what is held, what is
//! let go.
//!
//! A deletion that waits is a row of its own kind, so that no number of them needs memory and a restart forgets none:
//! `wanted` with `Why::Held`. Of a file that a user here deleted nothing is `here` any more and the entry is wanted; of one
//! that a peer deleted the file is `here` still and the deletion is wanted.

use crate::limits::{GUARD_LONGEST, GUARD_QUIET, GUARD_REVIEW};
use crate::moved::Moved;
use crate::registry::{Counts, Key};
use syncmesh_core::entry::{Body, Entry, Row, Wanted, Why};
use syncmesh_core::guard::{FEW, Limits};

/// One volume's guard.
pub struct Guard {
    /// From when on deletions are held.
    pub limits: Limits,
    /// What goes on.
    pub state: State,
    /// Files that were moved here rather than deleted.
    pub moved_here: Moved,
    /// Files that peers moved rather than deleted.
    pub moved_there: Moved,
    /// Directories that a walk has met: see [`Walk::Directories`].
    pub directories: Vec<(Key, Entry)>,
    /// Deletions that passed since it was last quiet, files that there were then, and when the last was seen.
    passed: u64,
    before: u64,
    last: u64,
    /// Deletions of peers that passed at once since it was last quiet, and when the last came.
    received: (u64, u64),
}

/// What goes on with a volume's deletions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// None waits.
    Calm,
    /// Some wait for others that may come with them.
    Gathering {
        /// Since when, on the loop's clock.
        first: u64,
    },
    /// They were too many, and wait for somebody's word.
    Held {
        /// Since when, in milliseconds since 1970.
        since: u64,
        /// When it is looked whether they have become few by themselves; none once that was done.
        review: Option<u64>,
    },
    /// They are being let go, or taken back.
    Deciding(Deciding),
}

/// A walk over what waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deciding {
    /// What becomes of them.
    pub verdict: Verdict,
    /// Rows that it is about and hasn't met yet. What comes to wait meanwhile was judged by nobody.
    pub rows: u64,
    /// How far it got.
    pub walk: Walk,
    /// A job looks for the next ones.
    pub running: bool,
}

/// How far a walk got.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Walk {
    /// It goes on behind this row.
    Rows(Option<Key>),
    /// What is left are directories that were deleted here, parents first: they go last, children first.
    Directories(Vec<(Key, Entry)>),
    /// Nothing is left.
    End,
}

/// What becomes of deletions that waited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// They are few enough.
    Pass,
    /// Somebody wants them: other nodes needn't ask again.
    Approve,
    /// Nobody wanted them: what was deleted returns.
    Reject,
}

impl Guard {
    /// A guard; `held` rows wait since the run before.
    pub fn new(limits: Limits, held: u64, now_millis: u64) -> Self {
        let state = match held {
            0 => State::Calm,
            1..FEW => State::Gathering { first: 0 },
            _ => State::Held { since: now_millis, review: None },
        };
        Self {
            limits,
            state,
            moved_here: Moved::default(),
            moved_there: Moved::default(),
            directories: Vec::new(),
            passed: 0,
            before: 0,
            last: 0,
            received: (0, 0),
        }
    }

    /// A deletion waits, in a volume of so many files with it.
    pub fn gather(&mut self, now: u64, files: u64) {
        if self.is_quiet(now) {
            self.passed = 0;
            self.before = files;
        }
        self.last = now;
        if self.state == State::Calm {
            self.state = State::Gathering { first: now };
        }
    }

    /// A peer's deletion came: may it pass at once? A few may, unless others wait already.
    pub fn passes_at_once(&mut self, now: u64) -> bool {
        let (count, last) = self.received;
        let count = if now >= last + GUARD_QUIET.as_nanos() as u64 { 0 } else { count };
        self.received = (count + 1, now);
        self.limits.is_off() || (self.state == State::Calm && count + 1 < FEW)
    }

    fn is_quiet(&self, now: u64) -> bool {
        now >= self.last + GUARD_QUIET.as_nanos() as u64
    }

    /// When it must be looked at again. Few deletions wait for `settle` only: the pace of any program that deletes many.
    pub fn due(&self, counts: &Counts, settle: u64) -> Option<u64> {
        match self.state {
            State::Calm | State::Deciding(_) => None,
            State::Gathering { first } => {
                let quiet = if counts.held < FEW { settle } else { GUARD_QUIET.as_nanos() as u64 };
                Some((self.last + quiet).min(first + GUARD_LONGEST.as_nanos() as u64))
            }
            State::Held { review, .. } => review,
        }
    }

    /// When what gathers is judged even if more is about to come.
    pub fn overdue(&self) -> Option<u64> {
        match self.state {
            State::Gathering { first } => Some(first + GUARD_LONGEST.as_nanos() as u64),
            State::Calm | State::Held { .. } | State::Deciding(_) => None,
        }
    }

    /// Judges what has gathered, or become of what was held. True if that changed anything.
    pub fn judge(&mut self, counts: &Counts, now: u64, wall: u64) -> bool {
        let gone = counts.held_gone.saturating_sub(self.moved_here.pairs);
        let here = counts.held_here.saturating_sub(self.moved_there.pairs);
        let left = counts.files.saturating_sub(counts.held_here);
        // A node that still fetches has few files yet; what it is about to have counts when peers delete.
        let coming = counts.wanted.saturating_sub(counts.held);
        // Of those that passed before only what is really missing: programs make and delete files all the time.
        let missing = self.before.saturating_sub(counts.files + counts.held_gone).min(self.passed);
        let must_wait = self.limits.hold(missing + gone, left) || self.limits.hold(missing + here, left + coming);
        self.state = match &self.state {
            State::Gathering { .. } if must_wait => {
                State::Held { since: wall, review: Some(now + GUARD_REVIEW.as_nanos() as u64) }
            }
            State::Gathering { .. } => {
                self.passed += gone + here;
                State::deciding(Verdict::Pass, counts)
            }
            // Created again, most of them. Anything else needs somebody's word: a few new files make nothing better.
            State::Held { .. } if counts.held < FEW => State::deciding(Verdict::Pass, counts),
            State::Held { since, .. } => State::Held { since: *since, review: None },
            State::Calm | State::Deciding(_) => return false,
        };
        true
    }

    /// Nothing waits any more, or only what came meanwhile.
    pub fn decided(&mut self, counts: &Counts, now: u64) {
        self.state = if counts.held == 0 { State::Calm } else { State::Gathering { first: now } };
        if counts.held == 0 {
            self.moved_here.clear();
            self.moved_there.clear();
        }
    }
}

impl State {
    /// The beginning of a walk over what waits now.
    pub fn deciding(verdict: Verdict, counts: &Counts) -> Self {
        Self::Deciding(Deciding { verdict, rows: counts.held, walk: Walk::Rows(None), running: false })
    }
}

/// The row of a deletion by a user here, as long as it waits. `None` if it needn't: it takes nothing from anybody, because
/// other contents are wanted in its place already.
pub fn withheld(row: &Row) -> Option<Row> {
    let here = row.live()?;
    let wanted = row.wanted.as_ref().and_then(|wanted| wanted.entries.first());
    if wanted.is_some_and(|wanted| !wanted.content.body.same_contents(&here.entry.content.body)) {
        return None;
    }
    let entry = wanted.map_or_else(|| here.entry.clone(), |wanted| syncmesh_core::decide::merge(&here.entry, wanted));
    let wanted = Some(Wanted { entries: vec![entry], why: Why::Held });
    Some(Row { sequence: row.sequence, here: None, wanted })
}

/// May a deletion be carried out although nobody here has judged it?
pub fn is_approved(entry: &Entry) -> bool {
    matches!(entry.content.body, Body::Tombstone { approved_by: Some(_), .. })
}

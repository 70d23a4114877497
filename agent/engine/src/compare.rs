//! Comparing replicas that know the same: their sums must be equal. Where they aren't, halves of the volume (sixteenths,
//! to be exact) are compared, until the paths are found that differ.
//!
//! Neither side keeps anything about a comparison that is under way: each message holds all that its answer needs. Parts
//! are ranges of the rows' order and not directories, so that no message grows with a directory, and no path is too deep.
//! See "Range-Based Set Reconciliation" (Meyer, 2023).

use crate::limits::{COMPARE, SUMMED_ROWS};
use crate::registry::{Key, Registry, RegistryError};
use std::collections::{BTreeMap, VecDeque};
use syncmesh_core::backoff::backoff;
use syncmesh_core::entry::Entry;
use syncmesh_core::path::RelativePath;
use syncmesh_core::summary::{Sum, known};
use syncmesh_core::version::Knowledge;
use syncmesh_protocol::limits::{BATCH_BYTES, PART_ROWS, PARTS};
use syncmesh_protocol::message::{Compare, Part, Repair, Rows};

/// What is known about a peer's sum of one volume.
#[derive(Default)]
pub struct Comparing {
    /// Its knowledge and its sum, as it told them last.
    pub told: Option<(Knowledge, Sum)>,
    /// It knows what we know, and its sum is another.
    pub differs: bool,
    /// When that is looked into again, and how often it was without finding anything.
    pub again: Option<u64>,
    attempt: u32,
    /// What the peer asked.
    pub questions: VecDeque<Question>,
    /// A job looks for an answer.
    pub running: bool,
    /// Answers to our rows that may come.
    pub repairs: usize,
}

impl Comparing {
    /// Plans the next look into a difference.
    pub fn later(&mut self, now: u64, random: u64) {
        let wait = backoff(COMPARE.0, COMPARE.1, self.attempt, random);
        self.again = Some(now + COMPARE.0.as_nanos() as u64 + wait.as_nanos() as u64);
        self.attempt = self.attempt.saturating_add(1);
    }

    /// Something was found: the next look may find more.
    pub fn progress(&mut self) {
        self.attempt = 0;
    }

    /// There is no difference, or none that is known of.
    pub fn settle(&mut self) {
        self.differs = false;
        self.again = None;
        self.attempt = 0;
    }
}

/// When a volume's rows are counted again.
#[derive(Default)]
pub struct Recount {
    /// When, on the loop's clock.
    pub due: Option<u64>,
    /// A job counts.
    pub running: bool,
}

/// Work over a volume's rows.
pub struct Comparison {
    /// Which volume.
    pub volume: u16,
    /// Who asks: a session, or we ourselves.
    pub session: Option<u64>,
    /// Digest of our knowledge when it began.
    pub knowledge: u64,
    /// What to do.
    pub question: Question,
}

/// What is asked.
#[derive(Debug)]
pub enum Question {
    /// The sum of all rows.
    Total,
    /// Which of these parts are other ones here?
    Parts(Compare),
    /// Which of these rows are other ones here?
    Rows(Rows),
}

/// What came of it. It counts only if the knowledge is still the same.
pub struct Compared {
    /// See [`Comparison::volume`].
    pub volume: u16,
    /// See [`Comparison::session`].
    pub session: Option<u64>,
    /// See [`Comparison::knowledge`].
    pub knowledge: u64,
    /// The answer.
    pub answer: Answer,
}

/// An answer to a [`Question`].
pub enum Answer {
    /// The sum of all rows.
    Total(Sum),
    /// Differences.
    Differences {
        /// What to tell the peer.
        replies: Vec<Reply>,
        /// Rows of the peer that are other ones here.
        theirs: Vec<(RelativePath, Entry)>,
    },
}

/// What the peer is told.
pub enum Reply {
    /// Sums of smaller parts.
    Parts(Compare),
    /// All rows of a small part.
    Rows(Rows),
    /// Rows that the peer has otherwise, or lacks.
    Repair(Repair),
}

/// A range of rows: behind a path, up to another.
#[derive(Clone)]
struct Range {
    after: Option<RelativePath>,
    upto: Option<RelativePath>,
}

/// What a range of rows amounts to.
#[derive(Default)]
struct Measured {
    sum: Sum,
    rows: usize,
    bytes: usize,
}

impl Measured {
    /// Small enough to be told whole?
    fn is_small(&self) -> bool {
        self.rows <= 1 || (self.rows <= PART_ROWS && self.bytes <= BATCH_BYTES)
    }
}

impl Comparison {
    /// Reads rows and answers.
    pub fn run(self, registry: &Registry) -> Result<Compared, RegistryError> {
        let Self { volume, session, knowledge, question } = self;
        let read = Reader { registry, volume };
        let answer = match question {
            Question::Total => Answer::Total(read.measure(&Range { after: None, upto: None })?.sum),
            Question::Parts(compare) => Answer::Differences { replies: read.parts(compare)?, theirs: Vec::new() },
            Question::Rows(rows) => read.rows(rows)?,
        };
        Ok(Compared { volume, session, knowledge, answer })
    }
}

struct Reader<'a> {
    registry: &'a Registry,
    volume: u16,
}

impl Reader<'_> {
    fn key(&self, path: Option<&RelativePath>) -> Option<Key> {
        path.and_then(|path| Key::of(self.volume, path))
    }

    /// Is there anything that the range could hold? Peers may say anything.
    fn is_ordered(&self, range: &Range) -> bool {
        match (self.key(range.after.as_ref()), self.key(range.upto.as_ref())) {
            (Some(after), Some(upto)) => after < upto,
            _ => true,
        }
    }

    /// Everything that is known of a range's paths, in order.
    fn each(&self, range: &Range, mut take: impl FnMut(RelativePath, &Entry, usize)) -> Result<(), RegistryError> {
        let mut after = self.key(range.after.as_ref());
        let upto = self.key(range.upto.as_ref());
        loop {
            let rows = self.registry.between(self.volume, after.as_ref(), upto.as_ref(), SUMMED_ROWS)?;
            for (key, row) in &rows {
                let path = key.path();
                let bytes = path.as_bytes().len() + row.encode().len();
                if let Some(entry) = known(row) {
                    take(path, &entry, bytes);
                }
            }
            if rows.len() < SUMMED_ROWS {
                return Ok(());
            }
            after = rows.into_iter().next_back().map(|(key, _)| key);
        }
    }

    fn measure(&self, range: &Range) -> Result<Measured, RegistryError> {
        let mut measured = Measured::default();
        self.each(range, |path, entry, bytes| {
            measured.sum.add(Sum::of_entry(&path, entry));
            measured.rows += 1;
            measured.bytes += bytes;
        })?;
        Ok(measured)
    }

    fn parts(&self, compare: Compare) -> Result<Vec<Reply>, RegistryError> {
        let mut replies = Vec::new();
        let mut after = compare.after;
        for part in compare.parts {
            let range = Range { after, upto: part.upto.clone() };
            after = part.upto;
            if !self.is_ordered(&range) {
                break;
            }
            let measured = self.measure(&range)?;
            if measured.sum == part.sum {
                continue;
            }
            replies.push(match measured.is_small() {
                true => Reply::Rows(Rows {
                    knowledge: compare.knowledge,
                    rows: self.all(&range)?,
                    after: range.after,
                    upto: range.upto,
                }),
                false => Reply::Parts(self.split(compare.knowledge, range, measured.rows)?),
            });
            if after.is_none() {
                break;
            }
        }
        Ok(replies)
    }

    fn all(&self, range: &Range) -> Result<Vec<(RelativePath, Entry)>, RegistryError> {
        let mut rows = Vec::new();
        self.each(range, |path, entry, _| rows.push((path, entry.clone())))?;
        rows.truncate(PART_ROWS);
        Ok(rows)
    }

    /// Parts of about the same number of rows.
    fn split(&self, knowledge: u64, range: Range, rows: usize) -> Result<Compare, RegistryError> {
        let share = rows.div_ceil(PARTS).max(1);
        let mut parts: Vec<Part> = Vec::new();
        let (mut sum, mut taken) = (Sum::default(), 0);
        self.each(&range, |path, entry, _| {
            sum.add(Sum::of_entry(&path, entry));
            taken += 1;
            if taken >= share && parts.len() + 1 < PARTS {
                parts.push(Part { upto: Some(path), sum });
                (sum, taken) = (Sum::default(), 0);
            }
        })?;
        parts.push(Part { upto: range.upto, sum });
        Ok(Compare { knowledge, after: range.after, parts })
    }

    fn rows(&self, rows: Rows) -> Result<Answer, RegistryError> {
        let Rows { knowledge, after, upto, rows } = rows;
        let range = Range { after, upto };
        if !self.is_ordered(&range) {
            return Ok(Answer::Differences { replies: Vec::new(), theirs: Vec::new() });
        }
        let measured = self.measure(&range)?;
        if !measured.is_small() {
            // Many rows here and few there: smaller parts are compared, until there are few here, too.
            let reply = Reply::Parts(self.split(knowledge, range, measured.rows)?);
            return Ok(Answer::Differences { replies: vec![reply], theirs: Vec::new() });
        }
        let belongs = |path: &RelativePath| {
            let key = self.key(Some(path));
            self.key(range.after.as_ref()).is_none_or(|after| key > Some(after))
                && self.key(range.upto.as_ref()).is_none_or(|upto| key <= Some(upto))
        };
        let theirs: BTreeMap<RelativePath, Entry> = rows.into_iter().filter(|(path, _)| belongs(path)).collect();
        let ours: BTreeMap<RelativePath, Entry> = self.all(&range)?.into_iter().collect();
        let differ = |path: &RelativePath| {
            let sum = |rows: &BTreeMap<RelativePath, Entry>| {
                rows.get(path).map(|entry| Sum::of_entry(path, entry)).unwrap_or_default()
            };
            sum(&ours) != sum(&theirs)
        };
        let repair = ours.iter().filter(|(path, _)| differ(path)).map(|(path, entry)| (path.clone(), entry.clone()));
        let replies = vec![Reply::Repair(Repair { rows: repair.collect() })];
        let theirs = theirs.iter().filter(|(path, _)| differ(path)).map(|(path, entry)| (path.clone(), entry.clone()));
        Ok(Answer::Differences { replies, theirs: theirs.collect() })
    }
}

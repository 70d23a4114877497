//! A local change becomes a version: a dot, a vector over what its author had seen, a stamp.

use crate::node::suspects::doubted;
use crate::scan::{Finding, What};
use crate::suspect::is_suspect;
use syncmesh_core::clock::Hlc;
use syncmesh_core::decide::merge;
use syncmesh_core::entry::{Attributes, Body, Content, Entry, Here, Origin, Owner, Row, Stamp, Wanted, Why};
use syncmesh_core::version::Vector;

/// The row after a finding, without its sequence number. `None` if nothing changes. `stamp` makes the stamp of a new
/// version above what it supersedes; it is called only if one is made. `origin` is that of contents which are over nothing.
/// `unseen` is what the finding's author hasn't seen of the entry that it is over, see [`over_unseen`].
pub fn record(
    finding: &Finding,
    origin: Origin,
    unseen: Vec<Content>,
    stamp: impl FnOnce(Option<&Entry>) -> Stamp,
) -> Option<Recorded> {
    let old = finding.row.as_ref().and_then(Row::base);
    let mut wanted = finding.row.as_ref().and_then(|row| row.wanted.clone());
    if finding.row.as_ref().is_some_and(is_suspect) {
        // Whatever this finding is, it is believed. What came meanwhile is decided now.
        wanted = wanted.filter(|wanted| !wanted.entries.is_empty());
        wanted.iter_mut().for_each(|wanted| wanted.why = Why::Fetching);
    }
    if finding.row.as_ref().is_some_and(|row| row.here.is_none() && old.is_some()) {
        // What was held is no deletion any more. What came meanwhile is decided now.
        let others = wanted.map(|wanted| wanted.entries.into_iter().skip(1).collect::<Vec<_>>()).unwrap_or_default();
        wanted = (!others.is_empty()).then_some(Wanted { entries: others, why: Why::Fetching });
    }
    let sequence = finding.row.as_ref().map_or(0, |row| row.sequence);
    let row = |entry, identity, is_version| {
        let here = Here { entry, identity, unsure: finding.unsure };
        Some(Recorded { row: Row { sequence, here: Some(here), wanted: wanted.clone() }, is_version })
    };
    match &finding.what {
        What::Identity(identity) => row(old?.clone(), Some(*identity), false),
        What::Attributes { mode, owner, identity } => {
            let mut entry = old?.clone();
            let stamp = stamp(Some(&entry));
            entry.vector.add(stamp.dot);
            entry.attributes = Attributes { stamp, mode: *mode, owner: *owner };
            row(entry, Some(*identity), true)
        }
        What::Content { body, mode, owner, identity } => {
            let mut entry = version(old, body.clone(), *mode, *owner, stamp(old));
            if old.is_none() {
                entry.content.origin = origin;
            }
            if entry.content.origin == Origin::Yielding {
                // Mode and owner give way, too.
                entry.attributes.stamp.hlc = Hlc::default();
            }
            row(over_unseen(entry, unseen), Some(*identity), true)
        }
        What::Removed => {
            let old = old?;
            let body = Body::tombstone(old.content.body.recognised_by());
            let (mode, owner) = (old.attributes.mode, old.attributes.owner);
            let entry = over_unseen(version(Some(old), body, mode, owner, stamp(Some(old))), unseen);
            if entry.is_live() {
                let wanted = Some(Wanted { entries: vec![entry], why: Why::Fetching });
                return Some(Recorded { row: Row { sequence, here: None, wanted }, is_version: true });
            }
            row(entry, None, true)
        }
        What::Vanished => None,
        What::Doubted if finding.row.as_ref().is_some_and(is_suspect) => None,
        What::Doubted => Some(Recorded { row: doubted(finding.row.as_ref()), is_version: false }),
        What::AsItWas => {
            let row = finding.row.as_ref()?;
            Some(Recorded { row: Row { wanted, ..row.clone() }, is_version: false })
        }
    }
}

/// A version that supersedes what its author saw, and nothing else of what was known: losers of a conflict that have no copy
/// yet. They stand beside a file, so that whoever has them makes the copy; over a deletion they have the name.
pub fn over_unseen(mut entry: Entry, mut unseen: Vec<Content>) -> Entry {
    // Equal contents are no conflict, whoever wrote them.
    unseen.retain(|loser| !loser.body.same_contents(&entry.content.body));
    if unseen.is_empty() {
        return entry;
    }
    let is_live = entry.is_live();
    let beside = |loser| if is_live { Content { origin: Origin::Beside, ..loser } } else { loser };
    entry.losers = unseen.into_iter().map(beside).collect();
    // In the order that all have.
    merge(&entry, &entry)
}

/// A row that a finding made.
pub struct Recorded {
    /// The row; its sequence number is the old one's.
    pub row: Row,
    /// A new version was made, so the row needs a new sequence number.
    pub is_version: bool,
}

/// A version over another. Contents supersede all concurrent ones that were known; attributes stay the older version's
/// if they are the same.
pub fn version(old: Option<&Entry>, body: Body, mode: u32, owner: Option<Owner>, stamp: Stamp) -> Entry {
    let mut vector = old.map_or_else(Vector::default, |old| old.vector.clone());
    vector.add(stamp.dot);
    let kept = old.map(|old| old.attributes).filter(|kept| (kept.mode, kept.owner) == (mode, owner));
    let attributes = kept.unwrap_or(Attributes { stamp, mode, owner });
    Entry { vector, content: Content { stamp, body, origin: Origin::Written }, losers: Vec::new(), attributes }
}

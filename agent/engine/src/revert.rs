//! Writes where only another node may write: they are taken back, and kept.
//!
//! What the mesh knows of a path stays known. What a user here has made of it is like a file that power loss has made doubtful:
//! nobody's version, and replaced by the known one as soon as that is here. What isn't known at all is taken away.

use crate::scan::{Finding, What};
use crate::suspect::{is_suspect, nothing_better};
use syncmesh_core::decide::merge;
use syncmesh_core::entry::{Body, Row, Wanted, Why};
use syncmesh_core::path::RelativePath;
use syncmesh_core::policy::is_copy_of;

/// What was taken back since the start.
#[derive(Clone, Debug, Default)]
pub struct Reverted {
    /// How many writes, deletions and changes of metadata.
    pub count: u64,
    /// The path of the last.
    pub last: Option<RelativePath>,
    /// When that was, in milliseconds since 1970.
    pub at_millis: u64,
}

/// What becomes of a finding on a node that may not write.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is recorded like any other: nobody's write, or a version that must have a name.
    Record,
    /// Nothing: what is known is on its way to its place already.
    Waits,
    /// The row that says that what is known is wanted in its place again.
    Restore(Row),
    /// What the name shows is taken away.
    TakeAway,
}

/// Decides it. With `beside`, what is found may have been written when this node was the writer.
pub fn answer(finding: &Finding, beside: bool) -> Answer {
    let row = finding.row.as_ref();
    let live = row.and_then(Row::live);
    match (&finding.what, row.zip(live)) {
        (What::Identity(_) | What::AsItWas | What::Doubted | What::Vanished, _) | (What::Removed, None) => {
            Answer::Record
        }
        // A conflict's loser has its name on the node where it lost.
        (What::Content { body: Body::File { hash, .. }, .. }, None) if is_copy_of(&finding.name, *hash) => {
            Answer::Record
        }
        // What the copies lie in.
        (What::Content { body: Body::Directory, .. }, None) if beside => Answer::Record,
        (What::Removed, Some((row, _))) => Answer::Restore(Row { here: None, ..wanted_again(row, Why::Fetching) }),
        (What::Attributes { .. }, Some((row, _))) => restore(row),
        (What::Content { body, .. }, Some((row, here)))
            if matches!(body, Body::File { .. }) || body.same_contents(&here.entry.content.body) =>
        {
            restore(row)
        }
        (What::Content { .. } | What::Attributes { .. }, _) => Answer::TakeAway,
    }
}

fn restore(row: &Row) -> Answer {
    if is_suspect(row) && !nothing_better(row) {
        return Answer::Waits;
    }
    Answer::Restore(wanted_again(row, Why::Suspect))
}

/// The row of a path of which all that is known is wanted, in the place of what is shown.
fn wanted_again(row: &Row, why: Why) -> Row {
    let known = row.entries().cloned().reduce(|all, entry| merge(&all, &entry));
    Row { wanted: Some(Wanted { entries: known.into_iter().collect(), why }), ..row.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::version;
    use syncmesh_core::clock::Hlc;
    use syncmesh_core::entry::{ContentHash, Entry, Here, Identity, Owner, Stamp, Unsure};
    use syncmesh_core::path::Name;
    use syncmesh_core::version::{Dot, ReplicaId};

    fn file(contents: &[u8]) -> Body {
        let hash = ContentHash::of(contents);
        Body::File { size: 1, mtime: 0, algorithm: 0, hash, sparse: false, moved_from: None }
    }

    fn known(body: Body) -> Row {
        let stamp = Stamp { hlc: Hlc::from_millis(1), dot: Dot { replica: ReplicaId(1), counter: 1 } };
        let here = Here { entry: version(None, body, 0o644, None, stamp), identity: None, unsure: Unsure::default() };
        Row { sequence: 1, here: Some(here), wanted: None }
    }

    fn found(name: &str, row: Option<Row>, body: Body) -> Finding {
        let owner = Owner { uid: 0, gid: 0 };
        let identity = Identity { inode: 1, size: 1, mtime: 0, ctime: 0, mode: 0o644, owner };
        let what = What::Content { body, mode: 0o644, owner: None, identity };
        Finding { name: Name::new(name.as_bytes()).unwrap(), row, what, unsure: Unsure::default() }
    }

    fn wants(answer: Answer) -> (Option<Entry>, Why, bool) {
        let Answer::Restore(row) = answer else { panic!("{answer:?}") };
        let is_here = row.here.is_some();
        let wanted = row.wanted.unwrap();
        (wanted.entries.into_iter().next(), wanted.why, is_here)
    }

    #[test]
    fn what_is_known_of_a_path_is_wanted_in_the_place_of_what_was_written() {
        let row = known(file(b"theirs"));
        let entry = row.here.as_ref().map(|here| here.entry.clone());
        let written = found("f", Some(row.clone()), file(b"ours"));
        assert_eq!(wants(answer(&written, false)), (entry.clone(), Why::Suspect, true));
        let deleted = Finding { what: What::Removed, ..found("f", Some(row), file(b"")) };
        assert_eq!(wants(answer(&deleted, true)), (entry, Why::Fetching, false));
    }

    #[test]
    fn what_nobody_knows_goes_away_unless_it_is_a_conflict_copy() {
        let hash = ContentHash::of(b"lost");
        let copy = format!("f (conflict a 20261128-010203 {hash}).txt");
        assert_eq!(answer(&found("new", None, file(b"lost")), true), Answer::TakeAway);
        assert_eq!(answer(&found(&copy, None, file(b"lost")), false), Answer::Record);
        assert_eq!(answer(&found(&copy, None, file(b"edited")), false), Answer::TakeAway);
        assert_eq!(answer(&found("d", None, Body::Directory), false), Answer::TakeAway);
        assert_eq!(answer(&found("d", None, Body::Directory), true), Answer::Record);
        let link = Body::Symlink { target: b"x".to_vec(), mtime: 0 };
        assert_eq!(answer(&found("f", Some(known(file(b"a"))), link), false), Answer::TakeAway);
    }
}

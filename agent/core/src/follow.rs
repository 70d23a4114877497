//! An edit that didn't know of a rename follows it: what the node that made the edit does next. Pure.
//!
//! The old name then has the edit and, concurrent with it, a deletion that says where the contents were moved. The edit follows
//! only if it was written over those contents: the new name then has nothing that its author hadn't seen.
//!
//! | the new name has | next |
//! |---|---|
//! | the edit's contents, published here | the old name goes |
//! | the edit's contents, on their way here | wait |
//! | the contents that were moved | the edit becomes a version over them |
//! | a deletion that says that they, or the edit's, were moved on | look there |
//! | nothing that is known here yet | wait, as long as somebody may tell of it |
//! | anything else: it was edited or deleted, is in conflict, held, or not selected here | the edit stays where it is |
//!
//! It ends whoever else follows what: each step makes the edit a version over the rename's deletion, or over the moved contents,
//! so no edit follows one rename twice, and users make so many renames and no more.

use crate::decide::{contents_of, joined};
use crate::entry::{Attributes, Body, ContentHash, Entry, MovedTo, Row, Why};
use crate::path::RelativePath;
use crate::version::Dot;

/// What was moved away from under an edit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rename {
    /// Where to.
    pub to: RelativePath,
    /// Which contents.
    pub contents: ContentHash,
    /// Which version's mode and owner.
    pub attributes: Dot,
}

/// The rename that an edit didn't know of. `here` is the edit's entry as its author had it, `known` what is known of the path
/// besides. Without one, or if the edit wasn't written over what was moved, there is nothing to follow.
pub fn rename(here: &Entry, known: &Entry) -> Option<Rename> {
    let is_edit = here.content.body.rank() == 1 && known.content.is_version(&here.content);
    // Where anything else is concurrent with the edit the vector doesn't tell what its author had seen.
    if !is_edit || !here.losers.is_empty() || known.losers.iter().any(|other| other.body.is_live()) {
        return None;
    }
    known.losers.iter().find_map(|deletion| match &deletion.body {
        Body::Tombstone { deleted: Some(contents), moved_to: Some(MovedTo { path, version, attributes }), .. }
            if here.vector.includes(*version) =>
        {
            Some(Rename { to: path.clone(), contents: *contents, attributes: *attributes })
        }
        _ => None,
    })
}

/// Mode and owner of an edit at its new name: the newest that somebody set. A file that is moved gets them anew under its new
/// name, and nobody has set them then. `known` is what is known of the old name, `over` of the new one.
pub fn attributes(edit: &Entry, known: &Entry, over: &Entry, rename: &Rename) -> Attributes {
    let (ours, theirs) = (edit.attributes, over.attributes);
    let is_set_here = ours.stamp.dot != rename.attributes && known.attributes.stamp <= ours.stamp;
    let is_set_there = theirs.stamp != over.content.stamp;
    if is_set_here && (!is_set_there || ours.stamp > theirs.stamp) { ours } else { theirs }
}

/// What the new name has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// Nothing that is known here.
    Unknown,
    /// The contents that were moved, and nothing else: what is known of it.
    Free(Box<Entry>),
    /// The edit's contents, not published here yet.
    OnTheWay,
    /// The edit's contents.
    Arrived,
    /// They were moved on.
    MovedOn(RelativePath),
    /// Something else.
    Taken,
}

/// Looks at the row of the new name.
pub fn place(row: Option<&Row>, edit: &Body, moved: ContentHash) -> Place {
    let Some(row) = row else { return Place::Unknown };
    let Some(known) = joined(row.entries()) else { return Place::Unknown };
    if row.wanted.as_ref().is_some_and(|wanted| wanted.why != Why::Fetching) {
        return Place::Taken;
    }
    let body = &known.content.body;
    if contents_of(&known).any(|other| other.body.is_live() && !other.body.same_contents(body)) {
        return Place::Taken;
    }
    if body.same_contents(edit) {
        let is_here = row.live().is_some_and(|here| here.entry.content.body.same_contents(edit));
        return if is_here && row.wanted.is_none() { Place::Arrived } else { Place::OnTheWay };
    }
    match body {
        Body::Tombstone { deleted: Some(deleted), moved_to: Some(next), .. }
            if *deleted == moved || Some(*deleted) == edit.recognised_by() =>
        {
            Place::MovedOn(next.path.clone())
        }
        body if body.recognised_by() == Some(moved) => Place::Free(Box::new(known)),
        _ => Place::Taken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Hlc;
    use crate::decide::merge;
    use crate::entry::{Attributes, Content, Here, Identity, Origin, Owner, Stamp, Unsure, Wanted};
    use crate::version::{Dot, ReplicaId, Vector};

    const BASE: Dot = Dot { replica: ReplicaId(1), counter: 1 };

    fn file(contents: &str) -> Body {
        let hash = ContentHash::of(contents.as_bytes());
        Body::File { size: contents.len() as u64, mtime: 0, algorithm: 0, hash, sparse: false, moved_from: None }
    }

    fn path(text: &str) -> RelativePath {
        RelativePath::new(text.as_bytes()).unwrap()
    }

    fn moved_to(text: &str, contents: &Body, version: Dot) -> Body {
        let moved_to = Some(MovedTo { path: path(text), version, attributes: version });
        Body::Tombstone { deleted: contents.recognised_by(), moved_to, approved_by: None }
    }

    fn over(old: Option<&Entry>, replica: u64, counter: u64, body: Body) -> Entry {
        let dot = Dot { replica: ReplicaId(replica), counter };
        let stamp = Stamp { hlc: Hlc::from_millis(counter), dot };
        let mut vector = old.map_or_else(Vector::default, |old| old.vector.clone());
        vector.add(dot);
        Entry {
            vector,
            content: Content { stamp, body, origin: Origin::Written },
            losers: vec![],
            attributes: Attributes { stamp, mode: 0o644, owner: None },
        }
    }

    fn row(here: Option<&Entry>, wanted: Option<(&Entry, Why)>) -> Row {
        let identity =
            Some(Identity { inode: 1, size: 1, mtime: 0, ctime: 0, mode: 0o644, owner: Owner { uid: 0, gid: 0 } });
        let here = here.map(|entry| Here { entry: entry.clone(), identity, unsure: Unsure::default() });
        let wanted = wanted.map(|(entry, why)| Wanted { entries: vec![entry.clone()], why });
        Row { sequence: 1, here, wanted }
    }

    #[test]
    fn an_edit_over_what_was_moved_follows() {
        let base = over(None, 1, 1, file("base"));
        let edit = over(Some(&base), 2, 2, file("edit"));
        let rename_there = over(Some(&base), 3, 3, moved_to("b", &file("base"), BASE));
        let found = rename(&edit, &merge(&edit, &rename_there)).unwrap();
        assert_eq!(found, Rename { to: path("b"), contents: ContentHash::of(b"base"), attributes: BASE });
        // So does one that was edited again.
        let again = over(Some(&edit), 2, 4, file("again"));
        assert_eq!(rename(&again, &merge(&again, &rename_there)), Some(found));
        // Who knew of the rename, or made a plain deletion, moved nothing away from under it.
        let later = over(Some(&merge(&edit, &rename_there)), 2, 4, file("later"));
        assert_eq!(rename(&later, &merge(&later, &rename_there)), None);
        let deletion = over(Some(&base), 3, 3, Body::tombstone(file("base").recognised_by()));
        assert_eq!(rename(&edit, &merge(&edit, &deletion)), None);
    }

    #[test]
    fn the_newest_mode_that_somebody_set_is_the_new_names() {
        let base = over(None, 1, 1, file("base"));
        let rename_there = over(Some(&base), 3, 5, moved_to("b", &file("base"), BASE));
        let rename_there = Entry { attributes: base.attributes, ..rename_there };
        let set = |entry: &Entry, replica, counter| {
            let mut set = over(Some(entry), replica, counter, entry.content.body.clone());
            set.content.stamp = entry.content.stamp;
            set.attributes.mode = u32::try_from(counter).unwrap();
            set
        };
        // A plain edit, and one whose author set the mode, both stamped before the rename.
        let plain = Entry { attributes: base.attributes, ..over(Some(&base), 2, 2, file("edit")) };
        let edit = set(&plain, 2, 3);
        let there = over(None, 3, 4, file("base"));
        let mode = |edit: &Entry, rename_there: &Entry, there: &Entry| {
            let known = merge(edit, rename_there);
            attributes(edit, &known, there, &rename(edit, &known).unwrap()).mode
        };
        assert_eq!(mode(&plain, &rename_there, &there), there.attributes.mode);
        assert_eq!(mode(&edit, &rename_there, &there), 3);
        // Somebody set it under the new name, or under the old one before it was renamed.
        assert_eq!(mode(&edit, &rename_there, &set(&there, 3, 6)), 6);
        assert_eq!(mode(&set(&plain, 2, 7), &rename_there, &set(&there, 3, 6)), 7);
        assert_eq!(mode(&edit, &set(&rename_there, 3, 4), &there), there.attributes.mode);
    }

    #[test]
    fn an_edit_that_was_written_over_other_contents_stays() {
        let base = over(None, 1, 1, file("base"));
        let edit = over(Some(&base), 2, 2, file("edit"));
        // Edited before it was renamed there: the new name has what the author here never saw.
        let theirs = over(Some(&base), 3, 3, file("theirs"));
        let rename_there = over(Some(&theirs), 3, 4, moved_to("b", &file("theirs"), theirs.content.stamp.dot));
        assert_eq!(rename(&edit, &merge(&edit, &rename_there)), None);
        // Also if both had met here already: the vector has both, and the edit never saw the other.
        let met = merge(&edit, &theirs);
        assert_eq!(rename(&met, &merge(&met, &rename_there)), None);
        // Or if a third one deleted theirs before.
        let deletion = over(Some(&theirs), 4, 5, Body::tombstone(theirs.content.body.recognised_by()));
        let met = merge(&edit, &deletion);
        assert_eq!(met.content, edit.content);
        assert_eq!(rename(&met, &merge(&met, &rename_there)), None);
        // Two edits are a conflict.
        let other = over(Some(&base), 4, 3, file("other"));
        let rename_there = over(Some(&base), 3, 3, moved_to("b", &file("base"), BASE));
        let all = merge(&other, &merge(&edit, &rename_there));
        assert_eq!((rename(&edit, &all), rename(&other, &all)), (None, None));
    }

    #[test]
    fn the_new_name_is_taken_over_only_with_the_contents_that_were_moved() {
        let (moved, edit) = (file("base"), file("edit"));
        let hash = moved.recognised_by().unwrap();
        let at = |row: Option<Row>| place(row.as_ref(), &edit, hash);
        let there = over(None, 3, 3, moved.clone());
        let followed = over(Some(&there), 2, 4, edit.clone());
        assert_eq!(at(None), Place::Unknown);
        assert_eq!(at(Some(row(Some(&there), None))), Place::Free(Box::new(there.clone())));
        assert_eq!(at(Some(row(None, Some((&there, Why::Fetching))))), Place::Free(Box::new(there.clone())));
        assert_eq!(at(Some(row(Some(&followed), None))), Place::Arrived);
        assert_eq!(at(Some(row(Some(&there), Some((&followed, Why::Fetching))))), Place::OnTheWay);
        let on = over(Some(&there), 3, 5, moved_to("c", &moved, there.content.stamp.dot));
        assert_eq!(at(Some(row(Some(&on), None))), Place::MovedOn(path("c")));
        let on = over(Some(&followed), 3, 5, moved_to("c", &edit, followed.content.stamp.dot));
        assert_eq!(at(Some(row(Some(&on), None))), Place::MovedOn(path("c")));
        // Anything else is somebody's.
        let other = over(Some(&there), 4, 5, file("other"));
        let deletion = over(Some(&there), 4, 5, Body::tombstone(Some(hash)));
        let local = over(None, 2, 2, file("local"));
        for (here, wanted) in [
            (Some(&other), None),
            (Some(&deletion), None),
            (Some(&local), Some((&there, Why::Fetching))),
            (Some(&followed), Some((&other, Why::Fetching))),
            (Some(&there), Some((&deletion, Why::Held))),
            (None, Some((&there, Why::Held))),
            (None, Some((&there, Why::Unselected))),
            (None, Some((&there, Why::Collision))),
        ] {
            assert_eq!(at(Some(row(here, wanted))), Place::Taken, "{here:?} {wanted:?}");
        }
    }
}

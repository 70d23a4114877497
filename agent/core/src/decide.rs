//! What happens when a version that somebody sent meets the version that is here: a pure function, the same on all nodes.
//!
//! | here | remote | decision |
//! |---|---|---|
//! | nothing | anything | publish it |
//! | includes the remote version | older or equal | nothing new |
//! | superseded by the remote version | newer contents | publish; what was here goes to the version store |
//! | superseded by the remote version | newer mode or owner only | set them |
//! | concurrent | equal contents | join; the newer stamp's time, mode and owner |
//! | concurrent, wins | other contents | join; keep what is here, its maker keeps the loser |
//! | concurrent, loses | other contents | publish; what was here becomes a conflict copy (`keepBoth`) or goes to the version store (`lastWriterWins`) |
//! | concurrent | other contents, under `manual` | keep both apart until a person decides |
//! | lost, as a person decided | the winner | publish; what was here becomes a conflict copy |
//! | edit | concurrent deletion | join; the edit stays |
//! | deletion | concurrent edit | publish the edit |
//! | found by a rebuilt registry | concurrent deletion of the same contents | publish the deletion; what was here goes to the version store |
//! | found by a node with a seed | other contents, found by the seed or written | publish; what was here goes to the version store |
//! | file or link | concurrent directory | the directory takes the name, what was here becomes a conflict copy or is stored |
//! | directory | concurrent directory | join; mode and owner of the newer stamp |
//! | mode changed | concurrent edit | both: contents of the edit, mode of the change |

use crate::entry::{Attributes, Body, Content, ContentHash, Entry, Origin};
use crate::limits::LOSERS;
use crate::policy::Policy;
use crate::version::{Dot, ReplicaId};

/// What to do with a remote version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// What is here includes it.
    Known,
    /// Only the record changes: the disk shows already what the joined entry says.
    Record(Entry),
    /// The disk's contents stay; mode, owner or time of the joined entry must be set.
    SetAttributes(Entry),
    /// A person decides between what is here and the remote version, which is kept beside it until then.
    Hold,
    /// The joined entry's contents must be published.
    Publish {
        /// The joined entry.
        entry: Entry,
        /// What becomes of the contents that are here.
        displaced: Displaced,
    },
}

/// What becomes of contents that lose their name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Displaced {
    /// Into the version store: superseded.
    Store,
    /// Into the version store, and pinned there: it lost, and has no copy anywhere.
    StoreLoser,
    /// A file of its own, named after the losing version, before the winner takes the name.
    ConflictCopy,
}

/// Decides for one path, see the table above. `here` is what is published on this disk, a tombstone included.
pub fn decide(here: Option<&Entry>, remote: &Entry, policy: Policy) -> Decision {
    let Some(here) = here else {
        return Decision::Publish { entry: remote.clone(), displaced: Displaced::Store };
    };
    let entry = merge(here, remote);
    if entry == *here {
        return Decision::Known;
    }
    if policy == Policy::Manual && is_open(&here.content, &entry) {
        return Decision::Hold;
    }
    if !entry.content.body.same_contents(&here.content.body) {
        let loser = entry.losers.iter().find(|loser| loser.is_version(&here.content));
        let lost = loser.is_some_and(|loser| !gives_way(loser, &entry));
        let yields = loser.is_some_and(|loser| loser.origin == Origin::Yielding);
        let worth_a_copy = matches!(here.content.body, Body::File { .. } | Body::Symlink { .. });
        let displaced = match policy {
            Policy::KeepBoth | Policy::Manual if lost && worth_a_copy => Displaced::ConflictCopy,
            _ if (lost || yields) && worth_a_copy => Displaced::StoreLoser,
            Policy::KeepBoth | Policy::LastWriterWins | Policy::Manual => Displaced::Store,
        };
        return Decision::Publish { entry, displaced };
    }
    let shows = |e: &Entry| (time(&e.content.body), e.attributes.mode, e.attributes.owner);
    if entry.is_live() && shows(&entry) != shows(here) {
        Decision::SetAttributes(entry)
    } else {
        Decision::Record(entry)
    }
}

fn time(body: &Body) -> Option<i64> {
    match body {
        Body::File { mtime, .. } | Body::Symlink { mtime, .. } => Some(*mtime),
        Body::Directory | Body::Tombstone { .. } => None,
    }
}

/// Joins two entries of one path. Commutative, associative and idempotent, so replicas that have heard the same versions
/// in any order hold the same entry (I1, I7).
///
/// Contents are a set of concurrent versions as in "Scalable and Accurate Causality Tracking for Eventually Consistent
/// Stores" (Almeida and others, 2014): a version stays unless the other side's vector includes it without holding it.
/// The highest of the set (see [`standing`]) has the name. Attributes are a register where the highest stamp wins;
/// stamps grow along causality, so an attribute that supersedes another is always higher.
pub fn merge(a: &Entry, b: &Entry) -> Entry {
    let mut contents: Vec<Content> = Vec::with_capacity(2);
    let mut keep = |from: &Entry, other: &Entry| {
        for content in contents_of(from) {
            let dot = content.stamp.dot;
            let held = contents_of(other).any(|c| c.stamp.dot == dot);
            let superseded = other.vector.includes(dot) && !held;
            match contents.iter_mut().find(|kept| kept.is_version(content)) {
                _ if superseded => {}
                Some(kept) => kept.origin = kept.origin.max(content.origin),
                None => contents.push(content.clone()),
            }
        }
    };
    keep(a, b);
    keep(b, a);
    if contents.is_empty() {
        // Two correct replicas can't supersede each other's contents; from a faulty one anything can come.
        contents = vec![a.content.clone(), b.content.clone()];
    }
    let deleted = deleted(contents.iter());
    // The hash tells versions apart that two copies of one machine gave the same number.
    let order = |content: &Content| (standing(content, &deleted), content.stamp, content.body.recognised_by());
    contents.sort_by_cached_key(|content| std::cmp::Reverse(order(content)));
    contents.truncate(1 + LOSERS);
    let content = contents.remove(0);
    Entry {
        vector: a.vector.join(&b.vector),
        content,
        losers: contents,
        attributes: *newest(&a.attributes, &b.attributes),
    }
}

/// The contents that an entry has and nothing has superseded, the highest first.
pub fn contents_of(entry: &Entry) -> impl Iterator<Item = &Content> {
    std::iter::once(&entry.content).chain(&entry.losers)
}

/// What the deletions among concurrent contents say that they deleted.
fn deleted<'a>(contents: impl Iterator<Item = &'a Content>) -> Vec<ContentHash> {
    let named = contents.filter_map(|content| match &content.body {
        Body::Tombstone { deleted, .. } => *deleted,
        Body::File { .. } | Body::Symlink { .. } | Body::Directory => None,
    });
    named.collect()
}

/// Who keeps the name when versions are concurrent: a directory before a file or link, anything before a deletion. But what
/// only lay in a directory comes after the deletion that names it, and after what a seed has. A function of the set and of
/// nothing else, so that a join stays associative.
fn standing(content: &Content, deleted: &[ContentHash]) -> u8 {
    match (&content.body, content.origin) {
        (body, Origin::Returned) if body.recognised_by().is_some_and(|named| deleted.contains(&named)) => 0,
        (Body::Tombstone { .. }, _) => 1,
        (Body::File { .. } | Body::Symlink { .. }, Origin::Yielding | Origin::Beside) => 2,
        (Body::File { .. } | Body::Symlink { .. }, Origin::Written | Origin::Returned) => 3,
        (Body::Directory, _) => 4,
    }
}

/// Did it lose because of what it is, and not by chance of time? Then nobody has to hear of a conflict.
fn gives_way(loser: &Content, entry: &Entry) -> bool {
    match loser.origin {
        Origin::Written | Origin::Beside => false,
        Origin::Returned => {
            let deleted = deleted(contents_of(entry));
            standing(loser, &deleted) == 0
        }
        Origin::Yielding => entry.content.body.is_live() && entry.content.origin != Origin::Yielding,
    }
}

fn newest<'a>(a: &'a Attributes, b: &'a Attributes) -> &'a Attributes {
    if a.stamp >= b.stamp { a } else { b }
}

/// The contents of an entry that a person may still care about, beside those of `chosen`: files and links that differ from
/// it, and that neither gave way nor were decided about.
pub fn rivals<'a>(chosen: &'a Content, entry: &'a Entry) -> impl Iterator<Item = &'a Content> {
    contents_of(entry).filter(move |content| {
        content.body.rank() == 1
            && content.origin != Origin::Beside
            && !content.body.same_contents(&chosen.body)
            && !gives_way(content, entry)
    })
}

/// The losers of an entry that need a place of their own: files and links other than the winner's that didn't give way. Under
/// `keepBoth` that is a conflict copy, which is made where they are; until there is one nobody else has seen them.
pub fn displaced(entry: &Entry) -> impl Iterator<Item = &Content> {
    entry.losers.iter().filter(|loser| {
        loser.body.rank() == 1 && !loser.body.same_contents(&entry.content.body) && !gives_way(loser, entry)
    })
}

/// Counts the versions beside the winner that a person may still care about.
pub fn conflicts(entry: &Entry) -> usize {
    rivals(&entry.content, entry).count()
}

/// The replica that gave one number to two contents of an entry; a correct one does so only if it runs twice.
pub fn duplicated(entry: &Entry) -> Option<ReplicaId> {
    if entry.losers.is_empty() {
        return None;
    }
    let mut dots: Vec<Dot> = contents_of(entry).map(|content| content.stamp.dot).collect();
    dots.sort_unstable();
    dots.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].replica)
}

/// What is known of a path as a whole, also where a person has still to decide.
pub fn joined<'a>(mut entries: impl Iterator<Item = &'a Entry>) -> Option<Entry> {
    let first = entries.next()?.clone();
    Some(entries.fold(first, |joined, entry| merge(&joined, entry)))
}

/// Would a person have to decide between contents that are here and others of the joined entry? A directory isn't asked about:
/// it has children.
fn is_open(here: &Content, joined: &Entry) -> bool {
    let ours = contents_of(joined).find(|content| content.is_version(here));
    let stands = ours.is_some_and(|ours| ours.origin != Origin::Beside && !gives_way(ours, joined));
    stands && here.body.rank() == 1 && joined.content.body.rank() == 1 && rivals(here, joined).next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HlcClock;
    use crate::entry::Stamp;
    use crate::version::Vector;
    use proptest::prelude::*;

    /// Replicas that write and exchange in any order, as the properties need causally possible entries.
    #[derive(Default)]
    struct Replica {
        clock: HlcClock,
        counter: u64,
        entry: Option<Entry>,
    }

    fn write(replica: &mut Replica, id: u64, what: u8, now: u64) {
        let above = replica.entry.as_ref().map(|e| e.newest().hlc);
        replica.counter += 1;
        let dot = Dot { replica: ReplicaId(id), counter: replica.counter };
        let stamp = Stamp { hlc: replica.clock.stamp(now, above), dot };
        let mut vector = replica.entry.as_ref().map(|e| e.vector.clone()).unwrap_or_default();
        vector.add(dot);
        let old = replica.entry.clone();
        let body = match what % 5 {
            0 => Body::tombstone(replica.entry.as_ref().and_then(|entry| entry.content.body.recognised_by())),
            1 => Body::Directory,
            2 if old.is_some() => old.as_ref().unwrap().content.body.clone(),
            n => file(n),
        };
        let only_attributes = what % 5 == 2 && old.is_some();
        // What is found is found before anything else is known of the path.
        let origin = match (&old, what / 5 % 3) {
            (None, 0) => Origin::Returned,
            (None, 1) => Origin::Yielding,
            _ => Origin::Written,
        };
        let (content, losers) = match (only_attributes, old) {
            (true, Some(old)) => (old.content, old.losers),
            // Somebody decides that the others stand beside it.
            (false, Some(old)) if what / 5 % 4 == 3 && body.rank() == 1 => {
                let files = contents_of(&old).filter(|content| content.body.rank() == 1).take(LOSERS);
                let losers = files.map(|content| Content { origin: Origin::Beside, ..content.clone() }).collect();
                (Content { stamp, body, origin }, losers)
            }
            _ => (Content { stamp, body, origin }, Vec::new()),
        };
        let attributes = Attributes { stamp, mode: u32::from(what), owner: None };
        let entry = Entry { vector, content, losers, attributes };
        replica.entry = Some(merge(&entry, &entry));
    }

    fn file(n: u8) -> Body {
        Body::File { size: 1, mtime: 0, algorithm: 0, hash: ContentHash::of(&[n]), sparse: false, moved_from: None }
    }

    fn histories() -> impl Strategy<Value = Vec<Option<Entry>>> {
        proptest::collection::vec((0usize..4, 0usize..4, any::<u8>(), 0u64..50), 1..25).prop_map(|steps| {
            let mut replicas: Vec<Replica> = (0..4).map(|_| Replica::default()).collect();
            for (to, from, what, now) in steps {
                if to == from || what < 100 {
                    write(&mut replicas[to], to as u64 + 1, what, now);
                } else if let Some(theirs) = replicas[from].entry.clone() {
                    let merged = match &replicas[to].entry {
                        Some(ours) => merge(ours, &theirs),
                        None => theirs,
                    };
                    replicas[to].entry = Some(merged);
                }
            }
            replicas.into_iter().map(|r| r.entry).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6_000))]
        #[test]
        fn merge_is_commutative_associative_and_idempotent(entries in histories()) {
            let entries: Vec<Entry> = entries.into_iter().flatten().collect();
            for a in &entries {
                prop_assert!(a.validate().is_ok());
                prop_assert_eq!(&merge(a, a), a);
                for b in &entries {
                    let ab = merge(a, b);
                    prop_assert!(ab.validate().is_ok());
                    prop_assert_eq!(&merge(b, a), &ab);
                    for c in &entries {
                        prop_assert_eq!(merge(&ab, c), merge(a, &merge(b, c)));
                    }
                }
            }
        }

        #[test]
        fn what_one_side_has_seen_and_replaced_never_conflicts(entries in histories()) {
            for a in entries.iter().flatten() {
                let mut replica = Replica { entry: Some(a.clone()), ..Replica::default() };
                write(&mut replica, 9, 3, 0);
                let newer = replica.entry.unwrap();
                prop_assert_eq!(&merge(a, &newer), &newer, "I5");
                prop_assert_eq!(decide(Some(&newer), a, Policy::KeepBoth), Decision::Known);
            }
        }
    }

    fn version(id: u64, now: u64, body: Body) -> Entry {
        let dot = Dot { replica: ReplicaId(id), counter: 1 };
        let stamp = Stamp { hlc: crate::clock::Hlc::from_millis(now), dot };
        let mut vector = Vector::default();
        vector.add(dot);
        Entry {
            vector,
            content: Content { stamp, body, origin: Origin::Written },
            losers: vec![],
            attributes: Attributes { stamp, mode: 0o644, owner: None },
        }
    }

    #[test]
    fn the_loser_here_becomes_a_copy_under_keep_both_and_is_stored_under_last_writer_wins() {
        let (here, remote) = (version(1, 10, file(1)), version(2, 20, file(2)));
        let displaced = |policy| match decide(Some(&here), &remote, policy) {
            Decision::Publish { displaced, .. } => displaced,
            other => panic!("{other:?}"),
        };
        assert_eq!(displaced(Policy::KeepBoth), Displaced::ConflictCopy);
        assert_eq!(displaced(Policy::LastWriterWins), Displaced::StoreLoser);
        assert!(matches!(decide(Some(&remote), &here, Policy::KeepBoth), Decision::Record(_)));
    }

    #[test]
    fn under_manual_each_side_keeps_its_own_until_somebody_decides() {
        let (ours, theirs) = (version(1, 10, file(1)), version(2, 20, file(2)));
        for (here, remote) in [(&ours, &theirs), (&theirs, &ours)] {
            assert_eq!(decide(Some(here), remote, Policy::Manual), Decision::Hold);
        }
        // Ordered, equal and deleted versions are no conflict.
        let same = version(2, 20, file(1));
        assert!(matches!(decide(Some(&ours), &same, Policy::Manual), Decision::Record(_)));
        let deletion = version(2, 20, Body::tombstone(None));
        assert!(matches!(decide(Some(&ours), &deletion, Policy::Manual), Decision::Record(_)));
        // Ours was chosen: theirs becomes a copy where it is.
        let mut both = merge(&ours, &theirs);
        let dot = Dot { replica: ReplicaId(1), counter: 2 };
        both.vector.add(dot);
        both.losers = vec![Content { origin: Origin::Beside, ..theirs.content.clone() }];
        both.content =
            Content { stamp: Stamp { hlc: crate::clock::Hlc::from_millis(30), dot }, ..ours.content.clone() };
        assert_eq!((&merge(&both, &both), conflicts(&both)), (&both, 0));
        for policy in [Policy::Manual, Policy::KeepBoth] {
            let Decision::Publish { entry, displaced } = decide(Some(&theirs), &both, policy) else { panic!() };
            assert_eq!((&entry, displaced), (&both, Displaced::ConflictCopy));
            assert!(matches!(decide(Some(&ours), &both, policy), Decision::Record(entry) if entry == both));
        }
        // A third version was never decided about.
        let third = version(3, 25, file(3));
        assert_eq!(decide(Some(&both), &third, Policy::Manual), Decision::Hold);
        assert_eq!(decide(Some(&third), &both, Policy::Manual), Decision::Hold);
    }

    #[test]
    fn two_contents_with_one_number_are_concurrent() {
        let (a, b) = (version(1, 10, file(1)), version(1, 10, file(2)));
        let ab = merge(&a, &b);
        assert_eq!((&merge(&b, &a), conflicts(&ab)), (&ab, 1));
        assert_eq!((duplicated(&ab), duplicated(&a)), (Some(ReplicaId(1)), None));
        assert_eq!((&merge(&ab, &a), &merge(&b, &ab)), (&ab, &ab));
    }

    #[test]
    fn an_edit_wins_over_a_concurrent_deletion_on_both_sides() {
        let (edit, deletion) = (version(1, 10, file(1)), version(2, 20, Body::tombstone(None)));
        assert!(matches!(decide(Some(&edit), &deletion, Policy::KeepBoth), Decision::Record(_)));
        assert!(matches!(decide(Some(&deletion), &edit, Policy::KeepBoth), Decision::Publish { .. }));
    }

    #[test]
    fn equal_contents_never_conflict() {
        let (a, b) = (version(1, 10, file(1)), version(2, 20, file(1)));
        for (here, remote) in [(&a, &b), (&b, &a)] {
            let Decision::Record(entry) = decide(Some(here), remote, Policy::KeepBoth) else { panic!() };
            assert_eq!(conflicts(&entry), 0);
        }
    }

    fn found(id: u64, now: u64, body: Body, origin: Origin) -> Entry {
        let mut entry = version(id, now, body);
        entry.content.origin = origin;
        entry
    }

    #[test]
    fn what_a_rebuilt_registry_finds_stays_deleted_unless_it_was_edited() {
        for body in [file(1), Body::Directory, Body::Symlink { target: b"x".to_vec(), mtime: 0 }] {
            let deletion = version(2, 10, Body::tombstone(body.recognised_by()));
            let here = found(1, 20, body.clone(), Origin::Returned);
            let Decision::Publish { entry, displaced } = decide(Some(&here), &deletion, Policy::KeepBoth) else {
                panic!("{body:?}")
            };
            assert!(!entry.is_live() && displaced == Displaced::Store && conflicts(&entry) == 0, "{entry:?}");
            assert!(matches!(decide(Some(&deletion), &here, Policy::KeepBoth), Decision::Record(_)));
            // Written, it is an edit that the deletion's user never saw.
            let here = version(1, 20, body);
            assert!(
                matches!(decide(Some(&here), &deletion, Policy::KeepBoth), Decision::Record(entry) if entry.is_live())
            );
        }
        let other = found(1, 20, file(2), Origin::Returned);
        let deletion = version(2, 10, Body::tombstone(file(1).recognised_by()));
        assert!(
            matches!(decide(Some(&other), &deletion, Policy::KeepBoth), Decision::Record(entry) if entry.is_live())
        );
        // An edit elsewhere, concurrent with the deletion, has the name; what was deleted makes no copy beside it.
        let edit = version(3, 5, file(3));
        let here = found(1, 20, file(1), Origin::Returned);
        let Decision::Publish { entry, displaced } = decide(Some(&here), &merge(&deletion, &edit), Policy::KeepBoth)
        else {
            panic!()
        };
        assert_eq!((entry.content, displaced), (edit.content, Displaced::Store));
    }

    #[test]
    fn what_a_node_with_a_seed_finds_gives_way_whatever_its_time() {
        let (seed, here) = (version(1, 10, file(1)), found(2, 20, file(2), Origin::Yielding));
        let Decision::Publish { entry, displaced } = decide(Some(&here), &seed, Policy::KeepBoth) else { panic!() };
        assert_eq!((&entry.content, displaced, conflicts(&entry)), (&seed.content, Displaced::StoreLoser, 0));
        assert!(matches!(decide(Some(&seed), &here, Policy::KeepBoth), Decision::Record(_)));
        // Of two that both give way neither is less than the other.
        let other = found(3, 30, file(3), Origin::Yielding);
        let Decision::Publish { displaced, entry } = decide(Some(&here), &other, Policy::KeepBoth) else { panic!() };
        assert_eq!((displaced, conflicts(&entry)), (Displaced::ConflictCopy, 1));
        // What the seed deleted before is no version of the seed.
        let deletion = version(1, 10, Body::tombstone(file(2).recognised_by()));
        assert!(matches!(decide(Some(&here), &deletion, Policy::KeepBoth), Decision::Record(entry) if entry.is_live()));
    }

    #[test]
    fn a_directory_takes_the_name_from_a_concurrent_file() {
        let (dir, newer_file) = (version(1, 10, Body::Directory), version(2, 20, file(2)));
        assert!(matches!(
            decide(Some(&newer_file), &dir, Policy::KeepBoth),
            Decision::Publish { displaced: Displaced::ConflictCopy, .. }
        ));
        assert!(matches!(decide(Some(&dir), &newer_file, Policy::KeepBoth), Decision::Record(_)));
    }
}

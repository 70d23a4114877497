//! Publishing: decided versions get their names by atomic exchange, and what comes out is inspected. Nothing is undone and
//! nothing is dropped (SYNC 7).

mod act;
mod apply;
mod follow;
mod revert;
mod write_out;

pub use apply::{Applied, AppliedItem, Apply, Cause, DisplacedVersion, Errand, Fate, Item};

use crate::contents;
use crate::guard::is_approved;
use crate::job::{Context, VolumeContext, identity};
use crate::publish::act::{Act, Plan};
use crate::publish::follow::is_over;
use crate::registry::{Key, RegistryError};
use crate::scan::{body, is_leftover};
use crate::space::{Room, needs};
use crate::stage::{Replaced, Source, StageError, metadata, stage};
use crate::store::{self, Kind, make_room};
use crate::suspect::{is_suspect, nothing_better};
use std::collections::BTreeMap;
use syncmesh_core::clock::Hlc;
use syncmesh_core::decide::{Decision, Displaced, decide, merge};
use syncmesh_core::entry::{Body, Content, ContentHash, Entry, Here, Identity, Row, Stamp, Unsure, Wanted, Why};
use syncmesh_core::limits::INLINE_BYTES;
use syncmesh_core::path::{Name, RelativePath};
use syncmesh_core::policy::{Policy, conflict_name};
use syncmesh_core::summary::Sum;
use syncmesh_core::version::{Dot, ReplicaId};
use syncmesh_io::{Directory, FileId, FileKind, FsError, Stat};

struct Work<'a> {
    volume: &'a VolumeContext,
    context: &'a Context,
    job: &'a Apply,
    dirty: Vec<Name>,
    room: Room,
}

impl Apply {
    /// Applies all items: decides each, stages what must be published, journals the intents with one write, then
    /// exchanges one after the other.
    pub fn run(self, volume: &VolumeContext, context: &Context) -> Result<Applied, RegistryError> {
        let keys: Vec<Key> = self.items.iter().map(|item| self.key(&item.name)).collect();
        let rows = context.registry.get_all(&keys)?;
        let mut work = Work { volume, context, job: &self, dirty: Vec::new(), room: Room::default() };
        let opened = volume.fs.open_directory(&self.directory.components());
        let mut results: Vec<AppliedItem> = Vec::with_capacity(self.items.len());
        let mut plans = Vec::new();
        for (index, (item, row)) in self.items.iter().zip(&rows).enumerate() {
            let step = match &opened {
                Ok(directory) if item.errand == Errand::Revert => work.take_away(&**directory, item, row.as_ref())?,
                Err(_) if item.errand == Errand::Revert => Step::Done(None, Fate::Visible),
                _ if item.errand == Errand::Judged
                    && !row.as_ref().is_some_and(|row| is_held(row) || is_suspect(row)) =>
                {
                    // Created again, or overtaken by another version: the verdict is about nothing.
                    Step::Done(None, Fate::Visible)
                }
                _ if item.errand == Errand::Follow && row.as_ref().is_none_or(|row| !is_over(item, row)) => {
                    Step::Done(None, Fate::Waits(Cause::Overtaken))
                }
                _ if item.errand != Errand::Judged && row.as_ref().is_some_and(is_withheld) => {
                    overtake(row.as_ref(), item)
                }
                Ok(directory) => work.prepare(&**directory, index, item, row.as_ref())?,
                Err(error) => work.without_directory(item, row.as_ref(), error)?,
            };
            let mut result = AppliedItem {
                name: item.name.clone(),
                stream: item.stream,
                errand: item.errand,
                displaced: matches!(item.source, Source::Displaced(_)),
                old: row.clone(),
                row: None,
                fate: Fate::Visible,
                local: None,
            };
            // What exists only in a slot gets a name of its own at once if it can't be published now. It isn't wanted:
            // no peer could give it to us.
            let step = match (step, &item.source) {
                (Step::Done(_, Fate::Waits(_)), Source::Displaced(_)) => Step::Done(None, Fate::Visible),
                (Step::Done(_, Fate::Waits(cause)), _) if item.errand.lapses() => Step::Done(None, Fate::Waits(cause)),
                (step, _) => step,
            };
            match step {
                Step::Done(next, fate) => {
                    if !matches!(fate, Fate::Waits(Cause::Open { .. })) {
                        work.release(opened.as_deref().ok(), item, row.as_ref());
                    }
                    (result.row, result.fate) = (next.map(|next| undecided(row.as_ref(), next)), fate);
                }
                Step::Publish(plan) => plans.push(plan),
            }
            results.push(result);
        }
        if let Ok(directory) = &opened {
            match work.write_out(&plans).and_then(|()| work.journal(&plans)) {
                Ok(()) => {
                    for plan in plans {
                        let index = plan.index;
                        let result = &mut results[index];
                        work.publish(&**directory, plan, rows[index].as_ref(), result);
                        result.row = result.row.take().map(|next| undecided(rows[index].as_ref(), next));
                    }
                }
                Err(error) => {
                    for plan in plans {
                        let (item, row) = (&self.items[plan.index], rows[plan.index].as_ref());
                        work.discard(&plan, item);
                        waits(&mut results[plan.index], row, item, Cause::Disk(error.clone()), why(&error));
                    }
                }
            }
        }
        let is_lapsed = |result: &&mut AppliedItem| result.errand.lapses() && result.fate != Fate::Visible;
        results.iter_mut().filter(is_lapsed).for_each(|result| result.row = None);
        let dirty = work.dirty;
        drop(opened);
        Ok(Applied { volume: self.volume, directory: self.directory, items: results, dirty })
    }

    fn key(&self, name: &Name) -> Key {
        Key { volume: self.volume, directory: self.directory.clone(), name: name.clone() }
    }
}

enum Step {
    Done(Option<Row>, Fate),
    Publish(Plan),
}

/// The row with one more wanted version.
fn want(row: Option<&Row>, entry: &Entry, why: Why) -> Row {
    let mut row = row.cloned().unwrap_or(Row { sequence: 0, here: None, wanted: None });
    // What power loss has made doubtful stays so until something else has its place.
    let why = if is_suspect(&row) { Why::Suspect } else { why };
    let entry = match row.wanted.take().and_then(|mut wanted| wanted.entries.pop()) {
        Some(older) => merge(&older, entry),
        None => entry.clone(),
    };
    row.wanted = Some(Wanted { entries: vec![entry], why });
    row
}

/// What came of an item that can't be applied now: it is wanted from here on.
fn waits(result: &mut AppliedItem, row: Option<&Row>, item: &Item, cause: Cause, why: Why) {
    result.row = Some(want(row, &item.entry, why));
    result.fate = Fate::Waits(cause);
}

/// What must be decided: what is wanted already is part of it, so a row keeps one wanted version and not a queue. What a
/// person has to decide about isn't: it waits beside.
fn target(row: Option<&Row>, item: &Item) -> Entry {
    let wanted = row.and_then(|row| row.wanted.as_ref()).filter(|wanted| wanted.why != Why::Conflict);
    wanted
        .into_iter()
        .flat_map(|wanted| &wanted.entries)
        .fold(item.entry.clone(), |target, wanted| merge(&target, wanted))
}

/// The next row, with what a person has still to decide about.
fn undecided(row: Option<&Row>, next: Row) -> Row {
    let waits = row.and_then(|row| row.wanted.as_ref()).filter(|wanted| wanted.why == Why::Conflict);
    let known = |entry: &Entry| next.entries().any(|other| other.vector.includes_all(&entry.vector));
    match waits {
        Some(waits) if !waits.entries.iter().all(known) => Row { wanted: Some(waits.clone()), ..next },
        _ => next,
    }
}

/// A version meets a deletion by a user here that is held. That is about the version which was here, so the two stay apart
/// until the deletion is a version itself: what its user never saw mustn't go with it.
fn overtake(row: Option<&Row>, item: &Item) -> Step {
    let Some((row, wanted)) = row.and_then(|row| Some((row, row.wanted.as_ref()?))) else {
        return Step::Done(None, Fate::Visible);
    };
    if wanted.entries.iter().any(|known| merge(known, &item.entry) == *known) {
        return Step::Done(None, Fate::Visible);
    }
    let mut entries = wanted.entries.clone();
    match entries.get_mut(1) {
        Some(other) => *other = merge(other, &item.entry),
        None => entries.push(item.entry.clone()),
    }
    let row = Row { wanted: Some(Wanted { entries, why: Why::Held }), ..row.clone() };
    Step::Done(Some(row), Fate::Waits(Cause::Overtaken))
}

/// What is published in a directory that is to be removed or replaced.
#[derive(PartialEq, Eq)]
enum Inside {
    Nothing,
    /// Some of it is about to change.
    Goes,
    /// Nothing is known that would change any of it.
    Stays,
}

fn is_held(row: &Row) -> bool {
    row.wanted.as_ref().is_some_and(|wanted| wanted.why == Why::Held)
}

/// Did a user here delete it, and is that held?
fn is_withheld(row: &Row) -> bool {
    is_held(row) && row.live().is_none()
}

fn may_delete(item: &Item, entry: &Entry) -> bool {
    matches!(item.errand, Errand::FewDeletions | Errand::Judged) || is_approved(entry)
}

fn why(error: &FsError) -> Why {
    match error {
        FsError::NoSpace => Why::NoSpace,
        FsError::Collision => Why::Collision,
        _ => Why::Fetching,
    }
}

fn here(entry: Entry, identity: Option<Identity>) -> Row {
    Row { sequence: 0, here: Some(Here { entry, identity, unsure: Unsure::default() }), wanted: None }
}

impl Work<'_> {
    /// Items whose directory can't be opened.
    fn without_directory(&mut self, item: &Item, row: Option<&Row>, error: &FsError) -> Result<Step, RegistryError> {
        let target = target(row, item);
        let waits = |cause, why| Step::Done(Some(want(row, &target, why)), Fate::Waits(cause));
        let is_here = row.and_then(Row::live).is_some();
        let published = row.and_then(|row| row.here.as_ref()).map(|here| &here.entry);
        let decision = decide(published, &target, self.policy(item));
        // To record that nothing is where nothing was needs no look at the disk.
        let is_deletion = matches!(&decision, Decision::Publish { entry, .. } if !entry.is_live());
        if *error != FsError::NotFound && (is_here || !is_deletion) {
            return Ok(waits(Cause::Disk(error.clone()), why(error)));
        }
        if is_here {
            // It vanished with its directory, and no scan has said so yet.
            return Ok(waits(Cause::LocalChange, Why::Fetching));
        }
        match decision {
            Decision::Known => Ok(Step::Done(without_wanted(row), Fate::Visible)),
            Decision::Hold => Ok(waits(Cause::Undecided, Why::Conflict)),
            Decision::Record(entry) | Decision::SetAttributes(entry) => {
                Ok(Step::Done(Some(here(entry, None)), Fate::Visible))
            }
            Decision::Publish { entry, .. } if !entry.is_live() => {
                Ok(Step::Done(Some(here(entry, None)), Fate::Visible))
            }
            Decision::Publish { entry, .. } if !self.selects(item, &entry) => {
                // Its directory is missing because it isn't selected either.
                Ok(waits(Cause::Unselected, Why::Unselected))
            }
            Decision::Publish { .. } => {
                let parent = match Key::of(self.job.volume, &self.job.directory) {
                    Some(key) => self.context.registry.get(&key)?,
                    None => None,
                };
                let deleted = parent.is_some_and(|row| row.here.is_some_and(|here| !here.entry.is_live()));
                Ok(waits(Cause::Parent { deleted }, Why::Fetching))
            }
        }
    }

    fn selects(&self, item: &Item, entry: &Entry) -> bool {
        let is_directory = entry.content.body == Body::Directory;
        let path = self.job.directory.join(&item.name);
        path.is_ok_and(|path| self.volume.selection.includes(&path, is_directory))
    }

    fn policy(&self, item: &Item) -> Policy {
        match self.job.directory.join(&item.name) {
            Ok(path) => self.volume.policies.of(&path),
            Err(_) => Policy::KeepBoth,
        }
    }

    /// Decides one item, and stages it if it must be published.
    fn prepare(
        &mut self,
        directory: &dyn Directory,
        index: usize,
        item: &Item,
        row: Option<&Row>,
    ) -> Result<Step, RegistryError> {
        let Ok(path) = self.job.directory.join(&item.name) else {
            return Ok(Step::Done(Some(want(row, &item.entry, Why::Collision)), Fate::Waits(Cause::Collision)));
        };
        let target = target(row, item);
        let waits = |cause, why| Ok(Step::Done(Some(want(row, &target, why)), Fate::Waits(cause)));
        let published = row.and_then(|row| row.here.as_ref());
        if let Some(row) = row.filter(|row| is_disputed(&path, item, row)) {
            return Ok(Step::Done(Some(unseen(row)), Fate::Waits(Cause::LocalChange)));
        }
        if let Some(row) = row
            && self.follows(item, row, &target)?
        {
            return waits(Cause::Moved, Why::Fetching);
        }
        let decision = decide(published.map(|here| &here.entry), &target, self.policy(item));
        let mut old = published.and_then(|here| here.identity);
        // A suspect gives way to whatever is known beyond the row, and stays as it is if nothing is. What a user has done
        // since is no suspect any more: a scan records that first.
        let mut suspect = None;
        if let Some(row) = row.filter(|row| is_suspect(row)) {
            let entry = published.map_or_else(|| target.clone(), |here| merge(&here.entry, &target));
            if nothing_better(row) && published.is_some_and(|here| here.entry == entry) {
                return Ok(Step::Done(None, Fate::Visible));
            }
            let shown = directory.stat(item.name.as_bytes()).ok();
            // Under its other names a reader's file would show the same metadata.
            let in_place = |stat: &&Stat| !self.is_reader() || stat.kind == FileKind::Directory || stat.links < 2;
            if let Some(stat) = shown.as_ref().filter(in_place)
                && let Ok(Some((body, stat, _))) = body(self.volume, directory, &item.name, stat)
                && body.same_contents(&entry.content.body)
            {
                // It is whole, and what is known: nobody else may have it.
                self.release(Some(directory), item, Some(row));
                let metadata = metadata(self.volume, &entry.content.body, &entry.attributes);
                let (old, slot, act) =
                    (Some(identity(&stat)), self.volume.slot(), Act::SetAttributes { id: stat.id, metadata });
                return Ok(Step::Publish(Plan {
                    index,
                    entry,
                    old,
                    slot,
                    act,
                    copy: None,
                    kind: Kind::Superseded,
                    over: None,
                }));
            }
            suspect = shown.filter(|stat| stat.kind == FileKind::File).map(|stat| (entry, identity(&stat)));
        }
        let decision = match &suspect {
            Some((entry, _)) => Decision::Publish { entry: entry.clone(), displaced: Displaced::Store },
            None => decision,
        };
        let (entry, displaced) = match decision {
            Decision::Known => return Ok(Step::Done(without_wanted(row), Fate::Visible)),
            Decision::Hold => return waits(Cause::Undecided, Why::Conflict),
            Decision::Record(entry) => return Ok(Step::Done(Some(here(entry, old)), Fate::Visible)),
            // Set where it is, other names of the file would show it, too.
            Decision::SetAttributes(entry) if has_second_name(directory, &item.name) => (entry, Displaced::Store),
            Decision::SetAttributes(entry) => return Ok(self.attributes(directory, index, item, row, entry)),
            Decision::Publish { entry, displaced } => (entry, displaced),
        };
        let is_directory = entry.content.body == Body::Directory;
        if entry.is_live() && !self.volume.selection.includes(&path, is_directory) {
            return waits(Cause::Unselected, Why::Unselected);
        }
        // The disk must show what the row says; anything else is a local change that a scan records first.
        let shown = match directory.stat(item.name.as_bytes()) {
            Ok(stat) => Some(stat),
            Err(FsError::Collision) if entry.is_live() => return waits(Cause::Collision, Why::Collision),
            // What has another spelling of the name is something else, and none of this one's business.
            Err(FsError::NotFound | FsError::Collision) => None,
            Err(error) => return waits(Cause::Disk(error.clone()), why(&error)),
        };
        let was_directory = shown.is_some_and(|stat| stat.kind == FileKind::Directory);
        if let Some((_, shown)) = &suspect {
            old = Some(*shown);
        }
        if shown.as_ref().map(identity) != old {
            let deleted = published.is_some_and(|here| !here.entry.is_live());
            return match shown {
                Some(stat)
                    if was_directory
                        && deleted
                        && is_leftover(self.volume, &self.context.registry, self.job.volume, &path)? =>
                {
                    Ok(self.over_leftover(directory, item, &stat, row, entry))
                }
                _ => waits(Cause::LocalChange, Why::Fetching),
            };
        }
        if published.is_some_and(|here| here.unsure.any())
            && suspect.is_none()
            && has_writers(directory, &item.name) == Some(false)
        {
            // The disk may show less than there is. Closed now, it tells when it is read again.
            return waits(Cause::LocalChange, Why::Fetching);
        }
        if was_directory && !is_directory {
            let inside = self.inside(&path)?;
            if inside != Inside::Nothing {
                let stays = item.errand == Errand::AllHeard && inside == Inside::Stays;
                return waits(Cause::NotEmpty { stays }, Why::Fetching);
            }
            if entry.is_live() {
                let end = (None, Kind::Superseded);
                let mut step = self.stage(directory, index, item, row, &target, entry, None, end, None, None)?;
                if let Step::Publish(Plan { act: Act::Exchange { over_directory, .. }, .. }) = &mut step {
                    *over_directory = true;
                }
                return Ok(step);
            }
            if !may_delete(item, &entry) {
                return waits(Cause::Guard, Why::Held);
            }
            self.release(Some(directory), item, row);
            let slot = self.volume.slot();
            let (act, kind) = (Act::RemoveDirectory, Kind::Superseded);
            let plan = Plan { index, entry, old, slot, act, copy: None, kind, over: None };
            return Ok(Step::Publish(plan));
        }
        // Contents that are suspect were written over nobody knows what.
        let over = published.filter(|_| suspect.is_none()).map(|here| here.entry.clone());
        if !entry.is_live() {
            if shown.is_none() {
                return Ok(Step::Done(Some(here(entry, None)), Fate::Visible));
            }
            if !may_delete(item, &entry) && suspect.is_none() {
                return waits(Cause::Guard, Why::Held);
            }
            let slot = self.volume.slot();
            let kind = if suspect.is_some() { Kind::Loser } else { Kind::Superseded };
            let act = Act::Withdraw;
            return Ok(Step::Publish(Plan { index, entry, old, slot, act, copy: None, kind, over }));
        }
        let end = match (displaced, published) {
            (Displaced::ConflictCopy, Some(loser)) => {
                (Some(self.copy_name(&item.name, &loser.entry)), Kind::Superseded)
            }
            (Displaced::StoreLoser, _) => (None, Kind::Loser),
            // Nobody else has what is suspect, torn or not.
            _ if suspect.is_some() => (None, Kind::Loser),
            (Displaced::ConflictCopy | Displaced::Store, _) => (None, Kind::Superseded),
        };
        let replaces = shown.map(|stat| stat.id);
        let step = self.stage(directory, index, item, row, &target, entry, old, end, over, replaces)?;
        Ok(self.unless_open(directory, item, row, &target, step))
    }

    /// What a program has open for writing is replaced when it is closed, or when it was waited for long enough.
    fn unless_open(
        &self,
        directory: &dyn Directory,
        item: &Item,
        row: Option<&Row>,
        target: &Entry,
        step: Step,
    ) -> Step {
        let Step::Publish(plan) = step else { return step };
        let may_wait = plan.old.is_some()
            && !item.errand.lapses()
            && !matches!(item.source, Source::Displaced(_))
            && !self.job.overdue.contains(&item.name);
        if !may_wait || has_writers(directory, &item.name) != Some(true) {
            return Step::Publish(plan);
        }
        let hash = plan.entry.content.body.hash();
        let kept = hash.map(|hash| (plan.slot, hash)).filter(|_| item.source.slot() == Some(plan.slot));
        if kept.is_none() {
            // What can't be dropped now is dropped at the next start.
            let _ = self.volume.fs.drop_slot(plan.slot);
        }
        Step::Done(Some(want(row, target, Why::Fetching)), Fate::Waits(Cause::Open { kept }))
    }

    /// What is published in a directory. Each row is read once: what goes meanwhile was going, or is gone.
    fn inside(&self, directory: &RelativePath) -> Result<Inside, RegistryError> {
        let (mut has_any, mut goes) = (false, false);
        self.context.registry.any_child(self.job.volume, directory, |row| {
            has_any |= row.live().is_some();
            goes |= row.wanted.is_some();
            has_any && goes
        })?;
        Ok(match (has_any, goes) {
            (false, _) => Inside::Nothing,
            (true, true) => Inside::Goes,
            (true, false) => Inside::Stays,
        })
    }

    /// A leftover is in the way. A directory that is made again elsewhere takes it over; anything else has to wait until its
    /// owner takes away what isn't selected.
    fn over_leftover(
        &mut self,
        directory: &dyn Directory,
        item: &Item,
        shown: &Stat,
        row: Option<&Row>,
        entry: Entry,
    ) -> Step {
        let waits = |error: FsError| {
            let row = want(row, &item.entry, why(&error));
            Step::Done(Some(row), Fate::Waits(Cause::Disk(error)))
        };
        if !entry.is_live() {
            return Step::Done(Some(here(entry, None)), Fate::Visible);
        }
        if entry.content.body != Body::Directory {
            return waits(FsError::NotEmpty);
        }
        let wanted = metadata(self.volume, &entry.content.body, &entry.attributes);
        match directory.set_metadata(item.name.as_bytes(), shown.id, &wanted) {
            Ok(stat) => Step::Done(Some(here(entry, Some(identity(&stat)))), Fate::Visible),
            Err(error) => waits(error),
        }
    }

    fn copy_name(&self, name: &Name, loser: &Entry) -> Name {
        copy_name(name, &loser.content, &self.job.replicas)
    }

    fn stage(
        &mut self,
        directory: &dyn Directory,
        index: usize,
        item: &Item,
        row: Option<&Row>,
        target: &Entry,
        entry: Entry,
        old: Option<Identity>,
        (copy, kind): (Option<Name>, Kind),
        over: Option<Entry>,
        replaces: Option<FileId>,
    ) -> Result<Step, RegistryError> {
        let replaced = replaces.map(|id| Replaced { directory, name: item.name.as_bytes(), id });
        let replaced = replaced.as_ref();
        // Contents that came along belong to the item's version; the join may have chosen another.
        let fits = entry.content.body.same_contents(&item.entry.content.body);
        let nothing = Source::None;
        let source = if fits { &item.source } else { &nothing };
        let needs = if source.slot().is_some() { 0 } else { needs(&entry.content.body) };
        if needs > 0 && !self.room.take(self.volume, needs) {
            return Ok(Step::Done(Some(want(row, target, Why::NoSpace)), Fate::Waits(Cause::Disk(FsError::NoSpace))));
        }
        let mut staged = stage(self.volume, &entry.content.body, &entry.attributes, source, replaced);
        if matches!(staged, Err(StageError::Disk(FsError::NoSpace))) && make_room(self.volume, needs, 1) > 0 {
            // A quota, or too few inodes: the free space didn't show it.
            staged = stage(self.volume, &entry.content.body, &entry.attributes, source, replaced);
        }
        // Large contents of its own are copied by a job of its own, like any that are here under a name.
        let over_body = over.as_ref().map(|over| &over.content.body);
        let is_own =
            over_body.is_some_and(|body| body.same_contents(&entry.content.body) && body.size() > INLINE_BYTES);
        if matches!(staged, Err(StageError::NoContents))
            && !is_own
            && let Some(slot) = self.contents_from_here(item, &entry.content.body)?
        {
            staged = stage(self.volume, &entry.content.body, &entry.attributes, &Source::Slot(slot), replaced);
            if staged.is_err() {
                let _ = self.volume.fs.drop_slot(slot);
            }
        }
        let (cause, why) = match staged {
            Ok((slot, staged)) => {
                if !fits {
                    self.release(Some(directory), item, row);
                }
                let act = Act::Exchange { staged, over_directory: false };
                return Ok(Step::Publish(Plan { index, entry, old, slot, act, copy, kind, over }));
            }
            // The decided version is what is wanted from here on: its contents may be another's than the item's, such as
            // those of an earlier loser when the winner was deleted.
            Err(StageError::NoContents | StageError::Mismatch) => {
                return Ok(Step::Done(Some(want(row, &entry, Why::Fetching)), Fate::Waits(Cause::Contents)));
            }
            Err(StageError::Disk(error)) => (Cause::Disk(error.clone()), why(&error)),
        };
        Ok(Step::Done(Some(want(row, target, why)), Fate::Waits(cause)))
    }

    /// Contents that a conflict copy or the store of this node has.
    fn contents_from_here(&self, item: &Item, body: &Body) -> Result<Option<u64>, RegistryError> {
        let Body::File { hash, size, sparse, .. } = body else { return Ok(None) };
        let found = contents::find(self.volume, &self.context.registry, &self.job.key(&item.name), *hash)?;
        Ok(found.and_then(|found| contents::copy(self.volume, &found, *size, *hash, *sparse)))
    }

    /// Other metadata for what is published already.
    fn attributes(
        &mut self,
        directory: &dyn Directory,
        index: usize,
        item: &Item,
        row: Option<&Row>,
        entry: Entry,
    ) -> Step {
        let waits = |cause, why| Step::Done(Some(want(row, &item.entry, why)), Fate::Waits(cause));
        let shown = match directory.stat(item.name.as_bytes()) {
            Ok(stat) => stat,
            Err(FsError::NotFound | FsError::Collision) => return waits(Cause::LocalChange, Why::Fetching),
            Err(error) => return waits(Cause::Disk(error.clone()), why(&error)),
        };
        let old = row.and_then(Row::live).and_then(|here| here.identity);
        if old != Some(identity(&shown)) {
            return waits(Cause::LocalChange, Why::Fetching);
        }
        self.release(Some(directory), item, row);
        let metadata = metadata(self.volume, &entry.content.body, &entry.attributes);
        let act = Act::SetAttributes { id: shown.id, metadata };
        let (slot, kind) = (self.volume.slot(), Kind::Superseded);
        Step::Publish(Plan { index, entry, old, slot, act, copy: None, kind, over: None })
    }

    /// Gives up an item's slot. What exists nowhere else gets a name or goes to the store.
    fn release(&mut self, directory: Option<&dyn Directory>, item: &Item, row: Option<&Row>) {
        let published = row.and_then(Row::live).map(|here| &here.entry.content.body);
        match item.source {
            // Equal contents are no conflict: they have the name.
            Source::Displaced(slot) if published.is_some_and(|body| body.same_contents(&item.entry.content.body)) => {
                self.store(slot, &item.name, Some(&item.entry), Kind::Superseded);
            }
            Source::Displaced(slot) => self.give_a_name(directory, item, slot),
            _ => self.release_slot(item),
        }
    }

    fn release_slot(&self, item: &Item) {
        if let Source::Slot(slot) = item.source {
            // A slot that can't be dropped now is dropped at the next start.
            let _ = self.volume.fs.drop_slot(slot);
        }
    }

    /// Gives up a change that can't be made.
    fn discard(&mut self, plan: &Plan, item: &Item) {
        match (&plan.act, &item.source) {
            // They need no contents, and have given up the item's slot.
            (Act::SetAttributes { .. } | Act::RemoveDirectory, _) => {}
            (_, Source::Displaced(slot)) => self.give_a_name(None, item, *slot),
            (Act::Exchange { .. }, _) => _ = self.volume.fs.drop_slot(plan.slot),
            (Act::Withdraw, _) => {}
        }
    }

    /// A displaced local version that didn't win: a conflict copy, else a stored version.
    fn give_a_name(&mut self, directory: Option<&dyn Directory>, item: &Item, slot: u64) {
        let copy = self.copy_name(&item.name, &item.entry);
        self.name_or_store(directory, item, slot, copy, Some(&item.entry));
    }

    /// What a user here wrote and nobody could judge: a conflict copy whose name tells no contents, else a stored version.
    fn give_unjudged_a_name(&mut self, directory: &dyn Directory, item: &Item, slot: u64) {
        let node = self.job.replicas.get(&self.job.replica).map_or("unknown", String::as_str);
        let dot = Dot { replica: self.job.replica, counter: 0 };
        let stamp = Stamp { hlc: Hlc::from_millis(self.job.now_millis), dot };
        let copy = conflict_name(&item.name, node, stamp, ContentHash::UNKNOWN);
        self.name_or_store(Some(directory), item, slot, copy, None);
    }

    fn name_or_store(
        &mut self,
        directory: Option<&dyn Directory>,
        item: &Item,
        slot: u64,
        copy: Name,
        entry: Option<&Entry>,
    ) {
        if let Some(directory) = directory
            && self.policy(item) != Policy::LastWriterWins
            && directory.publish(slot, copy.as_bytes(), false).is_ok()
        {
            self.dirty.push(copy);
            return;
        }
        self.store(slot, &item.name, entry, Kind::Loser);
    }

    fn store(&self, slot: u64, name: &Name, entry: Option<&Entry>, kind: Kind) {
        if let Ok(path) = self.job.directory.join(name) {
            // Should it fail the version stays in its slot, where recovery finds and stores it.
            let _ = store::keep(self.volume, slot, &path, self.job.now_millis, entry, kind);
        }
    }
}

/// Has anybody the file open for writing? `None` if it isn't a file, or that can't be told.
fn has_writers(directory: &dyn Directory, name: &Name) -> Option<bool> {
    directory.open(name.as_bytes()).ok()?.has_writers().ok()
}

/// Does a file or link have other names beside this one?
fn has_second_name(directory: &dyn Directory, name: &Name) -> bool {
    let shown = directory.stat(name.as_bytes());
    shown.is_ok_and(|stat| stat.kind != FileKind::Directory && stat.links > 1)
}

/// Is it said of one version here and at a peer that it is two things? One of the two rows is wrong, and what would be
/// joined from it is nowhere: the file is read first.
fn is_disputed(path: &RelativePath, item: &Item, row: &Row) -> bool {
    let is_other = |here: &Here| {
        here.entry.vector == item.entry.vector && Sum::of_entry(path, &here.entry) != Sum::of_entry(path, &item.entry)
    };
    item.errand == Errand::Repair && row.live().is_some_and(is_other)
}

/// The row of what must be read again, whatever the disk shows of it.
fn unseen(row: &Row) -> Row {
    let here = row.here.clone().map(|here| Here { identity: None, ..here });
    Row { here, ..row.clone() }
}

/// The name of the conflict copy of contents that lost.
pub fn copy_name(name: &Name, loser: &Content, replicas: &BTreeMap<ReplicaId, String>) -> Name {
    let node = replicas.get(&loser.stamp.dot.replica).map_or("unknown", String::as_str);
    let hash = match &loser.body {
        Body::File { hash, .. } => *hash,
        Body::Symlink { target, .. } => ContentHash::of(target),
        Body::Directory | Body::Tombstone { .. } => ContentHash::of(b""),
    };
    conflict_name(name, node, loser.stamp, hash)
}

fn without_wanted(row: Option<&Row>) -> Option<Row> {
    row.filter(|row| row.wanted.is_some()).map(|row| Row { wanted: None, ..row.clone() })
}

//! Making one change to one name, after its intent was journalled: exchange, withdrawal, removal of a directory, other
//! metadata. What comes out is inspected; nothing is undone and nothing is dropped (SYNC 7).

use super::{AppliedItem, Cause, DisplacedVersion, Item, Work, here, waits, why};
use crate::hash::{Hashed, hash_open};
use crate::job::identity;
use crate::journal::{self, Intent, Record};
use crate::scan::{What, is_leftover};
use crate::stage::Source;
use crate::store::{self, Kind, is_in_use};
use syncmesh_core::entry::{self, Body, Entry, Identity, Row, Why};
use syncmesh_core::path::Name;
use syncmesh_io::{Directory, FileId, FsError, Metadata, Stat};

/// A change that is ready to be made, and whose intent is about to be journalled.
pub(super) struct Plan {
    pub(super) index: usize,
    pub(super) entry: Entry,
    /// What the name is expected to show.
    pub(super) old: Option<Identity>,
    pub(super) slot: u64,
    pub(super) act: Act,
    /// The name that the loser of a conflict gets.
    pub(super) copy: Option<Name>,
    /// What it is in the version store if it goes there.
    pub(super) kind: Kind,
    /// The entry over which a local version would have been written.
    pub(super) over: Option<Entry>,
}

/// What is about to be done to a name.
pub(super) enum Act {
    /// What is staged in the slot gets it.
    Exchange {
        staged: Identity,
        /// An empty directory has it, and goes first: an exchange would take along what is created in it meanwhile.
        over_directory: bool,
    },
    /// What has it goes to the slot.
    Withdraw,
    /// The empty directory that has it goes.
    RemoveDirectory,
    /// What has it stays, and gets other metadata.
    SetAttributes { id: FileId, metadata: Metadata },
}

impl Plan {
    /// What the name shows if it stays or becomes an inode that is known beforehand.
    fn staged(&self) -> Option<Identity> {
        match &self.act {
            Act::Exchange { staged, .. } => Some(*staged),
            Act::SetAttributes { metadata, .. } => self.old.map(|old| with(old, metadata)),
            Act::Withdraw | Act::RemoveDirectory => None,
        }
    }
}

/// Did that come out which was meant to? A suspect is over nothing that is known, and only who writes its contents makes it a
/// version: another mode or owner is no word for what power loss may have torn.
fn is_expected(old: Option<Identity>, over: Option<&Entry>, now: &Identity) -> bool {
    let Some(old) = old else { return false };
    let contents = |shown: &Identity| (shown.inode, shown.size, shown.mtime);
    old.same_but_ctime(now) || over.is_none() && contents(&old) == contents(now)
}

/// What a name shows, if it is what was expected: an exchange or a link moves an inode's ctime.
fn shown(directory: &dyn Directory, name: &Name, expected: &Identity) -> Option<Identity> {
    let shown = directory.stat(name.as_bytes()).ok().map(|stat| identity(&stat));
    shown.filter(|shown| shown.same_but_ctime(expected))
}

/// What an inode shows once it has that metadata.
fn with(old: Identity, metadata: &Metadata) -> Identity {
    Identity {
        mode: metadata.mode.unwrap_or(old.mode),
        owner: metadata.owner.map_or(old.owner, |owner| entry::Owner { uid: owner.uid, gid: owner.gid }),
        mtime: metadata.mtime.unwrap_or(old.mtime),
        ..old
    }
}

impl Work<'_> {
    /// Writes the intents of all changes at once.
    pub(super) fn journal(&self, plans: &[Plan]) -> Result<(), FsError> {
        if plans.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for plan in plans {
            let key = self.job.key(&self.job.items[plan.index].name);
            let (slot, staged, old, new) = (plan.slot, plan.staged(), plan.old, plan.entry.clone());
            let only_copy = matches!(self.job.items[plan.index].source, Source::Displaced(only) if only == slot);
            journal::encode(&Record::Intent(Intent { key, slot, staged, old, new, only_copy }), &mut bytes);
        }
        self.context.state.append(self.job.log, &bytes)
    }

    /// Makes the change.
    pub(super) fn publish(
        &mut self,
        directory: &dyn Directory,
        plan: Plan,
        row: Option<&Row>,
        result: &mut AppliedItem,
    ) {
        match plan.act {
            Act::Exchange { staged, over_directory } => {
                self.exchange(directory, plan, staged, over_directory, row, result);
            }
            Act::Withdraw => self.withdraw(directory, plan, row, result),
            Act::RemoveDirectory => self.remove_directory(directory, plan, row, result),
            Act::SetAttributes { id, metadata } => self.set_attributes(directory, plan, id, metadata, row, result),
        }
    }

    fn set_attributes(
        &mut self,
        directory: &dyn Directory,
        plan: Plan,
        id: FileId,
        metadata: Metadata,
        row: Option<&Row>,
        result: &mut AppliedItem,
    ) {
        let item = &self.job.items[plan.index];
        // Anything else was set or written by somebody right after us, unless the disk can't show it.
        let is_ours = |shown: Identity, old: Identity| match self.volume.exact_metadata {
            true => with(old, &metadata).same_but_ctime(&shown),
            false => old.size == shown.size,
        };
        let (cause, why) = match directory.set_metadata(item.name.as_bytes(), id, &metadata) {
            Ok(stat) if plan.old.is_some_and(|old| is_ours(identity(&stat), old)) => {
                result.row = Some(here(plan.entry, Some(identity(&stat))));
                return;
            }
            Ok(_) | Err(FsError::NotFound) => (Cause::LocalChange, Why::Fetching),
            // Part of it may be set: the next look finds what is there.
            Err(error) => (Cause::Disk(error.clone()), why(&error)),
        };
        self.dirty.push(item.name.clone());
        waits(result, row, item, cause, why);
    }

    fn remove_directory(&mut self, directory: &dyn Directory, plan: Plan, row: Option<&Row>, result: &mut AppliedItem) {
        let item = &self.job.items[plan.index];
        let error = match directory.remove_directory(item.name.as_bytes()) {
            Ok(()) | Err(FsError::NotFound) => {
                result.row = Some(here(plan.entry, None));
                return;
            }
            Err(error) => error,
        };
        // A leftover counts as deleted, and nobody hears of it.
        if error == FsError::NotEmpty
            && let Ok(path) = self.job.directory.join(&item.name)
            && let Ok(true) = is_leftover(self.volume, &self.context.registry, self.job.volume, &path)
        {
            result.row = Some(here(plan.entry, None));
            return;
        }
        let why = why(&error);
        let cause = if error == FsError::NotEmpty { Cause::NotEmpty { stays: false } } else { Cause::Disk(error) };
        waits(result, row, item, cause, why);
    }

    /// Exchanges, and inspects what came out.
    fn exchange(
        &mut self,
        directory: &dyn Directory,
        plan: Plan,
        staged: Identity,
        over_directory: bool,
        row: Option<&Row>,
        result: &mut AppliedItem,
    ) {
        let item = &self.job.items[plan.index];
        let name = item.name.as_bytes();
        let mut linked = None;
        if let Some(copy) = &plan.copy {
            // The loser has its new name before the winner takes the old one.
            let is_loser = || plan.old.is_some_and(|old| shown(directory, copy, &old).is_some());
            match directory.link(name, copy.as_bytes()) {
                Ok(()) if !is_loser() => {
                    // Somebody has replaced the loser meanwhile: a version that nobody has decided about.
                    self.take_back(directory, copy, item);
                    self.discard(&plan, item);
                    return waits(result, row, item, Cause::LocalChange, Why::Fetching);
                }
                Ok(()) => linked = Some(copy),
                Err(FsError::Exists) => {}
                Err(error) => {
                    self.discard(&plan, item);
                    let why = why(&error);
                    return waits(result, row, item, Cause::Disk(error), why);
                }
            }
            self.dirty.push(copy.clone());
        }
        let cleared = match over_directory.then(|| directory.remove_directory(name)) {
            None | Some(Ok(()) | Err(FsError::NotFound)) => Ok(()),
            Some(Err(error)) => Err(error),
        };
        let displaced = match cleared.and_then(|()| directory.publish(plan.slot, name, plan.old.is_some())) {
            Ok(displaced) => displaced,
            Err(error) => {
                // Under two names what is written through one of them would change the other, too.
                linked.into_iter().for_each(|copy| self.take_back(directory, copy, item));
                self.discard(&plan, item);
                let cause = match error {
                    FsError::Exists => Cause::LocalChange,
                    FsError::NotFound => Cause::Parent { deleted: false },
                    FsError::NotEmpty => Cause::NotEmpty { stays: false },
                    FsError::Collision => Cause::Collision,
                    _ => Cause::Disk(error.clone()),
                };
                return waits(result, row, item, cause, why(&error));
            }
        };
        // The name must show the inode that was staged.
        let identity_now = shown(directory, &item.name, &staged);
        if identity_now.is_none() {
            self.dirty.push(item.name.clone());
        }
        let is_equal = plan.over.as_ref().is_some_and(|over| over.content.body.same_contents(&plan.entry.content.body));
        result.row = Some(here(plan.entry, Some(identity_now.unwrap_or(staged))));
        let syncmesh_io::Displaced::InSlot(stat) = displaced else { return };
        let expected = is_expected(plan.old, plan.over.as_ref(), &identity(&stat));
        let copied = |copy: &&Name| directory.stat(copy.as_bytes()).is_ok_and(|copied| copied.id == stat.id);
        let copy = plan.copy.as_ref().filter(copied);
        if expected && (copy.is_some() || is_equal && !is_in_use(self.volume, plan.slot)) {
            // What it was has a name.
            let _ = self.volume.fs.drop_slot(plan.slot);
            return;
        }
        if let Some(copy) = copy {
            // It was written after it had got that name, so it isn't what the name tells, and it may yet win.
            self.take_back(directory, copy, item);
        }
        if self.is_reader() && (!expected || plan.over.is_none()) {
            // Neither what was expected nor what is taken back is a version of anybody's.
            if self.keep_reverted(directory, item, plan.slot).is_err() {
                self.store_expected(plan.slot, None, Kind::Loser, item);
            }
        } else if expected {
            self.store_expected(plan.slot, plan.over.as_ref(), plan.kind, item);
        } else if is_in_use(self.volume, plan.slot) {
            // As long as somebody may write to it, it can't be judged.
            self.store(plan.slot, &item.name, plan.over.as_ref(), plan.kind);
        } else {
            result.local = self.displaced_version(directory, plan.slot, plan.over, item);
        }
    }

    /// Stores what was expected to come out: a version, or a suspect.
    pub(super) fn store_expected(&self, slot: u64, over: Option<&Entry>, kind: Kind, item: &Item) {
        if let (None, Ok(path)) = (over, self.job.directory.join(&item.name))
            && store::keep_suspect(self.volume, slot, &path, self.job.now_millis).is_ok()
        {
            return;
        }
        self.store(slot, &item.name, over, kind);
    }

    /// Takes back a conflict copy that is of something else. What it shows has another name, as a rule.
    fn take_back(&self, directory: &dyn Directory, copy: &Name, item: &Item) {
        let slot = self.volume.slot();
        match directory.withdraw(copy.as_bytes(), slot) {
            Ok(stat) if stat.links > 1 => _ = self.volume.fs.drop_slot(slot),
            Ok(_) => self.store(slot, &item.name, None, Kind::Loser),
            // It stays, as a file of its own.
            Err(_) => {}
        }
    }

    /// Takes a deleted name away; what comes out must be what was deleted.
    fn withdraw(&mut self, directory: &dyn Directory, plan: Plan, row: Option<&Row>, result: &mut AppliedItem) {
        let item = &self.job.items[plan.index];
        let stat = match directory.withdraw(item.name.as_bytes(), plan.slot) {
            Ok(stat) => stat,
            Err(FsError::NotFound) => {
                result.row = Some(here(plan.entry, None));
                return;
            }
            Err(error) => {
                let why = why(&error);
                return waits(result, row, item, Cause::Disk(error), why);
            }
        };
        if is_expected(plan.old, plan.over.as_ref(), &identity(&stat)) {
            self.store_expected(plan.slot, plan.over.as_ref(), plan.kind, item);
            result.row = Some(here(plan.entry, None));
            return;
        }
        // Somebody wrote it meanwhile: it returns, and is a local version.
        waits(result, row, item, Cause::LocalChange, Why::Fetching);
        if directory.publish(plan.slot, item.name.as_bytes(), false).is_err() {
            self.give_unjudged_a_name(directory, item, plan.slot);
        }
    }

    /// Reads what an exchange displaced unexpectedly.
    fn displaced_version(
        &mut self,
        directory: &dyn Directory,
        slot: u64,
        over: Option<Entry>,
        item: &Item,
    ) -> Option<DisplacedVersion> {
        let Some((body, stat)) = self.hash_slot(slot) else {
            // A link, a directory, or a file that still changes: named rather than judged.
            self.give_unjudged_a_name(directory, item, slot);
            return None;
        };
        Some(DisplacedVersion { slot, what: What::contents(self.volume, body, &stat), over })
    }

    pub(super) fn hash_slot(&self, slot: u64) -> Option<(Body, Stat)> {
        let file = self.volume.fs.open_slot(slot).ok()?;
        match hash_open(self.volume, &*file, &file.stat().ok()?).ok()? {
            Hashed::Body(body, stat, _) => Some((body, stat)),
            Hashed::Unstable => None,
        }
    }
}

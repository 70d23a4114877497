//! Making one change to one name, after its intent was journalled: exchange, withdrawal, removal of a directory, other
//! metadata. What comes out is inspected; nothing is undone and nothing is dropped (SYNC 7).

use super::{AppliedItem, Cause, DisplacedVersion, Fate, Item, Work, here, want, why};
use crate::hash::{Hashed, hash_open};
use crate::job::identity;
use crate::journal::{self, Intent, Record};
use crate::scan::{What, is_leftover};
use crate::stage::Source;
use crate::store::{Kind, is_in_use};
use syncmesh_core::entry::{self, Body, Entry, Identity, Row, Why};
use syncmesh_core::path::Name;
use syncmesh_io::{Directory, FileId, FileKind, FsError, Metadata, Stat};

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
        let (cause, why) = match directory.set_metadata(item.name.as_bytes(), id, &metadata) {
            Ok(stat) if plan.old.is_some_and(|old| old.size == identity(&stat).size) => {
                result.row = Some(here(plan.entry, Some(identity(&stat))));
                return;
            }
            Ok(_) | Err(FsError::NotFound) => (Cause::LocalChange, Why::Fetching),
            // Part of it may be set: the next look finds what is there.
            Err(error) => (Cause::Disk(error.clone()), why(&error)),
        };
        self.dirty.push(item.name.clone());
        result.row = Some(want(row, &item.entry, why));
        result.fate = Fate::Waits(cause);
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
        result.row = Some(want(row, &item.entry, why(&error)));
        result.fate =
            Fate::Waits(if error == FsError::NotEmpty { Cause::NotEmpty { stays: false } } else { Cause::Disk(error) });
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
        if let Some(copy) = &plan.copy {
            // The loser has its new name before the winner takes the old one.
            match directory.link(name, copy.as_bytes()) {
                Ok(()) | Err(FsError::Exists) => self.dirty.push(copy.clone()),
                Err(error) => {
                    self.discard(&plan, item);
                    result.fate = Fate::Waits(Cause::Disk(error.clone()));
                    result.row = Some(want(row, &item.entry, why(&error)));
                    return;
                }
            }
        }
        let cleared = match over_directory.then(|| directory.remove_directory(name)) {
            None | Some(Ok(()) | Err(FsError::NotFound)) => Ok(()),
            Some(Err(error)) => Err(error),
        };
        let displaced = match cleared.and_then(|()| directory.publish(plan.slot, name, plan.old.is_some())) {
            Ok(displaced) => displaced,
            Err(error) => {
                self.discard(&plan, item);
                let cause = match error {
                    FsError::Exists => Cause::LocalChange,
                    FsError::NotFound => Cause::Parent { deleted: false },
                    FsError::NotEmpty => Cause::NotEmpty { stays: false },
                    FsError::Collision => Cause::Collision,
                    _ => Cause::Disk(error.clone()),
                };
                result.fate = Fate::Waits(cause);
                result.row = Some(want(row, &item.entry, why(&error)));
                return;
            }
        };
        // The name must show the inode that was staged; the exchange itself moved its ctime.
        let shown = directory.stat(name).ok().map(|stat| identity(&stat));
        let identity_now = shown.filter(|now| now.same_but_ctime(&staged));
        if identity_now.is_none() {
            self.dirty.push(item.name.clone());
        }
        result.row = Some(here(plan.entry, Some(identity_now.unwrap_or(staged))));
        let syncmesh_io::Displaced::InSlot(stat) = displaced else { return };
        let expected = plan.old.is_some_and(|old| old.same_but_ctime(&identity(&stat)));
        if expected && plan.copy.is_some() && stat.links > 1 {
            let _ = self.volume.fs.drop_slot(plan.slot);
        } else if expected || is_in_use(self.volume, plan.slot) {
            // As long as somebody may write to it, it can't be judged.
            self.store(plan.slot, &item.name, plan.over.as_ref(), plan.kind);
        } else {
            result.local = self.displaced_version(plan.slot, plan.over, &stat, item);
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
                result.fate = Fate::Waits(Cause::Disk(error.clone()));
                result.row = Some(want(row, &item.entry, why(&error)));
                return;
            }
        };
        if plan.old.is_some_and(|old| old.same_but_ctime(&identity(&stat))) {
            self.store(plan.slot, &item.name, plan.over.as_ref(), plan.kind);
            result.row = Some(here(plan.entry, None));
            return;
        }
        // Somebody wrote it meanwhile: it returns, and is a local version.
        result.fate = Fate::Waits(Cause::LocalChange);
        result.row = Some(want(row, &item.entry, Why::Fetching));
        if directory.publish(plan.slot, item.name.as_bytes(), false).is_err() {
            self.give_a_name(Some(directory), item, plan.slot);
        }
    }

    /// Reads what an exchange displaced unexpectedly.
    fn displaced_version(
        &mut self,
        slot: u64,
        over: Option<Entry>,
        stat: &Stat,
        item: &Item,
    ) -> Option<DisplacedVersion> {
        let found = match stat.kind {
            FileKind::File => self.hash_slot(slot, stat),
            _ => None,
        };
        let Some(body) = found else {
            // A link, a directory, or a file that still changes: named rather than judged.
            self.give_a_slot_a_name(slot, item);
            return None;
        };
        Some(DisplacedVersion { slot, what: What::contents(self.volume, body, stat), over })
    }

    fn hash_slot(&self, slot: u64, before: &Stat) -> Option<Body> {
        let file = self.volume.fs.open_slot(slot).ok()?;
        match hash_open(self.volume, &*file, before).ok()? {
            Hashed::Body(body, ..) => Some(body),
            Hashed::Unstable => None,
        }
    }

    fn give_a_slot_a_name(&mut self, slot: u64, item: &Item) {
        let Ok(directory) = self.volume.fs.open_directory(&self.job.directory.components()) else {
            return self.store(slot, &item.name, None, Kind::Loser);
        };
        self.give_a_name(Some(&*directory), item, slot);
    }
}

//! Taking back what was written where only another node may write. Nothing of it is lost: it gets the name of a conflict copy,
//! or goes to the version store and stays there as long as a conflict's loser.

use super::{Cause, Fate, Item, Step, Work};
use crate::job::identity;
use crate::registry::{Key, RegistryError};
use crate::settings::Role;
use crate::store::{Kind, is_in_use};
use syncmesh_core::clock::Hlc;
use syncmesh_core::entry::{Body, Row, Stamp};
use syncmesh_core::policy::conflict_name;
use syncmesh_core::version::Dot;
use syncmesh_io::{Directory, FileKind, FsError};

impl Work<'_> {
    /// May only another node write?
    pub(super) fn is_reader(&self) -> bool {
        self.volume.settings.get().role == Role::Reader
    }

    /// Takes away what a name shows, unless it is what the row says. What the row says is wanted again once a scan has seen that
    /// it is missing.
    pub(super) fn take_away(
        &mut self,
        directory: &dyn Directory,
        item: &Item,
        row: Option<&Row>,
    ) -> Result<Step, RegistryError> {
        let done = |fate| Ok(Step::Done(None, fate));
        let name = item.name.as_bytes();
        let shown = match directory.stat(name) {
            Ok(stat) if stat.kind == FileKind::Special => return done(Fate::Visible),
            Ok(stat) => stat,
            Err(FsError::NotFound | FsError::Collision) => return done(Fate::Visible),
            Err(error) => return done(Fate::Waits(Cause::Disk(error))),
        };
        let known = row.and_then(Row::live).and_then(|here| here.identity);
        if known == Some(identity(&shown)) || !self.is_reader() {
            // It is as it should be, or this node has got the right to write meanwhile: then a scan records it.
            self.dirty.push(item.name.clone());
            return done(Fate::Visible);
        }
        let slot = self.volume.slot();
        let taken = match shown.kind {
            FileKind::Directory => directory.remove_directory(name),
            _ => directory.withdraw(name, slot).map(drop),
        };
        match taken {
            Ok(()) => {
                if shown.kind != FileKind::Directory {
                    self.keep_reverted(directory, item, slot)?;
                }
                self.dirty.push(item.name.clone());
                done(Fate::Visible)
            }
            Err(FsError::NotFound) => done(Fate::Visible),
            Err(FsError::NotEmpty) => done(Fate::Waits(Cause::NotEmpty { stays: false })),
            Err(error) => done(Fate::Waits(Cause::Disk(error))),
        }
    }

    /// Keeps what was taken back and lies in a slot. What a program has open can't have a name that tells its contents.
    pub(super) fn keep_reverted(
        &mut self,
        directory: &dyn Directory,
        item: &Item,
        slot: u64,
    ) -> Result<(), RegistryError> {
        if self.job.beside
            && self.is_published()?
            && !is_in_use(self.volume, slot)
            && let Some((Body::File { hash, .. }, _)) = self.hash_slot(slot)
        {
            let node = self.job.replicas.get(&self.job.replica).map_or("unknown", String::as_str);
            let dot = Dot { replica: self.job.replica, counter: 0 };
            let stamp = Stamp { hlc: Hlc::from_millis(self.job.now_millis), dot };
            let copy = conflict_name(&item.name, node, stamp, hash);
            if directory.publish(slot, copy.as_bytes(), false).is_ok() {
                self.dirty.push(copy);
                return Ok(());
            }
        }
        self.store_expected(slot, None, Kind::Loser, item);
        Ok(())
    }

    /// Is the directory one that the mesh has? In another one a copy would keep it from going.
    fn is_published(&self) -> Result<bool, RegistryError> {
        let Some(key) = Key::of(self.job.volume, &self.job.directory) else { return Ok(true) };
        let row = self.context.registry.get(&key)?;
        Ok(row.and_then(|row| row.here).is_some_and(|here| here.entry.content.body == Body::Directory))
    }
}

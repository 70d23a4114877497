//! What a start finds of the run before: journals whose epoch never became durable, and slots that were in use.
//!
//! After kill -9 the disk is as the last system call left it: rows are replayed, and for each intent without its row the
//! inode in the slot tells whether the exchange happened (SYNC 7, 9).

use crate::fetch::FETCH_SLOT;
use crate::job::{Context, VolumeContext, identity};
use crate::journal::{self, Intent, Record};
use crate::registry::{Key, RegistryError, Stored, VolumeState};
use crate::store::{self, Kind};
use crate::unsynced;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use syncmesh_core::entry::{Body, Entry, Here, Identity, Row, Unsure};
use syncmesh_core::policy::conflict_name;
use syncmesh_io::{FsError, Metadata, Owner};

/// Why a start can't recover.
#[derive(Debug)]
pub enum RecoverError {
    /// A file of the state directory.
    State(FsError),
    /// The registry.
    Registry(RegistryError),
    /// A journal of a newer release.
    Newer {
        /// Its format.
        format: u32,
    },
    /// A volume's slots can't be read.
    Volume(FsError),
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(error) => write!(f, "the state directory can't be read: {error}"),
            Self::Registry(error) => write!(f, "{error}"),
            Self::Newer { format } => write!(
                f,
                "a journal has format {format}, which a newer release wrote: install that release again, nothing was changed"
            ),
            Self::Volume(error) => write!(f, "a volume's .syncmesh directory can't be read: {error}"),
        }
    }
}

impl std::error::Error for RecoverError {}

impl From<RegistryError> for RecoverError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

/// What recovery did, for the log.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Rows that came from journals.
    pub rows: usize,
    /// Publishes that had happened without their row.
    pub adopted: usize,
    /// Versions that exist only in a slot and got a name or went to the store.
    pub kept: usize,
    /// The highest epoch that has a journal.
    pub epoch: u64,
}

/// Replays journals into the registry, makes the result durable, and empties the slots. Of volumes that are `torn` (power was
/// lost) nothing is replayed: what journals say of them needn't be what the disk shows, and peers that heard of it say it
/// again. What lies in their slots goes to the store. Also returns the volumes whose file system can't be synced, and why: they
/// are as of their last durable epoch, too.
pub fn recover(
    context: &Context,
    stored: &mut Stored,
    torn: &BTreeSet<u16>,
    now_millis: u64,
) -> Result<(Recovered, BTreeMap<u16, String>), RecoverError> {
    let mut recovered = Recovered::default();
    let mut epochs: Vec<u64> =
        context.state.list().map_err(RecoverError::State)?.iter().filter_map(|name| journal::epoch_of(name)).collect();
    epochs.sort_unstable();
    let mut intents: BTreeMap<(u16, u64), Intent> = BTreeMap::new();
    // What a durable epoch holds is older than its registry, and back only because its removal wasn't durable.
    let durable = stored.last.epoch;
    for &epoch in epochs.iter().filter(|epoch| **epoch > durable) {
        recovered.epoch = recovered.epoch.max(epoch);
        let bytes = context.state.read(&journal::file_name(epoch)).map_err(RecoverError::State)?;
        let (records, _torn) = journal::decode(&bytes);
        for record in records {
            match record {
                Record::Header { format, .. } if format > journal::FORMAT => {
                    return Err(RecoverError::Newer { format });
                }
                Record::Header { .. } => {}
                Record::Replica(replica, node) => {
                    stored.replicas.insert(replica, node);
                }
                Record::Forgotten(node, replicas) => {
                    stored.forgotten.insert(node);
                    stored.replicas.retain(|replica, _| !replicas.contains(replica));
                }
                Record::Paused(number, paused) => {
                    if let Some(state) = stored.volumes.values_mut().find(|state| state.number == number) {
                        state.paused = paused;
                    }
                }
                Record::Intent(intent) => {
                    intents.insert((intent.key.volume, intent.slot), intent);
                }
                Record::Row(key, _) if torn.contains(&key.volume) => {}
                Record::Row(key, row) => {
                    recovered.rows += 1;
                    put(context, stored, key, row)?;
                }
            }
        }
    }
    let volumes = context.volumes.all();
    for (number, volume) in &volumes {
        for slot in volume.fs.list_slots().map_err(RecoverError::Volume)? {
            match intents.remove(&(*number, slot)) {
                Some(intent) if torn.contains(number) => {
                    recovered.kept += 1;
                    store::keep(volume, slot, &intent.key.path(), now_millis, None, Kind::Loser)
                        .map_err(RecoverError::Volume)?;
                }
                Some(intent) => resolve(context, stored, volume, &intent, now_millis, &mut recovered)?,
                None => recovered.kept += usize::from(empty(volume, slot, now_millis)?),
            }
        }
    }
    // Intents whose slot is empty: the name was given without displacing anything, or nothing happened.
    for intent in intents.into_values().filter(|intent| !torn.contains(&intent.key.volume)) {
        if let Some(volume) = context.volumes.get(intent.key.volume) {
            resolve(context, stored, &volume, &intent, now_millis, &mut recovered)?;
        }
    }
    // What is about to be durable must be on the disk, and so must what users wrote before this start.
    let mut failed = BTreeMap::new();
    for (number, volume) in &volumes {
        // The run before may have been killed when a sync had just failed, which is told once.
        let error = match volume.fs.sync().and_then(|()| unsynced::torn(volume, &context.registry, *number)) {
            Ok(torn) if torn.is_empty() => {
                let state = stored.volumes.values_mut().find(|state| state.number == *number);
                state.into_iter().for_each(|state| state.synced_millis = now_millis);
                continue;
            }
            Ok(_) => FsError::Os(5), // EIO, as the sync said
            Err(error) => error,
        };
        unsynced::note(&*context.state, *number).map_err(RecoverError::State)?;
        take_back(context, stored, *number, error.clone())?;
        failed.insert(*number, error.to_string());
    }
    context.registry.close_epoch();
    stored.last.epoch = stored.last.epoch.max(recovered.epoch);
    context.registry.commit(stored, &failed.keys().copied().collect())?;
    for epoch in epochs {
        context.state.remove(&journal::file_name(epoch)).map_err(RecoverError::State)?;
    }
    Ok((recovered, failed))
}

/// Empties a slot of which no journal knows; is what was in it in the store?
fn empty(volume: &VolumeContext, slot: u64, now_millis: u64) -> Result<bool, RecoverError> {
    // Staged and never exchanged: an intent is always written before. Fetched contents come again. What couldn't be moved to the
    // store when it was displaced looks the same as what was only staged.
    let is_kept = slot & FETCH_SLOT == 0 && volume.fs.store_slot(slot, &store::nameless(now_millis, slot)).is_ok();
    if !is_kept {
        drop_staged(volume, slot)?;
    }
    Ok(is_kept)
}

/// Empties all slots of a volume of which no journal knows.
pub fn empty_slots(volume: &VolumeContext, now_millis: u64) -> Result<(), RecoverError> {
    for slot in volume.fs.list_slots().map_err(RecoverError::Volume)? {
        empty(volume, slot, now_millis)?;
    }
    Ok(())
}

/// A volume goes back to its last durable epoch, as after power loss. One that never was in any can't be begun with.
fn take_back(context: &Context, stored: &mut Stored, number: u16, error: FsError) -> Result<(), RecoverError> {
    let state = context.registry.take_back(number)?.ok_or(RecoverError::Volume(error))?;
    if let Some(known) = stored.volumes.values_mut().find(|state| state.number == number) {
        *known = VolumeState { mount: known.mount, suspicion: known.suspicion.take(), ..state };
    }
    Ok(())
}

fn put(context: &Context, stored: &mut Stored, key: Key, row: Row) -> Result<(), RecoverError> {
    let old = context.registry.get(&key)?;
    if let Some(state) = stored.volumes.values_mut().find(|state| state.number == key.volume) {
        state.sequence = state.sequence.max(row.sequence);
        for entry in row.entries() {
            state.knowledge.add_vector(&entry.vector);
        }
        state.count(&key, old.as_ref(), &row);
        context.registry.put(key, row);
    }
    Ok(())
}

/// Finds out whether an intent was carried out, and gives what lies in its slot the right end.
fn resolve(
    context: &Context,
    stored: &mut Stored,
    volume: &VolumeContext,
    intent: &Intent,
    now_millis: u64,
    recovered: &mut Recovered,
) -> Result<(), RecoverError> {
    let look = || volume.fs.stat_slot(intent.slot).ok().map(|stat| identity(&stat));
    let mut in_slot = look();
    if in_slot.zip(intent.staged).is_some_and(|(now, then)| now.inode == then.inode) {
        // Not exchanged. What was staged is dropped; what a user wrote gets the name now, or another.
        if !intent.only_copy {
            return drop_staged(volume, intent.slot);
        }
        if !carry_out(volume, intent) {
            recovered.kept += 1;
            return keep(volume, intent, false, None, now_millis);
        }
        in_slot = look();
    }
    let row = context.registry.get(&intent.key)?;
    let here = row.as_ref().and_then(|row| row.here.as_ref());
    if let Some((old, staged)) = intent.old.zip(intent.staged)
        && old.inode == staged.inode
    {
        let is_as_it_was = here.is_some_and(|here| here.identity == intent.old);
        return if is_as_it_was { set_again(context, stored, volume, intent, old, staged, recovered) } else { Ok(()) };
    }
    if here.is_none_or(|here| !here.entry.vector.includes_all(&intent.new.vector)) {
        let looked = volume
            .fs
            .open_directory(&intent.key.directory.components())
            .and_then(|directory| directory.stat(intent.key.name.as_bytes()));
        let is_absent = matches!(looked, Err(FsError::NotFound | FsError::Collision));
        let shown = looked.ok().map(|stat| identity(&stat));
        let carried_out = match intent.staged {
            Some(staged) => shown.is_some_and(|shown| shown.inode == staged.inode),
            // Whether what was deleted lies in the slot or went on to the store already: nothing has the name.
            None => is_absent,
        };
        if carried_out {
            // What was staged, not what is shown: an edit since then is a local change that the scan finds.
            let identity = intent.staged.map(|staged| Identity {
                ctime: shown.filter(|now| now.same_but_ctime(&staged)).map_or(staged.ctime, |now| now.ctime),
                ..staged
            });
            adopt(context, stored, intent, identity, recovered)?;
        }
    }
    if let Some(in_slot) = in_slot {
        recovered.kept += 1;
        let expected = intent.old.is_some_and(|old| old.same_but_ctime(&in_slot));
        let recorded = here.filter(|here| here.identity.is_some_and(|old| old.same_but_ctime(&in_slot)));
        keep(volume, intent, expected, recorded.map(|here| &here.entry), now_millis)?;
    }
    Ok(())
}

/// Gives a name to what lies in the slot, as was intended. False if the name shows something else by now.
fn carry_out(volume: &VolumeContext, intent: &Intent) -> bool {
    let name = intent.key.name.as_bytes();
    let Ok(directory) = volume.fs.open_directory(&intent.key.directory.components()) else { return false };
    let is_as_it_was = match (directory.stat(name), intent.old) {
        (Ok(stat), Some(old)) => identity(&stat).same_but_ctime(&old),
        (Err(FsError::NotFound), None) => true,
        _ => false,
    };
    is_as_it_was && directory.publish(intent.slot, name, intent.old.is_some()).is_ok()
}

/// Metadata that may be set in part is set whole: what still is as it was becomes what it was to become, and anything else
/// is a local change that the scan finds.
fn set_again(
    context: &Context,
    stored: &mut Stored,
    volume: &VolumeContext,
    intent: &Intent,
    old: Identity,
    staged: Identity,
    recovered: &mut Recovered,
) -> Result<(), RecoverError> {
    let name = intent.key.name.as_bytes();
    let Ok(directory) = volume.fs.open_directory(&intent.key.directory.components()) else { return Ok(()) };
    let Ok(stat) = directory.stat(name) else { return Ok(()) };
    let shown = identity(&stat);
    if shown.inode != old.inode {
        return Ok(());
    }
    let owner = Owner { uid: staged.owner.uid, gid: staged.owner.gid };
    let metadata = Metadata {
        owner: (shown.owner == old.owner && old.owner != staged.owner).then_some(owner),
        mode: (shown.mode == old.mode && old.mode != staged.mode).then_some(staged.mode),
        mtime: (shown.mtime == old.mtime && old.mtime != staged.mtime).then_some(staged.mtime),
    };
    let Ok(stat) = directory.set_metadata(name, stat.id, &metadata) else { return Ok(()) };
    let now = identity(&stat);
    let identity = if now.same_but_ctime(&staged) { now } else { staged };
    adopt(context, stored, intent, Some(identity), recovered)
}

/// The row of an intent that was carried out.
fn adopt(
    context: &Context,
    stored: &mut Stored,
    intent: &Intent,
    identity: Option<Identity>,
    recovered: &mut Recovered,
) -> Result<(), RecoverError> {
    recovered.adopted += 1;
    let sequence = next_sequence(stored, intent.key.volume);
    let wanted = context
        .registry
        .get(&intent.key)?
        .and_then(|row| row.wanted)
        .filter(|wanted| wanted.entries.iter().any(|entry| !intent.new.vector.includes_all(&entry.vector)));
    let here = Here { entry: intent.new.clone(), identity, unsure: Unsure::default() };
    put(context, stored, intent.key.clone(), Row { sequence, here: Some(here), wanted })
}

fn next_sequence(stored: &mut Stored, volume: u16) -> u64 {
    match stored.volumes.values_mut().find(|state| state.number == volume) {
        Some(state) => {
            state.sequence += 1;
            state.sequence
        }
        None => 0,
    }
}

/// What was displaced as expected goes to the store. What wasn't is a local version that nobody recorded: it gets the name
/// of a conflict copy, which the scan finds; else the store.
fn keep(
    volume: &VolumeContext,
    intent: &Intent,
    expected: bool,
    recorded: Option<&Entry>,
    now_millis: u64,
) -> Result<(), RecoverError> {
    let path = intent.key.path();
    if !expected {
        let stamp = intent.new.newest();
        let hash = match &intent.new.content.body {
            Body::File { hash, .. } => *hash,
            _ => syncmesh_core::entry::ContentHash::of(path.as_bytes()),
        };
        let name = conflict_name(&intent.key.name, "recovered", stamp, hash);
        let directory = volume.fs.open_directory(&intent.key.directory.components());
        if directory.is_ok_and(|directory| directory.publish(intent.slot, name.as_bytes(), false).is_ok()) {
            return Ok(());
        }
    }
    // What a conflict was about may be the loser, and that is pinned.
    let kind = if expected && intent.new.losers.is_empty() { Kind::Superseded } else { Kind::Loser };
    store::keep(volume, intent.slot, &path, now_millis, recorded, kind).map_err(RecoverError::Volume)
}

/// Removes what an agent staged: never what a user wrote.
fn drop_staged(volume: &VolumeContext, slot: u64) -> Result<(), RecoverError> {
    match volume.fs.drop_slot(slot) {
        Ok(()) | Err(FsError::NotFound) => Ok(()),
        Err(error) => Err(RecoverError::Volume(error)),
    }
}

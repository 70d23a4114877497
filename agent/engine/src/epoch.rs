//! Ends of epochs: once the file systems are synced, the rows of exactly that epoch become durable in one transaction, and the
//! journal that held them until then goes. Volumes whose file system couldn't be synced are left out.

use crate::job::Context;
use crate::journal;
use crate::registry::Stored;
use crate::unsynced;
use std::collections::BTreeSet;
use syncmesh_io::Log;

/// When versions of a volume are told to peers, and shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// At once. They are durable when their epoch is.
    Epoch,
    /// What is made here is told once its epoch is durable, and an epoch ends as soon as something waits for that. What comes
    /// from others is on the disk before it gets its name.
    Strict,
}

/// Make the closed epoch durable. Its file systems are synced.
pub struct Commit {
    /// Its number.
    pub epoch: u64,
    /// Its journal, which isn't written any more.
    pub log: Log,
    /// The epoch after the next, whose journal is opened ahead so that the loop never waits for it.
    pub ahead: u64,
    /// When it began, in milliseconds since 1970.
    pub began_millis: u64,
    /// Volumes whose file system was synced with it.
    pub synced: BTreeSet<u16>,
    /// Volumes whose rows aren't durable with it: what isn't synced mustn't count as durable.
    pub left_out: BTreeSet<u16>,
    /// Volumes that were left out of an epoch before, and of which everything is durable with this one.
    pub back: Vec<u16>,
    /// What the registry keeps beside rows, as it was when the epoch closed.
    pub stored: Stored,
}

/// How it went.
pub struct Committed {
    /// The epoch.
    pub epoch: u64,
    /// The journal for the epoch after the next.
    pub ahead: Result<Log, String>,
    /// See [`Commit::began_millis`].
    pub began_millis: u64,
    /// See [`Commit::synced`].
    pub synced: BTreeSet<u16>,
    /// See [`Commit::left_out`].
    pub left_out: BTreeSet<u16>,
    /// See [`Commit::back`].
    pub back: Vec<u16>,
    /// Why it isn't durable: rows stay journalled, and the agent stops.
    pub error: Option<String>,
}

impl Commit {
    /// Commits, removes the journal, opens the next but one.
    pub fn run(mut self, context: &Context) -> Committed {
        for state in self.stored.volumes.values_mut().filter(|state| self.synced.contains(&state.number)) {
            state.synced_millis = self.began_millis;
        }
        let error = self.commit(context).err();
        if error.is_none() {
            context.state.close_log(self.log);
            // A journal that can't be removed is replayed at the next start, which changes nothing.
            let _ = context.state.remove(&journal::file_name(self.epoch));
            self.back.iter().for_each(|volume| unsynced::forget(&*context.state, *volume));
        }
        let ahead = context.state.open_log(&journal::file_name(self.ahead)).map_err(|error| error.to_string());
        let Self { epoch, began_millis, synced, left_out, back, .. } = self;
        Committed { epoch, ahead, began_millis, synced, left_out, back, error }
    }

    fn commit(&self, context: &Context) -> Result<(), String> {
        for volume in &self.left_out {
            // Before the journal goes, which a start would replay.
            unsynced::note(&*context.state, *volume)
                .map_err(|error| format!("the state directory can't be written: {error}"))?;
        }
        context.registry.commit(&self.stored, &self.left_out).map_err(|error| error.to_string())
    }
}

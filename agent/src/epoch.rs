//! Ends of epochs: once the file systems are synced, the rows of exactly that epoch become durable in one transaction, and the
//! journal that held them until then goes. Volumes whose file system couldn't be synced are left out.

use crate::job::Context;
use crate::journal;
use crate::registry::Stored;
use crate::unsynced;
use std::collections::BTreeMap;
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
    /// Volumes whose rows aren't durable with it, and since when: what isn't synced mustn't count as durable.
    pub left_out: BTreeMap<u16, u64>,
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
    /// See [`Commit::left_out`].
    pub left_out: BTreeMap<u16, u64>,
    /// See [`Commit::back`].
    pub back: Vec<u16>,
    /// Why it isn't durable: rows stay journalled, and the agent stops.
    pub error: Option<String>,
}

impl Commit {
    /// Commits, removes the journal, opens the next but one.
    pub fn run(self, context: &Context) -> Committed {
        let error = self.commit(context).err();
        if error.is_none() {
            context.state.close_log(self.log);
            // A journal that can't be removed is replayed at the next start, which changes nothing.
            let _ = context.state.remove(&journal::file_name(self.epoch));
            self.back.iter().for_each(|volume| unsynced::forget(&*context.state, *volume));
        }
        let ahead = context.state.open_log(&journal::file_name(self.ahead)).map_err(|error| error.to_string());
        Committed { epoch: self.epoch, ahead, left_out: self.left_out, back: self.back, error }
    }

    fn commit(&self, context: &Context) -> Result<(), String> {
        for (volume, began_millis) in &self.left_out {
            // Before the journal goes, which a start would replay.
            let noted = unsynced::note(&*context.state, *volume, *began_millis);
            noted.map_err(|error| format!("the state directory can't be written: {error}"))?;
        }
        let left_out = self.left_out.keys().copied().collect();
        context.registry.commit(&self.stored, &left_out).map_err(|error| error.to_string())
    }
}

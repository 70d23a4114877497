//! Ends of epochs: file systems are synced, the rows of exactly that epoch become durable in one transaction, the journal
//! that held them until then goes.

use crate::job::Context;
use crate::journal;
use crate::registry::Stored;
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

/// Make the closed epoch durable.
pub struct Commit {
    /// Its number.
    pub epoch: u64,
    /// Its journal, which isn't written any more.
    pub log: Log,
    /// The epoch after the next, whose journal is opened ahead so that the loop never waits for it.
    pub ahead: u64,
    /// Volumes whose files changed in it.
    pub volumes: Vec<u16>,
    /// What the registry keeps beside rows, as it was when the epoch closed.
    pub stored: Stored,
}

/// How it went.
pub struct Committed {
    /// The epoch.
    pub epoch: u64,
    /// The journal for the epoch after the next.
    pub ahead: Result<Log, String>,
    /// Why it isn't durable: rows stay journalled, and the agent stops.
    pub error: Option<String>,
}

impl Commit {
    /// Syncs, commits, removes the journal, opens the next but one.
    pub fn run(self, context: &Context) -> Committed {
        let error = self.commit(context).err();
        if error.is_none() {
            context.state.close_log(self.log);
            // A journal that can't be removed is replayed at the next start, which changes nothing.
            let _ = context.state.remove(&journal::file_name(self.epoch));
        }
        let ahead = context.state.open_log(&journal::file_name(self.ahead)).map_err(|error| error.to_string());
        Committed { epoch: self.epoch, ahead, error }
    }

    fn commit(&self, context: &Context) -> Result<(), String> {
        for number in &self.volumes {
            if let Some(volume) = context.volumes.get(number) {
                volume.fs.sync().map_err(|error| format!("a volume's file system can't be synced: {error}"))?;
            }
        }
        context.registry.commit(&self.stored).map_err(|error| error.to_string())
    }
}

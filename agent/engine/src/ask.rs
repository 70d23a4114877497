//! What the control thread asks of the loop. Answers go into a channel that the asker made with room for them.

use crate::conflicts::{Choice, Conflicts, Resolved};
use crate::forget::Forgotten;
use crate::guard::Verdict;
use crate::history::Change;
use crate::inquiry::Held;
use crate::node::{Counters, Status, Taken};
use crate::settings::Rights;
use crate::versions::{Restored, Version, Which};
use crate::worst::Worst;
use crossbeam_channel::Sender;
use serde::{Deserialize, Serialize};
use syncmesh_config::Config;

/// A question or an order.
pub enum Ask {
    /// How are you?
    Status(Sender<(Status, Counters)>),
    /// Which deletions are held, in one volume or in all?
    Holds(Option<String>, Sender<Result<Vec<Held>, String>>),
    /// Let held deletions go, or take them back. The answer is how many.
    DecideHolds(Option<String>, Verdict, Sender<Result<u64, String>>),
    /// Which versions of a path are stored here?
    Versions(Named, Sender<Result<Vec<Version>, String>>),
    /// Bring a path back.
    Restore(Restore, Sender<Result<Restored, String>>),
    /// Which conflicts are there, in one volume or in all?
    Conflicts(Option<String>, Sender<Result<Vec<Conflicts>, String>>),
    /// Decide a conflict.
    Resolve(Resolve, Sender<Result<Resolved, String>>),
    /// Stand still: one volume or all. The answer is their names.
    Pause(Option<String>, Sender<Result<Vec<String>, String>>),
    /// Go on.
    Resume(Option<String>, Sender<Result<Vec<String>, String>>),
    /// Look at everything again, and read all contents if so.
    Rescan(Option<String>, bool, Sender<Result<Vec<String>, String>>),
    /// What changed?
    History(Past, Sender<Result<Vec<Change>, String>>),
    /// Which paths of each volume are worst?
    Worst(Sender<Result<Vec<(String, Vec<Worst>)>, String>>),
    /// Forget a node that is no member any more.
    Forget(String, Sender<Result<Forgotten, String>>),
    /// Go on by another configuration. The answer is how.
    Configure(Box<Config>, Sender<Result<Configured, String>>),
    /// These rights to write count from now on, and no others. They wait for nothing: a configuration may.
    RenewRights(Rights),
    /// The configuration's file has something that can't be used, and why; none if it can.
    Misconfigured(Option<String>),
    /// From now on these certificates count no more: a revocation list.
    Revoke(String, Sender<Result<Taken, String>>),
    /// Say goodbye, end the epoch, and return.
    Stop,
}

/// What becomes of another configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configured {
    /// It says the same.
    AsBefore,
    /// It is in force.
    InForce,
    /// The engine ends and starts again by it.
    StartsAgain,
    /// The agent is stopping: the next one begins with it.
    IsStopping,
}

/// A path as somebody named it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Named {
    /// The volume; none means the one that the path is in, or the only one.
    pub volume: Option<String>,
    /// What was typed: a path on this machine, or one in the volume.
    pub typed: String,
    /// The same as an absolute path on this machine.
    pub absolute: String,
}

/// A decision about a conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resolve {
    /// Whose.
    pub path: Named,
    /// What has the name from here on.
    pub choice: Choice,
    /// Of several other versions the one with these contents: the first eight digits of their hash.
    pub contents: Option<String>,
}

/// An order to bring a path back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restore {
    /// Which.
    pub path: Named,
    /// Which version of it.
    pub which: Which,
    /// Under which path; none means its own.
    pub to: Option<Named>,
}

/// A question about the past.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Past {
    /// Of which path.
    pub path: Named,
    /// How many changes.
    pub number: u32,
}

/// Questions that may wait; more are refused by the control thread.
pub const QUEUE: usize = 64;

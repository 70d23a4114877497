//! The one word that says how something is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a volume is: the first that holds of Terminating, Failed, Fenced, Held, Paused, Unknown, Degraded, Syncing, InSync,
/// else Pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum State {
    /// It is being set up.
    Pending,
    /// Changes are on their way.
    Syncing,
    /// All members have everything.
    InSync,
    /// A member can't be reached.
    Degraded,
    /// It doesn't run because somebody wants it so.
    Paused,
    /// Something waits for a person's decision.
    Held,
    /// This node isn't, or isn't any more, the one that may write.
    Fenced,
    /// It doesn't run, and the message says what to do.
    Failed,
    /// It is being deleted.
    Terminating,
    /// Nobody has told for a while.
    Unknown,
}

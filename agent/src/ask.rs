//! What the control thread asks of the loop. Answers go into a channel that the asker made with room for them.

use crate::guard::Verdict;
use crate::inquiry::Held;
use crate::node::{Counters, Status};
use crossbeam_channel::Sender;

/// A question or an order.
pub enum Ask {
    /// How are you?
    Status(Sender<(Status, Counters)>),
    /// Which deletions are held, in one volume or in all?
    Holds(Option<String>, Sender<Result<Vec<Held>, String>>),
    /// Let held deletions go, or take them back. The answer is how many.
    DecideHolds(Option<String>, Verdict, Sender<Result<u64, String>>),
    /// Say goodbye, end the epoch, and return.
    Stop,
}

/// Questions that may wait; more are refused by the control thread.
pub const QUEUE: usize = 64;

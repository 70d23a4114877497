//! What the control thread asks of the loop. Answers go into a channel that the asker made with room for them.

use crate::node::{Counters, Status};
use crossbeam_channel::Sender;

/// A question or an order.
pub enum Ask {
    /// How are you?
    Status(Sender<(Status, Counters)>),
    /// Say goodbye, end the epoch, and return.
    Stop,
}

/// Questions that may wait; more are refused by the control thread.
pub const QUEUE: usize = 64;

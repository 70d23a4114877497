//! Asking the loop, from the control thread: a bounded queue in, one answer out, and never a wait without an end.

use super::limits::{ANSWER, ANSWER_POLL};
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use syncmesh_engine::ask::Ask;
use syncmesh_engine::node::{Counters, Status};
use syncmesh_engine::settings::Rights;
use syncmesh_io::Waker;
use tokio::time::{Instant, sleep};

/// The way to the loop. Cheap to clone.
#[derive(Clone)]
pub struct Loop {
    asks: Sender<Ask>,
    /// Another one after each start of the engine.
    waker: Arc<Mutex<Waker>>,
}

/// Why the loop gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// It has ended, or is ending.
    Stopped,
    /// It didn't answer in time, or so many questions wait already.
    Busy,
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "the agent is stopping: ask again when it runs",
            Self::Busy => "the agent's loop doesn't answer: try again, and look at its log if that lasts",
        })
    }
}

impl Loop {
    /// From the queue that the loop reads and what wakes it.
    pub fn new(asks: Sender<Ask>, waker: Waker) -> Self {
        Self { asks, waker: Arc::new(Mutex::new(waker)) }
    }

    /// The engine was started again, and is woken by this from now on. Questions that wait are answered by it.
    pub fn wake_by(&self, waker: Waker) {
        waker.wake();
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = waker;
    }

    /// The loop's own account, with the release and memory that only the process knows.
    ///
    /// # Errors
    /// The loop doesn't answer within ten seconds.
    pub async fn status(&self) -> Result<(Status, Counters), NoAnswer> {
        self.status_within(ANSWER).await
    }

    /// As `status`, for those who can't wait as long.
    ///
    /// # Errors
    /// The loop doesn't answer within `limit`.
    pub async fn status_within(&self, limit: Duration) -> Result<(Status, Counters), NoAnswer> {
        let (answer, answered) = bounded(1);
        self.ask(Ask::Status(answer))?;
        let (mut status, counters) = answer_within(&answered, limit).await?;
        status.version = super::VERSION.to_owned();
        status.memory_bytes = super::process::resident_bytes();
        Ok((status, counters))
    }

    /// Asks what `ask` makes of the way back.
    ///
    /// # Errors
    /// Nobody answers within `limit`, or what is answered.
    pub async fn question<T>(
        &self,
        limit: Duration,
        ask: impl FnOnce(Sender<Result<T, String>>) -> Ask,
    ) -> Result<T, String> {
        self.order(limit, ask).await.map_err(|error| error.to_string())?
    }

    /// The same, for those who want to know whether it was answered at all.
    ///
    /// # Errors
    /// Nobody answers within `limit`.
    pub async fn order<T>(
        &self,
        limit: Duration,
        ask: impl FnOnce(Sender<Result<T, String>>) -> Ask,
    ) -> Result<Result<T, String>, NoAnswer> {
        let (answer, answered) = bounded(1);
        self.ask(ask(answer))?;
        answer_within(&answered, limit).await
    }

    /// Tells the loop to say goodbye, end the epoch, and return.
    ///
    /// # Errors
    /// It has ended, or too many questions wait.
    pub fn stop(&self) -> Result<(), NoAnswer> {
        self.ask(Ask::Stop)
    }

    /// These rights to write count from now on, and no others.
    ///
    /// # Errors
    /// The loop has ended, or too many questions wait.
    pub fn renew_rights(&self, rights: Rights) -> Result<(), NoAnswer> {
        self.ask(Ask::RenewRights(rights))
    }

    /// The configuration's file can't be used, and why; none if it can again.
    ///
    /// # Errors
    /// The loop has ended, or too many questions wait.
    pub fn misconfigured(&self, why: Option<String>) -> Result<(), NoAnswer> {
        self.ask(Ask::Misconfigured(why))
    }

    fn ask(&self, ask: Ask) -> Result<(), NoAnswer> {
        self.asks.try_send(ask).map_err(|error| match error {
            TrySendError::Full(_) => NoAnswer::Busy,
            TrySendError::Disconnected(_) => NoAnswer::Stopped,
        })?;
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).wake();
        Ok(())
    }
}

/// The loop's queues have no tokio in them, so the answer is looked for. A clock's tick is far below what a reader
/// notices.
async fn answer_within<T>(answered: &Receiver<T>, limit: Duration) -> Result<T, NoAnswer> {
    let deadline = Instant::now() + limit;
    let mut pause = ANSWER_POLL.0;
    loop {
        match answered.try_recv() {
            Ok(answer) => return Ok(answer),
            Err(TryRecvError::Disconnected) => return Err(NoAnswer::Stopped),
            Err(TryRecvError::Empty) if Instant::now() >= deadline => return Err(NoAnswer::Busy),
            Err(TryRecvError::Empty) => sleep(pause).await,
        }
        pause = (pause * 2).min(ANSWER_POLL.1);
    }
}

//! Signals: SIGTERM and SIGINT stop, a second one ends at once, SIGHUP loads configuration and identity again.

use super::handover::hand_over;
use super::limits::STOP;
use super::question::{Loop, NoAnswer};
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info, warn};

/// What signals act on.
#[derive(Clone)]
pub struct Signals {
    /// The loop that stops.
    pub agent: Loop,
    /// It goes on first until a peer has everything.
    pub hands_over: bool,
    /// Who loads something again.
    pub hangups: [Arc<Notify>; 2],
}

impl Signals {
    /// Takes signals for as long as the process lives. The service manager is told that the agent is ready once
    /// it can be stopped in good order.
    ///
    /// # Errors
    /// The system doesn't let us take signals.
    pub async fn run(self) -> Result<(), String> {
        let take = |kind| signal(kind).map_err(|error| format!("can't take signals: {error}"));
        let (mut terminate, mut interrupt) = (take(SignalKind::terminate())?, take(SignalKind::interrupt())?);
        let mut hangup = take(SignalKind::hangup())?;
        tell_manager(NotifyState::Ready);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => self.hangups.iter().for_each(|part| part.notify_one()),
            }
        }
        info!("stopping: saying goodbye and ending the epoch; a second signal ends at once");
        tell_manager(NotifyState::Stopping);
        if self.hands_over {
            tokio::select! {
                () = hand_over(&self.agent) => {}
                _ = terminate.recv() => end_at_once(),
                _ = interrupt.recv() => end_at_once(),
            }
        }
        self.stop(&mut terminate, &mut interrupt).await
    }

    /// Stops the loop, whose end ends the process; ends the process itself if asked again, or if that takes too long.
    async fn stop(&self, terminate: &mut Signal, interrupt: &mut Signal) -> Result<(), String> {
        let deadline = Instant::now() + STOP;
        // A full queue is tried again; a loop that has gone needs no telling.
        let told = async {
            while self.agent.stop() == Err(NoAnswer::Busy) {
                sleep(Duration::from_millis(50)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = told => {}
            _ = terminate.recv() => end_at_once(),
            _ = interrupt.recv() => end_at_once(),
            () = sleep_until(deadline) => {
                error!("the loop didn't stop within {STOP:?}: ending; the next start recovers from the journal");
            }
        }
        std::process::exit(1);
    }
}

fn end_at_once() -> ! {
    warn!("a second signal: ending at once; the next start recovers from the journal");
    std::process::exit(1);
}

/// Tells the service manager, where there is one (sd_notify(3)). One that doesn't listen changes nothing.
pub fn tell_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!("can't tell the service manager how the agent is: {error}");
    }
}

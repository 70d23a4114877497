//! The service manager's watchdog: petted only when the loop has answered, so that a loop that hangs is restarted.

use super::question::Loop;
use super::signals::tell_manager;
use sd_notify::NotifyState;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

/// How often to pet it: half of what the manager asks for (sd_watchdog_enabled(3)); none if it asks for nothing.
pub fn interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|half| !half.is_zero())
}

/// Pets it `every` so often, for as long as the process lives.
///
/// # Errors
/// None; the type is that of all parts.
pub async fn run(agent: Loop, every: Duration) -> Result<(), String> {
    loop {
        let next = Instant::now() + every;
        match agent.status_within(every).await {
            Ok(_) => tell_manager(NotifyState::Watchdog),
            Err(no_answer) => warn!("the watchdog isn't petted: {no_answer}"),
        }
        sleep_until(next).await;
    }
}

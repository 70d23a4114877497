//! Ctrl-C and SIGTERM as a flag that every wait looks at, so that agents are stopped and directories removed on the
//! way out.

use crate::failure::{Failure, Outcome};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Starts to listen. A second Ctrl-C ends the process at once.
pub fn listen() -> Outcome<()> {
    let flag = FLAG.get_or_init(|| Arc::new(AtomicBool::new(false)));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        // Order matters: the first signal finds the flag unset, and only then sets it.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(flag)))
            .map_err(|reason| Failure::new(format!("could not listen for signals: {reason}")))?;
    }
    Ok(())
}

/// An error once somebody wants us to stop.
pub fn check() -> Outcome<()> {
    match FLAG.get() {
        Some(flag) if flag.load(Ordering::Relaxed) => Err(Failure::new("interrupted")),
        _ => Ok(()),
    }
}

/// Sleeps, and fails when somebody wants us to stop.
pub fn pause(duration: Duration) -> Outcome<()> {
    check()?;
    std::thread::sleep(duration);
    check()
}

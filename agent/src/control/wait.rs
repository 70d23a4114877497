//! Waiting until volumes are in sync, and saying why they aren't.

use super::limits::{WAIT, WAIT_FIRST, WAIT_POLL};
use super::question::{Loop, NoAnswer};
use std::time::Duration;
use syncmesh_engine::node::{Status, VolumeStatus};
use tokio::time::{Instant, sleep};

/// Waits until the volume, or every volume, is in sync. One look suffices, because nothing escapes it: what was written
/// before it is in the kernel's queue of events, marked, recorded, or visible everywhere (see `Io::has_events`).
///
/// # Errors
/// Why it wasn't within `timeout`: the volume, its state, and the members that are missing.
pub async fn in_sync(agent: &Loop, volume: Option<&str>, timeout: Duration) -> Result<(), String> {
    let began = Instant::now();
    let deadline = began + timeout.min(WAIT);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let why = match agent.status_within(left.max(WAIT_POLL.1)).await {
            Err(NoAnswer::Stopped) => return Err(NoAnswer::Stopped.to_string()),
            Err(busy) => busy.to_string(),
            Ok((status, _)) => {
                let chosen = choose(&status, volume)?;
                match explain(&status, &chosen) {
                    None => return Ok(()),
                    Some(why) => why,
                }
            }
        };
        if Instant::now() >= deadline {
            return Err(why);
        }
        sleep(if began.elapsed() < WAIT_FIRST { WAIT_POLL.0 } else { WAIT_POLL.1 }).await;
    }
}

fn choose<'a>(status: &'a Status, volume: Option<&str>) -> Result<Vec<&'a VolumeStatus>, String> {
    let Some(name) = volume else { return Ok(status.volumes.iter().collect()) };
    let chosen: Vec<_> = status.volumes.iter().filter(|volume| volume.name == name).collect();
    if chosen.is_empty() {
        let known: Vec<&str> = status.volumes.iter().map(|volume| volume.name.as_str()).collect();
        return Err(format!("{} has no volume {name:?}: use one of {}", status.node, known.join(", ")));
    }
    Ok(chosen)
}

/// Why the first volume that isn't in sync isn't, and who is missing; `None` if all are.
fn explain(status: &Status, volumes: &[&VolumeStatus]) -> Option<String> {
    let volume = volumes.iter().find(|volume| !volume.in_sync)?;
    let mut why = format!("volume {} is {}", volume.name, volume.state);
    if !volume.message.is_empty() {
        why.push_str(&format!(": {}", volume.message));
    }
    if volume.pending_files > 0 {
        why.push_str(&format!("; {} files, {} bytes pending", volume.pending_files, volume.pending_bytes));
    }
    for peer in status.peers.iter().filter(|peer| peer.state != "connected") {
        let reason = peer.last_error.as_deref().unwrap_or("no answer yet");
        why.push_str(&format!("; member {} is missing ({}: {reason})", peer.node, peer.state));
    }
    let more = volumes.iter().filter(|volume| !volume.in_sync).count() - 1;
    if more > 0 {
        why.push_str(&format!("; {more} more volumes aren't in sync"));
    }
    Some(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fake::{Fake, status};
    use std::sync::atomic::{AtomicU64, Ordering};

    fn wait(fake: &Fake, volume: Option<&str>, milliseconds: u64) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(in_sync(&fake.agent, volume, Duration::from_millis(milliseconds)))
    }

    #[test]
    fn volumes_in_sync_pass() {
        let fake = Fake::start(|| status(true, 7));
        assert_eq!(wait(&fake, None, 5_000), Ok(()));
        assert_eq!(wait(&fake, Some("docs"), 5_000), Ok(()));
        assert_eq!(fake.asked(), 2, "one look each");
    }

    #[test]
    fn it_looks_until_all_volumes_are_in_sync() {
        let asked = AtomicU64::new(0);
        let fake = Fake::start(move || status(asked.fetch_add(1, Ordering::Relaxed) >= 3, 7));
        assert_eq!(wait(&fake, None, 5_000), Ok(()));
        assert_eq!(fake.asked(), 4);
    }

    #[test]
    fn a_timeout_names_the_volume_its_state_and_who_is_missing() {
        let fake = Fake::start(|| status(false, 7));
        let why = wait(&fake, None, 0).unwrap_err();
        for part in ["volume docs is Degraded", "no session with b", "3 files", "member b is missing", "refused"] {
            assert!(why.contains(part), "{part}: {why}");
        }
    }

    #[test]
    fn an_unknown_volume_is_said_at_once() {
        let fake = Fake::start(|| status(true, 7));
        let why = wait(&fake, Some("dosc"), 60_000).unwrap_err();
        assert!(why.contains("\"dosc\"") && why.contains("use one of docs"), "{why}");
    }

    #[test]
    fn an_agent_that_stops_ends_the_wait() {
        let fake = Fake::start(|| status(false, 7));
        fake.agent.stop().unwrap();
        assert!(wait(&fake, None, 60_000).unwrap_err().contains("stopping"));
    }
}

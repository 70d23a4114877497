//! Waiting until volumes are in sync, and saying why they aren't.

use super::limits::{WAIT, WAIT_FIRST, WAIT_POLL, WAIT_STEADY};
use super::question::{Loop, NoAnswer};
use crate::node::{Status, VolumeStatus};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Waits until the volume, or every volume, is in sync: seen so twice, at least 150 ms apart, with nothing recorded here
/// in between and no other answer between the two. A time under a quarter of a second is taken for that.
///
/// # Errors
/// Why it wasn't within `timeout`: the volume, its state, and the members that are missing.
pub async fn in_sync(agent: &Loop, volume: Option<&str>, timeout: Duration) -> Result<(), String> {
    let began = Instant::now();
    let deadline = began + timeout.clamp(WAIT_STEADY + WAIT_POLL.1 * 2, WAIT);
    let mut steady = Steady::default();
    loop {
        let asked = Instant::now();
        let answer = agent.status_within(deadline.saturating_duration_since(asked).max(WAIT_POLL.1)).await;
        let why = match answer {
            Err(NoAnswer::Stopped) => return Err(NoAnswer::Stopped.to_string()),
            Err(busy) => {
                steady = Steady::default();
                busy.to_string()
            }
            Ok((status, _)) => {
                let chosen = choose(&status, volume)?;
                if steady.saw(&chosen, asked, Instant::now()) {
                    return Ok(());
                }
                explain(&status, &chosen)
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

/// Since when the volumes have been in sync with the same sequences.
#[derive(Default)]
struct Steady(Option<(Instant, Vec<u64>)>);

impl Steady {
    /// Takes an answer that describes some moment between `asked` and `answered`;
    /// true once two such moments are far enough apart.
    fn saw(&mut self, volumes: &[&VolumeStatus], asked: Instant, answered: Instant) -> bool {
        if !volumes.iter().all(|volume| volume.in_sync) {
            self.0 = None;
            return false;
        }
        let sequences: Vec<u64> = volumes.iter().map(|volume| volume.sequence).collect();
        match &self.0 {
            Some((since, seen)) if *seen == sequences => asked.saturating_duration_since(*since) >= WAIT_STEADY,
            _ => {
                self.0 = Some((answered, sequences));
                false
            }
        }
    }
}

/// Why the first volume that isn't in sync isn't, and who is missing.
fn explain(status: &Status, volumes: &[&VolumeStatus]) -> String {
    let Some(volume) = volumes.iter().find(|volume| !volume.in_sync) else {
        return "in sync at times, but changes keep being recorded: wait longer, or stop the programs that write"
            .into();
    };
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
    why
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
        assert!(fake.asked() >= 4, "each wait looks twice at least");
    }

    #[test]
    fn a_sequence_that_grows_never_passes() {
        let sequence = AtomicU64::new(0);
        let fake = Fake::start(move || status(true, sequence.fetch_add(1, Ordering::Relaxed)));
        let why = wait(&fake, None, 400).unwrap_err();
        assert!(why.contains("changes keep being recorded"), "{why}");
    }

    #[test]
    fn a_volume_that_flips_never_passes() {
        let asked = AtomicU64::new(0);
        let fake = Fake::start(move || status(!asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(3), 7));
        assert!(wait(&fake, None, 600).is_err());
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

    #[test]
    fn two_sights_must_be_far_enough_apart() {
        let answer = status(true, 7);
        let volumes: Vec<_> = answer.volumes.iter().collect();
        let at = |milliseconds| Instant::now() + Duration::from_millis(milliseconds);
        let (first, soon, late) = (at(0), at(100), at(400));
        let mut steady = Steady::default();
        assert!(!steady.saw(&volumes, first, first));
        assert!(!steady.saw(&volumes, soon, soon));
        assert!(steady.saw(&volumes, late, late));
        let away = status(false, 7);
        assert!(!steady.saw(&away.volumes.iter().collect::<Vec<_>>(), late, late));
        assert!(!steady.saw(&volumes, late, late), "it begins anew");
    }
}

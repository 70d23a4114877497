//! The time in which a pod's agent goes on after it was told to stop. Its node may be gone for good, so what was written there shortly
//! before should be on another one. Without Kubernetes a service manager waits seconds, and the machine mostly stays.

use super::limits::{HANDOVER, HANDOVER_POLL, HANDOVER_QUIET};
use super::question::Loop;
use std::collections::BTreeMap;
use syncmesh_engine::node::{Status, VolumeStatus};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// The last number of each volume's own sequence, by name.
type Sequences = BTreeMap<String, u64>;

/// Goes on until some peer has, durably, what was written to each volume, or until the time is over. A volume that is written to
/// without a pause is done once a peer has what was recorded a few seconds after the order.
pub async fn hand_over(agent: &Loop) {
    let begin = Instant::now();
    let mut known = Sequences::new();
    let mut said = false;
    loop {
        // A loop that has ended, or hangs, hands nothing over.
        let Ok((status, _)) = agent.status().await else { return };
        let left = owed(&status, &known);
        if left.is_empty() {
            return;
        }
        let names = left.iter().map(|volume| volume.name.as_str()).collect::<Vec<_>>().join(", ");
        if begin.elapsed() >= HANDOVER {
            return warn!(volumes = %names, "no peer has everything that was written here: it is told when this node's agent runs again");
        }
        if !std::mem::replace(&mut said, true) {
            info!(volumes = %names, "going on until a peer has everything, {} s at most", HANDOVER.as_secs());
        }
        if known.is_empty() && begin.elapsed() >= HANDOVER_QUIET {
            known = status.volumes.iter().map(|volume| (volume.name.clone(), volume.sequence)).collect();
        }
        sleep(HANDOVER_POLL).await;
    }
}

/// Volumes of which no peer has everything, nor what was `known` to be enough.
fn owed<'a>(status: &'a Status, known: &Sequences) -> Vec<&'a VolumeStatus> {
    let is_handed_over = |volume: &VolumeStatus| {
        let has_all = volume.recorded && volume.is_copied();
        let has_enough = known.get(&volume.name).is_some_and(|sequence| volume.copied >= *sequence);
        has_all || has_enough
    };
    // What stands still tells nothing, however long it is waited for.
    let tells = |volume: &VolumeStatus| !matches!(volume.state.as_str(), "Failed" | "Fenced" | "Paused");
    status.volumes.iter().filter(|volume| volume.members > 0 && tells(volume) && !is_handed_over(volume)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fake::{self, Fake};
    use std::sync::atomic::{AtomicU64, Ordering};

    fn with(change: impl Fn(&mut VolumeStatus)) -> bool {
        let mut status = fake::status(true, 7);
        change(&mut status.volumes[0]);
        owed(&status, &Sequences::from([("docs".into(), 5)])).is_empty()
    }

    #[test]
    fn a_volume_is_owed_until_a_peer_has_all_of_it_or_what_is_enough() {
        assert!(with(|_| ()));
        assert!(with(|volume| volume.copied = 6), "enough");
        assert!(!with(|volume| volume.copied = 4));
        assert!(!with(|volume| (volume.copied, volume.recorded) = (4, false)));
        assert!(owed(&fake::status(true, 7), &Sequences::new()).is_empty());
        assert!(!owed(&fake::status(false, 7), &Sequences::new()).is_empty());
        let mut unread = fake::status(true, 7);
        unread.volumes[0].recorded = false;
        assert!(!owed(&unread, &Sequences::new()).is_empty(), "a file may still be read");
    }

    #[test]
    fn what_nobody_else_keeps_or_what_stands_still_is_not_waited_for() {
        assert!(with(|volume| (volume.copied, volume.members) = (0, 0)));
        for state in ["Failed", "Fenced", "Paused"] {
            assert!(with(|volume| (volume.copied, volume.state) = (0, state.into())), "{state}");
        }
        assert!(!with(|volume| (volume.copied, volume.state) = (0, "Held".into())), "other changes flow");
    }

    #[test]
    fn an_agent_goes_on_until_a_peer_has_everything() {
        static COPIED: AtomicU64 = AtomicU64::new(4);
        let fake = Fake::start(|| {
            let mut status = fake::status(true, 7);
            status.volumes[0].copied = COPIED.fetch_add(1, Ordering::Relaxed);
            status
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(hand_over(&fake.agent));
        assert_eq!(fake.asked(), 4, "4, 5, 6, 7");
    }

    #[test]
    fn a_loop_that_has_gone_is_not_waited_for() {
        let (agent, asked) = fake::hanging();
        drop(asked);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(hand_over(&agent));
    }
}

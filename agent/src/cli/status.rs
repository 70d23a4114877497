//! `status`.

use super::reach::ask;
use super::table::{bytes, clean, span, table};
use super::{Failure, Which, print};
use crate::control::admin::Request;
use clap::ValueEnum;
use std::time::Duration;
use syncmesh_engine::node::{PeerStatus, Status, VolumeStatus};
use syncmesh_engine::wall::unix_now;

const EXAMPLES: &str = "\
Examples:
  syncmesh-agent status
  syncmesh-agent status --config /etc/syncmesh/agent.yaml
  syncmesh-agent status --socket /var/lib/syncmesh/admin.sock -o json | jq '.volumes[].state'

Exit code 0: the agent answered, however it is. 2: it can't be reached.";

/// The loop has ten seconds to answer; the rest is for the way.
const LIMIT: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Output {
    /// For people
    Table,
    /// One JSON object, for programs
    Json,
}

/// Runs the command.
pub(super) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let socket = arguments.which.socket()?;
    let status: Status =
        ask(&socket, &Request::Status {}, LIMIT).map_err(|error| Failure::unreachable(error.to_string()))?;
    match arguments.output {
        Output::Json => {
            let json = serde_json::to_string(&status).expect("a status is a plain struct");
            print(&format!("{json}\n"))
        }
        Output::Table => print(&show(&status, unix_now())),
    }
}

/// The status as a person reads it; `now` is in seconds since 1970.
fn show(status: &Status, now: u64) -> String {
    let peers: Vec<Vec<String>> = status.peers.iter().map(peer).collect();
    let volumes: Vec<Vec<String>> = status.volumes.iter().map(|one| volume(one, now)).collect();
    let mut text = format!(
        "node {} · syncmesh {} · {} · up {} · {} of memory\n\n",
        clean(&status.node),
        clean(&status.version),
        clean(&status.engine),
        span(status.uptime_seconds.saturating_mul(1_000)),
        bytes(status.memory_bytes)
    );
    if peers.is_empty() {
        text.push_str("no peers: add them to the configuration\n");
    } else {
        text.push_str(&table(&["PEER", "STATE", "RTT", "SENT", "RECEIVED", "LAST ERROR"], &peers));
    }
    text.push('\n');
    let headline = [
        "VOLUME",
        "STATE",
        "SYNCED",
        "FILES",
        "SIZE",
        "PENDING",
        "LAG",
        "DURABLE LAG",
        "CONFLICTS",
        "HOLDS",
        "LAST SYNC",
    ];
    text.push_str(&table(&headline, &volumes));
    for one in status.volumes.iter().filter(|one| !one.message.is_empty()) {
        text.push_str(&format!("\n{}: {}\n", clean(&one.name), clean(&one.message)));
    }
    for one in status.volumes.iter().filter(|one| one.linked_elsewhere > 0) {
        text.push_str(&format!(
            "\n{}: {} files have names outside of the volume, or excluded ones (hard links): what is written through those is found by `syncmesh-agent rescan`\n",
            clean(&one.name),
            one.linked_elsewhere
        ));
    }
    for one in status.volumes.iter().filter(|one| !one.worst.is_empty()) {
        let age = |since: Option<u64>| since.map(span).unwrap_or_default();
        let rows: Vec<Vec<String>> =
            one.worst.iter().map(|worst| vec![worst.path.clone(), age(worst.since_ms), worst.reason.clone()]).collect();
        text.push_str(&format!("\nworst in {}:\n{}", clean(&one.name), table(&["PATH", "AGE", "REASON"], &rows)));
    }
    for warning in &status.warnings {
        text.push_str(&format!("\nwarning: {}\n", clean(warning)));
    }
    text
}

fn peer(peer: &PeerStatus) -> Vec<String> {
    vec![
        peer.node.clone(),
        peer.state.clone(),
        peer.rtt_micros.map(|micros| format!("{:.2} ms", micros as f64 / 1e3)).unwrap_or_default(),
        bytes(peer.sent_bytes),
        bytes(peer.received_bytes),
        peer.last_error.clone().unwrap_or_default(),
    ]
}

fn volume(volume: &VolumeStatus, now: u64) -> Vec<String> {
    let pending = match (volume.pending_files, volume.pending_bytes) {
        (0, 0) => "0".into(),
        (files, size) => format!("{files} ({})", bytes(size)),
    };
    let last_sync = match volume.last_sync {
        None => "never".into(),
        Some(_) if volume.in_sync => "now".into(),
        Some(at) => format!("{} ago", span(now.saturating_mul(1_000).saturating_sub(at))),
    };
    vec![
        volume.name.clone(),
        volume.state.clone(),
        format!("{}%", volume.synced_percent),
        volume.files.to_string(),
        bytes(volume.bytes),
        pending,
        span(volume.lag_ms),
        span(volume.durable_lag_ms),
        volume.conflicts.to_string(),
        volume.holds.to_string(),
        last_sync,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fake::status;
    use syncmesh_engine::worst::Worst;

    #[test]
    fn a_person_sees_peers_volumes_and_what_is_wrong() {
        let text = show(&status(false, 7), 1_700_000_125);
        let expected = "\
node a · syncmesh - · io_uring · up 1 h 1 min · 0 B of memory

PEER  STATE    RTT  SENT  RECEIVED  LAST ERROR
b     backoff  -    10 B  20 B      connection refused

VOLUME  STATE     SYNCED  FILES  SIZE      PENDING    LAG  DURABLE LAG  CONFLICTS  HOLDS  LAST SYNC
docs    Degraded  41%     12     3.42 KiB  3 (900 B)  1 s  250 ms       0          0      2 min 5 s ago

docs: no session with b: see PEERS for the reason
";
        assert_eq!(text, expected);
        assert!(show(&status(true, 7), 0).contains("now\n"));
        let warned = Status { warnings: vec!["two agents run under the name b".into()], ..status(true, 7) };
        assert!(show(&warned, 0).ends_with("\nwarning: two agents run under the name b\n"));
        let mut linked = status(true, 7);
        linked.volumes[0].linked_elsewhere = 2;
        assert!(show(&linked, 0).contains("\ndocs: 2 files have names outside of the volume"));
        let mut ill = status(false, 7);
        let reason = "no connected member has its contents".to_owned();
        ill.volumes[0].worst = vec![Worst { path: "a/b".into(), reason, since_ms: Some(61_000) }];
        let text = show(&ill, 1_700_000_125);
        assert!(
            text.ends_with(
                "\nworst in docs:\nPATH  AGE        REASON\na/b   1 min 1 s  no connected member has its contents\n"
            ),
            "{text}"
        );
    }
}

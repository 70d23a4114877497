//! What the agent says about itself, as Prometheus reads it. Names of volumes and peers are labels; names of files are
//! never shown.

use prometheus::{Encoder, Gauge, GaugeVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder};
use syncmesh_engine::node::{Counters, PeerStatus, Status, VolumeStatus};

/// The type of what [`text`] gives.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// States that a volume can have today, for one series each.
const STATES: [&str; 6] = ["Failed", "Held", "Paused", "Degraded", "Syncing", "InSync"];

/// What is known of the process beside its status.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Processor time since the start.
    pub cpu_seconds: f64,
    /// Until the identity ends; negative after.
    pub certificate_seconds: f64,
}

/// All metrics in the text exposition format.
pub fn text(status: &Status, counters: &Counters, process: Process) -> String {
    let scrape = Scrape { registry: Registry::new() };
    scrape.node(status, process);
    scrape.peers(&status.peers);
    scrape.volumes(&status.volumes);
    scrape.counters(counters);
    let mut text = Vec::new();
    TextEncoder::new().encode(&scrape.registry.gather(), &mut text).expect("every family has samples and a name");
    String::from_utf8(text).expect("the exposition format is UTF-8")
}

/// One scrape's registry: values are set from one status, so that they fit each other.
struct Scrape {
    registry: Registry,
}

impl Scrape {
    fn register(&self, collector: impl prometheus::core::Collector + 'static) {
        self.registry.register(Box::new(collector)).expect("each name is registered once a scrape");
    }

    fn gauge(&self, name: &str, help: &str, value: f64) {
        let gauge = Gauge::new(name, help).expect("the name and help are valid");
        gauge.set(value);
        self.register(gauge);
    }

    fn counter(&self, name: &str, help: &str, value: u64) {
        let counter = IntCounter::new(name, help).expect("the name and help are valid");
        counter.inc_by(value);
        self.register(counter);
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str], values: impl Iterator<Item = (Vec<String>, f64)>) {
        let gauges = GaugeVec::new(Opts::new(name, help), labels).expect("the name and labels are valid");
        for (label, value) in values {
            gauges.with_label_values(&label).set(value);
        }
        self.register(gauges);
    }

    fn node(&self, status: &Status, process: Process) {
        let labels = vec![status.node.clone(), status.version.clone(), status.engine.clone()];
        self.gauges(
            "syncmesh_info",
            "The node, its release and its I/O engine.",
            &["node", "version", "engine"],
            std::iter::once((labels, 1.0)),
        );
        self.gauge("syncmesh_uptime_seconds", "Seconds since the agent started.", status.uptime_seconds as f64);
        self.gauge("syncmesh_memory_bytes", "Resident memory.", status.memory_bytes as f64);
        let cpu = prometheus::Counter::new("syncmesh_cpu_seconds_total", "Processor time of all threads.")
            .expect("the name and help are valid");
        cpu.inc_by(process.cpu_seconds);
        self.register(cpu);
        self.gauge(
            "syncmesh_certificate_expiry_seconds",
            "Seconds until the node's certificate, or its CA's if that is earlier, ends; negative after.",
            process.certificate_seconds,
        );
        let connected = status.peers.iter().filter(|peer| peer.state == "connected").count();
        self.gauge("syncmesh_peers", "Configured members beside this node.", status.peers.len() as f64);
        self.gauge("syncmesh_peers_connected", "Members with a session.", connected as f64);
    }

    fn peers(&self, peers: &[PeerStatus]) {
        let label = |peer: &PeerStatus| vec![peer.node.clone()];
        let connected = |peer: &PeerStatus| f64::from(u8::from(peer.state == "connected"));
        self.gauges(
            "syncmesh_peer_connected",
            "1 while there is a session with the member.",
            &["peer"],
            peers.iter().map(|peer| (label(peer), connected(peer))),
        );
        let known = peers.iter().filter_map(|peer| peer.rtt_micros.map(|rtt| (label(peer), rtt as f64 / 1e6)));
        self.gauges("syncmesh_peer_rtt_seconds", "Round trip of the last heartbeat.", &["peer"], known);
        let rows: [(&str, &str, fn(&PeerStatus) -> u64); 2] = [
            ("syncmesh_peer_sent_bytes_total", "Bytes sent to the member, on the wire.", |peer| peer.sent_bytes),
            ("syncmesh_peer_received_bytes_total", "Bytes received from the member, on the wire.", |peer| {
                peer.received_bytes
            }),
        ];
        for (name, help, value) in rows {
            let counters = IntCounterVec::new(Opts::new(name, help), &["peer"]).expect("the name and label are valid");
            for peer in peers {
                counters.with_label_values(&[peer.node.as_str()]).inc_by(value(peer));
            }
            self.register(counters);
        }
    }

    fn volumes(&self, volumes: &[VolumeStatus]) {
        let states = volumes.iter().flat_map(|volume| {
            STATES.iter().map(|state| {
                let label = vec![volume.name.clone(), (*state).to_owned()];
                (label, f64::from(u8::from(volume.state == *state)))
            })
        });
        self.gauges("syncmesh_volume_state", "1 for the state that holds.", &["volume", "state"], states);
        let rows: [(&str, &str, fn(&VolumeStatus) -> f64); 17] = [
            ("in_sync", "1 while every member is connected and nothing is pending anywhere.", |volume| {
                f64::from(u8::from(volume.in_sync))
            }),
            ("synced_ratio", "Known bytes that are present, 0 to 1; 1 only if all are.", |volume| {
                volume.synced_percent as f64 / 100.0
            }),
            ("files", "Files and links that are published here.", |volume| volume.files as f64),
            ("bytes", "Bytes of the published files.", |volume| volume.bytes as f64),
            ("pending_files", "Paths whose known version isn't here yet.", |volume| volume.pending_files as f64),
            ("pending_bytes", "Bytes of pending paths.", |volume| volume.pending_bytes as f64),
            ("lag_seconds", "Age of the oldest known version that isn't visible here.", |volume| {
                volume.lag_ms as f64 / 1e3
            }),
            ("durable_lag_seconds", "Age of the oldest recorded change that isn't durable here.", |volume| {
                volume.durable_lag_ms as f64 / 1e3
            }),
            ("conflicts", "Versions that lost a conflict and weren't superseded since.", |volume| {
                volume.conflicts as f64
            }),
            ("holds", "Bulk deletions that wait for approval.", |volume| volume.holds as f64),
            ("no_space_files", "Paths that wait for space on the file system.", |volume| volume.no_space_files as f64),
            ("stored_files", "Replaced and deleted versions in this node's store.", |volume| {
                volume.stored_files as f64
            }),
            ("stored_bytes", "Bytes that those versions take.", |volume| volume.stored_bytes as f64),
            ("linked_elsewhere_files", "Files that have names outside of the volume, or excluded ones.", |volume| {
                volume.linked_elsewhere as f64
            }),
            ("last_sync_timestamp_seconds", "When it was last in sync, seconds since 1970; 0 for never.", |volume| {
                volume.last_sync.map_or(0.0, |at| at as f64 / 1e3)
            }),
            ("watches", "Directories that are watched.", |volume| volume.watches as f64),
            ("sequence", "Last number of this replica's own sequence of changes.", |volume| volume.sequence as f64),
        ];
        for (name, help, value) in rows {
            let values = volumes.iter().map(|volume| (vec![volume.name.clone()], value(volume)));
            self.gauges(&format!("syncmesh_volume_{name}"), help, &["volume"], values);
        }
    }

    fn counters(&self, counters: &Counters) {
        let rows = [
            ("versions_made_total", "Versions that were made here.", counters.versions_made),
            ("versions_applied_total", "Versions of peers that became visible here.", counters.versions_applied),
            ("conflicts_total", "Conflicting contents that were found.", counters.conflicts),
            ("scans_total", "Scans of directories or names.", counters.scans),
            ("frames_sent_total", "Protocol frames that went out.", counters.frames_sent),
            ("frames_received_total", "Protocol frames that came in.", counters.frames_received),
            ("epochs_total", "Epochs that became durable.", counters.epochs),
            ("session_errors_total", "Connections that ended with an error.", counters.session_errors),
            ("watch_events_total", "Events of the file system that came.", counters.events),
            ("fetched_bytes_total", "Bytes of contents that were fetched by blocks.", counters.fetched_bytes),
            ("reused_bytes_total", "Bytes of contents that this node had already, and copied.", counters.reused_bytes),
            (
                "sum_differences_total",
                "Comparisons that found other rows than a peer's where both knew the same: a bug, or a damaged registry.",
                counters.sum_differences,
            ),
            ("repaired_paths_total", "Paths that such comparisons found and repaired.", counters.repaired_paths),
        ];
        for (name, help, value) in rows {
            self.counter(&format!("syncmesh_{name}"), help, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fake::status;

    #[test]
    fn metrics_say_what_the_status_says() {
        let counters = Counters { versions_made: 5, epochs: 2, ..Counters::default() };
        let text = text(&status(false, 7), &counters, Process { cpu_seconds: 1.5, certificate_seconds: -3.0 });
        for line in [
            "syncmesh_info{engine=\"io_uring\",node=\"a\",version=\"\"} 1",
            "syncmesh_uptime_seconds 3700",
            "syncmesh_cpu_seconds_total 1.5",
            "syncmesh_certificate_expiry_seconds -3",
            "syncmesh_peers_connected 0",
            "syncmesh_peer_connected{peer=\"b\"} 0",
            "syncmesh_peer_sent_bytes_total{peer=\"b\"} 10",
            "syncmesh_volume_state{state=\"Degraded\",volume=\"docs\"} 1",
            "syncmesh_volume_state{state=\"InSync\",volume=\"docs\"} 0",
            "syncmesh_volume_synced_ratio{volume=\"docs\"} 0.41",
            "syncmesh_volume_lag_seconds{volume=\"docs\"} 1.5",
            "syncmesh_volume_last_sync_timestamp_seconds{volume=\"docs\"} 1700000000",
            "syncmesh_volume_stored_files{volume=\"docs\"} 5",
            "syncmesh_volume_stored_bytes{volume=\"docs\"} 8192",
            "syncmesh_versions_made_total 5",
            "syncmesh_epochs_total 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
        assert!(!text.contains("rtt_seconds{"), "an unknown round trip has no sample");
    }

    #[test]
    fn a_node_without_peers_has_metrics_too() {
        let mut status = status(true, 7);
        status.peers.clear();
        status.volumes.clear();
        let text = text(&status, &Counters::default(), Process { cpu_seconds: 0.0, certificate_seconds: 0.0 });
        assert!(text.contains("syncmesh_peers 0"));
    }
}

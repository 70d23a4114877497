//! What the operator counts.

use crate::volume::claims;
use kube::ResourceExt;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use std::sync::Arc;
use syncmesh_crds::SyncVolume;

/// What the operator counts.
pub struct Metrics {
    registry: Registry,
    reads_complete: IntGauge,
    leads: IntGauge,
    writes: IntCounter,
    reconciliations: IntCounterVec,
    certificates: IntCounterVec,
}

impl Default for Metrics {
    fn default() -> Self {
        const SOUND: &str = "names and labels are constants that Prometheus takes, and each is there once";
        let gauge = |name: &str, help: &str| IntGauge::new(name, help).expect(SOUND);
        let metrics = Self {
            registry: Registry::new(),
            reads_complete: gauge("syncmesh_operator_reads_complete", "Whether all objects have been read once"),
            leads: gauge("syncmesh_operator_leads", "Whether this operator makes changes"),
            writes: IntCounter::new("syncmesh_operator_writes_total", "Calls that change something, events included")
                .expect(SOUND),
            reconciliations: IntCounterVec::new(
                Opts::new("syncmesh_operator_reconciliations_total", "Objects that were looked at"),
                &["kind", "outcome"],
            )
            .expect(SOUND),
            certificates: IntCounterVec::new(
                Opts::new("syncmesh_operator_certificates_total", "Requests of agents that were answered"),
                &["outcome"],
            )
            .expect(SOUND),
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.reads_complete.clone())).expect(SOUND);
        registry.register(Box::new(metrics.leads.clone())).expect(SOUND);
        registry.register(Box::new(metrics.writes.clone())).expect(SOUND);
        registry.register(Box::new(metrics.reconciliations.clone())).expect(SOUND);
        registry.register(Box::new(metrics.certificates.clone())).expect(SOUND);
        metrics
    }
}

impl Metrics {
    /// All objects have been read once.
    pub fn read_all(&self) {
        self.reads_complete.set(1);
    }

    /// Whether they have.
    pub fn has_read_all(&self) -> bool {
        self.reads_complete.get() == 1
    }

    /// This operator leads.
    pub fn leads(&self) {
        self.leads.set(1);
    }

    /// A call that changes something is about to be made.
    pub fn written(&self) {
        self.writes.inc();
    }

    /// An object was looked at.
    pub fn reconciled(&self, kind: &str, is_done: bool) {
        self.reconciliations.with_label_values(&[kind, if is_done { "done" } else { "failed" }]).inc();
    }

    /// A request for a certificate was answered: signed or refused.
    pub fn certificate(&self, outcome: &str) {
        self.certificates.with_label_values(&[outcome]).inc();
    }

    /// All of it, as Prometheus reads it, with the usage of these volumes if this operator leads: else each would be there twice.
    pub fn text(&self, volumes: &[Arc<SyncVolume>]) -> String {
        let mut families = self.registry.gather();
        if self.leads.get() == 1 {
            families.extend(usage(volumes));
        }
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }
}

/// Claims under the names that kubelets give to theirs, so that dashboards and alerts which know those show these, too. A kubelet has
/// no figures of a hostPath.
fn usage(volumes: &[Arc<SyncVolume>]) -> Vec<MetricFamily> {
    const SOUND: &str = "names and labels are constants that Prometheus takes";
    let gauge = |name: &str, help: &str| {
        IntGaugeVec::new(Opts::new(name, help), &["namespace", "persistentvolumeclaim"]).expect(SOUND)
    };
    let used = gauge("kubelet_volume_stats_used_bytes", "Bytes of a claim's files");
    let capacity = gauge("kubelet_volume_stats_capacity_bytes", "What a claim may have, where its volume says so");
    let available = gauge("kubelet_volume_stats_available_bytes", "What is left of that");
    let files = gauge("kubelet_volume_stats_inodes_used", "Files and links of a claim");
    for volume in volumes {
        let Some(status) = &volume.status else { continue };
        let (namespace, limit) = (volume.namespace().unwrap_or_default(), volume.spec.capacity);
        for claim in claims::names(volume) {
            let set = |gauge: &IntGaugeVec, value: u64| {
                gauge.with_label_values(&[&namespace, &claim]).set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            let bytes = status.bytes.unwrap_or(0);
            set(&used, bytes);
            set(&files, status.files.unwrap_or(0));
            if let Some(limit) = limit {
                set(&capacity, limit.0);
                set(&available, limit.0.saturating_sub(bytes));
            }
        }
    }
    [used, capacity, available, files]
        .iter()
        .flat_map(Collector::collect)
        .filter(|one| !one.get_metric().is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::example::Cluster;
    use syncmesh_crds::units::Size;
    use syncmesh_crds::volume::SyncVolumeStatus;

    #[test]
    fn claims_have_the_names_that_kubelets_give_to_theirs() {
        let mut volume = Cluster::with_nodes(&["a"]).volume;
        volume.metadata.namespace = Some("web".into());
        volume.status = Some(SyncVolumeStatus { bytes: Some(300), files: Some(2), ..SyncVolumeStatus::default() });
        let metrics = Metrics::default();
        assert!(!metrics.text(&[Arc::new(volume.clone())]).contains("kubelet"), "one that leads tells it");
        metrics.leads();
        let of = "{namespace=\"web\",persistentvolumeclaim=\"docs\"}";
        let text = metrics.text(&[Arc::new(volume.clone())]);
        for line in ["used_bytes", "inodes_used"].iter().zip([300, 2]) {
            assert!(text.contains(&format!("kubelet_volume_stats_{}{of} {}\n", line.0, line.1)), "{text}");
        }
        assert!(!text.contains("capacity"), "it has no limit: {text}");
        volume.spec.capacity = Some(Size(1_000));
        let text = metrics.text(&[Arc::new(volume)]);
        for line in ["capacity_bytes", "available_bytes"].iter().zip([1_000, 700]) {
            assert!(text.contains(&format!("kubelet_volume_stats_{}{of} {}\n", line.0, line.1)), "{text}");
        }
    }
}

//! What the operator counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

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

    /// All of it, as Prometheus reads it.
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

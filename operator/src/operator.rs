//! What every reconciliation has at hand.

use crate::caches::Caches;
use crate::mesh::desired::Home;
use crate::mesh::silent::Silent;
use crate::metrics::Metrics;
use crate::writes::Writes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use std::sync::Arc;

/// What every reconciliation has at hand.
pub struct Operator {
    /// What there is.
    pub caches: Caches,
    /// How it is changed.
    pub writes: Writes,
    /// What the operator knows of itself.
    pub home: Home,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Agents that don't take up what changes.
    pub silent: Silent,
}

/// Now, as precise as objects have it: a status that was read must equal the one that was written.
pub fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

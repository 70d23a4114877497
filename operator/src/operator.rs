//! What every reconciliation has at hand.

use crate::caches::Caches;
use crate::mesh::desired::Home;
use crate::metrics::Metrics;
use crate::writes::Writes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::{Lookup, Store};
use std::hash::Hash;
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
}

/// Now, as precise as objects have it: a status that was read must equal the one that was written.
pub fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Copies of all cached objects that fit.
pub fn copies<K>(store: &Store<K>, fits: impl Fn(&K) -> bool) -> Vec<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    store.state_filter(|object| fits(object)).into_iter().map(Arc::unwrap_or_clone).collect()
}

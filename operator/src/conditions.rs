//! Conditions that keep the time of their last change.

pub use syncmesh_crds::condition::{Finding, after};

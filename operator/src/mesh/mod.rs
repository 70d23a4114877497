//! A mesh: its agents, and the nodes that have them.

pub mod desired;
pub(crate) mod first;
pub mod nodes;
pub(crate) mod reconcile;
pub mod status;

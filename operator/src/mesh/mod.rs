//! A mesh: its agents, and the nodes that have them.

pub mod desired;
pub mod nodes;
pub mod status;

//! A mesh: its agents, the nodes that have them, and the authority that says who they are.

pub mod authority;
pub mod desired;
pub mod farewell;
pub(crate) mod first;
pub mod members;
pub mod nodes;
pub(crate) mod reconcile;
pub mod silent;
pub mod status;

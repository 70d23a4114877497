//! An agent as a pod of a mesh, on the control thread: its configuration comes from the SyncReplicas of its node, the addresses of
//! its peers from the mesh's EndpointSlices, its certificate from the operator, and how it is goes into the SyncReplicas' status.
//!
//! What is to be done with a replica is decided by plain functions ([`configuration`], [`status`]); [`cluster`] gathers what they are
//! told and carries out what they say. The loop knows nothing of this: it gets the same [`Config`](syncmesh_config::Config) as from a
//! file, and answers the same questions. What was last obeyed is kept on disk, so that a restart without the API server goes on.

pub mod answers;
pub mod certificate;
mod cluster;
pub mod configuration;
pub mod directories;
mod last;
pub mod orphans;
mod revoked;
pub mod right;
pub mod status;
pub mod surroundings;

pub use cluster::Cluster;

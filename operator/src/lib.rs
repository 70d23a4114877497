//! From SyncMesh and SyncVolume objects to what Kubernetes and the agents are to do.
//!
//! For each kind, `desired` says what should be there and `status` what is, both as plain functions of what was read; nothing here
//! calls the API server or asks for the time.

pub mod conditions;
pub mod conflict;
pub mod labels;
pub mod mesh;
pub mod names;
pub mod volume;

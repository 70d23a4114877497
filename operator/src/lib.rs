//! From SyncMesh and SyncVolume objects to what Kubernetes and the agents are to do.
//!
//! For each kind, `desired` says what should be there and `status` what is, both as plain functions of what was read. `reconcile`
//! gathers what they are told from caches, and carries out what they say; only there and in what it uses the API server is called.

mod caches;
pub mod cli;
pub mod conditions;
pub mod conflict;
mod controllers;
mod difference;
mod error;
mod finalizer;
mod health;
pub mod identity;
pub mod labels;
mod lease;
pub mod mesh;
mod metrics;
pub mod names;
mod operator;
pub mod provision;
pub mod rights;
mod run;
mod uninstall;
pub mod volume;
mod writes;

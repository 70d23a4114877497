//! The kinds of `syncmesh.io/v1alpha1`, one file each, with what the API server checks of them: bounds, patterns, defaults
//! and rules in CEL. Doc comments become what `kubectl explain` prints.
//!
//! Types here are as strict as the schemas, so an object that was stored under another release's schema may not fit them.
//! Whoever watches a kind wraps it in [`kube::core::DeserializeGuard`]: one odd object then is one error, not the end of the
//! watch.

mod column;
pub mod condition;
pub mod conflict;
pub mod contents;
pub mod definitions;
pub mod examples;
pub mod limits;
pub mod mesh;
pub mod replica;
mod rules;
mod schema;
pub mod selector;
pub mod state;
pub mod units;
pub mod volume;

pub use conflict::SyncConflict;
pub use mesh::SyncMesh;
pub use replica::SyncReplica;
pub use volume::SyncVolume;

/// The API group of all kinds.
pub const GROUP: &str = "syncmesh.io";

/// Their version.
pub const VERSION: &str = "v1alpha1";

//! The engine of an agent: everything that decides about files, and the loop that drives it. There is no tokio, no kube and no HTTP in
//! it, and the simulator runs the same code.
//!
//! One change's way, from a write to its replicas, in the order of the modules: `watch`, [`scan`], [`hash`], `record`,
//! [`announce`], `decide` in `syncmesh-core`, [`fetch`], [`stage`], [`publish`], `acknowledge`.

pub mod acknowledge;
pub mod announce;
pub mod ask;
pub mod ca;
pub mod coming;
pub mod compare;
pub mod conflicts;
pub mod connection;
pub mod contents;
pub mod epoch;
pub mod fetch;
pub mod follow;
pub mod forget;
pub mod guard;
pub mod hash;
pub mod history;
pub mod identity;
pub mod inquiry;
pub mod job;
pub mod journal;
pub mod limits;
pub mod linger;
pub mod link;
pub mod moved;
pub mod node;
pub mod pace;
pub mod plan;
pub mod publish;
pub mod record;
pub mod recover;
pub mod registry;
pub mod reuse;
pub mod revert;
pub mod revoked;
pub mod run;
pub mod scan;
pub mod second_names;
pub mod session;
pub mod settings;
pub mod space;
pub mod stage;
pub mod start;
pub mod store;
pub mod suspect;
pub mod threads;
pub mod tls;
pub mod unsynced;
pub mod verify;
pub mod versions;
pub mod volume;
pub mod wall;
pub mod watch;
pub mod worst;

//! One validated configuration of a SyncMesh agent, read from YAML.
//!
//! [`Config::parse`] finds every problem at once, each with its line and field. Text becomes a tree whose values know
//! their places (`tree`), the tree is read field by field (`fields`, `read`, `volume`), then fields are compared with each
//! other (`overlap`). Fields whose behaviour doesn't exist yet are refused (`later`). Nothing here touches the disk.

mod change;
mod config;
mod fields;
mod later;
pub mod limits;
mod names;
mod overlap;
mod pattern;
mod problem;
mod read;
mod tree;
mod units;
mod volume;

pub use change::Change;
pub use config::{
    Config, ConflictPolicy, ConflictRule, Conflicts, DeletionGuard, Durability, Engine, IdentityFiles, Log, LogFormat,
    LogLevel, Peer, Role, Versions, Volume,
};
pub use names::{Address, NodeName, VolumeName};
pub use pattern::glob;
pub use problem::{Problem, Problems};
pub use units::{Share, Size, parse_duration, show_duration};

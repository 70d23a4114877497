//! Linux: io_uring, inotify, openat2.

mod attributes;
mod directory;
mod file;
mod fs;
mod lease;
mod metadata;
mod state_files;
mod uring;

pub use fs::LinuxFs;
pub use state_files::{LinuxStateFiles, LockError};
pub use uring::{ProbeError, Uring};

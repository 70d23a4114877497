//! Linux: io_uring or epoll, inotify, openat2.

mod attributes;
mod descriptor;
mod directory;
mod engine;
mod epoll;
mod events;
mod file;
mod flight;
mod fs;
mod io;
mod lease;
mod metadata;
mod sockets;
mod state_files;
mod timers;
mod uring;

pub use fs::LinuxFs;
pub use io::LinuxIo;
pub use state_files::{LinuxStateFiles, LockError};
pub use uring::ProbeError;

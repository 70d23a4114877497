//! Whole meshes in one thread, from one seed: simulated twins of [`syncmesh_io::Io`] and [`syncmesh_io::Fs`], with a
//! clock, a network and crashes that a driver decides.

mod coroutine;
mod disk;
mod faults;
mod fs;
mod inode;
mod io;
pub mod ledger;
pub mod mesh;
mod network;
pub mod planner;
mod revocation;
mod scenario;
mod session;
mod state_files;
mod storage;
pub mod story;
mod tree;
mod watch_queue;

pub use disk::{Disk, Outside, Snapshot, UserFile};
pub use faults::Faults;
pub use fs::{SimFs, StepHook};
pub use io::SimIo;
pub use network::{Cut, LogSink, Random, Settings, World};
pub use state_files::{SimStateFiles, StateDisk};

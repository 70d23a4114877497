//! Everything that touches the world goes through two interfaces: [`Io`] completes operations on sockets, timers,
//! watches and wake-ups for the event loop; [`Fs`] is the small set of file-system calls that jobs make. Both have a
//! simulated twin in `syncmesh-simulator`. This crate knows nothing of SyncMesh's rules and is the only one with
//! `unsafe`.

mod completion;
mod fs;
#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(feature = "suite")]
#[doc(hidden)]
pub mod suite;
#[cfg(feature = "suite")]
#[doc(hidden)]
pub mod suite_fs;

pub use completion::{
    Buffer, Completion, Io, IoError, Listener, Log, Operation, Outcome, Socket, Token, Waker, WatchEvent, WatchKind,
    Watcher,
};
pub use fs::{
    DirEntry, Directory, Displaced, FileId, FileKind, Fs, FsError, Metadata, OpenFile, Owner, Probe, Space, Stat,
    StateFiles, WatchDescriptor,
};

//! Descriptors by number, as completions and operations carry them.

use rustix::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes a descriptor over that the kernel has just made for us.
pub(super) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: accept has returned this number as a new descriptor, and nobody else has seen it.
    #[allow(unsafe_code)]
    unsafe {
        OwnedFd::from_raw_fd(fd)
    }
}

/// The descriptor of an operation that is under way.
pub(super) fn borrowed(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: sockets are owned until their operations have ended, and whoever made a watcher or a log keeps its
    // descriptor open for as long (the contract of `LinuxIo`); a number isn't memory, so the worst that a mistake does
    // is a call on another file.
    #[allow(unsafe_code)]
    unsafe {
        BorrowedFd::borrow_raw(fd)
    }
}

//! Read leases as a test: the kernel grants one only while nobody has the file open for writing, or mapped so (SYNC 6).

use super::metadata::error;
use crate::FsError;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;

/// As `fcntl.h` has it on every architecture; the libc crate lacks it.
const F_SETSIG: libc::c_int = 10;

/// Takes a read lease and gives it back at once. `file` must have been opened for reading.
///
/// # Errors
/// The file system has no leases, or the file is another user's and this process lacks `CAP_LEASE`.
pub(super) fn has_writers(file: BorrowedFd<'_>) -> Result<bool, FsError> {
    // Who opens the file for writing in this microsecond is let in when the lease is given back, and the holder is sent a
    // signal: one that is ignored unless somebody wants it, instead of SIGIO, which ends a process.
    command(file, F_SETSIG, libc::SIGURG)?;
    match command(file, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => command(file, libc::F_SETLEASE, libc::F_UNLCK).map(|()| false),
        Err(FsError::Os(code)) if code == Errno::AGAIN.raw_os_error() => Ok(true),
        Err(why) => Err(why),
    }
}

#[allow(unsafe_code)]
fn command(file: BorrowedFd<'_>, command: libc::c_int, argument: libc::c_int) -> Result<(), FsError> {
    // SAFETY: the descriptor is borrowed, so it is open; these commands take a number and touch no memory of ours.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(error(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))),
        _ => Ok(()),
    }
}

//! A regular file that is open.

use super::lease;
use super::metadata::{error, set_open, stat_descriptor};
use crate::{FsError, Metadata, OpenFile, Stat};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Advice, fadvise, fdatasync, ftruncate};
use rustix::io::{Errno, pread, pwrite};

pub(super) struct LinuxFile(pub(super) OwnedFd);

impl OpenFile for LinuxFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, FsError> {
        let mut done = 0;
        while done < buffer.len() {
            match pread(&self.0, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(bytes) => done += bytes,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(error(errno)),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), FsError> {
        let mut done = 0;
        while done < bytes.len() {
            match pwrite(&self.0, &bytes[done..], offset + done as u64) {
                // A regular file takes something or says why not.
                Ok(0) => return Err(FsError::NoSpace),
                Ok(written) => done += written,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(error(errno)),
            }
        }
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> Result<(), FsError> {
        ftruncate(&self.0, bytes).map_err(error)
    }

    fn sync(&self) -> Result<(), FsError> {
        fdatasync(&self.0).map_err(error)
    }

    fn has_writers(&self) -> Result<bool, FsError> {
        lease::has_writers(self.0.as_fd())
    }

    fn forget_cached(&self) -> Result<(), FsError> {
        fadvise(&self.0, 0, None, Advice::DontNeed).map_err(error)
    }

    fn stat(&self) -> Result<Stat, FsError> {
        stat_descriptor(&self.0)
    }

    fn set_metadata(&self, metadata: &Metadata) -> Result<(), FsError> {
        set_open(self.0.as_fd(), metadata)
    }
}

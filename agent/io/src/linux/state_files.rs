//! Small files in the agent's state directory, which is held open, and the lock that makes it one agent's.

use super::directory::list_names;
use super::file::LinuxFile;
use super::fs::{number, read_whole, replace_durably};
use super::metadata::{check_name, error};
use crate::{FsError, Log, StateFiles};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, ftruncate, openat, unlinkat};
use rustix::io::{Errno, write};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const LOCK: &str = "lock";
/// Ends the names of files that are being written.
const UNFINISHED: &str = ".new";

/// The state directory of one agent.
#[derive(Debug)]
pub struct LinuxStateFiles {
    directory: OwnedFd,
    logs: Mutex<BTreeMap<u32, Arc<OpenLog>>>,
    lock: Mutex<Option<OwnedFd>>,
}

#[derive(Debug)]
struct OpenLog {
    descriptor: OwnedFd,
    /// Keeps the pieces of a short write together.
    writing: Mutex<()>,
}

/// Why the state directory couldn't be locked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LockError {
    /// Another process has it: its id, if it could be read.
    Held(Option<u32>),
    /// The lock file couldn't be made.
    Fs(FsError),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(Some(process)) => write!(
                f,
                "the state directory is in use by process {process}: stop that agent, or give this one another stateDir"
            ),
            Self::Held(None) => f.write_str(
                "the state directory is in use by another process: stop that agent, or give this one another stateDir",
            ),
            Self::Fs(why) => write!(f, "the state directory couldn't be locked: {why}"),
        }
    }
}

impl std::error::Error for LockError {}

impl LinuxStateFiles {
    /// Opens the state directory, which must be there.
    pub fn open(directory: &Path) -> Result<Self, FsError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            directory: openat(CWD, directory, flags, Mode::empty()).map_err(error)?,
            logs: Mutex::default(),
            lock: Mutex::default(),
        })
    }

    /// Takes the directory for this process until `self` is dropped. Doesn't wait.
    pub fn lock(&self) -> Result<(), LockError> {
        let mut held = unpoisoned(&self.lock);
        if held.is_some() {
            return Ok(());
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fs = |errno| LockError::Fs(error(errno));
        let file = LinuxFile(openat(&self.directory, LOCK, flags, mode).map_err(fs)?);
        match flock(&file.0, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let contents = read_whole(&file).unwrap_or_default();
                let process = std::str::from_utf8(&contents).ok();
                return Err(LockError::Held(process.and_then(|text| text.trim().parse().ok())));
            }
            Err(errno) => return Err(fs(errno)),
        }
        // The number is for people: a failure to write it doesn't weaken the lock.
        let process = format!("{}\n", std::process::id());
        let _ = ftruncate(&file.0, 0);
        let _ = write(&file.0, process.as_bytes());
        *held = Some(file.0);
        Ok(())
    }
}

/// Nothing under our mutexes can be left half done by a panic.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check(name: &str) -> Result<(), FsError> {
    check_name(name.as_bytes())?;
    if name == LOCK || name.ends_with(UNFINISHED) {
        return Err(FsError::Denied);
    }
    Ok(())
}

impl StateFiles for LinuxStateFiles {
    fn list(&self) -> Result<Vec<String>, FsError> {
        Ok(list_names(self.directory.as_fd())?
            .into_iter()
            .filter_map(|(name, _)| String::from_utf8(name).ok())
            .filter(|name| check(name).is_ok())
            .collect())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, FsError> {
        check(name)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = openat(&self.directory, name, flags, Mode::empty()).map_err(error)?;
        read_whole(&LinuxFile(descriptor))
    }

    fn open_log(&self, name: &str) -> Result<Log, FsError> {
        check(name)?;
        // O_APPEND: each write takes the file's end under the inode's lock, the ring's writes too.
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let descriptor = openat(&self.directory, name, flags, mode).map_err(error)?;
        let log = number(&descriptor);
        let open = OpenLog { descriptor, writing: Mutex::default() };
        unpoisoned(&self.logs).insert(log, Arc::new(open));
        Ok(Log(log))
    }

    fn append(&self, log: Log, bytes: &[u8]) -> Result<(), FsError> {
        let open = unpoisoned(&self.logs).get(&log.0).cloned().ok_or(FsError::NotFound)?;
        let _writing = unpoisoned(&open.writing);
        let mut rest = bytes;
        while !rest.is_empty() {
            match write(&open.descriptor, rest) {
                Ok(0) => return Err(FsError::NoSpace),
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(error(errno)),
            }
        }
        Ok(())
    }

    fn close_log(&self, log: Log) {
        unpoisoned(&self.logs).remove(&log.0);
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FsError> {
        check(name)?;
        let temporary = format!("{name}{UNFINISHED}");
        replace_durably(self.directory.as_fd(), &temporary, name, bytes)
    }

    fn remove(&self, name: &str) -> Result<(), FsError> {
        check(name)?;
        match unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(error(errno)),
        }
    }
}

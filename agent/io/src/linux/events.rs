//! Reads what inotify has to say, and translates it.

use super::descriptor::borrowed;
use crate::{WatchEvent, WatchKind, Watcher};
use rustix::fd::RawFd;
use rustix::fs::inotify::{ReadFlags, Reader};
use rustix::io::{Errno, ioctl_fionread};
use std::mem::MaybeUninit;

/// Bytes read at once. An event takes 16 bytes and its name, so this is some thousand events.
const BUFFER_BYTES: usize = 64 * 1024;

/// The buffer that one reading fills.
pub(super) struct EventBuffer(Box<[MaybeUninit<u8>]>);

impl EventBuffer {
    pub(super) fn new() -> Self {
        Self(Box::new_uninit_slice(BUFFER_BYTES))
    }

    /// Reads events that are there; to be called once the descriptor is known to be readable.
    pub(super) fn read(&mut self, watcher: Watcher) -> Result<Vec<WatchEvent>, Errno> {
        let fd = borrowed(watcher.0 as RawFd);
        let mut reader = Reader::new(fd, &mut self.0);
        let mut events = Vec::new();
        loop {
            // Only the first call reads: another could block, or bring events without end.
            let event = reader.next()?;
            let flags = event.events();
            events.push(WatchEvent {
                directory: event.wd(),
                kind: kind(flags),
                name: event.file_name().map_or_else(Vec::new, |name| name.to_bytes().to_vec()),
                is_directory: flags.contains(ReadFlags::ISDIR),
            });
            if reader.is_buffer_empty() {
                return Ok(events);
            }
        }
    }
}

/// Are there events that nobody has read? A descriptor that can't be asked counts as one that has some: the next read
/// says why.
pub(super) fn waiting(watcher: Watcher) -> bool {
    ioctl_fionread(borrowed(watcher.0 as RawFd)).map_or(true, |bytes| bytes > 0)
}

/// A mask can only hold one kind, but for `ISDIR` beside it. What we don't know must not be missed, so it means that
/// the directory has to be looked at from above.
fn kind(flags: ReadFlags) -> WatchKind {
    if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
        WatchKind::Overflow
    } else if flags.contains(ReadFlags::CREATE) {
        WatchKind::Created
    } else if flags.contains(ReadFlags::MODIFY) {
        WatchKind::Modified
    } else if flags.contains(ReadFlags::CLOSE_WRITE) {
        WatchKind::Closed
    } else if flags.contains(ReadFlags::ATTRIB) {
        WatchKind::Attributes
    } else if flags.intersects(ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO | ReadFlags::DELETE) {
        WatchKind::Moved
    } else {
        WatchKind::DirectoryGone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_isnt_known_sends_us_to_the_parent() {
        assert_eq!(kind(ReadFlags::IGNORED), WatchKind::DirectoryGone);
        assert_eq!(kind(ReadFlags::UNMOUNT), WatchKind::DirectoryGone);
        assert_eq!(kind(ReadFlags::from_bits_retain(0x0080_0000)), WatchKind::DirectoryGone);
        assert_eq!(kind(ReadFlags::CREATE | ReadFlags::ISDIR), WatchKind::Created);
        assert_eq!(kind(ReadFlags::QUEUE_OVERFLOW), WatchKind::Overflow);
    }
}

//! A simulated inotify instance: watches, and a bounded queue of what they saw.

use crate::inode::Number;
use std::collections::{BTreeMap, VecDeque};
use syncmesh_io::{WatchDescriptor, WatchEvent, WatchKind};

/// As many as Linux keeps by default (`fs.inotify.max_queued_events`).
pub(crate) const QUEUE_EVENTS: usize = 16_384;

/// What the kernel would put into the mask. Finer than [`WatchKind`], because only equal masks are merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    Create,
    Modify,
    CloseWrite,
    Attributes,
    MovedFrom,
    MovedTo,
    Delete,
    DeleteSelf,
    MoveSelf,
    Ignored,
    Overflow,
}

impl Cause {
    fn kind(self) -> WatchKind {
        match self {
            Self::Create => WatchKind::Created,
            Self::Modify => WatchKind::Modified,
            Self::CloseWrite => WatchKind::Closed,
            Self::Attributes => WatchKind::Attributes,
            Self::MovedFrom | Self::MovedTo | Self::Delete => WatchKind::Moved,
            Self::DeleteSelf | Self::MoveSelf | Self::Ignored => WatchKind::DirectoryGone,
            Self::Overflow => WatchKind::Overflow,
        }
    }
}

#[derive(Debug)]
pub(crate) struct WatchQueue {
    /// By inode: watching twice gives the same number.
    watches: BTreeMap<Number, WatchDescriptor>,
    /// Numbers aren't used again.
    last: WatchDescriptor,
    queue: VecDeque<(Cause, WatchEvent)>,
    limit: usize,
}

impl WatchQueue {
    pub(crate) fn new(limit: usize) -> Self {
        Self { watches: BTreeMap::new(), last: 0, queue: VecDeque::new(), limit }
    }

    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(crate) fn watch(&mut self, directory: Number) -> WatchDescriptor {
        if let Some(known) = self.watches.get(&directory) {
            return *known;
        }
        self.last += 1;
        self.watches.insert(directory, self.last);
        self.last
    }

    /// The inode is gone: its watch ends.
    pub(crate) fn forget(&mut self, directory: Number) {
        self.push(directory, Cause::Ignored, b"", false);
        self.watches.remove(&directory);
    }

    pub(crate) fn push(&mut self, directory: Number, cause: Cause, name: &[u8], is_directory: bool) {
        let Some(watch) = self.watches.get(&directory).copied() else {
            return;
        };
        if self.queue.len() >= self.limit {
            // One event for all that is lost until someone reads.
            if !self.queue.iter().any(|(cause, _)| *cause == Cause::Overflow) {
                self.enqueue(-1, Cause::Overflow, b"", false);
            }
            return;
        }
        let repeated = self.queue.back().is_some_and(|(last, event)| {
            *last == cause && event.directory == watch && event.name == name && event.is_directory == is_directory
        });
        if !repeated {
            self.enqueue(watch, cause, name, is_directory);
        }
    }

    fn enqueue(&mut self, directory: WatchDescriptor, cause: Cause, name: &[u8], is_directory: bool) {
        let event = WatchEvent { directory, kind: cause.kind(), name: name.to_vec(), is_directory };
        self.queue.push_back((cause, event));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn take(&mut self) -> Vec<WatchEvent> {
        self.queue.drain(..).map(|(_, event)| event).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_doesnt_fit_becomes_one_overflow() {
        let mut queue = WatchQueue::new(2);
        let watch = queue.watch(7);
        queue.push(8, Cause::Create, b"unwatched", false);
        for name in [b"a", b"b", b"c", b"d"] {
            queue.push(7, Cause::Create, name, false);
        }
        let told: Vec<_> = queue.take().into_iter().map(|event| (event.directory, event.kind)).collect();
        let created = (watch, WatchKind::Created);
        assert_eq!(told, [created, created, (-1, WatchKind::Overflow)]);
        queue.push(7, Cause::Modify, b"a", false);
        queue.push(7, Cause::Modify, b"a", false);
        assert_eq!(queue.take().len(), 1);
    }
}

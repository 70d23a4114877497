//! The thread that writes to logs, so that the loop doesn't stand still when a disk makes writers wait.

use crate::Buffer;
use crate::linux::descriptor::borrowed;
use crate::linux::flight::Work;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use rustix::io::Errno;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// One write to a log, at its end.
pub(super) struct Append {
    pub(super) number: u32,
    /// The log's descriptor, which has O_APPEND.
    pub(super) fd: RawFd,
    pub(super) buffer: Buffer,
    /// How much of the buffer is written already.
    pub(super) written: usize,
}

type Written = (Append, Result<usize, Errno>);

/// The thread and the ways to it. Each log has at most one append here, so the queues stay short.
pub(super) struct Appends {
    to_write: Option<Sender<Append>>,
    written: Receiver<Written>,
    news: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Appends {
    pub(super) fn start() -> Result<Self, Errno> {
        let news = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (to_write, appends) = channel();
        let (results, written) = channel();
        let told = Arc::clone(&news);
        let thread = std::thread::Builder::new()
            .name("append".to_owned())
            .spawn(move || work(&appends, &results, &told))
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
        Ok(Self { to_write: Some(to_write), written, news, thread: Some(thread) })
    }

    /// What becomes readable, again with each append that has ended. Nobody has to read it: an edge is enough.
    pub(super) fn news(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }

    pub(super) fn push(&self, append: Append) {
        let to_write = self.to_write.as_ref().expect("it is there until the end");
        to_write.send(append).expect("the thread ends only when this is dropped");
    }

    /// The next append that has ended.
    pub(super) fn ended(&self) -> Option<Written> {
        self.written.try_recv().ok()
    }
}

impl Drop for Appends {
    /// Waits for what is being written: afterwards its log may be closed, and its number be another file's.
    fn drop(&mut self) {
        self.to_write = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn work(appends: &Receiver<Append>, results: &Sender<Written>, news: &OwnedFd) {
    while let Ok(append) = appends.recv() {
        let result = rustix::io::write(borrowed(append.fd), Work::rest(&append.buffer, append.written));
        // Nobody listens any more at the end.
        let _ = results.send((append, result));
        let _ = rustix::io::write(news, &1_u64.to_ne_bytes());
    }
}

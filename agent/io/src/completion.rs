//! The completion interface: submit an operation, receive its completion later, from the one thread that owns the loop.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Names one submitted operation. The loop makes it (slab index and generation), a backend only carries it, so that a
/// completion that comes after its owner has gone is recognised as stale.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Token(pub u64);

/// A buffer from the loop's pool. It goes into an operation by value and comes back in the completion, error or not.
pub type Buffer = Vec<u8>;

/// A connected stream socket. Plain numbers, so that a simulated network can make them; a backend maps them to its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Socket(pub u32);

/// A listening socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Listener(pub u32);

/// A source of file-system events: what [`crate::Fs::watch_source`] gave.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Watcher(pub u32);

/// An append-only file of the state directory that is held open: what [`crate::StateFiles::open_log`] gave.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Log(pub u32);

/// Something happened below a watched directory. Events say where and when to look, never what changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatchEvent {
    /// The directory, as [`crate::Directory::watch`] numbered it. Meaningless for [`WatchKind::Overflow`].
    pub directory: crate::WatchDescriptor,
    /// What the kernel reports.
    pub kind: WatchKind,
    /// The name in that directory; empty when the event is about the directory itself.
    pub name: Vec<u8>,
    /// The name stands for a directory.
    pub is_directory: bool,
}

/// Kinds of events, as coarse as the rules need them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WatchKind {
    /// A name was made; a file is probably still being written.
    Created,
    /// Contents were written and the file may be still open.
    Modified,
    /// A file that was open for writing was closed.
    Closed,
    /// Mode, owner, times or number of names changed.
    Attributes,
    /// A name was moved here or away, exchanged or removed.
    Moved,
    /// The directory itself is gone or was moved, or its watch was lost: look at its parent.
    DirectoryGone,
    /// Events were lost: everything must be looked at.
    Overflow,
}

/// What the loop asks for.
#[derive(Debug)]
pub enum Operation {
    /// Take one connection from a listener. Completes with [`Outcome::Accepted`].
    Accept(Listener),
    /// Connect to an address. Completes with [`Outcome::Connected`].
    Connect(SocketAddr),
    /// Receive at least one byte into the buffer, at most its length. Completes with [`Outcome::Received`]; zero bytes
    /// mean that the peer has closed its side.
    Receive(Socket, Buffer),
    /// Send the whole buffer; short writes are continued by the backend. Completes with [`Outcome::Sent`].
    Send(Socket, Buffer),
    /// Complete with [`Outcome::Elapsed`] once [`Io::now`] has reached this many nanoseconds.
    Timer(u64),
    /// Wait for file-system events. Completes with [`Outcome::Watched`].
    Watch(Watcher),
    /// Append the whole buffer to a log of the state directory (not durably). Completes with [`Outcome::Appended`].
    Append(Log, Buffer),
    /// Complete with [`Outcome::Woken`] after any [`Waker::wake`] since the last such completion. One at a time.
    Wake,
}

/// How an operation ended.
#[derive(Debug)]
pub enum Outcome {
    /// A connection was accepted, from this address.
    Accepted(Result<(Socket, SocketAddr), IoError>),
    /// A connection was made.
    Connected(Result<Socket, IoError>),
    /// The buffer, and how many of its bytes were received.
    Received(Buffer, Result<usize, IoError>),
    /// The buffer, which was sent whole or not.
    Sent(Buffer, Result<(), IoError>),
    /// The timer's time has come.
    Elapsed,
    /// Events, oldest first.
    Watched(Result<Vec<WatchEvent>, IoError>),
    /// The buffer, which was appended whole or not.
    Appended(Buffer, Result<(), IoError>),
    /// Another thread called [`Waker::wake`].
    Woken,
}

/// One finished operation.
#[derive(Debug)]
pub struct Completion {
    /// The token it was submitted with.
    pub token: Token,
    /// How it ended.
    pub outcome: Outcome,
}

/// Why an operation failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IoError {
    /// The socket was closed by us, or the peer reset it, while the operation was under way.
    Closed,
    /// The operating system's reason (an errno on Unix).
    Os(i32),
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("connection closed"),
            Self::Os(code) => write!(f, "{}", std::io::Error::from_raw_os_error(*code)),
        }
    }
}

impl std::error::Error for IoError {}

/// Wakes the loop from another thread. Cheap to clone; waking twice before the loop looks is one wake-up.
#[derive(Clone)]
pub struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    /// A waker that calls `wake`, which must be quick and must not block.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// Makes a pending or later [`Operation::Wake`] complete.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// Completes operations. Completions are a FIFO which the loop drains with [`Io::completion`]; nothing calls back from
/// inside [`Io::submit`], so there is no recursion. Clocks and randomness come from here too, so that a run can be
/// repeated from its seed.
pub trait Io {
    /// Nanoseconds on a clock that never goes back and stands for this process only.
    fn now(&self) -> u64;

    /// Nanoseconds since 1970, as the wall clock has it. May jump.
    fn wall(&self) -> u64;

    /// Sixty-four unpredictable bits.
    fn random(&mut self) -> u64;

    /// Starts to listen. Returns the listener and the address it really has (port 0 picks one).
    fn listen(&mut self, address: SocketAddr) -> Result<(Listener, SocketAddr), IoError>;

    /// Starts an operation. Never fails: errors come in the completion. When the backend's queue is full the operation
    /// waits in an overflow queue.
    fn submit(&mut self, token: Token, operation: Operation);

    /// Closes a socket. Operations on it that are under way complete with [`IoError::Closed`] or what they had done,
    /// and give their buffers back.
    fn close(&mut self, socket: Socket);

    /// Hands submissions to the system and waits for at least one completion, at most `limit` (`None`: for ever;
    /// zero: only look).
    fn wait(&mut self, limit: Option<Duration>);

    /// The next completion, oldest first.
    fn completion(&mut self) -> Option<Completion>;

    /// Has something happened at a watcher that [`Io::completion`] hasn't brought yet? Whoever has written to a watched
    /// directory before it asks gets true until the event was taken.
    fn has_events(&self, watcher: Watcher) -> bool;

    /// A handle with which other threads wake this loop.
    fn waker(&self) -> Waker;

    /// The backend's name as the status prints it, such as `io_uring`.
    fn engine(&self) -> &'static str;
}

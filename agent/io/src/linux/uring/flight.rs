//! Operations that the kernel may be working on. What it reads or writes (buffers, addresses) is owned here, at
//! addresses that don't change, and isn't freed before its completion has come.

use crate::{Buffer, Listener, Log, Socket, Token, Watcher};
use io_uring::{opcode, squeue, types};
use rustix::event::PollFlags;
use rustix::fd::{AsRawFd, OwnedFd, RawFd};
use rustix::net::{SendFlags, SocketAddrAny, SocketFlags};

/// Most bytes of one transfer, so that its length and its result fit into the kernel's 32 bits.
const TRANSFER_BYTES: usize = 1 << 30;

/// What an operation is about, with all that it owns meanwhile.
pub(super) enum Work {
    Accept(Listener),
    /// The address is boxed because the kernel reads it where it is, while this enum may move.
    Connect(OwnedFd, Box<SocketAddrAny>),
    Receive(Socket, Buffer),
    /// The number is how many bytes are sent.
    Send(Socket, Buffer, usize),
    Watch(Watcher),
    /// The number is how many bytes are written.
    Append(Log, Buffer, usize),
    Wake,
}

pub(super) struct Flight {
    pub(super) token: Token,
    pub(super) work: Work,
}

/// Operations by number. A number is reused only after its completion, so it names one operation at a time.
#[derive(Default)]
pub(super) struct Flights {
    places: Vec<Option<Flight>>,
    free: Vec<u32>,
}

impl Flights {
    pub(super) fn insert(&mut self, token: Token, work: Work) -> u32 {
        let flight = Some(Flight { token, work });
        match self.free.pop() {
            Some(number) => {
                self.places[number as usize] = flight;
                number
            }
            None => {
                self.places.push(flight);
                u32::try_from(self.places.len() - 1).expect("fewer than four billion operations fit into memory")
            }
        }
    }

    pub(super) fn get_mut(&mut self, number: u32) -> &mut Flight {
        self.places[number as usize].as_mut().expect("an operation stays until its completion has come")
    }

    pub(super) fn remove(&mut self, number: u32) -> Flight {
        self.free.push(number);
        self.places[number as usize].take().expect("an operation completes once")
    }

    /// The numbers of all operations, also of those that wait for their turn.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.places).filter(|(_, place)| place.is_some()).map(|(number, _)| number)
    }

    /// What tells the kernel to do an operation, or to go on with it. `fd` is the socket's or listener's descriptor.
    pub(super) fn entry(&mut self, number: u32, fd: Option<RawFd>) -> squeue::Entry {
        let fd = fd.map(types::Fd);
        let given = || fd.expect("the caller looks the descriptor up for operations on sockets");
        let entry = match &mut self.get_mut(number).work {
            Work::Accept(_) => {
                // The peer's address is asked for afterwards: that needs no memory that the kernel writes.
                opcode::Accept::new(given(), std::ptr::null_mut(), std::ptr::null_mut())
                    .flags(SocketFlags::CLOEXEC.bits() as i32)
                    .build()
            }
            Work::Connect(fd, address) => {
                opcode::Connect::new(types::Fd(fd.as_raw_fd()), address.as_ptr().cast(), address.addr_len()).build()
            }
            Work::Receive(_, buffer) => {
                let length = buffer.len().min(TRANSFER_BYTES) as u32;
                opcode::Recv::new(given(), buffer.as_mut_ptr(), length).build()
            }
            Work::Send(_, buffer, sent) => {
                let rest = &buffer[*sent..];
                let length = rest.len().min(TRANSFER_BYTES) as u32;
                // Newer kernels continue short sends themselves when told to wait for all.
                const WAIT_ALL: i32 = 0x100;
                opcode::Send::new(given(), rest.as_ptr(), length)
                    .flags(SendFlags::NOSIGNAL.bits() as i32 | WAIT_ALL)
                    .build()
            }
            Work::Append(log, buffer, written) => {
                let rest = &buffer[*written..];
                let length = rest.len().min(TRANSFER_BYTES) as u32;
                // Offset -1 is the file's own position, which O_APPEND puts at the end.
                opcode::Write::new(types::Fd(log.0 as RawFd), rest.as_ptr(), length).offset(u64::MAX).build()
            }
            // Readiness, not reading: inotify can't be read without blocking through a ring on older kernels.
            Work::Watch(watcher) => {
                opcode::PollAdd::new(types::Fd(watcher.0 as RawFd), u32::from(PollFlags::IN.bits())).build()
            }
            Work::Wake => opcode::PollAdd::new(given(), u32::from(PollFlags::IN.bits())).build(),
        };
        entry.user_data(u64::from(number))
    }
}

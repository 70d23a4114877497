//! Operations that are under way. What the kernel reads or writes for them (buffers, addresses) is owned here, at
//! addresses that don't change, and isn't freed before they have ended.

use crate::{Buffer, Listener, Log, Socket, Token, Watcher};
use rustix::fd::OwnedFd;
use rustix::net::SocketAddrAny;

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

impl Work {
    /// Where the next transfer may put what it receives.
    pub(super) fn space(buffer: &mut Buffer) -> &mut [u8] {
        let length = buffer.len().min(TRANSFER_BYTES);
        &mut buffer[..length]
    }

    /// What the next transfer is to send or write.
    pub(super) fn rest(buffer: &Buffer, done: usize) -> &[u8] {
        let rest = &buffer[done..];
        &rest[..rest.len().min(TRANSFER_BYTES)]
    }
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
}

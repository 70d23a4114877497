//! Connections: two ends, and between them segments on the way. Bytes arrive in order, in pieces of any size; what one end
//! may have under way is bounded, so that a peer that doesn't read holds its sender back.

use super::{Event, Network, Process};
use std::collections::VecDeque;
use syncmesh_io::{Buffer, IoError, Outcome, Token};

/// How long a system resends into silence before it gives a connection up (about tcp_retries2 of Linux).
const GIVE_UP_NS: u64 = 900_000_000_000;
/// Between a submission and the system's attention to it.
const ATTENTION_NS: (u64, u64) = (1_000, 20_000);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Reset, and not closed yet by its owner.
    Reset,
    /// Closed by its owner, or the owner is gone.
    Closed,
}

enum Segment {
    Data(Vec<u8>),
    /// The sender has closed its end.
    End,
    /// The sender has read so many bytes, and there is room for as many.
    Room(usize),
    Reset,
}

/// One end of a connection. Its number is even for the side that connected, and its peer's differs in the last bit.
pub(super) struct End {
    process: Process,
    state: State,
    receives: VecDeque<(Token, Buffer)>,
    /// With the number of bytes that are sent.
    sends: VecDeque<(Token, Buffer, usize)>,
    /// What has arrived and wasn't read yet.
    arrived: VecDeque<u8>,
    /// The peer has closed: nothing comes after what has arrived.
    ended: bool,
    /// What is on its way to this end, with the time of its arrival, in order.
    wire: VecDeque<(u64, Segment)>,
    /// Since when what should arrive here is held up by a cut.
    held_since: Option<u64>,
    /// Bytes that this end has sent and its peer hasn't read.
    under_way: usize,
}

impl End {
    fn new(process: Process) -> Self {
        Self {
            process,
            state: State::Open,
            receives: VecDeque::new(),
            sends: VecDeque::new(),
            arrived: VecDeque::new(),
            ended: false,
            wire: VecDeque::new(),
            held_since: None,
            under_way: 0,
        }
    }
}

fn peer(end: u32) -> u32 {
    end ^ 1
}

impl Network {
    /// Makes a connection; returns the connecting and the accepting end.
    pub(super) fn connect_ends(&mut self, connecting: Process, accepting: Process) -> (u32, u32) {
        let client = self.next_connection * 2;
        self.next_connection += 1;
        self.ends.insert(client, End::new(connecting));
        self.ends.insert(peer(client), End::new(accepting));
        (client, peer(client))
    }

    /// The end, if this process still has it open or reset.
    fn owned(&mut self, process: Process, end: u32) -> Option<&mut End> {
        self.ends.get_mut(&end).filter(|end| end.process == process && end.state == State::Open)
    }

    pub(super) fn receive(&mut self, process: Process, token: Token, end: u32, buffer: Buffer) {
        match self.owned(process, end) {
            Some(owned) => {
                owned.receives.push_back((token, buffer));
                self.attend(end);
            }
            None => self.complete(process, token, Outcome::Received(buffer, Err(IoError::Closed))),
        }
    }

    pub(super) fn send(&mut self, process: Process, token: Token, end: u32, buffer: Buffer) {
        match self.owned(process, end) {
            Some(owned) => {
                owned.sends.push_back((token, buffer, 0));
                self.attend(end);
            }
            None => self.complete(process, token, Outcome::Sent(buffer, Err(IoError::Closed))),
        }
    }

    fn attend(&mut self, end: u32) {
        let at = self.now + self.random.between(ATTENTION_NS.0, ATTENTION_NS.1);
        self.schedule(at, Event::Attend(end));
    }

    /// Completes what can be: receives from what has arrived, sends into the room that is there.
    pub(super) fn pump(&mut self, number: u32) {
        while let Some(end) = self.ends.get_mut(&number).filter(|end| end.state == State::Open) {
            if end.arrived.is_empty() && !end.ended {
                break;
            }
            let Some((token, mut buffer)) = end.receives.pop_front() else { break };
            let mut bytes = buffer.len().min(end.arrived.len());
            if bytes > 1 && self.random.once_in(4) {
                bytes = self.random.between(1, bytes as u64) as usize;
            }
            for (place, byte) in buffer.iter_mut().zip(end.arrived.drain(..bytes)) {
                *place = byte;
            }
            let process = end.process;
            if bytes > 0 {
                self.transmit(peer(number), Segment::Room(bytes));
            }
            self.complete(process, token, Outcome::Received(buffer, Ok(bytes)));
        }
        while let Some(end) = self.ends.get_mut(&number).filter(|end| end.state == State::Open) {
            let Some((_, buffer, sent)) = end.sends.front_mut() else { break };
            let rest = &buffer[*sent..];
            if rest.is_empty() {
                let (token, buffer, _) = end.sends.pop_front().expect("its front was there");
                let process = end.process;
                self.complete(process, token, Outcome::Sent(buffer, Ok(())));
                continue;
            }
            let room = self.settings.pipe_bytes.saturating_sub(end.under_way);
            if room == 0 {
                break;
            }
            let largest = if self.random.once_in(4) { 64 } else { 64 * 1024 };
            let bytes = (self.random.between(1, largest) as usize).min(room).min(rest.len());
            let piece = rest[..bytes].to_vec();
            *sent += bytes;
            end.under_way += bytes;
            self.transmit(peer(number), Segment::Data(piece));
        }
    }

    /// Sends a segment to an end. It arrives after all that is on the way already.
    fn transmit(&mut self, to: u32, segment: Segment) {
        let latency = self.latency();
        let Some(end) = self.ends.get_mut(&to) else { return };
        let last = end.wire.back().map_or(0, |(at, _)| *at);
        let at = last.max(self.now + latency);
        end.wire.push_back((at, segment));
        self.schedule(at, Event::Wire(to));
    }

    /// Takes in what is due at an end, unless a cut holds it up: then it is resent until the cut is healed or the
    /// sender gives up.
    pub(super) fn arrive(&mut self, to: u32) {
        loop {
            let Some(from) = self.ends.get(&peer(to)).map(|end| end.process.node) else { return };
            let Some(end) = self.ends.get_mut(&to) else { return };
            let now = self.now;
            if end.wire.front().is_none_or(|(at, _)| *at > now) {
                return;
            }
            if self.silent.contains(&(from, end.process.node)) {
                // Nobody resends a reset.
                end.wire.retain(|(at, segment)| *at > now || !matches!(segment, Segment::Reset));
                if !end.wire.is_empty() && end.held_since.is_none() {
                    end.held_since = Some(now);
                    self.schedule(now + GIVE_UP_NS, Event::GiveUp { to, since: now });
                }
                return;
            }
            let Some((_, segment)) = end.wire.pop_front() else { return };
            match (end.state, segment) {
                (State::Open, Segment::Data(bytes)) => end.arrived.extend(bytes),
                (State::Open, Segment::End) => end.ended = true,
                (State::Open, Segment::Room(bytes)) => end.under_way -= bytes,
                (State::Open, Segment::Reset) => self.reset(to),
                (State::Reset | State::Closed, Segment::Data(_)) => self.transmit(peer(to), Segment::Reset),
                (State::Reset | State::Closed, _) => {}
            }
            self.pump(to);
        }
    }

    /// An end loses its connection.
    fn reset(&mut self, number: u32) {
        if let Some(end) = self.ends.get_mut(&number).filter(|end| end.state == State::Open) {
            end.state = State::Reset;
            self.abandon(number);
        }
    }

    /// Ends all operations of an end, giving their buffers back.
    fn abandon(&mut self, number: u32) {
        let Some(end) = self.ends.get_mut(&number) else { return };
        end.arrived.clear();
        let process = end.process;
        let receives = std::mem::take(&mut end.receives);
        let sends = std::mem::take(&mut end.sends);
        for (token, buffer) in receives {
            self.complete(process, token, Outcome::Received(buffer, Err(IoError::Closed)));
        }
        for (token, buffer, _) in sends {
            self.complete(process, token, Outcome::Sent(buffer, Err(IoError::Closed)));
        }
    }

    pub(super) fn close_end(&mut self, process: Process, number: u32) {
        let Some(end) = self.ends.get_mut(&number).filter(|end| end.process == process) else { return };
        let before = std::mem::replace(&mut end.state, State::Closed);
        // As Linux does: bytes that nobody will read are worth a reset.
        let last = if end.arrived.is_empty() { Segment::End } else { Segment::Reset };
        self.abandon(number);
        if before == State::Open {
            self.transmit(peer(number), last);
        }
        self.forget_if_closed(number);
    }

    fn forget_if_closed(&mut self, number: u32) {
        let closed = |end: &u32| self.ends.get(end).is_none_or(|end| end.state == State::Closed);
        if closed(&number) && closed(&peer(number)) {
            self.ends.remove(&number);
            self.ends.remove(&peer(number));
        }
    }

    /// All ends of a process that is gone. What it had sent may be lost from any point on.
    pub(super) fn crash_ends(&mut self, process: Process) {
        let numbers: Vec<u32> =
            self.ends.iter().filter(|(_, end)| end.process == process).map(|(number, _)| *number).collect();
        for number in numbers {
            let Some(end) = self.ends.get_mut(&number) else { continue };
            let before = std::mem::replace(&mut end.state, State::Closed);
            end.receives.clear();
            end.sends.clear();
            end.arrived.clear();
            if before == State::Open {
                if let Some(other) = self.ends.get_mut(&peer(number)) {
                    let kept = self.random.between(0, other.wire.len() as u64) as usize;
                    other.wire.truncate(kept);
                }
                self.transmit(peer(number), Segment::Reset);
            }
            self.forget_if_closed(number);
        }
    }

    /// The ends at `to` of connections from `from`.
    fn ends_between(&self, from: u32, to: u32) -> Vec<u32> {
        let at = |number: u32, node: u32| self.ends.get(&number).is_some_and(|end| end.process.node == node);
        self.ends.keys().copied().filter(|number| at(*number, to) && at(peer(*number), from)).collect()
    }

    /// Resets all connections between two nodes, at both ends.
    pub(super) fn reset_between(&mut self, a: u32, b: u32) {
        for number in self.ends_between(a, b) {
            for end in [number, peer(number)] {
                if let Some(end) = self.ends.get_mut(&end) {
                    end.wire.clear();
                }
                self.reset(end);
            }
        }
    }

    /// What was held up between two nodes is resent.
    pub(super) fn resend(&mut self, from: u32, to: u32) {
        for number in self.ends_between(from, to) {
            let at = self.now + self.latency();
            if let Some(end) = self.ends.get_mut(&number)
                && end.held_since.take().is_some()
            {
                self.schedule(at, Event::Wire(number));
            }
        }
    }

    /// The sender of what is held up since then gives the connection up.
    pub(super) fn give_up(&mut self, to: u32, since: u64) {
        if let Some(end) = self.ends.get_mut(&to).filter(|end| end.held_since == Some(since)) {
            end.wire.clear();
            end.held_since = None;
            self.reset(peer(to));
        }
    }
}

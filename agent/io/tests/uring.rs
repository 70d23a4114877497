//! The suite of every `Io`, on a small ring, loopback and real files; and what only a ring must answer for.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use syncmesh_io::linux::Uring;
use syncmesh_io::suite::{self, World};
use syncmesh_io::{Io, Log, Operation, Outcome, Token, Watcher};

struct Linux {
    directory: tempfile::TempDir,
    logs: Vec<(Log, PathBuf, File)>,
    inotify: Option<OwnedFd>,
}

fn linux() -> Linux {
    Linux { directory: tempfile::tempdir().unwrap(), logs: Vec::new(), inotify: None }
}

impl World for Linux {
    type Backend = Uring;

    fn backend(&mut self) -> Uring {
        // Eight entries, so that the overflow queue has work.
        Uring::new(8).unwrap_or_else(|error| panic!("{error}"))
    }

    fn refusing_address(&mut self) -> SocketAddr {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
    }

    fn log(&mut self) -> Log {
        let path = self.directory.path().join(format!("log{}", self.logs.len()));
        let file = File::options().append(true).create_new(true).open(&path).unwrap();
        let log = Log(file.as_raw_fd() as u32);
        self.logs.push((log, path, file));
        log
    }

    fn logged(&mut self, log: Log) -> Vec<u8> {
        let (_, path, _) = self.logs.iter().find(|(other, ..)| *other == log).unwrap();
        std::fs::read(path).unwrap()
    }

    fn watcher(&mut self) -> Watcher {
        let watched = self.directory.path().join("watched");
        std::fs::create_dir(&watched).unwrap();
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        let wanted = WatchFlags::CREATE | WatchFlags::CLOSE_WRITE | WatchFlags::MODIFY | WatchFlags::DELETE;
        inotify::add_watch(&fd, &watched, wanted).unwrap();
        let watcher = Watcher(fd.as_raw_fd() as u32);
        self.inotify = Some(fd);
        watcher
    }

    fn write_file(&mut self, name: &str) {
        std::fs::write(self.directory.path().join("watched").join(name), "contents").unwrap();
    }

    fn remove_file(&mut self, name: &str) {
        std::fs::remove_file(self.directory.path().join("watched").join(name)).unwrap();
    }
}

#[test]
fn timers_elapse_in_order_and_never_early() {
    suite::timers_elapse_in_order_and_never_early(linux());
}

#[test]
fn waiting_ends_at_its_limit() {
    suite::waiting_ends_at_its_limit(linux());
}

#[test]
fn what_is_sent_is_received() {
    suite::what_is_sent_is_received(linux());
}

#[test]
fn one_socket_keeps_its_order() {
    suite::one_socket_keeps_its_order(linux());
}

#[test]
fn more_operations_than_the_ring_holds() {
    suite::more_operations_than_the_ring_holds(linux());
}

#[test]
fn nobody_listening_refuses() {
    suite::nobody_listening_refuses(linux());
}

#[test]
fn closing_gives_buffers_back() {
    suite::closing_gives_buffers_back(linux());
}

#[test]
fn closing_ends_a_send_that_is_held_back() {
    suite::closing_ends_a_send_that_is_held_back(linux());
}

#[test]
fn a_closed_peer_reads_as_zero_bytes() {
    suite::a_closed_peer_reads_as_zero_bytes(linux());
}

#[test]
fn wake_ups_coalesce() {
    suite::wake_ups_coalesce(linux());
}

#[test]
fn appends_keep_their_order() {
    suite::appends_keep_their_order(linux());
}

#[test]
fn watches_report_what_happens() {
    suite::watches_report_what_happens(linux());
}

#[test]
fn random_numbers_differ() {
    suite::random_numbers_differ(linux());
}

#[test]
fn another_thread_wakes_a_loop_that_waits_for_ever() {
    let mut io = linux().backend();
    let waker = io.waker();
    io.submit(Token(1), Operation::Wake);
    std::thread::scope(|scope| {
        scope.spawn(move || waker.wake());
        io.wait(None);
    });
    assert!(matches!(io.completion().unwrap().outcome, Outcome::Woken));
}

#[test]
fn a_ring_can_be_dropped_with_operations_under_way() {
    let mut world = linux();
    let mut server = world.backend();
    let mut client = world.backend();
    let (listener, address) = server.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    server.submit(Token(1), Operation::Accept(listener));
    client.submit(Token(2), Operation::Connect(address));
    client.wait(None);
    server.wait(None);
    let Outcome::Connected(Ok(socket)) = client.completion().unwrap().outcome else { panic!("not connected") };
    for token in 0..20 {
        client.submit(Token(token), Operation::Receive(socket, vec![0; 1000]));
        client.submit(Token(token), Operation::Wake);
        server.submit(Token(token), Operation::Accept(listener));
    }
    client.wait(Some(std::time::Duration::ZERO));
    drop(client);
    drop(server);
}

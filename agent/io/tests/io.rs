//! The suite of every `Io`, on each engine, with loopback and real files; and what only Linux must answer for.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use rustix::net::sockopt;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;
use syncmesh_io::linux::LinuxIo;
use syncmesh_io::suite::{self, World};
use syncmesh_io::{Io, IoError, Log, Operation, Outcome, Socket, Token, Watcher};

type Make = fn() -> LinuxIo;

/// Eight entries in the ring, so that its overflow queue has work.
const ENGINES: [Make; 2] = [
    || LinuxIo::on_uring(8).unwrap_or_else(|error| panic!("{error}")),
    || LinuxIo::on_epoll().unwrap_or_else(|error| panic!("{error}")),
];

struct Linux {
    make: Make,
    directory: tempfile::TempDir,
    logs: Vec<(Log, PathBuf, File)>,
    inotify: Option<OwnedFd>,
}

fn on_each_engine(case: fn(Linux)) {
    for make in ENGINES {
        println!("on {}", make().engine());
        case(Linux { make, directory: tempfile::tempdir().unwrap(), logs: Vec::new(), inotify: None });
    }
}

impl World for Linux {
    type Backend = LinuxIo;

    fn backend(&mut self) -> LinuxIo {
        (self.make)()
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
        let fd = inotify::init(CreateFlags::CLOEXEC).unwrap();
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
    on_each_engine(suite::timers_elapse_in_order_and_never_early);
}

#[test]
fn waiting_ends_at_its_limit() {
    on_each_engine(suite::waiting_ends_at_its_limit);
}

#[test]
fn what_is_sent_is_received() {
    on_each_engine(suite::what_is_sent_is_received);
}

#[test]
fn one_socket_keeps_its_order() {
    on_each_engine(suite::one_socket_keeps_its_order);
}

#[test]
fn what_is_left_is_received_later() {
    on_each_engine(suite::what_is_left_is_received_later);
}

#[test]
fn both_directions_go_on_at_once() {
    on_each_engine(suite::both_directions_go_on_at_once);
}

#[test]
fn connections_wait_to_be_accepted() {
    on_each_engine(suite::connections_wait_to_be_accepted);
}

#[test]
fn later_connections_are_their_own() {
    on_each_engine(suite::later_connections_are_their_own);
}

#[test]
fn more_operations_than_the_ring_holds() {
    on_each_engine(suite::more_operations_than_the_ring_holds);
}

#[test]
fn nobody_listening_refuses() {
    on_each_engine(suite::nobody_listening_refuses);
}

#[test]
fn closing_gives_buffers_back() {
    on_each_engine(suite::closing_gives_buffers_back);
}

#[test]
fn closing_ends_a_send_that_is_held_back() {
    on_each_engine(suite::closing_ends_a_send_that_is_held_back);
}

#[test]
fn a_closed_peer_reads_as_zero_bytes() {
    on_each_engine(suite::a_closed_peer_reads_as_zero_bytes);
}

#[test]
fn wake_ups_coalesce() {
    on_each_engine(suite::wake_ups_coalesce);
}

#[test]
fn appends_keep_their_order() {
    on_each_engine(suite::appends_keep_their_order);
}

#[test]
fn watches_report_what_happens() {
    on_each_engine(suite::watches_report_what_happens);
}

#[test]
fn random_numbers_differ() {
    on_each_engine(suite::random_numbers_differ);
}

#[test]
fn another_thread_wakes_a_loop_that_waits_for_ever() {
    for make in ENGINES {
        let mut io = make();
        let waker = io.waker();
        io.submit(Token(1), Operation::Wake);
        std::thread::scope(|scope| {
            scope.spawn(move || waker.wake());
            io.wait(None);
        });
        assert!(matches!(io.completion().unwrap().outcome, Outcome::Woken));
    }
}

#[test]
fn a_backend_can_be_dropped_with_operations_under_way() {
    on_each_engine(|mut world| {
        let mut server = world.backend();
        let mut client = world.backend();
        let log = world.log();
        let (listener, address) = server.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        server.submit(Token(1), Operation::Accept(listener));
        client.submit(Token(2), Operation::Connect(address));
        client.wait(None);
        server.wait(None);
        let Outcome::Connected(Ok(socket)) = client.completion().unwrap().outcome else { panic!("not connected") };
        for token in 0..20 {
            client.submit(Token(token), Operation::Receive(socket, vec![0; 1000]));
            client.submit(Token(token), Operation::Append(log, vec![0; 100_000]));
            server.submit(Token(token), Operation::Accept(listener));
        }
        client.submit(Token(20), Operation::Wake);
        client.wait(Some(Duration::ZERO));
        drop(client);
        drop(server);
    });
}

/// A connection from a backend to a plain socket, whose other end does what a backend doesn't.
fn to_plain_socket(io: &mut LinuxIo) -> (Socket, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    io.submit(Token(1), Operation::Connect(listener.local_addr().unwrap()));
    let Outcome::Connected(Ok(socket)) = next(io) else { panic!("not connected") };
    (socket, listener.accept().unwrap().0)
}

/// The next outcome.
fn next(io: &mut LinuxIo) -> Outcome {
    loop {
        if let Some(completion) = io.completion() {
            return completion.outcome;
        }
        io.wait(None);
    }
}

#[test]
fn a_peer_that_has_closed_one_direction_is_sent_to() {
    for make in ENGINES {
        let mut io = make();
        let (socket, mut peer) = to_plain_socket(&mut io);
        peer.write_all(b"last words").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        for expected in [10, 0, 0] {
            io.submit(Token(2), Operation::Receive(socket, vec![0; 100]));
            let Outcome::Received(_, Ok(received)) = next(&mut io) else { panic!("not received") };
            assert_eq!(received, expected);
        }
        io.submit(Token(3), Operation::Send(socket, vec![7; 1 << 20]));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut all = vec![0; 1 << 20];
                peer.read_exact(&mut all).unwrap();
                all
            });
            assert!(matches!(next(&mut io), Outcome::Sent(_, Ok(()))));
            assert_eq!(reader.join().unwrap(), vec![7; 1 << 20]);
        });
    }
}

#[test]
fn a_reset_ends_what_is_under_way() {
    for make in ENGINES {
        let mut io = make();
        let (socket, peer) = to_plain_socket(&mut io);
        io.submit(Token(2), Operation::Receive(socket, vec![0; 100]));
        io.wait(Some(Duration::ZERO));
        // Without lingering the end is a reset (socket(7)).
        sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
        drop(peer);
        assert!(matches!(next(&mut io), Outcome::Received(_, Err(IoError::Closed))));
        io.submit(Token(3), Operation::Send(socket, vec![0; 100]));
        assert!(matches!(next(&mut io), Outcome::Sent(_, Err(IoError::Closed))));
    }
}

#[test]
fn a_log_that_cannot_be_written_says_why_and_keeps_no_other_back() {
    on_each_engine(|mut world| {
        let mut io = world.backend();
        let full = File::options().append(true).open("/dev/full").unwrap();
        let log = world.log();
        io.submit(Token(1), Operation::Append(Log(full.as_raw_fd() as u32), vec![1; 10]));
        let Outcome::Appended(buffer, Err(why)) = next(&mut io) else { panic!("appended") };
        assert_eq!((buffer, why), (vec![1; 10], IoError::Os(Errno::NOSPC.raw_os_error())));
        io.submit(Token(2), Operation::Append(log, vec![2; 10]));
        assert!(matches!(next(&mut io), Outcome::Appended(_, Ok(()))));
        assert_eq!(world.logged(log), [2; 10]);
    });
}

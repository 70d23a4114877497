//! A process without descriptors left: what needs one fails with the reason, and goes on once there is one again. Alone in
//! its process, because the limit is the process's.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use syncmesh_io::linux::LinuxIo;
use syncmesh_io::{Io, IoError, Operation, Outcome, Token};

/// Submits an operation that completes as the next one.
fn run(io: &mut LinuxIo, operation: Operation) -> Outcome {
    io.submit(Token(1), operation);
    loop {
        io.wait(None);
        if let Some(completion) = io.completion() {
            return completion.outcome;
        }
    }
}

#[test]
fn without_descriptors_connecting_and_accepting_fail_with_the_reason_and_work_again_later() {
    let before = getrlimit(Resource::Nofile);
    for mut io in [LinuxIo::on_uring(8).unwrap_or_else(|error| panic!("{error}")), LinuxIo::on_epoll().unwrap()] {
        let (listener, address) = io.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let peer = TcpStream::connect(address).unwrap();
        let lowest_free = File::open("/dev/null").map(|file| std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap();
        setrlimit(Resource::Nofile, Rlimit { current: Some(lowest_free as u64), ..before }).unwrap();
        let none_left = IoError::Os(Errno::MFILE.raw_os_error());
        let Outcome::Accepted(Err(why)) = run(&mut io, Operation::Accept(listener)) else { panic!("accepted") };
        assert_eq!(why, none_left);
        let Outcome::Connected(Err(why)) = run(&mut io, Operation::Connect(address)) else { panic!("connected") };
        assert_eq!(why, none_left);

        setrlimit(Resource::Nofile, before).unwrap();
        let Outcome::Accepted(Ok((_, from))) = run(&mut io, Operation::Accept(listener)) else { panic!("refused") };
        assert_eq!(from, peer.local_addr().unwrap(), "it has waited");
    }
}

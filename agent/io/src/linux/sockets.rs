//! Makes sockets, and says what their errors mean.

use crate::IoError;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use std::net::SocketAddr;

/// Connections that the kernel accepts ahead of us.
const BACKLOG: i32 = 128;

/// What the errno of a socket means for its owner.
pub(super) fn failure(errno: Errno) -> IoError {
    match errno {
        Errno::CONNRESET | Errno::PIPE | Errno::CANCELED => IoError::Closed,
        other => IoError::Os(other.raw_os_error()),
    }
}

/// A socket for connections to or from an address. Whether it blocks depends on the engine.
pub(super) fn stream(address: SocketAddr, flags: SocketFlags) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | flags, None)
}

/// A listening socket, and the address it really has.
pub(super) fn listening(address: SocketAddr, flags: SocketFlags) -> Result<(OwnedFd, SocketAddr), Errno> {
    let fd = stream(address, flags)?;
    // A restarted agent gets its port back while old connections linger.
    sockopt::set_socket_reuseaddr(&fd, true)?;
    net::bind(&fd, &address)?;
    net::listen(&fd, BACKLOG)?;
    let address = SocketAddr::try_from(net::getsockname(&fd)?)?;
    Ok((fd, address))
}

/// The address of a connected socket's other end.
pub(super) fn peer(fd: &OwnedFd) -> Result<SocketAddr, Errno> {
    net::getpeername(fd).and_then(|any| SocketAddr::try_from(any.ok_or(Errno::NOTCONN)?))
}

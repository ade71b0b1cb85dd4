//! A netlink socket of the routing family (netlink(7), rtnetlink(7)): bytes out, bytes in.

use super::process::{CLONE_NEWNET, setns};
use super::{Errno, Result, check, fs, retry};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// In our network namespace, to which it stays bound whatever namespace we enter later.
pub fn route_socket() -> Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) })?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What [`route_socket_in`] came to.
pub enum Visit {
    Done(OwnedFd),
    /// The call so named failed; we are where we were.
    Failed(&'static str, Errno),
    /// We could not come back: this process must not go on.
    Stranded(Errno),
}

/// The same in the network namespace `target`, which we enter for this one call.
pub fn route_socket_in(target: BorrowedFd) -> Visit {
    let back = match fs::openat(fs::CWD, c"/proc/self/ns/net", libc::O_RDONLY, 0) {
        Ok(fd) => fd,
        Err(e) => return Visit::Failed("open", e),
    };
    if let Err(e) = setns(target, CLONE_NEWNET) {
        return Visit::Failed("setns", e);
    }
    let socket = route_socket();
    match (setns(back.as_fd(), CLONE_NEWNET), socket) {
        (Err(e), _) => Visit::Stranded(e),
        (Ok(()), Err(e)) => Visit::Failed("socket", e),
        (Ok(()), Ok(socket)) => Visit::Done(socket),
    }
}

/// Send `message` to the kernel, which a socket without a peer talks to.
pub fn send(socket: BorrowedFd, message: &[u8]) -> Result<()> {
    // SAFETY: `message` is readable for its length.
    retry(|| check(unsafe { libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) })).map(drop)
}

/// The kernel's next datagram in `buffer`; EMSGSIZE where it is longer. What others than the kernel send is passed over.
pub fn receive(socket: BorrowedFd, buffer: &mut [u8]) -> Result<usize> {
    loop {
        let mut from = MaybeUninit::<libc::sockaddr_nl>::zeroed();
        let mut length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        let n = retry(|| {
            // SAFETY: the buffer and the address are writable for the lengths given. With MSG_TRUNC the result is the
            // datagram's own length, but no more than the buffer's is written.
            check(unsafe {
                libc::recvfrom(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_TRUNC, from.as_mut_ptr().cast(), &mut length)
            })
        })?;
        // SAFETY: zeroed, so valid whatever the kernel filled.
        if unsafe { from.assume_init() }.nl_pid != 0 {
            continue;
        }
        let n = n as usize;
        return if n > buffer.len() { Err(Errno(libc::EMSGSIZE)) } else { Ok(n) };
    }
}

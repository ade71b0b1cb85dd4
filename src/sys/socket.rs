//! Unix sockets with descriptors in their messages (unix(7), SCM_RIGHTS).

use super::{Result, check, retry};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The kernel's limit for one message (SCM_MAX_FD).
pub const MAX_FDS: usize = 253;

/// A connected SOCK_SEQPACKET pair, CLOEXEC.
pub fn seqpacket_pair() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for two; both are new and ours.
    unsafe {
        check(libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// Room for one control message with [`MAX_FDS`] descriptors, aligned as cmsghdr wants.
#[repr(align(8))]
struct Control([u8; 16 + 4 * MAX_FDS + 4]);

/// sendmsg(2) of `data` and `fds` (at most [`MAX_FDS`]); no SIGPIPE.
pub fn send(socket: BorrowedFd, data: &[u8], fds: &[RawFd]) -> Result<()> {
    let mut control = Control([0; 16 + 4 * MAX_FDS + 4]);
    let mut iov = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: all zero is a valid msghdr.
    let mut msg: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    msg.msg_iov = &mut iov;
    msg.msg_iovlen = 1;
    if !fds.is_empty() {
        let bytes = size_of_val(fds) as u32;
        msg.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute; the control buffer has room for MAX_FDS descriptors.
        unsafe {
            msg.msg_controllen = libc::CMSG_SPACE(bytes) as _;
            let header = libc::CMSG_FIRSTHDR(&msg);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(bytes) as _;
            std::ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), libc::CMSG_DATA(header), bytes as usize);
        }
    }
    // SAFETY: `msg` points to valid buffers that outlive the call.
    retry(|| check(unsafe { libc::sendmsg(socket.as_raw_fd(), &msg, libc::MSG_NOSIGNAL) })).map(drop)
}

/// recvmsg(2): the bytes received (0 at the end of the stream), and descriptors (CLOEXEC) into `fds`; how many came.
pub fn recv(socket: BorrowedFd, data: &mut [u8], fds: &mut [Option<OwnedFd>]) -> Result<(usize, usize)> {
    let mut control = Control([0; 16 + 4 * MAX_FDS + 4]);
    let mut iov = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    // SAFETY: all zero is a valid msghdr.
    let mut msg: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    msg.msg_iov = &mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control.0.as_mut_ptr().cast();
    msg.msg_controllen = control.0.len() as _;
    // SAFETY: `msg` points to valid buffers that outlive the call.
    let n = retry(|| check(unsafe { libc::recvmsg(socket.as_raw_fd(), &mut msg, libc::MSG_CMSG_CLOEXEC) }))?;
    let mut count = 0;
    // SAFETY: the kernel filled msg_control; CMSG_* walk it within msg_controllen. Each descriptor is new and ours.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&msg);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                for i in 0..bytes / size_of::<RawFd>() {
                    let fd = libc::CMSG_DATA(header).cast::<RawFd>().add(i).read_unaligned();
                    let fd = OwnedFd::from_raw_fd(fd);
                    if let Some(slot) = fds.get_mut(count) {
                        *slot = Some(fd);
                        count += 1;
                    }
                }
            }
            header = libc::CMSG_NXTHDR(&msg, header);
        }
    }
    Ok((n as usize, count))
}

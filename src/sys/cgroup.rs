//! What the cgroup code needs of the kernel beyond reading and writing files: the kind of a file system, and the three
//! ways in which the kernel tells of a change (eventfd, inotify, POLLPRI on a kernfs file).

use super::{Result, check, retry};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// statfs(2): the magic number of the file system at `path`.
pub fn statfs_magic(path: &CStr) -> Result<u32> {
    // SAFETY: `statfs` is plain old data, for which all zeroes is a value.
    let mut out: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is a valid C string and `out` is writable.
    retry(|| check(unsafe { libc::statfs(path.as_ptr(), &mut out) }))?;
    // The type of f_type differs between C libraries; a magic number has 32 bits everywhere.
    Ok(out.f_type as u32)
}

/// eventfd(2), CLOEXEC and non-blocking, at zero.
pub fn eventfd() -> Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the kernel has just made it, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// inotify_init1(2), CLOEXEC and non-blocking.
pub fn inotify() -> Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) })?;
    // SAFETY: the kernel has just made it, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// inotify_add_watch(2) for modifications of `path`.
pub fn inotify_watch_changes(inotify: BorrowedFd, path: &CStr) -> Result<i32> {
    // SAFETY: `path` is a valid C string.
    check(unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), libc::IN_MODIFY) })
}

/// Wait until a kernfs file changes after it was last read, or `timeout` milliseconds pass: false.
///
/// POLLPRI alone: such a file is always readable, so POLLIN would return at once.
pub fn poll_change(file: BorrowedFd, timeout: i32) -> Result<bool> {
    let mut polled = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLPRI, revents: 0 };
    // SAFETY: `polled` is one valid entry.
    let ready = retry(|| check(unsafe { libc::poll(&mut polled, 1, timeout) }))?;
    Ok(ready > 0)
}

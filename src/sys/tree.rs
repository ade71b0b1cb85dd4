//! What making and changing a tree of files by descriptor takes beyond [`super::fs`].

use super::{Result, check, retry};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A time as the kernel keeps it: seconds since 1970 (before it: negative) and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

impl Time {
    /// What `stat` says of the last change of the content.
    pub fn modified(stat: &libc::stat) -> Time {
        Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 }
    }

    pub fn accessed(stat: &libc::stat) -> Time {
        Time { seconds: stat.st_atime, nanoseconds: stat.st_atime_nsec as u32 }
    }

    fn timespec(self) -> libc::timespec {
        libc::timespec { tv_sec: self.seconds, tv_nsec: self.nanoseconds.into() }
    }
}

/// utimensat(2) on an open file.
pub fn set_times(fd: BorrowedFd, accessed: Time, modified: Time) -> Result<()> {
    let times = [accessed.timespec(), modified.timespec()];
    // SAFETY: `times` has the two that the call reads.
    check(unsafe { libc::futimens(fd.as_raw_fd(), times.as_ptr()) }).map(drop)
}

/// utimensat(2) on `name`, which is not followed.
pub fn set_times_at(dir: BorrowedFd, name: &CStr, accessed: Time, modified: Time) -> Result<()> {
    let times = [accessed.timespec(), modified.timespec()];
    // SAFETY: `name` is a valid C string, `times` has the two that the call reads.
    check(unsafe { libc::utimensat(dir.as_raw_fd(), name.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) }).map(drop)
}

/// linkat(2); a symlink at `from` gets the link itself.
pub fn linkat(from_dir: BorrowedFd, from: &CStr, dir: BorrowedFd, name: &CStr) -> Result<()> {
    // SAFETY: both are valid C strings.
    check(unsafe { libc::linkat(from_dir.as_raw_fd(), from.as_ptr(), dir.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

/// renameat(2).
pub fn renameat(from_dir: BorrowedFd, from: &CStr, dir: BorrowedFd, name: &CStr) -> Result<()> {
    // SAFETY: both are valid C strings.
    check(unsafe { libc::renameat(from_dir.as_raw_fd(), from.as_ptr(), dir.as_raw_fd(), name.as_ptr()) }).map(drop)
}

/// linkat(2) of what `path` leads to: as /proc/self/fd/N, an open file that has no name yet (O_TMPFILE).
pub fn link_followed(path: &CStr, dir: BorrowedFd, name: &CStr) -> Result<()> {
    // SAFETY: both are valid C strings.
    check(unsafe { libc::linkat(libc::AT_FDCWD, path.as_ptr(), dir.as_raw_fd(), name.as_ptr(), libc::AT_SYMLINK_FOLLOW) }).map(drop)
}

/// fchmodat(2), which follows a symlink: only for what is known to be none.
pub fn chmodat(dir: BorrowedFd, name: &CStr, mode: u32) -> Result<()> {
    // SAFETY: `name` is a valid C string.
    check(unsafe { libc::fchmodat(dir.as_raw_fd(), name.as_ptr(), mode, 0) }).map(drop)
}

/// ftruncate(2).
pub fn set_length(fd: BorrowedFd, length: i64) -> Result<()> {
    // SAFETY: no memory is involved.
    retry(|| check(unsafe { libc::ftruncate(fd.as_raw_fd(), length) })).map(drop)
}

/// lseek(2) from the start.
pub fn seek(fd: BorrowedFd, offset: i64) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::lseek(fd.as_raw_fd(), offset, libc::SEEK_SET) }).map(drop)
}

/// syncfs(2): all of the file system that `fd` is on.
pub fn sync_filesystem(fd: BorrowedFd) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syncfs(fd.as_raw_fd()) }).map(drop)
}

/// lsetxattr(2), which has no descriptor to start from: `name` in the working directory, not followed.
pub fn set_xattr_in_cwd(name: &CStr, key: &CStr, value: &[u8]) -> Result<()> {
    // SAFETY: both are valid C strings, `value` is readable for its length.
    check(unsafe { libc::lsetxattr(name.as_ptr(), key.as_ptr(), value.as_ptr().cast(), value.len(), 0) }).map(drop)
}

/// fgetxattr(2) into `buf`; the part that was filled.
pub fn get_xattr<'b>(fd: BorrowedFd, key: &CStr, buf: &'b mut [u8]) -> Result<&'b [u8]> {
    // SAFETY: `key` is a valid C string, `buf` writable for its length.
    let n = check(unsafe { libc::fgetxattr(fd.as_raw_fd(), key.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) })?;
    Ok(&buf[..n as usize])
}

/// flistxattr(2) into `buf`: names, each ending in NUL.
pub fn list_xattrs<'b>(fd: BorrowedFd, buf: &'b mut [u8]) -> Result<&'b [u8]> {
    // SAFETY: `buf` is writable for its length.
    let n = check(unsafe { libc::flistxattr(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) })?;
    Ok(&buf[..n as usize])
}

/// fremovexattr(2).
pub fn remove_xattr(fd: BorrowedFd, key: &CStr) -> Result<()> {
    // SAFETY: `key` is a valid C string.
    check(unsafe { libc::fremovexattr(fd.as_raw_fd(), key.as_ptr()) }).map(drop)
}

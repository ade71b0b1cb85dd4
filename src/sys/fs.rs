//! Files by descriptor: openat2(2) (Linux 5.6) below a root, and the *at calls.

use super::{Errno, Result, check, retry};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The kernel's `AT_FDCWD` as a descriptor to hand to the *at calls.
pub const CWD: BorrowedFd<'static> =
    // SAFETY: AT_FDCWD is no descriptor that could be closed; borrow_raw forbids only -1.
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) };

/// openat2(2)'s RESOLVE_* bits.
pub mod resolve {
    pub const NO_XDEV: u64 = 0x01;
    pub const NO_MAGICLINKS: u64 = 0x02;
    pub const NO_SYMLINKS: u64 = 0x04;
    pub const BENEATH: u64 = 0x08;
    pub const IN_ROOT: u64 = 0x10;
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// openat2(2); O_CLOEXEC is always added. EAGAIN (a rename raced with us) is tried again.
pub fn openat2(dir: BorrowedFd, path: &CStr, flags: i32, mode: u32, resolve: u64) -> Result<OwnedFd> {
    let how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: mode.into(), resolve };
    loop {
        // SAFETY: `path` and `how` are valid for the call, the size given is the struct's.
        let ret = unsafe { libc::syscall(libc::SYS_openat2, dir.as_raw_fd(), path.as_ptr(), &how, size_of::<OpenHow>()) };
        match check(ret) {
            Err(Errno(libc::EAGAIN | libc::EINTR)) => continue,
            Err(e) => return Err(e),
            // SAFETY: a new descriptor that nobody else owns.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
        }
    }
}

/// openat(2) with O_CLOEXEC.
pub fn openat(dir: BorrowedFd, path: &CStr, flags: i32, mode: u32) -> Result<OwnedFd> {
    retry(|| {
        // SAFETY: `path` is a valid C string.
        let fd = check(unsafe { libc::openat(dir.as_raw_fd(), path.as_ptr(), flags | libc::O_CLOEXEC, mode) })?;
        // SAFETY: a new descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    })
}

pub fn mkdirat(dir: BorrowedFd, path: &CStr, mode: u32) -> Result<()> {
    // SAFETY: `path` is a valid C string.
    check(unsafe { libc::mkdirat(dir.as_raw_fd(), path.as_ptr(), mode) }).map(drop)
}

/// mknodat(2); `mode` holds the type too.
pub fn mknodat(dir: BorrowedFd, path: &CStr, mode: u32, major: u32, minor: u32) -> Result<()> {
    // SAFETY: `path` is a valid C string.
    check(unsafe { libc::mknodat(dir.as_raw_fd(), path.as_ptr(), mode, libc::makedev(major, minor)) }).map(drop)
}

pub fn symlinkat(target: &CStr, dir: BorrowedFd, path: &CStr) -> Result<()> {
    // SAFETY: both are valid C strings.
    check(unsafe { libc::symlinkat(target.as_ptr(), dir.as_raw_fd(), path.as_ptr()) }).map(drop)
}

/// readlinkat(2) into `buf`; the part that was filled.
pub fn readlinkat<'b>(dir: BorrowedFd, path: &CStr, buf: &'b mut [u8]) -> Result<&'b [u8]> {
    // SAFETY: `buf` is writable for its length.
    let n = check(unsafe { libc::readlinkat(dir.as_raw_fd(), path.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) })?;
    Ok(&buf[..n as usize])
}

/// unlinkat(2); `flags` may be AT_REMOVEDIR.
pub fn unlinkat(dir: BorrowedFd, path: &CStr, flags: i32) -> Result<()> {
    // SAFETY: `path` is a valid C string.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), path.as_ptr(), flags) }).map(drop)
}

pub fn mkfifoat(dir: BorrowedFd, path: &CStr, mode: u32) -> Result<()> {
    // SAFETY: `path` is a valid C string.
    check(unsafe { libc::mkfifoat(dir.as_raw_fd(), path.as_ptr(), mode) }).map(drop)
}

pub fn fstat(fd: BorrowedFd) -> Result<libc::stat> {
    let mut stat = MaybeUninit::uninit();
    // SAFETY: fstat fills the whole struct when it succeeds.
    unsafe {
        check(libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()))?;
        Ok(stat.assume_init())
    }
}

/// fstatat(2) with AT_SYMLINK_NOFOLLOW.
pub fn lstatat(dir: BorrowedFd, path: &CStr) -> Result<libc::stat> {
    let mut stat = MaybeUninit::uninit();
    // SAFETY: fstatat fills the whole struct when it succeeds.
    unsafe {
        check(libc::fstatat(dir.as_raw_fd(), path.as_ptr(), stat.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW))?;
        Ok(stat.assume_init())
    }
}

/// What file system `fd` is on: fstatfs(2)'s `f_type`.
#[allow(clippy::unnecessary_cast)] // musl's is unsigned
pub fn magic(fd: BorrowedFd) -> Result<i64> {
    let mut buf = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: fstatfs fills the whole struct when it succeeds.
    unsafe {
        check(libc::fstatfs(fd.as_raw_fd(), buf.as_mut_ptr()))?;
        Ok(buf.assume_init().f_type as i64)
    }
}

/// Is `fd` the root of the mount that it is in (statx(2), Linux 5.8)?
pub fn is_mount_root(fd: BorrowedFd) -> Result<bool> {
    let mut buf = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: statx fills the struct, which is valid when zeroed too.
    unsafe {
        check(libc::statx(fd.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, 0, buf.as_mut_ptr()))?;
        Ok(buf.assume_init().stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0)
    }
}

/// faccessat2(2) (Linux 5.8) with the effective ids: may we execute it?
pub fn may_execute(dir: BorrowedFd, path: &CStr) -> Result<()> {
    // SAFETY: `path` is a valid C string.
    check(unsafe { libc::syscall(libc::SYS_faccessat2, dir.as_raw_fd(), path.as_ptr(), libc::X_OK, libc::AT_EACCESS) }).map(drop)
}

pub fn fchdir(fd: BorrowedFd) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::fchdir(fd.as_raw_fd()) }).map(drop)
}

pub fn chdir(path: &CStr) -> Result<()> {
    // SAFETY: `path` is a valid C string.
    check(unsafe { libc::chdir(path.as_ptr()) }).map(drop)
}

pub fn chroot(path: &CStr) -> Result<()> {
    // SAFETY: `path` is a valid C string.
    check(unsafe { libc::chroot(path.as_ptr()) }).map(drop)
}

/// Is the working directory below the root? The raw getcwd(2) tells "(unreachable)" where libc's would search.
pub fn cwd_is_reachable() -> Result<bool> {
    getcwd(&mut [0; libc::PATH_MAX as usize]).map(|path| path.starts_with(b"/"))
}

/// The raw getcwd(2) into `buf`; the path without its NUL.
pub fn getcwd(buf: &mut [u8]) -> Result<&[u8]> {
    // SAFETY: `buf` is writable for its length.
    let n = check(unsafe { libc::syscall(libc::SYS_getcwd, buf.as_mut_ptr(), buf.len()) })?;
    Ok(&buf[..(n as usize).saturating_sub(1)])
}

pub fn fchown(fd: BorrowedFd, uid: u32, gid: u32) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::fchown(fd.as_raw_fd(), uid, gid) }).map(drop)
}

/// fchownat(2) without following a symlink.
pub fn lchownat(dir: BorrowedFd, path: &CStr, uid: u32, gid: u32) -> Result<()> {
    // SAFETY: `path` is a valid C string.
    check(unsafe { libc::fchownat(dir.as_raw_fd(), path.as_ptr(), uid, gid, libc::AT_SYMLINK_NOFOLLOW) }).map(drop)
}

pub fn fchmod(fd: BorrowedFd, mode: u32) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::fchmod(fd.as_raw_fd(), mode) }).map(drop)
}

/// umask(2); the previous one.
pub fn umask(mask: u32) -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::umask(mask) }
}

/// close_range(2) (Linux 5.9), both ends included; `flags` may be CLOSE_RANGE_CLOEXEC (5.11).
pub fn close_range(first: u32, last: u32, flags: u32) -> Result<()> {
    // SAFETY: the callers only set CLOEXEC, or are a child that uses none of these again and never runs a drop.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

pub fn read(fd: BorrowedFd, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: `buf` is writable for its length.
    retry(|| check(unsafe { libc::read(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) })).map(|n| n as usize)
}

/// A small file whole, as those of /proc are: three or four calls where std's `read` takes up to twelve. What doesn't
/// fit into `buf` is left out.
pub fn read_file<'b>(path: &CStr, buf: &'b mut [u8]) -> Result<&'b [u8]> {
    let file = openat(CWD, path, libc::O_RDONLY, 0)?;
    let mut filled = 0;
    while filled < buf.len() {
        match read(file.as_fd(), &mut buf[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(&buf[..filled])
}

/// realpath(3) into `buf`, so that nothing is allocated.
pub fn realpath<'b>(path: &CStr, buf: &'b mut [u8; libc::PATH_MAX as usize]) -> Result<&'b CStr> {
    // SAFETY: `path` is a C string, and the function writes at most PATH_MAX bytes, the end included.
    if unsafe { libc::realpath(path.as_ptr(), buf.as_mut_ptr().cast()) }.is_null() {
        return Err(Errno::last());
    }
    CStr::from_bytes_until_nul(buf).map_err(|_| Errno(libc::ENAMETOOLONG))
}

pub fn write(fd: BorrowedFd, buf: &[u8]) -> Result<usize> {
    // SAFETY: `buf` is readable for its length.
    retry(|| check(unsafe { libc::write(fd.as_raw_fd(), buf.as_ptr().cast(), buf.len()) })).map(|n| n as usize)
}

/// Hand up to `most` bytes of the file at `offset` to the pipe: the page cache's own pages, not a copy. splice(2).
pub fn splice(file: BorrowedFd, offset: u64, pipe: BorrowedFd, most: usize) -> Result<usize> {
    let mut offset = offset as libc::loff_t;
    let none = std::ptr::null_mut();
    // SAFETY: `offset` lives through the call; a pipe has none.
    retry(|| check(unsafe { libc::splice(file.as_raw_fd(), &mut offset, pipe.as_raw_fd(), none, most, 0) })).map(|n| n as usize)
}

/// How many bytes a pipe or fifo holds (fcntl(2) F_GETPIPE_SZ).
pub fn pipe_size(fd: BorrowedFd) -> Result<usize> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETPIPE_SZ) }).map(|n| n as usize)
}

/// Have it hold `size` bytes, which the kernel rounds up; how many it is then. fcntl(2) F_SETPIPE_SZ.
pub fn set_pipe_size(fd: BorrowedFd, size: i32) -> Result<usize> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETPIPE_SZ, size) }).map(|n| n as usize)
}

/// dup2(2): `to` becomes a copy of `from`, without CLOEXEC.
pub fn dup2(from: BorrowedFd, to: RawFd) -> Result<()> {
    // SAFETY: the callers name stdio descriptors, which nothing in the program owns.
    retry(|| check(unsafe { libc::dup2(from.as_raw_fd(), to) })).map(drop)
}

/// A pipe, CLOEXEC: (read end, write end).
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for two; both are new and ours.
    unsafe {
        check(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// How to take a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Alone, after waiting for it.
    Exclusive,
    /// With others, now or not at all (EWOULDBLOCK): to find out whether somebody has it exclusively.
    Probe,
}

/// flock(2).
pub fn flock(fd: BorrowedFd, lock: Lock) -> Result<()> {
    let how = match lock {
        Lock::Exclusive => libc::LOCK_EX,
        Lock::Probe => libc::LOCK_SH | libc::LOCK_NB,
    };
    // SAFETY: no memory is involved.
    retry(|| check(unsafe { libc::flock(fd.as_raw_fd(), how) })).map(drop)
}

/// Is there an open descriptor of this number?
pub fn is_open(number: RawFd) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::fcntl(number, libc::F_GETFD) != -1 }
}

/// getdents64(2) into `buf`; how many bytes were filled, 0 at the end.
pub fn getdents(fd: BorrowedFd, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: `buf` is writable for its length.
    check(unsafe { libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), buf.as_mut_ptr(), buf.len()) }).map(|n| n as usize)
}

/// Set or clear FD_CLOEXEC.
pub fn set_cloexec(fd: BorrowedFd, on: bool) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, if on { libc::FD_CLOEXEC } else { 0 }) }).map(drop)
}

/// Our stdin, stdout and stderr.
pub const STDIO: [BorrowedFd<'static>; 3] =
    // SAFETY: never closed by us; a caller that closed them gets EBADF from the calls.
    unsafe { [BorrowedFd::borrow_raw(0), BorrowedFd::borrow_raw(1), BorrowedFd::borrow_raw(2)] };

/// An anonymous file in memory (memfd_create(2)), CLOEXEC.
pub fn memfd(name: &CStr) -> Result<OwnedFd> {
    // SAFETY: `name` is a valid C string; the result is a new descriptor of ours.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC))?)) }
}

/// fsetxattr(2).
pub fn set_xattr(fd: BorrowedFd, name: &CStr, value: &[u8]) -> Result<()> {
    // SAFETY: `name` is a valid C string, `value` readable for its length.
    check(unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) }).map(drop)
}

/// In a child that ends in exec or `exit_now`: close its copy of a descriptor that the parent's code owns.
pub fn close_copy(fd: BorrowedFd) {
    // SAFETY: the owner's drop never runs in this process, so nothing closes or uses the number again.
    unsafe {
        libc::close(fd.as_raw_fd());
    }
}

/// pread(2) from the beginning; the part of `buf` that was filled, nothing on failure.
pub fn read_at_start<'b>(fd: BorrowedFd, buf: &'b mut [u8]) -> &'b [u8] {
    // SAFETY: `buf` is writable for its length.
    let n = unsafe { libc::pread(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), 0) };
    &buf[..n.max(0) as usize]
}

/// An anonymous file in memory that can be sealed and executed.
pub fn sealable_memfd(name: &CStr) -> Result<OwnedFd> {
    // SAFETY: `name` is a valid C string; the result is a new descriptor of ours.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING))?)) }
}

/// No write, growth or shrinking from here on, and no seal taken away (fcntl(2) F_ADD_SEALS). Not F_SEAL_WRITE, which
/// also looks for writers of before: it waits for whoever holds a page, and on a busy machine ends in EBUSY.
const SEALS: i32 = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_FUTURE_WRITE;

pub fn seal(memfd: BorrowedFd) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::fcntl(memfd.as_raw_fd(), libc::F_ADD_SEALS, SEALS) }).map(drop)
}

pub fn is_sealed(fd: BorrowedFd) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) == SEALS }
}

/// sendfile(2) until the end of `from`.
pub fn copy_all(from: BorrowedFd, to: BorrowedFd) -> Result<()> {
    const CHUNK: usize = 1 << 20;
    loop {
        // SAFETY: a null offset means the file's own.
        let n = retry(|| check(unsafe { libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), std::ptr::null_mut(), CHUNK) }))?;
        if n == 0 {
            return Ok(());
        }
    }
}

/// fstatvfs(3): is the mount, or its file system, read-only?
pub fn is_on_read_only_mount(fd: BorrowedFd) -> Result<bool> {
    let mut buf = MaybeUninit::uninit();
    // SAFETY: fstatvfs fills the whole struct when it succeeds.
    let flags = unsafe {
        check(libc::fstatvfs(fd.as_raw_fd(), buf.as_mut_ptr()))?;
        buf.assume_init().f_flag
    };
    Ok(flags & libc::ST_RDONLY != 0)
}

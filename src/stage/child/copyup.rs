//! `tmpcopyup`: what the image has at a tmpfs's destination is copied into it before it is attached.

use crate::sys::{Errno, Result, fs};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

/// Deeper trees than this are refused: each level takes stack.
const DEEPEST: u32 = 64;

/// Copy everything below `from` into `to`: names, types, modes, owners, content.
pub fn copy(from: BorrowedFd, to: BorrowedFd) -> Result<()> {
    let stat = fs::fstat(from)?;
    // A mount's descriptor is O_PATH-like; a directory opened below it can be changed.
    let to = fs::openat(to, c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    fs::fchmod(to.as_fd(), stat.st_mode & 0o7777)?;
    fs::fchown(to.as_fd(), stat.st_uid, stat.st_gid)?;
    copy_level(from, to.as_fd(), 0)
}

fn copy_level(from: BorrowedFd, to: BorrowedFd, depth: u32) -> Result<()> {
    if depth > DEEPEST {
        return Err(Errno(libc::ELOOP));
    }
    let mut buf = [0u8; 4096];
    loop {
        let filled = fs::getdents(from, &mut buf)?;
        if filled == 0 {
            return Ok(());
        }
        let mut at = 0;
        while at < filled {
            // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name.
            let length = u16::from_ne_bytes([buf[at + 16], buf[at + 17]]) as usize;
            let name = CStr::from_bytes_until_nul(&buf[at + 19..at + length]).map_err(|_| Errno(libc::EINVAL))?;
            if name != c"." && name != c".." {
                copy_entry(from, to, name, depth)?;
            }
            at += length;
        }
    }
}

fn copy_entry(from: BorrowedFd, to: BorrowedFd, name: &CStr, depth: u32) -> Result<()> {
    let stat = fs::lstatat(from, name)?;
    let mode = stat.st_mode & 0o7777;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => {
            fs::mkdirat(to, name, mode)?;
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            let (source, target) = (fs::openat(from, name, flags, 0)?, fs::openat(to, name, flags, 0)?);
            copy_level(source.as_fd(), target.as_fd(), depth + 1)?;
        }
        libc::S_IFREG => copy_file(from, to, name, mode)?,
        libc::S_IFLNK => {
            let mut target = [0u8; libc::PATH_MAX as usize];
            let most = target.len() - 1;
            fs::readlinkat(from, name, &mut target[..most])?;
            fs::symlinkat(CStr::from_bytes_until_nul(&target).map_err(|_| Errno(libc::EINVAL))?, to, name)?;
        }
        // Sockets are of the process that made them.
        libc::S_IFSOCK => return Ok(()),
        kind => fs::mknodat(to, name, kind | mode, libc::major(stat.st_rdev), libc::minor(stat.st_rdev))?,
    }
    fs::lchownat(to, name, stat.st_uid, stat.st_gid)
}

fn copy_file(from: BorrowedFd, to: BorrowedFd, name: &CStr, mode: u32) -> Result<()> {
    let source = fs::openat(from, name, libc::O_RDONLY | libc::O_NOFOLLOW, 0)?;
    let target = fs::openat(to, name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW, mode)?;
    let mut buf = [0u8; 16384];
    loop {
        let n = fs::read(source.as_fd(), &mut buf)?;
        if n == 0 {
            return Ok(());
        }
        let mut done = 0;
        while done < n {
            done += fs::write(target.as_fd(), &buf[done..n])?;
        }
    }
}

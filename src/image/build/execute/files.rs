//! A file on disk as an archive's entry, whoever may have put it there: by its directory's descriptor, never following a
//! symlink.

use crate::Result;
use crate::image::ids;
use crate::image::unpack::entry::{Entry, Kind, show};
use crate::image::unpack::is_kept;
use crate::sys::fs;
use crate::sys::tree::{self, Time};
use crate::sys::{self, Errno};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(super) const DIRECTORY: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;

pub(super) fn told<'p>(call: &'static str, doing: &'p str, path: &'p [u8]) -> impl Fn(Errno) -> crate::Error + 'p {
    move |e| e.error(call, doing, show(path))
}

pub(super) fn c_string(name: &[u8]) -> CString {
    // Names come from the kernel or from checked text; what follows a NUL would be lost.
    CString::new(name.split(|b| *b == 0).next().unwrap_or_default()).unwrap_or_default()
}

pub(super) fn kind(stat: &libc::stat) -> Option<Kind> {
    Some(match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => Kind::File,
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFLNK => Kind::Symlink,
        libc::S_IFCHR => Kind::CharDevice,
        libc::S_IFBLK => Kind::BlockDevice,
        libc::S_IFIFO => Kind::Fifo,
        _ => return None,
    })
}

/// What `name` of `dir` is, to be told of as `path`. None for a socket, which no archive has.
pub(super) fn entry(dir: BorrowedFd, name: &CStr, stat: &libc::stat, path: Vec<u8>) -> Result<Option<Entry>> {
    let Some(kind) = kind(stat) else { return Ok(None) };
    let mut entry = Entry { kind, mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, modified: Time::modified(stat), path, ..Entry::default() };
    match kind {
        Kind::Symlink => {
            let mut buffer = [0; libc::PATH_MAX as usize];
            entry.link = fs::readlinkat(dir, name, &mut buffer).map_err(told("readlinkat", "reading", &entry.path))?.to_vec();
        }
        Kind::CharDevice | Kind::BlockDevice => entry.device = (libc::major(stat.st_rdev), libc::minor(stat.st_rdev)),
        Kind::File => entry.size = stat.st_size as u64,
        _ => {}
    }
    Ok(Some(entry))
}

/// Open what was a regular file a moment ago.
pub(super) fn open_file(dir: BorrowedFd, name: &CStr, path: &[u8]) -> Result<File> {
    let failed = told("openat", "opening", path);
    let file = fs::openat(dir, name, libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY, 0).map_err(&failed)?;
    let stat = fs::fstat(file.as_fd()).map_err(&failed)?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(crate::Error::other("opening", show(path), "it was replaced while it was read"));
    }
    Ok(file.into())
}

pub(super) fn open_dir(dir: BorrowedFd, name: &CStr, path: &[u8]) -> Result<OwnedFd> {
    fs::openat(dir, name, DIRECTORY, 0).map_err(told("openat", "opening", path))
}

/// Its extended attributes by name, those of overlayfs and the host's labels left out.
pub(super) fn xattrs(fd: BorrowedFd, path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let failed = told("flistxattr", "reading the attributes of", path);
    let mut names = vec![0; 4 << 10];
    let listed = match tree::list_xattrs(fd, &mut names) {
        Err(Errno(libc::EOPNOTSUPP)) => return Ok(Vec::new()),
        Err(Errno(libc::ERANGE)) => {
            names = vec![0; 1 << 16];
            tree::list_xattrs(fd, &mut names).map_err(&failed)?
        }
        other => other.map_err(&failed)?,
    };
    let mut out = Vec::new();
    for name in listed.split(|b| *b == 0).filter(|name| !name.is_empty() && is_kept(name)) {
        let mut value = vec![0; 1 << 16];
        match tree::get_xattr(fd, &c_string(name), &mut value) {
            Ok(value) => out.push((name.to_vec(), value.to_vec())),
            Err(Errno(libc::ENODATA)) => {}
            Err(e) => return Err(failed(e)),
        }
    }
    out.sort();
    Ok(out)
}

/// The names in a directory, sorted.
pub(super) fn sorted_names(dir: BorrowedFd, path: &[u8]) -> Result<Vec<CString>> {
    let mut names = crate::image::unpack::names(dir).map_err(told("getdents64", "listing", path))?;
    names.sort();
    Ok(names)
}

pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// An attribute says that the directory hides what is below it.
pub(super) fn is_opaque(dir: BorrowedFd) -> sys::Result<bool> {
    let says = |key| match tree::get_xattr(dir, key, &mut [0; 8]) {
        Ok(value) => Ok(value == b"y"),
        Err(Errno(libc::ENODATA | libc::EOPNOTSUPP)) => Ok(false),
        Err(e) => Err(e),
    };
    Ok(says(crate::image::unpack::opaque_key())? || (!ids::ours().are_all() && says(c"user.fuseoverlayfs.opaque")?))
}

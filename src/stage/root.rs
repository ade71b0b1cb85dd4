//! Paths below the container's root, by descriptor: nothing that the rootfs holds can lead outside.
//!
//! Every lookup is openat2(2) with RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS. What is missing is made one component at a
//! time, below a descriptor of its parent. See docs/security.md for the holes that this closes.

use crate::sys::fs::{self, resolve};
use crate::sys::{Errno, Result};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a mount needs its target to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    Directory,
    File,
}

/// A path without allocation: room for PATH_MAX, always ending in NUL.
pub struct Buf {
    bytes: [u8; libc::PATH_MAX as usize],
    len: usize,
}

impl Default for Buf {
    fn default() -> Buf {
        Buf { bytes: [0; libc::PATH_MAX as usize], len: 0 }
    }
}

impl Buf {
    pub fn push(&mut self, part: &[u8]) -> Result<()> {
        let end = self.len + part.len();
        if end >= self.bytes.len() {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        self.bytes[self.len..end].copy_from_slice(part);
        self.bytes[end] = 0;
        self.len = end;
        Ok(())
    }

    pub fn from(part: &[u8]) -> Result<Buf> {
        let mut buf = Buf::default();
        buf.push(part)?;
        Ok(buf)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub fn as_cstr(&self) -> Result<&CStr> {
        CStr::from_bytes_with_nul(&self.bytes[..=self.len]).map_err(|_| Errno(libc::EINVAL))
    }
}

const IN_ROOT: u64 = resolve::IN_ROOT | resolve::NO_MAGICLINKS;
/// How many dangling symlinks are followed while a target is made.
const MOST_LINKS: u32 = 16;

/// Open `path` (relative to the root, or "") below `root`. `strict`: no symlink anywhere in it.
pub fn open(root: BorrowedFd, path: &CStr, flags: i32, strict: bool) -> Result<OwnedFd> {
    let path = if path.is_empty() { c"." } else { path };
    fs::openat2(root, path, flags, 0, IN_ROOT | if strict { resolve::NO_SYMLINKS } else { 0 })
}

/// An O_PATH descriptor of `path`, which is made (with its parents, mode 0755) where it is missing.
pub fn ensure(root: BorrowedFd, path: &CStr, want: Want, strict: bool) -> Result<OwnedFd> {
    match open(root, path, libc::O_PATH, strict) {
        Err(Errno(libc::ENOENT)) => {}
        other => return other,
    }
    match make_last(root, path, want, strict)? {
        Some(made) => Ok(made),
        None => make(root, path.to_bytes(), want, strict, 0),
    }
}

/// Make the last component of `path`, which is mostly all that is missing; None if it takes more.
fn make_last(root: BorrowedFd, path: &CStr, want: Want, strict: bool) -> Result<Option<OwnedFd>> {
    let (parent, name) = split(path)?;
    if matches!(name.to_bytes(), b"" | b"." | b"..") {
        return Ok(None);
    }
    match open(root, Buf::from(parent)?.as_cstr()?, libc::O_PATH | libc::O_DIRECTORY, strict) {
        Ok(parent) => make_one(parent.as_fd(), name, want),
        Err(_) => Ok(None),
    }
}

/// What lies before the last component of `path`, and that.
fn split(path: &CStr) -> Result<(&[u8], &CStr)> {
    let bytes = path.to_bytes_with_nul();
    let (parent, name) = match bytes.iter().rposition(|b| *b == b'/') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (&b""[..], bytes),
    };
    Ok((parent, CStr::from_bytes_with_nul(name).map_err(|_| Errno(libc::EINVAL))?))
}

/// Make the missing components of `path`, from the top. Not inlined, for its three paths on the stack.
#[inline(never)]
fn make(root: BorrowedFd, path: &[u8], want: Want, strict: bool, links: u32) -> Result<OwnedFd> {
    let mut parent = fs::openat2(root, c".", libc::O_PATH | libc::O_DIRECTORY, 0, IN_ROOT)?;
    let mut end = 0;
    while end < path.len() {
        let start = end + path[end..].iter().take_while(|b| **b == b'/').count();
        let stop = path[start..].iter().position(|b| *b == b'/').map_or(path.len(), |n| start + n);
        if start == stop {
            break;
        }
        let last = path[stop..].iter().all(|b| *b == b'/');
        let prefix = Buf::from(&path[..stop])?;
        match open(root, prefix.as_cstr()?, libc::O_PATH, strict) {
            Ok(fd) => parent = fd,
            Err(Errno(libc::ENOENT)) => {
                let name = Buf::from(&path[start..stop])?;
                let kind = if last { want } else { Want::Directory };
                match make_one(parent.as_fd(), name.as_cstr()?, kind)? {
                    Some(fd) => parent = fd,
                    None if strict || links >= MOST_LINKS => return Err(Errno(libc::ELOOP)),
                    None => return follow(root, parent.as_fd(), &path[..start], &name, &path[stop..], want, links),
                }
            }
            Err(e) => return Err(e),
        }
        end = stop;
    }
    Ok(parent)
}

/// Make `name` in `parent`; None when a dangling symlink is in the way.
fn make_one(parent: BorrowedFd, name: &CStr, want: Want) -> Result<Option<OwnedFd>> {
    let made = match want {
        Want::Directory => fs::mkdirat(parent, name, 0o755),
        Want::File => fs::openat(parent, name, libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_WRONLY, 0o644).map(drop),
    };
    match made {
        Ok(()) => {}
        Err(Errno(libc::EEXIST)) => {
            if fs::lstatat(parent, name)?.st_mode & libc::S_IFMT == libc::S_IFLNK {
                return Ok(None);
            }
        }
        Err(e) => return Err(e),
    }
    fs::openat(parent, name, libc::O_PATH | libc::O_NOFOLLOW, 0).map(Some)
}

/// The target of the dangling symlink `name` below `before`, then `rest`, made in its place (still below the root).
fn follow(root: BorrowedFd, parent: BorrowedFd, before: &[u8], name: &Buf, rest: &[u8], want: Want, links: u32) -> Result<OwnedFd> {
    let mut target = [0u8; libc::PATH_MAX as usize - 1];
    let target = fs::readlinkat(parent, name.as_cstr()?, &mut target)?;
    let mut path = Buf::default();
    if !target.starts_with(b"/") {
        path.push(before)?;
    }
    path.push(target.strip_prefix(b"/").unwrap_or(target))?;
    path.push(rest)?;
    make(root, path.as_bytes(), want, false, links + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    /// A rootfs in a directory of its own, and a marker outside that nothing may touch.
    fn rootfs(name: &str) -> (PathBuf, OwnedFd) {
        let dir = std::env::temp_dir().join(format!("dhow-root-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("rootfs")).unwrap();
        let path = CString::new(dir.join("rootfs").to_str().unwrap()).unwrap();
        let fd = fs::openat(fs::CWD, &path, libc::O_PATH | libc::O_DIRECTORY, 0).unwrap();
        (dir, fd)
    }

    #[test]
    fn missing_directories_and_files_are_made() {
        let (dir, root) = rootfs("made");
        ensure(root.as_fd(), c"a/b//c", Want::Directory, false).unwrap();
        ensure(root.as_fd(), c"etc/resolv.conf", Want::File, false).unwrap();
        assert!(dir.join("rootfs/a/b/c").is_dir());
        assert!(dir.join("rootfs/etc/resolv.conf").is_file());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn symlinks_stay_inside_even_when_they_dangle() {
        let (dir, root) = rootfs("links");
        symlink("/run", dir.join("rootfs/var")).unwrap();
        symlink("../../../../outside", dir.join("rootfs/up")).unwrap();
        ensure(root.as_fd(), c"var/lock", Want::Directory, false).unwrap();
        ensure(root.as_fd(), c"up/x", Want::File, false).unwrap();
        assert!(dir.join("rootfs/run/lock").is_dir());
        assert!(dir.join("rootfs/outside/x").is_file());
        assert!(!dir.join("outside").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_loop_of_dangling_links_ends() {
        let (dir, root) = rootfs("loop");
        symlink("b/x", dir.join("rootfs/a")).unwrap();
        symlink("a/x", dir.join("rootfs/b")).unwrap();
        assert!(ensure(root.as_fd(), c"a/y", Want::Directory, false).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn strict_refuses_symlinks() {
        let (dir, root) = rootfs("strict");
        symlink("/elsewhere", dir.join("rootfs/dev")).unwrap();
        assert_eq!(ensure(root.as_fd(), c"dev/shm", Want::Directory, true).unwrap_err(), Errno(libc::ELOOP));
        assert!(!dir.join("rootfs/elsewhere").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }
}

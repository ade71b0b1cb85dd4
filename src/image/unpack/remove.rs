//! Removing trees whose makers are strangers.
//!
//! No symlink is followed. A layer can nest directories deeper than descriptors, a stack or PATH_MAX reach, by going
//! through its own symlinks, and have more names in one than should be in memory: so what is too deep is moved up first,
//! and names are read a buffer at a time.

use super::tree::DIRECTORY;
use crate::sys::{self, Errno, fs, tree};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// So many directories within each other are open at once.
const DEEPEST: usize = 64;
const BUFFER: usize = 32 << 10;

/// Remove `name` of `dir` with all that is in it.
pub(in crate::image) fn remove(dir: BorrowedFd, name: &CStr, privileged: bool) -> sys::Result<()> {
    match fs::unlinkat(dir, name, 0) {
        // EPERM is POSIX's word for a directory.
        Err(Errno(libc::EISDIR | libc::EPERM)) => {}
        other => return other,
    }
    let top = enter(dir, name, privileged)?;
    Removal { top: top.as_fd(), moved: 0, privileged }.rest(dir, name, top.as_fd(), DEEPEST)
}

struct Removal<'a> {
    /// The directory that goes; what is too deep in it is moved here.
    top: BorrowedFd<'a>,
    /// How many names for that were tried.
    moved: u64,
    privileged: bool,
}

impl Removal<'_> {
    /// Remove the directory `name` of `dir`, which is open as `child`.
    fn rest(&mut self, dir: BorrowedFd, name: &CStr, child: BorrowedFd, left: usize) -> sys::Result<()> {
        loop {
            let found = self.empty(child, left)?;
            match fs::unlinkat(dir, name, libc::AT_REMOVEDIR) {
                // What was moved up came too late to be listed.
                Err(Errno(libc::ENOTEMPTY | libc::EEXIST)) if found => {}
                other => return other,
            }
        }
    }

    /// Remove what is in `dir`; whether there was anything.
    fn empty(&mut self, dir: BorrowedFd, left: usize) -> sys::Result<bool> {
        let mut found = false;
        for_each_buffer(dir, |names| {
            found = true;
            names.iter().try_for_each(|name| self.one(dir, name, left))
        })?;
        Ok(found)
    }

    fn one(&mut self, dir: BorrowedFd, name: &CStr, left: usize) -> sys::Result<()> {
        match fs::unlinkat(dir, name, 0) {
            Err(Errno(libc::EISDIR | libc::EPERM)) => {}
            other => return other,
        }
        if left == 0 && self.move_up(dir, name) {
            return Ok(());
        }
        let child = enter(dir, name, self.privileged)?;
        self.rest(dir, name, child.as_fd(), left.saturating_sub(1))
    }

    /// False where it can't be moved: overlayfs moves nothing that is in a lower layer, and the unpacking process may not
    /// rename. Then descriptors are the bound.
    fn move_up(&mut self, dir: BorrowedFd, name: &CStr) -> bool {
        if !self.privileged {
            // Its `..` changes, so it has to be ours to write to.
            let _ = tree::chmodat(dir, name, 0o700);
        }
        loop {
            let Ok(free) = CString::new(format!("moved-{}", self.moved)) else { return false };
            self.moved += 1;
            match tree::renameat(dir, name, self.top, &free) {
                Ok(()) => return true,
                Err(Errno(libc::EEXIST | libc::ENOTEMPTY | libc::ENOTDIR)) => {}
                Err(_) => return false,
            }
        }
    }
}

/// Open a directory that is about to be emptied.
fn enter(dir: BorrowedFd, name: &CStr, privileged: bool) -> sys::Result<OwnedFd> {
    let child = match fs::openat(dir, name, DIRECTORY | libc::O_NOFOLLOW, 0) {
        Err(Errno(libc::EACCES)) if !privileged => open_by_force(dir, name)?.0,
        other => other?,
    };
    if !privileged {
        let _ = fs::fchmod(child.as_fd(), 0o700);
    }
    Ok(child)
}

/// A directory without the permissions to enter it, as we aren't root; and its mode before that.
pub(super) fn open_by_force(parent: BorrowedFd, name: &CStr) -> sys::Result<(OwnedFd, u32)> {
    let stat = fs::lstatat(parent, name)?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
        return Err(Errno(libc::ENOTDIR));
    }
    let mode = stat.st_mode & 0o7777;
    tree::chmodat(parent, name, mode | 0o700)?;
    Ok((fs::openat(parent, name, DIRECTORY | libc::O_NOFOLLOW, 0)?, mode))
}

/// The names in a directory, without `.` and `..`.
pub(in crate::image) fn names(dir: BorrowedFd) -> sys::Result<Vec<CString>> {
    let mut out = Vec::new();
    for_each_buffer(dir, |names| {
        out.extend(names.iter().map(|name| (*name).to_owned()));
        Ok(())
    })?;
    Ok(out)
}

/// The same, as many at a time as fit into a buffer; never none.
fn for_each_buffer(dir: BorrowedFd, mut each: impl FnMut(&[&CStr]) -> sys::Result<()>) -> sys::Result<()> {
    // Of its own, so that the reading starts at the beginning.
    let dir = fs::openat(dir, c".", DIRECTORY, 0)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = fs::getdents(dir.as_fd(), &mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        // struct linux_dirent64: inode and offset of 8 bytes, the record's length of 2, a type, the name with its NUL.
        let (mut out, mut rest) = (Vec::new(), &buffer[..n]);
        while rest.len() > 19 {
            let length = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
            let name = rest.get(19..length).and_then(|text| CStr::from_bytes_until_nul(text).ok()).ok_or(Errno(libc::EIO))?;
            if name != c"." && name != c".." {
                out.push(name);
            }
            rest = &rest[length..];
        }
        if !out.is_empty() {
            each(&out)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{DirBuilder, File, Permissions, create_dir, create_dir_all, remove_dir_all, set_permissions, write};
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
    use std::path::PathBuf;

    fn place(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("dhow-remove-{name}-{}", std::process::id()));
        create_dir_all(&dir).unwrap();
        dir
    }

    /// Deeper than there are descriptors, and with the names taken that the deep ones are moved to.
    #[test]
    fn depth_is_no_bound() {
        let dir = place("deep");
        let top = dir.join("top");
        create_dir(&top).unwrap();
        write(top.join("moved-0"), "").unwrap();
        create_dir_all(top.join("moved-1/full")).unwrap();
        let mut at: OwnedFd = File::open(&top).unwrap().into();
        for _ in 0..5000 {
            fs::mkdirat(at.as_fd(), c"d", 0o755).unwrap();
            write(format!("/proc/self/fd/{}/file", std::os::fd::AsRawFd::as_raw_fd(&at)), "").unwrap();
            at = fs::openat(at.as_fd(), c"d", DIRECTORY, 0).unwrap();
        }
        remove(File::open(&dir).unwrap().as_fd(), c"top", false).unwrap();
        assert!(!top.exists());
        remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn more_names_than_a_buffer_holds() {
        let dir = place("broad");
        create_dir(dir.join("top")).unwrap();
        (0..3000).for_each(|n| write(dir.join(format!("top/{n:0>100}")), "").unwrap());
        remove(File::open(&dir).unwrap().as_fd(), c"top", true).unwrap();
        assert!(!dir.join("top").exists());
        remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn links_are_not_followed_and_modes_are_no_obstacle() {
        let dir = place("links");
        create_dir(dir.join("kept")).unwrap();
        write(dir.join("kept/file"), "").unwrap();
        create_dir(dir.join("top")).unwrap();
        symlink("../kept", dir.join("top/link")).unwrap();
        DirBuilder::new().mode(0o755).create(dir.join("top/closed")).unwrap();
        write(dir.join("top/closed/file"), "").unwrap();
        set_permissions(dir.join("top/closed"), Permissions::from_mode(0o000)).unwrap();
        remove(File::open(&dir).unwrap().as_fd(), c"top", false).unwrap();
        assert!(dir.join("kept/file").exists() && !dir.join("top").exists());
        remove_dir_all(&dir).unwrap();
    }
}

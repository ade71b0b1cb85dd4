//! The working directory, finding the program, and the exec itself.

use super::lines::each_line;
use super::{Child, Done, Fault};
use crate::stage::freeze::Exec;
use crate::stage::root::{self, Buf, Want};
use crate::stage::wire::{self, Message, Tag};
use crate::sys::process::Strings;
use crate::sys::{Errno, fs, process, signal};
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

/// How much of /etc/passwd is read; a longer one is the image's trick (CVE-2026-47262).
const PASSWD_MOST: usize = 1 << 20;

impl<'a> Child<'a> {
    pub(super) fn chdir(&mut self, path: &CStr, create: bool, denied_ok: bool) -> Done {
        // Entered and checked as root already; a seccomp filter may forbid to do it again.
        if self.cwd_entered {
            return Ok(());
        }
        match fs::chdir(path) {
            Err(Errno(libc::EACCES)) if denied_ok => return Ok(()),
            Err(Errno(libc::ENOENT)) if create => {
                let relative = path.to_bytes_with_nul();
                let slashes = relative.iter().take_while(|b| **b == b'/').count();
                let relative = CStr::from_bytes_with_nul(&relative[slashes..]).map_err(|_| Errno(libc::EINVAL))?;
                let dir = root::ensure(self.root()?, relative, Want::Directory, false)?;
                fs::fchdir(dir.as_fd())?;
            }
            other => other?,
        }
        // A leaked descriptor as working directory would be outside of the root (CVE-2024-21626).
        if !self.cwd_is_inside(path)? {
            return Err(Fault::new(Errno(libc::EXDEV), &[b"the working directory is outside of the container's root: possible container breakout"]));
        }
        self.cwd_entered = true;
        Ok(())
    }

    fn cwd_is_inside(&self, path: &CStr) -> Result<bool, Fault> {
        match fs::cwd_is_reachable() {
            // A filter that is in force already may forbid getcwd(2): then it must be what `path` is below the root.
            Err(Errno(libc::EPERM | libc::ENOSYS | libc::EACCES)) => {}
            other => return Ok(other?),
        }
        let root = fs::openat(fs::CWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
        let inside = root::open(root.as_fd(), path, libc::O_PATH | libc::O_DIRECTORY, false)?;
        let here = fs::openat(fs::CWD, c".", libc::O_PATH | libc::O_DIRECTORY, 0)?;
        let (inside, here) = (fs::fstat(inside.as_fd())?, fs::fstat(here.as_fd())?);
        Ok((inside.st_dev, inside.st_ino) == (here.st_dev, here.st_ino))
    }

    /// As execvp(3) does it, with the ids that the program will have.
    pub(super) fn find_program(&mut self, candidates: &'a [CString], has_slash: bool) -> Done {
        let mut denied = false;
        for candidate in candidates {
            match executable(candidate) {
                Ok(()) => {
                    self.program = Some(candidate);
                    return Ok(());
                }
                Err(e) if has_slash => return Err(e.into()),
                Err(Errno(libc::EACCES)) => denied = true,
                Err(_) => {}
            }
        }
        Err(Errno(if denied { libc::EACCES } else { libc::ENOENT }).into())
    }

    pub(super) fn exec(&mut self, exec: &Exec) -> Done {
        if let Some(uid) = exec.home_for_uid {
            self.fill_home(uid, &exec.envp);
        }
        let program = self.program.ok_or(Errno(libc::ENOENT))?;
        signal::default_sigpipe();
        // Else `start` could not tell the program's beginning from our death: both close the fifo.
        if let Some(fifo) = self.lines.barrier {
            wire::send(fifo, Message::new(Tag::Exec), b"")?;
        }
        Err(process::execve(program, &exec.argv, &exec.envp).into())
    }

    /// Set HOME in the slot of `envp`, if it can be found; else it stays `/`.
    pub(super) fn fill_home(&self, uid: u32, envp: &Strings) {
        let mut home = Buf::default();
        if self.find_home(uid, &mut home).is_ok() && !home.as_bytes().is_empty() {
            envp.fill(&[b"HOME=", home.as_bytes()]);
        }
    }

    /// The home directory of `uid` in the container's own /etc/passwd.
    fn find_home(&self, uid: u32, home: &mut Buf) -> Result<(), Errno> {
        let root = fs::openat(fs::CWD, c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
        let file = root::open(root.as_fd(), c"etc/passwd", libc::O_RDONLY | libc::O_NOCTTY | libc::O_NONBLOCK, false)?;
        if fs::fstat(file.as_fd())?.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(Errno(libc::EINVAL));
        }
        each_line(file.as_fd(), PASSWD_MOST, |line| {
            let mut fields = line.split(|b| *b == b':');
            let wanted = fields.nth(2).and_then(|f| std::str::from_utf8(f).ok()).and_then(|f| f.parse::<u32>().ok()) == Some(uid);
            match (wanted, fields.nth(2)) {
                (true, Some(dir)) => home.push(dir).map(|()| true),
                _ => Ok(false),
            }
        })
    }
}

/// A regular file that we may execute.
fn executable(path: &CStr) -> Result<(), Errno> {
    let file = fs::openat(fs::CWD, path, libc::O_PATH, 0)?;
    let mode = fs::fstat(file.as_fd())?.st_mode;
    if mode & libc::S_IFMT == libc::S_IFDIR {
        return Err(Errno(libc::EISDIR));
    }
    match fs::may_execute(fs::CWD, path) {
        // A seccomp profile older than the call, or a kernel: then the bits must do, and execve(2) has the last word.
        Err(Errno(libc::ENOSYS | libc::EPERM)) if mode & 0o111 != 0 => Ok(()),
        Err(Errno(libc::ENOSYS | libc::EPERM)) => Err(Errno(libc::EACCES)),
        other => other,
    }
}

//! A call of the runtime: under way, and what it came to.

use super::LIMIT;
use serde_json::Value;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// What a run of the runtime came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Outcome {
    /// It succeeded; its standard output without the last newline.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{self:?}");
        self.out.trim_end()
    }

    #[track_caller]
    pub fn code(&self, code: i32) -> &Outcome {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// It failed with `code`, and all of `words` are in what it said.
    #[track_caller]
    pub fn fails(&self, code: i32, words: &[&str]) -> &Outcome {
        assert_eq!(self.code, code, "{self:?}");
        words.iter().for_each(|word| assert!(self.err.contains(word), "{word:?} is not in: {}", self.err));
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }

    /// The same, to go on with.
    #[track_caller]
    pub fn succeeds(self) -> Outcome {
        self.ok();
        self
    }

    /// It "generates an error", as the spec has it: a status other than 0, and words on stderr.
    #[track_caller]
    pub fn refused(self) -> Outcome {
        assert!(self.code != 0 && !self.err.is_empty(), "an error is wanted: {self:?}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(self.ok()).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }
}

/// How many times longer than on a machine an end is waited for: a guest is emulated (integration/vm/test.sh).
pub fn patience() -> u32 {
    std::env::var("DHOW_TEST_PATIENCE").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Wait for `child` by its pidfd; killed and None after `limit`, with [`patience`].
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    // SAFETY: plain system call; the result is checked.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id() as libc::pid_t, 0) } as RawFd;
    assert!(pidfd >= 0, "pidfd_open: {}", std::io::Error::last_os_error());
    // SAFETY: the descriptor is new and ours.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    if readable(pidfd.as_raw_fd(), limit * patience()) {
        return Some(child.wait().unwrap());
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// Whether `fd` has something to read (or is hung up) within `limit`.
pub fn readable(fd: RawFd, limit: Duration) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd that lives through the call.
    unsafe { libc::poll(&mut poll, 1, limit.as_millis() as i32) > 0 }
}

/// Try `f` until it has an answer.
#[track_caller]
pub fn eventually<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT * patience();
    loop {
        if let Some(found) = f() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

pub fn status_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 1000 + status.signal().unwrap_or(0))
}

/// A call under way.
pub struct Running {
    pub child: Child,
    pub(super) out: PathBuf,
    pub(super) err: PathBuf,
    pub(super) said: String,
}

impl Running {
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> Outcome {
        let status = wait(&mut self.child, limit);
        let read = |p: &Path| String::from_utf8_lossy(&fs::read(p).unwrap_or_default()).into_owned();
        let (out, err) = (read(&self.out), read(&self.err));
        let status = status.unwrap_or_else(|| panic!("`{}` did not end within {limit:?}; stdout: {out:?}, stderr: {err:?}", self.said));
        Outcome { code: status_code(status), out, err }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: kill(2) of our own child, which is not reaped yet.
        unsafe { libc::kill(self.pid(), signal) };
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

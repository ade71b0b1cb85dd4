//! Being told when the OOM killer strikes in the container.
//!
//! v1: an eventfd registered with cgroup.event_control (cgroup-v1/memory.rst § 9, 10). v2: changes of memory.events
//! and cgroup.events by inotify (cgroup-v2.rst § Interface Files).

use super::{Cgroup, Version, file};
use crate::sys::{self, Errno};
use crate::{Error, Result};
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomEvent {
    /// So many times since the last call.
    Oom(u64),
    /// The container has ended; nothing will follow.
    Gone,
}

/// A source of OOM events; poll [`OomWatch::fd`] for input, then call [`OomWatch::next`].
#[derive(Debug)]
pub struct OomWatch {
    version: Version,
    dir: PathBuf,
    events: File,
    /// v1's memory.oom_control, which stays open for as long as the registration is to last.
    _registered: Option<File>,
    /// v2: how many were killed up to the last event.
    seen: u64,
}

impl Cgroup {
    /// Watch for OOM kills from now on.
    pub fn watch_oom(&self) -> Result<OomWatch> {
        let dir = self.path("memory").ok_or_else(|| Error::unsupported("watching for OOM kills", "", "the memory cgroup controller"))?;
        match self.version {
            Version::V1 => watch_v1(dir),
            Version::V2 => watch_v2(dir),
        }
    }

    /// How many processes of the container the OOM killer has ended; 0 without a memory cgroup.
    pub fn oom_kill_count(&self) -> Result<u64> {
        let Some(dir) = self.path("memory") else { return Ok(0) };
        let name = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let count = file::if_there(file::read_keyed(dir, name, "oom_kill"));
        count.map(|n| n.unwrap_or(0)).map_err(|e| file::failure(&e, "reading", dir, name))
    }
}

fn watch_v1(dir: &Path) -> Result<OomWatch> {
    let fail = |name: &'static str| move |e: std::io::Error| file::failure(&e, "watching for OOM kills by", dir, name);
    let control = File::open(dir.join("memory.oom_control")).map_err(fail("memory.oom_control"))?;
    let eventfd = sys::cgroup::eventfd().map_err(|e| e.error("eventfd", "watching for OOM kills", ""))?;
    let line = format!("{} {}", eventfd.as_raw_fd(), control.as_raw_fd());
    file::write(dir, "cgroup.event_control", &line).map_err(fail("cgroup.event_control"))?;
    Ok(OomWatch { version: Version::V1, dir: dir.into(), events: eventfd.into(), _registered: Some(control), seen: 0 })
}

fn watch_v2(dir: &Path) -> Result<OomWatch> {
    let inotify: OwnedFd = sys::cgroup::inotify().map_err(|e| e.error("inotify_init1", "watching for OOM kills", ""))?;
    for name in ["memory.events", "cgroup.events"] {
        let path = dir.join(name);
        let shown = path.display().to_string();
        let c_path = CString::new(path.as_os_str().as_bytes()).map_err(|e| Error::other("watching", &shown, e))?;
        sys::cgroup::inotify_watch_changes(inotify.as_fd(), &c_path).map_err(|e: Errno| e.error("inotify_add_watch", "watching", &shown))?;
    }
    let seen = file::read_keyed(dir, "memory.events", "oom_kill").map_err(|e| file::failure(&e, "reading", dir, "memory.events"))?;
    Ok(OomWatch { version: Version::V2, dir: dir.into(), events: inotify.into(), _registered: None, seen })
}

impl OomWatch {
    /// Readable when there is something to ask [`OomWatch::next`] for. Non-blocking.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// What has happened since the last call; None if nothing that counts.
    pub fn next(&mut self) -> Result<Option<OomEvent>> {
        let mut buffer = [0; 4096];
        let read = match self.events.read(&mut buffer) {
            Ok(n) => n,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => return Ok(None),
            Err(e) => return Err(Error::io(&e, "waiting for OOM kills in", self.dir.display().to_string())),
        };
        match self.version {
            Version::V1 => Ok(Some(self.judge_v1(&buffer[..read]))),
            Version::V2 => self.judge_v2(),
        }
    }

    /// The removal of the cgroup counts the eventfd up as well.
    fn judge_v1(&self, counter: &[u8]) -> OomEvent {
        match counter.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes)) {
            Some(count) if self.dir.join("cgroup.event_control").exists() => OomEvent::Oom(count),
            _ => OomEvent::Gone,
        }
    }

    /// Which of the two files changed does not matter: both are asked. kernfs tells of no removal, so the end is when
    /// the last process has left.
    fn judge_v2(&mut self) -> Result<Option<OomEvent>> {
        let fail = |name: &'static str| move |e: std::io::Error| (name, e);
        let counts = || -> Result<Option<(u64, u64)>, (&'static str, std::io::Error)> {
            let killed = file::if_there(file::read_keyed(&self.dir, "memory.events", "oom_kill")).map_err(fail("memory.events"))?;
            let populated = file::if_there(file::read_keyed(&self.dir, "cgroup.events", "populated")).map_err(fail("cgroup.events"))?;
            Ok(killed.zip(populated))
        };
        match counts() {
            Ok(Some((killed, _))) if killed > self.seen => {
                let new = killed - self.seen;
                self.seen = killed;
                Ok(Some(OomEvent::Oom(new)))
            }
            Ok(Some((_, populated))) => Ok((populated == 0).then_some(OomEvent::Gone)),
            Ok(None) => Ok(Some(OomEvent::Gone)),
            Err((name, e)) => Err(file::failure(&e, "reading", &self.dir, name)),
        }
    }
}

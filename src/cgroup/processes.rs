//! Who is inside, and signals to all of them.

use super::{Cgroup, Version, file};
use crate::sys::{Errno, signal};
use crate::{Error, Result};
use std::io;
use std::path::{Path, PathBuf};

impl Cgroup {
    /// The processes directly in the cgroup.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let dir = self.require_primary("listing the container's processes")?;
        of(dir).map_err(|e| file::failure(&e, "listing the processes in", dir, "cgroup.procs"))
    }

    /// The processes in the cgroup and all below it.
    pub fn all_pids(&self) -> Result<Vec<i32>> {
        let dir = self.require_primary("listing the container's processes")?;
        all(dir).map_err(|e| file::failure(&e, "listing the processes in", dir, "cgroup.procs"))
    }

    /// Send `signal` to every process in the cgroup and below it; none slips through by forking meanwhile.
    ///
    /// SIGKILL goes by cgroup.kill where there is one (Linux 5.14, also in a hybrid machine's v2 hierarchy). Else they
    /// are frozen, signalled, and thawed: frozen ones of v1 don't even die before that.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        if !self.exists() {
            return Err(Error::new(crate::Kind::NotFound, "signalling all processes of the container", "", "cgroup does not exist"));
        }
        if signal == libc::SIGKILL && self.kill_by_file()? {
            return match self.version {
                Version::V1 => self.finish_hybrid_kill(),
                Version::V2 => Ok(()),
            };
        }
        // Without a freezer, or with one that does not get there, signals still reach all that are listed.
        let frozen = self.freeze();
        let sent = self.all_pids().and_then(|pids| self.send(&pids, signal));
        match frozen {
            Ok(()) => sent.and(self.thaw()),
            Err(_) => sent,
        }
    }

    /// On a hybrid machine some may be in the v1 hierarchies only (joining the other is optional), and those that are
    /// frozen on v1 don't die before they are thawed.
    fn finish_hybrid_kill(&self) -> Result<()> {
        let sent = self.all_pids().and_then(|pids| self.send(&pids, libc::SIGKILL));
        match self.path("freezer") {
            Some(_) => sent.and(self.thaw()),
            None => sent,
        }
    }

    /// False where there is no cgroup.kill.
    fn kill_by_file(&self) -> Result<bool> {
        let Some(dir) = self.path("") else { return Ok(false) };
        match file::write(dir, "cgroup.kill", "1") {
            Ok(()) => Ok(true),
            Err(e) if file::is_gone(&e) => Ok(false),
            // A threaded cgroup can't be killed that way.
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
            Err(e) => Err(file::failure(&e, "killing all processes by", dir, "cgroup.kill")),
        }
    }

    fn send(&self, pids: &[i32], signal: i32) -> Result<()> {
        let mut failed = None;
        for &pid in pids {
            match signal::kill(pid, signal) {
                Ok(()) | Err(Errno(libc::ESRCH)) => {}
                Err(e) => failed = Some(e.error("kill", format!("sending signal {signal} to"), format!("process {pid} of the container"))),
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

/// The processes in `dir` itself.
pub fn of(dir: &Path) -> io::Result<Vec<i32>> {
    let text = match file::read(dir, "cgroup.procs") {
        // A threaded cgroup knows threads only.
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => file::read(dir, "cgroup.threads")?,
        other => other?,
    };
    // The kernel prints 0 for a process of another pid namespace. It can't be told apart from others, and as an
    // argument of kill(2) it would mean our own process group.
    Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect())
}

/// The processes in `dir` and below it. A directory below that vanishes while we walk is passed over.
pub fn all(dir: &Path) -> io::Result<Vec<i32>> {
    let mut pids = of(dir)?;
    for child in children(dir)? {
        match all(&child) {
            Ok(more) => pids.extend(more),
            Err(e) if file::is_gone(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(pids)
}

/// The cgroups directly below.
pub fn children(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

//! Putting a process into the cgroups.
//!
//! A move by `cgroup.procs` takes a lock against all forks of the machine, and on an idle machine the kernel first
//! waits for an RCU grace period: 7 to 11 ms where this was measured, against 0.3 ms for everything else. Two ways go
//! without that lock (kernel/cgroup/cgroup.c, cgroup_procs_write_start): a thread that moves *itself* by writing 0 to
//! a v1 `tasks` file, and `clone3(CLONE_INTO_CGROUP)` on v2. A child of one thread is moved whole by its only one.

use super::{Cgroup, Node, Version, file};
use crate::host::cgroup::{Layout, memberships};
use crate::sys::{self, Errno};
use crate::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

/// The open `tasks` files of the v1 hierarchies, for a child to write "0" to. CLOEXEC.
#[derive(Debug)]
pub struct SelfJoin {
    files: Vec<File>,
    paths: Vec<String>,
}

impl SelfJoin {
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.files.iter().map(|f| f.as_fd())
    }

    /// What the `n`-th of [`SelfJoin::fds`] is, for the message when the child could not write to it.
    pub fn path(&self, n: usize) -> &str {
        self.paths.get(n).map_or("", String::as_str)
    }

    /// Move the calling process, which must have one thread only. No allocation: fit for a child between clone and
    /// exec. The error tells which file, counted as in [`SelfJoin::fds`].
    pub fn enter(&self) -> Result<(), (usize, Errno)> {
        for (n, fd) in self.fds().enumerate() {
            sys::fs::write(fd, b"0").map_err(|e| (n, e))?;
        }
        Ok(())
    }
}

impl Cgroup {
    /// For a child with one thread, to move itself into the v1 hierarchies: see this module's head. Empty on v2.
    ///
    /// On a hybrid machine the v2 hierarchy is not among them, for it has no such file: use [`Cgroup::open_dir`] with
    /// CLONE_INTO_CGROUP for it.
    pub fn self_join(&self) -> Result<SelfJoin> {
        let mut join = SelfJoin { files: Vec::new(), paths: Vec::new() };
        for node in self.nodes.iter().filter(|n| !n.is_unified()) {
            match file::open_to_write(&node.path, "tasks") {
                Ok(file) => {
                    join.files.push(file);
                    join.paths.push(node.path.join("tasks").display().to_string());
                }
                Err(_) if node.is_optional() => {}
                Err(e) if self.may_pass_over(&e) => {}
                Err(e) => return Err(file::failure(&e, "unable to apply cgroup configuration: adding pid of the child to", &node.path, "tasks")),
            }
        }
        Ok(join)
    }

    /// The v2 directory, for `clone3(CLONE_INTO_CGROUP)` (Linux 5.7): also a hybrid machine's, so that the process
    /// need not be moved there. None where there is none, or on a hybrid machine where it can't be opened.
    pub fn open_dir(&self) -> Result<Option<OwnedFd>> {
        let Some(path) = self.path("") else { return Ok(None) };
        // O_PATH is enough for the kernel (cgroup_get_from_file), and asks for no permission to read.
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(dir) => Ok(Some(dir.into())),
            Err(_) if self.version == Version::V1 => Ok(None),
            Err(e) if self.may_pass_over(&e) => Ok(None),
            Err(e) => Err(Error::io(&e, "opening the cgroup", path.display().to_string())),
        }
    }

    /// Move process `pid` into all hierarchies.
    pub fn join(&self, pid: i32) -> Result<()> {
        self.nodes.iter().try_for_each(|node| self.join_node(node, pid))
    }

    /// Move process `pid` into the hybrid machine's v2 hierarchy alone, where CLONE_INTO_CGROUP was not to be had.
    pub fn join_unified(&self, pid: i32) -> Result<()> {
        self.nodes.iter().filter(|n| n.is_unified()).try_for_each(|node| self.join_node(node, pid))
    }

    /// The v2 cgroup that the container's process `pid` is in: where `exec` goes when the container has spread itself
    /// over cgroups below its own (systemd does), for then its own takes no process (EBUSY). On v1 that is no obstacle,
    /// and this is the container's own.
    pub fn beside(&self, layout: &Layout, pid: i32) -> Result<Cgroup> {
        let Layout::Unified(unified) = layout else { return Ok(self.clone()) };
        let own = memberships(&format!("/proc/{pid}/cgroup"))?.into_iter().find(|m| m.controllers.is_empty());
        let Some(own) = own else { return Ok(self.clone()) };
        let path = unified.mountpoint.join(own.path.strip_prefix("/").unwrap_or(&own.path));
        let node = Node { controllers: vec![String::new()], mountpoint: path.clone(), path };
        Ok(Cgroup { nodes: vec![node], ..self.clone() })
    }

    fn join_node(&self, node: &Node, pid: i32) -> Result<()> {
        match write_pid(node, pid) {
            Ok(()) => Ok(()),
            Err(_) if self.version == Version::V1 && node.is_optional() => Ok(()),
            Err(e) if self.may_pass_over(&e) => Ok(()),
            Err(e) => Err(file::failure(&e, &format!("unable to apply cgroup configuration: adding pid {pid} to"), &node.path, "cgroup.procs")),
        }
    }

    /// Rootless and without a path in the config, a hierarchy that is closed to us is done without.
    fn may_pass_over(&self, e: &io::Error) -> bool {
        self.rootless && !self.explicit && matches!(e.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::EROFS))
    }
}

/// EINVAL also means that one of the process's threads is being born just now, so it is tried again a few times.
fn write_pid(node: &Node, pid: i32) -> io::Result<()> {
    let mut procs = file::open_to_write(&node.path, "cgroup.procs")?;
    let text = pid.to_string();
    let mut pause = Duration::from_millis(1);
    for _ in 0..5 {
        match file::write_once(&mut procs, &text) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => std::thread::sleep(pause),
            other => return other,
        }
        pause *= 2;
    }
    file::write_once(&mut procs, &text)
}

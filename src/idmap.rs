//! User namespaces and their id maps: written for a child's new one, or held open for an idmapped mount or to be entered.

use crate::spec::IdMapping;
use crate::sys::{fs, process};
use crate::{Error, Result};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

/// The maps of a namespace, and how they are written (user_namespaces(7)).
#[derive(Debug, Clone, Copy)]
pub struct Maps<'a> {
    pub uid: &'a [IdMapping],
    pub gid: &'a [IdMapping],
    /// By newuidmap(1) and newgidmap(1): we lack the privilege to map more than our own id.
    pub by_helper: bool,
    /// Write `deny` to /proc/PID/setgroups first, as an unprivileged single mapping needs.
    pub deny_setgroups: bool,
    /// What asks for them, for messages: of uids, of gids.
    pub named: [&'static str; 2],
}

/// Write the maps of the new user namespace that `pid` is in.
pub fn write(pid: i32, maps: &Maps) -> Result<()> {
    if maps.by_helper {
        by_helper("newuidmap", pid, maps.uid, maps.named[0])?;
        if maps.deny_setgroups {
            deny_setgroups(pid)?;
        }
        return by_helper("newgidmap", pid, maps.gid, maps.named[1]);
    }
    if maps.deny_setgroups {
        deny_setgroups(pid)?;
    }
    write_map(pid, "gid_map", maps.gid, maps.named[1])?;
    write_map(pid, "uid_map", maps.uid, maps.named[0])
}

fn deny_setgroups(pid: i32) -> Result<()> {
    let path = format!("/proc/{pid}/setgroups");
    std::fs::write(&path, "deny").map_err(|e| Error::io(&e, "writing", path.clone()))
}

fn write_map(pid: i32, file: &str, maps: &[IdMapping], field: &str) -> Result<()> {
    if maps.is_empty() {
        return Ok(());
    }
    let lines: String = maps.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect();
    let path = format!("/proc/{pid}/{file}");
    std::fs::write(&path, lines).map_err(|e| {
        Error::io(&e, format!("writing the id map of {field} to"), path.clone())
            .hint("ranges must not overlap, there may be 340 at most, and the ids must be ours to give (user_namespaces(7))")
    })
}

fn by_helper(program: &str, pid: i32, maps: &[IdMapping], field: &str) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for m in maps {
        command.args([m.container_id.to_string(), m.host_id.to_string(), m.size.to_string()]);
    }
    let output = command.stdin(Stdio::null()).output().map_err(|e| {
        Error::io(&e, format!("running {program} for"), field)
            .hint("rootless containers with more than one id need newuidmap and newgidmap: Debian's package uidmap")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
    Err(Error::other(format!("{program} refused the map of"), field, said).hint("are these ranges given to this user in /etc/subuid and /etc/subgid?"))
}

/// A new user namespace with these maps, as a descriptor.
pub fn namespace(maps: &Maps, doing: &str) -> Result<OwnedFd> {
    let kernel = |call: &'static str| move |e: crate::sys::Errno| e.error(call, doing, "");
    let (input, output) = fs::pipe().map_err(kernel("pipe2"))?;
    let Some(child) = process::clone3(process::CLONE_NEWUSER, None).map_err(kernel("clone3"))? else {
        // It only holds the namespace: until the parent closes the pipe, or dies.
        let _ = process::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64);
        let mut byte = [0u8];
        drop(output);
        let _ = fs::read(input.as_fd(), &mut byte);
        process::exit_now(0);
    };
    drop(input);
    let opened = write(child.pid, maps).and_then(|()| of_process(child.pid));
    drop(output);
    process::wait_pidfd(child.pidfd.as_fd(), true).map_err(kernel("waitid"))?;
    opened
}

/// The user namespace that `pid` is in.
pub fn of_process(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/user");
    std::fs::File::open(&path).map(OwnedFd::from).map_err(|e| Error::io(&e, "opening", path.clone()))
}

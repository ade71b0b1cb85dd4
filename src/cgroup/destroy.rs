//! Removing the directories, with whatever the container made below them.

use super::{Cgroup, file, processes};
use crate::sys;
use crate::{Error, Result};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a cgroup may stay busy: its processes are dead by now, but the last ones may still be on their way out.
const PATIENCE: Duration = Duration::from_secs(2);

impl Cgroup {
    /// Remove the cgroup in all hierarchies, children first. What is not there (any more) is fine.
    pub fn destroy(&self) -> Result<()> {
        self.stop_unit()?;
        let deadline = Instant::now() + PATIENCE;
        let mut failed = Vec::new();
        for node in &self.nodes {
            if let Err(e) = remove(&node.path, deadline) {
                failed.push((node, e));
            }
        }
        match failed.first() {
            None => Ok(()),
            Some((node, e)) => {
                let more = if failed.len() > 1 { format!(" (and in {} more hierarchies)", failed.len() - 1) } else { String::new() };
                let error = Error::io(e, "unable to remove container's cgroup:", format!("{}{more}", node.path.display()));
                Err(match e.raw_os_error() {
                    Some(libc::EBUSY) => error.hint("processes are still in it; `kill --all ID KILL` ends them"),
                    _ => error,
                })
            }
        }
    }
}

fn remove(path: &Path, deadline: Instant) -> io::Result<()> {
    // Nearly always this is all there is to do.
    if rmdir(path).is_ok() {
        return Ok(());
    }
    // Whatever the reason was: on a read-only mount even a directory that is not there gives EROFS, and listing tells.
    let children = match processes::children(path) {
        Err(e) if file::is_gone(&e) => return Ok(()),
        other => other?,
    };
    for child in children {
        remove(&child, deadline)?;
    }
    let mut pause = Duration::from_micros(100);
    loop {
        match rmdir(path) {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => wait_empty(path, &mut pause, deadline),
            other => return other,
        }
    }
}

fn rmdir(path: &Path) -> io::Result<()> {
    loop {
        match std::fs::remove_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) if file::is_gone(&e) => return Ok(()),
            other => return other,
        }
    }
}

/// Wait for the last process to leave: v2 tells by a change of cgroup.events, v1 has nothing but asking again.
fn wait_empty(path: &Path, pause: &mut Duration, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    if let Ok(events) = File::open(path.join("cgroup.events"))
        && let Ok(text) = io::read_to_string(&events)
        && file::keyed(&text).any(|line| line == ("populated", 1))
        && sys::cgroup::poll_change(events.as_fd(), left.as_millis() as i32).is_ok()
    {
        return;
    }
    std::thread::sleep((*pause).min(left));
    *pause = (*pause * 2).min(Duration::from_millis(50));
}

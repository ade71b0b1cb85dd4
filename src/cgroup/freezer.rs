//! Pausing and resuming: freezer.state on v1 (cgroup-v1/freezer-subsystem.rst), cgroup.freeze on v2.

use super::{Cgroup, Version, file};
use crate::sys;
use crate::{Error, Kind, Result};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a cgroup may take to freeze.
const PATIENCE: Duration = Duration::from_secs(10);

/// runc's numbers, found by trial with forking containers on slow machines.
const V1_ATTEMPTS: u32 = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreezerState {
    /// No freezer, or no cgroup.
    Undefined,
    Thawed,
    Frozen,
}

impl Cgroup {
    /// Stop every process in the cgroup and below it, and come back once they are. A failure leaves them running.
    pub fn freeze(&self) -> Result<()> {
        match self.freezer()? {
            (Version::V1, dir) => freeze_v1(dir),
            (Version::V2, dir) => freeze_v2(dir),
        }
    }

    /// Let them run again.
    pub fn thaw(&self) -> Result<()> {
        let (version, dir) = self.freezer()?;
        let (name, value) = match version {
            Version::V1 => ("freezer.state", "THAWED"),
            Version::V2 => ("cgroup.freeze", "0"),
        };
        match file::if_there(file::write(dir, name, value)) {
            // A kernel without a freezer (v2 before 5.2) has never frozen anything.
            Ok(_) => Ok(()),
            Err(e) => Err(file::failure(&e, "thawing by writing to", dir, name)),
        }
    }

    pub fn freezer_state(&self) -> Result<FreezerState> {
        match (self.version, self.freezer()) {
            (_, Err(_)) => Ok(FreezerState::Undefined),
            (Version::V1, Ok((_, dir))) => state_v1(dir),
            (Version::V2, Ok((_, dir))) => state_v2(dir),
        }
    }

    pub fn is_frozen(&self) -> Result<bool> {
        Ok(self.freezer_state()? == FreezerState::Frozen)
    }

    fn freezer(&self) -> Result<(Version, &Path)> {
        let dir = self.path("freezer").ok_or_else(|| {
            Error::new(Kind::Unsupported { needs: "a freezer cgroup".into() }, "cannot toggle freezer", "", "cgroups not configured for container")
        })?;
        Ok((self.version, dir))
    }
}

/// v1 can't freeze reliably while processes appear inside: FREEZING stays, and the way out is to ask again, now and
/// then from the start. There is nothing to wait on.
fn freeze_v1(dir: &Path) -> Result<()> {
    let outcome = try_freeze_v1(dir);
    if outcome.is_err() {
        // Half frozen is worse than running. The first error is the one to tell.
        let _ = file::write(dir, "freezer.state", "THAWED");
    }
    outcome
}

fn try_freeze_v1(dir: &Path) -> Result<()> {
    let fail = |e: io::Error| file::failure(&e, "freezing by", dir, "freezer.state");
    for attempt in 1..=V1_ATTEMPTS {
        if attempt % 50 == 0 {
            file::write(dir, "freezer.state", "THAWED").map_err(fail)?;
            std::thread::sleep(Duration::from_millis(10));
        }
        file::write(dir, "freezer.state", "FROZEN").map_err(fail)?;
        if attempt % 25 == 0 {
            std::thread::sleep(Duration::from_micros(10));
        }
        match file::read(dir, "freezer.state").map_err(fail)?.trim() {
            "FROZEN" => return Ok(()),
            "FREEZING" => {}
            other => return Err(Error::other("freezing by", dir.join("freezer.state").display().to_string(), format!("unexpected state {other}"))),
        }
    }
    Err(Error::other("unable to freeze", dir.display().to_string(), format!("still FREEZING after {V1_ATTEMPTS} attempts"))
        .hint("a process in it may be stuck in the kernel (state D)"))
}

fn freeze_v2(dir: &Path) -> Result<()> {
    file::write(dir, "cgroup.freeze", "1").map_err(|e| match file::is_gone(&e) {
        true => Error::unsupported("freezing", dir.display().to_string(), "cgroup.freeze (Linux 5.2)"),
        false => file::failure(&e, "freezing by", dir, "cgroup.freeze"),
    })?;
    match wait_frozen(dir) {
        Ok(true) => Ok(()),
        outcome => {
            let _ = file::write(dir, "cgroup.freeze", "0");
            Err(match outcome {
                Err(e) => file::failure(&e, "waiting for the freeze by", dir, "cgroup.events"),
                Ok(_) => Error::other("unable to freeze", dir.display().to_string(), format!("not frozen after {PATIENCE:?}"))
                    .hint("a process in it may be stuck in the kernel (state D)"),
            })
        }
    }
}

/// `frozen 1` in cgroup.events, whose changes can be polled for (cgroup-v2.rst § cgroup.events).
fn wait_frozen(dir: &Path) -> io::Result<bool> {
    let mut events = File::open(dir.join("cgroup.events"))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut text = String::new();
        events.rewind()?;
        events.read_to_string(&mut text)?;
        if file::keyed(&text).any(|line| line == ("frozen", 1)) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let changed = sys::cgroup::poll_change(events.as_fd(), left.as_millis() as i32);
        if !changed.map_err(|e| io::Error::from_raw_os_error(e.0))? {
            return Ok(false);
        }
    }
}

/// FROZEN because of a parent counts as thawed: it is not this container that was paused.
pub(super) fn state_v1(dir: &Path) -> Result<FreezerState> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = file::if_there(file::read(dir, "freezer.state")).map_err(|e| file::failure(&e, "reading", dir, "freezer.state"))?;
        match state.as_deref().map(str::trim) {
            None => return Ok(FreezerState::Undefined),
            Some("THAWED") => return Ok(FreezerState::Thawed),
            Some("FROZEN") => break,
            // Someone is freezing it just now.
            Some("FREEZING") if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            Some(other) => return Err(Error::other("reading", dir.join("freezer.state").display().to_string(), format!("unexpected state {other}"))),
        }
    }
    match file::if_there(file::read(dir, "freezer.self_freezing")) {
        Ok(Some(text)) if text.trim() == "0" => Ok(FreezerState::Thawed),
        Ok(_) => Ok(FreezerState::Frozen),
        Err(e) => Err(file::failure(&e, "reading", dir, "freezer.self_freezing")),
    }
}

pub(super) fn state_v2(dir: &Path) -> Result<FreezerState> {
    match file::if_there(file::read(dir, "cgroup.freeze")) {
        Ok(None) => Ok(FreezerState::Undefined),
        Ok(Some(text)) if text.trim() == "0" => Ok(FreezerState::Thawed),
        // What was asked for; whether the last process has stopped already makes no difference to a reader.
        Ok(Some(_)) => Ok(FreezerState::Frozen),
        Err(e) => Err(file::failure(&e, "reading", dir, "cgroup.freeze")),
    }
}

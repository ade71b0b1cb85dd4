//! `events`: statistics at an interval, and out-of-memory notices as they come.

use super::store::Entry;
use super::{Context, Event, Status};
use crate::cgroup::OomEvent;
use crate::sys::signal;
use crate::{Error, Kind, Result};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

impl Context {
    /// Call `sink` for each event until it says stop (false) or the container is gone. `interval` None: stats once.
    pub fn events(&self, id: &str, interval: Option<Duration>, sink: &mut dyn FnMut(Event) -> bool) -> Result<()> {
        let entry = self.open(id)?;
        if entry.status()? == Status::Stopped {
            return Err(Error::new(Kind::WrongState, "container not running:", id, ""));
        }
        let Some(interval) = interval else {
            sink(stats(&entry)?);
            return Ok(());
        };
        let mut watch = entry.record.cgroup().watch_oom()?;
        let pidfd = entry.pidfd()?;
        let mut next = Instant::now() + interval;
        loop {
            let left = next.saturating_duration_since(Instant::now()).as_millis().min(i32::MAX as u128) as i32;
            let ready = signal::poll(&[watch.fd(), pidfd.as_fd()], left).map_err(|e| e.error("poll", "waiting for events of", id))?;
            if ready & 1 != 0 {
                match watch.next()? {
                    Some(OomEvent::Oom(_)) if !sink(Event::Oom { id: id.into() }) => return Ok(()),
                    Some(OomEvent::Gone) => return Ok(()),
                    _ => {}
                }
            }
            if ready & 2 != 0 {
                return Ok(());
            }
            if next <= Instant::now() {
                next += interval;
                if !sink(stats(&entry)?) {
                    return Ok(());
                }
            }
        }
    }
}

fn stats(entry: &Entry) -> Result<Event> {
    let stats = entry.record.cgroup().stats()?;
    let data = serde_json::to_value(stats).map_err(|e| Error::other("writing the statistics", "", e))?;
    Ok(Event::Stats { id: entry.record.id.clone(), data })
}

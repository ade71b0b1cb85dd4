//! `events`: statistics and out-of-memory notices.

use super::{Context, Event};
use crate::Result;
use std::time::Duration;

impl Context {
    /// Call `sink` for each event until it says stop (false) or the container is gone. `interval` None: stats once.
    pub fn events(&self, id: &str, interval: Option<Duration>, sink: &mut dyn FnMut(Event) -> bool) -> Result<()> {
        let _ = (id, interval, sink);
        unimplemented!()
    }
}

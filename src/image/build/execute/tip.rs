//! How far a stage has come: its layers, some of them still being written, and the key that the next step's is made of.

use crate::image::build::plan::State;
use crate::image::layers::Files;
use crate::image::model::History;
use crate::image::pipeline::Layer;
use crate::image::{Digest, Platform};
use crate::{Error, Result};
use std::sync::{Arc, Condvar, Mutex};

/// A layer, maybe in the making.
pub(super) struct Promise {
    state: Mutex<Option<Result<Layer>>>,
    told: Condvar,
}

impl Promise {
    pub fn new() -> Arc<Promise> {
        Arc::new(Promise { state: Mutex::new(None), told: Condvar::new() })
    }

    pub fn kept(layer: Layer) -> Arc<Promise> {
        Arc::new(Promise { state: Mutex::new(Some(Ok(layer))), told: Condvar::new() })
    }

    pub fn keep(&self, outcome: Result<Layer>) {
        *self.state.lock().unwrap_or_else(|e| e.into_inner()) = Some(outcome);
        self.told.notify_all();
    }

    pub fn wait(&self) -> Result<Layer> {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            match &*state {
                Some(outcome) => return outcome.clone(),
                None => state = self.told.wait(state).unwrap_or_else(|e| e.into_inner()),
            }
        }
    }
}

/// Breaks the promise if nobody kept it, so that nobody waits for ever.
pub(super) struct Duty(pub Arc<Promise>);

impl Drop for Duty {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(|e| e.into_inner());
        if state.is_none() {
            *state = Some(Err(Error::other("writing a layer", "", "a thread of ours broke down")));
            self.0.told.notify_all();
        }
    }
}

#[derive(Clone)]
pub(super) struct Tip {
    pub key: Digest,
    pub layers: Vec<Arc<Promise>>,
    /// None as long as nobody needed them.
    pub files: Option<Files>,
    pub history: Vec<History>,
    pub state: State,
    pub platform: Platform,
    /// Of the newest layer, or of the base.
    pub created: String,
}

impl Tip {
    /// All layers, when they are written.
    pub fn settled(&self) -> Result<Vec<Layer>> {
        self.layers.iter().map(|promise| promise.wait()).collect()
    }
}

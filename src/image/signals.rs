//! Signals that would end us: what is half made is removed first, and a container that runs in our foreground gets them.

use super::unpack::worker;
use crate::sys::process::pidfd_send_signal;
use crate::sys::signal;
use crate::{Error, Result};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

/// What a signal means at the moment.
enum Phase {
    /// Nothing is half made: we end.
    Free,
    /// The unpacking ends, its caller cleans up.
    Unpacking,
    /// Another process is the one to decide.
    Running(OwnedFd),
    /// The build ends: all that it has running is stopped.
    Building(Box<dyn Fn() + Send>),
}

struct State {
    phase: Phase,
    /// The last one that came while unpacking.
    caught: Option<i32>,
}

/// From [`Signals::begin`] on they are received by a thread.
pub struct Signals(Arc<Mutex<State>>);

impl Signals {
    pub fn begin() -> Result<Signals> {
        let fd = signal::termination_fd().map_err(|e| e.error("signalfd", "taking over signals", ""))?;
        let state = Arc::new(Mutex::new(State { phase: Phase::Free, caught: None }));
        let shared = state.clone();
        let receive = move || {
            while signal::poll(&[fd.as_fd()], -1).is_ok() {
                if let Some((signal, from_terminal)) = signal::next_signal_and_source(fd.as_fd()) {
                    lock(&shared).receive(signal, from_terminal);
                }
            }
        };
        std::thread::Builder::new().stack_size(64 << 10).spawn(receive).map_err(|e| Error::io(&e, "starting a thread", ""))?;
        Ok(Signals(state))
    }

    /// From here on there is something to clean up.
    pub fn clean_up_on_signal(&self) {
        lock(&self.0).phase = Phase::Unpacking;
    }

    /// From here on signals are for the process of `pidfd`, as is one that came before.
    pub fn pass_to(&self, pidfd: OwnedFd) {
        let mut state = lock(&self.0);
        if let Some(signal) = state.caught.take() {
            let _ = pidfd_send_signal(pidfd.as_fd(), signal);
        }
        state.phase = Phase::Running(pidfd);
    }

    /// From here on a signal has `stop` called; its caller cleans up.
    pub fn stop_by(&self, stop: impl Fn() + Send + 'static) {
        let mut state = lock(&self.0);
        if state.caught.is_some() {
            stop();
        }
        state.phase = Phase::Building(Box::new(stop));
    }

    /// The shell's code for the signal that ended the unpacking.
    pub fn code(&self) -> Option<u8> {
        lock(&self.0).caught.map(code)
    }
}

impl State {
    fn receive(&mut self, signal: i32, from_terminal: bool) {
        match &self.phase {
            Phase::Free => std::process::exit(code(signal).into()),
            Phase::Unpacking => {
                self.caught = Some(signal);
                worker::interrupt();
            }
            Phase::Building(stop) => {
                stop();
                self.caught = Some(signal);
                worker::interrupt();
            }
            Phase::Running(_) if from_terminal => {}
            Phase::Running(pidfd) => {
                // It may have ended by itself.
                let _ = pidfd_send_signal(pidfd.as_fd(), signal);
            }
        }
    }
}

fn code(signal: i32) -> u8 {
    128 + signal as u8
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|e| e.into_inner())
}

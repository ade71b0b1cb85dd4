//! `run` and `exec` in the foreground: pass signals and the terminal through until the process ends.
//!
//! One poll over a pidfd, a signalfd and, with a terminal, our stdin and the pty's master. The terminal's modes are
//! restored when [`Foreground`] is dropped, on every way out.

use super::notify::NotifySocket;
use crate::sys::fs::STDIO;
use crate::sys::process::{self, Exit};
use crate::sys::{Errno, fs, signal, tty};
use crate::{Error, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub struct Foreground {
    signals: OwnedFd,
    master: Option<OwnedFd>,
    /// The modes of our terminal before we made it raw.
    modes: Option<libc::termios>,
}

/// Whose end is waited for.
pub struct Watch<'a> {
    pub pidfd: BorrowedFd<'a>,
    pub notify: Option<NotifySocket>,
}

impl Foreground {
    /// From here on signals wait for us rather than act, so that none is lost before the process is there.
    pub fn new() -> Result<Foreground> {
        let signals = signal::signal_fd().map_err(|e| e.error("signalfd", "taking over signals", ""))?;
        Ok(Foreground { signals, master: None, modes: None })
    }

    /// The container's terminal is ours to pass through.
    pub fn attach(&mut self, master: OwnedFd) -> Result<()> {
        tty::clear_onlcr(master.as_fd()).map_err(|e| e.error("tcsetattr", "setting up the container's terminal", ""))?;
        let stdin = STDIO[0];
        if tty::is_tty(stdin) {
            let modes = tty::modes(stdin).map_err(|e| e.error("tcgetattr", "reading the terminal's modes", ""))?;
            tty::set_modes(stdin, &tty::raw(&modes)).map_err(|e| e.error("tcsetattr", "making the terminal raw", ""))?;
            self.modes = Some(modes);
            if let Ok((width, height)) = tty::size(stdin) {
                let _ = tty::set_size(master.as_fd(), width, height);
            }
        }
        self.master = Some(master);
        Ok(())
    }

    /// Until the process ends; its exit.
    pub fn wait(&mut self, watch: Watch) -> Result<Exit> {
        let mut stdin_open = true;
        let failed = |e: Errno| e.error("poll", "waiting for the process", "");
        loop {
            let mut fds = vec![watch.pidfd, self.signals.as_fd()];
            let master_at = self.master.as_ref().map(|m| {
                fds.push(m.as_fd());
                fds.len() - 1
            });
            let stdin_at = (stdin_open && self.master.is_some()).then(|| {
                fds.push(STDIO[0]);
                fds.len() - 1
            });
            let notify_at = watch.notify.as_ref().map(|n| {
                fds.push(n.fd());
                fds.len() - 1
            });
            let ready = signal::poll(&fds, -1).map_err(failed)?;
            let is_ready = |at: Option<usize>| at.is_some_and(|n| ready & (1 << n) != 0);
            if is_ready(notify_at)
                && let Some(notify) = &watch.notify
            {
                notify.forward_one();
            }
            if is_ready(stdin_at) {
                stdin_open = self.pump_in();
            }
            if is_ready(master_at) && !self.pump_out() {
                self.master = None;
            }
            if ready & 0b10 != 0 {
                self.forward_signals(watch.pidfd);
            }
            if ready & 0b01 != 0 {
                let exit = process::wait_pidfd(watch.pidfd, true).map_err(|e| e.error("waitid", "waiting for the process", ""))?;
                while self.master.is_some() && self.drain() {}
                return exit.ok_or_else(|| Error::other("waiting for the process", "", "it has no exit status"));
            }
        }
    }

    fn forward_signals(&self, pidfd: BorrowedFd) {
        while let Some(number) = signal::next_signal(self.signals.as_fd()) {
            match number {
                // Orphans that fell to us; the process itself is waited for by its pidfd alone.
                libc::SIGCHLD => process::reap_orphans(pidfd),
                libc::SIGWINCH => self.resize(),
                // Our own business: writing to a closed stdout, Go's preemption habit.
                libc::SIGPIPE | libc::SIGURG => {}
                // Failure means that it has just ended.
                other => drop(process::pidfd_send_signal(pidfd, other)),
            }
        }
    }

    fn resize(&self) {
        if let (Some(master), Ok((width, height))) = (&self.master, tty::size(STDIO[0])) {
            let _ = tty::set_size(master.as_fd(), width, height);
        }
    }

    /// stdin → pty; false at its end.
    fn pump_in(&self) -> bool {
        let mut buf = [0u8; 4096];
        let Some(master) = &self.master else { return false };
        match fs::read(STDIO[0], &mut buf) {
            Ok(n) if n > 0 => write_all(master.as_fd(), &buf[..n]),
            _ => {
                // What ^D does for a person: the pty has no end of file of its own.
                const END_OF_TRANSMISSION: &[u8] = &[4];
                write_all(master.as_fd(), END_OF_TRANSMISSION);
                false
            }
        }
    }

    /// pty → stdout; false when the last slave is closed (EIO).
    fn pump_out(&self) -> bool {
        let mut buf = [0u8; 16384];
        let Some(master) = &self.master else { return false };
        match fs::read(master.as_fd(), &mut buf) {
            Ok(n) if n > 0 => write_all(STDIO[1], &buf[..n]),
            _ => false,
        }
    }

    /// What is left in the pty after the process's end; never waits for others that hold the slave.
    fn drain(&self) -> bool {
        match &self.master {
            Some(master) => matches!(signal::poll(&[master.as_fd()], 0), Ok(n) if n != 0) && self.pump_out(),
            None => false,
        }
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        if let Some(modes) = &self.modes {
            let _ = tty::set_modes(STDIO[0], modes);
        }
    }
}

fn write_all(fd: BorrowedFd, mut data: &[u8]) -> bool {
    while !data.is_empty() {
        match fs::write(fd, data) {
            Ok(n) => data = &data[n..],
            Err(_) => return false,
        }
    }
    true
}

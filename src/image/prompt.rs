//! A question at the terminal whose answer isn't shown.

use crate::sys::{Errno, signal, tty};
use crate::{Error, Result};
use std::io::Write;
use std::os::fd::AsFd;

/// The terminal on standard input, while it shows nothing of what is typed.
pub struct Hidden(libc::termios);

impl Hidden {
    /// `ask`: with a prompt on standard error.
    pub fn begin(ask: bool) -> Result<Hidden> {
        let told = |e: Errno| e.error("tcsetattr", "hiding what is typed", "");
        let stdin = std::io::stdin();
        let modes = tty::modes(stdin.as_fd()).map_err(told)?;
        // One that ends us must not leave a terminal that shows nothing.
        give_back_on_signal(modes)?;
        let mut hidden = modes;
        hidden.c_lflag &= !libc::ECHO;
        hidden.c_lflag |= libc::ECHONL;
        tty::set_modes(stdin.as_fd(), &hidden).map_err(told)?;
        if ask {
            let _ = std::io::stderr().write_all(b"Password: ");
        }
        Ok(Hidden(modes))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tty::set_modes(std::io::stdin().as_fd(), &self.0);
    }
}

/// From here on a thread receives the signals that end an ordinary process.
fn give_back_on_signal(modes: libc::termios) -> Result<()> {
    let fd = signal::termination_fd().map_err(|e| e.error("signalfd", "taking over signals", ""))?;
    let wait = move || {
        while signal::poll(&[fd.as_fd()], -1).is_ok() {
            if let Some(number) = signal::next_signal(fd.as_fd()) {
                let _ = tty::set_modes(std::io::stdin().as_fd(), &modes);
                std::process::exit(128 + number);
            }
        }
    };
    std::thread::Builder::new().stack_size(64 << 10).spawn(wait).map_err(|e| Error::io(&e, "starting", "a thread"))?;
    Ok(())
}

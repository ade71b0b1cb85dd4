//! Hooks that run in the container's namespaces: createContainer and startContainer.

use super::{Child, Done, Fault};
use crate::stage::freeze::FrozenHook;
use crate::sys::process::Exit;
use crate::sys::{Errno, fs, process, signal};
use std::os::fd::AsFd;

impl Child<'_> {
    pub(super) fn run_hooks(&mut self, hooks: &[FrozenHook]) -> Done {
        for (number, hook) in hooks.iter().enumerate() {
            self.run_hook(number, hook)?;
        }
        Ok(())
    }

    fn run_hook(&mut self, number: usize, hook: &FrozenHook) -> Done {
        if let Some(uid) = hook.home_for_uid {
            self.fill_home(uid, &hook.envp);
        }
        let (input, output) = fs::pipe()?;
        let said = fs::memfd(c"hook-output")?;
        // Before the root is entered a hook's working directory is the rootfs all the same, as runc has it.
        if !self.entered {
            fs::fchdir(self.root()?)?;
        }
        let Some(child) = process::clone3(0, None)? else {
            let streams = [(input.as_fd(), 0), (said.as_fd(), 1), (said.as_fd(), 2)];
            let failed = streams.iter().find_map(|(from, to)| fs::dup2(*from, *to).err()).unwrap_or_else(|| {
                fs::umask(0o022);
                signal::default_sigpipe();
                process::execve(&hook.path, &hook.argv, &hook.envp)
            });
            let mut digits = [0u8; 12];
            let why: &[&[u8]] = match failed.0 {
                libc::ENOENT => &[b"no such file or directory"],
                libc::EACCES => &[b"permission denied"],
                errno => &[b"execve failed with errno ", decimal(errno.into(), &mut digits)],
            };
            for part in why {
                let _ = fs::write(said.as_fd(), part);
            }
            process::exit_now(if failed == Errno(libc::ENOENT) { 127 } else { 126 });
        };
        drop(input);
        feed(output.as_fd(), hook);
        drop(output);
        let ready = signal::poll(&[child.pidfd.as_fd()], hook.timeout)?;
        if ready == 0 {
            let _ = process::pidfd_send_signal(child.pidfd.as_fd(), libc::SIGKILL);
        }
        let exit = process::wait_pidfd(child.pidfd.as_fd(), true)?;
        let (mut digits, mut code_digits) = ([0u8; 12], [0u8; 12]);
        let head: &[&[u8]] = &[b"#", decimal(number as i64, &mut digits), b" ", hook.path.to_bytes()];
        match exit {
            _ if ready == 0 => Err(Fault::new(Errno(0), head).and(&[b": it ran past its timeout and was killed"])),
            Some(Exit::Code(0)) => Ok(()),
            Some(Exit::Code(code)) => {
                let mut text = [0u8; SHOWN];
                let text = fs::read_at_start(said.as_fd(), &mut text);
                Err(Fault::new(Errno(0), head).and(&[b": exit status ", decimal(code.into(), &mut code_digits), b", output: ", text]))
            }
            Some(Exit::Signal(libc::SIGSYS)) => Err(Fault::new(Errno(0), head).and(&[b": signal: bad system call (the seccomp profile forbids what it did)"])),
            Some(Exit::Signal(signal)) => Err(Fault::new(Errno(0), head).and(&[b": killed by signal ", decimal(signal.into(), &mut code_digits)])),
            None => Err(Fault::new(Errno(0), head).and(&[b": its end is not known"])),
        }
    }
}

/// How much of a failing hook's output goes into the message.
const SHOWN: usize = 160;

/// The state, with our pid in our own pid namespace, as runc has it. A hook that does not read it is free not to.
fn feed(pipe: std::os::fd::BorrowedFd, hook: &FrozenHook) {
    let mut digits = [0u8; 12];
    let pid = decimal(process::getpid().into(), &mut digits);
    for part in [&hook.before[..], pid, &hook.after[..]] {
        if fs::write(pipe, part).is_err() {
            return;
        }
    }
}

/// `n` as text, without an allocation.
fn decimal(mut n: i64, buf: &mut [u8; 12]) -> &[u8] {
    let mut at = buf.len();
    loop {
        at -= 1;
        buf[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 || at == 0 {
            return &buf[at..];
        }
    }
}

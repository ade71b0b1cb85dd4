//! Signals by descriptor, and poll(2).

use super::{Result, check, retry};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

fn full_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset fills the whole set.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Block every signal and receive them by a descriptor (signalfd(2)), CLOEXEC and non-blocking.
pub fn signal_fd() -> Result<OwnedFd> {
    let set = full_set();
    // SAFETY: `set` is valid; the result is a new descriptor of ours.
    unsafe {
        check(libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()))?;
        Ok(OwnedFd::from_raw_fd(check(libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?))
    }
}

/// The next pending signal of a [`signal_fd`], None when there is none.
pub fn next_signal(fd: BorrowedFd) -> Option<i32> {
    next_signal_and_source(fd).map(|(signal, _)| signal)
}

/// The same, and whether the kernel sent it, as for Ctrl-C: then all of the terminal's foreground processes have got it.
pub fn next_signal_and_source(fd: BorrowedFd) -> Option<(i32, bool)> {
    let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: the kernel writes whole structs; the length read is checked before use.
    unsafe {
        let n = libc::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), size);
        (n == size as isize).then(|| info.assume_init()).map(|info| (info.ssi_signo as i32, info.ssi_code == libc::SI_KERNEL))
    }
}

/// Block no signal.
pub fn unblock_all() {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset fills the set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
    }
}

/// Rust's start-up ignores SIGPIPE; the program that we exec starts with its default action.
pub fn default_sigpipe() {
    // SAFETY: SIG_DFL is a valid disposition.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

extern "C" fn exit_by_signal(signal: libc::c_int) {
    // SAFETY: _exit is async-signal-safe.
    unsafe { libc::_exit(128 + signal) }
}

/// Let the signals that end an ordinary process end this one too; exec(2) gives them their default action back.
pub fn exit_on_termination() {
    let handler = exit_by_signal as extern "C" fn(libc::c_int);
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM] {
        // SAFETY: the handler calls only _exit.
        unsafe {
            libc::signal(signal, handler as libc::sighandler_t);
        }
    }
}

/// poll(2) for readability (or hang-up); `timeout` in ms, -1 for ever. Bit n of the result: `fds[n]` is ready.
pub fn poll(fds: &[BorrowedFd], timeout: i32) -> Result<u32> {
    const MOST: usize = 8;
    let mut polled = [libc::pollfd { fd: -1, events: 0, revents: 0 }; MOST];
    for (slot, fd) in polled.iter_mut().zip(fds) {
        *slot = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    }
    // SAFETY: `polled` has at least that many entries.
    retry(|| check(unsafe { libc::poll(polled.as_mut_ptr(), fds.len().min(MOST) as u64, timeout) }))?;
    Ok(polled.iter().enumerate().filter(|(_, p)| p.revents != 0).fold(0, |bits, (n, _)| bits | 1 << n))
}

/// kill(2).
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Receive the signals that end an ordinary process by a descriptor instead; the threads made later have them blocked too.
pub fn termination_fd() -> Result<OwnedFd> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset fills the set; the result is a new descriptor of ours.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        check(libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()))?;
        Ok(OwnedFd::from_raw_fd(check(libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?))
    }
}

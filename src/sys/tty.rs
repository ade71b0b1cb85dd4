//! Pseudo terminals and terminal modes (pty(7), ioctl_tty(2), termios(3)).

use super::{Result, check};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// Unlock the pty whose master this is (TIOCSPTLCK).
pub fn unlock(master: BorrowedFd) -> Result<()> {
    let zero = 0i32;
    // SAFETY: TIOCSPTLCK reads an int.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &zero) }).map(drop)
}

/// Open the slave by the master (TIOCGPTPEER, Linux 4.13): no path that could be swapped.
pub fn open_peer(master: BorrowedFd) -> Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags and returns a new descriptor of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(check(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags))?) })
}

/// The number N of /dev/pts/N (TIOCGPTN).
pub fn number(master: BorrowedFd) -> Result<u32> {
    let mut n = 0u32;
    // SAFETY: TIOCGPTN writes an unsigned int.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &mut n) })?;
    Ok(n)
}

/// Make `tty` the controlling terminal of this session (TIOCSCTTY).
pub fn make_controlling(tty: BorrowedFd) -> Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    check(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

pub fn set_size(tty: BorrowedFd, width: u16, height: u16) -> Result<()> {
    let size = libc::winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a winsize.
    check(unsafe { libc::ioctl(tty.as_raw_fd(), libc::TIOCSWINSZ, &size) }).map(drop)
}

/// (width, height) in characters.
pub fn size(tty: BorrowedFd) -> Result<(u16, u16)> {
    let mut size = MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: TIOCGWINSZ writes a winsize, which is valid when zeroed too.
    let size = unsafe {
        check(libc::ioctl(tty.as_raw_fd(), libc::TIOCGWINSZ, size.as_mut_ptr()))?;
        size.assume_init()
    };
    Ok((size.ws_col, size.ws_row))
}

/// tcgetattr(3).
pub fn modes(tty: BorrowedFd) -> Result<libc::termios> {
    let mut modes = MaybeUninit::zeroed();
    // SAFETY: tcgetattr fills the struct.
    unsafe {
        check(libc::tcgetattr(tty.as_raw_fd(), modes.as_mut_ptr()))?;
        Ok(modes.assume_init())
    }
}

/// tcsetattr(3), at once.
pub fn set_modes(tty: BorrowedFd, modes: &libc::termios) -> Result<()> {
    // SAFETY: `modes` is valid.
    check(unsafe { libc::tcsetattr(tty.as_raw_fd(), libc::TCSANOW, modes) }).map(drop)
}

/// cfmakeraw(3) of `modes`, but for output: the container's pty leaves newlines to our terminal ([`clear_onlcr`]).
pub fn raw(modes: &libc::termios) -> libc::termios {
    let mut raw = *modes;
    // SAFETY: `raw` is valid.
    unsafe { libc::cfmakeraw(&mut raw) };
    raw.c_oflag |= libc::OPOST;
    raw
}

/// The pty's output goes out as it is written: no CR before NL (ONLCR off), as runc and its callers expect.
pub fn clear_onlcr(tty: BorrowedFd) -> Result<()> {
    let mut modes = modes(tty)?;
    modes.c_oflag &= !libc::ONLCR;
    set_modes(tty, &modes)
}

pub fn is_tty(fd: BorrowedFd) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::isatty(fd.as_raw_fd()) == 1 }
}

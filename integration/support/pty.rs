//! Terminals for the tests: a pty of ours as a process's controlling terminal, and the socket that a pty comes by.

use super::{LIMIT, patience, readable};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The end of a terminal that a person would sit at.
pub struct Terminal {
    pub master: File,
    pub seen: String,
}

impl Terminal {
    pub fn of(master: OwnedFd) -> Terminal {
        Terminal { master: master.into(), seen: String::new() }
    }

    pub fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Read on until `words` were seen; all that was seen. What follows them stays for the next call.
    #[track_caller]
    pub fn expect(&mut self, words: &str) -> String {
        let end = Instant::now() + LIMIT * patience();
        while !self.seen.contains(words) {
            assert!(Instant::now() < end, "{words:?} not seen, but: {:?}", self.seen);
            assert!(self.read_some(end - Instant::now()), "{words:?} not seen before the end: {:?}", self.seen);
        }
        let all = self.seen.clone();
        self.seen = all[all.find(words).unwrap_or(0) + words.len()..].to_string();
        all
    }

    /// False at the end of the stream.
    fn read_some(&mut self, limit: Duration) -> bool {
        if !readable(self.master.as_raw_fd(), limit) {
            return true;
        }
        let mut buf = [0u8; 4096];
        match self.master.read(&mut buf) {
            Ok(n) if n > 0 => {
                self.seen.push_str(&String::from_utf8_lossy(&buf[..n]));
                true
            }
            _ => false,
        }
    }

    /// All until the last slave is closed.
    #[track_caller]
    pub fn rest(&mut self) -> String {
        let end = Instant::now() + LIMIT * patience();
        while self.read_some(Duration::from_millis(100)) {
            assert!(Instant::now() < end, "no end of: {:?}", self.seen);
        }
        std::mem::take(&mut self.seen)
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        set_size(self.master.as_raw_fd(), rows, columns);
    }

    pub fn size(&self) -> (u16, u16) {
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel fills the winsize.
        assert_eq!(unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCGWINSZ, &mut size) }, 0);
        (size.ws_row, size.ws_col)
    }
}

fn set_size(fd: RawFd, rows: u16, columns: u16) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads the winsize.
    assert_eq!(unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &size) }, 0);
}

/// A new pty: our end, and the slave.
pub fn open() -> (Terminal, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    // SAFETY: both descriptors are filled; no name, modes or size are given.
    let done = unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut()) };
    assert_eq!(done, 0, "openpty: {}", std::io::Error::last_os_error());
    for fd in [master, slave] {
        // SAFETY: the descriptors are ours; no other test's child is to inherit them.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: both are new and ours.
    let (master, slave) = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
    (Terminal::of(master), slave)
}

/// `slave` as the standard streams and the controlling terminal of a new session.
pub fn sit_at(command: &mut Command, slave: &OwnedFd) {
    let stdio = || Stdio::from(slave.try_clone().unwrap());
    command.stdin(stdio()).stdout(stdio()).stderr(stdio());
    // SAFETY: setsid(2) and ioctl(2) are async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// The terminal's modes, in a form that compares.
pub fn modes(slave: &OwnedFd) -> (u32, u32, u32, u32, Vec<u8>) {
    // SAFETY: termios is plain data; the kernel fills it.
    let mut t: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    assert_eq!(unsafe { libc::tcgetattr(slave.as_raw_fd(), &mut t) }, 0);
    (t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag, t.c_cc.to_vec())
}

/// A socket that a descriptor is sent to.
pub struct FdSocket {
    listener: UnixListener,
    pub path: PathBuf,
}

impl FdSocket {
    pub fn new(path: PathBuf) -> FdSocket {
        FdSocket { listener: UnixListener::bind(&path).unwrap(), path }
    }

    pub fn as_str(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Whether anybody has connected.
    pub fn is_called(&self, limit: Duration) -> bool {
        readable(self.listener.as_raw_fd(), limit)
    }

    /// The message and the descriptor that came with it.
    #[track_caller]
    pub fn receive(&self) -> (Vec<u8>, OwnedFd) {
        assert!(self.is_called(LIMIT), "nobody connected to {}", self.path.display());
        let (stream, _) = self.listener.accept().unwrap();
        assert!(readable(stream.as_raw_fd(), LIMIT), "nothing was sent");
        receive(stream.as_raw_fd())
    }
}

#[track_caller]
fn receive(socket: RawFd) -> (Vec<u8>, OwnedFd) {
    let mut data = vec![0u8; 8192];
    let mut control = [0u64; 8];
    let mut iov = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    // SAFETY: msghdr is plain data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = std::mem::size_of_val(&control) as _;
    // SAFETY: the message points to buffers that live through the call.
    let got = unsafe { libc::recvmsg(socket, &mut message, libc::MSG_CMSG_CLOEXEC) };
    assert!(got > 0, "recvmsg: {}", std::io::Error::last_os_error());
    data.truncate(got as usize);
    // SAFETY: the kernel filled msg_control; the header is checked before its data is read.
    let fd = unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        assert!(!header.is_null(), "no descriptor with {:?}", String::from_utf8_lossy(&data));
        assert_eq!(((*header).cmsg_level, (*header).cmsg_type), (libc::SOL_SOCKET, libc::SCM_RIGHTS));
        OwnedFd::from_raw_fd(std::ptr::read_unaligned(libc::CMSG_DATA(header).cast::<RawFd>()))
    };
    (data, fd)
}

pub fn is_a_pty(fd: &OwnedFd) -> bool {
    // SAFETY: isatty(3) reads its argument only.
    unsafe { libc::isatty(fd.as_raw_fd()) == 1 }
}

pub fn socket_in(dir: &Path, name: &str) -> FdSocket {
    FdSocket::new(dir.join(name))
}

//! Descriptors for others: the pty's master, a pidfd, the seccomp listener, each over a unix socket of the caller's.

use super::record::Record;
use crate::spec::{ConsoleSize, Process};
use crate::sys::{fs, socket, tty};
use crate::{Error, Result};
use serde::Serialize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Where the container's terminal goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Console {
    /// There is none.
    None,
    /// Our own terminal is passed through.
    Inherit,
    /// The master goes to this socket.
    Socket(PathBuf),
}

impl Console {
    /// What the config and the command line ask for together; contradictions fail early, with runc's words.
    pub fn choose(terminal: bool, detached: bool, socket: Option<&Path>) -> Result<Console> {
        match (terminal, detached, socket) {
            (true, true, None) => Err(Error::usage("cannot allocate tty if runc will detach without setting console socket")
                .hint("give --console-socket PATH, or set /process/terminal to false")),
            (true, true, Some(path)) => Ok(Console::Socket(path.into())),
            (true, false, Some(_)) | (false, _, Some(_)) => Err(Error::usage("cannot use console socket if runc will not detach or allocate tty")
                .hint("--console-socket goes with /process/terminal true and a detached container")),
            (true, false, None) => Ok(Console::Inherit),
            (false, _, None) => Ok(Console::None),
        }
    }
}

/// A terminal that is passed through has our own's size from the start, unless the config names another.
pub fn adopt_size(process: &mut Process) {
    if process.console_size.is_none()
        && let Ok((width, height)) = tty::size(fs::STDIO[0])
    {
        process.console_size = Some(ConsoleSize { height, width });
    }
}

fn connect(path: &Path, what: &str) -> Result<UnixStream> {
    UnixStream::connect(path).map_err(|e| Error::io(&e, format!("connecting to the {what} socket"), path.display().to_string()))
}

fn send(stream: &UnixStream, data: &[u8], fd: BorrowedFd, what: &str, path: &Path) -> Result<()> {
    socket::send(stream.as_fd(), data, &[fd.as_raw_fd()]).map_err(|e| e.error("sendmsg", format!("sending the {what} to"), path.display().to_string()))
}

/// `--console-socket`: the master, with its slave's name as the message.
pub fn send_master(path: &Path, master: BorrowedFd) -> Result<()> {
    if fs::magic(master) != Ok(tty::DEVPTS_SUPER_MAGIC) {
        return Err(Error::other("handing on the terminal", "", "what the container sent is not a pty"));
    }
    // As runc: newlines leave the container as they are.
    tty::clear_onlcr(master).map_err(|e| e.error("tcsetattr", "setting up the terminal", ""))?;
    let name = format!("/dev/pts/{}", tty::number(master).unwrap_or(0));
    send(&connect(path, "console")?, name.as_bytes(), master, "terminal", path)
}

/// `--pidfd-socket`.
pub struct Pidfd;

impl Pidfd {
    pub fn send(path: &Path, pidfd: BorrowedFd) -> Result<()> {
        send(&connect(path, "pidfd")?, b"pidfd", pidfd, "pidfd", path)
    }
}

/// config-linux.md § The Container Process State: what the seccomp agent at listenerPath gets, with the listener.
pub fn send_listener(path: Option<&Path>, listener: BorrowedFd, record: &Record, pid: i32, metadata: &str) -> Result<()> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ProcessState<'a> {
        oci_version: &'a str,
        fds: [&'a str; 1],
        pid: i32,
        #[serde(skip_serializing_if = "str::is_empty")]
        metadata: &'a str,
        state: serde_json::Value,
    }
    let path = path.ok_or_else(|| Error::invalid("/linux/seccomp/listenerPath", "a rule uses SCMP_ACT_NOTIFY, and nobody is named to notify"))?;
    let state = serde_json::from_slice(&record.hook_state("creating", record.init_process_pid)).unwrap_or_default();
    let message = ProcessState { oci_version: crate::spec::OCI_VERSION, fds: ["seccompFd"], pid, metadata, state };
    let text = serde_json::to_vec(&message).map_err(|e| Error::other("writing the process state", "", e))?;
    let stream = connect(path, "seccomp listener").map_err(|e| e.within("failed to connect with seccomp agent"))?;
    send(&stream, &text, listener, "seccomp listener", path)
}

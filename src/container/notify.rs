//! systemd's two protocols: readiness (sd_notify(3), NOTIFY_SOCKET) and socket activation (sd_listen_fds(3), LISTEN_FDS).
//!
//! The container gets a datagram socket of ours at /run/notify/notify.sock; what it says there is passed on to the
//! socket that we were given, with the container's pid as MAINPID. Only READY, STATUS-like lines of it are taken.

use crate::spec::{Mount, Spec};
use crate::{Error, Result};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

const INSIDE: &str = "/run/notify";
const NAME: &str = "notify.sock";

pub struct NotifySocket {
    socket: UnixDatagram,
    host: PathBuf,
    pid: std::cell::Cell<i32>,
}

impl NotifySocket {
    /// Where NOTIFY_SOCKET is set: make the directory with our socket, and have the config mount it.
    pub fn prepare(dir: &Path, spec: &mut Spec) -> Result<Option<NotifySocket>> {
        let Some(host) = host_socket() else { return Ok(None) };
        let inner = dir.join("notify");
        std::fs::create_dir(&inner).map_err(|e| Error::io(&e, "making", inner.display().to_string()))?;
        let socket = bind(&inner.join(NAME))?;
        spec.mounts.push(Mount {
            destination: INSIDE.into(),
            kind: "bind".into(),
            source: inner.display().to_string(),
            options: ["bind", "nosuid", "noexec", "nodev", "ro"].map(String::from).to_vec(),
            ..Mount::default()
        });
        Ok(Some(NotifySocket { socket, host, pid: 0.into() }))
    }

    /// The socket of a container that was created with one: `start` takes its place at it.
    pub fn of(dir: &Path) -> Result<Option<NotifySocket>> {
        let path = dir.join("notify").join(NAME);
        let Some(host) = host_socket().filter(|_| path.exists()) else { return Ok(None) };
        std::fs::remove_file(&path).map_err(|e| Error::io(&e, "replacing", path.display().to_string()))?;
        Ok(Some(NotifySocket { socket: bind(&path)?, host, pid: 0.into() }))
    }

    pub fn env(&self) -> String {
        format!("NOTIFY_SOCKET={INSIDE}/{NAME}")
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Pass one message on; true when it says READY.
    pub fn forward_one(&self) -> bool {
        let mut buf = [0u8; 4096];
        let Ok(n) = self.socket.recv(&mut buf) else { return false };
        let text = String::from_utf8_lossy(&buf[..n]).into_owned();
        let ready = text.lines().any(|line| line == "READY=1");
        let pid = self.pid.get();
        // The container's own MAINPID is of its pid namespace; systemd wants the host's.
        let mut lines: Vec<&str> = text.lines().filter(|l| !l.starts_with("MAINPID=")).collect();
        let main = format!("MAINPID={pid}");
        if ready && pid > 0 {
            lines.push(&main);
        }
        if let Ok(out) = UnixDatagram::unbound() {
            let _ = out.send_to(lines.join("\n").as_bytes(), &self.host);
        }
        ready
    }

    /// `start`: stay until the container is ready or gone.
    pub fn forward_until_ready(self, pid: i32) -> Result<()> {
        self.pid.set(pid);
        let pidfd = match crate::sys::process::pidfd_open(pid) {
            Ok(fd) => fd,
            Err(_) => return Ok(()),
        };
        loop {
            let ready = crate::sys::signal::poll(&[self.fd(), pidfd.as_fd()], -1).map_err(|e| e.error("poll", "waiting for READY of", pid.to_string()))?;
            if ready & 1 != 0 && self.forward_one() || ready & 2 != 0 {
                return Ok(());
            }
        }
    }
}

fn bind(path: &Path) -> Result<UnixDatagram> {
    let socket = UnixDatagram::bind(path).map_err(|e| Error::io(&e, "making the notify socket", path.display().to_string()))?;
    // The container's user must be able to write to it, whoever that is.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(path, open).map_err(|e| Error::io(&e, "opening up", path.display().to_string()))?;
    Ok(socket)
}

fn host_socket() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET").filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// How many activated sockets were passed to us, from descriptor 3 on.
pub fn listen_fds() -> u32 {
    std::env::var("LISTEN_FDS").ok().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// What the container must know of them; it is process 1 there.
pub fn listen_env() -> Vec<String> {
    match listen_fds() {
        0 => Vec::new(),
        n => {
            let mut env = vec![format!("LISTEN_FDS={n}"), "LISTEN_PID=1".to_string()];
            env.extend(std::env::var("LISTEN_FDNAMES").ok().map(|names| format!("LISTEN_FDNAMES={names}")));
            env
        }
    }
}

//! The caller's ssh agent at a socket of our own, with the owner and mode that a RUN asks for: the agent's own socket has
//! its user's, and ssh-agent(1) answers nobody but that user and root.
//!
//! The agent's protocol is one of questions and answers, each with its length in front.

use crate::image::store::failed;
use crate::{Error, Result};
use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Of a question or an answer, in bytes; OpenSSH's.
const MOST_MESSAGE: u32 = 256 << 10;
/// Connections at once.
const MOST_CLIENTS: usize = 64;

/// Dropped, it answers no more.
pub(super) struct Agent {
    /// A socket's path may have 107 bytes, so it is named by the descriptor of its directory.
    _dir: File,
    socket: PathBuf,
    stopped: Arc<AtomicBool>,
}

impl Agent {
    /// Answer at `name` in `dir` what the agent at `real` answers.
    pub fn start(real: &Path, dir: &Path, name: &str, owner: (u32, u32), mode: u32) -> Result<Agent> {
        let at = dir.join(name);
        let opened = File::open(dir).map_err(failed("opening", dir))?;
        let socket = PathBuf::from(format!("/proc/self/fd/{}/{name}", opened.as_raw_fd()));
        let listener = UnixListener::bind(&socket).map_err(failed("making the socket", &at))?;
        chown(&at, Some(owner.0), Some(owner.1)).map_err(failed("making the socket", &at))?;
        std::fs::set_permissions(&at, Permissions::from_mode(mode)).map_err(failed("making the socket", &at))?;
        let stopped = Arc::new(AtomicBool::new(false));
        let (stop, real) = (stopped.clone(), real.to_path_buf());
        let work = move || listen(&listener, &stop, &real);
        thread(work).map_err(|e| Error::io(&e, "starting a thread", ""))?;
        Ok(Agent { _dir: opened, socket, stopped })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // So that it is seen.
        let _ = UnixStream::connect(&self.socket);
    }
}

fn thread(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().stack_size(64 << 10).spawn(work).map(drop)
}

fn listen(listener: &UnixListener, stopped: &AtomicBool, real: &Path) {
    let clients = Arc::new(AtomicUsize::new(0));
    while let Ok((client, _)) = listener.accept() {
        if stopped.load(Ordering::SeqCst) {
            return;
        }
        if clients.load(Ordering::SeqCst) >= MOST_CLIENTS {
            continue;
        }
        let Ok(agent) = UnixStream::connect(real) else { continue };
        clients.fetch_add(1, Ordering::SeqCst);
        let count = clients.clone();
        let work = move || {
            // Until either hangs up.
            while pass(&client, &agent).and_then(|()| pass(&agent, &client)).is_ok() {}
            count.fetch_sub(1, Ordering::SeqCst);
        };
        if thread(work).is_err() {
            clients.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// One message.
fn pass(mut from: &UnixStream, mut to: &UnixStream) -> std::io::Result<()> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let count = u32::from_be_bytes(length);
    if count > MOST_MESSAGE {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; count as usize];
    from.read_exact(&mut message)?;
    to.write_all(&[&length[..], &message].concat())
}

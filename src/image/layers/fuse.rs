//! fuse-overlayfs, where the kernel mounts no overlay in a user namespace.
//!
//! It is a daemon, and in our mount namespace, which would never end with it. So a process of ours, dhowctl by another
//! name, is between: a pipe tells it that we are gone, and it ends the daemon.

use crate::sys::{process, signal};
use crate::{Error, Result, log};
use std::ffi::OsStr;
use std::fs;
use std::io::{PipeWriter, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

/// The name by which dhowctl knows that it is to be in between.
const NAME: &str = "dhowctl: mounting";
const PROGRAM: &str = "fuse-overlayfs";

/// A mount of it. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Daemon {
    keeper: Child,
    alive: Option<PipeWriter>,
}

/// Where it is, if it is installed.
pub(super) fn program() -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(PROGRAM)).find(|path| path.is_file())
}

impl Daemon {
    /// Mount it at `target`; `options` are overlayfs's, with absolute paths.
    pub fn start(program: &Path, options: &[u8], target: &Path) -> Result<Daemon> {
        let failed = |e: std::io::Error| Error::io(&e, "starting", PROGRAM);
        let (theirs, alive) = std::io::pipe().map_err(failed)?;
        let (mut says, out) = std::io::pipe().map_err(failed)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0(NAME).arg(program).arg(OsStr::from_bytes(options)).arg(target);
        command.stdin(Stdio::from(theirs)).stdout(Stdio::from(out)).stderr(Stdio::inherit());
        let keeper = command.spawn().map_err(failed)?;
        // With it go our copies of its ends.
        drop(command);
        let daemon = Daemon { keeper, alive: Some(alive) };
        let mut mounted = String::new();
        says.read_to_string(&mut mounted).map_err(failed)?;
        if mounted == "mounted" { Ok(daemon) } else { Err(Error::other("mounting the layers at", target.display().to_string(), format!("{PROGRAM} failed"))) }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.alive = None;
        let _ = self.keeper.wait();
    }
}

/// Whether this process is meant to be in between.
pub fn is_wanted(argv0: Option<&OsStr>) -> bool {
    argv0.is_some_and(|name| name == NAME)
}

/// Start the program of the first argument, which goes to the background when it has mounted, and end that when standard
/// input ends.
pub fn main() -> ExitCode {
    let failed = |e: &dyn std::fmt::Display| {
        log::error(&format!("starting {PROGRAM}: {e}"));
        ExitCode::FAILURE
    };
    // Ctrl-C is for dhowctl, which tells us.
    let _blocked = signal::termination_fd();
    if let Err(e) = process::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) {
        return failed(&e.error("prctl", "", ""));
    }
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [program, options, target] = &args[..] else { return failed(&"three arguments are needed") };
    let status = Command::new(program).arg("-o").arg(options).arg(target).stdin(Stdio::null()).stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return failed(&status),
        Err(e) => return failed(&e),
    }
    // Said when standard output is closed, too.
    let said = std::io::Write::write_all(&mut std::io::stdout(), b"mounted").and_then(|()| std::io::Write::flush(&mut std::io::stdout()));
    if said.is_err() || close_output().is_err() {
        end_children();
        return ExitCode::FAILURE;
    }
    // Nothing is ever written to it.
    let _ = std::io::stdin().read(&mut [0]);
    end_children();
    ExitCode::SUCCESS
}

fn close_output() -> std::io::Result<()> {
    let null = fs::File::options().write(true).open("/dev/null")?;
    use std::os::fd::AsFd;
    crate::sys::fs::dup2(null.as_fd(), 1).map_err(|e| std::io::Error::from_raw_os_error(e.0))
}

/// The daemon became our child when the process that we started ended.
fn end_children() {
    let pid = process::getpid();
    let children = fs::read_to_string(format!("/proc/self/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        // It may have ended by itself, since it is unmounted.
        let _ = signal::kill(child, libc::SIGKILL);
    }
}

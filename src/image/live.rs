//! A container in our foreground, by way of the runtime, and the directory of its bundle.
//!
//! The directory is locked while we live; what a killed dhowctl left, container included, is removed by the next.

use super::bundle;
use super::ids;
use super::signals::Signals;
use super::unpack;
use crate::sys::{self, mount, process};
use crate::{Error, Result, log};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// From here on what we mount is seen by us and our children alone, and is gone with the last of us.
pub fn own_mounts() -> Result<()> {
    let told = |call: &'static str| move |e: sys::Errno| e.error(call, "making a mount namespace", "");
    process::unshare(process::CLONE_NEWNS).map_err(told("unshare"))?;
    mount::propagate(c"/", libc::MS_REC | libc::MS_SLAVE).map_err(told("mount"))?;
    Ok(())
}

/// The runtime and its state directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Runtime {
    pub program: PathBuf,
    pub root: Option<PathBuf>,
}

impl Runtime {
    /// `root`, or what the runtime takes by itself; without root that is in $XDG_RUNTIME_DIR, or in the store if there
    /// is none.
    pub fn new(program: PathBuf, root: Option<PathBuf>, store: &Path) -> Runtime {
        let own = || {
            let base = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
            base.map_or_else(|| store.join("state"), |base| Path::new(&base).join("dhow"))
        };
        let is_root = unpack::are_root() && !ids::ours().entered;
        Runtime { program, root: if is_root { root } else { root.or_else(|| Some(own())) } }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(root) = &self.root {
            command.arg("--root").arg(root);
        }
        command
    }

    /// Remove a container that may not be there.
    pub fn delete(&self, id: &str) {
        let done = self.command().args(["delete", "--force", id]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        log::debug(&format!("delete --force {id}: {done:?}"));
    }
}

/// A run under way; dropped, nothing of it is left.
pub struct Live {
    id: String,
    /// `run/ID` of the store, for a bundle.
    pub dir: PathBuf,
    runtime: Runtime,
    /// Locked.
    _lock: File,
    /// The runtime was started and has not said that it is done.
    unsettled: std::cell::Cell<bool>,
}

/// In the directory, for whoever has to remove what we left.
#[derive(Serialize, Deserialize)]
struct Note {
    id: String,
    runtime: Runtime,
}

const NOTE: &str = "run.json";
/// What the runtime has to say, apart from what the program prints.
const LOG: &str = "log.json";

impl Live {
    pub fn begin(runs: &Path, name: Option<&str>, runtime: Runtime) -> Result<Live> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
        let id = name.map_or_else(|| format!("dhowctl-{}-{now:x}", std::process::id()), str::to_string);
        if id.is_empty() || id.starts_with('.') || id.contains('/') {
            return Err(Error::usage(format!("{id:?} is no container id")));
        }
        let dir = runs.join(&id);
        let shown = dir.display().to_string();
        let failed = |doing: &'static str| {
            let shown = shown.clone();
            move |e: std::io::Error| Error::io(&e, doing, shown)
        };
        // There are setuid programs below.
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700).recursive(true).create(runs).map_err(failed("making"))?;
        // Until ours is locked nobody may take it for a left one.
        let all = File::open(runs).map_err(failed("opening"))?;
        all.lock().map_err(failed("locking"))?;
        remove_stale(runs);
        builder.recursive(false).create(&dir).map_err(failed("making"))?;
        let lock = File::open(&dir).map_err(failed("opening"))?;
        lock.lock().map_err(failed("locking"))?;
        let live = Live { id, dir, runtime, _lock: lock, unsettled: false.into() };
        let note = serde_json::to_vec(&Note { id: live.id.clone(), runtime: live.runtime.clone() }).map_err(|e| Error::other("writing", NOTE, e))?;
        fs::write(live.dir.join(NOTE), note).map_err(|e| Error::io(&e, "writing", live.dir.display().to_string()))?;
        Ok(live)
    }

    /// The root of a user namespace, who isn't us, has to get to the bundle.
    pub fn let_others_pass(&self) -> Result<()> {
        let runs = self.dir.parent().unwrap_or(&self.dir);
        [runs, &self.dir].into_iter().try_for_each(|dir| {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).map_err(|e| Error::io(&e, "setting the mode of", dir.display().to_string()))
        })
    }

    /// The runtime's `run`, to its end.
    pub fn run(&self, bundle: &Path, signals: &Signals) -> Result<u8> {
        let log = self.dir.join(LOG);
        let mut command = self.runtime.command();
        command.arg("--log").arg(&log).args(["--log-format", "json", "run", "--bundle"]).arg(bundle).arg(&self.id);
        let started = command.spawn();
        let mut child = started.map_err(|e| Error::io(&e, "starting", self.runtime.program.display().to_string()))?;
        self.unsettled.set(true);
        let pidfd = process::pidfd_open(child.id() as i32).map_err(|e| e.error("pidfd_open", "starting the runtime", ""))?;
        signals.pass_to(pidfd);
        let status = child.wait().map_err(|e| Error::io(&e, "waiting for the runtime", ""))?;
        self.unsettled.set(status.code().is_none());
        let code = status.code().map_or_else(|| 128 + status.signal().unwrap_or(0) as u8, |code| code as u8);
        Ok(failed_program(&log).unwrap_or(code))
    }
}

impl Live {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The runtime's `run` of the bundle in our directory, with nothing to read and all output on `out`; the exit code when
    /// `read` has seen all of it. The runtime dies with us: one that goes on could make what a [`super::watch`] just removed.
    pub fn run_to(&self, out: std::io::PipeWriter, read: impl FnOnce()) -> Result<u8> {
        let failed = |e: std::io::Error| Error::io(&e, "starting", self.runtime.program.display().to_string());
        let mut command = self.runtime.command();
        let log = self.dir.join(LOG);
        command.arg("--log").arg(&log).args(["--log-format", "json", "run", "--bundle"]).arg(&self.dir).arg(&self.id).stdin(Stdio::null());
        command.stderr(out.try_clone().map_err(failed)?).stdout(out);
        process::end_with_thread(&mut command);
        let mut child = command.spawn().map_err(failed)?;
        self.unsettled.set(true);
        // With it goes our end of the pipe.
        drop(command);
        read();
        let status = child.wait().map_err(|e| Error::io(&e, "waiting for the runtime", ""))?;
        self.unsettled.set(status.code().is_none());
        if let Some(message) = last_error(&log) {
            // What the runtime was doing is known.
            let cause = message.rsplit_once("error during container init: ").map_or(message.as_str(), |(_, cause)| cause);
            return Err(Error::other("starting", "the container", cause));
        }
        Ok(status.code().map_or_else(|| 128 + status.signal().unwrap_or(0) as u8, |code| code as u8))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.unsettled.get() {
            self.runtime.delete(&self.id);
        }
        bundle::remove(&self.dir);
    }
}

/// The shell's code for a program that could not be run, if that is what the runtime's log says.
fn failed_program(log: &Path) -> Option<u8> {
    last_error(log).and_then(|message| program_code(&message))
}

/// Of the runtime's log; its warnings are passed on.
fn last_error(log: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        level: String,
        msg: String,
    }
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut found = None;
    for line in serde_json::Deserializer::from_str(&text).into_iter::<Line>().map_while(std::result::Result::ok) {
        match line.level.as_str() {
            "warning" => log::warn(&line.msg),
            "error" => found = Some(line.msg),
            _ => {}
        }
    }
    found
}

/// By the words that Docker's engine tells it by too (docs/callers/contract.md): 127 for one that isn't there, 126 for one
/// that can't be executed.
fn program_code(message: &str) -> Option<u8> {
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if !has(&["exec: \"", "executable file"]) {
        None
    } else if has(&["executable file not found", "no such file or directory", "not a directory"]) {
        Some(127)
    } else if has(&["permission denied", "is a directory", "exec format error"]) {
        Some(126)
    } else {
        None
    }
}

/// Remove what killed dhowctls left, for whoever has no run of its own to begin.
///
/// # Errors
/// The directory can't be locked.
pub fn remove_left(runs: &Path) -> Result<()> {
    let all = File::open(runs).and_then(|dir| dir.lock().map(|()| dir));
    let _all = all.map_err(|e| Error::io(&e, "locking", runs.display().to_string()))?;
    remove_stale(runs);
    Ok(())
}

/// Directories that a killed dhowctl left, locked by us, with the containers that they are of.
fn stale(runs: &Path) -> impl Iterator<Item = (PathBuf, File, Option<Note>)> {
    fs::read_dir(runs).into_iter().flatten().flatten().filter_map(|entry| {
        let dir = entry.path();
        let lock = File::open(&dir).ok()?;
        lock.try_lock().ok()?;
        let note = fs::read(dir.join(NOTE)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Some((dir, lock, note))
    })
}

/// End the containers that a killed dhowctl left. To be called before a user namespace is entered: in it we could not
/// signal those of another, to which theirs belong.
pub fn end_stale(runs: &Path) {
    stale(runs).filter_map(|(_, _, note)| note).for_each(|note| note.runtime.delete(&note.id));
}

/// What a killed dhowctl left: its container, its directory.
fn remove_stale(runs: &Path) {
    for (dir, _lock, note) in stale(runs) {
        log::debug(&format!("removing {}, which a dhowctl left that was killed", dir.display()));
        if let Some(note) = note {
            note.runtime.delete(&note.id);
        }
        // One with files of subordinate ids goes when an image is run.
        if unpack::are_root() || !dir.join(bundle::ROOTFS).exists() {
            bundle::remove(&dir);
        }
    }
}

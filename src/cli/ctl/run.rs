//! `run`: a container in the foreground, of a bundle or of an image, by way of the runtime.
//!
//! Of an image a bundle is made for the time being, in `run/ID` of the store: an overlay of the shared layers, mounted
//! in a mount namespace of our own, so that no mount outlives us. The directory is locked while we live; what a killed
//! dhowctl left, container included, is removed by the next.

use super::args::{FlagsEnd, path, switch, text};
use super::bring::{self, Brought};
use super::signals::Signals;
use super::unpack::wishes;
use super::{Call, Verb};
use crate::image::bundle::{self, Request};
use crate::image::convert::Wishes;
use crate::spec::Spec;
use crate::sys::{self, mount, process};
use crate::{Error, log};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::IsTerminal;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) const VERB: Verb = Verb {
    name: "run",
    about: "run a container of a bundle or an image, in the foreground",
    usage: "BUNDLE|IMAGE [COMMAND [ARG...]]",
    details: "The container is gone when its program ends, and so is what it wrote if it was made from an image. COMMAND\n\
        takes the place of the image's Cmd, or of the bundle's args. The exit code is the program's.\n\n  \
        dhowctl run debian:12 cat /etc/os-release\n  \
        dhowctl run --host-network nginx:1.27\n  \
        dhowctl run ./bundle",
    positionals: (1, usize::MAX),
    flags_end: FlagsEnd::AfterFirst,
    flags: || {
        let mut all = vec![
            text("name", "ID", "the container's id (default: made up)"),
            switch("tty", "a terminal for the container (default: if standard input and output are one)").short('t'),
            switch("no-tty", "no terminal").short('T'),
            switch("host-network", "the host's network instead of one of its own without a connection"),
            switch("copy", "unpack a copy instead of mounting shared layers, as is done without root"),
            path("runtime", "FILE", "the runtime (default: dhow beside dhowctl, or in $PATH)"),
            path("runtime-root", "DIR", "--root of the runtime"),
        ];
        all.extend(bring::flags());
        all
    },
    run,
};

fn run(call: &Call) -> Result<u8> {
    let runtime = Runtime { program: runtime(call)?, root: call.path("runtime-root") };
    let command = call.positionals_from(1)?;
    let signals = Signals::begin()?;
    let place = Path::new(call.word(0)?);
    let runs = call.store()?.root().join("run");
    let place_is_bundle = place.join("config.json").is_file();
    signals.clean_up_on_signal();
    let live = Live::begin(&runs, call.text("name"), runtime)?;
    let made = if place_is_bundle { of_bundle(call, place, command, &live) } else { of_image(call, command, &live) };
    match (made, signals.code()) {
        (Ok(bundle), _) => live.run(&bundle, &signals),
        (Err(_), Some(code)) => Ok(code),
        (Err(e), None) => Err(e),
    }
}

/// The bundle as it is; with another command or terminal, a configuration of our own that has its root.
fn of_bundle(call: &Call, bundle: &Path, command: Vec<String>, live: &Live) -> Result<PathBuf> {
    let bundle = bundle.canonicalize().map_err(|e| Error::io(&e, "looking for", bundle.display().to_string()))?;
    if process::geteuid() == 0 {
        own_mounts()?;
        bundle::remount(&bundle)?;
    }
    if command.is_empty() && !call.switch("tty") && !call.switch("no-tty") {
        return Ok(bundle);
    }
    let mut spec = Spec::load(&bundle)?;
    if let Some(root) = &mut spec.root {
        root.path = bundle.join(&root.path).display().to_string();
    }
    if let Some(process) = &mut spec.process {
        process.terminal = if call.switch("tty") || call.switch("no-tty") { call.switch("tty") } else { process.terminal };
        if !command.is_empty() {
            process.args = command;
        }
    }
    bundle::write_config(&live.dir, &spec)?;
    Ok(live.dir.clone())
}

fn of_image(call: &Call, command: Vec<String>, live: &Live) -> Result<PathBuf> {
    let options = bring::options(call)?;
    let terminal = call.switch("tty") || (!call.switch("no-tty") && std::io::stdin().is_terminal() && std::io::stdout().is_terminal());
    let brought = Brought::begin(call, call.word(0)?)?;
    let wishes = Wishes { command, terminal, host_network: call.switch("host-network"), ..wishes(&options.owners) };
    let overlay = process::geteuid() == 0 && !call.switch("copy");
    if overlay {
        own_mounts()?;
    }
    let (store, image) = (brought.store.clone(), brought.image.clone());
    let open = |layer: &crate::image::Descriptor| brought.open(layer);
    let request = Request { store: &store, image: &image, open: &open, overlay, options, wishes };
    match bundle::fill(&request, &live.dir, &live.dir) {
        Ok((summary, mounted)) => {
            brought.settle()?;
            summary.lost.iter().for_each(|line| log::warn(line));
            // It goes with our mount namespace.
            if let Some(mounted) = mounted {
                mounted.leave();
            }
            Ok(live.dir.clone())
        }
        // The fetch's own failure says more.
        Err(e) => Err(brought.settle().err().unwrap_or(e).into()),
    }
}

/// From here on what we mount is seen by us and our children alone, and is gone with the last of us.
fn own_mounts() -> Result<()> {
    let told = |call: &'static str| move |e: sys::Errno| e.error(call, "making a mount namespace", "");
    process::unshare(process::CLONE_NEWNS).map_err(told("unshare"))?;
    mount::propagate(c"/", libc::MS_REC | libc::MS_SLAVE).map_err(told("mount"))?;
    Ok(())
}

/// The runtime and its state directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Runtime {
    program: PathBuf,
    root: Option<PathBuf>,
}

fn runtime(call: &Call) -> Result<PathBuf> {
    if let Some(path) = call.path("runtime") {
        return Ok(path);
    }
    let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name("dhow")).filter(|path| path.is_file());
    let on_path = || std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join("dhow")).find(|path| path.is_file());
    Ok(beside
        .or_else(on_path)
        .ok_or_else(|| Error::other("looking for the runtime", "dhow", "it is neither beside dhowctl nor in $PATH").hint("--runtime FILE names one"))?)
}

impl Runtime {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(root) = &self.root {
            command.arg("--root").arg(root);
        }
        command
    }

    /// Remove a container that may not be there.
    fn delete(&self, id: &str) {
        let done = self.command().args(["delete", "--force", id]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        log::debug(&format!("delete --force {id}: {done:?}"));
    }
}

/// A run under way; dropped, nothing of it is left.
struct Live {
    id: String,
    dir: PathBuf,
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

impl Live {
    fn begin(runs: &Path, name: Option<&str>, runtime: Runtime) -> Result<Live> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
        let id = name.map_or_else(|| format!("dhowctl-{}-{now:x}", std::process::id()), str::to_string);
        if id.is_empty() || id.starts_with('.') || id.contains('/') {
            return Err(Error::usage(format!("{id:?} is no container id")).into());
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
        let note = serde_json::to_vec(&Note { id: live.id.clone(), runtime: live.runtime.clone() })?;
        fs::write(live.dir.join(NOTE), note).map_err(|e| Error::io(&e, "writing", live.dir.display().to_string()))?;
        Ok(live)
    }

    /// The runtime's `run`, to its end.
    fn run(&self, bundle: &Path, signals: &Signals) -> Result<u8> {
        let started = self.runtime.command().args(["run", "--bundle"]).arg(bundle).arg(&self.id).spawn();
        let mut child = started.map_err(|e| Error::io(&e, "starting", self.runtime.program.display().to_string()))?;
        self.unsettled.set(true);
        let pidfd = process::pidfd_open(child.id() as i32).map_err(|e| e.error("pidfd_open", "starting the runtime", ""))?;
        signals.pass_to(pidfd);
        let status = child.wait().map_err(|e| Error::io(&e, "waiting for the runtime", ""))?;
        self.unsettled.set(status.code().is_none());
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

/// What a killed dhowctl left: its container, its directory.
fn remove_stale(runs: &Path) {
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let dir = entry.path();
        let Ok(lock) = File::open(&dir) else { continue };
        if lock.try_lock().is_err() {
            continue;
        }
        let note: Option<Note> = fs::read(dir.join(NOTE)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        log::debug(&format!("removing {}, which a dhowctl left that was killed", dir.display()));
        if let Some(note) = note {
            note.runtime.delete(&note.id);
        }
        bundle::remove(&dir);
    }
}

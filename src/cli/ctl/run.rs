//! `run`: a container in the foreground, of a bundle or of an image, by way of the runtime.
//!
//! Of an image a bundle is made for the time being ([`Live`]): an overlay of the shared layers, mounted in a mount
//! namespace of our own, so that no mount outlives us.

use super::args::{FlagsEnd, path, switch, text};
use super::{Call, Verb, beside, bring};
use crate::image::bundle::{self, Overlay, Request};
use crate::image::convert::Wishes;
use crate::image::ids::{self, Need};
use crate::image::layers::Layers;
use crate::image::live::{Live, Runtime, own_mounts};
use crate::image::signals::Signals;
use crate::image::unpack::{Owners, are_root};
use crate::spec::Spec;
use crate::{Error, log};
use anyhow::Result;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

pub(crate) const VERB: Verb = Verb {
    name: "run",
    about: "run a container of a bundle or an image, in the foreground",
    usage: "BUNDLE|IMAGE [COMMAND [ARG...]]",
    details: "The container is gone when its program ends, and so is what it wrote if it was made from an image. COMMAND\n\
        takes the place of the image's Cmd, or of the bundle's args. The exit code is the program's.\n\n  \
        dhowctl run debian:12 cat /etc/os-release\n  \
        dhowctl run -it -e DEBUG=1 -v ./src:/src:ro -w /src python:3.11 bash\n  \
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
            switch("copy", "unpack a copy instead of mounting shared layers"),
            path("runtime", "FILE", "the runtime (default: dhow beside dhowctl, or in $PATH)"),
            path("runtime-root", "DIR", "--root of the runtime"),
        ];
        all.extend(beside::flags());
        all.extend(bring::flags());
        all
    },
    need,
    run,
};

/// A bundle that isn't mounted is the runtime's, which makes its own user namespace.
fn need(call: &Call) -> Need {
    let place = Path::new(call.word(0).unwrap_or_default());
    match place.join("config.json").is_file() {
        true if Layers::are_under(place) => Need::Mounts,
        true => Need::Nothing,
        false if call.switch("rootless") => Need::Nothing,
        false => Need::Mounts,
    }
}

fn run(call: &Call) -> Result<u8> {
    let runtime = Runtime::new(runtime(call)?, call.path("runtime-root"), &call.store_dir);
    let command = call.positionals_from(1)?;
    let signals = Signals::begin()?;
    let place = Path::new(call.word(0)?);
    let runs = call.store()?.root().join("run");
    let place_is_bundle = place.join("config.json").is_file();
    signals.clean_up_on_signal();
    let live = Live::begin(&runs, call.text("name"), runtime)?;
    if place_is_bundle {
        beside::refuse_for_bundle(call)?;
    } else if place.is_dir() || call.word(0)?.starts_with(['/', '.']) {
        let cause = if place.is_dir() { "there is no config.json in it, so it is no bundle" } else { "there is no such bundle" };
        return Err(Error::other("running", place.display().to_string(), cause).hint("images have names without a slash or dot in front").into());
    }
    let made = if place_is_bundle { of_bundle(call, place, command, &live) } else { of_image(call, command, &live) };
    match (made, signals.code()) {
        (Ok(bundle), _) => Ok(live.run(&bundle, &signals)?),
        (Err(_), Some(code)) => Ok(code),
        (Err(e), None) => Err(e),
    }
}

/// The bundle as it is; with another command or terminal, a configuration of our own that has its root.
fn of_bundle(call: &Call, bundle: &Path, command: Vec<String>, live: &Live) -> Result<PathBuf> {
    let bundle = bundle.canonicalize().map_err(|e| Error::io(&e, "looking for", bundle.display().to_string()))?;
    if are_root() {
        own_mounts()?;
        bundle::remount(&bundle)?;
    }
    let entered = ids::ours().entered;
    if command.is_empty() && !call.switch("tty") && !call.switch("no-tty") && !entered {
        return Ok(bundle);
    }
    let mut spec = Spec::load(&bundle)?;
    if entered {
        bundle::for_us(&mut spec)?;
    }
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
    let brought = bring::begin(call, call.word(0)?)?;
    let wishes =
        Wishes { now: true, mounts: beside::mounts(call)?, command, terminal, host_network: call.switch("host-network"), ..Wishes::for_us(&options.owners) };
    let overlay = match (are_root() && !call.switch("copy"), ids::ours().are_all()) {
        (false, _) => Overlay::No,
        (true, true) => Overlay::Yes,
        (true, false) => Overlay::Maybe,
    };
    if overlay != Overlay::No {
        own_mounts()?;
    }
    if matches!(options.owners, Owners::Mapped(..)) {
        live.let_others_pass()?;
    }
    let (store, mut image) = (brought.store.clone(), brought.image.clone());
    beside::apply(call, &mut image.config.config)?;
    let open = |layer: &crate::image::Descriptor| brought.open(layer);
    let request = Request { store: &store, image: &image, open: &open, overlay, options, wishes };
    match bundle::fill(&request, &live.dir, &live.dir) {
        Ok((summary, mounted)) => {
            brought.settle()?;
            summary.lost.iter().for_each(|line| log::warn(line));
            if mounted.is_none() && !call.switch("rootless") {
                ids::tell_of_others(&summary);
            }
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

/// `--runtime`, or the dhow beside us, or in $PATH.
pub(super) fn runtime(call: &Call) -> Result<PathBuf> {
    if let Some(path) = call.path("runtime") {
        return Ok(path);
    }
    let beside = std::env::current_exe().ok().map(|exe| exe.with_file_name("dhow")).filter(|path| path.is_file());
    let on_path = || std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join("dhow")).find(|path| path.is_file());
    Ok(beside
        .or_else(on_path)
        .ok_or_else(|| Error::other("looking for the runtime", "dhow", "it is neither beside dhowctl nor in $PATH").hint("--runtime FILE names one"))?)
}

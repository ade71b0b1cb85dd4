//! RUN: a container over the files of the step before, by way of the runtime.

use super::mounts::{self, Mounts};
use super::output::Shown;
use super::select;
use super::solve::{Build, interrupted};
use super::step::Opened;
use super::{add, copy};
use crate::image::Platform;
use crate::image::build::dockerfile::args::HOSTNAME;
use crate::image::build::dockerfile::ignore::Verdict;
use crate::image::build::plan::{Mount, MountKind, Network, Origin, Run};
use crate::image::bundle::write_config;
use crate::image::convert::{Wishes, convert, defaults};
use crate::image::ids;
use crate::image::layers::{Draft, Files};
use crate::image::live::Live;
use crate::image::model::{Execution, ImageConfig};
use crate::spec::Spec;
use crate::sys::fs;
use crate::{Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::Path;

/// Longer lines are shown in parts.
const MOST_LINE: u64 = 8 << 10;

/// Run it with what it writes in `draft`.
///
/// # Errors
/// Its exit code isn't 0, or it can't be started.
pub(super) fn run(build: &Build, run: &Run, files: &Files, draft: &Draft, platform: &Platform, shown: &Shown) -> Result<()> {
    let workshop = build.workshop()?;
    build.watched()?;
    let own = workshop.new_dir("run")?;
    let mut mounts = gather(build, run, platform, &own)?;
    let hosts = network(build, run) == Network::Host;
    mounts.places.extend(defaults::mounts().into_iter().map(|mount| (mount.destination, true)));
    mounts.places.extend(["/etc/resolv.conf", "/etc/hosts"].map(|file| (file.to_string(), false)));
    if !run.cwd.is_empty() {
        mounts.places.push((run.cwd.clone(), true));
    }
    let stubs = workshop.stubs(&mounts.places)?;
    let view = workshop.mount(files, draft, Some(&stubs))?;
    let root = File::open(&view.path).map_err(|e| Error::io(&e, "opening", view.path.display().to_string()))?;
    let live = Live::begin(&build.around.store.root().join("run"), Some(&name()), build.around.runtime.clone())?;
    let hostname = build.request.args.get(HOSTNAME).map_or("buildkitsandbox", String::as_str);
    let spec = spec(run, &view.path, root.as_fd(), hosts, hostname, &mounts)?;
    write_config(&live.dir, &spec)?;
    drop(root);
    let _running = build.stopper.guard(&build.around.runtime, live.id())?;
    let (read, write) = std::io::pipe().map_err(|e| Error::io(&e, "starting", "a container"))?;
    let code = live.run_to(write, || stream(read, shown));
    if build.stopper.is_stopped() {
        return Err(interrupted());
    }
    match code? {
        0 => Ok(()),
        137 => Err(Error::other("running", shell_words(&run.args), "exit code: 137").hint("it was killed, maybe since memory ran out")),
        code => Err(Error::other("running", shell_words(&run.args), format!("exit code: {code}"))),
    }
}

fn name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("dhowctl-build-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn shell_words(args: &[String]) -> String {
    args.join(" ").lines().next().unwrap_or_default().to_string()
}

fn network(build: &Build, run: &Run) -> Network {
    match (run.network, build.request.network) {
        (Network::None, _) | (Network::Default, Network::None) => Network::None,
        _ => Network::Host,
    }
}

/// Each line of the output, until the last process that has it open is gone.
fn stream(read: std::io::PipeReader, shown: &Shown) {
    let mut lines = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        match std::io::Read::take(&mut lines, MOST_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => shown.line(&line),
        }
    }
}

fn spec(run: &Run, rootfs: &Path, root: std::os::fd::BorrowedFd, hosts: bool, hostname: &str, mounts: &Mounts) -> Result<Spec> {
    let mut env = run.env.clone();
    let has = |env: &[String], line: &str| env.iter().any(|other| other.split('=').next() == line.split('=').next());
    for line in run.proxies.iter().chain(&mounts.env) {
        if !has(&env, line) {
            env.push(line.clone());
        }
    }
    let execution = Execution { user: run.user.clone(), env, cmd: run.args.clone(), working_dir: run.cwd.clone(), ..Execution::default() };
    let config = ImageConfig { config: execution, ..ImageConfig::default() };
    let wishes = Wishes { now: true, root: rootfs.display().to_string(), host_network: hosts, ..Wishes::for_us(&ids::owners()) };
    let mut spec = convert(&config, root, &wishes)?;
    spec.mounts.extend(mounts.list.iter().cloned());
    spec.hostname = hostname.into();
    Ok(spec)
}

fn gather(build: &Build, run: &Run, platform: &Platform, own: &Path) -> Result<Mounts> {
    let mut out = Mounts::default();
    let mut secrets = None;
    for mount in &run.mounts {
        match &mount.kind {
            MountKind::Bind { from, source } => bind(build, &mut out, mount, from, source, platform)?,
            MountKind::Tmpfs { size } => out.tmpfs(&mount.target, *size),
            MountKind::Cache { from, source, .. } => {
                let fill = |dir: &Path| {
                    if *from == Origin::Scratch { Ok(()) } else { copy_of(build, from, source, dir, platform) }
                };
                out.cache(&build.around.store, &mount.target, &mount.kind, mount.readonly, fill)?;
            }
            MountKind::Secret { .. } => {
                if secrets.is_none() {
                    let dir = own.join("secrets");
                    std::fs::create_dir(&dir).map_err(|e| Error::io(&e, "making", dir.display().to_string()))?;
                    mounts::in_memory(&mut out, &dir)?;
                    secrets = Some(dir);
                }
                out.secret(build.request, secrets.as_deref().unwrap_or(own), &mount.target, &mount.kind)?;
            }
            MountKind::Ssh { .. } => out.ssh(build.request, own, &mount.target, &mount.kind)?,
        }
    }
    if let Some(script) = &run.script {
        add::write_inline(own, script, 0o755, None)?;
        out.bind(&own.join(&script.name).display().to_string(), &format!("/dev/pipes/{}", script.name), false, true);
    }
    for volume in &build.request.volumes {
        let host = volume.host.canonicalize().map_err(|e| Error::io(&e, "looking for the volume", volume.host.display().to_string()))?;
        out.bind(&host.display().to_string(), &volume.container, host.is_dir(), volume.readonly);
    }
    Ok(out)
}

/// What is to be written to, or has ignored files in it, is copied; else it is bound where it is, by descriptor: there may
/// be symlinks in its path.
fn bind(build: &Build, out: &mut Mounts, mount: &Mount, from: &Origin, source: &str, platform: &Platform) -> Result<()> {
    let opened = build.opened(from, platform)?;
    if !mount.readonly || matches!(opened, Opened::Context | Opened::Local(_)) {
        let dir = build.workshop()?.new_dir("bind")?;
        copy_of(build, from, source, &dir, platform)?;
        let single = dir.join("single");
        let is_file = build.with_tree(&opened, |tree| {
            let handle = select::open(tree.root, &copy::clean(source.as_bytes()), libc::O_PATH).map_err(|e| e.error("openat2", "mounting", source))?;
            Ok(fs::fstat(handle.as_fd()).is_ok_and(|stat| stat.st_mode & libc::S_IFMT != libc::S_IFDIR))
        })?;
        let place = if is_file { single } else { dir };
        out.bind(&place.display().to_string(), &mount.target, !is_file, mount.readonly);
        return Ok(());
    }
    let Opened::View(view, root) = &opened else { return Err(Error::other("mounting", source, "it is in no image")) };
    let failed = |call: &'static str| move |e: crate::sys::Errno| e.error(call, "mounting", source);
    let handle = select::open(root.as_fd(), &copy::clean(source.as_bytes()), libc::O_PATH).map_err(failed("openat2"))?;
    let is_dir = fs::fstat(handle.as_fd()).map_err(failed("fstat"))?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let place = build.workshop()?.new_dir("bind")?;
    let place = if is_dir { place } else { place.join("single") };
    if !is_dir {
        File::create(&place).map_err(|e| Error::io(&e, "making", place.display().to_string()))?;
    }
    out.attach(handle, &place)?;
    out.bind(&place.display().to_string(), &mount.target, is_dir, true);
    out.views.push(view.clone());
    Ok(())
}

/// A copy of `source` in `dir`; of a file as `single`.
fn copy_of(build: &Build, from: &Origin, source: &str, dir: &Path, platform: &Platform) -> Result<()> {
    let opened = build.opened(from, platform)?;
    let to = File::open(dir).map_err(|e| Error::io(&e, "opening", dir.display().to_string()))?;
    build.with_tree(&opened, |tree| {
        let keep = |_: &[u8]| Verdict::Keep;
        let tops = select::select(tree, "/", &super::step::escaped_path(source), false, &keep, select::Read::HeadersOnly)?;
        let manner = copy::Manner { owner: None, mode: None, link: false, parents: None };
        let is_file = tops.first().is_some_and(|top| !top.is_dir);
        copy::copy(to.as_fd(), tree, &tops.iter().collect::<Vec<_>>(), if is_file { "/single" } else { "/" }, false, &manner)
    })
}

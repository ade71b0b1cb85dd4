//! The store of containers, their locks and states, and the lifecycle: one function a verb, on [`Context`].

mod console;
mod create;
mod events;
mod exec;
mod foreground;
mod notify;
mod rdt;
mod record;
mod request;
mod store;
mod time;
mod verbs;

pub use crate::host::in_user_namespace;
pub use crate::stage::seal::run_sealed;
pub use request::*;

use crate::cgroup::{self, Cgroup};
use crate::host::{Host, cgroup::Layout};
use crate::plan::{self, Plan};
use crate::spec::{self, Spec};
use crate::{Error, Result, log, seccomp, stage, sys};
use record::Record;
use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The path without symbolic links (realpath(3)), without the allocations of std's `canonicalize`.
pub fn real_path(path: &Path) -> io::Result<PathBuf> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut buf = [0; libc::PATH_MAX as usize];
    let real = sys::fs::realpath(&path, &mut buf).map_err(|e| io::Error::from_raw_os_error(e.0))?;
    Ok(OsString::from_vec(real.to_bytes().to_vec()).into())
}

impl Context {
    /// Without root, cgroups are used where we may and done without where nothing asks for them.
    fn rootless_cgroups(&self) -> bool {
        self.rootless.unwrap_or_else(|| match self.systemd_cgroup {
            true => cgroup::is_user_manager(),
            // A user namespace's root has no more rights on cgroups than the user who made it.
            false => sys::process::geteuid() != 0 || in_user_namespace(),
        })
    }

    /// The cgroup of container `id`: directories, or a unit of systemd's.
    fn plan_cgroup(&self, layout: &Layout, cgroups_path: &str, id: &str) -> Result<Cgroup> {
        match self.systemd_cgroup {
            true => Cgroup::plan_unit(layout, cgroups_path, id, self.rootless_cgroups()),
            false => Cgroup::plan(layout, cgroups_path, id, self.rootless_cgroups()),
        }
    }

    /// `explain`: the plan of a bundle as `create` would make it, without making anything.
    pub fn explain(&self, bundle: &Path) -> Result<Plan> {
        let spec = Spec::load(bundle)?;
        let bundle = real_path(bundle).map_err(|e| Error::io(&e, "opening the bundle", bundle.display().to_string()))?;
        let layout = Layout::detect()?;
        let cgroup = self.plan_cgroup(&layout, &spec.linux.cgroups_path, "ID")?;
        let host = Host::probe(&layout)?;
        let options =
            plan::Options { id: "ID".into(), bundle, has_console: true, cgroup_paths: mounted_paths(&host, &spec, &cgroup), ..plan::Options::default() };
        plan::build(&spec, &host, &options)
    }
}

/// This machine has cgroup v2 alone.
pub fn has_unified_cgroups() -> bool {
    matches!(Layout::detect(), Ok(Layout::Unified(_)))
}

/// `--preserve-fds N`: all of 3 to 2 + N must be open, or the caller counted wrongly.
fn check_preserved(count: u32) -> Result<()> {
    let missing = (3..3 + count as i32).find(|fd| !sys::fs::is_open(*fd));
    match missing {
        Some(fd) => Err(Error::usage(format!("unable to stat preserved-fd {fd} (of {count}): bad file descriptor"))),
        None => Ok(()),
    }
}

/// The container's cgroup in each hierarchy, by the name of its directory below /sys/fs/cgroup; "" for v2.
///
/// Without root and without a path in the config nobody knows yet which of them can be made, so none is shown.
fn mounted_paths(host: &Host, spec: &Spec, cgroup: &Cgroup) -> BTreeMap<String, PathBuf> {
    if host.euid != 0 && !host.cgroup_v2 && spec.linux.cgroups_path.is_empty() {
        return BTreeMap::new();
    }
    let v1 = host.cgroup_v1.iter().filter_map(|mount| Some((mount.name.clone(), cgroup.path(mount.options.first()?)?.to_path_buf())));
    let v2 = cgroup.path("").map(|path| (String::new(), path.to_path_buf()));
    v1.chain(v2).collect()
}

/// The plan of a container that was created: its steps have the same numbers.
fn plan_again(record: &Record, spec: &Spec) -> Result<Plan> {
    let host = Host::probe(&Layout::detect()?)?;
    let cgroup_paths = mounted_paths(&host, spec, &record.cgroup());
    let options = plan::Options { id: record.id.clone(), bundle: record.bundle.clone(), has_console: true, cgroup_paths, ..plan::Options::default() };
    plan::build(spec, &host, &options)
}

/// The compiled filter of `profile`, from the cache in the root directory where it is there.
fn filter(context: &Context, profile: &spec::Seccomp) -> Result<stage::Filter> {
    let compiled = stage::filter_cache::load_or_compile(&context.root.join(".seccomp-cache"), profile, seccomp::Arch::NATIVE)?;
    compiled.warnings.iter().for_each(|w| log::debug(w));
    let listener = if compiled.notify { seccomp::FILTER_FLAG_NEW_LISTENER } else { 0 };
    log::debug(&format!("seccomp filter flags: {}", compiled.flags | listener));
    let program = compiled.program.iter().map(|i| i.as_word()).collect();
    Ok(stage::Filter { program, flags: compiled.flags, notify: compiled.notify })
}

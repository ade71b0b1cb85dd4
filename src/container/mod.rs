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

pub use request::*;

use crate::host::{Host, cgroup::Layout};
use crate::plan::{self, Plan};
use crate::spec::{self, Spec};
use crate::{Error, Result, log, seccomp, stage, sys};
use record::Record;
use std::path::Path;

impl Context {
    /// Without root, cgroups are used where we may and done without where nothing asks for them.
    fn rootless_cgroups(&self) -> bool {
        self.rootless.unwrap_or_else(|| sys::process::geteuid() != 0)
    }

    fn refuse_systemd(&self) -> Result<()> {
        if !self.systemd_cgroup {
            return Ok(());
        }
        Err(Error::unsupported("using", "--systemd-cgroup", "the systemd cgroup driver, which this build does not have yet")
            .hint("leave the flag out to manage cgroups directly: native.cgroupdriver=cgroupfs in Docker, SystemdCgroup=false in containerd"))
    }

    /// `explain`: the plan of a bundle as `create` would make it, without making anything.
    pub fn explain(&self, bundle: &Path) -> Result<Plan> {
        let spec = Spec::load(bundle)?;
        let bundle = bundle.canonicalize().map_err(|e| Error::io(&e, "opening the bundle", bundle.display().to_string()))?;
        build_plan(&spec, "ID", &bundle, Default::default())
    }
}

fn build_plan(spec: &Spec, id: &str, bundle: &Path, cgroup_paths: std::collections::BTreeMap<String, std::path::PathBuf>) -> Result<Plan> {
    let host = Host::probe(&Layout::detect()?)?;
    let options = plan::Options { id: id.into(), bundle: bundle.into(), has_console: true, cgroup_paths, ..plan::Options::default() };
    plan::build(spec, &host, &options)
}

/// The plan of a container that was created: its steps have the same numbers.
fn plan_again(record: &Record, spec: &Spec) -> Result<Plan> {
    build_plan(spec, &record.id, &record.bundle, record.cgroup_paths.clone())
}

/// The compiled filter of `profile`, from the cache in the root directory where it is there.
fn filter(context: &Context, profile: &spec::Seccomp) -> Result<stage::Filter> {
    let compiled = stage::filter_cache::load_or_compile(&context.root.join(".seccomp-cache"), profile, seccomp::Arch::native()?)?;
    compiled.warnings.iter().for_each(|w| log::debug(w));
    Ok(stage::Filter { program: compiled.program, flags: compiled.flags, notify: compiled.notify })
}

//! A container's control groups: one interface over cgroup v1, hybrid and v2.
//!
//! [`Cgroup::plan`] says which directories a container gets; [`Cgroup::create`] makes them, [`Cgroup::apply`] writes
//! the limits, then a process is put in: on v1 best by itself ([`Cgroup::self_join`]), on v2 by
//! `clone3(CLONE_INTO_CGROUP)` with [`Cgroup::open_dir`], and any process of any hierarchy by [`Cgroup::join`].
//!
//! Sources: kernel Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst, runtime-spec config-linux.md § Control
//! Groups; where these leave it open, what runc 1.5 does.

mod convert;
mod create;
mod delegate;
mod destroy;
mod device_program;
mod devices;
mod file;
mod freezer;
mod join;
mod oom;
mod plan;
mod processes;
mod stats;
mod stats_v1;
mod stats_v2;
mod systemd;
mod update;
mod v1;
mod v2;

pub use create::Created;
pub use devices::default_rules;
pub use freezer::FreezerState;
pub use join::SelfJoin;
pub use oom::{OomEvent, OomWatch};
pub use stats::*;
pub use systemd::{Unit, is_user_manager, require_systemd};
pub use update::merged;

use crate::spec::Resources;
use crate::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A container's directories in the hierarchies.
#[derive(Debug, Clone, PartialEq)]
pub struct Cgroup {
    version: Version,
    nodes: Vec<Node>,
    /// We may lack the right to make cgroups, and do without where nothing asks for them (`--rootless`).
    rootless: bool,
    /// The config names the path (`/linux/cgroupsPath`): then it has to work, rootless or not.
    explicit: bool,
    /// systemd made it.
    unit: Option<Unit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// v1, also with a hybrid machine's v2 hierarchy beside it.
    V1,
    V2,
}

/// The directory in one hierarchy.
#[derive(Debug, Clone, PartialEq)]
struct Node {
    /// The hierarchy's controllers; "" is the v2 hierarchy.
    controllers: Vec<String>,
    path: PathBuf,
    /// The top of the hierarchy, above which nothing is made. The path itself where it is not known.
    mountpoint: PathBuf,
}

impl Node {
    fn is_unified(&self) -> bool {
        self.controllers.first().is_some_and(String::is_empty)
    }

    /// Nothing depends on it: runc goes on without it when it can't be made or joined.
    fn is_optional(&self) -> bool {
        self.controllers.iter().all(|c| plan::OPTIONAL.contains(&c.as_str()))
    }
}

impl Cgroup {
    pub fn version(&self) -> Version {
        self.version
    }

    /// The directory of `controller` (`memory`); "" for v2's, also a hybrid machine's.
    pub fn path(&self, controller: &str) -> Option<&Path> {
        let wanted = if self.version == Version::V2 { "" } else { controller };
        self.nodes.iter().find(|n| n.controllers.iter().any(|c| c == wanted)).map(|n| n.path.as_path())
    }

    /// As state.json has them (`cgroup_paths`): controller → directory, "" → v2's.
    pub fn paths(&self) -> BTreeMap<String, PathBuf> {
        self.nodes.iter().flat_map(|n| n.controllers.iter().map(|c| (c.clone(), n.path.clone()))).collect()
    }

    /// The reverse of [`Cgroup::paths`], for a container that exists. One lone "" means v2. Rootless, an `exec` may go on
    /// without the cgroups that are closed to it, whether or not the config named them, as with runc.
    pub fn from_paths(paths: &BTreeMap<String, PathBuf>, rootless: bool) -> Cgroup {
        let mut nodes: Vec<Node> = Vec::new();
        for controller in plan::ordered(paths.keys()) {
            let path = &paths[controller];
            match nodes.iter_mut().find(|n| n.path == *path) {
                Some(node) => node.controllers.push(controller.clone()),
                None => nodes.push(Node { controllers: vec![controller.clone()], path: path.clone(), mountpoint: path.clone() }),
            }
        }
        let version = if nodes.len() == 1 && nodes[0].is_unified() { Version::V2 } else { Version::V1 };
        Cgroup { version, nodes, rootless, explicit: false, unit: None }
    }

    /// Does it exist? On v1 told by the devices hierarchy, in which every container is, as runc does.
    pub fn exists(&self) -> bool {
        self.primary().is_some_and(|path| path.exists())
    }

    /// Write all limits of a new container, and the device rules. Call after [`Cgroup::create`].
    ///
    /// The list of device rules must be complete: an empty one denies every device ([`default_rules`] come last).
    pub fn apply(&self, resources: &Resources) -> Result<()> {
        let rounded = self.as_systemd_has_them(resources);
        match self.version {
            Version::V1 => v1::set(self, resources, v1::Occasion::Create)?,
            Version::V2 => v2::set(self, rounded.as_ref().unwrap_or(resources))?,
        }
        self.apply_devices(&resources.devices)
    }

    /// Write the limits of a container that runs: what [`merged`] made of its old ones and the wishes. Device rules
    /// stay as they are, as with runc: someone else may have changed them since (an agent that hands out a GPU).
    pub fn update(&self, resources: &Resources) -> Result<()> {
        self.set_unit_properties(resources)?;
        let rounded = self.as_systemd_has_them(resources);
        match self.version {
            Version::V1 => v1::set(self, resources, v1::Occasion::Update),
            Version::V2 => v2::set(self, rounded.as_ref().unwrap_or(resources)),
        }
    }

    fn apply_devices(&self, rules: &[crate::spec::DeviceRule]) -> Result<()> {
        // The root of a user namespace may do neither of the two; the devices are guarded by not being its own.
        if crate::host::in_user_namespace() {
            return Ok(());
        }
        let target = devices::RuleSet::build(rules)?;
        let outcome = match (self.version, self.path("devices")) {
            (_, None) => Err(Error::unsupported("setting", "/linux/resources/devices", "a cgroup for the container")),
            (Version::V1, Some(dir)) => devices::set_v1(dir, &target),
            (Version::V2, Some(dir)) => device_program::set_v2(dir, &target),
        };
        // Without root neither works on any machine, and device nodes are out of reach anyway.
        if self.rootless { Ok(()) } else { outcome }
    }

    /// Settings that this version of cgroups has no place for, in words for a log. runc passes over them too.
    pub fn ignored(&self, resources: &Resources) -> Vec<String> {
        let mut pointers = update::ignored_anywhere(resources);
        if self.version == Version::V2 {
            pointers.extend(v2::ignored(resources));
        }
        let mut told: Vec<_> = pointers.into_iter().map(|p| format!("/linux/resources/{p} has no meaning with this kernel's cgroups and is ignored")).collect();
        if self.version == Version::V2 && v2::weighs_idle(resources) {
            told.push("unable to apply both cpu.idle and cpu.weight (shares): an idle cgroup has no weight, so it is ignored".into());
        }
        told
    }

    /// The hierarchy that tells for all which processes are inside.
    fn primary(&self) -> Option<&Path> {
        ["devices", "freezer", "pids", ""].iter().find_map(|c| self.path(c)).or_else(|| self.nodes.first().map(|n| n.path.as_path()))
    }

    fn require_primary(&self, doing: &str) -> Result<&Path> {
        self.primary().ok_or_else(|| {
            Error::new(Kind::WrongState, doing, "", "the container has no cgroup").hint("it was created rootless, without the right to make one")
        })
    }
}

#[cfg(test)]
mod tests;

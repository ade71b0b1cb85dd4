//! The systemd driver: a container's cgroup is that of a transient scope, which systemd makes, limits and removes.
//!
//! The scope is delegated, so all else is as without systemd: its files are written after systemd's properties, the
//! freezer and cgroup.kill are used directly, and `exec` enters by clone3(2) where it may. cgroup v2 only.
//! Names and properties are runc's (its docs/systemd.md), so that engines find what they expect.

mod bus;
mod message;
mod properties;

use self::bus::{Bus, Failure, Manager, Outcome};
use self::message::{Property, Value};
use super::devices::RuleSet;
use super::{Cgroup, Node, Version, v2};
use crate::host::cgroup::{Layout, Unified, memberships};
use crate::spec::Resources;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// There as long as systemd is the first process.
const DIRECTORY: &str = "/run/systemd/system";

/// How long a unit may take to come about over all attempts: systemd may re-execute itself meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// A container's scope; kept in its state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// `docker-1234.scope`
    pub name: String,
    /// `system.slice`
    pub slice: String,
    /// It belongs to the user's manager, not to the system's.
    pub user: bool,
}

impl Unit {
    /// `/linux/cgroupsPath`, which is `slice:prefix:name` for this driver; each may be empty.
    fn parse(cgroups_path: &str, id: &str, user: bool) -> Result<Unit> {
        let own = format!(":dhow:{id}");
        let path = if cgroups_path.is_empty() { &own } else { cgroups_path };
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            let why = format!("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead");
            return Err(Error::invalid("/linux/cgroupsPath", why).hint("leave --systemd-cgroup out for a path of directories"));
        };
        if name.is_empty() || name.ends_with(".slice") {
            return Err(Error::invalid("/linux/cgroupsPath", format!("{name:?} can't be a container's unit, which is a scope of its own")));
        }
        let slice = match (slice, user) {
            ("", true) => "user.slice",
            ("", false) => "system.slice",
            ("-", _) => "-.slice",
            (slice, _) => slice,
        };
        slice_path(slice).ok_or_else(|| Error::invalid("/linux/cgroupsPath", format!("invalid slice name: {slice}")))?;
        Ok(Unit { name: format!("{prefix}-{name}.scope"), slice: slice.into(), user })
    }

    fn manager(&self) -> Manager {
        if self.user { Manager::User } else { Manager::System }
    }

    fn connect(&self) -> Result<Bus> {
        Bus::connect(self.manager())
    }

    /// Calls that can be made twice: again, from the start, when systemd re-executes itself in the middle.
    fn call<T>(&self, doing: &str, mut calls: impl FnMut(&mut Bus) -> Outcome<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match calls(&mut self.connect()?) {
                Err(Failure::Lost(_)) if Instant::now() < deadline => {}
                other => return other.map_err(|e| e.error(doing, &self.name)),
            }
        }
    }
}

/// `a-b.slice` is `a.slice/a-b.slice`; None where the name is none of a slice.
fn slice_path(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(".slice").filter(|n| !n.contains('/'))?;
    if name == "-" {
        return Some(PathBuf::new());
    }
    let (mut path, mut prefix) = (PathBuf::new(), String::new());
    for part in name.split('-') {
        if part.is_empty() {
            return None;
        }
        prefix += part;
        path.push(format!("{prefix}.slice"));
        prefix.push('-');
    }
    Some(path)
}

/// Is the system's manager out of reach: are we not root, or only a user namespace's? Then it is the user's own manager.
/// In a namespace whose root owns systemd's directory (a system container), it is the system's.
pub fn is_user_manager() -> bool {
    use std::os::unix::fs::MetadataExt;
    crate::sys::process::geteuid() != 0 || std::fs::metadata(DIRECTORY).is_ok_and(|m| m.uid() != 0)
}

/// An error where systemd does not run this machine (sd_booted(3)).
pub fn require_systemd() -> Result<()> {
    if Path::new(DIRECTORY).is_dir() {
        return Ok(());
    }
    let hint = "leave the flag out, or set the caller to cgroupfs: containerd SystemdCgroup = false, CRI-O and Podman \
                cgroup_manager = \"cgroupfs\", Docker native.cgroupdriver=cgroupfs";
    Err(Error::unsupported("using", "--systemd-cgroup", "systemd as this machine's first process").hint(hint))
}

impl Cgroup {
    /// The cgroup of container `id` as a scope of systemd's. `user`: of the user's manager.
    pub fn plan_unit(layout: &Layout, cgroups_path: &str, id: &str, user: bool) -> Result<Cgroup> {
        require_systemd()?;
        let Layout::Unified(unified) = layout else {
            return Err(Error::unsupported("using", "--systemd-cgroup", "cgroup v2 alone (boot with systemd.unified_cgroup_hierarchy=1)")
                .hint("on cgroup v1 leave the flag out"));
        };
        let unit = Unit::parse(cgroups_path, id, user)?;
        let path = unified.mountpoint.join(manager_cgroup(unified, user)).join(slice_path(&unit.slice).unwrap_or_default()).join(&unit.name);
        let node = Node { controllers: vec![String::new()], path, mountpoint: unified.mountpoint.clone() };
        Ok(Cgroup { version: Version::V2, nodes: vec![node], rootless: user, explicit: true, unit: Some(unit) })
    }

    pub fn unit(&self) -> Option<&Unit> {
        self.unit.as_ref()
    }

    /// The same cgroup, of this unit.
    pub fn with_unit(mut self, unit: Option<Unit>) -> Cgroup {
        self.unit = unit;
        self
    }

    /// Make the scope with process `pid` in it, and all limits that systemd knows. [`Cgroup::apply`] is to follow.
    pub fn start_unit(&mut self, pid: i32, id: &str, resources: &Resources, annotations: &BTreeMap<String, String>) -> Result<()> {
        let Some(unit) = self.unit.clone() else { return Ok(()) };
        // In a frozen one the process would stand still for ever.
        self.path("").map_or(Ok(()), super::create::refuse_in_use)?;
        let mut bus = unit.connect()?;
        let properties = start_properties(&unit, pid, id, resources, annotations, &mut bus)?;
        start(&unit, bus, pid, &properties)?;
        // systemd knows best where it put it.
        let own = memberships(&format!("/proc/{pid}/cgroup"))?.into_iter().find(|m| m.controllers.is_empty());
        if let (Some(own), Some(node)) = (own, self.nodes.first_mut()) {
            node.path = node.mountpoint.join(own.path.strip_prefix("/").unwrap_or(&own.path));
        }
        // systemd switches on what it manages; hugetlb and others are for us.
        self.nodes.first().map_or(Ok(()), |node| super::create::switch_on_all(node, resources))
    }

    /// The properties of a running scope, ahead of its files.
    pub(super) fn set_unit_properties(&self, resources: &Resources) -> Result<()> {
        let Some(unit) = &self.unit else { return Ok(()) };
        v2::check_memory(self, resources)?;
        let properties = properties::of(resources, &mut || unit.call("asking systemd for its version", Bus::version).unwrap_or(0))?;
        if properties.is_empty() {
            return Ok(());
        }
        unit.call("setting the properties of systemd's unit", |bus| bus.set(&unit.name, &properties))
    }

    /// What systemd's limits come to, for the files.
    pub(super) fn as_systemd_has_them(&self, resources: &Resources) -> Option<Resources> {
        self.unit.as_ref().map(|_| properties::rounded(resources))
    }

    /// Move `pid` in by way of the manager: a user's may do so where we may not (from a login session).
    pub fn attach_by_manager(&self, container: &Cgroup, pid: i32) -> Result<()> {
        let Some(unit) = &self.unit else { return Ok(()) };
        let below = self.path("").and_then(|path| path.strip_prefix(container.path("")?).ok()).map(|p| p.display().to_string());
        let below = below.filter(|b| !b.is_empty()).map_or(String::new(), |b| format!("/{b}"));
        unit.call("putting the process into systemd's unit", |bus| bus.attach(&unit.name, &below, pid))
    }

    /// Stop the scope, and have systemd forget it if it failed (an OOM kill is a failure), or its name stays taken.
    pub(super) fn stop_unit(&self) -> Result<()> {
        let Some(unit) = &self.unit else { return Ok(()) };
        unit.call("stopping systemd's unit", |bus| {
            let stopped = bus.stop(&unit.name);
            bus.reset_failed(&unit.name).and(stopped)
        })
    }
}

fn start_properties(unit: &Unit, pid: i32, id: &str, resources: &Resources, annotations: &BTreeMap<String, String>, bus: &mut Bus) -> Result<Vec<Property>> {
    let text = |name: &str, value: &str| (name.to_string(), Value::Text(value.into()));
    let yes = |name: &str| (name.to_string(), Value::Bool(true));
    let mut list = vec![
        text("Description", &format!("dhow container {id}")),
        text("Slice", &unit.slice),
        yes("Delegate"),
        ("PIDs".into(), Value::Uint32s(vec![pid as u32])),
        yes("MemoryAccounting"),
        yes("CPUAccounting"),
        yes("IOAccounting"),
        yes("TasksAccounting"),
        ("DefaultDependencies".into(), Value::Bool(false)),
    ];
    let mut version = None;
    let mut version = || *version.get_or_insert_with(|| bus.version().unwrap_or(0));
    list.extend(properties::at_start(resources, &mut version));
    if !unit.user {
        list.extend(properties::devices(&RuleSet::build(&resources.devices)?));
    }
    list.extend(properties::of(resources, &mut version)?);
    list.extend(properties::of_annotations(annotations)?);
    Ok(list)
}

/// Whether the process is in the scope tells whether it was started, whatever became of the answer.
fn start(unit: &Unit, mut bus: Bus, pid: i32, properties: &[Property]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let (mut reset, mut lost) = (false, false);
    loop {
        let failure = match bus.start(&unit.name, properties) {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        if is_inside(pid, &unit.name) {
            return Ok(());
        }
        match failure {
            Failure::Lost(_) if Instant::now() < deadline => {
                lost = true;
                bus = unit.connect()?;
            }
            // Our own call may have been heard after all, and its job is under way.
            Failure::Refused { ref name, .. } if name == "UnitExists" && lost && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            // A failed one of that name may have been left, and a reset lets systemd remove it.
            Failure::Refused { ref name, .. } if name == "UnitExists" && !reset => {
                reset = true;
                let _ = bus.reset_failed(&unit.name);
            }
            failure => {
                // Another container's unit is not ours to touch.
                if !failure.is("UnitExists") {
                    let _ = bus.reset_failed(&unit.name);
                }
                return Err(failure.error("unable to apply cgroup configuration: unable to start unit", &unit.name));
            }
        }
    }
}

fn is_inside(pid: i32, unit: &str) -> bool {
    let found = memberships(&format!("/proc/{pid}/cgroup")).unwrap_or_default();
    found.iter().any(|m| m.controllers.is_empty() && m.path.components().any(|c| c.as_os_str() == unit))
}

/// Below which cgroup the manager's slices are: a user's are below its service.
fn manager_cgroup(unified: &Unified, user: bool) -> PathBuf {
    if !user {
        return PathBuf::new();
    }
    let service = |path: &Path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("user@"));
    let own = unified.own.strip_prefix("/").unwrap_or(&unified.own);
    // Only a guess where we are not below it ourselves; the truth is read once the scope is started.
    let uid = owner();
    own.ancestors().find(|path| service(path)).map_or_else(|| format!("user.slice/user-{uid}.slice/user@{uid}.service").into(), Path::to_path_buf)
}

/// The uid on the host of whoever runs us, also from inside a user namespace of his.
fn owner() -> u32 {
    let euid = crate::sys::process::geteuid();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let outside = |line: &str| {
        let fields: Vec<u32> = line.split_whitespace().filter_map(|f| f.parse().ok()).collect();
        let [inside, outside, size] = fields[..] else { return None };
        euid.checked_sub(inside).filter(|n| *n < size).and_then(|n| outside.checked_add(n))
    };
    map.lines().find_map(outside).unwrap_or(euid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_nested_by_their_dashes() {
        for (slice, path) in [("system.slice", Some("system.slice")), ("a-b-c.slice", Some("a.slice/a-b.slice/a-b-c.slice")), ("-.slice", Some(""))] {
            assert_eq!(slice_path(slice), path.map(PathBuf::from), "{slice}");
        }
        for bad in ["a", ".slice", "a--b.slice", "-a.slice", "a/b.slice"] {
            assert_eq!(slice_path(bad), None, "{bad}");
        }
    }

    #[test]
    fn paths_of_three_parts() {
        let parse = |path: &str, user| Unit::parse(path, "id", user).map(|u| (u.slice, u.name));
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        assert_eq!(parse("", false).unwrap(), pair("system.slice", "dhow-id.scope"));
        assert_eq!(parse("", true).unwrap(), pair("user.slice", "dhow-id.scope"));
        assert_eq!(parse("machine.slice:libpod:x", false).unwrap(), pair("machine.slice", "libpod-x.scope"));
        assert_eq!(parse("-:docker:x", false).unwrap(), pair("-.slice", "docker-x.scope"));
        for bad in ["/a/b", "a:b", "a:b:c:d", "nope:b:c", "::", "system.slice:p:x.slice"] {
            let text = parse(bad, false).unwrap_err().to_string();
            assert!(text.contains("/linux/cgroupsPath"), "{text}");
        }
    }

    #[test]
    fn a_users_slices_are_below_its_manager() {
        let unified = |own: &str| Unified { mountpoint: "/sys/fs/cgroup".into(), own: own.into() };
        let own = "/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope";
        assert_eq!(manager_cgroup(&unified(own), true), Path::new("user.slice/user-1000.slice/user@1000.service"));
        assert!(manager_cgroup(&unified("/user.slice/user-7.slice/session-1.scope"), true).starts_with("user.slice"));
        assert_eq!(manager_cgroup(&unified(own), false), Path::new(""));
    }
}

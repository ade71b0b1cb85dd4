//! Read-only facts about this machine. A test can make one up.

pub mod cgroup;

use self::cgroup::{Hierarchy, Layout};
use crate::sys::fs::read_file;
use crate::{Error, Result};
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What a plan needs to know of the machine; [`Host::probe`] asks for it cheaply.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Host {
    /// Effective uid of the caller.
    pub euid: u32,
    pub egid: u32,
    /// /proc/self/uid_map is not the whole range: we run in a user namespace already.
    pub in_user_namespace: bool,
    /// /proc/self/setgroups says `deny`, as in a user namespace that a user without privileges made for a single id.
    pub setgroups_denied: bool,
    /// The highest capability that the kernel knows (/proc/sys/kernel/cap_last_cap).
    pub last_capability: u32,
    /// Capabilities that we hold (permitted): others can't be given.
    pub own_capabilities: u64,
    pub apparmor: bool,
    pub selinux: bool,
    /// The kernel has /proc/kcore (CONFIG_PROC_KCORE): a container then gets /dev/core.
    pub kcore: bool,
    /// Unified hierarchy at /sys/fs/cgroup.
    pub cgroup_v2: bool,
    /// v1 hierarchies as the host has them mounted, in mount order, for a container's `cgroup` mount.
    pub cgroup_v1: Vec<CgroupV1Mount>,
}

/// One mounted v1 hierarchy.
#[derive(Debug, Clone, PartialEq)]
pub struct CgroupV1Mount {
    /// Directory name below /sys/fs/cgroup: `cpu,cpuacct`, `systemd`.
    pub name: String,
    pub mountpoint: PathBuf,
    /// Options that mount the same hierarchy: `cpu,cpuacct`, `name=systemd,none`.
    pub options: Vec<String>,
    /// Other names that are symlinks to it: `cpu` → `cpu,cpuacct`.
    pub links: Vec<String>,
}

/// Highest capability known to dhow, for a kernel that does not tell (before Linux 3.2).
const LAST_KNOWN_CAPABILITY: u32 = 40;

impl Host {
    /// Look at this machine, as this process sees it: a few small reads below /proc and /sys.
    pub fn probe(layout: &Layout) -> Result<Host> {
        let mut buf = [0; 8192];
        let status = read_file(c"/proc/self/status", &mut buf).map_err(|e| e.error("read", "reading", "/proc/self/status"))?;
        let status = &String::from_utf8_lossy(status);
        let (cgroup_v2, cgroup_v1) = match layout {
            Layout::Unified(_) => (true, Vec::new()),
            Layout::Legacy { hierarchies, .. } => (false, hierarchies.iter().filter_map(v1_mount).collect()),
        };
        let in_user_namespace = in_user_namespace();
        Ok(Host {
            euid: effective_id(status, "Uid:")?,
            egid: effective_id(status, "Gid:")?,
            in_user_namespace,
            setgroups_denied: in_user_namespace && setting(c"/proc/self/setgroups").is_some_and(|text| text.trim() == "deny"),
            last_capability: setting(c"/proc/sys/kernel/cap_last_cap").and_then(|text| text.parse().ok()).unwrap_or(LAST_KNOWN_CAPABILITY),
            own_capabilities: permitted_capabilities(status)?,
            apparmor: setting(c"/sys/module/apparmor/parameters/enabled").is_some_and(|text| text.starts_with('Y')),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            kcore: Path::new("/proc/kcore").exists(),
            cgroup_v2,
            cgroup_v1,
        })
    }
}

/// The word in a file of a few bytes.
fn setting(path: &CStr) -> Option<String> {
    let mut buf = [0; 64];
    let text = read_file(path, &mut buf).ok()?;
    Some(String::from_utf8_lossy(text).trim().to_string())
}

/// Are we in a user namespace, whose root can neither write device rules nor load a device program? Asked once: no
/// process of ours changes it.
///
/// The initial one maps every id onto itself. Another can't (user_namespaces(7)), and a kernel without user namespaces
/// has no such file.
pub fn in_user_namespace() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let mut buf = [0; 256];
        let map = read_file(c"/proc/self/uid_map", &mut buf).unwrap_or_default();
        !maps_all_ids(&String::from_utf8_lossy(map))
    })
}

/// The value of a line of /proc/PID/status (proc_pid_status(5)).
fn status_line<'a>(status: &'a str, name: &str) -> Result<&'a str> {
    let found = status.lines().find_map(|line| line.strip_prefix(name));
    found.map(str::trim).ok_or_else(|| Error::other("reading", "/proc/self/status", format!("no line {name}")))
}

/// The second of real, effective, saved and file system id.
fn effective_id(status: &str, name: &str) -> Result<u32> {
    let id = status_line(status, name)?.split_whitespace().nth(1).and_then(|id| id.parse().ok());
    id.ok_or_else(|| Error::other("reading", "/proc/self/status", format!("no effective id in line {name}")))
}

fn permitted_capabilities(status: &str) -> Result<u64> {
    let text = status_line(status, "CapPrm:")?;
    u64::from_str_radix(text, 16).map_err(|e| Error::other("reading", "/proc/self/status", format!("CapPrm {text:?}: {e}")))
}

fn maps_all_ids(uid_map: &str) -> bool {
    let fields: Vec<_> = uid_map.split_whitespace().collect();
    fields.is_empty() || fields == ["0", "0", "4294967295"]
}

/// A hierarchy as a container sees it again: its directory's name, what to ask mount(2) for, and the links to it.
fn v1_mount(hierarchy: &Hierarchy) -> Option<CgroupV1Mount> {
    let name = hierarchy.mountpoint.file_name()?.to_str()?.to_string();
    let options = hierarchy.controllers.clone();
    let links = options.iter().filter(|c| options.len() > 1 && **c != name).cloned().collect();
    Some(CgroupV1Mount { name, mountpoint: hierarchy.mountpoint.clone(), options, links })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_answers() {
        let host = Host::probe(&Layout::detect().unwrap()).unwrap();
        assert!(host.last_capability >= 37, "{host:?}");
        assert!(!host.cgroup_v2 || host.cgroup_v1.is_empty());
    }

    #[test]
    fn status_is_read_by_line() {
        let status = "Name:\tx\nUid:\t1000\t1001\t1002\t1003\nGid:\t5\t6\t7\t8\nCapPrm:\t000001ffffffffff\n";
        assert_eq!(effective_id(status, "Uid:").unwrap(), 1001);
        assert_eq!(effective_id(status, "Gid:").unwrap(), 6);
        assert_eq!(permitted_capabilities(status).unwrap(), (1 << 41) - 1);
        assert!(effective_id("", "Uid:").is_err());
    }

    #[test]
    fn the_initial_user_namespace_maps_everything() {
        assert!(maps_all_ids("         0          0 4294967295\n"));
        assert!(maps_all_ids(""));
        assert!(!maps_all_ids("0 1000 1\n"));
        assert!(!maps_all_ids("0 1000 1\n1 100000 65536\n"));
    }

    #[test]
    fn a_hierarchy_of_two_controllers_has_their_names_as_links() {
        let hierarchy = Hierarchy {
            controllers: vec!["cpu".into(), "cpuacct".into()],
            mountpoint: "/sys/fs/cgroup/cpu,cpuacct".into(),
            own_dir: "/sys/fs/cgroup/cpu,cpuacct".into(),
        };
        let mount = v1_mount(&hierarchy).unwrap();
        assert_eq!((mount.name.as_str(), mount.links.as_slice()), ("cpu,cpuacct", &["cpu".to_string(), "cpuacct".to_string()][..]));
    }
}

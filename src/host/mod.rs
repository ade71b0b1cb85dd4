//! Read-only facts about this machine. A test can make one up.

use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// What a plan needs to know of the machine; [`Host::probe`] asks for it cheaply.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Host {
    /// Effective uid of the caller.
    pub euid: u32,
    pub egid: u32,
    /// /proc/self/uid_map is not the whole range: we run in a user namespace already.
    pub in_user_namespace: bool,
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
    pub fn probe() -> Result<Host> {
        let status = read("/proc/self/status")?;
        let (cgroup_v2, cgroup_v1) = cgroups()?;
        Ok(Host {
            euid: effective_id(&status, "Uid:")?,
            egid: effective_id(&status, "Gid:")?,
            in_user_namespace: !maps_all_ids(&read("/proc/self/uid_map").unwrap_or_default()),
            last_capability: read("/proc/sys/kernel/cap_last_cap")
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(LAST_KNOWN_CAPABILITY),
            own_capabilities: permitted_capabilities(&status)?,
            apparmor: read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y')),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            kcore: Path::new("/proc/kcore").exists(),
            cgroup_v2,
            cgroup_v1,
        })
    }
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::io(&e, "reading", path))
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

/// The initial user namespace maps every id onto itself. Another one can't (user_namespaces(7)), and a kernel without
/// user namespaces has no such file.
fn maps_all_ids(uid_map: &str) -> bool {
    let fields: Vec<_> = uid_map.split_whitespace().collect();
    fields.is_empty() || fields == ["0", "0", "4294967295"]
}

/// Is the hierarchy at /sys/fs/cgroup the unified one; else the v1 hierarchies mounted below it.
fn cgroups() -> Result<(bool, Vec<CgroupV1Mount>)> {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return Ok((true, Vec::new()));
    }
    let own = read("/proc/self/cgroup").unwrap_or_default();
    Ok((false, v1_mounts(&read("/proc/self/mountinfo")?, &own)))
}

/// Match the mounts of type cgroup (proc_pid_mountinfo(5)) with the hierarchies of /proc/PID/cgroup (cgroups(7)), whose
/// second field is what to ask mount(2) for.
fn v1_mounts(mountinfo: &str, own: &str) -> Vec<CgroupV1Mount> {
    let hierarchies: Vec<Vec<&str>> = own
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .filter(|names| !names.is_empty())
        .map(|names| names.split(',').collect())
        .collect();
    let mount = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let mountpoint = left.split(' ').nth(4)?;
        let mut right = right.split(' ');
        let (fs, options) = (right.next()?, right.nth(1)?);
        let name = mountpoint.strip_prefix("/sys/fs/cgroup/").filter(|name| fs == "cgroup" && !name.contains(['/', '\\']))?;
        let options: Vec<&str> = options.split(',').collect();
        let wanted = hierarchies.iter().find(|names| names.iter().all(|name| options.contains(name)))?;
        Some(CgroupV1Mount {
            name: name.into(),
            mountpoint: mountpoint.into(),
            options: wanted.iter().map(|s| s.to_string()).collect(),
            links: Vec::new(),
        })
    };
    mountinfo.lines().filter_map(mount).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_answers() {
        let host = Host::probe().unwrap();
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
    fn v1_hierarchies_are_found_by_their_options() {
        let mountinfo = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let found = v1_mounts(mountinfo, "2:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n");
        let short: Vec<_> = found.iter().map(|m| (m.name.as_str(), m.options.join(","))).collect();
        assert_eq!(short, [("cpu,cpuacct", "cpu,cpuacct".to_string()), ("systemd", "name=systemd".to_string())]);
    }
}

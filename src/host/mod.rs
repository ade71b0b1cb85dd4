//! Read-only facts about this machine. A test can make one up.

use std::path::PathBuf;

/// What a plan needs to know of the machine; [`Host::probe`] asks for it lazily and cheaply.
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

//! What Docker gives a container of which nothing else is said: mounts, capabilities, devices, masked paths, seccomp.

use crate::spec::defaults::{MASKED, READ_ONLY, mount, namespace, strings};
use crate::spec::{Capabilities, DeviceRule, Linux, Mount, Resources, Seccomp};
use crate::{Error, Result};

/// The shipped profile, which is Docker's (seccomp-profiles/README.md).
const SECCOMP: &[u8] = include_bytes!("../../../seccomp-profiles/default.json");

pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Beside those that every runtime's default has.
const MASKED_TOO: [&str; 2] = ["/proc/interrupts", "/sys/devices/virtual/powercap"];

/// null, zero, full, tty, random, urandom are made by every runtime; these may be used.
const DEVICES: [(i64, i64); 6] = [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)];

const FUSE: (i64, i64) = (10, 229);

pub fn mounts() -> Vec<Mount> {
    const SAFE: [&str; 3] = ["nosuid", "noexec", "nodev"];
    vec![
        mount("/proc", "proc", "proc", &SAFE),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &SAFE),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
    ]
}

/// # Errors
/// The shipped profile can't be read, which a test rules out.
pub fn linux() -> Result<Linux> {
    let seccomp: Seccomp = serde_json::from_slice(SECCOMP).map_err(|e| Error::other("reading the default seccomp profile", "", e))?;
    let rule = |allow: bool, kind: &str, numbers: Option<(i64, i64)>, access: &str| DeviceRule {
        allow,
        kind: kind.into(),
        major: numbers.map(|n| n.0),
        minor: numbers.map(|n| n.1),
        access: access.into(),
    };
    let mut devices = vec![rule(false, "", None, "rwm")];
    devices.extend(DEVICES.map(|numbers| rule(true, "c", Some(numbers), "rwm")));
    devices.push(rule(false, "c", Some(FUSE), "rwm"));
    Ok(Linux {
        resources: Some(Resources { devices, ..Resources::default() }),
        namespaces: ["mount", "network", "uts", "pid", "ipc"].map(namespace).into(),
        seccomp: Some(seccomp),
        masked_paths: strings(&[&MASKED[..], &MASKED_TOO].concat()),
        readonly_paths: strings(&READ_ONLY),
        ..Linux::default()
    })
}

/// Only root's process has them to begin with: for another user they are the bound of what it may come by.
pub fn capabilities(uid: u32) -> Capabilities {
    let all = strings(&CAPABILITIES);
    let held = if uid == 0 { all.clone() } else { Vec::new() };
    Capabilities { bounding: all, effective: held.clone(), permitted: held, ..Capabilities::default() }
}

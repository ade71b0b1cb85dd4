//! Notes on what makes the container less of a container. None of it is wrong; all of it should be meant.

use super::Checker;
use super::mounts::{clean, is_bind, is_readonly};

/// Capabilities that amount to root on the host, or to a piece of it, and what each gives (capabilities(7)).
const STRONG: [(&str, &str); 14] = [
    ("CAP_SYS_ADMIN", "mounts, namespaces, bpf and much else: as good as root"),
    ("CAP_SYS_MODULE", "loads code into the kernel"),
    ("CAP_SYS_RAWIO", "reaches memory and devices directly"),
    ("CAP_SYS_PTRACE", "reads and steers every process it can see"),
    ("CAP_DAC_READ_SEARCH", "opens files by handle, past the root filesystem"),
    ("CAP_DAC_OVERRIDE", "passes over file permissions"),
    ("CAP_NET_ADMIN", "configures the network"),
    ("CAP_BPF", "loads programs into the kernel"),
    ("CAP_PERFMON", "observes the whole machine"),
    ("CAP_SYS_BOOT", "reboots, loads kernels"),
    ("CAP_SYS_TIME", "sets the machine's clock"),
    ("CAP_SYSLOG", "reads kernel addresses and the kernel's log"),
    ("CAP_MAC_ADMIN", "changes the LSM's policy"),
    ("CAP_MKNOD", "makes device nodes"),
];

/// Paths of the host that hand over the host when they can be written, and why.
const TELLING: [(&str, &str); 12] = [
    ("/", "the whole host"),
    ("/etc", "the host's configuration"),
    ("/root", "the host's root user"),
    ("/boot", "the host's kernel"),
    ("/usr", "the host's programs"),
    ("/var", "the host's state"),
    ("/dev", "the host's devices"),
    ("/proc", "the host's processes and kernel settings"),
    ("/sys", "the host's kernel and devices"),
    ("/run", "the sockets of the host's services"),
    ("/var/run", "the sockets of the host's services"),
    ("/var/lib", "the host's state"),
];

/// Sockets through which a container engine takes orders.
const ENGINES: [&str; 4] = ["docker.sock", "containerd.sock", "crio.sock", "podman.sock"];

pub fn check(cx: &mut Checker) {
    namespaces(cx);
    mounts(cx);
    process(cx);
    kernel(cx);
}

fn namespaces(cx: &mut Checker) {
    const SHARED: [(&str, &str); 5] = [
        ("pid", "the container sees the host's processes"),
        ("mount", "mounts are the host's own"),
        ("network", "the container uses the host's network and its abstract sockets"),
        ("ipc", "shared memory and message queues are the host's"),
        ("uts", "the host name is the host's"),
    ];
    for (kind, what) in SHARED {
        if cx.lacks(kind) {
            cx.note("/linux/namespaces", format_args!("no {kind} namespace: {what}"), format_args!("{{\"type\": {kind:?}}}"));
        }
    }
    let Some(process) = &cx.spec.process else { return };
    if process.user.uid == 0 && cx.lacks("user") {
        cx.note("/process/user/uid", "is 0 without a user namespace: root inside is root outside", "another user, or a user namespace with mappings");
    }
    let onto_root = |m: &crate::spec::IdMapping| m.host_id == 0 && m.size > 0;
    if let Some(i) = cx.spec.linux.uid_mappings.iter().position(onto_root) {
        cx.note(format_args!("/linux/uidMappings/{i}/hostID"), "maps onto the host's root", "ids that no one else on the host has");
    }
}

fn mounts(cx: &mut Checker) {
    if cx.spec.root.as_ref().is_some_and(|root| root.path.starts_with('/') && clean(&root.path) == "/") {
        cx.note("/root/path", "is the host's own root", "a root filesystem of the container's own");
    }
    for (i, mount) in cx.spec.mounts.iter().enumerate() {
        let writable = !is_readonly(mount);
        if clean(&mount.destination) == "/sys/fs/cgroup" && writable && cx.lacks("cgroup") {
            cx.note(
                format_args!("/mounts/{i}/options"),
                "cgroups writable without a cgroup namespace: the host's limits can be changed (CVE-2023-25809)",
                "ro, or a cgroup namespace",
            );
        }
        if !is_bind(mount) || !mount.source.starts_with('/') {
            continue;
        }
        let at = format_args!("/mounts/{i}/source");
        let source = clean(&mount.source);
        if ENGINES.iter().any(|socket| source.rsplit('/').next() == Some(socket)) {
            cx.note(at, format_args!("{source:?} is a container engine's socket: who can write to it is root on the host"), "no engine's socket")
                .hint("read-only does not help: a socket is written to all the same");
        } else if let Some((_, what)) = TELLING.iter().find(|(path, _)| *path == source).filter(|_| writable) {
            cx.note(at, format_args!("{source:?} is writable: {what}"), "a narrower path, or ro");
        } else if writable && (source.starts_with("/proc/") || source.starts_with("/sys/") && source != "/sys/fs/cgroup") {
            cx.note(at, format_args!("{source:?} is writable, and the kernel's own"), "ro");
        }
    }
}

fn process(cx: &mut Checker) {
    let Some(process) = &cx.spec.process else { return };
    if let Some(caps) = &process.capabilities {
        for (i, name) in caps.bounding.iter().enumerate() {
            if let Some((_, what)) = STRONG.iter().find(|(strong, _)| strong == name) {
                cx.note(format_args!("/process/capabilities/bounding/{i}"), format_args!("{name} {what}"), "the container without it");
            }
        }
    }
    if !process.no_new_privileges {
        cx.note("/process/noNewPrivileges", "is false: set-user-ID programs gain privileges", "true");
    }
    if process.apparmor_profile == "unconfined" {
        cx.note("/process/apparmorProfile", "is unconfined", "a profile");
    }
}

fn kernel(cx: &mut Checker) {
    let linux = &cx.spec.linux;
    match &linux.seccomp {
        None => {
            cx.note("/linux/seccomp", "is missing: every system call is open", "a profile");
        }
        Some(seccomp) if seccomp.default_action == "SCMP_ACT_ALLOW" => {
            cx.note("/linux/seccomp/defaultAction", "allows what no rule names, and so every new system call", "SCMP_ACT_ERRNO, and rules for what is allowed");
        }
        Some(_) => {}
    }
    let proc_mounted = cx.spec.mounts.iter().any(|m| m.kind == "proc");
    if linux.masked_paths.is_empty() && proc_mounted {
        cx.note("/linux/maskedPaths", "is empty: files such as /proc/kcore and /sys/firmware are open", "the list that `dhow spec` writes");
    }
    if linux.readonly_paths.is_empty() && proc_mounted {
        cx.note("/linux/readonlyPaths", "is empty: /proc/sys is writable", "the list that `dhow spec` writes");
    }
    if matches!(linux.rootfs_propagation.as_str(), "shared" | "rshared") {
        cx.note("/linux/rootfsPropagation", "mounts made inside can spread to the host's peers", "private or slave");
    }
    let rules = linux.resources.iter().flat_map(|r| &r.devices);
    let any = |number: Option<i64>| number.is_none_or(|n| n == -1);
    for (i, rule) in rules.enumerate() {
        if rule.allow && matches!(rule.kind.as_str(), "" | "a" | "b") && any(rule.major) && any(rule.minor) && rule.access.contains(['r', 'w']) {
            cx.note(format_args!("/linux/resources/devices/{i}"), "allows every device, the host's disks among them", "the devices that are needed");
        }
    }
}

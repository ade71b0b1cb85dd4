//! The configuration that `dhow spec` writes to start from: what `runc spec` writes, value for value.

use super::{Capabilities, DeviceRule, IdMapping, Linux, Mount, Namespace, OCI_VERSION, Process, Resources, Rlimit, Root, Spec, User};

pub(crate) const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];

pub(crate) const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The default configuration. `rootless` is the caller's (uid, gid): with it a user without privileges can run the
/// result. The cgroup namespace that runc adds on cgroup v2 is [`with_cgroup_namespace`]'s.
pub fn default_spec(rootless: Option<(u32, u32)>) -> Spec {
    let mut spec = Spec {
        oci_version: OCI_VERSION.into(),
        process: Some(process()),
        root: Some(Root { path: "rootfs".into(), readonly: true }),
        hostname: "runc".into(),
        mounts: mounts(),
        linux: linux(),
        ..Spec::default()
    };
    if let Some((uid, gid)) = rootless {
        make_rootless(&mut spec, uid, gid);
    }
    spec
}

/// On cgroup v2 (a fact of the machine, so the caller's to know) runc's default also has a cgroup namespace.
pub fn with_cgroup_namespace(mut spec: Spec) -> Spec {
    // runc adds it last, and the user namespace of a rootless container after it.
    let namespaces = &mut spec.linux.namespaces;
    let before_user = namespaces.iter().position(|ns| ns.kind == "user").unwrap_or(namespaces.len());
    namespaces.insert(before_user, namespace("cgroup"));
    spec
}

fn process() -> Process {
    let caps = strings(&["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    Process {
        terminal: true,
        user: User::default(),
        args: strings(&["sh"]),
        env: strings(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]),
        cwd: "/".into(),
        capabilities: Some(Capabilities { bounding: caps.clone(), effective: caps.clone(), permitted: caps, ..Capabilities::default() }),
        rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".into(), hard: 1024, soft: 1024 }],
        no_new_privileges: true,
        ..Process::default()
    }
}

fn mounts() -> Vec<Mount> {
    vec![
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}

fn linux() -> Linux {
    let deny_all = DeviceRule { allow: false, access: "rwm".into(), ..DeviceRule::default() };
    Linux {
        resources: Some(Resources { devices: vec![deny_all], ..Resources::default() }),
        namespaces: ["pid", "network", "ipc", "uts", "mount"].map(namespace).into(),
        masked_paths: strings(&MASKED),
        readonly_paths: strings(&READ_ONLY),
        ..Linux::default()
    }
}

/// What a user without privileges can't have goes: the network namespace (it could not be connected), cgroups, a
/// fresh sysfs (it needs that network namespace), ids other than the user's own.
fn make_rootless(spec: &mut Spec, uid: u32, gid: u32) {
    let linux = &mut spec.linux;
    linux.namespaces.retain(|ns| ns.kind != "network" && ns.kind != "user");
    linux.namespaces.push(namespace("user"));
    linux.uid_mappings = vec![IdMapping { container_id: 0, host_id: uid, size: 1 }];
    linux.gid_mappings = vec![IdMapping { container_id: 0, host_id: gid, size: 1 }];
    linux.resources = None;
    for m in &mut spec.mounts {
        if m.destination == "/sys" {
            *m = host_sys();
        }
        m.options.retain(|option| !option.starts_with("uid=") && !option.starts_with("gid="));
    }
}

/// The caller's own sysfs: a fresh one shows a network namespace, so it takes one that is ours.
pub(crate) fn host_sys() -> Mount {
    mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"])
}

pub(crate) fn namespace(kind: &str) -> Namespace {
    Namespace { kind: kind.into(), path: String::new() }
}

pub(crate) fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount { destination: destination.into(), kind: kind.into(), source: source.into(), options: strings(options), ..Mount::default() }
}

pub(crate) fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

/// The configuration's text as `runc spec` prints it: a tab a level, properties in the order of the spec's Go types,
/// those that the spec requires even where they have the value that the model leaves out, no newline at the end.
pub fn to_pretty_json(spec: &Spec) -> String {
    super::validate::print::pretty(spec)
}

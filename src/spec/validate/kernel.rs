//! Devices, paths, and the kernel's smaller features (config-linux.md), but for namespaces, resources and seccomp.

use super::{Checker, lists};
use crate::spec::{Device, IntelRdt, MemoryPolicy, Personality, escape_pointer};
use std::fmt::Display;

pub fn check(cx: &mut Checker) {
    let linux = &cx.spec.linux;
    devices(cx);
    net_devices(cx);
    hidden_paths(cx);
    cgroups_path(cx);
    let propagation = linux.rootfs_propagation.as_str();
    if !propagation.is_empty() {
        let known = ["private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable"];
        cx.one_of("/linux/rootfsPropagation", propagation, &known);
    }
    selinux_label(cx, "/linux/mountLabel", &linux.mount_label);
    if let Some(rdt) = &linux.intel_rdt {
        intel_rdt(cx, rdt);
    }
    if let Some(policy) = &linux.memory_policy {
        memory_policy(cx, policy);
    }
    if let Some(personality) = &linux.personality {
        self::personality(cx, personality);
    }
}

/// config-linux.md § Devices; mknod(2).
fn devices(cx: &mut Checker) {
    let devices = &cx.spec.linux.devices;
    for (i, device) in devices.iter().enumerate() {
        let at = format_args!("/linux/devices/{i}");
        if device.path.is_empty() {
            // As runc has it: an entry for the cgroup alone, from the time before device rules.
            cx.warn(format_args!("{at}/path"), "is empty; no node is made", "the device's full path in the container");
        } else if !device.path.starts_with('/') {
            cx.warn(format_args!("{at}/path"), format_args!("{:?} is relative; taken from /", device.path), "a full path");
        }
        cx.no_nul(format_args!("{at}/path"), &device.path);
        cx.one_of(format_args!("{at}/type"), &device.kind, &["c", "b", "u", "p"]);
        numbers(cx, at, device);
        if let Some(mode) = device.file_mode {
            file_mode(cx, format_args!("{at}/fileMode"), mode);
        }
        if !cx.notes {
            continue;
        }
        if let Some(first) = devices[..i].iter().position(|d| d.path == device.path) {
            cx.note(format_args!("{at}/path"), format_args!("{:?} is there already as device {first}", device.path), "each path once");
        }
        let same = |d: &Device| (d.kind.as_str(), d.major, d.minor) == (device.kind.as_str(), device.major, device.minor) && d.kind != "p";
        if let Some(first) = devices[..i].iter().position(same) {
            cx.note(at, format_args!("the same device as entry {first}"), "each type, major and minor once");
        }
    }
}

/// makedev(3): Linux has 12 bits of major and 20 of minor.
fn numbers(cx: &mut Checker, at: impl Display, device: &Device) {
    if device.kind == "p" {
        return;
    }
    for (field, number, most) in [("major", device.major, 0xfff), ("minor", device.minor, 0xf_ffff)] {
        if number < 0 {
            cx.fault(format_args!("{at}/{field}"), format_args!("is {number}"), "a device number: a device node is one device");
        } else if number > most {
            cx.warn(format_args!("{at}/{field}"), format_args!("is {number}; the kernel cuts it off"), format_args!("0 to {most}"));
        }
    }
}

fn file_mode(cx: &mut Checker, at: impl Display, mode: u32) {
    // runc drops the file type (S_IFMT), which some callers leave in from stat(2).
    let bits = mode & !0o170_000;
    let octal = u32::from_str_radix(&mode.to_string(), 8).ok();
    if bits > 0o7777 {
        cx.warn(at, format_args!("{mode} is {mode:#o}: more than a file's mode has bits"), "0 to 511 (0777)");
    } else if let Some(meant) = octal.filter(|_| [400, 440, 444, 600, 620, 640, 644, 660, 664, 666, 755, 777].contains(&mode)) {
        cx.warn(at, format_args!("{mode} is {mode:#o}"), "the mode as a decimal number").hint(format_args!("octal {mode} is {meant}"));
    }
}

/// config-linux.md § Network Devices. Names: the kernel's `dev_valid_name` (net/core/dev.c).
fn net_devices(cx: &mut Checker) {
    const AT: &str = "/linux/netDevices";
    let devices = &cx.spec.linux.net_devices;
    if !devices.is_empty() && cx.lacks("network") {
        cx.fault(AT, "network devices without a network namespace to move them to", "a network namespace")
            .hint("add {\"type\": \"network\"} to /linux/namespaces");
    }
    let valid = |name: &str| {
        let bad = |c: char| matches!(c, '/' | ':' | '\0') || c.is_ascii_whitespace();
        (1..=15).contains(&name.len()) && name != "." && name != ".." && !name.contains(bad)
    };
    let mut taken: Vec<&str> = Vec::new();
    for (host, device) in devices {
        let at = format!("{AT}/{}", escape_pointer(host));
        let expected = "1 to 15 bytes without `/`, `:` and blanks, and not `.` or `..`";
        if !valid(host) {
            cx.fault(&at, format_args!("{host:?} can't be an interface's name"), expected);
        }
        if !device.name.is_empty() && !valid(&device.name) {
            cx.fault(format_args!("{at}/name"), format_args!("{:?} can't be an interface's name", device.name), expected);
        }
        let inside = if device.name.is_empty() { host } else { &device.name };
        // With `%d` the kernel finds a free number.
        if taken.contains(&inside.as_str()) && !inside.contains("%d") {
            cx.fault(format_args!("{at}/name"), format_args!("{inside:?} is taken by another entry"), "each name once")
                .hint("\"eth%d\" lets the kernel choose the number");
        }
        taken.push(inside);
    }
}

/// config-linux.md § Masked Paths, § Readonly Paths. Without a mount namespace they would be the host's.
fn hidden_paths(cx: &mut Checker) {
    let linux = &cx.spec.linux;
    for (at, list) in [("/linux/maskedPaths", &linux.masked_paths), ("/linux/readonlyPaths", &linux.readonly_paths)] {
        if !list.is_empty() && cx.lacks("mount") {
            cx.fault(at, "without a mount namespace the host's paths would be covered", "a mount namespace, or no paths")
                .hint("add {\"type\": \"mount\"} to /linux/namespaces");
        }
        for (i, path) in list.iter().enumerate() {
            cx.absolute(format_args!("{at}/{i}"), path);
        }
    }
}

fn cgroups_path(cx: &mut Checker) {
    const AT: &str = "/linux/cgroupsPath";
    let path = cx.spec.linux.cgroups_path.as_str();
    cx.no_nul(AT, path);
    if path.split('/').any(|part| part == "..") {
        cx.warn(AT, format_args!("{path:?} goes up; it is cut at the top of the hierarchy"), "a path without `..`");
    }
}

/// A context as SELinux has it: user:role:type, and a level where the policy has any.
pub fn selinux_label(cx: &mut Checker, at: &str, label: &str) {
    cx.no_nul(at, label);
    if !label.is_empty() && label.split(':').filter(|part| !part.is_empty()).count() < 3 {
        cx.warn(at, format_args!("{label:?} does not look like an SELinux context"), "user:role:type:level");
    }
}

/// config-linux.md § IntelRdt.
fn intel_rdt(cx: &mut Checker, rdt: &IntelRdt) {
    const AT: &str = "/linux/intelRdt";
    let clos = rdt.clos_id.as_str();
    if clos == "." || clos == ".." || (clos.len() > 1 && clos.contains('/')) {
        cx.fault(
            format_args!("{AT}/closID"),
            format_args!("{clos:?} is no directory's name"),
            "a name without `/`, not `.` or `..`; or \"/\" for the default class",
        );
    }
    for (i, line) in rdt.schemata.iter().enumerate() {
        if line.contains('\n') {
            cx.fault(format_args!("{AT}/schemata/{i}"), "contains a newline", "one line an entry");
        }
    }
    let (l3, mb) = (rdt.l3_cache_schema.as_str(), rdt.mem_bw_schema.as_str());
    if !mb.is_empty() && (!mb.starts_with("MB:") || mb.contains('\n')) {
        cx.fault(format_args!("{AT}/memBwSchema"), format_args!("{mb:?}"), "one line that starts with \"MB:\"");
    }
    if !l3.is_empty() && (!l3.starts_with("L3:") || l3.contains('\n')) {
        cx.warn(format_args!("{AT}/l3CacheSchema"), format_args!("{l3:?}"), "one line that starts with \"L3:\"");
    }
    let by_kind = !l3.is_empty() || !mb.is_empty();
    if by_kind && !rdt.schemata.is_empty() {
        cx.note(format_args!("{AT}/schemata"), "is written last, over l3CacheSchema and memBwSchema", "schemata alone");
    }
    for (field, set) in [("enableCMT", rdt.enable_cmt), ("enableMBM", rdt.enable_mbm)] {
        if set {
            cx.warn(format_args!("{AT}/{field}"), "was removed in runtime-spec 1.3", "enableMonitoring");
        }
    }
}

/// config-linux.md § Memory policy; set_mempolicy(2).
fn memory_policy(cx: &mut Checker, policy: &MemoryPolicy) {
    const AT: &str = "/linux/memoryPolicy";
    const MODES: [&str; 7] =
        ["MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED", "MPOL_PREFERRED_MANY", "MPOL_LOCAL"];
    const FLAGS: [&str; 3] = ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];
    // runc's words, "invalid memory policy …", in front.
    if !MODES.contains(&policy.mode.as_str()) {
        cx.fault(format_args!("{AT}/mode"), format_args!("invalid memory policy mode {:?}", policy.mode), MODES.join(", "));
    }
    for (i, flag) in policy.flags.iter().enumerate().filter(|(_, flag)| !FLAGS.contains(&flag.as_str())) {
        cx.fault(format_args!("{AT}/flags/{i}"), format_args!("invalid memory policy flag {flag:?}"), FLAGS.join(", "));
    }
    let has = |flag: &str| policy.flags.iter().any(|f| f == flag);
    if has("MPOL_F_STATIC_NODES") && has("MPOL_F_RELATIVE_NODES") {
        cx.fault(format_args!("{AT}/flags"), "static and relative nodes exclude each other", "one of the two (set_mempolicy(2))");
    }
    let nodes = match lists::members(&policy.nodes) {
        Ok(0) if !policy.nodes.is_empty() => Err("it names no node".to_owned()),
        other => other,
    };
    match (policy.mode.as_str(), nodes) {
        (_, Err(why)) => {
            cx.fault(
                format_args!("{AT}/nodes"),
                format_args!("invalid memory policy nodes {:?}: {why}", policy.nodes),
                "a list of memory nodes, such as 0-3,7",
            );
        }
        ("MPOL_DEFAULT" | "MPOL_LOCAL", Ok(count @ 1..)) => {
            cx.fault(
                format_args!("{AT}/nodes"),
                format_args!("invalid memory policy: {} mode requires 0 nodes but got {count}", policy.mode),
                "no nodes with this mode",
            );
        }
        ("MPOL_BIND" | "MPOL_INTERLEAVE" | "MPOL_WEIGHTED_INTERLEAVE" | "MPOL_PREFERRED_MANY", Ok(0)) => {
            cx.fault(format_args!("{AT}/nodes"), format_args!("is empty with {}", policy.mode), "at least one memory node");
        }
        _ => {}
    }
}

/// config-linux.md § Personality; personality(2).
fn personality(cx: &mut Checker, personality: &Personality) {
    cx.one_of("/linux/personality/domain", &personality.domain, &["LINUX", "LINUX32"]);
    if !personality.flags.is_empty() {
        cx.warn("/linux/personality/flags", "the spec has no flags yet; ignored", "no flags");
    }
}

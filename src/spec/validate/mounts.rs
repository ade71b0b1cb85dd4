//! Mounts (config.md § Mounts, § Linux mount options).

use super::{Checker, ids, suggest};
use crate::spec::{Mount, PROC_FILES};
use std::fmt::Display;

/// Every option that isn't the filesystem's own, in pairs that undo each other: (sets, clears). `""`: no opposite.
const PAIRS: [(&str, &str); 26] = [
    ("ro", "rw"),
    ("nosuid", "suid"),
    ("nodev", "dev"),
    ("noexec", "exec"),
    ("sync", "async"),
    ("noatime", "atime"),
    ("nodiratime", "diratime"),
    ("relatime", "norelatime"),
    ("strictatime", "nostrictatime"),
    ("mand", "nomand"),
    ("iversion", "noiversion"),
    ("lazytime", "nolazytime"),
    ("silent", "loud"),
    ("nosymfollow", "symfollow"),
    ("rro", "rrw"),
    ("rnosuid", "rsuid"),
    ("rnodev", "rdev"),
    ("rnoexec", "rexec"),
    ("rnoatime", "ratime"),
    ("rnodiratime", "rdiratime"),
    ("rrelatime", "rnorelatime"),
    ("rstrictatime", "rnostrictatime"),
    ("rnosymfollow", "rsymfollow"),
    ("dirsync", ""),
    ("remount", ""),
    ("defaults", ""),
];
/// Propagation (mount_namespaces(7)), and what says how the mount is made.
const OTHERS: [&str; 13] =
    ["private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable", "tmpcopyup", "bind", "rbind", "idmap", "ridmap"];

pub fn check(cx: &mut Checker) {
    for (i, mount) in cx.spec.mounts.iter().enumerate() {
        let at = format_args!("/mounts/{i}");
        destination(cx, at, mount);
        for (field, value) in [("type", &mount.kind), ("source", &mount.source)] {
            cx.no_nul(format_args!("{at}/{field}"), value);
        }
        // Without its options a mount can't be told from a bind mount.
        if cx.readable(format_args!("{at}/options")) {
            kind(cx, at, mount);
            options(cx, at, mount);
            id_mapped(cx, at, mount);
        }
    }
    if cx.notes {
        covered(cx);
    }
}

pub fn is_bind(mount: &Mount) -> bool {
    mount.options.iter().any(|o| o == "bind" || o == "rbind")
}

/// Whether the mount is left read-only: the last of `ro` and `rw` counts, and so for the recursive ones.
pub fn is_readonly(mount: &Mount) -> bool {
    let last = |set: &str, clear: &str| mount.options.iter().rev().find(|o| *o == set || *o == clear).is_some_and(|o| o == set);
    last("ro", "rw") || last("rro", "rrw")
}

/// The path in the container, as it is without regard to symlinks: absolute, no `.`, no `..`.
pub fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn destination(cx: &mut Checker, at: impl Display, mount: &Mount) {
    let (base, at) = (&at, format_args!("{at}/destination"));
    let path = mount.destination.as_str();
    if path.is_empty() {
        cx.fault(at, "is empty", "where to mount: an absolute path in the container");
        return;
    }
    cx.no_nul(at, path);
    if !path.starts_with('/') {
        cx.warn(at, format_args!("{path:?} is relative, which is deprecated; taken from /"), "an absolute path").hint(format_args!("write {:?}", clean(path)));
    }
    let path = clean(path);
    if path == "/" {
        if mount.kind == "overlay" && base.to_string() == "/mounts/0" {
            return;
        }
        cx.fault(at, "is the root itself", "a path below /, or an overlay as the first mount").hint("the root filesystem is /root/path");
    } else if path == "/proc" {
        // Whether a bind's source is a procfs only the machine can tell.
        if mount.kind != "proc" && !is_bind(mount) && cx.readable(base) {
            cx.fault(at, format_args!("{:?} over /proc", mount.kind), "nothing but a proc filesystem over /proc")
                .hint("a false /proc would switch the LSM off (CVE-2019-16884)");
        }
    } else if path.starts_with("/proc/") && !PROC_FILES.contains(&path.as_str()) {
        cx.fault(at, format_args!("{path:?} is inside /proc"), format_args!("outside /proc, or one of {}", PROC_FILES.join(", ")))
            .hint("maskedPaths and readonlyPaths cover paths of /proc");
    }
}

fn kind(cx: &mut Checker, at: impl Display, mount: &Mount) {
    if is_bind(mount) {
        if mount.source.is_empty() {
            cx.warn(format_args!("{at}/source"), "is empty: the bundle itself is bound", "the path to bind");
        }
    } else if mount.kind == "bind" {
        cx.warn(format_args!("{at}/type"), "\"bind\" does not make a bind mount", "bind or rbind among the options").hint("add \"rbind\" to the options");
    } else if mount.kind.is_empty() && !mount.options.iter().any(|o| o == "remount") {
        cx.fault(format_args!("{at}/type"), "is empty, and the mount is no bind mount", "a filesystem type, or bind or rbind among the options");
    }
}

fn options(cx: &mut Checker, at: impl Display, mount: &Mount) {
    let bind = is_bind(mount);
    for (i, option) in mount.options.iter().enumerate() {
        let at = format_args!("{at}/options/{i}");
        cx.no_nul(at, option);
        let pair = PAIRS.iter().find(|(set, clear)| option == set || option == clear);
        if let Some((set, clear)) = pair.filter(|_| cx.notes && !option.is_empty()) {
            let opposite = if option == set { clear } else { set };
            if let Some(later) = mount.options[i + 1..].iter().find(|o| !opposite.is_empty() && o == opposite) {
                cx.note(at, format_args!("{option:?} is undone by {later:?} further on; the last one counts"), "one of the two");
            }
        }
        if pair.is_some() || OTHERS.contains(&option.as_str()) {
            continue;
        }
        // The kernel ignores a filesystem's own options on a bind mount, and runc lets it: a warning says so.
        if bind {
            cx.warn(
                at,
                format_args!("{option:?} is for a filesystem; a bind mount makes none and ignores it"),
                "options of mount(8) that are not the filesystem's",
            )
            .did_you_mean(near_option(option));
        } else if cx.notes
            && !option.contains('=')
            && let Some(near) = near_option(option)
        {
            cx.note(at, format_args!("{option:?} is passed on to the filesystem"), "an option that it knows").did_you_mean(Some(near));
        }
    }
}

fn near_option(option: &str) -> Option<&'static str> {
    let known: Vec<&'static str> = PAIRS.iter().flat_map(|(a, b)| [*a, *b]).chain(OTHERS).filter(|o| !o.is_empty()).collect();
    match option {
        "readonly" | "read-only" => Some("ro"),
        "readwrite" | "read-write" => Some("rw"),
        _ => suggest::closest(option, &known),
    }
}

/// config.md § Linux mount options: `idmap`, `ridmap`; mount_setattr(2) § ID-mapped mounts.
fn id_mapped(cx: &mut Checker, at: impl Display, mount: &Mount) {
    let option = mount.options.iter().position(|o| o == "idmap" || o == "ridmap");
    let (uids, gids) = (!mount.uid_mappings.is_empty(), !mount.gid_mappings.is_empty());
    if option.is_none() && !uids && !gids {
        return;
    }
    if uids != gids && cx.readable(&at) {
        let (given, missing) = if uids { ("uidMappings", "gidMappings") } else { ("gidMappings", "uidMappings") };
        cx.fault(format_args!("{at}/{missing}"), format_args!("is missing, though {given} is given"), "both or neither");
    }
    if !is_bind(mount) {
        cx.fault(&at, "an id-mapped mount that is no bind mount", "bind or rbind among the options").hint("only bind mounts can be id-mapped");
    }
    match option {
        None => {
            cx.warn(format_args!("{at}/options"), "mappings without the option idmap: an older runtime would ignore them", "idmap or ridmap among the options");
        }
        Some(i) if !uids && !gids && cx.lacks("user") => {
            let message = format_args!("{:?} without mappings and without a user namespace to take them from", mount.options[i]);
            cx.fault(format_args!("{at}/options/{i}"), message, "uidMappings and gidMappings, or a user namespace");
        }
        Some(_) => {}
    }
    ids::check(cx, format_args!("{at}/uidMappings"), &mount.uid_mappings);
    ids::check(cx, format_args!("{at}/gidMappings"), &mount.gid_mappings);
}

/// A later mount on the same place or above it hides an earlier one.
fn covered(cx: &mut Checker) {
    let cleaned: Vec<String> = cx.spec.mounts.iter().map(|m| clean(&m.destination)).collect();
    for (i, path) in cleaned.iter().enumerate() {
        let hides = |(j, later): (usize, &String)| (path == later || path.strip_prefix(later.as_str()).is_some_and(|rest| rest.starts_with('/'))).then_some(j);
        if let Some(j) = cleaned.iter().enumerate().skip(i + 1).find_map(hides) {
            cx.note(
                format_args!("/mounts/{i}/destination"),
                format_args!("{path:?} is covered by mount {j} on {:?}", cleaned[j]),
                "mounts in the order from outer to inner",
            );
        }
    }
}

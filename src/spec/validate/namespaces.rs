//! Namespaces and what hangs on them: id mappings, clock offsets, sysctls (config-linux.md).

use super::{Checker, ids};
use crate::spec::escape_pointer;

const KINDS: [&str; 8] = ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"];

pub fn check(cx: &mut Checker) {
    for (i, ns) in cx.spec.linux.namespaces.iter().enumerate() {
        let at = format_args!("/linux/namespaces/{i}");
        match ns.kind.as_str() {
            "mnt" => cx.fault(format_args!("{at}/type"), "\"mnt\" is not known", format_args!("one of {}", KINDS.join(", "))).did_you_mean(Some("mount")),
            kind => cx.one_of(format_args!("{at}/type"), kind, &KINDS),
        }
        if let Some(first) = cx.spec.linux.namespaces[..i].iter().position(|earlier| earlier.kind == ns.kind) {
            cx.fault(format_args!("{at}/type"), format_args!("{:?} is there already as entry {first}", ns.kind), "each type once");
        }
        if !ns.path.is_empty() {
            cx.absolute(format_args!("{at}/path"), &ns.path);
        }
    }
    user_namespace(cx);
    time_offsets(cx);
    sysctls(cx);
}

/// config-linux.md § User namespace mappings, and what runc asks of them.
fn user_namespace(cx: &mut Checker) {
    let linux = &cx.spec.linux;
    let lists = [("uid", "/linux/uidMappings", &linux.uid_mappings), ("gid", "/linux/gidMappings", &linux.gid_mappings)];
    let any = lists.iter().any(|(_, _, list)| !list.is_empty());
    let joined = cx.namespace("user").is_some_and(|ns| !ns.path.is_empty());
    for (what, at, list) in lists {
        if !list.is_empty() {
            ids::check(cx, at, list);
        }
        match cx.namespace("user") {
            None if !list.is_empty() && cx.lacks("user") => {
                // runc 1.5 creates such a container, without the mappings.
                cx.warn(at, "mappings without a user namespace; ignored", "a user namespace").hint("add {\"type\": \"user\"} to /linux/namespaces");
            }
            None => {}
            // containerd and CRI-O pass both; only the machine can tell whether they agree.
            Some(_) if joined && !list.is_empty() => {
                cx.warn(at, "mappings beside a user namespace to join", "one of the two").hint("they have to be those of the namespace");
            }
            Some(_) if joined => {}
            Some(_) if list.is_empty() => {
                let hint = if any { "" } else { "for example [{\"containerID\": 0, \"hostID\": 100000, \"size\": 65536}]" };
                cx.fault(
                    at,
                    format_args!("a new user namespace without {what} mappings"),
                    format_args!("at least one mapping: with none, no {what} is valid inside"),
                )
                .hint(hint);
            }
            Some(_) if ids::to_host(list, 0).is_none() => {
                cx.fault(at, format_args!("{what} 0 is not mapped"), format_args!("a mapping that holds {what} 0: the container is set up as root inside"))
                    .hint("set the containerID of one mapping to 0");
            }
            Some(_) => {}
        }
    }
}

/// config-linux.md § Offset for Time Namespace; time_namespaces(7).
fn time_offsets(cx: &mut Checker) {
    const AT: &str = "/linux/timeOffsets";
    let offsets = &cx.spec.linux.time_offsets;
    if offsets.is_empty() {
        return;
    }
    match cx.namespace("time") {
        None if cx.lacks("time") => {
            cx.fault(AT, "offsets without a time namespace", "a time namespace").hint("add {\"type\": \"time\"} to /linux/namespaces");
        }
        Some(ns) if !ns.path.is_empty() => {
            cx.fault(AT, "offsets for a time namespace that is joined", "one of the two: a joined namespace keeps its own offsets");
        }
        _ => {}
    }
    for (clock, offset) in offsets {
        let at = format!("{AT}/{}", escape_pointer(clock));
        cx.one_of(&at, clock, &["monotonic", "boottime"]);
        if offset.nanosecs >= 1_000_000_000 {
            cx.fault(format_args!("{at}/nanosecs"), format_args!("is {}", offset.nanosecs), "less than 1000000000");
        }
    }
}

/// sysctl(8): the first separator decides; `net/ipv4/conf/eno2.100/rp_filter` is `net.ipv4.conf.eno2/100.rp_filter`.
fn dotted(name: &str) -> String {
    match name.find(['.', '/']).map(|i| name.as_bytes()[i]) {
        Some(b'/') => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// Only what is the container's own may be set; else the host's would be (namespaces(7), ipc_namespaces(7)).
fn sysctls(cx: &mut Checker) {
    const IPC: [&str; 8] =
        ["kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"];
    for key in cx.spec.linux.sysctl.keys() {
        let at = format!("/linux/sysctl/{}", escape_pointer(key));
        let name = dotted(key);
        if name.split('.').any(|part| matches!(part, "" | "/" | "//")) {
            cx.fault(at, format_args!("{key:?} has an empty part or leads out of its directory"), "a name as sysctl(8) has it, such as net.ipv4.ip_forward");
            continue;
        }
        let needs = if IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.") {
            "ipc"
        } else if name.starts_with("net.") {
            "network"
        } else if name.starts_with("user.") {
            "user"
        } else if name == "kernel.domainname" {
            "uts"
        } else if name == "kernel.hostname" {
            cx.fault(at, "the host name has a property of its own", "the property /hostname").hint("move the value to \"hostname\"");
            continue;
        } else {
            cx.fault(
                at,
                format_args!("{key:?} belongs to no namespace: it would be set for the whole machine"),
                "kernel.msg*, kernel.sem, kernel.shm*, kernel.domainname, fs.mqueue.*, net.* or user.*",
            )
            .hint("set it on the host");
            continue;
        };
        if cx.lacks(needs) {
            cx.fault(at, format_args!("{key:?} without a {needs} namespace would be the host's"), format_args!("a {needs} namespace"))
                .hint(format_args!("add {{\"type\": {needs:?}}} to /linux/namespaces"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::dotted;

    #[test]
    fn sysctl_separators() {
        assert_eq!(dotted("net/ipv4/conf/eno2.100/rp_filter"), "net.ipv4.conf.eno2/100.rp_filter");
        assert_eq!(dotted("net.ipv4.conf.eno2/100.rp_filter"), "net.ipv4.conf.eno2/100.rp_filter");
        assert_eq!(dotted("plain"), "plain");
    }
}

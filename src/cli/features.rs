//! `features`: what dhow knows and can do, as runtime-spec's features.md describes it.
//!
//! Engines read it before they start a container (Docker, CRI-O, Podman), some of them stdout and stderr together: the
//! JSON stands alone. It says what is compiled in; only `supportedFlags` depends on the kernel.

use super::{Verb, output, version};
use crate::{plan, spec};
use serde_json::{Value, json};

pub(crate) const VERB: Verb = Verb {
    name: "features",
    about: "print what this runtime can do, as JSON",
    usage: "",
    positionals: (0, 0),
    stateless: true,
    run: |_| {
        output::print_pretty_json(&features(), "    ")?;
        Ok(0)
    },
    ..Verb::BASE
};

fn features() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": spec::OCI_VERSION,
        "hooks": HOOKS,
        "mountOptions": MOUNT_OPTIONS,
        "linux": linux(),
        "annotations": {
            "org.dhow.version": version::VERSION,
            "org.dhow.commit": version::COMMIT.unwrap_or_default(),
            "org.dhow.checkpoint.enabled": "false",
        },
        "potentiallyUnsafeConfigAnnotations": ["bundle", "org.criu.config", "org.systemd.property."],
    })
}

fn linux() -> Value {
    let mut capabilities = plan::capability_names().to_vec();
    capabilities.sort_unstable();
    let on = json!({ "enabled": true });
    json!({
        "namespaces": NAMESPACES,
        "capabilities": capabilities,
        "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
        "seccomp": {
            "enabled": true,
            "actions": SECCOMP_ACTIONS,
            "operators": SECCOMP_OPERATORS,
            "archs": SECCOMP_ARCHS,
            "knownFlags": SECCOMP_FLAGS.map(|(name, _)| name),
            "supportedFlags": supported_flags(kernel_release()),
        },
        "apparmor": on,
        "selinux": on,
        "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
        "memoryPolicy": { "modes": MEMORY_MODES, "flags": MEMORY_FLAGS },
        "mountExtensions": { "idmap": on },
        "netDevices": on,
    })
}

/// Flags whose kernel is not newer than ours.
fn supported_flags(kernel: (u32, u32)) -> Vec<&'static str> {
    SECCOMP_FLAGS.iter().filter(|(_, since)| *since <= kernel).map(|&(name, _)| name).collect()
}

/// Major and minor number of the running kernel; (0, 0) where it can't be read.
fn kernel_release() -> (u32, u32) {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

const HOOKS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

/// Sorted, as in every list of runc's; file systems' own options aren't among them.
#[rustfmt::skip]
const MOUNT_OPTIONS: &[&str] = &[
    "async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "idmap", "iversion", "lazytime", "loud",
    "mand", "noatime", "nodev", "nodiratime", "noexec", "noiversion", "nolazytime", "nomand", "norelatime",
    "nostrictatime", "nosuid", "nosymfollow", "private", "ratime", "rbind", "rdev", "rdiratime", "relatime", "remount",
    "rexec", "ridmap", "rnoatime", "rnodev", "rnodiratime", "rnoexec", "rnorelatime", "rnostrictatime", "rnosuid",
    "rnosymfollow", "ro", "rprivate", "rrelatime", "rro", "rrw", "rshared", "rslave", "rstrictatime", "rsuid",
    "rsymfollow", "runbindable", "rw", "shared", "silent", "slave", "strictatime", "suid", "symfollow", "sync",
    "tmpcopyup", "unbindable",
];

#[rustfmt::skip]
const SECCOMP_ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
];

#[rustfmt::skip]
const SECCOMP_OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE",
];

#[rustfmt::skip]
const SECCOMP_ARCHS: [&str; 18] = [
    "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64", "SCMP_ARCH_PPC64LE", "SCMP_ARCH_RISCV64", "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_X32",
    "SCMP_ARCH_X86", "SCMP_ARCH_X86_64",
];

/// With the kernel that brought each (seccomp(2)).
const SECCOMP_FLAGS: [(&str, (u32, u32)); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", (3, 17)),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", (4, 17)),
    ("SECCOMP_FILTER_FLAG_LOG", (4, 14)),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", (5, 19)),
];

#[rustfmt::skip]
const MEMORY_MODES: [&str; 7] = [
    "MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED", "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

const MEMORY_FLAGS: [&str; 3] = ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted() {
        for list in [&NAMESPACES[..], MOUNT_OPTIONS, &SECCOMP_ACTIONS, &SECCOMP_OPERATORS, &SECCOMP_ARCHS, &MEMORY_MODES, &MEMORY_FLAGS] {
            assert!(list.is_sorted(), "{list:?}");
        }
    }

    #[test]
    fn old_kernels_lack_flags() {
        assert_eq!(supported_flags((0, 0)), Vec::<&str>::new());
        assert_eq!(supported_flags((5, 18)).len(), 3);
        assert_eq!(supported_flags((6, 1)).len(), 4);
    }
}

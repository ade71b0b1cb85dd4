//! Capabilities: names, numbers, and which of a config's can be given (capabilities(7)).

use super::op::CapMask;
use crate::host::Host;
use crate::spec;
use std::collections::BTreeSet;

/// Name of each, at the index of its number (linux/capability.h as of Linux 5.9).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// All names that dhow knows, by number.
pub fn capability_names() -> &'static [&'static str] {
    &NAMES
}

/// The number of `CAP_…`, written as the spec does: in capitals, with the prefix.
pub fn parse_capability(name: &str) -> Option<u32> {
    NAMES.iter().position(|known| *known == name).map(|number| number as u32)
}

/// Names of those in `mask`, by number.
pub(super) fn names_of(mask: CapMask) -> Vec<&'static str> {
    NAMES.iter().enumerate().filter(|(number, _)| mask & (1 << number) != 0).map(|(_, name)| *name).collect()
}

/// The five sets of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapSet {
    pub bounding: CapMask,
    pub effective: CapMask,
    pub permitted: CapMask,
    pub inheritable: CapMask,
    pub ambient: CapMask,
}

impl CapSet {
    /// What of `wanted` can be given. config.md § Linux Process: what can't be granted is a warning, no error.
    ///
    /// `own_user_namespace`: a process that enters a user namespace holds every capability in it, so that what the
    /// caller holds is no limit then.
    pub fn grant(wanted: &spec::Capabilities, host: &Host, own_user_namespace: bool, warnings: &mut Vec<String>) -> CapSet {
        let mut refused = BTreeSet::new();
        let mut set = |names: &[String]| -> CapMask {
            let mut mask = 0;
            for name in names {
                match parse_capability(name) {
                    Some(n) if n <= host.last_capability && (own_user_namespace || host.own_capabilities & (1 << n) != 0) => mask |= 1 << n,
                    _ => {
                        refused.insert(name.clone());
                    }
                }
            }
            mask
        };
        let mut caps = CapSet {
            bounding: set(&wanted.bounding),
            effective: set(&wanted.effective),
            permitted: set(&wanted.permitted),
            inheritable: set(&wanted.inheritable),
            ambient: set(&wanted.ambient),
        };
        if !refused.is_empty() {
            let list: Vec<_> = refused.into_iter().collect();
            warnings.push(format!("ignoring unknown or unavailable capabilities: [{}]", list.join(" ")));
        }
        caps.narrow(warnings);
        caps
    }

    /// Take out what the kernel would refuse: it allows effective ⊆ permitted, inheritable ⊆ bounding (capset(2)) and
    /// ambient ⊆ permitted ∩ inheritable (PR_CAP_AMBIENT).
    fn narrow(&mut self, warnings: &mut Vec<String>) {
        let mut keep = |set: &mut CapMask, limit: CapMask, what: &str| {
            let lost = *set & !limit;
            if lost != 0 {
                *set &= limit;
                warnings.push(format!("ignoring {what}: [{}]", names_of(lost).join(" ")));
            }
        };
        keep(&mut self.effective, self.permitted, "effective capabilities that are not permitted");
        keep(&mut self.inheritable, self.bounding, "inheritable capabilities that are not in the bounding set");
        let lost = self.ambient & !(self.permitted & self.inheritable);
        self.ambient &= !lost;
        if lost != 0 {
            // runc's words, which its users look for, though one line for all
            warnings.push(format!("can't raise ambient capability {}: not both permitted and inheritable", names_of(lost).join(", ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host { last_capability: 40, own_capabilities: (1 << 41) - 1, ..Host::default() }
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| s.to_string()).collect()
    }

    #[test]
    fn numbers_are_the_kernels() {
        assert_eq!(parse_capability("CAP_CHOWN"), Some(0));
        assert_eq!(parse_capability("CAP_SYS_ADMIN"), Some(21));
        assert_eq!(parse_capability("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(parse_capability("cap_chown"), None);
        assert_eq!(names_of(0b101), ["CAP_CHOWN", "CAP_DAC_READ_SEARCH"]);
    }

    #[test]
    fn what_cannot_be_granted_is_warned_of_once() {
        let wanted = spec::Capabilities { bounding: names(&["CAP_KILL", "CAP_TEST"]), permitted: names(&["CAP_TEST"]), ..Default::default() };
        let mut warnings = Vec::new();
        let caps = CapSet::grant(&wanted, &host(), false, &mut warnings);
        assert_eq!(caps, CapSet { bounding: 1 << 5, ..CapSet::default() });
        assert_eq!(warnings, ["ignoring unknown or unavailable capabilities: [CAP_TEST]"]);
    }

    #[test]
    fn own_capabilities_limit_only_without_a_user_namespace() {
        let few = Host { own_capabilities: 1, ..host() };
        let wanted = spec::Capabilities { bounding: names(&["CAP_CHOWN", "CAP_KILL"]), ..Default::default() };
        assert_eq!(CapSet::grant(&wanted, &few, false, &mut Vec::new()).bounding, 1);
        assert_eq!(CapSet::grant(&wanted, &few, true, &mut Vec::new()).bounding, 1 | 1 << 5);
        let old = Host { last_capability: 4, ..host() };
        assert_eq!(CapSet::grant(&wanted, &old, true, &mut Vec::new()).bounding, 1);
    }

    #[test]
    fn ambient_needs_permitted_and_inheritable() {
        let both = names(&["CAP_KILL", "CAP_CHOWN"]);
        let wanted =
            spec::Capabilities { bounding: both.clone(), permitted: both.clone(), inheritable: names(&["CAP_KILL"]), ambient: both, ..Default::default() };
        let mut warnings = Vec::new();
        assert_eq!(CapSet::grant(&wanted, &host(), false, &mut warnings).ambient, 1 << 5);
        assert_eq!(warnings.len(), 1);
    }
}

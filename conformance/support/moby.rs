//! moby's profile, resolved as dockerd does it (moby/profiles, seccomp/seccomp_linux.go).

use super::{arch_name, family};
use dhow::seccomp::Arch;
use dhow::spec::Seccomp;

/// moby's profile in its own format, if its repository is there.
pub struct Moby(serde_json::Value);

pub fn moby_profile() -> Option<Moby> {
    let path = std::env::var("MOBY_PROFILE").unwrap_or_else(|_| "/tmp/src/profiles/seccomp/default.json".into());
    let text = std::fs::read(path).ok()?;
    Some(Moby(serde_json::from_slice(&text).unwrap()))
}

/// Docker's default capabilities.
pub const DOCKER_CAPS: [&str; 14] = [
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

impl Moby {
    /// What dockerd would write into config.json, on a kernel of today, for Docker's capabilities and `more`.
    pub fn resolve(&self, native: Arch, more: &[&str]) -> Seccomp {
        let native_go = if native == Arch::Aarch64 { "arm64" } else { "amd64" };
        let strings = |v: &serde_json::Value| -> Vec<String> { serde_json::from_value(v.clone()).unwrap_or_default() };
        let has = |cap: &String| DOCKER_CAPS.contains(&&**cap) || more.contains(&&**cap);
        let applies = |rule: &serde_json::Value| {
            let (inc, exc) = (&rule["includes"], &rule["excludes"]);
            let arches = strings(&inc["arches"]);
            let included = (arches.is_empty() || arches.iter().any(|a| a == native_go)) && strings(&inc["caps"]).iter().all(has);
            let excluded = strings(&exc["arches"]).iter().any(|a| a == native_go) || strings(&exc["caps"]).iter().any(has) || !exc["minKernel"].is_null();
            included && !excluded
        };
        let rules = self.0["syscalls"].as_array().unwrap();
        let mut value = self.0.clone();
        value["syscalls"] = rules.iter().filter(|r| applies(r)).cloned().collect();
        let mut profile: Seccomp = serde_json::from_value(value).unwrap();
        profile.architectures = family(native).iter().map(|a| arch_name(*a).to_string()).collect();
        profile
    }
}

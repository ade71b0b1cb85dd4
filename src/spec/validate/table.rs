//! The shape of all of `config.json` for Linux: runtime-spec 1.3, config.md and config-linux.md, property by property, in
//! the order of the spec's Go types (specs-go/config.go), which is the order in which a configuration is printed.
//!
//! The test below holds this table and the model (`spec::Spec`) against each other.

use super::shape::Shape::*;
use super::shape::{Field, Need, Shape};

const fn may(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, need: Need::Optional }
}

const fn must(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, need: Need::Required }
}

/// REQUIRED, but a missing one is taken as zero everywhere (Go's zero value), and the JSON schema lets it be missing.
const fn zero(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, need: Need::Assumed("0") }
}

const TEXTS: Shape = List(&Text);

/// config.md.
pub static SPEC: Shape = Object(&[
    must("ociVersion", Text),
    may("process", PROCESS),
    must("root", Object(&[must("path", Text), may("readonly", Bool)])),
    may("hostname", Text),
    may("domainname", Text),
    may("mounts", List(&MOUNT)),
    may("hooks", HOOKS),
    may("annotations", Map(&Text)),
    may("linux", LINUX),
    may("solaris", Foreign("Solaris")),
    may("windows", Foreign("Windows")),
    may("vm", Foreign("virtual machines")),
    may("zos", Foreign("z/OS")),
    may("freebsd", Foreign("FreeBSD")),
]);

/// config.md § Mounts.
const MOUNT: Shape = Object(&[
    must("destination", Text),
    may("type", Text),
    may("source", Text),
    may("options", TEXTS),
    may("uidMappings", List(&ID_MAPPING)),
    may("gidMappings", List(&ID_MAPPING)),
]);

/// config-linux.md § User namespace mappings.
const ID_MAPPING: Shape = Object(&[must("containerID", U32), must("hostID", U32), must("size", U32)]);

/// config.md § POSIX-platform Hooks.
const HOOKS: Shape = Object(&[
    may("prestart", HOOK_LIST),
    may("createRuntime", HOOK_LIST),
    may("createContainer", HOOK_LIST),
    may("startContainer", HOOK_LIST),
    may("poststart", HOOK_LIST),
    may("poststop", HOOK_LIST),
]);

const HOOK_LIST: Shape = List(&Object(&[must("path", Text), may("args", TEXTS), may("env", TEXTS), may("timeout", I64)]));

/// config.md § Process.
const PROCESS: Shape = Object(&[
    may("terminal", Bool),
    may("consoleSize", Object(&[zero("height", U16), zero("width", U16)])),
    Field { name: "user", shape: USER, need: Need::Assumed("uid 0 and gid 0: root") },
    may("args", TEXTS),
    may("commandLine", Foreign("Windows")),
    may("env", TEXTS),
    must("cwd", Text),
    may("capabilities", CAPABILITIES),
    may("rlimits", List(&Object(&[must("type", Text), must("hard", Limit), must("soft", Limit)]))),
    may("noNewPrivileges", Bool),
    may("apparmorProfile", Text),
    may("oomScoreAdj", I32),
    may("scheduler", SCHEDULER),
    may("selinuxLabel", Text),
    may("ioPriority", Object(&[must("class", Text), zero("priority", I32)])),
    may("execCPUAffinity", Object(&[may("initial", Text), may("final", Text)])),
]);

/// config.md § User.
const USER: Shape = Object(&[zero("uid", U32), zero("gid", U32), may("umask", U32), may("additionalGids", List(&U32)), may("username", Text)]);

/// config.md § Linux Process.
const CAPABILITIES: Shape =
    Object(&[may("bounding", TEXTS), may("effective", TEXTS), may("inheritable", TEXTS), may("permitted", TEXTS), may("ambient", TEXTS)]);

const SCHEDULER: Shape =
    Object(&[must("policy", Text), may("nice", I32), may("priority", I32), may("flags", TEXTS), may("runtime", U64), may("deadline", U64), may("period", U64)]);

/// config-linux.md.
const LINUX: Shape = Object(&[
    may("uidMappings", List(&ID_MAPPING)),
    may("gidMappings", List(&ID_MAPPING)),
    may("sysctl", Map(&Text)),
    may("resources", RESOURCES),
    may("cgroupsPath", Text),
    may("namespaces", List(&Object(&[must("type", Text), may("path", Text)]))),
    may("devices", List(&DEVICE)),
    may("netDevices", Map(&Object(&[may("name", Text)]))),
    may("seccomp", SECCOMP),
    may("rootfsPropagation", Text),
    may("maskedPaths", TEXTS),
    may("readonlyPaths", TEXTS),
    may("mountLabel", Text),
    may("intelRdt", INTEL_RDT),
    may("memoryPolicy", Object(&[must("mode", Text), may("nodes", Text), may("flags", TEXTS)])),
    may("personality", Object(&[must("domain", Text), may("flags", TEXTS)])),
    may("timeOffsets", Map(&Object(&[may("secs", I64), may("nanosecs", U32)]))),
]);

/// config-linux.md § Devices. `major` and `minor` are required but for fifos: `kernel` sees to these.
const DEVICE: Shape =
    Object(&[must("path", Text), must("type", Text), may("major", I64), may("minor", I64), may("fileMode", U32), may("uid", U32), may("gid", U32)]);

/// config-linux.md § IntelRdt; the last two went with 1.3.
const INTEL_RDT: Shape = Object(&[
    may("closID", Text),
    may("schemata", TEXTS),
    may("l3CacheSchema", Text),
    may("memBwSchema", Text),
    may("enableMonitoring", Bool),
    may("enableCMT", Bool),
    may("enableMBM", Bool),
]);

/// config-linux.md § Seccomp.
const SECCOMP: Shape = Object(&[
    // runc takes a profile without default action and without rules for "no seccomp".
    Field { name: "defaultAction", shape: Text, need: Need::Assumed("\"\": no seccomp") },
    may("defaultErrnoRet", U32),
    may("architectures", TEXTS),
    may("flags", TEXTS),
    may("listenerPath", Text),
    may("listenerMetadata", Text),
    may("syscalls", List(&Object(&[must("names", TEXTS), must("action", Text), may("errnoRet", U32), may("args", List(&SYSCALL_ARG))]))),
]);

const SYSCALL_ARG: Shape = Object(&[must("index", U32), must("value", U64), may("valueTwo", U64), must("op", Text)]);

/// config-linux.md § Control groups.
const RESOURCES: Shape = Object(&[
    may("devices", List(&Object(&[must("allow", Bool), may("type", Text), may("major", I64), may("minor", I64), may("access", Text)]))),
    may("memory", MEMORY),
    may("cpu", CPU),
    may("pids", Object(&[may("limit", I64)])),
    may("blockIO", BLOCK_IO),
    may("hugepageLimits", List(&Object(&[must("pageSize", Text), must("limit", U64)]))),
    may("network", Object(&[may("classID", U32), may("priorities", List(&Object(&[must("name", Text), must("priority", U32)])))])),
    may("rdma", Map(&Object(&[may("hcaHandles", U32), may("hcaObjects", U32)]))),
    may("unified", Map(&Text)),
]);

const MEMORY: Shape = Object(&[
    may("limit", I64),
    may("reservation", I64),
    may("swap", I64),
    may("kernel", I64),
    may("kernelTCP", I64),
    may("swappiness", U64),
    may("disableOOMKiller", Bool),
    may("useHierarchy", Bool),
    may("checkBeforeUpdate", Bool),
]);

const CPU: Shape = Object(&[
    may("shares", U64),
    may("quota", I64),
    may("burst", U64),
    may("period", U64),
    may("realtimeRuntime", I64),
    may("realtimePeriod", U64),
    may("cpus", Text),
    may("mems", Text),
    may("idle", I64),
]);

const BLOCK_IO: Shape = Object(&[
    may("weight", U16),
    may("leafWeight", U16),
    may("weightDevice", List(&Object(&[must("major", I64), must("minor", I64), may("weight", U16), may("leafWeight", U16)]))),
    may("throttleReadBpsDevice", THROTTLES),
    may("throttleWriteBpsDevice", THROTTLES),
    may("throttleReadIOPSDevice", THROTTLES),
    may("throttleWriteIOPSDevice", THROTTLES),
]);

const THROTTLES: Shape = List(&Object(&[must("major", I64), must("minor", I64), zero("rate", U64)]));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Spec;
    use serde_json::{Value, json};

    /// A value of the shape with every property there, none of them a default.
    fn full(shape: &Shape) -> Option<Value> {
        Some(match shape {
            Bool => json!(true),
            Text => json!("text"),
            U16 | U32 | U64 | I32 | I64 | Limit => json!(7),
            List(item) => json!([full(item)?]),
            Map(item) => json!({"name": full(item)?}),
            Object(fields) => fields.iter().filter_map(|f| Some((f.name.to_owned(), full(&f.shape)?))).collect(),
            Foreign(_) => return None,
        })
    }

    #[test]
    fn the_model_has_what_the_table_has() {
        let full = full(&SPEC).unwrap();
        let spec: Spec = serde_json::from_value(full.clone()).unwrap();
        assert_eq!(serde_json::to_value(&spec).unwrap(), full);
    }

    #[test]
    fn the_table_has_what_the_model_has() {
        let spec: Spec = serde_json::from_value(full(&SPEC).unwrap()).unwrap();
        let printed = format!("{spec:?}");
        for empty in [": None", ": []", ": {}", ": \"\"", ": 0", ": false"] {
            let near = printed.find(empty).map(|at| &printed[at.saturating_sub(40)..at + empty.len()]);
            assert_eq!(near, None, "a property of the model that the table lacks");
        }
    }
}

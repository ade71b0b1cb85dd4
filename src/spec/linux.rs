//! config-linux.md, but for resources and seccomp.

use super::{Resources, Seccomp, object};
use std::collections::BTreeMap;

object! {
    /// config-linux.md.
    Linux {
        uid_mappings: Vec<IdMapping>,
        gid_mappings: Vec<IdMapping>,
        sysctl: BTreeMap<String, String>,
        resources: Option<Resources>,
        cgroups_path: String,
        namespaces: Vec<Namespace>,
        devices: Vec<Device>,
        net_devices: BTreeMap<String, NetDevice>,
        seccomp: Option<Seccomp>,
        rootfs_propagation: String,
        masked_paths: Vec<String>,
        readonly_paths: Vec<String>,
        mount_label: String,
        intel_rdt: Option<IntelRdt>,
        memory_policy: Option<MemoryPolicy>,
        personality: Option<Personality>,
        time_offsets: BTreeMap<String, TimeOffset>,
    }
}

object! {
    /// `size` ids from `container_id` on inside are those from `host_id` on outside (user_namespaces(7)).
    #[derive(Copy, Eq)]
    IdMapping {
        #[serde(rename = "containerID")]
        container_id: u32,
        #[serde(rename = "hostID")]
        host_id: u32,
        size: u32,
    }
}

object! {
    /// A namespace to make, or to join where `path` is given.
    Namespace {
        #[serde(rename = "type")]
        kind: String,
        path: String,
    }
}

object! {
    /// A device node: `kind` is c, b, u or p.
    Device {
        path: String,
        #[serde(rename = "type")]
        kind: String,
        major: i64,
        minor: i64,
        file_mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
    }
}

object! {
    /// The name that a host's device gets inside; the same where empty.
    NetDevice {
        name: String,
    }
}

object! {
    /// config-linux.md § IntelRdt.
    IntelRdt {
        #[serde(rename = "closID")]
        clos_id: String,
        schemata: Vec<String>,
        l3_cache_schema: String,
        mem_bw_schema: String,
        enable_monitoring: bool,
        #[serde(rename = "enableCMT")]
        enable_cmt: bool,
        #[serde(rename = "enableMBM")]
        enable_mbm: bool,
    }
}

object! {
    /// set_mempolicy(2).
    MemoryPolicy {
        mode: String,
        nodes: String,
        flags: Vec<String>,
    }
}

object! {
    /// personality(2): `LINUX` or `LINUX32`.
    Personality {
        domain: String,
        flags: Vec<String>,
    }
}

object! {
    /// time_namespaces(7): an offset of the monotonic or boottime clock.
    #[derive(Copy, Eq)]
    TimeOffset {
        secs: i64,
        nanosecs: u32,
    }
}

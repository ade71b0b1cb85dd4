//! config-linux.md § Control groups. A field that is absent means "leave as it is", which is why all are optional.

use super::object;
use std::collections::BTreeMap;

object! {
    Resources {
        devices: Vec<DeviceRule>,
        memory: Option<Memory>,
        // Other spellings: see validate::shape::SPELLINGS.
        #[serde(alias = "CPU")]
        cpu: Option<Cpu>,
        pids: Option<Pids>,
        #[serde(rename = "blockIO")]
        block_io: Option<BlockIo>,
        hugepage_limits: Vec<HugepageLimit>,
        network: Option<Network>,
        rdma: BTreeMap<String, Rdma>,
        unified: BTreeMap<String, String>,
    }
}

object! {
    /// One rule of the device list; absent major or minor, or -1, means any. `kind`: a, b or c (empty: a).
    DeviceRule {
        allow: bool,
        #[serde(rename = "type")]
        kind: String,
        major: Option<i64>,
        minor: Option<i64>,
        access: String,
    }
}

object! {
    /// Bytes; -1 is unlimited.
    Memory {
        limit: Option<i64>,
        reservation: Option<i64>,
        swap: Option<i64>,
        kernel: Option<i64>,
        #[serde(rename = "kernelTCP")]
        kernel_tcp: Option<i64>,
        swappiness: Option<u64>,
        #[serde(rename = "disableOOMKiller")]
        disable_oom_killer: Option<bool>,
        use_hierarchy: Option<bool>,
        check_before_update: Option<bool>,
    }
}

object! {
    /// Times in microseconds.
    Cpu {
        shares: Option<u64>,
        quota: Option<i64>,
        burst: Option<u64>,
        period: Option<u64>,
        realtime_runtime: Option<i64>,
        realtime_period: Option<u64>,
        #[serde(alias = "Cpus")]
        cpus: String,
        #[serde(alias = "Mems")]
        mems: String,
        idle: Option<i64>,
    }
}

object! {
    /// -1 is unlimited; 0 is a limit of none since runtime-spec 1.3.
    Pids {
        limit: Option<i64>,
    }
}

object! {
    BlockIo {
        weight: Option<u16>,
        leaf_weight: Option<u16>,
        weight_device: Vec<WeightDevice>,
        throttle_read_bps_device: Vec<ThrottleDevice>,
        throttle_write_bps_device: Vec<ThrottleDevice>,
        #[serde(rename = "throttleReadIOPSDevice")]
        throttle_read_iops_device: Vec<ThrottleDevice>,
        #[serde(rename = "throttleWriteIOPSDevice")]
        throttle_write_iops_device: Vec<ThrottleDevice>,
    }
}

object! {
    WeightDevice {
        major: i64,
        minor: i64,
        weight: Option<u16>,
        leaf_weight: Option<u16>,
    }
}

object! {
    /// Bytes or operations per second.
    ThrottleDevice {
        major: i64,
        minor: i64,
        rate: u64,
    }
}

object! {
    /// `page_size` as `2MB`; `limit` in bytes.
    HugepageLimit {
        #[serde(alias = "pagesize")]
        page_size: String,
        limit: u64,
    }
}

object! {
    Network {
        #[serde(rename = "classID")]
        class_id: Option<u32>,
        priorities: Vec<InterfacePriority>,
    }
}

object! {
    InterfacePriority {
        name: String,
        priority: u32,
    }
}

object! {
    Rdma {
        hca_handles: Option<u32>,
        hca_objects: Option<u32>,
    }
}

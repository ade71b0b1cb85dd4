//! What a container uses, in the very shape of runc's `events --stats` (its types/events.go), which callers parse.

use super::{Cgroup, Version, stats_v1, stats_v2};
use crate::Result;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::Path;

/// A struct of the JSON, whose fields are left out when they are empty if marked `?`, as Go's omitempty does.
macro_rules! shape {
    ($(#[$meta:meta])* $name:ident { $($fields:tt)* }) => { shape!(@ [$(#[$meta])* $name] [] $($fields)*); };
    (@ [$(#[$meta:meta])* $name:ident] [$($done:tt)*]) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize)]
        pub struct $name { $($done)* }
    };
    (@ $head:tt [$($done:tt)*] $field:ident: $ty:ty, $($rest:tt)*) => {
        shape!(@ $head [$($done)* pub $field: $ty,] $($rest)*);
    };
    (@ $head:tt [$($done:tt)*] $field:ident?: $ty:ty, $($rest:tt)*) => {
        shape!(@ $head [$($done)* #[serde(skip_serializing_if = "is_empty")] pub $field: $ty,] $($rest)*);
    };
    (@ $head:tt [$($done:tt)*] $field:ident as $json:literal?: $ty:ty, $($rest:tt)*) => {
        shape!(@ $head [$($done)* #[serde(rename = $json, skip_serializing_if = "is_empty")] pub $field: $ty,] $($rest)*);
    };
}

fn is_empty<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

shape! {
    /// `data` of a `stats` event.
    Stats {
        cpu: CpuStats,
        cpuset: CpusetStats,
        memory: MemoryStats,
        pids: PidsStats,
        blkio: BlkioStats,
        hugetlb: BTreeMap<String, HugetlbStats>,
        intel_rdt: IntelRdt,
        network_interfaces: Option<Vec<NetworkInterface>>,
    }
}

shape! {
    CpuStats {
        usage?: CpuUsage,
        throttling?: Throttling,
        psi?: Option<Psi>,
    }
}

shape! {
    /// Nanoseconds.
    CpuUsage {
        total?: u64,
        percpu?: Vec<u64>,
        percpu_kernel?: Vec<u64>,
        percpu_user?: Vec<u64>,
        kernel: u64,
        user: u64,
    }
}

shape! {
    Throttling {
        periods?: u64,
        throttled_periods as "throttledPeriods"?: u64,
        throttled_time as "throttledTime"?: u64,
    }
}

shape! {
    /// v1 alone fills it in.
    CpusetStats {
        cpus?: Vec<u16>,
        cpu_exclusive: u64,
        mems?: Vec<u16>,
        mem_hardwall: u64,
        mem_exclusive: u64,
        memory_migrate: u64,
        memory_spread_page: u64,
        memory_spread_slab: u64,
        memory_pressure: u64,
        sched_load_balance: u64,
        sched_relax_domain_level: i64,
    }
}

shape! {
    MemoryStats {
        cache?: u64,
        usage?: MemoryEntry,
        swap?: MemoryEntry,
        kernel?: MemoryEntry,
        kernel_tcp as "kernelTCP"?: MemoryEntry,
        raw?: BTreeMap<String, u64>,
        psi?: Option<Psi>,
    }
}

shape! {
    MemoryEntry {
        limit: u64,
        usage?: u64,
        max?: u64,
        failcnt: u64,
    }
}

shape! {
    /// A limit of 0 is none.
    PidsStats {
        current?: u64,
        limit?: u64,
    }
}

shape! {
    BlkioStats {
        io_service_bytes_recursive as "ioServiceBytesRecursive"?: Vec<BlkioEntry>,
        io_serviced_recursive as "ioServicedRecursive"?: Vec<BlkioEntry>,
        io_queued_recursive as "ioQueueRecursive"?: Vec<BlkioEntry>,
        io_service_time_recursive as "ioServiceTimeRecursive"?: Vec<BlkioEntry>,
        io_wait_time_recursive as "ioWaitTimeRecursive"?: Vec<BlkioEntry>,
        io_merged_recursive as "ioMergedRecursive"?: Vec<BlkioEntry>,
        io_time_recursive as "ioTimeRecursive"?: Vec<BlkioEntry>,
        sectors_recursive as "sectorsRecursive"?: Vec<BlkioEntry>,
        psi?: Option<Psi>,
    }
}

shape! {
    BlkioEntry {
        major?: u64,
        minor?: u64,
        op?: String,
        value?: u64,
    }
}

shape! {
    HugetlbStats {
        usage?: u64,
        max?: u64,
        failcnt: u64,
    }
}

shape! {
    /// `intel_rdt`: always there, and empty without a resctrl group.
    IntelRdt {}
}

shape! {
    /// Pressure stall information (kernel Documentation/accounting/psi.rst).
    Psi {
        some?: PsiLine,
        full?: PsiLine,
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PsiLine {
    #[serde(serialize_with = "as_go_does")]
    pub avg10: f64,
    #[serde(serialize_with = "as_go_does")]
    pub avg60: f64,
    #[serde(serialize_with = "as_go_does")]
    pub avg300: f64,
    pub total: u64,
}

/// `/sys/class/net/IF/statistics`. Go's names, as runc has no tags there.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkInterface {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// Go prints a whole number without a point.
fn as_go_does<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 { serializer.serialize_u64(*value as u64) } else { serializer.serialize_f64(*value) }
}

impl Cgroup {
    /// Everything there is to know now. Controllers that the container has no cgroup of are left out.
    pub fn stats(&self) -> Result<Stats> {
        match self.version {
            Version::V1 => stats_v1::read(self),
            Version::V2 => stats_v2::read(self),
        }
    }
}

/// The sizes of huge pages, as the hugetlb files name them (`2MB`): from /sys/kernel/mm/hugepages/hugepages-2048kB.
pub(super) fn huge_page_sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(Path::new("/sys/kernel/mm/hugepages")) else { return Vec::new() };
    let mut sizes: Vec<u64> = entries.flatten().filter_map(|e| parse_huge_page_dir(e.file_name().to_str()?)).collect();
    sizes.sort_unstable();
    sizes.into_iter().map(huge_page_name).collect()
}

fn parse_huge_page_dir(name: &str) -> Option<u64> {
    name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
}

/// As mm/hugetlb_cgroup.c (mem_fmt) names a size of so many KB.
fn huge_page_name(kb: u64) -> String {
    match kb {
        0x10_0000.. => format!("{}GB", kb >> 20),
        0x400.. => format!("{}MB", kb >> 10),
        _ => format!("{kb}KB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_stats_have_runcs_shape() {
        let json = serde_json::to_string(&Stats::default()).unwrap();
        let expected = r#"{"cpu":{},"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},"memory":{},"pids":{},"blkio":{},"hugetlb":{},"intel_rdt":{},"network_interfaces":null}"#;
        assert_eq!(json, expected);
    }

    #[test]
    fn what_is_not_empty_is_named_as_runc_does() {
        let mut stats = Stats::default();
        stats.cpu.throttling.throttled_time = 5;
        stats.cpu.usage.total = 7;
        stats.memory.kernel_tcp.usage = 1;
        stats.cpu.psi = Some(Psi { some: PsiLine { avg10: 0.0, avg60: 1.5, avg300: 2.0, total: 9 }, full: PsiLine::default() });
        let json = serde_json::to_string(&stats).unwrap();
        for part in [
            r#""usage":{"total":7,"kernel":0,"user":0}"#,
            r#""throttling":{"throttledTime":5}"#,
            r#""kernelTCP":{"limit":0,"usage":1,"failcnt":0}"#,
            r#""psi":{"some":{"avg10":0,"avg60":1.5,"avg300":2,"total":9}}"#,
        ] {
            assert!(json.contains(part), "{part} in {json}");
        }
    }

    #[test]
    fn huge_pages() {
        assert_eq!(parse_huge_page_dir("hugepages-2048kB").map(huge_page_name).as_deref(), Some("2MB"));
        assert_eq!(huge_page_name(1 << 20), "1GB");
        assert_eq!(huge_page_name(64), "64KB");
        assert_eq!(parse_huge_page_dir("other"), None);
    }
}

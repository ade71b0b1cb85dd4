//! Resource limits and device rules (config-linux.md § Control groups).
//!
//! What the kernel's cgroup files take is a fault only where every version of cgroups refuses the rest; which version
//! there is, and which controllers, the machine tells.

use super::{Checker, lists};
use crate::spec::{BlockIo, Cpu, DeviceRule, Memory, Resources, ThrottleDevice, WeightDevice, escape_pointer};
use std::fmt::Display;

const AT: &str = "/linux/resources";

pub fn check(cx: &mut Checker) {
    let Some(resources) = &cx.spec.linux.resources else { return };
    for (i, rule) in resources.devices.iter().enumerate() {
        device_rule(cx, format_args!("{AT}/devices/{i}"), rule);
    }
    if let Some(m) = &resources.memory {
        memory(cx, m);
    }
    if let Some(c) = &resources.cpu {
        cpu(cx, c);
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit).filter(|limit| *limit < -1) {
        cx.warn(format_args!("{AT}/pids/limit"), format_args!("is {limit}; taken as unlimited"), "0 or more, or -1 for unlimited");
    }
    if let Some(io) = &resources.block_io {
        block_io(cx, io);
    }
    others(cx, resources);
}

/// § Allowed Device list.
fn device_rule(cx: &mut Checker, at: impl Display, rule: &DeviceRule) {
    if !rule.kind.is_empty() {
        cx.one_of(format_args!("{at}/type"), &rule.kind, &["a", "c", "b"]);
    }
    if rule.access.is_empty() {
        cx.fault(format_args!("{at}/access"), "is empty", "some of r, w and m").hint("\"rwm\" for all");
    } else if let Some(letter) = rule.access.chars().find(|c| !"rwm".contains(*c)) {
        cx.fault(format_args!("{at}/access"), format_args!("{:?} contains {letter:?}", rule.access), "some of r (read), w (write) and m (mknod)");
    }
    for (field, number) in [("major", rule.major), ("minor", rule.minor)] {
        if let Some(number) = number.filter(|n| !(-1..=i64::from(u32::MAX)).contains(n)) {
            cx.fault(format_args!("{at}/{field}"), format_args!("is {number}"), "a device number, or -1 for any");
        }
    }
}

/// § Memory.
fn memory(cx: &mut Checker, m: &Memory) {
    for (field, value) in [("limit", m.limit), ("reservation", m.reservation), ("swap", m.swap)] {
        if let Some(value) = value.filter(|v| *v < -1) {
            cx.fault(format_args!("{AT}/memory/{field}"), format_args!("is {value}"), "bytes, or -1 for unlimited");
        }
    }
    let (limit, swap) = (m.limit.unwrap_or(0), m.swap.unwrap_or(0));
    if swap > 0 && limit == 0 && cx.readable(format_args!("{AT}/memory/limit")) {
        cx.fault(format_args!("{AT}/memory/swap"), "is set without a memory limit", "a memory limit beside it: swap counts memory and swap together");
    } else if swap > 0 && limit > swap {
        cx.fault(format_args!("{AT}/memory/swap"), format_args!("{swap} is less than the memory limit, {limit}"), "at least the memory limit")
            .hint("swap counts memory and swap together");
    }
    if let Some(reservation) = m.reservation.filter(|r| limit > 0 && *r > limit) {
        cx.note(format_args!("{AT}/memory/reservation"), format_args!("{reservation} is more than the limit, {limit}"), "less than the limit");
    }
    if let Some(swappiness) = m.swappiness.filter(|s| *s > 100) {
        cx.fault(format_args!("{AT}/memory/swappiness"), format_args!("is {swappiness}"), "0 to 100");
    }
    for (field, set) in [("kernel", m.kernel.is_some()), ("kernelTCP", m.kernel_tcp.is_some())] {
        if set {
            cx.warn(format_args!("{AT}/memory/{field}"), "is ignored", "no kernel memory limit: Linux no longer has it").hint("leave it out");
        }
    }
}

/// § CPU; sched-bwc.rst: the kernel takes periods from 1 ms to 1 s and quotas from 1 ms.
fn cpu(cx: &mut Checker, c: &Cpu) {
    if let Some(shares) = c.shares.filter(|s| *s != 0 && !(2..=262_144).contains(s)) {
        cx.warn(format_args!("{AT}/cpu/shares"), format_args!("{shares} is brought into range on cgroup v2, refused on v1"), "2 to 262144");
    }
    if let Some(period) = c.period.filter(|p| *p != 0 && !(1_000..=1_000_000).contains(p)) {
        cx.fault(format_args!("{AT}/cpu/period"), format_args!("is {period}"), "1000 to 1000000 microseconds");
    }
    if let Some(quota) = c.quota.filter(|q| (1..1_000).contains(q)) {
        cx.fault(format_args!("{AT}/cpu/quota"), format_args!("is {quota}"), "at least 1000 microseconds, or -1 for unlimited");
    }
    if let (Some(burst), Some(quota @ 1..)) = (c.burst, c.quota)
        && burst > quota.unsigned_abs()
    {
        cx.fault(format_args!("{AT}/cpu/burst"), format_args!("{burst} is more than the quota, {quota}"), "at most the quota");
    }
    if let (Some(runtime), Some(period @ 1..)) = (c.realtime_runtime, c.realtime_period)
        && runtime > 0
        && runtime.unsigned_abs() > period
    {
        cx.warn(format_args!("{AT}/cpu/realtimeRuntime"), format_args!("{runtime} is more than the period, {period}"), "at most realtimePeriod");
    }
    if let Some(idle) = c.idle.filter(|i| !(0..=1).contains(i)) {
        cx.fault(format_args!("{AT}/cpu/idle"), format_args!("is {idle}"), "0 or 1");
    }
    for (field, list) in [("cpus", &c.cpus), ("mems", &c.mems)] {
        if let Some(why) = lists::fault_for_kernel(list) {
            cx.fault(format_args!("{AT}/cpu/{field}"), format_args!("{list:?}: {why}"), "a list such as 0-3,7");
        }
    }
}

/// § Block IO.
fn block_io(cx: &mut Checker, io: &BlockIo) {
    const IO: &str = "/linux/resources/blockIO";
    weights(cx, IO, io.weight, io.leaf_weight);
    for (i, WeightDevice { major, minor, weight, leaf_weight }) in io.weight_device.iter().enumerate() {
        let at = format_args!("{IO}/weightDevice/{i}");
        block_device(cx, at, *major, *minor);
        weights(cx, at, *weight, *leaf_weight);
        if weight.is_none() && leaf_weight.is_none() && cx.readable(at) {
            cx.fault(at, "has neither weight nor leafWeight", "at least one of the two");
        }
    }
    let throttles = [
        ("throttleReadBpsDevice", &io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", &io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", &io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", &io.throttle_write_iops_device),
    ];
    for (field, list) in throttles {
        for (i, ThrottleDevice { major, minor, rate: _ }) in list.iter().enumerate() {
            block_device(cx, format_args!("{IO}/{field}/{i}"), *major, *minor);
        }
    }
}

fn weights(cx: &mut Checker, at: impl Display, weight: Option<u16>, leaf: Option<u16>) {
    for (field, weight) in [("weight", weight), ("leafWeight", leaf)] {
        match weight {
            None | Some(0 | 10..=1000) => {}
            // BFQ starts at 1, CFQ started at 10.
            Some(low @ 1..10) => {
                cx.warn(format_args!("{at}/{field}"), format_args!("{low} is taken by some I/O schedulers only"), "10 to 1000");
            }
            Some(high) => {
                cx.fault(format_args!("{at}/{field}"), format_args!("is {high}"), "10 to 1000");
            }
        }
    }
}

fn block_device(cx: &mut Checker, at: impl Display, major: i64, minor: i64) {
    for (field, number) in [("major", major), ("minor", minor)] {
        if number < 0 {
            cx.fault(format_args!("{at}/{field}"), format_args!("is {number}"), "the number of a block device");
        }
    }
}

/// § Huge page limits, § Network, § RDMA, § Unified.
fn others(cx: &mut Checker, resources: &Resources) {
    for (i, limit) in resources.hugepage_limits.iter().enumerate() {
        let at = format_args!("{AT}/hugepageLimits/{i}/pageSize");
        if !is_page_size(&limit.page_size) {
            cx.fault(at, format_args!("{:?}", limit.page_size), "a size as the kernel writes it: 64KB, 2MB, 1GB")
                .did_you_mean(page_size_meant(&limit.page_size).as_deref());
        } else if let Some(first) = resources.hugepage_limits[..i].iter().position(|l| l.page_size == limit.page_size) {
            cx.note(at, format_args!("{} is limited already by entry {first}", limit.page_size), "each size once");
        }
    }
    let priorities = resources.network.iter().flat_map(|network| &network.priorities);
    for (i, _) in priorities.enumerate().filter(|(_, p)| p.name.is_empty()) {
        cx.fault(format_args!("{AT}/network/priorities/{i}/name"), "is empty", "the name of a network interface");
    }
    for (name, _) in resources.rdma.iter().filter(|(_, rdma)| rdma.hca_handles.is_none() && rdma.hca_objects.is_none()) {
        let at = format!("{AT}/rdma/{}", escape_pointer(name));
        if cx.readable(&at) {
            cx.fault(at, "has neither hcaHandles nor hcaObjects", "at least one of the two");
        }
    }
    for key in resources.unified.keys() {
        let at = format_args!("{AT}/unified/{}", escape_pointer(key));
        if key.is_empty() || key.contains(['/', '\0']) || key == "." || key == ".." {
            cx.fault(at, format_args!("{key:?} is no file's name"), "a file of the cgroup, such as memory.high");
        } else if !key.contains('.') {
            cx.warn(at, format_args!("{key:?} names no controller"), "CONTROLLER.PARAMETER, such as memory.high");
        }
    }
}

/// `^[1-9][0-9]*[KMG]B$`: the schema's pattern, and the kernel's names (hugetlb_cgroup.c, `mem_fmt`).
fn is_page_size(text: &str) -> bool {
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit));
    digits.is_some_and(|digits| !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn page_size_meant(text: &str) -> Option<String> {
    let upper = text.trim().to_ascii_uppercase().replace("IB", "B");
    let upper = if upper.ends_with('B') { upper } else { format!("{upper}B") };
    is_page_size(&upper).then_some(upper)
}

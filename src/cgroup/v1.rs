//! `/linux/resources` → cgroup v1's files.
//!
//! Sources: kernel Documentation/admin-guide/cgroup-v1/{memory,cpusets,blkio-controller,hugetlb,pids,rdma,net_cls,
//! net_prio}.rst, scheduler/sched-bwc.rst and sched-rt-group.rst. A number that is 0 counts as absent, as with runc,
//! unless 0 has a meaning of its own (burst, idle, swappiness, pids).

use super::file::{self, Knobs};
use super::{Cgroup, convert, create};
use crate::spec::{BlockIo, Cpu, HugepageLimit, Memory, Network, Pids, Resources, ThrottleDevice};
use crate::{Error, Result};
use std::io;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// [`Cgroup::create`] has written what must be there before a process enters.
    Create,
    Update,
}

pub fn set(cgroup: &Cgroup, resources: &Resources, occasion: Occasion) -> Result<()> {
    refuse_unified(resources)?;
    let knobs = |controller| Knobs { controller, dir: cgroup.path(controller), rootless: cgroup.rootless };
    if let Some(cpu) = &resources.cpu {
        if occasion == Occasion::Update {
            set_cpuset(&knobs("cpuset"), cpu)?;
        }
        set_cpu(&knobs("cpu"), cpu)?;
        if occasion == Occasion::Update || cgroup.path("cpu").is_none() {
            set_realtime(&knobs("cpu"), resources)?;
        }
        // create() had nowhere to write it, so nobody has complained yet.
        if occasion == Occasion::Create && cgroup.path("cpuset").is_none() {
            set_cpuset(&knobs("cpuset"), cpu)?;
        }
    }
    if let Some(memory) = &resources.memory {
        set_memory(&knobs("memory"), memory)?;
    }
    if let Some(Pids { limit: Some(limit) }) = resources.pids {
        knobs("pids").set("pids/limit", "pids.max", convert::pids_max(limit))?;
    }
    if let Some(block_io) = &resources.block_io {
        set_block_io(&knobs("blkio"), block_io)?;
    }
    set_hugepages(&knobs("hugetlb"), &resources.hugepage_limits, ".limit_in_bytes")?;
    if let Some(network) = &resources.network {
        set_network(&knobs("net_cls"), &knobs("net_prio"), network)?;
    }
    set_rdma(&knobs("rdma"), resources)
}

/// The raw v2 files of the config make no sense here.
pub fn refuse_unified(resources: &Resources) -> Result<()> {
    if resources.unified.is_empty() {
        return Ok(());
    }
    let fault = Error::invalid("/linux/resources/unified", "invalid configuration: cannot use unified on cgroup v1");
    Err(fault.hint("use the fields memory, cpu, pids, … or a machine with cgroup v2"))
}

fn set_cpuset(knobs: &Knobs, cpu: &Cpu) -> Result<()> {
    for (what, list) in [("cpus", &cpu.cpus), ("mems", &cpu.mems)] {
        if !list.is_empty() {
            let field = format!("cpu/{what}");
            let prefix = create::cpuset_prefix(knobs.require(&field)?);
            knobs.set(&field, &format!("{prefix}{what}"), list)?;
        }
    }
    Ok(())
}

fn set_cpu(knobs: &Knobs, cpu: &Cpu) -> Result<()> {
    if let Some(shares) = cpu.shares.filter(|s| *s != 0) {
        set_shares(knobs, shares)?;
    }
    set_bandwidth(knobs, cpu)?;
    if let Some(idle) = cpu.idle {
        knobs.set("cpu/idle", "cpu.idle", idle)?;
    }
    Ok(())
}

/// The kernel silently brings a number outside of 2…262144 into its range; the user should know.
fn set_shares(knobs: &Knobs, shares: u64) -> Result<()> {
    knobs.set("cpu/shares", "cpu.shares", shares)?;
    let dir = knobs.require("cpu/shares")?;
    let taken = file::read_number(dir, "cpu.shares").map_err(|e| file::failure(&e, "reading back", dir, "cpu.shares"))?;
    let limit = |which: &str| Err(Error::invalid("/linux/resources/cpu/shares", format!("the {which} allowed cpu-shares is {taken}")));
    match shares.cmp(&taken) {
        std::cmp::Ordering::Greater => limit("maximum"),
        std::cmp::Ordering::Less => limit("minimum"),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

/// Period, burst and quota limit each other, so the kernel may refuse (EINVAL) one of the first two only because the
/// old quota is still there. Then it is tried again after the quota.
fn set_bandwidth(knobs: &Knobs, cpu: &Cpu) -> Result<()> {
    let quota = cpu.quota.filter(|q| *q != 0);
    let mut again = Vec::new();
    if let Some(period) = cpu.period.filter(|p| *p != 0) {
        again.extend(set_or_postpone(knobs, "cpu/period", "cpu.cfs_period_us", period.to_string(), quota.is_some())?);
    }
    if let Some(burst) = cpu.burst {
        again.extend(set_or_postpone(knobs, "cpu/burst", "cpu.cfs_burst_us", burst.to_string(), quota.is_some())?);
    }
    if let Some(quota) = quota {
        knobs.set("cpu/quota", "cpu.cfs_quota_us", quota)?;
    }
    again.into_iter().try_for_each(|(field, file, value)| knobs.set(field, file, value))
}

type Postponed = (&'static str, &'static str, String);

fn set_or_postpone(knobs: &Knobs, field: &'static str, file: &'static str, value: String, can_wait: bool) -> Result<Option<Postponed>> {
    match knobs.try_set(field, file, &value)? {
        Ok(()) => Ok(None),
        Err(e) if can_wait && e.raw_os_error() == Some(libc::EINVAL) => Ok(Some((field, file, value))),
        // Kernels before 5.14 have no burst, and runc lets them.
        Err(e) if field == "cpu/burst" && e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(knobs.failure(&e, field, file, &value)),
    }
}

/// Realtime period and runtime, which depend on each other as period and quota do.
pub fn set_realtime(knobs: &Knobs, resources: &Resources) -> Result<()> {
    let Some(cpu) = &resources.cpu else { return Ok(()) };
    let runtime = cpu.realtime_runtime.filter(|r| *r != 0);
    let mut again = None;
    if let Some(period) = cpu.realtime_period.filter(|p| *p != 0) {
        again = set_or_postpone(knobs, "cpu/realtimePeriod", "cpu.rt_period_us", period.to_string(), runtime.is_some())?;
    }
    if let Some(runtime) = runtime {
        knobs.set("cpu/realtimeRuntime", "cpu.rt_runtime_us", runtime)?;
    }
    again.into_iter().try_for_each(|(field, file, value)| knobs.set(field, file, value))
}

const LIMIT: &str = "memory.limit_in_bytes";
const SWAP_LIMIT: &str = "memory.memsw.limit_in_bytes";

fn set_memory(knobs: &Knobs, memory: &Memory) -> Result<()> {
    set_memory_and_swap(knobs, memory)?;
    if let Some(reservation) = memory.reservation.filter(|r| *r != 0) {
        knobs.set("memory/reservation", "memory.soft_limit_in_bytes", reservation)?;
    }
    if memory.disable_oom_killer == Some(true) {
        knobs.set("memory/disableOOMKiller", "memory.oom_control", 1)?;
    }
    match memory.swappiness {
        // Docker's "as it is", -1.
        None | Some(u64::MAX) => Ok(()),
        Some(n @ 0..=100) => knobs.set("memory/swappiness", "memory.swappiness", n),
        Some(n) => Err(Error::invalid("/linux/resources/memory/swappiness", format!("invalid memory swappiness value: {n} (valid range is 0-100)"))),
    }
}

/// memory+swap may never be below memory, not even for a moment: so when it grows it goes first, else last.
fn set_memory_and_swap(knobs: &Knobs, memory: &Memory) -> Result<()> {
    let limit = memory.limit.filter(|l| *l != 0);
    let mut swap = memory.swap.filter(|s| *s != 0);
    // Unlimited memory below the old memory+swap would be none.
    if limit == Some(-1) && swap.is_none() && knobs.require("memory/limit")?.join(SWAP_LIMIT).exists() {
        swap = Some(-1);
    }
    let mut swap_first = false;
    if let (Some(_), Some(swap)) = (limit, swap) {
        let dir = knobs.require("memory/limit")?;
        let current = file::read_number(dir, LIMIT).map_err(|e| file::failure(&e, "reading", dir, LIMIT))?;
        swap_first = swap == -1 || current < swap as u64;
    }
    let set_swap = || swap.map_or(Ok(()), |s| knobs.set("memory/swap", SWAP_LIMIT, s));
    if swap_first {
        set_swap()?;
    }
    if let Some(limit) = limit {
        set_limit(knobs, limit)?;
    }
    if swap_first { Ok(()) } else { set_swap() }
}

/// EBUSY: the kernel could not reclaim enough to get below the new limit.
fn set_limit(knobs: &Knobs, limit: i64) -> Result<()> {
    let value = limit.to_string();
    let error = match knobs.try_set("memory/limit", LIMIT, &value)? {
        Ok(()) => return Ok(()),
        Err(e) => e,
    };
    if error.raw_os_error() != Some(libc::EBUSY) {
        return Err(knobs.failure(&error, "memory/limit", LIMIT, &value));
    }
    let dir = knobs.require("memory/limit")?;
    let read = |name: &str| file::read_number(dir, name).map_err(|e| file::failure(&e, "reading", dir, name));
    let (usage, peak) = (read("memory.usage_in_bytes")?, read("memory.max_usage_in_bytes")?);
    Err(Error::kernel(
        "write",
        libc::EBUSY,
        format!("unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak}) by"),
        dir.join(LIMIT).display().to_string(),
    ))
}

fn set_block_io(knobs: &Knobs, block_io: &BlockIo) -> Result<()> {
    if let Some(weight) = block_io.weight.filter(|w| *w != 0) {
        knobs.set("blockIO/weight", weight_file(knobs, "blockIO/weight")?, weight)?;
    }
    if let Some(weight) = block_io.leaf_weight.filter(|w| *w != 0) {
        knobs.set("blockIO/leafWeight", "blkio.leaf_weight", weight)?;
    }
    for (n, device) in block_io.weight_device.iter().enumerate() {
        let field = format!("blockIO/weightDevice/{n}");
        let line = |weight: u16| format!("{}:{} {weight}", device.major, device.minor);
        if let Some(weight) = device.weight.filter(|w| *w != 0) {
            knobs.set(&field, &format!("{}_device", weight_file(knobs, &field)?), line(weight))?;
        }
        if let Some(weight) = device.leaf_weight.filter(|w| *w != 0) {
            knobs.set(&field, "blkio.leaf_weight_device", line(weight))?;
        }
    }
    let throttles: [(&str, &str, &[ThrottleDevice]); 4] = [
        ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", &block_io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", &block_io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", &block_io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", &block_io.throttle_write_iops_device),
    ];
    for (name, file, devices) in throttles {
        for (n, device) in devices.iter().enumerate() {
            let line = format!("{}:{} {}", device.major, device.minor, device.rate);
            knobs.set(&format!("blockIO/{name}/{n}"), file, line)?;
        }
    }
    Ok(())
}

/// CFQ's file, or BFQ's since Linux 5.0, which has no other scheduler with weights.
fn weight_file(knobs: &Knobs, field: &str) -> Result<&'static str> {
    let cfq = knobs.require(field)?.join("blkio.weight").exists();
    Ok(if cfq { "blkio.weight" } else { "blkio.bfq.weight" })
}

/// The limit, and that of reservations where the kernel has one (Linux 5.7). Also v2's, with `.max`.
pub fn set_hugepages(knobs: &Knobs, limits: &[HugepageLimit], suffix: &str) -> Result<()> {
    for (n, page) in limits.iter().enumerate() {
        let field = format!("hugepageLimits/{n}");
        knobs.set(&field, &format!("hugetlb.{}{suffix}", page.page_size), page.limit)?;
        let (name, value) = (format!("hugetlb.{}.rsvd{suffix}", page.page_size), page.limit.to_string());
        match knobs.try_set(&field, &name, &value)? {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(knobs.failure(&e, &field, &name, &value)),
            _ => {}
        }
    }
    Ok(())
}

fn set_network(cls: &Knobs, prio: &Knobs, network: &Network) -> Result<()> {
    if let Some(id) = network.class_id.filter(|id| *id != 0) {
        cls.set("network/classID", "net_cls.classid", id)?;
    }
    for (n, interface) in network.priorities.iter().enumerate() {
        let line = format!("{} {}", interface.name, interface.priority);
        prio.set(&format!("network/priorities/{n}"), "net_prio.ifpriomap", line)?;
    }
    Ok(())
}

/// rdma.max has the same lines in both versions.
pub fn set_rdma(knobs: &Knobs, resources: &Resources) -> Result<()> {
    for (device, limits) in &resources.rdma {
        let mut line = device.clone();
        if let Some(handles) = limits.hca_handles {
            line += &format!(" hca_handle={handles}");
        }
        if let Some(objects) = limits.hca_objects {
            line += &format!(" hca_object={objects}");
        }
        knobs.set(&format!("rdma/{}", crate::spec::escape_pointer(device)), "rdma.max", line)?;
    }
    Ok(())
}

//! `/linux/resources` → cgroup v2's files (kernel Documentation/admin-guide/cgroup-v2.rst).
//!
//! The order of the controllers is runc's. The spec's v1 numbers are brought to v2's scales by [`convert`].

use super::file::{self, Knobs};
use super::{Cgroup, convert, v1};
use crate::spec::{BlockIo, Cpu, Memory, Pids, Resources, ThrottleDevice};
use crate::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::path::Path;

pub fn set(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    let knobs = |controller| Knobs { controller, dir: cgroup.path(""), rootless: cgroup.rootless };
    if let Some(Pids { limit: Some(limit) }) = resources.pids {
        knobs("pids").set("pids/limit", "pids.max", convert::pids_max(limit))?;
    }
    if let Some(memory) = &resources.memory {
        set_memory(&knobs("memory"), memory)?;
    }
    if let Some(block_io) = &resources.block_io {
        set_io(&knobs("io"), block_io)?;
    }
    if let Some(cpu) = &resources.cpu {
        set_cpu(&knobs("cpu"), cpu)?;
        for (field, file, list) in [("cpu/cpus", "cpuset.cpus", &cpu.cpus), ("cpu/mems", "cpuset.mems", &cpu.mems)] {
            if !list.is_empty() {
                knobs("cpuset").set(field, file, list)?;
            }
        }
    }
    v1::set_hugepages(&knobs("hugetlb"), &resources.hugepage_limits, ".max")?;
    v1::set_rdma(&knobs("rdma"), resources)?;
    set_unified(cgroup, resources)
}

/// The controllers of a cgroup: those of its parent that are switched on for its children.
pub fn controllers(dir: &Path) -> io::Result<Vec<String>> {
    Ok(file::read(dir, "cgroup.controllers")?.split_whitespace().map(String::from).collect())
}

fn wants_memory(resources: &Resources) -> bool {
    let set = |value: Option<i64>| value.is_some_and(|v| v != 0);
    resources.memory.as_ref().is_some_and(|m| set(m.limit) || set(m.swap) || set(m.reservation))
}

fn wants_io(resources: &Resources) -> bool {
    resources.block_io.as_ref().is_some_and(|b| *b != BlockIo { leaf_weight: b.leaf_weight, ..BlockIo::default() })
}

fn wants_cpu(resources: &Resources) -> bool {
    resources.cpu.as_ref().is_some_and(|c| {
        c.shares.is_some_and(|s| s != 0) || c.quota.is_some_and(|q| q != 0) || c.period.is_some_and(|p| p != 0) || c.idle.is_some() || c.burst.is_some()
    })
}

/// Limits of controllers that can't be in a threaded cgroup, as runc counts them.
pub fn needs_domain(resources: &Resources) -> bool {
    wants_memory(resources) || wants_io(resources) || wants_cpu(resources) || !resources.hugepage_limits.is_empty()
}

/// Does the config ask for a controller that this machine has?
pub fn needs_controllers(top: &Path, resources: &Resources) -> bool {
    let available = controllers(top).unwrap_or_default();
    let cpuset = resources.cpu.as_ref().is_some_and(|c| !c.cpus.is_empty() || !c.mems.is_empty());
    let pids = resources.pids.as_ref().is_some_and(|p| p.limit.is_some());
    [
        ("pids", pids),
        ("memory", wants_memory(resources)),
        ("io", wants_io(resources)),
        ("cpu", wants_cpu(resources)),
        ("cpuset", cpuset),
        ("hugetlb", !resources.hugepage_limits.is_empty()),
    ]
    .iter()
    .any(|(controller, wanted)| *wanted && available.iter().any(|a| a == controller))
}

fn set_memory(knobs: &Knobs, memory: &Memory) -> Result<()> {
    let (limit, swap) = (memory.limit.unwrap_or(0), memory.swap.unwrap_or(0));
    refuse_below_usage(knobs, memory)?;
    // Swap first: with the old one, a lower memory limit could push more out to swap than is to be allowed.
    if let Some(alone) = convert::swap_alone(swap, limit)? {
        let value = if alone == -1 { "max".to_string() } else { alone.to_string() };
        match knobs.try_set("memory/swap", "memory.swap.max", &value)? {
            Ok(()) => {}
            // Without swap in the kernel, both "none" and "as much as there is" hold already.
            Err(e) if e.kind() == io::ErrorKind::NotFound && matches!(value.as_str(), "max" | "0") => {}
            Err(e) => return Err(knobs.failure(&e, "memory/swap", "memory.swap.max", &value)),
        }
    }
    if let Some(value) = convert::or_max(limit) {
        knobs.set("memory/limit", "memory.max", value)?;
    }
    if let Some(value) = memory.reservation.and_then(convert::or_max) {
        knobs.set("memory/reservation", "memory.low", value)?;
    }
    Ok(())
}

/// The same check ahead of systemd's properties, which would kill the container as well.
pub fn check_memory(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    let knobs = Knobs { controller: "memory", dir: cgroup.path(""), rootless: cgroup.rootless };
    resources.memory.as_ref().map_or(Ok(()), |memory| refuse_below_usage(&knobs, memory))
}

/// v2 takes a limit below the usage, and lets the OOM killer enforce it (memory.checkBeforeUpdate).
fn refuse_below_usage(knobs: &Knobs, memory: &Memory) -> Result<()> {
    if memory.check_before_update != Some(true) {
        return Ok(());
    }
    let (limit, swap) = (memory.limit.unwrap_or(0), memory.swap.unwrap_or(0));
    // Best effort, as the spec has it: no usage, no check.
    let Ok(usage) = file::read_number(knobs.require("memory/limit")?, "memory.current") else { return Ok(()) };
    for (what, limit) in [("memory+swap", swap), ("memory", limit)] {
        if limit > 0 && limit as u64 <= usage {
            return Err(Error::new(Kind::WrongState, format!("rejecting {what} limit {limit} <= usage {usage}"), "", "")
                .hint("checkBeforeUpdate is set, so a limit that would kill the container at once is refused"));
        }
    }
    Ok(())
}

/// Of `cpu.idle`. An idle cgroup has no weight, and writing one is EINVAL: idle wins, as with systemd.
const IDLE: i64 = 1;

/// Both an idle cgroup and a weight for it are asked for.
pub fn weighs_idle(resources: &Resources) -> bool {
    let by_shares = resources.cpu.as_ref().is_some_and(|c| c.idle == Some(IDLE) && c.shares.and_then(convert::cpu_weight).is_some());
    by_shares || (is_idle(&resources.unified) && resources.unified.contains_key("cpu.weight"))
}

fn is_idle(unified: &BTreeMap<String, String>) -> bool {
    unified.get("cpu.idle").is_some_and(|value| value.trim() == "1")
}

fn set_cpu(knobs: &Knobs, cpu: &Cpu) -> Result<()> {
    if let Some(idle) = cpu.idle {
        knobs.set("cpu/idle", "cpu.idle", idle)?;
    }
    if let Some(weight) = cpu.shares.and_then(convert::cpu_weight).filter(|_| cpu.idle != Some(IDLE)) {
        knobs.set("cpu/shares", "cpu.weight", weight)?;
    }
    let (quota, period) = (cpu.quota.unwrap_or(0), cpu.period.unwrap_or(0));
    // A burst above the old quota is refused (EINVAL), and fits after the new one.
    let mut again = None;
    if let Some(burst) = cpu.burst {
        let value = burst.to_string();
        match knobs.try_set("cpu/burst", "cpu.max.burst", &value)? {
            Ok(()) => {}
            Err(e) if quota != 0 && e.raw_os_error() == Some(libc::EINVAL) => again = Some(value),
            Err(e) => return Err(knobs.failure(&e, "cpu/burst", "cpu.max.burst", &value)),
        }
    }
    if quota != 0 || period != 0 {
        let field = if quota != 0 { "cpu/quota" } else { "cpu/period" };
        knobs.set(field, "cpu.max", convert::cpu_max(quota, period))?;
    }
    again.map_or(Ok(()), |value| knobs.set("cpu/burst", "cpu.max.burst", value))
}

fn set_io(knobs: &Knobs, block_io: &BlockIo) -> Result<()> {
    let weight = block_io.weight.filter(|w| *w != 0);
    if weight.is_some() || !block_io.weight_device.is_empty() {
        set_io_weights(knobs, block_io, weight)?;
    }
    let throttles: [(&str, &str, &[ThrottleDevice]); 4] = [
        ("throttleReadBpsDevice", "rbps", &block_io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", "wbps", &block_io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", "riops", &block_io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", "wiops", &block_io.throttle_write_iops_device),
    ];
    for (name, key, devices) in throttles {
        for (n, device) in devices.iter().enumerate() {
            let line = format!("{}:{} {key}={}", device.major, device.minor, device.rate);
            knobs.set(&format!("blockIO/{name}/{n}"), "io.max", line)?;
        }
    }
    Ok(())
}

/// BFQ has the spec's scale and weights for each device; io.weight is the fall-back, with a scale of its own.
fn set_io_weights(knobs: &Knobs, block_io: &BlockIo, weight: Option<u16>) -> Result<()> {
    const BFQ: &str = "io.bfq.weight";
    let bfq = knobs.require("blockIO/weight")?.join(BFQ).exists();
    if let Some(weight) = weight {
        match bfq {
            true => knobs.set("blockIO/weight", BFQ, weight)?,
            false => knobs.set("blockIO/weight", "io.weight", convert::io_weight(weight).unwrap_or(1))?,
        }
    }
    // As with runc: kernels whose BFQ has no weights for devices (before 5.4) go without them.
    if bfq && has_device_weights(&knobs.require("blockIO/weightDevice")?.join(BFQ)) {
        for (n, device) in block_io.weight_device.iter().enumerate() {
            let line = format!("{}:{} {}\n", device.major, device.minor, device.weight.unwrap_or(0));
            knobs.set(&format!("blockIO/weightDevice/{n}"), BFQ, line)?;
        }
    }
    Ok(())
}

/// The old file holds one number, the newer one `default 100` and lines for devices.
fn has_device_weights(path: &Path) -> bool {
    let mut text = String::new();
    let read = OpenOptions::new().read(true).open(path).and_then(|mut f| f.read_to_string(&mut text));
    read.is_ok() && text.trim().parse::<i64>().is_err()
}

/// The config's own v2 files, as they are (config-linux.md § Unified); each line is one write.
fn set_unified(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    let idle = is_idle(&resources.unified);
    for (key, value) in resources.unified.iter().filter(|(key, _)| !(idle && *key == "cpu.weight")) {
        let pointer = format!("/linux/resources/unified/{}", crate::spec::escape_pointer(key));
        if key.contains('/') {
            return Err(Error::invalid(pointer, format!("unified resource {key:?} must be a file name (no slashes)")));
        }
        let dir = cgroup.path("").ok_or_else(|| Error::unsupported("setting", &pointer, "a cgroup for the container"))?;
        if let Err(e) = write_lines(dir, key, value) {
            return Err(unified_failure(&e, dir, key, pointer));
        }
    }
    Ok(())
}

fn write_lines(dir: &Path, key: &str, value: &str) -> io::Result<()> {
    let mut out = file::open_to_write(dir, key)?;
    match value.is_empty() {
        true => file::write_once(&mut out, ""),
        false => value.split_inclusive('\n').try_for_each(|line| file::write_once(&mut out, line)),
    }
}

fn unified_failure(e: &io::Error, dir: &Path, key: &str, pointer: String) -> Error {
    if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EPERM | libc::EACCES)) {
        let Some((controller, _)) = key.split_once('.') else {
            return Error::invalid(pointer, format!("unified resource {key:?} must be in the form CONTROLLER.PARAMETER"));
        };
        let available = controllers(dir).unwrap_or_default();
        if controller != "cgroup" && !available.iter().any(|c| c == controller) {
            return Error::invalid(pointer, format!("unified resource {key:?} can't be set: controller {controller:?} not available")).hint(format!(
                "{} has {}",
                dir.display(),
                if available.is_empty() { "none".into() } else { available.join(", ") }
            ));
        }
    }
    Error::io(e, format!("unable to set unified resource {key:?}:"), dir.join(key).display().to_string())
}

/// Fields below /linux/resources that v2 has no file for.
pub fn ignored(resources: &Resources) -> Vec<String> {
    let mut fields = Vec::new();
    let mut note = |present: bool, field: &str| fields.extend(present.then(|| field.to_string()));
    if let Some(memory) = &resources.memory {
        note(memory.swappiness.is_some_and(|s| s != u64::MAX), "memory/swappiness");
        note(memory.disable_oom_killer == Some(true), "memory/disableOOMKiller");
    }
    if let Some(cpu) = &resources.cpu {
        note(cpu.realtime_runtime.is_some_and(|r| r != 0), "cpu/realtimeRuntime");
        note(cpu.realtime_period.is_some_and(|p| p != 0), "cpu/realtimePeriod");
    }
    if let Some(block_io) = &resources.block_io {
        note(block_io.leaf_weight.is_some_and(|w| w != 0), "blockIO/leafWeight");
    }
    if let Some(network) = &resources.network {
        note(network.class_id.is_some_and(|id| id != 0), "network/classID");
        note(!network.priorities.is_empty(), "network/priorities");
    }
    fields
}

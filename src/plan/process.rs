//! `process`: limits, scheduling, memory policy; names of the spec → numbers of the kernel.

use super::op::{Op, Rlimit, SchedulerOp, Step};
use crate::spec::{self, Linux, Process};
use crate::{Error, Result};

/// RLIMIT_* (asm-generic/resource.h; the same on every architecture that dhow runs on).
const RLIMITS: [(&str, u32); 16] = [
    ("RLIMIT_CPU", 0),
    ("RLIMIT_FSIZE", 1),
    ("RLIMIT_DATA", 2),
    ("RLIMIT_STACK", 3),
    ("RLIMIT_CORE", 4),
    ("RLIMIT_RSS", 5),
    ("RLIMIT_NPROC", 6),
    ("RLIMIT_NOFILE", 7),
    ("RLIMIT_MEMLOCK", 8),
    ("RLIMIT_AS", 9),
    ("RLIMIT_LOCKS", 10),
    ("RLIMIT_SIGPENDING", 11),
    ("RLIMIT_MSGQUEUE", 12),
    ("RLIMIT_NICE", 13),
    ("RLIMIT_RTPRIO", 14),
    ("RLIMIT_RTTIME", 15),
];

/// SCHED_* (linux/sched.h).
const POLICIES: [(&str, u32); 7] =
    [("SCHED_OTHER", 0), ("SCHED_FIFO", 1), ("SCHED_RR", 2), ("SCHED_BATCH", 3), ("SCHED_ISO", 4), ("SCHED_IDLE", 5), ("SCHED_DEADLINE", 6)];

/// SCHED_FLAG_* (linux/sched.h).
const SCHED_FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// IOPRIO_CLASS_* (linux/ioprio.h).
const IO_CLASSES: [(&str, u32); 3] = [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];

/// MPOL_* (linux/mempolicy.h; WEIGHTED_INTERLEAVE since Linux 6.9).
const MEMORY_MODES: [(&str, u32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// MPOL_F_*, or-ed into the mode.
const MEMORY_FLAGS: [(&str, u32); 3] = [("MPOL_F_NUMA_BALANCING", 1 << 13), ("MPOL_F_RELATIVE_NODES", 1 << 14), ("MPOL_F_STATIC_NODES", 1 << 15)];

/// A CPU or node number above this is a slip, not a machine (runc's limit).
const MAX_LISTED: u32 = 64 * 1024;

fn number<T: Copy>(table: &[(&str, T)], name: &str, field: &str, what: &str) -> Result<T> {
    let found = table.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    found.ok_or_else(|| Error::invalid(field, format!("unknown {what} {name:?}")))
}

/// Modes of `linux.memoryPolicy` that dhow knows (for `features`).
pub fn memory_policy_modes() -> Vec<&'static str> {
    sorted(&MEMORY_MODES)
}

/// Flags of `linux.memoryPolicy` that dhow knows (for `features`).
pub fn memory_policy_flags() -> Vec<&'static str> {
    sorted(&MEMORY_FLAGS)
}

fn sorted(table: &[(&'static str, u32)]) -> Vec<&'static str> {
    let mut names: Vec<_> = table.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names
}

/// config.md § POSIX process: an unknown type and a second entry for a type are errors.
pub(super) fn rlimits(process: &Process) -> Result<Vec<Rlimit>> {
    let mut out: Vec<Rlimit> = Vec::new();
    for (i, limit) in process.rlimits.iter().enumerate() {
        let field = format!("/process/rlimits/{i}");
        let resource = number(&RLIMITS, &limit.kind, &format!("{field}/type"), "rlimit")?;
        if out.iter().any(|other| other.resource == resource) {
            return Err(Error::invalid(field, format!("a second limit for {}", limit.kind)));
        }
        if limit.soft > limit.hard {
            return Err(Error::invalid(format!("{field}/soft"), format!("the soft limit {} is above the hard one, {}", limit.soft, limit.hard)));
        }
        out.push(Rlimit { name: limit.kind.clone(), resource, soft: limit.soft, hard: limit.hard, field });
    }
    Ok(out)
}

/// Scheduler, I/O priority, personality and memory policy, in runc's order.
pub(super) fn tuning(process: &Process, linux: &Linux, warnings: &mut Vec<String>) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut push = |field: &str, op| steps.push(Step { field: field.into(), op });
    if let Some(scheduler) = &process.scheduler {
        push("/process/scheduler", Op::Scheduler(scheduler_op(scheduler)?));
    }
    if let Some(io) = &process.io_priority {
        push("/process/ioPriority", io_priority(io)?);
    }
    if let Some(personality) = &linux.personality {
        push("/linux/personality", Op::Personality { persona: persona(personality, warnings)? });
    }
    if let Some(policy) = &linux.memory_policy {
        push("/linux/memoryPolicy", memory_policy(policy)?);
    }
    Ok(steps)
}

/// sched_setattr(2), which of its fields go with which policy.
fn scheduler_op(scheduler: &spec::Scheduler) -> Result<SchedulerOp> {
    const FIELD: &str = "/process/scheduler";
    let invalid = |name: &str, message: String| Err(Error::invalid(format!("{FIELD}/{name}"), message));
    let policy = number(&POLICIES, &scheduler.policy, &format!("{FIELD}/policy"), "scheduler policy")?;
    let mut flags = 0;
    for (i, name) in scheduler.flags.iter().enumerate() {
        flags |= number(&SCHED_FLAGS, name, &format!("{FIELD}/flags/{i}"), "scheduler flag")?;
    }
    let named = scheduler.policy.as_str();
    if !(-20..=19).contains(&scheduler.nice) && matches!(named, "SCHED_OTHER" | "SCHED_BATCH") {
        return invalid("nice", format!("{} is not between -20 and 19", scheduler.nice));
    }
    if scheduler.priority != 0 && !matches!(named, "SCHED_FIFO" | "SCHED_RR") {
        return invalid("priority", "a priority goes with SCHED_FIFO and SCHED_RR only".into());
    }
    let Ok(priority) = u32::try_from(scheduler.priority) else {
        return invalid("priority", format!("{} is negative", scheduler.priority));
    };
    let timed = scheduler.runtime != 0 || scheduler.deadline != 0 || scheduler.period != 0;
    if timed && named != "SCHED_DEADLINE" {
        return Err(Error::invalid(FIELD, "runtime, deadline and period go with SCHED_DEADLINE only"));
    }
    let spec::Scheduler { nice, runtime, deadline, period, .. } = *scheduler;
    Ok(SchedulerOp { policy, flags, nice, priority, runtime, deadline, period })
}

fn io_priority(io: &spec::IoPriority) -> Result<Op> {
    let class = number(&IO_CLASSES, &io.class, "/process/ioPriority/class", "I/O priority class")?;
    match u32::try_from(io.priority) {
        Ok(priority @ 0..=7) => Ok(Op::IoPriority { class, priority }),
        _ => Err(Error::invalid("/process/ioPriority/priority", format!("{} is not between 0 and 7", io.priority))),
    }
}

/// personality(2): PER_LINUX or PER_LINUX32. config-linux.md defines no flags yet.
fn persona(personality: &spec::Personality, warnings: &mut Vec<String>) -> Result<u64> {
    if !personality.flags.is_empty() {
        warnings.push(format!("linux.personality.flags: none is defined, ignoring {:?}", personality.flags));
    }
    number(&[("LINUX", 0), ("LINUX32", 8)], &personality.domain, "/linux/personality/domain", "personality")
}

/// set_mempolicy(2), which modes take nodes.
fn memory_policy(policy: &spec::MemoryPolicy) -> Result<Op> {
    const FIELD: &str = "/linux/memoryPolicy";
    let mut mode = number(&MEMORY_MODES, &policy.mode, &format!("{FIELD}/mode"), "memory policy mode")?;
    let nodes = number_list(&policy.nodes, &format!("{FIELD}/nodes"))?.unwrap_or_default();
    let field = format!("{FIELD}/nodes");
    match policy.mode.as_str() {
        "MPOL_DEFAULT" | "MPOL_LOCAL" if !nodes.is_empty() => {
            return Err(Error::invalid(field, format!("{} takes no nodes", policy.mode)));
        }
        "MPOL_DEFAULT" | "MPOL_LOCAL" | "MPOL_PREFERRED" => {}
        _ if nodes.is_empty() => return Err(Error::invalid(field, format!("{} needs at least one node", policy.mode))),
        _ => {}
    }
    for (i, name) in policy.flags.iter().enumerate() {
        mode |= number(&MEMORY_FLAGS, name, &format!("{FIELD}/flags/{i}"), "memory policy flag")?;
    }
    Ok(Op::MemoryPolicy { mode, nodes })
}

/// CPU affinity of an exec'd process, before (`initial`) and after it joins the cgroup; None where not given.
pub(super) struct Affinity {
    pub initial: Option<Vec<u32>>,
    pub last: Option<Vec<u32>>,
}

pub(super) fn affinity(given: Option<&spec::CpuAffinity>) -> Result<Affinity> {
    const FIELD: &str = "/process/execCPUAffinity";
    let Some(given) = given else { return Ok(Affinity { initial: None, last: None }) };
    let initial = number_list(&given.initial, &format!("{FIELD}/initial"))?;
    Ok(Affinity { initial, last: number_list(&given.last, &format!("{FIELD}/final"))? })
}

/// `0-3,7`, as cpuset(7) § Formats writes lists; spaces and empty elements are let pass. None for an empty text.
fn number_list(text: &str, field: &str) -> Result<Option<Vec<u32>>> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = |part: &str, why: &str| Error::invalid(field, format!("{part:?} in {text:?}: {why}"));
    let parse = |part: &str| match part.parse::<u32>() {
        Ok(n) if n <= MAX_LISTED => Ok(n),
        Ok(_) => Err(invalid(part, &format!("numbers larger than {MAX_LISTED} are not supported"))),
        Err(_) => Err(invalid(part, "not a number")),
    };
    let mut out = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse(first)?, parse(last)?);
        if first > last {
            return Err(invalid(part, "the range runs backwards"));
        }
        out.extend(first..=last);
    }
    if out.is_empty() {
        return Err(invalid("", "no numbers"));
    }
    out.sort_unstable();
    out.dedup();
    Ok(Some(out))
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;

//! The process (config.md § Process, § POSIX process, § Linux Process, § User).

use super::{Checker, ids, lists, suggest};
use crate::spec::{Capabilities, Process, Rlimit, Scheduler};
use std::fmt::Display;

/// getrlimit(2).
const RLIMITS: [&str; 16] = [
    "RLIMIT_AS",
    "RLIMIT_CORE",
    "RLIMIT_CPU",
    "RLIMIT_DATA",
    "RLIMIT_FSIZE",
    "RLIMIT_LOCKS",
    "RLIMIT_MEMLOCK",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_NOFILE",
    "RLIMIT_NPROC",
    "RLIMIT_RSS",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
    "RLIMIT_SIGPENDING",
    "RLIMIT_STACK",
];

/// capabilities(7), as of Linux 6.18.
const CAPABILITIES: [&str; 41] = [
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_AUDIT_WRITE",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_PERFMON",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
];

pub fn check(cx: &mut Checker) {
    let Some(process) = &cx.spec.process else {
        // config.md § Process: OPTIONAL, and REQUIRED when `start` is called.
        cx.warn("/process", "is missing: the container can be created, never started", "the process to run");
        return;
    };
    command(cx, process);
    if process.console_size.is_some() && !process.terminal {
        cx.note("/process/consoleSize", "is ignored without a terminal", "\"terminal\": true");
    }
    user(cx, process);
    environment(cx, &process.env);
    rlimits(cx, &process.rlimits);
    if let Some(caps) = &process.capabilities {
        capabilities(cx, caps);
    }
    if let Some(scheduler) = &process.scheduler {
        self::scheduler(cx, scheduler);
        let pinned = cx.spec.linux.resources.as_ref().and_then(|r| r.cpu.as_ref()).is_some_and(|cpu| !cpu.cpus.is_empty());
        if pinned && scheduler.policy == "SCHED_DEADLINE" {
            cx.fault(
                "/process/scheduler",
                "process scheduler can't be used together with AllowedCPUs (/linux/resources/cpu/cpus)",
                "one of the two: the kernel schedules deadlines over all CPUs",
            );
        }
    }
    placement(cx, process);
    super::kernel::selinux_label(cx, "/process/selinuxLabel", &process.selinux_label);
    cx.no_nul("/process/apparmorProfile", &process.apparmor_profile);
}

fn command(cx: &mut Checker, process: &Process) {
    match process.args.first() {
        None => {
            cx.fault("/process/args", "is empty", "at least the program to run").hint("for example [\"sh\"]");
        }
        Some(program) if program.is_empty() => {
            cx.fault("/process/args/0", "is empty", "the program to run: a path, or a name to be looked up in PATH");
        }
        Some(_) => {}
    }
    for (i, arg) in process.args.iter().enumerate() {
        cx.no_nul(format_args!("/process/args/{i}"), arg);
    }
    if process.cwd.is_empty() {
        cx.fault("/process/cwd", "is empty", "the working directory inside the container: an absolute path").hint("write \"/\"");
    } else {
        cx.absolute("/process/cwd", &process.cwd);
    }
}

/// As runc 1.5 has it (`prepareEnv`): NAME=VALUE with a name; of two with one name the last counts.
fn environment(cx: &mut Checker, env: &[String]) {
    for (i, entry) in env.iter().enumerate() {
        let at = format_args!("/process/env/{i}");
        match entry.split_once('=') {
            None => {
                cx.fault(at, format_args!("{entry:?} has no `=`"), "NAME=VALUE").hint(format_args!("for an empty value write {:?}", format!("{entry}=")));
            }
            Some(("", _)) => {
                cx.fault(at, format_args!("{entry:?} has no name before the `=`"), "NAME=VALUE");
            }
            Some((name, _)) => {
                cx.no_nul(at, entry);
                let again = |later: &String| later.split_once('=').is_some_and(|(n, _)| n == name);
                if cx.notes && env[i + 1..].iter().any(again) {
                    cx.note(at, format_args!("{name} is set again below; the last one counts"), "each name once");
                }
            }
        }
    }
}

/// setuid(2), setgroups(2): -1 is no id, and in a user namespace an id has to be mapped.
fn user(cx: &mut Checker, process: &Process) {
    let user = &process.user;
    let linux = &cx.spec.linux;
    // With a path the mappings are those of the namespace joined, which are not known here.
    let maps_known = cx.namespace("user").is_some_and(|ns| ns.path.is_empty());
    let one = |cx: &mut Checker, at: &dyn Display, kind: &str, id: u32| {
        let (mappings, pointer) = match kind {
            "uid" => (&linux.uid_mappings, "/linux/uidMappings"),
            _ => (&linux.gid_mappings, "/linux/gidMappings"),
        };
        if id == u32::MAX {
            cx.fault(at, format_args!("{id} is -1, which is no {kind}"), "0 to 4294967294");
        } else if maps_known && !mappings.is_empty() && cx.readable(pointer) && ids::to_host(mappings, id).is_none() {
            cx.fault(at, format_args!("{kind} {id} is not mapped in the user namespace"), format_args!("an id that {pointer} maps"))
                .hint("widen the mapping, or choose an id inside it");
        }
    };
    one(cx, &"/process/user/uid", "uid", user.uid);
    one(cx, &"/process/user/gid", "gid", user.gid);
    // Unmapped additional groups are left out without a word where setgroups is denied, so only -1 is sure to fail.
    for (i, gid) in user.additional_gids.iter().enumerate().filter(|(_, gid)| **gid == u32::MAX) {
        one(cx, &format_args!("/process/user/additionalGids/{i}"), "gid", *gid);
    }
    if let Some(umask) = user.umask.filter(|umask| *umask > 0o777) {
        cx.warn("/process/user/umask", format_args!("{umask} is {umask:#o}; the kernel looks at the lower nine bits alone"), "0 to 511 (0777)")
            .hint("the number is decimal: octal 022 is 18");
    }
    if !user.username.is_empty() {
        cx.note("/process/user/username", "is for Windows; ignored", "uid and gid");
    }
}

/// config.md § POSIX process.
fn rlimits(cx: &mut Checker, rlimits: &[Rlimit]) {
    for (i, limit) in rlimits.iter().enumerate() {
        let at = format_args!("/process/rlimits/{i}");
        cx.one_of(format_args!("{at}/type"), &limit.kind, &RLIMITS);
        if let Some(first) = rlimits[..i].iter().position(|earlier| earlier.kind == limit.kind) {
            cx.fault(format_args!("{at}/type"), format_args!("{} is limited already by entry {first}", limit.kind), "each type once");
        }
        if limit.soft > limit.hard && cx.readable(at) {
            cx.fault(
                format_args!("{at}/soft"),
                format_args!("{} is more than the hard limit, {}", limit.soft, limit.hard),
                "at most the hard limit (setrlimit(2))",
            );
        }
    }
}

/// config.md § Linux Process: what can't be granted MUST be warned of, and SHOULD NOT fail.
fn capabilities(cx: &mut Checker, caps: &Capabilities) {
    let sets = [
        ("bounding", &caps.bounding),
        ("effective", &caps.effective),
        ("inheritable", &caps.inheritable),
        ("permitted", &caps.permitted),
        ("ambient", &caps.ambient),
    ];
    for (set, names) in sets {
        for (i, name) in names.iter().enumerate() {
            let at = format_args!("/process/capabilities/{set}/{i}");
            if !CAPABILITIES.contains(&name.as_str()) {
                cx.warn(at, format_args!("{name:?} is not known; left out"), "a name from capabilities(7), such as CAP_CHOWN")
                    .did_you_mean(suggest::closest(name, &CAPABILITIES));
                continue;
            }
            // capabilities(7) § Ambient, § Thread capability sets; capset(2).
            let lacks = match set {
                "effective" if !caps.permitted.contains(name) => "permitted",
                "inheritable" if !caps.bounding.contains(name) => "bounding",
                "ambient" if !caps.permitted.contains(name) => "permitted",
                "ambient" if !caps.inheritable.contains(name) => "inheritable",
                _ => continue,
            };
            cx.warn(at, format_args!("{name} can't be {set}: it is not in the {lacks} set"), format_args!("{name} in {lacks} too"));
        }
    }
}

/// sched_setattr(2), sched(7).
fn scheduler(cx: &mut Checker, s: &Scheduler) {
    const AT: &str = "/process/scheduler";
    const POLICIES: [&str; 7] = ["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"];
    const FLAGS: [&str; 7] = [
        "SCHED_FLAG_RESET_ON_FORK",
        "SCHED_FLAG_RECLAIM",
        "SCHED_FLAG_DL_OVERRUN",
        "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS",
        "SCHED_FLAG_UTIL_CLAMP_MIN",
        "SCHED_FLAG_UTIL_CLAMP_MAX",
    ];
    cx.one_of(format_args!("{AT}/policy"), &s.policy, &POLICIES);
    for (i, flag) in s.flags.iter().enumerate() {
        cx.one_of(format_args!("{AT}/flags/{i}"), flag, &FLAGS);
    }
    if !cx.readable(AT) {
        return;
    }
    let policy = s.policy.as_str();
    if policy == "SCHED_ISO" {
        cx.fault(format_args!("{AT}/policy"), "SCHED_ISO is reserved, but not implemented by Linux (sched.h)", "another policy");
    }
    if matches!(policy, "SCHED_OTHER" | "SCHED_BATCH") && !(-20..=19).contains(&s.nice) {
        cx.fault(format_args!("{AT}/nice"), format_args!("is {}", s.nice), "-20 to 19");
    }
    match policy {
        "SCHED_FIFO" | "SCHED_RR" if !(1..=99).contains(&s.priority) => {
            cx.fault(format_args!("{AT}/priority"), format_args!("is {}", s.priority), format_args!("1 to 99 with {policy}"));
        }
        "SCHED_FIFO" | "SCHED_RR" => {}
        _ if s.priority != 0 => {
            cx.fault(format_args!("{AT}/priority"), format_args!("is {} with {policy}", s.priority), "a priority with SCHED_FIFO or SCHED_RR only");
        }
        _ => {}
    }
    if policy == "SCHED_DEADLINE" {
        // The kernel: runtime <= deadline <= period, where a period of 0 is the deadline.
        let period = if s.period == 0 { s.deadline } else { s.period };
        if s.runtime == 0 || s.runtime > s.deadline || s.deadline > period {
            let message = format_args!("runtime {}, deadline {}, period {}", s.runtime, s.deadline, s.period);
            cx.fault(AT, message, "0 < runtime <= deadline <= period, in nanoseconds");
        }
    } else {
        for (field, value) in [("runtime", s.runtime), ("deadline", s.deadline), ("period", s.period)] {
            if value != 0 {
                cx.fault(format_args!("{AT}/{field}"), format_args!("is set with {policy}"), format_args!("a {field} with SCHED_DEADLINE only"));
            }
        }
    }
}

/// I/O priority, CPU affinity, the OOM killer's score.
fn placement(cx: &mut Checker, process: &Process) {
    if let Some(io) = &process.io_priority {
        cx.one_of("/process/ioPriority/class", &io.class, &["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"]);
        if !(0..=7).contains(&io.priority) {
            cx.fault("/process/ioPriority/priority", format_args!("is {}", io.priority), "0 (highest) to 7 (lowest)");
        }
    }
    if let Some(affinity) = &process.exec_cpu_affinity {
        for (field, list) in [("initial", &affinity.initial), ("final", &affinity.last)] {
            let why = match lists::members(list) {
                Ok(0) if !list.is_empty() => "it names no CPU".to_owned(),
                Ok(_) => continue,
                Err(why) => why,
            };
            cx.fault(format_args!("/process/execCPUAffinity/{field}"), format_args!("{list:?}: {why}"), "a list of CPUs, such as 0-3,7");
        }
    }
    if let Some(score) = process.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
        cx.fault("/process/oomScoreAdj", format_args!("is {score}"), "-1000 to 1000 (proc(5))");
    }
}

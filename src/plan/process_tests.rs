use super::*;

fn subject<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().subject.clone()
}

#[test]
fn number_lists() {
    let list = |text| number_list(text, "/x").unwrap();
    assert_eq!(list(""), None);
    assert_eq!(list("0-2, 7,,1"), Some(vec![0, 1, 2, 7]));
    for bad in ["a", "3-1", "1-", "-1", ",", "70000", "0x1"] {
        assert_eq!(subject(number_list(bad, "/x")), "/x", "{bad}");
    }
}

#[test]
fn rlimits_are_numbered_and_checked() {
    let limit = |kind: &str, soft, hard| spec::Rlimit { kind: kind.into(), soft, hard };
    let of = |list: Vec<spec::Rlimit>| rlimits(&Process { rlimits: list, ..Default::default() });
    let good = of(vec![limit("RLIMIT_NOFILE", 10, 20), limit("RLIMIT_CORE", 0, u64::MAX)]).unwrap();
    assert_eq!((good[0].resource, good[1].resource), (libc::RLIMIT_NOFILE as u32, libc::RLIMIT_CORE as u32));
    assert_eq!(subject(of(vec![limit("RLIMIT_NONE", 1, 1)])), "/process/rlimits/0/type");
    assert_eq!(subject(of(vec![limit("RLIMIT_CPU", 1, 1), limit("RLIMIT_CPU", 1, 1)])), "/process/rlimits/1");
    assert_eq!(subject(of(vec![limit("RLIMIT_CPU", 2, 1)])), "/process/rlimits/0/soft");
}

#[test]
fn rlimit_numbers_are_libcs() {
    for (name, ours, libcs) in [
        ("AS", 9, libc::RLIMIT_AS as u32),
        ("CPU", 0, libc::RLIMIT_CPU as u32),
        ("FSIZE", 1, libc::RLIMIT_FSIZE as u32),
        ("LOCKS", 10, libc::RLIMIT_LOCKS as u32),
        ("MEMLOCK", 8, libc::RLIMIT_MEMLOCK as u32),
        ("MSGQUEUE", 12, libc::RLIMIT_MSGQUEUE as u32),
        ("NICE", 13, libc::RLIMIT_NICE as u32),
        ("NPROC", 6, libc::RLIMIT_NPROC as u32),
        ("RSS", 5, libc::RLIMIT_RSS as u32),
        ("RTPRIO", 14, libc::RLIMIT_RTPRIO as u32),
        ("RTTIME", 15, libc::RLIMIT_RTTIME as u32),
        ("SIGPENDING", 11, libc::RLIMIT_SIGPENDING as u32),
    ] {
        assert_eq!((ours, number(&RLIMITS, &format!("RLIMIT_{name}"), "", "").unwrap()), (libcs, libcs), "{name}");
    }
}

#[test]
fn schedulers() {
    let scheduler = |policy: &str| spec::Scheduler { policy: policy.into(), ..Default::default() };
    let deadline = spec::Scheduler { runtime: 1, deadline: 2, period: 3, flags: vec!["SCHED_FLAG_RECLAIM".into()], ..scheduler("SCHED_DEADLINE") };
    assert_eq!(scheduler_op(&deadline).unwrap(), SchedulerOp { policy: 6, flags: 2, nice: 0, priority: 0, runtime: 1, deadline: 2, period: 3 });
    for (bad, pointer) in [
        (scheduler(""), "/policy"),
        (spec::Scheduler { nice: 20, ..scheduler("SCHED_BATCH") }, "/nice"),
        (spec::Scheduler { priority: 1, ..scheduler("SCHED_OTHER") }, "/priority"),
        (spec::Scheduler { priority: -1, ..scheduler("SCHED_RR") }, "/priority"),
        (spec::Scheduler { period: 1, ..scheduler("SCHED_RR") }, ""),
        (spec::Scheduler { flags: vec!["X".into()], ..scheduler("SCHED_RR") }, "/flags/0"),
    ] {
        assert_eq!(subject(scheduler_op(&bad)), format!("/process/scheduler{pointer}"));
    }
}

#[test]
fn io_priorities() {
    let io = |class: &str, priority| io_priority(&spec::IoPriority { class: class.into(), priority });
    assert_eq!(io("IOPRIO_CLASS_IDLE", 7).unwrap(), Op::IoPriority { class: 3, priority: 7 });
    assert_eq!(subject(io("IOPRIO_CLASS_BE", 8)), "/process/ioPriority/priority");
    assert_eq!(subject(io("IOPRIO_CLASS_NONE", 0)), "/process/ioPriority/class");
}

#[test]
fn memory_policies() {
    let policy = |mode: &str, nodes: &str| spec::MemoryPolicy { mode: mode.into(), nodes: nodes.into(), flags: Vec::new() };
    let with_flag = spec::MemoryPolicy { flags: vec!["MPOL_F_STATIC_NODES".into()], ..policy("MPOL_BIND", "0,1") };
    assert_eq!(memory_policy(&with_flag).unwrap(), Op::MemoryPolicy { mode: 2 | 1 << 15, nodes: vec![0, 1] });
    assert!(memory_policy(&policy("MPOL_PREFERRED", "")).is_ok());
    for (mode, nodes, pointer) in [("MPOL_X", "", "mode"), ("MPOL_BIND", "", "nodes"), ("MPOL_LOCAL", "0", "nodes"), ("MPOL_BIND", "x", "nodes")] {
        assert_eq!(subject(memory_policy(&policy(mode, nodes))), format!("/linux/memoryPolicy/{pointer}"));
    }
}

#[test]
fn personalities() {
    let mut warnings = Vec::new();
    let linux32 = spec::Personality { domain: "LINUX32".into(), flags: vec!["X".into()] };
    assert_eq!(persona(&linux32, &mut warnings).unwrap(), 8);
    assert_eq!(warnings.len(), 1);
    let bad = spec::Personality { domain: "SVR4".into(), flags: Vec::new() };
    assert_eq!(subject(persona(&bad, &mut warnings)), "/linux/personality/domain");
}

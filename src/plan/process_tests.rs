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
    assert_eq!((i64::from(good[0].resource), i64::from(good[1].resource)), (i64::from(libc::RLIMIT_NOFILE), i64::from(libc::RLIMIT_CORE)));
    assert_eq!(subject(of(vec![limit("RLIMIT_NONE", 1, 1)])), "/process/rlimits/0/type");
    assert_eq!(subject(of(vec![limit("RLIMIT_CPU", 1, 1), limit("RLIMIT_CPU", 1, 1)])), "/process/rlimits/1");
    assert_eq!(subject(of(vec![limit("RLIMIT_CPU", 2, 1)])), "/process/rlimits/0/soft");
}

#[test]
fn rlimit_numbers_are_libcs() {
    for (name, ours, libcs) in [
        ("AS", 9, i64::from(libc::RLIMIT_AS)),
        ("CPU", 0, i64::from(libc::RLIMIT_CPU)),
        ("FSIZE", 1, i64::from(libc::RLIMIT_FSIZE)),
        ("LOCKS", 10, i64::from(libc::RLIMIT_LOCKS)),
        ("MEMLOCK", 8, i64::from(libc::RLIMIT_MEMLOCK)),
        ("MSGQUEUE", 12, i64::from(libc::RLIMIT_MSGQUEUE)),
        ("NICE", 13, i64::from(libc::RLIMIT_NICE)),
        ("NPROC", 6, i64::from(libc::RLIMIT_NPROC)),
        ("RSS", 5, i64::from(libc::RLIMIT_RSS)),
        ("RTPRIO", 14, i64::from(libc::RLIMIT_RTPRIO)),
        ("RTTIME", 15, i64::from(libc::RLIMIT_RTTIME)),
        ("SIGPENDING", 11, i64::from(libc::RLIMIT_SIGPENDING)),
    ] {
        let by_name = number(&RLIMITS, &format!("RLIMIT_{name}"), "", "").unwrap();
        assert_eq!((ours, i64::from(by_name)), (libcs, libcs), "{name}");
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

//! What must hold of the order, whatever the config.

use super::*;
use crate::spec::Spec;

const DOCKER: &str = include_str!("../../conformance/plans/docker.json");

fn docker() -> Spec {
    Spec::parse(DOCKER.as_bytes()).unwrap()
}

fn host() -> Host {
    Host { last_capability: 40, own_capabilities: (1 << 41) - 1, apparmor: true, cgroup_v2: true, ..Host::default() }
}

fn options() -> Options {
    Options { id: "x".into(), bundle: "/b".into(), ..Options::default() }
}

fn plan_of(change: impl FnOnce(&mut Spec)) -> Result<Plan> {
    let mut spec = docker();
    change(&mut spec);
    build(&spec, &host(), &options())
}

/// Where the first step for which `is` holds stands.
fn at(plan: &Plan, is: impl Fn(&Op) -> bool) -> usize {
    plan.steps.iter().position(|step| is(&step.op)).expect("the step is in the plan")
}

fn last(plan: &Plan, is: impl Fn(&Op) -> bool) -> usize {
    plan.steps.iter().rposition(|step| is(&step.op)).expect("the step is in the plan")
}

fn hook(path: &str) -> crate::spec::Hook {
    crate::spec::Hook { path: path.into(), ..Default::default() }
}

/// A config with all that has an order, with and without no_new_privs.
fn full(no_new_privileges: bool) -> Plan {
    plan_of(|spec| {
        spec.hooks.create_container = vec![hook("/c")];
        spec.hooks.start_container = vec![hook("/s")];
        spec.root.as_mut().unwrap().readonly = true;
        spec.domainname = "d".into();
        spec.mounts[1].options.push("ro".into());
        spec.process.as_mut().unwrap().no_new_privileges = no_new_privileges;
    })
    .unwrap()
}

#[test]
fn nothing_is_made_in_the_root_once_it_is_entered() {
    let plan = full(true);
    let entered = at(&plan, |op| matches!(op, Op::EnterRoot { .. }));
    assert!(last(&plan, |op| matches!(op, Op::Mount(_) | Op::Device(_) | Op::Symlink { .. } | Op::HostHooks)) < entered);
    assert!(at(&plan, |op| matches!(op, Op::RemountReadonly { .. } | Op::MaskPath { .. } | Op::ReadonlyPath { .. })) > entered);
    assert!(at(&plan, |op| matches!(op, Op::Hooks { phase: "createContainer", .. })) < entered);
}

#[test]
fn what_is_written_comes_before_read_only() {
    let plan = full(true);
    let readonly: Vec<_> = plan.steps.iter().filter_map(|s| if let Op::RemountReadonly { path } = &s.op { path.to_str() } else { None }).collect();
    assert_eq!(readonly, ["/dev", "/"]);
    let first = at(&plan, |op| matches!(op, Op::RemountReadonly { .. }));
    assert!(last(&plan, |op| matches!(op, Op::MakeDirectory { .. })) < first);
    // Sysctls are written before /proc/sys becomes read-only.
    assert!(last(&plan, |op| matches!(op, Op::Sysctl { .. })) < at(&plan, |op| matches!(op, Op::ReadonlyPath { .. })));
}

#[test]
fn the_cgroup_namespace_stands_between_the_cgroup_and_its_mount() {
    let plan = full(true);
    let unshare = at(&plan, |op| matches!(op, Op::Unshare { .. }));
    assert!(at(&plan, |op| *op == Op::JoinCgroup) < unshare);
    assert!(unshare < at(&plan, |op| matches!(op, Op::Mount(m) if m.destination == Path::new("/sys/fs/cgroup"))));
    assert_eq!(plan.clone_flags & NsKind::Cgroup.clone_flag(), 0);
    // Without such a mount: as late as can be, but before any hook may look.
    let plan = plan_of(|spec| spec.mounts.retain(|m| m.kind != "cgroup")).unwrap();
    let unshare = at(&plan, |op| matches!(op, Op::Unshare { .. }));
    assert!(last(&plan, |op| matches!(op, Op::Mount(_) | Op::Symlink { .. })) < unshare && unshare < at(&plan, |op| *op == Op::HostHooks));
}

/// The parent makes the cgroup before it makes mounts, and the child must not ask for one before it has taken the other.
#[test]
fn the_cgroup_comes_before_what_the_parent_mounts() {
    let by_parent = |op: &Op| matches!(op, Op::Mount(m) if m.from_parent);
    let plan = plan_of(|spec| {
        spec.linux.namespaces.push(crate::spec::Namespace { kind: "user".into(), ..Default::default() });
        spec.linux.uid_mappings = vec![crate::spec::IdMapping { container_id: 0, host_id: 1000, size: 1000 }];
        spec.linux.gid_mappings = spec.linux.uid_mappings.clone();
        let bind = crate::spec::Mount { destination: "/mnt".into(), source: "/etc".into(), options: vec!["bind".into()], ..Default::default() };
        spec.mounts.insert(1, bind);
    });
    let plan = plan.unwrap();
    assert!(at(&plan, |op| *op == Op::JoinCgroup) < at(&plan, by_parent));
}

#[test]
fn rights_go_in_order() {
    for no_new_privileges in [false, true] {
        let plan = full(no_new_privileges);
        let bounding = at(&plan, |op| matches!(op, Op::BoundingSet { .. }));
        let ids = at(&plan, |op| matches!(op, Op::SetIds { .. }));
        let capabilities = at(&plan, |op| matches!(op, Op::Capabilities { .. }));
        assert!(bounding < ids && ids < capabilities);
        assert!(last(&plan, |op| matches!(op, Op::MaskPath { .. })) < bounding);
        assert!(ids < last(&plan, |op| matches!(op, Op::Chdir { denied_ok: false, .. })));
        let program = at(&plan, |op| matches!(op, Op::FindProgram { .. }));
        let filter = at(&plan, |op| *op == Op::Seccomp);
        match no_new_privileges {
            true => assert!(program < filter && at(&plan, |op| *op == Op::NoNewPrivileges) < filter),
            false => assert!(filter < bounding),
        }
        let start = at(&plan, |op| *op == Op::AwaitStart);
        assert!(filter < start && program < start, "a failure of theirs is one of create, not of start");
        assert!(start < at(&plan, |op| matches!(op, Op::Hooks { phase: "startContainer", .. })));
        assert!(matches!(plan.steps.last().unwrap().op, Op::Exec { .. }));
        assert_eq!(plan.steps.iter().filter(|step| step.op == Op::Seccomp).count(), 1);
    }
}

#[test]
fn exec_waits_for_no_start_and_mounts_nothing() {
    let spec = docker();
    let process = Process { args: vec!["id".into()], cwd: "/".into(), ..Default::default() };
    let plan = build_exec(&spec, &process, &host(), &options()).unwrap();
    assert!(!plan.steps.iter().any(|step| matches!(step.op, Op::AwaitStart | Op::Mount(_) | Op::EnterRoot { .. })));
    // What the process does not say, it has from the first one.
    assert_eq!(plan.oom_score_adj, Some(0));
    at(&plan, |op| matches!(op, Op::Apparmor { profile } if profile == "docker-default"));
    at(&plan, |op| matches!(op, Op::BoundingSet { .. }));
}

#[test]
fn without_a_mount_namespace_only_the_root_changes() {
    let drop_mount = |spec: &mut Spec| {
        spec.linux.namespaces.retain(|ns| ns.kind != "mount");
        spec.linux.masked_paths.clear();
        spec.linux.readonly_paths.clear();
    };
    let plan = plan_of(drop_mount).unwrap();
    at(&plan, |op| matches!(op, Op::PrepareRoot { propagation: 0, parent: 0, bind: true, .. }));
    at(&plan, |op| matches!(op, Op::EnterRoot { how: EnterRoot::Chroot }));
    assert!(plan.warnings.iter().any(|warning| warning.contains("on the host")));
    let mut spec = docker();
    drop_mount(&mut spec);
    let exec = build_exec(&spec, &Process { args: vec!["id".into()], ..Default::default() }, &host(), &options()).unwrap();
    let [opened, joined, entered] = [
        at(&exec, |op| matches!(op, Op::PrepareRoot { bind: false, .. })),
        at(&exec, |op| matches!(op, Op::JoinContainer { .. })),
        at(&exec, |op| matches!(op, Op::EnterRoot { how: EnterRoot::Chroot })),
    ];
    assert!(opened < joined && joined < entered);
    // A read-only root is one, where the rootfs can be made a mount.
    let readonly = |user: bool| {
        plan_of(|spec| {
            drop_mount(spec);
            spec.root.as_mut().unwrap().readonly = true;
            if user {
                spec.linux.namespaces.push(crate::spec::Namespace { kind: "user".into(), ..Default::default() });
                let map = crate::spec::IdMapping { container_id: 0, host_id: 0, size: 1 };
                (spec.linux.uid_mappings, spec.linux.gid_mappings) = (vec![map], vec![map]);
            }
        })
        .unwrap()
    };
    at(&readonly(false), |op| matches!(op, Op::RemountReadonly { .. }));
    let plan = readonly(true);
    at(&plan, |op| matches!(op, Op::PrepareRoot { bind: false, .. }));
    assert!(plan.warnings.iter().any(|warning| warning.contains("root.readonly has no effect")), "{:?}", plan.warnings);
}

#[test]
fn propagation_of_the_root() {
    use libc::{MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE};
    let of = |name: &str| {
        let plan = plan_of(|spec| spec.linux.rootfs_propagation = name.into()).unwrap();
        let root = plan.steps.iter().find_map(|s| if let Op::RootPropagation { propagation } = s.op { Some(propagation) } else { None });
        let prepare = plan.steps.iter().find_map(|s| if let Op::PrepareRoot { propagation, parent, .. } = s.op { Some((propagation, parent)) } else { None });
        (prepare.unwrap(), root)
    };
    assert_eq!(of(""), ((MS_SLAVE | MS_REC, MS_PRIVATE), None));
    assert_eq!(of("rslave"), ((MS_SLAVE | MS_REC, MS_SLAVE), None));
    assert_eq!(of("private"), ((MS_PRIVATE, MS_PRIVATE), None));
    assert_eq!(of("shared"), ((MS_SHARED, MS_PRIVATE), Some(MS_SHARED)));
    let mut spec = docker();
    spec.linux.rootfs_propagation = "rprivate".into();
    let no_pivot = Options { no_pivot: true, ..options() };
    assert_eq!(build(&spec, &host(), &no_pivot).unwrap_err().subject, "/linux/rootfsPropagation");
}

#[test]
fn refusals_name_the_field() {
    type Change = fn(&mut Spec);
    let cases: [(Change, &str); 13] = [
        (|s| s.process = None, "/process"),
        (|s| s.root = None, "/root"),
        (|s| s.process.as_mut().unwrap().args.clear(), "/process/args"),
        (|s| s.process.as_mut().unwrap().env.push("X".into()), "/process/env/4"),
        (|s| s.process.as_mut().unwrap().terminal = true, "/process/terminal"),
        (|s| s.process.as_mut().unwrap().selinux_label = "l".into(), "/process/selinuxLabel"),
        (|s| s.linux.namespaces.retain(|ns| ns.kind != "uts"), "/hostname"),
        (|s| s.linux.namespaces.retain(|ns| ns.kind != "mount"), "/linux/maskedPaths"),
        (|s| s.linux.rootfs_propagation = "x".into(), "/linux/rootfsPropagation"),
        (|s| s.linux.masked_paths.push(String::new()), "/linux/maskedPaths/12"),
        (|s| drop(s.linux.sysctl.insert("net/../kernel/core_pattern".into(), "|x".into())), "/linux/sysctl/net~1..~1kernel~1core_pattern"),
        (|s| s.linux.time_offsets = [("boottime".to_string(), Default::default())].into(), "/linux/timeOffsets"),
        (|s| s.linux.uid_mappings.push(Default::default()), "/linux/uidMappings"),
    ];
    for (change, pointer) in cases {
        assert_eq!(plan_of(change).unwrap_err().subject, pointer);
    }
    let rootless = Host { euid: 1000, ..host() };
    assert_eq!(build(&docker(), &rootless, &options()).unwrap_err().subject, "/linux/namespaces");
    let without = Host { apparmor: false, ..host() };
    assert_eq!(build(&docker(), &without, &options()).unwrap_err().subject, "/process/apparmorProfile");
}

#[test]
fn sysctl_paths() {
    for (key, path) in [
        ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
        ("net/ipv4/conf/eth0.1/rp_filter", Some("net/ipv4/conf/eth0.1/rp_filter")),
        ("net.ipv4.conf.eth0/1.rp_filter", Some("net/ipv4/conf/eth0.1/rp_filter")),
        ("single", Some("single")),
        ("", None),
        ("..", None),
        ("/etc", None),
        ("net//x", None),
        ("net/../x", None),
    ] {
        assert_eq!(sysctl_path(key).as_deref(), path, "{key:?}");
    }
}

#[test]
fn hooks_at_start_see_the_processs_environment() {
    let plan = full(true);
    let hooks = plan.steps.iter().find_map(|s| if let Op::Hooks { phase: "startContainer", hooks } = &s.op { Some(hooks) } else { None });
    assert_eq!(hooks.unwrap()[0].env, ["PATH=/usr/sbin:/usr/bin:/bin", "HOSTNAME=4f3c", "HOME=/srv"]);
}

/// Every op says what it does, for the sentence of an error.
#[test]
fn every_step_describes_itself() {
    let mut spec = docker();
    let process = spec.process.as_mut().unwrap();
    process.scheduler = Some(crate::spec::Scheduler { policy: "SCHED_OTHER".into(), ..Default::default() });
    process.io_priority = Some(crate::spec::IoPriority { class: "IOPRIO_CLASS_BE".into(), priority: 1 });
    spec.linux.personality = Some(crate::spec::Personality { domain: "LINUX".into(), flags: Vec::new() });
    spec.linux.memory_policy = Some(crate::spec::MemoryPolicy { mode: "MPOL_LOCAL".into(), ..Default::default() });
    let exec = build_exec(&spec, spec.process.as_ref().unwrap(), &host(), &options()).unwrap();
    for step in full(true).steps.iter().chain(&build(&spec, &host(), &options()).unwrap().steps).chain(&exec.steps) {
        assert!(step.op.describe().contains(' '), "{step:?}");
    }
    let shm = full(true).steps.iter().find(|step| step.field == "/mounts/6").unwrap().op.describe();
    assert_eq!(shm, "error mounting \"tmpfs\" to rootfs at \"/dev/shm\"");
}

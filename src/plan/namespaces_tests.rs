use super::*;

fn host() -> Host {
    Host { own_capabilities: 1 << CAP_SYS_ADMIN, ..Host::default() }
}

fn parse(text: &str) -> Result<Namespaces> {
    let one = |item: &str| {
        let (kind, path) = item.split_once('=').unwrap_or((item, ""));
        spec::Namespace { kind: kind.into(), path: path.into() }
    };
    Namespaces::parse(&text.split_whitespace().map(one).collect::<Vec<_>>())
}

/// In short: `clone pid mount; parent time=/t; join net; unshare pid; fork`.
fn short(text: &str, host: &Host, offsets: bool) -> String {
    let entry = enter(&parse(text).unwrap(), host, offsets);
    let names = |flags: u64| KINDS.iter().filter(|row| flags & row.2 as u64 != 0).map(|row| row.1).collect::<Vec<_>>().join(" ");
    let mut out = vec![format!("clone {}", names(entry.clone_flags)).trim().to_string()];
    out.extend(entry.parent_joins.iter().map(|join| format!("parent {}", join.kind.name())));
    out.extend(entry.steps.iter().map(|step| match &step.op {
        Op::JoinNamespace(join) => format!("join {}", join.kind.name()),
        Op::Unshare { flags } => format!("unshare {}", names(*flags)),
        Op::SecondFork => "fork".into(),
        Op::AwaitIdMaps => "maps".into(),
        Op::AwaitTimeOffsets => "offsets".into(),
        other => panic!("{other:?}"),
    }));
    out.join("; ")
}

#[test]
fn who_makes_and_who_joins() {
    for (text, want) in [
        ("", "clone"),
        ("pid mount ipc uts network cgroup", "clone pid mount network ipc uts"),
        ("mount network=/n", "clone mount; join network"),
        ("mount pid=/p time=/t", "clone mount; parent pid; parent time"),
        ("mount cgroup=/c", "clone mount; join cgroup"),
        ("mount=/m", "clone; join mount"),
        // A time namespace of ours is made by the parent, unless a new user namespace has to own it.
        ("pid mount time", "clone pid mount time"),
        ("user pid mount", "clone user pid mount; maps"),
        ("user pid mount time", "clone user mount; maps; unshare pid time; offsets; fork"),
        ("user mount time", "clone user mount; maps; unshare time; offsets; fork"),
        ("user mount pid=/p", "clone user mount; parent pid; maps"),
        // What is joined is joined with the caller's rights.
        ("user mount pid network=/n", "clone; join network; unshare user; maps; unshare pid mount; fork"),
        ("user mount network=/n", "clone; join network; unshare user; maps; unshare mount"),
        ("user=/u mount", "clone; join user; unshare mount"),
        ("user=/u mount pid network=/n", "clone; join network; join user; unshare pid mount; fork"),
        ("user=/u pid=/p mount time", "clone; join pid; join user; unshare mount time; offsets; fork"),
        ("user=/u pid=/p", "clone; join pid; join user; fork"),
    ] {
        assert_eq!(short(text, &host(), true), want, "{text}");
    }
    assert_eq!(short("user mount time", &host(), false), "clone user mount; maps; unshare time; fork");
    // Without rights of its own the caller needs the user namespace first.
    assert_eq!(short("network=/n user=/u", &Host::default(), true), "clone; join user; join network");
}

#[test]
fn unknown_and_second_ones_are_refused() {
    for (text, pointer) in [("net", "/linux/namespaces/0/type"), ("pid mount pid=/p", "/linux/namespaces/2"), ("pid=ns/p", "/linux/namespaces/0/path")] {
        assert_eq!(parse(text).unwrap_err().subject, pointer);
    }
}

#[test]
fn bits_are_the_kernels() {
    assert_eq!(NsKind::Time.clone_flag(), 0x80);
    assert_eq!(NsKind::parse("network"), Some(NsKind::Network));
    assert_eq!(parse("mount cgroup pid=/p").unwrap().flags(), (libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP | libc::CLONE_NEWPID) as u64);
    assert_eq!(namespace_names(), ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"]);
}

fn maps(text: &str, uid: (u32, u32), gid: (u32, u32), host: &Host) -> Result<Option<IdMaps>> {
    let map = |(host_id, size)| vec![IdMapping { container_id: 0, host_id, size }];
    let linux = Linux { uid_mappings: map(uid), gid_mappings: map(gid), ..Default::default() };
    id_maps(&linux, &parse(text).unwrap(), host, &mut Vec::new())
}

#[test]
fn who_writes_the_id_maps() {
    let user = Host { euid: 1000, egid: 100, ..Host::default() };
    let how = |uid, gid, host: &Host| {
        let maps = maps("user", uid, gid, host).unwrap().unwrap();
        (maps.by_helper, maps.deny_setgroups)
    };
    assert_eq!(how((100_000, 65536), (100_000, 65536), &host()), (false, false));
    assert_eq!(how((1000, 1), (100, 1), &user), (false, true));
    assert_eq!(how((1000, 1), (101, 1), &user), (true, false));
    assert_eq!(how((1000, 2), (100, 1), &user), (true, false));
}

#[test]
fn id_maps_need_a_new_user_namespace() {
    assert_eq!(maps("user=/u", (0, 1), (0, 1), &host()).unwrap(), None);
    assert_eq!(maps("pid", (0, 1), (0, 1), &host()).unwrap_err().subject, "/linux/uidMappings");
    let none = id_maps(&Linux::default(), &parse("user").unwrap(), &host(), &mut Vec::new());
    assert_eq!(none.unwrap_err().subject, "/linux/uidMappings");
    let no_root = Linux {
        uid_mappings: vec![IdMapping { container_id: 0, host_id: 5, size: 1 }],
        gid_mappings: vec![IdMapping { container_id: 1, host_id: 5, size: 1 }],
        ..Default::default()
    };
    assert_eq!(id_maps(&no_root, &parse("user").unwrap(), &host(), &mut Vec::new()).unwrap_err().subject, "/linux/gidMappings");
}

#[test]
fn time_offsets_need_a_new_time_namespace() {
    let linux = |clock: &str| Linux { time_offsets: [(clock.to_string(), spec::TimeOffset { secs: 1, nanosecs: 2 })].into(), ..Default::default() };
    assert_eq!(time_offsets(&linux("boottime"), &parse("time").unwrap()).unwrap().len(), 1);
    assert_eq!(time_offsets(&linux("boottime"), &parse("time=/t").unwrap()).unwrap_err().subject, "/linux/timeOffsets");
    assert_eq!(time_offsets(&linux("real"), &parse("time").unwrap()).unwrap_err().subject, "/linux/timeOffsets/real");
}

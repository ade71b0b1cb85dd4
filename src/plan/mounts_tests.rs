use super::*;
use crate::spec;
use serde_json::{Value, json};

struct Given {
    spec: Spec,
    host: Host,
    options: Options,
}

/// A mount, beside a mount namespace and `kinds`.
fn given(mount: Value, kinds: &[&str]) -> Given {
    let namespaces: Vec<_> = kinds.iter().chain(&["mount"]).map(|kind| json!({ "type": kind })).collect();
    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
    let value = json!({ "mounts": [mount], "linux": { "namespaces": namespaces, "uidMappings": map, "gidMappings": map } });
    let options = Options { bundle: "/b".into(), cgroup_paths: [(String::new(), "/sys/fs/cgroup/c".into())].into(), ..Options::default() };
    Given { spec: Spec::parse(value.to_string().as_bytes()).unwrap(), host: Host { cgroup_v2: true, ..Host::default() }, options }
}

impl Given {
    fn plan(&self) -> Result<Mounts> {
        let namespaces = Namespaces::parse(&self.spec.linux.namespaces).unwrap();
        plan(&Site { spec: &self.spec, host: &self.host, options: &self.options, namespaces: &namespaces })
    }

    fn rootless(mut self) -> Given {
        self.host.euid = 1000;
        self
    }
}

fn only(mount: Value, kinds: &[&str]) -> MountOp {
    let mounts = given(mount, kinds).plan().unwrap();
    assert_eq!(mounts.steps.len(), 1);
    match mounts.steps.into_iter().next().unwrap().op {
        Op::Mount(op) => *op,
        other => panic!("{other:?}"),
    }
}

fn bind_to(destination: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "source": "/src", "options": options })
}

fn pointer(given: Given) -> String {
    given.plan().unwrap_err().subject.clone()
}

#[test]
fn a_bind_is_one_by_option_or_type() {
    for (mount, recursive) in [
        (bind_to("/x", &["rbind"]), true),
        (bind_to("/x", &["bind"]), false),
        (json!({ "destination": "/x", "type": "bind", "source": "/src" }), false),
        (json!({ "destination": "/x", "type": "none", "source": "../src", "options": ["rbind"] }), true),
    ] {
        let op = only(mount, &[]);
        assert_eq!(op.source, MountSource::Bind { path: "/src".into(), recursive });
        assert!(!op.exact_flags && !op.from_parent);
    }
    assert!(only(bind_to("/x", &["bind", "rw"]), &[]).exact_flags, "a cleared flag is a named one");
    assert!(!only(bind_to("/x", &["bind", "rro", "rshared"]), &[]).exact_flags);
}

#[test]
fn destinations_are_cleaned_and_kept_off_the_root() {
    let mounts = given(json!({ "destination": "a//b/../c", "type": "tmpfs" }), &[]).plan().unwrap();
    assert!(mounts.warnings[0].contains("mounts[0]: relative destination"));
    assert!(matches!(&mounts.steps[0].op, Op::Mount(op) if op.destination == Path::new("/a/c")));
    for destination in ["", "/", "/a/.."] {
        assert_eq!(pointer(given(bind_to(destination, &["bind"]), &[])), "/mounts/0/destination");
    }
    let overlay = json!({ "destination": "/", "type": "overlay", "options": ["lowerdir=/a:/b", "userxattr"] });
    assert!(matches!(&given(overlay, &[]).plan().unwrap().steps[0].op, Op::Mount(op) if op.destination == Path::new("/")));
}

#[test]
fn proc_stays_proc() {
    for (mount, allowed) in [
        (json!({ "destination": "/proc", "type": "proc" }), true),
        (json!({ "destination": "/proc/", "type": "tmpfs" }), false),
        (bind_to("/proc", &["rbind"]), true),
        (bind_to("/x/../proc/cpuinfo", &["bind"]), true),
        (bind_to("/proc/sys/kernel/ns_last_pid", &["bind"]), true),
        (bind_to("/proc/sys", &["bind"]), false),
        (bind_to("/proc/self/attr", &["bind"]), false),
        (json!({ "destination": "/proc/1", "type": "proc" }), false),
        (bind_to("/procfs", &["bind"]), true),
        (json!({ "destination": "/proc", "options": ["remount", "hidepid=2"] }), true),
    ] {
        let given = given(mount.clone(), &[]);
        match given.plan() {
            Ok(_) => assert!(allowed, "{mount}"),
            Err(err) => assert!(!allowed && err.subject == "/mounts/0/destination", "{mount}: {err}"),
        }
    }
    // What a bind's source is, only the child can see.
    assert!(only(bind_to("/proc", &["rbind"]), &[]).only_proc);
    assert!(!only(bind_to("/proc/stat", &["bind"]), &[]).only_proc);
}

#[test]
fn options_of_a_file_system_on_a_bind_are_warned_of() {
    let warnings = given(bind_to("/x", &["bind", "size=1"]), &[]).plan().unwrap().warnings;
    assert!(warnings.iter().any(|w| w.starts_with("mounts[0]") && w.ends_with("size")), "{warnings:?}");
}

#[test]
fn what_cannot_be_done_is_refused() {
    let mapped = json!({ "destination": "/x", "source": "/s", "options": ["bind"], "uidMappings": [{ "containerID": 0, "hostID": 1, "size": 1 }] });
    for (mount, want) in [
        (json!({ "destination": "/x", "options": ["bind"] }), "/mounts/0/source"),
        (json!({ "destination": "/x", "source": "/s" }), "/mounts/0/type"),
        (json!({ "destination": "/x", "type": "none", "options": ["private", "ro"] }), "/mounts/0/type"),
        (json!({ "destination": "/x", "type": "proc", "options": ["tmpcopyup"] }), "/mounts/0/options"),
        (json!({ "destination": "/x", "type": "tmpfs", "options": ["idmap"] }), "/mounts/0"),
        (bind_to("/x", &["bind", "idmap"]), "/mounts/0"),
        (mapped, "/mounts/0/gidMappings"),
        (json!({ "destination": "/x", "type": "tmpfs", "options": ["a", "b\0"] }), "/mounts/0/options/1"),
    ] {
        assert_eq!(pointer(given(mount.clone(), &[])), want, "{mount}");
    }
    assert_eq!(pointer(given(bind_to("/x", &["bind", "idmap"]), &["user"]).rootless()), "/mounts/0");
    let devpts = json!({ "destination": "/dev/pts", "type": "devpts", "options": ["mode=0620,gid=50"] });
    assert_eq!(pointer(given(devpts.clone(), &["user"]).rootless()), "/mounts/0/options/0");
    assert!(given(devpts, &["user"]).plan().is_ok());
}

#[test]
fn superblock_flags_of_a_bind_are_warned_of() {
    let mounts = given(bind_to("/x", &["bind", "sync", "noiversion"]), &[]).plan().unwrap();
    assert_eq!(mounts.warnings, ["mounts[0]: a bind mount shares its source's file system: no effect of sync"]);
}

#[test]
fn a_new_file_system_gets_flags_and_parameters() {
    let op = only(json!({ "destination": "/x", "type": "ext4", "source": "/dev/sdz", "options": ["ro", "sync", "nodev", "data=ordered", "acl"] }), &[]);
    let flag = |name: &str| (name.to_string(), None);
    let parameters = vec![flag("ro"), flag("sync"), ("data".into(), Some("ordered".into())), flag("acl")];
    assert_eq!(op.source, MountSource::Filesystem { fs: "ext4".into(), source: "/dev/sdz".into(), parameters });
    assert_eq!((op.set, op.clear), (attr::RDONLY | attr::NODEV, 0));
}

#[test]
fn tmpfs_and_dev_become_read_only_at_the_end() {
    for (destination, kind, later) in [("/x", "tmpfs", true), ("/dev", "devtmpfs", true), ("/sys", "sysfs", false)] {
        let mounts = given(json!({ "destination": destination, "type": kind, "options": ["ro"] }), &[]).plan().unwrap();
        assert_eq!(mounts.readonly_later.len(), usize::from(later), "{kind}");
        let Op::Mount(op) = &mounts.steps[0].op else { panic!() };
        let MountSource::Filesystem { parameters, .. } = &op.source else { panic!() };
        assert_eq!((op.set == 0, parameters.is_empty()), (later, later), "{kind}");
    }
    let mode = |options: &[&str]| only(json!({ "destination": "/x", "type": "tmpfs", "options": options }), &[]).inherit_mode;
    assert_eq!((mode(&[]), mode(&["size=1,mode=1777"])), (true, false));
}

#[test]
fn remounts_and_propagation() {
    let op = only(json!({ "destination": "/x", "type": "tmpfs", "options": ["remount", "ro", "size=1"] }), &[]);
    let parameters = vec![("ro".to_string(), None), ("size".to_string(), Some("1".to_string()))];
    assert_eq!((op.source, op.exact_flags), (MountSource::Remount { bind: false, parameters }, true));
    let op = only(json!({ "destination": "/x", "options": ["bind", "remount", "noexec"] }), &[]);
    assert_eq!((op.source, op.set), (MountSource::Remount { bind: true, parameters: Vec::new() }, attr::NOEXEC));
    let op = only(json!({ "destination": "/x", "type": "none", "options": ["rshared"] }), &[]);
    assert_eq!((op.source, op.propagation), (MountSource::PropagationOnly, vec![libc::MS_SHARED | libc::MS_REC]));
}

#[test]
fn the_parent_opens_binds_under_a_user_namespace_and_mapped_ones() {
    assert!(only(bind_to("/x", &["bind"]), &["user"]).from_parent);
    let rootless = given(bind_to("/x", &["bind"]), &["user"]).rootless().plan().unwrap();
    assert!(matches!(&rootless.steps[0].op, Op::Mount(op) if !op.from_parent));
    let map = json!([{ "containerID": 0, "hostID": 5, "size": 1 }]);
    let op = only(json!({ "destination": "/x", "source": "/s", "options": ["rbind", "ridmap"], "uidMappings": map, "gidMappings": map }), &[]);
    let one = vec![spec::IdMapping { container_id: 0, host_id: 5, size: 1 }];
    assert!(op.from_parent && op.idmap == Some(IdMap { uid: one.clone(), gid: one, recursive: true }));
    let op = only(bind_to("/x", &["bind", "idmap"]), &["user"]);
    assert_eq!(op.idmap, Some(IdMap { uid: Vec::new(), gid: Vec::new(), recursive: false }));
}

#[test]
fn labels_are_for_file_systems_that_take_them() {
    let labelled = |kind: &str, selinux| {
        let mut given = given(json!({ "destination": "/x", "type": kind }), &[]);
        given.spec.linux.mount_label = "u:r:t:s0:c1,c2".into();
        given.host.selinux = selinux;
        let mounts = given.plan().unwrap();
        let Op::Mount(op) = &mounts.steps[0].op else { panic!() };
        let MountSource::Filesystem { parameters, .. } = &op.source else { panic!() };
        (parameters.iter().any(|(key, value)| key == "context" && value.as_deref() == Some("u:r:t:s0:c1,c2")), op.file_label.is_some(), mounts.warnings.len())
    };
    assert_eq!(labelled("tmpfs", true), (true, false, 0));
    assert_eq!(labelled("mqueue", true), (false, true, 0));
    assert_eq!(labelled("sysfs", true), (false, false, 0));
    assert_eq!(labelled("tmpfs", false), (false, false, 1));
}

#[test]
fn cgroup2_is_bound_without_a_cgroup_namespace() {
    let mount = json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"] });
    let op = only(mount.clone(), &[]);
    assert_eq!(op.source, MountSource::Bind { path: "/sys/fs/cgroup".into(), recursive: false });
    let op = only(mount, &["cgroup"]);
    assert!(matches!(&op.source, MountSource::Filesystem { fs, .. } if fs == "cgroup2"));
    assert_eq!(op.fallback_bind, Some("/sys/fs/cgroup/c".into()));
}

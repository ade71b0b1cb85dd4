//! The golden plans: what dhow does for the configs that callers write, as text, so that a change of it is seen.
//!
//! `DHOW_BLESS=1 cargo test --test plan` writes them anew; read the difference before it is committed.

use dhow::host::{CgroupV1Mount, Host};
use dhow::plan::{self, Options, Plan};
use dhow::spec::{Process, Spec};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/plans").join(name)
}

fn config(name: &str) -> Value {
    let text = std::fs::read(path(name)).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// `base` with the values of `change` in the place of its own (RFC 7396: null removes).
fn merge(base: &mut Value, change: Value) {
    let Value::Object(changes) = change else {
        *base = change;
        return;
    };
    if !base.is_object() {
        *base = json!({});
    }
    for (key, value) in changes {
        match value {
            Value::Null => drop(base.as_object_mut().unwrap().remove(&key)),
            value => merge(base.as_object_mut().unwrap().entry(key).or_insert(Value::Null), value),
        }
    }
}

fn spec(name: &str, change: Value) -> Spec {
    let mut value = config(name);
    merge(&mut value, change);
    Spec::parse(value.to_string().as_bytes()).unwrap()
}

/// A current machine: cgroup v2, AppArmor, root.
fn host() -> Host {
    Host { last_capability: 40, own_capabilities: (1 << 41) - 1, apparmor: true, kcore: true, cgroup_v2: true, ..Host::default() }
}

fn v1_host() -> Host {
    let hierarchy = |name: &str, options: &str| CgroupV1Mount {
        name: name.into(),
        mountpoint: format!("/sys/fs/cgroup/{name}").into(),
        options: vec![options.into()],
        links: Vec::new(),
    };
    let cgroup_v1 = vec![hierarchy("systemd", "name=systemd"), hierarchy("cpu,cpuacct", "cpu,cpuacct"), hierarchy("pids", "pids")];
    Host { cgroup_v2: false, cgroup_v1, apparmor: false, kcore: false, ..host() }
}

fn options() -> Options {
    let cgroups = [("", "/sys/fs/cgroup/dhow/box"), ("systemd", "/sys/fs/cgroup/systemd/box"), ("pids", "/sys/fs/cgroup/pids/box")];
    Options {
        id: "box".into(),
        bundle: "/run/bundle".into(),
        cgroup_paths: cgroups.into_iter().map(|(name, path)| (name.into(), path.into())).collect(),
        ..Options::default()
    }
}

fn namespaces(kinds: &[&str]) -> Value {
    let one = |text: &&str| match text.split_once('=') {
        Some((kind, path)) => json!({ "type": kind, "path": path }),
        None => json!({ "type": text }),
    };
    Value::Array(kinds.iter().map(one).collect())
}

/// Compare with the golden file, or write it.
fn golden(name: &str, plan: &Plan) {
    let (file, text) = (path(&format!("{name}.txt")), plan::explain::to_text(plan));
    if std::env::var_os("DHOW_BLESS").is_some() {
        return std::fs::write(&file, text).unwrap();
    }
    let want = std::fs::read_to_string(&file).unwrap_or_default();
    if want != text {
        let differs = want.lines().zip(text.lines()).find(|(a, b)| a != b);
        panic!("the plan {name} has changed (DHOW_BLESS=1 writes it anew); first difference: {differs:#?}\n{text}");
    }
}

#[test]
fn default_config() {
    golden("default", &plan::build(&spec("default.json", json!({})), &host(), &options()).unwrap());
}

#[test]
fn default_config_on_cgroup_v1() {
    golden("default-cgroup-v1", &plan::build(&spec("default.json", json!({})), &v1_host(), &options()).unwrap());
}

#[test]
fn without_a_cgroup_namespace_on_cgroup_v1() {
    let change = json!({ "linux": { "namespaces": namespaces(&["pid", "ipc", "uts", "mount"]) } });
    golden("host-cgroupns-cgroup-v1", &plan::build(&spec("default.json", change), &v1_host(), &options()).unwrap());
}

#[test]
fn docker() {
    golden("docker", &plan::build(&spec("docker.json", json!({})), &host(), &options()).unwrap());
}

/// What `dhow spec --rootless` writes, run by uid 1000.
#[test]
fn rootless() {
    let mut mounts = config("default.json")["mounts"].clone();
    let mounts = mounts.as_array_mut().unwrap();
    mounts[2]["options"] = json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]);
    mounts[5] = json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] });
    let own = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
    let linux = json!({ "namespaces": namespaces(&["pid", "ipc", "uts", "mount", "cgroup", "user"]), "uidMappings": own, "gidMappings": own });
    let host = Host { euid: 1000, egid: 1000, own_capabilities: 0, ..host() };
    golden("rootless", &plan::build(&spec("default.json", json!({ "mounts": mounts, "linux": linux })), &host, &options()).unwrap());
}

/// Docker with `userns-remap`, on a machine where it makes time namespaces too.
#[test]
fn user_namespace() {
    let map = json!([{ "containerID": 0, "hostID": 231072, "size": 65536 }]);
    let kinds = namespaces(&["mount", "network", "uts", "pid", "ipc", "cgroup", "user", "time"]);
    let linux = json!({
        "namespaces": kinds, "uidMappings": map, "gidMappings": map,
        "timeOffsets": { "boottime": { "secs": -5, "nanosecs": 7 } },
        "devices": [{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229 }],
    });
    golden("userns", &plan::build(&spec("docker.json", json!({ "linux": linux })), &host(), &options()).unwrap());
}

/// A container of a pod: network, IPC and UTS are the sandbox's.
#[test]
fn joined_namespaces() {
    let kinds = namespaces(&["mount", "network=/var/run/netns/pod", "uts=/proc/77/ns/uts", "ipc=/proc/77/ns/ipc", "pid=/proc/77/ns/pid"]);
    golden("joined", &plan::build(&spec("docker.json", json!({ "linux": { "namespaces": kinds } })), &host(), &options()).unwrap());
}

#[test]
fn joined_user_namespace() {
    let kinds = namespaces(&["mount", "network=/run/ns/net", "uts", "ipc", "pid", "user=/run/ns/user"]);
    golden("joined-userns", &plan::build(&spec("docker.json", json!({ "linux": { "namespaces": kinds } })), &host(), &options()).unwrap());
}

#[test]
fn terminal() {
    let process = json!({ "terminal": true, "consoleSize": { "height": 24, "width": 80 }, "user": { "umask": 0o27 } });
    let options = Options { has_console: true, ..options() };
    golden("terminal", &plan::build(&spec("default.json", json!({ "process": process })), &host(), &options).unwrap());
}

#[test]
fn exec() {
    let spec = spec("docker.json", json!({}));
    let process = json!({
        "args": ["id"], "cwd": "/", "env": ["PATH=/bin"], "terminal": true, "noNewPrivileges": true,
        "execCPUAffinity": { "initial": "0-1", "final": "3" },
    });
    let process: Process = serde_json::from_value(process).unwrap();
    let options = Options { has_console: true, ..options() };
    golden("exec", &plan::build_exec(&spec, &process, &host(), &options).unwrap());
}

/// The JSON form holds the same steps, and can be read back as JSON: no key stands twice.
#[test]
fn json_form() {
    let kinds = namespaces(&["mount", "network=/run/ns/net", "pid=/run/ns/pid"]);
    let spec = spec("docker.json", json!({ "hostname": null, "linux": { "namespaces": kinds } }));
    let plan = plan::build(&spec, &host(), &options()).unwrap();
    let text = serde_json::to_string(&plan).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["steps"].as_array().unwrap().len(), plan.steps.len());
    for (step, value) in plan.steps.iter().zip(value["steps"].as_array().unwrap()) {
        assert_eq!(step.field, value["field"].as_str().unwrap_or(""));
        let keys = value.as_object().unwrap().len();
        let alone = serde_json::to_string(step).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&alone).unwrap().as_object().unwrap().len(), keys);
        assert!(alone.matches("\"field\":").count() <= 1, "{alone}");
    }
}

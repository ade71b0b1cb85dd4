//! The whole on a made-up tree: directories and empty files in a temporary place stand for cgroupfs, which shows what
//! would be written where. What only a kernel can do is in integration/cgroup.rs.

use super::*;
use crate::host::cgroup::{Hierarchy, Layout, Unified};
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

/// A temporary directory, removed when it goes out of scope.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Tree {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("dhow-cgroup-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Tree(path)
    }

    fn file(&self, path: &str, content: &str) -> &Tree {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// Empty files of one directory, for what is written into them to be seen.
    fn files(&self, dir: &str, names: &[&str]) -> &Tree {
        names.iter().for_each(|name| _ = self.file(&format!("{dir}/{name}"), ""));
        self
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.join(path)).unwrap()
    }

    fn v2(&self) -> Layout {
        Layout::Unified(Unified { mountpoint: self.0.clone(), own: "/init.scope".into() })
    }

    fn v1(&self, controllers: &[&str]) -> Layout {
        let hierarchies =
            controllers.iter().map(|c| Hierarchy { controllers: vec![c.to_string()], mountpoint: self.0.join(c), own_dir: self.0.join(c) }).collect();
        Layout::Legacy { hierarchies, unified: None }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn resources(json: &str) -> Resources {
    serde_json::from_str(json).unwrap()
}

const V2_FILES: [&str; 17] = [
    "memory.max",
    "memory.low",
    "memory.swap.max",
    "cpu.max",
    "cpu.max.burst",
    "cpu.weight",
    "cpu.idle",
    "pids.max",
    "io.weight",
    "io.max",
    "cpuset.cpus",
    "cpuset.mems",
    "hugetlb.2MB.max",
    "rdma.max",
    "memory.high",
    "cgroup.procs",
    "cgroup.freeze",
];

fn v2_with(tree: &Tree, controllers: &str) -> Cgroup {
    tree.file("cgroup.controllers", controllers).file("c/cgroup.controllers", controllers).files("c", &V2_FILES);
    Cgroup::plan(&tree.v2(), "/c", "box", false).unwrap()
}

#[test]
fn v2_limits() {
    let tree = Tree::new();
    let cgroup = v2_with(&tree, "cpu io memory");
    let wish = resources(
        r#"{"memory":{"limit":100,"swap":300,"reservation":50},
            "cpu":{"shares":1024,"quota":2000,"period":5000,"burst":7,"idle":0,"cpus":"0-1","mems":"0"},
            "pids":{"limit":5},
            "blockIO":{"weight":500,"throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":9}]},
            "hugepageLimits":[{"pageSize":"2MB","limit":4096}],
            "rdma":{"mlx":{"hcaHandles":3,"hcaObjects":4}},
            "unified":{"memory.high":"77"}}"#,
    );
    cgroup.update(&wish).unwrap();
    for (name, expected) in [
        ("memory.max", "100"),
        ("memory.swap.max", "200"),
        ("memory.low", "50"),
        ("memory.high", "77"),
        ("cpu.weight", "100"),
        ("cpu.max", "2000 5000"),
        ("cpu.max.burst", "7"),
        ("cpu.idle", "0"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("pids.max", "5"),
        ("io.weight", "4950"),
        ("io.max", "8:16 wiops=9"),
        ("hugetlb.2MB.max", "4096"),
        ("rdma.max", "mlx hca_handle=3 hca_object=4"),
    ] {
        assert_eq!(tree.read(&format!("c/{name}")), expected, "{name}");
    }
}

#[test]
fn v2_weights_of_bfq() {
    let wish = resources(r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":200}]}}"#);
    let tree = Tree::new();
    let cgroup = v2_with(&tree, "io");
    tree.file("c/io.bfq.weight", "default 100\n");
    cgroup.update(&wish).unwrap();
    // The last write is the one at the start.
    assert!(tree.read("c/io.bfq.weight").starts_with("8:0 200\n"));
    assert_eq!(tree.read("c/io.weight"), "");
}

#[test]
fn v2_without_swap_takes_what_needs_none() {
    let tree = Tree::new();
    let cgroup = v2_with(&tree, "memory");
    fs::remove_file(tree.0.join("c/memory.swap.max")).unwrap();
    cgroup.update(&resources(r#"{"memory":{"limit":100,"swap":100}}"#)).unwrap();
    cgroup.update(&resources(r#"{"memory":{"limit":-1}}"#)).unwrap();
    let error = cgroup.update(&resources(r#"{"memory":{"limit":100,"swap":200}}"#)).unwrap_err().to_string();
    assert!(error.contains("/linux/resources/memory/swap") && error.contains("memory.swap.max"), "{error}");
}

#[test]
fn v2_checks_the_usage_if_told_to() {
    let tree = Tree::new();
    let cgroup = v2_with(&tree, "memory");
    tree.file("c/memory.current", "1000\n");
    let error = |json| cgroup.update(&resources(json)).unwrap_err().to_string();
    assert!(error(r#"{"memory":{"limit":500,"checkBeforeUpdate":true}}"#).starts_with("rejecting memory limit 500 <= usage 1000"));
    let text = error(r#"{"memory":{"limit":500,"swap":800,"checkBeforeUpdate":true}}"#);
    assert!(text.starts_with("rejecting memory+swap limit 800 <= usage 1000"), "{text}");
    cgroup.update(&resources(r#"{"memory":{"limit":500}}"#)).unwrap();
}

#[test]
fn v2_unified_keys_are_checked() {
    let tree = Tree::new();
    let cgroup = v2_with(&tree, "cpu memory");
    let error = |json| cgroup.update(&resources(json)).unwrap_err().to_string();
    assert!(error(r#"{"unified":{"a/b":"1"}}"#).contains("must be a file name (no slashes)"));
    assert!(error(r#"{"unified":{"bogus.max":"1"}}"#).contains("controller \"bogus\" not available ("));
    assert!(error(r#"{"unified":{"plain":"1"}}"#).contains("must be in the form CONTROLLER.PARAMETER"));
    assert!(error(r#"{"unified":{"memory.nothing":"1"}}"#).contains("unable to set unified resource \"memory.nothing\""));
}

#[test]
fn v2_switches_controllers_on_from_the_top() {
    let tree = Tree::new();
    tree.file("cgroup.controllers", "cpu memory pids\n").files(".", &["cgroup.subtree_control"]);
    tree.files("a", &["cgroup.subtree_control"]).file("a/cgroup.type", "domain\n");
    tree.file("a/c/cgroup.controllers", "cpu\n").files("a/c", &["cgroup.procs", "cgroup.subtree_control"]);
    let mut cgroup = Cgroup::plan(&tree.v2(), "/a/c", "box", false).unwrap();
    let created = cgroup.create(&Resources::default()).unwrap();
    assert!(created.dirs().is_empty());
    assert_eq!(tree.read("cgroup.subtree_control"), "+cpu +memory +pids");
    assert_eq!(tree.read("a/cgroup.subtree_control"), "+cpu +memory +pids");
    assert_eq!(tree.read("a/c/cgroup.subtree_control"), "");
}

#[test]
fn v2_threaded_parents() {
    let tree = Tree::new();
    tree.file("cgroup.controllers", "cpu memory\n").files(".", &["cgroup.subtree_control"]);
    tree.file("c/cgroup.controllers", "").files("c", &["cgroup.procs"]).file("c/cgroup.type", "domain invalid\n");
    let mut cgroup = Cgroup::plan(&tree.v2(), "/c", "box", false).unwrap();
    let error = cgroup.create(&resources(r#"{"memory":{"limit":5}}"#)).unwrap_err().to_string();
    assert!(error.contains("with domain controllers") && error.contains("invalid state"), "{error}");
    cgroup.create(&resources(r#"{"pids":{"limit":5}}"#)).unwrap();
    assert!(tree.read("c/cgroup.type").starts_with("threaded"));
}

#[test]
fn v1_refuses_what_is_in_use_and_undoes_the_rest() {
    let tree = Tree::new();
    for controller in ["pids", "devices", "freezer"] {
        fs::create_dir_all(tree.0.join(controller)).unwrap();
    }
    tree.file("devices/c/cgroup.procs", "12\n0\n").file("devices/c/inner/cgroup.procs", "13\n").file("freezer/c/freezer.state", "THAWED\n");
    let mut cgroup = Cgroup::plan(&tree.v1(&["pids", "freezer", "devices"]), "/c", "box", false).unwrap();
    let error = cgroup.clone().create(&Resources::default()).unwrap_err();
    assert!(error.to_string().starts_with("container's cgroup is not empty: 2 process(es) found"), "{error}");
    tree.file("devices/c/cgroup.procs", "").file("devices/c/inner/cgroup.procs", "");
    tree.file("freezer/c/freezer.state", "FROZEN\n").file("freezer/c/freezer.self_freezing", "1\n");
    let error = cgroup.clone().create(&Resources::default()).unwrap_err();
    assert!(error.to_string().contains("container's cgroup unexpectedly frozen"), "{error}");
    assert!(!tree.0.join("pids/c").exists(), "what was made must be gone");
    // Frozen by a parent is not frozen by us.
    tree.file("freezer/c/freezer.self_freezing", "0\n");
    let created = cgroup.create(&Resources::default()).unwrap();
    assert_eq!(created.dirs(), [tree.0.join("pids/c")]);
}

#[test]
fn v1_cpusets_are_filled_in_from_above() {
    let tree = Tree::new();
    fs::create_dir_all(tree.0.join("devices")).unwrap();
    tree.file("cpuset/cpuset.cpus", "0-3\n").file("cpuset/cpuset.mems", "0\n");
    for dir in ["cpuset/a", "cpuset/a/c"] {
        tree.files(dir, &["cpuset.cpus", "cpuset.mems"]);
    }
    let mut cgroup = Cgroup::plan(&tree.v1(&["cpuset", "devices"]), "/a/c", "box", false).unwrap();
    cgroup.create(&resources(r#"{"cpu":{"cpus":"2"}}"#)).unwrap();
    assert_eq!((tree.read("cpuset/a/c/cpuset.cpus"), tree.read("cpuset/a/c/cpuset.mems")), ("2".into(), "0".into()));
    assert_eq!(tree.read("cpuset/a/cpuset.mems"), "0");
}

#[test]
fn v1_cpusets_without_prefix() {
    let tree = Tree::new();
    fs::create_dir_all(tree.0.join("devices")).unwrap();
    tree.file("cpuset/cpus", "0-3\n").file("cpuset/mems", "0\n").files("cpuset/c", &["cpus", "mems"]);
    Cgroup::plan(&tree.v1(&["cpuset", "devices"]), "/c", "box", false).unwrap().create(&Resources::default()).unwrap();
    assert_eq!((tree.read("cpuset/c/cpus"), tree.read("cpuset/c/mems")), ("0-3".into(), "0".into()));
}

#[test]
fn v1_missing_controllers_are_missed_only_if_asked_for() {
    let tree = Tree::new();
    let cgroup = Cgroup::plan(&tree.v1(&["devices"]), "/c", "box", false).unwrap();
    cgroup.update(&resources(r#"{"memory":{"limit":0,"kernel":5},"cpu":{"quota":0},"pids":{},"blockIO":{},"network":{}}"#)).unwrap();
    for (json, field, controller) in [
        (r#"{"memory":{"limit":5}}"#, "memory/limit", "memory"),
        (r#"{"memory":{"limit":-1}}"#, "memory/limit", "memory"),
        (r#"{"cpu":{"realtimeRuntime":5}}"#, "cpu/realtimeRuntime", "cpu"),
        (r#"{"cpu":{"mems":"0"}}"#, "cpu/mems", "cpuset"),
        (r#"{"pids":{"limit":-1}}"#, "pids/limit", "pids"),
        (r#"{"blockIO":{"weight":10}}"#, "blockIO/weight", "blkio"),
        (r#"{"network":{"classID":1}}"#, "network/classID", "net_cls"),
        (r#"{"network":{"priorities":[{"name":"lo","priority":1}]}}"#, "network/priorities/0", "net_prio"),
        (r#"{"rdma":{"x":{}}}"#, "rdma/x", "rdma"),
        (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":1}]}"#, "hugepageLimits/0", "hugetlb"),
    ] {
        let error = cgroup.update(&resources(json)).unwrap_err().to_string();
        assert!(error.contains(&format!("/linux/resources/{field}")) && error.contains(&format!("the {controller} ")), "{error}");
    }
}

#[test]
fn v1_swap_order_follows_the_current_limit() {
    // Without memory.memsw both orders end in an error; which of the two files is complained of shows the order.
    let tree = Tree::new();
    tree.file("memory/c/memory.limit_in_bytes", "100");
    let cgroup = Cgroup::plan(&tree.v1(&["devices", "memory"]), "/c", "box", false).unwrap();
    let grow = cgroup.update(&resources(r#"{"memory":{"limit":500,"swap":900}}"#)).unwrap_err().to_string();
    assert!(grow.contains("memory.memsw.limit_in_bytes"), "{grow}");
    assert_eq!(tree.read("memory/c/memory.limit_in_bytes"), "100", "swap goes first when it grows");
    cgroup.update(&resources(r#"{"memory":{"limit":50,"swap":60}}"#)).unwrap_err();
    assert!(tree.read("memory/c/memory.limit_in_bytes").starts_with("50"), "memory goes first when it shrinks");
}

#[test]
fn ignored_fields_are_told() {
    let wish = resources(r#"{"memory":{"kernel":1,"swappiness":5},"cpu":{"realtimeRuntime":1},"network":{"classID":1}}"#);
    let tree = Tree::new();
    let v1 = Cgroup::plan(&tree.v1(&["devices"]), "/c", "box", false).unwrap();
    assert_eq!(v1.ignored(&wish).len(), 1);
    let v2 = Cgroup::plan(&tree.v2(), "/c", "box", false).unwrap();
    let told = v2.ignored(&wish);
    assert_eq!(told.len(), 4);
    assert!(told[0].contains("/linux/resources/memory/kernel"));
}

/// The kernel refuses a weight for an idle cgroup.
#[test]
fn an_idle_cgroup_gets_no_weight() {
    let tree = Tree::new();
    let cgroup = v2_with(&tree, "cpu");
    for wish in [r#"{"cpu":{"idle":1,"shares":512}}"#, r#"{"unified":{"cpu.idle":"1","cpu.weight":"8"}}"#] {
        let wish = resources(wish);
        assert!(cgroup.ignored(&wish)[0].starts_with("unable to apply both"));
        cgroup.update(&wish).unwrap();
        assert_eq!((tree.read("c/cpu.idle").as_str(), tree.read("c/cpu.weight").as_str()), ("1", ""));
    }
    assert!(cgroup.ignored(&resources(r#"{"cpu":{"idle":0,"shares":512},"unified":{"cpu.weight":"8"}}"#)).is_empty());
}

#[test]
fn rootless_without_wishes_does_without() {
    let tree = Tree::new();
    let mut cgroup = Cgroup { version: Version::V1, nodes: Vec::new(), rootless: true, explicit: false, unit: None };
    cgroup.create(&Resources::default()).unwrap();
    cgroup.update(&Resources::default()).unwrap();
    assert_eq!(cgroup.freezer_state().unwrap(), FreezerState::Undefined);
    cgroup.destroy().unwrap();
    let error = cgroup.update(&resources(r#"{"pids":{"limit":5}}"#)).unwrap_err().to_string();
    assert!(error.starts_with("cannot set pids limit: container could not join or create cgroup"), "{error}");
    drop(tree);
}

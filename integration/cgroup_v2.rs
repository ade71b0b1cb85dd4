//! cgroup v2, as the only hierarchy: what a machine with v1 can't show. `make test-vm` runs it in a guest that has it.

#[macro_use]
mod support;

use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use support::{Bundle, eventually};

/// A bundle, with its cgroup at a path of its own; None where the machine has other cgroups.
fn bundle(test: &str) -> Option<Bundle> {
    // SAFETY: geteuid(2) can't fail.
    let root = unsafe { libc::geteuid() } == 0;
    if !root || !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        eprintln!("skipped: cgroup v2: {test}: needs root on a machine with cgroup v2 alone (make test-vm)");
        return None;
    }
    let b = Bundle::new(test);
    b.set("/linux/cgroupsPath", json!(format!("/{}", b.id))).sleeps();
    Some(b)
}

fn dir(b: &Bundle) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(&b.id)
}

#[track_caller]
fn value(b: &Bundle, file: &str) -> String {
    let path = dir(b).join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).trim().to_string()
}

/// A block device that the io controller takes: the root disk.
fn disk() -> Option<(u64, u64)> {
    let blocks = fs::read_dir("/sys/block").ok()?.flatten();
    let found = blocks.map(|e| e.path()).find(|p| p.join("device").exists())?;
    let text = fs::read_to_string(found.join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A process in a cgroup of the test's own, ended and removed with it.
struct Occupied(PathBuf, Child);

impl Occupied {
    fn new(dir: PathBuf) -> Occupied {
        fs::create_dir(&dir).unwrap();
        let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        fs::write(dir.join("cgroup.procs"), child.id().to_string()).unwrap();
        Occupied(dir, child)
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        let _ = self.1.kill();
        let _ = self.1.wait();
        let _ = fs::remove_dir(&self.0);
    }
}

fn programs(b: &Bundle) -> Vec<u32> {
    let dir = File::open(dir(b)).unwrap();
    dhow::sys::bpf::attached_device_programs(dir.as_fd()).unwrap()
}

#[test]
fn every_limit_lands_in_its_file() {
    let Some(b) = bundle("limits") else { return };
    b.set(
        "/linux/resources",
        json!({
            "memory": {"limit": 67108864, "reservation": 33554432, "swap": 100663296},
            "cpu": {"shares": 2048, "quota": 50000, "period": 100000, "burst": 10000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 20},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
        }),
    );
    b.up();
    for (file, expected) in [
        ("memory.max", "67108864"),
        ("memory.low", "33554432"),
        ("memory.swap.max", "33554432"),
        ("cpu.weight", "174"),
        ("cpu.max", "50000 100000"),
        ("cpu.max.burst", "10000"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("pids.max", "20"),
    ] {
        assert_eq!(value(&b, file), expected, "{file}");
    }
    if dir(&b).join("hugetlb.2MB.max").exists() {
        assert_eq!((value(&b, "hugetlb.2MB.max"), value(&b, "hugetlb.2MB.rsvd.max")), ("4194304".into(), "4194304".into()));
    }
    let top = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    assert_eq!(value(&b, "cgroup.controllers"), top.trim(), "all of the machine's controllers are on");
}

#[test]
fn io_limits_by_device() {
    let Some(b) = bundle("io") else { return };
    let Some((major, minor)) = disk() else { skip!("no disk with the io controller") };
    let at = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    b.set(
        "/linux/resources/blockIO",
        json!({"throttleReadBpsDevice": at(1048576), "throttleWriteBpsDevice": at(2097152), "throttleReadIOPSDevice": at(100), "throttleWriteIOPSDevice": at(200)}),
    );
    b.up();
    assert_eq!(value(&b, "io.max"), format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=100 wiops=200"));
    b.call_with_input(&["update", "--resources", "-", &b.id], &json!({"blockIO": {"throttleReadBpsDevice": at(4194304)}}).to_string()).ok();
    assert!(value(&b, "io.max").contains("rbps=4194304 wbps=2097152"));
}

/// BFQ has the spec's scale; io.weight another.
#[test]
fn io_weight_is_converted() {
    let Some(b) = bundle("weight") else { return };
    b.up();
    let (file, expected) = match (dir(&b).join("io.bfq.weight").exists(), dir(&b).join("io.weight").exists()) {
        (true, _) => ("io.bfq.weight", "default 500"),
        (_, true) => ("io.weight", "default 4950"),
        _ => skip!("this kernel has neither io.weight nor io.bfq.weight"),
    };
    b.verb(&["update", "--blkio-weight", "500"]).ok();
    assert_eq!(value(&b, file), expected);
}

#[test]
fn update_changes_and_lifts_limits() {
    let Some(b) = bundle("update") else { return };
    b.set("/linux/resources/memory", json!({"limit": 67108864, "swap": 67108864})).up();
    assert_eq!(value(&b, "memory.swap.max"), "0");
    let update = |flags: &[&str]| b.verb(&[&["update"], flags].concat());
    update(&["--memory", "128m", "--memory-swap", "192m", "--memory-reservation", "32m"]).ok();
    assert_eq!((value(&b, "memory.max"), value(&b, "memory.swap.max"), value(&b, "memory.low")), ("134217728".into(), "67108864".into(), "33554432".into()));
    update(&["--memory", "-1"]).ok();
    assert_eq!((value(&b, "memory.max"), value(&b, "memory.swap.max")), ("max".into(), "max".into()));
    update(&["--cpu-quota", "20000", "--cpu-period", "10000", "--cpu-burst", "15000"]).ok();
    assert_eq!((value(&b, "cpu.max"), value(&b, "cpu.max.burst")), ("20000 10000".into(), "15000".into()));
    update(&["--cpu-quota", "30000"]).ok();
    assert_eq!(value(&b, "cpu.max"), "30000 10000", "the period stays");
    update(&["--cpu-burst", "0", "--cpu-quota", "-1"]).ok();
    assert_eq!(value(&b, "cpu.max"), "max 10000");
    update(&["--cpu-share", "1024"]).ok();
    assert_eq!(value(&b, "cpu.weight"), "100");
    update(&["--cpu-idle", "1"]).ok();
    assert_eq!(value(&b, "cpu.idle"), "1");
    let said = update(&["--cpu-share", "512", "--cpu-idle", "1"]);
    assert!(said.ok().is_empty() && said.err.contains("unable to apply both"), "{said:?}");
    update(&["--memory", "64m"]).ok();
    assert_eq!(value(&b, "cpu.idle"), "1");
    update(&["--cpu-idle", "0"]).ok();
    for (limit, expected) in [("7", "7"), ("0", "1"), ("-1", "max")] {
        update(&["--pids-limit", limit]).ok();
        assert_eq!(value(&b, "pids.max"), expected);
    }
    let unified = json!({"unified": {"memory.high": "100000000", "memory.max": "200000000", "cpu.max": "5000 50000"}});
    b.call_with_input(&["update", "--resources", "-", &b.id], &unified.to_string()).ok();
    assert_eq!((value(&b, "memory.high"), value(&b, "cpu.max")), ("99999744".into(), "5000 50000".into()));
}

#[test]
fn unified_overrides_and_names_what_is_not_there() {
    let Some(b) = bundle("unified") else { return };
    b.set(
        "/linux/resources",
        json!({"memory": {"limit": 67108864}, "pids": {"limit": 5}, "unified": {"memory.max": "134217728", "memory.oom.group": "1", "cpu.weight": "42", "pids.max": "99"}}),
    );
    b.up();
    for (file, expected) in [("memory.max", "134217728"), ("memory.oom.group", "1"), ("cpu.weight", "42"), ("pids.max", "99")] {
        assert_eq!(value(&b, file), expected, "{file}");
    }
    let other = bundle("unified-bad").unwrap();
    for (key, words) in [("bogus.max", "not available"), ("nodot", "CONTROLLER.PARAMETER"), ("memory.nope", "memory.nope")] {
        other.set("/linux/resources/unified", json!({key: "1"}));
        other.verb(&["run", "--detach"]).fails(1, &[words]);
        assert!(!dir(&other).exists(), "a failed create leaves no cgroup");
    }
}

#[test]
fn one_device_program_from_create_to_update() {
    let Some(b) = bundle("devices") else { return };
    b.set("/linux/resources/devices", json!([{"allow": false, "access": "rwm"}]));
    b.privileged().push("/linux/devices", json!({"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}));
    b.up();
    assert_eq!(programs(&b).len(), 1);
    let probe = || b.exec_sh("head -c1 /dev/zero >/dev/null && ! head -c1 /dev/kmsg").code;
    assert_eq!(probe(), 0);
    let before = programs(&b);
    b.verb(&["update", "--memory", "128m"]).ok();
    assert_eq!(programs(&b), before, "an update leaves the devices alone");
    assert_eq!(probe(), 0);
}

#[test]
fn pause_stops_and_resume_goes_on() {
    let Some(b) = bundle("freeze") else { return };
    b.up();
    b.verb(&["pause"]).ok();
    assert_eq!((value(&b, "cgroup.freeze").as_str(), b.status().as_str()), ("1", "paused"));
    assert!(value(&b, "cgroup.events").contains("frozen 1"));
    b.exec(&["true"]).fails(255, &["paused"]);
    b.verb(&["resume"]).ok();
    assert_eq!((value(&b, "cgroup.freeze").as_str(), b.status().as_str()), ("0", "running"));
    b.exec(&["true"]).ok();
    // A frozen one dies of SIGKILL as it is.
    b.verb(&["pause"]).ok();
    b.kill("KILL").ok();
    b.await_status("stopped");
    b.delete().ok();
    b.assert_gone();
}

#[test]
fn kill_all_and_delete_reach_nested_cgroups() {
    let Some(b) = bundle("nested") else { return };
    b.without_namespace("pid").sh("sleep 1000 & sleep 1000 & wait").up();
    let nested = dir(&b).join("deep/deeper");
    fs::create_dir_all(&nested).unwrap();
    let pids = eventually("three processes", || Some(b.verb(&["ps", "--format", "json"]).json()).filter(|p| p.as_array().unwrap().len() == 3));
    let one = pids.as_array().unwrap().iter().filter_map(Value::as_i64).find(|p| *p != i64::from(b.pid())).unwrap();
    fs::write(nested.join("cgroup.procs"), one.to_string()).unwrap();
    assert_eq!(b.verb(&["ps", "--format", "json"]).json().as_array().unwrap().len(), 3, "ps lists those below too");
    b.call(&["kill", "--all", &b.id, "KILL"]).ok();
    b.await_status("stopped");
    b.delete().ok();
    assert!(!dir(&b).exists());
    b.assert_gone();
}

/// The process is cloned into its cgroup, so that even its first instruction runs there, and its namespace is rooted there.
#[test]
fn create_and_exec_start_inside() {
    let Some(b) = bundle("inside") else { return };
    b.sh("cat /proc/self/cgroup; exec sleep 1000").up();
    b.await_printed("0::/\n");
    assert_eq!(b.exec(&["cat", "/proc/self/cgroup"]).ok(), "0::/");
    fs::create_dir(dir(&b).join("sub")).unwrap();
    assert_eq!(b.exec_with(&["--cgroup", "sub"], &["cat", "/proc/self/cgroup"]).ok(), "0::/sub");
    b.exec_with(&["--cgroup", "nowhere"], &["true"]).fails(255, &["nowhere"]);
    let host = bundle("inside-host").unwrap();
    host.without_namespace("cgroup").up();
    assert_eq!(host.exec(&["cat", "/proc/self/cgroup"]).ok(), format!("0::/{}", host.id));
}

/// systemd in a container does this: itself below, controllers on, and then the container's cgroup takes no process.
#[test]
fn exec_into_a_container_that_has_spread_over_its_cgroup() {
    let Some(b) = bundle("spread") else { return };
    let options = ["nosuid", "noexec", "nodev", "rw"];
    b.without_mount("/sys/fs/cgroup").mount("cgroup", "cgroup", "/sys/fs/cgroup", &options);
    b.sh("cd /sys/fs/cgroup && mkdir init && echo 1 >init/cgroup.procs && echo +memory +pids >cgroup.subtree_control && echo spread; exec sleep 1000").up();
    b.await_printed("spread");
    assert_eq!(b.exec(&["cat", "/proc/self/cgroup"]).ok(), "0::/init");
    b.exec_with(&["--cgroup", "/"], &["true"]).fails(255, &["adding pid of the new process to cgroups: ", "device or resource busy"]);
    assert_eq!(value(&b, "cgroup.procs"), "");
    b.verb(&["delete", "--force"]).ok();
    b.assert_gone();
}

/// A container that sees the host's cgroups may move itself out of its own, which anybody may then remove.
#[test]
fn exec_follows_a_first_process_that_left_its_cgroup() {
    let Some(b) = bundle("left") else { return };
    b.without_mount("/sys/fs/cgroup").mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "rw"]);
    let elsewhere = Path::new("/sys/fs/cgroup").join(format!("{}-elsewhere", b.id));
    fs::create_dir(&elsewhere).unwrap();
    b.without_namespace("cgroup").sh(&format!("echo 1 >{}/cgroup.procs && echo left; exec sleep 1000", elsewhere.display())).up();
    b.await_printed("left");
    fs::remove_dir(dir(&b)).unwrap();
    assert_eq!(b.exec(&["cat", "/proc/self/cgroup"]).ok(), format!("0::/{}-elsewhere", b.id));
    b.exec_with(&["--cgroup", "sub"], &["true"]).fails(255, &["no such file or directory"]);
    b.verb(&["delete", "--force"]).ok();
    fs::remove_dir(&elsewhere).unwrap();
    b.assert_gone();
}

/// config-linux.md § Cgroup ownership.
#[test]
fn a_writable_cgroup_belongs_to_the_containers_root() {
    let Some(b) = bundle("delegated") else { return };
    b.userns(100_000).without_mount("/sys/fs/cgroup").mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev"]);
    b.set("/linux/resources/memory", json!({"limit": 67108864})).up();
    let owner = |file: &str| fs::metadata(dir(&b).join(file)).unwrap().uid();
    for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
        assert_eq!(owner(file), 100_000, "{file:?}");
    }
    assert_eq!((owner("memory.max"), owner("cgroup.kill")), (0, 0), "its own limits are not its to change");
    let script = "cd /sys/fs/cgroup; mkdir -p a/b && echo $$ >a/b/cgroup.procs && cat /proc/self/cgroup; echo 1 >memory.max";
    let outcome = b.exec_sh(script);
    assert!(outcome.code != 0 && outcome.out.contains("0::/a/b") && outcome.err.contains("ermission denied"), "{outcome:?}");
    let closed = bundle("not-delegated").unwrap();
    closed.userns(100_000).up();
    assert_eq!(fs::metadata(dir(&closed)).unwrap().uid(), 0, "the default mount is read-only, so nothing is handed over");
}

/// cgroup-v2.rst § No Internal Process Constraint.
#[test]
fn below_a_cgroup_with_processes() {
    let Some(b) = bundle("internal") else { return };
    let above = Path::new("/sys/fs/cgroup").join(format!("above-{}", std::process::id()));
    let _occupied = Occupied::new(above.clone());
    b.set("/linux/cgroupsPath", json!(format!("/{}/{}", above.file_name().unwrap().to_str().unwrap(), b.id)));
    let unlimited = b.config.borrow()["linux"]["resources"].clone();
    b.set("/linux/resources/memory", json!({"limit": 67108864}));
    b.verb(&["run", "--detach"]).fails(1, &["cannot enter cgroupv2", "invalid state", "no processes of their own"]);
    b.assert_gone();
    // Without limits it becomes a threaded one, and the container runs.
    b.set("/linux/resources", unlimited).up();
    assert_eq!(b.exec(&["cat", "/proc/self/cgroup"]).ok(), "0::/");
}

#[test]
fn a_cgroup_in_use_or_frozen_is_refused() {
    let Some(b) = bundle("taken") else { return };
    let taken = Occupied::new(dir(&b));
    b.verb(&["run", "--detach"]).fails(1, &["container's cgroup is not empty", "1 process"]);
    assert!(dir(&b).exists(), "it is not ours to remove");
    drop(taken);
    fs::create_dir(dir(&b)).unwrap();
    fs::write(dir(&b).join("cgroup.freeze"), "1").unwrap();
    b.verb(&["run", "--detach"]).fails(1, &["unexpectedly frozen"]);
    fs::write(dir(&b).join("cgroup.freeze"), "0").unwrap();
    b.up();
}

#[test]
fn statistics_with_pressure() {
    let Some(b) = bundle("stats") else { return };
    b.set("/linux/resources", json!({"memory": {"limit": 67108864, "swap": 67108864}, "pids": {"limit": 9}})).up();
    let stats = b.verb(&["events", "--stats"]).json();
    let data = &stats["data"];
    assert_eq!((&data["memory"]["usage"]["limit"], &data["pids"]["limit"], &data["pids"]["current"]), (&json!(67108864), &json!(9), &json!(1)));
    assert!(data["memory"]["raw"]["anon"].is_u64() && data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{data}");
    // The file is there where the kernel was booted without PSI, and can't be read.
    if fs::read("/proc/pressure/cpu").is_ok() {
        for controller in ["cpu", "memory", "blkio"] {
            // Empty as long as nothing has ever waited.
            assert!(data[controller]["psi"].is_object(), "{controller}: {}", data[controller]);
        }
    }
}

#[test]
fn an_oom_kill_is_an_event() {
    let Some(b) = bundle("oom") else { return };
    b.set("/linux/resources/memory", json!({"limit": 16777216, "swap": 16777216})).up();
    let mut events = b.spawn(&["events", "--interval", "1h", &b.id], |_| {});
    // Of two such deaths at least one falls behind the start of the watch.
    let said = eventually("an oom event", || {
        let killed = b.exec_sh("x=$(head -c 64m /dev/zero | tr '\\0' x)");
        assert_ne!(killed.code, 0, "{killed:?}");
        let text = fs::read_dir(&b.dir).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().starts_with("out."));
        let text: String = text.map(|e| fs::read_to_string(e.path()).unwrap()).collect();
        text.contains("\"type\":\"oom\"").then_some(text)
    });
    assert!(said.contains(&b.id));
    b.kill("KILL").ok();
    events.wait(support::LIMIT).ok();
}

/// v2's kernel would take it and kill the container.
#[test]
fn a_limit_below_the_usage_is_refused_when_asked_for() {
    let Some(b) = bundle("check") else { return };
    b.set("/linux/resources/memory", json!({"limit": 134217728, "checkBeforeUpdate": true}));
    b.sh("x=$(head -c 32m /dev/zero | tr '\\0' x); echo ready; while :; do sleep 1000; done");
    b.up();
    b.await_printed("ready");
    b.verb(&["update", "--memory", "8m"]).fails(1, &["rejecting memory limit 8388608 <= usage"]);
    assert_eq!((value(&b, "memory.max").as_str(), b.status().as_str()), ("134217728", "running"));
}

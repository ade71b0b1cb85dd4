//! The systemd driver, where systemd is the first process: `make test-vm`. Each test has a scope of its own.

#[macro_use]
mod support;

use serde_json::json;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Bundle, Outcome, eventually};

/// A bundle whose cgroup is `system.slice:test:ID`; None where there is no such systemd.
fn bundle(test: &str) -> Option<Bundle> {
    // SAFETY: geteuid(2) can't fail.
    let root = unsafe { libc::geteuid() } == 0;
    if !root || !Path::new("/run/systemd/system").exists() || !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        eprintln!("skipped: cgroup v2: {test}: needs root, and systemd on cgroup v2 (make test-vm)");
        return None;
    }
    let b = Bundle::new(test);
    b.set("/linux/cgroupsPath", json!(format!("system.slice:test:{}", b.id))).sleeps();
    Some(b)
}

fn unit(b: &Bundle) -> String {
    format!("test-{}.scope", b.id)
}

fn dir(b: &Bundle) -> PathBuf {
    Path::new("/sys/fs/cgroup/system.slice").join(unit(b))
}

fn value(b: &Bundle, file: &str) -> String {
    fs::read_to_string(dir(b).join(file)).unwrap().trim().to_string()
}

fn systemctl(args: &[&str]) -> String {
    let done = Command::new("timeout").args(["30", "systemctl"]).args(args).output().unwrap();
    String::from_utf8_lossy(&done.stdout).trim().to_string()
}

/// A property as systemd has it.
fn property(b: &Bundle, name: &str) -> String {
    systemctl(&["show", "--value", "-p", name, &unit(b)])
}

fn sd(b: &Bundle, args: &[&str]) -> Outcome {
    b.verb(&[&["--systemd-cgroup"], args].concat())
}

fn up(b: &Bundle) {
    // The verb first, by which the support knows whose output it is.
    b.call(&["run", "--systemd-cgroup", "--detach", &b.id]).ok();
}

fn programs(b: &Bundle) -> usize {
    dhow::sys::bpf::attached_device_programs(File::open(dir(b)).unwrap().as_fd()).unwrap().len()
}

#[test]
fn a_scope_from_create_to_delete() {
    let Some(b) = bundle("life") else { return };
    sd(&b, &["create"]).ok();
    assert_eq!(fs::read_to_string(format!("/proc/{}/cgroup", b.pid())).unwrap().trim(), format!("0::/system.slice/{}", unit(&b)));
    let has = |name: &str| property(&b, name);
    assert_eq!((has("ActiveState"), has("Slice"), has("Delegate")), ("active".into(), "system.slice".into(), "yes".into()));
    for accounting in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
        assert_eq!(has(accounting), "yes");
    }
    b.start().ok();
    assert_eq!(b.exec(&["cat", "/proc/self/cgroup"]).ok(), "0::/");
    sd(&b, &["pause"]).ok();
    assert_eq!(b.status(), "paused");
    sd(&b, &["resume"]).ok();
    // An engine passes the flag to each verb; what was recorded counts.
    sd(&b, &["delete", "--force"]).ok();
    assert_eq!(has("LoadState"), "not-found");
    b.assert_gone();
}

#[test]
fn limits_are_systemds_and_the_files() {
    let Some(b) = bundle("limits") else { return };
    b.set(
        "/linux/resources",
        json!({
            "memory": {"limit": 67108864, "reservation": 33554432, "swap": 100663296},
            "cpu": {"shares": 2048, "quota": 33330, "period": 100000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 20},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
            "unified": {"memory.high": "50331648"},
        }),
    );
    up(&b);
    for (name, expected) in [
        ("MemoryMax", "67108864"),
        ("MemoryLow", "33554432"),
        ("MemorySwapMax", "33554432"),
        ("MemoryHigh", "50331648"),
        ("CPUWeight", "174"),
        ("CPUQuotaPerSecUSec", "340ms"),
        ("AllowedCPUs", "0"),
        ("AllowedMemoryNodes", "0"),
        ("TasksMax", "20"),
    ] {
        assert_eq!(property(&b, name), expected, "{name}");
    }
    let files = [("memory.max", "67108864"), ("memory.high", "50331648"), ("cpu.weight", "174"), ("cpu.max", "34000 100000"), ("pids.max", "20")];
    files.iter().for_each(|(file, expected)| assert_eq!(value(&b, file), *expected, "{file}"));
    if dir(&b).join("hugetlb.2MB.max").exists() {
        assert_eq!(value(&b, "hugetlb.2MB.max"), "4194304", "systemd has no property for it");
    }
    sd(&b, &["update", "--memory", "128m", "--memory-swap", "-1", "--pids-limit", "-1", "--cpu-quota", "50000"]).ok();
    for (name, expected) in [("MemoryMax", "134217728"), ("MemorySwapMax", "infinity"), ("TasksMax", "infinity"), ("CPUQuotaPerSecUSec", "500ms")] {
        assert_eq!(property(&b, name), expected, "{name}");
    }
    sd(&b, &["update", "--cpu-idle", "1"]).ok();
    assert_eq!((value(&b, "cpu.idle").as_str(), property(&b, "CPUWeight").as_str()), ("1", "idle"));
    let said = sd(&b, &["update", "--cpu-share", "512", "--cpu-idle", "1"]);
    assert!(said.ok().is_empty() && said.err.contains("unable to apply both"), "{said:?}");
    sd(&b, &["update", "--memory", "64m"]).ok();
    assert_eq!((value(&b, "cpu.idle").as_str(), property(&b, "CPUWeight").as_str()), ("1", "idle"));
    sd(&b, &["update", "--cpu-share", "512"]).ok();
    assert_eq!(value(&b, "cpu.idle"), "0", "a weight makes it one of the others again");
}

/// systemd removes the scope with its last process. containerd's shim calls `kill --all` all the same.
#[test]
fn kill_all_of_a_container_whose_scope_is_gone() {
    let Some(b) = bundle("gone") else { return };
    b.args(&["true"]);
    up(&b);
    b.wait_for("its end", |b| b.status() == "stopped" && !dir(b).exists());
    b.call(&["kill", "--all", &b.id, "KILL"]).ok();
    b.kill("KILL").fails(1, &["container not running"]);
    b.delete().ok();
}

/// systemd writes the cgroup's files and its device program anew.
#[test]
fn a_reload_changes_nothing() {
    let Some(b) = bundle("reload") else { return };
    b.set("/linux/resources/memory", json!({"limit": 67108864})).set("/linux/resources/cpu", json!({"quota": 33330, "period": 100000}));
    b.push("/linux/resources/devices", json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"}));
    b.privileged().push("/linux/devices", json!({"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}));
    up(&b);
    let probe = || b.exec_sh("head -c1 /dev/zero >/dev/null && test -e /dev/kmsg && ! head -c1 /dev/kmsg 2>/dev/null").code;
    let facts = || (probe(), value(&b, "memory.max"), value(&b, "cpu.max"), value(&b, "cgroup.procs").lines().count());
    let before = facts();
    assert_eq!(before, (0, "67108864".into(), "34000 100000".into(), 1));
    assert_eq!(programs(&b), 1, "ours took the place of systemd's");
    systemctl(&["daemon-reload"]);
    assert_eq!(facts(), before);
    sd(&b, &["update", "--pids-limit", "77"]).ok();
    assert_eq!((facts(), value(&b, "pids.max")), (before.clone(), "77".into()));
    systemctl(&["daemon-reexec"]);
    sd(&b, &["update", "--pids-limit", "78"]).ok();
    assert_eq!((facts(), value(&b, "pids.max")), (before, "78".into()));
}

/// All verbs while systemd reloads over and over, and re-executes itself, which cuts every connection.
#[test]
fn reloads_meanwhile() {
    let Some(b) = bundle("meanwhile") else { return };
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let reloads = std::thread::spawn(move || {
        while stopped.try_recv().is_err() {
            systemctl(&["daemon-reload"]);
            systemctl(&["daemon-reexec"]);
        }
    });
    for _ in 0..3 {
        up(&b);
        sd(&b, &["update", "--memory", "64m"]).ok();
        assert_eq!(value(&b, "memory.max"), "67108864");
        sd(&b, &["delete", "--force"]).ok();
        assert_eq!(b.remains(), [""; 0]);
    }
    stop.send(()).unwrap();
    reloads.join().unwrap();
}

#[test]
fn a_unit_in_use_is_refused_and_left_alone() {
    let Some(b) = bundle("taken") else { return };
    up(&b);
    let other = b.another_id("other");
    b.call(&["--systemd-cgroup", "run", "--detach", &other]).fails(1, &["container's cgroup is not empty", &unit(&b)]);
    assert_eq!((property(&b, "ActiveState").as_str(), b.status().as_str()), ("active", "running"));
}

#[test]
fn a_unit_of_that_name_elsewhere_or_a_frozen_cgroup_is_refused() {
    let Some(b) = bundle("frozen") else { return };
    fs::create_dir(dir(&b)).unwrap();
    fs::write(dir(&b).join("cgroup.freeze"), "1").unwrap();
    sd(&b, &["create"]).fails(1, &["container's cgroup unexpectedly frozen"]);
    fs::remove_dir(dir(&b)).unwrap();
    let run = ["-q", "--scope", "--slice", "other.slice", "--unit", &unit(&b), "sleep", "1000"];
    let mut elsewhere = Command::new("systemd-run").args(run).spawn().unwrap();
    eventually("the other scope", || (property(&b, "ActiveState") == "active").then_some(()));
    sd(&b, &["create"]).fails(1, &["unable to start unit", "UnitExists"]);
    assert_eq!(property(&b, "ActiveState"), "active");
    elsewhere.kill().unwrap();
    elsewhere.wait().unwrap();
    eventually("the other scope's end", || (property(&b, "LoadState") == "not-found").then_some(()));
}

/// An OOM kill makes the scope a failed one, whose name stays taken until it is reset.
#[test]
fn a_failed_unit_does_not_stay_in_the_way() {
    let Some(b) = bundle("failed") else { return };
    b.set("/linux/resources/memory", json!({"limit": 16777216, "swap": 16777216})).sh("x=$(head -c 64m /dev/zero | tr '\\0' x)");
    for _ in 0..2 {
        let outcome = b.call(&["--systemd-cgroup", "run", &b.id]);
        assert_ne!(outcome.code, 0, "{outcome:?}");
        assert!(!outcome.err.contains("unable to start unit"), "{outcome:?}");
    }
    assert_eq!(property(&b, "LoadState"), "not-found");
    // Left by somebody else, who did not reset it.
    let run = ["--scope", "-q", "--unit", &unit(&b), "-p", "MemoryMax=8M", "-p", "MemorySwapMax=0", "sh", "-c", "x=$(head -c 64m /dev/zero | tr '\\0' x)"];
    let _ = Command::new("timeout").arg("60").arg("systemd-run").args(run).output().unwrap();
    b.sleeps();
    up(&b);
    assert_eq!(b.status(), "running");
}

#[test]
fn an_engines_properties_by_annotation() {
    let Some(b) = bundle("annotated") else { return };
    let annotations = json!({"org.systemd.property.TimeoutStopUSec": "uint64 12000000", "org.systemd.property.CollectMode": "'inactive-or-failed'"});
    b.set("/annotations", annotations);
    up(&b);
    assert_eq!((property(&b, "TimeoutStopUSec").as_str(), property(&b, "CollectMode").as_str()), ("12s", "inactive-or-failed"));
    let bad = bundle("annotated-bad").unwrap();
    bad.set("/annotations", json!({"org.systemd.property.CollectMode": "unquoted"}));
    sd(&bad, &["create"]).fails(1, &["/annotations/org.systemd.property.CollectMode", "GVariant"]);
    bad.set("/annotations", json!({"org.systemd.property.NoSuchThing": "true"}));
    sd(&bad, &["create"]).fails(1, &["unable to start unit", "NoSuchThing"]);
    bad.assert_gone();
}

#[test]
fn paths_that_are_none_are_refused() {
    let Some(b) = bundle("paths") else { return };
    for path in ["/a/b", "a:b", "nope:b:c", "system.slice:a:b.slice"] {
        b.set("/linux/cgroupsPath", json!(path));
        sd(&b, &["create"]).fails(1, &["/linux/cgroupsPath"]);
    }
    b.set("/linux/cgroupsPath", json!(format!("te-st.slice:a:{}", b.id)));
    up(&b);
    assert!(Path::new("/sys/fs/cgroup/te.slice/te-st.slice").join(format!("a-{}.scope", b.id)).exists());
    b.remove("/linux/cgroupsPath");
    let own = b.another_id("own");
    b.call(&["--systemd-cgroup", "run", "--detach", &own]).ok();
    assert!(Path::new("/sys/fs/cgroup/system.slice").join(format!("dhow-{own}.scope")).exists());
}

/// Delegated: systemd in the container may do as it likes below.
#[test]
fn a_container_manages_its_own_cgroup() {
    let Some(b) = bundle("inner") else { return };
    b.userns(100_000).without_mount("/sys/fs/cgroup").mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev"]);
    b.sh("cd /sys/fs/cgroup && mkdir init && echo 1 >init/cgroup.procs && echo +memory +pids >cgroup.subtree_control && echo spread; exec sleep 1000");
    up(&b);
    b.await_printed("spread");
    assert_eq!(b.exec(&["cat", "/proc/self/cgroup"]).ok(), "0::/init");
    systemctl(&["daemon-reload"]);
    assert_eq!(value(&b, "cgroup.subtree_control"), "memory pids", "it is not systemd's any more");
}

/// The container's end by itself: its scope goes, and `delete` finds nothing to stop.
#[test]
fn a_container_that_ended() {
    let Some(b) = bundle("ended") else { return };
    b.args(&["true"]);
    up(&b);
    b.await_status("stopped");
    eventually("the scope is gone", || (property(&b, "LoadState") == "not-found").then_some(()));
    sd(&b, &["delete"]).ok();
    b.assert_gone();
}

#[test]
fn a_failing_start_leaves_no_unit() {
    let Some(b) = bundle("undone") else { return };
    b.args(&["/no/such/program"]);
    b.call(&["--systemd-cgroup", "run", &b.id]).fails(1, &["no such file or directory"]);
    eventually("the scope is gone", || (property(&b, "LoadState") == "not-found").then_some(()));
    b.assert_gone();
}

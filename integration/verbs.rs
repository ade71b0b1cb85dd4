//! The verbs on a container that is there: kill, list, ps, update, events.

mod support;

use serde_json::{Value, json};
use std::time::Duration;
use support::*;

// ---- kill

#[test]
fn kill_by_name_and_number() {
    needs_root!();
    let b = Bundle::new("names");
    b.sh("for s in HUP INT USR1 USR2 TERM; do trap \"echo got $s\" $s; done; echo ready; while :; do usleep 5000; done").up();
    b.await_printed("ready");
    for (word, name) in [("HUP", "HUP"), ("SIGINT", "INT"), ("10", "USR1"), ("usr2", "USR2")] {
        b.kill(word).ok();
        b.await_printed(&format!("got {name}"));
    }
    b.verb(&["kill"]).ok();
    b.await_printed("got TERM");
    b.kill("0").ok();
    b.kill("NOPE").fails(1, &["unknown signal"]);
}

#[test]
fn kill_all_reaches_everyone() {
    needs_root!();
    let b = Bundle::new("all");
    b.sh("for i in 1 2 3; do sleep 1000 & done; echo ready; wait").without_namespace("pid").up();
    b.await_printed("ready");
    eventually("four", || (b.verb(&["ps", "--format=json"]).json().as_array().unwrap().len() == 4).then_some(()));
    b.call(&["kill", "--all", &b.id, "KILL"]).ok();
    b.await_status("stopped");
    eventually("no process", || processes_of(&b.id).is_empty().then_some(()));
    b.call(&["kill", "--all", &b.id, "KILL"]).ok();
    b.delete().ok();
}

#[test]
fn without_a_pid_namespace_nobody_survives_delete() {
    needs_root!();
    let b = Bundle::new("hostpid");
    b.sh("sleep 1000 & echo ready").without_namespace("pid").verb(&["run"]).ok();
    b.assert_gone();
}

// ---- list, ps

#[test]
fn list_shows_all_states() {
    needs_root!();
    let b = Bundle::new("list");
    let (second, third) = (b.another_id("second"), b.another_id("third"));
    b.sleeps().up();
    b.call(&["create", &second]).ok();
    b.args(&["true"]).call(&["run", "-d", &third]).ok();
    eventually("stopped", || (b.call(&["state", &third]).json()["status"] == "stopped").then_some(()));
    let all = b.call(&["list", "--format", "json"]).json();
    let seen: Vec<(&str, &str)> = all.as_array().unwrap().iter().map(|c| (c["id"].as_str().unwrap(), c["status"].as_str().unwrap())).collect();
    assert_eq!(seen, [(b.id.as_str(), "running"), (&second, "created"), (&third, "stopped")]);
    let quiet = b.call(&["list", "-q"]);
    assert_eq!(quiet.lines(), [&b.id, &second, &third]);
    let table = b.call(&["list"]);
    assert_eq!(table.lines().len(), 4);
    assert!(table.lines()[1].contains("running") && table.lines()[1].contains(b.dir.to_str().unwrap()), "{}", table.out);
}

#[test]
fn ps_shows_the_processes() {
    needs_root!();
    let b = Bundle::new("ps");
    b.sleeps().up();
    let table = b.verb(&["ps"]);
    assert!(table.lines()[0].contains("PID") && table.lines().len() == 2 && table.lines()[1].contains("sleep 1000"), "{table:?}");
    let short = b.call(&["ps", &b.id, "-o", "pid,comm"]);
    assert_eq!(short.lines()[1].split_whitespace().collect::<Vec<_>>(), [b.pid().to_string().as_str(), "sleep"]);
    assert_eq!(b.verb(&["ps", "-f", "json"]).json(), json!([b.pid()]));
}

// ---- update, events

#[test]
fn update_is_seen_in_the_cgroup() {
    needs_root!();
    let b = Bundle::new("update");
    b.set("/linux/resources/memory", json!({"limit": 64 << 20})).set("/linux/resources/pids", json!({"limit": 50})).sleeps().up();
    let Some(memory) = b.cgroup_value("memory", "memory.limit_in_bytes") else { skip!("cgroup v1's memory controller") };
    assert_eq!(memory, (64 << 20).to_string());
    assert_eq!(b.cgroup_value("pids", "pids.max").unwrap(), "50");
    b.verb(&["update", "--memory", "96M", "--pids-limit", "20", "--cpu-share", "512", "--cpu-period", "100000", "--cpu-quota", "50000"]).ok();
    assert_eq!(b.cgroup_value("memory", "memory.limit_in_bytes").unwrap(), (96 << 20).to_string());
    assert_eq!(b.cgroup_value("pids", "pids.max").unwrap(), "20");
    assert_eq!(b.cgroup_value("cpu", "cpu.shares").unwrap(), "512");
    assert_eq!(b.cgroup_value("cpu", "cpu.cfs_quota_us").unwrap(), "50000");
    let resources = json!({"memory": {"limit": 80 << 20}, "pids": {"limit": 30}}).to_string();
    for flag in ["--resources=-", "-r=-"] {
        assert_eq!(b.call_with_input(&["update", flag, &b.id], &resources).ok(), "");
        assert_eq!(b.cgroup_value("memory", "memory.limit_in_bytes").unwrap(), (80 << 20).to_string());
        assert_eq!(b.cgroup_value("pids", "pids.max").unwrap(), "30");
    }
    // What was set earlier and isn't named stays.
    assert_eq!(b.cgroup_value("cpu", "cpu.shares").unwrap(), "512");
}

/// The device rules are written again by any update: no moment in which a device is denied that was allowed, or allowed
/// that was denied.
#[test]
fn an_update_leaves_no_gap_in_the_devices() {
    needs_root!();
    let b = Bundle::new("gap");
    b.privileged().push("/linux/devices", json!({"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}));
    // An error goes to /dev/null; it, and what is read, would be printed.
    b.sh("echo ready; while :; do head -c 100 /dev/kmsg 2>/dev/null; done").up();
    b.await_printed("ready");
    for limit in 30..60 {
        b.verb(&["update", "--pids-limit", &limit.to_string()]).ok();
    }
    assert_eq!(b.printed(), "ready\n");
}

#[test]
fn a_limit_below_the_usage_is_refused_and_changes_nothing() {
    needs_root!();
    let b = Bundle::new("toolow");
    b.set("/linux/resources/memory", json!({"limit": 128 << 20, "checkBeforeUpdate": true}))
        .sh("dd if=/dev/zero of=/dev/shm/x bs=1M count=30; echo ready; sleep 1000")
        .up();
    b.await_printed("ready");
    if b.cgroup_file("memory", "memory.limit_in_bytes").is_none() {
        skip!("cgroup v1's memory controller");
    }
    b.verb(&["update", "--memory", "1M"]).fails(1, &[]);
    assert_eq!(b.status(), "running");
    assert_eq!(b.cgroup_value("memory", "memory.limit_in_bytes").unwrap(), (128 << 20).to_string());
}

#[test]
fn events_stats() {
    needs_root!();
    let b = Bundle::new("stats");
    b.sleeps().up();
    let event = b.verb(&["events", "--stats"]).json();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(b.id)));
    assert!(event["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{event}");
    assert_eq!(event["data"]["pids"]["current"], 1);
    assert!(event["data"]["cpu"]["usage"]["total"].is_number());
}

#[test]
fn events_at_an_interval_until_it_ends() {
    needs_root!();
    let b = Bundle::new("interval");
    b.sleeps().up();
    let mut events = b.spawn(&["events", "--interval", "50ms", &b.id], |_| {});
    std::thread::sleep(Duration::from_millis(400));
    b.kill("KILL").ok();
    let got = events.wait(LIMIT);
    assert!(got.code(0).lines().len() >= 3, "{got:?}");
    got.lines().iter().for_each(|l| assert_eq!(serde_json::from_str::<Value>(l).unwrap()["type"], "stats"));
}

#[test]
fn events_tell_of_an_oom() {
    needs_root!();
    let b = Bundle::new("oom");
    b.set("/linux/resources/memory", json!({"limit": 24 << 20, "swap": 24 << 20})).sleeps().up();
    let mut events = b.spawn(&["events", "--interval", "20s", &b.id], |_| {});
    std::thread::sleep(Duration::from_millis(300));
    // It, not the first process, is what the kernel shall take.
    b.exec_sh("echo 1000 >/proc/self/oom_score_adj; x=$(yes | head -c 60000000); echo ${#x}").code(137);
    let out = b.path("out.3");
    std::thread::sleep(Duration::from_millis(300));
    b.kill("KILL").ok();
    let got = events.wait(LIMIT);
    assert!(got.lines().iter().any(|l| l.contains(r#""type":"oom""#)), "{got:?} {}", out.display());
}

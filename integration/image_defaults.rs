//! What dhowctl puts into config.json beside what the image says, against what a real dockerd writes for the same image.

mod callers;
#[path = "support/ctl.rs"]
mod ctl;
mod support;

use callers::docker::Docker;
use callers::images;
use ctl::Scratch;
use serde_json::{Value, json};
use std::fs;

/// Docker's config.json of a container that runs, and dhowctl's for the image that it is of.
fn both(docker: &Docker, options: &[&str], scratch: &Scratch, flags: &[&str]) -> (Value, Value) {
    let container = docker.up("compared", options, "while :; do sleep 0.1; done");
    let id = docker.inspect(&container.name)["Id"].as_str().unwrap().to_string();
    let path = format!("/run/containerd/io.containerd.runtime.v2.task/moby/{id}/config.json");
    let theirs = docker.machine.call("cat", &[&path]).json();
    let image = images::busybox(&scratch.dir, "busybox:latest", &["sh"]);
    scratch.ctl(&[&["unpack", "--quiet"], flags, &[&format!("docker-archive:{}", image.display()), "bundle"]].concat()).ok();
    let ours = serde_json::from_slice(&fs::read(scratch.path("bundle/config.json")).unwrap()).unwrap();
    fs::remove_dir_all(scratch.path("bundle")).unwrap();
    (ours, theirs)
}

/// A list whose order means nothing.
fn sorted(value: &Value) -> Vec<String> {
    let mut all: Vec<String> = value.as_array().into_iter().flatten().map(Value::to_string).collect();
    all.sort();
    all
}

/// Rules for system calls: one a name, action and condition, however they are grouped.
fn rules(seccomp: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for rule in seccomp["syscalls"].as_array().into_iter().flatten() {
        for name in rule["names"].as_array().into_iter().flatten() {
            let mut args = rule["args"].as_array().cloned().unwrap_or_default();
            // 0 and absent are the same.
            for arg in &mut args {
                arg.as_object_mut().unwrap().entry("valueTwo").or_insert(json!(0));
            }
            out.push(format!("{name} {} {} {}", rule["action"], rule["errnoRet"], json!(args)));
        }
    }
    out.sort();
    out.dedup();
    out
}

/// Mounts but for the files that Docker makes for name resolution.
fn mounts(config: &Value) -> Vec<Value> {
    let is_network_file = |m: &Value| ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"].contains(&m["destination"].as_str().unwrap());
    let mut all: Vec<Value> = config["mounts"].as_array().unwrap().iter().filter(|m| !is_network_file(m)).cloned().collect();
    for mount in &mut all {
        mount["options"] = json!(sorted(&mount["options"]));
    }
    all.sort_by_key(|m| m["destination"].to_string());
    all
}

/// What the lists have, but for what they share: (ours alone, theirs alone).
fn apart(ours: Vec<String>, theirs: Vec<String>) -> (Vec<String>, Vec<String>) {
    let without = |a: &[String], b: &[String]| a.iter().filter(|item| !b.contains(item)).cloned().collect();
    (without(&ours, &theirs), without(&theirs, &ours))
}

/// Newer than some engines that are around.
const NEWER_MASKS: [&str; 2] = ["/proc/interrupts", "/sys/devices/virtual/powercap"];

/// Allowed by older engines: all of io_uring, sockets of every family.
const NARROWED: [&str; 4] = ["io_uring_enter", "io_uring_register", "io_uring_setup", "socket"];

#[test]
fn the_defaults_are_docker_s() {
    needs_caller!("dockerd");
    let scratch = Scratch::new("defaults");
    let docker = Docker::new("defaults");
    for (options, flags) in [(&[][..], &[][..]), (&["-t"], &["--tty"])] {
        let (ours, theirs) = both(&docker, options, &scratch, flags);
        let mut wrong = Vec::new();
        let mut compare = |what: &str, ours: Value, theirs: Value| {
            if ours != theirs {
                wrong.push(format!("{what}: {ours} against {theirs}"));
            }
        };
        for pointer in ["/process/cwd", "/process/user", "/process/rlimits", "/linux/resources/devices"] {
            compare(pointer, ours.pointer(pointer).cloned().into(), theirs.pointer(pointer).cloned().into());
        }
        for pointer in ["/process/terminal", "/process/noNewPrivileges", "/root/readonly"] {
            let flag = |config: &Value| json!(config.pointer(pointer).is_some_and(|v| v == true));
            compare(pointer, flag(&ours), flag(&theirs));
        }
        for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
            let list = |config: &Value| json!(sorted(&config["process"]["capabilities"][set]));
            compare(set, list(&ours), list(&theirs));
        }
        for list in ["readonlyPaths", "devices"] {
            compare(list, json!(sorted(&ours["linux"][list])), json!(sorted(&theirs["linux"][list])));
        }
        let masked = |config: &Value| {
            let mut all = config["linux"]["maskedPaths"].clone();
            all.as_array_mut().unwrap().retain(|path| !NEWER_MASKS.contains(&path.as_str().unwrap()));
            json!(sorted(&all))
        };
        compare("maskedPaths", masked(&ours), masked(&theirs));
        // But for the name of the host, which is another one each time.
        let env = |config: &Value| json!(sorted(&config["process"]["env"]).into_iter().filter(|line| !line.starts_with("\"HOSTNAME=")).collect::<Vec<_>>());
        compare("env", env(&ours), env(&theirs));
        compare("mounts", json!(mounts(&ours)), json!(mounts(&theirs)));
        let kinds = |config: &Value| json!(sorted(&json!(config["linux"]["namespaces"].as_array().unwrap().iter().map(|ns| &ns["type"]).collect::<Vec<_>>())));
        compare("namespaces", kinds(&ours), kinds(&theirs));
        let calls = |config: &Value| config["linux"]["seccomp"].clone();
        compare("defaultAction", calls(&ours)["defaultAction"].clone(), calls(&theirs)["defaultAction"].clone());
        let mut errno = calls(&theirs)["defaultErrnoRet"].clone();
        if errno.is_null() {
            errno = json!(libc::EPERM);
        }
        compare("defaultErrnoRet", calls(&ours)["defaultErrnoRet"].clone(), errno);
        // An older engine knows fewer calls; conformance/seccomp compares with the profile of today.
        let name = |rule: &str| rule.split('"').nth(1).unwrap().to_string();
        let known: Vec<String> = rules(&calls(&theirs)).iter().map(|rule| name(rule)).collect();
        let (mut more, mut fewer) = apart(rules(&calls(&ours)), rules(&calls(&theirs)));
        more.retain(|rule| known.contains(&name(rule)) && !NARROWED.contains(&name(rule).as_str()));
        fewer.retain(|rule| !NARROWED.contains(&name(rule).as_str()));
        compare("seccomp", json!(more), json!(fewer));
        assert!(wrong.is_empty(), "{options:?}:\n{}", wrong.join("\n"));
    }
}

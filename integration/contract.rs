//! The calls of docs/callers/contract.md, as each caller makes them, word for word and in its order.

mod support;

use serde_json::json;
use std::fs;
use std::path::PathBuf;
use support::*;

const SLEEP: &str = "trap 'exit 3' TERM; echo ready; while :; do usleep 10000; done";

/// containerd's shim, and Docker's through it: global flags first, a JSON log of the bundle's own.
struct Shim<'b>(&'b Bundle);

impl Shim<'_> {
    #[track_caller]
    fn call(&self, args: &[&str]) -> Outcome {
        self.call_with_input(args, "")
    }

    #[track_caller]
    fn call_with_input(&self, args: &[&str], input: &str) -> Outcome {
        let log = self.log();
        let mut all = vec!["--log", log.to_str().unwrap(), "--log-format", "json"];
        all.extend(args);
        self.0.call_with_input(&all, input)
    }

    fn log(&self) -> PathBuf {
        self.0.path("log.json")
    }

    /// What the shim tells its user of a failure: the last error in the log.
    fn last_error(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap();
        let lines = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
        lines.rev().find(|l| l["level"] == "error").expect("an error")["msg"].as_str().unwrap().to_string()
    }
}

fn process(b: &Bundle, args: &[&str]) -> String {
    let path = b.path("process.json");
    let mut process = b.config.borrow()["process"].clone();
    process["args"] = json!(args);
    fs::write(&path, process.to_string()).unwrap();
    path.to_str().unwrap().to_string()
}

#[test]
fn containerds_shim() {
    needs_root!();
    let b = Bundle::new("shim");
    b.sh(SLEEP);
    let (shim, bundle, pid) = (Shim(&b), b.dir.to_str().unwrap().to_string(), b.path("init.pid"));
    shim.call(&["create", "--bundle", &bundle, "--pid-file", pid.to_str().unwrap(), &b.id]).ok();
    assert_eq!(fs::read_to_string(&pid).unwrap(), b.pid().to_string());
    shim.call(&["start", &b.id]).ok();
    assert!(shim.call(&["ps", "--format", "json", &b.id]).json().as_array().unwrap().contains(&json!(b.pid())));
    shim.call(&["pause", &b.id]).ok();
    shim.call(&["resume", &b.id]).ok();
    shim.call_with_input(&["update", "--resources=-", &b.id], &json!({"pids": {"limit": 99}}).to_string()).ok();
    assert_eq!(b.cgroup_value("pids", "pids.max").unwrap(), "99");

    let (exec_pid, file) = (b.path("exec.pid"), process(&b, &["sleep", "1000"]));
    shim.call(&["exec", "--process", &file, "--detach", "--pid-file", exec_pid.to_str().unwrap(), &b.id]).ok();
    assert!(fs::read_to_string(&exec_pid).unwrap().parse::<i32>().is_ok());
    let file = process(&b, &["nosuch"]);
    let failed_pid = b.path("failed.pid");
    shim.call(&["exec", "--process", &file, "--detach", "--pid-file", failed_pid.to_str().unwrap(), &b.id]).code(255);
    assert!(shim.last_error().contains("executable file not found in $PATH"), "{}", shim.last_error());
    assert!(!failed_pid.exists());

    shim.call(&["checkpoint", "--image-path", "/nonesuch", "--work-path", "/nonesuch", &b.id]).code(1);
    assert_eq!(b.status(), "running");
    shim.call(&["restore", "--detach", "--pid-file", "p", "-no-subreaper", "--bundle", &bundle, "other"]).code(1);

    shim.call(&["kill", &b.id, "15"]).ok();
    b.await_status("stopped");
    shim.call(&["kill", "--all", &b.id, "9"]).ok();
    shim.call(&["kill", &b.id, "15"]).code(1);
    assert!(shim.last_error().contains("container not running"), "{}", shim.last_error());
    shim.call(&["delete", &b.id]).ok();
    shim.call(&["delete", &b.id]).code(1);
    assert!(shim.last_error().contains("does not exist"), "{}", shim.last_error());
    shim.call(&["delete", "--force", &b.id]).ok();
}

#[test]
fn go_runc() {
    needs_root!();
    let b = Bundle::new("gorunc");
    b.sh(SLEEP).up();
    let stats = b.verb(&["events", "--stats"]).json();
    assert_eq!((stats["type"].as_str(), stats["id"].as_str()), (Some("stats"), Some(b.id.as_str())));
    assert!(stats["data"]["pids"]["current"].as_u64().unwrap() >= 1, "{stats}");
    let listed = b.call(&["list", "--format=json"]).json();
    assert_eq!(listed[0]["id"], b.id.as_str());
    let state = b.verb(&["state"]).json();
    for field in ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"] {
        assert!(!state[field].is_null(), "{field} in {state}");
    }
}

#[test]
fn buildkit() {
    needs_root!();
    let b = Bundle::new("buildkit");
    b.sh("while [ ! -e /tmp/end ]; do usleep 10000; done; exit 4");
    let bundle = b.dir.to_str().unwrap().to_string();
    let mut running = b.spawn(&["run", "--bundle", &bundle, "--keep", &b.id], |_| {});
    let state = eventually("running", || Some(b.verb(&["state"])).filter(|o| o.code == 0).map(|o| o.json()).filter(|s| s["status"] == "running"));
    assert_eq!(fs::canonicalize(state["bundle"].as_str().unwrap()).unwrap(), fs::canonicalize(&bundle).unwrap());
    let file = process(&b, &["sh", "-c", "touch /tmp/end; exit 6"]);
    b.call(&["exec", "--process", &file, &b.id]).code(6);
    running.wait(LIMIT).code(4);
    assert_eq!(b.status(), "stopped");
    b.delete().ok();
}

/// conmon for Podman and CRI-O; Podman's environment holds next to nothing.
#[test]
fn conmon() {
    needs_root!();
    let b = Bundle::new("conmon");
    b.sh(SLEEP);
    let bundle = b.dir.to_str().unwrap().to_string();
    let bare = |args: &[&str]| {
        b.call_with(args, |c| {
            c.env_clear().env("PATH", "/usr/bin:/bin").env("XDG_RUNTIME_DIR", "/run/nonesuch");
        })
    };
    bare(&["create", "--bundle", &bundle, "--pid-file", "pidfile", "--no-new-keyring", &b.id]).ok();
    bare(&["start", &b.id]).ok();
    let file = process(&b, &["nosuch"]);
    bare(&["exec", "--pid-file", "exec.pid", "--process", &file, "--detach", &b.id]).fails(255, &["executable file not found in $PATH"]);
    assert!(!b.path("exec.pid").exists(), "its absence is the sign of a failure of the runtime");
    fs::write(b.path("resources.json"), json!({"pids": {"limit": 77}}).to_string()).unwrap();
    bare(&["update", "--resources=resources.json", &b.id]).ok();
    assert_eq!(b.cgroup_value("pids", "pids.max").unwrap(), "77");
    bare(&["checkpoint", "--help"]).ok();
    let probe = bare(&["restore", "--lsm-mount-context"]);
    assert!(probe.err.contains("flag needs an argument") || probe.err.contains("requires an argument"), "{probe:?}");
    bare(&["kill", "--all", &b.id, "9"]).ok();
    b.await_status("stopped");
    bare(&["delete", "--force", &b.id]).ok();
}

#[test]
fn cri_o() {
    needs_root!();
    let b = Bundle::new("crio");
    b.sh(SLEEP).up();
    b.call_with_input(&["update", "--resources", "-", &b.id], &json!({"pids": {"limit": 66}}).to_string()).ok();
    assert_eq!(b.cgroup_value("pids", "pids.max").unwrap(), "66");
    let file = process(&b, &["sh", "-c", "echo in; exit 5"]);
    assert_eq!(b.call(&["exec", "--process", &file, &b.id]).code(5).out, "in\n");
    b.call(&["kill", "-a", &b.id, "10"]);
    b.call(&["kill", &b.id, "KILL"]).ok();
    b.await_status("stopped");
    b.verb(&["delete", "--force"]).ok();
    let features = b.call(&["features"]);
    assert_eq!(features.err, "");
    let features = features.json();
    assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    assert!(features["mountOptions"].as_array().unwrap().contains(&json!("rro")));
    assert!(features["linux"]["namespaces"].as_array().unwrap().contains(&json!("user")));
}

#[test]
fn buildah() {
    needs_root!();
    let b = Bundle::new("buildah");
    b.sh(SLEEP);
    let bundle = b.dir.to_str().unwrap().to_string();
    b.call(&["create", "--bundle", &bundle, "--pid-file", "pid", &b.id]).ok();
    assert_eq!(b.status(), "created");
    b.start().ok();
    b.await_printed("ready");
    b.call(&["kill", &b.id]).ok(); // no signal: TERM
    b.await_status("stopped");
    assert_eq!(b.state()["pid"], 0);
    b.delete().ok();
}

/// Docker writes a script for a runtime with arguments; a caller may have us killed with it.
#[test]
fn docker_by_a_script() {
    needs_root!();
    let b = Bundle::new("script");
    b.sh("exit 8");
    b.script("../wrapper", &format!("#!/bin/sh\nexec {} --debug \"$@\"\n", runtime().display()));
    let run = std::process::Command::new(b.path("wrapper")).arg("--root").arg(&b.state_root).args(["run", &b.id]).current_dir(&b.dir).output().unwrap();
    assert_eq!(run.status.code(), Some(8), "{run:?}");
    let version = std::process::Command::new(b.path("wrapper")).arg("--version").output().unwrap();
    let text = String::from_utf8(version.stdout).unwrap();
    assert_eq!(text.lines().filter(|l| l.contains("version")).count(), 1, "{text}");
    assert!(text.lines().any(|l| l.starts_with("commit: ")) && text.lines().any(|l| l.starts_with("spec: ")), "{text}");
}

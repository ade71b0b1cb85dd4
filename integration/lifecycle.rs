//! Every verb in every state, and what callers see of `create` (docs/callers/contract.md; runtime.md § Lifecycle).

mod support;

use serde_json::json;
use std::fs;
use std::os::fd::AsRawFd;
use std::time::Duration;
use support::*;

// ---- the states

#[test]
fn create_state_start_delete() {
    needs_root!();
    let b = Bundle::new("life");
    b.sh("echo started; sleep 1000").set("/annotations", json!({"org.test": "yes"}));
    assert_eq!(b.create().ok(), "");
    let state = b.state();
    assert_eq!((&state["status"], &state["id"]), (&json!("created"), &json!(b.id)));
    assert_eq!((&state["bundle"], &state["rootfs"]), (&json!(b.dir), &json!(b.path("rootfs"))));
    assert_eq!(state["annotations"]["org.test"], "yes");
    assert_eq!(state["owner"], "root");
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
    let created = state["created"].as_str().unwrap();
    assert!(created.len() >= 20 && created.contains('T') && created.ends_with('Z'), "{created}");
    assert!(fs::metadata(format!("/proc/{}", b.pid())).is_ok());
    assert_eq!(b.printed(), "");
    b.start().ok();
    b.await_printed("started");
    assert_eq!(b.status(), "running");
    b.kill("KILL").ok();
    b.await_status("stopped");
    assert_eq!(b.state()["pid"], 0);
    b.delete().ok();
    b.verb(&["state"]).fails(1, &["does not exist"]);
    b.assert_gone();
}

/// What each verb comes to in a state: the exit code, and words of the error.
fn each_verb_refuses(b: &Bundle, table: &[(&[&str], i32, &str)]) {
    for (verb, code, words) in table {
        let got = match verb {
            ["exec", ..] => b.exec(&["true"]),
            ["kill", signal] if !signal.starts_with('-') => b.kill(signal),
            _ => b.verb(verb),
        };
        assert_eq!(got.code, *code, "{verb:?}: {got:?}");
        assert!(got.err.contains(words), "{verb:?}: {words:?} is not in {}", got.err);
    }
}

#[test]
fn verbs_on_a_missing_container() {
    needs_root!();
    let b = Bundle::new("missing");
    each_verb_refuses(
        &b,
        &[
            (&["state"], 1, "does not exist"),
            (&["start"], 1, "does not exist"),
            (&["kill", "KILL"], 1, "does not exist"),
            (&["delete"], 1, "does not exist"),
            (&["pause"], 1, "does not exist"),
            (&["resume"], 1, "does not exist"),
            (&["ps"], 1, "does not exist"),
            (&["update", "--memory", "32M"], 1, "does not exist"),
            (&["events", "--stats"], 1, "does not exist"),
            (&["exec"], 255, "does not exist"),
            (&["delete", "--force"], 0, ""),
        ],
    );
}

#[test]
fn verbs_on_a_created_container() {
    needs_root!();
    let b = Bundle::new("created");
    b.sleeps().create().ok();
    each_verb_refuses(&b, &[(&["resume"], 1, "not paused"), (&["create"], 1, "already exists"), (&["run"], 1, "already exists")]);
    b.exec(&["true"]).ok();
    assert_eq!(b.verb(&["ps", "--format", "json"]).json(), json!([b.pid()]));
    b.verb(&["update", "--pids-limit", "100"]).ok();
    assert_eq!(b.status(), "created");
    b.delete().ok();
    b.assert_gone();
}

#[test]
fn a_created_container_dies_of_kill() {
    needs_root!();
    let b = Bundle::new("killcreated");
    b.sleeps().create().ok();
    b.kill("KILL").ok();
    b.await_status("stopped");
    b.start().fails(1, &["cannot start a container that has stopped"]);
    b.delete().ok();
}

#[test]
fn start_tells_of_a_death_before_the_program() {
    needs_root!();
    let b = Bundle::new("killedstart");
    // Without a pid namespace the hook can kill the process that is to become the program.
    b.sleeps().without_namespace("pid").hook("startContainer", json!({"path": "/bin/sh", "args": ["sh", "-c", "kill -KILL $PPID"]}));
    b.create().ok();
    b.start().fails(1, &["unable to start container process", "killed on its way to the program"]);
    assert_eq!(b.status(), "stopped");
    b.delete().ok();
    b.assert_gone();
}

#[test]
fn verbs_on_a_running_container() {
    needs_root!();
    let b = Bundle::new("running");
    b.sleeps().up();
    each_verb_refuses(
        &b,
        &[
            (&["start"], 1, "already running"),
            (&["delete"], 1, "not stopped"),
            (&["resume"], 1, "not paused"),
            (&["create"], 1, "already exists"),
            (&["exec"], 0, ""),
        ],
    );
    assert_eq!(b.status(), "running");
    b.verb(&["delete", "--force"]).ok();
    b.assert_gone();
}

#[test]
fn verbs_on_a_paused_container() {
    needs_root!();
    let b = Bundle::new("paused");
    b.sleeps().up().verb(&["pause"]).ok();
    assert_eq!(b.status(), "paused");
    each_verb_refuses(
        &b,
        &[
            (&["start"], 1, "already running"),
            (&["delete"], 1, "not stopped"),
            (&["pause"], 1, "not running"),
            (&["exec"], 255, "paused"),
            (&["ps", "--format", "json"], 0, ""),
        ],
    );
    b.verb(&["resume"]).ok();
    assert_eq!(b.status(), "running");
    b.exec(&["true"]).ok();
}

#[test]
fn verbs_on_a_stopped_container() {
    needs_root!();
    let b = Bundle::new("stopped");
    b.args(&["true"]).up().await_status("stopped");
    each_verb_refuses(
        &b,
        &[
            (&["start"], 1, "has stopped"),
            (&["kill", "KILL"], 1, "container not running"),
            (&["pause"], 1, "not running"),
            (&["resume"], 1, "not paused"),
            (&["exec"], 255, "stopped"),
            (&["create"], 1, "already exists"),
            (&["update", "--memory", "32M"], 1, "not running"),
            (&["ps"], 0, ""),
            (&["kill", "--all"], 0, ""),
            (&["delete"], 0, ""),
        ],
    );
    b.assert_gone();
}

#[test]
fn a_paused_container_can_be_killed_and_deleted() {
    needs_root!();
    let b = Bundle::new("pausekill");
    b.sleeps().up().verb(&["pause"]).ok();
    b.kill("KILL").ok();
    b.await_status("stopped").delete().ok();
    b.up().verb(&["pause"]).ok();
    b.verb(&["delete", "--force"]).ok();
    b.assert_gone();
}

#[test]
fn pause_stops_and_resume_goes_on() {
    needs_root!();
    let b = Bundle::new("ticks");
    b.sh("i=0; while :; do i=$((i+1)); echo $i > /tmp/n; usleep 2000; done").up();
    let n = || fs::read_to_string(b.rootfs("tmp/n")).unwrap_or_default();
    eventually("ticks", || (!n().is_empty()).then_some(()));
    b.verb(&["pause"]).ok();
    let before = n();
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(n(), before);
    b.verb(&["resume"]).ok();
    eventually("ticks again", || (n() != before).then_some(()));
}

// ---- create

#[test]
fn create_writes_the_pid_without_a_newline() {
    needs_root!();
    let b = Bundle::new("pidfile");
    let file = b.path("sub.pid");
    b.sleeps().verb(&["create", "--pid-file", file.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), b.pid().to_string());
    let names: Vec<_> = fs::read_dir(&b.dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).filter(|n| n.contains("pid")).collect();
    assert_eq!(names, ["sub.pid"]);
}

#[test]
fn pidfd_socket() {
    needs_root!();
    let b = Bundle::new("pidfd");
    let socket = pty::socket_in(&b.dir, "pidfd.sock");
    b.sleeps();
    let mut create = b.spawn(&["create", "--pidfd-socket", socket.as_str(), &b.id], |_| {});
    let (_, pidfd) = socket.receive();
    create.wait(LIMIT).ok();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    assert_eq!(status_field(&info, "Pid"), b.pid().to_string());
}

#[test]
fn later_changes_of_the_bundle_have_no_effect() {
    needs_root!();
    let b = Bundle::new("frozen");
    b.sh("echo first").create().ok();
    b.write_config(b"{}");
    b.start().ok();
    b.await_printed("first");
}

#[test]
fn one_id_for_sixteen_at_once() {
    needs_root!();
    let b = Bundle::new("race");
    b.sleeps();
    let mut all: Vec<Running> = (0..16).map(|_| b.spawn(&["create", &b.id], |_| {})).collect();
    let ends: Vec<Outcome> = all.iter_mut().map(|r| r.wait(LIMIT)).collect();
    assert_eq!(ends.iter().filter(|e| e.code == 0).count(), 1, "{ends:?}");
    assert_eq!(ends.iter().filter(|e| e.err.contains("already exists")).count(), 15, "{ends:?}");
    b.start().ok();
    assert_eq!(b.status(), "running");
}

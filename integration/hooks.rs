//! Hooks of all kinds: when, where, with what, and what becomes of a container whose hook fails.

mod support;

use serde_json::{Value, json};
use std::fs;
use support::*;

#[test]
fn hooks_of_all_kinds_get_the_state() {
    needs_root!();
    let b = Bundle::new("hooks");
    let log = b.path("log");
    fs::write(&log, "").unwrap();
    b.bind(&log, "/log", &[]).sh("echo program >> /log");
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        b.host_hook(kind, &format!("echo {kind} $(cat) >> {}", log.display()));
    }
    b.hook("startContainer", json!({"path": "/bin/sh", "args": ["sh", "-c", "echo startContainer $(cat) >> /log"], "env": ["PATH=/bin"]}));
    b.create().ok();
    let pid = b.pid();
    b.start().ok();
    b.await_status("stopped").delete().ok();
    let text = fs::read_to_string(&log).unwrap();
    let (words, states): (Vec<&str>, Vec<&str>) = text.lines().map(|l| l.split_once(' ').unwrap_or((l, ""))).unzip();
    let place = |word: &str| words.iter().position(|w| *w == word).unwrap_or_else(|| panic!("no {word} in {text}"));
    let order = ["prestart", "createRuntime", "createContainer", "startContainer", "program"].map(place);
    assert_eq!(order, [0, 1, 2, 3, order[4]]);
    assert_eq!((words.len(), place("poststop")), (7, 6));
    place("poststart");
    // runtime.md § State: hooks in the container's namespaces see its pid as the container does.
    for (kind, status, pid) in [
        ("prestart", "created", Some(pid)),
        ("createRuntime", "creating", Some(pid)),
        ("createContainer", "creating", Some(1)),
        ("startContainer", "created", Some(1)),
        ("poststart", "running", Some(pid)),
        ("poststop", "stopped", None),
    ] {
        let state: Value = serde_json::from_str(states[place(kind)]).unwrap_or_else(|e| panic!("{kind}: {e}: {text}"));
        assert_eq!((&state["id"], &state["status"], &state["bundle"]), (&json!(b.id), &json!(status), &json!(b.dir)), "{kind}");
        assert!(state["ociVersion"].is_string());
        pid.iter().for_each(|pid| assert_eq!(state["pid"], json!(pid), "{kind}"));
    }
}

#[test]
fn hooks_run_in_order_with_their_own_env_and_args() {
    needs_root!();
    let b = Bundle::new("hookenv");
    let log = b.path("log");
    let hook = |n: &str| json!({"path": "/bin/sh", "args": ["other name", "-c", format!("echo {n} $0 $WORD $HOME >> {}", log.display())], "env": [format!("WORD=w{n}")]});
    b.args(&["true"]).hook("createRuntime", hook("1")).hook("createRuntime", hook("2")).hook("createRuntime", hook("3"));
    b.run().ok();
    assert_eq!(fs::read_to_string(&log).unwrap(), "1 other name w1\n2 other name w2\n3 other name w3\n");
}

#[test]
fn a_failing_hook_leaves_nothing_and_poststop_runs() {
    needs_root!();
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        let b = Bundle::new(&format!("fail{kind}"));
        b.sleeps().host_hook("poststop", &format!("cat > {}", b.path("poststop").display()));
        b.hook(kind, json!({"path": "/bin/sh", "args": ["sh", "-c", "echo words of the hook >&2; exit 3"]}));
        b.verb(&["run", "--detach"]).fails(1, &[kind, "hook"]);
        assert!(b.path("poststop").exists(), "{kind}");
        b.assert_gone();
    }
}

#[test]
fn a_failing_hook_of_start_stops_the_container() {
    needs_root!();
    for kind in ["startContainer", "poststart"] {
        let b = Bundle::new(&format!("start{kind}"));
        b.sleeps().hook(kind, json!({"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}));
        b.create().ok();
        b.start().fails(1, &[kind]);
        assert!(processes_of(&b.id).is_empty(), "{kind}");
        b.verb(&["delete", "--force"]).ok();
        b.assert_gone();
    }
}

#[test]
fn a_hook_that_isn_t_there() {
    needs_root!();
    for kind in ["createRuntime", "createContainer"] {
        let b = Bundle::new(&format!("nohook{kind}"));
        b.sleeps().hook(kind, json!({"path": "/nonesuch"}));
        b.create().fails(1, &[kind, "/nonesuch", "no such file or directory"]);
        b.assert_gone();
    }
}

#[test]
fn a_failing_poststop_is_a_warning() {
    needs_root!();
    let b = Bundle::new("poststop");
    b.args(&["true"]).host_hook("poststop", "exit 1").host_hook("poststop", &format!("touch {}", b.path("second").display()));
    b.run().ok();
    assert!(b.path("second").exists());
    b.assert_gone();
}

#[test]
fn hooks_run_where_they_should() {
    needs_root!();
    let b = Bundle::new("hookns");
    let log = b.path("log");
    fs::write(&log, "").unwrap();
    let note = |kind: &str, to: &str| json!({"path": "/bin/sh", "args": ["sh", "-c", format!("echo {kind} $(readlink /proc/self/ns/mnt) >> {to}")], "env": ["PATH=/usr/bin:/bin"]});
    b.bind(&log, "/log", &[]).sh("echo program $(readlink /proc/self/ns/mnt) >> /log");
    for kind in ["prestart", "createRuntime", "createContainer"] {
        b.hook(kind, note(kind, log.to_str().unwrap()));
    }
    b.hook("startContainer", note("startContainer", "/log")).run().ok();
    let text = fs::read_to_string(&log).unwrap();
    let namespace = |kind: &str| text.lines().find_map(|l| l.strip_prefix(&format!("{kind} "))).unwrap_or_else(|| panic!("no {kind}: {text}")).to_string();
    let here = fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string();
    assert_eq!([namespace("prestart"), namespace("createRuntime")], [here.clone(), here.clone()]);
    let inside = namespace("program");
    assert_ne!(inside, here);
    assert_eq!([namespace("createContainer"), namespace("startContainer")], [inside.clone(), inside]);
}

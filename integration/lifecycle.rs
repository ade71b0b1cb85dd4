//! Every verb in every state, and what callers see of it: exit codes, words, files, JSON (docs/callers.md; runtime.md).

mod support;

use serde_json::{Value, json};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::{Duration, Instant};
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

// ---- run

#[test]
fn run_returns_the_program_s_status() {
    needs_root!();
    let b = Bundle::new("codes");
    for code in [0, 1, 7, 127, 255] {
        b.sh(&format!("exit {code}")).run().code(code);
    }
    b.assert_gone();
}

#[test]
fn run_returns_128_and_the_signal() {
    needs_root!();
    let b = Bundle::new("signalled");
    // The first process of a pid namespace would take KILL only.
    b.sleeps().without_namespace("pid");
    for (name, number) in [("KILL", 9), ("SEGV", 11), ("TERM", 15)] {
        let mut running = b.spawn(&["run", &b.id], |_| {});
        b.await_running();
        b.kill(name).ok();
        running.wait(LIMIT).code(128 + number);
    }
    b.assert_gone();
}

trait AwaitRunning {
    fn await_running(&self);
}

impl AwaitRunning for Bundle {
    fn await_running(&self) {
        eventually("running", || (self.verb(&["state"]).code == 0 && self.status() == "running").then_some(()));
    }
}

#[test]
fn run_of_what_exits_at_once_50_times() {
    needs_root!();
    let b = Bundle::new("atonce");
    b.sh("exit 3");
    (0..50).for_each(|_| {
        b.run().code(3);
    });
    b.assert_gone();
}

#[test]
fn run_passes_output_and_input() {
    needs_root!();
    let b = Bundle::new("stdio");
    b.sh("cat; echo to stderr >&2");
    let got = b.call_with_input(&["run", &b.id], "to stdin\n");
    assert_eq!((got.code, got.out.as_str(), got.err.as_str()), (0, "to stdin\n", "to stderr\n"));
}

#[test]
fn run_forwards_signals() {
    needs_root!();
    let b = Bundle::new("forward");
    b.sh("trap 'echo term; exit 4' TERM; trap 'echo usr1' USR1; echo ready; while :; do usleep 5000; done");
    let mut running = b.spawn(&["run", &b.id], |_| {});
    b.await_printed("ready");
    running.signal(libc::SIGUSR1);
    b.await_printed("usr1");
    running.signal(libc::SIGTERM);
    running.wait(LIMIT).code(4);
}

#[test]
fn run_detached_leaves_it_running() {
    needs_root!();
    let b = Bundle::new("detach");
    b.sleeps().verb(&["run", "-d", "--pid-file", "pid"]).ok();
    assert_eq!(fs::read_to_string(b.path("pid")).unwrap(), b.pid().to_string());
    assert_eq!(b.status(), "running");
}

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
fn keep_keeps() {
    needs_root!();
    let b = Bundle::new("keep");
    b.sh("exit 5").verb(&["run", "--keep"]).code(5);
    assert_eq!(b.status(), "stopped");
    b.delete().ok();
    b.assert_gone();
}

#[test]
fn sixteen_at_once() {
    needs_root!();
    std::thread::scope(|scope| {
        let each = |n: i32| {
            let b = Bundle::new(&format!("many{n}"));
            b.sh(&format!("echo {n}; exit {n}"));
            let got = b.run();
            assert_eq!((got.code, got.out), (n, format!("{n}\n")), "{}", got.err);
        };
        let all: Vec<_> = (0..16).map(|n| scope.spawn(move || each(n))).collect();
        all.into_iter().for_each(|t| t.join().unwrap());
    });
}

#[test]
fn sixteen_with_one_root_and_one_bundle() {
    needs_root!();
    let b = Bundle::new("shared");
    b.sh("exit 9");
    let ids: Vec<String> = (0..16).map(|n| b.another_id(&n.to_string())).collect();
    let mut all: Vec<Running> = ids.iter().map(|id| b.spawn(&["run", id], |_| {})).collect();
    all.iter_mut().for_each(|r| {
        r.wait(LIMIT).code(9);
    });
    b.assert_gone();
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

#[test]
fn later_changes_of_the_bundle_have_no_effect() {
    needs_root!();
    let b = Bundle::new("frozen");
    b.sh("echo first").create().ok();
    b.write_config(b"{}");
    b.start().ok();
    b.await_printed("first");
}

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

// ---- exec

#[test]
fn exec_returns_the_program_s_status() {
    needs_root!();
    let b = Bundle::new("execcodes");
    b.sleeps().up();
    for code in [0, 1, 127, 255] {
        b.exec_sh(&format!("exit {code}")).code(code);
    }
    b.exec_sh("kill -9 $$").code(137);
    b.exec_sh("kill -TERM $$").code(143);
    (0..20).for_each(|_| {
        b.exec(&["true"]).ok();
    });
}

#[test]
fn exec_s_failure_is_255_without_a_pid_file() {
    needs_root!();
    let b = Bundle::new("execfail");
    b.sleeps().up();
    fs::write(b.rootfs("plain"), "text").unwrap();
    for (program, words) in [
        ("nonesuch", "executable file not found in $PATH"),
        ("/nonesuch", "no such file or directory"),
        ("/plain", "permission denied"),
        ("/tmp", "is a directory"),
    ] {
        for flags in [&["--pid-file", "p"][..], &["--detach", "--pid-file", "p"]] {
            b.exec_with(flags, &[program]).fails(255, &["exec failed: ", words]);
            assert!(!b.path("p").exists(), "{program} {flags:?}");
        }
    }
    b.exec_with(&["--cwd", "/nonesuch"], &["true"]).fails(255, &["exec failed: ", "/nonesuch"]);
}

#[test]
fn exec_s_flags() {
    needs_root!();
    let b = Bundle::new("execflags");
    b.sleeps().up();
    assert_eq!(
        b.exec_with(&["--env", "A=b c", "-e", "D=e"], &["sh", "-c", "echo $A-$D-$PATH"]).ok(),
        "b c-e-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    );
    assert_eq!(b.exec_with(&["--cwd", "/tmp"], &["pwd"]).ok(), "/tmp");
    assert_eq!(b.exec_with(&["--user", "1000:100"], &["sh", "-c", "id -u; id -g"]).ok(), "1000\n100");
    assert_eq!(b.exec_with(&["-u", "1000"], &["sh", "-c", "echo $HOME"]).ok(), "/home/user");
    assert_eq!(b.exec_with(&["-g", "77", "--additional-gids", "78"], &["id", "-G"]).ok(), "0 77 78");
    let status = b.exec_with(&["--cap", "CAP_SYS_PTRACE", "--no-new-privs"], &["cat", "/proc/self/status"]);
    let effective = u64::from_str_radix(&status_field(status.ok(), "CapEff"), 16).unwrap();
    assert!(effective & 1 << 19 != 0, "{effective:x}");
    assert_eq!(status_field(status.ok(), "NoNewPrivs"), "1");
}

#[test]
fn exec_is_in_the_container() {
    needs_root!();
    let b = Bundle::new("execns");
    b.set("/hostname", json!("inside")).sleeps().up();
    assert_eq!(b.exec(&["hostname"]).ok(), "inside");
    let of = |pid: &str, ns: &str| fs::read_link(format!("/proc/{pid}/ns/{ns}")).unwrap().display().to_string();
    for ns in ["mnt", "pid", "net", "ipc", "uts"] {
        let inside = b.exec(&["readlink", &format!("/proc/self/ns/{ns}")]).ok().to_string();
        assert_eq!(inside, of(&b.pid().to_string(), ns));
        assert_ne!(inside, of("self", ns));
    }
    let init = fs::read_to_string(format!("/proc/{}/cgroup", b.pid())).unwrap();
    let mut detached = b.spawn(&["exec", &b.id, "sleep", "1000"], |_| {});
    eventually("two", || (b.verb(&["ps", "--format=json"]).json().as_array().unwrap().len() == 2).then_some(()));
    let pids = b.verb(&["ps", "--format=json"]).json();
    for pid in pids.as_array().unwrap() {
        assert_eq!(fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap(), init);
    }
    detached.signal(libc::SIGTERM);
    detached.wait(LIMIT).code(143);
}

#[test]
fn exec_takes_a_process_file() {
    needs_root!();
    let b = Bundle::new("process");
    b.sleeps().up();
    let process = json!({"args": ["sh", "-c", "echo $X; pwd; id -u"], "cwd": "/tmp", "env": ["X=y", "PATH=/bin"], "user": {"uid": 5, "gid": 6}});
    fs::write(b.path("process.json"), process.to_string()).unwrap();
    assert_eq!(b.call(&["exec", "--process", "process.json", &b.id]).ok(), "y\n/tmp\n5");
    fs::write(b.path("process.json"), r#"{"args": 7}"#).unwrap();
    b.call(&["exec", "--process", "process.json", &b.id]).fails(255, &["args"]);
}

#[test]
fn exec_detached_writes_its_pid() {
    needs_root!();
    let b = Bundle::new("execd");
    b.sleeps().up();
    b.exec_with(&["--detach", "--pid-file", "p"], &["sleep", "999"]).ok();
    let pid = fs::read_to_string(b.path("p")).unwrap();
    assert!(pid.bytes().all(|c| c.is_ascii_digit()), "{pid:?}");
    eventually("its program", || fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().contains("999").then_some(()));
}

#[test]
fn exec_ignores_a_pause_where_told() {
    needs_root!();
    let b = Bundle::new("execpause");
    b.sleeps().up().verb(&["pause"]).ok();
    b.exec(&["true"]).fails(255, &["exec failed", "paused"]);
    let mut running = b.spawn(&["exec", "--ignore-paused", &b.id, "sh", "-c", "exit 6"], |_| {});
    std::thread::sleep(Duration::from_millis(100));
    b.verb(&["resume"]).ok();
    running.wait(LIMIT).code(6);
}

#[test]
fn many_execs_at_once() {
    needs_root!();
    let b = Bundle::new("execmany");
    b.sleeps().up();
    let mut all: Vec<Running> = (0..12).map(|n| b.spawn(&["exec", &b.id, "sh", "-c", &format!("exit {n}")], |_| {})).collect();
    all.iter_mut().enumerate().for_each(|(n, r)| {
        r.wait(LIMIT).code(n as i32);
    });
    assert_eq!(b.status(), "running");
}

#[test]
fn exec_in_a_container_that_stops_ends() {
    needs_root!();
    let b = Bundle::new("execstop");
    b.sleeps().up();
    let mut running = b.spawn(&["exec", &b.id, "sleep", "1000"], |_| {});
    // The joiner is in the cgroup before it is in the container; it must have become the program.
    let sleeps = |pid: &serde_json::Value| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "sleep");
    eventually("two", || (b.verb(&["ps", "--format=json"]).json().as_array().unwrap().iter().filter(|pid| sleeps(pid)).count() == 2).then_some(()));
    b.kill("KILL").ok();
    running.wait(LIMIT).code(137);
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

// ---- hooks

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

// ---- descriptors and systemd

#[test]
fn preserve_fds_passes_them() {
    needs_root!();
    let b = Bundle::new("preserve");
    fs::write(b.path("three"), "of three").unwrap();
    let file = fs::File::open(b.path("three")).unwrap();
    let fd = file.as_raw_fd();
    b.sh("cat <&3; ls /proc/self/fd");
    let got = b.call_with(&["run", "--preserve-fds", "1", &b.id], |c| give_fd(c, fd, 3));
    assert!(got.ok().starts_with("of three"), "{got:?}");
    let got = b.call_with(&["run", &b.id], |c| give_fd(c, fd, 3));
    assert!(!got.out.contains("of three"), "{got:?}");
    b.sleeps().up();
    let file = fs::File::open(b.path("three")).unwrap();
    let got = b.call_with(&["exec", "--preserve-fds=1", &b.id, "sh", "-c", "cat <&3"], |c| give_fd(c, file.as_raw_fd(), 3));
    assert_eq!(got.ok(), "of three");
}

#[test]
fn preserve_fds_of_a_closed_one_fails() {
    needs_root!();
    let b = Bundle::new("preservebad");
    b.args(&["true"]).verb(&["run", "--preserve-fds", "900"]).fails(1, &["fd"]);
    b.assert_gone();
}

#[test]
fn listen_fds_are_passed() {
    needs_root!();
    let b = Bundle::new("listen");
    let listener = UnixListener::bind(b.path("listener")).unwrap();
    b.sh("echo $LISTEN_FDS $LISTEN_PID $$ $LISTEN_FDNAMES; readlink /proc/self/fd/3");
    let got = b.call_with(&["run", &b.id], |c| {
        give_fd(c, listener.as_raw_fd(), 3);
        c.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "web");
    });
    assert!(got.ok().starts_with("1 1 1 web\nsocket:["), "{got:?}");
}

#[test]
fn notify_socket_is_relayed() {
    needs_root!();
    let b = Bundle::new("notify");
    let socket = UnixDatagram::bind(b.path("notify.sock")).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    b.env("NOTIFY_SOCKET", b.path("notify.sock").to_str().unwrap());
    b.sh("test -S $NOTIFY_SOCKET || exit 9; echo ready to say; sleep 1000");
    b.create().ok();
    let mut start = b.spawn(&["start", &b.id], |_| {});
    b.await_printed("ready to say");
    assert!(start.child.try_wait().unwrap().is_none(), "start waits for READY=1");
    let inside = fs::read_to_string(format!("/proc/{}/environ", b.pid())).unwrap();
    let path = inside.split('\0').find_map(|v| v.strip_prefix("NOTIFY_SOCKET=")).unwrap();
    UnixDatagram::unbound().unwrap().send_to(b"STATUS=up\nREADY=1\n", format!("/proc/{}/root{path}", b.pid())).unwrap();
    let mut buf = [0u8; 512];
    let n = socket.recv(&mut buf).unwrap();
    let said = String::from_utf8_lossy(&buf[..n]).into_owned();
    assert!(said.lines().any(|l| l == "READY=1") && said.contains(&format!("MAINPID={}", b.pid())), "{said:?}");
    start.wait(LIMIT).ok();
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
fn a_run_is_quick() {
    needs_root!();
    let b = Bundle::new("quick");
    b.args(&["true"]).run().ok();
    let start = Instant::now();
    b.run().ok();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

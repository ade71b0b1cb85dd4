//! `exec`: exit codes, flags, where it runs, and what it leaves.

mod support;

use serde_json::json;
use std::fs;
use std::process::Command;
use std::time::Duration;
use support::*;

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
            let said = b.exec_with(flags, &[program]);
            said.fails(255, &["exec failed: unable to start container process: ", words]);
            assert_eq!(said.err.matches("exec failed").count(), 1, "{}", said.err);
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
fn debug_tells_what_is_done() {
    needs_root!();
    let b = Bundle::new("debug");
    b.set("/process/execCPUAffinity", json!({"initial": "0", "final": "0"})).host_hook("createRuntime", "true").sleeps();
    let said = b.verb(&["--debug", "run", "--detach"]).succeeds().err;
    let pid = b.pid();
    // Names that those who know runc's log may look for.
    let names = ["nsexec container setup", "child process in init()", "init: closing the pipe to signal completion"];
    for words in names.into_iter().chain(["mount proc on /proc", "running createRuntime hook #0: ", &format!("process {pid} has executed its program")]) {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
    let said = b.call(&["--debug", "exec", &b.id, "true"]).succeeds().err;
    let names = ["nsexec container setup", "nsexec: affinity: 0x1)", "child process in init()", "setns_init: about to exec"];
    for words in names.into_iter().chain(["run on CPUs [0] before joining the cgroup", "run on CPUs [0] from now", "has executed its program"]) {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
    assert!(said.lines().all(|line| line.contains("level=debug")), "{said}");
}

/// The process that joined the pid namespace forks and is slow to say whom; what its child has to say, the terminal,
/// must not come before that.
#[test]
fn exec_s_second_process_waits_until_it_is_known() {
    needs_root!();
    if Command::new("strace").args(["-o", "/dev/null", "true"]).status().map_or(true, |s| !s.success()) {
        println!("skipped: exec_s_second_process_waits_until_it_is_known: strace is not installed, or may not trace");
        return;
    }
    let b = Bundle::new("slowfork");
    b.sleeps().up();
    let mut words: Vec<String> = ["strace", "-f", "-o", "trace", "-e", "inject=clone3:delay_exit=300000"].map(String::from).to_vec();
    words.extend(b.words(&["exec", "--tty", &b.id, "echo", "here"]));
    let said = b.any(&words);
    assert!(said.ok().contains("here"), "{said:?}");
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

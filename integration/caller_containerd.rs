//! containerd on dhow, through its own client `ctr`.

mod callers;
mod support;

use callers::containerd::{Containerd, installed_runtime};
use callers::{LIMIT, await_true};
use std::sync::OnceLock;

fn containerd() -> &'static Containerd {
    static CONTAINERD: OnceLock<Containerd> = OnceLock::new();
    CONTAINERD.get_or_init(|| Containerd::new("containerd"))
}

const SLEEP: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";

/// A task in the background, gone when dropped.
struct Task(&'static str);

impl Task {
    #[track_caller]
    fn up(id: &'static str, options: &[&str]) -> Task {
        let mut all = vec!["-d"];
        all.extend(options);
        containerd().run(&all, id, SLEEP).ok();
        let task = Task(id);
        assert_eq!(task.status(), "RUNNING");
        task
    }

    fn status(&self) -> String {
        let listed = containerd().ok(&["task", "ls"]);
        listed.lines().find_map(|l| l.strip_prefix(self.0)).map_or_else(String::new, |l| l.split_whitespace().nth(1).unwrap().to_string())
    }

    #[track_caller]
    fn exec(&self, script: &str) -> support::Outcome {
        containerd().ctr(&["task", "exec", "--exec-id", "exec", self.0, "sh", "-c", script])
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let c = containerd();
        c.ctr(&["task", "rm", "-f", self.0]);
        c.ctr(&["container", "rm", self.0]);
    }
}

#[test]
fn run_prints_and_exits() {
    needs_caller!("containerd", "ctr");
    let c = containerd();
    assert_eq!(c.run(&["--rm"], "prints", "echo out; id -u").ok(), "out\n0");
    c.run(&["--rm"], "exits", "exit 7").code(7);
    assert_eq!(c.run(&["--rm", "--env", "A=b c", "--cwd", "/www"], "env", "echo $A; pwd").ok(), "b c\n/www");
    assert_eq!(c.run(&["--rm", "--net-host"], "nethost", "readlink /proc/self/ns/net").ok(), c.machine.sh("readlink /proc/self/ns/net").ok());
    c.run(&["--rm", "--memory-limit", "8000000"], "hungry", "tail /dev/zero; exit $?").code(137);
    assert_eq!(c.run(&["--rm", "--read-only"], "ro", "touch /x 2>&1 || true").ok(), "touch: /x: Read-only file system");
    assert_eq!(c.run(&["--rm", "--seccomp"], "seccomp", "grep '^Seccomp:' /proc/self/status | cut -f 2").ok(), "2");
}

#[test]
fn a_failing_start_says_why() {
    needs_caller!("containerd", "ctr");
    let c = containerd();
    let fails = |id: &str, program: &str, words: &str| {
        let binary = installed_runtime();
        c.ctr(&["run", "--rm", "--runc-binary", &binary, "example.com/busybox:1", id, program]).fails(1, &["OCI runtime create failed", words]);
    };
    fails("fail1", "nosuch", "executable file not found in $PATH");
    fails("fail2", "/not-executable", "permission denied");
    fails("fail3", "/no/such", "no such file or directory");
    assert!(!c.ok(&["task", "ls"]).contains("fail"));
}

#[test]
fn a_task_from_start_to_end() {
    needs_caller!("containerd", "ctr");
    let c = containerd();
    let task = Task::up("life", &[]);
    assert_eq!(task.exec("echo in; exit 0").ok(), "in");
    task.exec("exit 9").code(9);
    assert!(c.ok(&["task", "ps", "life"]).lines().count() >= 2);
    let metrics = c.ok(&["task", "metrics", "life"]);
    assert!(metrics.lines().any(|l| l.starts_with("pids.current") && !l.ends_with(" 0")), "{metrics}");
    assert!(metrics.lines().any(|l| l.starts_with("memory.usage_in_bytes") && !l.ends_with(" 0")), "{metrics}");
    c.ok(&["task", "pause", "life"]);
    assert_eq!(task.status(), "PAUSED");
    c.ok(&["task", "resume", "life"]);
    assert_eq!(task.status(), "RUNNING");
    // refused in words, and the task goes on
    c.ctr(&["task", "checkpoint", "life"]).fails(1, &["checkpoint"]);
    assert_eq!(task.status(), "RUNNING");
    c.ok(&["task", "kill", "-s", "SIGTERM", "life"]);
    await_true("the end", LIMIT, || task.status() == "STOPPED", || c.ok(&["task", "ls"]));
    let deleted = c.ctr(&["task", "delete", "life"]);
    assert!(deleted.err.contains("code 3") || deleted.code == 3, "{deleted:?}");
}

#[test]
fn kill_all_ends_every_process() {
    needs_caller!("containerd", "ctr");
    let c = containerd();
    let task = Task::up("all", &[]);
    c.ok(&["task", "exec", "-d", "--exec-id", "other", "all", "sleep", "1000"]);
    c.ok(&["task", "kill", "--all", "-s", "SIGKILL", "all"]);
    await_true("the end", LIMIT, || task.status() == "STOPPED", || c.ok(&["task", "ls"]));
}

#[test]
fn nothing_is_left_behind() {
    needs_caller!("containerd", "ctr");
    let c = Containerd::new("ctrleaks");
    c.run(&["--rm"], "first", "true").ok();
    let before = c.machine.census();
    c.run(&["--rm"], "x1", "exit 2").code(2);
    c.run(&["--rm", "--mount", "type=bind,src=/dev/null,dst=/etc,options=bind"], "x2", "true").code(1);
    c.run(&["-d"], "x3", SLEEP).ok();
    c.ok(&["task", "kill", "-s", "SIGKILL", "x3"]);
    await_true("x3's end", LIMIT, || c.ok(&["task", "ls"]).contains("STOPPED"), || c.ok(&["task", "ls"]));
    c.ctr(&["task", "rm", "x3"]);
    c.ok(&["container", "rm", "x3"]);
    await_true("no remains", LIMIT, || c.machine.census() == before, || format!("before: {before:#?}\nafter: {:#?}", c.machine.census()));
}

//! Docker's engine on dhow: what its tutorials do with a container from `run` to `rm`.

mod callers;
mod support;

use callers::docker::Docker;
use callers::{LIMIT, await_true};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use support::{patience, wait};

/// One engine for all tests here; it goes with this process.
fn docker() -> &'static Docker {
    static DOCKER: OnceLock<Docker> = OnceLock::new();
    DOCKER.get_or_init(|| Docker::new("docker"))
}

const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

// ---- the engine's own view

#[test]
fn the_engine_knows_its_runtime() {
    needs_caller!("dockerd");
    let info = docker().run(&["info", "--format", "{{json .}}"]).json();
    assert_eq!(info["DefaultRuntime"], callers::docker::runtime_name());
    assert!(info["Warnings"].as_array().is_none_or(|w| !w.iter().any(|w| w.as_str().unwrap().contains("runtime"))), "{info}");
}

// ---- in the foreground

#[test]
fn run_prints_and_exits() {
    needs_caller!("dockerd");
    let d = docker();
    assert_eq!(d.sh(&[], "echo out; echo err >&2").ok(), "out");
    d.sh(&[], "exit 7").code(7);
    d.sh(&[], "sh -c 'kill -9 $$'; exit $?").code(137);
}

#[test]
fn standard_input_is_the_callers() {
    needs_caller!("dockerd");
    let mut command = docker().command(&["run", "--rm", "-i", "busybox", "sh", "-c", "wc -c"]);
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &[b'x'; 100_000]).unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said.trim(), "100000");
    assert!(wait(&mut child, LIMIT).unwrap().success());
}

#[test]
fn a_shell_at_a_terminal() {
    needs_caller!("dockerd");
    let (mut child, mut terminal) = docker().at_terminal(&["run", "--rm", "-it", "busybox", "sh"]);
    terminal.type_in("tty\n");
    terminal.expect("/dev/pts/0");
    // the client tells the engine of a size on its own time
    for (rows, columns) in [(30, 90), (44, 111)] {
        terminal.resize(rows, columns);
        let end = Instant::now() + LIMIT * patience();
        loop {
            terminal.type_in("echo no''w=$(stty size 2>&1).\n");
            terminal.expect("now=");
            if terminal.expect(".").contains(&format!("{rows} {columns}")) {
                break;
            }
            assert!(Instant::now() < end, "{rows} x {columns} did not arrive");
        }
    }
    // by then the shell has made it the terminal's foreground
    terminal.type_in("sh -c \"echo go''es; exec sleep 100\"\n");
    terminal.expect("goes");
    terminal.type_in("\u{3}");
    terminal.type_in("echo interr''upted; exit 5\n");
    terminal.expect("interrupted");
    assert_eq!(wait(&mut child, LIMIT).unwrap().code(), Some(5));
}

/// The drop-in contract: strings and exit codes that Docker matches on.
#[test]
fn failing_starts() {
    needs_caller!("dockerd");
    let d = docker();
    let fails = |args: &[&str], code: i32, words: &str| {
        let mut all = vec!["run", "--rm"];
        all.extend(args);
        d.run(&all).fails(code, &[words]);
    };
    fails(&["busybox", "nosuch"], 127, "executable file not found in $PATH");
    fails(&["busybox", "/no/such"], 127, "no such file or directory");
    fails(&["busybox", "/not-executable"], 126, "permission denied");
    fails(&["busybox", "/etc"], 126, "permission denied");
    fails(&["-w", "/etc/passwd", "busybox", "true"], 125, "not a directory");
    fails(&["--user", "nobody-here", "busybox", "true"], 125, "no matching entries in passwd file");
    fails(&["-v", "/dev/null:/etc:ro", "busybox", "true"], 125, "not a directory");
    fails(&["--sysctl", "kernel.nosuch=1", "busybox", "true"], 125, "kernel.nosuch");
    // as little as Docker takes; then the container has no room to start in
    let starved = d.run(&["run", "--rm", "-m", "6m", "busybox", "sh", "-c", "exec tail /dev/zero"]);
    starved.code(137);
}

// ---- in the background

#[test]
fn a_published_page() {
    needs_caller!("dockerd", "curl");
    let d = docker();
    let c = d.up("web", &["-p", "8080:80"], "exec httpd -f -p 80 -h /www");
    let page = || d.machine.get("http://127.0.0.1:8080/");
    await_true("the page", LIMIT, || page().is_some(), || c.logs());
    assert_eq!(page().unwrap(), "the page\n");
    let listed = d.ok(&["ps", "--format", "{{.Names}} {{.Image}} {{.Ports}} {{.Status}}"]);
    assert!(listed.lines().any(|l| l.starts_with("web busybox 0.0.0.0:8080->80/tcp") && l.contains("Up")), "{listed}");
    assert_eq!(d.ok(&["port", "web"]).lines().next().unwrap(), "80/tcp -> 0.0.0.0:8080");
}

#[test]
fn from_run_to_rm() {
    needs_caller!("dockerd");
    let d = docker();
    let c = d.up("life", &[], &format!("echo started; {SLEEP}"));
    await_true("its log", LIMIT, || c.logs() == "started\n", || c.logs());
    assert_eq!(c.state()["Status"], "running");
    assert_eq!(c.exec("echo in; exit 3").code(3).out, "in\n");

    let top = d.ok(&["top", "life"]);
    assert!(top.contains("sh -c echo started"), "{top}");
    let stats = d.ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", "life"]);
    assert!(stats.starts_with("life ") && !stats.contains(" 0 ") && !stats.contains(" 0B"), "{stats}");

    d.ok(&["pause", "life"]);
    assert_eq!(c.state()["Status"], "paused");
    c.exec("true").fails(1, &["is paused"]);
    d.ok(&["unpause", "life"]);
    assert_eq!(c.state()["Status"], "running");

    d.ok(&["restart", "-t", "5", "life"]);
    assert_eq!(c.state()["Status"], "running");
    await_true("its second log", LIMIT, || c.logs() == "started\nstarted\n", || c.logs());

    d.ok(&["stop", "life"]);
    assert_eq!(c.state()["Status"], "exited");
    assert_eq!(c.state()["ExitCode"], 0, "TERM was heard");
    assert!(d.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]).contains("life Exited (0)"));
    c.exec("true").fails(1, &["is not running"]);
    d.ok(&["start", "life"]);
    assert_eq!(c.state()["Status"], "running");
    d.run(&["rm", "life"]).fails(1, &["You cannot remove a running container"]);
    d.ok(&["rm", "-f", "life"]);
    d.run(&["inspect", "life"]).fails(1, &["No such object"]);
}

#[test]
fn stop_kills_what_does_not_hear() {
    needs_caller!("dockerd");
    let d = docker();
    let c = d.up("deaf", &[], "trap '' TERM; while :; do sleep 0.1; done");
    let begin = Instant::now();
    d.ok(&["stop", "-t", "1", "deaf"]);
    assert!(begin.elapsed() < Duration::from_secs(15) * patience(), "{:?}", begin.elapsed());
    assert_eq!(c.state()["ExitCode"], 137);
}

#[test]
fn signals_and_wait() {
    needs_caller!("dockerd");
    let d = docker();
    let c = d.up("signals", &[], "trap 'echo usr1' USR1; trap 'exit 9' HUP; echo ready; while :; do sleep 0.05; done");
    await_true("its traps", LIMIT, || c.logs().contains("ready"), || c.logs());
    d.ok(&["kill", "-s", "USR1", "signals"]);
    await_true("the signal", LIMIT, || c.logs().contains("usr1"), || c.logs());
    d.ok(&["kill", "-s", "HUP", "signals"]);
    assert_eq!(d.ok(&["wait", "signals"]), "9");
    d.run(&["kill", "signals"]).fails(1, &["is not running"]);
}

#[test]
fn update_changes_the_limits() {
    needs_caller!("dockerd");
    let d = docker();
    let _c = d.up("update", &["--memory", "64m", "--cpus", "0.5"], SLEEP);
    let file = |controller: &str, file: &str| {
        let id = d.inspect("update")["Id"].as_str().unwrap().to_string();
        d.machine.sh(&format!("cat /sys/fs/cgroup/{controller}/docker/{id}/{file}")).ok().to_string()
    };
    assert_eq!(file("memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(file("cpu", "cpu.cfs_quota_us"), "50000");
    d.ok(&["update", "--memory", "96m", "--memory-swap", "96m", "--cpus", "1.5", "--cpuset-cpus", "0", "--pids-limit", "50", "update"]);
    assert_eq!(file("memory", "memory.limit_in_bytes"), "100663296");
    assert_eq!(file("cpu", "cpu.cfs_quota_us"), "150000");
    assert_eq!(file("cpuset", "cpuset.cpus"), "0");
    assert_eq!(file("pids", "pids.max"), "50");
}

#[test]
fn files_go_in_and_out() {
    needs_caller!("dockerd");
    let d = docker();
    let c = d.up("copies", &[], SLEEP);
    d.machine.sh("mkdir -p /root/in && echo data >/root/in/file").ok();
    d.ok(&["cp", "/root/in", "copies:/tmp/"]);
    assert_eq!(c.exec("cat /tmp/in/file").ok(), "data");
    c.exec("echo back >/tmp/out").ok();
    d.ok(&["cp", "copies:/tmp/out", "/root/out"]);
    assert_eq!(d.machine.sh("cat /root/out").ok(), "back");
    let changed = d.ok(&["diff", "copies"]);
    assert!(changed.lines().any(|l| l == "A /tmp/in/file"), "{changed}");
    let image = d.ok(&["commit", "copies", "committed"]);
    assert!(image.starts_with("sha256:"));
    assert_eq!(d.ok(&["run", "--rm", "committed", "cat", "/tmp/out"]), "back");
}

#[test]
fn the_engine_hears_of_out_of_memory() {
    needs_caller!("dockerd");
    let d = docker();
    let mut events = d.events(&["--filter", "container=hungry", "--filter", "event=oom"]);
    let mut heard = BufReader::new(events.stdout.take().unwrap());
    d.run(&["run", "--name", "hungry", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", "tail /dev/zero; echo over; sleep 1; exit 4"]);
    let mut line = String::new();
    heard.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "oom hungry");
    assert_eq!(d.inspect("hungry")["State"]["OOMKilled"], json!(true));
    let _ = events.kill();
    let _ = events.wait();
    d.ok(&["rm", "-f", "hungry"]);
}

// ---- exec

#[test]
fn exec_with_its_options() {
    needs_caller!("dockerd");
    let d = docker();
    let c = d.up("execs", &[], SLEEP);
    let exec = |options: &[&str], script: &str| {
        let mut args = vec!["exec"];
        args.extend(options);
        args.extend(["execs", "sh", "-c", script]);
        d.run(&args)
    };
    assert_eq!(exec(&["-u", "user"], "id -un; id -Gn").ok(), "user\nuser extra");
    assert_eq!(exec(&["-u", "1"], "id -u").ok(), "1");
    assert_eq!(exec(&["-w", "/www"], "pwd").ok(), "/www");
    assert_eq!(exec(&["-e", "A=b c"], "echo $A").ok(), "b c");
    exec(&["-d"], "echo done >/tmp/detached").ok();
    await_true("the detached exec", LIMIT, || c.exec("cat /tmp/detached").out == "done\n", String::new);
    exec(&[], "kill -9 $$").code(137);
    // 20.10's daemon says 126 whatever the failure
    let not_executed = |args: &[&str], words: &str| {
        let mut all = vec!["exec"];
        all.extend(args);
        let said = d.run(&all);
        assert!(matches!(said.code, 126 | 127) && said.out.contains(words), "{said:?}");
        assert_eq!(said.out.matches("exec failed: ").count(), 2, "the engine's, and the runtime's: {said:?}");
    };
    not_executed(&["execs", "nosuch"], "executable file not found in $PATH");
    not_executed(&["execs", "/not-executable"], "permission denied");
    not_executed(&["-w", "/etc/passwd", "execs", "true"], "not a directory");

    let (mut child, mut terminal) = d.at_terminal(&["exec", "-it", "execs", "sh"]);
    terminal.type_in("tty; exit 6\n");
    terminal.expect("/dev/pts/");
    assert_eq!(wait(&mut child, LIMIT).unwrap().code(), Some(6));
}

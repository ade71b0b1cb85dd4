//! `run`: exit codes, signals, many at once; and the descriptors that a container is given.

mod support;

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::{Duration, Instant};
use support::*;

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

/// Both are the parent's work: the cgroup that the child joins, and the bind that it asks for.
#[test]
fn a_bind_may_come_before_the_cgroups_in_a_user_namespace() {
    needs_root!();
    let b = Bundle::new("bindfirst");
    b.userns(100_000).sh("cat /mnt/word").remove("/mounts");
    let source = b.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("word"), "read").unwrap();
    b.mount("proc", "proc", "/proc", &[]).bind(&source, "/mnt", &[]).mount("cgroup", "cgroup", "/sys/fs/cgroup", &["ro"]);
    assert_eq!(b.run().ok(), "read");
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
    // a receive with a timeout is cut short by a frozen or stopped machine: try again
    let n = eventually("READY=1 on the host's socket", || socket.recv(&mut buf).ok());
    let said = String::from_utf8_lossy(&buf[..n]).into_owned();
    assert!(said.lines().any(|l| l == "READY=1") && said.contains(&format!("MAINPID={}", b.pid())), "{said:?}");
    start.wait(LIMIT).ok();
}

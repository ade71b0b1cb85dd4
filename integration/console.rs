//! Terminals: a pty of ours for the foreground, a socket for what is detached.

mod support;

use serde_json::json;
use std::os::fd::OwnedFd;
use std::time::Duration;
use support::pty::{self, Terminal};
use support::*;

/// The runtime with our terminal as its own; the slave is kept to look at its modes.
fn at_terminal(b: &Bundle, args: &[&str], rows: u16, columns: u16) -> (Running, Terminal, OwnedFd) {
    let (terminal, slave) = pty::open();
    terminal.resize(rows, columns);
    let running = b.spawn(args, |c| pty::sit_at(c, &slave));
    (running, terminal, slave)
}

fn with_terminal(test: &str, script: &str) -> Bundle {
    let b = Bundle::new(test);
    b.set("/process/terminal", json!(true)).sh(script);
    b
}

// ---- the foreground

#[test]
fn a_shell_at_a_terminal() {
    needs_root!();
    let b = with_terminal("shell", "test -t 0 && test -t 1 && test -t 2 && echo all three; tty; read line; echo read=$line; exit 7");
    let (mut running, mut terminal, _slave) = at_terminal(&b, &["run", &b.id], 24, 80);
    terminal.expect("all three");
    terminal.expect("/dev/pts/0");
    terminal.type_in("typed\n");
    terminal.expect("read=typed");
    running.wait(LIMIT).code(7);
}

#[test]
fn the_size_comes_through_and_follows() {
    needs_root!();
    let b = with_terminal("size", "trap 'echo winch $(stty size)' WINCH; echo first $(stty size); while :; do usleep 10000; done");
    let (mut running, mut terminal, _slave) = at_terminal(&b, &["run", &b.id], 33, 77);
    terminal.expect("first 33 77");
    terminal.resize(44, 99);
    terminal.expect("winch 44 99");
    b.kill("KILL").ok();
    running.wait(LIMIT).code(137);
}

/// The terminal is set up before the program writes, however fast that is.
#[test]
fn newlines_come_as_they_are() {
    needs_root!();
    let b = with_terminal("newlines", "echo first; echo second");
    let printed = |ran: Outcome, text: &str| assert_eq!(ran.out, text, "{ran:?}");
    (0..20).for_each(|_| printed(b.run(), "first\nsecond\n"));
    b.set("/process/terminal", json!(false)).sleeps().up();
    (0..20).for_each(|_| printed(b.exec_with(&["--tty"], &["echo", "first"]), "first\n"));
}

#[test]
fn the_modes_are_restored() {
    needs_root!();
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("stty raw -echo; exit 0", 0)] {
        let b = with_terminal("modes", &format!("echo up; {script}"));
        let (terminal, slave) = pty::open();
        let before = pty::modes(&slave);
        let mut running = b.spawn(&["run", &b.id], |c| pty::sit_at(c, &slave));
        running.wait(LIMIT).code(code);
        assert_eq!(pty::modes(&slave), before, "{script}");
        drop(terminal);
    }
}

#[test]
fn the_terminal_is_raw_meanwhile_and_restored_after_a_kill() {
    needs_root!();
    let b = with_terminal("killed", "echo up; sleep 1000");
    let (mut terminal, slave) = pty::open();
    let before = pty::modes(&slave);
    let mut running = b.spawn(&["run", &b.id], |c| pty::sit_at(c, &slave));
    terminal.expect("up");
    assert_ne!(pty::modes(&slave), before);
    b.kill("KILL").ok();
    running.wait(LIMIT).code(137);
    assert_eq!(pty::modes(&slave), before);
}

#[test]
fn the_modes_are_restored_after_a_failure() {
    needs_root!();
    let b = Bundle::new("modesfail");
    b.set("/process/terminal", json!(true)).args(&["/nonesuch"]);
    let (_terminal, slave) = pty::open();
    let before = pty::modes(&slave);
    let mut running = b.spawn(&["run", &b.id], |c| pty::sit_at(c, &slave));
    running.wait(LIMIT).code(1);
    assert_eq!(pty::modes(&slave), before);
    b.assert_gone();
}

#[test]
fn control_c_reaches_the_program() {
    needs_root!();
    let b = with_terminal("ctrlc", "trap 'echo interrupted; exit 5' INT; echo up; while :; do usleep 10000; done");
    let (mut running, mut terminal, _slave) = at_terminal(&b, &["run", &b.id], 24, 80);
    terminal.expect("up");
    terminal.type_in("\x03");
    terminal.expect("interrupted");
    running.wait(LIMIT).code(5);
}

#[test]
fn all_output_arrives() {
    needs_root!();
    let b = with_terminal("flood", "seq 1 20000; echo the end");
    let (mut running, mut terminal, slave) = at_terminal(&b, &["run", &b.id], 24, 80);
    drop(slave);
    let seen = terminal.rest();
    assert!(seen.contains("19999") && seen.contains("the end"), "{} bytes", seen.len());
    running.wait(LIMIT).code(0);
}

#[test]
fn console_size_is_set_from_the_start() {
    needs_root!();
    let b = with_terminal("csize", "stty size; read x");
    b.set("/process/consoleSize", json!({"height": 12, "width": 34}));
    let socket = pty::socket_in(&b.dir, "c.sock");
    b.verb(&["run", "--detach", "--console-socket", socket.as_str()]).ok();
    let mut terminal = Terminal::of(socket.receive().1);
    terminal.expect("12 34");
    assert_eq!(terminal.size(), (12, 34));
}

#[test]
fn without_a_terminal_of_ours_run_still_works() {
    needs_root!();
    let b = with_terminal("notty", "test -t 1 && echo inside is one; exit 2");
    let got = b.run();
    assert!(got.code(2).out.contains("inside is one"), "{got:?}");
}

#[test]
fn the_console_is_a_device_of_the_container() {
    needs_root!();
    let b =
        with_terminal("device", "stat -c '%t:%T %a' /dev/console; ls -l /proc/self/fd/0; grep /dev/console /proc/self/mountinfo; tty < /dev/console; exit 0");
    let got = b.run();
    assert!(got.code(0).out.contains("/dev/pts/0") && got.out.contains(" /dev/console "), "{got:?}");
}

#[test]
fn the_pty_belongs_to_the_user() {
    needs_root!();
    let b = with_terminal("owner", "stat -c 'owner %u' $(tty); echo > $(tty) && echo writable");
    b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let got = b.run();
    assert!(got.code(0).out.contains("owner 1000") && got.out.contains("writable"), "{got:?}");
}

// ---- the socket

#[test]
fn create_sends_the_master() {
    needs_root!();
    let b = with_terminal("socket", "echo hello; read x; echo got $x; exit 0");
    let socket = pty::socket_in(&b.dir, "c.sock");
    b.verb(&["create", "--console-socket", socket.as_str()]).ok();
    let (_, master) = socket.receive();
    assert!(pty::is_a_pty(&master));
    let mut terminal = Terminal::of(master);
    b.start().ok();
    terminal.expect("hello");
    terminal.type_in("words\n");
    terminal.expect("got words");
    b.await_status("stopped").delete().ok();
}

#[test]
fn exec_with_a_socket() {
    needs_root!();
    let b = Bundle::new("execsock");
    b.sleeps().up();
    let socket = pty::socket_in(&b.dir, "c.sock");
    b.exec_with(&["--tty", "--detach", "--console-socket", socket.as_str(), "--pid-file", "p"], &["sh", "-c", "tty; read x; echo got $x"]).ok();
    let mut terminal = Terminal::of(socket.receive().1);
    terminal.expect("/dev/pts/");
    terminal.type_in("this\n");
    terminal.expect("got this");
}

#[test]
fn exec_at_a_terminal() {
    needs_root!();
    let b = Bundle::new("exectty");
    b.sleeps().up();
    let (mut terminal, slave) = pty::open();
    terminal.resize(20, 60);
    let before = pty::modes(&slave);
    let mut running = b.spawn(&["exec", "-t", &b.id, "sh", "-c", "stty size; read x; exit $x"], |c| pty::sit_at(c, &slave));
    terminal.expect("20 60");
    terminal.type_in("9\n");
    running.wait(LIMIT).code(9);
    assert_eq!(pty::modes(&slave), before);
}

#[test]
fn a_process_file_with_terminal_and_size() {
    needs_root!();
    let b = Bundle::new("procsize");
    b.sleeps().up();
    let process = json!({"terminal": true, "consoleSize": {"height": 15, "width": 45}, "args": ["sh", "-c", "stty size; read x"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    std::fs::write(b.path("process.json"), process.to_string()).unwrap();
    let socket = pty::socket_in(&b.dir, "c.sock");
    b.call(&["exec", "--process", "process.json", "--detach", "--console-socket", socket.as_str(), &b.id]).ok();
    Terminal::of(socket.receive().1).expect("15 45");
}

// ---- what contradicts itself

#[test]
fn a_terminal_detached_without_a_socket() {
    needs_root!();
    let b = with_terminal("nosocket", "true");
    for verb in [&["create"][..], &["run", "--detach"]] {
        b.verb(verb).fails(1, &["cannot allocate tty if runc will detach without setting console socket"]);
        b.assert_gone();
    }
}

#[test]
fn a_socket_without_a_terminal() {
    needs_root!();
    let b = Bundle::new("noterm");
    b.args(&["true"]);
    let socket = pty::socket_in(&b.dir, "c.sock");
    for verb in [&["create"][..], &["run", "--detach"], &["run"]] {
        let mut all = verb.to_vec();
        all.extend(["--console-socket", socket.as_str()]);
        b.verb(&all).fails(1, &["cannot use console socket if runc will not detach or allocate tty"]);
    }
    assert!(!socket.is_called(Duration::from_millis(50)));
    b.assert_gone();
}

#[test]
fn exec_s_contradictions() {
    needs_root!();
    let b = Bundle::new("execwrong");
    b.sleeps().up();
    b.exec_with(&["-t", "-d"], &["true"]).fails(255, &["console socket"]);
    b.exec_with(&["-d", "--console-socket", "c.sock"], &["true"]).fails(255, &["console socket"]);
}

#[test]
fn a_socket_that_isn_t_there() {
    needs_root!();
    let b = with_terminal("nowhere", "true");
    b.verb(&["create", "--console-socket", "/nonesuch/sock"]).fails(1, &["/nonesuch/sock"]);
    b.assert_gone();
}

//! Many at a time: `make test-callers` runs these, `make test` doesn't.

mod callers;
mod support;

use callers::containerd::Containerd;
use callers::docker::Docker;
use callers::{Census, Machine, await_true};
use std::time::Duration;

const CONTAINERS: usize = 200;
const CLIENTS: usize = 8;
const EXECS: usize = 1000;
const AT_A_TIME: usize = 16;

const LONG: Duration = Duration::from_secs(300);

/// `count` calls of `each`, from so many threads.
fn from_threads(threads: usize, count: usize, each: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for first in 0..threads {
            let each = &each;
            scope.spawn(move || (first..count).step_by(threads).for_each(each));
        }
    });
}

#[track_caller]
fn is_as_before(machine: &Machine, before: &Census) {
    await_true("no remains", LONG, || machine.census() == *before, || format!("before: {before:#?}\nafter: {:#?}", machine.census()));
}

#[test]
#[ignore = "make test-callers: minutes of load"]
fn docker_starts_and_removes_200() {
    needs_caller!("dockerd");
    let d = Docker::new("load");
    d.sh(&[], "true").ok();
    let before = d.machine.census();
    let name = |n: usize| format!("load{n}");
    from_threads(CLIENTS, CONTAINERS, |n| {
        d.run_within(LONG, &["run", "-d", "--name", &name(n), "busybox", "sleep", "1000"]).ok();
    });
    assert_eq!(d.run_within(LONG, &["ps", "-q", "--filter", "status=running"]).lines().len(), CONTAINERS);
    from_threads(CLIENTS, CONTAINERS, |n| {
        d.run_within(LONG, &["rm", "-f", &name(n)]).ok();
    });
    is_as_before(&d.machine, &before);
}

#[test]
#[ignore = "make test-callers: minutes of load"]
fn a_thousand_execs_16_at_a_time() {
    needs_caller!("dockerd");
    let d = Docker::new("execs");
    d.sh(&[], "true").ok();
    let before = d.machine.census();
    let c = d.up("target", &[], "exec sleep 1000");
    from_threads(AT_A_TIME, EXECS, |n| {
        let said = d.run_within(LONG, &["exec", "target", "sh", "-c", &format!("echo {n}; exit {}", n % 200)]);
        assert_eq!((said.code, said.out), ((n % 200) as i32, format!("{n}\n")), "{}", said.err);
    });
    assert_eq!(c.exec("ps -o comm= | grep -c sleep").ok(), "1");
    drop(c);
    is_as_before(&d.machine, &before);
}

#[test]
#[ignore = "make test-callers: minutes of load"]
fn containerd_starts_and_removes_200() {
    needs_caller!("containerd", "ctr");
    let c = Containerd::new("ctrload");
    c.run(&["--rm"], "first", "true").ok();
    let before = c.machine.census();
    let name = |n: usize| format!("load{n}");
    from_threads(CLIENTS, CONTAINERS, |n| {
        c.run(&["-d"], &name(n), "exec sleep 1000").ok();
    });
    assert_eq!(c.ok(&["task", "ls"]).matches("RUNNING").count(), CONTAINERS);
    from_threads(CLIENTS, CONTAINERS, |n| {
        c.ok(&["task", "kill", "-s", "SIGKILL", &name(n)]);
        await_true(
            "the end",
            LONG,
            || c.ctr(&["task", "rm", &name(n)]).err.contains("137") || !c.ok(&["task", "ls", "-q"]).lines().any(|l| l == name(n)),
            String::new,
        );
        c.ok(&["container", "rm", &name(n)]);
    });
    is_as_before(&c.machine, &before);
}

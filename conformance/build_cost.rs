//! What a build costs, in numbers that do not depend on the clock: system calls of one that is all cached, memory.
//!
//! A bound is what was measured when it was recorded, and 5 %. When a change makes a build cheaper, lower it; when it must
//! cost more, raise it in the same commit, so that the history tells why.

#[path = "../integration/support/ctl.rs"]
mod ctl;
#[path = "../integration/support/mod.rs"]
mod support;
#[path = "support/trace.rs"]
mod trace;

use ctl::{Scratch, busybox};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::mem::MaybeUninit;
use trace::{Trace, bound, table, total};

/// All but those of the allocator and of locks between threads, which are not the same in every run. It was 239 before
/// dhowctl looked whether it has to enter a user namespace.
const MEASURED_CACHED: usize = 254;
/// For each file that COPY takes from the context.
const MEASURED_FILE: usize = 6;
const MOST_MEMORY_KB: i64 = 60 << 10;

/// The tutorial's Dockerfile: a base, a directory, a list of what is needed, a RUN that brings it, the program.
const DOCKERFILE: &str = "FROM base\nWORKDIR /app\nCOPY requirements.txt .\nRUN /busybox cat requirements.txt > /installed\nCOPY . .\nEXPOSE 5000\n\
    ENV NAME=World\nCMD [\"/busybox\", \"true\"]\n";

/// A base image, and a context with as many other files.
fn site(test: &str, files: usize) -> Scratch {
    let scratch = Scratch::new(test);
    fs::create_dir(scratch.path("base")).unwrap();
    fs::write(scratch.path("base/busybox"), busybox()).unwrap();
    fs::write(scratch.path("base/Dockerfile"), "FROM scratch\nCOPY --chmod=755 busybox /busybox\nCOPY --chmod=755 busybox /bin/sh\n").unwrap();
    scratch.ctl(&["build", "-q", "-t", "base", "base"]).ok();
    fs::create_dir(scratch.path("ctx")).unwrap();
    for (name, text) in [("Dockerfile", DOCKERFILE), ("requirements.txt", "flask\n"), ("app.py", "print('hello')\n"), (".dockerignore", "*.pyc\n")] {
        fs::write(scratch.path("ctx").join(name), text).unwrap();
    }
    (0..files).for_each(|n| fs::write(scratch.path(&format!("ctx/f{n}")), n.to_string()).unwrap());
    scratch
}

/// The calls of a build in which every step was done before, by all threads together.
fn cached(scratch: &Scratch) -> BTreeMap<String, usize> {
    let build = ["build", "-q", "-t", "app", "ctx"];
    let first = scratch.ctl(&build).ok().to_string();
    let mut words: Vec<&str> = vec!["-f", "-o", "trace", env!("CARGO_BIN_EXE_dhowctl")];
    words.extend(build);
    assert_eq!(scratch.tool("strace", &words), first.trim(), "the same image");
    let trace = Trace::parse(&fs::read_to_string(scratch.path("trace")).unwrap());
    let mut all = trace.parent;
    trace.children.into_iter().flatten().for_each(|(call, n)| *all.entry(call).or_default() += n);
    all.retain(|call, _| !["mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "futex", "sched_yield"].contains(&call.as_str()));
    all
}

#[test]
fn system_calls_of_a_cached_build() {
    needs_root!();
    if !trace::is_possible() {
        skip!("strace is not installed, or may not trace");
    }
    let calls = cached(&site("cost-calls", 0));
    let (now, most) = (total(&calls), bound(MEASURED_CACHED));
    println!("{now} calls");
    assert!(now <= most, "a cached build makes {now} system calls, more than {most}:\n{}", table(&calls));
}

/// It reads: nothing is written or waited for, no program is started, no overlay is mounted.
#[test]
fn a_cached_build_leaves_the_disk_alone() {
    needs_root!();
    if !trace::is_possible() {
        skip!("strace is not installed, or may not trace");
    }
    let scratch = site("cost-disk", 0);
    let calls = cached(&scratch);
    let count = |name: &str| calls.get(name).copied().unwrap_or(0);
    for call in ["fsync", "fdatasync", "syncfs", "rename", "renameat", "renameat2", "fork", "vfork", "clone3", "nanosleep", "clock_nanosleep", "socket"] {
        // glibc makes threads with clone3, musl with clone.
        let most = if call == "clone3" { 2 } else { 0 };
        assert!(count(call) <= most, "{call}: {}\n{}", count(call), table(&calls));
    }
    assert_eq!((count("execve"), count("mount")), (1, 1), "itself; its own mount namespace made private");
    let text = fs::read_to_string(scratch.path("trace")).unwrap();
    let writes: Vec<&str> = text.lines().filter(|line| line.contains("O_CREAT") || line.contains("O_WRONLY") || line.contains("O_RDWR")).collect();
    assert_eq!(writes, Vec::<&str>::new());
}

#[test]
fn system_calls_for_a_file() {
    needs_root!();
    if !trace::is_possible() {
        skip!("strace is not installed, or may not trace");
    }
    let few = total(&cached(&site("cost-few", 100)));
    let calls = cached(&site("cost-many", 300));
    let each = (total(&calls) - few) as f64 / 200.0;
    println!("{each} calls for each");
    assert!(each <= MEASURED_FILE as f64 + 0.1, "{each} calls for each file of the context:\n{}", table(&calls));
}

/// The most that a program which this one waited for had of memory, in KiB.
fn peak() -> i64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is valid for writes, and zeros are a valid rusage.
    unsafe {
        assert_eq!(libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()), 0);
        usage.assume_init()
    }
    .ru_maxrss
}

/// However large a file is, be it the context's or a RUN's.
#[test]
fn memory_does_not_grow_with_files() {
    needs_root!();
    let scratch = site("cost-memory", 0);
    File::create(scratch.path("ctx/large")).unwrap().set_len(96 << 20).unwrap();
    fs::write(scratch.path("ctx/Dockerfile"), "FROM base\nCOPY large /\nRUN [\"/busybox\", \"cp\", \"/large\", \"/larger\"]\n").unwrap();
    scratch.ctl(&["build", "-q", "-t", "large", "ctx"]).ok();
    let peak = peak();
    println!("{peak} KiB");
    assert!(peak <= MOST_MEMORY_KB, "{peak} KiB");
}

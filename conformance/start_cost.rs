//! What a start costs, in numbers that do not depend on the clock: system calls, processes, the binary's size.
//!
//! A bound is what was measured when it was recorded, and 5 %. When a change makes a start cheaper, lower it; when it
//! must cost more, raise it in the same commit, so that the history tells why.

#[path = "../integration/support/mod.rs"]
mod support;
#[path = "support/trace.rs"]
mod trace;

use serde_json::json;
use std::path::{Path, PathBuf};
use support::Bundle;
use trace::{Trace, bound, table, total};

/// Measured on Linux 6.18 with nine cgroup v1 hierarchies; a machine with v2 alone needs fewer.
const MEASURED_PARENT: usize = 320;
const MEASURED_CHILD: usize = 411;

/// A container runtime is read from disk at every start.
const MOST_BYTES: u64 = 2 << 20;

/// A `run` of /bin/true under strace, after one that makes what stays (directories of mounts, parents of cgroups).
fn traced_run(test: &str) -> Option<Trace> {
    if !trace::is_possible() {
        println!("skipped: {test}: strace is not installed, or may not trace");
        return None;
    }
    let bundle = Bundle::ready(test, "")?;
    bundle.edit(|config| config["process"]["args"] = json!(["/bin/true"]));
    bundle.run().succeeds();
    let mut words: Vec<String> = ["env", "-u", "LD_LIBRARY_PATH", "strace", "-f", "-o", "trace"].map(String::from).to_vec();
    words.extend(bundle.words(&["run", &bundle.id]));
    bundle.any(&words).succeeds();
    Some(Trace::parse(&bundle.read("trace")))
}

#[test]
fn system_calls_of_a_run() {
    let Some(trace) = traced_run("cost_calls") else { return };
    let [child] = trace.children.as_slice() else { panic!("{} children", trace.children.len()) };
    println!("parent {}, child {}", total(&trace.parent), total(child));
    for (who, counts, measured) in [("parent", &trace.parent, MEASURED_PARENT), ("child", child, MEASURED_CHILD)] {
        let (now, most) = (total(counts), bound(measured));
        assert!(now <= most, "the {who} makes {now} system calls, more than {most}:\n{}", table(counts));
    }
}

#[test]
fn a_run_makes_one_process() {
    let Some(trace) = traced_run("cost_processes") else { return };
    let made: usize = ["clone", "clone3", "fork", "vfork"].iter().filter_map(|call| trace.parent.get(*call)).sum();
    assert_eq!((made, trace.children.len()), (1, 1), "no helper, no thread, no second fork");
    assert_eq!(trace.parent.get("execve"), Some(&1));
    assert_eq!(trace.parent.get("execveat"), Some(&1), "once more from a read-only mount of itself (stage::seal)");
    assert_eq!(trace.children[0].get("execve"), Some(&1), "the child executes the program only");
}

/// Nobody waits by the clock.
#[test]
fn a_run_never_sleeps() {
    let Some(trace) = traced_run("cost_sleep") else { return };
    for counts in std::iter::once(&trace.parent).chain(&trace.children) {
        let slept = ["nanosleep", "clock_nanosleep", "select", "pselect6", "sched_yield"].iter().find(|call| counts.contains_key(**call));
        assert_eq!(slept, None);
    }
}

#[test]
fn the_binary_is_small() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let mut places = vec![root.join("build/dhow"), target.join("release/dhow")];
    let triples = std::fs::read_dir(target).into_iter().flatten().flatten();
    places.extend(triples.map(|e| e.path().join("release/dhow")));
    places.retain(|path| path.is_file());
    if places.is_empty() {
        println!("skipped: the_binary_is_small: no release build of dhow is there");
    }
    for path in places {
        let bytes = path.metadata().unwrap().len();
        assert!(bytes <= MOST_BYTES, "{}: {bytes} bytes, more than {MOST_BYTES}", path.display());
    }
}

#[test]
fn a_trace_is_read_as_strace_writes_it() {
    let trace = Trace::parse(
        "7 execve(\"x\") = 0\n7 fcntl(3, F_GETFD) = 0\n7 clone3({}) = 8\n8 read(0, <unfinished ...>\n8 <... read resumed>) = 1\n8 +++ exited with 0 +++\n",
    );
    assert_eq!((total(&trace.parent), trace.children.len(), total(&trace.children[0])), (2, 1, 1));
}

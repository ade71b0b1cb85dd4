//! What is wrong with what we are given: a clear error that names it, the right exit code, and nothing left.

mod support;

use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};
use support::*;

/// `create` and `run` both fail with these words, and leave nothing.
#[track_caller]
fn refused(b: &Bundle, words: &[&str]) {
    for verb in ["create", "run"] {
        b.verb(&[verb]).fails(1, words);
        b.assert_gone();
    }
}

/// Refused, whether when it is created or when it is started.
#[track_caller]
fn does_not_start(b: &Bundle, words: &[&str]) {
    b.run().fails(1, words);
    b.assert_gone();
    let created = b.create();
    if created.code == 0 {
        b.start().fails(1, words);
        b.verb(&["delete", "--force"]).ok();
    } else {
        created.fails(1, words);
    }
    b.assert_gone();
}

// ---- the bundle

#[test]
fn no_bundle() {
    needs_root!();
    let b = Bundle::without_config("nobundle");
    refused(&b, &["config.json", "no such file or directory"]);
    b.verb(&["create", "--bundle", "/nonesuch"]).fails(1, &["/nonesuch", "no such file or directory"]);
}

#[test]
fn broken_json() {
    needs_root!();
    let b = Bundle::new("json");
    for text in ["", "{", "[]", "nonsense", "{\"ociVersion\": }", "\u{feff}", "{\"ociVersion\":\"1.0.2\"} trailing"] {
        b.write_config(text.as_bytes());
        refused(&b, &["config.json"]);
    }
    b.write_config(b"\xff\xfe\x00");
    refused(&b, &["config.json"]);
    b.write_config("[".repeat(100_000).as_bytes());
    refused(&b, &["config.json"]);
}

#[test]
fn a_wrong_type_is_named_by_its_path() {
    needs_root!();
    for (pointer, value) in [
        ("/process/args", json!("sh")),
        ("/process/user/uid", json!(-1)),
        ("/process/user/uid", json!(4294967296u64)),
        ("/mounts/0/options", json!("ro")),
        ("/linux/namespaces/0/type", json!(7)),
        ("/linux/resources/memory/limit", json!("64M")),
        ("/process/rlimits/0/soft", json!(-1)),
    ] {
        let b = Bundle::new("types");
        b.set(pointer, value);
        refused(&b, &[pointer.rsplit('/').find(|part| part.parse::<u32>().is_err()).unwrap()]);
    }
}

#[test]
fn faults_are_named_by_their_path() {
    needs_root!();
    for (pointer, value, words) in [
        ("/process/cwd", json!("relative"), "cwd"),
        ("/process/cwd", json!(""), "cwd"),
        ("/process/args", json!([]), "args"),
        ("/linux/namespaces/-", json!({"type": "pid"}), "namespaces"),
        ("/linux/namespaces/-", json!({"type": "quantum"}), "quantum"),
        ("/process/rlimits/-", json!({"type": "RLIMIT_NONESUCH", "soft": 1, "hard": 1}), "RLIMIT_NONESUCH"),
        ("/linux/rootfsPropagation", json!("sideways"), "sideways"),
        ("/linux/namespaces/-", json!({"type": "user", "path": "/nonesuch/ns"}), "/nonesuch/ns"),
        ("/linux/sysctl", json!({"kernel.nonesuch": "1"}), "kernel.nonesuch"),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "q", "major": 1, "minor": 1}]), "devices"),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NONESUCH"}), "SCMP_ACT_NONESUCH"),
        ("/hooks/prestart", json!([{"path": "relative"}]), "prestart"),
        ("/process/env", json!(["A=\u{0}b"]), "env"),
    ] {
        let b = Bundle::new("faults");
        b.args(&["true"]).set(pointer, value);
        refused(&b, &[words]);
    }
}

#[test]
fn an_unknown_capability_and_a_newer_version_are_no_fault() {
    needs_root!();
    let b = Bundle::new("lenient");
    b.args(&["true"]).push("/process/capabilities/bounding", json!("CAP_NONESUCH")).set("/ociVersion", json!("1.99.0")).set("/unknown", json!({"x": 1}));
    b.run().ok();
}

#[test]
fn a_version_of_another_kind() {
    needs_root!();
    let b = Bundle::new("version");
    b.args(&["true"]);
    for version in [json!("2.0.0"), json!("not a version"), json!("")] {
        b.set("/ociVersion", version);
        refused(&b, &["ociVersion"]);
    }
}

#[test]
fn a_missing_rootfs() {
    needs_root!();
    let b = Bundle::new("norootfs");
    b.set("/root/path", json!("nonesuch"));
    refused(&b, &["rootfs", "nonesuch", "no such file or directory"]);
    fs::write(b.path("file"), "").unwrap();
    b.set("/root/path", json!("file"));
    refused(&b, &["not a directory"]);
    b.remove("/root");
    refused(&b, &["root"]);
}

#[test]
fn ids() {
    needs_root!();
    let b = Bundle::new("ids");
    b.sleeps();
    for id in ["a/b", "../up", "/abs", "..", ".", "", "a b", "a\nb", "ä", "a:b"] {
        for verb in [&["create"][..], &["run"], &["delete", "--force"], &["state"]] {
            let mut all = verb.to_vec();
            all.push(id);
            b.call(&all).fails(1, &[]);
        }
    }
    b.assert_gone();
    b.create().ok();
    b.create().fails(1, &["container with given ID already exists", &b.id]);
    assert_eq!(b.status(), "created");
    let long = "x".repeat(1025);
    b.call(&["create", &long]).fails(1, &[]);
}

#[test]
fn a_rootfs_whose_top_directories_are_symlinks() {
    needs_root!();
    for name in ["proc", "dev", "sys"] {
        for target in ["tmp", "/tmp", "../../outside"] {
            let b = Bundle::new(&format!("link{name}"));
            fs::create_dir(b.path("outside")).unwrap();
            fs::remove_dir(b.rootfs(name)).unwrap();
            symlink(target, b.rootfs(name)).unwrap();
            b.args(&["true"]);
            does_not_start(&b, &[name]);
            assert_eq!(fs::read_dir(b.path("outside")).unwrap().count(), 0, "{name} -> {target}");
            assert_eq!(fs::read_dir(b.rootfs("tmp")).unwrap().count(), 0, "{name} -> {target}");
        }
    }
}

// ---- the program

#[test]
fn a_program_that_isn_t_there() {
    needs_root!();
    let b = Bundle::new("noprogram");
    b.args(&["nonesuch"]);
    does_not_start(&b, &["unable to start container process", "\\\"nonesuch\\\"", "executable file not found in $PATH"]);
    for path in ["/nonesuch", "./nonesuch", "/bin/nonesuch/x"] {
        b.args(&[path]);
        does_not_start(&b, &["unable to start container process", path, "no such file or directory"]);
    }
    b.args(&[""]);
    does_not_start(&b, &[]);
}

#[test]
fn a_program_that_can_t_be_run() {
    needs_root!();
    let b = Bundle::new("notexec");
    fs::write(b.rootfs("plain"), "text").unwrap();
    b.args(&["/plain"]);
    does_not_start(&b, &["/plain", "permission denied"]);
    b.args(&["/tmp"]);
    does_not_start(&b, &["/tmp", "is a directory: permission denied"]);
    b.script("badformat", "\x7fELFnot really").args(&["/badformat"]);
    does_not_start(&b, &["/badformat", "exec format error"]);
    b.script("nointerpreter", "#!/nonesuch\n").args(&["/nointerpreter"]);
    does_not_start(&b, &["/nointerpreter", "no such file or directory"]);
    b.args(&["/plain/x"]);
    does_not_start(&b, &["/plain/x", "not a directory"]);
}

#[test]
fn a_cwd_that_isn_t_there_is_made_and_a_file_is_refused() {
    needs_root!();
    let b = Bundle::new("cwd");
    b.args(&["pwd"]).set("/process/cwd", json!("/new/dir"));
    assert_eq!(b.run().ok(), "/new/dir");
    fs::write(b.rootfs("plain"), "").unwrap();
    b.set("/process/cwd", json!("/plain"));
    does_not_start(&b, &["cwd", "not a directory"]);
}

// ---- hooks, mounts, cgroups

#[test]
fn a_hook_that_hangs() {
    needs_root!();
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        let b = Bundle::new(&format!("hang{kind}"));
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("sleep 300; echo {}", b.id)], "env": ["PATH=/bin:/usr/bin"], "timeout": 1});
        b.sleeps().hook(kind, hook);
        let start = Instant::now();
        b.verb(&["run", "--detach"]).fails(1, &[kind, "hook"]);
        assert!(start.elapsed() < Duration::from_secs(6), "{kind}: {:?}", start.elapsed());
        b.assert_gone();
    }
}

#[test]
fn a_hook_with_a_timeout_of_zero_or_less() {
    needs_root!();
    let b = Bundle::new("zerotimeout");
    for timeout in [0, -1] {
        b.args(&["true"]).set("/hooks", json!({"createRuntime": [{"path": "/bin/true", "timeout": timeout}]}));
        refused(&b, &["timeout"]);
    }
}

#[test]
fn mounts_that_can_t_be() {
    needs_root!();
    for (mount, words) in [
        (json!({"destination": "/mnt", "type": "nonesuchfs", "source": "none"}), &["/mnt", "nonesuchfs"][..]),
        (json!({"destination": "/mnt", "type": "bind", "source": "/nonesuch/source", "options": ["bind"]}), &["/nonesuch/source", "no such file or directory"]),
        (json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["size=many"]}), &["/mnt"]),
        (json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["nonesuchoption"]}), &["/mnt"]),
        (json!({"destination": "/bin/busybox", "type": "tmpfs", "source": "tmpfs"}), &["/bin/busybox", "mounts"]),
        (json!({"destination": "/mnt", "type": "bind", "source": "/etc/passwd", "options": ["bind"]}), &["/mnt"]),
        (json!({"destination": "", "type": "tmpfs", "source": "tmpfs"}), &["destination"]),
        (json!({"destination": "/proc", "type": "bind", "source": "/tmp", "options": ["bind"]}), &["/proc"]),
    ] {
        let b = Bundle::new("mounts");
        b.args(&["true"]).push("/mounts", mount.clone());
        does_not_start(&b, words);
    }
}

#[test]
fn a_limit_that_can_t_be_set() {
    needs_root!();
    let b = Bundle::new("limit");
    if !fs::exists("/sys/fs/cgroup/cpuset").unwrap() {
        skip!("cgroup v1's cpuset");
    }
    b.args(&["true"]).set("/linux/resources/cpu", json!({"cpus": "4000"}));
    refused(&b, &["cpus"]);
    b.set("/linux/resources/cpu", json!({"quota": 1}));
    refused(&b, &["quota"]);
}

// ---- the machine

#[test]
fn a_full_disk_for_the_state() {
    needs_root!();
    for size in ["4k", "8k", "12k", "16k"] {
        let mut b = Bundle::new("full");
        let disk = Tmpfs::new(b.path("disk"), &format!("size={size}"));
        fs::write(disk.0.join("filler"), vec![0; 1 << 20]).unwrap_err();
        // Room for no page, then for one, then for two: each write has its turn to fail.
        let filled = fs::metadata(disk.0.join("filler")).unwrap().len();
        let spare: u64 = size.trim_end_matches('k').parse::<u64>().unwrap() * 1024 - 4096;
        fs::OpenOptions::new().write(true).open(disk.0.join("filler")).unwrap().set_len(filled.saturating_sub(spare)).unwrap();
        b.state_root = disk.0.join("state");
        b.sleeps();
        let got = b.create();
        if got.code == 0 {
            b.verb(&["delete", "--force"]).ok();
        } else {
            got.fails(1, &["no space left on device"]);
        }
        b.assert_gone();
    }
}

#[test]
fn a_state_directory_that_is_read_only() {
    needs_root!();
    let mut b = Bundle::new("rostate");
    let disk = Tmpfs::new(b.path("disk"), "ro");
    b.state_root = disk.0.join("state");
    b.args(&["true"]);
    refused(&b, &["read-only file system"]);
}

#[test]
fn a_pid_file_that_can_t_be_written() {
    needs_root!();
    let b = Bundle::new("nopidfile");
    b.sleeps();
    for verb in [&["create"][..], &["run", "--detach"]] {
        let mut all = verb.to_vec();
        all.extend(["--pid-file", "/nonesuch/pid"]);
        b.verb(&all).fails(1, &["/nonesuch/pid"]);
        b.assert_gone();
    }
    b.up();
    b.exec_with(&["--detach", "--pid-file", "/nonesuch/pid"], &["sleep", "500"]).fails(255, &["/nonesuch/pid"]);
    eventually("the exec to be gone", || (b.verb(&["ps", "--format=json"]).json().as_array().unwrap().len() == 1).then_some(()));
}

#[test]
fn a_damaged_state_can_be_deleted() {
    needs_root!();
    for text in ["", "{", "[]", "null"] {
        let b = Bundle::new("damaged");
        b.args(&["true"]).up().await_status("stopped");
        fs::write(b.state_dir().join("state.json"), text).unwrap();
        assert_ne!(b.verb(&["state"]).code, 0, "{text:?}");
        assert!(!b.call(&["list"]).err.contains("panicked"));
        b.verb(&["delete", "--force"]).ok();
        assert!(!b.state_dir().exists());
    }
}

/// The damaged record of a container that runs: its processes and cgroups must go too.
#[test]
fn a_damaged_state_of_a_running_one_can_be_deleted_wholly() {
    needs_root!();
    let b = Bundle::new("damagedrun");
    b.sleeps().up();
    fs::write(b.state_dir().join("state.json"), "{").unwrap();
    b.verb(&["delete", "--force"]).ok();
    b.assert_gone();
}

/// Killed at any moment of create or run: `delete --force` takes the rest away.
fn killed_at_random(test: &str, verb: &[&str], rounds: u32) {
    let b = Bundle::new(test);
    b.sleeps().host_hook("prestart", "cat > /dev/null");
    let start = Instant::now();
    b.create().ok();
    let whole = start.elapsed().as_micros() as u64;
    b.verb(&["delete", "--force"]).ok();
    let mut args = verb.to_vec();
    args.push(&b.id);
    for round in 0..rounds {
        let mut running = b.spawn(&args, |_| {});
        std::thread::sleep(Duration::from_micros(whole * 12 / 10 * u64::from(round) / u64::from(rounds)));
        running.signal(libc::SIGKILL);
        running.wait(LIMIT);
        // Whoever asks in between gets an answer.
        assert!([0, 1].contains(&b.verb(&["state"]).code));
        b.verb(&["delete", "--force"]).ok();
        let left = b.remains();
        assert!(left.is_empty(), "round {round} of {rounds}, {whole} µs: {left:#?}");
    }
}

#[test]
fn create_killed_at_random_moments() {
    needs_root!();
    killed_at_random("sigkill", &["create"], 50);
}

#[test]
fn run_killed_at_random_moments() {
    needs_root!();
    killed_at_random("sigkillrun", &["run"], 50);
}

#[test]
fn create_ended_by_term_leaves_what_force_removes() {
    needs_root!();
    let b = Bundle::new("sigterm");
    b.sleeps().host_hook("prestart", "sleep 0.3");
    let mut running = b.spawn(&["create", &b.id], |_| {});
    std::thread::sleep(Duration::from_millis(100));
    running.signal(libc::SIGTERM);
    running.wait(LIMIT);
    b.verb(&["delete", "--force"]).ok();
    b.assert_gone();
}

#[test]
fn a_second_create_meanwhile_is_refused_and_the_first_stands() {
    needs_root!();
    let b = Bundle::new("meanwhile");
    b.sleeps().host_hook("prestart", "sleep 0.5");
    let mut first = b.spawn(&["create", &b.id], |_| {});
    eventually("the state directory", || b.state_dir().exists().then_some(()));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(b.status(), "creating");
    b.create().fails(1, &["already exists"]);
    first.wait(LIMIT).ok();
    b.start().ok();
    assert_eq!(b.status(), "running");
}

#[test]
fn force_delete_of_one_that_is_being_created() {
    needs_root!();
    let b = Bundle::new("deletecreating");
    b.sleeps().host_hook("prestart", "sleep 0.5");
    let mut first = b.spawn(&["create", &b.id], |_| {});
    eventually("the state directory", || b.state_dir().exists().then_some(()));
    std::thread::sleep(Duration::from_millis(100));
    b.verb(&["delete", "--force"]).ok();
    first.wait(LIMIT);
    b.verb(&["delete", "--force"]).ok();
    b.assert_gone();
}

#[test]
fn a_file_over_a_directory_and_the_other_way_round() {
    needs_root!();
    let b = Bundle::new("kinds");
    fs::write(b.path("file"), "").unwrap();
    fs::create_dir(b.path("dir")).unwrap();
    for (source, destination) in [("file", "/etc"), ("dir", "/etc/passwd")] {
        b.without_mounts(&["/etc", "/etc/passwd"]).bind(b.path(source), destination, &[]);
        does_not_start(&b, &["error mounting", &format!("to rootfs at \\\"{destination}\\\""), "not a directory", "mounts[7]"]);
    }
}

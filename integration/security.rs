//! Past holes of runtimes, each as an attack that must come to nothing (docs/security.md).

mod support;

use serde_json::json;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use support::*;

/// A host directory that the attack would like to reach, as it was.
struct Marker {
    dir: PathBuf,
}

impl Marker {
    fn new(b: &Bundle) -> Marker {
        let dir = b.path("outside");
        fs::create_dir_all(dir.join("sub")).unwrap();
        fs::write(dir.join("file"), "untouched").unwrap();
        Marker { dir }
    }

    #[track_caller]
    fn is_untouched(&self) {
        let mut names: Vec<_> = fs::read_dir(&self.dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["file", "sub"]);
        assert_eq!(fs::read_to_string(self.dir.join("file")).unwrap(), "untouched");
        assert_eq!(fs::read_dir(self.dir.join("sub")).unwrap().count(), 0);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir.to_str().unwrap()), "{mounts}");
    }
}

/// Refused, or at least without effect on the host; by create and start, and by run.
#[track_caller]
fn comes_to_nothing(b: &Bundle, marker: &Marker) -> Vec<Outcome> {
    let mut ends = vec![b.run()];
    marker.is_untouched();
    let created = b.create();
    if created.code == 0 {
        ends.push(b.start());
    }
    ends.push(created);
    b.verb(&["delete", "--force"]).ok();
    marker.is_untouched();
    b.assert_gone();
    ends.iter().for_each(|e| assert!([0, 1].contains(&e.code) && !e.err.contains("panicked"), "{e:?}"));
    ends
}

#[track_caller]
fn refused(b: &Bundle, marker: &Marker, words: &[&str]) {
    let ends = comes_to_nothing(b, marker);
    assert!(ends.iter().any(|e| e.code == 1), "{ends:?}");
    for end in ends.iter().filter(|e| e.code != 0) {
        end.fails(1, words);
    }
    assert_eq!(ends[0].code, 1, "{ends:?}");
}

#[track_caller]
fn replace_by_link(b: &Bundle, name: &str, target: impl AsRef<Path>) {
    let path = b.rootfs(name);
    let _ = fs::remove_dir(&path);
    let _ = fs::remove_file(&path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

// ---- descriptors

#[test]
fn cve_2016_9962_the_joining_process_shows_nothing_of_the_host() {
    needs_root!();
    let b = Bundle::new("cve9962");
    // For every other process that turns up: what its descriptors, root and working directory lead to.
    b.privileged().sh("cd /proc; while :; do for p in [0-9]*; do [ $p = 1 ] || [ -e /proc/$p/task/$$ ] || \
         { for l in /proc/$p/fd/* /proc/$p/cwd /proc/$p/root /proc/$p/exe; do readlink $l; done; } 2>/dev/null; done; done >> /tmp/seen");
    b.up();
    (0..30).for_each(|_| {
        b.exec(&["true"]).ok();
    });
    b.kill("KILL").ok();
    let seen = fs::read_to_string(b.rootfs("tmp/seen")).unwrap();
    let host: Vec<&str> = seen
        .lines()
        .filter(|l| l.contains("state.json") || l.contains("exec.fifo") || l.contains("cgroup") || l.starts_with(b.state_root.to_str().unwrap()))
        .collect();
    assert!(host.is_empty(), "{host:?}");
}

#[test]
fn cve_2024_21626_no_descriptor_leaks_into_run() {
    needs_root!();
    let b = Bundle::new("cve21626fd");
    // `ls` has the directory that it reads as 3.
    b.args(&["ls", "-l", "/proc/self/fd"]);
    let got = b.run();
    let names: Vec<&str> =
        got.out.lines().skip(1).filter_map(|l| l.split(" -> ").next()?.split_whitespace().last()).filter(|n| n.parse::<u32>().is_ok()).collect();
    assert_eq!(names, ["0", "1", "2", "3"], "{got:?}");
    b.sh("for f in /proc/self/fd/*; do readlink $f; done").create().ok();
    let pid = b.pid();
    b.start().ok();
    b.await_status("stopped");
    assert!(pid > 0 && !b.printed().contains("cgroup"), "{}", b.printed());
}

#[test]
fn cve_2024_21626_no_descriptor_leaks_into_exec() {
    needs_root!();
    let b = Bundle::new("cve21626x");
    b.sleeps().up();
    let got = b.call_with(&["exec", &b.id, "ls", "-l", "/proc/self/fd"], |c| {
        // A careless caller's descriptor.
        let file = fs::File::open("/").unwrap();
        give_fd(c, file.as_raw_fd(), 9);
        std::mem::forget(file);
    });
    let names: Vec<&str> =
        got.out.lines().skip(1).filter_map(|l| l.split(" -> ").next()?.split_whitespace().last()).filter(|n| n.parse::<u32>().is_ok()).collect();
    assert_eq!(names, ["0", "1", "2", "3"], "{got:?}");
    // The sleeper, as the host sees it.
    let mut fds: Vec<String> = fs::read_dir(format!("/proc/{}/fd", b.pid())).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    fds.sort();
    assert_eq!(fds, ["0", "1", "2"]);
}

#[test]
fn cve_2024_21626_cwd_through_a_descriptor() {
    needs_root!();
    let b = Bundle::new("cve21626");
    let marker = Marker::new(&b);
    b.sh("pwd; ls; echo escaped > ../../../../escaped 2>/dev/null");
    for n in 3..=20 {
        b.set("/process/cwd", json!(format!("/proc/self/fd/{n}")));
        refused(&b, &marker, &[]);
        b.set("/process/cwd", json!(format!("/proc/self/fd/{n}/../..")));
        // Taken for /proc/self, it is of the container.
        let got = b.run();
        assert!(got.code == 1 || got.out.starts_with("/proc/1\n"), "{got:?}");
    }
    b.set("/process/cwd", json!("/")).sleeps().up();
    for n in 3..=20 {
        b.exec_with(&["--cwd", &format!("/proc/self/fd/{n}")], &["pwd"]).fails(255, &[]);
    }
    // The same by a symlink of the image.
    symlink("/proc/self/fd/7", b.rootfs("link")).unwrap();
    b.exec_with(&["--cwd", "/link"], &["pwd"]).fails(255, &[]);
}

// ---- the runtime's binary

/// A copy of the runtime that an attack may hit.
fn victim(b: &Bundle) -> PathBuf {
    let copy = b.path("runtime-copy");
    fs::copy(runtime(), &copy).unwrap();
    copy
}

#[test]
fn cve_2019_5736_the_runtime_as_entrypoint() {
    needs_root!();
    let b = Bundle::new("cve5736");
    let copy = victim(&b);
    let before = fs::read(&copy).unwrap();
    b.privileged().script("shebang", "#!/proc/self/exe\n");
    for program in ["/proc/self/exe", "/shebang"] {
        b.args(&[program, "--version"]);
        let mut done = Command::new(&copy);
        done.arg("--root").arg(&b.state_root).args(["run", "--bundle"]).arg(&b.dir).arg(&b.id);
        let mut child = done.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        assert!(wait(&mut child, LIMIT).is_some(), "{program}");
        assert!(fs::read(&copy).unwrap() == before, "{program}");
    }
}

#[test]
fn cve_2019_5736_writing_to_the_joining_process_s_exe() {
    needs_root!();
    let b = Bundle::new("cve5736x");
    let copy = victim(&b);
    let before = fs::read(&copy).unwrap();
    b.privileged().script("shebang", "#!/proc/self/exe\n");
    b.sh("cd /proc; while :; do for p in [0-9]*; do [ $p = 1 ] || { echo owned > /proc/$p/exe; exec 9<> /proc/$p/exe && echo owned >&9; } 2>/dev/null; done; done").up();
    for program in ["/proc/self/exe", "/shebang", "true"] {
        for _ in 0..15 {
            let mut exec = Command::new(&copy);
            exec.arg("--root").arg(&b.state_root).args(["exec", &b.id, program]);
            let mut child = exec.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
            assert!(wait(&mut child, LIMIT).is_some());
        }
    }
    assert!(fs::read(&copy).unwrap() == before, "the binary was overwritten");
}

// ---- symlinks in the rootfs

#[test]
fn cve_2019_19921_proc_and_sys_as_symlinks() {
    needs_root!();
    for name in ["proc", "sys"] {
        let b = Bundle::new("cve19921");
        let marker = Marker::new(&b);
        b.args(&["true"]);
        for target in ["tmp", "/tmp", "/", ".", "../outside", "../../../../../../../tmp"] {
            replace_by_link(&b, name, target);
            refused(&b, &marker, &[name]);
        }
    }
}

#[test]
fn cve_2019_16884_a_volume_over_proc() {
    needs_root!();
    let b = Bundle::new("cve16884");
    let marker = Marker::new(&b);
    b.args(&["true"]).bind(&marker.dir, "/proc", &["rw"]);
    refused(&b, &marker, &["/proc"]);
    for below in ["/proc/self/attr", "/proc/sys", "/proc/1", "/proc/self/task"] {
        let b = Bundle::new("cve16884b");
        let marker = Marker::new(&b);
        b.args(&["true"]).mount("tmpfs", "tmpfs", below, &[]);
        refused(&b, &marker, &["/proc"]);
    }
}

#[test]
fn cve_2023_27561_proc_linked_to_a_volume() {
    needs_root!();
    let b = Bundle::new("cve27561");
    let marker = Marker::new(&b);
    fs::create_dir(b.rootfs("volume")).unwrap();
    replace_by_link(&b, "proc", "volume/proc");
    b.config.borrow_mut()["mounts"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({"destination": "/volume", "type": "bind", "source": marker.dir, "options": ["bind"]}));
    b.args(&["true"]);
    refused(&b, &marker, &["proc"]);
}

#[test]
fn cve_2026_41579_dev_as_a_symlink() {
    needs_root!();
    for with_mount in [true, false] {
        let b = Bundle::new("cve41579");
        let marker = Marker::new(&b);
        b.args(&["true"]);
        if !with_mount {
            b.without_mounts(&["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"]);
        }
        for target in ["../outside", "../../../../../../../..", marker.dir.to_str().unwrap(), "/tmp", "tmp"] {
            replace_by_link(&b, "dev", target);
            refused(&b, &marker, &["dev"]);
        }
    }
}

#[test]
fn cve_2026_47766_devices_as_symlinks_where_nothing_is_mounted() {
    needs_root!();
    for name in ["dev/null", "dev/zero", "dev/console", "dev/ptmx", "dev/fd", "dev/core", "dev/stdin"] {
        for target in ["../../outside/file", "/file", "../../outside/made", "/made"] {
            let b = Bundle::new("cve47766");
            let marker = Marker::new(&b);
            b.without_mounts(&["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"]);
            b.args(&["true"]);
            replace_by_link(&b, name, target);
            comes_to_nothing(&b, &marker);
            assert!(!b.rootfs("made").exists() || !fs::symlink_metadata(b.rootfs("made")).unwrap().file_type().is_file(), "{name} -> {target}");
        }
    }
}

#[test]
fn cve_2025_31133_dev_null_as_a_symlink_to_mask_with() {
    needs_root!();
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let b = Bundle::new("cve31133");
    let marker = Marker::new(&b);
    b.without_mounts(&["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"]);
    b.privileged()
        .set("/linux/maskedPaths", json!(["/proc/uptime", "/proc/sys/kernel/core_pattern"]))
        .sh("echo masked: $(cat /proc/uptime); echo x > /proc/uptime; cat /proc/uptime");
    replace_by_link(&b, "dev/null", "/proc/sys/kernel/core_pattern");
    let ends = comes_to_nothing(&b, &marker);
    // Refused; or else what masks is a true /dev/null.
    assert!(ends[0].code == 1 || ends[0].out.trim() == "masked:", "{ends:?}");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), pattern);
}

#[test]
fn cve_2025_52565_dev_console_and_dev_pts_as_symlinks() {
    needs_root!();
    for (name, dropped) in [("dev/console", &["/dev"][..]), ("dev/pts", &["/dev", "/dev/pts"]), ("dev/pts", &["/dev"]), ("dev/ptmx", &["/dev"])] {
        for target in ["/proc/sys/kernel/core_pattern", "../../outside/file", "../../outside/sub"] {
            let b = Bundle::new("cve52565");
            let marker = Marker::new(&b);
            let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
            b.without_mounts(dropped);
            replace_by_link(&b, name, target);
            b.set("/process/terminal", json!(true)).sh("echo in the container > /dev/console; true");
            let got = b.run();
            assert!(!got.err.contains("panicked"), "{got:?}");
            marker.is_untouched();
            assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), pattern);
        }
    }
}

#[test]
fn cve_2025_52881_sysctls_go_to_the_true_proc() {
    needs_root!();
    for (kind, at) in [("tmpfs", "/proc/sys"), ("tmpfs", "/proc/sys/net"), ("bind", "/proc/sys")] {
        let b = Bundle::new("cve52881");
        let marker = Marker::new(&b);
        fs::create_dir_all(marker.dir.join("sub")).unwrap();
        let source = marker.dir.to_str().unwrap().to_string();
        b.mount(kind, if kind == "bind" { &source } else { "tmpfs" }, at, if kind == "bind" { &["bind"] } else { &[] });
        b.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"})).args(&["true"]);
        refused(&b, &marker, &["/proc"]);
    }
}

#[test]
fn cve_2023_25809_the_cgroups_are_not_writable() {
    needs_root!();
    let b = Bundle::new("cve25809");
    b.privileged().sh("for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/dhow-escape 2>/dev/null && echo made $d; done; true");
    assert_eq!(b.run().ok(), "");
}

// ---- races

#[test]
fn cve_2021_30465_a_symlink_swapped_at_a_mount_destination() {
    needs_root!();
    let b = Bundle::new("cve30465");
    let marker = Marker::new(&b);
    let volume = b.path("volume");
    fs::create_dir_all(volume.join("dir")).unwrap();
    symlink(format!("{}{}", "../".repeat(12), marker.dir.display().to_string().trim_start_matches('/')), volume.join("link")).unwrap();
    fs::create_dir(b.rootfs("volume")).unwrap();
    b.bind(&volume, "/volume", &["rw"]).mount("tmpfs", "tmpfs", "/volume/dir", &[]).mount("tmpfs", "tmpfs", "/volume/dir/made/deep", &[]).args(&["true"]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let name = |n: &str| std::ffi::CString::new(volume.join(n).into_os_string().into_encoded_bytes()).unwrap();
            let (dir, link) = (name("dir"), name("link"));
            while !over.load(Ordering::Relaxed) {
                // SAFETY: renameat2(2) with two C strings that live through the call.
                unsafe { libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, dir.as_ptr(), libc::AT_FDCWD, link.as_ptr(), libc::RENAME_EXCHANGE) };
            }
        });
        let rounds = std::env::var("DHOW_RACES").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
        let mut started = 0;
        for _ in 0..rounds {
            let got = b.run();
            started += i32::from(got.code == 0);
            if ![0, 1].contains(&got.code) || got.err.contains("panicked") || fs::read_dir(marker.dir.join("sub")).unwrap().count() != 0 {
                over.store(true, Ordering::Relaxed);
                panic!("{got:?}");
            }
        }
        over.store(true, Ordering::Relaxed);
        eprintln!("{started} of {rounds} started");
    });
    marker.is_untouched();
}

#[test]
fn cve_2024_45310_parents_are_made_inside_only() {
    needs_root!();
    let b = Bundle::new("cve45310");
    let marker = Marker::new(&b);
    // Dangling outside, dangling absolute, and one that climbs.
    symlink(marker.dir.join("new"), b.rootfs("a")).unwrap();
    symlink("../outside/new2", b.rootfs("b")).unwrap();
    symlink("../../../../../../../../tmp/dhow-escape-45310", b.rootfs("c")).unwrap();
    for name in ["a", "b", "c"] {
        b.mount("tmpfs", "tmpfs", &format!("/{name}/x/y"), &[]);
    }
    b.args(&["true"]);
    comes_to_nothing(&b, &marker);
    assert!(!Path::new("/tmp/dhow-escape-45310").exists());
}

#[test]
fn a_mount_point_of_a_bind_is_made_inside_only() {
    needs_root!();
    let b = Bundle::new("bindlink");
    let marker = Marker::new(&b);
    fs::write(b.path("source"), "the source").unwrap();
    symlink(marker.dir.join("file"), b.rootfs("to-file")).unwrap();
    symlink(marker.dir.join("made"), b.rootfs("to-made")).unwrap();
    b.bind(b.path("source"), "/to-file", &[]).bind(b.path("source"), "/to-made", &[]).args(&["true"]);
    comes_to_nothing(&b, &marker);
}

// ---- numbers and sets

#[test]
fn cve_2021_43784_a_megabyte_of_mappings() {
    needs_root!();
    let b = Bundle::new("cve43784");
    let marker = Marker::new(&b);
    let many: Vec<_> = (0..20_000).map(|n| json!({"containerID": n * 2, "hostID": 100_000 + n * 2, "size": 1})).collect();
    b.push("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", json!(many))
        .set("/linux/gidMappings", json!([{"containerID": 0, "hostID": 100000, "size": 65536}]));
    b.args(&["true"]);
    assert!(fs::metadata(b.path("config.json")).unwrap().len() > 1 << 20);
    refused(&b, &marker, &["ppings"]);
}

#[test]
fn cve_2022_29162_exec_s_inheritable_set_is_empty() {
    needs_root!();
    let b = Bundle::new("cve29162");
    b.sh("cat /proc/self/status; sleep 1000").up();
    let printed = b.await_printed("CapAmb");
    assert_eq!(status_field(&printed, "CapInh"), "0000000000000000");
    for flags in [&[][..], &["--cap", "CAP_NET_ADMIN", "--cap", "CAP_SYS_ADMIN"], &["--user", "1000"]] {
        let got = b.exec_with(flags, &["cat", "/proc/self/status"]);
        assert_eq!(status_field(got.ok(), "CapInh"), "0000000000000000", "{flags:?}");
        assert_eq!(status_field(got.ok(), "CapAmb"), "0000000000000000", "{flags:?}");
    }
}

#[test]
fn cve_2026_30892_user_1_is_not_root() {
    needs_root!();
    let b = Bundle::new("cve30892");
    b.sleeps().up();
    for user in ["1", "01", "1:0", "1:1"] {
        assert_eq!(b.exec_with(&["--user", user], &["id", "-u"]).ok(), "1", "{user}");
    }
    for user in ["4294967296", "4294967297", "-1", "1x", " 1", "4294967295", "+1", "0x1"] {
        let got = b.exec_with(&["--user", user], &["id", "-u"]);
        assert!(got.code == 255 || got.out.trim() != "0", "{user:?}: {got:?}");
    }
}

/// (uid_t) -1 means "leave it as it is" to setresuid(2): root.
#[test]
fn cve_2024_40635_the_last_uid_is_not_root() {
    needs_root!();
    for id in ["uid", "gid"] {
        let b = Bundle::new("cve40635");
        b.set(&format!("/process/user/{id}"), json!(u32::MAX)).args(&["id", &format!("-{}", &id[..1])]);
        let got = b.run();
        assert!(got.code == 1 || got.out.trim() != "0", "{id}: {got:?}");
    }
    let b = Bundle::new("cve40635g");
    b.set("/process/user/additionalGids", json!([u32::MAX])).args(&["true"]).run().fails(1, &[]);
}

// ---- what else keeps it in

#[test]
fn the_default_container_has_no_more_than_its_capabilities() {
    needs_root!();
    let b = Bundle::new("caps");
    let got = b.args(&["cat", "/proc/self/status"]).run();
    for set in ["CapBnd", "CapEff", "CapPrm"] {
        // CAP_KILL 5, CAP_NET_BIND_SERVICE 10, CAP_AUDIT_WRITE 29
        assert_eq!(status_field(got.ok(), set), "0000000020000420", "{set}");
    }
    assert_eq!((status_field(&got.out, "CapAmb"), status_field(&got.out, "NoNewPrivs")), ("0000000000000000".into(), "1".into()));
}

#[test]
fn the_host_s_mounts_are_gone_after_pivot() {
    needs_root!();
    let b = Bundle::new("pivot");
    let got = b.args(&["cat", "/proc/self/mountinfo"]).run();
    let outside: Vec<&str> = got.ok().lines().filter(|l| l.split(' ').nth(4).is_some_and(|p| p.contains("dhowt-") || p.starts_with("/work"))).collect();
    assert!(outside.is_empty(), "{outside:?}");
    assert!(mount_line(&got.out, "/").is_some());
}

#[test]
fn the_state_directory_is_not_for_others() {
    needs_root!();
    let b = Bundle::new("modes");
    b.sleeps().create().ok();
    let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&b.state_root) & 0o077, 0, "{:o}", mode(&b.state_root));
    assert_eq!(mode(&b.state_dir()) & 0o066, 0, "{:o}", mode(&b.state_dir()));
}

#[test]
fn devices_that_are_not_allowed_can_t_be_made() {
    needs_root!();
    let b = Bundle::new("mknod");
    b.privileged().sh("mknod /tmp/kmsg c 1 11 2>/dev/null; cat /tmp/kmsg 2>/dev/null | head -c 1 | wc -c; head -c 1 /dev/zero | wc -c; mknod /tmp/disk b 254 0 2>/dev/null; head -c 1 /tmp/disk 2>/dev/null | wc -c");
    assert_eq!(b.run().ok(), "0\n1\n0");
}

#[test]
fn a_privileged_container_has_no_tty_to_push_into() {
    needs_root!();
    let b = Bundle::new("session");
    let got = b.sh("cut -d' ' -f5-8 /proc/1/stat; echo > /dev/tty && echo has a tty").run();
    assert!(!got.out.contains("has a tty") && got.out.starts_with("1 1 0 -1"), "{got:?}");
}

/// The host's own procfs, wherever it is mounted, must not vouch for a new one without what is masked.
#[test]
fn no_pivot_leaves_no_bare_proc() {
    needs_root!();
    let b = Bundle::new("nopivotproc");
    let another = b.path("another proc");
    fs::create_dir(&another).unwrap();
    assert!(Command::new("mount").args(["-t", "proc", "proc"]).arg(&another).status().unwrap().success());
    let _guard = Tmpfs(another);
    let script = "mount -t proc none /proc && echo mounted";
    b.args(&["busybox", "unshare", "-mrpf", "sh", "-c", script]);
    for set in ["bounding", "effective", "permitted"] {
        b.push(&format!("/process/capabilities/{set}"), json!("CAP_SETFCAP"));
    }
    let got = b.verb(&["run", "--no-pivot"]);
    assert!(got.code != 0 && got.err.contains("mount") && !got.out.contains("mounted"), "{got:?}");
}

//! What a container sees: its mounts, devices, namespaces, limits, as it looks from inside.

mod support;

use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;
use support::*;

const MOUNTS: &[&str] = &["cat", "/proc/self/mountinfo"];

/// The mountinfo inside.
#[track_caller]
fn mounts_of(b: &Bundle) -> String {
    b.args(MOUNTS).run().ok().to_string()
}

// ---- mount options

#[test]
fn the_default_mounts() {
    needs_root!();
    let b = Bundle::new("default");
    let text = mounts_of(&b);
    for (point, options) in [
        ("/proc", &["rw"][..]),
        ("/dev", &["rw", "nosuid"]),
        ("/dev/pts", &["nosuid", "noexec"]),
        ("/dev/shm", &["nosuid", "nodev", "noexec"]),
        ("/dev/mqueue", &["nosuid", "nodev", "noexec"]),
        ("/sys", &["ro", "nosuid", "nodev", "noexec"]),
        ("/proc/sys", &["ro"]),
    ] {
        let got = mount_options(&text, point);
        options.iter().for_each(|o| assert!(got.contains(o), "{point}: {o} is not in {got:?}"));
    }
}

#[test]
fn options_of_a_tmpfs_and_a_bind() {
    needs_root!();
    let b = Bundle::new("options");
    fs::create_dir(b.path("source")).unwrap();
    b.mount("tmpfs", "tmpfs", "/mnt/t", &["ro", "nosuid", "nodev", "noexec", "noatime", "size=64k", "mode=700"]);
    b.bind(b.path("source"), "/mnt/b", &["ro", "nosuid", "nodev", "noexec"]).bind(b.path("source"), "/mnt/c", &["nosymfollow", "nodiratime"]);
    let text = mounts_of(&b);
    assert!(["ro", "nosuid", "nodev", "noexec", "noatime"].iter().all(|o| mount_options(&text, "/mnt/t").contains(o)), "{text}");
    assert!(mount_line(&text, "/mnt/t").unwrap().contains("size=64k,mode=700"), "{text}");
    assert!(["ro", "nosuid", "nodev", "noexec"].iter().all(|o| mount_options(&text, "/mnt/b").contains(o)), "{text}");
    assert!(["rw", "nosymfollow", "nodiratime"].iter().all(|o| mount_options(&text, "/mnt/c").contains(o)), "{text}");
}

#[test]
fn a_readonly_bind_can_t_be_written() {
    needs_root!();
    let b = Bundle::new("robind");
    fs::create_dir(b.path("source")).unwrap();
    b.bind(b.path("source"), "/mnt", &["ro"]).sh("echo x > /mnt/file");
    b.run().fails(1, &["Read-only file system"]);
    assert!(!b.path("source/file").exists());
}

/// A tree of two mounts on the host: `outer`, and `outer/inner`.
fn nested(b: &Bundle) -> Tmpfs {
    let outer = Tmpfs::new(b.path("outer"), "size=64k");
    std::mem::forget(Tmpfs::new(b.path("outer/inner"), "size=64k"));
    outer
}

#[test]
fn rbind_brings_the_nested_and_bind_does_not() {
    needs_root!();
    let b = Bundle::new("rbind");
    let outer = nested(&b);
    b.mount("bind", &outer.0, "/mnt/r", &["rbind"]).mount("bind", &outer.0, "/mnt/s", &["bind"]);
    let text = mounts_of(&b);
    assert!(mount_line(&text, "/mnt/r/inner").is_some() && mount_line(&text, "/mnt/s/inner").is_none(), "{text}");
}

#[test]
fn recursive_options_reach_the_nested() {
    needs_root!();
    let b = Bundle::new("rro");
    let outer = nested(&b);
    b.mount("bind", &outer.0, "/mnt/plain", &["rbind", "ro"]).mount("bind", &outer.0, "/mnt/rec", &["rbind", "rro", "rnosuid", "rnoexec", "rnodev"]);
    let text = mounts_of(&b);
    assert!(mount_options(&text, "/mnt/plain").contains(&"ro") && mount_options(&text, "/mnt/plain/inner").contains(&"rw"), "{text}");
    for point in ["/mnt/rec", "/mnt/rec/inner"] {
        let options = mount_options(&text, point);
        assert!(["ro", "nosuid", "noexec", "nodev"].iter().all(|o| options.contains(o)), "{point} {options:?}");
    }
}

#[test]
fn propagation_of_a_mount() {
    needs_root!();
    let b = Bundle::new("propagation");
    fs::create_dir(b.path("source")).unwrap();
    for option in ["private", "shared", "slave", "unbindable"] {
        b.bind(b.path("source"), &format!("/mnt/{option}"), &[option]);
    }
    let text = mounts_of(&b);
    let tags = |name: &str| mount_line(&text, &format!("/mnt/{name}")).unwrap().split(" - ").next().unwrap().split(' ').skip(6).collect::<Vec<_>>().join(" ");
    assert_eq!(tags("private"), "");
    assert!(tags("shared").contains("shared:"), "{text}");
    assert!(tags("unbindable").contains("unbindable"), "{text}");
}

#[test]
fn rootfs_propagation() {
    needs_root!();
    for (value, tag) in [("private", ""), ("shared", "shared:"), ("unbindable", "unbindable")] {
        let b = Bundle::new("rootprop");
        b.set("/linux/rootfsPropagation", json!(value));
        let text = mounts_of(&b);
        let line = mount_line(&text, "/").unwrap().split(" - ").next().unwrap().to_string();
        assert!(line.contains(tag) && (!tag.is_empty() || !line.contains("shared:")), "{value}: {line}");
    }
}

#[test]
fn a_shared_mount_passes_later_mounts_in() {
    needs_root!();
    let b = Bundle::new("later");
    let outer = Tmpfs::new(b.path("outer"), "size=64k");
    Command::new("mount").args(["--make-shared"]).arg(&outer.0).status().unwrap();
    fs::create_dir(outer.0.join("sub")).unwrap();
    b.bind(&outer.0, "/mnt", &["rslave"]).sleeps().up();
    let _later = Tmpfs::new(outer.0.join("sub"), "size=64k");
    assert!(mount_line(b.exec(MOUNTS).ok(), "/mnt/sub").is_some());
}

#[test]
fn tmpcopyup_copies() {
    needs_root!();
    let b = Bundle::new("copyup");
    fs::create_dir_all(b.rootfs("data/deep")).unwrap();
    fs::write(b.rootfs("data/deep/file"), "content").unwrap();
    fs::set_permissions(b.rootfs("data/deep/file"), fs::Permissions::from_mode(0o644)).unwrap();
    chown(b.rootfs("data/deep/file"), Some(11), Some(12)).unwrap();
    std::os::unix::fs::symlink("deep/file", b.rootfs("data/link")).unwrap();
    b.mount("tmpfs", "tmpfs", "/data", &["tmpcopyup"])
        .sh("cat /data/link; echo; stat -c '%a %u %g' /data/deep/file; echo new > /data/new; readlink /data/link");
    assert_eq!(b.run().ok(), "content\n644 11 12\ndeep/file");
    assert!(!b.rootfs("data/new").exists());
}

#[test]
fn binds_of_files_and_to_relative_destinations() {
    needs_root!();
    let b = Bundle::new("files");
    fs::write(b.path("source"), "of the host").unwrap();
    b.bind(b.path("source"), "/new/place/file", &["ro"]).bind(b.path("source"), "relative", &[]).sh("cat /new/place/file /relative; echo x > /new/place/file");
    let got = b.run();
    assert!(got.out == "of the hostof the host" && got.err.contains("Read-only"), "{got:?}");
    assert_eq!(fs::read_to_string(b.path("source")).unwrap(), "of the host");
}

#[test]
fn a_relative_source_is_of_the_bundle() {
    needs_root!();
    let b = Bundle::new("relsource");
    fs::create_dir(b.path("beside")).unwrap();
    fs::write(b.path("beside/file"), "found").unwrap();
    b.bind("beside", "/mnt", &[]).args(&["cat", "/mnt/file"]);
    assert_eq!(
        b.call_with(&["run", "--bundle", b.dir.to_str().unwrap(), &b.id], |c| {
            c.current_dir("/");
        })
        .ok(),
        "found"
    );
}

#[test]
fn mounts_are_in_order_and_may_lie_over_each_other() {
    needs_root!();
    let b = Bundle::new("order");
    fs::write(b.path("file"), "second").unwrap();
    b.mount("tmpfs", "tmpfs", "/mnt", &[]).bind(b.path("file"), "/mnt/file", &[]).args(&["cat", "/mnt/file"]);
    assert_eq!(b.run().ok(), "second");
}

#[test]
fn an_idmapped_bind() {
    needs_root!();
    for on_tmpfs in [false, true] {
        let b = Bundle::new("idmap");
        let disk = on_tmpfs.then(|| Tmpfs::new(b.path("disk"), "size=64k"));
        let source = disk.as_ref().map_or(b.path("source"), |d| d.0.join("source"));
        fs::create_dir(&source).unwrap();
        fs::write(source.join("file"), "").unwrap();
        chown(source.join("file"), Some(1000), Some(1001)).unwrap();
        let map = |host: u32| json!([{"containerID": 0, "hostID": host, "size": 65536}]);
        b.push(
            "/mounts",
            json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind", "idmap"], "uidMappings": map(500), "gidMappings": map(600)}),
        );
        b.args(&["stat", "-c", "%u %g", "/mnt/file"]);
        let got = b.run();
        if got.err.contains("idmap") && got.err.contains("invalid argument") {
            skip!("idmapped mounts of this file system");
        }
        assert_eq!(got.ok(), "1500 1601");
    }
}

// ---- paths, devices, root

#[test]
fn masked_and_readonly_paths() {
    needs_root!();
    let b = Bundle::new("masked");
    fs::create_dir(b.rootfs("secret")).unwrap();
    fs::write(b.rootfs("secret/file"), "s").unwrap();
    fs::write(b.rootfs("plain"), "p").unwrap();
    fs::create_dir(b.rootfs("fixed")).unwrap();
    b.set("/linux/maskedPaths", json!(["/secret", "/plain", "/nonesuch"])).set("/linux/readonlyPaths", json!(["/fixed", "/nonesuch"]));
    b.sh("ls -A /secret | wc -l; wc -c < /plain; echo x > /fixed/file || echo refused; echo y > /secret/z || echo refused");
    assert_eq!(b.run().ok(), "0\n0\nrefused\nrefused");
}

#[test]
fn a_readonly_root() {
    needs_root!();
    let b = Bundle::new("roroot");
    b.set("/root/readonly", json!(true)).sh("echo x > /file || echo refused; echo y > /dev/shm/file && echo fine");
    assert_eq!(b.run().ok(), "refused\nfine");
}

#[test]
fn the_default_devices() {
    needs_root!();
    let b = Bundle::new("devices");
    b.sh("for d in null zero full random urandom tty; do stat -c '%n %t:%T %a' /dev/$d; done; for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done");
    assert_eq!(
        b.run().ok(),
        "/dev/null 1:3 666\n/dev/zero 1:5 666\n/dev/full 1:7 666\n/dev/random 1:8 666\n/dev/urandom 1:9 666\n/dev/tty 5:0 666\n\
         /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx"
    );
}

#[test]
fn devices_of_the_config() {
    needs_root!();
    let b = Bundle::new("owndev");
    b.set(
        "/linux/devices",
        json!([
            {"path": "/dev/own", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 5, "gid": 6},
            {"path": "/dev/sub/block", "type": "b", "major": 7, "minor": 9},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600}
        ]),
    );
    b.sh("for d in own sub/block pipe null; do stat -c '%F %t:%T %a %u %g' /dev/$d; done");
    assert_eq!(b.run().ok(), "character special file 1:5 640 5 6\nblock special file 7:9 666 0 0\nfifo 0:0 600 0 0\ncharacter special file 1:3 600 0 0");
}

#[test]
fn device_rules_hold() {
    needs_root!();
    let b = Bundle::new("devrules");
    b.set("/linux/devices", json!([{"path": "/dev/kmsg2", "type": "c", "major": 1, "minor": 11}]));
    b.sh("head -c 1 /dev/kmsg2 > /dev/null 2>&1 && echo read");
    assert_ne!(b.run().out.trim(), "read");
    b.set("/linux/resources/devices", json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]));
    // Reading it takes CAP_SYSLOG as well.
    b.privileged().sh("dd if=/dev/kmsg2 of=/dev/null bs=8192 count=1 2>/dev/null; echo $?; echo x 2>/dev/null > /dev/kmsg2 && echo written");
    assert_eq!(b.run().out.trim(), "0");
}

#[test]
fn no_pivot() {
    needs_root!();
    let b = Bundle::new("nopivot");
    b.sh("ls /; cat /etc/passwd | head -1; ls -d /work 2>/dev/null");
    let got = b.verb(&["run", "--no-pivot"]);
    assert!(got.out.contains("bin") && got.out.contains("root:x:0:0") && !got.out.contains("/work"), "{got:?}");
}

#[test]
fn a_root_that_is_a_mount_point_of_its_own() {
    needs_root!();
    let b = Bundle::new("mountroot");
    let root = Tmpfs::new(b.path("newroot"), "size=16m");
    assert!(Command::new("cp").arg("-a").arg(b.rootfs("").join(".")).arg(&root.0).status().unwrap().success());
    b.set("/root/path", json!("newroot")).sh("echo here > /file; cat /file");
    assert_eq!(b.run().ok(), "here");
    assert!(root.0.join("file").exists());
}

// ---- namespaces

#[test]
fn a_user_namespace_with_mappings() {
    needs_root!();
    let b = Bundle::new("userns");
    b.userns(100_000).sh("cat /proc/self/uid_map; id -u; touch /tmp/made; stat -c %u /tmp/made /proc/1; cat /dev/null; echo fine > /dev/shm/x; sleep 0.3");
    let got = b.run();
    let words: Vec<&str> = got.ok().split_whitespace().collect();
    assert_eq!(words, ["0", "100000", "65536", "0", "0", "0"]);
    assert_eq!(fs::metadata(b.rootfs("tmp/made")).unwrap().uid(), 100_000);
}

#[test]
fn exec_into_a_user_namespace() {
    needs_root!();
    let b = Bundle::new("usernsexec");
    b.userns(100_000).sleeps().up();
    assert_eq!(b.exec(&["id", "-u"]).ok(), "0");
    assert_eq!(b.exec_with(&["--user", "1000"], &["id", "-u"]).ok(), "1000");
    let host = fs::metadata(format!("/proc/{}", b.pid())).unwrap().uid();
    assert_eq!(host, 100_000);
}

/// A sleeper of the host in new namespaces of its own.
struct Holder(std::process::Child);

impl Holder {
    fn new(flags: &[&str]) -> Holder {
        let child = Command::new("unshare").args(flags).args(["sleep", "300"]).spawn().unwrap();
        let own = |pid: &str| fs::read_link(format!("/proc/{pid}/comm")).ok().or_else(|| fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(Into::into));
        let pid = child.id().to_string();
        eventually("the sleeper", || own(&pid).filter(|c| c.to_string_lossy().trim() == "sleep"));
        Holder(child)
    }

    fn namespace(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.0.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn namespaces_joined_by_path() {
    needs_root!();
    let holder = Holder::new(&["--net", "--ipc", "--uts"]);
    for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        let b = Bundle::new("join");
        let path = holder.namespace(name);
        b.remove("/hostname").join_namespace(kind, &path).args(&["readlink", &format!("/proc/self/ns/{name}")]);
        assert_eq!(b.run().ok(), fs::read_link(&path).unwrap().display().to_string(), "{kind}");
    }
}

#[test]
fn a_pid_namespace_joined_by_path() {
    needs_root!();
    let (first, second) = (Bundle::new("pidhost"), Bundle::new("pidguest"));
    first.sleeps().up();
    let path = format!("/proc/{}/ns/pid", first.pid());
    second.join_namespace("pid", &path).sh("readlink /proc/self/ns/pid; echo $$; cat /proc/1/cmdline | tr '\\0' ' '");
    let got = second.run();
    let lines: Vec<&str> = got.ok().lines().collect();
    assert_eq!(lines[0], fs::read_link(&path).unwrap().display().to_string());
    assert_ne!(lines[1], "1");
    assert_eq!(lines[2].trim(), "sleep 1000");
    assert_eq!(first.status(), "running");
    second.args(&["sh", "-c", "exit 4"]).run().code(4);
}

#[test]
fn a_user_namespace_joined_by_path() {
    needs_root!();
    let (first, second) = (Bundle::new("userhost"), Bundle::new("userguest"));
    first.userns(200_000).sleeps().up();
    let path = format!("/proc/{}/ns/user", first.pid());
    second.userns(200_000).remove("/linux/uidMappings").remove("/linux/gidMappings").join_namespace("user", &path);
    second.sh("readlink /proc/self/ns/user; id -u; cat /proc/self/uid_map");
    let got = second.run();
    let words: Vec<&str> = got.ok().split_whitespace().collect();
    assert_eq!(words, [fs::read_link(&path).unwrap().to_str().unwrap(), "0", "0", "200000", "65536"]);
}

#[test]
fn a_namespace_of_another_kind_is_refused() {
    needs_root!();
    let b = Bundle::new("wrongns");
    b.join_namespace("ipc", "/proc/self/ns/uts").args(&["true"]);
    b.run().fails(1, &["IPC namespace", "/proc/self/ns/uts"]);
    b.join_namespace("ipc", "/etc/passwd").args(&["true"]).run().fails(1, &["/etc/passwd"]);
    b.assert_gone();
}

#[test]
fn the_host_s_namespaces_where_none_is_asked_for() {
    needs_root!();
    let b = Bundle::new("hostns");
    b.remove("/hostname")
        .without_namespace("network")
        .without_namespace("ipc")
        .without_namespace("uts")
        .without_namespace("pid")
        .without_mounts(&["/dev/mqueue"]);
    b.sh("for n in net ipc uts pid; do readlink /proc/self/ns/$n; done");
    let here: Vec<String> = ["net", "ipc", "uts", "pid"].iter().map(|n| fs::read_link(format!("/proc/self/ns/{n}")).unwrap().display().to_string()).collect();
    assert_eq!(b.run().ok().lines().collect::<Vec<_>>(), here);
}

#[test]
fn time_namespace_offsets() {
    needs_root!();
    if !fs::exists("/proc/self/ns/time").unwrap() {
        skip!("time namespaces");
    }
    let b = Bundle::new("time");
    b.push("/linux/namespaces", json!({"type": "time"}))
        .set("/linux/timeOffsets", json!({"monotonic": {"secs": 7}, "boottime": {"secs": 1_000_000, "nanosecs": 5}}));
    b.sh("cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets");
    let got = b.run();
    let uptime: u64 = got.ok().lines().next().unwrap().parse().unwrap();
    assert!(uptime > 1_000_000, "{uptime}");
    let words: Vec<&str> = got.out.split_whitespace().skip(1).collect();
    assert_eq!(words, ["monotonic", "7", "0", "boottime", "1000000", "5"]);
    b.sleeps().up();
    assert!(b.exec(&["cut", "-d.", "-f1", "/proc/uptime"]).ok().parse::<u64>().unwrap() > 1_000_000);
}

#[test]
fn loopback_is_up() {
    needs_root!();
    let b = Bundle::new("loopback");
    b.args(&["ping", "-c", "1", "-W", "1", "127.0.0.1"]).privileged();
    b.run().ok();
}

#[test]
fn a_cgroup_namespace() {
    needs_root!();
    let b = Bundle::new("cgroupns");
    b.without_namespace("cgroup").push("/linux/namespaces", json!({"type": "cgroup"})).args(&["cat", "/proc/self/cgroup"]);
    let got = b.run();
    assert!(got.ok().lines().all(|l| l.ends_with(":/") || !l.contains(&b.id)), "{got:?}");
}

// ---- identity and limits

#[test]
fn hostname_and_domainname() {
    needs_root!();
    let b = Bundle::new("names");
    b.set("/hostname", json!("a-host")).set("/domainname", json!("a-domain")).sh("hostname; cat /proc/sys/kernel/domainname");
    assert_eq!(b.run().ok(), "a-host\na-domain");
}

#[test]
fn sysctls() {
    needs_root!();
    let b = Bundle::new("sysctl");
    b.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1", "net/ipv4/ping_group_range": "3 4"}));
    b.sh("cd /proc/sys; cat net/ipv4/ip_forward kernel/shm_rmid_forced net/ipv4/ping_group_range");
    assert_eq!(b.run().ok().split_whitespace().collect::<Vec<_>>(), ["1", "1", "3", "4"]);
    // One of the host's.
    let b = Bundle::new("sysctlhost");
    b.args(&["true"]).set("/linux/sysctl", json!({"vm.swappiness": "1"}));
    b.run().fails(1, &["vm.swappiness"]);
}

#[test]
fn rlimits() {
    needs_root!();
    let b = Bundle::new("rlimits");
    b.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 111}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_STACK", "soft": 1048576, "hard": 2097152}]));
    let has = |text: &str, name: &str, soft: &str, hard: &str| {
        let line = text.lines().find(|l| l.starts_with(name)).unwrap().split_whitespace().rev().skip(1).take(2).map(String::from).collect::<Vec<_>>();
        assert_eq!(line, [hard, soft], "{name}");
    };
    b.sh("cat /proc/self/limits; sleep 1000").up();
    let exec = b.exec(&["cat", "/proc/self/limits"]);
    for text in [b.await_printed("realtime timeout").as_str(), exec.ok()] {
        has(text, "Max open files", "99", "111");
        has(text, "Max core file size", "0", "0");
        has(text, "Max stack size", "1048576", "2097152");
    }
}

#[test]
fn the_user_s_umask_and_groups() {
    needs_root!();
    let b = Bundle::new("user");
    b.set("/process/user", json!({"uid": 1000, "gid": 1001, "umask": 0o27, "additionalGids": [5, 6, 7]}));
    b.sh("id -u; id -g; id -G; umask; echo $HOME");
    assert_eq!(b.run().ok(), "1000\n1001\n1001 5 6 7\n0027\n/home/user");
}

#[test]
fn no_caller_s_groups_or_umask_leak() {
    needs_root!();
    let b = Bundle::new("leak");
    b.set("/process/user", json!({"uid": 1000, "gid": 1001})).sh("id -G; umask");
    let path = b.path("out");
    let script = format!("umask 077; exec setpriv --groups 33,44 {} --root {} run {} > {}", runtime().display(), b.state_root.display(), b.id, path.display());
    assert!(Command::new("timeout").args(["20", "sh", "-c", &script]).current_dir(&b.dir).status().unwrap().success());
    assert_eq!(fs::read_to_string(&path).unwrap(), "1001\n0022\n");
}

#[test]
fn oom_score_adj() {
    needs_root!();
    let b = Bundle::new("oomscore");
    for score in [100, 1000] {
        b.set("/process/oomScoreAdj", json!(score)).args(&["cat", "/proc/self/oom_score_adj"]);
        assert_eq!(b.run().ok(), score.to_string());
    }
}

#[test]
fn scheduler_and_io_priority() {
    needs_root!();
    let b = Bundle::new("sched");
    b.set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5})).set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 6}));
    b.sh("ionice -p $$; cut -d' ' -f19,41 /proc/self/stat");
    let got = b.run();
    assert!(got.ok() == "best-effort: prio 6\n5 3", "nice 5, policy SCHED_BATCH = 3: {got:?}");
}

#[test]
fn seccomp_gives_the_errno() {
    needs_root!();
    let b = Bundle::new("seccomp");
    b.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}),
    );
    b.sh("mkdir /tmp/x; grep Seccomp: /proc/self/status");
    let got = b.run();
    assert!(got.err.contains("No space left on device") && got.out.contains("2"), "{got:?}");
    b.sleeps().up();
    assert!(b.exec(&["mkdir", "/tmp/y"]).err.contains("No space left on device"));
}

#[test]
fn seccomp_kills() {
    needs_root!();
    let b = Bundle::new("seccompkill");
    b.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]}));
    b.args(&["mkdir", "/tmp/x"]).run().code(159);
}

#[test]
fn no_new_privileges_can_be_left_off() {
    needs_root!();
    let b = Bundle::new("nnp");
    b.set("/process/noNewPrivileges", json!(false)).args(&["grep", "NoNewPrivs", "/proc/self/status"]);
    assert_eq!(b.run().ok().split_whitespace().last(), Some("0"));
}

#[test]
fn ambient_capabilities_reach_another_user() {
    needs_root!();
    let b = Bundle::new("ambient");
    for set in ["inheritable", "ambient"] {
        b.set(&format!("/process/capabilities/{set}"), json!(["CAP_KILL"]));
    }
    let got = b.set("/process/user", json!({"uid": 1000, "gid": 1000})).args(&["cat", "/proc/self/status"]).run();
    assert_eq!(status_field(got.ok(), "CapAmb"), "0000000000000020");
    assert_eq!(status_field(&got.out, "CapEff"), "0000000000000020");
}

#[test]
fn what_can_t_be_ambient_is_said_once() {
    needs_root!();
    let b = Bundle::new("notambient");
    b.set("/process/capabilities/ambient", json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"])).args(&["true"]);
    let got = b.run();
    got.ok();
    assert_eq!(got.err.lines().count(), 1, "{}", got.err);
    assert!(got.err.contains("can't raise ambient capability CAP_KILL, CAP_NET_BIND_SERVICE: "), "{}", got.err);
}

#[test]
fn the_environment_is_the_config_s_alone() {
    needs_root!();
    let b = Bundle::new("env");
    b.env("LEAK", "yes").set("/process/env", json!(["A=1", "B=two words", "EMPTY=", "PATH=/bin"])).args(&["env"]);
    let got = b.run();
    assert_eq!(got.ok().lines().filter(|l| !l.starts_with("HOME=")).collect::<Vec<_>>(), ["A=1", "B=two words", "EMPTY=", "PATH=/bin"]);
}

#[test]
fn apparmor_where_there_is_none() {
    needs_root!();
    if fs::exists("/sys/module/apparmor").unwrap() && fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|e| e.starts_with('Y')) {
        skip!("a machine without AppArmor");
    }
    let b = Bundle::new("apparmor");
    b.args(&["true"]).set("/process/apparmorProfile", json!("nonesuch"));
    b.run().fails(1, &["apparmor"]);
    b.assert_gone();
}

#[test]
fn memory_limit_kills_the_hungry() {
    needs_root!();
    let b = Bundle::new("hungry");
    b.set("/linux/resources/memory", json!({"limit": 16 << 20, "swap": 16 << 20})).sh("x=$(yes | head -c 60000000); echo survived");
    assert!(!b.run().out.contains("survived"));
}

#[test]
fn a_512k_memory_limit_starts() {
    needs_root!();
    let b = Bundle::new("tiny");
    b.set("/linux/resources/memory", json!({"limit": 512 << 10})).args(&["true"]).run().ok();
}

#[test]
fn the_pids_limit_holds() {
    needs_root!();
    let b = Bundle::new("pids");
    b.set("/linux/resources/pids", json!({"limit": 5})).sh("for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; echo all started");
    assert!(!b.run().out.contains("all started"));
}

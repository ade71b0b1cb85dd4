//! Docker's options on dhow: volumes, networks, users, limits, security, health, restarts.

mod callers;
mod support;

use callers::docker::Docker;
use callers::{LIMIT, await_true};
use std::sync::OnceLock;

/// One engine for all tests here; it goes with this process.
fn docker() -> &'static Docker {
    static DOCKER: OnceLock<Docker> = OnceLock::new();
    DOCKER.get_or_init(|| Docker::new("options"))
}

const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// What `docker run --rm OPTIONS busybox sh -c SCRIPT` prints.
#[track_caller]
fn prints(options: &[&str], script: &str) -> String {
    docker().sh(options, script).ok().to_string()
}

// ---- files

#[test]
fn named_volumes() {
    needs_caller!("dockerd");
    let d = docker();
    prints(&["-v", "data:/data"], "echo kept >/data/file");
    assert_eq!(prints(&["-v", "data:/data:ro"], "cat /data/file; touch /data/x 2>&1 | grep -o 'Read-only file system'"), "kept\nRead-only file system");
    assert_eq!(prints(&["--mount", "type=volume,source=data,target=/d"], "cat /d/file"), "kept");
    assert!(d.ok(&["volume", "ls", "-q"]).lines().any(|l| l == "data"));
    // what the image has there comes into a new volume
    assert_eq!(prints(&["-v", "pages:/www"], "cat /www/index.html"), "the page");
    d.ok(&["volume", "rm", "data", "pages"]);
}

#[test]
fn bind_mounts() {
    needs_caller!("dockerd");
    let d = docker();
    d.machine.sh("mkdir -p /var/bind/below && mount -t tmpfs tmpfs /var/bind/below && echo top >/var/bind/f && echo deep >/var/bind/below/f").ok();
    assert_eq!(prints(&["-v", "/var/bind:/b"], "cat /b/f /b/below/f; echo new >/b/new"), "top\ndeep");
    assert_eq!(d.machine.sh("cat /var/bind/new").ok(), "new");
    assert_eq!(prints(&["-v", "/var/bind:/b:ro"], "touch /b/x 2>&1 | grep -o Read-only"), "Read-only");
    assert_eq!(prints(&["--mount", "type=bind,src=/var/bind,dst=/b,bind-nonrecursive"], "cat /b/below/f 2>/dev/null || echo not there"), "not there");
    assert_eq!(prints(&["-v", "/var/bind/f:/etc/file"], "cat /etc/file"), "top");
    // what is mounted on the host later is seen, with rslave
    let c = d.up("slave", &["-v", "/var/bind:/b:rslave"], SLEEP);
    d.machine.sh("umount /var/bind/below && mount -t tmpfs tmpfs /var/bind/below && echo later >/var/bind/below/f").ok();
    assert_eq!(c.exec("cat /b/below/f").ok(), "later");
    drop(c);
    d.machine.sh("umount /var/bind/below").ok();
}

#[test]
fn tmpfs_and_shared_memory() {
    needs_caller!("dockerd");
    let options = prints(&["--tmpfs", "/t:size=1m,mode=1770"], "grep ' /t ' /proc/mounts; stat -c %a /t");
    assert!(options.contains("size=1024k") && options.contains("noexec") && options.ends_with("1770"), "{options}");
    let shm = prints(&["--shm-size", "2m"], "grep ' /dev/shm ' /proc/mounts");
    assert!(shm.contains("size=2048k"), "{shm}");
}

#[test]
fn a_read_only_root() {
    needs_caller!("dockerd");
    let said =
        prints(&["--read-only", "--tmpfs", "/tmp"], "touch /x 2>&1; touch /tmp/x && echo tmp; echo $$ >/dev/null && echo null; touch /etc/hosts 2>&1 || true");
    assert!(said.contains("touch: /x: Read-only file system") && said.contains("tmp\nnull"), "{said}");
}

// ---- networks

#[test]
fn containers_reach_each_other_by_name() {
    needs_caller!("dockerd");
    let d = docker();
    d.ok(&["network", "create", "--subnet", "10.77.0.0/24", "net"]);
    let c = d.up("server", &["--network", "net", "--network-alias", "web"], "exec httpd -f -p 80 -h /www");
    for name in ["server", "web"] {
        // wget of a static busybox can't resolve names
        let script = format!(
            "address=$(nslookup {name} 127.0.0.11 | sed -n 's/^Address.*: *\\(10.77[0-9.]*\\)$/\\1/p' | head -n 1)
            printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc $address 80"
        );
        let page = || d.sh(&["--network", "net"], &script);
        await_true(name, LIMIT, || page().out.ends_with("the page\n"), || format!("{:?} {}", page(), c.logs()));
    }
    drop(c);
    d.ok(&["network", "rm", "net"]);
}

#[test]
fn host_none_and_anothers_network() {
    needs_caller!("dockerd");
    let d = docker();
    let count = "ls /sys/class/net | grep -c -v -e '^lo$' -e '^bonding' -e '^ifb' -e '^ip' -e '^sit' -e '^tun' -e '^gre' -e '^erspan'";
    assert_eq!(d.sh(&["--network", "none"], count).out, "0\n");
    assert_eq!(prints(&["--network", "host"], "readlink /proc/self/ns/net"), d.machine.sh("readlink /proc/self/ns/net").ok());
    let c = d.up("nethost", &[], SLEEP);
    assert_eq!(prints(&["--network", "container:nethost"], "readlink /proc/self/ns/net"), c.exec("readlink /proc/self/ns/net").ok());
    assert_eq!(prints(&["--hostname", "h", "--domainname", "d.example"], "hostname; cat /proc/sys/kernel/domainname"), "h\nd.example");
    assert!(prints(&["--add-host", "other:10.1.2.3", "--dns", "10.9.9.9"], "cat /etc/hosts /etc/resolv.conf").contains("10.1.2.3\tother"));
}

// ---- namespaces

#[test]
fn namespaces_shared_or_not() {
    needs_caller!("dockerd");
    let d = docker();
    let c = d.up("owner", &["--ipc", "shareable", "--name", "owner"], SLEEP);
    for kind in ["pid", "ipc"] {
        let link = format!("readlink /proc/self/ns/{kind}");
        let theirs = c.exec(&link).ok().to_string();
        assert_eq!(prints(&[&format!("--{kind}"), "container:owner"], &link), theirs, "{kind}");
        assert_ne!(prints(&[], &link), theirs, "{kind}");
        assert_eq!(prints(&[&format!("--{kind}"), "host"], &link), d.machine.sh(&link).ok(), "{kind}");
    }
    assert_eq!(prints(&["--uts", "host"], "readlink /proc/self/ns/uts"), d.machine.sh("readlink /proc/self/ns/uts").ok());
    let cgroup = "readlink /proc/self/ns/cgroup";
    assert_ne!(prints(&["--cgroupns", "private"], cgroup), prints(&["--cgroupns", "host"], cgroup));
    assert_eq!(prints(&["--cgroupns", "private"], "grep -c ':/$' /proc/self/cgroup; grep -vc ':/$' /proc/self/cgroup || true").lines().nth(1), Some("0"));
}

#[test]
fn init_reaps_and_forwards() {
    needs_caller!("dockerd");
    let d = docker();
    assert!(prints(&["--init"], "cat /proc/1/cmdline | tr '\\0' ' '").starts_with("/sbin/docker-init"));
    let c = d.up("init", &["--init"], "echo ready; exec sleep 1000");
    await_true("sleep", LIMIT, || c.logs() == "ready\n", || c.logs());
    d.ok(&["stop", "-t", "10", "init"]);
    assert_eq!(c.state()["ExitCode"], 143, "TERM came to what doesn't handle it");
}

// ---- who it is, and what it may

#[test]
fn users_and_groups() {
    needs_caller!("dockerd");
    assert_eq!(prints(&["-u", "user"], "id -u; id -g; id -G"), "1000\n1000\n1000 2000");
    assert_eq!(prints(&["-u", "7:8", "--group-add", "9"], "id -u; id -g; id -G"), "7\n8\n8 9");
    assert_eq!(prints(&["-u", "user"], "touch /x 2>&1; touch /tmp/x && echo tmp; echo >/dev/stdout"), "touch: /x: Permission denied\ntmp");
}

#[test]
fn capabilities() {
    needs_caller!("dockerd");
    let effective = |options: &[&str]| u64::from_str_radix(prints(options, "grep CapEff /proc/self/status").split_whitespace().nth(1).unwrap(), 16).unwrap();
    const DEFAULT: u64 = 0xa804_25fb;
    assert_eq!(effective(&[]), DEFAULT);
    assert_eq!(effective(&["--cap-drop", "ALL"]), 0);
    assert_eq!(effective(&["--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE"]), 1 << 10);
    assert_eq!(effective(&["--cap-add", "SYS_TIME"]), DEFAULT | 1 << 25);
    assert_eq!(effective(&["-u", "user"]), 0);
    let bounding = prints(&["-u", "user"], "grep -e CapBnd -e CapInh /proc/self/status");
    assert!(bounding.contains("00000000a80425fb") && bounding.contains("CapInh:\t0000000000000000"), "{bounding}");
    assert_eq!(prints(&["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status").split_whitespace().nth(1), Some("1"));
}

#[test]
fn seccomp() {
    needs_caller!("dockerd");
    let d = docker();
    let mode = "grep '^Seccomp:' /proc/self/status | cut -f 2";
    assert_eq!(prints(&[], mode), "2");
    assert_eq!(prints(&["--security-opt", "seccomp=unconfined"], mode), "0");
    assert!(prints(&[], "unshare -U true 2>&1 || true").contains("Operation not permitted"));
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;
    d.machine.write("/etc/docker/no-mkdir.json", profile);
    let mut command = d.command(&["run", "--rm", "--security-opt", "seccomp=/etc/docker/no-mkdir.json", "busybox", "mkdir", "/x"]);
    command.env("LANG", "C");
    let said = d.machine.finish(command, LIMIT);
    said.fails(1, &["No space left on device"]);
}

#[test]
fn what_is_masked() {
    needs_caller!("dockerd");
    let masked = prints(&[], "cat /proc/kcore | wc -c; ls /proc/acpi /sys/firmware | grep -v : | wc -w; echo 1 2>&1 >/proc/sys/kernel/domainname || echo ro");
    assert_eq!(masked.lines().next(), Some("0"), "{masked}");
    assert!(masked.ends_with("ro"), "{masked}");
    let open = prints(&["--security-opt", "systempaths=unconfined"], "grep -c ' /proc/[a-z]' /proc/mounts || true");
    assert_eq!(open, "0");
}

#[test]
fn devices() {
    needs_caller!("dockerd");
    let said = prints(&["--device", "/dev/loop-control:/dev/messages:r"], "(: </dev/messages) && echo reads; (: >/dev/messages) 2>&1 || true");
    assert!(said.starts_with("reads\n") && said.ends_with("Operation not permitted"), "{said}");
    let denied = prints(&["--cap-add", "MKNOD"], "mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg 2>&1 || true");
    assert!(denied.contains("Operation not permitted"), "{denied}");
    assert_eq!(prints(&["--device-cgroup-rule", "c 1:5 r"], "mknod /tmp/z c 1 5 && head -c 2 /tmp/z | wc -c"), "2");
}

// ---- limits

#[test]
fn limits() {
    needs_caller!("dockerd");
    let d = docker();
    let c = d.up("limits", &["-m", "48m", "--memory-swap", "64m", "--cpus", "0.75", "--cpu-shares", "333", "--cpuset-cpus", "0", "--pids-limit", "77"], SLEEP);
    let id = d.inspect("limits")["Id"].as_str().unwrap().to_string();
    let inside = |file: &str| c.exec(&format!("cat /sys/fs/cgroup/{file}")).ok().to_string();
    let outside = |controller: &str, file: &str| d.machine.sh(&format!("cat /sys/fs/cgroup/{controller}/docker/{id}/{file}")).ok().to_string();
    for (controller, file, value) in [
        ("memory", "memory.limit_in_bytes", "50331648"),
        ("memory", "memory.memsw.limit_in_bytes", "67108864"),
        ("cpu", "cpu.cfs_quota_us", "75000"),
        ("cpu", "cpu.shares", "333"),
        ("cpuset", "cpuset.cpus", "0"),
        ("pids", "pids.max", "77"),
    ] {
        assert_eq!(outside(controller, file), value, "{file}");
        assert_eq!(inside(&format!("{controller}/{file}")), value, "{file}");
    }
    d.sh(&["--pids-limit", "10"], "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done").fails(2, &["can't fork: Resource temporarily unavailable"]);
}

#[test]
fn ulimits_and_sysctls() {
    needs_caller!("dockerd");
    assert_eq!(prints(&["--ulimit", "nofile=123:456", "--ulimit", "core=0"], "ulimit -Sn; ulimit -Hn; ulimit -c"), "123\n456\n0");
    assert_eq!(
        prints(&["--sysctl", "net.ipv4.ip_forward=0", "--sysctl", "kernel.shmmni=1234"], "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni"),
        "0\n1234"
    );
    assert_eq!(prints(&["--oom-score-adj", "321"], "cat /proc/self/oom_score_adj"), "321");
}

// ---- what the engine looks after

#[test]
fn health() {
    needs_caller!("dockerd");
    let d = docker();
    let options = ["--health-cmd", "test ! -e /tmp/ill", "--health-interval", "200ms", "--health-retries", "1"];
    let c = d.up("health", &options, SLEEP);
    let status = || c.state()["Health"]["Status"].as_str().unwrap_or_default().to_string();
    await_true("health", LIMIT, || status() == "healthy", || format!("{:?}", c.state()));
    c.exec("touch /tmp/ill").ok();
    await_true("illness", LIMIT, || status() == "unhealthy", || format!("{:?}", c.state()));
}

#[test]
fn restart_policies() {
    needs_caller!("dockerd");
    let d = docker();
    let c = d.up("again", &["--restart", "on-failure:2"], "echo run; exit 3");
    await_true("the end of the restarts", LIMIT, || c.logs().lines().count() == 3 && c.state()["Status"] == "exited", || c.logs());
    assert_eq!(d.inspect("again")["RestartCount"], 2);
    assert_eq!(c.state()["ExitCode"], 3);
}

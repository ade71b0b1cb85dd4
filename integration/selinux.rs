//! SELinux enforced, with a policy of our own: in a guest that was started with it (`make test-vm`).

#[macro_use]
mod support;

use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use support::{Bundle, Outcome};

/// A host that may do everything, and a box that may not read secrets, nor files of a category that it hasn't. What the
/// kernel asks for beside reading, entering and transitions is allowed.
const POLICY: &str = "class file { read entrypoint }
class dir { search }
class process { transition dyntransition }
sensitivity s0;
dominance { s0 }
category c1;
category c2;
category c3;
level s0:c1.c3;
mlsconstrain file read ( h1 dom h2 );
policycap nnp_nosuid_transition;
type host_t;
type box_t;
type box_file_t;
type secret_t;
type file_t;
role r;
role r types { host_t box_t };
allow host_t { host_t box_t box_file_t secret_t file_t }:file { read entrypoint };
allow box_t { box_t box_file_t file_t }:file { read entrypoint };
allow { host_t box_t } { host_t box_t box_file_t secret_t file_t }:dir search;
allow host_t box_t:process transition;
user u roles { r } level s0 range s0 - s0:c1.c3;
";

/// Those that the kernel knows by number, in its order.
const INITIAL: [&str; 27] = [
    "kernel",
    "security",
    "unlabeled",
    "fs",
    "file",
    "file_labels",
    "init",
    "any_socket",
    "port",
    "netif",
    "netmsg",
    "node",
    "igmp_packet",
    "icmp_socket",
    "tcp_socket",
    "sysctl_modprobe",
    "sysctl",
    "sysctl_fs",
    "sysctl_kernel",
    "sysctl_net",
    "sysctl_net_unix",
    "sysctl_vm",
    "sysctl_dev",
    "kmod",
    "policy",
    "scmp_packet",
    "devnull",
];

const BOX: &str = "u:r:box_t:s0:c1,c2";
const BOX_FILE: &str = "u:object_r:box_file_t:s0:c1,c2";

fn policy() -> String {
    let declared: String = INITIAL.iter().map(|sid| format!("sid {sid}\n")).collect();
    let contexts: String = INITIAL
        .iter()
        .map(|sid| {
            let host = matches!(*sid, "kernel" | "init");
            format!("sid {sid} {}\n", if host { "u:r:host_t:s0 - s0:c1.c3" } else { "u:object_r:file_t:s0" })
        })
        .collect();
    let systems = "fs_use_xattr ext4 u:object_r:file_t:s0;\nfs_use_trans tmpfs u:object_r:file_t:s0;\nfs_use_trans mqueue u:object_r:file_t:s0;\n\
        genfscon proc / u:object_r:file_t:s0\ngenfscon sysfs / u:object_r:file_t:s0\n";
    format!("class file\nclass dir\nclass process\n{declared}{POLICY}{contexts}{systems}")
}

/// Whether the policy is in force. It is loaded where there is none yet, never in the place of a system's own.
fn enforced() -> bool {
    static LOADED: OnceLock<bool> = OnceLock::new();
    *LOADED.get_or_init(|| {
        let current = || fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
        if !Path::new("/sys/fs/selinux/enforce").exists() || !current().starts_with("kernel") {
            return current().starts_with("u:r:host_t:");
        }
        let dir = std::env::temp_dir().join(format!("selinux-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("policy.conf"), policy()).unwrap();
        let compiled = Command::new("checkpolicy").args(["-M", "-U", "allow", "-o", "policy.bin", "policy.conf"]).current_dir(&dir).output();
        let Ok(compiled) = compiled else { return false };
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        fs::write("/sys/fs/selinux/load", fs::read(dir.join("policy.bin")).unwrap()).expect("the kernel takes the policy");
        fs::write("/sys/fs/selinux/enforce", "1").unwrap();
        fs::remove_dir_all(&dir).unwrap();
        true
    })
}

/// A bundle whose process and mounts are labelled, on a file system that keeps labels.
fn labelled(test: &str) -> Option<Bundle> {
    // SAFETY: geteuid(2) can't fail.
    if unsafe { libc::geteuid() } != 0 || !enforced() {
        eprintln!("skipped: SELinux: {test}: needs root, a kernel started with it that has no policy yet, and checkpolicy (make test-vm)");
        return None;
    }
    let b = Bundle::new(test);
    b.set("/process/selinuxLabel", json!(BOX)).set("/linux/mountLabel", json!(BOX_FILE));
    Some(b)
}

fn file(b: &Bundle, name: &str, label: &str) {
    fs::write(b.rootfs(name), format!("{name}\n")).unwrap();
    let done = Command::new("setfattr").args(["-n", "security.selinux", "-v", label]).arg(b.rootfs(name)).status().unwrap();
    assert!(done.success());
}

#[track_caller]
fn denied(ran: &Outcome, name: &str) {
    assert!(ran.err.contains(&format!("'/{name}': Permission denied")), "{ran:?}");
}

const LOOK: &str = "cat /proc/self/attr/current | tr '\\0' '\\n'; cat /open /secret /ours /theirs";

#[test]
fn a_label_is_enforced_from_the_first_instruction() {
    let Some(b) = labelled("se-process") else { return };
    file(&b, "open", "u:object_r:box_file_t:s0");
    file(&b, "secret", "u:object_r:secret_t:s0");
    file(&b, "ours", "u:object_r:box_file_t:s0:c1");
    file(&b, "theirs", "u:object_r:box_file_t:s0:c3");
    b.sh(LOOK);
    let ran = b.run();
    assert_eq!(ran.out, format!("{BOX}\nopen\nours\n"), "{ran:?}");
    denied(&ran, "secret");
    denied(&ran, "theirs");
    // exec: the container's, or one of its own.
    b.sleeps().up();
    let inside = b.exec_sh(LOOK);
    assert_eq!(inside.out, format!("{BOX}\nopen\nours\n"), "{inside:?}");
    let other = "u:r:box_t:s0:c3";
    assert_eq!(b.exec_with(&["--process-label", other], &["sh", "-c", LOOK]).out, format!("{other}\nopen\ntheirs\n"));
    b.exec_with(&["--process-label", "u:r:no_such_t:s0"], &["true"]).fails(255, &["u:r:no_such_t:s0", "invalid argument"]);
}

#[test]
fn mounts_have_the_mount_label() {
    let Some(b) = labelled("se-mounts") else { return };
    b.sleeps().up();
    let root = format!("/proc/{}/root", b.pid());
    let label = |path: &str| {
        let got = Command::new("getfattr").args(["--only-values", "-n", "security.selinux"]).arg(format!("{root}{path}")).output().unwrap();
        String::from_utf8_lossy(&got.stdout).trim_end_matches('\0').to_string()
    };
    for path in ["/dev", "/dev/shm", "/dev/pts", "/dev/null", "/dev/mqueue"] {
        assert_eq!(label(path), BOX_FILE, "{path}");
    }
    let mounts = b.exec(&["cat", "/proc/self/mounts"]);
    let quoted = format!("context=\"{BOX_FILE}\"");
    assert!(mounts.ok().lines().any(|l| l.contains(" /dev tmpfs ") && l.contains(&quoted)), "{mounts:?}");
    // Kept from the container as well: new files get it, whoever makes them.
    b.exec_sh("echo a >/dev/shm/made").ok();
    assert_eq!(label("/dev/shm/made"), BOX_FILE);
}

#[test]
fn a_label_that_the_policy_does_not_know_fails_with_nothing_left() {
    let Some(b) = labelled("se-unknown") else { return };
    b.set("/process/selinuxLabel", json!("u:r:no_such_t:s0"));
    b.create().fails(1, &["process.selinuxLabel", "u:r:no_such_t:s0", "invalid argument"]);
    b.assert_gone();
    b.set("/process/selinuxLabel", json!(BOX)).set("/linux/mountLabel", json!("u:object_r:no_such_t:s0"));
    b.create().fails(1, &["u:object_r:no_such_t:s0"]);
    b.assert_gone();
}

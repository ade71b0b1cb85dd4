//! On most machines (systemd makes / shared) a mount that a container's process detaches could be detached on the host
//! as well. Each value of rootfsPropagation is tried in a mount namespace of the test's own that is shared like that.
//! A container that has the host's mount namespace leaves its mounts there.

#[macro_use]
mod support;

use serde_json::json;
use std::fs;
use std::process::Command;
use support::{Bundle, runtime};

const SCRIPT: &str = r#"set -e
mount --make-rshared /
mkdir -p "$DIR/peer"; mount -t tmpfs tmpfs "$DIR/peer"
mount --bind "$DIR/rootfs" "$DIR/rootfs"; mount --make-shared "$DIR/rootfs"
cut -d' ' -f5 /proc/self/mountinfo | sort >"$DIR/before"
"$DHOW" --root "$DIR/state" run --bundle "$DIR" "$ID" >"$DIR/said" 2>&1 || { cat "$DIR/said"; exit 1; }
cut -d' ' -f5 /proc/self/mountinfo | sort >"$DIR/after"
"#;

#[test]
fn no_mount_of_the_host_is_lost_or_gained() {
    needs_root!();
    // With runbindable nothing of the host can be bound, v1's cgroups among it.
    for value in ["", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable"] {
        let b = Bundle::new("peers");
        b.set("/linux/rootfsPropagation", json!(value)).sh("mount -t tmpfs tmpfs /mnt; true").privileged();
        let mut command = Command::new("timeout");
        command.args(["60", "unshare", "--mount", "--propagation", "private", "sh", "-c", SCRIPT]);
        let done = command.env("DIR", &b.dir).env("ID", &b.id).env("DHOW", runtime()).output().unwrap();
        assert!(done.status.success(), "{value}: {done:?}");
        let read = |name: &str| fs::read_to_string(b.path(name)).unwrap();
        assert_eq!(read("before"), read("after"), "rootfsPropagation {value:?}");
    }
}

const ON_THE_HOST: &str = r#"set -e
mount --make-rshared /
points() { cut -d' ' -f5 /proc/self/mountinfo | sort; }
points >"$DIR/before"
"$DHOW" --root "$DIR/state" run --bundle "$DIR" "$ID" >"$DIR/said" 2>&1 || { cat "$DIR/said"; exit 1; }
points | grep "$DIR/rootfs" >"$DIR/during"
umount -R "$DIR/rootfs"
points >"$DIR/after"
"#;

/// Without a mount namespace the mounts are made on the host, but below one that can be taken away with them.
#[test]
fn mounts_on_the_host_go_with_the_rootfs() {
    needs_root!();
    let b = Bundle::new("hostmounts");
    b.without_namespace("mount").set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([])).set("/root/readonly", json!(true));
    b.sh("touch /file; true");
    let mut command = Command::new("timeout");
    command.args(["60", "unshare", "--mount", "--propagation", "private", "sh", "-c", ON_THE_HOST]);
    let done = command.env("DIR", &b.dir).env("ID", &b.id).env("DHOW", runtime()).output().unwrap();
    let said = fs::read_to_string(b.path("said")).unwrap();
    assert!(done.status.success(), "{done:?} {said}");
    assert!(said.contains("touch: /file: Read-only file system"), "{said}");
    let read = |name: &str| fs::read_to_string(b.path(name)).unwrap();
    let during = read("during");
    let times = |point: &str| during.lines().filter(|line| line.ends_with(point)).count();
    assert_eq!((times("/rootfs"), times("/rootfs/proc")), (1, 1), "{during}");
    assert_eq!(read("before"), read("after"));
}

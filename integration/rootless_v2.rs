//! Containers of a user without root who has a systemd of his own, subordinate ids and a delegated cgroup: the guest's
//! `user` (integration/vm). Each test is a script of his; what it prints is compared.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

const USER: &str = "user";

/// What every script begins with: a bundle, `e FILTER` to edit its config by jq, `cg ID` for a container's cgroup.
const PRELUDE: &str = r#"
set -e
cd "$DIR"; mkdir -p rootfs/bin rootfs/proc rootfs/sys rootfs/dev rootfs/tmp
cp /bin/busybox rootfs/bin/; for a in sh cat sleep id ls mkdir chown touch stat; do ln -sf busybox rootfs/bin/$a; done
e() { jq "$1" config.json >config.new && mv config.new config.json; }
cg() { cat "/proc/$("$D" state "$1" | jq .pid)/cgroup"; }
export XDG_RUNTIME_DIR=/run/user/$(id -u)
"$D" spec --rootless
e '.process.terminal=false | .process.args=["sleep","1000"] | .root.readonly=false'
"#;

static COUNT: AtomicU32 = AtomicU32::new(0);

struct Scripts {
    dir: PathBuf,
}

impl Scripts {
    /// None where there is no such user.
    fn new(test: &str) -> Option<Scripts> {
        // SAFETY: geteuid(2) can't fail.
        let root = unsafe { libc::geteuid() } == 0;
        let has_user = std::fs::read_to_string("/etc/subuid").is_ok_and(|text| text.lines().any(|l| l.starts_with("user:")));
        // It starts with the machine, but nobody waits for it.
        let up = || Command::new("timeout").args(["60", "systemctl", "start", "user@1000.service"]).status().is_ok_and(|s| s.success());
        if !root || !has_user || !Path::new("/run/systemd/system").exists() || !up() {
            eprintln!("skipped: cgroup v2: {test}: needs root, and a user `{USER}` with a systemd of his own (make test-vm)");
            return None;
        }
        let dir = std::env::temp_dir().join(format!("rl-{test}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&dir).unwrap();
        let runtime = std::env::var_os("RUNTIME").map_or_else(|| env!("CARGO_BIN_EXE_dhow").into(), PathBuf::from);
        std::fs::copy(runtime, dir.join("dhow")).unwrap();
        std::fs::set_permissions(dir.join("dhow"), PermissionsExt::from_mode(0o755)).unwrap();
        assert!(Command::new("chown").args([USER, dir.to_str().unwrap()]).status().unwrap().success());
        Some(Scripts { dir })
    }

    fn environment(&self, script: &str) -> String {
        let dir = self.dir.display();
        format!("export DIR={dir} D={dir}/dhow HOME={dir} PATH=/usr/sbin:/usr/bin:/sbin:/bin\n{PRELUDE}\n{script}")
    }

    /// In a service of the user's manager, as in a terminal of his desktop: its cgroup is below the manager's.
    #[track_caller]
    fn below_the_manager(&self, script: &str) -> String {
        let mut command = Command::new("timeout");
        let run = ["systemd-run", "--quiet", "--user", "-M", "user@.host", "--wait", "--pipe", "--collect", "-p", "Delegate=yes"];
        command.arg("120").args(run).args(["sh", "-c", &self.environment(script)]);
        said(command.output().unwrap())
    }

    /// In a cgroup that is not his, as after a login by ssh.
    #[track_caller]
    fn outside(&self, script: &str) -> String {
        let mut command = Command::new("timeout");
        command.args(["120", "setpriv", "--reuid", USER, "--regid", USER, "--init-groups", "sh", "-c", &self.environment(script)]);
        said(command.output().unwrap())
    }
}

impl Drop for Scripts {
    fn drop(&mut self) {
        // Files of subordinate ids are among them.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[track_caller]
fn said(done: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{:?}\n{out}\n{err}", done.status);
    out.into_owned()
}

const BY_SYSTEMD: &str = r#"
e '.linux.cgroupsPath="user.slice:test:rl" | .linux.resources={memory:{limit:67108864},pids:{limit:33},cpu:{quota:50000,period:100000}}'
"$D" --systemd-cgroup run -d rl; cg rl
show() { systemctl --user show --value -p MemoryMax -p TasksMax -p CPUQuotaPerSecUSec test-rl.scope | sort; }
show
"$D" exec rl id -u
"$D" pause rl; "$D" state rl | jq -r .status; "$D" resume rl
"$D" --systemd-cgroup update --memory 128m rl; show | head -n 1
"$D" ps --format json rl | jq length
"$D" --systemd-cgroup delete -f rl; "$D" list -q
systemctl --user show --value -p LoadState test-rl.scope
"#;

const SAID_BY_SYSTEMD: &str = "0::/user.slice/user-1000.slice/user@1000.service/user.slice/test-rl.scope\n\
    33\n500ms\n67108864\n0\npaused\n134217728\n1\nnot-found\n";

#[test]
fn a_scope_of_the_users_manager() {
    let Some(s) = Scripts::new("scope") else { return };
    // `sort` is by text: 134217728 comes first.
    assert_eq!(s.below_the_manager(BY_SYSTEMD), SAID_BY_SYSTEMD);
}

/// Neither clone3 into the scope nor a write to its cgroup.procs is allowed from there: the manager does it.
#[test]
fn a_scope_from_a_login_session() {
    let Some(s) = Scripts::new("login") else { return };
    assert_eq!(s.outside(BY_SYSTEMD), SAID_BY_SYSTEMD);
}

#[test]
fn directories_where_they_are_delegated() {
    let Some(s) = Scripts::new("fs") else { return };
    let script = r#"
e '.linux.resources.memory={limit:67108864} | .linux.resources.pids={limit:9}'
"$D" run -d one; at=/sys/fs/cgroup$(cg one | cut -d: -f3)
cat $at/memory.max $at/pids.max
"$D" pause one; "$D" state one | jq -r .status; "$D" resume one
"$D" exec one sh -c 'exit 7' || echo "code $?"
"$D" delete -f one; test ! -e $at && echo gone
"#;
    assert_eq!(s.below_the_manager(script), "67108864\n9\npaused\ncode 7\ngone\n");
}

#[test]
fn without_any_cgroup() {
    let Some(s) = Scripts::new("none") else { return };
    let script = r#"
"$D" run -d one; "$D" exec one id -u; "$D" state one | jq -r .status
"$D" pause one 2>&1 | grep -o 'cgroups not configured for container'
"$D" delete -f one
e '.linux.resources.memory={limit:67108864}'
"$D" run two 2>&1 | grep -o 'rootless needs no limits + no cgrouppath'
"$D" --rootless false run three 2>&1 | grep -o 'ermission denied'
"$D" list -q
"#;
    assert_eq!(s.outside(script), "0\nrunning\ncgroups not configured for container\nrootless needs no limits + no cgrouppath\nermission denied\n");
}

#[test]
fn subordinate_ids() {
    let Some(s) = Scripts::new("subids") else { return };
    let script = r#"
e '.linux.uidMappings=[{containerID:0,hostID:1000,size:1},{containerID:1,hostID:100000,size:65535}] | .linux.gidMappings=.linux.uidMappings'
e 'reduce ("bounding","effective","permitted") as $set (.; .process.capabilities[$set]+=["CAP_CHOWN"])'
e '.process.args=["sh","-c","cat /proc/self/uid_map; touch /tmp/f; chown 5:6 /tmp/f; stat -c %u:%g /tmp/f"]'
"$D" run one | tr -s ' '; stat -c %u:%g rootfs/tmp/f
e '.process.user={uid:33,gid:34} | .process.args=["id"]'
"$D" run two
"#;
    assert_eq!(s.below_the_manager(script), " 0 1000 1\n 1 100000 65535\n5:6\n100004:100005\nuid=33 gid=34\n");
}

/// /sys of the host, as `spec --rootless` has it, and a writable cgroup of its own below.
#[test]
fn a_delegated_cgroup_in_a_bound_sys() {
    let Some(s) = Scripts::new("sys") else { return };
    let script = r#"
jq -c '.mounts[]|select(.destination=="/sys")|[.type,.source]' config.json
e '.linux.cgroupsPath="user.slice:test:sys" | .mounts|=map(select(.destination!="/sys/fs/cgroup"))'
e '.mounts+=[{destination:"/sys/fs/cgroup",type:"cgroup",source:"cgroup",options:["nosuid","noexec","nodev"]}]'
e '.process.args=["sh","-c","mkdir /sys/fs/cgroup/x && echo 1 >/sys/fs/cgroup/x/cgroup.procs && cat /proc/self/cgroup; ls /sys/kernel | head -c 1"]'
"$D" --systemd-cgroup run one | head -n 1
"#;
    assert_eq!(s.below_the_manager(script), "[\"none\",\"/sys\"]\n0::/x\n");
}

/// systemd in a container does this; exec goes where its first process is.
#[test]
fn exec_into_a_container_that_has_spread_over_its_cgroup() {
    let Some(s) = Scripts::new("spread") else { return };
    let script = r#"
e '.linux.cgroupsPath="user.slice:test:spread" | .mounts|=map(select(.destination!="/sys/fs/cgroup"))'
e '.mounts+=[{destination:"/sys/fs/cgroup",type:"cgroup",source:"cgroup",options:["nosuid","noexec","nodev"]}]'
e '.process.args=["sh","-c","cd /sys/fs/cgroup && mkdir init && echo 1 >init/cgroup.procs && echo +memory >cgroup.subtree_control && touch /tmp/spread; exec sleep 1000"]'
"$D" --systemd-cgroup run -d one; until [ -e rootfs/tmp/spread ]; do sleep 0.05; done
"$D" exec one cat /proc/self/cgroup
"$D" exec --cgroup nowhere one true 2>&1 | grep -o "putting the process into systemd's unit"
"$D" delete -f one
"#;
    assert_eq!(s.below_the_manager(script), "0::/init\nputting the process into systemd's unit\n");
}

#[test]
fn podman() {
    let Some(s) = Scripts::new("podman") else { return };
    let script = r#"
for manager in systemd cgroupfs; do
    p() { podman --runtime "$D" --cgroup-manager $manager "$@"; }
    p run --rm --network none --memory 64m --rootfs "$DIR/rootfs" sh -c 'id -u; cat /sys/fs/cgroup/memory.max'
    p run -d --name "c-$manager" --network none --rootfs "$DIR/rootfs" sleep 1000 >/dev/null
    p exec "c-$manager" sh -c 'exit 9' || echo "code $?"
    p pause "c-$manager" >/dev/null; p inspect -f '{{.State.Status}}' "c-$manager"; p unpause "c-$manager" >/dev/null
    p rm -f -t 0 "c-$manager" >/dev/null
done
podman --runtime "$D" run --rm --rootfs "$DIR/rootfs" cat /proc/net/dev | grep -c tap0
podman unshare rm -rf "$DIR/.local" "$DIR/.config"
"#;
    let each = "0\n67108864\ncode 9\npaused\n";
    assert_eq!(s.below_the_manager(script), format!("{each}{each}1\n"));
}

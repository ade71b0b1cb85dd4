//! Podman, Docker and containerd with dhow as their runtime and systemd as their cgroup manager, in the guest. Each
//! daemon has its own root, socket and state.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Place(PathBuf, Vec<Child>);

impl Place {
    /// A directory with a busybox root, and dhow in it; None where this can't be tried.
    fn new(test: &str, needs: &[&str]) -> Option<Place> {
        // SAFETY: geteuid(2) can't fail.
        let root = unsafe { libc::geteuid() } == 0;
        let missing = needs.iter().find(|tool| !Path::new("/usr/bin").join(tool).exists() && !Path::new("/usr/sbin").join(tool).exists());
        if !root || !Path::new("/run/systemd/system").exists() || missing.is_some() {
            eprintln!("skipped: cgroup v2: {test}: needs root, systemd on cgroup v2{} (make test-vm)", missing.map_or(String::new(), |m| format!(" and {m}")));
            return None;
        }
        let dir = std::env::temp_dir().join(format!("sdc-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let place = Place(dir, Vec::new());
        place.sh("mkdir -p rootfs/bin rootfs/proc rootfs/sys rootfs/dev rootfs/tmp rootfs/etc && cp /bin/busybox rootfs/bin/ && \
            for a in sh cat sleep true; do ln -s busybox rootfs/bin/$a; done");
        std::fs::copy(std::env::var_os("RUNTIME").map_or_else(|| env!("CARGO_BIN_EXE_dhow").into(), PathBuf::from), place.0.join("dhow")).unwrap();
        Some(place)
    }

    /// What a script prints; it must succeed.
    #[track_caller]
    fn sh(&self, script: &str) -> String {
        let done = Command::new("timeout").args(["120", "sh", "-ec", script]).current_dir(&self.0).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        let logs =
            || Command::new("sh").args(["-c", "tail -n 15 *.log"]).current_dir(&self.0).output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        assert!(done.status.success(), "{script}\n{out}\n{err}\n{}", logs().unwrap_or_default());
        out.into_owned()
    }

    /// A daemon, until the socket that it makes is there.
    fn daemon(&mut self, name: &str, args: &[&str], socket: &str) {
        let log = std::fs::File::create(self.0.join(format!("{name}.log"))).unwrap();
        let child = Command::new(name).args(args).current_dir(&self.0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.1.push(child);
        let end = Instant::now() + Duration::from_secs(60);
        while !self.0.join(socket).exists() {
            assert!(Instant::now() < end, "{name} makes no {socket}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn containerd(&mut self) {
        let dir = self.0.display().to_string();
        let config = format!("version = 2\nroot = \"{dir}/ctd\"\nstate = \"{dir}/ctd-state\"\n[grpc]\naddress = \"{dir}/ctd.sock\"\n");
        std::fs::write(self.0.join("ctd.toml"), config).unwrap();
        self.daemon("containerd", &["--config", "ctd.toml"], "ctd.sock");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for child in self.1.iter_mut().rev() {
            // SAFETY: kill(2) of our own child, which is not reaped yet.
            unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
            let _ = child.wait();
        }
        let _ = Command::new("sh").arg("-c").arg("umount -R -l */*/*/merged */* 2>/dev/null; cd / && rm -rf \"$OLDPWD\"").current_dir(&self.0).status();
    }
}

#[test]
fn podman() {
    let Some(place) = Place::new("podman", &["podman"]) else { return };
    let out = place.sh(r#"p() { podman --root "$PWD/store" --runroot "$PWD/run" --runtime "$PWD/dhow" --cgroup-manager systemd "$@" 2>>podman.log; }
        p run --rm --network none --memory 64m --cpus 0.5 --rootfs "$PWD/rootfs" cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max
        id=$(p run -d --name sdc --network none --rootfs "$PWD/rootfs" sleep 1000)
        systemctl show --value -p ActiveState "libpod-$id.scope"
        p exec sdc cat /proc/self/cgroup
        p update --memory 128m sdc >/dev/null; systemctl show --value -p MemoryMax "libpod-$id.scope"
        p pause sdc >/dev/null; p inspect -f '{{.State.Status}}' sdc; p unpause sdc >/dev/null
        systemctl daemon-reload; p exec sdc true
        p rm -f -t 0 sdc >/dev/null; systemctl show --value -p LoadState "libpod-$id.scope""#);
    assert_eq!(out, "67108864\n50000 100000\nactive\n0::/\n134217728\npaused\nnot-found\n");
}

#[test]
fn docker() {
    let Some(mut place) = Place::new("docker", &["dockerd", "containerd"]) else { return };
    place.containerd();
    let dir = place.0.display().to_string();
    let config = format!(
        r#"{{"runtimes":{{"dhow":{{"path":"{dir}/dhow"}}}},"default-runtime":"dhow","exec-opts":["native.cgroupdriver=systemd"],"containerd":"{dir}/ctd.sock",
        "data-root":"{dir}/docker","exec-root":"{dir}/docker-exec","pidfile":"{dir}/docker.pid","hosts":["unix://{dir}/docker.sock"],"bridge":"none","iptables":false,"ip6tables":false}}"#
    );
    std::fs::write(place.0.join("daemon.json"), config).unwrap();
    place.daemon("dockerd", &["--config-file", "daemon.json"], "docker.sock");
    let out = place.sh(r#"d() { docker -H "unix://$PWD/docker.sock" "$@"; }
        tar c -C rootfs . | d import - box >/dev/null
        d run --rm --network none -m 64m --cpus 0.5 box cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max 2>/dev/null
        id=$(d run -d --network none box sleep 1000)
        systemctl show --value -p ActiveState "docker-$id.scope"
        d exec $id cat /proc/self/cgroup
        d update -m 128m --memory-swap 128m $id >/dev/null; systemctl show --value -p MemoryMax "docker-$id.scope"
        d pause $id >/dev/null; d inspect -f '{{.State.Status}}' $id; d unpause $id >/dev/null
        systemctl daemon-reload; d exec $id true
        d stats --no-stream --format '{{.PIDs}}' $id
        d rm -f $id >/dev/null; systemctl show --value -p LoadState "docker-$id.scope""#);
    assert_eq!(out, "67108864\n50000 100000\nactive\n0::/\n134217728\npaused\n1\nnot-found\n");
}

#[test]
fn containerd() {
    let Some(mut place) = Place::new("containerd", &["containerd", "podman"]) else { return };
    place.containerd();
    let out = place.sh(r#"c() { ctr -a "$PWD/ctd.sock" "$@"; }
        tar c -C rootfs . | podman --root "$PWD/store" --runroot "$PWD/run" import - box >/dev/null 2>&1
        podman --root "$PWD/store" --runroot "$PWD/run" save -o box.tar box >/dev/null 2>&1
        c image import box.tar >/dev/null; image=$(c image ls -q)
        c run --rm --runc-binary "$PWD/dhow" --runc-systemd-cgroup --cgroup system.slice:sdc:one $image one cat /proc/self/cgroup
        c run -d --runc-binary "$PWD/dhow" --runc-systemd-cgroup --cgroup system.slice:sdc:two $image two sleep 1000
        systemctl show --value -p ActiveState sdc-two.scope
        c task exec --exec-id e two cat /proc/self/cgroup
        c task pause two; c task ls | grep -o PAUSED; c task resume two
        c task kill -s KILL two; c task delete two >/dev/null 2>&1 || true
        c container delete two; systemctl show --value -p LoadState sdc-two.scope"#);
    assert_eq!(out, "0::/system.slice/sdc-one.scope\nactive\n0::/system.slice/sdc-two.scope\nPAUSED\nnot-found\n");
}

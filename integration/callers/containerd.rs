//! A containerd of its own; its config file names the runtime under test for CRI, `ctr` takes it as a flag.

use super::{Machine, images};
use crate::support::{Outcome, runtime, status_field};
use std::process::Child;

pub struct Containerd {
    pub machine: Machine,
    _daemon: Child,
}

const CONFIG: &str = r#"
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "example.com/pause:1"
  restrict_oom_score_adj = RESTRICT
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "dhow"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.dhow]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.dhow.options]
        BinaryName = "RUNTIME"
"#;

pub fn installed_runtime() -> String {
    format!("/usr/local/bin/{}", runtime().file_name().unwrap().to_str().unwrap())
}

fn has_sys_resource() -> bool {
    const CAP_SYS_RESOURCE: u64 = 24;
    let ours = std::fs::read_to_string("/proc/self/status").unwrap();
    u64::from_str_radix(&status_field(&ours, "CapEff"), 16).unwrap() & 1 << CAP_SYS_RESOURCE != 0
}

impl Containerd {
    /// Up, with the image `example.com/busybox:1` in both of the namespaces `default` and `k8s.io`.
    pub fn new(name: &str) -> Containerd {
        let machine = Machine::new(name);
        // without CAP_SYS_RESOURCE, a pause container can't have the score that containerd gives it
        let config = CONFIG.replace("RUNTIME", &installed_runtime()).replace("RESTRICT", if has_sys_resource() { "false" } else { "true" });
        machine.write("/etc/containerd/config.toml", &config);
        let daemon = machine.daemon("containerd", &[], || machine.call("ctr", &["version"]).code == 0);
        let containerd = Containerd { machine, _daemon: daemon };
        let image = images::busybox(&containerd.machine.dir, "example.com/busybox:1", &["sh"]);
        containerd.ok(&["image", "import", image.to_str().unwrap()]);
        containerd
    }

    #[track_caller]
    pub fn ctr(&self, args: &[&str]) -> Outcome {
        self.machine.call("ctr", args)
    }

    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.ctr(args).ok().to_string()
    }

    /// `ctr run --runc-binary RUNTIME OPTIONS IMAGE ID sh -c SCRIPT`.
    #[track_caller]
    pub fn run(&self, options: &[&str], id: &str, script: &str) -> Outcome {
        let binary = installed_runtime();
        let mut args = vec!["run", "--runc-binary", &binary];
        args.extend(options);
        // ctr stops reading when it hears of the end (containerd's Task.Delete cancels the opening of the fifos): on a busy
        // machine what a program of ten milliseconds printed was lost once.
        let script = format!("trap 'sleep 0.2' EXIT\n{script}");
        args.extend(["example.com/busybox:1", id, "sh", "-c", &script]);
        self.ctr(&args)
    }
}

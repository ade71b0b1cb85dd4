//! Podman and Buildah, in a machine whose containers.conf names the runtime under test.

use super::containerd::installed_runtime;
use super::{LIMIT, Machine, images};
use crate::support::Outcome;
use crate::support::pty::{self, Terminal};
use std::process::Child;

pub struct Podman {
    pub machine: Machine,
}

/// This machine can't raise limits: Podman's own defaults are above the hard ones where CAP_SYS_RESOURCE is missing.
const CONFIG: &str = r#"
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=1000:1000"]
[engine]
runtime = "dhow"
cgroup_manager = "cgroupfs"
events_logger = "file"
[engine.runtimes]
dhow = ["RUNTIME"]
"#;

impl Podman {
    /// With the image `localhost/busybox`.
    pub fn new(name: &str) -> Podman {
        let machine = Machine::new(name);
        machine.write("/etc/containers/containers.conf", &CONFIG.replace("RUNTIME", &installed_runtime()));
        let podman = Podman { machine };
        let image = images::busybox(&podman.machine.dir, "localhost/busybox:latest", &["sh"]);
        podman.ok(&["load", "-q", "-i", image.to_str().unwrap()]);
        podman
    }

    #[track_caller]
    pub fn call(&self, program: &str, args: &[&str]) -> Outcome {
        let mut command = self.machine.settled(program);
        command.args(args);
        self.machine.finish(command, LIMIT)
    }

    #[track_caller]
    pub fn podman(&self, args: &[&str]) -> Outcome {
        self.call("podman", args)
    }

    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.podman(args).ok().to_string()
    }

    /// `podman run --rm OPTIONS busybox sh -c SCRIPT`.
    #[track_caller]
    pub fn sh(&self, options: &[&str], script: &str) -> Outcome {
        let mut args = vec!["run", "--rm"];
        args.extend(options);
        args.extend(["localhost/busybox", "sh", "-c", script]);
        self.podman(&args)
    }

    pub fn at_terminal(&self, args: &[&str]) -> (Child, Terminal) {
        let (terminal, slave) = pty::open();
        terminal.resize(30, 90);
        let mut command = self.machine.settled("podman");
        command.args(args).env("TERM", "xterm");
        pty::sit_at(&mut command, &slave);
        (command.spawn().unwrap(), terminal)
    }
}

//! A Docker engine of its own, with the runtime under test as its default.

use super::{LIMIT, Machine, images};
use crate::support::pty::{self, Terminal};
use crate::support::{Outcome, runtime};
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

pub struct Docker {
    pub machine: Machine,
    /// As on most machines a service of its own. One that dockerd starts itself must be up within 15 seconds.
    _containerd: Child,
    daemon: Mutex<Option<Child>>,
}

const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// Docker's own name for runc is taken.
pub fn runtime_name() -> &'static str {
    if runtime().file_name().is_some_and(|n| n == "runc") { "under-test" } else { "dhow" }
}

impl Docker {
    /// Up, with the image `busybox` loaded.
    pub fn new(name: &str) -> Docker {
        Docker::with(name, json!({}))
    }

    /// `settings` are further lines of daemon.json.
    pub fn with(name: &str, settings: Value) -> Docker {
        let machine = Machine::new(name);
        machine.write("/etc/containerd/config.toml", "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n");
        let containerd = machine.daemon("containerd", &[], || machine.call("ctr", &["version"]).code == 0);
        let docker = Docker { machine, _containerd: containerd, daemon: Mutex::new(None) };
        let path = format!("/usr/local/bin/{}", runtime().file_name().unwrap().to_str().unwrap());
        let mut config = json!({
            "runtimes": {runtime_name(): {"path": path}},
            "default-runtime": runtime_name(),
        });
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        docker.machine.write("/etc/docker/daemon.json", &config.to_string());
        docker.start_daemon();
        let image = images::busybox(&docker.machine.dir, "busybox:latest", &["sh"]);
        docker.ok(&["load", "-q", "-i", image.to_str().unwrap()]);
        docker
    }

    pub fn start_daemon(&self) {
        let up = || self.run(&["version", "-f", "{{.Server.Version}}"]).code == 0;
        *self.daemon.lock().unwrap() = Some(self.machine.daemon("dockerd", &["--containerd", CONTAINERD], up));
    }

    /// As systemd stops it: SIGTERM to the daemon alone.
    pub fn stop_daemon(&self) {
        self.machine.sh("kill $(cat /run/docker.pid)").ok();
        let mut daemon = self.daemon.lock().unwrap().take().expect("a daemon");
        crate::support::wait(&mut daemon, LIMIT).expect("dockerd ends");
    }

    /// The client of the same package as the daemon.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.machine.command("/usr/bin/docker");
        command.args(args).env_remove("DOCKER_HOST").env("DOCKER_BUILDKIT", "0");
        command
    }

    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Outcome {
        self.run_within(LIMIT, args)
    }

    #[track_caller]
    pub fn run_within(&self, limit: Duration, args: &[&str]) -> Outcome {
        self.machine.finish(self.command(args), limit)
    }

    /// It succeeds; what it prints.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.run(args).ok().to_string()
    }

    /// `docker run --rm OPTIONS busybox sh -c SCRIPT`.
    #[track_caller]
    pub fn sh(&self, options: &[&str], script: &str) -> Outcome {
        let mut args = vec!["run", "--rm"];
        args.extend(options);
        args.extend(["busybox", "sh", "-c", script]);
        self.run(&args)
    }

    /// A container in the background, removed when dropped.
    #[track_caller]
    pub fn up(&self, name: &str, options: &[&str], script: &str) -> Container<'_> {
        let mut args = vec!["run", "-d", "--name", name];
        args.extend(options);
        args.extend(["busybox", "sh", "-c", script]);
        self.ok(&args);
        Container { docker: self, name: name.into() }
    }

    /// The client at a terminal of ours.
    pub fn at_terminal(&self, args: &[&str]) -> (Child, Terminal) {
        let (terminal, slave) = pty::open();
        terminal.resize(30, 90);
        let mut command = self.command(args);
        command.env("TERM", "xterm");
        pty::sit_at(&mut command, &slave);
        (command.spawn().unwrap(), terminal)
    }

    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        self.run(&["inspect", name]).json()[0].take()
    }

    /// The events of one container so far, and on until `count` have come.
    pub fn events(&self, args: &[&str]) -> Child {
        let mut all = vec!["events", "--format", "{{.Action}} {{.Actor.Attributes.name}}"];
        all.extend(args);
        self.command(&all).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }
}

pub struct Container<'d> {
    docker: &'d Docker,
    pub name: String,
}

impl Container<'_> {
    #[track_caller]
    pub fn exec(&self, script: &str) -> Outcome {
        self.docker.run(&["exec", &self.name, "sh", "-c", script])
    }

    #[track_caller]
    pub fn state(&self) -> Value {
        self.docker.inspect(&self.name)["State"].take()
    }

    pub fn logs(&self) -> String {
        self.docker.run(&["logs", &self.name]).out
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let gone = self.docker.run(&["rm", "-f", "-v", &self.name]);
        if !std::thread::panicking() {
            assert!(gone.code == 0 || gone.err.contains("No such container"), "{gone:?}");
        }
    }
}

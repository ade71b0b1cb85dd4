//! The machines that real callers run on, the callers' daemons, and the images that they start.
//!
//! Each [`Machine`] is a set of namespaces that `machine.sh` makes: a daemon in it is configured at its usual paths, as on
//! any host, and goes with it. The runtime is `$RUNTIME`, else the dhow of this build, so that the same test shows what
//! runc does.

#![allow(dead_code)]

pub mod containerd;
pub mod cri;
pub mod docker;
pub mod images;
pub mod podman;

use crate::support::{Outcome, patience, runtime, status_code, wait};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a call of a caller may take; a pull or a build of a real image takes longer and says so.
pub const LIMIT: Duration = Duration::from_secs(60);

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integration/callers");

/// Leave the test where one of these programs isn't installed, naming it.
#[macro_export]
macro_rules! needs_caller {
    ($($program:literal),+) => {{
        needs_root!();
        // the machine's pid 1 is tini
        for program in ["tini", $($program),+] {
            if !$crate::callers::has(program) {
                skip!("{program} is not installed");
            }
        }
    }};
}

pub fn has(program: &str) -> bool {
    ["/usr/bin", "/usr/sbin", "/usr/local/bin"].iter().any(|dir| Path::new(dir).join(program).exists())
}

/// A machine goes when it is dropped, and also when the test's process ends: one in a `static` is no leak.
pub struct Machine {
    pub dir: PathBuf,
    /// Its pid 1, which holds the namespaces.
    pub pid: u32,
    shell: Child,
    _until: ChildStdin,
    calls: AtomicU32,
}

impl Machine {
    pub fn new(name: &str) -> Machine {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("dhowm-{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(&dir).unwrap();
        let log = File::create(dir.join("machine.log")).unwrap();
        let mut shell = Command::new(format!("{SCRIPTS}/machine.sh"))
            .args([name.as_ref(), dir.as_os_str(), runtime().as_os_str()])
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let until = shell.stdin.take().unwrap();
        let said = || fs::read_to_string(dir.join("machine.log")).unwrap_or_default();
        await_true("the machine", LIMIT, || dir.join("ready").exists(), said);
        let pid = fs::read_to_string(dir.join("ready")).unwrap().trim().parse().unwrap();
        Machine { dir, pid, shell, _until: until, calls: AtomicU32::new(0) }
    }

    /// `program` in the machine, in the cgroups of the test.
    pub fn command(&self, program: &str) -> Command {
        self.by(Command::new("nsenter"), program)
    }

    /// `program` in the machine's own cgroups, as one that makes containers must be.
    pub fn settled(&self, program: &str) -> Command {
        if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            let mut command = self.command(&format!("{SCRIPTS}/enter.sh"));
            command.arg(program);
            return command;
        }
        // v2 lets nobody cross the border of a cgroup namespace from inside it.
        let name = self.dir.file_name().unwrap().to_str().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo 0 >\"$0\" && exec nsenter \"$@\"", &format!("/sys/fs/cgroup/{name}/init/cgroup.procs")]);
        self.by(command, program)
    }

    /// With nsenter's arguments behind `command`.
    fn by(&self, mut command: Command, program: &str) -> Command {
        let dir = format!("--wd={}", self.dir.display());
        command.args(["-t", &self.pid.to_string(), "-m", "-p", "-n", "-i", "-C", &dir, "--", program]);
        command.env_remove("XDG_RUNTIME_DIR").env("HOME", "/root");
        command
    }

    /// Run it to its end. What it prints goes by files: a container may keep them open.
    #[track_caller]
    pub fn finish(&self, mut command: Command, limit: Duration) -> Outcome {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (self.dir.join(format!("out.{number}")), self.dir.join(format!("err.{number}")));
        let mut child = command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap()).spawn().unwrap();
        let status = wait(&mut child, limit);
        let read = |p: &Path| String::from_utf8_lossy(&fs::read(p).unwrap_or_default()).into_owned();
        let (out, err) = (read(&out), read(&err));
        let status = status.unwrap_or_else(|| panic!("{command:?} did not end within {limit:?}; stdout: {out:?}, stderr: {err:?}"));
        Outcome { code: status_code(status), out, err }
    }

    #[track_caller]
    pub fn call(&self, program: &str, args: &[&str]) -> Outcome {
        let mut command = self.command(program);
        command.args(args);
        self.finish(command, LIMIT)
    }

    #[track_caller]
    pub fn sh(&self, script: &str) -> Outcome {
        self.call("sh", &["-c", script])
    }

    /// Start a daemon; `ready` is tried until it answers.
    #[track_caller]
    pub fn daemon(&self, program: &str, args: &[&str], ready: impl Fn() -> bool) -> Child {
        let path = self.dir.join(format!("{program}.log"));
        let log = File::options().create(true).append(true).open(&path).unwrap();
        let mut command = self.settled(program);
        command.args(args).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap();
        let said = || fs::read_to_string(&path).unwrap_or_default();
        let ready_or_dead = || {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "{program} ended ({ended:?}): {}", said());
            ready()
        };
        await_true(program, LIMIT, ready_or_dead, said);
        child
    }

    /// A file of the machine, at its path in there.
    pub fn write(&self, path: &str, text: &str) {
        let staged = self.dir.join("staged");
        fs::write(&staged, text).unwrap();
        self.sh(&format!("mkdir -p \"$(dirname {path})\" && cat {} >{path}", staged.display())).ok();
    }

    /// Fetch a page from inside; None until somebody answers.
    pub fn get(&self, url: &str) -> Option<String> {
        Some(self.call("curl", &["-sf", "--max-time", "5", url])).filter(|o| o.code == 0).map(|o| o.out)
    }

    /// What containers may leave behind, counted.
    pub fn census(&self) -> Census {
        let lines = |script: &str| self.sh(script).ok().lines().map(str::to_string).collect();
        Census {
            mounts: lines("awk '{ print $5 }' /proc/self/mountinfo | sort"),
            cgroups: lines("find /sys/fs/cgroup -mindepth 2 -type d | sort"),
            processes: lines("ps -eo args= | grep -v -e '^ps ' -e '^sh -c' -e '^grep ' -e '\\[.*\\]' | sort"),
            states: lines("find /run -mindepth 1 -name state.json | sort"),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // SAFETY: kill(2) of a process of ours: pid 1 of the machine, with which all of it goes.
        unsafe { libc::kill(self.pid as i32, libc::SIGKILL) };
        let _ = wait(&mut self.shell, LIMIT);
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Census {
    pub mounts: Vec<String>,
    pub cgroups: Vec<String>,
    pub processes: Vec<String>,
    pub states: Vec<String>,
}

/// Wait for it; at the limit, fail with what `said` has to say.
#[track_caller]
pub fn await_true(what: &str, limit: Duration, mut ready: impl FnMut() -> bool, said: impl Fn() -> String) {
    let end = Instant::now() + limit * patience();
    while !ready() {
        assert!(Instant::now() < end, "{what}: not within {limit:?}: {}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
}

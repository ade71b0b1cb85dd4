//! What the black-box tests stand on: a bundle of their own each, the runtime under test with a time limit, and a
//! guard that deletes the container by force and checks that nothing of it is left.
//!
//! The runtime is `$RUNTIME`, else the dhow of this build, so that the same test runs against a peer.

#![allow(dead_code)]

use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

mod call;
mod machine;
pub mod pty;

pub use call::*;
pub use machine::*;

/// How long any verb may take.
pub const LIMIT: Duration = Duration::from_secs(20);

const APPLETS: &str = "arch ash awk basename cat chmod chown chrt cp cut date dd df dirname echo env expr false find grep head hexdump \
    hostname id ifconfig ionice ip kill ln ls md5sum mkdir mkfifo mknod mount mv nc nproc od ping pivot_root printf ps pwd readlink rm \
    rmdir sed seq setsid sh sleep sort stat stty sync tail tee test time timeout top touch tr true tty umount uname uniq unlink usleep \
    wc which whoami xargs yes";

/// Say that the machine at hand lacks something, by name, and leave the test.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        eprintln!("skipped: {}: {}", std::thread::current().name().unwrap_or("?"), format_args!($($reason)*));
        return;
    }};
}

/// Leave the test where we aren't root.
#[macro_export]
macro_rules! needs_root {
    () => {
        // SAFETY: geteuid(2) can't fail.
        if unsafe { libc::geteuid() } != 0 {
            skip!("needs root");
        }
    };
}

/// The runtime under test.
pub fn runtime() -> PathBuf {
    std::env::var_os("RUNTIME").filter(|r| !r.is_empty()).map_or_else(|| env!("CARGO_BIN_EXE_dhow").into(), PathBuf::from)
}

/// A bundle with a busybox root, its own `--root` and a unique id. Dropped, it takes the container with it, and fails
/// the test when something of it is left.
pub struct Bundle {
    pub dir: PathBuf,
    pub id: String,
    /// `--root` of every call.
    pub state_root: PathBuf,
    pub config: RefCell<Value>,
    env: RefCell<Vec<(String, String)>>,
    clear_env: Cell<bool>,
    calls: Cell<u32>,
    last_made: Cell<u32>,
    pub limit: Cell<Duration>,
    extra_ids: RefCell<Vec<String>>,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Bundle {
    pub fn new(test: &str) -> Bundle {
        let bundle = Bundle::without_config(test);
        bundle.make_rootfs();
        let made = Command::new(env!("CARGO_BIN_EXE_dhow")).args(["spec", "--bundle"]).arg(&bundle.dir).output().unwrap();
        assert!(made.status.success(), "spec: {made:?}");
        let text = fs::read(bundle.dir.join("config.json")).unwrap();
        *bundle.config.borrow_mut() = serde_json::from_slice(&text).unwrap();
        bundle.set("/process/terminal", json!(false)).set("/root/readonly", json!(false));
        bundle
    }

    /// One whose process is `/bin/sh -c SCRIPT`; None, after saying why, where no container can be run.
    pub fn ready(test: &str, script: &str) -> Option<Bundle> {
        // SAFETY: geteuid(2) can't fail.
        if unsafe { libc::geteuid() } != 0 {
            println!("skipped: {test}: needs root");
            return None;
        }
        let bundle = Bundle::new(test);
        bundle.args(&["/bin/sh", "-c", script]);
        Some(bundle)
    }

    /// An empty directory.
    pub fn without_config(test: &str) -> Bundle {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("dhowt-{test}-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&id);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        Bundle {
            state_root: dir.join("state"),
            dir,
            id,
            config: RefCell::default(),
            env: RefCell::default(),
            clear_env: Cell::new(false),
            calls: Cell::new(0),
            last_made: Cell::new(0),
            limit: Cell::new(LIMIT),
            extra_ids: RefCell::default(),
        }
    }

    fn make_rootfs(&self) {
        let rootfs = self.rootfs("");
        for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "run", "mnt", "root", "usr/bin"] {
            fs::create_dir_all(rootfs.join(dir)).unwrap();
        }
        fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].iter().find(|p| Path::new(p).exists()).expect("busybox-static is needed (apt install busybox-static)");
        fs::copy(busybox, rootfs.join("bin/busybox")).unwrap();
        APPLETS.split_whitespace().for_each(|applet| symlink("busybox", rootfs.join("bin").join(applet)).unwrap());
        fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n").unwrap();
        fs::write(rootfs.join("etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A file of the bundle; empty where it isn't there.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A path of the container on the host.
    pub fn rootfs(&self, name: &str) -> PathBuf {
        self.dir.join("rootfs").join(name.trim_start_matches('/'))
    }

    /// The container's directory below `--root`.
    pub fn state_dir(&self) -> PathBuf {
        self.state_root.join(&self.id)
    }

    // ---- the config

    /// Set what a JSON pointer names; objects on the way are made, `-` appends to an array.
    pub fn set(&self, pointer: &str, value: Value) -> &Bundle {
        set_at(&mut self.config.borrow_mut(), pointer, value);
        self.save();
        self
    }

    /// Change it by hand.
    pub fn edit(&self, change: impl FnOnce(&mut Value)) {
        change(&mut self.config.borrow_mut());
        self.save();
    }

    pub fn remove(&self, pointer: &str) -> &Bundle {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        if let Some(object) = self.config.borrow_mut().pointer_mut(parent).and_then(Value::as_object_mut) {
            object.remove(key);
        }
        self.save();
        self
    }

    pub fn push(&self, pointer: &str, value: Value) -> &Bundle {
        self.set(&format!("{pointer}/-"), value)
    }

    pub fn args(&self, args: &[&str]) -> &Bundle {
        self.set("/process/args", json!(args))
    }

    pub fn sh(&self, script: &str) -> &Bundle {
        self.args(&["sh", "-c", script])
    }

    pub fn sleeps(&self) -> &Bundle {
        self.args(&["sleep", "1000"])
    }

    pub fn mount(&self, kind: &str, source: impl AsRef<Path>, destination: &str, options: &[&str]) -> &Bundle {
        self.push("/mounts", json!({"type": kind, "source": source.as_ref(), "destination": destination, "options": options}))
    }

    pub fn bind(&self, source: impl AsRef<Path>, destination: &str, options: &[&str]) -> &Bundle {
        let options: Vec<&str> = ["bind"].iter().chain(options).copied().collect();
        self.mount("bind", source, destination, &options)
    }

    pub fn without_mount(&self, destination: &str) -> &Bundle {
        self.config.borrow_mut()["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != destination);
        self.save();
        self
    }

    pub fn without_mounts(&self, destinations: &[&str]) -> &Bundle {
        destinations.iter().fold(self, |b, destination| b.without_mount(destination))
    }

    pub fn without_namespace(&self, kind: &str) -> &Bundle {
        self.config.borrow_mut()["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != kind);
        self.save();
        self
    }

    pub fn join_namespace(&self, kind: &str, path: &str) -> &Bundle {
        self.without_namespace(kind).push("/linux/namespaces", json!({"type": kind, "path": path}))
    }

    /// A user namespace whose root is uid `first` outside, and a rootfs that belongs to it.
    pub fn userns(&self, first: u32) -> &Bundle {
        let map = json!([{"containerID": 0, "hostID": first, "size": 65536}]);
        self.push("/linux/namespaces", json!({"type": "user"}));
        self.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        let done = Command::new("chown").args(["-Rh", &format!("{first}:{first}")]).arg(self.rootfs("")).status().unwrap();
        assert!(done.success());
        self
    }

    /// All capabilities of ours, in the bounding, effective and permitted sets.
    pub fn privileged(&self) -> &Bundle {
        let features: Value = serde_json::from_slice(&Command::new(env!("CARGO_BIN_EXE_dhow")).arg("features").output().unwrap().stdout).unwrap();
        let ours = fs::read_to_string("/proc/self/status").unwrap();
        let bounding = ours.lines().find_map(|l| l.strip_prefix("CapBnd:")).map(|h| u64::from_str_radix(h.trim(), 16).unwrap()).unwrap();
        let lacks_resource = bounding & (1 << 24) == 0;
        let mut caps = features["linux"]["capabilities"].as_array().unwrap().clone();
        caps.retain(|c| !(lacks_resource && c == "CAP_SYS_RESOURCE"));
        for set in ["bounding", "effective", "permitted"] {
            self.set(&format!("/process/capabilities/{set}"), json!(caps));
        }
        self
    }

    pub fn hook(&self, kind: &str, hook: Value) -> &Bundle {
        self.push(&format!("/hooks/{kind}"), hook)
    }

    /// A hook on the host that runs a script, with its state on stdin.
    pub fn host_hook(&self, kind: &str, script: &str) -> &Bundle {
        self.hook(kind, json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}))
    }

    fn save(&self) {
        self.write_config(&serde_json::to_vec_pretty(&*self.config.borrow()).unwrap());
    }

    pub fn write_config(&self, text: &[u8]) {
        fs::write(self.path("config.json"), text).unwrap();
    }

    /// An executable file of the container.
    pub fn script(&self, name: &str, text: &str) -> &Bundle {
        let path = self.rootfs(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    // ---- the runtime

    /// The runtime's own environment.
    pub fn env(&self, name: &str, value: &str) -> &Bundle {
        self.env.borrow_mut().push((name.into(), value.into()));
        self
    }

    /// The runtime, `--root`, and `args`; stdio is the caller's to choose.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(runtime());
        command.arg("--root").arg(&self.state_root).args(args).current_dir(&self.dir);
        command.env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS");
        command.envs(self.env.borrow().iter().map(|(k, v)| (k, v)));
        command
    }

    /// Run the runtime to its end. What it prints goes by files: a detached container keeps them open.
    pub fn call(&self, args: &[&str]) -> Outcome {
        self.call_with(args, |_| {})
    }

    #[track_caller]
    pub fn call_with(&self, args: &[&str], change: impl FnOnce(&mut Command)) -> Outcome {
        let mut running = self.spawn(args, change);
        running.wait(self.limit.get())
    }

    /// `args` with this on standard input.
    pub fn call_with_input(&self, args: &[&str], input: &str) -> Outcome {
        let path = self.path("input");
        fs::write(&path, input).unwrap();
        self.call_with(args, |c| {
            c.stdin(File::open(&path).unwrap());
        })
    }

    /// The words of a call, for another program's command line.
    pub fn words(&self, args: &[&str]) -> Vec<String> {
        let command = self.command(args);
        std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_str().unwrap().to_string()).collect()
    }

    /// Any program, run as the runtime is.
    #[track_caller]
    pub fn any(&self, words: &[String]) -> Outcome {
        let (program, args) = words.split_first().unwrap();
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.dir);
        self.spawn_command(command, &words.join(" "), |_| {}).wait(self.limit.get())
    }

    #[track_caller]
    pub fn spawn(&self, args: &[&str], change: impl FnOnce(&mut Command)) -> Running {
        if matches!(args.first(), Some(&"create" | &"run")) {
            self.last_made.set(self.calls.get() + 1);
        }
        self.spawn_command(self.command(args), &args.join(" "), change)
    }

    fn spawn_command(&self, mut command: Command, said: &str, change: impl FnOnce(&mut Command)) -> Running {
        let number = self.calls.get() + 1;
        self.calls.set(number);
        let (out, err) = (self.path(&format!("out.{number}")), self.path(&format!("err.{number}")));
        command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        change(&mut command);
        let child = command.spawn().unwrap();
        Running { child, out, err, said: said.into() }
    }

    /// A verb with our id at its end.
    #[track_caller]
    pub fn verb(&self, args: &[&str]) -> Outcome {
        let mut all = args.to_vec();
        all.push(&self.id);
        self.call(&all)
    }

    #[track_caller]
    pub fn run(&self) -> Outcome {
        self.verb(&["run"])
    }

    #[track_caller]
    pub fn create(&self) -> Outcome {
        self.verb(&["create"])
    }

    #[track_caller]
    pub fn start(&self) -> Outcome {
        self.verb(&["start"])
    }

    /// Detached and running.
    #[track_caller]
    pub fn up(&self) -> &Bundle {
        self.verb(&["run", "--detach"]).ok();
        self
    }

    #[track_caller]
    pub fn exec(&self, args: &[&str]) -> Outcome {
        self.exec_with(&[], args)
    }

    #[track_caller]
    pub fn exec_with(&self, flags: &[&str], args: &[&str]) -> Outcome {
        let mut all = vec!["exec"];
        all.extend(flags);
        all.push(&self.id);
        all.extend(args);
        self.call(&all)
    }

    #[track_caller]
    pub fn exec_sh(&self, script: &str) -> Outcome {
        self.exec(&["sh", "-c", script])
    }

    #[track_caller]
    pub fn kill(&self, signal: &str) -> Outcome {
        self.call(&["kill", &self.id, signal])
    }

    #[track_caller]
    pub fn delete(&self) -> Outcome {
        self.verb(&["delete"])
    }

    #[track_caller]
    pub fn state(&self) -> Value {
        self.verb(&["state"]).json()
    }

    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_string()
    }

    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.state()["pid"].as_i64().unwrap() as i32
    }

    #[track_caller]
    pub fn wait_for(&self, what: &str, mut is_so: impl FnMut(&Bundle) -> bool) {
        eventually(what, || is_so(self).then_some(()))
    }

    #[track_caller]
    pub fn await_status(&self, wanted: &str) -> &Bundle {
        eventually(wanted, || (self.status() == wanted).then_some(()));
        self
    }

    /// What the container has printed so far, by the stdout that `create` or `run` was given.
    pub fn printed(&self) -> String {
        fs::read_to_string(self.path(&format!("out.{}", self.last_made.get()))).unwrap_or_default()
    }

    #[track_caller]
    pub fn await_printed(&self, words: &str) -> String {
        eventually(words, || Some(self.printed()).filter(|p| p.contains(words)))
    }

    /// Another id that the guard looks after.
    pub fn another_id(&self, suffix: &str) -> String {
        let id = format!("{}.{suffix}", self.id);
        self.extra_ids.borrow_mut().push(id.clone());
        id
    }

    /// A file of our cgroup; v1's `controller`, or v2's `unified` file.
    pub fn cgroup_file(&self, controller: &str, file: &str) -> Option<PathBuf> {
        let dirs = cgroup_dirs(&self.id);
        let of_v1 = dirs.iter().find(|d| d.starts_with(format!("/sys/fs/cgroup/{controller}")));
        of_v1.or(dirs.first()).map(|d| d.join(file)).filter(|p| p.exists())
    }

    pub fn cgroup_value(&self, controller: &str, file: &str) -> Option<String> {
        fs::read_to_string(self.cgroup_file(controller, file)?).ok().map(|t| t.trim().to_string())
    }

    /// Nothing of the container is left: no state, process, cgroup, mount.
    #[track_caller]
    pub fn assert_gone(&self) {
        let left = self.remains();
        assert!(left.is_empty(), "left behind by {}: {left:#?}", self.id);
    }

    /// What is left of our containers, in words.
    pub fn remains(&self) -> Vec<String> {
        // A process that was killed takes a moment to be gone.
        let end = Instant::now() + Duration::from_millis(1500);
        loop {
            let left = self.remains_now();
            if left.is_empty() || Instant::now() > end {
                return left;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn remains_now(&self) -> Vec<String> {
        let mut left = Vec::new();
        let entries = fs::read_dir(&self.state_root).into_iter().flatten().flatten();
        // The filter cache and its kind begin with a dot.
        left.extend(entries.filter(|e| !e.file_name().to_string_lossy().starts_with('.')).map(|e| format!("state {}", e.path().display())));
        left.extend(cgroup_dirs(&self.id).iter().map(|d| format!("cgroup {}", d.display())));
        left.extend(processes_of(&self.id).iter().map(|p| format!("process {p}")));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let dir = self.dir.join("rootfs").display().to_string();
        left.extend(mounts.lines().filter(|l| l.contains(&dir)).map(|l| format!("mount {l}")));
        left
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let mut ids = self.extra_ids.borrow().clone();
        ids.push(self.id.clone());
        for id in &ids {
            if self.state_root.join(id).exists() {
                let mut child = self.command(&["delete", "--force", id]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
                wait(&mut child, LIMIT);
            }
        }
        let left = self.remains();
        // However bad it is, the next test is not to suffer.
        if !left.is_empty() {
            for pid in processes_of(&self.id) {
                // SAFETY: kill(2) of a process that carries this test's unique id.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            std::thread::sleep(Duration::from_millis(50));
            cgroup_dirs(&self.id).iter().rev().for_each(|d| drop(fs::remove_dir(d)));
            let _ = Command::new("umount").args(["-R", "-l"]).arg(self.rootfs("")).stderr(Stdio::null()).status();
        }
        if std::env::var_os("DHOW_KEEP").is_none() && !mounted_below(&self.dir) {
            let _ = fs::remove_dir_all(&self.dir);
        }
        if !std::thread::panicking() {
            assert!(left.is_empty(), "left behind by {}: {left:#?}", self.id);
        }
    }
}

fn mounted_below(dir: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.contains(&format!("{}/", dir.display()))
}

fn set_at(at: &mut Value, pointer: &str, value: Value) {
    let Some(rest) = pointer.strip_prefix('/') else {
        *at = value;
        return;
    };
    let (key, rest) = rest.find('/').map_or((rest, ""), |end| rest.split_at(end));
    if at.is_null() {
        *at = if key == "-" { json!([]) } else { json!({}) };
    }
    let next = match at {
        Value::Array(list) => {
            if key == "-" {
                list.push(Value::Null);
            }
            let number = key.parse().unwrap_or(list.len() - 1);
            &mut list[number]
        }
        other => &mut other[key],
    };
    set_at(next, rest, value);
}

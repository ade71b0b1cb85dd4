//! A bundle with busybox as its root, and the runtime under test: `$RUNTIME`, else the dhow of this build.

#![allow(dead_code)]

use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const APPLETS: [&str; 15] = ["sh", "true", "false", "sleep", "cat", "echo", "touch", "ip", "ls", "kill", "id", "mkdir", "test", "trap", "head"];

pub fn runtime() -> String {
    std::env::var("RUNTIME").unwrap_or_else(|_| env!("CARGO_BIN_EXE_dhow").into())
}

/// What a command came to.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Outcome {
    #[track_caller]
    pub fn succeeds(self) -> Outcome {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// It "generates an error": a status other than 0, and words on stderr.
    #[track_caller]
    pub fn fails(self) -> Outcome {
        assert!(self.code != 0 && self.code != 124 && !self.err.is_empty(), "an error is wanted: {self:?}");
        self
    }
}

/// A directory with bundle and state of one test, and one container's id. All is removed at the end.
pub struct Bundle {
    pub dir: PathBuf,
    pub id: String,
}

/// Why containers can't be run here: tests skip for that.
fn obstacle() -> Option<&'static str> {
    let uid = Command::new("id").arg("-u").output().ok()?.stdout;
    if uid != b"0\n" {
        return Some("needs root");
    }
    (!Path::new("/usr/bin/busybox").exists() && !Path::new("/bin/busybox").exists()).then_some("needs busybox-static")
}

impl Bundle {
    /// None, after saying why, where no container can be run. Its process is `sh -c SCRIPT`.
    pub fn new(test: &str, script: &str) -> Option<Bundle> {
        if let Some(reason) = obstacle() {
            println!("skipped: {test}: {reason}");
            return None;
        }
        let id = format!("dhow-{}-{}", test.replace('_', "-"), std::process::id());
        let bundle = Bundle { dir: std::env::temp_dir().join(&id), id };
        let _ = fs::remove_dir_all(&bundle.dir);
        let bin = bundle.dir.join("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(bundle.dir.join("state")).unwrap();
        let busybox = if Path::new("/usr/bin/busybox").exists() { "/usr/bin/busybox" } else { "/bin/busybox" };
        fs::copy(busybox, bin.join("busybox")).unwrap();
        APPLETS.iter().for_each(|name| symlink("busybox", bin.join(name)).unwrap());
        bundle.run_in_bundle(&["spec"]).succeeds();
        bundle.edit(|config| {
            config["process"]["terminal"] = false.into();
            config["process"]["args"] = json!(["/bin/sh", "-c", script]);
            config["root"]["readonly"] = false.into();
        });
        Some(bundle)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut config: Value = serde_json::from_str(&self.read("config.json")).unwrap();
        change(&mut config);
        fs::write(self.path("config.json"), config.to_string()).unwrap();
    }

    /// The words of a call of the runtime, with `--root`.
    pub fn words(&self, args: &[&str]) -> Vec<String> {
        let mut words = vec![runtime(), "--root".into(), self.path("state").display().to_string()];
        words.extend(args.iter().map(|a| a.to_string()));
        words
    }

    /// The runtime with these arguments, in the bundle's directory.
    pub fn run_in_bundle(&self, args: &[&str]) -> Outcome {
        self.command(&self.words(args))
    }

    /// Any command, for at most 20 s. Output goes to files, since a container that stays holds it open.
    pub fn command(&self, words: &[String]) -> Outcome {
        let number = fs::read_dir(&self.dir).unwrap().count();
        let (out, err) = (self.path(&format!("out.{number}")), self.path(&format!("err.{number}")));
        let mut command = Command::new("timeout");
        command.args(["-k", "1", "20"]).args(words).current_dir(&self.dir);
        let status = command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap()).status().unwrap();
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Outcome { code: status.code().unwrap_or(-1), out: text(&out), err: text(&err) }
    }

    pub fn create(&self) -> Outcome {
        self.run_in_bundle(&["create", &self.id])
    }

    pub fn start(&self) -> Outcome {
        self.run_in_bundle(&["start", &self.id])
    }

    pub fn run(&self) -> Outcome {
        self.run_in_bundle(&["run", &self.id])
    }

    pub fn kill(&self, signal: &str) -> Outcome {
        self.run_in_bundle(&["kill", &self.id, signal])
    }

    pub fn delete(&self) -> Outcome {
        self.run_in_bundle(&["delete", &self.id])
    }

    pub fn state(&self) -> Value {
        serde_json::from_str(&self.run_in_bundle(&["state", &self.id]).succeeds().out).unwrap()
    }

    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_string()
    }

    #[track_caller]
    pub fn wait_for(&self, what: &str, mut is_so: impl FnMut(&Bundle) -> bool) {
        for _ in 0..500 {
            if is_so(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{what}: not within 10 s");
    }

    #[track_caller]
    pub fn wait_until_stopped(&self) {
        self.wait_for("stopped", |b| b.status() == "stopped");
    }

    /// There is no trace of the container: no state, no cgroup of its name.
    #[track_caller]
    pub fn is_gone(&self) {
        self.run_in_bundle(&["state", &self.id]).fails();
        let left: Vec<_> =
            fs::read_dir(self.path("state")).unwrap().flatten().map(|e| e.file_name()).filter(|n| !n.to_string_lossy().starts_with('.')).collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new());
    }

    /// The cgroups with the container's name, as runc and dhow place them without `cgroupsPath`.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let found = Command::new("find").args(["/sys/fs/cgroup", "-maxdepth", "6", "-type", "d", "-name", &self.id]).output().unwrap();
        String::from_utf8_lossy(&found.stdout).lines().map(PathBuf::from).collect()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.run_in_bundle(&["delete", "--force", &self.id]);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

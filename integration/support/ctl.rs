//! What the tests of dhowctl stand on: a directory of their own each, dhowctl with a clean environment, images made by
//! hand.

#![allow(dead_code)]

use crate::support::{LIMIT, Outcome, status_code, wait};
use dhow::image::model::media;
use dhow::image::{Descriptor, Digest, Store};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that goes with the test; `store` in it is dhowctl's.
pub struct Scratch {
    pub dir: PathBuf,
    calls: AtomicU32,
}

impl Scratch {
    pub fn new(test: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("dhowctl-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("docker")).unwrap();
        fs::write(dir.join("registries.conf"), "").unwrap();
        Scratch { dir, calls: AtomicU32::new(0) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A command with nothing of ours in its environment.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &self.dir).env("DOCKER_CONFIG", self.path("docker")).env("DHOW_STORE", self.path("store"));
        command.env("CONTAINERS_REGISTRIES_CONF", self.path("registries.conf"));
        command
    }

    pub fn ctl_command(&self, args: &[&str]) -> Command {
        self.command(env!("CARGO_BIN_EXE_dhowctl"), args)
    }

    pub fn ctl(&self, args: &[&str]) -> Outcome {
        self.finish(self.ctl_command(args))
    }

    /// With this on standard input.
    pub fn ctl_with_input(&self, args: &[&str], input: &str) -> Outcome {
        let path = self.path("input");
        fs::write(&path, input).unwrap();
        let mut command = self.ctl_command(args);
        command.stdin(File::open(path).unwrap());
        self.finish_as_is(command)
    }

    /// Another program, which has to succeed; what it printed.
    #[track_caller]
    pub fn tool(&self, program: &str, args: &[&str]) -> String {
        self.finish(self.command(program, args)).ok().to_string()
    }

    fn finish(&self, mut command: Command) -> Outcome {
        command.stdin(Stdio::null());
        self.finish_as_is(command)
    }

    fn finish_as_is(&self, command: Command) -> Outcome {
        self.spawn(command).finish()
    }

    /// Begin a command; what it prints goes by files.
    pub fn spawn(&self, mut command: Command) -> Begun {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (self.path(&format!("out.{number}")), self.path(&format!("err.{number}")));
        let child = command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap()).spawn();
        let child = child.unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Begun { child, out, err }
    }

    pub fn store(&self) -> Store {
        Store::open(&self.path("store")).unwrap()
    }

    /// All blobs are right, every image is whole, and nothing half-made is left.
    #[track_caller]
    pub fn assert_sound(&self) {
        self.ctl(&["verify"]).ok();
        assert_eq!(self.partial_blobs(), Vec::<String>::new());
    }

    /// What broken fetches left.
    pub fn partial_blobs(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("store/.ingest")).into_iter().flatten();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A command that runs.
pub struct Begun {
    pub child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Begun {
    pub fn finish(mut self) -> Outcome {
        let status = wait(&mut self.child, LIMIT);
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let (out, err) = (text(&self.out), text(&self.err));
        let status = status.unwrap_or_else(|| panic!("not within {LIMIT:?}: {out}{err}"));
        Outcome { code: status_code(status), out, err }
    }
}

/// A layer's tar: one file of `content`.
pub fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    header.set_cksum();
    builder.append_data(&mut header, name, content).unwrap();
    builder.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that don't compress, always the same for a seed.
pub fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..count.div_ceil(8)).flat_map(|_| next()).take(count).collect()
}

pub fn busybox() -> Vec<u8> {
    let path = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists()).expect("busybox-static is installed");
    fs::read(path).unwrap()
}

/// An image with one gzipped layer for each of `tars`, in `store` under `name`.
pub fn image(store: &Store, name: &str, platform: &str, tars: &[Vec<u8>]) -> Descriptor {
    let put = |tar: &Vec<u8>| store.put(media::LAYER_GZIP, &gzip(tar)).unwrap();
    let layers: Vec<Descriptor> = tars.iter().map(put).collect();
    let ids: Vec<String> = tars.iter().map(|tar| Digest::of(tar).to_string()).collect();
    let mut parts = platform.split('/');
    let config = json!({
        "os": parts.next(), "architecture": parts.next(),
        "config": {"Cmd": ["/bin/busybox", "true"], "Env": ["PATH=/bin"], "Labels": {"test": name}},
        "rootfs": {"type": "layers", "diff_ids": ids},
        "history": tars.iter().map(|_| json!({"created_by": "by hand"})).collect::<Vec<Value>>(),
    });
    let config = store.put(media::CONFIG, config.to_string().as_bytes()).unwrap();
    let manifest = json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": layers});
    let mut descriptor = store.put(media::MANIFEST, manifest.to_string().as_bytes()).unwrap();
    descriptor.platform = Some(platform.parse().unwrap());
    store.set(name, &descriptor).unwrap();
    descriptor
}

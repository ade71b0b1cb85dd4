//! A context to build, and a store with a base image made of busybox.

#![allow(dead_code)]

use crate::ctl::{Scratch, busybox};
use crate::support::{Outcome, eventually};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

const BASE: &str = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
    RUN mkdir -p /etc /tmp /root && printf 'root:x:0:0::/root:/bin/sh\\nweb:x:33:34::/:/bin/sh\\n' > /etc/passwd && \
    printf 'root:x:0:\\nwww:x:34:\\n' > /etc/group && chmod 1777 /tmp\nCMD [\"/bin/sh\"]\n";

/// A context with some files, and a store with a busybox image named `base`.
pub struct Site(pub Scratch);

impl Site {
    pub fn new(test: &str) -> Site {
        let site = Site(Scratch::new(&format!("build-{test}")));
        let dir = site.0.path("base");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("busybox"), busybox()).unwrap();
        fs::set_permissions(dir.join("busybox"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.join("Dockerfile"), BASE).unwrap();
        site.0.ctl(&["build", "-t", "base", "base"]).ok();
        fs::create_dir(site.0.path("ctx")).unwrap();
        site
    }

    pub fn write(&self, path: &str, content: &str) -> PathBuf {
        let path = self.0.path("ctx").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    }

    pub fn build(&self, dockerfile: &str, flags: &[&str]) -> Outcome {
        self.write("Dockerfile", dockerfile);
        self.0.ctl(&[&["build"], flags, &["ctx"]].concat())
    }

    /// Built into a bundle; its root.
    #[track_caller]
    pub fn root(&self, dockerfile: &str, flags: &[&str]) -> PathBuf {
        let bundle = self.0.path("bundle");
        let _ = fs::remove_dir_all(&bundle);
        self.build(dockerfile, &[flags, &["-o", "bundle:bundle"]].concat()).ok();
        bundle.join("rootfs")
    }

    /// The config of the image `name`.
    pub fn config(&self, name: &str) -> Value {
        let store = self.0.store();
        let entry = store.resolve(name).unwrap();
        let image = store.image(&entry.descriptor, &dhow::image::Platform::host()).unwrap();
        serde_json::from_slice(&store.read_blob(&image.manifest.config).unwrap()).unwrap()
    }

    /// No mount, container, process or half-made directory.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let here = self.0.dir.display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&here), "{mounts}");
        for dir in ["store/run", "store/.ingest"] {
            let left: Vec<_> = fs::read_dir(self.0.path(dir)).into_iter().flatten().map(|e| e.unwrap().file_name()).collect();
            assert!(left.is_empty(), "{dir}: {left:?}");
        }
        let layers = fs::read_dir(self.0.path("store/layers")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let staged: Vec<_> = layers.filter(|name| name.starts_with(".staging")).collect();
        assert!(staged.is_empty(), "{staged:?}");
    }
}

/// The steps that a build says it did: title → how it ended.
pub fn steps(outcome: &Outcome) -> Vec<(String, String)> {
    let (mut titles, mut out) = (BTreeMap::new(), Vec::new());
    for line in outcome.err.lines() {
        let Some((number, text)) = line.strip_prefix('#').and_then(|rest| rest.split_once(' ')) else { continue };
        match titles.get(number) {
            None => drop(titles.insert(number.to_string(), text.to_string())),
            Some(title) => {
                let word = text.split(' ').next().unwrap_or_default();
                if ["DONE", "CACHED", "ERROR", "STOPPED"].contains(&word) {
                    out.push((title.clone(), word.to_string()));
                }
            }
        }
    }
    out
}

/// The instructions that were done, not found in the cache: their first words.
pub fn done(outcome: &Outcome) -> Vec<String> {
    let steps = steps(outcome).into_iter().filter(|(title, word)| word != "CACHED" && title.starts_with('['));
    steps.map(|(title, _)| title.split("] ").nth(1).unwrap_or_default().to_string()).collect()
}

pub fn owner(path: &Path) -> (u32, u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

pub fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Repositories below a site's directory, by git's own protocol.
pub struct GitDaemon {
    /// `git://127.0.0.1:PORT`
    pub url: String,
    child: std::process::Child,
}

impl GitDaemon {
    pub fn start(site: &Site) -> GitDaemon {
        // It can't say which port it was given.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let program = format!("{}/git-daemon", site.0.tool("git", &["--exec-path"]));
        let base = format!("--base-path={}", site.0.dir.display());
        let command = site.0.command(program, &["--export-all", "--reuseaddr", "--listen=127.0.0.1", &format!("--port={port}"), &base]);
        let daemon = GitDaemon { url: format!("git://127.0.0.1:{port}"), child: site.0.spawn(command).child };
        eventually("git's daemon listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        daemon
    }
}

impl Drop for GitDaemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

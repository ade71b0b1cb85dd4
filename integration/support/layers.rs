//! Images for tests: tar archives written byte by byte, so that they can be as bad as an attacker's, in an OCI layout.

#![allow(dead_code)]

use dhow::image::Digest;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// What a header says; the rest is zero.
#[derive(Clone)]
pub struct Header<'a> {
    pub kind: u8,
    pub path: &'a [u8],
    pub link: &'a [u8],
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub size: u64,
    pub device: (u32, u32),
}

pub fn header<'a>(kind: u8, path: &'a [u8]) -> Header<'a> {
    let mode = if kind == b'5' { 0o755 } else { 0o644 };
    Header { kind, path, link: b"", mode, uid: 0, gid: 0, mtime: 1_000_000_000, size: 0, device: (0, 0) }
}

impl Header<'_> {
    pub fn block(&self) -> [u8; 512] {
        let mut b = [0u8; 512];
        assert!(self.path.len() <= 100 && self.link.len() <= 100);
        b[..self.path.len()].copy_from_slice(self.path);
        let mut put = |at: usize, text: String| b[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(100, format!("{:07o}", self.mode));
        put(108, format!("{:07o}", self.uid));
        put(116, format!("{:07o}", self.gid));
        put(124, format!("{:011o}", self.size));
        put(136, format!("{:011o}", self.mtime));
        put(257, "ustar".into());
        put(263, "00".into());
        put(329, format!("{:07o}", self.device.0));
        put(337, format!("{:07o}", self.device.1));
        b[156] = self.kind;
        b[157..157 + self.link.len()].copy_from_slice(self.link);
        seal(&mut b);
        b
    }
}

/// Set the checksum.
pub fn seal(b: &mut [u8; 512]) {
    b[148..156].fill(b' ');
    let sum: u32 = b.iter().map(|b| u32::from(*b)).sum();
    b[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

/// An archive in the making.
#[derive(Default, Clone)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn new() -> Tar {
        Tar::default()
    }

    pub fn raw(mut self, header: &Header, content: &[u8]) -> Tar {
        self.0.extend_from_slice(&Header { size: content.len() as u64, ..header.clone() }.block());
        self.0.extend_from_slice(content);
        self.pad()
    }

    pub fn pad(mut self) -> Tar {
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn block(mut self, block: &[u8; 512]) -> Tar {
        self.0.extend_from_slice(block);
        self
    }

    pub fn file(self, path: &str, content: &str) -> Tar {
        self.raw(&header(b'0', path.as_bytes()), content.as_bytes())
    }

    pub fn dir(self, path: &str) -> Tar {
        self.raw(&header(b'5', path.as_bytes()), b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Tar {
        self.raw(&Header { link: target.as_bytes(), ..header(b'2', path.as_bytes()) }, b"")
    }

    pub fn hard_link(self, path: &str, target: &str) -> Tar {
        self.raw(&Header { link: target.as_bytes(), ..header(b'1', path.as_bytes()) }, b"")
    }

    /// PAX records for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = 3 + key.len() + value.len();
            let length = (rest..).find(|n| n.to_string().len() + rest == *n).unwrap();
            text.extend_from_slice(format!("{length} {key}=").as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.raw(&header(b'x', b"pax"), &text)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A layer's blob, and the digest of what is in it.
pub struct Blob {
    pub bytes: Vec<u8>,
    pub diff_id: Digest,
    pub media: &'static str,
}

pub fn layer(tar: Tar) -> Blob {
    let raw = tar.end();
    Blob { bytes: gzip(&raw), diff_id: Digest::of(&raw), media: "application/vnd.oci.image.layer.v1.tar+gzip" }
}

/// An image layout in `dir` with one image of these layers.
pub fn layout(dir: &Path, layers: &[Blob], config: Value) {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |media: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({"mediaType": media, "digest": digest, "size": bytes.len()})
    };
    let described: Vec<Value> = layers.iter().map(|l| put(l.media, &l.bytes)).collect();
    let ids: Vec<&Digest> = layers.iter().map(|l| &l.diff_id).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": ids}});
    let config = put("application/vnd.oci.image.config.v1+json", &serde_json::to_vec(&config).unwrap());
    let media = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media, "config": config, "layers": described});
    let mut manifest = put(media, &serde_json::to_vec(&manifest).unwrap());
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(dir.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string()).unwrap();
}

/// A directory with an image, a store, and what must not be touched beside them. Gone when dropped, mounts first.
pub struct Place {
    pub dir: PathBuf,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Place {
    pub fn new(name: &str) -> Place {
        Place::below(&std::env::temp_dir(), name)
    }

    pub fn below(parent: &Path, name: &str) -> Place {
        let dir = parent.join(format!("dhowctl-{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(dir.join("outside")).unwrap();
        fs::write(dir.join("outside/marker"), "untouched").unwrap();
        Place { dir }
    }

    pub fn image(self, layers: Vec<Tar>) -> Place {
        let blobs: Vec<Blob> = layers.into_iter().map(layer).collect();
        self.blobs(&blobs, json!({"Cmd": ["/bin/sh"]}))
    }

    pub fn blobs(self, blobs: &[Blob], config: Value) -> Place {
        layout(&self.path("image"), blobs, config);
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn root(&self, name: &str) -> PathBuf {
        self.dir.join("bundle/rootfs").join(name)
    }

    pub fn ctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dhowctl"));
        command.arg("--store").arg(self.path("store")).args(args).current_dir(&self.dir);
        command
    }

    pub fn unpack_with(&self, flags: &[&str]) -> Output {
        let mut args = vec!["unpack", "--quiet"];
        args.extend(flags);
        args.extend(["oci:image", "bundle"]);
        self.ctl(&args).output().unwrap()
    }

    /// It worked.
    #[track_caller]
    pub fn unpack(&self, flags: &[&str]) {
        let out = self.unpack_with(flags);
        assert!(out.status.success(), "{flags:?}: {}", String::from_utf8_lossy(&out.stderr));
        self.assert_outside_untouched();
    }

    /// It was refused in so many words, and nothing is left of it.
    #[track_caller]
    pub fn refuses(&self, flags: &[&str], words: &[&str]) {
        let out = self.unpack_with(flags);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{flags:?}: {said}");
        words.iter().for_each(|word| assert!(said.contains(word), "{flags:?}: {word:?} is not in: {said}"));
        assert!(said.lines().count() <= 2 && !said.contains("panicked"), "{said}");
        self.assert_outside_untouched();
        self.assert_nothing_left();
    }

    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let left = |dir: &str| {
            fs::read_dir(self.path(dir)).into_iter().flatten().flatten().map(|e| e.file_name().into_string().unwrap_or_default()).collect::<Vec<_>>()
        };
        let beside = left("");
        assert!(!beside.iter().any(|name| name == "bundle" || name.starts_with(".bundle")), "{beside:?}");
        let layers = left("store/layers");
        assert!(!layers.iter().any(|name| name.starts_with(".staging")), "{layers:?}");
    }

    #[track_caller]
    pub fn assert_outside_untouched(&self) {
        assert_eq!(fs::read_to_string(self.path("outside/marker")).unwrap(), "untouched");
        assert_eq!(fs::read_dir(self.path("outside")).unwrap().count(), 1, "something is in outside/");
    }

    /// Away with the bundle, for another try.
    pub fn again(&self) {
        unmount(&self.path("bundle/rootfs"));
        let _ = fs::remove_dir_all(self.path("bundle"));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        unmount(&self.path("bundle/rootfs"));
        if std::env::var_os("DHOW_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

fn unmount(path: &Path) {
    let _ = Command::new("umount").arg("-l").arg(path).stderr(std::process::Stdio::null()).status();
}

/// Plain, and as an overlay where we are root.
pub const WAYS: [&[&str]; 2] = [&[], &["--overlay"]];

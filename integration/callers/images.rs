//! Images for the callers, made of what is on this machine: a tar as `docker save` writes it, which all of them load.

use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A busybox with its applets, a page for its httpd, and two users: `IMAGE` under the name that the caller gives.
pub fn busybox(dir: &Path, name: &str, command: &[&str]) -> PathBuf {
    let root = dir.join(format!("image-{}", name.replace(['/', ':'], "-")));
    let _ = fs::remove_dir_all(&root);
    for path in ["rootfs/bin", "rootfs/etc", "rootfs/tmp", "rootfs/www", "rootfs/root", "rootfs/home/user", "image"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|p| Path::new(p).exists()).expect("busybox-static");
    fs::copy(busybox, root.join("rootfs/bin/busybox")).unwrap();
    let applets = Command::new(busybox).arg("--list").output().unwrap().stdout;
    for applet in String::from_utf8(applets).unwrap().lines().filter(|a| *a != "busybox") {
        symlink("busybox", root.join("rootfs/bin").join(applet)).unwrap();
    }
    fs::set_permissions(root.join("rootfs/tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(root.join("rootfs/etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n").unwrap();
    fs::write(root.join("rootfs/etc/group"), "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n").unwrap();
    fs::write(root.join("rootfs/www/index.html"), "the page\n").unwrap();
    fs::write(root.join("rootfs/not-executable"), "data\n").unwrap();
    archive(&root, name, json!({"Cmd": command, "Env": ["PATH=/bin"]}))
}

/// The tar of `DIR/rootfs` as an image.
fn archive(dir: &Path, name: &str, config: serde_json::Value) -> PathBuf {
    let image = dir.join("image");
    run(Command::new("tar").args(["--owner=0", "--group=0", "--numeric-owner", "-C"]).arg(dir.join("rootfs")).arg("-cf").arg(image.join("layer.tar")).arg("."));
    let sum = Command::new("sha256sum").arg(image.join("layer.tar")).output().unwrap();
    let diff_id = format!("sha256:{}", String::from_utf8(sum.stdout).unwrap().split(' ').next().unwrap());
    let described = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "busybox"}],
    });
    fs::write(image.join("config.json"), described.to_string()).unwrap();
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    fs::write(image.join("manifest.json"), manifest.to_string()).unwrap();
    let tar = dir.join("image.tar");
    run(Command::new("tar").arg("-C").arg(&image).arg("-cf").arg(&tar).args(["manifest.json", "config.json", "layer.tar"]));
    tar
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {done:?}");
}

/// A small Debian as a tar of its root file system, made once by debootstrap and kept in the user's cache.
pub fn debian() -> PathBuf {
    let cache =
        std::env::var_os("XDG_CACHE_HOME").map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"), PathBuf::from).join("dhow-test");
    let tar = cache.join("debian.tar");
    if !tar.exists() {
        fs::create_dir_all(&cache).unwrap();
        let root = cache.join(format!("debian.{}", std::process::id()));
        run(Command::new("debootstrap").args(["--variant=minbase", "bookworm"]).arg(&root));
        let partial = tar.with_extension("partial");
        run(Command::new("tar").arg("-C").arg(&root).args(["--exclude=./var/cache/apt/archives/*", "-cf"]).arg(&partial).arg("."));
        fs::rename(partial, &tar).unwrap();
        fs::remove_dir_all(root).unwrap();
    }
    tar
}

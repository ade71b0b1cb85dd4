//! A user with subordinate ids, of root's making: /etc/passwd, /etc/subuid and /etc/subgid are others in a mount namespace
//! of the command's own, so that nothing of the machine is changed. Where the tests don't run as root but as a user who has
//! such ids (the guest's), it is that one.

use crate::layers::{Header, Tar, header, layer, layout};
use crate::support::{LIMIT, Outcome, status_code, wait};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Who root makes, and what that user has.
const UID: u32 = 12_347;
const FIRST: u32 = 300_000;

const APPLETS: &str = "cat chown cut echo head id ls mkdir mount rm sh sleep stat test touch true wc";

/// What runs before the command in its mount namespace.
const PRIVATE: &str = r#"set -e
mount --make-rprivate /
for file in passwd subuid subgid; do [ -e /etc/$file ] || touch /etc/$file; mount --bind "$ETC/$file" /etc/$file; done
eval "$MORE"
cd "$HOME"
exec $BECOME "$@"
"#;

static COUNT: AtomicU32 = AtomicU32::new(0);

pub struct Caller {
    pub dir: PathBuf,
    pub uid: u32,
    /// The first subordinate uid, which is 1 in images.
    pub first: u32,
    are_root: bool,
    calls: AtomicU32,
}

/// The user, or say why the test is not done.
#[macro_export]
macro_rules! caller {
    () => {
        match $crate::subids::Caller::new(std::thread::current().name().unwrap_or("test")) {
            Ok(caller) => caller,
            Err(reason) => $crate::skip!("{reason}"),
        }
    };
}

impl Caller {
    pub fn new(test: &str) -> Result<Caller, String> {
        // SAFETY: geteuid(2) can't fail.
        let uid = unsafe { libc::geteuid() };
        let are_root = uid == 0;
        let first = if are_root { Some(FIRST) } else { own_first(uid) };
        let first = first.ok_or("needs root, or a user with subordinate ids")?;
        let dir = std::env::temp_dir().join(format!("rl-{test}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let uid = if are_root { UID } else { uid };
        let caller = Caller { dir, uid, first, are_root, calls: AtomicU32::new(0) };
        for name in ["home", "runtime", "bin", "etc"] {
            fs::create_dir_all(caller.path(name)).unwrap();
        }
        if are_root {
            ["home", "runtime"].iter().for_each(|name| chown(caller.path(name), Some(uid), Some(uid)).unwrap());
            fs::write(caller.path("etc/passwd"), format!("root:x:0:0::/root:/bin/sh\nsailor:x:{UID}:{UID}::/:/bin/sh\n")).unwrap();
            caller.give_ids(&format!("sailor:{FIRST}:65536\n"));
        }
        fs::set_permissions(caller.path("runtime"), fs::Permissions::from_mode(0o700)).unwrap();
        for (name, from) in [("dhowctl", env!("CARGO_BIN_EXE_dhowctl")), ("dhow", env!("CARGO_BIN_EXE_dhow"))] {
            let to = caller.path("bin").join(name);
            if !are_root {
                symlink(from, &to).unwrap();
            } else if fs::hard_link(from, &to).is_err() {
                // The build's directory may be closed to others.
                fs::copy(from, &to).unwrap();
            }
        }
        Ok(caller)
    }

    /// What /etc/subuid and /etc/subgid say.
    pub fn give_ids(&self, text: &str) {
        ["subuid", "subgid"].iter().for_each(|name| fs::write(self.path("etc").join(name), text).unwrap());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn home(&self, name: &str) -> PathBuf {
        self.path("home").join(name)
    }

    pub fn are_root(&self) -> bool {
        self.are_root
    }

    /// An image layout in `image`, to be called `oci:$DIR/image`.
    pub fn image(&self, layers: Vec<Tar>, config: Value) {
        let blobs: Vec<_> = layers.into_iter().map(layer).collect();
        layout(&self.path("image"), &blobs, config);
    }

    /// With busybox, some users, files of theirs, and a second layer that hides something.
    pub fn usual_image(&self) {
        let hiding = Tar::new().dir("gone").file("gone/.wh.a", "").dir("opaque").file("opaque/.wh..wh..opq", "").file("opaque/above", "c");
        self.image(vec![base(), hiding], json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]}));
    }

    /// `script` as the user, in the own home: `$DIR` is ours, `$IMAGE` the layout.
    pub fn command(&self, script: &str) -> Command {
        self.command_with("", &self.becoming(), script)
    }

    /// How root runs something as the user.
    pub fn becoming(&self) -> String {
        format!("setpriv --reuid {0} --regid {0} --clear-groups", self.uid)
    }

    /// `more` is done by root in the mount namespace before, `become` runs the shell as the user.
    pub fn command_with(&self, more: &str, r#become: &str, script: &str) -> Command {
        let mut command = Command::new(if self.are_root { "unshare" } else { "sh" });
        if self.are_root {
            command.args(["--mount", "sh", "-c", PRIVATE, "sh", "sh"]).current_dir("/");
        } else {
            command.current_dir(self.path("home"));
        }
        command.args(["-c", script]).env_clear().stdin(Stdio::null());
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.path("bin").display());
        command.env("PATH", path).env("HOME", self.path("home")).env("XDG_RUNTIME_DIR", self.path("runtime")).env("DIR", &self.dir);
        command.env("IMAGE", format!("oci:{}", self.path("image").display())).env("ETC", self.path("etc"));
        command.env("MORE", more).env("BECOME", r#become);
        command
    }

    pub fn sh(&self, script: &str) -> Outcome {
        self.finish(self.command(script))
    }

    pub fn finish(&self, command: Command) -> Outcome {
        self.spawn(command).finish()
    }

    pub fn spawn(&self, mut command: Command) -> Begun {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (self.path(&format!("out.{number}")), self.path(&format!("err.{number}")));
        let child = command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap()).spawn().unwrap();
        Begun { child, out, err }
    }

    /// Names in a directory of the user's store.
    pub fn stored(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.home(".local/share/dhow/images").join(dir)).into_iter().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Neither a run nor half a layer, and no process of the user's.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.stored("run"), Vec::<String>::new());
        let staging: Vec<String> = self.stored("layers").into_iter().filter(|name| name.starts_with(".staging")).collect();
        assert_eq!(staging, Vec::<String>::new());
        let containers = fs::read_dir(self.path("runtime/dhow")).into_iter().flatten().flatten();
        let containers: Vec<_> = containers.map(|e| e.file_name()).filter(|name| !name.to_string_lossy().starts_with('.')).collect();
        assert!(containers.is_empty(), "{containers:?}");
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if std::env::var_os("DHOW_KEEP").is_some() {
            return;
        }
        if !self.are_root {
            let _ = self.sh("dhowctl unshare rm -rf \"$HOME\"");
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn own_first(uid: u32) -> Option<u32> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let name = passwd.lines().find_map(|line| (line.split(':').nth(2) == Some(&uid.to_string())).then(|| line.split(':').next()).flatten())?;
    let subuid = fs::read_to_string("/etc/subuid").ok()?;
    subuid.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))?.split(':').next()?.parse().ok())
}

/// The lower layer of the usual image.
pub fn base() -> Tar {
    busybox(Tar::new().dir("bin").dir("etc"))
        .file("etc/passwd", "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n")
        .file("etc/group", "root:x:0:\nwww:x:34:\nextra:x:50:web\n")
        .raw(&Header { mode: 0o1777, ..header(b'5', b"tmp") }, b"")
        .raw(&Header { uid: 33, gid: 34, ..header(b'5', b"srv") }, b"")
        .raw(&Header { uid: 33, gid: 34, mode: 0o640, ..header(b'0', b"srv/page") }, b"hello\n")
        .dir("gone")
        .file("gone/a", "a")
        .dir("opaque")
        .file("opaque/below", "b")
}

fn busybox(tar: Tar) -> Tar {
    let path = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists()).expect("busybox-static is installed");
    let tar = tar.raw(&Header { mode: 0o755, ..header(b'0', b"bin/busybox") }, &fs::read(path).unwrap());
    APPLETS.split(' ').fold(tar, |tar, applet| tar.symlink(&format!("bin/{applet}"), "busybox"))
}

/// A command that runs.
pub struct Begun {
    pub child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Begun {
    pub fn printed(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: kill(2) of our own child, which is not reaped yet.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// In the guest all is ten times as slow.
    pub fn finish(mut self) -> Outcome {
        let status = wait(&mut self.child, LIMIT * 30);
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let (out, err) = (text(&self.out), text(&self.err));
        let status = status.unwrap_or_else(|| panic!("it did not end: {out}{err}"));
        Outcome { code: status_code(status), out, err }
    }
}

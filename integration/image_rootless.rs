//! dhowctl for a user without root and without subordinate ids: all files become the user's, and what needs other owners is
//! refused with what to do. With such ids: image_subids.rs.

#[path = "support/ctl.rs"]
mod ctl;
#[path = "support/fake.rs"]
mod fake;
#[path = "support/registry.rs"]
mod registry;
mod support;

use ctl::{Scratch, busybox, image, tar};
use registry::Registry;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use support::{Outcome, eventually};

/// A user that owns nothing, and one as people are.
const USERS: [u32; 2] = [65_534, 12_345];

const ADVICE: &str = "usermod --add-subuids";

/// `etc/motd`, which isn't root's.
fn of_web() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(6);
    header.set_mode(0o644);
    header.set_uid(33);
    header.set_gid(33);
    builder.append_data(&mut header, "etc/motd", &b"hello\n"[..]).unwrap();
    builder.into_inner().unwrap()
}

/// A user with a home, an image in a registry, and the programs where the user can reach them.
struct User {
    scratch: Scratch,
    registry: Registry,
    uid: u32,
}

impl User {
    fn new(test: &str, uid: u32) -> User {
        let scratch = Scratch::new(&format!("{test}-{uid}"));
        fs::set_permissions(&scratch.dir, fs::Permissions::from_mode(0o755)).unwrap();
        for dir in ["home", "runtime"] {
            fs::create_dir(scratch.path(dir)).unwrap();
            chown(scratch.path(dir), Some(uid), Some(uid)).unwrap();
            fs::set_permissions(scratch.path(dir), fs::Permissions::from_mode(0o700)).unwrap();
        }
        for (program, from) in [("dhowctl", env!("CARGO_BIN_EXE_dhowctl")), ("dhow", env!("CARGO_BIN_EXE_dhow"))] {
            fs::copy(from, scratch.path(program)).unwrap();
            fs::set_permissions(scratch.path(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let registry = Registry::plain(&scratch);
        let store = dhow::image::Store::open(&scratch.path("layout")).unwrap();
        image(&store, "v1", "linux/amd64", &[tar("bin/busybox", &busybox()), of_web()]);
        scratch.ctl(&["push", "oci:layout:v1", &registry.name("box:v1")]).ok();
        User { scratch, registry, uid }
    }

    fn name(&self) -> String {
        self.registry.name("box:v1")
    }

    /// dhowctl as the user calls it, in the own home.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.scratch.command(self.scratch.path("dhowctl"), args);
        command.env_remove("DHOW_STORE").env_remove("DOCKER_CONFIG").env("HOME", self.scratch.path("home"));
        command.env("XDG_RUNTIME_DIR", self.scratch.path("runtime")).current_dir(self.scratch.path("home"));
        command.uid(self.uid).gid(self.uid).stdin(Stdio::null());
        command
    }

    fn ctl(&self, args: &[&str]) -> Outcome {
        self.scratch.spawn(self.command(args)).finish()
    }

    /// Entries of a directory of the home.
    fn listed(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.scratch.path("home").join(dir)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn fetch_and_look() {
    needs_root!();
    for uid in USERS {
        let user = User::new("nobodyfetch", uid);
        user.ctl(&["fetch", &user.name()]).ok();
        assert_eq!(user.ctl(&["images", "-q"]).ok(), user.name());
        user.ctl(&["verify"]).ok();
        let store = user.scratch.path("home/.local/share/dhow/images");
        assert_eq!(fs::metadata(store.join("index.json")).unwrap().uid(), uid);
        user.ctl(&["fetch", "-o", "docker-archive:image.tar", &user.name()]).ok();
        user.ctl(&["prune"]).ok();
        user.ctl(&["rmi", &user.name()]).ok();
    }
}

#[test]
fn unpack_and_run_the_bundle() {
    needs_root!();
    for uid in USERS {
        let user = User::new("nobodyunpack", uid);
        user.ctl(&["unpack", "--quiet", &user.name(), "bundle"]).ok();
        assert_eq!(fs::metadata(user.scratch.path("home/bundle/rootfs/etc/motd")).unwrap().uid(), uid);
        assert_eq!(user.ctl(&["run", "./bundle", "/bin/busybox", "cat", "/etc/motd"]).ok(), "hello");
        user.ctl(&["unpack", "--quiet", "--rootless", "--overlay", &user.name(), "second"]).fails(1, &["leave out --rootless"]);
        user.ctl(&["unpack", "--quiet", "--uid-map", "0:100000:10", &user.name(), "third"])
            .fails(1, &["root or subordinate ids", "without --uid-map", "usermod --add-subuids"]);
        let left = user.listed("");
        assert!(left.iter().all(|name| !name.contains("second") && !name.contains("third")), "{left:?}");
    }
}

#[test]
fn shared_layers() {
    needs_root!();
    let user = User::new("nobodyoverlay", USERS[1]);
    let warned = user.ctl(&["unpack", "--quiet", "--overlay", &user.name(), "one"]);
    assert!(warned.err.contains("files of other users became the caller's") && warned.err.contains(ADVICE), "{}", warned.err);
    let second = user.ctl(&["unpack", "--quiet", "--overlay", &user.name(), "two"]);
    assert_eq!((second.ok(), second.err.as_str()), ("", ""));
    user.ctl(&["run", "one", "/bin/busybox", "touch", "/kept"]).ok();
    let listed = user.ctl(&["run", "one", "/bin/busybox", "stat", "-c", "%u:%g %n", "/kept", "/etc/motd"]);
    assert_eq!(listed.ok(), "0:0 /kept\n0:0 /etc/motd");
    assert_eq!(user.ctl(&["run", "two", "/bin/busybox", "ls", "/"]).ok().lines().filter(|name| *name == "kept").count(), 0);
    let own = user.command(&["x"]);
    let mut direct = std::process::Command::new(user.scratch.path("dhow"));
    direct.args(["run", "--bundle", "two", "direct"]).envs(own.get_envs().filter_map(|(k, v)| Some((k, v?)))).current_dir(user.scratch.path("home"));
    direct.uid(user.uid).gid(user.uid).stdin(Stdio::null());
    user.scratch.spawn(direct).finish().ok();
    for dir in ["one", "two"] {
        fs::remove_dir_all(user.scratch.path("home").join(dir)).unwrap();
    }
    user.ctl(&["rmi", &user.name()]).ok();
    user.ctl(&["prune"]).ok();
    assert_eq!(user.listed(".local/share/dhow/images/layers"), [".bundles"]);
}

#[test]
fn build_what_root_alone_owns() {
    needs_root!();
    let user = User::new("nobodybuild", USERS[1]);
    let build = |name: &str, dockerfile: &str| {
        let context = user.scratch.path(name);
        fs::create_dir(&context).unwrap();
        fs::write(context.join("data"), "data").unwrap();
        fs::write(context.join("Dockerfile"), format!("FROM {}\n{dockerfile}", user.name())).unwrap();
        user.ctl(&["build", "--progress", "plain", "-t", name, &context.display().to_string()])
    };
    let out = build(
        "ours",
        "COPY data /data\nRUN [\"/bin/busybox\", \"touch\", \"/new\"]\nCMD [\"/bin/busybox\", \"stat\", \"-c\", \"%u %n\", \"/data\", \"/new\"]\n",
    );
    assert!(out.succeeds().err.contains(ADVICE));
    assert_eq!(user.ctl(&["run", "--quiet", "ours"]).ok(), "0 /data\n0 /new");
    build("theirs", "COPY --chown=33 data /data\n").fails(1, &["giving files to \"33\" (33:33)", ADVICE]);
    build("as-web", "USER 33\nRUN [\"/bin/busybox\", \"id\"]\n").fails(1, &["User \"33\"", "33:0", ADVICE]);
    assert_eq!(user.listed(".local/share/dhow/images/run"), Vec::<String>::new());
}

#[test]
fn run_an_image() {
    needs_root!();
    for uid in USERS {
        let user = User::new("nobodyrun", uid);
        let run = |flags: &[&str], script: &str| {
            let name = user.name();
            user.ctl(&[&["run", "--quiet"], flags, &[&name, "/bin/busybox", "sh", "-c", script]].concat())
        };
        assert_eq!(run(&[], "/bin/busybox id -u; /bin/busybox cat /etc/motd").ok(), "0\nhello");
        run(&[], "exit 7").code(7);
        assert_eq!(run(&["--host-network"], "/bin/busybox test -s /etc/hosts && echo has hosts").ok(), "has hosts");
        user.ctl(&["run", "--quiet", &user.name(), "nowhere"]).fails(127, &["executable file not found"]);
        assert_eq!(user.listed(".local/share/dhow/images/run"), Vec::<String>::new());
    }
}

#[test]
fn a_signal_and_a_kill() {
    needs_root!();
    let user = User::new("nobodysignal", USERS[1]);
    let name = user.name();
    let script = "trap 'echo got it; exit 5' TERM; echo ready; while :; do /bin/busybox sleep 0.05; done";
    let words = ["run", "--quiet", &name, "/bin/busybox", "sh", "-c", script];
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let mut begun = user.scratch.spawn(user.command(&words));
        eventually("the program", || begun.printed().contains("ready").then_some(()));
        // SAFETY: kill(2) of our own child, which is not reaped yet.
        unsafe { libc::kill(begun.child.id() as i32, signal) };
        if signal == libc::SIGTERM {
            let out = begun.finish();
            assert_eq!((out.code, out.out.as_str()), (5, "ready\ngot it\n"), "{}", out.err);
        } else {
            begun.child.wait().unwrap();
            assert_eq!(user.listed(".local/share/dhow/images/run").len(), 1);
        }
    }
    user.ctl(&["run", "--quiet", &name]).ok();
    assert_eq!(user.listed(".local/share/dhow/images/run"), Vec::<String>::new());
}

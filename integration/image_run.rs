//! `dhowctl run`: the program's status, streams, signals and terminal, and that nothing is left of it however it ends.

#[path = "support/ctl.rs"]
mod ctl;
#[path = "support/layers.rs"]
mod layers;
mod support;

use ctl::{Begun, Scratch, busybox};
use layers::{Blob, Tar, gzip, header, layer, layout};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use support::{LIMIT, Outcome, cgroup_dirs, eventually, pty, status_code, wait};

/// An image of busybox, named `box` in the store and in the layout `image`; a store and a `--root` of the test's own.
struct Box {
    scratch: Scratch,
    id: String,
}

/// A trap that says which signal came, once the shell listens.
const TRAPS: &str = "for s in TERM INT HUP USR1; do trap \"echo got $s; exit 5\" $s; done; echo ready; while :; do /bin/busybox sleep 0.05; done";

impl Box {
    fn new(test: &str) -> Box {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let scratch = Scratch::new(test);
        let root = [Tar::new().raw(&layers::Header { mode: 0o755, ..header(b'0', b"bin/busybox") }, &busybox())];
        let names = ["sh", "cat", "echo", "sleep", "stty", "tty", "touch", "ls", "id", "kill", "mkdir"];
        let root = root.into_iter().map(|tar| names.iter().fold(tar, |tar, name| tar.symlink(&format!("bin/{name}"), "busybox")));
        let root = root.map(|tar| tar.file("etc/motd", "hello\n").file("etc/passwd", "root:x:0:0::/:/bin/sh\n"));
        let blobs: Vec<Blob> = root.map(layer).collect();
        layout(&scratch.path("image"), &blobs, json!({"Cmd": ["sh", "-c", "echo the image\\'s own"], "Env": ["PATH=/bin", "FROM=image"]}));
        let id = format!("dhowt-{test}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Box { scratch, id }
    }

    /// `dhowctl run` with a name, so that its cgroup can be looked for.
    fn words<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [&["run", "--quiet", "--runtime-root", "state", "--name", &self.id], args].concat()
    }

    fn run(&self, args: &[&str]) -> Outcome {
        self.scratch.ctl(&self.words(args))
    }

    /// The shell of the image does this.
    fn sh(&self, script: &str) -> Outcome {
        self.run(&["oci:image", "sh", "-c", script])
    }

    fn begin(&self, args: &[&str]) -> Begun {
        let mut command = self.scratch.ctl_command(&self.words(args));
        command.stdin(Stdio::null());
        self.scratch.spawn(command)
    }

    /// But for the runtime's cache of compiled filters.
    fn containers(&self) -> Vec<String> {
        entries(&self.scratch.path("state")).into_iter().filter(|name| !name.starts_with('.')).collect()
    }

    fn runs(&self) -> Vec<String> {
        entries(&self.scratch.path("store/run"))
    }

    /// No container, no bundle, no cgroup, and no process that has a mount of ours.
    #[track_caller]
    fn assert_nothing_left(&self) {
        assert_eq!((self.containers(), self.runs(), cgroup_dirs(&self.id)), (vec![], vec![], vec![]));
        // A mount namespace goes a moment after its last process.
        eventually("the mounts to go", || self.mounters().is_empty().then_some(()));
    }

    fn mounters(&self) -> Vec<PathBuf> {
        let dir = self.scratch.path("store/run").display().to_string();
        let tables = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("mountinfo"));
        tables.filter(|table| fs::read_to_string(table).is_ok_and(|text| text.contains(&dir))).collect()
    }
}

fn entries(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: kill(2) of our own child, which is not reaped yet.
    unsafe { libc::kill(child.id() as i32, signal) };
}

#[test]
fn the_status_is_the_program_s() {
    needs_root!();
    let b = Box::new("status");
    assert_eq!(b.run(&["oci:image"]).ok(), "the image's own");
    b.sh("exit 7").code(7);
    // Not of pid 1 itself, which a signal without a handler does nothing to.
    b.sh("sh -c 'kill -TERM $$; sleep 9'; exit $?").code(143);
    let (begun, _input) = holding(&b, &b.id, "echo ready; read line");
    eventually("the program", || begun.printed().contains("ready").then_some(()));
    b.scratch.tool(env!("CARGO_BIN_EXE_dhow"), &["--root", "state", "kill", &b.id, "KILL"]);
    assert_eq!(begun.finish().code, 137);
    let said = b.sh("echo out; echo err >&2; echo $FROM");
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "out\nimage\n", "err\n"));
    b.assert_nothing_left();
}

/// Docker's flags, which say otherwise than the image.
#[test]
fn what_is_said_beside_the_image() {
    needs_root!();
    let b = Box::new("beside");
    let show = "echo $FROM-$B-$C; /bin/busybox pwd; id -u; id -g; ls /x; cat /x/file; echo new >/x/new";
    let host = b.scratch.path("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("file"), "the host's\n").unwrap();
    let mut command = b.scratch.ctl_command(&b.words(&[
        "--rm",
        "-i",
        "-e",
        "FROM=me",
        "-e",
        "B",
        "--env=C=1=2",
        "-v",
        "./host:/x",
        "-w",
        "/etc",
        "oci:image",
        "sh",
        "-c",
        show,
    ]));
    let input = fs::File::open("/dev/null").unwrap();
    command.env("B", "mine").stdin(input);
    assert_eq!(b.scratch.spawn(command).finish().ok(), "me-mine-1=2\n/etc\n0\n0\nfile\nthe host's");
    assert_eq!(fs::read_to_string(host.join("new")).unwrap(), "new\n");
    let readonly = b.run(&["-v", "./host:/x:ro", "-u", "5:6", "--entrypoint", "sh", "oci:image", "-c", "id -u; id -g; echo no >/x/file"]);
    assert_eq!((readonly.code, readonly.out.as_str()), (1, "5\n6\n"));
    assert!(readonly.err.contains("Read-only file system"), "{}", readonly.err);
    // The image's Cmd was for the other program.
    b.run(&["--entrypoint", "", "oci:image"]).fails(1, &["neither Entrypoint nor Cmd"]);
    for (args, word) in [
        (vec!["-v", "data:/x", "oci:image"], "no named volumes"),
        (vec!["-v", "/nowhere:/x", "oci:image"], "/nowhere"),
        (vec!["-w", "etc", "oci:image"], "not absolute"),
        (vec!["-u", "nobody", "oci:image"], "nobody"),
        (vec!["-d", "oci:image"], "dhow run --detach"),
        (vec!["-p", "80:80", "oci:image"], "--host-network"),
        (vec!["--network", "host", "oci:image"], "--host-network"),
        (vec!["./host"], "it is no bundle"),
        (vec!["/nowhere/at/all"], "no such bundle"),
    ] {
        b.run(&args).fails(1, &[word]);
    }
    b.assert_nothing_left();
}

/// As a shell, Docker and Podman have it.
#[test]
fn a_program_that_cannot_be_run_is_127_or_126() {
    needs_root!();
    let b = Box::new("unrunnable");
    b.run(&["oci:image", "nowhere"]).fails(127, &["nowhere", "executable file not found in $PATH"]);
    b.run(&["oci:image", "/bin/nowhere"]).fails(127, &["/bin/nowhere", "no such file or directory"]);
    b.run(&["oci:image", "/etc/motd"]).fails(126, &["/etc/motd", "permission denied"]);
    b.run(&["oci:image", "/etc"]).fails(126, &["/etc"]);
    // What a program itself ends with is not looked into.
    b.sh("echo 'error: executable file not found in $PATH' >&2; exit 1").code(1);
    b.assert_nothing_left();
}

#[test]
fn what_is_wrong_before_the_container_is_1() {
    needs_root!();
    let b = Box::new("before");
    b.run(&["oci:nowhere"]).fails(1, &["nowhere"]);
    b.run(&["--runtime", "/nowhere/dhow", "oci:image"]).fails(1, &["/nowhere/dhow"]);
    b.run(&["--name", "a/b", "oci:image"]).fails(1, &["a/b"]);
    fs::create_dir(b.scratch.path("empty")).unwrap();
    b.run(&["./empty"]).fails(1, &["./empty"]);
    b.assert_nothing_left();
}

#[test]
fn standard_input_goes_to_the_program() {
    needs_root!();
    let b = Box::new("input");
    let text = "0123456789abcdef\n".repeat(20_000);
    let out = b.scratch.ctl_with_input(&b.words(&["oci:image", "cat"]), &text);
    assert!(out.code == 0 && out.out == text, "{} {}", out.code, out.err);
    b.assert_nothing_left();
}

#[test]
fn signals_go_to_the_program() {
    needs_root!();
    let b = Box::new("signals");
    for (number, name) in [(libc::SIGTERM, "TERM"), (libc::SIGINT, "INT"), (libc::SIGHUP, "HUP"), (libc::SIGUSR1, "USR1")] {
        let begun = b.begin(&["oci:image", "sh", "-c", TRAPS]);
        eventually("the program", || begun.printed().contains("ready").then_some(()));
        signal(&begun.child, number);
        let out = begun.finish();
        assert_eq!((out.code, out.out), (5, format!("ready\ngot {name}\n")), "{}", out.err);
        b.assert_nothing_left();
    }
}

#[test]
fn a_shell_at_a_terminal() {
    needs_root!();
    let b = Box::new("terminal");
    let (mut terminal, slave) = pty::open();
    terminal.resize(30, 90);
    let modes = pty::modes(&slave);
    let mut command = b.scratch.ctl_command(&b.words(&["oci:image", "sh"]));
    pty::sit_at(&mut command, &slave);
    let mut child = command.spawn().unwrap();
    terminal.expect("# ");
    terminal.type_in("tty; stty size; echo $TERM\n");
    terminal.expect("/dev/pts/0");
    terminal.expect("30 90");
    terminal.expect("xterm");
    terminal.resize(41, 101);
    eventually("the new size", || {
        terminal.type_in("stty size\n");
        terminal.expect("# ").contains("41 101").then_some(())
    });
    // Ctrl-C is the program's, not ours.
    terminal.type_in("sh -c 'echo rea\"\"dy; exec sleep 1000'\n");
    terminal.expect("ready");
    terminal.type_in("\x03");
    terminal.expect("# ");
    terminal.type_in("exit 3\n");
    assert_eq!(status_code(wait(&mut child, LIMIT).unwrap()), 3);
    assert_eq!(pty::modes(&slave), modes);
    b.assert_nothing_left();
}

#[test]
fn no_terminal_unless_there_is_one() {
    needs_root!();
    let b = Box::new("noterminal");
    assert_eq!(b.sh("tty; exit 0").ok(), "not a tty");
    let (mut terminal, slave) = pty::open();
    let mut command = b.scratch.ctl_command(&b.words(&["--no-tty", "oci:image", "sh", "-c", "test -e /dev/console && echo has one; echo done"]));
    pty::sit_at(&mut command, &slave);
    let mut child = command.spawn().unwrap();
    drop((slave, command));
    assert!(wait(&mut child, LIMIT).unwrap().success());
    assert!(!terminal.rest().contains("has one"));
    b.assert_nothing_left();
}

/// A program that holds on until its standard input ends.
fn holding<'a>(b: &'a Box, name: &'a str, script: &'a str) -> (Begun, std::process::ChildStdin) {
    let args = ["run", "--quiet", "--runtime-root", "state", "--name", name, "oci:image", "sh", "-c", script];
    let mut command = b.scratch.ctl_command(&args);
    command.stdin(Stdio::piped());
    let mut begun = b.scratch.spawn(command);
    let input = begun.child.stdin.take().unwrap();
    (begun, input)
}

#[test]
fn two_at_once_of_one_image() {
    needs_root!();
    let b = Box::new("two");
    let names = [format!("{}-a", b.id), format!("{}-b", b.id)];
    let script = "echo $0 >/mine; echo ready; read line; cat /mine; ls /; echo $line";
    let both: Vec<_> = names.iter().map(|name| holding(&b, name, script)).collect();
    both.iter().for_each(|(begun, _)| eventually("both", || begun.printed().contains("ready").then_some(())));
    let mut running = b.containers();
    running.sort();
    assert_eq!(running, names);
    // Both layers were unpacked once.
    assert_eq!(entries(&b.scratch.path("store/layers")).iter().filter(|name| !name.starts_with('.')).count(), 1);
    for (begun, mut input) in both {
        input.write_all(b"the end\n").unwrap();
        let out = begun.finish();
        assert!(out.code == 0 && out.out.contains("mine") && out.out.ends_with("the end\n"), "{out:?}");
    }
    b.assert_nothing_left();
}

#[test]
fn one_name_is_for_one_container() {
    needs_root!();
    let b = Box::new("name");
    let (begun, input) = holding(&b, &b.id, "echo ready; read line");
    eventually("the first", || begun.printed().contains("ready").then_some(()));
    b.run(&["oci:image"]).fails(1, &[&b.id]);
    assert_eq!(b.containers(), [b.id.as_str()]);
    drop(input);
    begun.finish();
    b.assert_nothing_left();
}

#[test]
fn what_the_container_writes_goes_with_it() {
    needs_root!();
    let b = Box::new("writes");
    b.sh("echo changed >/etc/motd; touch /new").ok();
    assert_eq!(b.sh("cat /etc/motd; ls /new 2>/dev/null; exit 0").ok(), "hello");
    b.assert_nothing_left();
}

#[test]
fn a_copy_instead_of_a_mount() {
    needs_root!();
    let b = Box::new("copy");
    assert_eq!(b.run(&["--copy", "oci:image", "cat", "/etc/motd"]).ok(), "hello");
    assert!(!b.scratch.path("store/layers").exists());
    b.assert_nothing_left();
}

/// Killed with SIGKILL, dhowctl can't clean up; the container has lost nobody but the one who waited for it.
#[test]
fn after_kill_9_the_next_run_cleans_up() {
    needs_root!();
    let b = Box::new("kill9");
    let (mut begun, _input) = holding(&b, &b.id, "echo ready; read line");
    eventually("the program", || begun.printed().contains("ready").then_some(()));
    begun.child.kill().unwrap();
    begun.child.wait().unwrap();
    assert_eq!((b.containers(), b.runs()), (vec![b.id.clone()], vec![b.id.clone()]));
    assert_eq!(b.sh("echo next").ok(), "next");
    b.assert_nothing_left();
}

/// A layer that is still coming when the signal does.
#[test]
fn a_signal_while_unpacking() {
    needs_root!();
    for number in [libc::SIGTERM, libc::SIGINT] {
        let b = Box::new("unpacking");
        let raw = Tar::new().dir("d").file("big", &"b".repeat(3 << 20)).end();
        let blob = Blob { bytes: raw.clone(), diff_id: dhow::image::Digest::of(&raw), media: "application/vnd.oci.image.layer.v1.tar" };
        layout(&b.scratch.path("slow"), &[blob], json!({"Cmd": ["x"]}));
        let fifo = b.scratch.path("slow/blobs/sha256").join(dhow::image::Digest::of(&raw).hex());
        fs::remove_file(&fifo).unwrap();
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let begun = b.begin(&["oci:slow"]);
        let mut feed = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
        feed.write_all(&raw[..2 << 20]).unwrap();
        signal(&begun.child, number);
        let out = begun.finish();
        assert_eq!((out.code, out.out.as_str()), (128 + number, ""), "{}", out.err);
        b.assert_nothing_left();
        assert!(entries(&b.scratch.path("store/layers")).iter().all(|name| !name.starts_with(".staging")));
    }
}

#[test]
fn a_bundle_stays_as_it_is() {
    needs_root!();
    for flags in [&[][..], &["--overlay"]] {
        let b = Box::new("bundle");
        b.scratch.ctl(&[&["unpack", "--quiet"], flags, &["oci:image", "bundle"]].concat()).ok();
        if !flags.is_empty() {
            // As after a reboot.
            b.scratch.tool("umount", &["bundle/rootfs"]);
        }
        let config = fs::read(b.scratch.path("bundle/config.json")).unwrap();
        assert_eq!(b.run(&["./bundle"]).ok(), "the image's own");
        assert_eq!(b.run(&["bundle", "sh", "-c", "touch /kept; echo \"$FROM $0\"", "word"]).ok(), "image word");
        assert_eq!(b.run(&["bundle", "ls", "/kept"]).ok(), "/kept");
        b.run(&["bundle", "nowhere"]).fails(127, &["nowhere"]);
        assert_eq!(fs::read(b.scratch.path("bundle/config.json")).unwrap(), config);
        b.assert_nothing_left();
    }
}

#[test]
fn an_image_of_the_store_and_one_of_docker_save() {
    needs_root!();
    let b = Box::new("sources");
    ctl::image(&b.scratch.store(), "docker.io/library/box:latest", "linux/amd64", &[ctl::tar("bin/busybox", &busybox())]);
    assert_eq!(b.run(&["box", "/bin/busybox", "echo", "from the store"]).ok(), "from the store");
    let raw = ctl::tar("bin/busybox", &busybox());
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [dhow::image::Digest::of(&raw)]}});
    let manifest: Value = json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l.tar"]}]);
    let dir = b.scratch.path("saved");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("c.json"), config.to_string()).unwrap();
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    fs::write(dir.join("l.tar"), gzip(&raw)).unwrap();
    b.scratch.tool("tar", &["-C", "saved", "-cf", "saved.tar", "manifest.json", "c.json", "l.tar"]);
    assert_eq!(b.run(&["docker-archive:saved.tar", "/bin/busybox", "echo", "from docker"]).ok(), "from docker");
    b.assert_nothing_left();
}

//! Podman and Buildah on dhow, as root.

mod callers;
mod support;

use callers::podman::Podman;
use callers::{LIMIT, await_true};
use std::sync::OnceLock;
use support::wait;

fn podman() -> &'static Podman {
    static PODMAN: OnceLock<Podman> = OnceLock::new();
    PODMAN.get_or_init(|| Podman::new("podman"))
}

const SLEEP: &str = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";

/// What `podman run --rm OPTIONS busybox sh -c SCRIPT` prints.
#[track_caller]
fn prints(options: &[&str], script: &str) -> String {
    podman().sh(options, script).ok().to_string()
}

/// Of the container, in bytes: cgroup v2's file, or v1's.
const MEMORY_LIMIT: &str = "cd /sys/fs/cgroup; cat memory.max 2>/dev/null || cat memory/memory.limit_in_bytes";

#[test]
fn podman_knows_its_runtime() {
    needs_caller!("podman", "conmon");
    let info = podman().podman(&["info", "--format", "json"]).json();
    let runtime = &info["host"]["ociRuntime"];
    assert_eq!(runtime["name"], "dhow");
    assert!(runtime["version"].as_str().unwrap().contains("version"), "{runtime}");
}

#[test]
fn run_prints_and_exits() {
    needs_caller!("podman", "conmon", "catatonit");
    let p = podman();
    assert_eq!(prints(&[], "echo out; id -u"), "out\n0");
    p.sh(&[], "exit 7").code(7);
    p.sh(&[], "sh -c 'kill -9 $$'; exit $?").code(137);
    assert_eq!(prints(&["--user", "user", "--workdir", "/www", "-e", "A=b c"], "id -un; pwd; echo $A"), "user\n/www\nb c");
    assert_eq!(
        prints(&["--read-only", "-v", "data:/data", "--tmpfs", "/t"], "touch /x 2>&1; touch /data/x /t/x && echo others"),
        "touch: /x: Read-only file system\nothers"
    );
    assert_eq!(prints(&["--cap-drop", "all"], "grep CapEff /proc/self/status").split_whitespace().nth(1), Some("0000000000000000"));
    assert_eq!(prints(&["--memory", "64m"], MEMORY_LIMIT), "67108864");
    assert_eq!(prints(&["--pids-limit", "50"], "cd /sys/fs/cgroup; cat pids.max 2>/dev/null || cat pids/pids.max"), "50");
    assert_eq!(prints(&["--init"], "tr '\\0' ' ' </proc/1/cmdline | cut -d ' ' -f 1"), "/run/podman-init");
    assert_eq!(prints(&["--hostname", "h", "--sysctl", "net.ipv4.ip_forward=0"], "hostname; cat /proc/sys/net/ipv4/ip_forward"), "h\n0");
}

/// Podman goes by what the runtime says on stderr, and by patterns of its own.
#[test]
fn failing_starts() {
    needs_caller!("podman", "conmon");
    let p = podman();
    let fails = |args: &[&str], code: i32, words: &str| {
        let mut all = vec!["run", "--rm"];
        all.extend(args);
        p.podman(&all).fails(code, &[words]);
    };
    fails(&["localhost/busybox", "nosuch"], 127, "executable file not found in $PATH");
    fails(&["localhost/busybox", "/no/such"], 127, "no such file or directory");
    fails(&["localhost/busybox", "/not-executable"], 126, "permission denied");
    fails(&["localhost/busybox", "/etc"], 126, "permission denied");
    fails(&["-v", "/dev/null:/etc", "localhost/busybox", "true"], 126, "not a directory");
}

#[test]
fn from_run_to_rm() {
    needs_caller!("podman", "conmon");
    let p = podman();
    p.ok(&["run", "-d", "--name", "life", "localhost/busybox", "sh", "-c", SLEEP]);
    let status = || p.ok(&["inspect", "-f", "{{.State.Status}}", "life"]);
    await_true("its log", LIMIT, || p.ok(&["logs", "life"]).contains("ready"), || p.ok(&["logs", "life"]));
    assert_eq!(status(), "running");
    p.podman(&["exec", "life", "sh", "-c", "echo in; exit 9"]).code(9);
    p.podman(&["exec", "life", "nosuch"]).fails(127, &["executable file not found in $PATH"]);
    assert!(p.ok(&["top", "life", "pid", "args"]).contains("sleep 0.1"));
    p.ok(&["pause", "life"]);
    assert_eq!(status(), "paused");
    p.ok(&["unpause", "life"]);
    assert!(p.ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "life"]).starts_with("life "));
    p.ok(&["update", "--memory", "96m", "life"]);
    assert_eq!(p.ok(&["exec", "life", "sh", "-c", MEMORY_LIMIT]), "100663296");
    p.ok(&["restart", "life"]);
    assert_eq!(status(), "running");
    p.ok(&["stop", "life"]);
    assert_eq!(p.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "life"]), "exited 3");
    p.ok(&["start", "life"]);
    p.ok(&["kill", "life"]);
    await_true("the end", LIMIT, || status() == "exited", status);
    p.ok(&["rm", "life"]);
}

#[test]
fn a_shell_at_a_terminal() {
    needs_caller!("podman", "conmon");
    let (mut child, mut terminal) = podman().at_terminal(&["run", "--rm", "-it", "localhost/busybox", "sh"]);
    terminal.type_in("tty\n");
    terminal.expect("/dev/pts/0");
    terminal.type_in("echo si''ze $(stty size)\n");
    terminal.expect("size 30 90");
    terminal.type_in("exit 5\n");
    assert_eq!(wait(&mut child, LIMIT).unwrap().code(), Some(5));
}

#[test]
fn pods_share_namespaces() {
    needs_caller!("podman", "conmon", "catatonit");
    let p = podman();
    p.ok(&["pod", "create", "--name", "pod", "--share", "net,ipc,uts", "--hostname", "inpod"]);
    p.ok(&["run", "-d", "--pod", "pod", "--name", "pod-server", "localhost/busybox", "httpd", "-f", "-p", "80", "-h", "/www"]);
    let page = || p.sh(&["--pod", "pod"], "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc 127.0.0.1 80; hostname");
    await_true("the page", LIMIT, || page().out.ends_with("the page\ninpod\n"), || format!("{:?}", page()));
    p.ok(&["pod", "pause", "pod"]);
    p.ok(&["pod", "unpause", "pod"]);
    p.ok(&["pod", "rm", "-f", "pod"]);
}

const KUBE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: kube}
spec:
  containers:
  - name: one
    image: localhost/busybox
    command: [sh, -c, \"trap 'exit 0' TERM; while :; do sleep 0.1; done\"]
    resources: {limits: {memory: 64Mi}}
  - name: two
    image: localhost/busybox
    command: [httpd, -f, -p, '80', -h, /www]
    securityContext: {readOnlyRootFilesystem: true}
";

#[test]
fn a_pod_from_kubernetes_yaml() {
    needs_caller!("podman", "conmon", "catatonit");
    let p = podman();
    p.machine.write("/root/kube.yaml", KUBE);
    p.ok(&["play", "kube", "/root/kube.yaml"]);
    let page = || p.podman(&["exec", "kube-one", "sh", "-c", "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc 127.0.0.1 80"]);
    await_true("the page", LIMIT, || page().out.ends_with("the page\n"), || format!("{:?}", page()));
    assert_eq!(p.ok(&["exec", "kube-one", "sh", "-c", MEMORY_LIMIT]), "67108864");
    p.ok(&["play", "kube", "--down", "/root/kube.yaml"]);
}

#[test]
fn health() {
    needs_caller!("podman", "conmon");
    let p = podman();
    p.ok(&[
        "run",
        "-d",
        "--name",
        "health",
        "--health-cmd",
        "test ! -e /tmp/ill",
        "--health-interval",
        "disable",
        "--health-retries",
        "1",
        "localhost/busybox",
        "sh",
        "-c",
        SLEEP,
    ]);
    p.ok(&["healthcheck", "run", "health"]);
    p.ok(&["exec", "health", "touch", "/tmp/ill"]);
    p.podman(&["healthcheck", "run", "health"]).code(1);
    p.ok(&["rm", "-f", "-t", "1", "health"]);
}

const DOCKERFILE: &str = "FROM localhost/busybox
WORKDIR /app
COPY . /app
ENV GREETING=\"hello there\"
RUN echo $GREETING >said && test $(id -u) = 0
USER user
RUN test $(id -un) = user
CMD [\"cat\", \"/app/said\"]
";

#[test]
fn buildah_builds_and_runs() {
    needs_caller!("podman", "conmon", "buildah");
    let p = podman();
    p.machine.write("/root/context/Dockerfile", DOCKERFILE);
    p.machine.write("/root/context/file", "data\n");
    let runtime = callers::containerd::installed_runtime();
    let buildah = |args: &[&str]| p.call("buildah", args);
    buildah(&["bud", "--runtime", &runtime, "--isolation", "oci", "-t", "localhost/app", "/root/context"]).ok();
    assert_eq!(p.ok(&["run", "--rm", "localhost/app"]), "hello there");
    assert_eq!(p.ok(&["run", "--rm", "localhost/app", "cat", "/app/file"]), "data");

    let working = buildah(&["from", "localhost/busybox"]).ok().to_string();
    let run = |script: &str| buildah(&["run", "--runtime", &runtime, "--isolation", "oci", &working, "--", "sh", "-c", script]);
    assert_eq!(run("echo made >/made; cat /made").ok(), "made");
    run("exit 6").fails(6, &[]);
    run("exec nosuch").code(127);
    buildah(&["commit", "-q", &working, "localhost/made"]).ok();
    assert_eq!(p.ok(&["run", "--rm", "localhost/made", "cat", "/made"]), "made");
    buildah(&["rm", &working]).ok();
    p.machine.write("/root/broken/Dockerfile", "FROM localhost/busybox\nRUN exit 6\n");
    buildah(&["bud", "--runtime", &runtime, "--isolation", "oci", "/root/broken"]).fails(6, &["exit status 6"]);
}

#[test]
fn nothing_is_left_behind() {
    needs_caller!("podman", "conmon");
    let p = Podman::new("podleaks");
    p.sh(&[], "true").ok();
    let before = p.machine.census();
    p.sh(&[], "exit 2").code(2);
    p.podman(&["run", "--rm", "localhost/busybox", "nosuch"]).code(127);
    p.ok(&["run", "-d", "--name", "one", "localhost/busybox", "sh", "-c", SLEEP]);
    p.ok(&["pause", "one"]);
    p.ok(&["rm", "-f", "-t", "0", "one"]);
    await_true("no remains", LIMIT, || p.machine.census() == before, || format!("before: {before:#?}\nafter: {:#?}", p.machine.census()));
}

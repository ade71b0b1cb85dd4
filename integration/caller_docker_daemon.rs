//! Docker's engine on dhow: builds, a registry, daemons that restart or remap users, and engines joined in a swarm.

mod callers;
mod support;

use callers::docker::Docker;
use callers::{LIMIT, await_true};
use serde_json::json;
use support::wait;

const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

const DOCKERFILE: &str = r#"FROM busybox
WORKDIR /app
COPY . /app
ADD files.tar /unpacked/
ENV PORT=8000 GREETING="hello there"
RUN echo "$GREETING" >said && chown user said && test "$(id -u)" = 0
USER user
RUN test "$(id -un)" = user && test "$(pwd)" = /app
EXPOSE 8000
CMD ["sh", "-c", "exec httpd -f -p $PORT -h /app"]
"#;

#[test]
fn a_build_from_a_dockerfile() {
    needs_caller!("dockerd", "curl");
    let d = Docker::new("build");
    let context = "/root/context";
    d.machine.sh(&format!("mkdir -p {context}/sub && cd {context} && echo page >index.html && echo deep >sub/f && tar -cf files.tar sub")).ok();
    d.machine.write(&format!("{context}/Dockerfile"), DOCKERFILE);
    let built = d.run(&["build", "-t", "app", context]);
    assert!(built.ok().contains("Successfully tagged app:latest"), "{built:?}");
    let again = d.ok(&["build", "-t", "app", context]);
    assert_eq!(again.matches("Using cache").count(), 9, "{again}");
    assert_eq!(d.ok(&["run", "--rm", "app", "cat", "/app/said", "/unpacked/sub/f"]), "hello there\ndeep");
    d.ok(&["run", "-d", "--name", "app", "-p", "8080:8000", "app"]);
    let page = || d.machine.get("http://127.0.0.1:8080/");
    await_true("the page", LIMIT, || page().is_some(), || d.run(&["logs", "app"]).err);
    assert_eq!(page().unwrap(), "page\n");
    assert!(d.ok(&["history", "app"]).contains("EXPOSE"));
    d.machine.write(&format!("{context}/Dockerfile"), "FROM busybox\nRUN exit 6\n");
    d.run(&["build", context]).fails(6, &["The command '/bin/sh -c exit 6' returned a non-zero code: 6"]);
}

#[test]
fn containers_outlive_a_daemon_that_is_restarted() {
    needs_caller!("dockerd");
    let d = Docker::with("live", json!({"live-restore": true}));
    let c = d.up("survivor", &[], "i=0; trap 'exit 7' TERM; while :; do i=$((i + 1)); echo $i >/tmp/beat; sleep 0.05; done");
    await_true("a heartbeat", LIMIT, || c.exec("cat /tmp/beat").code == 0, || c.logs());
    let pid = c.state()["Pid"].as_i64().unwrap();
    d.stop_daemon();
    d.machine.sh(&format!("kill -0 {pid}")).ok();
    d.start_daemon();
    assert_eq!(c.state()["Pid"].as_i64().unwrap(), pid);
    assert_eq!(c.state()["Status"], "running");
    let beat = || c.exec("cat /tmp/beat").ok().parse::<u64>().unwrap_or(0);
    let then = beat();
    await_true("it goes on", LIMIT, || beat() > then, || c.logs());
    d.ok(&["stop", "survivor"]);
    assert_eq!(c.state()["ExitCode"], 7);
}

#[test]
fn users_are_remapped() {
    needs_caller!("dockerd");
    let d = Docker::new("userns");
    d.machine
        .sh("groupadd -f dockremap; id dockremap >/dev/null 2>&1 || useradd -g dockremap dockremap; echo dockremap:700000:65536 | tee /etc/subuid >/etc/subgid")
        .ok();
    d.stop_daemon();
    d.machine.sh("sed -i 's/^{/{\"userns-remap\": \"default\", /' /etc/docker/daemon.json").ok();
    d.start_daemon();
    let image = callers::images::busybox(&d.machine.dir, "busybox:latest", &["sh"]);
    d.ok(&["load", "-q", "-i", image.to_str().unwrap()]);
    assert_eq!(d.sh(&[], "id -u; cat /proc/self/uid_map | tr -s ' '").ok(), "0\n 0 700000 65536");
    let c = d.up("mapped", &["-v", "vol:/vol", "--tmpfs", "/t"], SLEEP);
    let pid = c.state()["Pid"].as_i64().unwrap();
    assert_eq!(d.machine.sh(&format!("stat -c %u /proc/{pid}")).ok(), "700000");
    c.exec("echo x >/vol/f && echo x >/t/f && test -c /dev/null && touch /x").ok();
    assert_eq!(d.ok(&["exec", "-u", "user", "mapped", "id", "-u"]), "1000");
    assert_eq!(d.sh(&["--userns", "host"], "cat /proc/self/uid_map | tr -s ' '").ok(), " 0 0 4294967295");
    let (mut child, mut terminal) = d.at_terminal(&["run", "--rm", "-it", "busybox", "sh", "-c", "tty; id -u; exit 4"]);
    terminal.expect("/dev/pts/0");
    assert_eq!(wait(&mut child, LIMIT).unwrap().code(), Some(4));
}

#[test]
fn a_registry_keeps_what_is_pushed() {
    needs_caller!("dockerd", "docker-registry");
    let d = Docker::new("registry");
    d.machine.write(
        "/etc/docker/registry/config.yml",
        "version: 0.1\nstorage: {filesystem: {rootdirectory: /var/lib/docker/registry}}\nhttp: {addr: 127.0.0.1:5000}\n",
    );
    let mut registry =
        d.machine.daemon("docker-registry", &["serve", "/etc/docker/registry/config.yml"], || d.machine.get("http://127.0.0.1:5000/v2/").is_some());
    d.ok(&["tag", "busybox", "localhost:5000/my/busybox:1"]);
    d.ok(&["push", "-q", "localhost:5000/my/busybox:1"]);
    d.ok(&["rmi", "localhost:5000/my/busybox:1", "busybox"]);
    assert_eq!(d.ok(&["run", "--rm", "localhost:5000/my/busybox:1", "echo", "pulled"]), "pulled");
    let _ = registry.kill();
    let _ = registry.wait();
}

/// Nothing of a container is left, whatever way it went.
#[test]
fn nothing_is_left_behind() {
    needs_caller!("dockerd");
    let d = Docker::new("leaks");
    d.sh(&["--tmpfs", "/t"], "true").ok(); // what the first one sets up for all
    let before = d.machine.census();
    d.sh(&[], "exit 3").code(3);
    d.run(&["run", "--rm", "busybox", "nosuch"]).code(127);
    d.run(&["run", "--rm", "-v", "/dev/null:/etc", "busybox", "true"]).code(125);
    d.up("ca", &["-v", "v:/v", "-m", "64m", "--init"], SLEEP);
    let killed = d.up("cb", &["--privileged=false"], SLEEP);
    d.machine.sh(&format!("kill -9 {}", killed.state()["Pid"])).ok();
    d.ok(&["wait", "cb"]);
    drop(killed);
    let paused = d.up("cc", &[], SLEEP);
    d.ok(&["pause", "cc"]);
    drop(paused);
    await_true("no remains", LIMIT, || d.machine.census() == before, || format!("before: {before:#?}\nafter: {:#?}", d.machine.census()));
}

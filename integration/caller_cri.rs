//! What a kubelet does: pods through containerd's CRI plugin, whose runtime handler `dhow` is one table of its config.

mod callers;
mod support;

use callers::containerd::Containerd;
use callers::cri::{Answer, Message, call};
use callers::{LIMIT, await_true, images};

const NETWORK: &str = r#"{"cniVersion": "0.4.0", "name": "pods", "plugins": [
    {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {"type": "host-local", "subnet": "10.99.0.0/24"}},
    {"type": "portmap", "capabilities": {"portMappings": true}}]}"#;

/// A pod on the handler under test.
struct Pod<'c> {
    containerd: &'c Containerd,
    id: String,
    config: Message,
}

/// NamespaceOption with a pid namespace for each container, as a kubelet asks for.
fn own_pids() -> Message {
    Message::new().number(2, 1)
}

impl<'c> Pod<'c> {
    #[track_caller]
    fn run(containerd: &'c Containerd, name: &str) -> Pod<'c> {
        let metadata = Message::new().bytes(1, name).bytes(2, format!("uid-{name}")).bytes(3, "default");
        let linux = Message::new().bytes(1, "/kubepods").message(2, Message::new().message(1, own_pids()));
        let config = Message::new().message(1, metadata).bytes(2, name).bytes(3, "/var/log/pods").message(8, linux);
        let answer = call(&containerd.machine, "RunPodSandbox", Message::new().message(1, config.clone()).bytes(2, "dhow")).unwrap();
        Pod { containerd, id: answer.string(1), config }
    }

    #[track_caller]
    fn call(&self, method: &str, request: Message) -> Answer {
        call(&self.containerd.machine, method, request).unwrap_or_else(|e| panic!("{method}: {e}"))
    }

    /// A container that runs `script`, with 64 MiB.
    #[track_caller]
    fn create(&self, name: &str, command: &[&str]) -> String {
        let resources = Message::new().number(4, 64 << 20).number(3, 512);
        let config = Message::new()
            .message(1, Message::new().bytes(1, name))
            .message(2, Message::new().bytes(1, "example.com/busybox:1"))
            .strings(3, command)
            .bytes(11, format!("{name}.log"))
            .message(15, Message::new().message(1, resources).message(2, Message::new().message(3, own_pids())));
        self.call("CreateContainer", Message::new().bytes(1, &self.id).message(2, config).message(3, self.config.clone())).string(1)
    }

    fn start(&self, id: &str) -> Result<Answer, String> {
        call(&self.containerd.machine, "StartContainer", Message::new().bytes(1, id))
    }

    /// State (1 running, 2 exited) and exit code.
    fn status(&self, id: &str) -> (u64, u64) {
        let status = self.call("ContainerStatus", Message::new().bytes(1, id)).message(1);
        (status.number(3), status.number(7))
    }

    #[track_caller]
    fn exec(&self, id: &str, script: &str) -> (u64, String) {
        let answer = self.call("ExecSync", Message::new().bytes(1, id).strings(2, &["sh", "-c", script]).number(3, 20));
        (answer.number(3), answer.string(1))
    }
}

#[test]
fn a_pod_with_two_containers() {
    needs_caller!("containerd", "ctr", "curl");
    if !std::path::Path::new("/usr/lib/cni/bridge").exists() {
        skip!("containernetworking-plugins is not installed");
    }
    let c = Containerd::new("cri");
    c.machine.write("/etc/cni/net.d/10-pods.conflist", NETWORK);
    for (name, command) in [("example.com/busybox:1", &["sh"][..]), ("example.com/pause:1", &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"])] {
        let image = images::busybox(&c.machine.dir, name, command);
        c.ok(&["-n", "k8s.io", "image", "import", image.to_str().unwrap()]);
    }
    let before = c.machine.census();
    let version = call(&c.machine, "Version", Message::new()).unwrap();
    assert_eq!(version.string(2), "containerd");

    // containerd takes up the network's file on its own time
    await_true("the network", LIMIT, || call(&c.machine, "Status", Message::new()).is_ok_and(|a| !a.message(1).string(1).is_empty()), String::new);
    let pod = Pod::run(&c, "pod");
    let server = pod.create("server", &["httpd", "-f", "-p", "80", "-h", "/www"]);
    let client = pod.create("client", &["sh", "-c", "trap 'exit 4' TERM; while :; do sleep 0.1; done"]);
    for id in [&server, &client] {
        pod.start(id).unwrap();
        assert_eq!(pod.status(id), (1, 0));
    }
    // one network, one ipc, own pids, own files
    let page = || pod.exec(&client, "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc 127.0.0.1 80").1;
    await_true("the page", LIMIT, || page().ends_with("the page\n"), page);
    let link = |id: &str, kind: &str| pod.exec(id, &format!("readlink /proc/self/ns/{kind}")).1;
    assert_eq!(link(&server, "net"), link(&client, "net"));
    assert_eq!(link(&server, "ipc"), link(&client, "ipc"));
    assert_ne!(link(&server, "pid"), link(&client, "pid"));
    assert_eq!(pod.exec(&client, "hostname; exit 5"), (5, "pod\n".into()));
    assert_eq!(pod.exec(&client, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes").1, "67108864\n");
    pod.call("UpdateContainerResources", Message::new().bytes(1, &client).message(2, Message::new().number(4, 96 << 20)));
    assert_eq!(pod.exec(&client, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes").1, "100663296\n");
    let stats = pod.call("ContainerStats", Message::new().bytes(1, &client)).message(1);
    assert!(stats.message(3).message(2).number(1) > 0, "memory's working set: {stats:?}");

    // a container that can't start
    let broken = pod.create("broken", &["nosuch"]);
    let said = pod.start(&broken).unwrap_err();
    assert!(said.contains("executable file not found in $PATH"), "{said}");
    assert_eq!(pod.status(&broken), (2, 128));

    pod.call("StopContainer", Message::new().bytes(1, &client).number(2, 10));
    assert_eq!(pod.status(&client), (2, 4));
    pod.call("StopPodSandbox", Message::new().bytes(1, &pod.id));
    assert_eq!(pod.status(&server).0, 2);
    pod.call("RemovePodSandbox", Message::new().bytes(1, &pod.id));
    let cgroups = |census: callers::Census| census.cgroups.into_iter().filter(|c| !c.ends_with("/kubepods")).collect::<Vec<_>>();
    let mounts_before = before.mounts.clone();
    let cgroups_before = cgroups(before);
    await_true(
        "no remains",
        LIMIT,
        || c.machine.census().mounts == mounts_before && cgroups(c.machine.census()) == cgroups_before,
        || format!("{:#?}", c.machine.census()),
    );
}

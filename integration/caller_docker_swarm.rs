//! Two Docker engines, each a machine with a network of its own, joined in a swarm: dhow under both.

mod callers;
mod support;

use callers::docker::Docker;
use callers::{LIMIT, await_true};
use std::process::Command;

/// A cable between the two: each end in its machine, with an address.
fn cable(one: &Docker, other: &Docker) {
    let ends = [(one, "10.88.0.1"), (other, "10.88.0.2")];
    let pids = ends.map(|(d, _)| d.machine.pid.to_string());
    let made =
        Command::new("ip").args(["link", "add", "cable0", "netns", &pids[0], "type", "veth", "peer", "name", "cable0", "netns", &pids[1]]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    for (d, address) in ends {
        d.machine.sh(&format!("ip address add {address}/24 dev cable0 && ip link set cable0 up")).ok();
    }
}

#[test]
fn an_overlay_network_over_two_engines() {
    needs_caller!("dockerd", "ip");
    let (one, other) = (Docker::new("swarm1"), Docker::new("swarm2"));
    cable(&one, &other);
    one.ok(&["swarm", "init", "--advertise-addr", "10.88.0.1", "--data-path-addr", "10.88.0.1"]);
    let token = one.ok(&["swarm", "join-token", "-q", "worker"]);
    other.ok(&["swarm", "join", "--advertise-addr", "10.88.0.2", "--token", &token, "10.88.0.1:2377"]);
    let ready = || one.ok(&["node", "ls", "--format", "{{.Status}}"]).lines().filter(|l| *l == "Ready").count() == 2;
    await_true("two nodes", LIMIT, ready, || one.ok(&["node", "ls"]));
    one.ok(&["network", "create", "-d", "overlay", "--attachable", "wide"]);

    // containers, by name
    let server = one.up("far", &["--network", "wide"], "exec httpd -f -p 80 -h /www");
    let script = "address=$(nslookup far 127.0.0.11 | sed -n 's/^Address.*: *\\(10[0-9.]*\\)$/\\1/p' | head -n 1)
        printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 5 nc $address 80";
    let page = || other.sh(&["--network", "wide"], script);
    await_true("the far page", LIMIT, || page().out.ends_with("the page\n"), || format!("{:?} {}", page(), server.logs()));
    drop(server);

    // a service on both; this kernel may lack IPVS, so by DNS and without an ingress port
    let task = "while :; do hostname; sleep 0.2; done";
    one.ok(&[
        "service",
        "create",
        "-q",
        "--detach",
        "--no-resolve-image",
        "--name",
        "svc",
        "--endpoint-mode",
        "dnsrr",
        "--network",
        "wide",
        "--replicas",
        "4",
        "busybox",
        "sh",
        "-c",
        task,
    ]);
    let running = |d: &Docker| d.ok(&["ps", "-q", "--filter", "name=svc"]).lines().count();
    let tasks = || format!("{} {}", one.run(&["service", "ps", "--no-trunc", "svc"]).out, one.machine.sh("tail -n 5 dockerd.log").out);
    await_true("two tasks on each", LIMIT, || running(&one) == 2 && running(&other) == 2, tasks);
    one.ok(&["service", "scale", "--detach", "svc=2"]);
    await_true("two in all", LIMIT, || running(&one) + running(&other) == 2, tasks);
    one.ok(&["service", "rm", "svc"]);
    await_true("none", LIMIT, || running(&one) + running(&other) == 0, tasks);
    other.ok(&["swarm", "leave"]);
    one.ok(&["swarm", "leave", "--force"]);
}

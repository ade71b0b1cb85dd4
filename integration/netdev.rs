//! `linux.netDevices` with veth devices, in a network namespace of the test's own that plays the host.

mod support;

use serde_json::json;
use std::process::Command;
use support::{Bundle, Outcome};

/// Make veth v0 (its peer is p0) ready, then run the container, then `after`; all in a new network namespace.
fn on_a_host(bundle: &Bundle, before: &str, after: &str) -> Outcome {
    let run = bundle.words(&["run", &bundle.id]).join(" ");
    let script = format!("set -e; ip link add v0 type veth peer name p0; {before}\nset +e; {run}; code=$?\n{after}\nexit $code");
    bundle.any(&["unshare".into(), "-n".into(), "sh".into(), "-c".into(), script])
}

/// A container that runs `script` and asks for `devices`; None where this machine has no veth.
fn container(test: &str, script: &str, devices: serde_json::Value) -> Option<Bundle> {
    let made = Command::new("unshare").args(["-n", "ip", "link", "add", "v0", "type", "veth", "peer", "name", "p0"]).output();
    if !made.as_ref().is_ok_and(|m| m.status.success()) {
        println!("skipped: {test}: no veth device can be made: {made:?}");
        return None;
    }
    let bundle = Bundle::ready(test, script)?;
    bundle.edit(|config| config["linux"]["netDevices"] = devices);
    Some(bundle)
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

const ADDRESSES: &str = "ip link set v0 mtu 1400 address 02:00:00:00:00:07; ip addr add 10.9.8.7/24 brd + dev v0; ip addr add 10.9.8.9/32 scope link dev v0; ip addr add 10.1.1.1 peer 10.1.1.2/32 dev v0";

#[test]
fn it_moves_with_its_permanent_global_addresses_and_is_up() {
    let Some(b) = container("netdev_moves", "ip addr show dev c0", json!({"v0": {"name": "c0"}})) else { return };
    let got = on_a_host(&b, ADDRESSES, "").succeeds();
    has(&got.out, &["mtu 1400", "02:00:00:00:00:07", "inet 10.9.8.7/24 brd 10.9.8.255 scope global", "inet 10.1.1.1 peer 10.1.1.2/32", ",UP"]);
    assert!(!got.out.contains("10.9.8.9"), "of the link's scope: {}", got.out);
}

#[test]
fn one_that_is_up_keeps_its_ipv6_addresses() {
    let Some(b) = container("netdev_v6", "ip addr show dev v0", json!({"v0": {}})) else { return };
    if !std::path::Path::new("/proc/net/if_inet6").exists() {
        println!("skipped: one_that_is_up_keeps_its_ipv6_addresses: no IPv6 in this kernel");
        return;
    }
    let got = on_a_host(&b, "ip link set p0 up; ip link set v0 up; ip addr add fd00::7/64 dev v0 nodad; ip addr add 10.9.8.7/24 dev v0", "").succeeds();
    has(&got.out, &["inet6 fd00::7/64 scope global", "inet 10.9.8.7/24"]);
}

#[test]
fn a_name_that_is_taken_is_an_error_that_changes_nothing() {
    let Some(b) = container("netdev_taken", "true", json!({"p0": {}, "v0": {"name": "lo"}})) else { return };
    let setup = format!("{ADDRESSES}; ip link set v0 up");
    let got = on_a_host(&b, &setup, "ip addr show dev v0; ip link show dev p0").refused();
    has(&got.err, &["/linux/netDevices/v0", "\\\"lo\\\"", "file exists"]);
    has(&got.out, &["10.9.8.7/24", "v0@p0", "p0@v0", ",UP"]);
    b.assert_gone();
}

/// Whatever fails after the move: a hook, a mount, the program, the pid file.
#[test]
fn it_comes_back_when_the_container_can_t_be_finished() {
    for (what, part, fault) in [
        ("hook", "hooks", json!({"createContainer": [{"path": "/bin/false"}]})),
        ("program", "process", json!({"args": ["/nonesuch"], "cwd": "/"})),
        ("poststart", "hooks", json!({"poststart": [{"path": "/bin/false"}]})),
    ] {
        let Some(b) = container(&format!("netdev_back_{what}"), "sleep 1000", json!({"v0": {"name": "eth%d"}})) else { return };
        b.edit(|config| config[part] = fault);
        let setup = format!("{ADDRESSES}; ip link set v0 up; ip -6 addr add fd00::7/64 dev v0 nodad || true");
        let got = on_a_host(&b, &setup, "ip addr show dev v0").refused();
        has(&got.out, &["v0@p0", "mtu 1400", "02:00:00:00:00:07", "10.9.8.7/24", "10.1.1.1 peer 10.1.1.2/32", ",UP"]);
        b.assert_gone();
    }
    let Some(b) = container("netdev_back_down", "true", json!({"v0": {}, "p0": {}})) else { return };
    b.edit(|c| c["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]}));
    let got = on_a_host(&b, "ip link set p0 down", "ip addr show").refused();
    has(&got.out, &["v0@p0", "p0@v0"]);
    assert!(!got.out.contains(",UP"), "as they were: {}", got.out);
}

#[test]
fn a_missing_device_is_an_error() {
    let Some(b) = container("netdev_missing", "true", json!({"nope0": {}})) else { return };
    has(&on_a_host(&b, "", "").refused().err, &["no network device", "nope0"]);
    b.assert_gone();
}

/// config-linux.md § Network Devices: "unless the user has provided a template by appending `%d` to the new name".
#[test]
fn the_kernel_fills_a_template() {
    let devices = json!({"v0": {"name": "eth%d"}, "p0": {"name": "eth%d"}});
    let Some(b) = container("netdev_template", "ip addr show", devices) else { return };
    has(&on_a_host(&b, ADDRESSES, "").succeeds().out, &["eth0", "eth1", "10.9.8.7/24"]);
}

#[test]
fn into_a_namespace_by_path_where_it_stays() {
    let Some(b) = container("netdev_path", "ip addr show dev c0", json!({"v0": {"name": "c0"}})) else { return };
    let namespace = b.path("netns");
    std::fs::write(&namespace, "").unwrap();
    b.edit(|config| {
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list.iter_mut().filter(|ns| ns["type"] == "network").for_each(|ns| ns["path"] = json!(namespace));
    });
    let at = namespace.display();
    let setup = format!("{ADDRESSES}; unshare --net={at} true");
    let got = on_a_host(&b, &setup, &format!("ip link show v0; echo after; nsenter --net={at} ip addr show dev c0; umount {at}"));
    let _ = Command::new("umount").arg(&namespace).stderr(std::process::Stdio::null()).status();
    let (inside, after) = got.succeeds().out.split_once("after").map(|(a, b)| (a.to_string(), b.to_string())).unwrap();
    has(&inside, &["c0", "10.9.8.7/24", ",UP"]);
    has(&after, &["c0", "10.9.8.7/24"]);
}

#[test]
fn into_a_user_namespace_s_network() {
    let Some(b) = container("netdev_user", "ip addr show dev c0", json!({"v0": {"name": "c0"}})) else { return };
    b.edit(|config| {
        let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    });
    has(&on_a_host(&b, ADDRESSES, "").succeeds().out, &["10.9.8.7/24", ",UP"]);
}

/// As with runc, a hook in the container's namespaces finds the device.
#[test]
fn create_container_hooks_find_it() {
    let Some(b) = container("netdev_hook", "true", json!({"v0": {"name": "c0"}})) else { return };
    let seen = b.path("seen");
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("ip link show c0 > {}", seen.display())], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]});
    b.edit(|config| config["hooks"] = json!({"createContainer": [hook]}));
    on_a_host(&b, "", "").succeeds();
    has(&b.read("seen"), &["c0", ",UP"]);
}

/// Docker's own tests and runc's use dummies; a kernel for clouds has them, the build machine's has not.
#[test]
fn a_dummy_device() {
    let made = Command::new("unshare").args(["-n", "ip", "link", "add", "d0", "type", "dummy"]).output();
    if !made.is_ok_and(|m| m.status.success()) {
        println!("skipped: a_dummy_device: no dummy device can be made");
        return;
    }
    let Some(b) = container("netdev_dummy", "ip addr show dev d0", json!({"d0": {}})) else { return };
    has(&on_a_host(&b, "ip link add d0 type dummy; ip addr add 10.7.7.7/24 dev d0", "").succeeds().out, &["10.7.7.7/24", ",UP"]);
}

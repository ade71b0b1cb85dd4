//! SCMP_ACT_NOTIFY: the listener goes to the agent at listenerPath (config-linux.md § The Container Process State), with
//! root and without.

#[macro_use]
mod support;

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use support::Bundle;
use support::pty::FdSocket;

const USER: u32 = 12_347;

/// mkdir(2) is the agent's to answer; when it closes the listener the kernel says ENOSYS.
fn profile(path: &str) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "from the test",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
    })
}

fn agent_gets_the_listener(b: &Bundle, uid: Option<u32>) {
    let agent = FdSocket::new(b.path("agent"));
    std::fs::set_permissions(&agent.path, PermissionsExt::from_mode(0o666)).unwrap();
    b.set("/linux/seccomp", profile(agent.as_str())).sh("mkdir /tmp/x; echo done");
    let mut running = b.spawn(&["run", &b.id], |command| {
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
    });
    let (said, listener) = agent.receive();
    drop(listener);
    let ran = running.wait(support::LIMIT);
    assert!(ran.out.ends_with("done\n") && ran.err.contains("Function not implemented"), "{ran:?}");
    let state: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!((&state["metadata"], &state["fds"], &state["state"]["id"]), (&json!("from the test"), &json!(["seccompFd"]), &json!(b.id)), "{state}");
}

#[test]
fn an_agent_answers() {
    needs_root!();
    agent_gets_the_listener(&Bundle::new("notify-root"), None);
}

/// The parent has no right to trace the child by itself.
#[test]
fn an_agent_answers_a_user_without_root() {
    needs_root!();
    let b = Bundle::new("notify-user");
    let map = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
    b.push("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map)
        .remove("/linux/resources")
        .without_mount("/sys/fs/cgroup")
        .without_mount("/dev/pts");
    std::fs::create_dir_all(b.state_dir().parent().unwrap()).unwrap();
    b.any(&["chown".into(), "-R".into(), format!("{USER}:{USER}"), b.path(".").display().to_string()]).succeeds();
    agent_gets_the_listener(&b, Some(USER));
}

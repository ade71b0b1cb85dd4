//! The MUSTs about hooks: runtime.md § Lifecycle 3 to 13, config.md § POSIX-platform Hooks.

#[path = "../integration/support/mod.rs"]
mod support;

use serde_json::{Value, json};
use std::fs;
use support::Bundle;

const PHASES: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
/// Those that run at `create`.
const AT_CREATE: [&str; 3] = ["prestart", "createRuntime", "createContainer"];

/// A bundle whose directory is at the same path inside too, so that hooks of both sides write to the same files.
fn bundle(test: &str, script: &str) -> Option<Bundle> {
    let b = Bundle::ready(test, script)?;
    let dir = b.dir.clone();
    b.edit(|config| {
        config["mounts"].as_array_mut().unwrap().push(json!({"destination": dir, "type": "bind", "source": dir, "options": ["bind"]}));
    });
    Some(b)
}

fn hook(b: &Bundle, script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", format!("cd {}; {script}", b.dir.display())], "env": ["PATH=/bin:/usr/bin:/usr/sbin"]})
}

/// In each phase two hooks that write "PHASE N" to `log`; `failing`'s second ends with 1 and has a third behind it.
fn logging(b: &Bundle, failing: &str) {
    let mut hooks = json!({});
    for phase in PHASES {
        let mut list = vec![hook(b, &format!("echo {phase} 1 >> log"))];
        if phase == failing {
            list.push(hook(b, "exit 1"));
        }
        list.push(hook(b, &format!("echo {phase} 2 >> log")));
        hooks[phase] = json!(list);
    }
    b.edit(|config| config["hooks"] = hooks);
}

fn log(b: &Bundle) -> Vec<String> {
    b.read("log").lines().map(String::from).collect()
}

fn lines(phases: &[&str]) -> Vec<String> {
    phases.iter().flat_map(|p| [format!("{p} 1"), format!("{p} 2")]).collect()
}

/// § Lifecycle 3 to 13: each phase "MUST be invoked by the runtime", at its time; config.md: "Hooks MUST be called in
/// the listed order"; "`prestart` hooks MUST be called before the `createRuntime` hooks".
#[test]
fn hooks_run_in_order_at_their_time() {
    let Some(b) = bundle("hooks_order", "while :; do sleep 1; done") else { return };
    logging(&b, "");
    b.create().succeeds();
    assert_eq!(log(&b), lines(&AT_CREATE));
    b.start().succeeds();
    assert_eq!(log(&b), lines(&PHASES[..5]));
    b.kill("KILL").succeeds();
    b.await_status("stopped");
    assert_eq!(log(&b), lines(&PHASES[..5]));
    b.delete().succeeds();
    assert_eq!(log(&b), lines(&PHASES));
}

/// § Lifecycle 7 and 8: the `startContainer` hooks come before the program.
#[test]
fn start_container_hooks_come_before_the_program() {
    let Some(b) = bundle("hooks_before", "") else { return };
    let dir = b.dir.display().to_string();
    b.edit(|config| {
        config["process"]["args"] = json!(["/bin/sh", "-c", format!("echo program >> {dir}/log")]);
        config["hooks"] = json!({"startContainer": [hook(&b, "sleep 0.2; echo hook >> log")]});
    });
    b.run().succeeds();
    assert_eq!(log(&b), ["hook", "program"]);
}

/// config.md: "The state of the container MUST be passed to hooks over stdin"; runtime.md § State: "For hooks executed
/// in the runtime namespace, it is the pid as seen by the runtime. For hooks executed in the container namespace, it
/// is the pid as seen by the container."
#[test]
fn hooks_get_the_state() {
    let Some(b) = bundle("hooks_state", "while :; do sleep 1; done") else { return };
    b.edit(|config| {
        for phase in PHASES {
            config["hooks"][phase] = json!([hook(&b, &format!("cat > {phase}.json"))]);
        }
        config["annotations"] = json!({"k": "v"});
    });
    b.create().succeeds();
    b.start().succeeds();
    let pid = b.state()["pid"].clone();
    b.kill("KILL").succeeds();
    b.await_status("stopped");
    b.delete().succeeds();
    let told = ["creating", "creating", "creating", "created", "running", "stopped"];
    for (phase, status) in PHASES.into_iter().zip(told) {
        let state: Value = serde_json::from_str(&b.read(&format!("{phase}.json"))).unwrap_or_else(|e| panic!("{phase}: {e}"));
        assert_eq!((&state["id"], &state["annotations"]["k"]), (&json!(b.id), &json!("v")), "{phase}");
        assert_eq!(state["bundle"], json!(b.dir.canonicalize().unwrap()), "{phase}");
        // Prestart hooks once ran at `start`: crun tells them `created`, runc `creating`.
        assert!(state["status"] == status || (phase == "prestart" && state["status"] == "created"), "{phase}: {state}");
        match phase {
            "createContainer" | "startContainer" => assert_eq!(state["pid"], 1, "{phase}"),
            "poststop" => {}
            _ => assert_eq!(state["pid"], pid, "{phase}"),
        }
    }
}

/// config.md: prestart, createRuntime, poststart and poststop hooks "MUST be executed in the runtime namespace",
/// createContainer and startContainer hooks "MUST be executed in the container namespace".
#[test]
fn hooks_run_in_the_right_namespaces() {
    let Some(b) = bundle("hooks_where", "while :; do sleep 1; done") else { return };
    b.edit(|config| {
        for phase in PHASES {
            config["hooks"][phase] = json!([hook(&b, &format!("for n in mnt uts ipc net; do readlink /proc/self/ns/$n; done > {phase}.ns"))]);
        }
    });
    b.create().succeeds();
    b.start().succeeds();
    let pid = b.state()["pid"].to_string();
    let namespaces = |of: &str| -> String {
        let link = |n: &str| fs::read_link(format!("/proc/{of}/ns/{n}")).unwrap().display().to_string();
        ["mnt", "uts", "ipc", "net"].map(|n| link(n) + "\n").concat()
    };
    let (ours, containers) = (namespaces("self"), namespaces(&pid));
    b.kill("KILL").succeeds();
    b.await_status("stopped");
    b.delete().succeeds();
    for phase in PHASES {
        let inside = ["createContainer", "startContainer"].contains(&phase);
        assert_eq!(b.read(&format!("{phase}.ns")), if inside { &containers } else { &ours }.as_str(), "{phase}");
    }
}

/// config.md: createContainer hooks' path "MUST resolve in the runtime namespace", startContainer hooks' "in the
/// container namespace".
#[test]
fn hooks_paths_resolve_where_they_must() {
    let Some(b) = bundle("hooks_path", "true") else { return };
    fs::create_dir(b.path("host")).unwrap();
    let script = |path: &str| {
        fs::write(b.path(path), format!("#!/bin/sh\necho $0 >> {}/log\n", b.dir.display())).unwrap();
        std::process::Command::new("chmod").arg("+x").arg(b.path(path)).status().unwrap();
    };
    script("host/of-the-host");
    script("rootfs/of-the-container");
    b.edit(|config| {
        config["hooks"] = json!({
            "createContainer": [{"path": b.path("host/of-the-host")}],
            "startContainer": [{"path": "/of-the-container"}],
        });
    });
    b.run().succeeds();
    assert_eq!(log(&b), [b.path("host/of-the-host").display().to_string(), "/of-the-container".into()]);
}

/// config.md: hooks at create run "after the runtime environment has been created […] but before the `pivot_root` or
/// any equivalent operation": they see the rootfs's mounts, at the host's path.
#[test]
fn create_hooks_come_before_the_pivot() {
    let Some(b) = bundle("hooks_pivot", "true") else { return };
    b.edit(|config| config["hooks"] = json!({"createContainer": [hook(&b, "ls rootfs/dev/null rootfs/proc/self/status > seen")]}));
    b.run().succeeds();
    assert_eq!(b.read("seen").lines().count(), 2);
}

/// § Lifecycle 3 to 5: "If any hook fails, the runtime MUST generate an error, stop the container, and continue the
/// lifecycle at step 12", which destroys it, and 13: the poststop hooks.
#[test]
fn a_failing_hook_at_create_undoes_it() {
    for (n, phase) in AT_CREATE.into_iter().enumerate() {
        let Some(b) = bundle(&format!("hooks_fail_{n}"), "touch /ran") else { return };
        logging(&b, phase);
        b.create().refused();
        let mut wanted = lines(&PHASES[..n]);
        wanted.push(format!("{phase} 1"));
        wanted.extend(lines(&["poststop"]));
        assert_eq!(log(&b), wanted, "{phase}");
        b.assert_gone();
    }
}

/// § Lifecycle 9: "If any `poststart` hook fails, the runtime MUST generate an error, stop the container, and continue
/// the lifecycle at step 12."
#[test]
fn a_failing_poststart_hook_destroys_the_container() {
    fails_at_start(4);
}

/// § Lifecycle 7: the same of `startContainer`.
#[test]
fn a_failing_start_container_hook_destroys_the_container() {
    fails_at_start(3);
}

/// The second hook of phase number `n` fails.
fn fails_at_start(n: usize) {
    let phase = PHASES[n];
    let Some(b) = bundle(&format!("hooks_fail_{n}"), "while :; do sleep 1; done") else { return };
    logging(&b, phase);
    b.create().succeeds();
    let pid = b.state()["pid"].to_string();
    b.start().refused();
    let mut wanted = lines(&PHASES[..n]);
    wanted.push(format!("{phase} 1"));
    wanted.extend(lines(&["poststop"]));
    assert_eq!(log(&b), wanted, "{phase}");
    assert!(!fs::exists(format!("/proc/{pid}/ns/net")).unwrap(), "{phase}: its process has ended");
    b.assert_gone();
}

/// § Lifecycle 13: "If any `poststop` hook fails, the runtime MUST log a warning, but the remaining hooks and lifecycle
/// continue as if the hook had succeeded."
#[test]
fn a_failing_poststop_hook_is_a_warning() {
    let Some(b) = bundle("hooks_poststop", "true") else { return };
    logging(&b, "poststop");
    b.create().succeeds();
    b.start().succeeds();
    b.await_status("stopped");
    let got = b.delete().succeeds();
    assert!(got.err.contains("warning"), "{got:?}");
    assert_eq!(log(&b), lines(&PHASES));
    b.assert_gone();
}

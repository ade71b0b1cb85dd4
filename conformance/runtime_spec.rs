//! Each MUST of runtime.md (runtime-spec 1.3), from outside. `$RUNTIME` names another runtime to ask.
//!
//! A test quotes what it holds; "§" is the section of runtime.md. Hooks are in `runtime_spec_hooks.rs`.

#[path = "../integration/support/mod.rs"]
mod support;

use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use support::{Bundle, cgroup_dirs};

const STAY: &str = "while :; do sleep 1; done";

/// A container that was created.
fn created(test: &str, script: &str) -> Option<Bundle> {
    let b = Bundle::ready(test, script)?;
    b.create().succeeds();
    Some(b)
}

/// One that runs until it is killed.
fn running(test: &str) -> Option<Bundle> {
    let b = created(test, STAY)?;
    b.start().succeeds();
    assert_eq!(b.status(), "running");
    Some(b)
}

/// One whose process has ended.
fn stopped(test: &str) -> Option<Bundle> {
    let b = created(test, "exit 3")?;
    b.start().succeeds();
    b.await_status("stopped");
    Some(b)
}

/// It runs; one that has ended and waits for its parent does not.
fn alive(pid: &Value) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// § State: "`ociVersion`, `id`, `status`, `bundle` (string, REQUIRED)"; bundle "is the absolute path to the
/// container's bundle directory"; "`annotations` contains the list of annotations associated with the container".
#[test]
fn state_has_what_is_required() {
    let Some(b) = Bundle::ready("state", STAY) else { return };
    b.edit(|config| config["annotations"] = json!({"myKey": "myValue"}));
    b.create().succeeds();
    let state = b.state();
    assert!(state["ociVersion"].as_str().is_some_and(|v| v.starts_with("1.")), "{state}");
    assert_eq!(state["id"], json!(b.id));
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], json!(b.dir.canonicalize().unwrap()));
    assert_eq!(state["annotations"]["myKey"], "myValue");
}

/// § State: "`created`: the container process has neither exited nor executed the user-specified program", "`running`",
/// "`stopped`"; "`pid` (int, REQUIRED when `status` is `created` or `running`) is the ID of the container process".
#[test]
fn status_and_pid_follow_the_lifecycle() {
    let Some(b) = created("status", STAY) else { return };
    let pid = b.state()["pid"].clone();
    assert!(pid.as_i64() > Some(0) && alive(&pid), "{pid}");
    b.start().succeeds();
    let state = b.state();
    assert_eq!((&state["status"], &state["pid"]), (&json!("running"), &pid));
    let program = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(program.starts_with(b"/bin/sh\0-c\0"), "{program:?}");
    b.kill("KILL").succeeds();
    b.await_status("stopped");
    b.delete().succeeds();
}

/// § State: "When serialized in JSON, the format MUST adhere to the JSON Schema `schema/state-schema.json`".
#[test]
fn state_adheres_to_the_schema() {
    let Some(b) = stopped("schema") else { return };
    let state = b.state();
    for name in ["ociVersion", "id", "status", "bundle"] {
        assert!(state[name].is_string(), "{name} in {state}");
    }
    assert!(state["pid"].is_null() || state["pid"].as_i64().is_some_and(|pid| pid >= 0), "{state}");
    let values = state["annotations"].as_object().into_iter().flatten();
    assert!(values.map(|(_, v)| v).all(Value::is_string), "{state}");
}

/// §§ Query State, Create, Start, Kill, Delete: "This operation MUST generate an error if it is not provided the ID of
/// a container"; "Attempting to query a container that does not exist MUST generate an error", as all others do.
#[test]
fn without_an_id_or_a_container_there_is_an_error() {
    let Some(b) = Bundle::ready("no_id", "true") else { return };
    for verb in ["state", "create", "start", "kill", "delete"] {
        b.call(&[verb]).refused();
    }
    for verb in ["state", "start", "kill", "delete"] {
        b.call(&[verb, "there-is-none"]).refused();
    }
}

/// § Create: "This operation MUST generate an error if it is not provided a path to the bundle".
#[test]
fn create_needs_a_bundle() {
    let Some(b) = Bundle::ready("no_bundle", "true") else { return };
    b.call(&["create", "--bundle", "/nonexistent", &b.id]).refused();
    b.call(&["create", "--bundle", "/proc", &b.id]).refused();
    b.assert_gone();
}

/// § Create: "If the ID provided is not unique across all containers within the scope of the runtime, […] the
/// implementation MUST generate an error and a new container MUST NOT be created."
#[test]
fn an_id_is_taken_once() {
    let Some(b) = running("unique") else { return };
    let before = b.state();
    b.create().refused();
    assert_eq!(b.state(), before);
    assert!(alive(&before["pid"]));
}

/// § Create: "or is not valid in any other way".
#[test]
fn an_id_must_be_valid() {
    let Some(b) = Bundle::ready("valid_id", "true") else { return };
    for id in ["", ".", "..", "a/b", "../x", "a b", "a\nb"] {
        b.call(&["create", id]).refused();
    }
    b.assert_gone();
}

/// § Lifecycle 2: "the user-specified program MUST NOT be run at this time"; § Create: "`process.args` MUST NOT be
/// applied until triggered by the start operation"; § Start: "MUST run the user-specified program".
#[test]
fn the_program_runs_at_start_and_not_before() {
    let Some(b) = created("not_before", "touch /ran") else { return };
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!b.path("rootfs/ran").exists());
    b.start().succeeds();
    b.await_status("stopped");
    assert!(b.path("rootfs/ran").exists());
}

/// § Lifecycle 2: "Any updates to `config.json` after this step MUST NOT affect the container."
#[test]
fn later_changes_of_the_config_do_not_count() {
    let Some(b) = created("config_change", "touch /first") else { return };
    b.edit(|config| {
        config["process"]["args"] = json!(["/bin/sh", "-c", "touch /second"]);
        config["hooks"] = json!({"poststart": [{"path": "/bin/false"}]});
    });
    b.start().succeeds();
    b.await_status("stopped");
    assert!(b.path("rootfs/first").exists() && !b.path("rootfs/second").exists());
    fs::remove_file(b.path("config.json")).unwrap();
    b.delete().succeeds();
}

/// § Create: "All of the properties configured in `config.json` except for `process` MUST be applied."
#[test]
fn properties_are_applied_at_create() {
    let Some(b) = Bundle::ready("applied", STAY) else { return };
    b.edit(|config| {
        config["hostname"] = json!("applied-host");
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        config["mounts"].as_array_mut().unwrap().push(json!({"destination": "/new", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}));
    });
    b.create().succeeds();
    let pid = b.state()["pid"].to_string();
    let inside = |script: &str| {
        let done = Command::new("nsenter").args(["-t", &pid, "-m", "-u", "-n", "-r", "/bin/sh", "-c", script]).output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert!(mounts.lines().any(|l| l.contains(" /new ro,")), "{mounts}");
    let name = Command::new("nsenter").args(["-t", &pid, "-u", "hostname"]).output().unwrap();
    assert_eq!(name.stdout, b"applied-host\n");
    assert_eq!(inside("cat /proc/sys/net/ipv4/ip_forward"), "1\n");
    assert!(!cgroup_dirs(&b.id).is_empty());
}

/// § Create: "If the runtime cannot apply a property as specified in the configuration, it MUST generate an error and a
/// new container MUST NOT be created." § Errors: "MUST leave the state of the environment as if the operation were
/// never attempted".
#[test]
fn what_cannot_be_applied_is_an_error() {
    let Some(b) = Bundle::ready("cannot", "true") else { return };
    let good: Value = serde_json::from_str(&b.read("config.json")).unwrap();
    let mounts = |last: Value| {
        let mut mounts = good["mounts"].clone();
        mounts.as_array_mut().unwrap().push(last);
        mounts
    };
    let bad = [
        ("/mounts", mounts(json!({"destination": "/x", "type": "nosuchfs", "source": "x"}))),
        ("/mounts", mounts(json!({"destination": "/x", "type": "bind", "source": "/nonexistent", "options": ["bind"]}))),
        ("/root/path", json!("nonexistent")),
        ("/linux/sysctl", json!({"net.no.such.key": "1"})),
        ("/linux/namespaces/1/path", json!("/nonexistent")),
        ("/process/rlimits", json!([{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}])),
        ("/linux/resources", json!({"pids": {"limit": 10}, "cpu": {"cpus": "4096"}})),
    ];
    for (at, value) in bad {
        b.edit(|config| {
            *config = good.clone();
            let (parent, key) = at.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap()[key] = value;
        });
        let got = b.create();
        assert!(got.code != 0 && !got.err.is_empty(), "{at}: {got:?}");
        b.assert_gone();
    }
}

/// § Start: "Attempting to `start` a container that is not `created` MUST have no effect on the container and MUST
/// generate an error."
#[test]
fn start_only_once() {
    let Some(b) = running("start_twice") else { return };
    let before = b.state();
    b.start().refused();
    assert_eq!(b.state(), before);
    let Some(b) = stopped("start_stopped") else { return };
    b.start().refused();
    assert_eq!(b.status(), "stopped");
}

/// § Start: "MUST run the user-specified program as specified by `process`".
#[test]
fn the_program_runs_as_specified() {
    let Some(b) = Bundle::ready("as_specified", "") else { return };
    b.edit(|config| {
        config["process"]["args"] = json!(["/bin/sh", "-c", "echo $0 $1 $A $(pwd) $(id -u):$(id -g)", "zero", "one"]);
        config["process"]["env"] = json!(["PATH=/bin", "A=b"]);
        config["process"]["cwd"] = json!("/bin");
        config["process"]["user"] = json!({"uid": 7, "gid": 8});
    });
    assert_eq!(b.run().succeeds().out, "zero one b /bin 7:8\n");
}

/// § Start: "This operation MUST generate an error if `process` was not set." An earlier error, by `create`, will do.
#[test]
fn start_needs_a_process() {
    let Some(b) = Bundle::ready("no_process", "") else { return };
    b.edit(|config| drop(config.as_object_mut().unwrap().remove("process")));
    if b.create().code == 0 {
        b.start().refused();
    }
}

/// § Kill: "Attempting to send a signal to a container that is neither `created` nor `running` MUST have no effect on
/// the container and MUST generate an error."
#[test]
fn a_stopped_container_takes_no_signal() {
    let Some(b) = stopped("kill_stopped") else { return };
    b.kill("TERM").refused();
    assert_eq!(b.status(), "stopped");
}

/// § Kill: "This operation MUST send the specified signal to the container process."
#[test]
fn kill_sends_that_signal() {
    let Some(b) = created("kill_signal", "trap 'touch /usr1' USR1; trap 'touch /usr2; exit' USR2; touch /ready; while :; do sleep 0.05; done") else { return };
    b.start().succeeds();
    b.wait_for("ready", |b| b.path("rootfs/ready").exists());
    b.kill("USR1").succeeds();
    b.wait_for("USR1", |b| b.path("rootfs/usr1").exists());
    assert_eq!(b.status(), "running");
    b.kill("12").succeeds();
    b.await_status("stopped");
    assert!(b.path("rootfs/usr2").exists());
}

/// § Kill, of one that is `created`.
#[test]
fn a_created_container_can_be_killed() {
    let Some(b) = created("kill_created", "touch /ran") else { return };
    b.kill("KILL").succeeds();
    b.await_status("stopped");
    assert!(!b.path("rootfs/ran").exists());
    b.delete().succeeds();
}

/// § Delete: "Attempting to `delete` a container that is not `stopped` MUST have no effect on the container and MUST
/// generate an error."
#[test]
fn a_running_container_is_not_deleted() {
    let Some(b) = running("delete_running") else { return };
    let before = b.state();
    b.delete().refused();
    assert_eq!(b.state(), before);
    assert!(alive(&before["pid"]));
}

/// The same sentence; here runc departs from it, and so do we: `delete` ends a container that is only `created`.
#[test]
fn a_created_container_is_deleted_as_runc_does() {
    let Some(b) = created("delete_created", "touch /ran") else { return };
    let pid = b.state()["pid"].clone();
    b.delete().succeeds();
    b.assert_gone();
    assert!(!alive(&pid) && !b.path("rootfs/ran").exists());
}

/// § Delete: "Deleting a container MUST delete the resources that were created during the `create` step"; § Lifecycle
/// 12; "Once a container is deleted its ID MAY be used by a subsequent container."
#[test]
fn delete_leaves_nothing_and_frees_the_id() {
    let Some(b) = stopped("delete_all") else { return };
    b.delete().succeeds();
    b.assert_gone();
    b.call(&["delete", &b.id]).refused();
    b.create().succeeds();
    assert_eq!(b.status(), "created");
}

/// § Delete: "resources associated with the container, but not created by this container, MUST NOT be deleted."
#[test]
fn delete_leaves_what_it_did_not_make() {
    let Some(b) = Bundle::ready("delete_others", "touch /data/written") else { return };
    fs::create_dir(b.path("data")).unwrap();
    let holder = Command::new("unshare").args(["-n", "sleep", "60"]).spawn();
    let mut holder = holder.unwrap();
    let namespace = format!("/proc/{}/ns/net", holder.id());
    let ours = fs::read_link("/proc/self/ns/net").unwrap();
    b.wait_for("the namespace", |_| fs::read_link(&namespace).is_ok_and(|ns| ns != ours));
    b.edit(|config| {
        let data = b.path("data");
        config["mounts"].as_array_mut().unwrap().push(json!({"destination": "/data", "type": "bind", "source": data, "options": ["rbind"]}));
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list.iter_mut().filter(|ns| ns["type"] == "network").for_each(|ns| ns["path"] = json!(namespace));
    });
    b.create().succeeds();
    b.start().succeeds();
    b.await_status("stopped");
    b.delete().succeeds();
    assert!(holder.try_wait().unwrap().is_none(), "the namespace's other process lives");
    let _ = holder.kill();
    let _ = holder.wait();
    assert!(b.path("data/written").exists() && b.path("rootfs/bin/sh").exists() && b.path("config.json").exists());
}

/// § Scope of a Container: "The entity using a runtime to create a container MUST be able to use the operations defined
/// in this specification against that same container."
#[test]
fn one_life_from_create_to_delete() {
    let Some(b) = running("life") else { return };
    b.kill("KILL").succeeds();
    b.await_status("stopped");
    b.delete().succeeds();
    b.assert_gone();
}

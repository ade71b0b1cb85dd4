//! AppArmor enforced, where the kernel has it and profiles can be loaded: in the guest (`make test-vm`).

#[macro_use]
mod support;

use serde_json::json;
use std::io::Write;
use std::process::{Command, Stdio};
use support::Bundle;

/// A profile of the kernel's, until dropped.
struct Profile(String);

impl Profile {
    /// All is allowed but what `denied` says. None where profiles can't be loaded.
    fn load(name: &str, denied: &str) -> Option<Profile> {
        let text = format!(
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{ file, capability, network, umount, mount, pivot_root, signal, ptrace, unix, {denied} }}\n"
        );
        parser(&["--add", "--skip-cache"], &text).then(|| Profile(text))
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        parser(&["--remove"], &self.0);
    }
}

fn parser(args: &[&str], text: &str) -> bool {
    let Ok(mut child) = Command::new("apparmor_parser").args(args).stdin(Stdio::piped()).stderr(Stdio::null()).spawn() else { return false };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait().unwrap().success()
}

fn enabled() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.starts_with('Y'))
}

const LOOK: &str = "cat /proc/self/attr/current; cat /etc/secret /etc/public";

#[test]
fn a_profile_is_enforced_from_the_first_instruction() {
    needs_root!();
    let b = Bundle::new("aa");
    let (own, other) = (format!("dhow-a-{}", std::process::id()), format!("dhow-b-{}", std::process::id()));
    let profiles = (Profile::load(&own, "deny /etc/secret rw,"), Profile::load(&other, "deny /etc/public rw,"));
    if !enabled() || profiles.0.is_none() || profiles.1.is_none() {
        skip!("a machine with AppArmor, and apparmor_parser");
    }
    std::fs::write(b.rootfs("etc/secret"), "secret\n").unwrap();
    std::fs::write(b.rootfs("etc/public"), "public\n").unwrap();
    b.set("/process/apparmorProfile", json!(own)).sh(LOOK);
    let ran = b.run();
    assert_eq!(ran.out, format!("{own} (enforce)\npublic\n"), "{ran:?}");
    assert!(ran.err.contains("'/etc/secret': Permission denied"), "{ran:?}");
    // exec: the container's, or one of its own.
    b.sleeps().up();
    assert_eq!(b.exec_sh(LOOK).out, format!("{own} (enforce)\npublic\n"));
    assert_eq!(b.exec_with(&["--apparmor", &other], &["sh", "-c", LOOK]).out, format!("{other} (enforce)\nsecret\n"));
    b.exec_with(&["--apparmor", "no-such-profile"], &["true"]).fails(255, &["apparmor", "no-such-profile"]);
    b.exec_with(&["--apparmor", "unconfined"], &["cat", "/proc/self/attr/current"]).ok();
}

/// With no_new_privs a profile can't be entered at exec any more, so it has to be set before.
#[test]
fn with_no_new_privileges_and_a_user() {
    needs_root!();
    let b = Bundle::new("aa-nnp");
    let name = format!("dhow-n-{}", std::process::id());
    let profile = Profile::load(&name, "deny /etc/secret rw,");
    if !enabled() || profile.is_none() {
        skip!("a machine with AppArmor, and apparmor_parser");
    }
    std::fs::write(b.rootfs("etc/secret"), "secret\n").unwrap();
    b.set("/process/apparmorProfile", json!(name)).set("/process/noNewPrivileges", json!(true)).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let ran = b.sh("cat /proc/self/attr/current; grep NoNewPrivs /proc/self/status; cat /etc/secret").run();
    assert_eq!(ran.out, format!("{name} (enforce)\nNoNewPrivs:\t1\n"), "{ran:?}");
}

#[test]
fn a_profile_that_is_not_loaded_fails() {
    needs_root!();
    if !enabled() {
        skip!("a machine with AppArmor");
    }
    let b = Bundle::new("aa-none");
    b.set("/process/apparmorProfile", json!("no-such-profile")).args(&["true"]);
    b.run().fails(1, &["no-such-profile"]);
    b.assert_gone();
}

//! A container without root: another user, a user namespace of a single mapping.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const SCRIPT: &str = r#"set -e
cd "$HOME"; export XDG_RUNTIME_DIR="$HOME/run"; mkdir -p run
./dhow spec --rootless
sed -i 's/"terminal": true/"terminal": false/; s/"sh"/"\/bin\/sh", "-c", "id -u; echo inside"/' config.json
./dhow run one
sed -i 's/"id -u; echo inside"/"sleep 60"/' config.json
./dhow run -d two
./dhow exec two /bin/sh -c 'id -u; exit 7' || echo "code $?"
./dhow kill --all two KILL && echo killed
./dhow delete --force two
./dhow create three
./dhow exec three /bin/sh 2>&1 | grep -o 'once it is started'
./dhow start three
./dhow exec three /bin/sh -c 'echo in three'
./dhow delete --force three
sed -i 's/"namespaces": \[/"timeOffsets": {"boottime": {"secs": 1000}}, "namespaces": [{"type": "time"},/' config.json
sed -i 's/"sleep 60"/"cat \/proc\/self\/timens_offsets"/' config.json
./dhow run four | tr -s ' '
./dhow list -q
"#;

/// Ten times, since what fails here failed by the order of two processes.
#[test]
fn run_and_exec_without_root() {
    // SAFETY: geteuid always succeeds.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: run_and_exec_without_root: only root can become another user");
        return;
    }
    let runtime = std::env::var("RUNTIME").unwrap_or_else(|_| env!("CARGO_BIN_EXE_dhow").into());
    let home = std::env::temp_dir().join(format!("dhow-rootless-{}", std::process::id()));
    let sh = |script: &str, user: bool| {
        let mut command = Command::new("timeout");
        command.arg("60");
        if user {
            command.args(["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]);
        }
        command.args(["sh", "-c", script]).env("HOME", &home).env_remove("XDG_RUNTIME_DIR").output().unwrap()
    };
    for _ in 0..10 {
        std::fs::create_dir_all(home.join("rootfs/bin")).unwrap();
        std::fs::copy("/bin/busybox", home.join("rootfs/bin/busybox")).unwrap();
        for applet in ["sh", "id", "sleep", "cat"] {
            std::os::unix::fs::symlink("busybox", home.join("rootfs/bin").join(applet)).unwrap();
        }
        std::fs::copy(&runtime, home.join("dhow")).unwrap();
        std::fs::set_permissions(home.join("dhow"), PermissionsExt::from_mode(0o755)).unwrap();
        assert!(sh(&format!("chown -R 12345:12345 {}", home.display()), false).status.success());
        let output = sh(SCRIPT, true);
        std::fs::remove_dir_all(&home).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "0\ninside\n0\ncode 7\nkilled\nonce it is started\nin three\nmonotonic 0 0\nboottime 1000 0\n",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

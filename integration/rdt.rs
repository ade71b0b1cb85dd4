//! Intel RDT on a tree of files in resctrl's place: no machine of ours has a CPU with it (config-linux.md § IntelRdt).
//!
//! A group that dhow makes has the files there that dhow wrote; the kernel's would have them from the start, and let
//! rmdir(2) take them. The last lines of each script do that for it.

#[macro_use]
mod support;

use serde_json::json;
use support::Bundle;

/// `S` is the tree, seen at /sys/fs/resctrl in a mount namespace of the script's own; `D` calls the runtime.
const PRELUDE: &str = r#"
mkdir fs && mount -t tmpfs fixture fs && mkdir -p fs/cgroup fs/resctrl
[ ! -d /sys/fs/cgroup ] || mount --rbind /sys/fs/cgroup fs/cgroup
mount --rbind fs /sys/fs
S=/sys/fs/resctrl
printf 'L3:0=ff\nMB:0=100\n' >$S/schemata; : >$S/tasks
group() { mkdir -p $S/$1/mon_groups; echo "$2" >$S/$1/schemata; : >$S/$1/tasks; }
"#;

fn scripted(b: &Bundle, script: &str) -> String {
    let call = b.words(&[]).join(" ");
    let text =
        format!("set -e\nD() {{ {call} \"$@\"; }}\nID={}\npid() {{ D state $ID | sed -n 's/.*\"pid\": \\([0-9]*\\).*/\\1/p'; }}\n{PRELUDE}{script}", b.id);
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &text];
    b.any(&words.map(String::from)).ok().to_string()
}

#[test]
fn a_group_of_its_own_comes_and_goes() {
    needs_root!();
    let b = Bundle::new("rdt-own");
    b.sleeps().set("/linux/intelRdt", json!({"schemata": ["L3:0=f", "MB:0=50"]}));
    let said = scripted(
        &b,
        r#"D create $ID; cat $S/$ID/schemata; [ "$(cat $S/$ID/tasks)" = "$(pid)" ] && echo entered
D update --l3-cache-schema L3:0=3 $ID; cat $S/$ID/schemata
rm $S/$ID/schemata $S/$ID/tasks; D delete --force $ID; ls $S
"#,
    );
    assert_eq!(said, "L3:0=f\nMB:0=50\nentered\nL3:0=3\nschemata\ntasks");
}

#[test]
fn a_class_of_service_that_is_there_is_joined_and_stays() {
    needs_root!();
    let b = Bundle::new("rdt-class");
    b.sleeps().set("/linux/intelRdt", json!({"closID": "gold", "schemata": ["L3:0=f"], "enableMonitoring": true}));
    let said = scripted(
        &b,
        r#"group gold L3:0=f; D create $ID
[ "$(cat $S/gold/tasks)" = "$(pid)" ] && echo entered
[ "$(cat $S/gold/mon_groups/$ID/tasks)" = "$(pid)" ] && echo monitored
rm $S/gold/mon_groups/$ID/tasks; D delete --force $ID; ls $S $S/gold/mon_groups
"#,
    );
    assert_eq!(said, "entered\nmonitored\n/sys/fs/resctrl:\ngold\nschemata\ntasks\n\n/sys/fs/resctrl/gold/mon_groups:");
}

/// Its settings are somebody's: config-linux.md wants an error rather than a change.
#[test]
fn a_class_of_service_with_another_schemata_is_refused_and_left_alone() {
    needs_root!();
    let b = Bundle::new("rdt-other");
    b.sleeps().set("/linux/intelRdt", json!({"closID": "gold", "schemata": ["L3:0=1"]}));
    let said = scripted(&b, "group gold L3:0=f; D create $ID 2>&1 && exit 9; cat $S/gold/schemata; echo \"tasks: $(cat $S/gold/tasks)\"\n");
    assert!(said.contains("/linux/intelRdt: the group /sys/fs/resctrl/gold exists with another schemata"), "{said}");
    assert!(said.ends_with("L3:0=f\ntasks:"), "{said}");
    b.assert_gone();
}

#[test]
fn without_resctrl_it_is_refused_with_what_to_do() {
    needs_root!();
    let b = Bundle::new("rdt-none");
    if std::path::Path::new("/sys/fs/resctrl/schemata").exists() {
        skip!("RDT: a machine without it");
    }
    b.sleeps().set("/linux/intelRdt", json!({"schemata": ["L3:0=f"]}));
    b.create().fails(1, &["/linux/intelRdt", "resctrl"]);
    b.assert_gone();
}

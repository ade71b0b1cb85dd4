//! `spec::validate`: one row a rule. A row changes the default configuration and says which finding this must give.

use dhow::spec::defaults::{default_spec, to_pretty_json, with_cgroup_namespace};
use dhow::spec::validate::{Finding, Report, Severity, check, validate};
use dhow::spec::{Resources, Spec, parse_resources};
use serde_json::{Map, Value, json};

const FAULT: Severity = Severity::Fault;
const WARNING: Severity = Severity::Warning;
const NOTE: Severity = Severity::Note;

/// The default configuration with the value at each pointer replaced; null removes it, `-` appends to a list.
fn config(edits: &Value) -> Value {
    let mut root = serde_json::from_str(&to_pretty_json(&default_spec(None))).unwrap();
    for (pointer, value) in edits.as_object().unwrap() {
        let tokens: Vec<String> = pointer.split('/').skip(1).map(|t| t.replace("~1", "/").replace("~0", "~")).collect();
        set(&mut root, &tokens, value);
    }
    root
}

fn set(at: &mut Value, tokens: &[String], value: &Value) {
    let Some((first, rest)) = tokens.split_first() else {
        *at = value.clone();
        return;
    };
    if let Value::Array(list) = at {
        let index = first.parse().unwrap_or(list.len());
        if index == list.len() {
            list.push(Value::Null);
        }
        if rest.is_empty() && value.is_null() {
            list.remove(index);
        } else {
            set(&mut list[index], rest, value);
        }
        return;
    }
    if at.is_null() {
        *at = Value::Object(Map::new());
    }
    let object = at.as_object_mut().unwrap();
    if rest.is_empty() && value.is_null() {
        object.remove(first);
    } else {
        set(object.entry(first.clone()).or_insert(Value::Null), rest, value);
    }
}

/// The report; on the way, that it says all that `check` (what `create` runs) says.
fn report(edits: &Value) -> Report {
    let text = serde_json::to_vec(&config(edits)).unwrap();
    let report = validate(&text);
    match Spec::parse(&text) {
        Ok(spec) => {
            // What has the wrong type is one fault; what is in it isn't judged.
            let says = |f: &Finding, found: &Finding| {
                (&f.pointer, f.severity) == (&found.pointer, found.severity) || f.severity == FAULT && found.pointer.starts_with(&f.pointer)
            };
            let unsaid = |found: &Finding| !report.findings.iter().any(|f| says(f, found));
            let unsaid: Vec<Finding> = check(&spec).into_iter().filter(unsaid).collect();
            assert!(unsaid.is_empty(), "{edits}: {unsaid:#?}");
        }
        Err(e) => assert!(!report.is_valid(), "{edits}: {e}"),
    }
    report
}

/// Each row must give the finding.
fn holds(rows: &[(Value, Severity, &str)]) {
    let mut missing = Vec::new();
    for (edits, severity, pointer) in rows {
        let report = report(edits);
        match report.findings.iter().find(|f| f.severity == *severity && f.pointer == *pointer) {
            None => missing.push(format!("{edits}: no {severity:?} at {pointer}, but {:#?}", report.findings)),
            Some(f) => assert!(!f.message.is_empty() && !f.expected.is_empty(), "{f:?}"),
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// What runc accepts, `create` must accept.
fn accepted(rows: &[Value]) {
    for edits in rows {
        let faults: Vec<Finding> = report(edits).faults().cloned().collect();
        assert!(faults.is_empty(), "{edits}: {faults:#?}");
    }
}

#[test]
fn the_default_configurations_have_no_faults() {
    for rootless in [None, Some((1000, 1000))] {
        for spec in [default_spec(rootless), with_cgroup_namespace(default_spec(rootless))] {
            let report = validate(to_pretty_json(&spec).as_bytes());
            let bad: Vec<_> = report.findings.iter().filter(|f| f.severity != NOTE).collect();
            assert!(bad.is_empty(), "{bad:#?}");
            assert_eq!(Spec::parse(to_pretty_json(&spec).as_bytes()).unwrap(), spec);
            assert_eq!(check(&spec), []);
        }
    }
}

#[test]
fn the_defaults_print_what_the_spec_requires() {
    let text = to_pretty_json(&default_spec(Some((1000, 100))));
    for wanted in [
        "{\n\t\"ociVersion\": \"1.3.0\",\n\t\"process\": {\n\t\t\"terminal\": true,\n\t\t\"user\": {\n\t\t\t\"uid\": 0,\n\t\t\t\"gid\": 0\n\t\t},",
        "\t\"root\": {\n\t\t\"path\": \"rootfs\",\n\t\t\"readonly\": true\n\t},\n\t\"hostname\": \"runc\",\n\t\"mounts\": [",
        "\"gidMappings\": [\n\t\t\t{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": 100,\n\t\t\t\t\"size\": 1\n\t\t\t}\n\t\t],",
    ] {
        assert!(text.contains(wanted), "{wanted}\nin\n{text}");
    }
    assert!(to_pretty_json(&default_spec(None)).contains("\"devices\": [\n\t\t\t\t{\n\t\t\t\t\t\"allow\": false,\n\t\t\t\t\t\"access\": \"rwm\""));
    let namespaces = |spec: &Spec| spec.linux.namespaces.iter().map(|ns| ns.kind.clone()).collect::<Vec<_>>();
    assert_eq!(namespaces(&default_spec(None)), ["pid", "network", "ipc", "uts", "mount"]);
    assert_eq!(namespaces(&with_cgroup_namespace(default_spec(Some((1, 1))))), ["pid", "ipc", "uts", "mount", "cgroup", "user"]);
}

#[test]
fn broken_json_is_one_fault_with_its_place() {
    let rows: [(&str, &str, &str); 10] = [
        ("", "", "empty"),
        ("{]", "", "line 1, column 2"),
        ("{\"a\": 1", "", "line 1"),
        ("{\n\t\"root\": {\n\t\t\"path\": \"x\",\n\t}\n}", "/root", "line 4, column 2"),
        ("{\"root\": {\"path\" \"x\"}}", "/root", "column 18"),
        ("{\"root\": 'x'}", "/root", "column 10"),
        ("{\"linux\": {\"devices\": [{\"fileMode\": 0666}]}}", "/linux/devices/0/fileMode", "invalid number"),
        ("{} {}", "", "trailing characters"),
        ("\u{feff}{}", "", "byte order mark"),
        ("// a comment\n{}", "", "line 1, column 1"),
    ];
    for (text, pointer, message) in rows {
        let report = validate(text.as_bytes());
        assert_eq!(report.findings.len(), 1, "{text}: {report:#?}");
        let finding = &report.findings[0];
        assert_eq!((finding.severity, finding.pointer.as_str()), (FAULT, pointer), "{text}: {finding:?}");
        assert!(finding.message.contains(message) && !finding.expected.is_empty(), "{text}: {finding:?}");
    }
}

#[test]
fn types_missing_and_unknown_properties() {
    holds(&[
        (json!({"": []}), FAULT, ""),
        (json!({"/ociVersion": 1}), FAULT, "/ociVersion"),
        (json!({"/ociVersion": null}), FAULT, "/ociVersion"),
        (json!({"/root": null}), FAULT, "/root"),
        (json!({"/root/path": null}), FAULT, "/root/path"),
        (json!({"/root/readonly": "true"}), FAULT, "/root/readonly"),
        (json!({"/process/args": "sh"}), FAULT, "/process/args"),
        (json!({"/process/args/0": 1}), FAULT, "/process/args/0"),
        (json!({"/process/user/uid": "0"}), FAULT, "/process/user/uid"),
        (json!({"/process/user/uid": -1}), FAULT, "/process/user/uid"),
        (json!({"/process/user/uid": 4294967296u64}), FAULT, "/process/user/uid"),
        (json!({"/process/user/uid": null}), WARNING, "/process/user/uid"),
        (json!({"/process/user": null}), WARNING, "/process/user"),
        (json!({"/process/oomScoreAdj": 1.5}), FAULT, "/process/oomScoreAdj"),
        (json!({"/process/rlimits/0/hard": -2}), FAULT, "/process/rlimits/0/hard"),
        (json!({"/process/rlimits/0/soft": null}), FAULT, "/process/rlimits/0/soft"),
        (json!({"/mounts": {}}), FAULT, "/mounts"),
        (json!({"/mounts/1/destination": null}), FAULT, "/mounts/1/destination"),
        (json!({"/annotations": {"a/b~c": 1}}), FAULT, "/annotations/a~1b~0c"),
        (json!({"/linux/sysctl": {"net.ipv4.ip_forward": 1}}), FAULT, "/linux/sysctl/net.ipv4.ip_forward"),
        (json!({"/linux/netDevices": {"eth0": {"name": 23}}}), FAULT, "/linux/netDevices/eth0/name"),
        (json!({"/linux/resources/rdma": {"mlx5_1": {"hcaHandles": "no"}}}), FAULT, "/linux/resources/rdma/mlx5_1/hcaHandles"),
        (json!({"/root/readOnly": true}), WARNING, "/root/readOnly"),
        (json!({"/procces": {}}), WARNING, "/procces"),
        (json!({"/windows": {"anything": 1}}), NOTE, "/windows"),
        (json!({"/process/commandLine": "cmd"}), NOTE, "/process/commandLine"),
        // Limits in the case that some write them in, which runc applies.
        (json!({"/linux/resources": {"CPU": {"Cpus": "0"}}}), NOTE, "/linux/resources/CPU"),
        (json!({"/linux/resources": {"CPU": {"Cpus": "x"}}}), FAULT, "/linux/resources/cpu/cpus"),
        (json!({"/linux/resources": {"CPU": {"Cpus": "0"}, "cpu": {"cpus": "0"}}}), FAULT, "/linux/resources/cpu"),
        (json!({"/linux/resources": {"CPU": {"Cpus": "x"}, "cpu": {"shares": 9}}}), FAULT, "/linux/resources/cpu/cpus"),
        (json!({"/linux/resources": {"hugepageLimits": [{"pagesize": "2MB", "limit": 1}]}}), NOTE, "/linux/resources/hugepageLimits/0/pagesize"),
    ]);
    let hint = |edits: Value, pointer: &str| report(&edits).findings.into_iter().find(|f| f.pointer == pointer).unwrap().hint;
    assert!(hint(json!({"/root/readOnly": true}), "/root/readOnly").contains("\"readonly\""));
    assert!(hint(json!({"/linux/maskedPths": []}), "/linux/maskedPths").contains("\"maskedPaths\""));
    assert!(hint(json!({"/linux/oomScoreAdj": 1}), "/linux/oomScoreAdj").contains("/process/oomScoreAdj"));
    assert!(hint(json!({"/linux/namespacs": []}), "/linux/namespacs").contains("\"namespaces\""));
    assert!(hint(json!({"/process/user/umask": "022"}), "/process/user/umask").contains("octal 022 is 18"));
    assert!(hint(json!({"/process/args": "sh"}), "/process/args").contains("[\"sh\"]"));
}

#[test]
fn duplicates() {
    let report = validate(br#"{"ociVersion": "1.0.0", "root": {"path": "a", "path": "b"}, "annotations": {"x.y": "1", "x.y": "2"}}"#);
    let found = |severity, pointer: &str| report.findings.iter().any(|f| f.severity == severity && f.pointer == pointer);
    assert!(found(FAULT, "/root/path") && found(WARNING, "/annotations/x.y"), "{report:#?}");
}

/// runc reads `cpu` and `CPU` into one object; a limit of either that was left out would hold nobody.
#[test]
fn an_object_under_two_spellings_is_one() {
    let two = json!({"CPU": {"Cpus": "0", "shares": 9}, "cpu": {"mems": "1", "quota": 5000}, "pids": {"limit": 3}});
    let of = |resources: Resources| {
        let cpu = resources.cpu.unwrap();
        assert_eq!((cpu.cpus.as_str(), cpu.mems.as_str(), cpu.shares, cpu.quota), ("0", "1", Some(9), Some(5000)));
        assert_eq!(resources.pids.unwrap().limit, Some(3));
    };
    let text = config(&json!({"/linux/resources": two.clone()})).to_string();
    assert_eq!(validate(text.as_bytes()).faults().next(), None);
    of(Spec::parse(text.as_bytes()).unwrap().linux.resources.unwrap());
    of(parse_resources(two.to_string().as_bytes()).unwrap());
    let twice = parse_resources(br#"{"cpu": {"shares": 9}, "CPU": {"shares": 8}}"#).unwrap_err();
    assert!(twice.to_string().contains("\"CPU\" is given more than once"), "{twice}");
}

#[test]
fn the_top() {
    holds(&[
        (json!({"/ociVersion": ""}), FAULT, "/ociVersion"),
        (json!({"/ociVersion": "1.0"}), FAULT, "/ociVersion"),
        (json!({"/ociVersion": "2.0.0"}), FAULT, "/ociVersion"),
        (json!({"/ociVersion": "0.6.0"}), WARNING, "/ociVersion"),
        (json!({"/ociVersion": "1.99.0"}), NOTE, "/ociVersion"),
        (json!({"/root/path": ""}), FAULT, "/root/path"),
        (json!({"/root/path": "/"}), NOTE, "/root/path"),
        (json!({"/hostname": "x".repeat(65)}), FAULT, "/hostname"),
        (json!({"/linux/namespaces/3": null}), FAULT, "/hostname"),
        (json!({"/linux/namespaces/3": null, "/hostname": null, "/domainname": "d"}), FAULT, "/domainname"),
        (json!({"/hooks/poststop": [{"path": "bin/x"}]}), FAULT, "/hooks/poststop/0/path"),
        (json!({"/hooks/createRuntime": [{"path": "/x", "timeout": 0}]}), FAULT, "/hooks/createRuntime/0/timeout"),
        (json!({"/hooks/startContainer": [{"path": "/x", "env": ["NO"]}]}), WARNING, "/hooks/startContainer/0/env/0"),
        (json!({"/hooks/prestart": [{"path": "/x"}]}), NOTE, "/hooks/prestart"),
        (json!({"/annotations": {"": "x"}}), FAULT, "/annotations/"),
        (json!({"/annotations": {"org.opencontainers.mine": "x"}}), NOTE, "/annotations/org.opencontainers.mine"),
        (json!({"/annotations": {"org.systemd.property.X1": "x"}}), WARNING, "/annotations/org.systemd.property.X1"),
    ]);
    accepted(&[
        json!({"/ociVersion": "1.0.0-rc5"}),
        json!({"/ociVersion": "1.99.0"}),
        json!({"/ociVersion": "0.1.0"}),
        json!({"/process": null}),
        json!({"/root/path": "/var/lib/x"}),
        json!({"/unknown": 1, "/linux/unknown": [1]}),
        json!({"/annotations": {"org.opencontainers.image.source": "x"}}),
    ]);
}

#[test]
fn the_process() {
    holds(&[
        (json!({"/process": null}), WARNING, "/process"),
        (json!({"/process/args": []}), FAULT, "/process/args"),
        (json!({"/process/args": [""]}), FAULT, "/process/args/0"),
        (json!({"/process/args": ["sh", "a\0b"]}), FAULT, "/process/args/1"),
        (json!({"/process/cwd": ""}), FAULT, "/process/cwd"),
        (json!({"/process/cwd": "tmp"}), FAULT, "/process/cwd"),
        (json!({"/process/env": ["A=1", "B"]}), FAULT, "/process/env/1"),
        (json!({"/process/env": ["=1"]}), FAULT, "/process/env/0"),
        (json!({"/process/env": ["A=\0"]}), FAULT, "/process/env/0"),
        (json!({"/process/env": ["A=1", "A=2"]}), NOTE, "/process/env/0"),
        (json!({"/process/terminal": false, "/process/consoleSize": {"height": 1, "width": 1}}), NOTE, "/process/consoleSize"),
        (json!({"/process/user/uid": 4294967295u32}), FAULT, "/process/user/uid"),
        (json!({"/process/user/gid": 4294967295u32}), FAULT, "/process/user/gid"),
        (json!({"/process/user/additionalGids": [1, 4294967295u32]}), FAULT, "/process/user/additionalGids/1"),
        (json!({"/process/user/umask": 1024}), WARNING, "/process/user/umask"),
        (json!({"/process/user/username": "x"}), NOTE, "/process/user/username"),
        (json!({"/process/rlimits/0/type": "NOFILE"}), FAULT, "/process/rlimits/0/type"),
        (json!({"/process/rlimits/-": {"type": "RLIMIT_NOFILE", "hard": 1, "soft": 1}}), FAULT, "/process/rlimits/1/type"),
        (json!({"/process/rlimits/0/soft": -1}), FAULT, "/process/rlimits/0/soft"),
        (json!({"/process/capabilities/bounding/-": "CAP_NEW"}), WARNING, "/process/capabilities/bounding/3"),
        (json!({"/process/capabilities/effective/-": "CAP_CHOWN"}), WARNING, "/process/capabilities/effective/3"),
        (json!({"/process/capabilities/inheritable": ["CAP_CHOWN"]}), WARNING, "/process/capabilities/inheritable/0"),
        (json!({"/process/capabilities/ambient": ["CAP_KILL"]}), WARNING, "/process/capabilities/ambient/0"),
        (json!({"/process/oomScoreAdj": 1001}), FAULT, "/process/oomScoreAdj"),
        (json!({"/process/ioPriority": {"class": "BE", "priority": 1}}), FAULT, "/process/ioPriority/class"),
        (json!({"/process/ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}}), FAULT, "/process/ioPriority/priority"),
        (json!({"/process/execCPUAffinity": {"initial": "0-", "final": "1"}}), FAULT, "/process/execCPUAffinity/initial"),
        (json!({"/process/execCPUAffinity": {"final": "70000"}}), FAULT, "/process/execCPUAffinity/final"),
        (json!({"/process/selinuxLabel": "nonsense"}), WARNING, "/process/selinuxLabel"),
    ]);
    let s = |scheduler: Value| json!({"/process/scheduler": scheduler});
    holds(&[
        (s(json!({})), FAULT, "/process/scheduler/policy"),
        (s(json!({"policy": "SCHED_NEW"})), FAULT, "/process/scheduler/policy"),
        (s(json!({"policy": "SCHED_ISO"})), FAULT, "/process/scheduler/policy"),
        (s(json!({"policy": "SCHED_OTHER", "flags": ["X"]})), FAULT, "/process/scheduler/flags/0"),
        (s(json!({"policy": "SCHED_OTHER", "nice": 20})), FAULT, "/process/scheduler/nice"),
        (s(json!({"policy": "SCHED_OTHER", "priority": 1})), FAULT, "/process/scheduler/priority"),
        (s(json!({"policy": "SCHED_FIFO"})), FAULT, "/process/scheduler/priority"),
        (s(json!({"policy": "SCHED_RR", "priority": 1, "period": 1})), FAULT, "/process/scheduler/period"),
        (s(json!({"policy": "SCHED_DEADLINE", "runtime": 2, "deadline": 1})), FAULT, "/process/scheduler"),
    ]);
    accepted(&[
        s(json!({"policy": "SCHED_DEADLINE", "runtime": 10000, "deadline": 20000, "period": 30000})),
        s(json!({"policy": "SCHED_RR", "priority": 99, "flags": ["SCHED_FLAG_RESET_ON_FORK"]})),
        json!({"/process/execCPUAffinity": {"initial": "", "final": " 0-3, ,7"}}),
        json!({"/process/rlimits/0": {"type": "RLIMIT_CORE", "hard": -1, "soft": 18446744073709551615u64}}),
        json!({"/process/env": ["A=", "B==", "A=2"]}),
        json!({"/process/capabilities": {"effective": ["NONSENSE"], "ambient": ["CAP_CHOWN"]}}),
        json!({"/process/user": {"username": "x"}, "/process/capabilities": null, "/process/rlimits": null}),
    ]);
}

#[test]
fn mounts() {
    let m = |mount: Value| json!({"/mounts/-": mount});
    let ids = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    holds(&[
        (m(json!({"destination": "", "type": "tmpfs"})), FAULT, "/mounts/7/destination"),
        (m(json!({"destination": "tmp", "type": "tmpfs"})), WARNING, "/mounts/7/destination"),
        (m(json!({"destination": "/x/..", "type": "tmpfs"})), FAULT, "/mounts/7/destination"),
        (m(json!({"destination": "/proc", "type": "tmpfs"})), FAULT, "/mounts/7/destination"),
        (m(json!({"destination": "/proc/sys", "type": "tmpfs"})), FAULT, "/mounts/7/destination"),
        (m(json!({"destination": "/a", "type": "tmpfs", "source": "a\0"})), FAULT, "/mounts/7/source"),
        (m(json!({"destination": "/a"})), FAULT, "/mounts/7/type"),
        (m(json!({"destination": "/a", "type": "bind", "source": "/a"})), WARNING, "/mounts/7/type"),
        (m(json!({"destination": "/a", "options": ["bind"]})), WARNING, "/mounts/7/source"),
        (m(json!({"destination": "/a", "source": "/a", "options": ["bind", "readonly"]})), WARNING, "/mounts/7/options/1"),
        (m(json!({"destination": "/a", "source": "/a", "options": ["rbind", "size=1"]})), WARNING, "/mounts/7/options/1"),
        (m(json!({"destination": "/a", "type": "tmpfs", "options": ["ro", "rw"]})), NOTE, "/mounts/7/options/0"),
        (m(json!({"destination": "/a", "type": "tmpfs", "options": ["nosiud"]})), NOTE, "/mounts/7/options/0"),
        (m(json!({"destination": "/dev", "type": "tmpfs"})), NOTE, "/mounts/2/destination"),
        (m(json!({"destination": "/a", "type": "tmpfs", "options": ["idmap"], "uidMappings": ids, "gidMappings": ids})), FAULT, "/mounts/7"),
        (m(json!({"destination": "/a", "source": "/a", "options": ["bind", "idmap"], "uidMappings": ids})), FAULT, "/mounts/7/gidMappings"),
        (m(json!({"destination": "/a", "source": "/a", "options": ["bind", "idmap"], "gidMappings": ids})), FAULT, "/mounts/7/uidMappings"),
        (m(json!({"destination": "/a", "source": "/a", "options": ["bind", "ridmap"]})), FAULT, "/mounts/7/options/1"),
        (m(json!({"destination": "/a", "source": "/a", "options": ["bind"], "uidMappings": ids, "gidMappings": ids})), WARNING, "/mounts/7/options"),
    ]);
    accepted(&[
        m(json!({"destination": "/a", "source": "/a", "type": "none", "options": ["rbind", "rw", "rslave", "nosymfollow", "rnoatime"]})),
        m(json!({"destination": "/proc/cpuinfo", "source": "/a", "options": ["bind"]})),
        m(json!({"destination": "/proc", "source": "/proc", "options": ["rbind"]})),
        m(json!({"destination": "/a", "type": "made-up", "options": ["whatever", "x=y"]})),
        m(json!({"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "mode=755"]})),
        m(json!({"destination": "/a", "source": "/a", "options": ["bind", "idmap"], "uidMappings": ids, "gidMappings": ids})),
        json!({"/mounts": null}),
    ]);
}

#[test]
fn namespaces_and_ids() {
    let user = |uids: Value, gids: Value| json!({"/linux/namespaces/-": {"type": "user"}, "/linux/uidMappings": uids, "/linux/gidMappings": gids});
    let good = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    let many: Vec<Value> = (0..341).map(|i| json!({"containerID": i, "hostID": 1000 + i, "size": 1})).collect();
    let wide: Vec<Value> = (0..200).map(|i| json!({"containerID": i * 1_000_000, "hostID": 1_000_000_000 + i, "size": 1})).collect();
    let map = |id: u32, host: u32, size: u32| json!({"containerID": id, "hostID": host, "size": size});
    holds(&[
        (json!({"/linux/namespaces/0/type": "mnt"}), FAULT, "/linux/namespaces/0/type"),
        (json!({"/linux/namespaces/-": {"type": "pid"}}), FAULT, "/linux/namespaces/5/type"),
        (json!({"/linux/namespaces/0/path": "proc/1/ns/pid"}), FAULT, "/linux/namespaces/0/path"),
        (json!({"/linux/uidMappings": good}), WARNING, "/linux/uidMappings"),
        (user(json!([]), json!([])), FAULT, "/linux/uidMappings"),
        (user(good.clone(), json!([])), FAULT, "/linux/gidMappings"),
        (user(json!([map(1, 1000, 10)]), good.clone()), FAULT, "/linux/uidMappings"),
        (user(json!([map(0, 1000, 0)]), good.clone()), FAULT, "/linux/uidMappings/0/size"),
        (user(json!([map(0, 1000, 10), map(9, 5000, 1)]), good.clone()), FAULT, "/linux/uidMappings/1/containerID"),
        (user(json!([map(0, 1000, 10), map(10, 1009, 1)]), good.clone()), FAULT, "/linux/uidMappings/1/hostID"),
        (user(json!([map(0, 4294967290, 10)]), good.clone()), FAULT, "/linux/uidMappings/0/hostID"),
        (user(json!(many), good.clone()), FAULT, "/linux/uidMappings"),
        (user(json!([map(0, 0, 10)]), good.clone()), NOTE, "/linux/uidMappings/0/hostID"),
    ]);
    if cfg!(target_arch = "x86_64") {
        holds(&[(user(json!(wide), good.clone()), FAULT, "/linux/uidMappings")]);
    }
    let with = |mut edits: Value, pointer: &str, value: Value| {
        edits[pointer] = value;
        edits
    };
    let joined = with(user(good.clone(), good.clone()), "/linux/namespaces/-", json!({"type": "user", "path": "/proc/1/ns/user"}));
    holds(&[
        (with(user(good.clone(), good.clone()), "/process/user/uid", json!(10)), FAULT, "/process/user/uid"),
        (joined.clone(), WARNING, "/linux/uidMappings"),
        (json!({"/linux/timeOffsets": {"monotonic": {"secs": 1}}}), FAULT, "/linux/timeOffsets"),
        (json!({"/linux/timeOffsets": {"realtime": {"secs": 1}}, "/linux/namespaces/-": {"type": "time"}}), FAULT, "/linux/timeOffsets/realtime"),
        (
            json!({"/linux/timeOffsets": {"boottime": {"nanosecs": 1000000000}}, "/linux/namespaces/-": {"type": "time"}}),
            FAULT,
            "/linux/timeOffsets/boottime/nanosecs",
        ),
        (json!({"/linux/timeOffsets": {"boottime": {}}, "/linux/namespaces/-": {"type": "time", "path": "/x"}}), FAULT, "/linux/timeOffsets"),
    ]);
    accepted(&[
        user(good.clone(), good.clone()),
        user(json!([map(0, 0, u32::MAX)]), good.clone()),
        joined,
        json!({"/linux/namespaces": null, "/hostname": null, "/linux/maskedPaths": null, "/linux/readonlyPaths": null}),
        json!({"/linux/uidMappings": [], "/linux/timeOffsets": {}}),
        json!({"/linux/timeOffsets": {"boottime": {"secs": -5}}, "/linux/namespaces/-": {"type": "time"}}),
    ]);
}

#[test]
fn sysctls() {
    let s = |name: &str| json!({"/linux/sysctl": {name: "1"}});
    let without = |name: &str, index: usize| {
        let mut edits = s(name);
        edits[format!("/linux/namespaces/{index}")] = Value::Null;
        edits
    };
    holds(&[
        (s("vm.swappiness"), FAULT, "/linux/sysctl/vm.swappiness"),
        (s("kernel.core_pattern"), FAULT, "/linux/sysctl/kernel.core_pattern"),
        (s("kernel.hostname"), FAULT, "/linux/sysctl/kernel.hostname"),
        (s("user.max_user_namespaces"), FAULT, "/linux/sysctl/user.max_user_namespaces"),
        (s("net/../kernel/core_pattern"), FAULT, "/linux/sysctl/net~1..~1kernel~1core_pattern"),
        (s("net..x"), FAULT, "/linux/sysctl/net..x"),
        (without("net.ipv4.ip_forward", 1), FAULT, "/linux/sysctl/net.ipv4.ip_forward"),
        (without("kernel.shmmax", 2), FAULT, "/linux/sysctl/kernel.shmmax"),
        (without("fs.mqueue.msg_max", 2), FAULT, "/linux/sysctl/fs.mqueue.msg_max"),
        (without("kernel.domainname", 3), FAULT, "/linux/sysctl/kernel.domainname"),
    ]);
    accepted(&[
        s("net.ipv4.ip_forward"),
        s("net/ipv4/conf/eno2.100/rp_filter"),
        s("net.ipv4.conf.eno2/100.rp_filter"),
        s("kernel.shm_rmid_forced"),
        s("kernel/sem"),
        s("kernel.domainname"),
        s("fs.mqueue.msg_max"),
    ]);
}

#[test]
fn the_kernels_features() {
    let d = |device: Value| json!({"/linux/devices": [device]});
    holds(&[
        (d(json!({"path": "", "type": "c"})), WARNING, "/linux/devices/0/path"),
        (d(json!({"path": "x", "type": "c"})), WARNING, "/linux/devices/0/path"),
        (d(json!({"path": "/x", "type": "d"})), FAULT, "/linux/devices/0/type"),
        (d(json!({"path": "/x", "type": "b", "major": -1})), FAULT, "/linux/devices/0/major"),
        (d(json!({"path": "/x", "type": "b", "minor": 2097152})), WARNING, "/linux/devices/0/minor"),
        (d(json!({"path": "/x", "type": "c", "fileMode": 666})), WARNING, "/linux/devices/0/fileMode"),
        (d(json!({"path": "/x", "type": "c", "fileMode": 262144})), WARNING, "/linux/devices/0/fileMode"),
        (json!({"/linux/netDevices": {"eth0": {}}, "/linux/namespaces/1": null}), FAULT, "/linux/netDevices"),
        (json!({"/linux/netDevices": {"a/b": {}}}), FAULT, "/linux/netDevices/a~1b"),
        (json!({"/linux/netDevices": {"eth0": {"name": "sixteen-bytes-xx"}}}), FAULT, "/linux/netDevices/eth0/name"),
        (json!({"/linux/netDevices": {"eth0": {"name": "x"}, "eth1": {"name": "x"}}}), FAULT, "/linux/netDevices/eth1/name"),
        (json!({"/linux/rootfsPropagation": "privte"}), FAULT, "/linux/rootfsPropagation"),
        (json!({"/linux/maskedPaths/0": "proc/acpi"}), FAULT, "/linux/maskedPaths/0"),
        (json!({"/linux/readonlyPaths/0": ""}), FAULT, "/linux/readonlyPaths/0"),
        (json!({"/linux/namespaces/4": null}), FAULT, "/linux/maskedPaths"),
        (json!({"/linux/cgroupsPath": "a/../../b"}), WARNING, "/linux/cgroupsPath"),
        (json!({"/linux/mountLabel": "x"}), WARNING, "/linux/mountLabel"),
        (json!({"/linux/personality": {"domain": "LINUX64"}}), FAULT, "/linux/personality/domain"),
        (json!({"/linux/personality": {"domain": "LINUX", "flags": ["X"]}}), WARNING, "/linux/personality/flags"),
        (json!({"/linux/intelRdt": {"closID": "a/b"}}), FAULT, "/linux/intelRdt/closID"),
        (json!({"/linux/intelRdt": {"closID": ".."}}), FAULT, "/linux/intelRdt/closID"),
        (json!({"/linux/intelRdt": {"schemata": ["L3:0=f\nMB:0=1"]}}), FAULT, "/linux/intelRdt/schemata/0"),
        (json!({"/linux/intelRdt": {"memBwSchema": "0=70"}}), FAULT, "/linux/intelRdt/memBwSchema"),
        (json!({"/linux/intelRdt": {"l3CacheSchema": "0=7"}}), WARNING, "/linux/intelRdt/l3CacheSchema"),
        (json!({"/linux/intelRdt": {"schemata": ["L3:0=f"], "l3CacheSchema": "L3:0=7"}}), NOTE, "/linux/intelRdt/schemata"),
        (json!({"/linux/intelRdt": {"enableCMT": true}}), WARNING, "/linux/intelRdt/enableCMT"),
        (json!({"/linux/memoryPolicy": {"mode": "BIND"}}), FAULT, "/linux/memoryPolicy/mode"),
        (json!({"/linux/memoryPolicy": {"mode": "MPOL_BIND"}}), FAULT, "/linux/memoryPolicy/nodes"),
        (json!({"/linux/memoryPolicy": {"mode": "MPOL_LOCAL", "nodes": "0"}}), FAULT, "/linux/memoryPolicy/nodes"),
        (json!({"/linux/memoryPolicy": {"mode": "MPOL_BIND", "nodes": "x"}}), FAULT, "/linux/memoryPolicy/nodes"),
        (json!({"/linux/memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["X"]}}), FAULT, "/linux/memoryPolicy/flags/0"),
        (
            json!({"/linux/memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]}}),
            FAULT,
            "/linux/memoryPolicy/flags",
        ),
    ]);
    accepted(&[
        d(json!({"path": "/x", "type": "p"})),
        d(json!({"path": "/x", "type": "u", "major": 10, "minor": 1, "fileMode": 33206})),
        json!({"/linux/rootfsPropagation": "rslave"}),
        json!({"/linux/intelRdt": {"closID": "/"}}),
        json!({"/linux/netDevices": {"eth0": {"name": "c%d"}, "eth1": {"name": "c%d"}, "ens4": {}}}),
        json!({"/linux/memoryPolicy": {"mode": "MPOL_PREFERRED"}}),
        json!({"/linux/cgroupsPath": "system.slice:docker:1234"}),
    ]);
}

#[test]
fn seccomp() {
    let s = |seccomp: Value| json!({"/linux/seccomp": seccomp});
    let rule = |rule: Value| json!({"/linux/seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}});
    holds(&[
        (s(json!({})), WARNING, "/linux/seccomp/defaultAction"),
        (s(json!({"defaultAction": "ALLOW"})), FAULT, "/linux/seccomp/defaultAction"),
        (s(json!({"defaultAction": "SCMP_ACT_NOTIFY"})), FAULT, "/linux/seccomp/defaultAction"),
        (s(json!({"syscalls": [{"names": ["x"], "action": "SCMP_ACT_ALLOW"}]})), FAULT, "/linux/seccomp/defaultAction"),
        (s(json!({"defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1})), FAULT, "/linux/seccomp/defaultErrnoRet"),
        (s(json!({"defaultAction": "SCMP_ACT_KILL", "architectures": ["x86"]})), FAULT, "/linux/seccomp/architectures/0"),
        (s(json!({"defaultAction": "SCMP_ACT_KILL", "flags": ["LOG"]})), FAULT, "/linux/seccomp/flags/0"),
        (s(json!({"defaultAction": "SCMP_ACT_KILL", "listenerMetadata": "x"})), FAULT, "/linux/seccomp/listenerMetadata"),
        (s(json!({"defaultAction": "SCMP_ACT_KILL", "listenerPath": "/x"})), NOTE, "/linux/seccomp/listenerPath"),
        (rule(json!({"names": [], "action": "SCMP_ACT_ALLOW"})), FAULT, "/linux/seccomp/syscalls/0/names"),
        (rule(json!({"names": [""], "action": "SCMP_ACT_ALLOW"})), FAULT, "/linux/seccomp/syscalls/0/names/0"),
        (rule(json!({"names": ["read"], "action": "SCMP_ACT_ALOW"})), FAULT, "/linux/seccomp/syscalls/0/action"),
        (rule(json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1})), FAULT, "/linux/seccomp/syscalls/0/errnoRet"),
        (rule(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000})), WARNING, "/linux/seccomp/syscalls/0/errnoRet"),
        (rule(json!({"names": ["read"], "action": "SCMP_ACT_NOTIFY"})), FAULT, "/linux/seccomp/listenerPath"),
        (rule(json!({"names": ["write"], "action": "SCMP_ACT_NOTIFY"})), FAULT, "/linux/seccomp/syscalls/0/names/0"),
        (
            rule(json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]})),
            FAULT,
            "/linux/seccomp/syscalls/0/args/0/index",
        ),
        (
            rule(json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "=="}]})),
            FAULT,
            "/linux/seccomp/syscalls/0/args/0/op",
        ),
        (
            rule(json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "valueTwo": 1, "op": "SCMP_CMP_EQ"}]})),
            NOTE,
            "/linux/seccomp/syscalls/0/args/0/valueTwo",
        ),
    ]);
    accepted(&[
        s(json!({})),
        s(json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64"], "flags": ["SECCOMP_FILTER_FLAG_TSYNC"]})),
        rule(json!({"names": ["no_such_call"], "action": "SCMP_ACT_TRACE", "errnoRet": 1, "args": null})),
    ]);
}

#[test]
fn resources() {
    let r = |path: &str, value: Value| json!({format!("/linux/resources/{path}"): value});
    let at = |path: &str| format!("/linux/resources/{path}");
    let rows = [
        (r("devices/-", json!({"allow": true, "type": "p", "access": "r"})), FAULT, "devices/1/type"),
        (r("devices/-", json!({"allow": true, "type": "c"})), FAULT, "devices/1/access"),
        (r("devices/-", json!({"allow": true, "type": "c", "access": "rx"})), FAULT, "devices/1/access"),
        (r("devices/-", json!({"allow": true, "type": "c", "access": "r", "major": -2})), FAULT, "devices/1/major"),
        (r("memory", json!({"limit": -2})), FAULT, "memory/limit"),
        (r("memory", json!({"swap": 100})), FAULT, "memory/swap"),
        (r("memory", json!({"limit": 200, "swap": 100})), FAULT, "memory/swap"),
        (r("memory", json!({"swappiness": 101})), FAULT, "memory/swappiness"),
        (r("memory", json!({"kernel": 1})), WARNING, "memory/kernel"),
        (r("memory", json!({"limit": 1, "reservation": 2})), NOTE, "memory/reservation"),
        (r("cpu", json!({"shares": 1})), WARNING, "cpu/shares"),
        (r("cpu", json!({"period": 10})), FAULT, "cpu/period"),
        (r("cpu", json!({"quota": 10})), FAULT, "cpu/quota"),
        (r("cpu", json!({"quota": 1000, "burst": 1001})), FAULT, "cpu/burst"),
        (r("cpu", json!({"realtimeRuntime": 2, "realtimePeriod": 1})), WARNING, "cpu/realtimeRuntime"),
        (r("cpu", json!({"idle": 2})), FAULT, "cpu/idle"),
        (r("cpu", json!({"cpus": "some"})), FAULT, "cpu/cpus"),
        (r("cpu", json!({"mems": "3-1"})), FAULT, "cpu/mems"),
        (r("pids", json!({"limit": -2})), WARNING, "pids/limit"),
        (r("blockIO", json!({"weight": 1001})), FAULT, "blockIO/weight"),
        (r("blockIO", json!({"leafWeight": 9})), WARNING, "blockIO/leafWeight"),
        (r("blockIO", json!({"weightDevice": [{"major": 8, "minor": 0}]})), FAULT, "blockIO/weightDevice/0"),
        (r("blockIO", json!({"throttleReadBpsDevice": [{"major": -8, "minor": 0, "rate": 1}]})), FAULT, "blockIO/throttleReadBpsDevice/0/major"),
        (r("hugepageLimits", json!([{"pageSize": "64kB", "limit": 1}])), FAULT, "hugepageLimits/0/pageSize"),
        (r("hugepageLimits", json!([{"pageSize": "2MB", "limit": 1}, {"pageSize": "2MB", "limit": 1}])), NOTE, "hugepageLimits/1/pageSize"),
        (r("network", json!({"priorities": [{"name": "", "priority": 1}]})), FAULT, "network/priorities/0/name"),
        (r("rdma", json!({"mlx5_1": {}})), FAULT, "rdma/mlx5_1"),
        (r("unified", json!({"a/b": "1"})), FAULT, "unified/a~1b"),
        (r("unified", json!({"high": "1"})), WARNING, "unified/high"),
    ];
    holds(&rows.each_ref().map(|(edits, severity, path)| (edits.clone(), *severity, at(path).leak() as &str)));
    accepted(&[
        r("memory", json!({"limit": -1, "swap": -1, "reservation": 0, "swappiness": 100, "kernelTCP": -1})),
        r("memory", json!({"limit": -1, "swap": 4096})),
        r("cpu", json!({"shares": 0, "quota": -1, "period": 0, "burst": 5, "cpus": "0-10:2/4", "mems": ""})),
        r("pids", json!({"limit": 0})),
        r("pids", json!({})),
        r("blockIO", json!({"weight": 0})),
        r("unified", json!({"memory.high": "max", "hugetlb.1GB.max": "1"})),
        r("hugepageLimits", json!([{"pageSize": "64KB", "limit": 18446744073709551615u64}])),
        json!({"/linux/resources": null}),
    ]);
}

#[test]
fn what_weakens_the_isolation() {
    let bind = |source: &str| json!({"/mounts/-": {"destination": "/a", "source": source, "options": ["rbind"]}});
    let mut rows = vec![
        (json!({"/root/path": "/"}), NOTE, "/root/path"),
        (json!({}), NOTE, "/process/user/uid"),
        (json!({}), NOTE, "/linux/seccomp"),
        (json!({"/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}), NOTE, "/linux/seccomp/defaultAction"),
        (json!({"/process/noNewPrivileges": null}), NOTE, "/process/noNewPrivileges"),
        (json!({"/process/apparmorProfile": "unconfined"}), NOTE, "/process/apparmorProfile"),
        (json!({"/process/capabilities/bounding/0": "CAP_SYS_ADMIN"}), NOTE, "/process/capabilities/bounding/0"),
        (json!({"/linux/maskedPaths": null}), NOTE, "/linux/maskedPaths"),
        (json!({"/linux/readonlyPaths": []}), NOTE, "/linux/readonlyPaths"),
        (json!({"/linux/rootfsPropagation": "shared"}), NOTE, "/linux/rootfsPropagation"),
        (json!({"/linux/resources/devices/0/allow": true}), NOTE, "/linux/resources/devices/0"),
        (json!({"/mounts/6/options": ["nosuid"]}), NOTE, "/mounts/6/options"),
        (json!({"/mounts/6/options": ["ro", "rw"]}), NOTE, "/mounts/6/options"),
    ];
    for source in ["/", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/proc", "/sys", "/etc/", "/sys/kernel/debug"] {
        rows.push((bind(source), NOTE, "/mounts/7/source"));
    }
    holds(&rows);
    for index in 0..5 {
        let notes = report(&json!({format!("/linux/namespaces/{index}"): null})).findings;
        assert!(notes.iter().any(|f| f.pointer == "/linux/namespaces" && f.severity == NOTE), "{index}: {notes:#?}");
    }
    let quiet = report(&bind("/srv/data")).findings;
    assert!(!quiet.iter().any(|f| f.pointer.starts_with("/mounts/7")), "{quiet:#?}");
    assert_eq!(check(&default_spec(None)), [], "create has no use for notes");
}

#[test]
fn a_fault_is_the_error_of_create() {
    let found = check(&Spec { root: None, ..default_spec(None) });
    let error = found[0].to_error();
    assert_eq!(error.kind, dhow::Kind::InvalidConfig { pointer: "/root".into() });
    assert_eq!(
        error.to_string(),
        "invalid config at /root: is missing; expected the root filesystem: {\"path\": …} (the usual is \"root\": {\"path\": \"rootfs\"})"
    );
}

/// The point of it all: nothing has to be found by running again.
#[test]
fn many_faults_are_reported_at_once() {
    let text = include_bytes!("many-faults.json");
    let report = validate(text);
    let faults: Vec<&str> = report.faults().map(|f| f.pointer.as_str()).collect();
    let wanted = [
        "/ociVersion",
        "/process/user/uid",
        "/process/args",
        "/process/env/0",
        "/process/env/1",
        "/process/cwd",
        "/process/rlimits/0/type",
        "/process/rlimits/1/soft",
        "/process/rlimits/2/hard",
        "/process/rlimits/3/type",
        "/process/noNewPrivileges",
        "/process/oomScoreAdj",
        "/process/scheduler/nice",
        "/process/ioPriority/class",
        "/root/path",
        "/root/readonly",
        "/hostname",
        "/mounts/0/destination",
        "/mounts/2/options",
        "/mounts/3/destination",
        "/hooks/poststop/0/path",
        "/hooks/poststop/0/timeout",
        "/annotations/",
        "/linux/sysctl/vm.swappiness",
        "/linux/resources/memory/limit",
        "/linux/resources/memory/swappiness",
        "/linux/resources/cpu/idle",
        "/linux/resources/hugepageLimits/0/pageSize",
        "/linux/namespaces/1/type",
        "/linux/namespaces/2/type",
        "/linux/devices/0/type",
        "/linux/seccomp/defaultAction",
        "/linux/seccomp/syscalls/0/args/0/index",
        "/linux/seccomp/syscalls/0/args/0/op",
        "/linux/rootfsPropagation",
        "/linux/maskedPaths/0",
        "/linux/personality/domain",
    ];
    assert_eq!(faults, wanted, "{report:#?}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["findings"][0]["severity"], "fault");
    assert!(report.findings.is_sorted_by_key(|f| f.severity));
}

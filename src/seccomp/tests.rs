//! What the compiler refuses, warns of and sets; the shape of its programs.

use super::emit::op;
use super::interp::{self, Data};
use super::*;
use crate::spec::{Seccomp, Syscall, SyscallArg};

fn parse(json: &str) -> Seccomp {
    serde_json::from_str(json).unwrap()
}

fn compile_json(json: &str) -> Result<Compiled> {
    compile(&parse(json), Arch::X86_64)
}

#[track_caller]
fn refused(json: &str, pointer: &str) {
    let err = compile_json(json).unwrap_err();
    match &err.kind {
        crate::Kind::InvalidConfig { pointer: p } => assert_eq!(p, pointer, "{err}"),
        other => panic!("{other:?}"),
    }
}

fn ask(compiled: &Compiled, arch: Arch, nr: u32, first: u64) -> u32 {
    let data = Data { nr, arch: arch.audit(), args: [first, 0, 0, 0, 0, 0] };
    interp::run(&compiled.program, &data).unwrap()
}

#[test]
fn faults_have_their_pointer() {
    let allow = r#""defaultAction":"SCMP_ACT_ALLOW""#;
    let call = |rest: &str| format!(r#"{{{allow},"syscalls":[{{"names":["kill"],{rest}}}]}}"#);
    refused(r#"{"defaultAction":"SCMP_ACT_NO"}"#, "/linux/seccomp/defaultAction");
    refused(r#"{"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/l"}"#, "/linux/seccomp/defaultAction");
    refused(&format!(r#"{{{allow},"defaultErrnoRet":1}}"#), "/linux/seccomp/defaultErrnoRet");
    refused(&format!(r#"{{{allow},"architectures":["SCMP_ARCH_VAX"]}}"#), "/linux/seccomp/architectures/0");
    refused(&format!(r#"{{{allow},"flags":["X"]}}"#), "/linux/seccomp/flags/0");
    refused(&format!(r#"{{{allow},"flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}}"#), "/linux/seccomp/flags/1");
    refused(&format!(r#"{{{allow},"listenerMetadata":"m"}}"#), "/linux/seccomp/listenerMetadata");
    refused(&call(r#""action":"SCMP_ACT_NOTIFY""#), "/linux/seccomp/listenerPath");
    refused(&call(r#""action":"kill""#), "/linux/seccomp/syscalls/0/action");
    refused(&call(r#""action":"SCMP_ACT_TRAP","errnoRet":5"#), "/linux/seccomp/syscalls/0/errnoRet");
    refused(&call(r#""action":"SCMP_ACT_ERRNO","errnoRet":65536"#), "/linux/seccomp/syscalls/0/errnoRet");
    refused(&call(r#""action":"SCMP_ACT_LOG","args":[{"index":6,"op":"SCMP_CMP_EQ"}]"#), "/linux/seccomp/syscalls/0/args/0/index");
    refused(&call(r#""action":"SCMP_ACT_LOG","args":[{"index":1,"op":"SCMP_CMP_EQ"},{"index":2,"op":"="}]"#), "/linux/seccomp/syscalls/0/args/1/op");
    refused(
        &format!(r#"{{{allow},"listenerPath":"/l","syscalls":[{{"names":["read","write"],"action":"SCMP_ACT_NOTIFY"}}]}}"#),
        "/linux/seccomp/syscalls/0/names/1",
    );
    refused(&format!(r#"{{{allow},"syscalls":[{{"names":[""],"action":"SCMP_ACT_LOG"}}]}}"#), "/linux/seccomp/syscalls/0/names/0");
}

#[test]
fn a_profile_that_says_nothing_is_no_filter() {
    assert!(!is_enabled(&Seccomp::default()));
    assert!(is_enabled(&parse(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#)));
}

#[test]
fn flags_and_notify() {
    let of = |json: &str| {
        let compiled = compile_json(json).unwrap();
        (compiled.flags, compiled.notify)
    };
    assert_eq!(of(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#), (FILTER_FLAG_SPEC_ALLOW, false));
    let all = r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/l","flags":["SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_TSYNC","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls":[{"names":["no_such_call"],"action":"SCMP_ACT_NOTIFY"}]}"#;
    assert_eq!(of(all), (FILTER_FLAG_LOG | FILTER_FLAG_WAIT_KILLABLE_RECV, true));
}

#[test]
fn warnings_for_what_has_no_effect() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_S390X","SCMP_ARCH_ARM"],
        "syscalls":[{"names":[],"action":"SCMP_ACT_TRAP"}]}"#;
    let warnings = compile_json(json).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("SCMP_ARCH_S390X") && warnings[1].contains("/syscalls/0"));
}

#[test]
fn all_actions() {
    let json = r#"{"defaultAction":"SCMP_ACT_KILL","listenerPath":"/l","syscalls":[
        {"names":["read"],"action":"SCMP_ACT_ALLOW"},
        {"names":["open"],"action":"SCMP_ACT_KILL_PROCESS"},
        {"names":["close"],"action":"SCMP_ACT_TRAP"},
        {"names":["stat"],"action":"SCMP_ACT_ERRNO"},
        {"names":["fstat"],"action":"SCMP_ACT_ERRNO","errnoRet":0},
        {"names":["lstat"],"action":"SCMP_ACT_TRACE"},
        {"names":["poll"],"action":"SCMP_ACT_TRACE","errnoRet":65535},
        {"names":["lseek"],"action":"SCMP_ACT_LOG"},
        {"names":["mmap"],"action":"SCMP_ACT_NOTIFY"},
        {"names":["mprotect"],"action":"SCMP_ACT_KILL_THREAD"}]}"#;
    let compiled = compile_json(json).unwrap();
    let got: Vec<u32> = [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1].iter().map(|nr| ask(&compiled, Arch::X86_64, *nr, 0)).collect();
    assert_eq!(got, [0x7fff_0000, 0x8000_0000, 0x0003_0000, 0x0005_0001, 0x0005_0000, 0x7ff0_0001, 0x7ff0_ffff, 0x7ffc_0000, 0x7fc0_0000, 0, 0]);
    // Newer than mprotect: ENOSYS, though the default kills. The tracer's -1 must not.
    assert_eq!(ask(&compiled, Arch::X86_64, 11, 0), 0x0005_0026);
    assert_eq!(ask(&compiled, Arch::X86_64, 0x4000_0000, 0), 0);
    assert_eq!(ask(&compiled, Arch::X86, 3, 0), 0);
}

/// What can be decided by the number must be: the kernel then never runs the filter for calls always allowed.
#[test]
fn few_steps_and_no_arguments() {
    let text = include_str!("../../seccomp-profiles/default.json");
    for native in [Arch::X86_64, Arch::Aarch64] {
        let compiled = compile(&parse(text), native).unwrap();
        for nr in 0..480 {
            let data = Data { nr, arch: native.audit(), args: [0; 6] };
            let (_, steps) = interp::walk(&compiled.program, &data).unwrap();
            assert!(steps <= 32, "{nr} takes {steps}");
        }
        let read = names::find("read").unwrap().number(native).unwrap();
        let data = Data { nr: read, arch: native.audit(), args: [0; 6] };
        assert!(interp::walk(&compiled.program, &data).unwrap().1 <= 12);
    }
}

/// `count` rules about each of `names`, each with two conditions.
fn many_rules(names: &[&str], count: u64) -> Seccomp {
    let arg = |index, value| SyscallArg { index, value, op: "SCMP_CMP_EQ".into(), ..SyscallArg::default() };
    Seccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        syscalls: (0..count)
            .map(|n| Syscall {
                names: names.iter().map(|n| n.to_string()).collect(),
                action: "SCMP_ACT_ERRNO".into(),
                errno_ret: Some(n as u32 % 100),
                args: vec![arg(0, n), arg(1, n)],
            })
            .collect(),
        ..Seccomp::default()
    }
}

#[test]
fn long_jumps() {
    let compiled = compile(&many_rules(&["kill", "read", "bpf"], 150), Arch::X86_64).unwrap();
    assert!(compiled.program.iter().any(|i| i.code == op::JUMP && i.k > 255));
    for (nr, n) in [(0, 0), (0, 149), (62, 0), (62, 99), (62, 149), (321, 1), (321, 120)] {
        let data = Data { nr, arch: Arch::X86_64.audit(), args: [n, n, 0, 0, 0, 0] };
        let got = interp::run(&compiled.program, &data).unwrap();
        assert_eq!(got, 0x0005_0000 | (n as u32 % 100));
    }
    assert_eq!(ask(&compiled, Arch::X86_64, 62, 1000), 0x7fff_0000);
}

#[test]
fn a_program_too_long_is_an_error() {
    let err = compile(&many_rules(&["kill"], 600), Arch::X86_64).unwrap_err().to_string();
    assert!(err.contains("4096"), "{err}");
}

/// runc: two conditions on one argument are two rules.
#[test]
fn conditions_on_one_argument_are_alternatives() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["kill"],"action":"SCMP_ACT_TRAP","args":[
        {"index":0,"value":5,"op":"SCMP_CMP_EQ"},{"index":0,"value":7,"op":"SCMP_CMP_EQ"}]}]}"#;
    let compiled = compile_json(json).unwrap();
    let got: Vec<u32> = (4..9).map(|n| ask(&compiled, Arch::X86_64, 62, n)).collect();
    let (allow, trap) = (0x7fff_0000, 0x0003_0000);
    assert_eq!(got, [allow, trap, allow, trap, allow]);
}

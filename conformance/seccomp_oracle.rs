//! The compiler against libseccomp: for each profile, each architecture, each number and a sample of arguments, our
//! program returns what libseccomp's, built as runc builds it, returns; but for the numbers that runc's ENOSYS stub
//! takes before libseccomp's program sees them, which are checked against runc's rule.

#[path = "support/seccomp.rs"]
mod support;

use dhow::seccomp::interp;
use dhow::seccomp::{Arch, compile};
use dhow::spec::{Seccomp, Syscall, SyscallArg};
use support::*;

/// Compare the programs for `profile` on `native` and the architectures it lists.
fn compare(profile: &Seccomp, native: Arch, seed: u64) {
    let theirs = libseccomp_program(profile);
    let ours = compile(profile, native).unwrap_or_else(|e| panic!("{e}\n{}", json(profile)));
    assert!(ours.program.len() <= 4096);
    let stub = EnosysStub::new(profile, native);
    let mut random = Random(seed);
    for data in samples(profile, native, &mut random) {
        let expected = match stub.takes(&data) {
            true => 0x5_0000 | libc::ENOSYS as u32,
            false => interp::run(&theirs, &data).unwrap(),
        };
        let got = interp::run(&ours.program, &data).unwrap();
        assert_eq!(
            got,
            expected,
            "got {got:#x}, expected {expected:#x}: {data:x?}\nseed {seed}\n{}",
            json(profile)
        );
    }
}

fn shipped(name: &str) -> Seccomp {
    let path = format!("{}/seccomp-profiles/{name}", env!("CARGO_MANIFEST_DIR"));
    known_to_libseccomp(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

fn both_families(profile: &Seccomp, seed: u64) {
    compare(&for_family(profile, Arch::X86_64), Arch::X86_64, seed);
    compare(&for_family(profile, Arch::Aarch64), Arch::Aarch64, seed);
}

#[test]
fn default_profile() {
    both_families(&shipped("default.json"), 1);
}

#[test]
fn strict_profile() {
    both_families(&shipped("strict.json"), 2);
}

#[test]
fn mobys_profile_with_other_capabilities() {
    let Some(moby) = moby_profile() else { return };
    let more = [
        vec!["CAP_SYS_ADMIN"],
        vec!["CAP_SYS_PTRACE", "CAP_SYS_TIME", "CAP_SYSLOG", "CAP_BPF"],
        vec!["CAP_SYS_ADMIN", "CAP_SYS_NICE", "CAP_SYS_BOOT", "CAP_PERFMON"],
        vec![],
    ];
    for (n, caps) in more.iter().enumerate() {
        for native in [Arch::X86_64, Arch::Aarch64] {
            let profile = known_to_libseccomp(moby.resolve(native, caps));
            compare(&profile, native, 100 + n as u64);
        }
    }
}

/// Each system call has one action, however many rules.
#[test]
fn random_profiles_with_one_action_a_call() {
    for seed in 0..400 {
        let mut random = Random(seed * 7919 + 11);
        let profile = random_profile(&mut random, Mode::OneAction);
        compare(&profile, native_of(&profile), seed);
    }
}

/// Rules about one system call differ in action, so that which wins can be seen.
#[test]
fn random_profiles_with_rivals() {
    for seed in 0..400 {
        let mut random = Random(seed * 104_729 + 5);
        let profile = accepted_by_libseccomp(random_profile(&mut random, Mode::Rivals));
        compare(&profile, native_of(&profile), seed);
    }
}

/// What libseccomp refuses as a contradiction, we refuse too.
#[test]
fn contradictions_are_refused() {
    let rule = |action: &str, args: &[(u32, u64, u64, &str)]| Syscall {
        names: vec!["kill".into()],
        action: action.into(),
        args: args
            .iter()
            .map(|&(index, value, value_two, op)| SyscallArg {
                index,
                value,
                value_two,
                op: op.into(),
            })
            .collect(),
        ..Syscall::default()
    };
    let (kill, trap) = ("SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP");
    for (first, second) in [
        (rule(kill, &[(0, 5, 0, "SCMP_CMP_EQ")]), rule(trap, &[(0, 5, 0, "SCMP_CMP_EQ")])),
        (rule(kill, &[(0, 5, 0, "SCMP_CMP_LT")]), rule(trap, &[(0, 5, 0, "SCMP_CMP_LT")])),
        (
            rule(kill, &[(0, 5, 0, "SCMP_CMP_EQ"), (1, 1, 0, "SCMP_CMP_EQ")]),
            rule(trap, &[(0, 5, 0, "SCMP_CMP_EQ")]),
        ),
    ] {
        let profile = Seccomp {
            default_action: "SCMP_ACT_ALLOW".into(),
            syscalls: vec![first, second],
            ..Seccomp::default()
        };
        assert!(!libseccomp_accepts(&profile));
        let err = compile(&profile, Arch::X86_64).unwrap_err().to_string();
        assert!(err.contains("/linux/seccomp/syscalls/1"), "{err}");
    }
}

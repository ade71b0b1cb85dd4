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
    assert_eq!(differences(profile, native, seed, false), (0, 0));
}

/// How many samples libseccomp decides otherwise than we do, and how many on x86's socketcall(2) and ipc(2).
/// With `forgive`, a difference is only counted if the profile's own words are on our side, that is, if our answer is
/// the action of a rule that matches and libseccomp's is not; without, it panics. Of several rules with < or > about
/// one argument, libseccomp lets any win for a value above 32 bits (it compares with the first rule's bound for ever),
/// so that our answer need only be one of theirs.
fn differences(profile: &Seccomp, native: Arch, seed: u64, forgive: bool) -> (usize, usize) {
    let theirs = libseccomp_program(profile);
    let ours = compile(profile, native).unwrap_or_else(|e| panic!("{e}\n{}", json(profile)));
    assert!(ours.program.len() <= 4096);
    let stub = EnosysStub::new(profile, native);
    let mut random = Random(seed);
    let mut differ = (0, 0);
    for data in samples(profile, native, &mut random) {
        let expected = match stub.takes(&data) {
            true => 0x5_0000 | libc::ENOSYS as u32,
            false => interp::run(&theirs, &data).unwrap(),
        };
        let got = interp::run(&ours.program, &data).unwrap();
        if got == expected {
            continue;
        }
        let through = data.arch == Arch::X86.audit() && matches!(data.nr, 102 | 117);
        let high_words = data.args.iter().any(|a| a >> 32 != 0);
        let allowed = |action| said(profile, &data).contains(&action);
        if forgive && through {
            differ.1 += 1;
        } else if forgive && allowed(got) && (!allowed(expected) || high_words) {
            differ.0 += 1;
        } else {
            let rules = json(&about(profile, &data));
            panic!("got {got:#x}, expected {expected:#x}: {data:x?}\nseed {seed}\n{rules}");
        }
    }
    differ
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
///
/// libseccomp 2.5.4 miscompiles some mixtures of 64-bit conditions: `LT 0xffffffff` together with
/// `LT 0x6e00000000000000` does not match 0xffffffff. Where we differ, the profile's words must be on our side.
#[test]
fn random_profiles_with_one_action_a_call() {
    let mut differ = (0, 0);
    for seed in 0..200 {
        let mut random = Random(seed * 7919 + 11);
        let profile = random_profile(&mut random, Mode::OneAction);
        let more = differences(&profile, native_of(&profile), seed, true);
        differ = (differ.0 + more.0, differ.1 + more.1);
    }
    eprintln!("libseccomp contradicts the profile for {differ:?} samples");
    assert!(differ.0 < 200 && differ.1 == 0, "{differ:?}");
}

/// Rules about one system call differ in action, so that which wins can be seen.
#[test]
fn random_profiles_with_rivals() {
    let mut differ = (0, 0);
    for seed in 0..200 {
        let mut random = Random(seed * 104_729 + 5);
        let profile = accepted_by_libseccomp(random_profile(&mut random, Mode::Rivals));
        let more = differences(&profile, native_of(&profile), seed, true);
        differ = (differ.0 + more.0, differ.1 + more.1);
    }
    eprintln!("libseccomp contradicts the profile for {differ:?} samples");
    assert!(differ.0 < 200 && differ.1 == 0, "{differ:?}");
}

/// Anything the spec can say, against the words of the profile itself: the action if any of the call's rules matches.
#[test]
fn random_profiles_mean_what_they_say() {
    for seed in 0..200 {
        let mut random = Random(seed * 15_485_863 + 3);
        let profile = random_profile(&mut random, Mode::Words);
        let native = native_of(&profile);
        let program = compile(&profile, native).unwrap().program;
        let stub = EnosysStub::new(&profile, native);
        for data in samples(&profile, native, &mut random) {
            // socketcall(2) and ipc(2) stand for many names at once; libseccomp is the oracle for them.
            let through = data.arch == Arch::X86.audit() && matches!(data.nr, 102 | 117);
            if through || !is_of(&profile, native, &data) {
                continue;
            }
            let expected = match stub.takes(&data) {
                true => 0x5_0000 | libc::ENOSYS as u32,
                false => said(&profile, &data)[0],
            };
            let got = interp::run(&program, &data).unwrap();
            assert_eq!(got, expected, "got {got:#x}, expected {expected:#x}: {data:x?}\nseed {seed}\n{}", json(&about(&profile, &data)));
        }
    }
}

/// What libseccomp refuses as a contradiction, we refuse too.
#[test]
fn contradictions_are_refused() {
    let rule = |action: &str, args: &[(u32, u64, u64, &str)]| Syscall {
        names: vec!["kill".into()],
        action: action.into(),
        args: args.iter().map(|&(index, value, value_two, op)| SyscallArg { index, value, value_two, op: op.into() }).collect(),
        ..Syscall::default()
    };
    let (kill, trap) = ("SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP");
    for (first, second) in [
        (rule(kill, &[(0, 5, 0, "SCMP_CMP_EQ")]), rule(trap, &[(0, 5, 0, "SCMP_CMP_EQ")])),
        (rule(kill, &[(0, 5, 0, "SCMP_CMP_LT")]), rule(trap, &[(0, 5, 0, "SCMP_CMP_LT")])),
        (rule(kill, &[(0, 5, 0, "SCMP_CMP_EQ"), (1, 1, 0, "SCMP_CMP_EQ")]), rule(trap, &[(0, 5, 0, "SCMP_CMP_EQ")])),
    ] {
        let profile = Seccomp { default_action: "SCMP_ACT_ALLOW".into(), syscalls: vec![first, second], ..Seccomp::default() };
        assert!(!libseccomp_accepts(&profile));
        let err = compile(&profile, Arch::X86_64).unwrap_err().to_string();
        assert!(err.contains("/linux/seccomp/syscalls/1"), "{err}");
    }
}

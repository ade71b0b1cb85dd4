//! The shipped profiles: default.json is moby's, strict.json allows less.

#[path = "support/seccomp.rs"]
mod support;

use dhow::seccomp::interp::{self, Data};
use dhow::seccomp::{Arch, compile, names};
use dhow::spec::Seccomp;
use support::*;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x5_0001;
const ENOSYS: u32 = 0x5_0026;

fn shipped(name: &str) -> Seccomp {
    let path = format!("{}/seccomp-profiles/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn ask(profile: &Seccomp, native: Arch, arch: Arch, name: &str, args: [u64; 6]) -> u32 {
    let compiled = compile(profile, native).unwrap();
    assert_eq!(compiled.warnings, Vec::<String>::new());
    let nr = names::find(name).unwrap().number(arch).unwrap();
    let data = Data { nr, arch: arch.audit(), args };
    interp::run(&compiled.program, &data).unwrap()
}

#[test]
fn default_is_mobys() {
    let Some(moby) = moby_profile() else {
        eprintln!("skipped: moby's profile is not at hand; MOBY_PROFILE names it");
        return;
    };
    for native in [Arch::X86_64, Arch::Aarch64] {
        let ours = compile(&shipped("default.json"), native).unwrap();
        let theirs = compile(&moby.resolve(native, &[]), native).unwrap();
        assert_eq!(ours.program, theirs.program, "{native:?}");
        assert_eq!(ours.flags, theirs.flags);
    }
}

/// What must hold of the default profile wherever the tests run.
#[test]
fn default_in_short() {
    let profile = shipped("default.json");
    for (native, arch) in
        [(Arch::X86_64, Arch::X86_64), (Arch::X86_64, Arch::X86), (Arch::X86_64, Arch::X32), (Arch::Aarch64, Arch::Aarch64), (Arch::Aarch64, Arch::Arm)]
    {
        let ask = |name, first| ask(&profile, native, arch, name, [first, 0, 0, 0, 0, 0]);
        for name in ["read", "execve", "chroot", "statx", "futex", "ptrace"] {
            assert_eq!(ask(name, 0), ALLOW, "{name} on {arch:?}");
        }
        for name in ["mount", "bpf", "unshare", "setns", "keyctl", "open_by_handle_at"] {
            assert_eq!(ask(name, 0), EPERM, "{name} on {arch:?}");
        }
        assert_eq!(ask("clone3", 0), ENOSYS);
        assert_eq!(ask("clone", 0x11), ALLOW);
        assert_eq!(ask("clone", 0x1000_0000), EPERM, "CLONE_NEWUSER");
        assert_eq!(ask("personality", 8), ALLOW);
        assert_eq!(ask("personality", 9), EPERM);
        assert_eq!(ask("socket", 2), ALLOW);
        assert_eq!(ask("socket", 40), EPERM, "AF_VSOCK");
        assert_eq!(ask("socket", 38), EPERM, "AF_ALG");
    }
}

/// Whatever strict.json allows, default.json allows.
#[test]
fn strict_is_stricter() {
    let (strict, default) = (shipped("strict.json"), shipped("default.json"));
    for native in [Arch::X86_64, Arch::Aarch64] {
        let strict = compile(&strict, native).unwrap().program;
        let default = compile(&default, native).unwrap().program;
        let (mut fewer, mut more) = (0, 0);
        for row in names::all() {
            let Some(nr) = row.number(native) else {
                continue;
            };
            let arch = native.audit();
            let data = Data { nr, arch, args: [1, 0, 0, 0, 0, 0] };
            let allows = |program| interp::run(program, &data) == Ok(ALLOW);
            match (allows(&strict), allows(&default)) {
                (true, false) => panic!("{} on {native:?}", row.name()),
                (true, true) => fewer += 1,
                (false, true) => more += 1,
                _ => {}
            }
        }
        assert!(fewer > 150 && more > 60, "{fewer} allowed, {more} more by default");
    }
}

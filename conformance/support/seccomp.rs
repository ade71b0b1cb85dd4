//! What the seccomp tests share: libseccomp driven as runc drives it, runc's ENOSYS rule, what a profile's words mean.

#![allow(dead_code)]

use dhow::seccomp::interp::Data;
use dhow::seccomp::{Arch, Instruction, names};
use dhow::spec::{Seccomp, Syscall, SyscallArg};
use libseccomp::*;
use std::collections::BTreeSet;

mod moby;
mod random;

pub use moby::*;
pub use random::*;

pub fn json(profile: &Seccomp) -> String {
    serde_json::to_string(profile).unwrap()
}

/// Only the rules about the call in `data`.
pub fn about(profile: &Seccomp, data: &Data) -> Seccomp {
    let arches = [Arch::X86, Arch::X86_64, Arch::X32, Arch::Arm, Arch::Aarch64];
    let mut profile = profile.clone();
    for call in &mut profile.syscalls {
        call.names.retain(|name| {
            let row = names::find(name);
            arches.iter().any(|arch| {
                let number = row.and_then(|r| r.number(*arch));
                arch.audit() == data.arch && number == Some(data.nr)
            })
        });
    }
    profile.syscalls.retain(|call| !call.names.is_empty());
    profile
}

fn action(name: &str, errno: Option<u32>) -> ScmpAction {
    let errno = errno.unwrap_or(1);
    match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => ScmpAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => ScmpAction::KillProcess,
        "SCMP_ACT_TRAP" => ScmpAction::Trap,
        "SCMP_ACT_ERRNO" => ScmpAction::Errno(errno as i32),
        "SCMP_ACT_TRACE" => ScmpAction::Trace(errno as u16),
        "SCMP_ACT_ALLOW" => ScmpAction::Allow,
        "SCMP_ACT_LOG" => ScmpAction::Log,
        "SCMP_ACT_NOTIFY" => ScmpAction::Notify,
        other => panic!("{other}"),
    }
}

fn scmp_arch(name: &str) -> ScmpArch {
    match name {
        "SCMP_ARCH_X86" => ScmpArch::X86,
        "SCMP_ARCH_X86_64" => ScmpArch::X8664,
        "SCMP_ARCH_X32" => ScmpArch::X32,
        "SCMP_ARCH_ARM" => ScmpArch::Arm,
        "SCMP_ARCH_AARCH64" => ScmpArch::Aarch64,
        other => panic!("{other}"),
    }
}

fn comparison(arg: &SyscallArg) -> ScmpArgCompare {
    let (op, datum) = match arg.op.as_str() {
        "SCMP_CMP_NE" => (ScmpCompareOp::NotEqual, arg.value),
        "SCMP_CMP_LT" => (ScmpCompareOp::Less, arg.value),
        "SCMP_CMP_LE" => (ScmpCompareOp::LessOrEqual, arg.value),
        "SCMP_CMP_EQ" => (ScmpCompareOp::Equal, arg.value),
        "SCMP_CMP_GE" => (ScmpCompareOp::GreaterEqual, arg.value),
        "SCMP_CMP_GT" => (ScmpCompareOp::Greater, arg.value),
        "SCMP_CMP_MASKED_EQ" => (ScmpCompareOp::MaskedEqual(arg.value), arg.value_two),
        other => panic!("{other}"),
    };
    ScmpArgCompare::new(arg.index, op, datum)
}

fn context(profile: &Seccomp) -> ScmpFilterContext {
    let default = action(&profile.default_action, profile.default_errno_ret);
    let mut filter = ScmpFilterContext::new(default).unwrap();
    for name in &profile.architectures {
        filter.add_arch(scmp_arch(name)).unwrap();
    }
    // runc asks for the binary tree from 33 rules on. Without it libseccomp 2.5.4 forgets to load the number for an
    // architecture whose first call in its list is one that the architecture lacks (`recv` on x86), and compares the
    // architecture instead. With it, only an empty list goes wrong.
    if !profile.syscalls.is_empty() {
        filter.set_ctl_optimize(2).unwrap();
    }
    filter
}

/// runc's matchCall.
fn add(filter: &mut ScmpFilterContext, default: ScmpAction, call: &Syscall, name: &str) -> Result<(), error::SeccompError> {
    let action = action(&call.action, call.errno_ret);
    if action == default {
        return Ok(());
    }
    let Ok(number) = ScmpSyscall::from_name(name) else {
        return Ok(());
    };
    let args: Vec<ScmpArgCompare> = call.args.iter().map(comparison).collect();
    let indexes: BTreeSet<u32> = call.args.iter().map(|a| a.index).collect();
    if args.is_empty() {
        filter.add_rule(action, number)?;
    } else if indexes.len() < args.len() {
        for arg in args {
            filter.add_rule_conditional(action, number, &[arg])?;
        }
    } else {
        filter.add_rule_conditional(action, number, &args)?;
    }
    Ok(())
}

/// libseccomp's program for `profile`. The host is x86_64, so that one is always in it.
pub fn libseccomp_program(profile: &Seccomp) -> Vec<Instruction> {
    let mut filter = context(profile);
    let default = action(&profile.default_action, profile.default_errno_ret);
    for call in &profile.syscalls {
        for name in &call.names {
            add(&mut filter, default, call, name).unwrap_or_else(|e| panic!("{name}: {e}\n{}", json(profile)));
        }
    }
    let mut file = tempfile();
    filter.export_bpf(&mut file).unwrap();
    let mut bytes = Vec::new();
    use std::io::{Read, Seek};
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
        .chunks_exact(8)
        .map(|b| Instruction { code: u16::from_ne_bytes([b[0], b[1]]), jt: b[2], jf: b[3], k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]) })
        .collect()
}

fn tempfile() -> std::fs::File {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("dhow-oracle-{}-{n}", std::process::id()));
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

pub fn libseccomp_accepts(profile: &Seccomp) -> bool {
    let kept = accepted_by_libseccomp(profile.clone());
    kept.syscalls.len() == profile.syscalls.len()
}

/// Leave out the rules (of one name each) that libseccomp refuses, because they contradict earlier ones.
pub fn accepted_by_libseccomp(mut profile: Seccomp) -> Seccomp {
    let mut filter = context(&profile);
    let default = action(&profile.default_action, profile.default_errno_ret);
    profile.syscalls.retain(|call| {
        let [name] = call.names.as_slice() else { panic!("one name a rule") };
        add(&mut filter, default, call, name).is_ok()
    });
    profile
}

/// Leave out the names that the installed libseccomp is too old to know.
pub fn known_to_libseccomp(mut profile: Seccomp) -> Seccomp {
    for call in &mut profile.syscalls {
        call.names.retain(|name| is_known(name));
    }
    profile
}

/// Whether libseccomp knows the call, and on the same architectures as we do.
pub fn is_known(name: &str) -> bool {
    let Some(row) = names::find(name) else {
        return false;
    };
    [Arch::X86, Arch::X86_64, Arch::X32, Arch::Arm, Arch::Aarch64].into_iter().all(|arch| {
        match ScmpSyscall::from_name_by_arch(name, scmp_arch(arch_name(arch))) {
            Ok(n) if n.as_raw_syscall() >= 0 => true,
            Ok(_) => row.number(arch).is_none() || row.multiplexed().is_some(),
            Err(_) => false,
        }
    })
}

pub fn arch_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X86 => "SCMP_ARCH_X86",
        Arch::X86_64 => "SCMP_ARCH_X86_64",
        Arch::X32 => "SCMP_ARCH_X32",
        Arch::Arm => "SCMP_ARCH_ARM",
        Arch::Aarch64 => "SCMP_ARCH_AARCH64",
    }
}

pub fn family(native: Arch) -> &'static [Arch] {
    match native {
        Arch::Aarch64 => &[Arch::Aarch64, Arch::Arm],
        _ => &[Arch::X86_64, Arch::X86, Arch::X32],
    }
}

/// The profile with only the architectures of `native`'s family, and that one among them.
pub fn for_family(profile: &Seccomp, native: Arch) -> Seccomp {
    let mut profile = profile.clone();
    let family: Vec<&str> = family(native).iter().map(|a| arch_name(*a)).collect();
    profile.architectures.retain(|a| family.contains(&a.as_str()));
    if !profile.architectures.iter().any(|a| a == family[0]) {
        profile.architectures.push(family[0].into());
    }
    profile
}

/// x86_64 unless the profile is about Arm.
pub fn native_of(profile: &Seccomp) -> Arch {
    match profile.architectures.iter().any(|a| a == "SCMP_ARCH_AARCH64") {
        true => Arch::Aarch64,
        false => Arch::X86_64,
    }
}

/// runc's ENOSYS stub, from libcontainer/seccomp/patchbpf, for what comes before libseccomp's program.
pub struct EnosysStub(Vec<(Arch, u32)>);

impl EnosysStub {
    pub fn new(profile: &Seccomp, native: Arch) -> Self {
        let permissive = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"];
        if permissive.contains(&profile.default_action.as_str()) {
            return EnosysStub(Vec::new());
        }
        let listed = |arch: &&Arch| **arch == native || profile.architectures.iter().any(|a| a == arch_name(**arch));
        let newest = |arch: Arch| {
            let names = profile.syscalls.iter().flat_map(|c| &c.names);
            let numbers = names.filter_map(|name| {
                let number = ScmpSyscall::from_name_by_arch(name, scmp_arch(arch_name(arch))).ok()?;
                // Not runc's: see decision::newest.
                if let (Arch::X86, Some(row)) = (arch, names::find(name))
                    && let Some(call) = row.multiplexed()
                {
                    return Some(row.number(arch).unwrap_or(0).max(call.through));
                }
                u32::try_from(number.as_raw_syscall()).ok()
            });
            numbers.max().filter(|n| *n > 0)
        };
        let arches = family(native).iter().filter(listed);
        EnosysStub(arches.filter_map(|a| Some((*a, newest(*a)?))).collect())
    }

    pub fn takes(&self, data: &Data) -> bool {
        let x32 = data.nr & names::X32_BIT != 0;
        self.0.iter().any(|(arch, newest)| {
            let mode = match arch {
                Arch::X86_64 => !x32,
                Arch::X32 => x32,
                _ => true,
            };
            arch.audit() == data.arch && mode && data.nr > *newest
        })
    }
}

const EDGES: [u32; 14] = [
    0x3fff_ffff,
    0x4000_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xbfff_ffff,
    0xc000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0xe_ffff,
    0xf_0001,
    0xf_0005,
    0xf_0006,
    1023,
    1024,
];

/// Each number of each architecture (of small profiles fewer); for those with conditions, arguments at and around the values compared.
pub fn samples(profile: &Seccomp, native: Arch, random: &mut Random) -> Vec<Data> {
    let mut out = Vec::new();
    for &arch in family(native).iter().chain(&[Arch::Arm, Arch::X86]) {
        let base = if arch == Arch::X32 { names::X32_BIT } else { 0 };
        let step = if profile.syscalls.len() < 12 { 7 } else { 1 };
        for nr in (base..base + 620).step_by(step).chain(EDGES) {
            out.push(Data { nr, arch: arch.audit(), args: [0; 6] });
        }
        for (number, values) in compared(profile, arch) {
            for _ in 0..48 {
                let mut args = [0; 6];
                for (arg, values) in args.iter_mut().zip(&values) {
                    *arg = random.pick(values);
                }
                out.push(Data { nr: number, arch: arch.audit(), args });
            }
        }
    }
    out.push(Data { nr: 0, arch: 0xdead_beef, args: [0; 6] });
    out
}

/// For each number that rules with conditions are about: the values of interest of each argument.
fn compared(profile: &Seccomp, arch: Arch) -> Vec<(u32, [Vec<u64>; 6])> {
    let mut out: std::collections::BTreeMap<u32, [Vec<u64>; 6]> = Default::default();
    for call in &profile.syscalls {
        for name in &call.names {
            let Some(row) = names::find(name) else {
                continue;
            };
            let through = row.multiplexed().filter(|_| arch == Arch::X86);
            if call.args.is_empty() && through.is_none() {
                continue;
            }
            let numbers = row.number(arch).into_iter().chain(through.map(|t| t.through));
            for number in numbers {
                let values = out.entry(number).or_insert_with(|| std::array::from_fn(|_| vec![0, 1, u64::MAX]));
                values[0].extend(through.map(|t| u64::from(t.number)));
                for arg in &call.args {
                    let around = |v: u64| [v, v.wrapping_sub(1), v.wrapping_add(1), v ^ (1 << 32)];
                    let list = &mut values[arg.index as usize];
                    list.extend(around(arg.value));
                    list.extend(around(arg.value_two));
                    list.extend([arg.value & 0xffff_ffff, arg.value << 32, !arg.value]);
                    list.push(arg.value_two | !arg.value);
                }
            }
        }
    }
    out.into_iter().collect()
}

/// Whether `data` is a call of an architecture that the profile covers.
pub fn is_of(profile: &Seccomp, native: Arch, data: &Data) -> bool {
    let arch = match (data.arch, data.nr & names::X32_BIT != 0) {
        (0xc000_003e, true) if data.nr == u32::MAX => return true,
        (0xc000_003e, true) => Arch::X32,
        (0xc000_003e, false) if data.nr >> 31 == 1 => return false,
        _ => match family(native).iter().find(|a| a.audit() == data.arch) {
            Some(arch) => *arch,
            None => return false,
        },
    };
    arch == native || profile.architectures.iter().any(|a| a == arch_name(arch))
}

/// What the profile's words allow for `data`: the actions of the rules that match, else the default.
pub fn said(profile: &Seccomp, data: &Data) -> Vec<u32> {
    let wide = data.arch & 0x8000_0000 != 0 && data.nr & names::X32_BIT == 0;
    let bits = if wide { u64::MAX } else { 0xffff_ffff };
    let holds = |arg: &SyscallArg| {
        let (actual, value) = (data.args[arg.index as usize] & bits, arg.value & bits);
        match arg.op.as_str() {
            "SCMP_CMP_NE" => actual != value,
            "SCMP_CMP_LT" => actual < value,
            "SCMP_CMP_LE" => actual <= value,
            "SCMP_CMP_EQ" => actual == value,
            "SCMP_CMP_GE" => actual >= value,
            "SCMP_CMP_GT" => actual > value,
            _ => actual & value == arg.value_two & value,
        }
    };
    let default = value(&profile.default_action, profile.default_errno_ret);
    let mut actions: Vec<u32> = Vec::new();
    for call in &about(profile, data).syscalls {
        let indexes: BTreeSet<u32> = call.args.iter().map(|a| a.index).collect();
        let matches = match indexes.len() < call.args.len() {
            true => call.args.iter().any(holds),
            false => call.args.iter().all(holds),
        };
        let action = value(&call.action, call.errno_ret);
        // runc leaves out rules whose action is the default one.
        if matches && action != default {
            actions.push(action);
        }
    }
    if actions.is_empty() {
        actions.push(default);
    }
    actions
}

fn value(action: &str, errno: Option<u32>) -> u32 {
    let errno = errno.unwrap_or(1);
    match action {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x3_0000,
        "SCMP_ACT_ERRNO" => 0x5_0000 | errno,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | errno,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        other => panic!("{other}"),
    }
}

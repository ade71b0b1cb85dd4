//! What the seccomp tests share: libseccomp driven as runc drives it, runc's ENOSYS rule, moby's profile, samples.

#![allow(dead_code)]

use dhow::seccomp::interp::Data;
use dhow::seccomp::{Arch, Instruction, names};
use dhow::spec::{Seccomp, Syscall, SyscallArg};
use libseccomp::*;
use std::collections::BTreeSet;

/// SplitMix64: the same numbers on each run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

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
    let count: usize = profile.syscalls.iter().map(|c| c.names.len()).sum();
    if count > 32 {
        filter.set_ctl_optimize(2).unwrap();
    }
    filter
}

/// runc's matchCall.
fn add(
    filter: &mut ScmpFilterContext,
    default: ScmpAction,
    call: &Syscall,
    name: &str,
) -> Result<(), error::SeccompError> {
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
            add(&mut filter, default, call, name)
                .unwrap_or_else(|e| panic!("{name}: {e}\n{}", json(profile)));
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
        .map(|b| Instruction {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        })
        .collect()
}

fn tempfile() -> std::fs::File {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("dhow-oracle-{}-{n}", std::process::id()));
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
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
        let [name] = call.names.as_slice() else {
            panic!("one name a rule")
        };
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
    [Arch::X86, Arch::X86_64, Arch::X32, Arch::Arm, Arch::Aarch64]
        .into_iter()
        .all(|arch| {
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

fn family(native: Arch) -> &'static [Arch] {
    match native {
        Arch::Aarch64 => &[Arch::Aarch64, Arch::Arm],
        _ => &[Arch::X86_64, Arch::X86, Arch::X32],
    }
}

/// The profile with only the architectures of `native`'s family, and that one among them.
pub fn for_family(profile: &Seccomp, native: Arch) -> Seccomp {
    let mut profile = profile.clone();
    let family: Vec<&str> = family(native).iter().map(|a| arch_name(*a)).collect();
    profile
        .architectures
        .retain(|a| family.contains(&a.as_str()));
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
        let listed = |arch: &&Arch| {
            **arch == native || profile.architectures.iter().any(|a| a == arch_name(**arch))
        };
        let newest = |arch: Arch| {
            let names = profile.syscalls.iter().flat_map(|c| &c.names);
            let numbers = names.filter_map(|name| {
                let number =
                    ScmpSyscall::from_name_by_arch(name, scmp_arch(arch_name(arch))).ok()?;
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
            out.push(Data {
                nr,
                arch: arch.audit(),
                args: [0; 6],
            });
        }
        for (number, values) in compared(profile, arch) {
            for _ in 0..48 {
                let mut args = [0; 6];
                for (arg, values) in args.iter_mut().zip(&values) {
                    *arg = random.pick(values);
                }
                out.push(Data {
                    nr: number,
                    arch: arch.audit(),
                    args,
                });
            }
        }
    }
    out.push(Data {
        nr: 0,
        arch: 0xdead_beef,
        args: [0; 6],
    });
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
                let values = out
                    .entry(number)
                    .or_insert_with(|| std::array::from_fn(|_| vec![0, 1, u64::MAX]));
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

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each call has one action; only what libseccomp compiles rightly.
    OneAction,
    /// Each rule has its own action; only what libseccomp compiles rightly.
    Rivals,
    /// Each call has one action; anything the spec can say.
    Words,
}

const ACTIONS: [&str; 8] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
];

const OPS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

fn random_value(random: &mut Random) -> u64 {
    match random.below(8) {
        0..=3 => random.below(8),
        4 => 0xffff_ffff,
        5 => (random.below(3) << 32) | random.below(4),
        6 => 1 << random.below(64),
        _ => random.next(),
    }
}

fn random_args(random: &mut Random, most: u64, mode: Mode, alone: bool) -> Vec<SyscallArg> {
    // Rivals keep to what libseccomp orders as it means to: high words of 0 if there are several rules.
    let bits = if alone || mode != Mode::Rivals { u64::MAX } else { 0xffff_ffff };
    let count = random.below(most + 1);
    let mut args: Vec<SyscallArg> = Vec::new();
    for _ in 0..count {
        let index = random.below(3) as u32 * 2 % 5;
        let again = args.iter().any(|a| a.index == index);
        if again && random.below(4) != 0 {
            continue;
        }
        args.push(SyscallArg {
            index,
            value: random_value(random) & bits,
            value_two: random_value(random) & bits,
            op: random.pick(&OPS).into(),
        });
    }
    // libseccomp shares the branches behind a 64-bit NE, LT, LE, GE or GT, so that a second rule which goes on there
    // gets into the first one, or makes its tree a circle on which it runs for ever. Such conditions come last here.
    let last = args.iter().map(|a| a.index).max();
    let only_equal = mode == Mode::Rivals && !alone && random.below(2) == 0;
    if mode == Mode::Rivals && !alone && !only_equal {
        args.truncate(1);
        args.iter_mut().for_each(|a| a.index = 1);
    } else if mode != Mode::Words {
        let early = args.iter_mut().filter(|a| only_equal || Some(a.index) != last);
        for arg in early.filter(|a| a.op != "SCMP_CMP_MASKED_EQ") {
            arg.op = "SCMP_CMP_EQ".into();
        }
    }
    args
}

pub fn random_profile(random: &mut Random, mode: Mode) -> Seccomp {
    let architectures: &[&str] = random.pick(&[
        &[] as &[&str],
        &["SCMP_ARCH_X86_64"],
        &["SCMP_ARCH_X86"],
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        &["SCMP_ARCH_X32"],
        &["SCMP_ARCH_AARCH64"],
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    ]);
    let mut pool: Vec<&str> = names::all()
        .iter()
        .map(|r| r.name)
        .filter(|n| *n != "write" && is_known(n))
        .collect();
    let most = if random.below(4) == 0 { 120 } else { 12 };
    let calls = 1 + random.below(most);
    let mut syscalls = Vec::new();
    for _ in 0..calls {
        let name = random.pick(&pool).to_string();
        pool.retain(|n| *n != name || mode == Mode::Words);
        let mut chosen = (random.pick(&ACTIONS), random.below(40) as u32);
        let rules = 1 + random.below(4);
        for _ in 0..rules {
            if mode == Mode::Rivals {
                chosen = (random.pick(&ACTIONS), random.below(40) as u32);
            }
            let takes_errno = matches!(chosen.0, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE");
            let mut args = random_args(random, 3, mode, rules == 1);
            if mode == Mode::Rivals {
                // libseccomp may take one half of a rule that runc splits, and refuse the other.
                args.sort_by_key(|a| a.index);
                args.dedup_by_key(|a| a.index);
            }
            syscalls.push(Syscall {
                names: vec![name.clone()],
                action: chosen.0.into(),
                errno_ret: takes_errno.then_some(chosen.1),
                args,
            });
        }
    }
    // Two draws of one name must not quarrel where each name is to have one action.
    if mode != Mode::Rivals {
        let mut seen: std::collections::BTreeMap<String, (String, Option<u32>)> =
            Default::default();
        for call in &mut syscalls {
            let first = seen
                .entry(call.names[0].clone())
                .or_insert((call.action.clone(), call.errno_ret));
            (call.action, call.errno_ret) = first.clone();
        }
    }
    let default = random.pick(&ACTIONS[..7]);
    let takes_errno = matches!(default, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE");
    Seccomp {
        default_action: default.into(),
        default_errno_ret: (takes_errno && random.below(2) == 0).then_some(38),
        architectures: architectures.iter().map(|a| a.to_string()).collect(),
        listener_path: "/run/listener".into(),
        syscalls,
        ..Seccomp::default()
    }
}

/// moby's profile in its own format, if its repository is there.
pub struct Moby(serde_json::Value);

pub fn moby_profile() -> Option<Moby> {
    let path = std::env::var("MOBY_PROFILE")
        .unwrap_or_else(|_| "/tmp/src/profiles/seccomp/default.json".into());
    let text = std::fs::read(path).ok()?;
    Some(Moby(serde_json::from_slice(&text).unwrap()))
}

/// Docker's default capabilities.
pub const DOCKER_CAPS: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

impl Moby {
    /// What dockerd would write into config.json, on a kernel of today, for Docker's capabilities and `more`.
    pub fn resolve(&self, native: Arch, more: &[&str]) -> Seccomp {
        let native_go = if native == Arch::Aarch64 { "arm64" } else { "amd64" };
        let strings = |v: &serde_json::Value| -> Vec<String> {
            serde_json::from_value(v.clone()).unwrap_or_default()
        };
        let has = |cap: &String| DOCKER_CAPS.contains(&&**cap) || more.contains(&&**cap);
        let applies = |rule: &serde_json::Value| {
            let (inc, exc) = (&rule["includes"], &rule["excludes"]);
            let arches = strings(&inc["arches"]);
            let included = (arches.is_empty() || arches.iter().any(|a| a == native_go))
                && strings(&inc["caps"]).iter().all(has);
            let excluded = strings(&exc["arches"]).iter().any(|a| a == native_go)
                || strings(&exc["caps"]).iter().any(has)
                || !exc["minKernel"].is_null();
            included && !excluded
        };
        let rules = self.0["syscalls"].as_array().unwrap();
        let mut value = self.0.clone();
        value["syscalls"] = rules.iter().filter(|r| applies(r)).cloned().collect();
        let mut profile: Seccomp = serde_json::from_value(value).unwrap();
        profile.architectures = family(native)
            .iter()
            .map(|a| arch_name(*a).to_string())
            .collect();
        profile
    }
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

//! Random profiles, the same on each run.

use super::is_known;
use dhow::seccomp::names;
use dhow::spec::{Seccomp, Syscall, SyscallArg};

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

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each call has one action; only what libseccomp compiles rightly.
    OneAction,
    /// Each rule has its own action; only what libseccomp compiles rightly.
    Rivals,
    /// Each call has one action; anything the spec can say.
    Words,
}

const ACTIONS: [&str; 8] =
    ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY"];

const OPS: [&str; 7] = ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"];

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
        args.push(SyscallArg { index, value: random_value(random) & bits, value_two: random_value(random) & bits, op: random.pick(&OPS).into() });
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
    let mut pool: Vec<&str> = names::all().iter().map(|r| r.name()).filter(|n| *n != "write" && is_known(n)).collect();
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
            syscalls.push(Syscall { names: vec![name.clone()], action: chosen.0.into(), errno_ret: takes_errno.then_some(chosen.1), args });
        }
    }
    // Two draws of one name must not quarrel where each name is to have one action.
    if mode != Mode::Rivals {
        let mut seen: std::collections::BTreeMap<String, (String, Option<u32>)> = Default::default();
        for call in &mut syscalls {
            let first = seen.entry(call.names[0].clone()).or_insert((call.action.clone(), call.errno_ret));
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

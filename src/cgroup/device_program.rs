//! v2 has no files for device rules: an eBPF program is asked at each open and mknod (cgroup-v2.rst § Device
//! controller). This makes one of a [`RuleSet`], and puts it in the place of those that are there.

use super::devices::{Devices, Kind, RuleSet, access};
use crate::sys::bpf::{self, BpfInsn};
use crate::sys::{self, Errno};
use crate::{Error, Result};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

// linux/bpf_common.h and linux/bpf.h: the few instructions that are needed.
const LOAD_WORD: u8 = 0x61; // LDX | MEM | W
const AND: u8 = 0x54; // ALU32 | AND | K
const MOVE: u8 = 0xbc; // ALU32 | MOV | X
const SET: u8 = 0xb4; // ALU32 | MOV | K
const JUMP: u8 = 0x05; // JMP | JA
const JUMP_IF_EQUAL: u8 = 0x15; // JMP | JEQ | K
const JUMP_IF_ANY: u8 = 0x45; // JMP | JSET | K
const JUMP_UNLESS_EQUAL: u8 = 0x55; // JMP | JNE | K
const EXIT: u8 = 0x95;

// linux/bpf.h, struct bpf_cgroup_dev_ctx { access_type, major, minor }, access_type = access << 16 | kind.
const KIND_BLOCK: i32 = 1;
const KIND_CHAR: i32 = 2;
const ACCESS_SHIFT: u32 = 16;

// Registers: 0 the answer, 1 the context, 2 access and kind, 3 kind, 4 major, 5 minor.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const fn insn(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> BpfInsn {
    BpfInsn { code, registers: to | from << 4, offset, immediate }
}

/// The program: a tree by kind, major and minor number whose leaves jump to one answer; who falls through all of it
/// gets the default. Few instructions and few branches, since the verifier walks each (it is the dearest step of
/// making a cgroup). None if it needs jumps longer than there are.
pub fn emit(rules: &RuleSet) -> Option<Vec<BpfInsn>> {
    let mut program = Program {
        insns: vec![
            insn(LOAD_WORD, ACCESS, CONTEXT, 0, 0),
            insn(MOVE, KIND, ACCESS, 0, 0),
            insn(AND, KIND, 0, 0, 0xffff),
            insn(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
            insn(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        ],
        to_exception: Vec::new(),
        default_allow: rules.default_allow,
    };
    let mut exceptions: Vec<_> = rules.exceptions.iter().filter_map(|(devices, bits)| Exception::new(devices, *bits)).collect();
    exceptions.sort_unstable();
    for of_kind in exceptions.chunk_by(|a, b| a.kind == b.kind) {
        // The verifier takes no instruction that nobody reaches, as those behind an exception for all would be.
        let of_kind = if of_kind[0].major.is_none() { until_all(of_kind) } else { of_kind };
        program.if_equal(KIND, Some(of_kind[0].kind), |program| {
            for of_major in of_kind.chunk_by(|a, b| a.major == b.major) {
                let tests = |program: &mut Program| until_all(of_major).iter().try_for_each(|e| program.test(e));
                program.if_equal(MAJOR, of_major[0].major, tests)?;
            }
            Some(())
        })?;
    }
    program.answer(rules.default_allow);
    if !program.to_exception.is_empty() {
        for at in std::mem::take(&mut program.to_exception) {
            program.land(at)?;
        }
        program.answer(!rules.default_allow);
    }
    Some(program.insns)
}

/// The first exception alone, if it is for all minors and all access; none of the others says more.
fn until_all(exceptions: &[Exception]) -> &[Exception] {
    match exceptions {
        [first, ..] if first.minor.is_none() && first.bits == access::ALL => &exceptions[..1],
        _ => exceptions,
    }
}

/// [`Devices`] with numbers that an instruction compares with, in the order of the tree.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Exception {
    kind: i32,
    major: Option<i32>,
    minor: Option<i32>,
    bits: u8,
}

impl Exception {
    /// A jump compares with 32 bits, sign-extended; numbers that don't fit are none of the kernel's (20 bits).
    fn new(devices: &Devices, bits: u8) -> Option<Exception> {
        let number = |n: Option<u32>| n.map(i32::try_from).transpose().ok();
        let kind = if devices.kind == Kind::Block { KIND_BLOCK } else { KIND_CHAR };
        Some(Exception { kind, major: number(devices.major)?, minor: number(devices.minor)?, bits })
    }
}

struct Program {
    insns: Vec<BpfInsn>,
    /// The jumps whose target is the answer that is not the default.
    to_exception: Vec<usize>,
    default_allow: bool,
}

impl Program {
    /// `then` for those of whom `register` is `value`; None is any value.
    fn if_equal(&mut self, register: u8, value: Option<i32>, then: impl FnOnce(&mut Program) -> Option<()>) -> Option<()> {
        let Some(value) = value else { return then(self) };
        let at = self.insns.len();
        self.insns.push(insn(JUMP_UNLESS_EQUAL, register, 0, 0, value));
        then(self)?;
        self.land(at)
    }

    /// The jump at `at` leads here.
    fn land(&mut self, at: usize) -> Option<()> {
        self.insns[at].offset = i16::try_from(self.insns.len() - at - 1).ok()?;
        Some(())
    }

    fn jump_to_exception(&mut self, code: u8, register: u8, immediate: i32) {
        self.to_exception.push(self.insns.len());
        self.insns.push(insn(code, register, 0, 0, immediate));
    }

    fn test(&mut self, exception: &Exception) -> Option<()> {
        match exception.minor {
            Some(minor) if exception.bits == access::ALL => {
                self.jump_to_exception(JUMP_IF_EQUAL, MINOR, minor);
                Some(())
            }
            minor => self.if_equal(MINOR, minor, |program| program.test_access(exception.bits)),
        }
    }

    /// An exception from "deny" must cover all access that is asked for; one from "allow" denies if it covers any of it
    /// (as v1's: security/device_cgroup.c, match_exception and match_exception_partial). runc lets a device opened for
    /// reading and writing pass a rule that denies writing alone.
    fn test_access(&mut self, bits: u8) -> Option<()> {
        let mask = |bits: u8| i32::from(bits) << ACCESS_SHIFT;
        if bits == access::ALL {
            self.jump_to_exception(JUMP, 0, 0);
        } else if self.default_allow {
            self.jump_to_exception(JUMP_IF_ANY, ACCESS, mask(bits));
        } else {
            let at = self.insns.len();
            self.insns.push(insn(JUMP_IF_ANY, ACCESS, 0, 0, mask(access::ALL & !bits)));
            self.jump_to_exception(JUMP, 0, 0);
            self.land(at)?;
        }
        Some(())
    }

    fn answer(&mut self, allow: bool) {
        self.insns.extend([insn(SET, ANSWER, 0, 0, allow.into()), insn(EXIT, 0, 0, 0, 0)]);
    }
}

/// Load the program, attach it, and detach what was there before: systemd's, or our own.
pub fn set_v2(dir: &Path, rules: &RuleSet) -> Result<()> {
    let shown = dir.display().to_string();
    let cgroup = File::open(dir).map_err(|e| Error::io(&e, "opening the cgroup", &shown))?;
    let fail = |call| move |e: Errno| e.error("bpf", format!("setting /linux/resources/devices: {call} for"), dir.display().to_string());
    const NEEDS: &str = "loading a device program needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN";
    let old = attached(cgroup.as_fd()).map_err(|e| match e.0 {
        libc::EPERM => fail("BPF_PROG_QUERY")(e).hint(NEEDS),
        _ => fail("BPF_PROG_QUERY")(e),
    })?;
    let Some(program) = emit(rules) else {
        let cause = format!("{} rules make too long a program; name whole majors instead of single devices", rules.exceptions.iter().count());
        return Err(Error::invalid("/linux/resources/devices", cause));
    };
    let program = load(&program).map_err(|(e, log)| {
        let error = fail("BPF_PROG_LOAD")(e);
        match e.0 {
            libc::EPERM => error.hint(NEEDS),
            libc::EINVAL | libc::ENOSYS => error.hint(format!("the kernel needs CONFIG_CGROUP_BPF and Linux 4.15; its verifier says: {log:?}")),
            _ => error,
        }
    })?;
    // In one step where it can be had, so that there is no moment with two programs, or none.
    if let [only] = &old[..]
        && bpf::attach_device_program(cgroup.as_fd(), program.as_fd(), Some(only.as_fd())).is_ok()
    {
        return Ok(());
    }
    bpf::attach_device_program(cgroup.as_fd(), program.as_fd(), None).map_err(fail("BPF_PROG_ATTACH"))?;
    old.iter().try_for_each(|program| bpf::detach_device_program(cgroup.as_fd(), program.as_fd())).map_err(fail("BPF_PROG_DETACH"))
}

/// The programs of this cgroup. One that an LSM keeps from us stays: it can only restrict further.
fn attached(cgroup: BorrowedFd) -> sys::Result<Vec<OwnedFd>> {
    let mut programs = Vec::new();
    for id in bpf::attached_device_programs(cgroup)? {
        match bpf::program_by_id(id) {
            Ok(program) => programs.push(program),
            Err(Errno(libc::EPERM | libc::EACCES | libc::ENOENT)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(programs)
}

/// The error comes with the verifier's last words.
fn load(program: &[BpfInsn]) -> Result<OwnedFd, (Errno, String)> {
    let first = match bpf::load_device_program(program, &mut []) {
        Ok(fd) => return Ok(fd),
        Err(e) => e,
    };
    if first == Errno(libc::EPERM) {
        return bpf::with_memlock_lifted(|| bpf::load_device_program(program, &mut [])).map_err(|e| (e, String::new()));
    }
    let mut log = vec![0; 64 << 10];
    bpf::load_device_program(program, &mut log).map_err(|_| {
        let text = String::from_utf8_lossy(&log);
        let words = text.trim_end_matches('\0').trim_end();
        (first, words.lines().last().unwrap_or_default().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::DeviceRule;

    /// A device and what is to be done with it.
    #[derive(Debug, Clone, Copy)]
    struct Wish {
        kind: Kind,
        access: u8,
        major: u32,
        minor: u32,
    }

    /// Runs the program as the kernel would: every jump must lead forwards, inside, and it must end in an exit.
    fn run(program: &[BpfInsn], wish: Wish) -> bool {
        let kind = if wish.kind == Kind::Block { KIND_BLOCK } else { KIND_CHAR };
        let context = [(wish.access as u32) << 16 | kind as u32, wish.major, wish.minor];
        let mut registers = [0u64; 11];
        let mut at = 0;
        loop {
            let i = program[at];
            let (to, from) = ((i.registers & 15) as usize, (i.registers >> 4) as usize);
            let immediate = i.immediate as i64 as u64;
            at += 1;
            match i.code {
                LOAD_WORD => {
                    assert_eq!(from, 1);
                    registers[to] = context[i.offset as usize / 4].into();
                }
                AND => registers[to] = (registers[to] as u32 & i.immediate as u32).into(),
                MOVE => registers[to] = registers[from] as u32 as u64,
                SET => registers[to] = i.immediate as u32 as u64,
                JUMP_UNLESS_EQUAL if registers[to] != immediate => at += i.offset as usize,
                JUMP_IF_EQUAL if registers[to] == immediate => at += i.offset as usize,
                JUMP_IF_ANY if registers[to] & immediate != 0 => at += i.offset as usize,
                JUMP => at += i.offset as usize,
                JUMP_UNLESS_EQUAL | JUMP_IF_EQUAL | JUMP_IF_ANY => {}
                EXIT => return registers[0] == 1,
                other => panic!("instruction {other:#x} is not emitted"),
            }
        }
    }

    /// What v1's documentation says, with no cleverness: a list of exceptions in the order of the rules.
    fn judge(rules: &[DeviceRule], wish: Wish) -> bool {
        let mut allow = false;
        let mut exceptions: Vec<(DeviceRule, u8)> = Vec::new();
        let same = |a: &DeviceRule, b: &DeviceRule| (&a.kind, a.major, a.minor) == (&b.kind, b.major, b.minor);
        let bits = |r: &DeviceRule| {
            r.access
                .chars()
                .map(|c| {
                    if c == 'r' {
                        2
                    } else if c == 'w' {
                        4
                    } else {
                        1
                    }
                })
                .sum::<u8>()
        };
        for rule in rules {
            if rule.kind == "a" {
                allow = rule.allow;
                exceptions.clear();
            } else if rule.allow == allow {
                exceptions.iter_mut().filter(|(e, _)| same(e, rule)).for_each(|(_, held)| *held &= !bits(rule));
            } else if let Some((_, held)) = exceptions.iter_mut().find(|(e, _)| same(e, rule)) {
                *held |= bits(rule);
            } else {
                exceptions.push((rule.clone(), bits(rule)));
            }
        }
        let matched = exceptions.iter().any(|(e, held)| {
            let device = (e.kind == "b") == (wish.kind == Kind::Block)
                && e.major.is_none_or(|n| n == i64::from(wish.major))
                && e.minor.is_none_or(|n| n == i64::from(wish.minor));
            device && if allow { held & wish.access != 0 } else { wish.access & !held == 0 }
        });
        matched != allow
    }

    /// xorshift: the same sequence each time.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % sides
        }

        fn rule(&mut self) -> DeviceRule {
            let kind = ["a", "b", "c", "b", "c", "c", "b", "c"][self.roll(8) as usize];
            let number = |n: u64| (n < 3).then_some(n as i64);
            let (major, minor) = (number(self.roll(4)), number(self.roll(4)));
            let access = ["r", "w", "m", "rw", "rm", "wm", "rwm", "rwm"][self.roll(8) as usize];
            DeviceRule { allow: self.roll(3) != 0, kind: kind.into(), major, minor, access: access.into() }
        }
    }

    #[test]
    fn programs_answer_as_the_rules_say() {
        let mut dice = Dice(0x9e3779b97f4a7c15);
        let (mut judged, mut both) = (0, [0, 0]);
        while judged < 3000 {
            let rules: Vec<_> = (0..dice.roll(8)).map(|_| dice.rule()).collect();
            let Ok(set) = RuleSet::build(&rules) else { continue };
            judged += 1;
            let program = emit(&set).unwrap();
            for case in 0..2 * 7 * 4 * 4 {
                let kind = if case & 1 == 0 { Kind::Block } else { Kind::Char };
                let wish = Wish { kind, access: (case / 2 % 7 + 1) as u8, major: case / 14 % 4, minor: case / 56 % 4 };
                let answer = run(&program, wish);
                assert_eq!(answer, judge(&rules, wish), "{rules:?} {wish:?}");
                both[answer as usize] += 1;
            }
        }
        assert!(both[0] > 10_000 && both[1] > 10_000, "{both:?}");
    }

    #[test]
    fn denying_to_write_denies_to_read_and_write() {
        let rules = [("a", true, None, "rwm"), ("b", false, Some(8), "w")].map(|(kind, allow, major, access)| DeviceRule {
            allow,
            kind: kind.into(),
            major,
            minor: None,
            access: access.into(),
        });
        let program = emit(&RuleSet::build(&rules).unwrap()).unwrap();
        let wish = |access| Wish { kind: Kind::Block, access, major: 8, minor: 1 };
        assert!(run(&program, wish(access::READ)));
        assert!(!run(&program, wish(access::READ | access::WRITE)));
    }

    #[test]
    fn numbers_beyond_the_kernels_match_nothing() {
        let huge = Devices { kind: Kind::Char, major: Some(u32::MAX), minor: None };
        let set = RuleSet { default_allow: false, exceptions: [(huge, access::ALL)].into_iter().collect() };
        assert_eq!(emit(&set), emit(&RuleSet::default()));
    }

    #[test]
    fn a_program_beyond_the_longest_jump_is_none() {
        let one = |n: u32| (Devices { kind: Kind::Char, major: Some(n / 256), minor: Some(n % 256) }, access::READ);
        let of = |count: u32| RuleSet { default_allow: false, exceptions: (0..count).map(one).collect() };
        assert!(emit(&of(10_000)).is_some());
        assert_eq!(emit(&of(20_000)), None);
    }

    /// Each instruction and each branch is paid for at every start.
    #[test]
    fn the_default_rules_make_a_short_program() {
        let program = emit(&RuleSet::build(&super::super::devices::default_rules()).unwrap()).unwrap();
        let branches = program.iter().filter(|i| [JUMP_IF_EQUAL, JUMP_IF_ANY, JUMP_UNLESS_EQUAL].contains(&i.code)).count();
        assert!(program.len() <= 32 && branches <= 18, "{} instructions, {branches} branches", program.len());
    }

    #[test]
    fn the_verifier_takes_it() {
        // Only root may ask it.
        if sys::process::geteuid() != 0 {
            return;
        }
        let devices = |major, minor| Devices { kind: Kind::Block, major, minor };
        let some = [(devices(None, None), access::READ), (devices(Some(8), None), access::ALL), (devices(Some(8), Some(1)), access::WRITE)];
        let all = [(devices(None, None), access::ALL), (devices(None, Some(1)), access::READ), (devices(Some(8), None), access::ALL)];
        let sets = [false, true].into_iter().flat_map(|default_allow| {
            let of = |list: &[_]| RuleSet { default_allow, exceptions: list.iter().copied().collect() };
            [of(&[]), of(&some), of(&all)]
        });
        for set in sets.chain([RuleSet::build(&super::super::default_rules()).unwrap()]) {
            match load(&emit(&set).unwrap()) {
                Ok(_) | Err((Errno(libc::EPERM | libc::ENOSYS), _)) => {}
                Err((e, log)) => panic!("{set:?}: {e:?} {log}"),
            }
        }
    }
}

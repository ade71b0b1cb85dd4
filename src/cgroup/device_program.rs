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
const SHIFT_RIGHT: u8 = 0x74; // ALU32 | RSH | K
const MOVE: u8 = 0xbc; // ALU32 | MOV | X
const SET: u8 = 0xb4; // ALU32 | MOV | K
const JUMP_UNLESS_EQUAL: u8 = 0x55; // JMP | JNE | K
const JUMP_IF_EQUAL: u8 = 0x15; // JMP | JEQ | K
const EXIT: u8 = 0x95;

// linux/bpf.h, struct bpf_cgroup_dev_ctx { access_type, major, minor }, access_type = access << 16 | kind.
const KIND_BLOCK: i32 = 1;
const KIND_CHAR: i32 = 2;

// Registers: 0 the answer, 1 the context (and scratch, once that is read), 2 kind, 3 access, 4 major, 5 minor.
const ANSWER: u8 = 0;
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const fn insn(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> BpfInsn {
    BpfInsn { code, registers: to | from << 4, offset, immediate }
}

/// The program: each exception is a block that answers if it matches, and the default comes last.
pub fn emit(rules: &RuleSet) -> Vec<BpfInsn> {
    let mut program = vec![
        insn(LOAD_WORD, KIND, SCRATCH, 0, 0),
        insn(MOVE, ACCESS, KIND, 0, 0),
        insn(AND, KIND, 0, 0, 0xffff),
        insn(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        insn(LOAD_WORD, MAJOR, SCRATCH, 4, 0),
        insn(LOAD_WORD, MINOR, SCRATCH, 8, 0),
    ];
    for (devices, bits) in rules.exceptions.iter() {
        emit_exception(&mut program, devices, *bits, rules.default_allow);
    }
    answer(&mut program, rules.default_allow);
    program
}

fn answer(program: &mut Vec<BpfInsn>, allow: bool) {
    program.extend([insn(SET, ANSWER, 0, 0, allow.into()), insn(EXIT, 0, 0, 0, 0)]);
}

/// An exception from "deny" must cover all access that is asked for; one from "allow" denies if it covers any of it
/// (as v1's: security/device_cgroup.c, match_exception and match_exception_partial). runc lets a device opened for
/// reading and writing pass a rule that denies writing alone.
fn emit_exception(program: &mut Vec<BpfInsn>, devices: &Devices, bits: u8, default_allow: bool) {
    // A jump compares with 32 bits, sign-extended; numbers that don't fit are none of the kernel's (20 bits).
    let number = |n: Option<u32>| n.map(i32::try_from).transpose();
    let (Ok(major), Ok(minor)) = (number(devices.major), number(devices.minor)) else { return };
    let kind = if devices.kind == Kind::Block { KIND_BLOCK } else { KIND_CHAR };
    let mut tests = vec![insn(JUMP_UNLESS_EQUAL, KIND, 0, 0, kind)];
    if bits != access::ALL {
        // What is left of the wish must be nothing (deny by default), or something (allow by default).
        let (mask, jump) = if default_allow { (bits, JUMP_IF_EQUAL) } else { (access::ALL & !bits, JUMP_UNLESS_EQUAL) };
        tests.extend([insn(MOVE, SCRATCH, ACCESS, 0, 0), insn(AND, SCRATCH, 0, 0, mask.into()), insn(jump, SCRATCH, 0, 0, 0)]);
    }
    tests.extend(major.map(|n| insn(JUMP_UNLESS_EQUAL, MAJOR, 0, 0, n)));
    tests.extend(minor.map(|n| insn(JUMP_UNLESS_EQUAL, MINOR, 0, 0, n)));
    let count = tests.len();
    for (n, test) in tests.iter_mut().enumerate() {
        if matches!(test.code, JUMP_UNLESS_EQUAL | JUMP_IF_EQUAL) {
            // Past the tests that follow and the answer's two instructions.
            test.offset = (count - 1 - n + 2) as i16;
        }
    }
    program.extend(tests);
    answer(program, !default_allow);
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
    let program = load(&emit(rules)).map_err(|(e, log)| {
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
                SHIFT_RIGHT => registers[to] = (registers[to] as u32 >> i.immediate).into(),
                MOVE => registers[to] = registers[from] as u32 as u64,
                SET => registers[to] = i.immediate as u32 as u64,
                JUMP_UNLESS_EQUAL if registers[to] != immediate => at += i.offset as usize,
                JUMP_IF_EQUAL if registers[to] == immediate => at += i.offset as usize,
                JUMP_UNLESS_EQUAL | JUMP_IF_EQUAL => {}
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
            let program = emit(&set);
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
        let program = emit(&RuleSet::build(&rules).unwrap());
        let wish = |access| Wish { kind: Kind::Block, access, major: 8, minor: 1 };
        assert!(run(&program, wish(access::READ)));
        assert!(!run(&program, wish(access::READ | access::WRITE)));
    }

    #[test]
    fn numbers_beyond_the_kernels_match_nothing() {
        let huge = Devices { kind: Kind::Char, major: Some(u32::MAX), minor: None };
        let set = RuleSet { default_allow: false, exceptions: [(huge, access::ALL)].into() };
        assert_eq!(emit(&set), emit(&RuleSet::default()));
    }

    #[test]
    fn the_verifier_takes_it() {
        // Only root may ask it.
        if sys::process::geteuid() != 0 {
            return;
        }
        let set = RuleSet::build(&super::super::default_rules()).unwrap();
        match load(&emit(&set)) {
            Ok(_) => {}
            Err((Errno(libc::EPERM | libc::ENOSYS), _)) => {}
            Err((e, log)) => panic!("{e:?} {log}"),
        }
    }
}

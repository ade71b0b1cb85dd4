//! Decisions → instructions.
//!
//! The program is written from its end to its beginning: what a jump goes to is always there already, so each offset
//! is known when its jump is written.

use super::decision::{BAD_ARCH, RuleList, Section, Verdict};
use super::order::Rule;
use super::profile::{Condition, Op};
use super::tree::{self, Node};
use super::{Instruction, MAX_INSTRUCTIONS};
use crate::{Error, Result};

/// Offsets in `struct seccomp_data` (linux/seccomp.h). Both families are little-endian.
const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

/// Opcodes (linux/bpf_common.h), those that seccomp_check_filter lets through.
pub mod op {
    pub const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    pub const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
    pub const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
    pub const JUMP_EQ: u16 = 0x15;
    pub const JUMP_GT: u16 = 0x25;
    pub const JUMP_GE: u16 = 0x35;
    pub const RETURN: u16 = 0x06; // BPF_RET | BPF_K
}

/// The program for all `sections`; any other architecture gets [`BAD_ARCH`].
pub fn program(sections: &[Section]) -> Result<Vec<Instruction>> {
    let mut out = Assembler::default();
    let mut next = out.ret(BAD_ARCH);
    for section in sections.iter().rev() {
        let body = out.section(section);
        next = out.branch(op::JUMP_EQ, section.audit, body, next);
    }
    out.plain(op::LOAD, OFFSET_ARCH);
    if out.code.len() > MAX_INSTRUCTIONS {
        return Err(Error::invalid(super::profile::ROOT, format!("the filter has {} instructions, the kernel takes {MAX_INSTRUCTIONS}", out.code.len()))
            .hint("list fewer architectures, or fewer rules with args"));
    }
    out.code.reverse();
    Ok(out.code)
}

/// An instruction, by its place counted from the program's end.
type Label = usize;

#[derive(Default)]
struct Assembler {
    /// The last instruction first.
    code: Vec<Instruction>,
    /// For each value returned, the return written last.
    returns: Vec<(u32, Label)>,
}

/// How far a conditional jump reaches, less two for the jumps that [`Assembler::branch`] may have to put in between.
const REACH: usize = 255 - 2;

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.code.push(Instruction { code, jt, jf, k });
        self.code.len() - 1
    }

    fn plain(&mut self, code: u16, k: u32) -> Label {
        self.push(code, 0, 0, k)
    }

    /// How many instructions a jump written now would skip.
    fn distance(&self, to: Label) -> usize {
        self.code.len() - 1 - to
    }

    /// A `return value` that a conditional jump can reach.
    fn ret(&mut self, value: u32) -> Label {
        let known = self.returns.iter().position(|(v, _)| *v == value);
        match known {
            Some(at) if self.distance(self.returns[at].1) <= REACH => self.returns[at].1,
            Some(at) => {
                self.returns[at].1 = self.plain(op::RETURN, value);
                self.returns[at].1
            }
            None => {
                let label = self.plain(op::RETURN, value);
                self.returns.push((value, label));
                label
            }
        }
    }

    /// `to`, or a copy of it or a long jump to it, within the reach of a conditional jump.
    fn near(&mut self, to: Label) -> Label {
        let target = self.code[to];
        match self.distance(to) {
            near if near <= REACH => to,
            _ if target.code == op::RETURN => self.ret(target.k),
            far => self.plain(op::JUMP, far as u32),
        }
    }

    /// If the test holds go to `yes`, else to `no`.
    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        let (yes, no) = (self.near(yes), self.near(no));
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(code, jt, jf, k)
    }

    /// All of one architecture; what is loaded before does not matter.
    fn section(&mut self, section: &Section) -> Label {
        // Behind the search, so that the search, which every call runs, stays together.
        let lists: Vec<Label> = section.rule_lists.iter().map(|list| self.rule_list(list)).collect();
        let search = self.node(&tree::build(&section.ranges), &lists);
        // A search that is no more than one verdict need not be next to the load.
        if self.distance(search) > 0 {
            self.plain(op::JUMP, self.distance(search) as u32);
        }
        self.plain(op::LOAD, OFFSET_NR)
    }

    fn node(&mut self, node: &Node, lists: &[Label]) -> Label {
        match node {
            Node::Leaf(verdict) => self.verdict(*verdict, lists),
            Node::Split { at, below, above } => {
                let above = self.node(above, lists);
                let below = self.node(below, lists);
                self.branch(op::JUMP_GE, *at, above, below)
            }
            Node::Except { number, then, otherwise } => {
                let then = self.verdict(*then, lists);
                let otherwise = self.verdict(*otherwise, lists);
                self.branch(op::JUMP_EQ, *number, then, otherwise)
            }
        }
    }

    fn verdict(&mut self, verdict: Verdict, lists: &[Label]) -> Label {
        match verdict {
            Verdict::Return(value) => self.ret(value),
            Verdict::Rules(index) => lists[index],
        }
    }

    fn rule_list(&mut self, list: &RuleList) -> Label {
        let otherwise = self.ret(list.otherwise);
        list.rules.iter().rev().fold(otherwise, |next, rule| self.rule(rule, list.wide, next))
    }

    /// If all conditions hold, the rule's action; else go to `next`.
    fn rule(&mut self, rule: &Rule, wide: bool, next: Label) -> Label {
        let action = self.ret(rule.action);
        rule.conditions.iter().rev().fold(action, |yes, condition| self.condition(condition, wide, yes, next))
    }

    fn condition(&mut self, c: &Condition, wide: bool, yes: Label, no: Label) -> Label {
        // NE, LT and LE are EQ, GE and GT the other way round.
        let (yes, no) = match c.op {
            Op::Ne | Op::Lt | Op::Le => (no, yes),
            Op::Eq | Op::Ge | Op::Gt | Op::MaskedEq => (yes, no),
        };
        let low = Word { offset: OFFSET_ARGS + 8 * u32::from(c.arg), value: c.value as u32, mask: c.mask as u32 };
        let high = Word { offset: low.offset + 4, value: (c.value >> 32) as u32, mask: (c.mask >> 32) as u32 };
        let code = match c.op {
            Op::Eq | Op::Ne | Op::MaskedEq => op::JUMP_EQ,
            Op::Ge | Op::Lt => op::JUMP_GE,
            Op::Gt | Op::Le => op::JUMP_GT,
        };
        let low_test = self.word(&low, code, yes, no);
        if !wide {
            return low_test;
        }
        match code {
            op::JUMP_EQ => self.word(&high, op::JUMP_EQ, low_test, no),
            // Greater decides, equal leaves it to the low word, less decides; nothing is less than 0.
            _ if high.value == 0 => self.word(&high, op::JUMP_GT, yes, low_test),
            _ => {
                let equal = self.branch(op::JUMP_EQ, high.value, low_test, no);
                self.word(&high, op::JUMP_GT, yes, equal)
            }
        }
    }

    /// Load a word of an argument and test it. A mask without a bit makes the test hold always.
    fn word(&mut self, word: &Word, code: u16, yes: Label, no: Label) -> Label {
        if word.mask == 0 {
            return yes;
        }
        self.branch(code, word.value, yes, no);
        if word.mask != u32::MAX {
            self.plain(op::AND, word.mask);
        }
        self.plain(op::LOAD, word.offset)
    }
}

/// One half of an argument, and what it is compared with.
struct Word {
    offset: u32,
    value: u32,
    mask: u32,
}

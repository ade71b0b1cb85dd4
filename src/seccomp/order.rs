//! Which of several rules about one system call wins.
//!
//! libseccomp keeps the conditions of a call's rules in a tree and emits it depth first (`_db_tree_add`,
//! `__db_chain_lt`), so the answer is not "the first in the profile". Where all rules have the same action, as in
//! nearly every profile, the order changes nothing; where they differ, a container must behave under dhow as it does
//! under runc. So we keep the same tree, but only to sort by: what comes out is a plain list, and the first rule of
//! it that matches wins.

use super::profile::{Condition, Op};

/// A rule about one number: `action` if all `conditions` hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub conditions: Vec<Condition>,
    pub action: u32,
}

/// The new rule contradicts one that is there already: libseccomp's EEXIST, which makes runc fail.
#[derive(Debug, PartialEq, Eq)]
pub struct Conflict;

/// The rules about one system call. A 64-bit comparison takes two levels, high word and low word.
#[derive(Debug, Default)]
pub struct Tree {
    top: Level,
    wide: bool,
}

type Level = Vec<Node>;

#[derive(Debug)]
struct Node {
    step: Step,
    /// Rules that end here and what comes after, if the test is [0] true, [1] false.
    ends: [Option<Rule>; 2],
    below: [Level; 2],
}

/// One 32-bit test.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// The argument and which word of it. A greater one goes first.
    place: u8,
    test: Test,
    /// Classes of operators: 3 is (not) equal, 2 less, 1 greater. A greater one goes first.
    class: u8,
    value: u32,
    mask: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Equal,
    MaskedEqual,
    Greater,
    GreaterOrEqual,
}

impl Step {
    fn same(&self, other: &Step) -> bool {
        (self.place, self.test, self.value, self.mask) == (other.place, other.test, other.value, other.mask)
    }

    /// Whether `new` goes before this one. Of two "less", the smaller bound goes first, else the greater value.
    fn yields_to(&self, new: &Step) -> bool {
        let (mine, theirs) = ((self.place, self.class), (new.place, new.class));
        if mine != theirs {
            return mine < theirs;
        }
        match self.class {
            2 => self.value > new.value,
            _ => self.value < new.value,
        }
    }
}

impl Tree {
    /// `wide`: arguments are compared with 64 bits.
    pub fn new(wide: bool) -> Tree {
        Tree { top: Level::new(), wide }
    }

    pub fn insert(&mut self, rule: Rule) -> Result<(), Conflict> {
        let mut path = Vec::with_capacity(4);
        for condition in &rule.conditions {
            if self.wide {
                path.push((high_step(condition), 0));
            }
            path.push((low_step(condition), negated(condition.op) as usize));
        }
        insert(&mut self.top, &path, rule)
    }

    /// The rules in the order in which they are to be tried.
    pub fn into_rules(self) -> Vec<Rule> {
        let mut rules = Vec::new();
        collect(self.top, &mut rules);
        rules
    }
}

fn insert(level: &mut Level, path: &[(Step, usize)], rule: Rule) -> Result<(), Conflict> {
    let Some(((step, side), rest)) = path.split_first() else {
        return Ok(());
    };
    let at = level.iter().position(|node| node.step.same(step) || node.step.yields_to(step)).unwrap_or(level.len());
    if level.get(at).is_none_or(|node| !node.step.same(step)) {
        let node = Node { step: *step, ends: [None, None], below: [Level::new(), Level::new()] };
        level.insert(at, node);
    }
    let node = &mut level[at];
    if !rest.is_empty() {
        // If a rule ends on this side, this one never gets its turn; libseccomp drops it, too.
        return insert(&mut node.below[*side], rest, rule);
    }
    let contradicts = match &node.ends[*side] {
        Some(there) => there.action != rule.action,
        None => !all_have(&node.below[*side], rule.action),
    };
    if contradicts {
        return Err(Conflict);
    }
    node.ends[*side] = Some(rule);
    Ok(())
}

fn all_have(level: &Level, action: u32) -> bool {
    level.iter().all(|node| node.ends.iter().flatten().all(|rule| rule.action == action) && node.below.iter().all(|below| all_have(below, action)))
}

fn collect(level: Level, rules: &mut Vec<Rule>) {
    for node in level {
        for (end, below) in node.ends.into_iter().zip(node.below) {
            match end {
                Some(rule) => rules.push(rule),
                None => collect(below, rules),
            }
        }
    }
}

fn negated(op: Op) -> bool {
    matches!(op, Op::Ne | Op::Lt | Op::Le)
}

fn class(op: Op) -> u8 {
    match op {
        Op::Eq | Op::Ne | Op::MaskedEq => 3,
        Op::Lt | Op::Le => 2,
        Op::Ge | Op::Gt => 1,
    }
}

/// The test of the high word; for < and > the one that decides alone, if it can.
fn high_step(condition: &Condition) -> Step {
    let test = match condition.op {
        Op::Eq | Op::Ne => Test::Equal,
        Op::MaskedEq => Test::MaskedEqual,
        Op::Lt | Op::Le | Op::Ge | Op::Gt => Test::Greater,
    };
    Step { place: condition.arg * 2 + 1, test, class: class(condition.op), value: (condition.value >> 32) as u32, mask: (condition.mask >> 32) as u32 }
}

fn low_step(condition: &Condition) -> Step {
    let test = match condition.op {
        Op::Eq | Op::Ne => Test::Equal,
        Op::MaskedEq => Test::MaskedEqual,
        Op::Gt | Op::Le => Test::Greater,
        Op::Ge | Op::Lt => Test::GreaterOrEqual,
    };
    Step { place: condition.arg * 2, test, class: class(condition.op), value: condition.value as u32, mask: condition.mask as u32 }
}

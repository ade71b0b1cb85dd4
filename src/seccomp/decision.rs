//! A checked profile → for each architecture, what each system call's number gets.

use super::Arch;
use super::names::{self, Row, X32_BIT};
use super::order::{Conflict, Rule, Tree};
use super::profile::{Condition, Op, Profile, RET_ALLOW, RET_ERRNO, RET_KILL_THREAD, RET_LOG, RET_TRACE, ROOT};
use crate::{Error, Result};

/// What a number gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This `SECCOMP_RET_*` value.
    Return(u32),
    /// What the rules at this index of [`Section::rule_lists`] say.
    Rules(usize),
}

/// Where a range of numbers begins (it ends where the next begins) and what it gets.
pub type Range = (u32, Verdict);

/// All that is decided for one value of `seccomp_data.arch`.
#[derive(Debug)]
pub struct Section {
    pub audit: u32,
    /// From 0 to the largest number; neighbours differ.
    pub ranges: Vec<Range>,
    pub rule_lists: Vec<RuleList>,
}

/// The first rule that matches wins; if none does, `otherwise` is returned.
#[derive(Debug)]
pub struct RuleList {
    pub rules: Vec<Rule>,
    pub otherwise: u32,
    /// Compare arguments with 64 bits.
    pub wide: bool,
}

/// For an architecture that the profile does not list: libseccomp's `SCMP_FLTATR_ACT_BADARCH`, which runc leaves at
/// `SCMP_ACT_KILL`.
pub const BAD_ARCH: u32 = RET_KILL_THREAD;

/// For a system call that is newer than the profile, see [`Profile::newest`].
const NOT_IMPLEMENTED: u32 = RET_ERRNO | libc::ENOSYS as u32;

/// The sections in the order in which they are to be tried, the native one first.
pub fn sections(profile: &Profile, native: Arch) -> Result<Vec<Section>> {
    let mut sections = vec![section(profile, native)?];
    for index in 0..profile.arches.len() {
        let arch = profile.arches[index];
        if arch.audit() != native.audit() {
            sections.push(section(profile, arch)?);
        }
    }
    Ok(sections)
}

fn section(profile: &Profile, arch: Arch) -> Result<Section> {
    let mut out = Builder { ranges: Vec::with_capacity(256), rule_lists: Vec::new(), default: profile.default };
    let newest = profile.newest(arch);
    if arch != Arch::X86_64 {
        out.table(0, table(profile, arch)?, newest);
    } else {
        x86_64(profile, &mut out, newest)?;
    }
    Ok(Section { audit: arch.audit(), ranges: out.ranges, rule_lists: out.rule_lists })
}

/// x86_64 and x32 have one audit architecture: bit 30 of the number parts them.
fn x86_64(profile: &Profile, out: &mut Builder, newest: Option<u32>) -> Result<()> {
    let default = Verdict::Return(profile.default);
    let enosys = Verdict::Return(NOT_IMPLEMENTED);
    let bad = Verdict::Return(BAD_ARCH);
    out.table(0, table(profile, Arch::X86_64)?, newest);
    // Bit 31 without bit 30: for runc's ENOSYS a number of x86_64, for libseccomp one of x32.
    let high = if newest.is_some() { enosys } else { bad };
    if !profile.arches.contains(&Arch::X32) {
        out.push(X32_BIT, bad);
        out.push(0x8000_0000, high);
        out.push(0xc000_0000, bad);
        // A tracer (or a listener) skips a call by making its number -1, after which the filter runs again
        // (Linux 4.8): that must not kill.
        out.push(u32::MAX, default);
        return Ok(());
    }
    let newest_x32 = profile.newest(Arch::X32);
    out.table(X32_BIT, table(profile, Arch::X32)?, newest_x32);
    out.push(0x8000_0000, if high == bad { default } else { enosys });
    out.push(0xc000_0000, newest_x32.map_or(default, |_| enosys));
    Ok(())
}

impl Profile {
    /// runc's rule (libcontainer/seccomp/patchbpf): a call newer than any the profile names, whatever it says of it,
    /// was unknown to the profile's author. It gets ENOSYS, so that libc falls back to an older call, where the
    /// default would fail it or kill. `None`: the default lets calls through, or no call of this architecture is
    /// named.
    ///
    /// One difference: on x86 runc does not count socket and ipc calls, neither their direct numbers nor
    /// socketcall(2) and ipc(2), and so returns ENOSYS for one that the profile allows if nothing newer is named.
    fn newest(&self, arch: Arch) -> Option<u32> {
        if matches!(self.default & !0xffff, RET_ALLOW | RET_LOG | RET_TRACE) {
            return None;
        }
        let rows = self.blocks.iter().flat_map(|block| &block.rows);
        let numbers = rows.filter_map(|&row| {
            let row = &names::all()[row as usize];
            let through = match arch {
                Arch::X86 => row.multiplexed().map(|call| call.through),
                _ => None,
            };
            row.number(arch).max(through)
        });
        numbers.max().filter(|&newest| newest > 0)
    }
}

/// What is known of one number so far.
enum Entry {
    Unset,
    /// A rule without conditions: the first one holds, and no rule with conditions can change it.
    Always(u32),
    Rules(Tree),
}

/// The entries of one architecture. Numbers are dense from 0 but for Arm's private ones (0xf0001 …).
struct Table {
    wide: bool,
    base: u32,
    dense: Vec<Entry>,
    far: Vec<(u32, Entry)>,
}

const DENSE: usize = 600;

fn table(profile: &Profile, arch: Arch) -> Result<Table> {
    let mut table = Table {
        wide: arch.is_wide(),
        base: if arch == Arch::X32 { X32_BIT } else { 0 },
        dense: std::iter::repeat_with(|| Entry::Unset).take(DENSE).collect(),
        far: Vec::new(),
    };
    for (index, block) in profile.blocks.iter().enumerate() {
        if block.redundant {
            continue;
        }
        for &row in &block.rows {
            let row = &names::all()[row as usize];
            for set in &block.sets {
                table.add_call(row, arch, set, block.action).map_err(|Conflict| conflict(index, row, arch))?;
            }
        }
    }
    Ok(table)
}

fn conflict(index: usize, row: &Row, arch: Arch) -> Error {
    Error::invalid(
        format!("{ROOT}/syscalls/{index}"),
        format!("contradicts an earlier rule about {}: another action for the same arguments (on {arch:?})", row.name()),
    )
    .hint("leave only one of the two rules")
}

impl Table {
    /// Add a rule for `row`, on x86 also for the way through socketcall(2) or ipc(2).
    fn add_call(&mut self, row: &Row, arch: Arch, conditions: &[Condition], action: u32) -> Result<(), Conflict> {
        if arch == Arch::X86
            && let Some(call) = row.multiplexed()
        {
            // The call's own arguments lie in memory, out of a filter's reach, behind the second argument. Like
            // libseccomp, we put the call's number in place of the first; conditions on others stay as they are.
            let which = Condition { arg: 0, op: Op::Eq, value: call.number.into(), mask: u64::MAX };
            let rest = conditions.iter().filter(|c| c.arg != 0);
            let conditions: Vec<Condition> = std::iter::once(&which).chain(rest).copied().collect();
            self.add(call.through, &conditions, action)?;
        }
        match row.number(arch) {
            Some(number) => self.add(number, conditions, action),
            None => Ok(()),
        }
    }

    fn add(&mut self, number: u32, conditions: &[Condition], action: u32) -> Result<(), Conflict> {
        let wide = self.wide;
        let bits = if wide { u64::MAX } else { u32::MAX.into() };
        // A mask without a bit is a condition that always holds.
        let conditions: Vec<Condition> = conditions.iter().filter(|c| c.mask & bits != 0).copied().collect();
        let entry = self.entry(number);
        match entry {
            Entry::Always(_) => {}
            _ if conditions.is_empty() => *entry = Entry::Always(action),
            Entry::Rules(tree) => tree.insert(Rule { conditions, action })?,
            Entry::Unset => {
                let mut tree = Tree::new(wide);
                tree.insert(Rule { conditions, action })?;
                *entry = Entry::Rules(tree);
            }
        }
        Ok(())
    }

    fn entry(&mut self, number: u32) -> &mut Entry {
        let offset = (number - self.base) as usize;
        if offset < DENSE {
            return &mut self.dense[offset];
        }
        let at = match self.far.binary_search_by_key(&number, |(n, _)| *n) {
            Ok(at) => at,
            Err(at) => {
                self.far.insert(at, (number, Entry::Unset));
                at
            }
        };
        &mut self.far[at].1
    }
}

/// Collects the ranges of a section, in ascending order.
struct Builder {
    ranges: Vec<Range>,
    rule_lists: Vec<RuleList>,
    default: u32,
}

impl Builder {
    fn push(&mut self, start: u32, verdict: Verdict) {
        if self.ranges.last().is_none_or(|(_, last)| *last != verdict) {
            self.ranges.push((start, verdict));
        }
    }

    /// The numbers from `start` on, as `table` says; those above `newest` are ENOSYS.
    fn table(&mut self, start: u32, table: Table, newest: Option<u32>) {
        let default = Verdict::Return(self.default);
        let mut next = start;
        let dense = (table.base..).zip(table.dense);
        for (number, entry) in dense.chain(table.far) {
            let verdict = match entry {
                Entry::Unset => continue,
                Entry::Always(action) => Verdict::Return(action),
                Entry::Rules(tree) => self.rules(tree, table.wide),
            };
            if number > next {
                self.push(next, default);
            }
            self.push(number, verdict);
            next = number + 1;
        }
        match newest {
            // All rules are at or below the newest, redundant ones included.
            Some(newest) => {
                if newest >= next {
                    self.push(next, default);
                }
                self.push(newest + 1, Verdict::Return(NOT_IMPLEMENTED));
            }
            None => self.push(next, default),
        }
    }

    fn rules(&mut self, tree: Tree, wide: bool) -> Verdict {
        self.rule_lists.push(RuleList { rules: tree.into_rules(), otherwise: self.default, wide });
        Verdict::Rules(self.rule_lists.len() - 1)
    }
}

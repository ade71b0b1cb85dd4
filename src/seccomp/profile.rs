//! A profile's words → numbers. Every fault carries its JSON pointer; what runc refuses, we refuse.

use super::names;
use super::{Arch, FILTER_FLAG_LOG, FILTER_FLAG_SPEC_ALLOW, FILTER_FLAG_WAIT_KILLABLE_RECV};
use crate::{Error, Result, spec};

/// `SECCOMP_RET_*` (linux/seccomp.h): what a filter returns, the low 16 bits being data.
pub const RET_KILL_PROCESS: u32 = 0x8000_0000;
pub const RET_KILL_THREAD: u32 = 0;
pub const RET_TRAP: u32 = 0x0003_0000;
pub const RET_ERRNO: u32 = 0x0005_0000;
pub const RET_USER_NOTIF: u32 = 0x7fc0_0000;
pub const RET_TRACE: u32 = 0x7ff0_0000;
pub const RET_LOG: u32 = 0x7ffc_0000;
pub const RET_ALLOW: u32 = 0x7fff_0000;

/// The actions' names. `SCMP_ACT_KILL` is the old name of `SCMP_ACT_KILL_THREAD`.
pub const ACTIONS: [(&str, u32); 9] = [
    ("SCMP_ACT_ALLOW", RET_ALLOW),
    ("SCMP_ACT_ERRNO", RET_ERRNO),
    ("SCMP_ACT_KILL", RET_KILL_THREAD),
    ("SCMP_ACT_KILL_PROCESS", RET_KILL_PROCESS),
    ("SCMP_ACT_KILL_THREAD", RET_KILL_THREAD),
    ("SCMP_ACT_LOG", RET_LOG),
    ("SCMP_ACT_NOTIFY", RET_USER_NOTIF),
    ("SCMP_ACT_TRACE", RET_TRACE),
    ("SCMP_ACT_TRAP", RET_TRAP),
];

/// How an argument is compared with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    MaskedEq,
}

pub const OPERATORS: [(&str, Op); 7] = [
    ("SCMP_CMP_EQ", Op::Eq),
    ("SCMP_CMP_GE", Op::Ge),
    ("SCMP_CMP_GT", Op::Gt),
    ("SCMP_CMP_LE", Op::Le),
    ("SCMP_CMP_LT", Op::Lt),
    ("SCMP_CMP_MASKED_EQ", Op::MaskedEq),
    ("SCMP_CMP_NE", Op::Ne),
];

/// The architectures of runtime-spec 1.3. `None`: of another family than dhow runs on, so no system call that this
/// kernel can receive is of it.
pub const ARCHITECTURES: [(&str, Option<Arch>); 23] = [
    ("SCMP_ARCH_AARCH64", Some(Arch::Aarch64)),
    ("SCMP_ARCH_ARM", Some(Arch::Arm)),
    ("SCMP_ARCH_LOONGARCH64", None),
    ("SCMP_ARCH_M68K", None),
    ("SCMP_ARCH_MIPS", None),
    ("SCMP_ARCH_MIPS64", None),
    ("SCMP_ARCH_MIPS64N32", None),
    ("SCMP_ARCH_MIPSEL", None),
    ("SCMP_ARCH_MIPSEL64", None),
    ("SCMP_ARCH_MIPSEL64N32", None),
    ("SCMP_ARCH_PARISC", None),
    ("SCMP_ARCH_PARISC64", None),
    ("SCMP_ARCH_PPC", None),
    ("SCMP_ARCH_PPC64", None),
    ("SCMP_ARCH_PPC64LE", None),
    ("SCMP_ARCH_RISCV64", None),
    ("SCMP_ARCH_S390", None),
    ("SCMP_ARCH_S390X", None),
    ("SCMP_ARCH_SH", None),
    ("SCMP_ARCH_SHEB", None),
    ("SCMP_ARCH_X32", Some(Arch::X32)),
    ("SCMP_ARCH_X86", Some(Arch::X86)),
    ("SCMP_ARCH_X86_64", Some(Arch::X86_64)),
];

/// Filter flags. TSYNC is known to runc, not to the spec, and does nothing: the child has one thread.
pub const FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", 0),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", FILTER_FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_LOG", FILTER_FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", FILTER_FLAG_WAIT_KILLABLE_RECV),
];

/// One comparison: `argument & mask` against `value`; `mask` is all ones but for [`Op::MaskedEq`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    pub arg: u8,
    pub op: Op,
    pub value: u64,
    pub mask: u64,
}

/// An entry of `syscalls`: `action` for `rows` if all conditions of one of `sets` hold. An empty set always holds.
pub struct Block {
    pub action: u32,
    pub sets: Vec<Vec<Condition>>,
    /// Indexes into [`names::all`].
    pub rows: Vec<u16>,
    /// The action is the default one: runc adds no rule for such, but its names count as known to the profile.
    pub redundant: bool,
}

/// A profile whose words have all been understood.
pub struct Profile {
    /// What the filter returns when no rule matches.
    pub default: u32,
    /// Beside the native one, of the native family, without repetitions.
    pub arches: Vec<Arch>,
    /// In the profile's order, one for each entry of `syscalls`.
    pub blocks: Vec<Block>,
    pub flags: u32,
    pub notify: bool,
    pub warnings: Vec<String>,
}

/// Where profiles sit in `config.json`.
pub const ROOT: &str = "/linux/seccomp";

pub fn check(profile: &spec::Seccomp, native: Arch) -> Result<Profile> {
    let mut warnings = Vec::new();
    let default = default_action(profile)?;
    let arches = architectures(profile, native, &mut warnings)?;
    let blocks = profile.syscalls.iter().enumerate().map(|(index, call)| block(index, call, default, &mut warnings)).collect::<Result<Vec<_>>>()?;
    let notify = profile.syscalls.iter().any(|c| c.action == "SCMP_ACT_NOTIFY" && !c.names.is_empty());
    listener(profile, notify)?;
    Ok(Profile { default, arches, blocks, flags: flags(profile, notify)?, notify, warnings })
}

fn default_action(profile: &spec::Seccomp) -> Result<u32> {
    let pointer = || format!("{ROOT}/defaultAction");
    if profile.default_action == "SCMP_ACT_NOTIFY" {
        // The runtime's own next system call would wait for a listener that has not been told yet.
        return Err(Error::invalid(pointer(), "SCMP_ACT_NOTIFY cannot be used as default action"));
    }
    let errno = profile.default_errno_ret;
    action(&profile.default_action, errno, pointer, || format!("{ROOT}/defaultErrnoRet"))
}

/// The value to return for an action's `name` and its errno, which is EPERM unless said otherwise.
fn action(name: &str, errno: Option<u32>, pointer: impl Fn() -> String, errno_pointer: impl Fn() -> String) -> Result<u32> {
    let action = lookup(&ACTIONS, name, "action", pointer)?;
    match (action, errno) {
        (RET_ERRNO | RET_TRACE, None) => Ok(action | libc::EPERM as u32),
        (RET_ERRNO | RET_TRACE, Some(errno)) if errno <= 0xffff => Ok(action | errno),
        (RET_ERRNO | RET_TRACE, Some(errno)) => Err(Error::invalid(errno_pointer(), format!("{errno} is not an errno: it has 16 bits"))),
        (_, None) => Ok(action),
        // config-linux.md: "When the action doesn't support an errno, the runtime MUST print and error and fail."
        (_, Some(_)) => Err(Error::invalid(errno_pointer(), format!("{name} takes no errno; SCMP_ACT_ERRNO and SCMP_ACT_TRACE do"))),
    }
}

fn lookup<T: Copy>(known: &[(&str, T)], word: &str, what: &str, pointer: impl Fn() -> String) -> Result<T> {
    match known.iter().find(|(name, _)| *name == word) {
        Some((_, value)) => Ok(*value),
        None => {
            let list: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            Err(Error::invalid(pointer(), format!("{word:?} is not a seccomp {what}")).hint(format!("one of {}", list.join(", "))))
        }
    }
}

fn architectures(profile: &spec::Seccomp, native: Arch, warnings: &mut Vec<String>) -> Result<Vec<Arch>> {
    let mut arches = Vec::new();
    for (index, name) in profile.architectures.iter().enumerate() {
        let pointer = || format!("{ROOT}/architectures/{index}");
        match lookup(&ARCHITECTURES, name, "architecture", pointer)? {
            // The native one is always there, whether named or not, as libseccomp has it.
            Some(arch) if arch == native || arches.contains(&arch) => {}
            Some(arch) if arch.runs_on(native) => arches.push(arch),
            // The other family of the two: shipped profiles name both, and nothing can be said about it.
            Some(_) => {}
            None => warnings.push(format!("{}: {name} has no effect on this machine", pointer())),
        }
    }
    Ok(arches)
}

fn flags(profile: &spec::Seccomp, notify: bool) -> Result<u32> {
    let Some(names) = &profile.flags else {
        // runc's default: without it each process of the container pays for the mitigation of Spectre v4.
        return Ok(FILTER_FLAG_SPEC_ALLOW);
    };
    let mut flags = 0;
    for (index, name) in names.iter().enumerate() {
        let pointer = || format!("{ROOT}/flags/{index}");
        let flag = lookup(&FLAGS, name, "flag", pointer)?;
        if flag == FILTER_FLAG_WAIT_KILLABLE_RECV && !notify {
            // The kernel's answer would be a bare EINVAL (seccomp_set_mode_filter, Linux 5.19).
            return Err(Error::invalid(pointer(), "needs a rule whose action is SCMP_ACT_NOTIFY"));
        }
        flags |= flag;
    }
    Ok(flags)
}

/// Without a rule that notifies, `listenerPath` is ignored (config-linux.md); with one, runc cannot do without it.
fn listener(profile: &spec::Seccomp, notify: bool) -> Result<()> {
    if notify && profile.listener_path.is_empty() {
        return Err(Error::invalid(format!("{ROOT}/listenerPath"), "seccomp listenerPath is not set, and a rule's action is SCMP_ACT_NOTIFY"));
    }
    if profile.listener_path.is_empty() && !profile.listener_metadata.is_empty() {
        return Err(Error::invalid(format!("{ROOT}/listenerMetadata"), "must not be set without listenerPath"));
    }
    Ok(())
}

fn block(index: usize, call: &spec::Syscall, default: u32, warnings: &mut Vec<String>) -> Result<Block> {
    let pointer = || format!("{ROOT}/syscalls/{index}");
    let action = action(&call.action, call.errno_ret, || format!("{}/action", pointer()), || format!("{}/errnoRet", pointer()))?;
    if call.names.is_empty() {
        warnings.push(format!("{}: names is empty, the rule has no effect", pointer()));
    }
    let mut rows = Vec::with_capacity(call.names.len());
    for (n, name) in call.names.iter().enumerate() {
        let refuse = |why| Err(Error::invalid(format!("{}/names/{n}", pointer()), why));
        if name.is_empty() {
            return refuse("empty string is not a valid syscall");
        }
        if action == RET_USER_NOTIF && name == "write" {
            // The child says by write(2) that the listener is there to be fetched.
            return refuse("SCMP_ACT_NOTIFY cannot be used for the write syscall");
        }
        // A name we do not know is one this kernel hardly has: runc, too, leaves it out.
        rows.extend(names::find_index(name).map(|row| row as u16));
    }
    Ok(Block { action, sets: condition_sets(index, &call.args)?, rows, redundant: action == default })
}

/// The conditions of one rule. They are joined by "and", unless two are about the same argument: then runc, for the
/// sake of old profiles, makes each a rule of its own, so that they are joined by "or".
fn condition_sets(index: usize, args: &[spec::SyscallArg]) -> Result<Vec<Vec<Condition>>> {
    let mut conditions = Vec::with_capacity(args.len());
    for (n, arg) in args.iter().enumerate() {
        conditions.push(condition(arg, || format!("{ROOT}/syscalls/{index}/args/{n}"))?);
    }
    conditions.sort_by_key(|c: &Condition| c.arg);
    if conditions.windows(2).any(|w| w[0].arg == w[1].arg) {
        let mut in_order = Vec::with_capacity(args.len());
        for arg in args {
            in_order.push(vec![condition(arg, String::new)?]);
        }
        return Ok(in_order);
    }
    Ok(vec![conditions])
}

fn condition(arg: &spec::SyscallArg, pointer: impl Fn() -> String) -> Result<Condition> {
    let op = lookup(&OPERATORS, &arg.op, "operator", || format!("{}/op", pointer()))?;
    if arg.index > 5 {
        return Err(Error::invalid(format!("{}/index", pointer()), format!("system calls have the arguments 0 to 5, not {}", arg.index)));
    }
    // seccomp_rule_add(3): for MASKED_EQ the first datum is the mask.
    let (value, mask) = match op {
        Op::MaskedEq => (arg.value_two & arg.value, arg.value),
        _ => (arg.value, u64::MAX),
    };
    Ok(Condition { arg: arg.index as u8, op, value, mask })
}

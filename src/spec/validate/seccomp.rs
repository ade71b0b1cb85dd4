//! Seccomp (config-linux.md § Seccomp; seccomp(2)).

use super::Checker;
use crate::spec::{Syscall, SyscallArg};
use std::fmt::Display;

const AT: &str = "/linux/seccomp";

const ACTIONS: [&str; 9] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
];

const ARCHES: [&str; 23] = [
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

const FLAGS: [&str; 4] = ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"];

const OPERATORS: [&str; 7] = ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"];

const NOTIFY: &str = "SCMP_ACT_NOTIFY";

pub fn check(cx: &mut Checker) {
    let Some(seccomp) = &cx.spec.linux.seccomp else { return };
    if seccomp.default_action.is_empty() && seccomp.syscalls.is_empty() {
        // As runc has it: such a profile is none.
        cx.warn(format_args!("{AT}/defaultAction"), "is missing, and there are no rules: no filter is installed", "an action, or no /linux/seccomp at all");
        return;
    }
    cx.one_of(format_args!("{AT}/defaultAction"), &seccomp.default_action, &ACTIONS);
    if seccomp.default_action == NOTIFY {
        cx.fault(
            format_args!("{AT}/defaultAction"),
            format_args!("{NOTIFY} would stop the runtime itself before the listener is handed over"),
            "another action",
        );
    }
    errno(cx, format_args!("{AT}/defaultErrnoRet"), &seccomp.default_action, seccomp.default_errno_ret);
    for (i, arch) in seccomp.architectures.iter().enumerate() {
        cx.one_of(format_args!("{AT}/architectures/{i}"), arch, &ARCHES);
    }
    for (i, flag) in seccomp.flags.iter().flatten().enumerate() {
        cx.one_of(format_args!("{AT}/flags/{i}"), flag, &FLAGS);
    }
    for (i, syscall) in seccomp.syscalls.iter().enumerate() {
        rule(cx, format_args!("{AT}/syscalls/{i}"), syscall);
    }
    listener(cx);
}

fn rule(cx: &mut Checker, at: impl Display, rule: &Syscall) {
    if rule.names.is_empty() {
        cx.fault(format_args!("{at}/names"), "is empty", "at least one system call");
    }
    for (i, name) in rule.names.iter().enumerate() {
        if name.is_empty() {
            cx.fault(format_args!("{at}/names/{i}"), "is empty", "the name of a system call");
        } else if name == "write" && rule.action == NOTIFY {
            cx.fault(
                format_args!("{at}/names/{i}"),
                format_args!("{NOTIFY} cannot be used for the write syscall: the listener could not be handed over"),
                format_args!("another action for write"),
            );
        }
    }
    cx.one_of(format_args!("{at}/action"), &rule.action, &ACTIONS);
    errno(cx, format_args!("{at}/errnoRet"), &rule.action, rule.errno_ret);
    for (i, arg) in rule.args.iter().enumerate() {
        argument(cx, format_args!("{at}/args/{i}"), arg);
    }
}

fn argument(cx: &mut Checker, at: impl Display, arg: &SyscallArg) {
    if arg.index > 5 {
        cx.fault(format_args!("{at}/index"), format_args!("is {}", arg.index), "0 to 5: a system call has six arguments");
    }
    cx.one_of(format_args!("{at}/op"), &arg.op, &OPERATORS);
    if arg.value_two != 0 && arg.op != "SCMP_CMP_MASKED_EQ" && OPERATORS.contains(&arg.op.as_str()) {
        cx.note(format_args!("{at}/valueTwo"), format_args!("is ignored with {}", arg.op), "valueTwo with SCMP_CMP_MASKED_EQ only");
    }
}

/// "When the action doesn't support an errno, the runtime MUST print and error and fail."
fn errno(cx: &mut Checker, at: impl Display, action: &str, errno: Option<u32>) {
    let Some(errno) = errno else { return };
    match action {
        // seccomp(2): SECCOMP_RET_DATA is 16 bits, of which an errno may use 4095.
        "SCMP_ACT_ERRNO" if errno > 4095 => {
            cx.warn(at, format_args!("{errno} is more than an errno can be; the kernel takes 4095"), "0 to 4095");
        }
        "SCMP_ACT_TRACE" if errno > 0xffff => {
            cx.warn(at, format_args!("{errno} is cut off at 16 bits"), "0 to 65535");
        }
        "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE" => {}
        _ if !ACTIONS.contains(&action) => {}
        _ => {
            cx.fault(at, format_args!("{action} returns no errno"), "an errno with SCMP_ACT_ERRNO or SCMP_ACT_TRACE only");
        }
    }
}

fn listener(cx: &mut Checker) {
    let Some(seccomp) = &cx.spec.linux.seccomp else { return };
    let notifies = seccomp.syscalls.iter().any(|rule| rule.action == NOTIFY);
    let path = seccomp.listener_path.as_str();
    if path.is_empty() {
        if notifies {
            cx.fault(format_args!("{AT}/listenerPath"), format_args!("is missing, though rules have {NOTIFY}"), "the path of the listener's socket");
        }
        if !seccomp.listener_metadata.is_empty() && cx.readable(format_args!("{AT}/listenerPath")) {
            cx.fault(format_args!("{AT}/listenerMetadata"), "is set without listenerPath", "listenerPath beside it, or neither");
        }
    } else if !notifies {
        cx.note(format_args!("{AT}/listenerPath"), format_args!("is ignored: no rule has {NOTIFY}"), format_args!("a rule with {NOTIFY}"));
    }
    cx.no_nul(format_args!("{AT}/listenerPath"), path);
    if let Some(i) = seccomp.flags.iter().flatten().position(|flag| flag == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV").filter(|_| !notifies) {
        cx.warn(format_args!("{AT}/flags/{i}"), "is of use with a listener only", format_args!("a rule with {NOTIFY}"));
    }
}

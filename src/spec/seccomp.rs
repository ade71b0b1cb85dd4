//! config-linux.md § Seccomp.

use super::object;

object! {
    Seccomp {
        default_action: String,
        default_errno_ret: Option<u32>,
        architectures: Vec<String>,
        /// Absent is not the same as empty: runc then sets SECCOMP_FILTER_FLAG_SPEC_ALLOW.
        flags: Option<Vec<String>>,
        listener_path: String,
        listener_metadata: String,
        syscalls: Vec<Syscall>,
    }
}

object! {
    /// A rule for `names`; all of `args` must match.
    Syscall {
        names: Vec<String>,
        action: String,
        errno_ret: Option<u32>,
        args: Vec<SyscallArg>,
    }
}

object! {
    /// `index`: 0 to 5. For `SCMP_CMP_MASKED_EQ` the mask is `value`, the wanted bits `value_two`.
    SyscallArg {
        index: u32,
        value: u64,
        value_two: u64,
        op: String,
    }
}

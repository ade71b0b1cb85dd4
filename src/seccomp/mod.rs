//! The seccomp compiler: an OCI profile (config-linux.md § Seccomp) → one classic BPF program for seccomp(2).
//!
//! Four steps, each a module, none of which touches the machine:
//!
//! 1. [`profile`]: words → numbers; every fault with its JSON pointer;
//! 2. [`decision`]: for each architecture a verdict for each system call's number, with libseccomp's rules for what
//!    wins ([`order`]) and runc's ENOSYS for calls that are newer than the profile;
//! 3. [`tree`]: the numbers as ranges, neighbours with the same verdict merged, searched by halving;
//! 4. [`emit`]: the instructions.
//!
//! libseccomp's program tests one number after the other; the kernel, which runs a new filter once for each system
//! call to learn which are always allowed (Linux 5.11, `seccomp_cache_prepare`), takes milliseconds over that.

mod decision;
mod emit;
pub mod interp;
pub mod names;
mod order;
mod profile;
mod table;
#[cfg(test)]
mod tests;
mod tree;

use crate::{Result, spec};

/// An architecture as seen by a system call. The discriminant is a column of the table of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    X86 = 0,
    X86_64 = 1,
    X32 = 2,
    Arm = 3,
    Aarch64 = 4,
}

impl Arch {
    /// What this binary was built for.
    pub const NATIVE: Arch = if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 };

    /// `seccomp_data.arch` (linux/audit.h). x32 has none of its own: bit 30 of the number tells it from x86_64.
    pub const fn audit(self) -> u32 {
        match self {
            Arch::X86 => 0x4000_0003,
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::Arm => 0x4000_0028,
            Arch::Aarch64 => 0xc000_00b7,
        }
    }

    /// Whether a process on a `native` kernel can make system calls of this architecture.
    fn runs_on(self, native: Arch) -> bool {
        let is_arm = |arch| matches!(arch, Arch::Arm | Arch::Aarch64);
        is_arm(self) == is_arm(native)
    }

    /// Whether arguments are compared with all of their 64 bits. Not on x32, as libseccomp counts it among the
    /// 32-bit architectures.
    fn is_wide(self) -> bool {
        matches!(self, Arch::X86_64 | Arch::Aarch64)
    }
}

/// `struct sock_filter` (linux/filter.h): one instruction of classic BPF.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

impl Instruction {
    /// Its eight bytes as the kernel reads them.
    pub fn as_word(&self) -> u64 {
        let [c0, c1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.k.to_ne_bytes();
        u64::from_ne_bytes([c0, c1, self.jt, self.jf, k0, k1, k2, k3])
    }
}

/// What seccomp(2) is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    pub program: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*`, without `NEW_LISTENER`, which the installer adds if `notify`.
    pub flags: u32,
    /// The profile notifies a listener: ask the kernel for its file descriptor.
    pub notify: bool,
    /// What was accepted but has no effect, one sentence each.
    pub warnings: Vec<String>,
}

/// seccomp(2)'s flags (linux/seccomp.h): since Linux 4.14, 4.17, 5.0 and 5.19.
pub const FILTER_FLAG_LOG: u32 = 1 << 1;
pub const FILTER_FLAG_SPEC_ALLOW: u32 = 1 << 2;
pub const FILTER_FLAG_NEW_LISTENER: u32 = 1 << 3;
pub const FILTER_FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// `BPF_MAXINSNS` (linux/bpf_common.h): the longest program that the kernel takes.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// False for a profile that says nothing at all; runc runs such a container without a filter.
pub fn is_enabled(profile: &spec::Seccomp) -> bool {
    !profile.default_action.is_empty() || !profile.syscalls.is_empty()
}

/// Compile `profile` for a kernel whose architecture is `native` ([`Arch::X86_64`] or [`Arch::Aarch64`]).
pub fn compile(profile: &spec::Seccomp, native: Arch) -> Result<Compiled> {
    let checked = profile::check(profile, native)?;
    let sections = decision::sections(&checked, native)?;
    Ok(Compiled { program: emit::program(&sections)?, flags: checked.flags, notify: checked.notify, warnings: checked.warnings })
}

/// The words of a profile that this compiler knows, for `dhow features`.
pub mod known {
    pub use super::profile::{ACTIONS, ARCHITECTURES, FLAGS, OPERATORS};
}

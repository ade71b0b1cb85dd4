//! Landlock (Linux 5.13): a thread gives up every file that is not below one directory (landlock(7)).

use super::{Result, check};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// LANDLOCK_ACCESS_FS_*: the 13 of ABI 1 (EXECUTE is bit 0), REFER of 2, TRUNCATE of 3.
const ABI_1: u64 = (1 << 13) - 1;
const EXECUTE: u64 = 1;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;

#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// The ABI's version, None where the kernel has no Landlock or it is switched off.
pub fn version() -> Option<u32> {
    const VERSION: u32 = 1;
    // SAFETY: with this flag the kernel reads no memory.
    let version = check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0usize, 0usize, VERSION) });
    version.ok().map(|v| v as u32)
}

/// From here on this thread may read and change what is below `dirs`, execute nothing, and reach no other file by a
/// path. False where the kernel's Landlock can't do it: one before ABI 2 (Linux 5.19) forbids every hard link.
///
/// The thread must have NO_NEW_PRIVS.
pub fn confine_to(dirs: &[BorrowedFd]) -> Result<bool> {
    let handled = match version() {
        None | Some(0 | 1) => return Ok(false),
        Some(2) => ABI_1 | REFER,
        Some(_) => ABI_1 | REFER | TRUNCATE,
    };
    let attr = RulesetAttr { handled_access_fs: handled };
    // SAFETY: `attr` is readable, its size is given; the result is a new descriptor of ours.
    let ruleset = unsafe { OwnedFd::from_raw_fd(check(libc::syscall(libc::SYS_landlock_create_ruleset, &attr, size_of::<RulesetAttr>(), 0))? as i32) };
    for dir in dirs {
        const RULE_PATH_BENEATH: u32 = 1;
        let rule = PathBeneath { allowed_access: handled & !EXECUTE, parent_fd: dir.as_raw_fd() };
        // SAFETY: `rule` is readable.
        check(unsafe { libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), RULE_PATH_BENEATH, &rule, 0) })?;
    }
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) })?;
    Ok(true)
}

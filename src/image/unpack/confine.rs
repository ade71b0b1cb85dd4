//! What a thread of the worker gives up before it looks at a byte of a layer.
//!
//! It keeps the calls that make files and those that a thread lives by. It can't run a program, open a socket, signal
//! or trace a process, mount, or map memory executable; and it reaches no file but those below the given directories
//! (Landlock, where the kernel has it; of root also chroot(2)).

use crate::sys::fs;
use crate::sys::process::{capset, geteuid, prctl, unshare};
use crate::sys::{Errno, landlock};
use crate::{Error, Result};
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

/// Allowed whatever their arguments are.
const CALLS: &[i64] = &[
    // files, by descriptor
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_fsetxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_fremovexattr,
    libc::SYS_fchdir,
    // the way to and from the other process
    libc::SYS_recvmsg,
    libc::SYS_writev,
    // threads and memory
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigaction,
    libc::SYS_sigaltstack,
    libc::SYS_set_robust_list,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_geteuid,
    libc::SYS_getegid,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Allowed without PROT_EXEC in their third argument.
const MEMORY: [i64; 2] = [libc::SYS_mmap, libc::SYS_mprotect];

/// Compile the filter, once for all threads.
pub(super) fn filter() -> Result<BpfProgram> {
    let failed = |e: &dyn std::fmt::Display| Error::other("confining the unpacker", "", e);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = CALLS.iter().map(|call| (*call, Vec::new())).collect();
    for call in MEMORY {
        let not_executable = SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0).map_err(|e| failed(&e))?;
        rules.insert(call, vec![SeccompRule::new(vec![not_executable]).map_err(|e| failed(&e))?]);
    }
    let arch = std::env::consts::ARCH.try_into().map_err(|e: seccompiler::BackendError| failed(&e))?;
    let filter = SeccompFilter::new(rules, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow, arch).map_err(|e| failed(&e))?;
    filter.try_into().map_err(|e: seccompiler::BackendError| failed(&e))
}

/// CAP_CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, SETFCAP, and SYS_ADMIN for the attributes in `trusted`.
const CAPABILITIES: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 21 | 1 << 27 | 1 << 31;

/// For the whole process, before it has threads: no other root directory than the parent of all that is written, no
/// capability that isn't needed.
pub(super) fn process(area: BorrowedFd) -> Result<()> {
    let failed = |call: &'static str| move |e: Errno| e.error(call, "confining the unpacker", "");
    if geteuid() == 0 {
        let status = std::fs::read_to_string("/proc/self/status").map_err(|e| Error::io(&e, "reading", "/proc/self/status"))?;
        let ours = status.lines().find_map(|l| l.strip_prefix("CapPrm:")).and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default();
        fs::fchdir(area).map_err(failed("fchdir"))?;
        // In a user namespace that doesn't let us, the rest has to do.
        let _ = fs::chroot(c".");
        capset(ours & CAPABILITIES, ours & CAPABILITIES, 0).map_err(failed("capset"))?;
    }
    Ok(())
}

/// For the calling thread: its own umask (0) and working directory, then Landlock and seccomp.
pub(super) fn thread(area: BorrowedFd, filter: &BpfProgram) -> Result<()> {
    let failed = |call: &'static str| move |e: Errno| e.error(call, "confining the unpacker", "");
    const CLONE_FS: u64 = 0x200;
    unshare(CLONE_FS).map_err(failed("unshare"))?;
    fs::umask(0);
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(failed("prctl"))?;
    landlock::confine_to(&[area.as_fd()]).map_err(failed("landlock_restrict_self"))?;
    seccompiler::apply_filter(filter).map_err(|e| Error::other("confining the unpacker", "", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::process::Command;

    /// What is given up is gone, and what is needed is there.
    #[test]
    fn a_confined_thread_can_t_leave() {
        let dir = std::env::temp_dir().join(format!("dhow-confine-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let area = File::open(&dir).unwrap();
        let inside = dir.join("file");
        let outcome = std::thread::spawn(move || {
            thread(area.as_fd(), &filter().unwrap()).unwrap();
            fs::openat(area.as_fd(), c"file", libc::O_CREAT | libc::O_WRONLY, 0o600).unwrap();
            let runs = Command::new("/bin/true").status().is_ok();
            let connects = std::net::TcpListener::bind("127.0.0.1:0").is_ok();
            let reads = std::fs::read("/etc/passwd").is_ok();
            (runs, connects, reads)
        });
        let (runs, connects, reads) = outcome.join().unwrap();
        assert!(inside.exists() && !runs && !connects);
        assert!(!reads || landlock::version().is_none_or(|v| v < 2), "a file outside was read");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

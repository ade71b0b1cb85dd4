//! Processes, credentials and namespaces. All set*id calls are raw: libc's would signal other threads.

use super::{Errno, Result, check, retry};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

pub const CLONE_PIDFD: u64 = 0x1000;
pub const CLONE_PARENT: u64 = 0x8000;
pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
pub const CLONE_NEWTIME: u64 = 0x80;
pub const CLONE_NEWNS: u64 = 0x0002_0000;
pub const CLONE_NEWCGROUP: u64 = 0x0200_0000;
pub const CLONE_NEWUTS: u64 = 0x0400_0000;
pub const CLONE_NEWIPC: u64 = 0x0800_0000;
pub const CLONE_NEWUSER: u64 = 0x1000_0000;
pub const CLONE_NEWPID: u64 = 0x2000_0000;
pub const CLONE_NEWNET: u64 = 0x4000_0000;

/// `struct clone_args` of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A child that we made: its pid in our pid namespace and its pidfd.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// clone3(2) as a fork: `Ok(None)` in the child. `cgroup`: the v2 directory that it starts in (CLONE_INTO_CGROUP).
///
/// Only for a process of one thread, which dhow always is: the child has a copy of all memory, and no lock in it is
/// held by a thread that isn't there. libc doesn't know of the child, so that uses this module's raw calls until it execs.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd>) -> Result<Option<Child>> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs { flags: flags | CLONE_PIDFD, pidfd: &raw mut pidfd as u64, ..Default::default() };
    // With CLONE_PARENT the kernel takes the exit signal of our own parent's choice.
    if flags & CLONE_PARENT == 0 {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(dir) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = dir.as_raw_fd() as u64;
    }
    // SAFETY: `args` is valid and its size is given; no CLONE_VM, so the child has its own copy of this stack.
    match check(unsafe { libc::syscall(libc::SYS_clone3, &args, size_of::<CloneArgs>()) })? {
        0 => Ok(None),
        // SAFETY: CLONE_PIDFD filled `pidfd` with a new descriptor, close-on-exec.
        pid => Ok(Some(Child { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })),
    }
}

pub fn getpid() -> i32 {
    // SAFETY: always succeeds. Raw, since libc may cache it.
    unsafe { libc::syscall(libc::SYS_getpid) as i32 }
}

pub fn geteuid() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() }
}

pub fn getegid() -> u32 {
    // SAFETY: always succeeds.
    unsafe { libc::getegid() }
}

/// The program of `command` is killed when the thread that starts it is gone.
pub fn end_with_thread(command: &mut std::process::Command) {
    let set = || prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64).map(drop).map_err(|e| std::io::Error::from_raw_os_error(e.0));
    // SAFETY: between fork and exec this makes one system call, and nothing of it allocates or locks.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, set) };
}

pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: no memory is involved; the result is a new descriptor of ours.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: see above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

pub fn pidfd_send_signal(pidfd: BorrowedFd, signal: i32) -> Result<()> {
    // SAFETY: a null siginfo means that of kill(2).
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0usize, 0) }).map(drop)
}

/// pidfd_getfd(2) (Linux 5.6): a copy of the other process's descriptor `fd`.
pub fn pidfd_getfd(pidfd: BorrowedFd, fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: no memory is involved; the result is a new descriptor of ours.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })?;
    // SAFETY: see above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// The shell's convention: 128 + n for a signal.
    pub fn status(self) -> u8 {
        match self {
            Exit::Code(code) => code as u8,
            Exit::Signal(n) => (128 + n) as u8,
        }
    }
}

/// waitid(2) on a pidfd of a child (Linux 5.4). `block` false: None while it runs.
pub fn wait_pidfd(pidfd: BorrowedFd, block: bool) -> Result<Option<Exit>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::__WALL | if block { 0 } else { libc::WNOHANG };
    // SAFETY: waitid fills the struct; all zero (nothing ready) is valid too.
    let info = unsafe {
        retry(|| check(libc::waitid(libc::P_PIDFD, pidfd.as_raw_fd() as u32, info.as_mut_ptr(), flags)))?;
        info.assume_init()
    };
    // SAFETY: waitid's siginfo carries pid and status.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    Ok(Some(if info.si_code == libc::CLD_EXITED { Exit::Code(status) } else { Exit::Signal(status) }))
}

/// Reap children that have ended, but for the one of `pidfd`, whose status somebody else wants.
pub fn reap_orphans(pidfd: BorrowedFd) {
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: waitid fills the struct; all zero (nothing ready) is valid too. WNOWAIT leaves the child to be waited for.
        let pid = unsafe {
            libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL);
            info.assume_init().si_pid()
        };
        // Ours is ready too: poll tells of it, and what remains is reaped by our own end.
        if pid == 0 || has_ended(pidfd) {
            return;
        }
        // SAFETY: a null status pointer is allowed.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) };
    }
}

/// Is the pidfd readable: has its process ended?
fn has_ended(pidfd: BorrowedFd) -> bool {
    super::signal::poll(&[pidfd], 0).is_ok_and(|ready| ready != 0)
}

pub fn setns(fd: BorrowedFd, kinds: u64) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::setns(fd.as_raw_fd(), kinds as i32) }).map(drop)
}

pub fn unshare(kinds: u64) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::unshare(kinds as i32) }).map(drop)
}

pub fn setsid() -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::setsid() }).map(drop)
}

/// prctl(2) with one integer.
pub fn prctl(option: i32, value: u64) -> Result<i32> {
    // SAFETY: only used with options that take integers.
    check(unsafe { libc::prctl(option, value, 0u64, 0u64, 0u64) })
}

/// prctl(2) PR_CAP_AMBIENT_RAISE, or CLEAR_ALL for None.
pub fn ambient(capability: Option<u32>) -> Result<()> {
    let (what, capability) = match capability {
        Some(n) => (libc::PR_CAP_AMBIENT_RAISE, n as u64),
        None => (libc::PR_CAP_AMBIENT_CLEAR_ALL, 0),
    };
    // SAFETY: integers only.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, what as u64, capability, 0u64, 0u64) }).map(drop)
}

/// capset(2) on this thread, version 3.
pub fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let header = Header { version: 0x2008_0522, pid: 0 };
    let half = |shift: u32| Data { effective: (effective >> shift) as u32, permitted: (permitted >> shift) as u32, inheritable: (inheritable >> shift) as u32 };
    let data = [half(0), half(32)];
    // SAFETY: version 3 takes the header and two data structs.
    check(unsafe { libc::syscall(libc::SYS_capset, &header, data.as_ptr()) }).map(drop)
}

pub fn setresuid(uid: u32) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

pub fn setresgid(gid: u32) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

pub fn setgroups(gids: &[u32]) -> Result<()> {
    // SAFETY: `gids` is readable for its length.
    check(unsafe { libc::syscall(libc::SYS_setgroups, gids.len(), gids.as_ptr()) }).map(drop)
}

/// prlimit(2).
pub fn set_rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    // SAFETY: the kernel's rlimit64 is two u64; the old value isn't asked for.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, limit.as_ptr(), 0usize) }).map(drop)
}

/// How many descriptors a process may have. libc's constant has another type with musl than with glibc.
#[allow(clippy::unnecessary_cast)]
pub const DESCRIPTORS: u32 = libc::RLIMIT_NOFILE as u32;

/// Our own limit: (soft, hard).
pub fn rlimit(resource: u32) -> Result<(u64, u64)> {
    let mut limit = [0u64; 2];
    // SAFETY: the kernel's rlimit64 is two u64; no new value is given.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, 0usize, limit.as_mut_ptr()) })?;
    Ok((limit[0], limit[1]))
}

/// `struct sched_attr`, version 0 with its 48 bytes (sched_setattr(2), Linux 3.14).
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

pub fn sched_setattr(attr: &SchedAttr) -> Result<()> {
    // SAFETY: `attr` is valid and tells its size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, attr, 0) }).map(drop)
}

/// sched_setaffinity(2) on ourselves; bit n of `mask` is CPU n.
pub fn sched_setaffinity(mask: &[u8]) -> Result<()> {
    // SAFETY: `mask` is readable for its length.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, mask.len(), mask.as_ptr()) }).map(drop)
}

/// ioprio_set(2) on ourselves.
pub fn ioprio_set(class: u32, priority: u32) -> Result<()> {
    const WHO_PROCESS: i32 = 1;
    // SAFETY: no memory is involved.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, (class << 13) | priority) }).map(drop)
}

/// set_mempolicy(2); bit n of `nodes` is node n.
pub fn set_mempolicy(mode: u32, nodes: &[u64]) -> Result<()> {
    let (ptr, bits) = if nodes.is_empty() { (std::ptr::null(), 0) } else { (nodes.as_ptr(), nodes.len() * 64 + 1) };
    // SAFETY: the kernel reads `bits - 1` bits.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, ptr, bits) }).map(drop)
}

pub fn personality(persona: u64) -> Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::personality(persona as libc::c_ulong) }).map(drop)
}

pub fn sethostname(name: &[u8]) -> Result<()> {
    // SAFETY: `name` is readable for its length.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

pub fn setdomainname(name: &[u8]) -> Result<()> {
    // SAFETY: `name` is readable for its length.
    check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// keyctl(2) KEYCTL_JOIN_SESSION_KEYRING, then add these permission bits to what a new ring has.
pub fn join_session_keyring(name: &CStr, add_permissions: u32) -> Result<()> {
    const JOIN_SESSION_KEYRING: u32 = 1;
    const SETPERM: u32 = 5;
    /// What the kernel gives a joined ring: all to its possessor, view, read and link to its user
    /// (security/keys/process_keys.c, join_session_keyring).
    const NEW_RING: u32 = 0x3f13_0000;
    // SAFETY: `name` is a valid C string.
    let ring = check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) })?;
    if add_permissions == 0 {
        return Ok(());
    }
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_keyctl, SETPERM, ring, NEW_RING | add_permissions) }).map(drop)
}

/// seccomp(2) SECCOMP_SET_MODE_FILTER; `program` is an array of struct sock_filter (8 bytes each). With
/// SECCOMP_FILTER_FLAG_NEW_LISTENER in `flags` the result is the listener's descriptor.
pub fn seccomp_filter(program: &[u64], flags: u32) -> Result<RawFd> {
    #[repr(C)]
    struct Prog {
        len: u16,
        filter: *const u64,
    }
    const SET_MODE_FILTER: u32 = 1;
    let prog = Prog { len: program.len() as u16, filter: program.as_ptr() };
    // SAFETY: `prog` and the filter it points to are valid; the kernel checks the program.
    check(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &prog) }).map(|fd| fd as RawFd)
}

/// Strings and the null-terminated array of pointers to them that execve(2) wants, made before the clone.
pub struct Strings {
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
    /// The first entry, to be filled in the child without allocating.
    slot: Option<RefCell<Box<[u8]>>>,
}

impl Strings {
    /// The longest entry that a slot takes, its NUL included.
    const SLOT: usize = 4096;

    pub fn new(strings: Vec<CString>) -> Strings {
        let mut pointers: Vec<*const c_char> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Strings { pointers, _strings: strings, slot: None }
    }

    /// With a first entry `initial` that [`Strings::fill`] may change later.
    pub fn with_slot(initial: &str, strings: Vec<CString>) -> Strings {
        let mut out = Strings::new(strings);
        let slot = vec![0u8; Strings::SLOT].into_boxed_slice();
        // The box is never replaced, so the pointer stays good for as long as `self`.
        out.pointers.insert(0, slot.as_ptr().cast());
        out.slot = Some(RefCell::new(slot));
        out.fill(&[initial.as_bytes()]);
        out
    }

    /// Set the slot to `parts` joined; false where there is no slot, it's too long or holds a NUL.
    pub fn fill(&self, parts: &[&[u8]]) -> bool {
        let Some(Ok(mut slot)) = self.slot.as_ref().map(|s| s.try_borrow_mut()) else { return false };
        let len: usize = parts.iter().map(|p| p.len()).sum();
        if len >= slot.len() || parts.iter().any(|p| p.contains(&0)) {
            return false;
        }
        let mut at = 0;
        for part in parts {
            slot[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        slot[at] = 0;
        true
    }
}

/// execve(2); returns only on failure.
pub fn execve(path: &CStr, argv: &Strings, envp: &Strings) -> Errno {
    // SAFETY: a `Strings` ends in null and points to C strings that live as long as it does.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    Errno::last()
}

/// execveat(2) of the file that `fd` is, with our own arguments and environment; returns only on failure.
pub fn exec_again(fd: BorrowedFd, argv: &Strings, envp: &Strings) -> Errno {
    // SAFETY: as in [`execve`].
    unsafe { libc::syscall(libc::SYS_execveat, fd.as_raw_fd(), c"".as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr(), libc::AT_EMPTY_PATH) };
    Errno::last()
}

/// End at once, without libc's handlers: those are the parent's.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(code) }
}

/// One word in memory that a child and its parent share: how far the child has come, readable even after a SIGKILL.
pub struct Progress(&'static AtomicU32);

impl Progress {
    pub fn new() -> Result<Progress> {
        // SAFETY: a new anonymous mapping; page-aligned and zeroed, so a valid AtomicU32, and unmapped only in drop.
        unsafe {
            let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0);
            if page == libc::MAP_FAILED {
                return Err(Errno::last());
            }
            Ok(Progress(&*page.cast::<AtomicU32>()))
        }
    }

    pub fn set(&self, step: usize) {
        self.0.store(step as u32, Ordering::Relaxed);
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed) as usize
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; the reference is not handed out.
        unsafe { libc::munmap(std::ptr::from_ref(self.0).cast_mut().cast(), 4096) };
    }
}

/// The name that ps(1) shows (prctl(2) PR_SET_NAME).
pub fn set_name(name: &CStr) {
    // SAFETY: the kernel reads up to 16 bytes of a C string. It can't fail with a valid one.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0u64, 0u64, 0u64) };
}

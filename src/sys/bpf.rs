//! bpf(2), as far as a cgroup's device program needs it (linux/bpf.h).

use super::{Errno, Result, check};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `struct bpf_insn`: destination register in the low four bits of `registers`, source in the high.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BpfInsn {
    pub code: u8,
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// `union bpf_attr` for PROG_LOAD, up to `expected_attach_type`'s predecessor; the kernel takes the rest as zero.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// `union bpf_attr` for PROG_ATTACH and PROG_DETACH.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// `union bpf_attr` for PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// `union bpf_attr` for PROG_GET_FD_BY_ID.
#[repr(C)]
#[derive(Default)]
struct GetById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> Result<libc::c_long> {
    // SAFETY: `attr` is one of the four structs above, which lay out the union for its command; its length goes along,
    // and the pointers in it stay valid for the call: each caller below borrows what they point to.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut T, size_of::<T>()) })
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: only called with what bpf(2) has just returned as a new descriptor (which is CLOEXEC).
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// Load a device program. `log`, if not empty, receives the verifier's words.
pub fn load_device_program(program: &[BpfInsn], log: &mut [u8]) -> Result<OwnedFd> {
    let mut name = [0; 16];
    name[..12].copy_from_slice(b"dhow_devices");
    let mut attr = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        prog_name: name,
        ..Load::default()
    };
    if !log.is_empty() {
        (attr.log_level, attr.log_size, attr.log_buf) = (1, log.len() as u32, log.as_mut_ptr() as u64);
    }
    bpf(BPF_PROG_LOAD, &mut attr).map(owned)
}

/// Attach a device program to the cgroup, beside those that are there, or in the place of `replaced` (Linux 5.6).
pub fn attach_device_program(cgroup: BorrowedFd, program: BorrowedFd, replaced: Option<BorrowedFd>) -> Result<()> {
    let mut attr = Attach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
        replace_bpf_fd: 0,
    };
    if let Some(old) = replaced {
        attr.attach_flags |= BPF_F_REPLACE;
        attr.replace_bpf_fd = old.as_raw_fd() as u32;
    }
    bpf(BPF_PROG_ATTACH, &mut attr).map(drop)
}

pub fn detach_device_program(cgroup: BorrowedFd, program: BorrowedFd) -> Result<()> {
    let mut attr =
        Attach { target_fd: cgroup.as_raw_fd() as u32, attach_bpf_fd: program.as_raw_fd() as u32, attach_type: BPF_CGROUP_DEVICE, ..Attach::default() };
    bpf(BPF_PROG_DETACH, &mut attr).map(drop)
}

/// Ids of the device programs that are attached to this very cgroup. A cgroup holds at most 64 (BPF_CGROUP_MAX_PROGS).
pub fn attached_device_programs(cgroup: BorrowedFd) -> Result<Vec<u32>> {
    let mut ids = vec![0u32; 64];
    let mut attr = Query {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        ..Query::default()
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    ids.truncate(attr.prog_cnt as usize);
    Ok(ids)
}

pub fn program_by_id(id: u32) -> Result<OwnedFd> {
    bpf(BPF_PROG_GET_FD_BY_ID, &mut GetById { id, ..GetById::default() }).map(owned)
}

/// Run `load` with RLIMIT_MEMLOCK lifted, and put the limit back: kernels before 5.11 count a program against it, and
/// answer EPERM when it is too low.
pub fn with_memlock_lifted<T>(load: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `old` is writable.
    check(unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut old) })?;
    let lifted = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `lifted` is readable.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &lifted) })?;
    let outcome = load();
    // SAFETY: `old` is readable.
    let restored = check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &old) });
    match (outcome, restored) {
        (Ok(_), Err(Errno(e))) => Err(Errno(e)),
        (outcome, _) => outcome,
    }
}

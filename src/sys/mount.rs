//! Mounts by descriptor: the mount API of Linux 5.2 and mount_setattr(2) of 5.12.

use super::fs::CWD;
use super::{Errno, Result, check};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub const OPEN_TREE_CLONE: u32 = 1;
pub const AT_RECURSIVE: u32 = 0x8000;
pub const MOUNT_ATTR_RDONLY: u64 = 0x1;
pub const MOUNT_ATTR_NOSUID: u64 = 0x2;
pub const MOUNT_ATTR_NODEV: u64 = 0x4;
pub const MOUNT_ATTR_NOEXEC: u64 = 0x8;
pub const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// `struct mount_attr`, version 0.
#[repr(C)]
#[derive(Default, Clone, Copy)]
pub struct MountAttr {
    pub set: u64,
    pub clear: u64,
    /// One of MS_SHARED, MS_PRIVATE, MS_SLAVE, MS_UNBINDABLE, or 0.
    pub propagation: u64,
    pub userns_fd: u64,
}

fn owned(ret: libc::c_long) -> Result<OwnedFd> {
    let fd = check(ret)?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// open_tree(2): a detached copy of the mount (with `recursive`, of the tree) at `path`; empty `path`: `dir` itself.
pub fn clone_tree(dir: BorrowedFd, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as u32;
    if path.is_empty() {
        flags |= libc::AT_EMPTY_PATH as u32;
    }
    if recursive {
        flags |= AT_RECURSIVE;
    }
    // SAFETY: `path` is a valid C string.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
}

/// move_mount(2): attach the detached `tree` on what `target` is.
pub fn attach(tree: BorrowedFd, target: BorrowedFd) -> Result<()> {
    const F_EMPTY_PATH: u32 = 0x04;
    const T_EMPTY_PATH: u32 = 0x40;
    // SAFETY: the empty strings are valid C strings.
    check(unsafe { libc::syscall(libc::SYS_move_mount, tree.as_raw_fd(), c"".as_ptr(), target.as_raw_fd(), c"".as_ptr(), F_EMPTY_PATH | T_EMPTY_PATH) })
        .map(drop)
}

/// mount_setattr(2) on what `fd` is the root of.
pub fn set_attr(fd: BorrowedFd, attr: &MountAttr, recursive: bool) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH as u32 | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `attr` is valid for the call, the size given is the struct's.
    check(unsafe { libc::syscall(libc::SYS_mount_setattr, fd.as_raw_fd(), c"".as_ptr(), flags, attr, size_of::<MountAttr>()) }).map(drop)
}

/// fsopen(2).
pub fn fsopen(fs: &CStr) -> Result<OwnedFd> {
    const FSOPEN_CLOEXEC: u32 = 1;
    // SAFETY: `fs` is a valid C string.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, fs.as_ptr(), FSOPEN_CLOEXEC) })
}

/// fsconfig(2): set a parameter; None is a flag without a value.
pub fn fsconfig(context: BorrowedFd, key: &CStr, value: Option<&CStr>) -> Result<()> {
    const SET_FLAG: u32 = 0;
    const SET_STRING: u32 = 1;
    let (command, value) = match value {
        Some(value) => (SET_STRING, value.as_ptr()),
        None => (SET_FLAG, std::ptr::null()),
    };
    // SAFETY: `key` and `value` are valid C strings or null as the command wants.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key.as_ptr(), value, 0) }).map(drop)
}

/// fsconfig(2) FSCONFIG_CMD_CREATE: make the superblock.
pub fn fs_create(context: BorrowedFd) -> Result<()> {
    const CMD_CREATE: u32 = 6;
    // SAFETY: the command takes null for key and value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CMD_CREATE, 0usize, 0usize, 0) }).map(drop)
}

/// fsconfig(2) FSCONFIG_CMD_RECONFIGURE.
pub fn fs_reconfigure(context: BorrowedFd) -> Result<()> {
    const CMD_RECONFIGURE: u32 = 7;
    // SAFETY: the command takes null for key and value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CMD_RECONFIGURE, 0usize, 0usize, 0) }).map(drop)
}

/// fspick(2): a context to reconfigure the file system whose mount `fd` is.
pub fn fspick(fd: BorrowedFd) -> Result<OwnedFd> {
    const FSPICK_CLOEXEC: u32 = 1;
    const FSPICK_EMPTY_PATH: u32 = 8;
    // SAFETY: the empty string is a valid C string.
    owned(unsafe { libc::syscall(libc::SYS_fspick, fd.as_raw_fd(), c"".as_ptr(), FSPICK_CLOEXEC | FSPICK_EMPTY_PATH) })
}

/// fsmount(2): a detached mount of the created superblock with these MOUNT_ATTR_* bits.
pub fn fsmount(context: BorrowedFd, attributes: u64) -> Result<OwnedFd> {
    const FSMOUNT_CLOEXEC: u32 = 1;
    // SAFETY: no memory is involved.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes as u32) })
}

/// The message that the file system left in its context, such as `tmpfs: Bad value for 'size'`.
pub fn fs_message<'b>(context: BorrowedFd, buf: &'b mut [u8]) -> &'b [u8] {
    match super::fs::read(context, buf) {
        // Messages begin with a severity letter and a space.
        Ok(n) if n > 2 => &buf[2..n],
        _ => &[],
    }
}

/// mount(2) in its old form, for what the new API has no call for.
pub fn mount(source: &CStr, target: &CStr, fs: &CStr, flags: u64, data: Option<&CStr>) -> Result<()> {
    let data = data.map_or(std::ptr::null(), |d| d.as_ptr().cast());
    // SAFETY: all are valid C strings, data may be null.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), fs.as_ptr(), flags as libc::c_ulong, data) }).map(drop)
}

/// Change the propagation of the mount at `path`; `flags` MS_* with or without MS_REC.
pub fn propagate(path: &CStr, flags: u64) -> Result<()> {
    mount(c"", path, c"", flags, None)
}

pub fn unmount(path: &CStr, flags: i32) -> Result<()> {
    // SAFETY: `path` is a valid C string.
    check(unsafe { libc::umount2(path.as_ptr(), flags) }).map(drop)
}

/// pivot_root(".", "."): the working directory becomes the root, the old root lies on top of it (pivot_root(2), NOTES).
pub fn pivot_to_cwd() -> Result<()> {
    // SAFETY: both are valid C strings.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) }).map(drop)
}

/// Move the mount at the working directory over `/` (MS_MOVE), for `--no-pivot`.
pub fn move_cwd_over_root() -> Result<()> {
    mount(c".", c"/", c"", libc::MS_MOVE, None)
}

/// An O_PATH descriptor of `path` on the host, symlinks followed.
pub fn open_path(path: &CStr) -> Result<OwnedFd> {
    super::fs::openat(CWD, path, libc::O_PATH, 0)
}

/// True where the kernel answered that it lacks the call or forbids it by policy.
pub fn is_unavailable(e: Errno) -> bool {
    matches!(e.0, libc::ENOSYS | libc::EPERM | libc::EOPNOTSUPP)
}

//! System calls, and the only unsafe code beside `stage/freeze.rs`.
//!
//! Thin: one function a call, typed arguments, [`Errno`] back. Nothing here allocates, locks or formats, so all of it
//! may be called in the child between clone and exec.

pub mod alloc;
pub mod bpf;
pub mod cgroup;
#[cfg(target_arch = "x86_64")]
pub mod entry;
pub mod fs;
pub mod landlock;
pub mod mount;
pub mod net;
pub mod netlink;
pub mod process;
pub mod signal;
pub mod socket;
pub mod tree;
pub mod tty;

/// The entry point saw that this program runs from a read-only mount.
pub fn began_sealed() -> bool {
    #[cfg(target_arch = "x86_64")]
    return entry::began_sealed();
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// The kernel's error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

pub type Result<T> = std::result::Result<T, Errno>;

impl Errno {
    fn last() -> Errno {
        // SAFETY: __errno_location returns this thread's errno, always valid.
        Errno(unsafe { *libc::__errno_location() })
    }

    /// As the library's error: `call` names the system call.
    pub fn error(self, call: &'static str, doing: impl Into<String>, subject: impl Into<String>) -> crate::Error {
        crate::Error::kernel(call, self.0, doing, subject)
    }
}

/// The C convention: -1 is a failure told in errno.
fn check<T: PartialEq + From<i8>>(ret: T) -> Result<T> {
    if ret == T::from(-1) { Err(Errno::last()) } else { Ok(ret) }
}

/// Call again for as long as a signal interrupts.
pub fn retry<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno(libc::EINTR)) => continue,
            other => return other,
        }
    }
}

//! The runtime's binary, out of the container's reach (CVE-2019-5736).
//!
//! A process of the container can open /proc/PID/exe of ours while we join it, or be us: an entrypoint of
//! `/proc/self/exe`, or a script that names it as its interpreter. What it opens must not be writable. So dhow runs
//! from a read-only mount of its own binary, attached nowhere, which dies with its last process: two system calls and
//! one exec more, against milliseconds for a copy in memory. The copy serves where we may not mount. Where the entry
//! point knows how, it has done so before anything else was (`sys::entry`).

use crate::sys::fs::{self, CWD};
use crate::sys::mount::{self, MOUNT_ATTR_RDONLY, MountAttr};
use crate::sys::process::{self, Strings};
use crate::{Error, Result, sys};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

const SELF: &std::ffi::CStr = c"/proc/self/exe";

/// Go on only as a sealed program: exec ourselves again if we aren't one. Before anything was opened or made.
pub fn run_sealed() -> Result<()> {
    let failed = |call: &'static str| move |e: crate::sys::Errno| e.error(call, "protecting the runtime's binary from the container", "");
    if sys::began_sealed() || is_sealed().map_err(failed("fstatvfs"))? {
        // The name of a program that was executed by descriptor is that descriptor's number.
        process::set_name(c"dhow");
        return Ok(());
    }
    let sealed = match read_only_mount() {
        Ok(tree) => tree,
        Err(_) => sealed_copy().map_err(failed("memfd_create"))?,
    };
    let argv = Strings::new(std::env::args_os().filter_map(|a| CString::new(a.into_vec()).ok()).collect());
    let joined = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
        let mut entry = key.into_vec();
        entry.push(b'=');
        entry.extend(value.into_vec());
        CString::new(entry).ok()
    };
    let envp = Strings::new(std::env::vars_os().filter_map(joined).collect());
    let e = process::exec_again(sealed.as_fd(), &argv, &envp);
    Err(Error::kernel("execveat", e.0, "running the runtime from a read-only mount of itself", ""))
}

fn is_sealed() -> sys::Result<bool> {
    let exe = fs::openat(CWD, SELF, libc::O_PATH, 0)?;
    Ok(fs::is_on_read_only_mount(exe.as_fd())? || is_sealed_copy())
}

fn read_only_mount() -> sys::Result<OwnedFd> {
    let tree = mount::clone_tree(CWD, SELF, false)?;
    mount::set_attr(tree.as_fd(), &MountAttr { set: MOUNT_ATTR_RDONLY, ..Default::default() }, false)?;
    Ok(tree)
}

/// memfd_create(2) with all seals set.
fn sealed_copy() -> sys::Result<OwnedFd> {
    let exe = fs::openat(CWD, SELF, libc::O_RDONLY, 0)?;
    let copy = fs::sealable_memfd(c"dhow")?;
    fs::copy_all(exe.as_fd(), copy.as_fd())?;
    fs::seal(copy.as_fd())?;
    Ok(copy)
}

fn is_sealed_copy() -> bool {
    fs::openat(CWD, SELF, libc::O_RDONLY, 0).is_ok_and(|exe| fs::is_sealed(exe.as_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_sealed_copy_is_whole_and_can_t_be_written() {
        let copy = sealed_copy().unwrap();
        assert!(fs::is_sealed(copy.as_fd()));
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), std::fs::metadata("/proc/self/exe").unwrap().len());
        let mut writer = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let refused = [writer.write(b"x").unwrap_err(), writer.set_len(0).unwrap_err(), writer.set_len(1 << 30).unwrap_err()];
        assert!(refused.iter().all(|e| e.raw_os_error() == Some(libc::EPERM)), "{refused:?}");
    }
}

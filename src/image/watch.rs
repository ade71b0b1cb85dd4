//! A process that outlives a killed build, to end its containers and remove its directories: dhowctl again, by another
//! name. A kill leaves nobody else to do it, and a container's init doesn't die with those who started it.
//!
//!     stdin      a pidfd of the build, which tells when all of it is gone
//!     arguments  the store's directory

use super::layers::Layers;
use super::live;
use super::store::{Store, failed};
use crate::sys::{self, process, signal};
use crate::{Error, Result};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The name by which dhowctl knows that it is to watch.
const NAME: &str = "dhowctl: watching a build";

/// Whether this process is meant to watch.
pub fn is_wanted(argv0: Option<&OsStr>) -> bool {
    argv0.is_some_and(|name| name == NAME)
}

/// Our watcher. Dropped, it is told to go: we clean up ourselves.
pub struct Watch(Child);

impl Watch {
    /// `store`: an absolute path, as all that is mounted below it was mounted by.
    pub fn start(store: &Path) -> Result<Watch> {
        let us = process::pidfd_open(process::getpid()).map_err(|e| e.error("pidfd_open", "starting the build's watcher", ""))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0(NAME).arg(store).stdin(Stdio::from(us)).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Watch).map_err(|e| Error::io(&e, "starting the build's watcher", ""))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The watcher: until the build is gone, and then until nothing of it is left.
///
/// # Errors
/// Something can't be removed. There is nobody to tell; the next build tries again.
pub fn main(store: Option<&OsStr>) -> Result<()> {
    process::set_name(c"dhowctl-watch");
    // What is sent to the build's terminal or its group isn't for us.
    let _ = process::setsid();
    signal::poll(&[sys::fs::STDIO[0]], -1).map_err(|e| e.error("poll", "watching", "a build"))?;
    let store = Path::new(store.unwrap_or_default());
    live::remove_left(&store.join("run"))?;
    // The mounts that we have from the build would be in the way; nobody else is to lose theirs.
    live::own_mounts()?;
    unmount_below(store)?;
    let store = Store::existing(store)?;
    store.remove_left();
    Layers::open(&store)?.remove_left()
}

/// The last mounted first.
fn unmount_below(dir: &Path) -> Result<()> {
    let table = "/proc/self/mountinfo";
    let text = std::fs::read(table).map_err(failed("reading", Path::new(table)))?;
    let points = text.split(|b| *b == b'\n').filter_map(|line| line.split(|b| *b == b' ').nth(4)).map(unescaped);
    for point in points.filter(|point| point.starts_with(dir) && point != dir).collect::<Vec<_>>().into_iter().rev() {
        if let Ok(point) = CString::new(point.into_os_string().into_vec()) {
            let _ = sys::mount::unmount(&point, libc::MNT_DETACH);
        }
    }
    Ok(())
}

/// A path of mountinfo (proc(5)): three octal digits stand for what would end it.
fn unescaped(path: &[u8]) -> PathBuf {
    let (mut out, mut rest) = (Vec::new(), path);
    while let [first, after @ ..] = rest {
        let digits = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_read_without_its_escapes() {
        assert_eq!(unescaped(b"/a\\040b\\134/c"), Path::new("/a b\\/c"));
        assert_eq!(unescaped(b"/a\\"), Path::new("/a\\"));
    }
}

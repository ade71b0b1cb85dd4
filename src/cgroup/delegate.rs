//! Handing a v2 cgroup over to whoever runs in it: systemd in a container, another runtime (cgroup-v2.rst § Delegation).

use super::{Cgroup, Version};
use crate::{Error, Result};
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

/// The files that belong to a delegatee, one a line (Linux 4.15).
const LIST: &str = "/sys/kernel/cgroup/delegate";
/// What kernels before it had of them (cgroups(7)).
const OLD_LIST: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";

impl Cgroup {
    /// Make user `uid` of the host the owner of the directory and of the files that a delegatee may write: no limit is
    /// among them. v2 only; a v1 cgroup can't be handed over safely, and nothing is done.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        let (Version::V2, Some(dir)) = (self.version, self.path("")) else { return Ok(()) };
        let list = std::fs::read_to_string(LIST).unwrap_or_else(|_| OLD_LIST.into());
        own(dir, uid).or_else(|e| self.judge(e, dir))?;
        for name in list.lines() {
            match own(&dir.join(name), uid) {
                // Controllers that this cgroup does not have are in the list too (memory.reclaim).
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => self.judge(e, &dir.join(name))?,
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Without root only our own id can be given; a subordinate one does without.
    fn judge(&self, e: io::Error, path: &Path) -> Result<()> {
        match e.kind() {
            io::ErrorKind::PermissionDenied if self.rootless => Ok(()),
            _ => Err(Error::io(&e, "delegating the container's cgroup: changing the owner of", path.display().to_string())),
        }
    }
}

fn own(path: &Path, uid: u32) -> io::Result<()> {
    if std::fs::metadata(path)?.uid() == uid {
        return Ok(());
    }
    chown(path, Some(uid), None)
}

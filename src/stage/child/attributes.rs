//! Host name, sysctls, LSM attributes, scheduling: one small write or call each.

use super::{Child, Done, Fault, why};
use crate::stage::freeze::Action;
use crate::sys::fs::{self, resolve};
use crate::sys::{Errno, mount, process};
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

const PROC_SUPER_MAGIC: i64 = 0x9fa0;
/// The inode of a procfs's root; nothing that could be mounted over it has it on a procfs.
const PROC_ROOT_INO: u64 = 1;

impl Child<'_> {
    pub(super) fn set_attribute(&mut self, action: &Action) -> Done {
        match action {
            Action::Hostname { name } => Ok(process::sethostname(name)?),
            Action::Domainname { name } => Ok(process::setdomainname(name)?),
            Action::Sysctl { key, value } => self.write_proc(key, value),
            Action::Apparmor { value } => match self.write_lsm(c"self/attr/apparmor/exec", value) {
                // Kernels before 5.1 have AppArmor's attributes only under the shared name.
                Err(fault) if fault.errno == Errno(libc::ENOENT) => self.write_lsm(c"self/attr/exec", value),
                other => other,
            },
            Action::Selinux { value } => self.write_lsm(c"self/attr/exec", value),
            Action::Umask { mask } => {
                fs::umask(*mask);
                Ok(())
            }
            Action::Scheduler(attr) => Ok(process::sched_setattr(attr)?),
            Action::IoPriority { class, priority } => Ok(process::ioprio_set(*class, *priority)?),
            // A convenience: the runtime's own affinity is not the container's. More bits than CPUs do no harm.
            Action::AnyCpu => {
                let _ = process::sched_setaffinity(&[0xff; 1024 / 8]);
                Ok(())
            }
            Action::Affinity { mask } => {
                Ok(process::sched_setaffinity(mask).map_err(why(b"sched_setaffinity (are these CPUs online and in the cgroup's cpuset?)"))?)
            }
            Action::MemoryPolicy { mode, nodes } => Ok(process::set_mempolicy(*mode, nodes)?),
            Action::Personality { persona } => Ok(process::personality(*persona)?),
            Action::Rlimit { resource, soft, hard } => Ok(process::set_rlimit(0, *resource, *soft, *hard)?),
            other => self.set_process(other),
        }
    }

    pub(super) fn write_lsm(&mut self, path: &CStr, value: &[u8]) -> Done {
        self.write_proc(path, value)
    }

    /// Write below /proc, on a procfs that nobody else can have mounted anything over (CVE-2019-16884, CVE-2025-52881).
    fn write_proc(&mut self, path: &CStr, value: &[u8]) -> Done {
        let proc = self.private_proc()?;
        let flags = resolve::BENEATH | resolve::NO_XDEV | resolve::NO_MAGICLINKS;
        let file = fs::openat2(proc.as_fd(), path, libc::O_WRONLY, 0, flags).map_err(|e| Fault::new(e, &[b"opening /proc/", path.to_bytes()]))?;
        fs::write(file.as_fd(), value).map_err(|e| Fault::new(e, &[b"writing /proc/", path.to_bytes()]))?;
        Ok(())
    }

    /// A procfs mounted for us alone; where that is not allowed, the container's if it really is one.
    fn private_proc(&mut self) -> Result<OwnedFd, Fault> {
        let own = mount::fsopen(c"proc").and_then(|context| {
            mount::fs_create(context.as_fd())?;
            mount::fsmount(context.as_fd(), mount::MOUNT_ATTR_NOSUID | mount::MOUNT_ATTR_NODEV | mount::MOUNT_ATTR_NOEXEC)
        });
        if let Ok(own) = own {
            return Ok(own);
        }
        let proc = fs::openat2(self.root()?, c"proc", libc::O_PATH | libc::O_DIRECTORY, 0, resolve::IN_ROOT | resolve::NO_SYMLINKS)?;
        let real = fs::magic(proc.as_fd())? == PROC_SUPER_MAGIC && fs::fstat(proc.as_fd())?.st_ino == PROC_ROOT_INO;
        if !real {
            return Err(Fault::new(Errno(libc::EINVAL), &[b"/proc of the container is not a procfs"]));
        }
        Ok(proc)
    }
}

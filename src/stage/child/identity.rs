//! Who the process is and what it may: ids, capabilities, seccomp, LSM labels, scheduling.

use super::{Child, Done, Fault, why};
use crate::stage::freeze::{Action, Filter};
use crate::stage::wire::{Message, Tag};
use crate::sys::{Errno, fs, process};
use std::os::fd::BorrowedFd;

const NEW_LISTENER: u32 = 1 << 3;

impl Child<'_> {
    /// setgroups, setgid, setuid; the permitted capabilities stay for the step that sets them.
    pub(super) fn set_ids(&mut self, uid: u32, gid: u32, groups: Option<&[u32]>) -> Done {
        own_stdio(uid);
        process::prctl(libc::PR_SET_KEEPCAPS, 1)?;
        if let Some(groups) = groups {
            process::setgroups(groups).map_err(why(b"setgroups (are all of additionalGids mapped?)"))?;
        }
        process::setresgid(gid).map_err(why(b"setgid (is the gid mapped in the user namespace?)"))?;
        process::setresuid(uid).map_err(why(b"setuid (is the uid mapped in the user namespace?)"))?;
        process::prctl(libc::PR_SET_KEEPCAPS, 0)?;
        // A change of ids cleared the death signal; until Created the container dies with the runtime.
        self.die_with_parent()
    }

    pub(super) fn bounding_set(&self, keep: u64) -> Done {
        for capability in 0..=self.frozen.last_capability {
            if keep & (1 << capability) == 0 {
                process::prctl(libc::PR_CAPBSET_DROP, capability.into())?;
            }
        }
        Ok(())
    }

    pub(super) fn capabilities(&self, effective: u64, permitted: u64, inheritable: u64, ambient: u64) -> Done {
        process::capset(effective, permitted, inheritable).map_err(why(b"capset"))?;
        // Kernels before 4.3 have no ambient set.
        match process::ambient(None) {
            Ok(()) | Err(Errno(libc::EINVAL)) => {}
            Err(e) => return Err(e.into()),
        }
        for capability in (0..=self.frozen.last_capability).filter(|n| ambient & (1 << n) != 0) {
            match process::ambient(Some(capability)) {
                Ok(()) => {}
                // Not in permitted and inheritable: runc warns and goes on, and so does the plan.
                Err(Errno(libc::EPERM)) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    pub(super) fn seccomp(&self, filter: &Filter) -> Done {
        let flags = filter.flags | if filter.notify { NEW_LISTENER } else { 0 };
        if filter.notify && self.frozen.shown_for_listener {
            // After SetIds, which hides us; before the filter, which may catch prctl(2).
            process::prctl(libc::PR_SET_DUMPABLE, 1)?;
        }
        let fd = process::seccomp_filter(&filter.program, flags).map_err(why(b"installing the filter"))?;
        if filter.notify {
            // The parent takes a copy by pidfd_getfd(2) and passes it on; ours closes on exec.
            self.ask_parent(Message { tag: Tag::Listener, a: fd as u32, b: 0 })?;
        }
        Ok(())
    }

    pub(super) fn set_process(&mut self, action: &Action) -> Done {
        match action {
            Action::SetIds { uid, gid, groups } => self.set_ids(*uid, *gid, groups.as_deref()),
            Action::BoundingSet { keep } => self.bounding_set(*keep),
            Action::Capabilities { effective, permitted, inheritable, ambient } => self.capabilities(*effective, *permitted, *inheritable, *ambient),
            Action::Seccomp(filter) => self.seccomp(filter),
            Action::NoNewPrivileges => Ok(process::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map(drop)?),
            _ => Err(Fault::new(Errno(libc::ENOSYS), &[b"the child does not know this step"])),
        }
    }
}

/// Stdio that belongs to the runtime's user is given to the container's, so that /dev/stdout can be opened again there.
fn own_stdio(uid: u32) {
    for stdio in 0..3 {
        let fd = stdio_fd(stdio);
        let Ok(stat) = fs::fstat(fd) else { continue };
        let null = stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == libc::makedev(1, 3);
        if stat.st_uid != uid && !null {
            // Read-only file systems, ids that aren't mapped, sockets: it's a convenience, runc ignores those too.
            let _ = fs::fchown(fd, uid, stat.st_gid);
        }
    }
}

fn stdio_fd(n: usize) -> BorrowedFd<'static> {
    crate::sys::fs::STDIO[n]
}

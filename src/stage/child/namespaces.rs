//! Joining, making and settling into namespaces.

use super::{Child, Done, Fault, hide, why};
use crate::stage::wire::{self, Message, Tag};
use crate::sys::{Errno, fs, process};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// More v1 hierarchies than Linux has controllers.
const MOST_HIERARCHIES: usize = 32;

impl Child<'_> {
    /// All of a container's namespaces with one call (setns(2) by pidfd, Linux 5.8).
    pub(super) fn join_container(&mut self, flags: u64) -> Done {
        let init = self.lines.init.ok_or(Errno(libc::ESRCH))?;
        process::setns(init, flags)?;
        if flags & process::CLONE_NEWUSER != 0 {
            self.become_root()?;
        }
        Ok(())
    }

    pub(super) fn join_namespace(&mut self, fd: BorrowedFd, kind: u64) -> Done {
        process::setns(fd, kind)?;
        if kind == process::CLONE_NEWUSER { self.become_root() } else { Ok(()) }
    }

    pub(super) fn await_id_maps(&mut self, ask: bool) -> Done {
        if ask {
            wire::send(self.lines.wire, Message::new(Tag::IdMaps), b"")?;
        }
        wire::expect(self.lines.wire, Tag::Mapped)?;
        self.become_root()?;
        hide()
    }

    /// The parent writes them. As with the id maps, an unprivileged one may only while we are dumpable (proc(5)); there is
    /// nobody in our user namespace yet.
    pub(super) fn await_time_offsets(&mut self, unprivileged: bool) -> Done {
        if unprivileged {
            process::prctl(libc::PR_SET_DUMPABLE, 1)?;
        }
        self.ask_parent(Message::new(Tag::TimeOffsets))?;
        hide()
    }

    /// A pid or time namespace is only for children: fork as a sibling, hand its pidfd over, and end. The sibling
    /// waits until the parent knows it.
    pub(super) fn second_fork(&mut self) -> Done {
        if self.lines.init.is_some() {
            // From here on processes of the container see us: keep nothing of the host open.
            self.close_all_but_lines();
        }
        if let Some(child) = process::clone3(process::CLONE_PARENT, None)? {
            wire::send_fds(self.lines.wire, Message::new(Tag::Second), &[child.pidfd.as_raw_fd()])?;
            process::exit_now(0);
        }
        self.die_with_parent()?;
        wire::expect(self.lines.wire, Tag::Continue)?;
        Ok(())
    }

    /// By ourselves: moved by another process we would wait for a grace period (see `cgroup::join`). The parent makes
    /// the cgroups while we mount, and sends their files.
    pub(super) fn join_cgroup(&mut self, by_files: bool) -> Done {
        if !by_files {
            return Ok(());
        }
        let mut files = [const { None }; MOST_HIERARCHIES];
        let count = wire::expect_cgroup(self.lines.wire, &mut files)?;
        for file in files.iter().take(count).flatten() {
            fs::write(file.as_fd(), b"0")
                .map_err(|e| Fault::new(e, &[b"writing 0 to the tasks file of a v1 hierarchy (a cpuset without CPUs or memory nodes?)"]))?;
        }
        Ok(())
    }

    pub(super) fn session_keyring(&mut self, name: &CStr, label: Option<&CStr>, add_permissions: u32) -> Done {
        if let Some(label) = label {
            self.write_lsm(c"self/attr/keycreate", label.to_bytes())?;
        }
        match process::join_session_keyring(name, add_permissions) {
            // A kernel without keyrings, or one that forbids them, has none to protect either.
            Ok(()) | Err(Errno(libc::ENOSYS)) => {}
            Err(e) => return Err(Fault::new(e, &[b"a kernel without room for keys: see /proc/sys/kernel/keys"])),
        }
        if label.is_some() {
            self.write_lsm(c"self/attr/keycreate", b"")?;
        }
        Ok(())
    }

    /// Uid and gid 0 of the new user namespace, so that what we make belongs to its root.
    fn become_root(&self) -> Done {
        // Setgroups may be denied in a user namespace of a single mapping; then there is nothing to clear.
        let _ = process::setgroups(&[]);
        process::setresgid(0).map_err(why(b"becoming gid 0 of the user namespace (is 0 mapped in gidMappings?)"))?;
        process::setresuid(0).map_err(why(b"becoming uid 0 of the user namespace (is 0 mapped in uidMappings?)"))?;
        // Changing ids cleared the death signal (prctl(2)).
        self.die_with_parent()
    }
}

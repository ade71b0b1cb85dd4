//! The container's terminal: a pty of its own devpts.

use super::{Child, Done, Fault, why};
use crate::stage::root::{self, Want};
use crate::stage::wire::{self, Message, Tag};
use crate::sys::{Errno, fs, mount, tty};
use std::os::fd::{AsFd, AsRawFd};

impl Child<'_> {
    pub(super) fn console(&mut self, width: u16, height: u16, bind: bool) -> Done {
        let master = root::open(self.root()?, c"dev/pts/ptmx", libc::O_RDWR | libc::O_NOCTTY, true)
            .map_err(why(b"opening /dev/pts/ptmx (is a devpts mounted on /dev/pts?)"))?;
        // A pty of another file system would be the attacker's (CVE-2025-52565).
        if fs::magic(master.as_fd())? != tty::DEVPTS_SUPER_MAGIC {
            return Err(Fault::new(Errno(libc::EINVAL), &[b"/dev/pts/ptmx is not of a devpts file system"]));
        }
        tty::unlock(master.as_fd())?;
        let slave = tty::open_peer(master.as_fd())?;
        if width != 0 || height != 0 {
            tty::set_size(slave.as_fd(), width, height)?;
        }
        if bind {
            let target = root::ensure(self.root()?, c"dev/console", Want::File, true).map_err(why(b"making /dev/console"))?;
            let tree = mount::clone_tree(slave.as_fd(), c"", false)?;
            mount::attach(tree.as_fd(), target.as_fd())?;
        }
        wire::send_fds(self.lines.wire, Message::new(Tag::Console), &[master.as_raw_fd()])?;
        tty::make_controlling(slave.as_fd()).map_err(why(b"making it the controlling terminal"))?;
        for stdio in 0..3 {
            fs::dup2(slave.as_fd(), stdio)?;
        }
        // What the program writes must find the terminal as the parent sets it.
        Ok(wire::expect(self.lines.wire, Tag::Continue).map(drop)?)
    }
}

//! Device nodes and symlinks below /dev.

use super::{Child, Done, Fault};
use crate::stage::freeze::{Device, Node};
use crate::stage::root::{self, Want};
use crate::sys::{Errno, fs, mount};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

impl<'a> Child<'a> {
    /// The directory of a node, made where it is missing. Nodes come in rows, so it stays open for the next one, until
    /// there is a step of another kind.
    fn nodes_dir(&mut self, path: &'a CStr) -> Result<BorrowedFd<'_>, Fault> {
        let dir = match self.nodes_dir.take() {
            Some((of, dir)) if of == path => dir,
            _ => root::ensure(self.root()?, path, Want::Directory, true)?,
        };
        Ok(self.nodes_dir.insert((path, dir)).1.as_fd())
    }

    /// mknod(2), or a bind of the host's node where that is not allowed (a user namespace).
    pub(super) fn device(&mut self, d: &'a Device) -> Done {
        let (dir, name) = (self.nodes_dir(&d.node.dir)?, &d.node.name);
        if d.bind {
            return self.bind_device(d);
        }
        match fs::mknodat(dir, name, d.mode, d.major, d.minor) {
            Ok(()) => {}
            Err(Errno(libc::EEXIST)) => {
                // What the image put there must be that device; a symlink would be followed later (CVE-2025-31133).
                let stat = fs::lstatat(dir, name)?;
                let same = stat.st_mode & libc::S_IFMT == d.mode & libc::S_IFMT;
                let number = d.mode & libc::S_IFMT == libc::S_IFIFO || stat.st_rdev == libc::makedev(d.major, d.minor);
                if !same || !number {
                    return Err(Fault::new(Errno(libc::EEXIST), &[b"something else lies at that path in the rootfs"]));
                }
                return Ok(());
            }
            Err(Errno(libc::EPERM)) => return self.bind_device(d),
            Err(e) => return Err(e.into()),
        }
        if d.uid != 0 || d.gid != 0 {
            fs::lchownat(dir, name, d.uid, d.gid)?;
        }
        Ok(())
    }

    fn bind_device(&mut self, d: &Device) -> Done {
        let tree = mount::clone_tree(fs::CWD, &d.host_path, false).map_err(|e| Fault::new(e, &[b"binding the host's ", d.host_path.to_bytes()]))?;
        let target = root::ensure(self.root()?, &d.path, Want::File, true)?;
        Ok(mount::attach(tree.as_fd(), target.as_fd())?)
    }

    /// What has that name already stays, unless it is to be replaced.
    pub(super) fn symlink(&mut self, target: &CStr, node: &'a Node, replace: bool) -> Done {
        let (dir, name) = (self.nodes_dir(&node.dir)?, &node.name);
        if replace {
            match fs::unlinkat(dir, name, 0) {
                Ok(()) | Err(Errno(libc::ENOENT)) => {}
                Err(e) => return Err(e.into()),
            }
        }
        match fs::symlinkat(target, dir, name) {
            Ok(()) | Err(Errno(libc::EEXIST)) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    pub(super) fn make_directory(&mut self, path: &CStr) -> Done {
        Ok(root::ensure(self.root()?, path, Want::Directory, false).map(drop)?)
    }

    /// Stdio that is the host's /dev/null becomes the container's, so that it is not of a mount from outside.
    pub(super) fn reopen_dev_null(&mut self) -> Done {
        let null = self.null_device()?;
        let own = fs::fstat(null.as_fd())?;
        let mut opened = None;
        for (number, fd) in fs::STDIO.iter().enumerate() {
            let Ok(stat) = fs::fstat(*fd) else { continue };
            if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != own.st_rdev {
                continue;
            }
            if opened.is_none() {
                opened = Some(root::open(self.root()?, c"dev/null", libc::O_RDWR, true)?);
            }
            if let Some(opened) = &opened {
                fs::dup2(opened.as_fd(), number as i32)?;
            }
        }
        Ok(())
    }
}

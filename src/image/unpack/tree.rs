//! Where in the rootfs the unpacker is: an open descriptor for each directory from the root to the current one.
//!
//! Archives go through a tree depth first, so an entry's parent is nearly always open already, and an entry costs no
//! lookup. A directory's times, its mode where we couldn't write into it, and its default ACL (which its children would
//! inherit) are set when it is left; entered again, it keeps what it had. Some archives go to and fro between a few
//! directories, so the last few that were left stay open, and are settled when others take their place.
//!
//! Nothing outside can be reached: a component is opened in its parent without following a symlink, and where it is
//! one, openat2(2) resolves the path below the root (RESOLVE_IN_ROOT).

use super::Way;
use super::entry::show;
use super::remove::{names, open_by_force, remove};
use crate::sys::fs::{self, resolve};
use crate::sys::tree::{self, Time};
use crate::sys::{self, Errno};
use crate::{Error, Result};
use std::collections::HashSet;
use std::ffi::CStr;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const IN_ROOT: u64 = resolve::IN_ROOT | resolve::NO_MAGICLINKS;
pub(super) const DIRECTORY: i32 = libc::O_RDONLY | libc::O_DIRECTORY;
pub(super) const DEFAULT_ACL: &CStr = c"system.posix_acl_default";
pub(super) const ACCESS_ACL: &CStr = c"system.posix_acl_access";

/// A directory that is open.
pub(super) struct Level {
    pub fd: OwnedFd,
    /// Where its path ends in [`Tree::path`].
    end: usize,
    /// New files get its group.
    pub setgid: bool,
    /// 0 where nobody asks.
    inode: u64,
    /// Its path goes through a symlink, so that it has another one too.
    aliased: bool,
    /// It and those around it are known to be of this layer.
    marked: bool,
    /// What it gets when it is left, if its content or metadata changed: access and modification time.
    pub times: Option<(Time, Time)>,
    pub changed: bool,
    pub mode: Option<u32>,
    pub default_acl: Option<Vec<u8>>,
}

/// So many directories stay open that were left.
const MOST_KEPT: usize = 8;

/// A directory that was left. Its path leads to it as long as nothing is removed: see [`Tree::settle_kept`].
struct Kept {
    path: Vec<u8>,
    level: Level,
}

/// How a directory came to be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// Made just now.
    Fresh,
    There,
}

pub(super) struct Tree<'r> {
    root: BorrowedFd<'r>,
    /// Of the innermost level: components joined by one slash.
    path: Vec<u8>,
    /// From the root.
    levels: Vec<Level>,
    /// The last one left is the last one here.
    kept: Vec<Kept>,
    name: CBuf,
    way: Way,
    /// We may enter any directory whatever its mode.
    privileged: bool,
    /// Some directory below has a default ACL.
    pub acls: bool,
    made: Option<Made>,
    /// The last directory that no entry names but others are in.
    pub implied: Option<Vec<u8>>,
    /// Of a layer put down alone: what is no directory in it, but may lead to one in a layer below.
    pub leads_below: Option<Vec<u8>>,
}

/// What this layer made or changed, as hashes of (inode of the directory, name): whiteouts leave it alone.
struct Made {
    hashes: HashSet<u64>,
    hasher: RandomState,
}

impl Made {
    fn hash(&self, inode: u64, name: &[u8]) -> u64 {
        self.hasher.hash_one((inode, name))
    }
}

impl<'r> Tree<'r> {
    pub fn new(root: BorrowedFd<'r>, way: Way, privileged: bool, acls: bool) -> Result<Self> {
        let failed = |e: Errno| e.error("openat", "opening", "the root file system");
        let fd = fs::openat(root, c".", DIRECTORY, 0).map_err(failed)?;
        let made = (way == Way::Above).then(|| Made { hashes: HashSet::new(), hasher: RandomState::new() });
        let mut out = Tree {
            root,
            path: Vec::new(),
            levels: Vec::new(),
            kept: Vec::new(),
            name: CBuf::default(),
            way,
            privileged,
            acls,
            made,
            implied: None,
            leads_below: None,
        };
        if way != Way::Above {
            // Where the directory was made may have default ACLs; those are not the image's.
            let _ = tree::remove_xattr(fd.as_fd(), DEFAULT_ACL);
            let _ = tree::remove_xattr(fd.as_fd(), ACCESS_ACL);
        }
        out.push(fd, Met::There).map_err(failed)?;
        Ok(out)
    }

    pub fn innermost(&self) -> &Level {
        // The root is never left.
        &self.levels[self.levels.len() - 1]
    }

    pub fn innermost_mut(&mut self) -> &mut Level {
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Make `dir` the innermost level. What is missing of it is made, with `times`; without `times` the answer is false.
    pub fn enter(&mut self, dir: &[u8], times: Option<(Time, Time)>) -> Result<bool> {
        self.leave_to(dir)?;
        while self.path.len() < dir.len() {
            let start = if self.path.is_empty() { 0 } else { self.path.len() + 1 };
            let stop = dir[start..].iter().position(|b| *b == b'/').map_or(dir.len(), |n| start + n);
            if !self.descend(&dir[..stop], start, times)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where [`Tree::enter`] stopped short of `dir`: is what comes next hidden by this very layer?
    pub fn ends_at_whiteout(&mut self, dir: &[u8]) -> bool {
        let start = if self.path.is_empty() { 0 } else { self.path.len() + 1 };
        let rest = dir.get(start..).unwrap_or_default();
        let name = self.name.set(rest.split(|b| *b == b'/').next().unwrap_or_default());
        fs::lstatat(self.levels[self.levels.len() - 1].fd.as_fd(), name).is_ok_and(|stat| is_whiteout(&stat))
    }

    /// Enter the directory `name` of the innermost one, which was made just now.
    pub fn enter_fresh(&mut self, name: &[u8]) -> Result<()> {
        let failed = |e: Errno| e.error("openat", "opening the directory", show(name));
        let name = self.name.set(name);
        let fd = fs::openat(self.levels[self.levels.len() - 1].fd.as_fd(), name, DIRECTORY | libc::O_NOFOLLOW, 0).map_err(failed)?;
        extend(&mut self.path, name.to_bytes());
        self.push(fd, Met::Fresh).map_err(failed)
    }

    /// Leave all directories that `dir` isn't in.
    fn leave_to(&mut self, dir: &[u8]) -> Result<()> {
        let within = |end: usize, path: &[u8]| dir.len() >= end && dir[..end] == path[..end] && (dir.len() == end || dir[end] == b'/');
        while self.levels.len() > 1 && !within(self.path.len(), &self.path) {
            self.leave()?;
        }
        Ok(())
    }

    /// Leave all: the tree is done.
    pub fn finish(&mut self) -> Result<()> {
        while !self.levels.is_empty() {
            self.leave()?;
        }
        self.settle_kept()
    }

    fn leave(&mut self) -> Result<()> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        if level.aliased {
            level.settle(&self.path)?;
        } else {
            if self.kept.len() == MOST_KEPT {
                let Kept { path, level } = self.kept.remove(0);
                level.settle(&path)?;
            }
            self.kept.push(Kept { path: self.path.clone(), level });
        }
        self.path.truncate(self.levels.last().map_or(0, |outer| outer.end));
        Ok(())
    }

    /// Be done with the directories that were left. Before anything is removed, since it may be one of them, and before a
    /// symlink is followed, since it may lead to one.
    pub fn settle_kept(&mut self) -> Result<()> {
        self.kept.drain(..).try_for_each(|kept| kept.level.settle(&kept.path))
    }

    /// Enter `path` again, a directory of the innermost one, if it is still open.
    fn enter_kept(&mut self, path: &[u8]) -> bool {
        let Some(at) = self.kept.iter().rposition(|kept| kept.path == path) else { return false };
        let Kept { path, level } = self.kept.remove(at);
        self.path = path;
        self.levels.push(level);
        true
    }

    /// Open the next component: `prefix[start..]`, all before it is open.
    fn descend(&mut self, prefix: &[u8], start: usize, times: Option<(Time, Time)>) -> Result<bool> {
        if self.enter_kept(prefix) {
            return Ok(true);
        }
        let failed = |call: &'static str, e: Errno| e.error(call, "opening the directory", show(prefix));
        let parent = self.levels[self.levels.len() - 1].fd.as_fd();
        let name = self.name.set(&prefix[start..]);
        let mut mode = None;
        let opened = match fs::openat(parent, name, DIRECTORY | libc::O_NOFOLLOW, 0) {
            Err(Errno(libc::EACCES)) if !self.privileged => open_by_force(parent, name).map(|(fd, before)| {
                mode = Some(before);
                fd
            }),
            other => other,
        };
        let mut aliased = false;
        let (fd, met) = match opened {
            Ok(fd) => (fd, Met::There),
            Err(Errno(libc::ENOENT)) if times.is_none() => return Ok(false),
            Err(Errno(libc::ENOENT)) => (self.imply(prefix, start)?, Met::Fresh),
            Err(Errno(libc::ENOTDIR | libc::ELOOP)) => match self.through(prefix, start, times)? {
                Some(found) => {
                    aliased = found.1 == Met::There;
                    found
                }
                None => return Ok(false),
            },
            Err(e) => return Err(failed("openat", e)),
        };
        let outer_setgid = self.innermost().setgid;
        extend(&mut self.path, &prefix[start..]);
        self.push(fd, met).map_err(|e| failed("fstat", e))?;
        let level = self.innermost_mut();
        level.mode = mode;
        level.aliased |= aliased;
        if met == Met::Fresh {
            // mkdir(2) hands the bit down, with the group.
            (level.times, level.changed, level.setgid) = (times, true, outer_setgid);
        }
        Ok(true)
    }

    /// Make the missing directory that `prefix` is.
    fn imply(&mut self, prefix: &[u8], start: usize) -> Result<OwnedFd> {
        let failed = |e: Errno| e.error("mkdirat", "making the directory", show(prefix));
        self.implied = Some(prefix.to_vec());
        self.mark(&prefix[start..]);
        let parent = self.levels[self.levels.len() - 1].fd.as_fd();
        let name = self.name.set(&prefix[start..]);
        fs::mkdirat(parent, name, 0o755).map_err(failed)?;
        fs::openat(parent, name, DIRECTORY | libc::O_NOFOLLOW, 0).map_err(failed)
    }

    /// The component is no directory: a symlink to one is followed, within the root. A whiteout of this very layer gives
    /// way to a directory that hides what is below.
    fn through(&mut self, prefix: &[u8], start: usize, times: Option<(Time, Time)>) -> Result<Option<(OwnedFd, Met)>> {
        self.settle_kept()?;
        let mut whole = CBuf::default();
        match fs::openat2(self.root, whole.set(prefix), DIRECTORY, 0, IN_ROOT) {
            Ok(fd) => return Ok(Some((fd, Met::There))),
            Err(_) if times.is_none() => return Ok(None),
            Err(_) => {}
        }
        let parent = self.levels[self.levels.len() - 1].fd.as_fd();
        let name = self.name.set(&prefix[start..]);
        if self.way.is_layer() && fs::lstatat(parent, name).is_ok_and(|stat| is_whiteout(&stat)) {
            fs::unlinkat(parent, name, 0).map_err(|e| e.error("unlinkat", "removing", show(prefix)))?;
            let fd = self.imply(prefix, start)?;
            self.implied = None;
            self.way.set_opaque(fd.as_fd()).map_err(|e| e.error("fsetxattr", "making opaque", show(prefix)))?;
            return Ok(Some((fd, Met::Fresh)));
        }
        self.leads_below = self.way.is_layer().then(|| prefix.to_vec());
        Err(Error::other("opening the directory", show(prefix), "there is something else that is no directory and leads to none within the image"))
    }

    fn push(&mut self, fd: OwnedFd, met: Met) -> sys::Result<()> {
        let aliased = self.levels.last().is_some_and(|outer| outer.aliased);
        let end = self.path.len();
        let mut level = Level { fd, end, setgid: false, inode: 0, aliased, marked: false, times: None, changed: false, mode: None, default_acl: None };
        if met == Met::There || self.made.is_some() {
            let stat = fs::fstat(level.fd.as_fd())?;
            level.inode = stat.st_ino;
            level.setgid = stat.st_mode & libc::S_ISGID != 0;
            level.times = Some((Time::accessed(&stat), Time::modified(&stat)));
        }
        if met == Met::There && self.acls {
            let mut buffer = vec![0; 1 << 16];
            if let Ok(acl) = tree::get_xattr(level.fd.as_fd(), DEFAULT_ACL, &mut buffer) {
                tree::remove_xattr(level.fd.as_fd(), DEFAULT_ACL)?;
                (level.default_acl, level.changed) = (Some(acl.to_vec()), true);
            }
        }
        self.levels.push(level);
        Ok(())
    }

    /// Remember that `name` of the innermost directory, and so the directories around it, are of this layer.
    pub fn mark(&mut self, name: &[u8]) {
        let Some(made) = &mut self.made else { return };
        let innermost = self.levels.len() - 1;
        let hash = made.hash(self.levels[innermost].inode, name);
        made.hashes.insert(hash);
        for at in (1..=innermost).rev() {
            if std::mem::replace(&mut self.levels[at].marked, true) {
                break;
            }
            let outer = &self.levels[at - 1];
            let start = if outer.end == 0 { 0 } else { outer.end + 1 };
            let hash = made.hash(outer.inode, &self.path[start..self.levels[at].end]);
            made.hashes.insert(hash);
        }
    }

    fn is_marked(&self, inode: u64, name: &[u8]) -> bool {
        self.made.as_ref().is_some_and(|made| made.hashes.contains(&made.hash(inode, name)))
    }

    /// Remove what lower layers have at `name` of the innermost directory; None: all that they have in it.
    pub fn hide(&mut self, name: Option<&[u8]>) -> sys::Result<()> {
        let level = self.innermost();
        match name {
            Some(name) => self.hide_one(level.fd.as_fd(), level.inode, CBuf::default().set(name))?,
            None => self.hide_children(level.fd.as_fd(), level.inode)?,
        }
        self.innermost_mut().changed = true;
        Ok(())
    }

    fn hide_one(&self, dir: BorrowedFd, inode: u64, name: &CStr) -> sys::Result<()> {
        if !self.is_marked(inode, name.to_bytes()) {
            return match remove(dir, name, self.privileged) {
                Err(Errno(libc::ENOENT)) => Ok(()),
                other => other,
            };
        }
        match fs::openat(dir, name, DIRECTORY | libc::O_NOFOLLOW, 0) {
            Ok(child) => {
                let before = fs::fstat(child.as_fd())?;
                self.hide_children(child.as_fd(), before.st_ino)?;
                tree::set_times(child.as_fd(), Time::accessed(&before), Time::modified(&before))
            }
            // A file of this layer.
            Err(_) => Ok(()),
        }
    }

    fn hide_children(&self, dir: BorrowedFd, inode: u64) -> sys::Result<()> {
        names(dir)?.iter().try_for_each(|name| self.hide_one(dir, inode, name))
    }
}

impl Level {
    /// Set what waited until it is left.
    fn settle(&self, path: &[u8]) -> Result<()> {
        self.set_attributes().map_err(|(call, e)| e.error(call, "setting the attributes of", show(path)))
    }

    fn set_attributes(&self) -> Result<(), (&'static str, Errno)> {
        if let Some(acl) = &self.default_acl {
            fs::set_xattr(self.fd.as_fd(), DEFAULT_ACL, acl).map_err(|e| ("fsetxattr", e))?;
        }
        if let Some(mode) = self.mode {
            fs::fchmod(self.fd.as_fd(), mode).map_err(|e| ("fchmod", e))?;
        }
        match self.times {
            Some((accessed, modified)) if self.changed => tree::set_times(self.fd.as_fd(), accessed, modified).map_err(|e| ("utimensat", e)),
            _ => Ok(()),
        }
    }
}

/// A character device 0:0 is how overlayfs says that a name is gone.
pub(in crate::image) fn is_whiteout(stat: &libc::stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == 0
}

fn extend(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// A C string in a buffer that is used again.
#[derive(Default)]
pub(super) struct CBuf(Vec<u8>);

impl CBuf {
    /// `text` must have no NUL; what follows one would be lost. The reader refuses such names.
    pub fn set(&mut self, text: &[u8]) -> &CStr {
        self.0.clear();
        self.0.extend_from_slice(text);
        self.0.push(0);
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

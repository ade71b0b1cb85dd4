//! Selected files into a rootfs, as COPY and ADD put them there.
//!
//! The rootfs is a stranger's, with any symlinks: `to` is resolved below its root by openat2(2), and from there on down
//! no symlink is followed.

use super::files::{self, c_string, join, told};
use super::select::{self, Item, Top, Tree};
use crate::image::unpack::entry::{Kind, show};
use crate::sys::fs;
use crate::sys::tree::{self, Time};
use crate::sys::{self, Errno};
use crate::{Error, Result};
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How the copies are to be.
pub(super) struct Manner<'a> {
    pub owner: Option<(u32, u32)>,
    /// The new mode from the old one and whether it is a directory.
    pub mode: Option<&'a dyn Fn(u32, bool) -> u32>,
    /// Symbolic links are not followed in the destination.
    pub link: bool,
    /// Keep the path below this one.
    pub parents: Option<&'a str>,
}

/// Put `tops` at `to`, absolute; `as_dir`: it is a directory in any case.
pub(super) fn copy(root: BorrowedFd, tree: &Tree, tops: &[&Top], to: &str, as_dir: bool, manner: &Manner) -> Result<()> {
    let to = to.as_bytes();
    let as_dir = as_dir || to.ends_with(b"/") || to.ends_with(b"/.") || manner.parents.is_some();
    let to = clean(to);
    for top in tops {
        let mut writer = Writer { root, tree, manner, links: HashMap::new(), levels: Vec::new() };
        let name = top.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        if let Some(base) = manner.parents {
            writer.with_parents(top, &to, &clean(base.as_bytes()))?;
        } else if top.is_dir {
            let dir = writer.make_dirs(&to)?;
            writer.directory(dir, top)?;
        } else if as_dir || is_dir(root, &to, manner.link) {
            let dir = writer.make_dirs(&to)?.0;
            writer.one(dir.as_fd(), name, &top.items)?;
        } else {
            let (parent, name) = split(&to);
            let dir = writer.make_dirs(parent)?.0;
            writer.one(dir.as_fd(), name, &top.items)?;
        }
    }
    Ok(())
}

/// Make `path` with all above it, each with `owner` and mode 0755; what is there stays as it is. True: the last is new.
pub(super) fn make_dirs(root: BorrowedFd, path: &[u8], owner: (u32, u32), link: bool) -> Result<(OwnedFd, bool)> {
    let path = clean(path);
    let open = |path: &[u8]| if link { open_no_links(root, path) } else { select::open(root, path, libc::O_RDONLY | libc::O_DIRECTORY) };
    match open(&path) {
        Ok(dir) => return Ok((dir, false)),
        Err(Errno(libc::ENOENT)) => {}
        Err(e) => return Err(told("openat2", "opening the directory", &path)(e)),
    }
    let mut dir = open(b"").map_err(told("openat2", "opening", b"/"))?;
    let mut prefix = Vec::new();
    let mut is_new = false;
    for part in path.split(|b| *b == b'/') {
        prefix = join(&prefix, part);
        let failed = told("mkdirat", "making the directory", &prefix);
        (dir, is_new) = match open(&prefix) {
            Ok(there) => (there, false),
            Err(Errno(libc::ENOENT)) => {
                let name = c_string(part);
                match fs::mkdirat(dir.as_fd(), &name, 0o755) {
                    // A symlink that leads nowhere: what it names is made.
                    Err(Errno(libc::EEXIST)) if !link => {
                        let target = dangling(root, dir.as_fd(), &prefix)?;
                        (make_dirs(root, &target, owner, link)?.0, true)
                    }
                    Err(e) => return Err(failed(e)),
                    Ok(()) => {
                        let made = files::open_dir(dir.as_fd(), &name, &prefix)?;
                        fs::fchown(made.as_fd(), owner.0, owner.1).map_err(&failed)?;
                        fs::fchmod(made.as_fd(), 0o755).map_err(&failed)?;
                        (made, true)
                    }
                }
            }
            Err(e) => return Err(failed(e)),
        };
    }
    Ok((dir, is_new))
}

fn open_no_links(root: BorrowedFd, path: &[u8]) -> sys::Result<OwnedFd> {
    let path = if path.is_empty() { c".".to_owned() } else { c_string(path) };
    fs::openat2(root, &path, libc::O_RDONLY | libc::O_DIRECTORY, 0, select::IN_ROOT | fs::resolve::NO_SYMLINKS)
}

/// Where the symlink at `path`, whose directory is `dir`, leads; one that leads on to another is refused.
fn dangling(root: BorrowedFd, dir: BorrowedFd, path: &[u8]) -> Result<Vec<u8>> {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    let mut buffer = [0; libc::PATH_MAX as usize];
    let target = fs::readlinkat(dir, &c_string(name), &mut buffer).map_err(told("readlinkat", "making the directory", path))?;
    let target = if target.starts_with(b"/") { target.to_vec() } else { join(split(path).0, target) };
    let target = clean(&target);
    let (parent, last) = split(&target);
    if let Ok(parent) = select::open(root, parent, libc::O_RDONLY | libc::O_DIRECTORY)
        && fs::lstatat(parent.as_fd(), &c_string(last)).is_ok()
    {
        return Err(Error::other("making the directory", show(path), "it is a symbolic link to another that leads nowhere"));
    }
    Ok(target)
}

fn is_dir(root: BorrowedFd, path: &[u8], link: bool) -> bool {
    if link { open_no_links(root, path).is_ok() } else { select::open(root, path, libc::O_PATH | libc::O_DIRECTORY).is_ok() }
}

/// Without empty parts and dots; `..` can't lead above the root.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

struct Writer<'a> {
    root: BorrowedFd<'a>,
    tree: &'a Tree<'a>,
    manner: &'a Manner<'a>,
    /// Files with several names that were copied: where.
    links: HashMap<(u64, u64), (OwnedFd, Vec<u8>)>,
    /// The open directories down to the current one, with the times they get when they are left.
    levels: Vec<Level>,
}

struct Level {
    path: Vec<u8>,
    fd: OwnedFd,
    times: Option<Time>,
}

impl Writer<'_> {
    fn make_dirs(&self, path: &[u8]) -> Result<(OwnedFd, bool)> {
        make_dirs(self.root, path, self.manner.owner.unwrap_or((0, 0)), self.manner.link)
    }

    /// A file or whatever else is no directory.
    fn one(&mut self, dir: BorrowedFd, name: &[u8], items: &[Item]) -> Result<()> {
        items.iter().try_for_each(|item| self.leaf(dir, name, item))
    }

    /// The directory `top` as `dir`, which keeps its attributes if it was there.
    fn directory(&mut self, (dir, is_new): (OwnedFd, bool), top: &Top) -> Result<()> {
        let Some((first, rest)) = top.items.split_first() else { return Ok(()) };
        let mut times = None;
        if is_new {
            self.dress_dir(dir.as_fd(), first)?;
            times = Some(first.entry.modified);
        }
        self.levels = vec![Level { path: Vec::new(), fd: dir, times }];
        for item in rest {
            let (parent, name) = split(item.path());
            self.leave_to(parent)?;
            if item.entry.kind == Kind::Directory {
                self.enter(name, item)?;
            } else if let Some(level) = self.levels.last() {
                let dir = level.fd.try_clone().map_err(|e| Error::io(&e, "copying", show(item.source())))?;
                self.leaf(dir.as_fd(), name, item)?;
            }
        }
        while let Some(level) = self.levels.pop() {
            settle(&level)?;
        }
        Ok(())
    }

    fn leave_to(&mut self, parent: &[u8]) -> Result<()> {
        while self.levels.len() > 1 && self.levels.last().is_some_and(|level| level.path != parent) {
            if let Some(level) = self.levels.pop() {
                settle(&level)?;
            }
        }
        Ok(())
    }

    fn enter(&mut self, name: &[u8], item: &Item) -> Result<()> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let failed = told("mkdirat", "making the directory", item.path());
        let c_name = c_string(name);
        match fs::mkdirat(level.fd.as_fd(), &c_name, 0o755) {
            Ok(()) => {}
            Err(Errno(libc::EEXIST)) => {
                let stat = fs::lstatat(level.fd.as_fd(), &c_name).map_err(&failed)?;
                if stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
                    return Err(Error::other("copying the directory", show(item.source()), "there is something else in its place that is no directory"));
                }
            }
            Err(e) => return Err(failed(e)),
        }
        let fd = files::open_dir(level.fd.as_fd(), &c_name, item.path())?;
        self.dress_dir(fd.as_fd(), item)?;
        self.levels.push(Level { path: item.path().to_vec(), fd, times: Some(item.entry.modified) });
        Ok(())
    }

    fn owner(&self, item: &Item) -> (u32, u32) {
        self.manner.owner.unwrap_or((item.entry.uid, item.entry.gid))
    }

    fn mode(&self, item: &Item) -> u32 {
        let is_dir = item.entry.kind == Kind::Directory;
        self.manner.mode.map_or(item.entry.mode, |change| change(item.entry.mode, is_dir))
    }

    fn dress_dir(&self, dir: BorrowedFd, item: &Item) -> Result<()> {
        let failed = told("fchown", "setting the owner of", item.path());
        let (uid, gid) = self.owner(item);
        fs::fchown(dir, uid, gid).map_err(&failed)?;
        fs::fchmod(dir, self.mode(item)).map_err(failed)?;
        self.attributes(dir, item)
    }

    fn attributes(&self, fd: BorrowedFd, item: &Item) -> Result<()> {
        item.entry.xattrs.iter().try_for_each(|(name, value)| match fs::set_xattr(fd, &c_string(name), value) {
            Err(Errno(libc::EOPNOTSUPP)) | Ok(()) => Ok(()),
            Err(e) => Err(told("fsetxattr", "setting the attributes of", item.source())(e)),
        })
    }

    fn leaf(&mut self, dir: BorrowedFd, name: &[u8], item: &Item) -> Result<()> {
        let e = &item.entry;
        let name = c_string(name);
        if name.is_empty() {
            return Err(Error::other("copying", show(item.source()), "the destination is the root directory"));
        }
        self.clear(dir, &name, item)?;
        if let Some((first_dir, first)) = item.same.and_then(|id| self.links.get(&id)) {
            return tree::linkat(first_dir.as_fd(), &c_string(first), dir, &name).map_err(told("linkat", "linking", item.source()));
        }
        let failed = |call: &'static str| told(call, "making", item.source());
        let (mode, (uid, gid)) = (self.mode(item), self.owner(item));
        match e.kind {
            Kind::File => {
                self.file(dir, &name, item, mode, (uid, gid))?;
                if let Some(id) = item.same {
                    let dir = dir.try_clone_to_owned().map_err(|e| Error::io(&e, "copying", show(item.source())))?;
                    self.links.insert(id, (dir, name.to_bytes().to_vec()));
                }
                return Ok(());
            }
            Kind::Symlink => fs::symlinkat(&c_string(&e.link), dir, &name).map_err(failed("symlinkat"))?,
            Kind::Fifo => fs::mkfifoat(dir, &name, mode).map_err(failed("mkfifoat"))?,
            Kind::CharDevice => fs::mknodat(dir, &name, libc::S_IFCHR | mode, e.device.0, e.device.1).map_err(failed("mknodat"))?,
            Kind::BlockDevice => fs::mknodat(dir, &name, libc::S_IFBLK | mode, e.device.0, e.device.1).map_err(failed("mknodat"))?,
            Kind::Directory | Kind::HardLink => return Ok(()),
        }
        fs::lchownat(dir, &name, uid, gid).map_err(failed("fchownat"))?;
        if e.kind != Kind::Symlink {
            tree::chmodat(dir, &name, mode).map_err(failed("fchmodat"))?;
        }
        tree::set_times_at(dir, &name, e.modified, e.modified).map_err(failed("utimensat"))
    }

    /// What is in the place of a file goes, unless it is a directory.
    fn clear(&self, dir: BorrowedFd, name: &std::ffi::CStr, item: &Item) -> Result<()> {
        match fs::unlinkat(dir, name, 0) {
            Ok(()) | Err(Errno(libc::ENOENT)) => Ok(()),
            Err(Errno(libc::EISDIR | libc::EPERM)) => Err(Error::other("copying", show(item.source()), "there is a directory in its place")),
            Err(e) => Err(told("unlinkat", "replacing", item.source())(e)),
        }
    }

    fn file(&self, dir: BorrowedFd, name: &std::ffi::CStr, item: &Item, mode: u32, (uid, gid): (u32, u32)) -> Result<()> {
        let failed = |call: &'static str| told(call, "copying", item.source());
        let from = select::open_file(self.tree.root, item.source())?;
        let to = fs::openat(dir, name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW, 0o600).map_err(failed("openat"))?;
        fs::copy_all(from.as_fd(), to.as_fd()).map_err(failed("sendfile"))?;
        fs::fchown(to.as_fd(), uid, gid).map_err(failed("fchown"))?;
        fs::fchmod(to.as_fd(), mode).map_err(failed("fchmod"))?;
        self.attributes(to.as_fd(), item)?;
        tree::set_times(to.as_fd(), item.entry.modified, item.entry.modified).map_err(failed("utimensat"))
    }

    /// `--parents`: the directories below `base` are made as they are there.
    fn with_parents(&mut self, top: &Top, to: &[u8], base: &[u8]) -> Result<()> {
        let below = top.path.strip_prefix(base).map(|rest| rest.strip_prefix(b"/").unwrap_or(rest)).unwrap_or(&top.path);
        let (parents, name) = if top.is_dir { (below, &b""[..]) } else { split(below) };
        let mut target = to.to_vec();
        let mut source = base.to_vec();
        let mut dir = self.make_dirs(&target)?;
        for part in parents.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
            (target, source) = (join(&target, part), join(&source, part));
            dir = self.make_dirs(&target)?;
            if dir.1 {
                let from = select::open(self.tree.root, &source, libc::O_RDONLY | libc::O_DIRECTORY).map_err(told("openat2", "opening", &source))?;
                let stat = fs::fstat(from.as_fd()).map_err(told("fstat", "looking at", &source))?;
                let (uid, gid) = self.manner.owner.unwrap_or(if self.tree.roots_own { (0, 0) } else { (stat.st_uid, stat.st_gid) });
                let mode = self.manner.mode.map_or(stat.st_mode & 0o7777, |change| change(stat.st_mode & 0o7777, true));
                fs::fchown(dir.0.as_fd(), uid, gid).map_err(told("fchown", "setting the owner of", &target))?;
                fs::fchmod(dir.0.as_fd(), mode).map_err(told("fchmod", "setting the mode of", &target))?;
            }
        }
        if top.is_dir { self.directory(dir, top) } else { self.one(dir.0.as_fd(), name, &top.items) }
    }
}

fn settle(level: &Level) -> Result<()> {
    match level.times {
        Some(time) => tree::set_times(level.fd.as_fd(), time, time).map_err(told("utimensat", "setting the times of", &level.path)),
        None => Ok(()),
    }
}

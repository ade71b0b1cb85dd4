//! Entries of a layer become files below a descriptor of the root.
//!
//! Few system calls each: an entry is made in its parent's open descriptor with the mode it is to have, and owner and
//! mode are only set where making it did not. For a file of root's that is openat, write, utimensat, close.

use super::attributes::{self, Lost, failed};
use super::entry::{Entry, Kind, show};
use super::reader::Reader;
use super::remove::remove;
use super::tree::{CBuf, Tree, is_whiteout};
use super::{Owners, Way};
use crate::sys::fs::{self, resolve};
use crate::sys::process::{getegid, geteuid};
use crate::sys::tree::{self as calls, Time};
use crate::sys::{self, Errno};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ffi::CStr;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How a layer is put down.
#[derive(Debug, Clone)]
pub struct Settings {
    pub way: Way,
    pub owners: Owners,
    /// A layer below may have set default ACLs.
    pub acls: bool,
    /// Entries that may still come.
    pub entries: u64,
}

/// What came of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Applied {
    pub entries: u64,
    pub acls: bool,
    /// It has an entry for the root directory itself.
    pub root: bool,
    /// Something that another than root owns became ours.
    #[serde(default)]
    pub others: bool,
    /// It can't be put down alone, for this reason: what it links to or goes through is in a layer below.
    pub needs_below: Option<String>,
    /// What could not be kept, a line each.
    pub lost: Vec<String>,
}

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const PATH_MAX: usize = libc::PATH_MAX as usize;

/// Put the archive's entries below `root`. The thread's umask must be 0 and its working directory its own.
pub fn apply<R: BufRead>(reader: &mut Reader<R>, root: BorrowedFd, settings: &Settings) -> Result<Applied> {
    let us = (geteuid(), getegid());
    let tree = Tree::new(root, settings.way, us.0 == 0, settings.acls)?;
    let mut unpacker =
        Unpacker { root, tree, settings, us, path: Vec::new(), name: CBuf::default(), target: None, lost: Lost::default(), root_seen: false, others: false };
    let (mut entry, mut applied) = (Entry::default(), Applied::default());
    while reader.next(&mut entry)? {
        applied.entries += 1;
        if applied.entries > settings.entries {
            return Err(Error::other("unpacking", "", "the image has more entries than allowed").hint("--max-entries sets the limit"));
        }
        match unpacker.put(&entry, reader) {
            Ok(()) => {}
            Err(Stop::Failed(e)) => match unpacker.tree.leads_below.take() {
                Some(path) => return Ok(Applied { needs_below: Some(format!("{} may lead to what is below", show(&path))), ..applied }),
                None => return Err(e),
            },
            Err(Stop::NeedsBelow(why)) => return Ok(Applied { needs_below: Some(why), ..applied }),
        }
        if let Some(implied) = unpacker.tree.implied.take().filter(|_| settings.way.is_layer()) {
            // It is to have the attributes of the lower one; and that may be a symlink.
            return Ok(Applied { needs_below: Some(format!("there is no entry for {}, in which it has others", show(&implied))), ..applied });
        }
    }
    unpacker.tree.finish()?;
    reader.drain()?;
    Ok(Applied { acls: unpacker.tree.acls, root: unpacker.root_seen, others: unpacker.others, lost: unpacker.lost.into_lines(), ..applied })
}

fn no_owner(call: &'static str, e: Errno, entry: &Entry) -> Error {
    let error = failed(call, e, "setting the owner of", entry);
    let hint = format!("{}:{} are no ids of this user namespace; /etc/subuid and /etc/subgid say how many there are", entry.uid, entry.gid);
    if e.0 == libc::EINVAL { error.hint(hint) } else { error }
}

enum Stop {
    Failed(Error),
    NeedsBelow(String),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Stop {
        Stop::Failed(e)
    }
}

struct Unpacker<'a> {
    root: BorrowedFd<'a>,
    tree: Tree<'a>,
    settings: &'a Settings,
    us: (u32, u32),
    /// The current entry's path, cleaned.
    path: Vec<u8>,
    name: CBuf,
    /// The last hard link's target directory.
    target: Option<(Vec<u8>, OwnedFd)>,
    lost: Lost,
    root_seen: bool,
    others: bool,
}

impl Unpacker<'_> {
    fn put<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<(), Stop> {
        let mut path = std::mem::take(&mut self.path);
        clean(&entry.path, &mut path)?;
        let done = self.put_at(&path, entry, reader);
        self.path = path;
        done
    }

    fn put_at<R: BufRead>(&mut self, path: &[u8], entry: &Entry, reader: &mut Reader<R>) -> Result<(), Stop> {
        self.others |= self.settings.owners == Owners::Own && (entry.uid, entry.gid) != (0, 0);
        let (dir, name) = split(path);
        if name.is_empty() {
            return Ok(self.root(entry)?);
        }
        if name.starts_with(WHITEOUT) {
            return Ok(self.whiteout(dir, name, entry)?);
        }
        self.tree.enter(dir, Some(times(entry)))?;
        self.tree.innermost_mut().changed = true;
        match entry.kind {
            Kind::File => self.file(name, entry, reader)?,
            // We are in it now, and it is marked.
            Kind::Directory => return Ok(self.directory(path, name, entry)?),
            Kind::Symlink => self.symlink(name, entry)?,
            Kind::HardLink => self.hard_link(name, entry)?,
            Kind::Fifo | Kind::CharDevice | Kind::BlockDevice => self.node(name, entry)?,
        }
        self.tree.mark(name);
        Ok(())
    }

    /// The owner to give, unless `entry` is made with it.
    fn owner(&self, entry: &Entry) -> Result<Option<(u32, u32)>> {
        let setgid = self.tree.innermost().setgid;
        Ok(self.settings.owners.translate(entry.uid, entry.gid)?.filter(|owner| *owner != self.us || setgid))
    }

    /// Do `make`, which fails with EEXIST where something is in the way, and has it removed.
    fn make<T>(&mut self, name: &[u8], entry: &Entry, call: &'static str, make: impl Fn(BorrowedFd, &CStr) -> sys::Result<T>) -> Result<T> {
        for attempt in 0..2 {
            match make(self.tree.innermost().fd.as_fd(), self.name.set(name)) {
                Err(Errno(libc::EEXIST)) if attempt == 0 => self.clear_the_way(name, entry)?,
                other => return other.map_err(|e| failed(call, e, "making", entry)),
            }
        }
        Err(failed(call, Errno(libc::EEXIST), "making", entry))
    }

    /// Remove what is at `name` of the innermost directory.
    fn clear_the_way(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        // Directories that are open may be among what goes.
        self.target = None;
        self.tree.settle_kept()?;
        let dir = self.tree.innermost().fd.as_fd();
        remove(dir, self.name.set(name), self.us.0 == 0).map_err(|e| failed("unlinkat", e, "replacing", entry))
    }

    fn file<R: BufRead>(&mut self, name: &[u8], entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        const FLAGS: i32 = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let owner = self.owner(entry)?;
        // chown(2) takes setuid and setgid away; and they are not to be there for a moment with our owner.
        let mode = if owner.is_some() { entry.mode & 0o777 } else { entry.mode };
        let file = self.make(name, entry, "openat", |dir, name| fs::openat(dir, name, FLAGS, mode))?;
        let file = file.as_fd();
        write(file, entry, reader)?;
        if let Some((uid, gid)) = owner {
            fs::fchown(file, uid, gid).map_err(|e| no_owner("fchown", e, entry))?;
        }
        // Writing takes setuid away from who lacks CAP_FSETID.
        if entry.mode & !0o777 != 0 && (owner.is_some() || self.us.0 != 0) {
            fs::fchmod(file, entry.mode).map_err(|e| failed("fchmod", e, "setting the mode of", entry))?;
        }
        if has_attributes(entry) {
            let list = attributes::of(entry, &self.settings.owners, &mut self.lost)?;
            attributes::set(file, entry, &list, &mut self.lost)?;
        }
        let (accessed, modified) = times(entry);
        calls::set_times(file, accessed, modified).map_err(|e| failed("utimensat", e, "setting the times of", entry))
    }

    fn directory(&mut self, path: &[u8], name: &[u8], entry: &Entry) -> Result<()> {
        let privileged = self.us.0 == 0;
        // Until it is left we must be able to enter it; mkdir(2) knows no setuid and setgid.
        let mode = if privileged { entry.mode & 0o1777 } else { entry.mode & 0o1777 | 0o700 };
        let outer_setgid = self.tree.innermost().setgid;
        let dir = self.tree.innermost().fd.as_fd();
        let fresh = match fs::mkdirat(dir, self.name.set(name), mode) {
            Ok(()) => true,
            Err(Errno(libc::EEXIST)) => self.directory_over(name, entry, mode)?,
            Err(e) => return Err(failed("mkdirat", e, "making", entry)),
        };
        self.tree.mark(name);
        let said = self.settings.owners.translate(entry.uid, entry.gid)?;
        let (mut is_owner, mut is_mode) = (Some(self.us), mode);
        if fresh {
            self.tree.enter_fresh(name)?;
            if outer_setgid {
                (is_owner, is_mode) = (None, mode | libc::S_ISGID);
            }
        } else {
            self.tree.enter(path, Some(times(entry)))?;
            let dir = self.tree.innermost().fd.as_fd();
            let stat = fs::fstat(dir).map_err(|e| failed("fstat", e, "looking at", entry))?;
            (is_owner, is_mode) = (Some((stat.st_uid, stat.st_gid)), stat.st_mode & 0o7777);
            if self.settings.way == Way::Above {
                attributes::clear(dir).map_err(|e| failed("fremovexattr", e, "clearing the attributes of", entry))?;
                self.tree.innermost_mut().default_acl = None;
            }
        }
        self.dress_directory(entry, said.filter(|owner| Some(*owner) != is_owner), is_mode)
    }

    /// Something is where the directory is to be; true if it was replaced.
    fn directory_over(&mut self, name: &[u8], entry: &Entry, mode: u32) -> Result<bool> {
        let there = fs::lstatat(self.tree.innermost().fd.as_fd(), self.name.set(name)).map_err(|e| failed("fstatat", e, "looking at", entry))?;
        if there.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return Ok(false);
        }
        self.clear_the_way(name, entry)?;
        let (dir, name) = (self.tree.innermost().fd.as_fd(), self.name.set(name));
        fs::mkdirat(dir, name, mode).map_err(|e| failed("mkdirat", e, "making", entry))?;
        if self.settings.way.is_layer() && is_whiteout(&there) {
            // What is below was hidden, and stays so.
            let made = fs::openat(dir, name, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0).map_err(|e| failed("openat", e, "opening", entry))?;
            self.settings.way.set_opaque(made.as_fd()).map_err(|e| failed("fsetxattr", e, "making opaque", entry))?;
        }
        Ok(true)
    }

    /// Owner, mode and attributes of the innermost directory now, its times when it is left.
    fn dress_directory(&mut self, entry: &Entry, owner: Option<(u32, u32)>, is_mode: u32) -> Result<()> {
        let dir = self.tree.innermost().fd.as_fd();
        if let Some((uid, gid)) = owner {
            fs::fchown(dir, uid, gid).map_err(|e| no_owner("fchown", e, entry))?;
        }
        let late = self.us.0 != 0 && entry.mode & 0o700 != 0o700;
        let now = if late { entry.mode | 0o700 } else { entry.mode };
        if now != is_mode {
            fs::fchmod(dir, now).map_err(|e| failed("fchmod", e, "setting the mode of", entry))?;
        }
        let mut default_acl = None;
        if has_attributes(entry) {
            let mut list = attributes::of(entry, &self.settings.owners, &mut self.lost)?;
            default_acl = list.pop_if(|(name, _)| name == super::tree::DEFAULT_ACL.to_bytes()).map(|(_, value)| value);
            attributes::set(dir, entry, &list, &mut self.lost)?;
        }
        self.tree.acls |= default_acl.is_some();
        let level = self.tree.innermost_mut();
        level.setgid = entry.mode & libc::S_ISGID != 0;
        level.mode = late.then_some(entry.mode);
        level.default_acl = default_acl;
        (level.times, level.changed) = (Some(times(entry)), true);
        Ok(())
    }

    /// An entry for the root itself.
    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(Error::other("unpacking", entry.shown(), "the root can only be a directory"));
        }
        self.root_seen = true;
        self.tree.enter(b"", None)?;
        let dir = self.tree.innermost().fd.as_fd();
        let stat = fs::fstat(dir).map_err(|e| failed("fstat", e, "looking at", entry))?;
        if self.settings.way == Way::Above {
            attributes::clear(dir).map_err(|e| failed("fremovexattr", e, "clearing the attributes of", entry))?;
        }
        let owner = self.settings.owners.translate(entry.uid, entry.gid)?.filter(|owner| *owner != (stat.st_uid, stat.st_gid));
        self.dress_directory(entry, owner, stat.st_mode & 0o7777)
    }

    fn symlink(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        if entry.link.is_empty() || entry.link.len() >= PATH_MAX {
            return Err(Error::other("making", entry.shown(), format!("a symlink's target has 1 to {} bytes, this one {}", PATH_MAX - 1, entry.link.len())));
        }
        let mut target = CBuf::default();
        let target = target.set(&entry.link);
        self.make(name, entry, "symlinkat", |dir, name| fs::symlinkat(target, dir, name))?;
        self.dress(name, entry)
    }

    fn node(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        let (kind, device) = match entry.kind {
            Kind::Fifo => (libc::S_IFIFO, (0, 0)),
            Kind::CharDevice => (libc::S_IFCHR, entry.device),
            _ => (libc::S_IFBLK, entry.device),
        };
        let allowed = self.make(name, entry, "mknodat", |dir, name| match fs::mknodat(dir, name, kind | entry.mode, device.0, device.1) {
            // Without CAP_MKNOD, or in a user namespace, there are no devices; a runtime makes those that a container needs.
            Err(Errno(libc::EPERM)) if kind != libc::S_IFIFO => Ok(false),
            other => other.map(|()| true),
        })?;
        if !allowed {
            self.lost.add("device nodes were left out: we may not make any".into());
            return Ok(());
        }
        self.dress(name, entry)?;
        let setid = entry.mode & !0o777 != 0 && self.owner(entry)?.is_some();
        if setid {
            calls::chmodat(self.tree.innermost().fd.as_fd(), self.name.set(name), entry.mode)
                .map_err(|e| failed("fchmodat", e, "setting the mode of", entry))?;
        }
        Ok(())
    }

    /// Owner, attributes and times of what can't be opened.
    fn dress(&mut self, name: &[u8], entry: &Entry) -> Result<()> {
        let owner = self.owner(entry)?;
        let dir = self.tree.innermost().fd.as_fd();
        let name = self.name.set(name);
        if let Some((uid, gid)) = owner {
            fs::lchownat(dir, name, uid, gid).map_err(|e| no_owner("fchownat", e, entry))?;
        }
        if has_attributes(entry) {
            let list = attributes::of(entry, &self.settings.owners, &mut self.lost)?;
            attributes::set_at(dir, name, entry, &list, &mut self.lost)?;
        }
        let (accessed, modified) = times(entry);
        calls::set_times_at(dir, name, accessed, modified).map_err(|e| failed("utimensat", e, "setting the times of", entry))
    }

    /// The other name is looked for below the root, without following it. It is never copied: what can't be linked is
    /// none of the image's.
    fn hard_link(&mut self, name: &[u8], entry: &Entry) -> Result<(), Stop> {
        let mut target = Vec::new();
        clean(&entry.link, &mut target)?;
        let (dir, other) = split(&target);
        if other.is_empty() {
            return Err(Error::other("making", entry.shown(), "a hard link to the root").into());
        }
        let mut other_name = CBuf::default();
        let other_name = other_name.set(other);
        if dir == self.tree.path() && self.is_itself(name, other_name) {
            return Ok(());
        }
        let failed_link = |e: Errno| e.error("linkat", format!("linking {} to", entry.shown()), show(&target));
        for _ in 0..2 {
            let linked = self.find_target(dir).and_then(|()| {
                let here = self.tree.innermost().fd.as_fd();
                let from = self.target.as_ref().filter(|(path, _)| path == dir).map_or(here, |(_, fd)| fd.as_fd());
                calls::linkat(from, other_name, here, self.name.set(name))
            });
            match linked {
                Ok(()) => return Ok(()),
                Err(Errno(libc::EEXIST)) => self.clear_the_way(name, entry)?,
                Err(Errno(libc::ENOENT | libc::ENOTDIR)) if self.settings.way.is_layer() => {
                    return Err(Stop::NeedsBelow(format!("{} is a hard link to {}", entry.shown(), show(&target))));
                }
                Err(e) => {
                    let hint = if e.0 == libc::EXDEV { "its target is on another file system, so it is not of the image" } else { "" };
                    return Err(failed_link(e).hint(hint).into());
                }
            }
        }
        Err(failed_link(Errno(libc::EEXIST)).into())
    }

    /// Are `name` and `other` of the current directory one file already?
    fn is_itself(&mut self, name: &[u8], other: &CStr) -> bool {
        let dir = self.tree.innermost().fd.as_fd();
        let inode = |name: &CStr| fs::lstatat(dir, name).map(|stat| (stat.st_dev, stat.st_ino)).ok();
        inode(other).is_some_and(|there| inode(self.name.set(name)) == Some(there))
    }

    /// Open the directory of a hard link's target, if it isn't the current one.
    fn find_target(&mut self, dir: &[u8]) -> sys::Result<()> {
        if dir != self.tree.path() && self.target.as_ref().is_none_or(|(path, _)| path != dir) {
            let mut path = CBuf::default();
            let path = if dir.is_empty() { c"." } else { path.set(dir) };
            let fd = fs::openat2(self.root, path, libc::O_PATH | libc::O_DIRECTORY, 0, resolve::IN_ROOT | resolve::NO_MAGICLINKS)?;
            self.target = Some((dir.to_vec(), fd));
        }
        Ok(())
    }

    /// `.wh.NAME` hides NAME of the layers below, `.wh..wh..opq` all that they have in the directory.
    fn whiteout(&mut self, dir: &[u8], name: &[u8], entry: &Entry) -> Result<()> {
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Error::other("unpacking", entry.shown(), "a whiteout of no name"));
        }
        // aufs's own files begin so.
        let opaque = name == OPAQUE;
        if !opaque && hidden.starts_with(WHITEOUT) {
            return Ok(());
        }
        match self.settings.way {
            Way::Base => Ok(()),
            Way::Above => {
                self.target = None;
                if !self.tree.enter(dir, None)? {
                    return Ok(());
                }
                self.tree.settle_kept()?;
                self.tree.hide((!opaque).then_some(hidden)).map_err(|e| failed("unlinkat", e, "applying the whiteout", entry))
            }
            Way::Layer | Way::UserLayer => {
                if !self.tree.enter(dir, None)? {
                    // With the directory goes what is in it.
                    if self.tree.ends_at_whiteout(dir) {
                        return Ok(());
                    }
                    self.tree.enter(dir, Some(times(entry)))?;
                }
                self.tree.innermost_mut().changed = true;
                self.mark_hidden(if opaque { None } else { Some(hidden) }).map_err(|e| failed("mknodat", e, "making the whiteout", entry))
            }
        }
    }

    /// In overlayfs's words.
    fn mark_hidden(&mut self, name: Option<&[u8]>) -> sys::Result<()> {
        let way = self.settings.way;
        let dir = self.tree.innermost().fd.as_fd();
        let Some(name) = name else { return way.set_opaque(dir) };
        let name = self.name.set(name);
        match fs::mknodat(dir, name, libc::S_IFCHR, 0, 0) {
            // This layer has it: a file takes the lower one's place anyway, a directory must not be merged.
            Err(Errno(libc::EEXIST)) => match fs::openat(dir, name, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0) {
                Ok(made) => way.set_opaque(made.as_fd()),
                Err(_) => Ok(()),
            },
            other => other,
        }
    }
}

fn has_attributes(entry: &Entry) -> bool {
    !entry.xattrs.is_empty() || entry.acls.iter().any(Option::is_some)
}

fn times(entry: &Entry) -> (Time, Time) {
    (entry.accessed.unwrap_or(entry.modified), entry.modified)
}

/// The content: of a sparse file its parts, with holes between them.
fn write<R: BufRead>(file: BorrowedFd, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
    let Some(parts) = &entry.parts else { return write_part(file, entry, reader, entry.size) };
    for (offset, length) in parts.iter().filter(|(_, length)| *length > 0) {
        calls::seek(file, *offset as i64).map_err(|e| failed("lseek", e, "writing", entry))?;
        write_part(file, entry, reader, *length)?;
    }
    calls::set_length(file, entry.size as i64).map_err(|e| failed("ftruncate", e, "writing", entry))
}

fn write_part<R: BufRead>(file: BorrowedFd, entry: &Entry, reader: &mut Reader<R>, mut left: u64) -> Result<()> {
    while left > 0 {
        let chunk = reader.chunk()?;
        let chunk = &chunk[..chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        let n = fs::write(file, chunk).map_err(|e| failed("write", e, "writing", entry))?;
        reader.consume(n);
        left -= n as u64;
    }
    Ok(())
}

/// `path` without empty components and dots, from the root; one with `..` is refused.
fn clean(path: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    for part in path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b".")) {
        if part == b".." {
            return Err(Error::other("unpacking", show(path), "the name has \"..\" in it"));
        }
        if !out.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(part);
    }
    if out.len() >= PATH_MAX { Err(failed_length(path)) } else { Ok(()) }
}

fn failed_length(path: &[u8]) -> Error {
    Errno(libc::ENAMETOOLONG).error("openat2", "unpacking", show(path))
}

/// Directory and last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

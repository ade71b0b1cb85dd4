//! The file system: the rootfs, the mounts on it, and entering it. All by descriptor.

use super::lines::{each_line, mounted};
use super::{Child, Done, Fault, why};
use crate::plan::EnterRoot;
use crate::stage::freeze::{Legacy, Mount, Source};
use crate::stage::root::{self, Want};
use crate::stage::wire::{self, Message, Tag};
use crate::sys::mount::{self, MountAttr};
use crate::sys::{Errno, fs};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A message of a file system is cut here; it fits the wire's text.
const LONGEST_MESSAGE: usize = 200;
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// The attributes that a bind's flags replace as a whole (atime is left alone unless named, as in mount(2)).
const REPLACEABLE: u64 = mount::MOUNT_ATTR_RDONLY | mount::MOUNT_ATTR_NOSUID | mount::MOUNT_ATTR_NODEV | mount::MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW;
const MOUNT_ATTR_ATIME: u64 = 0x70;
const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x20_0000;

impl<'a> Child<'a> {
    /// Cut the mount namespace off from the host's propagation (if it is our own), then make the rootfs a mount of its own.
    pub(super) fn prepare_root(&mut self, rootfs: &'a CStr, propagation: u64, parent: u64, bind: bool) -> Done {
        self.rootfs = rootfs;
        if propagation != 0 {
            mount::propagate(c"/", propagation).map_err(why(b"setting the propagation of /"))?;
            // Without MS_REC only / itself is cut off, and those below are still the host's peers.
            self.has_peers = propagation & libc::MS_REC == 0 || propagation & (libc::MS_SLAVE | libc::MS_PRIVATE) == 0;
        }
        let dir = fs::openat(fs::CWD, rootfs, libc::O_PATH | libc::O_DIRECTORY, 0)?;
        if !bind {
            self.root = Some(dir);
            return Ok(());
        }
        if self.has_peers {
            // pivot_root(2) refuses a root whose parent mount is shared, and an unbindable one can't be bound.
            propagate_parent(dir.as_fd(), parent)?;
        }
        let tree = mount::clone_tree(dir.as_fd(), c"", true).map_err(why(b"binding the rootfs"))?;
        if propagation == 0 {
            // On the host. As a peer of the mount it is a part of, all that is mounted on it would be there twice.
            let alone = MountAttr { propagation: libc::MS_PRIVATE, ..Default::default() };
            mount::set_attr(tree.as_fd(), &alone, true).map_err(why(b"making the rootfs's mount private"))?;
        }
        mount::attach(tree.as_fd(), dir.as_fd()).map_err(why(b"binding the rootfs onto itself"))?;
        self.root = Some(tree);
        Ok(())
    }

    pub(super) fn mount(&mut self, m: &Mount) -> Done {
        match &m.source {
            Source::Remount { bind, parameters } => return self.remount(m, *bind, parameters),
            Source::PropagationOnly => {
                let target = root::open(self.root()?, &m.target, libc::O_PATH, m.strict)?;
                return propagate(target.as_fd(), m);
            }
            Source::Filesystem { fs, legacy: Some(legacy), .. } => return self.mount_legacy(m, fs, legacy),
            _ => {}
        }
        let tree = self.detached(m)?;
        if m.only_proc && fs::magic(tree.as_fd())? != PROC_SUPER_MAGIC {
            return Err(Fault::new(Errno(libc::EINVAL), &[b"it cannot be mounted because it is inside /proc, and its source is not on a procfs"]));
        }
        let want = want_for(tree.as_fd())?;
        let target = self.target(m, want)?;
        if m.tmpcopyup {
            let image = root::open(self.root()?, &m.target, libc::O_RDONLY | libc::O_DIRECTORY, m.strict)?;
            super::copyup::copy(image.as_fd(), tree.as_fd()).map_err(why(b"copying the image's files into the tmpfs"))?;
        }
        match m.source {
            // The parent has set them.
            Source::Tree => {}
            // fsmount(2) took them already; a tmpfs that is filled first gets them now.
            Source::Filesystem { .. } if !m.tmpcopyup => set_attributes_of(tree.as_fd(), 0, 0, false, m.rec_set, m.rec_clear)?,
            _ => set_attributes(tree.as_fd(), m)?,
        }
        mount::attach(tree.as_fd(), target.as_fd()).map_err(|e| why_not_attached(e, want, target.as_fd()))?;
        if let Some(label) = &m.file_label {
            label_root(tree.as_fd(), label)?;
        }
        propagate(tree.as_fd(), m)?;
        if m.target.is_empty() {
            self.root = Some(tree);
        }
        Ok(())
    }

    /// The mount, not yet attached anywhere.
    fn detached(&mut self, m: &Mount) -> Result<OwnedFd, Fault> {
        match &m.source {
            Source::Tree => {
                wire::send(self.lines.wire, Message { tag: Tag::Tree, a: self.step as u32, b: 0 }, b"")?;
                Ok(wire::expect_tree(self.lines.wire)?)
            }
            Source::Bind { path, recursive } => mount::clone_tree(fs::CWD, path, *recursive).map_err(|e| Fault::new(e, &[b"source ", path.to_bytes()])),
            Source::Filesystem { fs, parameters, .. } => {
                let mode = if m.inherit_mode { self.mode_of(&m.target, m.strict) } else { None };
                let attributes = if m.tmpcopyup { 0 } else { m.set };
                new_filesystem(fs, parameters, mode, attributes).or_else(|fault| match (&m.fallback_bind, fault.errno.0) {
                    (Some(path), libc::EPERM | libc::EBUSY) => Ok(mount::clone_tree(fs::CWD, path, false)?),
                    _ => Err(fault),
                })
            }
            Source::Remount { .. } | Source::PropagationOnly => Err(Fault::from(Errno(libc::EINVAL))),
        }
    }

    /// The mode of the directory that is there already, as an octal string.
    fn mode_of(&mut self, target: &CStr, strict: bool) -> Option<Octal> {
        let fd = root::open(self.root().ok()?, target, libc::O_PATH | libc::O_DIRECTORY, strict).ok()?;
        fs::fstat(fd.as_fd()).ok().map(|stat| Octal::of(stat.st_mode & 0o7777))
    }

    fn target(&mut self, m: &Mount, want: Want) -> Result<OwnedFd, Fault> {
        root::ensure(self.root()?, &m.target, want, m.strict).map_err(|e| match e {
            Errno(libc::ELOOP) if m.strict => Fault::new(e, &[b"it must be mounted on ordinary directory, not through a symlink: /", m.target.to_bytes()]),
            e => Fault::new(e, &[b"destination /", m.target.to_bytes()]),
        })
    }

    /// mount(2), for data that fsconfig(2) does not take. The target is named by /proc of the host, which is still ours.
    fn mount_legacy(&mut self, m: &Mount, fs: &CStr, legacy: &Legacy) -> Done {
        let target = self.target(m, Want::Directory)?;
        fs::fchdir(target.as_fd())?;
        mount::mount(&legacy.source, c".", fs, 0, Some(&legacy.data))?;
        // The working directory is below the new mount; what is on top of it now is found by its path.
        let mounted = match m.target.is_empty() {
            true => fs::openat(fs::CWD, self.rootfs, libc::O_PATH | libc::O_DIRECTORY, 0)?,
            false => root::open(self.root()?, &m.target, libc::O_PATH, m.strict)?,
        };
        set_attributes(mounted.as_fd(), m)?;
        fs::chdir(c"/")?;
        propagate(mounted.as_fd(), m)?;
        if m.target.is_empty() {
            self.root = Some(mounted);
        }
        Ok(())
    }

    fn remount(&mut self, m: &Mount, bind: bool, parameters: &[(CString, Option<CString>)]) -> Done {
        let target = root::open(self.root()?, &m.target, libc::O_PATH, m.strict)?;
        if !bind {
            let context = mount::fspick(target.as_fd())?;
            configure(context.as_fd(), parameters)?;
            mount::fs_reconfigure(context.as_fd()).map_err(|e| context_fault(e, context.as_fd(), &[b"reconfiguring it"]))?;
        }
        set_attributes(target.as_fd(), m)?;
        propagate(target.as_fd(), m)
    }

    pub(super) fn enter_root(&mut self, how: EnterRoot) -> Done {
        fs::fchdir(self.root()?)?;
        match how {
            EnterRoot::Pivot => {
                mount::pivot_to_cwd().map_err(why(b"pivot_root (on a ramfs root, use --no-pivot)"))?;
                if self.has_peers {
                    mount::propagate(c".", libc::MS_SLAVE | libc::MS_REC)?;
                }
                mount::unmount(c".", libc::MNT_DETACH).map_err(why(b"detaching the old root"))?;
            }
            EnterRoot::MoveMount => {
                hide_kernel_filesystems().map_err(why(b"taking away the host's procfs and sysfs"))?;
                mount::move_cwd_over_root().map_err(why(b"moving the rootfs over /"))?;
                fs::chroot(c".")?;
            }
            EnterRoot::Chroot => fs::chroot(c".")?,
        }
        fs::chdir(c"/")?;
        self.entered = true;
        Ok(())
    }

    pub(super) fn remount_readonly(&mut self, path: &CStr) -> Done {
        let target = root::open(self.root()?, path, libc::O_PATH, false)?;
        let attr = MountAttr { set: mount::MOUNT_ATTR_RDONLY, ..Default::default() };
        Ok(mount::set_attr(target.as_fd(), &attr, false)?)
    }

    /// A read-only copy of the tree at `path` over itself; nothing where `path` does not exist.
    pub(super) fn readonly_path(&mut self, path: &CStr) -> Done {
        let target = match root::open(self.root()?, path, libc::O_PATH, false) {
            Err(Errno(libc::ENOENT | libc::ENOTDIR)) => return Ok(()),
            other => other?,
        };
        let tree = mount::clone_tree(target.as_fd(), c"", true)?;
        let attr = MountAttr { set: mount::MOUNT_ATTR_RDONLY, ..Default::default() };
        mount::set_attr(tree.as_fd(), &attr, false)?;
        Ok(mount::attach(tree.as_fd(), target.as_fd())?)
    }

    /// An empty read-only tmpfs over a directory (one superblock for all), /dev/null over a file (looked at once).
    pub(super) fn mask_path(&mut self, path: &CStr) -> Done {
        let target = match root::open(self.root()?, path, libc::O_PATH, false) {
            Err(Errno(libc::ENOENT | libc::ENOTDIR)) => return Ok(()),
            other => other?,
        };
        if want_for(target.as_fd())? == Want::File {
            let null = match self.null.take() {
                Some(null) => null,
                None => self.null_device()?,
            };
            let tree = mount::clone_tree(null.as_fd(), c"", false)?;
            self.null = Some(null);
            return Ok(mount::attach(tree.as_fd(), target.as_fd())?);
        }
        let tree = match &self.mask {
            Some(first) => mount::clone_tree(first.as_fd(), c"", false)?,
            None => empty_tmpfs()?,
        };
        mount::attach(tree.as_fd(), target.as_fd())?;
        self.mask.get_or_insert(tree);
        Ok(())
    }

    /// /dev/null of the container, checked to be that device (CVE-2025-31133).
    pub(super) fn null_device(&mut self) -> Result<OwnedFd, Fault> {
        let fd = root::open(self.root()?, c"dev/null", libc::O_PATH | libc::O_NOFOLLOW, true).map_err(why(b"opening /dev/null to mask files with"))?;
        let stat = fs::fstat(fd.as_fd())?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != libc::makedev(1, 3) {
            return Err(Fault::new(Errno(libc::EINVAL), &[b"the container's /dev/null is not the null device"]));
        }
        Ok(fd)
    }
}

/// move_mount(2) says EINVAL for a directory on a file, and the other way round, where mount(2) said ENOTDIR.
fn why_not_attached(e: Errno, want: Want, target: BorrowedFd) -> Fault {
    match want_for(target) {
        Ok(is) if is != want => Fault::new(Errno(libc::ENOTDIR), &[b"of its source and its destination, one is a directory, the other a file"]),
        _ => Fault::new(e, &[b"attaching it to its destination"]),
    }
}

fn want_for(fd: BorrowedFd) -> Result<Want, Fault> {
    let directory = fs::fstat(fd)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    Ok(if directory { Want::Directory } else { Want::File })
}

/// A file mode as a C string of octal digits.
struct Octal([u8; 6]);

impl Octal {
    fn of(mode: u32) -> Octal {
        let mut digits = [0u8; 6];
        for (i, digit) in digits[..5].iter_mut().enumerate() {
            *digit = b'0' + (mode >> (3 * (4 - i)) & 7) as u8;
        }
        Octal(digits)
    }

    fn as_cstr(&self) -> Option<&CStr> {
        CStr::from_bytes_until_nul(&self.0).ok()
    }
}

/// Every procfs and sysfs of the host that is not below the rootfs, our working directory. They would stay in the mount
/// namespace, out of sight below the moved root, and the kernel lets a user namespace mount a new one, without what we
/// mask, for as long as an old one shows all.
#[inline(never)] // for the path on its stack, which is rarely needed
fn hide_kernel_filesystems() -> Result<(), Errno> {
    let mut here = [0; libc::PATH_MAX as usize];
    let here = fs::getcwd(&mut here)?;
    let table = fs::openat(fs::CWD, c"/proc/self/mountinfo", libc::O_RDONLY, 0)?;
    each_line(table.as_fd(), usize::MAX, |line| {
        let Some((b"proc" | b"sysfs", point)) = mounted(line)? else { return Ok(false) };
        let below = point.as_bytes().strip_prefix(here).is_some_and(|rest| rest.first() == Some(&b'/'));
        if !below && mount::unmount(point.as_cstr()?, libc::MNT_DETACH).is_err() {
            // Locked, in a user namespace: then cover it. Gone with another: then there is nothing to cover.
            match mount::mount(c"tmpfs", point.as_cstr()?, c"tmpfs", libc::MS_RDONLY, None) {
                Err(Errno(libc::ENOENT | libc::ENOTDIR)) => {}
                other => other?,
            }
        }
        Ok(false)
    })
}

fn label_root(mounted: BorrowedFd, label: &CStr) -> Done {
    let dir = fs::openat(mounted, c".", libc::O_RDONLY, 0)?;
    fs::set_xattr(dir.as_fd(), c"security.selinux", label.to_bytes()).map_err(why(b"setting its SELinux label"))
}

fn new_filesystem(kind: &CStr, parameters: &[(CString, Option<CString>)], mode: Option<Octal>, attributes: u64) -> Result<OwnedFd, Fault> {
    let context = mount::fsopen(kind).map_err(|e| match e {
        Errno(libc::ENODEV) => Fault::new(e, &[b"this kernel has no file system of type ", kind.to_bytes()]),
        e => Fault::from(e),
    })?;
    if let Some(mode) = &mode {
        mount::fsconfig(context.as_fd(), c"mode", mode.as_cstr())?;
    }
    configure(context.as_fd(), parameters)?;
    mount::fs_create(context.as_fd()).map_err(|e| context_fault(e, context.as_fd(), &[b"creating it"]))?;
    Ok(mount::fsmount(context.as_fd(), attributes)?)
}

fn configure(context: BorrowedFd, parameters: &[(CString, Option<CString>)]) -> Done {
    for (key, value) in parameters {
        mount::fsconfig(context, key, value.as_deref()).map_err(|e| match value {
            Some(value) => context_fault(e, context, &[b"option ", key.to_bytes(), b"=", value.to_bytes()]),
            None => context_fault(e, context, &[b"option ", key.to_bytes()]),
        })?;
    }
    Ok(())
}

/// The file system's own words where it has any, else what we were about.
fn context_fault(errno: Errno, context: BorrowedFd, about: &[&[u8]]) -> Fault {
    let mut buf = [0u8; LONGEST_MESSAGE];
    match mount::fs_message(context, &mut buf) {
        [] => Fault::new(errno, about),
        message => Fault::new(errno, &[message.trim_ascii_end()]), // some end in a newline
    }
}

fn empty_tmpfs() -> Result<OwnedFd, Fault> {
    let context = mount::fsopen(c"tmpfs")?;
    mount::fsconfig(context.as_fd(), c"nr_blocks", Some(c"1"))?;
    mount::fsconfig(context.as_fd(), c"nr_inodes", Some(c"1"))?;
    mount::fs_create(context.as_fd())?;
    Ok(mount::fsmount(context.as_fd(), mount::MOUNT_ATTR_RDONLY)?)
}

/// The attributes of the options. Flags that a user namespace has locked on a bind's source stay, as runc has it.
pub(super) fn set_attributes(tree: BorrowedFd, m: &Mount) -> Done {
    set_attributes_of(tree, m.set, m.clear, m.exact_flags, m.rec_set, m.rec_clear)
}

fn set_attributes_of(tree: BorrowedFd, set: u64, clear: u64, exact: bool, rec_set: u64, rec_clear: u64) -> Done {
    // Access times are one setting of several bits: to set it, all of them are cleared (mount_setattr(2)).
    let clear = if set & MOUNT_ATTR_ATIME != 0 { clear | MOUNT_ATTR_ATIME } else { clear };
    let wide = if exact { (REPLACEABLE & !set) | clear } else { clear };
    if set | wide != 0 {
        let attr = MountAttr { set, clear: wide, ..Default::default() };
        match mount::set_attr(tree, &attr, false) {
            // All but nosymfollow can be locked by a user namespace; what is locked and not named stays.
            Err(Errno(libc::EPERM)) if wide != clear => mount::set_attr(tree, &MountAttr { clear: clear | (wide & MOUNT_ATTR_NOSYMFOLLOW), ..attr }, false),
            other => other,
        }
        .map_err(why(b"setting its flags"))?;
    }
    if rec_set | rec_clear != 0 {
        let rec_clear = if rec_set & MOUNT_ATTR_ATIME != 0 { rec_clear | MOUNT_ATTR_ATIME } else { rec_clear };
        let attr = MountAttr { set: rec_set, clear: rec_clear, ..Default::default() };
        mount::set_attr(tree, &attr, true).map_err(why(b"setting its flags recursively"))?;
    }
    Ok(())
}

fn propagate(mounted: BorrowedFd, m: &Mount) -> Done {
    for flags in &m.propagation {
        let attr = MountAttr { propagation: flags & !libc::MS_REC, ..Default::default() };
        mount::set_attr(mounted, &attr, flags & libc::MS_REC != 0).map_err(why(b"setting its propagation"))?;
    }
    Ok(())
}

/// Walk up from `dir` to the root of the mount that it is in, and set that mount's propagation.
fn propagate_parent(dir: BorrowedFd, propagation: u64) -> Done {
    let mut at = fs::openat(dir, c".", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    while !fs::is_mount_root(at.as_fd())? {
        at = fs::openat(at.as_fd(), c"..", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    }
    let attr = MountAttr { propagation, ..Default::default() };
    Ok(mount::set_attr(at.as_fd(), &attr, false)?)
}

/// A mount's flags as [`host_tree`] sets them: set, clear, exact, and the recursive set and clear.
pub type Attributes = (u64, u64, bool, u64, u64);

/// The parent's side of a mount with `from_parent`: a detached tree with its attributes, cut off from the host's peers.
pub fn host_tree(path: &CStr, recursive: bool, attributes: Attributes, userns: Option<(BorrowedFd, bool)>) -> Result<OwnedFd, Errno> {
    let tree = mount::clone_tree(fs::CWD, path, recursive)?;
    let (set, clear, exact, rec_set, rec_clear) = attributes;
    set_attributes_of(tree.as_fd(), set, clear, exact, rec_set, rec_clear).map_err(|f| f.errno)?;
    let slave = MountAttr { propagation: libc::MS_SLAVE, ..Default::default() };
    mount::set_attr(tree.as_fd(), &slave, true)?;
    if let Some((userns, recursive)) = userns {
        use std::os::fd::AsRawFd;
        let attr = MountAttr { set: mount::MOUNT_ATTR_IDMAP, userns_fd: userns.as_raw_fd() as u64, ..Default::default() };
        mount::set_attr(tree.as_fd(), &attr, recursive)?;
    }
    Ok(tree)
}

//! Which cgroup hierarchies this machine has mounted, where, and where in them this process is.
//!
//! The usual places under /sys/fs/cgroup are asked with one statfs(2) each; /proc/self/mountinfo is read only for a
//! hierarchy that is not there, or to translate our own path where a hierarchy is mounted from below its root.
//! Sources: cgroups(7), proc(5) § mountinfo, kernel Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.

use crate::sys::{self, Errno};
use crate::{Error, Result};
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Where everyone mounts the hierarchies (cgroups(7); systemd's and Docker's convention).
pub const USUAL_ROOT: &str = "/sys/fs/cgroup";

/// linux/magic.h.
const CGROUP_SUPER_MAGIC: u32 = 0x27e0eb;
const CGROUP2_SUPER_MAGIC: u32 = 0x63677270;

/// How cgroups are mounted on this machine.
#[derive(Debug, Clone, PartialEq)]
pub enum Layout {
    /// cgroup v2 alone.
    Unified(Unified),
    /// v1 hierarchies; `unified` is the v2 hierarchy without controllers that a hybrid machine has beside them.
    Legacy { hierarchies: Vec<Hierarchy>, unified: Option<Unified> },
}

/// The v2 hierarchy.
#[derive(Debug, Clone, PartialEq)]
pub struct Unified {
    pub mountpoint: PathBuf,
    /// This process's cgroup, as /proc/self/cgroup names it.
    pub own: PathBuf,
}

/// One mounted v1 hierarchy.
#[derive(Debug, Clone, PartialEq)]
pub struct Hierarchy {
    /// `cpu`, `cpuacct`, or `name=systemd`: as /proc/self/cgroup names them.
    pub controllers: Vec<String>,
    pub mountpoint: PathBuf,
    /// The directory of this process's cgroup.
    pub own_dir: PathBuf,
}

/// A line of /proc/PID/cgroup: `hierarchy-ID:controllers:path`.
#[derive(Debug, Clone, PartialEq)]
pub struct Membership {
    /// Empty for v2's line, `0::/path`.
    pub controllers: Vec<String>,
    pub path: PathBuf,
}

/// What is of interest of a cgroup line of /proc/self/mountinfo.
#[derive(Debug, Clone, PartialEq)]
pub struct MountLine {
    /// The directory of the hierarchy that is visible at the mountpoint.
    pub root: PathBuf,
    pub mountpoint: PathBuf,
    pub v2: bool,
    /// Super block options: the controllers among them.
    pub options: Vec<OsString>,
}

impl Layout {
    /// Look at this machine.
    pub fn detect() -> Result<Layout> {
        let own = memberships("/proc/self/cgroup")?;
        let root = Path::new(USUAL_ROOT);
        let unified_path = || own.iter().find(|m| m.controllers.is_empty()).map(|m| m.path.clone());
        match magic(root)? {
            Some(CGROUP2_SUPER_MAGIC) => {
                let own = unified_path()
                    .ok_or_else(|| Error::other("looking for the v2 line in", "/proc/self/cgroup", "there is none, yet /sys/fs/cgroup is cgroup v2"))?;
                Ok(Layout::Unified(Unified { mountpoint: root.into(), own }))
            }
            _ => {
                let hierarchies = legacy(root, &own)?;
                // Only this place counts as hybrid, as with runc: a v2 mount elsewhere is someone's experiment.
                let mountpoint = root.join("unified");
                let unified = match magic(&mountpoint)? {
                    Some(CGROUP2_SUPER_MAGIC) => unified_path().map(|own| Unified { mountpoint, own }),
                    _ => None,
                };
                Ok(Layout::Legacy { hierarchies, unified })
            }
        }
    }
}

/// The v1 hierarchies of which /proc/self/cgroup tells, as far as they are mounted.
fn legacy(root: &Path, own: &[Membership]) -> Result<Vec<Hierarchy>> {
    let mut mounts: Option<Vec<MountLine>> = None;
    let mut found = Vec::with_capacity(own.len());
    for membership in own.iter().filter(|m| !m.controllers.is_empty()) {
        if let Some(mountpoint) = usual_place(root, &membership.controllers)?
            && let Some(own_dir) = own_dir_by_inode(&mountpoint, &membership.path)
        {
            found.push(Hierarchy { controllers: membership.controllers.clone(), mountpoint, own_dir });
            continue;
        }
        if mounts.is_none() {
            mounts = Some(mount_lines()?);
        }
        let line = mounts.iter().flatten().find(|line| !line.v2 && membership.controllers.iter().all(|c| line.options.iter().any(|o| o == c.as_str())));
        if let Some(line) = line {
            let own_dir = line.mountpoint.join(relative_to(&membership.path, &line.root));
            found.push(Hierarchy { controllers: membership.controllers.clone(), mountpoint: line.mountpoint.clone(), own_dir });
        }
    }
    Ok(found)
}

/// /sys/fs/cgroup/cpu,cpuacct, /sys/fs/cgroup/systemd: the first of the usual names at which a v1 hierarchy is mounted.
fn usual_place(root: &Path, controllers: &[String]) -> Result<Option<PathBuf>> {
    let joined = controllers.join(",");
    let alone = controllers.iter().filter(|_| controllers.len() > 1).map(String::as_str);
    for name in std::iter::once(joined.as_str()).chain(alone) {
        let path = root.join(name.strip_prefix("name=").unwrap_or(name));
        if magic(&path)? == Some(CGROUP_SUPER_MAGIC) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Where in a hierarchy mounted at `mountpoint` the cgroup `own` is, if the whole hierarchy is mounted there.
///
/// kernfs numbers a hierarchy's root directory 1 and never uses that number again, so another number means that a
/// directory below it is mounted (a container without cgroup namespace), or that we are in a cgroup namespace; then
/// only mountinfo knows.
fn own_dir_by_inode(mountpoint: &Path, own: &Path) -> Option<PathBuf> {
    if own == Path::new("/") {
        return Some(mountpoint.into());
    }
    let whole = std::fs::metadata(mountpoint).is_ok_and(|m| m.ino() == 1);
    whole.then(|| mountpoint.join(relative_to(own, Path::new("/"))))
}

/// The way from directory `root` to `path`; both absolute. A path outside of `root` yields `..` steps.
fn relative_to(path: &Path, root: &Path) -> PathBuf {
    let (mut from, mut to) = (root.components().peekable(), path.components().peekable());
    while from.peek().is_some() && from.peek() == to.peek() {
        from.next();
        to.next();
    }
    from.map(|_| Component::ParentDir).chain(to).collect()
}

/// The file system at `path`; None where there is nothing.
fn magic(path: &Path) -> Result<Option<u32>> {
    let c_path = CString::new(path.as_os_str().as_bytes()).map_err(|e| Error::other("asking for the file system of", path.display().to_string(), e))?;
    match sys::cgroup::statfs_magic(&c_path) {
        Ok(magic) => Ok(Some(magic)),
        // EACCES: a directory above is closed to us, so whatever is there is of no use to us.
        Err(Errno(libc::ENOENT | libc::ENOTDIR | libc::EACCES)) => Ok(None),
        Err(e) => Err(e.error("statfs", "asking for the file system of", path.display().to_string())),
    }
}

/// The cgroups of a process: /proc/PID/cgroup or /proc/self/cgroup.
pub fn memberships(file: &str) -> Result<Vec<Membership>> {
    let text = std::fs::read(file).map_err(|e| Error::io(&e, "reading", file))?;
    parse_memberships(&text).map_err(|line| Error::other("parsing", file, format!("{line:?} is not `id:controllers:path`")))
}

/// Parse /proc/PID/cgroup; the error is the line that is none.
pub fn parse_memberships(text: &[u8]) -> Result<Vec<Membership>, String> {
    text.split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut fields = line.splitn(3, |b| *b == b':').skip(1);
            match (fields.next().map(std::str::from_utf8), fields.next()) {
                (Some(Ok(controllers)), Some(path)) => Ok(Membership {
                    controllers: controllers.split(',').filter(|c| !c.is_empty()).map(String::from).collect(),
                    path: OsStr::from_bytes(path).into(),
                }),
                _ => Err(String::from_utf8_lossy(line).into_owned()),
            }
        })
        .collect()
}

fn mount_lines() -> Result<Vec<MountLine>> {
    let text = std::fs::read("/proc/self/mountinfo").map_err(|e| Error::io(&e, "reading", "/proc/self/mountinfo"))?;
    Ok(parse_mountinfo(&text))
}

/// The cgroup mounts among the lines of mountinfo (proc(5)):
/// `36 35 98:0 /root /mountpoint options [optional fields] - type source super-options`.
pub fn parse_mountinfo(text: &[u8]) -> Vec<MountLine> {
    text.split(|b| *b == b'\n').filter_map(parse_mount_line).collect()
}

fn parse_mount_line(line: &[u8]) -> Option<MountLine> {
    let mut fields = line.split(|b| *b == b' ');
    let root = fields.nth(3)?;
    let mountpoint = fields.next()?;
    // The optional fields end with a lone dash; a path can't be taken for it, as the spaces in a path are escaped.
    fields.find(|f| *f == b"-")?;
    let v2 = match fields.next()? {
        b"cgroup" => false,
        b"cgroup2" => true,
        _ => return None,
    };
    let options = fields.nth(1)?;
    Some(MountLine { root: unescape(root).into(), mountpoint: unescape(mountpoint).into(), v2, options: options.split(|b| *b == b',').map(unescape).collect() })
}

/// Undo mountinfo's `\040`: space, tab, newline and backslash as three octal digits. The rest are raw bytes.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if byte == b'\\' => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memberships_of_a_hybrid_machine() {
        let parsed = parse_memberships(b"9:name=systemd:/\n2:cpu,cpuacct:/a:b\n0::/user.slice\n").unwrap();
        assert_eq!(parsed.len(), 3);
        assert_eq!(parsed[0].controllers, ["name=systemd"]);
        assert_eq!((parsed[1].controllers.len(), parsed[1].path.to_str()), (2, Some("/a:b")));
        assert!(parsed[2].controllers.is_empty());
        assert_eq!(parse_memberships(b"nonsense\n"), Err("nonsense".to_string()));
        assert_eq!(parse_memberships(b"0::/caf\xe9\n").unwrap()[0].path.as_os_str().as_bytes(), b"/caf\xe9");
    }

    #[test]
    fn mountinfo_is_unescaped_and_keeps_bytes() {
        let text = b"32 31 0:29 /docker/x /sys/fs/cgroup/cpu\\040a\xff rw,relatime shared:1 master:2 - cgroup cgroup rw,cpu,cpuacct\n\
            33 31 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n34 1 0:1 / /proc rw - proc proc rw\nshort line\n";
        let lines = parse_mountinfo(text);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].mountpoint.as_os_str().as_bytes(), b"/sys/fs/cgroup/cpu a\xff");
        assert_eq!(lines[0].root, Path::new("/docker/x"));
        assert_eq!(lines[0].options, ["rw", "cpu", "cpuacct"]);
        assert!(!lines[0].v2 && lines[1].v2);
        assert_eq!(unescape(b"a\\134b\\0"), "a\\b\\0");
    }

    #[test]
    fn the_way_from_the_mounted_root_to_our_cgroup() {
        assert_eq!(relative_to(Path::new("/docker/x/child"), Path::new("/docker/x")), Path::new("child"));
        assert_eq!(relative_to(Path::new("/docker/x"), Path::new("/docker/x")), Path::new(""));
        assert_eq!(relative_to(Path::new("/a"), Path::new("/b/c")), Path::new("../../a"));
    }

    #[test]
    fn this_machine_has_a_layout() {
        match Layout::detect().unwrap() {
            Layout::Unified(u) => assert!(u.own.is_absolute()),
            Layout::Legacy { hierarchies, .. } => assert!(hierarchies.iter().all(|h| h.mountpoint.is_absolute() && h.own_dir.is_absolute())),
        }
    }
}

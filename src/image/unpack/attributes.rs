//! Extended attributes: which of a layer's are set, and how they change with the owners.

use super::Owners;
use super::entry::Entry;
use super::header::malformed;
use super::tree::{ACCESS_ACL, CBuf, DEFAULT_ACL};
use crate::sys::{self, Errno, fs, tree};
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

/// overlayfs's and fuse-overlayfs's own words, with which a layer could redirect or hide; the host's labels.
const NEVER: [&[u8]; 5] = [b"trusted.overlay.", b"user.overlay.", b"user.fuseoverlayfs.", b"user.containers.override_stat", b"security.selinux"];
const CAPABILITY: &[u8] = b"security.capability";

/// Whether an attribute of this name is a layer's to have.
pub(in crate::image) fn is_kept(name: &[u8]) -> bool {
    !NEVER.iter().any(|never| name.starts_with(never))
}

/// What could not be kept, a line each.
#[derive(Debug, Default)]
pub(super) struct Lost(BTreeSet<String>);

impl Lost {
    pub fn add(&mut self, what: String) {
        // So many kinds of loss say enough.
        if self.0.len() < 20 {
            self.0.insert(what);
        }
    }

    pub fn into_lines(self) -> Vec<String> {
        self.0.into_iter().collect()
    }
}

/// The attributes to set for `entry`, ACLs included: (name, value). A directory's default ACL comes last.
pub(super) fn of(entry: &Entry, owners: &Owners, lost: &mut Lost) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut out = Vec::new();
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_kept(name)) {
        let value = match name.as_slice() {
            CAPABILITY => capability(value, owners)?,
            name if name == ACCESS_ACL.to_bytes() || name == DEFAULT_ACL.to_bytes() => mapped_acl(value, owners)?,
            _ => value.clone(),
        };
        out.push((name.clone(), value));
    }
    for (text, key) in entry.acls.iter().zip([ACCESS_ACL, DEFAULT_ACL]) {
        let Some(text) = text else { continue };
        match acl_from_text(text) {
            Some(value) => out.push((key.to_bytes().to_vec(), mapped_acl(&value, owners)?)),
            None => lost.add(format!("an ACL that names users without their numbers was left out: {}", entry.shown())),
        }
    }
    out.sort_by_key(|(name, _)| name == DEFAULT_ACL.to_bytes());
    Ok(out)
}

/// On an open file or directory.
pub(super) fn set(fd: BorrowedFd, entry: &Entry, list: &[(Vec<u8>, Vec<u8>)], lost: &mut Lost) -> Result<()> {
    set_each(entry, list, lost, |key, value| fs::set_xattr(fd, key, value))
}

/// On `name` of `dir`, which may be a symlink or a device. It changes this thread's working directory, which must be its own.
pub(super) fn set_at(dir: BorrowedFd, name: &CStr, entry: &Entry, list: &[(Vec<u8>, Vec<u8>)], lost: &mut Lost) -> Result<()> {
    fs::fchdir(dir).map_err(|e| e.error("fchdir", "setting attributes of", entry.shown()))?;
    set_each(entry, list, lost, |key, value| tree::set_xattr_in_cwd(name, key, value))
}

fn set_each(entry: &Entry, list: &[(Vec<u8>, Vec<u8>)], lost: &mut Lost, set: impl Fn(&CStr, &[u8]) -> sys::Result<()>) -> Result<()> {
    let mut key = CBuf::default();
    for (name, value) in list {
        match set(key.set(name), value) {
            Ok(()) => {}
            // user.* is for files and directories alone, and symlinks have no ACLs.
            Err(Errno(libc::EPERM | libc::EOPNOTSUPP)) if !matches!(entry.kind, super::entry::Kind::File | super::entry::Kind::Directory) => {}
            Err(Errno(errno @ (libc::EPERM | libc::EOPNOTSUPP))) => {
                let why = if errno == libc::EPERM { "not permitted to us" } else { "not known to the file system" };
                lost.add(format!("extended attributes {} were left out: {why}", super::entry::show(name)));
            }
            Err(e) => return Err(e.error("setxattr", format!("setting the attribute {} of", super::entry::show(name)), entry.shown())),
        }
    }
    Ok(())
}

/// Before a directory gets a new entry's attributes: away with those of the layer below.
pub(super) fn clear(fd: BorrowedFd) -> sys::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let names = match tree::list_xattrs(fd, &mut buffer) {
        Err(Errno(libc::EOPNOTSUPP)) => return Ok(()),
        other => other?,
    };
    let mut key = CBuf::default();
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty() && is_kept(name)) {
        match tree::remove_xattr(fd, key.set(name)) {
            Err(Errno(libc::ENODATA | libc::EPERM | libc::EOPNOTSUPP)) | Ok(()) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// `struct vfs_cap_data` of version 2 says nothing about whose root it is for; in a mapped tree that is the mapped root,
/// which version 3 has a field for (capabilities(7), File capability extended attribute versioning).
fn capability(value: &[u8], owners: &Owners) -> Result<Vec<u8>> {
    const VERSION: u32 = 0xff00_0000;
    const V2: u32 = 0x0200_0000;
    const V3: u32 = 0x0300_0000;
    if !matches!(owners, Owners::Mapped(..)) {
        return Ok(value.to_vec());
    }
    let word = |at: usize| value.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let Some(magic) = word(0) else { return Err(malformed("file capabilities of less than four bytes")) };
    let inner_root = match (magic & VERSION, value.len()) {
        (V2, 20) => 0,
        (V3, 24) => word(20).unwrap_or_default(),
        _ => return Err(malformed("file capabilities of an unknown version")),
    };
    let (root, _) = owners.translate(inner_root, 0)?.unwrap_or_default();
    Ok([&(magic & !VERSION | V3).to_le_bytes(), &value[4..20], &root.to_le_bytes()].concat())
}

const ACL_VERSION: [u8; 4] = 2u32.to_le_bytes();
const ACL_USER: u16 = 2;
const ACL_GROUP: u16 = 8;

/// The binary ACL (`struct posix_acl_xattr_entry`: tag, permissions, id) with its ids translated.
fn mapped_acl(value: &[u8], owners: &Owners) -> Result<Vec<u8>> {
    if !matches!(owners, Owners::Mapped(..)) {
        return Ok(value.to_vec());
    }
    let mut out = value.to_vec();
    if !value.starts_with(&ACL_VERSION) || !(value.len() - 4).is_multiple_of(8) {
        return Err(malformed("an ACL of an unknown form"));
    }
    for entry in out[4..].chunks_exact_mut(8) {
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let id = match u16::from_le_bytes([entry[0], entry[1]]) {
            ACL_USER => owners.translate(id, 0)?.unwrap_or_default().0,
            ACL_GROUP => owners.translate(0, id)?.unwrap_or_default().1,
            _ => id,
        };
        entry[4..].copy_from_slice(&id.to_le_bytes());
    }
    Ok(out)
}

/// `user::rwx,user:bin:r-x:2,group::r--,mask::rwx,other::---`: the number is the fourth field, or the name is one.
fn acl_from_text(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut entries = Vec::new();
    for entry in text.split([',', '\n']).map(str::trim).filter(|e| !e.is_empty() && !e.starts_with('#')) {
        let fields: Vec<&str> = entry.split(':').collect();
        let name = fields.get(1)?;
        let (kind, named) = (*fields.first()?, !name.is_empty());
        let tag: u16 = match (kind, named) {
            ("user" | "u", false) => 1,
            ("user" | "u", true) => ACL_USER,
            ("group" | "g", false) => 4,
            ("group" | "g", true) => ACL_GROUP,
            ("mask" | "m", false) => 16,
            ("other" | "o", false) => 32,
            _ => return None,
        };
        let id = if named { fields.get(3).unwrap_or(name).parse().ok()? } else { u32::MAX };
        let mut permissions = 0u16;
        for c in fields.get(2)?.chars() {
            permissions |= match c {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                '-' => 0,
                _ => return None,
            };
        }
        entries.push((tag, permissions, id));
    }
    // The kernel wants them by tag and id.
    entries.sort_by_key(|(tag, _, id)| (*tag, *id));
    let mut out = ACL_VERSION.to_vec();
    for (tag, permissions, id) in entries {
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&permissions.to_le_bytes());
        out.extend_from_slice(&id.to_le_bytes());
    }
    Some(out)
}

/// The error for a failed step, shared by the steps of `apply`.
pub(super) fn failed(call: &'static str, e: Errno, doing: &str, entry: &Entry) -> Error {
    e.error(call, doing, entry.shown())
}

#[cfg(test)]
mod tests {
    use super::super::IdRange;
    use super::*;

    fn shifted() -> Owners {
        let ranges = vec![IdRange { container: 0, host: 100_000, size: 65_536 }];
        Owners::Mapped(ranges.clone(), ranges)
    }

    #[test]
    fn acls_from_text_are_what_the_kernel_wants() {
        let acl = acl_from_text(b"user::rwx,group::r-x,user:bin:rw-:2,mask::rwx,other::---").unwrap();
        assert_eq!(acl.len(), 4 + 5 * 8);
        assert_eq!(acl[4..12], [1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(acl[12..20], [2, 0, 6, 0, 2, 0, 0, 0]);
        assert!(acl_from_text(b"user:bin:rw-").is_none());
        let moved = mapped_acl(&acl, &shifted()).unwrap();
        assert_eq!(moved[16..20], 100_002u32.to_le_bytes());
    }

    #[test]
    fn capabilities_get_the_mapped_root() {
        let v2 = [&0x0200_0001u32.to_le_bytes()[..], &[1; 16]].concat();
        assert_eq!(capability(&v2, &Owners::AsSaid).unwrap(), v2);
        let v3 = capability(&v2, &shifted()).unwrap();
        assert_eq!((v3.len(), &v3[..4], &v3[20..]), (24, &0x0300_0001u32.to_le_bytes()[..], &100_000u32.to_le_bytes()[..]));
        assert!(capability(b"xx", &shifted()).is_err());
    }
}

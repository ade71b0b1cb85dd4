//! `Config.User` → numbers, with the image's own /etc/passwd and /etc/group.
//!
//! What consists of digits is a number and is never looked up as a name; a number that is too large for a uid is
//! refused rather than cut (CVE-2024-40635, CVE-2026-46680). The files are the image's, so they are opened below its
//! root and read up to a bound (CVE-2026-47262).

use crate::spec::User;
use crate::sys::fs::{self, resolve};
use crate::sys::{Errno, Result as SysResult};
use crate::{Error, Result};
use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The kernel's ids end here: the last one means "unchanged". Go's `int32` and with it Docker end before, at 2^31 - 1.
const MOST_ID: u32 = i32::MAX as u32;
const MOST_FILE: u64 = 1 << 20;
/// What setgroups(2) takes.
const MOST_GROUPS: usize = 65_536;

/// `USER[:GROUP]`, each a name or a number; "" is root. Without a group it is the user's own, and all that list the user.
pub fn resolve(user: &str, root: BorrowedFd) -> Result<User> {
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let wrong = |cause: String| Error::other("converting the image's User", format!("{user:?}"), cause);
    let passwd = read(root, c"etc/passwd")?;
    let number = number(name).map_err(wrong)?;
    let found = lines(&passwd)
        .find_map(|line| Passwd::parse(line).filter(|entry| if let Some(uid) = number { entry.uid == uid } else { entry.name == name.as_bytes() }));
    let (uid, own_gid) = match (&found, number) {
        (Some(entry), _) => (entry.uid, entry.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) if name.is_empty() => (0, 0),
        (None, None) => return Err(wrong("the image's /etc/passwd has no such user".into())),
    };
    let mut out = User { uid, gid: own_gid, ..User::default() };
    match group {
        Some(group) => out.gid = group_id(group, root)?.ok_or_else(|| wrong("the image's /etc/group has no such group".into()))?,
        None => {
            let own_name = found.map(|entry| entry.name.to_vec()).unwrap_or_default();
            out.additional_gids = groups_of(&own_name, root)?;
        }
    }
    Ok(out)
}

/// None for what is no number at all.
fn number(text: &str) -> Result<Option<u32>, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) if id <= MOST_ID => Ok(Some(id)),
        _ => Err(format!("{text} is too large for an id; {MOST_ID} is the largest")),
    }
}

fn group_id(group: &str, root: BorrowedFd) -> Result<Option<u32>> {
    if let Some(id) = number(group).map_err(|cause| Error::other("converting the image's User", format!("{group:?}"), cause))? {
        return Ok(Some(id));
    }
    let text = read(root, c"etc/group")?;
    Ok(lines(&text).filter_map(Group::parse).find(|g| g.name == group.as_bytes()).map(|g| g.gid))
}

/// The groups that list the user, in the file's order.
fn groups_of(user: &[u8], root: BorrowedFd) -> Result<Vec<u32>> {
    if user.is_empty() {
        return Ok(Vec::new());
    }
    let text = read(root, c"etc/group")?;
    let mut out = Vec::new();
    for group in lines(&text).filter_map(Group::parse).filter(|g| g.members.split(|b| *b == b',').any(|m| m == user)) {
        if !out.contains(&group.gid) {
            out.push(group.gid);
        }
        if out.len() > MOST_GROUPS {
            return Err(Error::other("converting the image's User", "", "it is in more groups than the kernel takes"));
        }
    }
    Ok(out)
}

struct Passwd<'t> {
    name: &'t [u8],
    uid: u32,
    gid: u32,
}

impl<'t> Passwd<'t> {
    /// A malformed line is none, as for libc.
    fn parse(line: &'t [u8]) -> Option<Passwd<'t>> {
        let mut fields = line.split(|b| *b == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        Some(Passwd { name, uid: id(fields.nth(1)?)?, gid: id(fields.next()?)? })
    }
}

struct Group<'t> {
    name: &'t [u8],
    gid: u32,
    members: &'t [u8],
}

impl<'t> Group<'t> {
    fn parse(line: &'t [u8]) -> Option<Group<'t>> {
        let mut fields = line.split(|b| *b == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        Some(Group { name, gid: id(fields.nth(1)?)?, members: fields.next().unwrap_or_default() })
    }
}

fn id(field: &[u8]) -> Option<u32> {
    number(std::str::from_utf8(field).ok()?).ok()?
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii)
}

/// A file of the image, whole; empty where there is none.
fn read(root: BorrowedFd, path: &CStr) -> Result<Vec<u8>> {
    let shown = || format!("the image's /{}", path.to_string_lossy());
    let file = match open(root, path) {
        Ok(file) => file,
        Err(Errno(libc::ENOENT | libc::ENOTDIR)) => return Ok(Vec::new()),
        Err(e) => return Err(e.error("openat2", "opening", shown())),
    };
    let mut text = Vec::new();
    File::from(file).take(MOST_FILE + 1).read_to_end(&mut text).map_err(|e| Error::io(&e, "reading", shown()))?;
    if text.len() as u64 > MOST_FILE { Err(Error::other("reading", shown(), format!("it has more than {MOST_FILE} bytes"))) } else { Ok(text) }
}

/// Only a regular file: a fifo would make us wait, a device answer for ever.
fn open(root: BorrowedFd, path: &CStr) -> SysResult<OwnedFd> {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let named = fs::openat2(root, path, libc::O_PATH, 0, resolve::IN_ROOT | resolve::NO_MAGICLINKS)?;
    if fs::fstat(named.as_fd())?.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(Errno(libc::ENOENT));
    }
    fs::openat2(root, path, flags, 0, resolve::IN_ROOT | resolve::NO_MAGICLINKS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Root(PathBuf);

    impl Root {
        fn new(name: &str) -> Root {
            let dir = std::env::temp_dir().join(format!("dhow-user-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(dir.join("etc")).unwrap();
            std::fs::write(dir.join("etc/passwd"), "root:x:0:0::/:\n\nbad line\nweb:x:33:34::/:\n1000:x:7:8::/:\nbig:x:4294967296:0::/:\n").unwrap();
            std::fs::write(dir.join("etc/group"), "root:x:0:\nwww:x:34:\nextra:x:50:web,other\nmore:x:51:other,web\n").unwrap();
            Root(dir)
        }

        fn resolve(&self, user: &str) -> Result<User> {
            resolve(user, File::open(&self.0).unwrap().as_fd())
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn names_and_numbers() {
        let root = Root::new("names");
        let table: [(&str, u32, u32, &[u32]); 11] = [
            ("", 0, 0, &[]),
            ("root", 0, 0, &[]),
            ("web", 33, 34, &[50, 51]),
            ("33", 33, 34, &[50, 51]),
            ("web:extra", 33, 50, &[]),
            ("web:7", 33, 7, &[]),
            ("1234", 1234, 0, &[]),
            // A number, though there is a user of that name.
            ("1000", 1000, 0, &[]),
            ("1234:www", 1234, 34, &[]),
            ("web:", 33, 34, &[50, 51]),
            ("2147483647", 2_147_483_647, 0, &[]),
        ];
        for (user, uid, gid, groups) in table {
            let got = root.resolve(user).unwrap();
            assert_eq!((got.uid, got.gid, got.additional_gids.as_slice()), (uid, gid, groups), "{user}");
        }
    }

    #[test]
    fn what_overflows_or_is_unknown_is_refused() {
        let root = Root::new("overflow");
        for user in [
            "2147483648",
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "00000000004294967296",
            "web:4294967296",
            "nobody",
            "web:nogroup",
            "-1",
            "+1",
            "big",
        ] {
            assert!(root.resolve(user).is_err(), "{user}");
        }
    }

    #[test]
    fn the_files_are_bounded_and_the_image_s_own() {
        let root = Root::new("files");
        let passwd = root.0.join("etc/passwd");
        std::fs::write(&passwd, vec![b'x'; (MOST_FILE + 1) as usize]).unwrap();
        assert!(root.resolve("web").unwrap_err().to_string().contains("more than 1048576 bytes"));
        std::fs::remove_file(&passwd).unwrap();
        std::os::unix::fs::symlink("/etc/hosts", &passwd).unwrap();
        assert!(root.resolve("root").unwrap_err().to_string().contains("no such user"));
        std::fs::remove_file(&passwd).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&passwd).status().unwrap().success());
        assert!(root.resolve("root").is_err());
        assert_eq!(root.resolve("5").unwrap().uid, 5);
    }
}

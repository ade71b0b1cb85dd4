//! Which ids are ours to give to files: root's all, others those of a user namespace.
//!
//! Without root we enter one before anything else is done ([`enter`]), in which the caller is root and the subordinate ids
//! of /etc/subuid and /etc/subgid are the others; without any, the caller's own id is all there is. What is mounted, given
//! away and run from there on is as root would do it.

use super::pipeline::Summary;
use super::unpack::{IdRange, Owners};
use crate::idmap::{self, Maps};
use crate::spec::IdMapping;
use crate::sys::process::{self, CLONE_NEWUSER, getegid, geteuid};
use crate::{Error, Result, log};
use std::fs;
use std::os::fd::AsFd;
use std::sync::OnceLock;

/// What a command needs that has no root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Nothing,
    /// Other owners than the caller, if the caller has subordinate ids.
    Owners,
    /// Mounts, too.
    Mounts,
}

/// The ids that there are, as the kernel maps them to those outside.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ids {
    pub uids: Vec<IdMapping>,
    pub gids: Vec<IdMapping>,
    /// The namespace is one that we made, and nobody outside is in it.
    pub entered: bool,
}

/// The kernel takes as many lines (user_namespaces(7)).
const MOST_LINES: usize = 340;
/// Where useradd(8) begins to give them, and how many each user gets.
const FIRST: u32 = 100_000;
const COUNT: u32 = 65_536;

static OURS: OnceLock<Ids> = OnceLock::new();

/// Those of this process.
pub fn ours() -> &'static Ids {
    OURS.get_or_init(|| Ids::now(false))
}

/// Whose the files of an image become, if nothing else is asked for.
pub fn owners() -> Owners {
    if geteuid() == 0 && !ours().is_single() { Owners::AsSaid } else { Owners::Own }
}

impl Ids {
    fn now(entered: bool) -> Ids {
        let of = |file: &str| fs::read_to_string(file).map(|text| parse_map(&text)).unwrap_or_default();
        Ids { uids: of("/proc/self/uid_map"), gids: of("/proc/self/gid_map"), entered }
    }

    /// We are in the first user namespace, where an id is what it is.
    pub fn are_all(&self) -> bool {
        // A kernel without user namespaces has no such file.
        self.uids.is_empty() || matches!(&self.uids[..], [all] if all.container_id == 0 && all.host_id == 0 && all.size == u32::MAX)
    }

    /// Root is the only user here.
    pub fn is_single(&self) -> bool {
        !self.are_all() && self.uids.iter().chain(&self.gids).all(|map| map.size == 1)
    }

    /// Both are ids here.
    pub fn has(&self, uid: u32, gid: u32) -> bool {
        self.are_all() || (to_host(&self.uids, uid).is_some() && to_host(&self.gids, gid).is_some())
    }

    /// # Errors
    /// One of them is no id here.
    pub fn check(&self, uid: u32, gid: u32, doing: &str, user: &str) -> Result<()> {
        if self.has(uid, gid) {
            return Ok(());
        }
        Err(Error::other(doing, format!("{user:?} ({uid}:{gid})"), "the caller has no ids for it").hint(advice()))
    }

    /// Ranges whose hosts' ids are meant as outside, as they are here. `what` is a uid or a gid.
    pub fn translate(&self, ranges: &[IdRange], what: &str) -> Result<Vec<IdRange>> {
        let maps = if what == "uid" { &self.uids } else { &self.gids };
        let find = |range: &IdRange| {
            let found =
                maps.iter().find(|m| range.host >= m.host_id && u64::from(range.host) + u64::from(range.size) <= u64::from(m.host_id) + u64::from(m.size));
            found.map(|m| IdRange { host: m.container_id + (range.host - m.host_id), ..*range })
        };
        ranges.iter().map(|range| find(range).ok_or_else(|| not_ours(range, what))).collect()
    }

    /// The maps of a namespace below ours, made for one beside it.
    pub fn inside(&self, maps: &[IdMapping], what: &str) -> Result<Vec<IdMapping>> {
        let ranges: Vec<IdRange> = maps.iter().map(|m| IdRange { container: m.container_id, host: m.host_id, size: m.size }).collect();
        let found = self.translate(&ranges, what)?;
        Ok(found.iter().map(|r| IdMapping { container_id: r.container, host_id: r.host, size: r.size }).collect())
    }

    /// The other way: ids of here, as they are outside.
    pub fn outside(&self, ranges: &[IdRange], what: &str) -> Vec<IdMapping> {
        let maps = if what == "uid" { &self.uids } else { &self.gids };
        let host = |range: &IdRange| if self.entered { to_host(maps, range.host) } else { Some(range.host) };
        ranges.iter().filter_map(|r| host(r).map(|host_id| IdMapping { container_id: r.container, host_id, size: r.size })).collect()
    }
}

fn not_ours(range: &IdRange, what: &str) -> Error {
    let last = range.host.saturating_add(range.size - 1);
    Error::other("translating owners", format!("{what}s {} to {last}", range.host), "they are not all the caller's to give").hint(advice())
}

fn to_host(maps: &[IdMapping], id: u32) -> Option<u32> {
    maps.iter().find_map(|m| id.checked_sub(m.container_id).filter(|n| *n < m.size).map(|n| m.host_id + n))
}

/// Without root, become the root of a user namespace of our own, if `need` says so. Before any thread is started.
///
/// # Errors
/// Mounts are needed and the kernel allows no user namespace.
pub fn enter(need: Need) -> Result<()> {
    if need == Need::Nothing || geteuid() == 0 {
        return Ok(());
    }
    match subordinate().map(|(uids, gids)| become_root(&uids, &gids, true)) {
        Some(Ok(())) => return Ok(()),
        Some(Err(e)) => log::warn(&format!("going on without subordinate ids: {e}")),
        None => {}
    }
    if need == Need::Owners {
        return Ok(());
    }
    let own = |id| vec![IdMapping { container_id: 0, host_id: id, size: 1 }];
    become_root(&own(geteuid()), &own(getegid()), false).map_err(|e| {
        e.hint("without root dhowctl needs user namespaces: see the sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns")
    })
}

fn become_root(uids: &[IdMapping], gids: &[IdMapping], by_helper: bool) -> Result<()> {
    let doing = "making a user namespace";
    let maps = Maps { uid: uids, gid: gids, by_helper, deny_setgroups: !by_helper, named: ["the caller's subordinate uids", "the caller's subordinate gids"] };
    let namespace = idmap::namespace(&maps, doing)?;
    process::setns(namespace.as_fd(), CLONE_NEWUSER).map_err(|e| e.error("setns", doing, ""))?;
    OURS.set(Ids::now(true)).map_err(|_| Error::other(doing, "", "it was asked for our ids before"))
}

/// The caller as root, and behind it the subordinate ids; None if there are none of either kind.
fn subordinate() -> Option<(Vec<IdMapping>, Vec<IdMapping>)> {
    let names = names_of(geteuid());
    let of = |file: &str, own: u32| {
        let text = fs::read_to_string(file).unwrap_or_default();
        maps(own, &ranges(&text, &names))
    };
    Some((of("/etc/subuid", geteuid())?, of("/etc/subgid", getegid())?))
}

/// What the lines of the two files may call the user: the number, or the name by the host's passwd, or else as the
/// environment has it. newuidmap(1) is the one to judge.
fn names_of(uid: u32) -> Vec<String> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_string())
    });
    let name = named.or_else(|| std::env::var("USER").ok()).filter(|name| !name.is_empty());
    [Some(uid.to_string()), name].into_iter().flatten().collect()
}

/// `NAME:FIRST:COUNT` a line (subuid(5)).
fn ranges(text: &str, names: &[String]) -> Vec<(u32, u32)> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [name, first, count] = fields[..] else { return None };
        let (first, count) = (first.parse::<u32>().ok()?, count.parse::<u32>().ok()?);
        (names.iter().any(|n| n == name) && count > 0 && first.checked_add(count).is_some()).then_some((first, count))
    };
    text.lines().filter_map(parse).collect()
}

fn maps(own: u32, ranges: &[(u32, u32)]) -> Option<Vec<IdMapping>> {
    let mut out = vec![IdMapping { container_id: 0, host_id: own, size: 1 }];
    let mut next = 1u32;
    for (first, count) in ranges.iter().take(MOST_LINES - 1) {
        // One that wraps around has no id for the rest.
        let Some(after) = next.checked_add(*count) else { break };
        out.push(IdMapping { container_id: next, host_id: *first, size: *count });
        next = after;
    }
    (out.len() > 1).then_some(out)
}

fn parse_map(text: &str) -> Vec<IdMapping> {
    let parse = |line: &str| {
        let mut numbers = line.split_whitespace().map(|n| n.parse().ok());
        Some(IdMapping { container_id: numbers.next()??, host_id: numbers.next()??, size: numbers.next()?? })
    };
    text.lines().filter_map(parse).collect()
}

/// Say so if files became the caller's that are others' in the image.
pub fn tell_of_others(summary: &Summary) {
    if summary.others {
        log::warn(&format!("files of other users became the caller's ({})", advice()));
    }
}

/// How to come by more ids.
pub fn advice() -> String {
    let taken = |file: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let end = |line: &str| {
            let mut numbers = line.split(':').skip(1).map(|n| n.trim().parse::<u32>().ok());
            numbers.next()??.checked_add(numbers.next()??)
        };
        text.lines().filter_map(end).max().unwrap_or(0)
    };
    let first = taken("/etc/subuid").max(taken("/etc/subgid")).max(FIRST);
    let outside = ours().uids.first().filter(|_| ours().entered).map_or_else(geteuid, |own| own.host_id);
    let name = names_of(outside).pop().unwrap_or_default();
    let last = first.saturating_add(COUNT - 1);
    format!(
        "root gives the caller ids by: usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {name}; newuidmap, of Debian's package uidmap, is needed too"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBUID: &str = "other:1:1\nme:100000:65536\n# me:5:5\nme:x:1\n1000:300000:10\nme:4294967290:10\nme:7:0\n";

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping { container_id, host_id, size }
    }

    fn range(container: u32, host: u32, size: u32) -> IdRange {
        IdRange { container, host, size }
    }

    #[test]
    fn subordinate_ids_come_behind_root() {
        let found = ranges(SUBUID, &["1000".into(), "me".into()]);
        assert_eq!(found, [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(maps(1000, &found).unwrap(), [map(0, 1000, 1), map(1, 100_000, 65_536), map(65_537, 300_000, 10)]);
        assert_eq!(maps(1000, &[]), None);
    }

    #[test]
    fn maps_are_what_the_kernel_prints() {
        let all = Ids { uids: parse_map("         0          0 4294967295\n"), ..Ids::default() };
        assert!(all.are_all() && !all.is_single() && all.has(5, 5));
        let single = Ids { uids: vec![map(0, 1000, 1)], gids: vec![map(0, 1000, 1)], entered: true };
        assert!(single.is_single() && single.has(0, 0) && !single.has(0, 1) && !single.are_all());
        let many = parse_map("         0       1000          1\n         1     100000      65536\n");
        let many = Ids { uids: many.clone(), gids: many, entered: true };
        assert!(!many.is_single() && many.has(65_536, 33) && !many.has(65_537, 33));
    }

    #[test]
    fn ranges_of_outside_are_found_inside_and_back() {
        let many = vec![map(0, 1000, 1), map(1, 100_000, 65_536)];
        let ids = Ids { uids: many.clone(), gids: many, entered: true };
        let given = [range(0, 100_000, 10), range(10, 1000, 1)];
        let inside = ids.translate(&given, "uid").unwrap();
        assert_eq!(inside, [range(0, 1, 10), range(10, 0, 1)]);
        assert_eq!(ids.outside(&inside, "uid"), [map(0, 100_000, 10), map(10, 1000, 1)]);
        for beyond in [range(0, 1000, 2), range(0, 165_530, 10), range(0, 99_999, 2), range(0, 0, 1), range(0, u32::MAX - 1, 2)] {
            assert!(ids.translate(&[beyond], "gid").unwrap_err().to_string().contains("--add-subuids"), "{beyond:?}");
        }
    }
}

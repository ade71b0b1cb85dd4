//! The mount options of config.md § Linux mount options: one table, and what a list of them comes to.
//!
//! An option is one of four things: a flag of the mount (`nosuid`), a flag of the file system behind it (`sync`), an
//! order to the runtime (`rbind`, `tmpcopyup`), or — if the table does not know it — a parameter for the file system
//! (`size=64m`). Of two that contradict each other the later one wins.

use std::collections::BTreeMap;

/// MOUNT_ATTR_* of linux/mount.h (mount_setattr(2), Linux 5.12; NOSYMFOLLOW 5.14).
pub(super) mod attr {
    pub const RDONLY: u64 = 0x01;
    pub const NOSUID: u64 = 0x02;
    pub const NODEV: u64 = 0x04;
    pub const NOEXEC: u64 = 0x08;
    /// Not a bit but a field of three values. To change it, all of it must be among the cleared bits.
    pub const ATIME: u64 = 0x70;
    pub const RELATIME: u64 = 0x00;
    pub const NOATIME: u64 = 0x10;
    pub const STRICTATIME: u64 = 0x20;
    pub const NODIRATIME: u64 = 0x80;
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
}

use libc::{MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE};

/// What an option of the table means.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Meaning {
    Bind { recursive: bool },
    Remount,
    /// A MOUNT_ATTR_* bit, on or off, of this mount or (`recursive`) of all below too.
    Attr { bit: u64, on: bool, recursive: bool },
    Atime { rule: Atime, recursive: bool },
    /// A flag of the superblock, by the name that fsconfig(2) knows it by (vfs: fs/fs_context.c).
    Super { name: &'static str, on: bool },
    /// What the new mount API does anyway: messages go to the file system context's log, not the kernel's (`silent`).
    Nothing,
    /// Says only that the mount's flags are the default ones.
    Defaults,
    Propagation(u64),
    IdMap { recursive: bool },
    TmpCopyUp,
}

/// How an option moves the access-time setting.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Atime {
    Is(u64),
    /// The kernel's default, relatime, in the place of this value or of what the source has.
    Not(u64),
}

const fn on(bit: u64) -> Meaning {
    Meaning::Attr { bit, on: true, recursive: false }
}
const fn off(bit: u64) -> Meaning {
    Meaning::Attr { bit, on: false, recursive: false }
}
const fn rec_on(bit: u64) -> Meaning {
    Meaning::Attr { bit, on: true, recursive: true }
}
const fn rec_off(bit: u64) -> Meaning {
    Meaning::Attr { bit, on: false, recursive: true }
}
const fn atime(rule: Atime) -> Meaning {
    Meaning::Atime { rule, recursive: false }
}
const fn rec_atime(rule: Atime) -> Meaning {
    Meaning::Atime { rule, recursive: true }
}
const fn sup(name: &'static str, on: bool) -> Meaning {
    Meaning::Super { name, on }
}

/// Sorted by name. `acl` and `noacl` are not here: they are ext4's own parameters (runc issue 3738).
const TABLE: &[(&str, Meaning)] = &[
    ("async", sup("sync", false)),
    ("atime", atime(Atime::Not(attr::NOATIME))),
    ("bind", Meaning::Bind { recursive: false }),
    ("defaults", Meaning::Defaults),
    ("dev", off(attr::NODEV)),
    ("diratime", off(attr::NODIRATIME)),
    ("dirsync", sup("dirsync", true)),
    ("exec", off(attr::NOEXEC)),
    ("idmap", Meaning::IdMap { recursive: false }),
    ("iversion", sup("iversion", true)),
    ("lazytime", sup("lazytime", true)),
    ("loud", Meaning::Nothing),
    ("mand", sup("mand", true)),
    ("noatime", atime(Atime::Is(attr::NOATIME))),
    ("nodev", on(attr::NODEV)),
    ("nodiratime", on(attr::NODIRATIME)),
    ("noexec", on(attr::NOEXEC)),
    ("noiversion", sup("iversion", false)),
    ("nolazytime", sup("lazytime", false)),
    ("nomand", sup("mand", false)),
    ("norelatime", atime(Atime::Not(attr::RELATIME))),
    ("nostrictatime", atime(Atime::Not(attr::STRICTATIME))),
    ("nosuid", on(attr::NOSUID)),
    ("nosymfollow", on(attr::NOSYMFOLLOW)),
    ("private", Meaning::Propagation(MS_PRIVATE)),
    ("ratime", rec_atime(Atime::Not(attr::NOATIME))),
    ("rbind", Meaning::Bind { recursive: true }),
    ("rdev", rec_off(attr::NODEV)),
    ("rdiratime", rec_off(attr::NODIRATIME)),
    ("relatime", atime(Atime::Is(attr::RELATIME))),
    ("remount", Meaning::Remount),
    ("rexec", rec_off(attr::NOEXEC)),
    ("ridmap", Meaning::IdMap { recursive: true }),
    ("rnoatime", rec_atime(Atime::Is(attr::NOATIME))),
    ("rnodev", rec_on(attr::NODEV)),
    ("rnodiratime", rec_on(attr::NODIRATIME)),
    ("rnoexec", rec_on(attr::NOEXEC)),
    ("rnorelatime", rec_atime(Atime::Not(attr::RELATIME))),
    ("rnostrictatime", rec_atime(Atime::Not(attr::STRICTATIME))),
    ("rnosuid", rec_on(attr::NOSUID)),
    ("rnosymfollow", rec_on(attr::NOSYMFOLLOW)),
    ("ro", on(attr::RDONLY)),
    ("rprivate", Meaning::Propagation(MS_PRIVATE | MS_REC)),
    ("rrelatime", rec_atime(Atime::Is(attr::RELATIME))),
    ("rro", rec_on(attr::RDONLY)),
    ("rrw", rec_off(attr::RDONLY)),
    ("rshared", Meaning::Propagation(MS_SHARED | MS_REC)),
    ("rslave", Meaning::Propagation(MS_SLAVE | MS_REC)),
    ("rstrictatime", rec_atime(Atime::Is(attr::STRICTATIME))),
    ("rsuid", rec_off(attr::NOSUID)),
    ("rsymfollow", rec_off(attr::NOSYMFOLLOW)),
    ("runbindable", Meaning::Propagation(MS_UNBINDABLE | MS_REC)),
    ("rw", off(attr::RDONLY)),
    ("shared", Meaning::Propagation(MS_SHARED)),
    ("silent", Meaning::Nothing),
    ("slave", Meaning::Propagation(MS_SLAVE)),
    ("strictatime", atime(Atime::Is(attr::STRICTATIME))),
    ("suid", off(attr::NOSUID)),
    ("symfollow", off(attr::NOSYMFOLLOW)),
    ("sync", sup("sync", true)),
    ("tmpcopyup", Meaning::TmpCopyUp),
    ("unbindable", Meaning::Propagation(MS_UNBINDABLE)),
];

fn lookup(option: &str) -> Option<Meaning> {
    TABLE.binary_search_by(|(name, _)| name.cmp(&option)).ok().map(|i| TABLE[i].1)
}

/// The options that dhow itself understands, sorted (for `features`, whose idmap field tells of those two).
pub fn mount_option_names() -> Vec<&'static str> {
    TABLE.iter().filter(|(_, meaning)| !matches!(meaning, Meaning::IdMap { .. })).map(|(name, _)| *name).collect()
}

/// MS_* flags of a propagation, as `linux.rootfsPropagation` and the mount options name it.
pub(super) fn propagation(name: &str) -> Option<u64> {
    match lookup(name) {
        Some(Meaning::Propagation(flags)) => Some(flags),
        _ => None,
    }
}

/// MOUNT_ATTR_* bits to set and to clear, as mount_setattr(2) wants them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Attrs {
    pub set: u64,
    pub clear: u64,
    atime: Option<u64>,
}

impl Attrs {
    fn change(&mut self, bit: u64, on: bool) {
        let (to, from) = if on { (&mut self.set, &mut self.clear) } else { (&mut self.clear, &mut self.set) };
        *to |= bit;
        *from &= !bit;
    }

    fn atime(&mut self, rule: Atime) {
        match rule {
            Atime::Is(value) => self.atime = Some(value),
            // "Not relatime" has no value that says it: the kernel's default is relatime. It takes an earlier
            // `relatime` back (mount(8)).
            Atime::Not(attr::RELATIME) => self.atime = self.atime.filter(|set| *set != attr::RELATIME),
            Atime::Not(value) => {
                if self.atime.is_none_or(|set| set == value) {
                    self.atime = Some(attr::RELATIME);
                }
            }
        }
    }

    fn finish(&mut self) {
        if let Some(value) = self.atime {
            self.set |= value;
            self.clear |= attr::ATIME;
        }
    }
}

/// What a mount's options come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct MountOptions {
    /// Some: a bind mount, recursive or not.
    pub bind: Option<bool>,
    pub remount: bool,
    pub this: Attrs,
    pub recursive: Attrs,
    /// Superblock flags by name, those set and those taken back.
    pub superblock: BTreeMap<&'static str, bool>,
    /// Any option speaks of the mount's own flags, if only to clear one.
    pub names_flags: bool,
    pub propagation: Vec<u64>,
    /// Some: idmapped, recursively or not.
    pub idmap: Option<bool>,
    pub tmpcopyup: bool,
    /// Parameters for the file system.
    pub data: Vec<(String, Option<String>)>,
}

impl MountOptions {
    pub fn parse(options: &[String]) -> MountOptions {
        let mut out = MountOptions::default();
        for option in options {
            match lookup(option) {
                Some(meaning) => out.apply(meaning),
                None => out.data.extend(split_data(option)),
            }
        }
        out.this.finish();
        out.recursive.finish();
        out
    }

    fn apply(&mut self, meaning: Meaning) {
        match meaning {
            // Once recursive it stays so, as when MS_REC is or-ed in.
            Meaning::Bind { recursive } => self.bind = Some(recursive || self.bind == Some(true)),
            Meaning::Remount => self.remount = true,
            Meaning::Attr { bit, on, recursive: true } => self.recursive.change(bit, on),
            Meaning::Attr { bit, on, recursive: false } => {
                self.names_flags = true;
                self.this.change(bit, on);
            }
            Meaning::Atime { rule: Atime::Not(attr::RELATIME), recursive: true } if self.recursive.atime.is_none() => {
                self.recursive.atime = Some(attr::RELATIME);
            }
            Meaning::Atime { rule, recursive: true } => self.recursive.atime(rule),
            Meaning::Atime { rule, recursive: false } => {
                self.names_flags = true;
                self.this.atime(rule);
            }
            Meaning::Super { name, on } => {
                self.names_flags = true;
                self.superblock.insert(name, on);
            }
            Meaning::Nothing => self.names_flags = true,
            Meaning::Defaults => {}
            Meaning::Propagation(flags) => self.propagation.push(flags),
            Meaning::IdMap { recursive } => self.idmap = Some(recursive),
            Meaning::TmpCopyUp => self.tmpcopyup = true,
        }
    }

    /// The mount is read-only.
    pub fn readonly(&self) -> bool {
        self.this.set & attr::RDONLY != 0
    }

    /// Superblock flags that are set, in the order of their names.
    pub fn superblock_set(&self) -> impl Iterator<Item = &'static str> {
        self.superblock.iter().filter(|(_, on)| **on).map(|(name, _)| *name)
    }
}

/// Split one option into the parameters that mount(2) would split it into: at commas, but not at `\,` (overlay) nor
/// inside quotes (SELinux contexts). fsconfig(2) takes a context without its quotes.
fn split_data(option: &str) -> Vec<(String, Option<String>)> {
    let mut pieces = vec![String::new()];
    let (mut escaped, mut quoted) = (false, false);
    for c in option.chars() {
        if c == ',' && !escaped && !quoted {
            pieces.push(String::new());
            continue;
        }
        quoted ^= c == '"';
        escaped = c == '\\' && !escaped;
        pieces.last_mut().expect("there is always one").push(c);
    }
    pieces.into_iter().filter(|piece| !piece.is_empty()).map(|piece| parameter(&piece)).collect()
}

fn parameter(piece: &str) -> (String, Option<String>) {
    match piece.split_once('=') {
        None => (piece.to_string(), None),
        Some((key, value)) if key.ends_with("context") => (key.to_string(), Some(value.trim_matches('"').to_string())),
        Some((key, value)) => (key.to_string(), Some(value.to_string())),
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;

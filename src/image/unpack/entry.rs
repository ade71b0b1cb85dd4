//! One entry of a layer, as its headers say.

use crate::sys::tree::Time;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    #[default]
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// An entry. The reader fills the same one again and again, so that its buffers are used again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    pub kind: Kind,
    /// As it stands in the archive.
    pub path: Vec<u8>,
    /// A symlink's target; a hard link's other name, as a path in the archive.
    pub link: Vec<u8>,
    /// Permissions with setuid, setgid and sticky: 12 bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes that the file has, holes included.
    pub size: u64,
    pub modified: Time,
    pub accessed: Option<Time>,
    /// Major and minor number.
    pub device: (u32, u32),
    /// Names with their namespace (`user.x`), values as they are.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// A sparse file's parts that have data: (offset, length), ascending. None: all of it.
    pub parts: Option<Vec<(u64, u64)>>,
    /// ACLs in the text form that star writes (`user::rwx,…`): access, default.
    pub acls: [Option<Vec<u8>>; 2],
}

impl Entry {
    pub(super) fn clear(&mut self) {
        self.path.clear();
        self.link.clear();
        self.xattrs.clear();
        *self =
            Entry { path: std::mem::take(&mut self.path), link: std::mem::take(&mut self.link), xattrs: std::mem::take(&mut self.xattrs), ..Entry::default() };
    }

    /// For messages: the path with what isn't UTF-8 or printable escaped.
    pub fn shown(&self) -> String {
        show(&self.path)
    }
}

/// A name of the archive as text that can't confuse a terminal, 200 characters at most.
pub fn show(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name).escape_debug().to_string();
    if text.chars().count() > 200 { text.chars().take(200).chain(['…']).collect() } else { text }
}

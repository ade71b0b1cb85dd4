//! Layers onto a directory.
//!
//! Whoever made the image chose every byte of them. What holds against that:
//!
//! * Nothing is opened or made by a path that the host resolves: [`tree`] keeps a descriptor of each directory it is in.
//! * A hard link's target is found below the same root, and never copied where it can't be linked.
//! * [`worker`] does all of it in a process of its own, which can reach no other file, run no program and open no socket.
//! * What a layer may cost is bounded ([`Limits`]).

pub mod apply;
mod attributes;
mod confine;
pub mod decompress;
pub mod entry;
mod header;
mod pax;
pub mod reader;
mod remove;
mod tree;
pub mod worker;

pub(in crate::image) use attributes::is_kept;
pub(in crate::image) use remove::{names, remove};
pub(in crate::image) use tree::is_whiteout;

use crate::sys;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::os::fd::BorrowedFd;

/// Whether we may give files to others and make devices.
pub fn are_root() -> bool {
    sys::process::geteuid() == 0
}

/// Onto what a layer comes, and so what its whiteouts mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// An empty directory: there is nothing to hide.
    Base,
    /// A directory that has the layers below: what is hidden is removed.
    Above,
    /// A directory of its own, to be put over others by overlayfs: whiteouts become overlayfs's marks.
    Layer,
    /// The same for a mount with `userxattr`, as in a user namespace.
    UserLayer,
}

impl Way {
    pub fn is_layer(self) -> bool {
        matches!(self, Way::Layer | Way::UserLayer)
    }

    /// Mark a directory so that overlayfs hides all that lower layers have in it.
    fn set_opaque(self, dir: BorrowedFd) -> sys::Result<()> {
        sys::fs::set_xattr(dir, opaque_key_of(self == Way::UserLayer), b"y")
    }
}

/// The attribute of an opaque directory.
pub fn opaque_key() -> &'static std::ffi::CStr {
    opaque_key_of(!super::ids::ours().are_all())
}

fn opaque_key_of(user: bool) -> &'static std::ffi::CStr {
    if user { c"user.overlay.opaque" } else { c"trusted.overlay.opaque" }
}

/// `size` ids from `container` on are those from `host` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    pub container: u32,
    pub host: u32,
    pub size: u32,
}

/// Whose the files become.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Owners {
    /// Those that the layer says.
    #[default]
    AsSaid,
    /// Ours, all of them: as a user without privileges there is no choice.
    Own,
    /// Translated: ranges for uids, for gids.
    Mapped(Vec<IdRange>, Vec<IdRange>),
}

impl Owners {
    /// The owner on the host of what `(uid, gid)` owns in the image; None: whoever makes it.
    pub fn translate(&self, uid: u32, gid: u32) -> Result<Option<(u32, u32)>> {
        match self {
            Owners::AsSaid => Ok(Some((uid, gid))),
            Owners::Own => Ok(None),
            Owners::Mapped(uids, gids) => Ok(Some((mapped(uids, uid, "uid")?, mapped(gids, gid, "gid")?))),
        }
    }
}

fn mapped(ranges: &[IdRange], id: u32, what: &str) -> Result<u32> {
    let found = ranges.iter().find_map(|r| id.checked_sub(r.container).filter(|n| *n < r.size).and_then(|n| r.host.checked_add(n)));
    found.ok_or_else(|| Error::other("translating owners", format!("{what} {id}"), "no range of the id map has it").hint("map more ids, or leave the map out"))
}

/// What an image may cost, all its layers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes, decompressed.
    pub bytes: u64,
    /// Decompressed bytes for each compressed one, of a layer that has more than `ratio_from` bytes: small archives of
    /// zeros are common, and harmless.
    pub ratio: u64,
    pub ratio_from: u64,
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { bytes: 64 << 30, ratio: 100, ratio_from: 1 << 30, entries: 4_000_000 }
    }
}

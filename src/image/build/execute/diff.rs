//! What a step wrote → a layer: the upper directory of its overlay as a tar archive, in the order of names, with
//! overlayfs's marks as whiteouts (image-spec, layer.md).

use super::files::{self, c_string, join, told};
use super::gzip::Gzip;
use super::tar::Writer;
use crate::image::digest::{Algorithm, Digest, Hasher};
use crate::image::model::media;
use crate::image::pipeline::Layer;
use crate::image::store::{Ingest, Store};
use crate::image::unpack::entry::{Entry, Kind};
use crate::sys::fs;
use crate::sys::tree::Time;
use crate::{Error, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// A layer of the store, and what was put in it.
pub(super) struct Written {
    pub layer: Layer,
    pub entries: u64,
    /// Of the archive.
    pub bytes: u64,
}

/// Make a layer of what is in `upper`; `root` is the root directory's mode, uid and gid before, which is part of the
/// layer if it changed. No time is after `epoch`, seconds.
pub(super) fn layer(store: &Store, upper: &Path, root: (u32, u32, u32), epoch: Option<u64>) -> Result<Written> {
    let wrong = |e: io::Error| ours(&e).unwrap_or_else(|| Error::io(&e, "writing", "a layer"));
    let dir = File::open(upper).map_err(|e| Error::io(&e, "opening", upper.display().to_string()))?;
    let gzip = Gzip::new(Blob(store.begin_new()?)).map_err(wrong)?;
    let plain = Plain { hasher: Hasher::new(Algorithm::Sha256), count: 0, out: gzip };
    let mut diff = Diff { tar: Writer::new(BufWriter::with_capacity(64 << 10, plain)), links: HashMap::new(), epoch: epoch.map(|e| e as i64), entries: 0 };
    diff.root(dir.as_fd(), root)?;
    diff.children(dir.as_fd(), b"", dir.metadata().map_err(wrong)?.file_type().is_dir())?;
    let entries = diff.entries;
    let plain = diff.tar.finish().and_then(|out| out.into_inner().map_err(|e| e.into_error())).map_err(wrong)?;
    let (diff_id, bytes) = (plain.hasher.finish(), plain.count);
    let Blob(ingest) = plain.out.finish().map_err(wrong)?;
    Ok(Written { layer: Layer { blob: ingest.finish_as_found(media::LAYER_GZIP)?, diff_id }, entries, bytes })
}

struct Blob(Ingest);

impl Write for Blob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes the archive on its way to be compressed.
struct Plain<W> {
    hasher: Hasher,
    count: u64,
    out: W,
}

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.hasher.update(bytes);
        self.count += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

struct Diff<W> {
    tar: Writer<W>,
    /// Files with several names: (device, inode) → the first.
    links: HashMap<(u64, u64), Vec<u8>>,
    epoch: Option<i64>,
    entries: u64,
}

impl<W: Write> Diff<W> {
    fn root(&mut self, dir: BorrowedFd, before: (u32, u32, u32)) -> Result<()> {
        let stat = fs::fstat(dir).map_err(told("fstat", "looking at", b"/"))?;
        if (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid) == before {
            return Ok(());
        }
        match files::entry(dir, c".", &stat, b"./".to_vec())? {
            Some(entry) => self.put(&entry),
            None => Ok(()),
        }
    }

    fn children(&mut self, dir: BorrowedFd, path: &[u8], is_dir: bool) -> Result<()> {
        if is_dir && !path.is_empty() && files::is_opaque(dir).map_err(told("fgetxattr", "looking at", path))? {
            self.put(&marker(join(path, b".wh..wh..opq")))?;
        }
        for name in files::sorted_names(dir, path)? {
            let at = join(path, name.to_bytes());
            let stat = fs::lstatat(dir, &name).map_err(told("fstatat", "looking at", &at))?;
            if crate::image::unpack::is_whiteout(&stat) {
                self.put(&marker(join(path, &[b".wh.", name.to_bytes()].concat())))?;
                continue;
            }
            let Some(mut entry) = files::entry(dir, &name, &stat, at)? else { continue };
            match entry.kind {
                Kind::Directory => {
                    let child = files::open_dir(dir, &name, &entry.path)?;
                    entry.xattrs = files::xattrs(child.as_fd(), &entry.path)?;
                    let path = entry.path.clone();
                    entry.path.push(b'/');
                    self.put(&entry)?;
                    self.children(child.as_fd(), &path, true)?;
                }
                Kind::File => self.file(dir, &stat, entry)?,
                _ => self.put(&entry)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, dir: BorrowedFd, stat: &libc::stat, mut entry: Entry) -> Result<()> {
        if stat.st_nlink > 1 {
            let id = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&id) {
                (entry.kind, entry.link, entry.size) = (Kind::HardLink, first.clone(), 0);
                return self.put(&entry);
            }
            self.links.insert(id, entry.path.clone());
        }
        let name = c_string(entry.path.rsplit(|b| *b == b'/').next().unwrap_or_default());
        let mut file = files::open_file(dir, &name, &entry.path)?;
        entry.xattrs = files::xattrs(file.as_fd(), &entry.path)?;
        self.put(&entry)?;
        self.tar.content(&mut file, entry.size).map_err(|e| wrong(&e, &entry))
    }

    fn put(&mut self, entry: &Entry) -> Result<()> {
        self.entries += 1;
        let seconds = self.epoch.map_or(entry.modified.seconds, |epoch| entry.modified.seconds.min(epoch));
        let cut = Entry { modified: Time { seconds, nanoseconds: 0 }, ..entry.clone() };
        self.tar.header(&cut).map_err(|e| wrong(&e, entry))
    }
}

fn wrong(e: &io::Error, entry: &Entry) -> Error {
    ours(e).unwrap_or_else(|| Error::io(e, "writing into a layer", entry.shown()))
}

/// The store's own error, which came through a writer.
fn ours(e: &io::Error) -> Option<Error> {
    e.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).cloned()
}

fn marker(path: Vec<u8>) -> Entry {
    Entry { path, ..Entry::default() }
}

/// Of each layer, a digest of it and all below.
pub(super) fn chain(layers: &[Layer]) -> Option<Digest> {
    crate::image::layers::chain_ids(layers).pop()
}

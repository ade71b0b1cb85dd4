//! What is in the store: what is used, what may go, what is damaged.

use super::{Entry, INGEST, Store, failed, too_deep};
use crate::image::digest::{Algorithm, Digest, digest_all};
use crate::image::model::{Descriptor, Document, MOST_DEPTH, media};
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// What [`Store::prune`] removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    pub blobs: u64,
    pub bytes: u64,
}

/// Something wrong in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// A blob's digest or an entry's name.
    pub subject: String,
    pub cause: String,
}

/// What [`Store::verify`] found.
#[derive(Debug, Default)]
pub struct Verified {
    pub blobs: u64,
    pub bytes: u64,
    pub faults: Vec<Fault>,
}

impl Store {
    /// All blobs that some entry reaches. What can't be read is reached itself, but leads nowhere.
    pub fn live(&self) -> Result<BTreeSet<Digest>> {
        let mut live = BTreeSet::new();
        for entry in self.entries()? {
            // A damaged entry keeps what it can still be seen to need.
            let _ = self.walk(&entry.descriptor, 0, &mut |d| live.insert(d.digest.clone()));
        }
        Ok(live)
    }

    /// Call `visit` for `descriptor` and for all below it, whether or not the blob is there; below one for which it says
    /// false (seen before) no further. The first error is returned, after all others were visited.
    fn walk(&self, descriptor: &Descriptor, depth: usize, visit: &mut impl FnMut(&Descriptor) -> bool) -> Result<()> {
        if !visit(descriptor) || !(media::is_manifest(&descriptor.media_type) || media::is_index(&descriptor.media_type)) {
            return Ok(());
        }
        if depth >= MOST_DEPTH {
            return Err(too_deep(descriptor));
        }
        let document = self.document(descriptor)?;
        let mut result = Ok(());
        for child in document.children() {
            let below = self.walk(child, depth + 1, visit);
            result = result.and(below);
        }
        result
    }

    /// The size of all blobs of an entry that are here, shared ones counted once.
    pub fn size_of(&self, descriptor: &Descriptor) -> u64 {
        let (mut seen, mut bytes) = (BTreeSet::new(), 0);
        let _ = self.walk(descriptor, 0, &mut |d| {
            let new = seen.insert(d.digest.clone());
            if new {
                bytes += fs::metadata(self.blob_path(&d.digest)).map_or(0, |m| m.len());
            }
            new
        });
        bytes
    }

    /// Remove all blobs that no entry reaches, and what broken fetches left. Waits until nobody fetches.
    pub fn prune(&self) -> Result<Pruned> {
        let dir = File::open(&self.root).map_err(failed("opening the image store", &self.root))?;
        dir.lock().map_err(failed("locking the image store", &self.root))?;
        self.sweep()
    }

    /// The same if nobody fetches; None if somebody does.
    pub fn try_prune(&self) -> Result<Option<Pruned>> {
        let dir = File::open(&self.root).map_err(failed("opening the image store", &self.root))?;
        match dir.try_lock() {
            Ok(()) => self.sweep().map(Some),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(failed("locking the image store", &self.root)(e)),
        }
    }

    /// With the store locked.
    fn sweep(&self) -> Result<Pruned> {
        let live = self.live()?;
        let mut pruned = Pruned::default();
        for (path, digest) in self.blobs()? {
            if digest.is_none_or(|d| !live.contains(&d)) {
                pruned.remove(&path)?;
            }
        }
        let ingest = self.path(INGEST);
        for path in list(&ingest)? {
            pruned.remove(&path)?;
        }
        let _ = fs::remove_dir(&ingest);
        Ok(pruned)
    }

    /// Every file below `blobs`, with the digest that its name says, if it says one.
    fn blobs(&self) -> Result<Vec<(PathBuf, Option<Digest>)>> {
        let mut all = Vec::new();
        for algorithm in Algorithm::ALL {
            let files = list(&self.path("blobs").join(algorithm.name()))?;
            all.extend(files.into_iter().map(|path| {
                let digest = path.file_name().and_then(|n| format!("{}:{}", algorithm.name(), n.to_str()?).parse().ok());
                (path, digest)
            }));
        }
        Ok(all)
    }

    /// Digest every blob again and see that every entry is whole.
    pub fn verify(&self, mut progress: impl FnMut(&Digest, u64)) -> Result<Verified> {
        let _hold = self.hold()?;
        let mut out = Verified::default();
        for (path, digest) in self.blobs()? {
            let Some(digest) = digest else {
                out.fault(path.display().to_string(), "its name is no digest");
                continue;
            };
            let file = File::open(&path).map_err(failed("opening", &path))?;
            let (found, size) = digest_all(file, digest.algorithm()).map_err(failed("reading", &path))?;
            (out.blobs, out.bytes) = (out.blobs + 1, out.bytes + size);
            progress(&digest, size);
            if found != digest {
                out.fault(digest.to_string(), format!("the content has {found}"));
            }
        }
        for entry in self.entries()? {
            self.verify_entry(&entry, &mut out);
        }
        Ok(out)
    }

    fn verify_entry(&self, entry: &Entry, out: &mut Verified) {
        let (mut walked, mut told, mut missing) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        let walk = self.walk(&entry.descriptor, 0, &mut |d| {
            if !self.has(d) && !d.is_foreign() && told.insert(d.digest.clone()) {
                missing.push(d.digest.to_string());
            }
            walked.insert(d.digest.clone()) && self.has_blob(&d.digest)
        });
        let damaged: BTreeSet<String> = out.faults.iter().map(|f| f.subject.clone()).collect();
        for digest in &missing {
            out.fault(entry.name.clone(), format!("blob {digest} is missing or has another size"));
        }
        if let Err(e) = walk
            && !damaged.contains(&e.subject)
            && !missing.contains(&e.subject)
        {
            out.fault(entry.name.clone(), e.to_string());
        }
    }
}

impl Verified {
    fn fault(&mut self, subject: impl Into<String>, cause: impl Into<String>) {
        self.faults.push(Fault { subject: subject.into(), cause: cause.into() });
    }
}

impl Pruned {
    fn remove(&mut self, path: &Path) -> Result<()> {
        let bytes = fs::symlink_metadata(path).map_or(0, |m| m.len());
        fs::remove_file(path).map_err(failed("removing", path))?;
        (self.blobs, self.bytes) = (self.blobs + 1, self.bytes + bytes);
        Ok(())
    }
}

/// The files of a directory that may not be there.
fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(failed("listing", dir)(e)),
        Ok(entries) => entries.map(|e| Ok(e.map_err(failed("listing", dir))?.path())).collect(),
    }
}

impl Store {
    /// Put `blob` where the document needs it, whole and checked, from another layout.
    pub fn copy_blob(&self, from: &Store, descriptor: &Descriptor) -> Result<()> {
        use super::Begin;
        use std::io::Read;
        let Begin::Ingest(mut ingest) = self.begin(descriptor)? else { return Ok(()) };
        ingest.restart()?;
        let mut file = from.open_blob(&descriptor.digest)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = file.read(&mut buffer).map_err(|e| Error::io(&e, "reading blob", descriptor.digest.to_string()))?;
            if n == 0 {
                return ingest.finish().map(drop);
            }
            ingest.write(&buffer[..n])?;
        }
    }

    /// Copy the image or index `descriptor` with all that is below it; foreign layers only if they are there, and of an
    /// index what the other layout has.
    pub fn copy_image(&self, from: &Store, descriptor: &Descriptor) -> Result<()> {
        self.copy_below(from, descriptor, 0, &mut BTreeSet::new())
    }

    fn copy_below(&self, from: &Store, descriptor: &Descriptor, depth: usize, seen: &mut BTreeSet<Digest>) -> Result<()> {
        if !seen.insert(descriptor.digest.clone()) {
            return Ok(());
        }
        if depth >= MOST_DEPTH {
            return Err(too_deep(descriptor));
        }
        let document = from.document(descriptor)?;
        for child in document.children() {
            match &document {
                Document::Index(_) if !from.has(child) => {}
                Document::Index(_) => self.copy_below(from, child, depth + 1, seen)?,
                Document::Manifest(_) if child.is_foreign() && !from.has(child) => {}
                Document::Manifest(_) => self.copy_blob(from, child)?,
            }
        }
        // Last, so that a manifest that is here is whole.
        self.copy_blob(from, descriptor)
    }
}

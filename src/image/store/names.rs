//! `index.json`: which names there are, and what each stands for.

use super::{INDEX, MOST_INDEX, Store, failed, read_bounded};
use crate::image::digest::{Algorithm, Digest};
use crate::image::model::{Descriptor, Index, REF_NAME};
use crate::image::reference::Reference;
use crate::spec::validate::suggest;
use crate::{Error, Kind, Result};
use std::fs::File;
use std::io::ErrorKind;

/// A named image. `descriptor` is that of a manifest or an index.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// As in the annotation: a whole reference where dhowctl wrote it, a tag in most other layouts, maybe "".
    pub name: String,
    pub descriptor: Descriptor,
}

impl Entry {
    fn new(descriptor: Descriptor) -> Entry {
        Entry { name: descriptor.annotations.get(REF_NAME).cloned().unwrap_or_default(), descriptor }
    }
}

impl Store {
    pub(super) fn lock_names(&self) -> Result<File> {
        let blobs = self.path("blobs");
        let dir = File::open(&blobs).map_err(failed("opening", &blobs))?;
        dir.lock().map_err(failed("locking", &blobs))?;
        Ok(dir)
    }

    fn read_index(&self) -> Result<Index> {
        let path = self.path(INDEX);
        let bytes = read_bounded(&path, MOST_INDEX)?;
        serde_json::from_slice(&bytes).map_err(|e| Error::other("reading", path.display().to_string(), e))
    }

    /// All entries, by name.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let mut all: Vec<Entry> = self.read_index()?.manifests.into_iter().map(Entry::new).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Let `name` stand for `descriptor`; whatever it stood for before, it no longer does. Nothing is written if it is so
    /// already.
    pub fn set(&self, name: &str, descriptor: &Descriptor) -> Result<()> {
        self.change(|manifests| {
            let mut named = descriptor.clone();
            named.annotations.insert(REF_NAME.into(), name.into());
            let same = |d: &Descriptor| d.annotations.get(REF_NAME).map(String::as_str) == Some(name);
            if manifests.iter().filter(|d| same(d)).eq([&named]) {
                return false;
            }
            manifests.retain(|d| !same(d));
            manifests.push(named);
            true
        })
        .map(drop)
    }

    /// Forget `name`; false if there was none such. The blobs stay until [`Store::prune`].
    pub fn unset(&self, name: &str) -> Result<bool> {
        self.change(|manifests| {
            let before = manifests.len();
            manifests.retain(|d| d.annotations.get(REF_NAME).map(String::as_str) != Some(name));
            manifests.len() < before
        })
    }

    /// Read, change and replace the index under its lock; written only if `change` says that there is something to write.
    fn change(&self, change: impl FnOnce(&mut Vec<Descriptor>) -> bool) -> Result<bool> {
        let _lock = self.lock_names()?;
        let mut index = self.read_index()?;
        let changed = change(&mut index.manifests);
        if changed {
            self.sync_blob_names()?;
            let bytes = serde_json::to_vec(&index).map_err(|e| Error::other("writing", INDEX, e))?;
            self.replace(INDEX, &bytes)?;
        }
        Ok(changed)
    }

    /// What is about to refer to blobs must not be on disk before their names are.
    fn sync_blob_names(&self) -> Result<()> {
        for algorithm in Algorithm::ALL {
            let dir = self.path("blobs").join(algorithm.name());
            match File::open(&dir).and_then(|dir| dir.sync_all()) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(failed("writing", &dir)(e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// What `name` stands for: a name as it is in the index, or a reference as Docker writes it. A reference with a digest
    /// finds any entry of that repository with it.
    pub fn resolve(&self, name: &str) -> Result<Entry> {
        let all = self.entries()?;
        let reference = name.parse::<Reference>().ok();
        let whole = reference.as_ref().map(Reference::to_string);
        let found = all.iter().find(|e| e.name == name).or_else(|| all.iter().find(|e| Some(&e.name) == whole.as_ref()));
        let found = found.or_else(|| {
            let reference = reference.as_ref()?;
            let digest = reference.digest()?;
            all.iter().find(|e| &e.descriptor.digest == digest && e.name.parse::<Reference>().is_ok_and(|r| r.name() == reference.name()))
        });
        match found.or_else(|| by_digest(&all, name)) {
            Some(entry) => Ok(entry.clone()),
            None => Err(self.unknown(name, &all)),
        }
    }

    /// The only entry of a layout.
    pub fn only(&self) -> Result<Entry> {
        let mut all = self.entries()?;
        match all.len() {
            1 => Ok(all.remove(0)),
            0 => Err(Error::new(Kind::NotFound, "looking for an image in", self.root.display().to_string(), "there is none")),
            _ => {
                let names: Vec<&str> = all.iter().map(|e| e.name.as_str()).collect();
                let cause = format!("there are several: {}", names.join(", "));
                Err(Error::usage(format!("choosing an image in {}: {cause}", self.root.display())).hint("add :NAME to the directory"))
            }
        }
    }

    fn unknown(&self, name: &str, all: &[Entry]) -> Error {
        let error = Error::new(Kind::NotFound, "looking for image", name, format!("it is not in {}", self.root.display()));
        let familiar: Vec<String> = all.iter().map(|e| e.name.parse::<Reference>().map_or(e.name.clone(), |r| r.familiar())).collect();
        let known: Vec<&str> = familiar.iter().map(String::as_str).collect();
        match suggest::closest(name, &known) {
            Some(near) => error.hint(format!("did you mean {near}?")),
            None => error.hint("`dhowctl images` lists what there is, `dhowctl fetch` brings more"),
        }
    }
}

/// By the digest, or by as much of its beginning as `images` shows or people type, if it is one image's alone.
fn by_digest<'a>(all: &'a [Entry], name: &str) -> Option<&'a Entry> {
    const LEAST: usize = 6;
    let (algorithm, hex) = name.split_once(':').map_or((None, name), |(algorithm, hex)| (Some(algorithm), hex));
    if hex.len() < LEAST || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let matches = |digest: &Digest| algorithm.is_none_or(|name| name == digest.algorithm().name()) && digest.hex().starts_with(hex);
    let mut found = all.iter().filter(|e| matches(&e.descriptor.digest));
    let first = found.next()?;
    found.all(|e| e.descriptor.digest == first.descriptor.digest).then_some(first)
}

//! Which unpacked layers are still wanted: those of an image of the store, and those that a bundle is made of.

use super::{BUNDLES, Layers, STAGING, Staging, chain_ids, list};
use crate::image::digest::Digest;
use crate::image::model::{Document, MOST_DEPTH};
use crate::image::store::{Image, failed};
use crate::image::{Descriptor, Store, pipeline};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// In a bundle: what its root is an overlay of.
pub(in crate::image) const OVERLAY: &str = "overlay.json";

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrunedLayers {
    pub layers: u64,
    /// Of their files' contents.
    pub bytes: u64,
}

/// A bundle and its layers, the highest first; in the bundle and in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Use {
    pub bundle: PathBuf,
    pub store: PathBuf,
    pub layers: Vec<String>,
}

impl Use {
    /// Of the bundle at `bundle`; None if it is no overlay.
    pub fn of(bundle: &Path) -> Result<Option<Use>> {
        let path = bundle.join(OVERLAY);
        match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("reading", &path)(e)),
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| Error::other("reading", path.display().to_string(), e)),
        }
    }
}

/// Forget that `bundle`, which is about to go, is made of layers.
pub(in crate::image) fn forget_use(bundle: &Path) {
    if let Ok(Some(noted)) = Use::of(bundle) {
        // If it stays, the next `prune` removes it.
        let _ = fs::remove_file(note_path(&noted.store, &noted.bundle));
    }
}

fn note_path(root: &Path, bundle: &Path) -> PathBuf {
    root.join(BUNDLES).join(format!("{}.json", Digest::of(bundle.as_os_str().as_encoded_bytes()).hex()))
}

impl Layers {
    /// Note that `bundle` is made of `layers`, which are kept as long as it is there. `written_at`: where it is now.
    pub fn note_use(&self, bundle: &Path, written_at: &Path, layers: &[String]) -> Result<()> {
        let bundle = std::path::absolute(bundle).map_err(failed("looking for", bundle))?;
        let note = Use { bundle, store: std::path::absolute(&self.root).map_err(failed("looking for", &self.root))?, layers: layers.to_vec() };
        let text = serde_json::to_vec(&note).map_err(|e| Error::other("writing", OVERLAY, e))?;
        // First in the bundle: a note in the store alone is one of a bundle that is gone.
        for path in [written_at.join(OVERLAY), note_path(&self.root, &note.bundle)] {
            fs::write(&path, &text).map_err(failed("writing", &path))?;
        }
        Ok(())
    }

    /// Layers of bundles that are there; notes of others go.
    fn used(&self) -> Result<BTreeSet<String>> {
        let mut out = BTreeSet::new();
        for path in list(&self.root.join(BUNDLES))? {
            let note: Option<Use> = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
            match note {
                Some(note) if Use::of(&note.bundle).is_ok_and(|now| now.as_ref() == Some(&note)) => out.extend(note.layers),
                _ => fs::remove_file(&path).map_err(failed("removing", &path))?,
            }
        }
        Ok(out)
    }

    /// Remove the layers that neither an image of `store` nor a bundle is made of. Waits until nobody is unpacking.
    pub fn prune(&self, store: &Store) -> Result<PrunedLayers> {
        let wanted = wanted(store)?;
        let lock = File::open(&self.root).map_err(failed("opening", &self.root))?;
        lock.lock().map_err(failed("locking", &self.root))?;
        self.remove_stale()?;
        let used = self.used()?;
        let mut out = PrunedLayers::default();
        for path in list(&self.root)? {
            let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.')) else { continue };
            let info = self.info(name).ok();
            if used.contains(name) || info.as_ref().is_some_and(|info| wanted.contains(&info.chain)) {
                continue;
            }
            // Out of sight at once: a half-removed layer must not look like one.
            let aside = self.root.join(format!("{STAGING}{name}"));
            fs::rename(&path, &aside).map_err(failed("removing", &path))?;
            let dir = File::open(&aside).map_err(failed("opening", &aside))?;
            drop(Staging { path: aside, dir });
            out.layers += 1;
            out.bytes += info.map_or(0, |info| info.bytes);
        }
        Ok(out)
    }
}

/// Chain ids of all images in the store.
fn wanted(store: &Store) -> Result<BTreeSet<Digest>> {
    let (mut out, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for entry in store.entries()? {
        collect(store, &entry.descriptor, 0, &mut seen, &mut out);
    }
    Ok(out)
}

/// Of an index, all images that are there. What can't be read has no layers to keep.
fn collect(store: &Store, descriptor: &Descriptor, depth: usize, seen: &mut BTreeSet<Digest>, out: &mut BTreeSet<Digest>) {
    if !seen.insert(descriptor.digest.clone()) {
        return;
    }
    match store.document(descriptor) {
        Ok(Document::Index(index)) if depth < MOST_DEPTH => index.manifests.iter().for_each(|child| collect(store, child, depth + 1, seen, out)),
        Ok(Document::Manifest(manifest)) if manifest.is_image() => {
            if let Ok(config) = store.config(&manifest)
                && let Ok(layers) = pipeline::layers(&Image { descriptor: descriptor.clone(), manifest, config })
            {
                out.extend(chain_ids(&layers));
            }
        }
        _ => {}
    }
}

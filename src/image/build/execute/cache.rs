//! The build cache: what a step made, by a key of all that it depends on.
//!
//!     STORE/build/cache/HEX     a record: the layer, its diff id, when it was made
//!     STORE/build/mounts/HEX/   a cache of --mount=type=cache
//!
//! The layers are blobs of the image store. A record whose blob is gone is none. Keys are chained: a step's has that of
//! the step before it, so a hit means that all below was the same too.

use crate::image::build::request::CachePlace;
use crate::image::model::{Document, Manifest, media};
use crate::image::pipeline::Layer;
use crate::image::progress::Progress;
use crate::image::registry::{Client, Pull, Want};
use crate::image::store::failed;
use crate::image::{Descriptor, Digest, Store};
use crate::{Error, Result, log};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

const DIR: &str = "build/cache";
/// Of the document that a shared cache is.
const MEDIA: &str = "application/vnd.dhow.build.cache.v1+json";
const NAME: &str = "dhow-build-cache";
/// Records of a shared cache.
const MOST_RECORDS: usize = 10_000;

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The key that the next step's is made of. Not the record's own where that says less about contents.
    pub key: Digest,
    pub layer: Descriptor,
    pub diff_id: Digest,
    /// RFC 3339.
    pub created: String,
    pub title: String,
}

impl Record {
    pub fn layer(&self) -> Layer {
        Layer { blob: self.layer.clone(), diff_id: self.diff_id.clone() }
    }
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrunedCache {
    pub records: u64,
    pub mounts: u64,
}

/// A store with records: ours, or one that others share.
struct Imported {
    store: Store,
    records: BTreeMap<String, Record>,
}

pub(super) struct Cache {
    store: Store,
    dir: PathBuf,
    /// Nothing is looked up, but what is made is kept.
    deaf: bool,
    imported: Vec<Imported>,
    /// What this build is made of, for others.
    used: Mutex<BTreeMap<String, Record>>,
}

/// A key in the making: parts that can't run into each other.
pub(super) fn key(parts: &[&[u8]]) -> Digest {
    let mut text = Vec::new();
    for part in parts {
        text.extend_from_slice(&(part.len() as u64).to_le_bytes());
        text.extend_from_slice(part);
    }
    Digest::of(&text)
}

impl Cache {
    pub fn open(store: &Store, deaf: bool, from: &[CachePlace], client: &Client, progress: &Progress) -> Result<Cache> {
        let dir = store.root().join(DIR);
        fs::create_dir_all(&dir).map_err(failed("making", &dir))?;
        let mut imported = Vec::new();
        for place in from {
            match import(store, place, client, progress) {
                Ok(one) => imported.push(one),
                // As for the peers: without it the build takes longer.
                Err(e) => log::warn(&format!("the build cache can't be used: {e}")),
            }
        }
        Ok(Cache { store: store.clone(), dir, deaf, imported, used: Mutex::default() })
    }

    /// What was made of these inputs before. A layer of a shared cache comes into the store.
    pub fn find(&self, key: &Digest) -> Option<Record> {
        if self.deaf {
            return None;
        }
        let own = fs::read(self.dir.join(key.hex())).ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok());
        let found = own.filter(|record| self.store.has(&record.layer)).or_else(|| self.imported.iter().find_map(|other| self.bring(other, key)))?;
        self.note(key, &found);
        Some(found)
    }

    fn bring(&self, other: &Imported, key: &Digest) -> Option<Record> {
        let record = other.records.get(key.hex())?.clone();
        let brought = self.store.copy_blob(&other.store, &record.layer).and_then(|()| self.write(key, &record));
        match brought {
            Ok(()) => Some(record),
            Err(e) => {
                log::warn(&format!("the build cache can't be used: {e}"));
                None
            }
        }
    }

    pub fn keep(&self, key: &Digest, record: &Record) -> Result<()> {
        self.write(key, record)?;
        self.note(key, record);
        Ok(())
    }

    fn note(&self, key: &Digest, record: &Record) {
        self.used.lock().unwrap_or_else(|e| e.into_inner()).insert(key.hex().to_string(), record.clone());
    }

    fn write(&self, key: &Digest, record: &Record) -> Result<()> {
        let path = self.dir.join(key.hex());
        let temporary = self.dir.join(format!(".{}-{}", key.hex(), std::process::id()));
        let text = serde_json::to_vec(record).map_err(|e| Error::other("writing", path.display().to_string(), e))?;
        fs::write(&temporary, text).map_err(failed("writing", &temporary))?;
        fs::rename(&temporary, &path).map_err(failed("writing", &path))
    }

    /// Put what this build is made of where others can use it.
    pub fn export(&self, place: &CachePlace, client: &Client, progress: &Progress) -> Result<()> {
        let records = self.used.lock().unwrap_or_else(|e| e.into_inner()).clone();
        let text = serde_json::to_vec(&records).map_err(|e| Error::other("writing", "the build cache", e))?;
        let target = match place {
            CachePlace::Layout(dir) => Store::open(dir)?,
            CachePlace::Registry(_) => self.store.clone(),
        };
        let _hold = target.hold()?;
        let mut layers: Vec<Descriptor> = Vec::new();
        for record in records.values() {
            if layers.iter().all(|layer| layer.digest != record.layer.digest) {
                if let CachePlace::Layout(_) = place {
                    target.copy_blob(&self.store, &record.layer)?;
                }
                layers.push(record.layer.clone());
            }
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: media::MANIFEST.into(),
            artifact_type: String::new(),
            config: target.put(MEDIA, &text)?,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&manifest).map_err(|e| Error::other("writing", "the build cache", e))?;
        let descriptor = target.put(media::MANIFEST, &bytes)?;
        match place {
            CachePlace::Layout(_) => target.set(NAME, &descriptor),
            CachePlace::Registry(reference) => client.push(&target, &descriptor, reference, progress),
        }
    }
}

fn import(store: &Store, place: &CachePlace, client: &Client, progress: &Progress) -> Result<Imported> {
    let (store, descriptor) = match place {
        CachePlace::Layout(dir) => {
            let other = Store::existing(dir)?;
            let entry = other.resolve(NAME)?;
            (other, entry.descriptor)
        }
        CachePlace::Registry(reference) => {
            let entry = Pull::start(client, store, reference, &Want::Here, progress)?.finish()?;
            // It is no image that anybody would list.
            store.unset(&entry.name)?;
            (store.clone(), entry.descriptor)
        }
    };
    let wrong = |cause: &str| Error::other("reading the build cache", descriptor.digest.to_string(), cause);
    let Document::Manifest(manifest) = store.document(&descriptor)? else { return Err(wrong("it is an index")) };
    if manifest.config.media_type != MEDIA {
        return Err(wrong("it is no build cache of dhowctl's"));
    }
    let records: BTreeMap<String, Record> = serde_json::from_slice(&store.read_blob(&manifest.config)?).map_err(|e| wrong(&e.to_string()))?;
    if records.len() > MOST_RECORDS {
        return Err(wrong("it has too many records"));
    }
    Ok(Imported { store, records })
}

/// Forget all that builds keep: the records of steps and the caches that RUNs mount. The layers themselves go with the
/// store's own prune, unless an image has them.
pub fn prune(store: &Store) -> Result<PrunedCache> {
    let mut out = PrunedCache::default();
    let dir = store.root().join(DIR);
    for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
        fs::remove_file(entry.path()).map_err(failed("removing", &dir))?;
        out.records += 1;
    }
    let mounts = store.root().join(super::mounts::DIR);
    for entry in fs::read_dir(&mounts).into_iter().flatten().flatten() {
        // One that a RUN uses at the moment stays.
        if fs::File::open(entry.path()).is_ok_and(|dir| dir.try_lock().is_ok()) {
            crate::image::layers::remove_tree(&entry.path())?;
            out.mounts += 1;
        }
    }
    Ok(out)
}

/// The current time or the build's epoch, RFC 3339.
pub(super) fn now(epoch: Option<u64>) -> String {
    log::rfc3339(epoch.map_or_else(SystemTime::now, |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
}

//! The store: an OCI image layout (image-layout.md) that skopeo and umoci read, safe for several dhowctl at once.
//!
//! - A blob appears by `rename`, whole, synced and with its digest checked; [`Ingest`] is how it comes about.
//! - `index.json` names the images: one entry a name, in the annotation `org.opencontainers.image.ref.name`, which here
//!   is the whole reference. It is replaced by `rename` too, under a lock.
//! - Locks are flock(2) on directories, so they leave nothing behind: the store's own, shared while something is being
//!   brought in ([`Store::hold`]) and exclusive while [`Store::prune`] throws out; `blobs/`, while `index.json` changes.
//!
//! So a crash or a full disk leaves a valid layout, and at most a partial blob in `.ingest` that the next fetch of it
//! goes on with, or [`Store::prune`] removes.

mod collect;
mod ingest;
mod names;
mod oci;

pub use collect::{Fault, Pruned, Verified};
pub use ingest::{Begin, Ingest};
pub use names::Entry;

use super::digest::{Algorithm, Digest};
use super::model::{Descriptor, Document, ImageConfig, MOST_DEPTH, MOST_DOCUMENT, Manifest};
use super::platform::Platform;
use crate::{Error, Kind, Result};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const LAYOUT: &str = "oci-layout";
const LAYOUT_CONTENT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";
const INDEX: &str = "index.json";
const INGEST: &str = ".ingest";
/// Of `index.json`, in bytes: it grows with the number of images, not with what is in them.
const MOST_INDEX: u64 = 64 << 20;

/// An image layout on disk.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// Keeps what is being brought in from being pruned, for as long as it lives.
#[derive(Debug)]
pub struct Hold(#[allow(dead_code)] File);

/// An image for one platform: what a container of it is made from.
#[derive(Debug, Clone)]
pub struct Image {
    /// Of the manifest.
    pub descriptor: Descriptor,
    pub manifest: Manifest,
    pub config: ImageConfig,
}

impl Store {
    /// Where root's images are, or the user's own.
    ///
    /// # Errors
    /// The environment names no home.
    pub fn default_dir() -> Result<PathBuf> {
        if crate::sys::process::geteuid() == 0 {
            return Ok("/var/lib/dhow/images".into());
        }
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
        let data = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
        data.map(|data| data.join("dhow/images"))
            .ok_or_else(|| Error::other("choosing the image store", "", "neither XDG_DATA_HOME nor HOME is set").hint("--store DIR names one"))
    }

    /// The store at `dir`, made if it isn't there.
    pub fn open(dir: &Path) -> Result<Store> {
        let store = Store { root: dir.to_path_buf() };
        if !store.path(LAYOUT).exists() {
            store.make()?;
        }
        store.check_layout()?;
        Ok(store)
    }

    /// The layout at `dir`, which has to be there and isn't written to.
    pub fn existing(dir: &Path) -> Result<Store> {
        let store = Store { root: dir.to_path_buf() };
        store.check_layout()?;
        Ok(store)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn make(&self) -> Result<()> {
        self.check_is_free()?;
        let blobs = self.path("blobs").join(Algorithm::Sha256.name());
        fs::create_dir_all(&blobs).map_err(failed("making the image store", &blobs))?;
        let _lock = self.lock_names()?;
        // Others may have been quicker.
        if !self.path(INDEX).exists() {
            self.replace(INDEX, b"{\"schemaVersion\":2,\"manifests\":[]}")?;
        }
        if !self.path(LAYOUT).exists() {
            self.replace(LAYOUT, LAYOUT_CONTENT.as_bytes())?;
        }
        Ok(())
    }

    /// A directory with other things in it is not for us to fill: the path may be a slip.
    fn check_is_free(&self) -> Result<()> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Ok(()) };
        // What another process that makes it now, or one that was killed, has made by now.
        let ours = |name: &std::ffi::OsStr| name == "blobs" || name == INDEX || name == LAYOUT || name.as_encoded_bytes().ends_with(b".new");
        match entries.filter_map(|e| Some(e.ok()?.file_name())).find(|name| !ours(name) && name != "lost+found") {
            None => Ok(()),
            Some(name) => {
                let cause = format!("it is no image layout, and not empty: there is {name:?}");
                Err(Error::new(Kind::Exists, "making the image store", self.root.display().to_string(), cause).hint("choose another directory"))
            }
        }
    }

    fn check_layout(&self) -> Result<()> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Layout {
            image_layout_version: String,
        }
        let path = self.path(LAYOUT);
        let shown = self.root.display().to_string();
        let bytes = read_bounded(&path, MOST_DOCUMENT).map_err(|e| match e.errno() {
            Some(libc::ENOENT | libc::ENOTDIR) => Error::new(Kind::NotFound, "opening the image layout", shown.clone(), "there is no oci-layout file in it"),
            _ => e,
        })?;
        let layout: Layout = serde_json::from_slice(&bytes).map_err(|e| Error::other("reading", path.display().to_string(), e))?;
        if layout.image_layout_version.starts_with("1.") {
            return Ok(());
        }
        Err(Error::unsupported("opening the image layout", shown, format!("version {} of image layouts", layout.image_layout_version)))
    }

    /// Take part in the store: nothing is pruned as long as the result lives. Waits for a prune to end.
    pub fn hold(&self) -> Result<Hold> {
        let dir = File::open(&self.root).map_err(failed("opening the image store", &self.root))?;
        dir.lock_shared().map_err(failed("locking the image store", &self.root))?;
        Ok(Hold(dir))
    }

    /// Replace the file `name` of the root by one with `content`: temporary file, fsync, rename, fsync.
    fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.path(name);
        let temporary = self.path(&format!(".{name}.new"));
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.root)?.sync_all()
        };
        write().map_err(|e| {
            let _ = fs::remove_file(&temporary);
            failed("writing", &path)(e)
        })
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// Whether there is a blob of that name, whatever its size.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// Whether the blob is there and as large as `descriptor` says.
    pub fn has(&self, descriptor: &Descriptor) -> bool {
        fs::metadata(self.blob_path(&descriptor.digest)).is_ok_and(|m| m.is_file() && m.len() == descriptor.size)
    }

    /// The blob, open for reading. Its content was checked when it came in; [`Store::verify`] checks again.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|e| match e.raw_os_error() {
            Some(libc::ENOENT) => {
                Error::new(Kind::NotFound, "opening blob", digest.to_string(), format!("it is not in {}", self.root.display())).hint("fetch the image again")
            }
            _ => failed("opening", &path)(e),
        })
    }

    /// A small blob whole, its digest and size checked.
    pub fn read_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if descriptor.size > MOST_DOCUMENT {
            let cause = format!("it is said to have {} bytes; {MOST_DOCUMENT} are the most", descriptor.size);
            return Err(Error::other("reading blob", descriptor.digest.to_string(), cause));
        }
        self.open_blob(&descriptor.digest)?;
        let bytes = read_bounded(&self.blob_path(&descriptor.digest), MOST_DOCUMENT)?;
        check_size(descriptor, bytes.len() as u64)?;
        descriptor.digest.check(&bytes)?;
        Ok(bytes)
    }

    /// The manifest or index that `descriptor` names.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Document> {
        let bytes = self.read_blob(descriptor)?;
        Document::parse(&bytes, &descriptor.media_type).map_err(|mut e| {
            e.subject = descriptor.digest.to_string();
            e
        })
    }

    /// The config of an image's `manifest`.
    pub fn config(&self, manifest: &Manifest) -> Result<ImageConfig> {
        ImageConfig::parse(&self.read_blob(&manifest.config)?)
    }

    /// From an entry, by way of indexes, to the image for `platform`.
    ///
    /// # Errors
    /// There is none for it, something is missing, or it is no image at all (an artifact).
    pub fn image(&self, descriptor: &Descriptor, platform: &Platform) -> Result<Image> {
        let mut at = descriptor.clone();
        for _ in 0..MOST_DEPTH {
            match self.document(&at)? {
                Document::Index(index) => at = index.choose(platform)?.clone(),
                Document::Manifest(manifest) => {
                    check_is_image(&manifest, &at)?;
                    let config = self.config(&manifest)?;
                    return Ok(Image { descriptor: at, manifest, config });
                }
            }
        }
        Err(too_deep(descriptor))
    }

    /// Store `bytes` as a blob.
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let descriptor = Descriptor::of(media_type, bytes);
        self.put_as(&descriptor, bytes)?;
        Ok(descriptor)
    }

    /// Store `bytes`, which have to be what `descriptor` says.
    pub fn put_as(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        if self.has(descriptor) {
            return Ok(());
        }
        let mut ingest = self.begin_alone(descriptor)?;
        ingest.write(bytes)?;
        ingest.finish().map(drop)
    }
}

pub(crate) fn check_is_image(manifest: &Manifest, at: &Descriptor) -> Result<()> {
    if manifest.is_image() {
        return Ok(());
    }
    let kind = if manifest.artifact_type.is_empty() { &manifest.config.media_type } else { &manifest.artifact_type };
    let cause = format!("it is an artifact of type {:?}", super::digest::clip(kind));
    Err(Error::other("reading image", at.digest.to_string(), cause).hint("only images can be unpacked"))
}

pub(crate) fn too_deep(descriptor: &Descriptor) -> Error {
    Error::other("reading image", descriptor.digest.to_string(), format!("indexes are nested more than {MOST_DEPTH} deep"))
}

pub(crate) fn check_size(descriptor: &Descriptor, found: u64) -> Result<()> {
    if descriptor.size == found {
        return Ok(());
    }
    Err(Error::other("checking the size of blob", descriptor.digest.to_string(), format!("it has {found} bytes, its descriptor says {}", descriptor.size)))
}

/// At most `most` bytes of a file.
fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(failed("opening", path))?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed("reading", path))?;
    if bytes.len() as u64 > most {
        return Err(Error::other("reading", path.display().to_string(), format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

/// What to do about a full disk.
pub(crate) const MAKE_ROOM: &str = "make room, for instance by `dhowctl prune`, or choose another place with --store";

/// What turns an I/O error into ours; a full disk gets advice.
pub(crate) fn failed(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let shown = path.display().to_string();
    move |e| {
        let error = Error::io(&e, doing, shown.clone());
        match error.errno() {
            Some(libc::ENOSPC | libc::EDQUOT) => error.hint(MAKE_ROOM),
            Some(libc::EACCES | libc::EROFS) => error.hint("choose another place with --store or DHOW_STORE"),
            _ => error,
        }
    }
}

#[cfg(test)]
mod tests;

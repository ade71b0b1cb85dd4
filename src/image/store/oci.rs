//! Docker's schema 2 as OCI, for those who read nothing else from a layout: skopeo, umoci.
//!
//! Only the manifests change, by the media types in them; config and layers are what they are. So the digest is another.

use super::{Store, too_deep};
use crate::image::digest::Digest;
use crate::image::model::{Descriptor, Document, Index, MOST_DEPTH, Manifest, media};
use crate::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;

/// What each of Docker's media types is called by OCI.
const NAMES: [(&str, &str); 7] = [
    (media::DOCKER_MANIFEST, media::MANIFEST),
    (media::DOCKER_LIST, media::INDEX),
    (media::DOCKER_CONFIG, media::CONFIG),
    (media::DOCKER_LAYER, media::LAYER_GZIP),
    ("application/vnd.docker.image.rootfs.diff.tar", media::LAYER),
    ("application/vnd.docker.image.rootfs.diff.tar.zstd", media::LAYER_ZSTD),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
];

fn name(media_type: &str) -> String {
    NAMES.iter().find(|(docker, _)| *docker == media_type).map_or(media_type, |(_, oci)| oci).into()
}

fn renamed(descriptor: &Descriptor) -> Descriptor {
    Descriptor { media_type: name(&descriptor.media_type), ..descriptor.clone() }
}

impl Store {
    /// The image or index itself if it is OCI's, else one that is, which is stored beside it.
    pub fn as_oci(&self, descriptor: &Descriptor) -> Result<Descriptor> {
        self.as_oci_below(descriptor, 0, &mut BTreeMap::new())
    }

    fn as_oci_below(&self, descriptor: &Descriptor, depth: usize, done: &mut BTreeMap<Digest, Descriptor>) -> Result<Descriptor> {
        if depth >= MOST_DEPTH {
            return Err(too_deep(descriptor));
        }
        let found = match done.get(&descriptor.digest) {
            Some(found) => found.clone(),
            None => match self.document(descriptor)? {
                Document::Manifest(manifest) => self.manifest_as_oci(descriptor, manifest)?,
                Document::Index(index) => self.index_as_oci(descriptor, index, depth, done)?,
            },
        };
        done.insert(descriptor.digest.clone(), found.clone());
        // What the index says of it stays.
        Ok(Descriptor { media_type: found.media_type, digest: found.digest, size: found.size, ..descriptor.clone() })
    }

    fn manifest_as_oci(&self, descriptor: &Descriptor, manifest: Manifest) -> Result<Descriptor> {
        if !NAMES.iter().any(|(docker, _)| *docker == descriptor.media_type) {
            return Ok(descriptor.clone());
        }
        let layers = manifest.layers.iter().map(renamed).collect();
        self.put_document(&Manifest { media_type: media::MANIFEST.into(), config: renamed(&manifest.config), layers, ..manifest }, media::MANIFEST)
    }

    fn index_as_oci(&self, descriptor: &Descriptor, index: Index, depth: usize, done: &mut BTreeMap<Digest, Descriptor>) -> Result<Descriptor> {
        let mut manifests = Vec::with_capacity(index.manifests.len());
        for child in &index.manifests {
            manifests.push(self.as_oci_below(child, depth + 1, done)?);
        }
        if manifests == index.manifests && media::INDEX == descriptor.media_type {
            return Ok(descriptor.clone());
        }
        self.put_document(&Index { media_type: media::INDEX.into(), manifests, ..index }, media::INDEX)
    }

    fn put_document(&self, document: &impl Serialize, media_type: &str) -> Result<Descriptor> {
        let bytes = serde_json::to_vec(document).map_err(|e| Error::other("writing the manifest", "", e))?;
        self.put(media_type, &bytes)
    }
}

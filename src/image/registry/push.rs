//! An image from the store to a registry: blobs first, then what refers to them.

use super::Client;
use super::auth::{escape, scope};
use super::http::{Fault, Payload, header_text, refusal};
use super::remote::{Ask, Remote};
use crate::image::digest::Digest;
use crate::image::model::{Descriptor, Document, MOST_DEPTH, media};
use crate::image::progress::{Outcome, Progress, Tracker};
use crate::image::reference::Reference;
use crate::image::store::{Store, too_deep};
use crate::{Error, Result, log};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use ureq::Body;
use ureq::http::{Method, Response, header};

/// So many bytes with one request: what breaks off loses no more.
const CHUNK: u64 = 32 << 20;

/// What is to be pushed.
#[derive(Default)]
struct Load {
    blobs: Vec<Descriptor>,
    /// Children before parents.
    manifests: Vec<Descriptor>,
    /// What is in one of the two, or about to be.
    seen: BTreeSet<Digest>,
}

struct Pusher<'a> {
    store: &'a Store,
    remote: &'a Remote,
    scope: String,
    /// Other repositories of the registry that should have a blob.
    elsewhere: BTreeMap<Digest, String>,
    progress: &'a Progress,
}

impl Client {
    /// Push what `descriptor` names in `store` as `reference`.
    ///
    /// # Errors
    /// Something of it isn't in the store, or the registry refuses.
    pub fn push(&self, store: &Store, descriptor: &Descriptor, reference: &Reference, progress: &Progress) -> Result<()> {
        let _hold = store.hold()?;
        let mut load = Load::default();
        load.gather(store, descriptor, 0)?;
        let remote = self.home(reference)?;
        let scope = scope(&remote.endpoint.repository, "pull,push");
        let pusher = Pusher { store, remote: &remote, scope, elsewhere: elsewhere(store, reference)?, progress };
        let failed = |fault: Fault| fault.error("pushing", reference.to_string());
        pusher.blobs(&load.blobs, self.options().parallel).map_err(failed)?;
        for manifest in &load.manifests {
            let top = manifest.digest == descriptor.digest;
            let version = if top { reference.version() } else { manifest.digest.to_string() };
            pusher.manifest(manifest, &version).map_err(failed)?;
        }
        Ok(())
    }
}

/// Which repositories of the same registry have which blobs, as far as the store knows.
fn elsewhere(store: &Store, reference: &Reference) -> Result<BTreeMap<Digest, String>> {
    let mut found = BTreeMap::new();
    for entry in store.entries()? {
        let Ok(other) = entry.name.parse::<Reference>() else { continue };
        if other.registry() != reference.registry() || other.repository() == reference.repository() {
            continue;
        }
        let mut load = Load::default();
        if load.gather(store, &entry.descriptor, 0).is_ok() {
            found.extend(load.blobs.into_iter().map(|blob| (blob.digest, other.repository().to_string())));
        }
    }
    Ok(found)
}

impl Load {
    fn gather(&mut self, store: &Store, descriptor: &Descriptor, depth: usize) -> Result<()> {
        if !self.seen.insert(descriptor.digest.clone()) {
            return Ok(());
        }
        if depth >= MOST_DEPTH {
            return Err(too_deep(descriptor));
        }
        for child in store.document(descriptor)?.children() {
            self.child(store, descriptor, child, depth)?;
        }
        self.manifests.push(descriptor.clone());
        Ok(())
    }

    fn child(&mut self, store: &Store, parent: &Descriptor, child: &Descriptor, depth: usize) -> Result<()> {
        if !store.has(child) {
            // Foreign layers are not ours to distribute.
            if child.is_foreign() {
                return Ok(());
            }
            let cause = format!("{} needs {} {}, which is not in the store", parent.digest, child.media_type, child.digest);
            return Err(Error::new(crate::Kind::NotFound, "pushing", parent.digest.to_string(), cause).hint("fetch the image again, with --all-platforms"));
        }
        if media::is_manifest(&child.media_type) || media::is_index(&child.media_type) {
            return self.gather(store, child, depth + 1);
        }
        if !child.is_foreign() && self.seen.insert(child.digest.clone()) {
            self.blobs.push(child.clone());
        }
        Ok(())
    }
}

impl Pusher<'_> {
    /// Several at once; the first failure stops the rest from beginning.
    fn blobs(&self, blobs: &[Descriptor], parallel: usize) -> Result<(), Fault> {
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let failed = |fault| {
            failure.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(fault);
            next.store(blobs.len(), Ordering::Relaxed);
        };
        std::thread::scope(|threads| {
            for _ in 0..parallel.clamp(1, blobs.len().max(1)) {
                threads.spawn(|| {
                    while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let tracker = self.progress.track(blob);
                        let result = self.blob(blob, &tracker);
                        tracker.finish(*result.as_ref().unwrap_or(&Outcome::Failed));
                        if let Err(fault) = result {
                            return failed(fault);
                        }
                    }
                });
            }
        });
        failure.into_inner().unwrap_or_else(|e| e.into_inner()).map_or(Ok(()), Err)
    }

    fn path(&self, rest: &str) -> String {
        format!("{}/{rest}", self.remote.endpoint.repository)
    }

    fn is_there(&self, digest: &Digest) -> Result<bool, Fault> {
        let to = self.path(&format!("blobs/{digest}"));
        let response = self.remote.http.retrying(|_| {
            let response = self.remote.ask(&Ask::new(Method::HEAD, &to, &self.scope))?;
            if matches!(response.status().as_u16(), 200 | 404) { Ok(response) } else { Err(self.remote.denied(refusal(response))) }
        })?;
        Ok(response.status().is_success())
    }

    fn blob(&self, blob: &Descriptor, tracker: &Tracker) -> Result<Outcome, Fault> {
        if self.is_there(&blob.digest)? {
            return Ok(Outcome::Exists);
        }
        let Some(location) = self.open(&blob.digest)? else {
            return Ok(Outcome::Mounted);
        };
        let file = self.store.open_blob(&blob.digest)?;
        let location = self.chunks(blob, &file, location, tracker)?;
        let url = format!("{location}{}digest={}", if location.contains('?') { '&' } else { '?' }, escape(&blob.digest.to_string()));
        self.remote.http.retrying(|count| {
            // The answer to an earlier try may be all that was lost.
            if count > 0 && self.is_there(&blob.digest)? {
                return Ok(());
            }
            self.remote.success(&Ask::new(Method::PUT, &url, &self.scope)).map(drop)
        })?;
        Ok(Outcome::Done)
    }

    /// Begin an upload: its URL, or None if the registry had the blob in another repository.
    fn open(&self, digest: &Digest) -> Result<Option<String>, Fault> {
        let plain = self.path("blobs/uploads/");
        let (to, wide) = match self.elsewhere.get(digest) {
            Some(from) => (format!("{plain}?mount={}&from={}", escape(&digest.to_string()), escape(from)), format!("{} {}", self.scope, scope(from, "pull"))),
            None => (plain.clone(), self.scope.clone()),
        };
        let post = |to: &str, scope: &str| self.remote.http.retrying(|_| self.remote.success(&Ask::new(Method::POST, to, scope)));
        let response = match post(&to, &wide) {
            // Not being allowed to read there is no reason not to write here.
            Err(fault) if to != plain => {
                log::debug(&format!("not mounted: {fault:?}"));
                post(&plain, &self.scope)?
            }
            other => other?,
        };
        match response.status().as_u16() {
            201 => Ok(None),
            _ => self.remote.next_location(&response, &to).map(Some),
        }
    }

    /// Send the content in parts; where to finish.
    fn chunks(&self, blob: &Descriptor, file: &File, mut location: String, tracker: &Tracker) -> Result<String, Fault> {
        let mut offset = 0;
        while offset < blob.size {
            let next = self.remote.http.retrying(|count| {
                if count > 0 {
                    (location, offset) = self.where_was_i(&location)?;
                }
                let length = CHUNK.min(blob.size.saturating_sub(offset));
                if length == 0 {
                    return Ok((location.clone(), offset));
                }
                let mut ask = Ask::new(Method::PATCH, &location, &self.scope)
                    .header(header::CONTENT_TYPE, "application/octet-stream")
                    .header(header::CONTENT_RANGE, format!("{offset}-{}", offset + length - 1));
                ask.payload = Payload::File { file, from: offset, length };
                let response = self.remote.success(&ask)?;
                Ok((self.remote.next_location(&response, &location)?, offset + length))
            })?;
            (location, offset) = next;
            tracker.at(offset);
        }
        Ok(location)
    }

    /// How much of an upload has arrived, and where it goes on.
    fn where_was_i(&self, location: &str) -> Result<(String, u64), Fault> {
        let response = self.remote.success(&Ask::new(Method::GET, location, &self.scope))?;
        let next = self.remote.next_location(&response, location).unwrap_or_else(|_| location.to_string());
        Ok((next, received(&response)))
    }

    fn manifest(&self, manifest: &Descriptor, version: &str) -> Result<(), Fault> {
        let bytes = self.store.read_blob(manifest)?;
        let media_type = Document::parse(&bytes, &manifest.media_type)?.media_type().to_string();
        let to = self.path(&format!("manifests/{version}"));
        let mut ask = Ask::new(Method::PUT, &to, &self.scope).header(header::CONTENT_TYPE, media_type);
        ask.payload = Payload::Bytes(&bytes);
        let response = self.remote.http.retrying(|_| self.remote.success(&ask))?;
        match header_text(&response, "docker-content-digest").and_then(|text| text.parse::<Digest>().ok()) {
            Some(other) if other.algorithm() == manifest.digest.algorithm() && other != manifest.digest => {
                Err(Fault::last(format!("the registry has stored {other} instead of {}", manifest.digest)))
            }
            _ => Ok(()),
        }
    }
}

/// From `Range: 0-99`: a hundred bytes.
fn received(response: &Response<Body>) -> u64 {
    let range = header_text(response, "range").unwrap_or_default();
    let last = range.trim_start_matches("bytes=").split_once('-').and_then(|(_, last)| last.trim().parse::<u64>().ok());
    // docker-registry says 0-0 for nothing and for one byte; sending that one again is refused, and then tried from the start.
    last.filter(|last| *last > 0).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn children_go_first_and_once() {
        let dir = std::env::temp_dir().join(format!("dhow-push-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let store = Store::open(&dir).unwrap();
        let layer = store.put(media::LAYER, b"layer").unwrap();
        let config = store.put(media::CONFIG, b"{}").unwrap();
        let put = |value: serde_json::Value, media_type| store.put(media_type, value.to_string().as_bytes()).unwrap();
        let manifest = put(json!({"schemaVersion": 2, "config": config, "layers": [layer, layer]}), media::MANIFEST);
        let index = put(json!({"schemaVersion": 2, "manifests": [manifest, manifest]}), media::INDEX);
        let mut load = Load::default();
        load.gather(&store, &index, 0).unwrap();
        assert_eq!(load.manifests.iter().map(|m| &m.digest).collect::<Vec<_>>(), [&manifest.digest, &index.digest]);
        assert_eq!(load.blobs.len(), 2);
        let lost = Descriptor::of(media::MANIFEST, b"lost");
        let index = put(json!({"schemaVersion": 2, "manifests": [manifest, lost]}), media::INDEX);
        assert!(Load::default().gather(&store, &index, 0).unwrap_err().to_string().contains("--all-platforms"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

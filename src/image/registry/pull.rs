//! An image from a registry into the store.
//!
//! The manifest decides what there is to do. Then a few threads bring the blobs, each one hashed as it is written; what
//! breaks off goes on where it was, at the same endpoint or the next. The name is set when all of it is there.

use super::Client;
use super::http::{Fault, Http};
use super::remote::{Raw, Remote};
use super::stream::{Job, LayerStream};
use crate::image::digest::Digest;
use crate::image::model::{Descriptor, Document, ImageConfig, MOST_DEPTH, MOST_DOCUMENT, Manifest};
use crate::image::platform::Platform;
use crate::image::progress::{Outcome, Progress, Tracker};
use crate::image::reference::Reference;
use crate::image::store::{Begin, Entry, Hold, Image, Ingest, Store, check_size, too_deep};
use crate::{Error, Result, log};
use std::collections::{BTreeSet, VecDeque};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

const BUFFER: usize = 256 << 10;
/// Fewer bytes than this within the timeout are as good as none.
const SLOWEST: u64 = 1 << 10;
/// Manifests and indexes of one image for all platforms, and their bytes, which are held until they are stored.
const MOST_DOCUMENTS: usize = 1000;
const MOST_DOCUMENT_BYTES: u64 = 64 << 20;
/// So many new bytes are worth another round of retries.
const PROGRESS: u64 = 1 << 20;

/// Which images of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// The one for this machine; what is no index is taken as it is.
    Here,
    /// The one for this platform and no other.
    Platform(Platform),
    /// All, with attestations and whatever else is in the index.
    All,
}

impl Want {
    fn platform(&self) -> Platform {
        match self {
            Want::Platform(platform) => platform.clone(),
            _ => Platform::host(),
        }
    }
}

/// An image that is being fetched. Dropped before [`Pull::finish`], it stops; what is there by then stays for the next try.
pub struct Pull {
    store: Store,
    name: String,
    entry: Descriptor,
    image: Option<Image>,
    jobs: Vec<Arc<Job>>,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    _hold: Hold,
}

/// What the threads have in common.
struct Shared {
    store: Store,
    http: Arc<Http>,
    remotes: Vec<Arc<Remote>>,
    queue: Mutex<VecDeque<Arc<Job>>>,
    progress: Progress,
    stop: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Pull {
    /// Resolve `reference` and begin to fetch all blobs. Returns when manifest and config are known.
    pub fn start(client: &Client, store: &Store, reference: &Reference, want: &Want, progress: &Progress) -> Result<Pull> {
        let hold = store.hold()?;
        let mut resolver = Resolver {
            store,
            reference,
            want,
            remotes: client.remotes(reference)?,
            documents: Vec::new(),
            seen: BTreeSet::new(),
            size: 0,
            blobs: Vec::new(),
            image: None,
        };
        let top = resolver.top()?;
        let entry = resolver.gather(&top.0, top.1, 0)?;
        let Resolver { remotes, documents, mut blobs, image, .. } = resolver;
        let mut seen = BTreeSet::new();
        blobs.retain(|d| seen.insert(d.digest.clone()));
        let jobs: Vec<Arc<Job>> = blobs.into_iter().map(|d| Arc::new(Job::new(d))).collect();
        let shared = Arc::new(Shared {
            store: store.clone(),
            http: client.http.clone(),
            remotes,
            queue: Mutex::new(jobs.iter().cloned().collect()),
            progress: progress.clone(),
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let count = client.options().parallel.clamp(1, jobs.len().max(1));
        let spawn = |_| {
            let shared = shared.clone();
            std::thread::spawn(move || shared.work())
        };
        let workers = (0..count).map(spawn).collect();
        // From here on a drop stops the threads.
        let mut pull = Pull { store: store.clone(), name: reference.to_string(), entry, image: None, jobs, shared, workers, _hold: hold };
        for (descriptor, bytes) in &documents {
            store.put_as(descriptor, bytes)?;
        }
        if let Some((descriptor, manifest)) = image {
            let config = pull.config(&manifest)?;
            check_platform(want, reference, &config)?;
            pull.image = Some(Image { descriptor, manifest, config });
        }
        Ok(pull)
    }

    /// The image, if it is one (no artifact) and only one is fetched.
    pub fn image(&self) -> Option<&Image> {
        self.image.as_ref()
    }

    /// The name that the image will have in the store, and what it will stand for.
    pub fn entry(&self) -> Entry {
        Entry { name: self.name.clone(), descriptor: self.entry.clone() }
    }

    /// Read a layer while it comes. It may be called for each layer at once; the downloads don't wait for the readers.
    pub fn layer_stream(&self, layer: &Descriptor) -> Result<LayerStream> {
        let job = self.jobs.iter().find(|job| job.descriptor.digest == layer.digest);
        job.map(Job::reader).ok_or_else(|| {
            let cause = if layer.is_foreign() { "it is a foreign layer, which is not fetched" } else { "it is no blob of this image" };
            Error::other("reading layer", layer.digest.to_string(), cause)
        })
    }

    /// Wait for everything, then let the reference stand for it.
    pub fn finish(mut self) -> Result<Entry> {
        self.wait()?;
        self.name_it(&self.name)
    }

    /// The same under another name, in a layout that is for others to read: as OCI's, whatever it came as.
    pub fn finish_as_oci(mut self, name: &str) -> Result<Entry> {
        self.wait()?;
        self.entry = self.store.as_oci(&self.entry)?;
        self.name_it(name)
    }

    fn name_it(&self, name: &str) -> Result<Entry> {
        let entry = Entry { name: name.into(), descriptor: self.entry.clone() };
        self.store.set(&entry.name, &entry.descriptor)?;
        Ok(entry)
    }

    fn wait(&mut self) -> Result<()> {
        for worker in std::mem::take(&mut self.workers) {
            if worker.join().is_err() {
                return Err(Error::other("fetching", self.name.clone(), "a thread of ours broke down"));
            }
        }
        match lock(&self.shared.failure).take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn config(&mut self, manifest: &Manifest) -> Result<ImageConfig> {
        let mut bytes = Vec::new();
        let result = self.layer_stream(&manifest.config)?.take(MOST_DOCUMENT).read_to_end(&mut bytes);
        // The thread's own words are better than the reader's.
        if result.is_err() {
            self.wait()?;
        }
        ImageConfig::parse(&bytes)
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn check_platform(want: &Want, reference: &Reference, config: &ImageConfig) -> Result<()> {
    let wanted = want.platform();
    // Old images don't say.
    if config.platform.os.is_empty() || wanted.rank(&config.platform).is_some() {
        return Ok(());
    }
    let message = format!("the image is for {}, not for {wanted}", config.platform);
    if let Want::Platform(_) = want {
        return Err(Error::new(crate::Kind::NotFound, "fetching", reference.to_string(), message));
    }
    log::warn(&format!("{reference}: {message}"));
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn too_many(index: &Descriptor) -> Error {
    let cause = format!("there are more than {MOST_DOCUMENTS} manifests in it, or they have more than {MOST_DOCUMENT_BYTES} bytes");
    Error::other("reading image", index.digest.to_string(), cause).hint("--platform fetches one of them")
}

/// From the reference to the blobs.
struct Resolver<'a> {
    store: &'a Store,
    reference: &'a Reference,
    want: &'a Want,
    /// The one that answered first.
    remotes: Vec<Arc<Remote>>,
    /// To be stored, children before parents.
    documents: Vec<(Descriptor, Vec<u8>)>,
    /// Of what is in an index, all that was looked at.
    seen: BTreeSet<Digest>,
    /// Of those, in bytes.
    size: u64,
    blobs: Vec<Descriptor>,
    image: Option<(Descriptor, Manifest)>,
}

impl Resolver<'_> {
    /// What the reference names: from the first endpoint that has it.
    fn top(&mut self) -> Result<(Descriptor, Vec<u8>)> {
        let version = self.reference.version();
        let mut failure = None;
        for at in 0..self.remotes.len() {
            match self.remotes[at].manifest(&version).and_then(|raw| self.accept(raw)) {
                Ok(found) => {
                    self.remotes.swap(0, at);
                    return Ok(found);
                }
                Err(fault) => {
                    log::debug(&format!("{}: {fault:?}", self.remotes[at].host()));
                    // Of several failures the registry's own, which comes last, says most.
                    failure = Some((fault, self.remotes[at].clone()));
                }
            }
        }
        let Some((fault, remote)) = failure else {
            return Err(Error::other("fetching", self.reference.to_string(), "there is no endpoint to ask"));
        };
        match fault {
            Fault::Answer { status: 404, .. } => Err(fault.error("fetching", self.reference.to_string()).hint(remote.which_tags(&version))),
            Fault::Ours(e) => Err(e.within(&format!("fetching {}", self.reference))),
            _ => Err(fault.error("fetching", self.reference.to_string())),
        }
    }

    /// A manifest that came, checked against what it should be.
    fn accept(&self, raw: Raw) -> Result<(Descriptor, Vec<u8>), Fault> {
        let said = self.reference.digest().or(raw.digest.as_ref());
        if let Some(digest) = said {
            digest.check(&raw.bytes)?;
        }
        let digest = self.reference.digest().cloned().unwrap_or_else(|| Digest::of(&raw.bytes));
        let document = Document::parse(&raw.bytes, &raw.media_type)?;
        Ok((Descriptor::new(document.media_type(), digest, raw.bytes.len() as u64), raw.bytes))
    }

    /// Collect what belongs to the document; the descriptor of what was chosen.
    fn gather(&mut self, descriptor: &Descriptor, bytes: Vec<u8>, depth: usize) -> Result<Descriptor> {
        if depth >= MOST_DEPTH {
            return Err(too_deep(descriptor));
        }
        let document = Document::parse(&bytes, &descriptor.media_type).map_err(|mut e| {
            e.subject = descriptor.digest.to_string();
            e
        })?;
        match document {
            Document::Index(index) if *self.want == Want::All => {
                for child in &index.manifests {
                    // One index within another can name the same ones again and again, and again.
                    if !self.seen.insert(child.digest.clone()) {
                        continue;
                    }
                    self.size = self.size.saturating_add(child.size);
                    if self.seen.len() > MOST_DOCUMENTS || self.size > MOST_DOCUMENT_BYTES {
                        return Err(too_many(descriptor));
                    }
                    let bytes = self.document(child)?;
                    self.gather(child, bytes, depth + 1)?;
                }
                self.documents.push((descriptor.clone(), bytes));
                Ok(descriptor.clone())
            }
            Document::Index(index) => {
                let child = index.choose(&self.want.platform())?;
                let bytes = self.document(child)?;
                self.gather(child, bytes, depth + 1)
            }
            Document::Manifest(manifest) => {
                self.blobs.extend(manifest.blobs().filter(|d| !d.is_foreign()).cloned());
                self.documents.push((descriptor.clone(), bytes));
                self.image = (manifest.is_image() && *self.want != Want::All).then(|| (descriptor.clone(), manifest));
                Ok(descriptor.clone())
            }
        }
    }

    /// A child of an index, from the store or else from the endpoints.
    fn document(&self, child: &Descriptor) -> Result<Vec<u8>> {
        if self.store.has(child) {
            return self.store.read_blob(child);
        }
        let mut failure = Fault::last("there is no endpoint to ask");
        for remote in &self.remotes {
            let checked = remote.manifest(&child.digest.to_string()).and_then(|raw| {
                check_size(child, raw.bytes.len() as u64)?;
                child.digest.check(&raw.bytes)?;
                Ok(raw.bytes)
            });
            match checked {
                Ok(bytes) => return Ok(bytes),
                Err(fault) => failure = fault,
            }
        }
        Err(failure.error("fetching", self.reference.at(child.digest.clone()).to_string()))
    }
}

impl Shared {
    /// One blob after the other, until there are no more or one failed.
    fn work(&self) {
        loop {
            let Some(job) = lock(&self.queue).pop_front() else { return };
            let result = if self.stopped() { Err(stopped(&job)) } else { self.fetch(&job) };
            if let Err(e) = &result {
                lock(&self.failure).get_or_insert_with(|| e.clone());
                self.stop.store(true, Ordering::Relaxed);
            }
            job.finish(result);
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn fetch(&self, job: &Job) -> Result<()> {
        let ingest = match self.store.begin(&job.descriptor)? {
            Begin::Have(file) => {
                job.begin(file, job.descriptor.size);
                self.progress.track(&job.descriptor).finish(Outcome::Exists);
                return Ok(());
            }
            Begin::Ingest(ingest) => *ingest,
        };
        job.begin(ingest.reader()?, ingest.offset());
        let tracker = self.progress.track(&job.descriptor);
        let result = self.download(job, ingest, &tracker);
        tracker.finish(if result.is_ok() { Outcome::Done } else { Outcome::Failed });
        result
    }

    /// From each endpoint in turn, until the content is right.
    fn download(&self, job: &Job, mut ingest: Ingest, tracker: &Tracker) -> Result<()> {
        let mut failure = None;
        // What an earlier process left may be what is wrong, so that the first endpoint gets a second chance.
        let again = ingest.was_resumed().then(|| self.remotes.first()).flatten();
        for remote in again.into_iter().chain(&self.remotes) {
            let fault = match self.bring(remote, job, &mut ingest, tracker) {
                Ok(()) => match ingest.check() {
                    Ok(()) => {
                        // Readers need not wait for the disk.
                        job.finish(Ok(()));
                        return ingest.finish().map(drop);
                    }
                    Err(wrong) => {
                        if !job.may_restart() {
                            return Err(wrong);
                        }
                        ingest.restart()?;
                        Fault::Ours(wrong)
                    }
                },
                // Nobody else's disk is any less full.
                Err(Fault::Ours(e)) if e.errno().is_some() => return Err(e),
                Err(fault) => fault,
            };
            if self.stopped() {
                return Err(stopped(job));
            }
            log::debug(&format!("{}: {}: {fault:?}", remote.host(), job.descriptor.digest));
            failure = Some(fault);
        }
        let fault = failure.unwrap_or_else(|| Fault::last("there is no endpoint to ask"));
        let (there, all) = (ingest.offset(), job.descriptor.size);
        let hint = match &fault {
            Fault::Connection(_) if there > 0 => format!("{there} of {all} bytes are here; the next fetch goes on from there"),
            _ => String::new(),
        };
        let error = fault.error("fetching blob", job.descriptor.digest.to_string());
        Err(if hint.is_empty() { error } else { error.hint(hint) })
    }

    /// All that is missing, with as many tries as there is progress for.
    fn bring(&self, remote: &Remote, job: &Job, ingest: &mut Ingest, tracker: &Tracker) -> Result<(), Fault> {
        loop {
            let before = ingest.offset();
            let result = self.http.retrying(|_| self.one_try(remote, job, ingest, tracker));
            match result {
                Err(Fault::Connection(_)) if ingest.offset() >= before + PROGRESS => {}
                // It has less of it than we do.
                Err(Fault::Answer { status: 416, .. }) if before > 0 && job.may_restart() => ingest.restart()?,
                other => return other,
            }
        }
    }

    fn one_try(&self, remote: &Remote, job: &Job, ingest: &mut Ingest, tracker: &Tracker) -> Result<(), Fault> {
        if ingest.is_whole() {
            return Ok(());
        }
        let (mut skip, mut reader) = remote.blob(&job.descriptor.digest, ingest.offset(), &job.descriptor.urls)?;
        let mut buffer = vec![0; BUFFER];
        let mut pace = Pace { timeout: self.http.options.timeout, since: Instant::now(), bytes: 0 };
        loop {
            // What is whole by now becomes a blob, rather than be left for the next try.
            if self.stopped() && !ingest.is_whole() {
                return Err(Fault::Ours(stopped(job)));
            }
            let n = match reader.read(&mut buffer) {
                Ok(0) if ingest.is_whole() => return Ok(()),
                Ok(0) => return Err(Fault::Connection(format!("{} broke off after {} of {} bytes", remote.host(), ingest.offset(), job.descriptor.size))),
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    let at = ingest.offset();
                    return Err(Fault::Connection(format!("{} broke off after {at} of {} bytes: {}", remote.host(), job.descriptor.size, broken(&e))));
                }
            };
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(n);
            skip -= skipped as u64;
            if skipped < n {
                ingest.write(&buffer[skipped..n])?;
                job.advance(ingest.offset());
                tracker.at(ingest.offset());
            }
            pace.step(n, remote.host())?;
        }
    }
}

/// Reads that bring a byte each before their time is up would otherwise go on for ever.
struct Pace {
    timeout: std::time::Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn step(&mut self, n: usize, host: &str) -> Result<(), Fault> {
        self.bytes += n as u64;
        if self.since.elapsed() < self.timeout {
            return Ok(());
        }
        if self.bytes < SLOWEST {
            return Err(Fault::Connection(format!("{host} is too slow: {} bytes in {} seconds", self.bytes, self.since.elapsed().as_secs())));
        }
        (self.since, self.bytes) = (Instant::now(), 0);
        Ok(())
    }
}

fn broken(e: &std::io::Error) -> String {
    let text = e.to_string();
    if text.contains("timeout") { "silence".into() } else { Error::io(e, "", "").cause.clone() }
}

fn stopped(job: &Job) -> Error {
    Error::other("fetching blob", job.descriptor.digest.to_string(), "stopped, since something else failed")
}

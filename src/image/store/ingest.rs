//! A blob on its way in: written to `.ingest`, hashed as it passes, and renamed to its name when it is whole.

use super::{INGEST, Store, check_size, failed};
use crate::image::digest::{Digest, Hasher};
use crate::image::model::Descriptor;
use crate::{Error, Result, log};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Begins the names of blobs without a digest.
const NEW: &str = "new-";

/// What there is to do about a blob.
pub enum Begin {
    /// Nothing: here it is.
    Have(File),
    Ingest(Box<Ingest>),
}

/// A blob being written, locked against other processes. What was written stays for the next try if this is dropped,
/// unless it turned out wrong or the disk is full.
pub struct Ingest {
    store: Store,
    descriptor: Descriptor,
    file: File,
    path: PathBuf,
    hasher: Hasher,
    offset: u64,
    /// Left over from an earlier try.
    resumed: bool,
    keep: bool,
}

impl Store {
    /// Begin to write the blob `descriptor`, waiting for another process that is at it. An earlier try that was broken
    /// off is gone on with: [`Ingest::offset`] says from where.
    ///
    /// A thread should hold one `Ingest` at a time, or two processes could wait for each other.
    pub fn begin(&self, descriptor: &Descriptor) -> Result<Begin> {
        let digest = &descriptor.digest;
        let path = self.path(INGEST).join(format!("{}-{}", digest.algorithm().name(), digest.hex()));
        loop {
            if self.has(descriptor) {
                return self.open_blob(digest).map(Begin::Have);
            }
            let file = self.open_ingest(&path)?;
            if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
                log::debug(&format!("waiting for another process that fetches {digest}"));
            }
            file.lock().map_err(failed("locking", &path))?;
            // Whoever had the lock may have finished the blob, or given up and removed the file.
            if !is_at(&file, &path) || self.has(descriptor) {
                continue;
            }
            return Ingest::new(self, descriptor, file, path).map(|ingest| Begin::Ingest(Box::new(ingest)));
        }
    }

    fn open_ingest(&self, path: &Path) -> Result<File> {
        loop {
            match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path) {
                // The directory goes when it's empty.
                Err(e) if e.kind() == ErrorKind::NotFound => match fs::create_dir(self.path(INGEST)) {
                    Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(failed("making", &self.path(INGEST))(e)),
                    _ => continue,
                },
                other => return other.map_err(failed("opening", path)),
            }
        }
    }

    /// Begin to write a blob whose digest nobody knows yet: [`Ingest::finish_as_found`] ends it.
    pub fn begin_new(&self) -> Result<Ingest> {
        self.begin_alone(&Descriptor::new("", Digest::of(b""), u64::MAX))
    }

    /// Begin to write a blob that nobody would go on with, nor wait for.
    pub(super) fn begin_alone(&self, descriptor: &Descriptor) -> Result<Ingest> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (path, file) = loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            if number == 0 {
                self.remove_left();
            }
            let path = self.path(INGEST).join(format!("{NEW}{}-{number}", std::process::id()));
            let file = self.open_ingest(&path)?;
            file.lock().map_err(failed("locking", &path))?;
            // Somebody may have taken it for a left one before it was locked.
            if is_at(&file, &path) {
                break (path, file);
            }
        };
        let mut ingest = Ingest::new(self, descriptor, file, path)?;
        ingest.keep = false;
        Ok(ingest)
    }

    /// Remove what processes left that were killed while they made a blob; nobody can go on with those.
    pub fn remove_left(&self) {
        for entry in fs::read_dir(self.path(INGEST)).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with(NEW)
                && let Ok(file) = File::open(&path)
                && file.try_lock().is_ok()
                && is_at(&file, &path)
            {
                let _ = fs::remove_file(&path);
            }
        }
        let _ = fs::remove_dir(self.path(INGEST));
    }

    /// Store what `reader` has, whose digest nobody knows yet.
    pub fn put_reader(&self, media_type: &str, mut reader: impl Read) -> Result<Descriptor> {
        let mut ingest = self.begin_new()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => ingest.write(&buffer[..n])?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io(&e, "reading", "a layer")),
            }
        }
        ingest.finish_as_found(media_type)
    }
}

/// The open file is still the one of that name.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => open.ino() == named.ino() && open.dev() == named.dev(),
        _ => false,
    }
}

impl Ingest {
    fn new(store: &Store, descriptor: &Descriptor, file: File, path: PathBuf) -> Result<Ingest> {
        let hasher = Hasher::new(descriptor.digest.algorithm());
        let mut ingest = Ingest { store: store.clone(), descriptor: descriptor.clone(), file, path, hasher, offset: 0, resumed: false, keep: true };
        ingest.take_up()?;
        Ok(ingest)
    }

    /// Hash what an earlier try left.
    fn take_up(&mut self) -> Result<()> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = self.file.read(&mut buffer).map_err(failed("reading", &self.path))?;
            if n == 0 {
                self.resumed = self.offset > 0;
                return Ok(());
            }
            self.hasher.update(&buffer[..n]);
            self.offset += n as u64;
            if self.offset > self.descriptor.size {
                return self.restart();
            }
        }
    }

    /// How many bytes are there.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Some of it was written by an earlier process.
    pub fn was_resumed(&self) -> bool {
        self.resumed
    }

    pub fn is_whole(&self) -> bool {
        self.offset == self.descriptor.size
    }

    /// Another handle on the file, to read what was written so far while more is.
    pub fn reader(&self) -> Result<File> {
        File::open(&self.path).map_err(failed("opening", &self.path))
    }

    /// Throw away what is there.
    pub fn restart(&mut self) -> Result<()> {
        use std::io::Seek;
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(failed("emptying", &self.path))?;
        self.hasher = Hasher::new(self.descriptor.digest.algorithm());
        (self.offset, self.resumed, self.keep) = (0, false, true);
        Ok(())
    }

    /// Append.
    ///
    /// # Errors
    /// It is more than the descriptor says, or the disk is full; then what was written goes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 > self.descriptor.size - self.offset {
            self.keep = false;
            let cause = format!("there is more of it than the {} bytes that its descriptor says", self.descriptor.size);
            return Err(Error::other("storing blob", self.descriptor.digest.to_string(), cause));
        }
        if let Err(e) = self.file.write_all(bytes) {
            self.keep = false;
            return Err(failed("writing", &self.path)(e));
        }
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Size and digest are right.
    pub fn check(&mut self) -> Result<()> {
        let whole = check_size(&self.descriptor, self.offset);
        let result = whole.and_then(|()| self.descriptor.digest.expect(self.hasher.clone().finish()));
        self.keep &= result.is_ok();
        result
    }

    /// Of [`Store::begin_new`]: what was written is the blob.
    pub fn finish_as_found(mut self, media_type: &str) -> Result<Descriptor> {
        let found = Descriptor::new(media_type, self.hasher.clone().finish(), self.offset);
        self.descriptor = found.clone();
        self.finish()?;
        Ok(found)
    }

    /// Check it, bring it to disk, give it its name. The name itself is on disk once an entry refers to it ([`Store::set`]).
    pub fn finish(mut self) -> Result<File> {
        self.check()?;
        self.keep = false;
        let target = self.store.blob_path(&self.descriptor.digest);
        let dir = target.parent().unwrap_or(&target);
        self.file.sync_all().map_err(failed("writing", &self.path))?;
        match fs::create_dir(dir) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(failed("making", dir)(e)),
            _ => {}
        }
        fs::rename(&self.path, &target).map_err(failed("writing", &target))?;
        File::open(&target).map_err(failed("opening", &target))
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if (!self.keep || self.offset == 0) && is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
        // Succeeds for the last one.
        let _ = fs::remove_dir(self.store.path(INGEST));
    }
}

//! A blob on its way, which may be read from the start while the rest still comes.
//!
//! The download writes to the store's file as fast as it can; readers follow in the same file, from the page cache. So
//! a slow reader holds nothing up, memory stays constant, and the end is reached only when the digest was right.

use crate::image::model::Descriptor;
use crate::sys::{self, Errno};
use crate::{Error, Result};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// One blob's download.
pub(super) struct Job {
    pub descriptor: Descriptor,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Where it is written to.
    file: Option<Arc<File>>,
    /// How many bytes of it are there.
    available: u64,
    readers: usize,
    /// Set when all bytes are there and checked, or never will be.
    end: Option<Result<(), Error>>,
}

impl Job {
    pub fn new(descriptor: Descriptor) -> Job {
        Job { descriptor, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// `available` bytes are in `file`, more will come.
    pub fn begin(&self, file: File, available: u64) {
        let mut state = self.lock();
        state.file = Some(Arc::new(file));
        state.available = available;
        self.changed.notify_all();
    }

    pub fn advance(&self, available: u64) {
        self.lock().available = available;
        self.changed.notify_all();
    }

    /// Begin again from nothing, which is possible only as long as nobody has read anything.
    pub fn may_restart(&self) -> bool {
        let mut state = self.lock();
        if state.readers == 0 {
            state.available = 0;
        }
        state.readers == 0
    }

    /// The first end counts.
    pub fn finish(&self, result: Result<(), Error>) {
        self.lock().end.get_or_insert(result);
        self.changed.notify_all();
    }

    pub fn reader(self: &Arc<Job>) -> LayerStream {
        self.lock().readers += 1;
        LayerStream { job: self.clone(), file: None, position: 0 }
    }

    /// Wait until there is something at `position`: the file, and how many bytes; 0 at the end.
    fn wait(&self, position: u64) -> Result<(Arc<File>, u64), Error> {
        let mut state = self.lock();
        loop {
            if let Some(Err(e)) = &state.end {
                return Err(e.clone());
            }
            if let Some(file) = &state.file {
                // The last bytes are held back until the digest is known to be right: whoever counts bytes would stop there.
                let last = state.end.is_none() && state.available == self.descriptor.size;
                let usable = if last { state.available.saturating_sub(1) } else { state.available };
                if usable > position || state.end.is_some() {
                    return Ok((file.clone(), usable.saturating_sub(position)));
                }
            }
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }
}

/// Reads a blob from its first byte to its last, waiting for what has not come yet. The end of the file is reported, and
/// the last byte given out, only after the digest of the whole was found right.
pub struct LayerStream {
    job: Arc<Job>,
    file: Option<Arc<File>>,
    position: u64,
}

impl LayerStream {
    /// The layer that is read.
    pub fn descriptor(&self) -> &Descriptor {
        &self.job.descriptor
    }

    /// All of it into `pipe`, as it comes. The other end reads the page cache's pages; nothing is copied here.
    pub fn pour(mut self, mut pipe: File) -> io::Result<()> {
        loop {
            let (file, available) = self.job.wait(self.position).map_err(io::Error::other)?;
            if available == 0 {
                return Ok(());
            }
            let most = usize::try_from(available).unwrap_or(usize::MAX).min(1 << 30);
            match sys::fs::splice(file.as_fd(), self.position, pipe.as_fd(), most) {
                // The file is shorter than it was: somebody else changed it.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.position += n as u64,
                // A file system that can't.
                Err(Errno(libc::EINVAL | libc::ENOSYS)) => return self.copy(&mut pipe),
                Err(Errno(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }

    fn copy(&mut self, pipe: &mut File) -> io::Result<()> {
        let mut buffer = vec![0; 128 << 10];
        loop {
            match self.read(&mut buffer)? {
                0 => return Ok(()),
                n => pipe.write_all(&buffer[..n])?,
            }
        }
    }
}

impl Read for LayerStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let (file, available) = self.job.wait(self.position).map_err(io::Error::other)?;
        let most = buf.len().min(usize::try_from(available).unwrap_or(usize::MAX));
        let file = self.file.get_or_insert(file);
        let n = file.read_at(&mut buf[..most], self.position)?;
        self.position += n as u64;
        Ok(n)
    }
}

impl Drop for LayerStream {
    fn drop(&mut self) {
        // What it has read it can't give back; only one that has read nothing makes room for a restart.
        if self.position == 0 {
            self.job.lock().readers -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn job(content: &[u8]) -> (Arc<Job>, File) {
        let path = std::env::temp_dir().join(format!("dhow-stream-{}-{:?}", std::process::id(), std::thread::current().id()));
        let file = File::create(&path).unwrap();
        let job = Arc::new(Job::new(Descriptor::of("x/y", content)));
        job.begin(File::open(&path).unwrap(), 0);
        std::fs::remove_file(&path).unwrap();
        (job, file)
    }

    #[test]
    fn a_reader_follows_the_writer() {
        let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let (job, mut file) = job(&content);
        let mut reader = job.reader();
        assert!(!job.may_restart());
        std::thread::scope(|scope| {
            let read = scope.spawn(move || {
                let mut all = Vec::new();
                reader.read_to_end(&mut all).map(|_| all)
            });
            for (i, part) in content.chunks(7_777).enumerate() {
                file.write_all(part).unwrap();
                job.advance((i * 7_777 + part.len()) as u64);
            }
            job.finish(Ok(()));
            assert_eq!(read.join().unwrap().unwrap(), content);
        });
        let mut again = Vec::new();
        job.reader().read_to_end(&mut again).unwrap();
        assert_eq!(again, content);
    }

    #[test]
    fn both_ways_into_a_pipe_bring_all_of_it() {
        let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        for spliced in [true, false] {
            let (job, mut file) = job(&content);
            let mut stream = job.reader();
            let (mut read, write) = io::pipe().unwrap();
            let mut write = File::from(std::os::fd::OwnedFd::from(write));
            std::thread::scope(|scope| {
                let poured = scope.spawn(move || if spliced { stream.pour(write) } else { stream.copy(&mut write) });
                let came = scope.spawn(move || {
                    let mut all = Vec::new();
                    read.read_to_end(&mut all).map(|_| all)
                });
                for (i, part) in content.chunks(7_777).enumerate() {
                    file.write_all(part).unwrap();
                    job.advance((i * 7_777 + part.len()) as u64);
                }
                job.finish(Ok(()));
                assert!(came.join().unwrap().unwrap() == content);
                poured.join().unwrap().unwrap();
            });
        }
    }

    #[test]
    fn the_last_byte_waits_for_the_digest() {
        let (job, mut file) = job(b"abc");
        file.write_all(b"abx").unwrap();
        job.advance(3);
        let mut reader = job.reader();
        let mut buffer = [0; 10];
        assert_eq!(reader.read(&mut buffer).unwrap(), 2);
        job.finish(Err(Error::other("checking", "", "wrong digest")));
        assert!(reader.read(&mut buffer).unwrap_err().to_string().contains("wrong digest"));
    }
}

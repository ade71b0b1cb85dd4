//! gzip on as many processors as there are: the stream is cut into blocks, each is compressed by itself and ends at a
//! byte's boundary, and all are one member, as any reader expects. Where the cuts are depends on nothing but the length, so
//! the same content gives the same bytes on every machine.
//!
//! A stream of one block, as most layers are, is compressed by the caller, and no thread is started.

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};

/// Larger ones compress a little better, and need more memory.
const BLOCK: usize = 512 << 10;
/// zlib's own; with zlib-rs as good as the peers' defaults in a fraction of their time.
const LEVEL: u32 = 4;
const MOST_THREADS: usize = 4;
/// No name, no time, made on Unix.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

pub(super) struct Gzip<W> {
    out: W,
    /// Not yet given to be compressed.
    block: Vec<u8>,
    pool: Option<Pool>,
    crc: Crc,
}

/// Deflated, with the checksum of what it was.
type Packed = io::Result<(Vec<u8>, Crc)>;

struct Job {
    block: Vec<u8>,
    is_last: bool,
    to: SyncSender<Packed>,
}

/// Threads, which end when it is dropped.
struct Pool {
    jobs: Sender<Job>,
    /// Under way, in their order.
    pending: VecDeque<Receiver<Packed>>,
    threads: usize,
}

impl<W: Write> Gzip<W> {
    pub fn new(mut out: W) -> io::Result<Gzip<W>> {
        out.write_all(&HEADER)?;
        Ok(Gzip { out, block: Vec::new(), pool: None, crc: Crc::new() })
    }

    pub fn finish(mut self) -> io::Result<W> {
        let block = std::mem::take(&mut self.block);
        match self.pool.take() {
            None => {
                let packed = pack(&mut Packer::new(), &block, true);
                self.put(packed)?;
            }
            Some(mut pool) => {
                pool.give(block, true)?;
                while let Some(next) = pool.pending.pop_front() {
                    self.put(received(&next))?;
                }
            }
        }
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.out)
    }

    fn put(&mut self, packed: Packed) -> io::Result<()> {
        let (bytes, crc) = packed?;
        self.crc.combine(&crc);
        self.out.write_all(&bytes)
    }

    /// The block is full, and something follows.
    fn turn(&mut self) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let mut pool = match self.pool.take() {
            Some(pool) => pool,
            None => Pool::start()?,
        };
        pool.give(block, false)?;
        // One that waits for each thread, so that none has to.
        let done = if pool.pending.len() > 2 * pool.threads { pool.pending.pop_front() } else { None };
        self.pool = Some(pool);
        done.map_or(Ok(()), |next| self.put(received(&next)))
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.turn()?;
        }
        let n = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pool {
    fn start() -> io::Result<Pool> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = queue.clone();
            let work = move || {
                let mut packer = Packer::new();
                loop {
                    let job = queue.lock().unwrap_or_else(|e| e.into_inner()).recv();
                    let Ok(Job { block, is_last, to }) = job else { return };
                    // Nobody waits any more if something else failed.
                    let _ = to.send(pack(&mut packer, &block, is_last));
                }
            };
            std::thread::Builder::new().stack_size(256 << 10).spawn(work)?;
        }
        Ok(Pool { jobs, pending: VecDeque::new(), threads })
    }

    fn give(&mut self, block: Vec<u8>, is_last: bool) -> io::Result<()> {
        let (to, from) = sync_channel(1);
        self.pending.push_back(from);
        self.jobs.send(Job { block, is_last, to }).map_err(|_| broken())
    }
}

fn received(from: &Receiver<Packed>) -> Packed {
    from.recv().unwrap_or_else(|_| Err(broken()))
}

fn broken() -> io::Error {
    io::Error::other("a thread of ours broke down")
}

struct Packer {
    dense: Compress,
    stored: Compress,
}

impl Packer {
    fn new() -> Packer {
        let deflate = |level| Compress::new(Compression::new(level), false);
        Packer { dense: deflate(LEVEL), stored: deflate(0) }
    }
}

fn pack(packer: &mut Packer, block: &[u8], is_last: bool) -> Packed {
    let deflate = if is_noise(block) { &mut packer.stored } else { &mut packer.dense };
    deflate.reset();
    let flush = if is_last { FlushCompress::Finish } else { FlushCompress::Sync };
    let mut out = Vec::with_capacity(block.len() / 2 + 1024);
    loop {
        let read = deflate.total_in() as usize;
        let status = deflate.compress_vec(&block[read..], &mut out, flush).map_err(io::Error::other)?;
        // Room that is left means that all is out.
        let all = deflate.total_in() as usize == block.len() && out.len() < out.capacity();
        if if is_last { status == Status::StreamEnd } else { all } {
            break;
        }
        out.reserve(block.len() / 4 + 1024);
    }
    let mut crc = Crc::new();
    crc.update(block);
    Ok((out, crc))
}

/// Bytes that are about as often as each other, as in what is compressed already: there is nothing to gain. Every 31st is
/// looked at, an odd number, so that it isn't always the same one of each word.
fn is_noise(block: &[u8]) -> bool {
    const FEW: u64 = 4096;
    let mut counts = [0u64; 256];
    block.iter().step_by(31).for_each(|byte| counts[usize::from(*byte)] += 1);
    let all: u64 = counts.iter().sum();
    // The chance that two bytes are the same: 1/256 for noise, and a bit more since there are only so many.
    let same: u64 = counts.iter().map(|n| n * n).sum();
    all >= FEW && same * 238 <= all * all
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    fn noise(n: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..n).map(|_| next()).collect()
    }

    fn text(n: usize) -> Vec<u8> {
        (0..).flat_map(|i: u32| format!("line {} of it\n", i.wrapping_mul(i) % 7919).into_bytes()).take(n).collect()
    }

    fn packed(data: &[u8], piece: usize) -> Vec<u8> {
        let mut gzip = Gzip::new(Vec::new()).unwrap();
        data.chunks(piece.max(1)).for_each(|piece| gzip.write_all(piece).unwrap());
        gzip.finish().unwrap()
    }

    #[test]
    fn there_and_back() {
        for n in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 9 * BLOCK + 7] {
            for data in [text(n), noise(n), [text(n / 2), noise(n - n / 2)].concat()] {
                let gzip = packed(&data, 100_000);
                // One member: nothing is left behind it.
                let (mut reader, mut out) = (GzDecoder::new(&gzip[..]), Vec::new());
                reader.read_to_end(&mut out).unwrap();
                assert!(out == data && reader.into_inner().is_empty(), "{n}");
            }
        }
    }

    /// However it is written, on however many processors.
    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let data = text(5 * BLOCK + 99);
        let first = packed(&data, 1 << 20);
        assert!([511, 8192, BLOCK].iter().all(|piece| packed(&data, *piece) == first));
    }

    #[test]
    fn text_becomes_smaller_and_noise_hardly_larger() {
        let (text, noise) = (text(4 * BLOCK), noise(4 * BLOCK));
        assert!(packed(&text, BLOCK).len() < text.len() / 3);
        assert!(packed(&noise, BLOCK).len() < noise.len() + noise.len() / 1000);
        assert!(is_noise(&noise) && !is_noise(&text));
        // Half of each is worth the try; so are bytes of which some never come.
        assert!(!is_noise(&[&text[..BLOCK], &noise[..BLOCK]].concat()));
        assert!(!is_noise(&noise.iter().map(|b| b & 0x7f).collect::<Vec<_>>()));
    }

    #[test]
    fn who_writes_to_a_full_disk_is_told() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut gzip = Gzip::new(Full(BLOCK)).unwrap();
        let written = gzip.write_all(&noise(40 * BLOCK)).and_then(|()| gzip.finish().map(drop));
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}

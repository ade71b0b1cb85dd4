//! A layer's bytes, decompressed and hashed in a thread of their own, and how they come to the thread that writes.
//!
//! What a layer is compressed by is seen from its first bytes: media types are often wrong.

use super::Limits;
use crate::image::digest::{Algorithm, Digest, Hasher};
use crate::{Error, Result};
use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// What goes from thread to thread at a time.
const CHUNK: usize = 512 << 10;
/// So many wait between the threads at most.
const WAITING: usize = 4;

/// How a layer is compressed, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// Four bytes are enough.
    ///
    /// # Errors
    /// It is compressed in a way that nobody here understands.
    pub fn of(first: &[u8]) -> Result<Compression> {
        if let Some((_, name)) = OTHERS.iter().find(|(magic, _)| first.starts_with(magic)) {
            return Err(Error::unsupported("decompressing the layer", "", format!("a decompressor for {name}; gzip, zstd and none are known")));
        }
        let is_skippable = first.len() >= 4 && first[0] & 0xf0 == 0x50 && &first[1..4] == ZSTD_SKIPPABLE;
        Ok(match first {
            _ if first.starts_with(GZIP) => Compression::Gzip,
            _ if first.starts_with(ZSTD) || is_skippable => Compression::Zstd,
            _ => Compression::None,
        })
    }
}

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// A zstd frame to be skipped: 0x184D2A50 to 5F, little-endian.
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];
const OTHERS: [(&[u8], &str); 4] = [(b"\xfd7zX", "xz"), (b"BZh", "bzip2"), (b"\x04\x22\x4d\x18", "lz4"), (b"PK\x03\x04", "zip, which is no layer")];

/// Decompresses whatever it is given.
pub enum Decoder<R: Read> {
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<R>>>),
    Plain(BufReader<R>),
}

impl<R: Read> Decoder<R> {
    /// Look at the first bytes of `input`.
    pub fn new(input: R) -> Result<Self> {
        let mut input = BufReader::with_capacity(128 << 10, input);
        let first = loop {
            match input.fill_buf() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(|e| Error::io(&e, "reading the layer", ""))?,
            }
        };
        Ok(match Compression::of(first)? {
            Compression::Gzip => Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Compression::Zstd => {
                Decoder::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(input).map_err(|e| Error::io(&e, "decompressing the layer", ""))?))
            }
            Compression::None => Decoder::Plain(input),
        })
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Gzip(inner) => inner.read(buf),
            Decoder::Zstd(inner) => inner.read(buf),
            Decoder::Plain(inner) => inner.read(buf),
        }
    }
}

/// Counts what passes, for others to see.
pub struct Counting<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count.set(self.count.get() + n as u64);
        Ok(n)
    }
}

/// What all layers of an image have used up so far.
#[derive(Debug, Default)]
pub struct Used {
    pub bytes: AtomicU64,
    pub entries: AtomicU64,
}

/// The decompressing end of the way between the threads.
pub struct Pump {
    out: SyncSender<Message>,
    /// Buffers to be used again.
    back: Receiver<Vec<u8>>,
    made: usize,
}

/// The writing end.
pub struct Chunks {
    incoming: Receiver<Message>,
    back: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    end: Option<Sum>,
}

/// What the whole layer comes to, decompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    pub digest: Digest,
    pub bytes: u64,
}

enum Message {
    Chunk(Vec<u8>),
    End(Result<Sum>),
}

/// Both ends.
pub fn chunks() -> (Pump, Chunks) {
    let (out, incoming) = sync_channel(WAITING);
    let (give, back) = channel();
    (Pump { out, back, made: 0 }, Chunks { incoming, back: give, current: Vec::new(), at: 0, end: None })
}

impl Pump {
    /// Decompress all of `input` for the other end. Its failure is the other end's to tell.
    pub fn run(mut self, input: impl Read, algorithm: Algorithm, limits: &Limits, used: &Used) {
        if let Some(result) = self.send_all(input, algorithm, limits, used).transpose() {
            // Nobody waits for it any more: then the other end has failed by itself.
            let _ = self.out.send(Message::End(result));
        }
    }

    /// None when the other end is gone.
    fn send_all(&mut self, input: impl Read, algorithm: Algorithm, limits: &Limits, used: &Used) -> Result<Option<Sum>> {
        let count = Rc::new(Cell::new(0));
        let mut decoder = Decoder::new(Counting { inner: input, count: count.clone() })?;
        let (mut hasher, mut bytes) = (Hasher::new(algorithm), 0);
        loop {
            let mut buffer = self.buffer();
            let n = fill(&mut decoder, &mut buffer)?;
            if n == 0 {
                return Ok(Some(Sum { digest: hasher.finish(), bytes }));
            }
            bytes += n as u64;
            check(limits, used.bytes.fetch_add(n as u64, Ordering::Relaxed) + n as u64, bytes, count.get())?;
            hasher.update(&buffer[..n]);
            buffer.truncate(n);
            if self.out.send(Message::Chunk(buffer)).is_err() {
                return Ok(None);
            }
        }
    }

    fn buffer(&mut self) -> Vec<u8> {
        // One is being filled, one being written, the others wait.
        let used = if self.made < WAITING + 2 { self.back.try_recv().ok() } else { self.back.recv().ok() };
        match used {
            Some(mut buffer) => {
                buffer.resize(CHUNK, 0);
                buffer
            }
            None => {
                self.made += 1;
                vec![0; CHUNK]
            }
        }
    }
}

fn check(limits: &Limits, all: u64, layer: u64, compressed: u64) -> Result<()> {
    let refuse = |cause: String, hint: &str| Err(Error::other("decompressing the layer", "", cause).hint(hint));
    if all > limits.bytes {
        return refuse(format!("the image has more than the allowed {} bytes", limits.bytes), "--max-size sets the limit");
    }
    if layer > limits.ratio_from && layer / compressed.max(1) > limits.ratio {
        return refuse(format!("it grows to more than {} times its size, as a decompression bomb does", limits.ratio), "--max-ratio sets the limit");
    }
    Ok(())
}

/// Fill `buffer` as far as the input reaches.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io(&e, "decompressing the layer", "").hint("the layer is damaged or truncated")),
        }
    }
    Ok(filled)
}

impl Chunks {
    /// What the layer came to; None as long as it isn't read to its end.
    pub fn sum(&self) -> Option<&Sum> {
        self.end.as_ref()
    }
}

impl Read for Chunks {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buf)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() && self.end.is_none() {
            let done = std::mem::take(&mut self.current);
            self.at = 0;
            if done.capacity() > 0 {
                // At the end the other side is gone.
                let _ = self.back.send(done);
            }
            match self.incoming.recv() {
                Ok(Message::Chunk(chunk)) => self.current = chunk,
                Ok(Message::End(Ok(sum))) => self.end = Some(sum),
                Ok(Message::End(Err(e))) => return Err(io::Error::other(e)),
                Err(_) => return Err(io::Error::other("the decompressor is gone")),
            }
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn through(input: &[u8], limits: Limits) -> Result<(Vec<u8>, Sum)> {
        let (pump, mut chunks) = chunks();
        std::thread::scope(|scope| {
            scope.spawn(|| pump.run(input, Algorithm::Sha256, &limits, &Used::default()));
            let mut out = Vec::new();
            chunks.read_to_end(&mut out).map_err(|e| e.downcast::<Error>().unwrap())?;
            Ok((out, chunks.sum().unwrap().clone()))
        })
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn all_kinds_come_out_the_same() {
        let text: Vec<u8> = (0..3_000_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let two_members = [gzip(&text[..1000]), gzip(&text[1000..])].concat();
        for input in [text.clone(), gzip(&text), two_members, zstd::encode_all(&text[..], 1).unwrap()] {
            let (out, sum) = through(&input, Limits::default()).unwrap();
            assert!(out == text);
            assert_eq!((sum.digest, sum.bytes), (Digest::of(&text), text.len() as u64));
        }
    }

    #[test]
    fn damage_and_excess_are_told() {
        let good = gzip(&vec![7; 1 << 20]);
        let tight = Limits { bytes: 1 << 19, ..Limits::default() };
        for (input, limits, word) in
            [(&good[..good.len() - 3], Limits::default(), "truncated"), (&good, tight, "--max-size"), (b"\xfd7zXZ\0", Limits::default(), "xz")]
        {
            let message = through(input, limits).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn a_bomb_is_stopped_early() {
        let limits = Limits { ratio_from: 1 << 20, ..Limits::default() };
        let bomb = zstd::encode_all(&vec![0; 4 << 20][..], 1).unwrap();
        let message = through(&bomb, limits).unwrap_err().to_string();
        assert!(message.contains("bomb") && message.contains("--max-ratio"), "{message}");
    }
}

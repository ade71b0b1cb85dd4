//! The archive as a stream of entries.
//!
//! Not the `tar` crate: that one reads long names and PAX records of any length into memory, knows no PAX sparse file,
//! and gives content only by copying it. Here what is kept in memory is bounded, and content stays in the buffers that
//! the decompressor filled.

use super::entry::{Entry, Kind, show};
use super::header::{self, BLOCK, Block, Meaning, malformed};
use super::pax::{MOST_PARTS, Records, decimal};
use crate::{Error, Result};
use std::io::{BufRead, ErrorKind, Seek, SeekFrom};

/// Bytes that long names and PAX records may have: what Go's reader allows.
const MOST_RECORDS: u64 = 1 << 20;

pub struct Reader<R> {
    input: R,
    /// Of the current entry's content: bytes not read yet, and the padding behind them.
    content: u64,
    padding: u64,
}

/// What came before an entry and is about it.
#[derive(Default)]
struct Before {
    records: Option<Records>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: BufRead> Reader<R> {
    pub fn new(input: R) -> Self {
        Reader { input, content: 0, padding: 0 }
    }

    pub fn into_inner(self) -> R {
        self.input
    }

    /// Go on to the next entry; false at the archive's end. What is left of the last one's content is skipped.
    pub fn next(&mut self, entry: &mut Entry) -> Result<bool> {
        let mut before = Before::default();
        let mut block = [0; BLOCK];
        loop {
            self.skip_content()?;
            if !self.header(&mut block)? {
                let dangling = before.records.is_some() || before.name.is_some() || before.link.is_some();
                return if dangling { Err(truncated()) } else { Ok(false) };
            }
            let meaning = header::read(&block, entry)?;
            self.set_content(entry.size)?;
            match meaning {
                Meaning::LongName => before.name = Some(header::text(&self.small_content()?).to_vec()),
                Meaning::LongLink => before.link = Some(header::text(&self.small_content()?).to_vec()),
                Meaning::Records => before.records = Some(Records::parse(&self.small_content()?)?),
                Meaning::Ignored => {}
                Meaning::Entry(kind) => {
                    entry.kind = kind;
                    self.finish(entry, &mut before, None)?;
                    return Ok(true);
                }
                Meaning::Sparse => {
                    let map = self.old_sparse_map(&block)?;
                    self.finish(entry, &mut before, Some(map))?;
                    return Ok(true);
                }
            }
        }
    }

    /// Some of the current entry's content, straight from the input's buffer; empty at its end. [`Self::consume`] it.
    pub fn chunk(&mut self) -> Result<&[u8]> {
        if self.content == 0 {
            return Ok(&[]);
        }
        let most = usize::try_from(self.content).unwrap_or(usize::MAX);
        let buffer = fill(&mut self.input)?;
        if buffer.is_empty() {
            return Err(truncated());
        }
        Ok(&buffer[..buffer.len().min(most)])
    }

    pub fn consume(&mut self, n: usize) {
        self.input.consume(n);
        self.content -= n as u64;
    }

    /// Read what follows the archive: padding, or more blocks that no reader looks at.
    pub fn drain(&mut self) -> Result<()> {
        loop {
            let n = fill(&mut self.input)?.len();
            if n == 0 {
                return Ok(());
            }
            self.input.consume(n);
        }
    }

    /// Where the current entry's content begins. The entry is done with: it is passed over without being read.
    pub fn pass_over(&mut self) -> Result<u64>
    where
        R: Seek,
    {
        let start = self.input.stream_position().map_err(from_io)?;
        let end = start + self.content + self.padding;
        // Of what is in the buffer already nothing is lost by this: archives of small files are no archives of images.
        self.input.seek(SeekFrom::Start(end)).map_err(from_io)?;
        (self.content, self.padding) = (0, 0);
        Ok(start)
    }

    fn set_content(&mut self, size: u64) -> Result<()> {
        self.content = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        // So that no sum of sizes below can overflow.
        if size > i64::MAX as u64 - BLOCK as u64 { Err(malformed(format!("an entry of {size} bytes"))) } else { Ok(()) }
    }

    /// The next header; false at the end: a block of zeros, or no more input (many writers forget the zeros).
    fn header(&mut self, block: &mut Block) -> Result<bool> {
        let mut filled = 0;
        while filled < BLOCK {
            let buffer = fill(&mut self.input)?;
            if buffer.is_empty() {
                return if filled == 0 { Ok(false) } else { Err(truncated()) };
            }
            let n = buffer.len().min(BLOCK - filled);
            block[filled..filled + n].copy_from_slice(&buffer[..n]);
            self.input.consume(n);
            filled += n;
        }
        Ok(block.iter().any(|b| *b != 0))
    }

    fn skip_content(&mut self) -> Result<()> {
        let mut left = self.content + self.padding;
        (self.content, self.padding) = (0, 0);
        while left > 0 {
            let n = fill(&mut self.input)?.len();
            if n == 0 {
                return Err(truncated());
            }
            let n = n.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.input.consume(n);
            left -= n as u64;
        }
        Ok(())
    }

    /// All of the current content, which is about the next entry and must be small.
    fn small_content(&mut self) -> Result<Vec<u8>> {
        if self.content > MOST_RECORDS {
            return Err(malformed(format!("a name or PAX records of {} bytes; {MOST_RECORDS} are allowed", self.content)));
        }
        let mut out = Vec::with_capacity(self.content as usize);
        while self.content > 0 {
            let chunk = self.chunk()?;
            out.extend_from_slice(chunk);
            let n = chunk.len();
            self.consume(n);
        }
        Ok(out)
    }

    /// Put the header, what came before it and the sparse map together.
    fn finish(&mut self, entry: &mut Entry, before: &mut Before, map: Option<(Vec<u64>, u64)>) -> Result<()> {
        let mut sparse = None;
        if let Some(mut records) = before.records.take() {
            if let Some(size) = records.size.filter(|_| entry.kind == Kind::File) {
                entry.size = size;
                self.set_content(size)?;
            }
            sparse = self.pax_sparse_map(&mut records)?;
            records.apply(entry);
        }
        if let Some(name) = before.name.take() {
            entry.path = name;
        }
        if let Some(link) = before.link.take() {
            entry.link = link;
        }
        if let Some((map, real_size)) = map.or(sparse).filter(|_| entry.kind == Kind::File) {
            entry.parts =
                Some(parts(&map, real_size, self.content).ok_or_else(|| malformed(format!("the sparse file {} has an impossible map", entry.shown())))?);
            entry.size = real_size;
        }
        let with_nul = [&entry.path, &entry.link].into_iter().chain(entry.xattrs.iter().map(|(name, _)| name)).find(|text| text.contains(&0));
        with_nul.map_or(Ok(()), |text| Err(malformed(format!("a NUL in the name {}", show(text)))))
    }

    /// GNU's old format: four parts in the header, 21 in each block that may follow.
    fn old_sparse_map(&mut self, block: &Block) -> Result<(Vec<u64>, u64)> {
        let field = |bytes: &[u8]| header::size(header::number(bytes, "a sparse file's map")?, "a sparse file's map");
        let mut map = Vec::new();
        let mut add = |bytes: &[u8]| -> Result<()> {
            for part in bytes.chunks_exact(24).take_while(|part| part[0] != 0) {
                map.extend([field(&part[..12])?, field(&part[12..])?]);
            }
            if map.len() > 2 * MOST_PARTS { Err(malformed("a sparse file has too many parts")) } else { Ok(()) }
        };
        add(&block[386..482])?;
        let mut more = block[482] != 0;
        let real_size = field(&block[483..495])?;
        let mut block = [0; BLOCK];
        while more {
            if !self.header(&mut block)? {
                return Err(truncated());
            }
            add(&block[..504])?;
            more = block[504] != 0;
        }
        Ok((map, real_size))
    }

    /// Of PAX's three versions. 1.0 has its map in front of the content: decimal numbers, a line each, filled up to a block.
    fn pax_sparse_map(&mut self, records: &mut Records) -> Result<Option<(Vec<u64>, u64)>> {
        let sparse = &mut records.sparse;
        let Some(real_size) = sparse.real_size else { return Ok(None) };
        if sparse.version != (1, 0) {
            return Ok(Some((std::mem::take(&mut sparse.map), real_size)));
        }
        let (mut read, mut numbers, mut text) = (0, Vec::new(), Vec::new());
        let mut expected = None;
        while expected != Some(numbers.len() as u64) {
            let chunk = self.chunk()?;
            let Some(byte) = chunk.first().copied() else { return Err(truncated()) };
            self.consume(1);
            read += 1;
            match byte {
                b'\n' => {
                    let number = header::size(decimal(&text, "a sparse file's map")?, "a sparse file's map")?;
                    text.clear();
                    match expected {
                        None if number > MOST_PARTS as u64 => return Err(malformed("a sparse file has too many parts")),
                        None => expected = Some(number * 2),
                        Some(_) => numbers.push(number),
                    }
                }
                _ if text.len() < 20 => text.push(byte),
                _ => return Err(malformed("a sparse file's map is malformed")),
            }
        }
        let mut filler = (read as u64).wrapping_neg() % BLOCK as u64;
        while filler > 0 {
            let n = self.chunk()?.len().min(filler as usize);
            if n == 0 {
                return Err(truncated());
            }
            self.consume(n);
            filler -= n as u64;
        }
        Ok(Some((numbers, real_size)))
    }
}

/// Pairs of offset and length, checked: ascending, within the file, and together what the archive holds.
fn parts(map: &[u64], real_size: u64, stored: u64) -> Option<Vec<(u64, u64)>> {
    let (mut out, mut at, mut sum) = (Vec::with_capacity(map.len() / 2), 0u64, 0u64);
    for pair in map.chunks(2) {
        let [offset, length] = *pair else { return None };
        let end = offset.checked_add(length)?;
        if offset < at || end > real_size || real_size > i64::MAX as u64 {
            return None;
        }
        (at, sum) = (end, sum.checked_add(length)?);
        out.push((offset, length));
    }
    (sum == stored && real_size <= i64::MAX as u64).then_some(out)
}

fn fill<R: BufRead>(input: &mut R) -> Result<&[u8]> {
    // Twice, since a returned borrow can't be given up in a loop.
    while let Err(e) = input.fill_buf() {
        if e.kind() != ErrorKind::Interrupted {
            return Err(from_io(e));
        }
    }
    input.fill_buf().map_err(from_io)
}

/// An error of the library that came through `Read`, as it was.
fn from_io(e: std::io::Error) -> Error {
    match e.downcast::<Error>() {
        Ok(error) => error,
        Err(e) => Error::io(&e, "reading the layer", ""),
    }
}

fn truncated() -> Error {
    malformed("it ends too early").hint("the layer is truncated")
}

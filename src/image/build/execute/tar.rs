//! A layer's tar archive, as BuildKit and containerd write it: ustar headers, and PAX records for what those can't hold.
//!
//! Times are cut to seconds, owners have no names, so that the same files give the same bytes.

use crate::image::unpack::entry::{Entry, Kind};
use std::io::{self, Read, Write};

const BLOCK: usize = 512;
/// The largest numbers that the octal fields of 8 and of 12 bytes hold.
const MOST_8: u64 = 0o7_777_777;
const MOST_12: u64 = 0o77_777_777_777;

pub(super) struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        Writer { out }
    }

    /// An entry without content, or of a file the header before [`Writer::content`].
    pub fn header(&mut self, entry: &Entry) -> io::Result<()> {
        let records = records(entry);
        if !records.is_empty() {
            let mut extra = [0; BLOCK];
            fill(&mut extra, &[b"PaxHeaders.0/", base_name(&entry.path)].concat(), b"", b'x', 0o644, 0, 0, records.len() as u64, 0);
            seal(&mut extra);
            self.out.write_all(&extra)?;
            self.out.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        let mut block = [0; BLOCK];
        let kind = match entry.kind {
            Kind::File => b'0',
            Kind::HardLink => b'1',
            Kind::Symlink => b'2',
            Kind::CharDevice => b'3',
            Kind::BlockDevice => b'4',
            Kind::Directory => b'5',
            Kind::Fifo => b'6',
        };
        let size = if entry.kind == Kind::File { entry.size } else { 0 };
        fill(&mut block, &entry.path, &entry.link, kind, entry.mode, entry.uid, entry.gid, size, entry.modified.seconds);
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            octal(&mut block[329..337], entry.device.0.into());
            octal(&mut block[337..345], entry.device.1.into());
        }
        seal(&mut block);
        self.out.write_all(&block)
    }

    /// The `size` bytes of the file whose header was written.
    pub fn content(&mut self, from: &mut impl Read, size: u64) -> io::Result<()> {
        let copied = io::copy(&mut from.take(size), &mut self.out)?;
        if copied != size {
            return Err(io::Error::other("the file became shorter while it was read"));
        }
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let rest = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
        self.out.write_all(&[0; BLOCK][..rest])
    }

    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }
}

fn base_name(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
    &name[..name.len().min(80)]
}

/// What the header has no room for, sorted by name.
fn records(entry: &Entry) -> Vec<u8> {
    let plain = |text: &[u8]| text.len() <= 100 && text.is_ascii();
    let mut list: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |key: &str, value: Vec<u8>| list.push((key.into(), value));
    if !plain(&entry.path) {
        add("path", entry.path.clone());
    }
    if !plain(&entry.link) {
        add("linkpath", entry.link.clone());
    }
    for (key, value, most) in [("uid", u64::from(entry.uid), MOST_8), ("gid", entry.gid.into(), MOST_8), ("size", entry.size, MOST_12)] {
        if value > most {
            add(key, value.to_string().into());
        }
    }
    if !(0..=MOST_12 as i64).contains(&entry.modified.seconds) {
        add("mtime", entry.modified.seconds.to_string().into());
    }
    list.extend(entry.xattrs.iter().map(|(name, value)| ([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone())));
    list.sort();
    list.iter().flat_map(|(key, value)| record(key, value)).collect()
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() + rest != length {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

#[allow(clippy::too_many_arguments)]
fn fill(block: &mut [u8; BLOCK], path: &[u8], link: &[u8], kind: u8, mode: u32, uid: u32, gid: u32, size: u64, seconds: i64) {
    text(&mut block[..100], path);
    octal(&mut block[100..108], mode.into());
    octal(&mut block[108..116], if u64::from(uid) > MOST_8 { 0 } else { uid.into() });
    octal(&mut block[116..124], if u64::from(gid) > MOST_8 { 0 } else { gid.into() });
    octal(&mut block[124..136], if size > MOST_12 { 0 } else { size });
    octal(&mut block[136..148], u64::try_from(seconds).ok().filter(|s| *s <= MOST_12).unwrap_or(0));
    block[156] = kind;
    text(&mut block[157..257], link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block[329..337], 0);
    octal(&mut block[337..345], 0);
}

/// What doesn't fit is in a record.
fn text(field: &mut [u8], value: &[u8]) {
    let n = value.len().min(field.len());
    field[..n].copy_from_slice(&value[..n]);
}

/// Digits to the field's end but for a NUL.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    field[..digits].copy_from_slice(text.as_bytes());
    field[digits] = 0;
}

fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    octal(&mut block[148..155], sum);
    block[155] = b' ';
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::unpack::reader::Reader;
    use crate::sys::tree::Time;

    /// What is written is what our reader reads.
    #[test]
    fn there_and_back() {
        let long = vec![b'x'; 150];
        let entries = [
            Entry {
                path: b"a/".to_vec(),
                kind: Kind::Directory,
                mode: 0o1777,
                uid: 1,
                gid: 2,
                modified: Time { seconds: 7, nanoseconds: 0 },
                ..Entry::default()
            },
            Entry {
                path: [b"a/".as_slice(), &long].concat(),
                mode: 0o4755,
                uid: 3_000_000,
                gid: 70_000_000,
                size: 3,
                xattrs: vec![(b"user.k".to_vec(), b"v\0=\n".to_vec())],
                modified: Time { seconds: -5, nanoseconds: 0 },
                ..Entry::default()
            },
            Entry { path: "a/é".into(), kind: Kind::Symlink, link: long.clone(), mode: 0o777, ..Entry::default() },
            Entry { path: b"a/h".to_vec(), kind: Kind::HardLink, link: b"a/x".to_vec(), mode: 0o644, ..Entry::default() },
            Entry { path: b"a/c".to_vec(), kind: Kind::CharDevice, device: (5, 1), mode: 0o600, ..Entry::default() },
        ];
        let mut writer = Writer::new(Vec::new());
        for entry in &entries {
            writer.header(entry).unwrap();
            if entry.kind == Kind::File {
                writer.content(&mut &b"abc"[..], 3).unwrap();
            }
        }
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        let mut reader = Reader::new(&bytes[..]);
        let mut found = Entry::default();
        for entry in &entries {
            assert!(reader.next(&mut found).unwrap());
            assert_eq!(&found, entry);
        }
        assert!(!reader.next(&mut found).unwrap());
    }

    #[test]
    fn a_record_counts_its_own_length() {
        assert_eq!(record(b"path", b"a"), b"9 path=a\n");
        for n in 80..110 {
            let record = record(b"k", &vec![b'v'; n]);
            let said: usize = std::str::from_utf8(&record).unwrap().split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, record.len());
        }
    }
}

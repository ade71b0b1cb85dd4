//! PAX records: `LENGTH KEY=VALUE\n` each, what the plain header has no room for (pax(1), Extended Header).

use super::entry::Entry;
use super::header::{id, malformed, size};
use crate::sys::tree::Time;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// What the records of one entry say.
#[derive(Default)]
pub(super) struct Records {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    uid: Option<u32>,
    gid: Option<u32>,
    pub size: Option<u64>,
    modified: Option<Time>,
    accessed: Option<Time>,
    /// By name: the last of several with one name holds.
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    acls: [Option<Vec<u8>>; 2],
    pub sparse: Sparse,
}

/// GNU's sparse files in PAX: versions 0.0, 0.1 and 1.0.
#[derive(Default)]
pub(super) struct Sparse {
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    pub version: (u64, u64),
    /// Of 0.0 and 0.1, the numbers as they come: offset, length, offset, length …
    pub map: Vec<u64>,
}

/// More parts than any real file has; a bound on memory.
pub(super) const MOST_PARTS: usize = 1 << 17;

impl Records {
    /// Read all records in `text`.
    pub fn parse(text: &[u8]) -> Result<Records> {
        let (mut out, mut rest) = (Records::default(), text);
        // Some writers fill up with NULs.
        while !rest.is_empty() && rest[0] != 0 {
            let (key, value, length) = record(rest).ok_or_else(|| malformed("a PAX record is malformed"))?;
            out.set(key, value)?;
            rest = &rest[length..];
        }
        Ok(out)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        // An empty value takes back what an earlier record said; what is left is the header's.
        let owned = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = owned(),
            b"linkpath" => self.link = owned(),
            b"size" => self.size = unless_empty(value, |v| size(decimal(v, "size")?, "size"))?,
            b"uid" => self.uid = unless_empty(value, |v| id(decimal(v, "uid")?, "uid"))?,
            b"gid" => self.gid = unless_empty(value, |v| id(decimal(v, "gid")?, "gid"))?,
            b"mtime" => self.modified = unless_empty(value, time)?,
            b"atime" => self.accessed = unless_empty(value, time)?,
            b"SCHILY.acl.access" => self.acls[0] = owned(),
            b"SCHILY.acl.default" => self.acls[1] = owned(),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.insert(name.to_vec(), value.to_vec());
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let bad = || malformed("an extended attribute's record is malformed");
                    self.xattrs.insert(unescape(name).ok_or_else(bad)?, unbase64(value).ok_or_else(bad)?);
                } else if let Some(field) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(field, value)?;
                }
            }
        }
        Ok(())
    }

    /// Put what the records say over what the header said.
    pub fn apply(self, entry: &mut Entry) {
        fn over<T>(slot: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *slot = value;
            }
        }
        over(&mut entry.path, self.sparse.name.or(self.path));
        over(&mut entry.link, self.link);
        over(&mut entry.uid, self.uid);
        over(&mut entry.gid, self.gid);
        over(&mut entry.modified, self.modified);
        entry.accessed = self.accessed;
        entry.xattrs = self.xattrs.into_iter().collect();
        entry.acls = self.acls;
    }
}

impl Sparse {
    fn set(&mut self, field: &[u8], value: &[u8]) -> Result<()> {
        let number = || size(decimal(value, "a sparse file's record")?, "a sparse file's record");
        match field {
            b"name" => self.name = Some(value.to_vec()),
            b"realsize" | b"size" => self.real_size = Some(number()?),
            b"major" => self.version.0 = number()?,
            b"minor" => self.version.1 = number()?,
            b"offset" | b"numbytes" => self.map.push(number()?),
            b"map" => {
                for part in value.split(|b| *b == b',') {
                    self.map.push(size(decimal(part, "a sparse file's map")?, "a sparse file's map")?);
                }
            }
            _ => {}
        }
        if self.map.len() > 2 * MOST_PARTS { Err(malformed("a sparse file has too many parts")) } else { Ok(()) }
    }
}

/// The first record: key, value, how long it is.
fn record(text: &[u8]) -> Option<(&[u8], &[u8], usize)> {
    let space = text.iter().take(20).position(|b| *b == b' ')?;
    let length: usize = std::str::from_utf8(&text[..space]).ok()?.parse().ok()?;
    let body = text.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    (!key.is_empty()).then_some((key, value, length))
}

fn unless_empty<T>(value: &[u8], parse: impl FnOnce(&[u8]) -> Result<T>) -> Result<Option<T>> {
    if value.is_empty() { Ok(None) } else { parse(value).map(Some) }
}

pub(super) fn decimal(value: &[u8], what: &str) -> Result<i64> {
    let parsed = std::str::from_utf8(value).ok().filter(|t| !t.starts_with('+')).and_then(|t| t.parse().ok());
    parsed.ok_or_else(|| malformed(format!("{what} is no number in range: {:?}", String::from_utf8_lossy(&value[..value.len().min(40)]))))
}

/// `[-]SECONDS[.FRACTION]`, cut to nanoseconds towards the past.
fn time(value: &[u8]) -> Result<Time> {
    let bad = || -> Error { malformed(format!("a time is malformed: {:?}", String::from_utf8_lossy(&value[..value.len().min(40)]))) };
    let (whole, fraction) = match value.iter().position(|b| *b == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(bad());
    }
    let seconds = decimal(whole, "a time")?;
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0u32, |n, digit| n * 10 + u32::from(digit - b'0'));
    if !whole.starts_with(b"-") || nanoseconds == 0 {
        return Ok(Time { seconds, nanoseconds });
    }
    Ok(Time { seconds: seconds.checked_sub(1).ok_or_else(bad)?, nanoseconds: 1_000_000_000 - nanoseconds })
}

/// `%XX` of libarchive's names.
fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut at) = (Vec::with_capacity(name.len()), 0);
    while at < name.len() {
        if name[at] == b'%' {
            let hex = std::str::from_utf8(name.get(at + 1..at + 3)?).ok()?;
            out.push(u8::from_str_radix(hex, 16).ok()?);
            at += 3;
        } else {
            out.push(name[at]);
            at += 1;
        }
    }
    Some(out)
}

/// Base64 with or without padding.
fn unbase64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for c in text {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(key: &str, value: &str) -> Vec<u8> {
        let body = format!(" {key}={value}\n");
        let length = (1..).find(|n: &usize| n.to_string().len() + body.len() == *n).unwrap();
        format!("{length}{body}").into_bytes()
    }

    #[test]
    fn records_go_over_the_header() {
        let mut text = line("path", "a=b\nc");
        text.extend(line("mtime", "-1.5"));
        text.extend(line("size", "12"));
        text.extend(line("size", ""));
        text.extend(line("uid", "100000"));
        text.extend(line("SCHILY.xattr.user.a", "one"));
        text.extend(line("SCHILY.xattr.user.a", "two"));
        text.extend(line("LIBARCHIVE.xattr.user.b%2Fc", "AP8="));
        let records = Records::parse(&text).unwrap();
        assert_eq!(records.size, None);
        let mut entry = Entry::default();
        records.apply(&mut entry);
        assert_eq!((entry.path.as_slice(), entry.uid), (&b"a=b\nc"[..], 100_000));
        assert_eq!(entry.modified, Time { seconds: -2, nanoseconds: 500_000_000 });
        assert_eq!(entry.xattrs, [(b"user.a".to_vec(), b"two".to_vec()), (b"user.b/c".to_vec(), vec![0, 255])]);
    }

    /// As many as fit into the records, of one entry of thousands.
    #[test]
    fn many_attributes_are_read_in_a_moment() {
        let text: Vec<u8> = (0..34_000).flat_map(|n| line(&format!("SCHILY.xattr.user.{n}"), "v")).collect();
        let began = std::time::Instant::now();
        assert_eq!(Records::parse(&text).unwrap().xattrs.len(), 34_000);
        assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in
            ["5 a=b", "6 a=b\n3", "99 a=b\n", "7 =bcd\n", "x a=b\n", "0 \n", "2 a=b\n", "18446744073709551616 a=b\n", "13 uid=-1abc\n", "15 size=-1abc1\n"]
        {
            assert!(Records::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        for (key, value) in [("uid", "4294967295"), ("gid", "-1"), ("size", "9223372036854775808"), ("mtime", "1.x"), ("mtime", "+1"), ("size", "+1")] {
            assert!(Records::parse(&line(key, value)).is_err(), "{key}={value}");
        }
    }
}

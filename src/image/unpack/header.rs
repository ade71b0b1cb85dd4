//! One block of 512 bytes: a tar header as POSIX ustar, GNU, star and V7 write it.

use super::entry::{Entry, Kind};
use crate::sys::tree::Time;
use crate::{Error, Result};

pub(super) const BLOCK: usize = 512;
pub(super) type Block = [u8; BLOCK];

/// What a header announces.
pub(super) enum Meaning {
    Entry(Kind),
    /// An entry of GNU's old sparse format: a map follows.
    Sparse,
    /// GNU `L` and `K`: the next entry's long name, its long link target.
    LongName,
    LongLink,
    /// PAX records for the next entry.
    Records,
    /// Nothing that an unpacker uses: PAX records for all that follow (Go, and so every peer, ignores them), a volume label.
    Ignored,
}

/// The dialect, which says what bytes 345 to 500 are.
#[derive(PartialEq)]
enum Dialect {
    V7,
    Ustar,
    Star,
    Gnu,
}

fn dialect(block: &Block) -> Dialect {
    match (&block[257..263], &block[508..512]) {
        (b"ustar\0", b"tar\0") => Dialect::Star,
        (b"ustar\0", _) => Dialect::Ustar,
        (b"ustar ", _) => Dialect::Gnu,
        _ => Dialect::V7,
    }
}

/// Fill `entry` with what `block` says.
pub(super) fn read(block: &Block, entry: &mut Entry) -> Result<Meaning> {
    check_sum(block)?;
    let dialect = dialect(block);
    entry.clear();
    let prefix = match dialect {
        Dialect::Ustar => &block[345..500],
        Dialect::Star => &block[345..476],
        Dialect::V7 | Dialect::Gnu => &block[..0],
    };
    let prefix = text(prefix);
    if !prefix.is_empty() {
        entry.path.extend_from_slice(prefix);
        entry.path.push(b'/');
    }
    entry.path.extend_from_slice(text(&block[..100]));
    entry.link.extend_from_slice(text(&block[157..257]));
    entry.mode = (number(&block[100..108], "mode")? & 0o7777) as u32;
    entry.uid = id(number(&block[108..116], "uid")?, "uid")?;
    entry.gid = id(number(&block[116..124], "gid")?, "gid")?;
    entry.size = size(number(&block[124..136], "size")?, "size")?;
    entry.modified = Time { seconds: number(&block[136..148], "mtime")?, nanoseconds: 0 };
    let kind = match block[156] {
        0 if entry.path.ends_with(b"/") => Kind::Directory,
        // 7 is a contiguous file, which nobody makes and everybody takes for a file.
        0 | b'0' | b'7' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'S' => return Ok(Meaning::Sparse),
        b'L' => return Ok(Meaning::LongName),
        b'K' => return Ok(Meaning::LongLink),
        b'x' | b'X' => return Ok(Meaning::Records),
        b'g' | b'V' => return Ok(Meaning::Ignored),
        other => return Err(malformed(format!("an entry of the unknown type {:?}", char::from(other)))),
    };
    if matches!(kind, Kind::CharDevice | Kind::BlockDevice) && dialect != Dialect::V7 {
        entry.device = (device(number(&block[329..337], "devmajor")?)?, device(number(&block[337..345], "devminor")?)?);
    }
    // These have no content, whatever their size says: POSIX, and Go's reader.
    if !matches!(kind, Kind::File) && block[156] != 0 {
        entry.size = 0;
    }
    Ok(Meaning::Entry(kind))
}

/// The bytes up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]
}

/// Bytes 148 to 155 count as spaces. Some old writers summed up signed bytes.
fn check_sum(block: &Block) -> Result<()> {
    let said = number(&block[148..156], "checksum")?;
    // Of all bytes first: a sum without a condition is one that the processor does 16 bytes at a time.
    let unsigned = |bytes: &[u8]| i64::from(bytes.iter().map(|b| u32::from(*b)).sum::<u32>());
    let signed = |bytes: &[u8]| i64::from(bytes.iter().map(|b| i32::from(*b as i8)).sum::<i32>());
    let field = &block[148..156];
    let spaces = i64::from(b' ') * field.len() as i64;
    if said == unsigned(block) - unsigned(field) + spaces || said == signed(block) - signed(field) + spaces {
        Ok(())
    } else {
        Err(malformed("a header's checksum is wrong"))
    }
}

/// A numeric field: octal digits between spaces and NULs, or big-endian two's complement when the top bit is set.
pub(super) fn number(field: &[u8], what: &str) -> Result<i64> {
    let out_of_range = || malformed(format!("{what} is out of range"));
    if field[0] & 0x80 != 0 {
        // Bit 6 of the first byte is the sign.
        let negative = field[0] & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            let byte = if at == 0 && !negative { byte & 0x7f } else { *byte };
            value = value << 8 | i128::from(byte);
            i64::try_from(value).map_err(|_| out_of_range())?;
        }
        return i64::try_from(value).map_err(|_| out_of_range());
    }
    let digits = field.trim_ascii_start();
    let digits = text(digits).trim_ascii_end();
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8).and_then(|v| v.checked_add((digit - b'0').into())).ok_or_else(out_of_range),
        _ => Err(malformed(format!("{what} is no octal number: {:?}", String::from_utf8_lossy(field)))),
    })
}

/// An owner. -1 stands for "unchanged" in chown(2), and more than 32 bits would be cut to somebody else's.
pub(super) fn id(value: i64, what: &str) -> Result<u32> {
    u32::try_from(value).ok().filter(|id| *id != u32::MAX).ok_or_else(|| malformed(format!("{what} {value} is out of range")))
}

pub(super) fn size(value: i64, what: &str) -> Result<u64> {
    u64::try_from(value).map_err(|_| malformed(format!("{what} {value} is negative")))
}

fn device(value: i64) -> Result<u32> {
    u32::try_from(value).map_err(|_| malformed(format!("device number {value} is out of range")))
}

pub(super) fn malformed(cause: impl Into<String>) -> Error {
    Error::other("reading the layer's tar archive", "", cause.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let table: [(&[u8], i64); 8] = [
            (b"0000644\0", 0o644),
            (b"  644 \0\0", 0o644),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"77777777777\0", 0o77777777777),
            (b"\x80\0\0\0\0\0\0\x2a", 42),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", -1),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", i64::MAX),
            (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", i64::MIN),
        ];
        for (field, value) in table {
            assert_eq!(number(field, "n").unwrap(), value, "{field:?}");
        }
        for bad in [&b"0008\0\0\0\0"[..], b"-1\0\0\0\0\0\0", b"0x10\0\0\0\0", b"\x80\0\0\0\x80\0\0\0\0\0\0\0", b"\xa0\0\0\0\0\0\0\0\0\0\0\0"] {
            assert!(number(bad, "n").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_of_more_than_32_bits_are_refused() {
        assert_eq!(id(4_294_967_294, "uid").unwrap(), u32::MAX - 1);
        assert!(id(4_294_967_295, "uid").is_err() && id(4_294_967_296, "uid").is_err() && id(-1, "uid").is_err());
    }
}

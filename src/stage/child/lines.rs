//! A file's lines through a fixed buffer, and the mount table's. A line longer than the buffer is passed over.

use crate::stage::root::Buf;
use crate::sys::{Errno, fs};
use std::os::fd::BorrowedFd;

/// Call `f` for each line of the first `most` bytes, until it says true.
pub fn each_line(file: BorrowedFd, most: usize, mut f: impl FnMut(&[u8]) -> Result<bool, Errno>) -> Result<(), Errno> {
    let mut buf = [0u8; 4096];
    let (mut have, mut total) = (0, 0);
    while total < most {
        let n = fs::read(file, &mut buf[have..])?;
        total += n;
        have += n;
        let mut start = 0;
        while let Some(len) = buf[start..have].iter().position(|b| *b == b'\n') {
            if f(&buf[start..start + len])? {
                return Ok(());
            }
            start += len + 1;
        }
        if n == 0 {
            return f(&buf[start..have]).map(drop);
        }
        if start == 0 && have == buf.len() {
            start = have;
        }
        buf.copy_within(start..have, 0);
        have -= start;
    }
    Ok(())
}

/// Of a line of /proc/PID/mountinfo (proc(5)): the file system's type, and the mount point without its escapes.
pub fn mounted(line: &[u8]) -> Result<Option<(&[u8], Buf)>, Errno> {
    let mut fields = line.split(|b| *b == b' ');
    let Some(point) = fields.nth(4) else { return Ok(None) };
    let Some(kind) = fields.by_ref().skip_while(|field| *field != b"-").nth(1) else { return Ok(None) };
    let mut out = Buf::default();
    let mut rest = point;
    while let [first, after @ ..] = rest {
        match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] if *first == b'\\' => {
                out.push(&[((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0')])?;
                rest = tail;
            }
            _ => {
                out.push(&[*first])?;
                rest = after;
            }
        }
    }
    Ok(Some((kind, out)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_without_its_escapes() {
        let (kind, point) = mounted(b"44 27 0:40 / /a\\040b\\134/proc rw,relatime shared:1 - proc proc rw").unwrap().unwrap();
        assert_eq!((kind, point.as_bytes()), (&b"proc"[..], &b"/a b\\/proc"[..]));
        assert!(mounted(b"44 27 0:40 / /x rw").unwrap().is_none());
        assert!(mounted(b"").unwrap().is_none());
    }
}

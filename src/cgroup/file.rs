//! The files of a cgroup directory: read one, write one, and say in words what went wrong.

use crate::{Error, Result};
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// Write `value` into `dir/file` with a single write(2): the kernel takes each as one command.
pub fn write(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    write_once(&mut open_to_write(dir, file)?, value)
}

/// Never O_CREAT: a file that is missing means that the kernel lacks the feature.
pub fn open_to_write(dir: &Path, file: &str) -> io::Result<File> {
    retry(|| OpenOptions::new().write(true).open(dir.join(file)))
}

pub fn write_once(file: &mut File, value: &str) -> io::Result<()> {
    match retry(|| file.write(value.as_bytes()))? {
        n if n == value.len() => Ok(()),
        n => Err(io::Error::other(format!("the kernel took {n} of {} bytes", value.len()))),
    }
}

pub fn read(dir: &Path, file: &str) -> io::Result<String> {
    // A guess that holds nearly every file, so that one read gets the text and a second one the end; std would ask
    // for the size first, which the kernel does not know.
    let mut bytes = vec![0; 2048];
    let mut from = retry(|| File::open(dir.join(file)))?;
    let mut length = 0;
    loop {
        match retry(|| from.read(&mut bytes[length..]))? {
            0 => break,
            n => length += n,
        }
        if length == bytes.len() {
            bytes.resize(length * 2, 0);
        }
    }
    bytes.truncate(length);
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// A file that holds one number. `max` is the largest; a negative one reads as 0, for some of the kernel's counters
/// are shortly negative.
pub fn read_number(dir: &Path, file: &str) -> io::Result<u64> {
    let text = read(dir, file)?;
    parse_number(text.trim()).ok_or_else(|| io::Error::other(format!("{:?} is no number", text.trim())))
}

pub fn parse_number(text: &str) -> Option<u64> {
    match text.parse() {
        Ok(n) => Some(n),
        Err(_) if text == "max" => Some(u64::MAX),
        Err(_) => text.strip_prefix('-').filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).map(|_| 0),
    }
}

/// The number behind `key` in a file of `key number` lines; 0 if there is no such line.
pub fn read_keyed(dir: &Path, file: &str, key: &str) -> io::Result<u64> {
    let text = read(dir, file)?;
    Ok(keyed(&text).find(|(k, _)| *k == key).map_or(0, |(_, n)| n))
}

/// The `key number` lines of a text; others are passed over, as kernels add them.
pub fn keyed(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, parse_number(value.trim())?))
    })
}

/// None where the file (or the whole cgroup) is not there: ENODEV is what a read of a removed cgroup's file gives.
pub fn if_there<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

pub fn is_gone(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// "doing /sys/fs/cgroup/…/file: the kernel's answer".
pub fn failure(e: &io::Error, doing: &str, dir: &Path, file: &str) -> Error {
    Error::io(e, doing, dir.join(file).display().to_string())
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => return other,
        }
    }
}

/// The knobs of one controller in one cgroup, and the words for what fails there.
pub struct Knobs<'a> {
    pub controller: &'static str,
    /// None: there is no such directory.
    pub dir: Option<&'a Path>,
    /// There is none because we may not make one, rather than for want of a hierarchy.
    pub rootless: bool,
}

impl Knobs<'_> {
    /// Write `value` for the config's `field` (`cpu/quota`, below /linux/resources).
    pub fn set(&self, field: &str, file: &str, value: impl Display) -> Result<()> {
        let value = value.to_string();
        self.try_set(field, file, &value)?.map_err(|e| self.failure(&e, field, file, &value))
    }

    /// The same, with the kernel's answer for the caller to judge; the outer error is the controller's absence.
    pub fn try_set(&self, field: &str, file: &str, value: &str) -> Result<io::Result<()>> {
        Ok(write(self.require(field)?, file, value))
    }

    /// The directory, or what to say when there is none.
    pub fn require(&self, field: &str) -> Result<&Path> {
        let controller = self.controller;
        self.dir.ok_or_else(|| match self.rootless {
            true => Error::other(format!("cannot set {controller} limit"), "", "container could not join or create cgroup")
                .hint(format!("/linux/resources/{field} asks for it; give the user a cgroup, or leave the limit out")),
            false => Error::unsupported("setting", format!("/linux/resources/{field}"), format!("the {controller} cgroup controller, which is not mounted")),
        })
    }

    /// A write that failed: with the config's field, the file, the value, the answer and what may help.
    pub fn failure(&self, e: &io::Error, field: &str, file: &str, value: &str) -> Error {
        let dir = self.dir.unwrap_or(Path::new(""));
        let subject = format!("/linux/resources/{field}: writing {value:?} to {}", dir.join(file).display());
        let error = Error::io(e, "setting", subject);
        match e.raw_os_error() {
            Some(libc::ENOENT) => error.hint(format!("this kernel has no {file}, or the {} controller is not enabled in this cgroup", self.controller)),
            Some(libc::EINVAL | libc::ERANGE) => error.hint("the kernel refuses this value, or a parent cgroup's limit is lower"),
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => error.hint("the cgroup has to be writable for the runtime's user"),
            Some(libc::ENODEV) => error.hint("there is no such device"),
            _ => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_the_kernel_prints_them() {
        assert_eq!(parse_number("18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_number("max"), Some(u64::MAX));
        assert_eq!(parse_number("-12345678901234567890123"), Some(0));
        assert_eq!(parse_number("-"), None);
        assert_eq!(parse_number("x"), None);
    }

    #[test]
    fn keyed_lines() {
        let lines: Vec<_> = keyed("low 0\noom_kill 3\nnonsense\nodd x\n").collect();
        assert_eq!(lines, [("low", 0), ("oom_kill", 3)]);
    }

    #[test]
    fn a_missing_controller_names_the_field() {
        let knobs = Knobs { controller: "hugetlb", dir: None, rootless: false };
        let text = knobs.set("hugepageLimits/0", "x", 1).unwrap_err().to_string();
        assert!(text.contains("/linux/resources/hugepageLimits/0") && text.contains("hugetlb"), "{text}");
        let rootless = Knobs { controller: "pids", dir: None, rootless: true };
        let text = rootless.set("pids/limit", "x", 1).unwrap_err().to_string();
        assert!(text.starts_with("cannot set pids limit: container could not join or create cgroup"), "{text}");
    }

    #[test]
    fn a_missing_file_is_named_and_not_made() {
        let dir = std::env::temp_dir();
        let knobs = Knobs { controller: "cpu", dir: Some(&dir), rootless: false };
        let text = knobs.set("cpu/realtimeRuntime", "cpu.rt_runtime_us", 5).unwrap_err().to_string();
        assert!(text.contains("cpu.rt_runtime_us") && text.contains("/linux/resources/cpu/realtimeRuntime"), "{text}");
        assert!(!dir.join("cpu.rt_runtime_us").exists());
    }
}

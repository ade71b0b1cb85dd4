//! A file in the making, which gets its name when it is whole.

use crate::image::store::failed;
use crate::sys::{Errno, tree};
use crate::{Error, Result};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Until [`Draft::commit`] it has no name (O_TMPFILE), so that nothing is left of it however we end. On a file system
/// without such files it has one of its own beside its place.
pub struct Draft<'a> {
    pub file: File,
    target: &'a Path,
    /// Beside the target.
    hidden: PathBuf,
    /// Its name has to be removed.
    named: bool,
}

impl<'a> Draft<'a> {
    pub fn new(target: &'a Path) -> Result<Draft<'a>> {
        let Some(name) = target.file_name() else { return Err(Error::usage(format!("{} is no name for a file", target.display()))) };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".part{}", std::process::id()));
        let hidden = target.with_file_name(hidden);
        let dir = directory(target);
        let (file, named) = match OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(dir) {
            Ok(file) => (file, false),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)) => {
                (OpenOptions::new().read(true).write(true).create_new(true).open(&hidden).map_err(failed("making", &hidden))?, true)
            }
            Err(e) => return Err(failed("making", target)(e)),
        };
        Ok(Draft { file, target, hidden, named })
    }

    /// Give it its name, in place of what has that now.
    pub fn commit(mut self) -> Result<()> {
        if !self.named {
            match self.link(self.target) {
                Ok(()) => return Ok(()),
                // linkat(2) replaces nothing, rename(2) does.
                Err(Errno(libc::EEXIST)) => self.link(&self.hidden).map_err(|e| e.error("linkat", "writing", self.hidden.display().to_string()))?,
                Err(e) => return Err(e.error("linkat", "writing", self.target.display().to_string())),
            }
            self.named = true;
        }
        fs::rename(&self.hidden, self.target).map_err(failed("writing", self.target))?;
        self.named = false;
        Ok(())
    }

    fn link(&self, path: &Path) -> Result<(), Errno> {
        let dir = File::open(directory(path)).map_err(|e| Errno(e.raw_os_error().unwrap_or(libc::EIO)))?;
        let c = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno(libc::EINVAL));
        let unnamed = c(format!("/proc/self/fd/{}", self.file.as_raw_fd()).as_bytes())?;
        tree::link_followed(&unnamed, dir.as_fd(), &c(path.file_name().unwrap_or_default().as_encoded_bytes())?)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.named {
            let _ = fs::remove_file(&self.hidden);
        }
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn whole_or_not_at_all() {
        let dir = std::env::temp_dir().join(format!("dhow-draft-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let target = dir.join("file");
        for text in ["first", "second"] {
            let draft = Draft::new(&target).unwrap();
            (&draft.file).write_all(text.as_bytes()).unwrap();
            assert_eq!(fs::read(&target).is_ok(), text == "second");
            draft.commit().unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), text);
        }
        drop(Draft::new(&target).unwrap());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }
}

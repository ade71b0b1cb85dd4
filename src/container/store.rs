//! The directory of all containers: one directory each, made by `mkdir` (which is the claim on the id) and locked by
//! flock(2) while a verb changes it. A container that cannot be finished is undone by [`Reservation`]'s drop.

use super::record::{self, Record};
use super::{Context, Status};
use crate::cgroup::Cgroup;
use crate::spec::Spec;
use crate::sys::fs::{self, CWD, Lock};
use crate::sys::process;
use crate::{Error, Kind, Result, log, stage};
use std::cell::OnceCell;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// An id as runc accepts it: letters, digits, `_ + - .`; no path.
pub fn check_id(id: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id == "." || id == ".." || !id.chars().all(allowed) {
        return Err(Error::new(Kind::Usage, "invalid container ID format:", format!("{id:?}"), "allowed are letters, digits and _ + - ."));
    }
    Ok(())
}

/// A container that exists.
pub struct Entry {
    pub dir: PathBuf,
    pub record: Record,
    spec: OnceCell<Spec>,
}

impl Context {
    fn directory(&self, id: &str) -> Result<PathBuf> {
        check_id(id)?;
        Ok(self.root.join(id))
    }

    /// The container `id`.
    pub fn open(&self, id: &str) -> Result<Entry> {
        let dir = self.directory(id)?;
        if !dir.is_dir() {
            return Err(Error::new(Kind::NotFound, "container does not exist:", id, format!("there is no {}", dir.display())));
        }
        match Record::load(&dir) {
            Ok(record) => Ok(Entry { dir, record, spec: OnceCell::new() }),
            // Claimed, but nothing else was done yet.
            Err(e) if e.errno() == Some(libc::ENOENT) => Ok(Entry { dir, record: Record { id: id.into(), ..Record::default() }, spec: OnceCell::new() }),
            Err(e) => Err(e.hint("`dhow delete --force` removes what is left of a damaged container")),
        }
    }

    /// All ids, sorted.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| Error::io(&e, "listing", self.root.display().to_string()))?,
        };
        let mut ids: Vec<String> = entries
            .filter_map(|e| e.ok())
            .filter(|e| e.path().is_dir())
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.') && check_id(name).is_ok())
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// Claim `id`: from here on it exists as `creating`, locked by us.
    pub fn reserve(&self, id: &str) -> Result<Reservation> {
        let dir = self.directory(id)?;
        let failed = |e: std::io::Error, path: &Path| Error::io(&e, "making the container's state directory", path.display().to_string());
        // The common case first: the root is there already.
        let made = match make_dir(&dir, 0o711) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root).map_err(|e| failed(e, &self.root))?;
                make_dir(&dir, 0o711)
            }
            other => other,
        };
        made.map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => Error::new(Kind::Exists, "container with given ID already exists:", id, ""),
            _ => failed(e, &dir),
        })?;
        let mut reservation = Reservation { dir, lock: None, cgroup: None, rdt: None, early: Vec::new(), armed: true };
        reservation.lock = Some(lock(&reservation.dir, libc::O_DIRECTORY, Lock::Exclusive)?);
        Ok(reservation)
    }
}

fn make_dir(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::DirBuilder::new().mode(mode).create(path)
}

/// flock(2) on `path`. The maker of a container holds its directory for as long as it is `creating`; the verbs that
/// change a container exclude each other by the copy of its configuration, which is never replaced.
fn lock(path: &Path, flags: i32, how: Lock) -> Result<OwnedFd> {
    let subject = || path.display().to_string();
    let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|e| Error::other("locking", subject(), e))?;
    let fd = fs::openat(CWD, &name, libc::O_RDONLY | flags, 0).map_err(|e| match e.0 {
        libc::ENOENT => Error::new(Kind::NotFound, "container does not exist:", subject(), ""),
        _ => e.error("open", "locking", subject()),
    })?;
    fs::flock(fd.as_fd(), how).map_err(|e| e.error("flock", "locking", subject()))?;
    Ok(fd)
}

/// What must be undone when a container can't be finished.
pub struct Reservation {
    pub dir: PathBuf,
    lock: Option<OwnedFd>,
    cgroup: Option<Cgroup>,
    rdt: Option<PathBuf>,
    early: Vec<PathBuf>,
    armed: bool,
}

impl Reservation {
    /// From now on the cgroup is undone too.
    pub fn owns_cgroup(&mut self, cgroup: &Cgroup) {
        self.cgroup = Some(cgroup.clone());
    }

    /// A directory that was made ahead of its cgroup.
    pub fn owns_directory(&mut self, dir: PathBuf) {
        self.early.push(dir);
    }

    pub fn owns_rdt(&mut self, group: PathBuf) {
        self.rdt = Some(group);
    }

    /// The lock's descriptor, which the child must not keep: flock(2) holds for as long as any copy of it is open.
    pub fn lock_fd(&self) -> Option<BorrowedFd<'_>> {
        self.lock.as_ref().map(|l| l.as_fd())
    }

    /// The container stands; nothing is undone any more.
    pub fn commit(mut self) -> PathBuf {
        self.armed = false;
        std::mem::take(&mut self.dir)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        if let Some(cgroup) = &self.cgroup
            && let Err(e) = cgroup.destroy()
        {
            log::warn(&format!("undoing a failed create: {e}"));
        }
        for dir in self.early.iter().rev() {
            // Gone with the cgroup, or still empty.
            let _ = std::fs::remove_dir(dir);
        }
        if let Some(group) = &self.rdt {
            let _ = std::fs::remove_dir(group);
        }
        if let Err(e) = std::fs::remove_dir_all(&self.dir) {
            log::warn(&format!("undoing a failed create: removing {}: {e}", self.dir.display()));
        }
    }
}

impl Entry {
    /// Where the container is in its life (runtime.md § State), told by what is there now, not by what was written.
    pub fn status(&self) -> Result<Status> {
        let record = &self.record;
        let being_made = lock(&self.dir, libc::O_DIRECTORY, Lock::Probe).is_err_and(|e| e.errno() == Some(libc::EWOULDBLOCK));
        if being_made {
            return Ok(Status::Creating);
        }
        if !self.is_alive() {
            return Ok(Status::Stopped);
        }
        if self.dir.join(stage::barrier::NAME).exists() {
            return Ok(Status::Created);
        }
        if record.cgroup().is_frozen()? { Ok(Status::Paused) } else { Ok(Status::Running) }
    }

    /// The first process lives and is the one that we started.
    pub fn is_alive(&self) -> bool {
        match record::process_stat(self.record.init_process_pid) {
            Some((state, start)) => start == self.record.init_process_start && state != b'Z' && state != b'X',
            None => false,
        }
    }

    /// The pidfd of the first process, made sure to be the one that we started.
    pub fn pidfd(&self) -> Result<OwnedFd> {
        let gone = || Error::new(Kind::WrongState, "container not running:", self.record.id.clone(), "");
        let pidfd = process::pidfd_open(self.record.init_process_pid).map_err(|_| gone())?;
        if self.is_alive() { Ok(pidfd) } else { Err(gone()) }
    }

    /// The config as it was at `create`.
    pub fn spec(&self) -> Result<&Spec> {
        match self.spec.get() {
            Some(spec) => Ok(spec),
            None => Spec::load(&self.dir).map(|spec| self.spec.get_or_init(|| spec)),
        }
    }

    /// The same from somebody who has it already.
    pub fn with_spec(self, spec: Spec) -> Entry {
        Entry { spec: spec.into(), ..self }
    }

    pub fn lock(&self) -> Result<OwnedFd> {
        let lock = lock(&self.dir.join(record::CONFIG), 0, Lock::Exclusive)?;
        // The one who held it may have removed the directory.
        let linked = fs::fstat(lock.as_fd()).is_ok_and(|s| s.st_nlink > 0);
        if linked { Ok(lock) } else { Err(Error::new(Kind::NotFound, "container does not exist:", self.record.id.clone(), "")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_can_not_be_paths() {
        for good in ["a", "web-1", "A_b+c.d", "0123", "..."] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "/a", "a b", "a\nb", "ä", "a\0"] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }
}

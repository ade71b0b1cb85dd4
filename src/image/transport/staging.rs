//! A store for the time being: for the blobs of an archive that is being made.

use crate::image::store::{Store, failed};
use crate::{Result, log};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const STAGED: &str = ".staged";

/// A directory in the user's store, gone when dropped. It is locked as long as we live; what a killed process left, the
/// next one removes, or `prune`.
pub struct Staging {
    dir: PathBuf,
    _lock: File,
}

impl Staging {
    pub fn begin(store: &Store) -> Result<Staging> {
        let parent = store.root().join(STAGED);
        fs::create_dir_all(&parent).map_err(failed("making", &parent))?;
        // Until ours is locked nobody may take it for a left one.
        let _all = locked(&parent)?;
        clear(&parent);
        let dir = parent.join(std::process::id().to_string());
        fs::create_dir(&dir).map_err(failed("making", &dir))?;
        Ok(Staging { _lock: locked(&dir)?, dir })
    }

    pub fn store(&self) -> Result<Store> {
        Store::open(&self.dir.join("blobs-for-archive"))
    }

    /// Away with what killed processes left.
    pub fn remove_stale(store: &Store) {
        let parent = store.root().join(STAGED);
        if let Ok(_all) = locked(&parent) {
            clear(&parent);
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn locked(dir: &Path) -> Result<File> {
    let file = File::open(dir).map_err(failed("opening", dir))?;
    file.lock().map_err(failed("locking", dir))?;
    Ok(file)
}

fn clear(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if File::open(entry.path()).is_ok_and(|dir| dir.try_lock().is_ok()) {
            log::debug(&format!("removing {}, which a process left that was killed", entry.path().display()));
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

//! Layers in the making, for builds: a step writes into a directory of its own over those below it, and the directory
//! becomes an unpacked layer as it is.

use super::overlay::{self, Mounted};
use super::{FILES, INFO, Info, Layers, STAGING, Staging, boot_id, name};
use crate::image::digest::Digest;
use crate::image::ids;
use crate::image::pipeline::{Layer, Open, Options};
use crate::image::store::failed;
use crate::{Error, Result};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// A directory of a build, locked, and removed with all in it when dropped. What a killed build left, the next removes.
pub struct Workshop {
    layers: Layers,
    staging: Staging,
    /// Nothing is pruned meanwhile.
    _hold: File,
    count: AtomicU32,
    /// Held while layers are mounted by their names, and while one gets another name.
    naming: Mutex<()>,
}

/// The files of an image or a step: unpacked layers, the highest first.
#[derive(Debug, Clone, Default)]
pub struct Files {
    slots: Vec<Arc<Mutex<String>>>,
    /// The directory whose owner and mode the root is to have, if it isn't the highest.
    attributes: Option<PathBuf>,
}

/// A step's own directory.
pub struct Draft {
    slot: Arc<Mutex<String>>,
    path: PathBuf,
}

/// A place where files are mounted; unmounted when dropped.
pub struct View {
    _mounted: Mounted,
    pub path: PathBuf,
}

impl Layers {
    pub fn workshop(self) -> Result<Workshop> {
        let hold = self.lock_shared()?;
        let staging = self.stage()?;
        let out = Workshop { layers: self, staging, _hold: hold, count: AtomicU32::new(0), naming: Mutex::new(()) };
        // Overlays without an upper directory need two below; and where a mount needs a place, it is in the lowest.
        out.make_dir("empty")?;
        Ok(out)
    }
}

impl Workshop {
    /// A directory for whatever a build needs; it goes with the workshop.
    pub fn dir(&self) -> &Path {
        &self.staging.path
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.naming.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn next(&self, kind: &str) -> String {
        format!("{kind}{}", self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// Below the staging directory, with `fs` in it.
    fn make_dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.staging.path.join(name);
        let files = path.join(FILES);
        fs::create_dir_all(&files).map_err(failed("making", &files))?;
        fs::set_permissions(&files, fs::Permissions::from_mode(0o755)).map_err(failed("making", &files))?;
        Ok(path)
    }

    /// Its name below the layers' directory.
    fn staged(&self, name: &str) -> String {
        let staging = self.staging.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_else(|| STAGING.into());
        format!("{staging}/{name}")
    }

    /// A directory to write to, with nothing in it.
    pub fn new_dir(&self, kind: &str) -> Result<PathBuf> {
        let path = self.staging.path.join(self.next(kind));
        fs::create_dir(&path).map_err(failed("making", &path))?;
        Ok(path)
    }

    /// The files of `layers`, unpacked where they aren't.
    pub fn provide(&self, layers: &[Layer], open: &Open) -> Result<Files> {
        if layers.is_empty() {
            return Ok(Files { slots: Vec::new(), attributes: None });
        }
        let (stack, _) = self.layers.provide(layers, open, &Options { owners: ids::owners(), ..Options::default() })?;
        let slots = stack.names().iter().map(|name| Arc::new(Mutex::new(name.clone()))).collect();
        Ok(Files { slots, attributes: stack.attributes.clone() })
    }

    /// A directory for what a step writes over `files`.
    pub fn draft(&self, files: &Files) -> Result<Draft> {
        let name = self.next("step");
        let path = self.make_dir(&name)?;
        let work = path.join("work");
        fs::create_dir(&work).map_err(failed("making", &work))?;
        let _naming = self.lock();
        let top = files.slots.first().map(|top| self.layers.root.join(&*lock(top)).join(FILES));
        if let Some(from) = files.attributes.clone().or(top) {
            overlay::copy_attributes(&from, &path.join(FILES))?;
        }
        Ok(Draft { slot: Arc::new(Mutex::new(self.staged(&name))), path })
    }

    /// `files`, to be written to by way of `draft`; `stubs` (from [`Workshop::stubs`]) are below all.
    pub fn mount(&self, files: &Files, draft: &Draft, stubs: Option<&str>) -> Result<View> {
        let merged = self.new_dir("merged")?;
        let _naming = self.lock();
        let names = self.names(files, stubs);
        let mounted = Mounted::new(&self.layers.root, &names, &draft.files(), &draft.path.join("work"), &merged)?;
        Ok(View { _mounted: mounted.unmount_on_drop(), path: merged })
    }

    /// `files`, to be read.
    pub fn view(&self, files: &Files) -> Result<View> {
        let merged = self.new_dir("view")?;
        if files.slots.is_empty() {
            self.make_dir("nothing")?;
        }
        let _naming = self.lock();
        let mut names = self.names(files, None);
        if files.slots.is_empty() {
            names.push(self.staged("nothing"));
        }
        let mounted = Mounted::read_only(&self.layers.root, &names, &merged)?;
        Ok(View { _mounted: mounted.unmount_on_drop(), path: merged })
    }

    fn names(&self, files: &Files, stubs: Option<&str>) -> Vec<String> {
        let lowest = self.staged(stubs.unwrap_or("empty"));
        files.slots.iter().map(|slot| lock(slot).clone()).chain([lowest]).collect()
    }

    /// A lowest layer with these places to mount on: (path, it is a directory).
    pub fn stubs(&self, places: &[(String, bool)]) -> Result<String> {
        let name = self.next("stubs");
        let files = self.make_dir(&name)?.join(FILES);
        for (place, is_dir) in places {
            let place = files.join(place.trim_start_matches('/'));
            let dir = if *is_dir { Some(place.as_path()) } else { place.parent() };
            if let Some(dir) = dir {
                // One may be below another that is a file; then the mount itself will tell.
                let _ = fs::create_dir_all(dir);
            }
            if !is_dir && !place.exists() {
                let _ = File::create(&place);
            }
        }
        Ok(name)
    }

    /// The draft is whole and known by `chain`: it becomes one of the shared layers.
    pub fn adopt(&self, draft: &Draft, chain: &Digest, entries: u64, bytes: u64) -> Result<()> {
        let info = Info { chain: chain.clone(), entries, bytes, root: true, opaque: false, boot: boot_id() };
        let text = serde_json::to_vec(&info).map_err(|e| Error::other("writing", INFO, e))?;
        fs::write(draft.path.join(INFO), text).map_err(failed("writing", &draft.path))?;
        let name = name(chain, &ids::owners());
        let target = self.layers.root.join(&name);
        let work = draft.path.join("work");
        super::remove_tree(&work)?;
        let _naming = self.lock();
        match fs::rename(&draft.path, &target) {
            Ok(()) => *lock(&draft.slot) = name,
            // It is there already: the draft goes on to serve this build.
            Err(_) if target.exists() => {}
            Err(e) => return Err(failed("writing", &target)(e)),
        }
        Ok(())
    }
}

impl Files {
    /// With what `draft` has on top.
    pub fn with(&self, draft: &Draft) -> Files {
        Files { slots: std::iter::once(draft.slot.clone()).chain(self.slots.iter().cloned()).collect(), attributes: None }
    }
}

impl Draft {
    /// What was written, with overlayfs's marks for what is hidden.
    pub fn files(&self) -> PathBuf {
        self.path.join(FILES)
    }
}

fn lock(slot: &Mutex<String>) -> MutexGuard<'_, String> {
    slot.lock().unwrap_or_else(|e| e.into_inner())
}

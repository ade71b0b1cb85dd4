//! Layers unpacked once and shared: each is a directory, and a bundle's root is an overlay mount of them.
//!
//!     STORE/layers/NAME/fs/        a layer's files, with overlayfs's marks for what it hides
//!                      info.json   what it is
//!                 /.staging-*      what a process is unpacking, locked by it
//!                 /.bundles/*.json which bundle is made of which layers
//!
//! NAME is from the chain id (image-spec, config.md), which says what is below a layer too: it may have been put down
//! over it. A layer appears by `rename`, so what is there is whole; what a killed process left is removed by the next.
//! It isn't synced, which would cost more than unpacking; so a layer from before the last boot counts only if it was
//! synced when it was used again.
//!
//! The directory is locked (flock(2)), shared while layers are made or mounted, exclusively while some are removed.

pub mod fuse;
mod overlay;
mod prune;
mod workshop;

pub use overlay::{Mounted, Stack};
pub use prune::PrunedLayers;
pub(super) use prune::{OVERLAY, forget_use};
pub(super) use workshop::{Draft, Files, View, Workshop};

use super::Store;
use super::digest::Digest;
use super::ids;
use super::pipeline::{self, Layer, Open, Options, Summary, Task};
use super::store::failed;
use super::unpack::worker::Done;
use super::unpack::{self, Owners, Way};
use crate::sys::{self, Errno};
use crate::{Error, Result, log};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

/// The calls that fail, as errors name them, where no layer can be put down by itself or none be mounted.
pub(super) const MAKES_MARKS: &str = "mknodat";
pub(super) const MOUNTS: &str = "mount";
const STAGING: &str = ".staging-";
const BUNDLES: &str = ".bundles";
const FILES: &str = "fs";
const INFO: &str = "info.json";
const SYNCED: &str = "synced";
/// Hex digits of a name: 127 of them must fit into mount(2)'s page of options.
const NAME_LENGTH: usize = 24;

/// The unpacked layers of a store.
#[derive(Debug)]
pub struct Layers {
    root: PathBuf,
}

/// What `info.json` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Info {
    chain: Digest,
    entries: u64,
    bytes: u64,
    /// It has an entry for the root, whose attributes the container's root is to have.
    root: bool,
    /// It hides all that is below.
    opaque: bool,
    /// /proc/sys/kernel/random/boot_id when it was made.
    boot: String,
}

/// Chain ids: of each layer, a digest of it and all below.
pub fn chain_ids(layers: &[Layer]) -> Vec<Digest> {
    let mut out: Vec<Digest> = Vec::with_capacity(layers.len());
    for layer in layers {
        let next = out.last().map_or_else(|| layer.diff_id.clone(), |below| Digest::of(format!("{below} {}", layer.diff_id).as_bytes()));
        out.push(next);
    }
    out
}

/// With other owners it is another directory; and so it is in a user namespace, where ids are others' outside and
/// overlayfs has other marks.
fn name(chain: &Digest, owners: &Owners) -> String {
    let ids = ids::ours();
    let digest = match owners {
        Owners::AsSaid if ids.are_all() => chain.clone(),
        other if ids.are_all() => Digest::of(format!("{chain} {other:?}").as_bytes()),
        other => Digest::of(format!("{chain} {other:?} {:?} {:?}", ids.uids, ids.gids).as_bytes()),
    };
    digest.hex()[..NAME_LENGTH].to_string()
}

/// How a layer is put down that is to be over others.
fn own_way() -> Way {
    if ids::ours().are_all() { Way::Layer } else { Way::UserLayer }
}

/// A directory that a process works in, removed when dropped. Its lock says that the process lives.
struct Staging {
    path: PathBuf,
    dir: File,
}

impl Layers {
    /// Whether `store` has any.
    pub fn are_in(store: &Store) -> bool {
        store.root().join("layers").is_dir()
    }

    /// Whether `bundle` is made of some.
    pub fn are_under(bundle: &Path) -> bool {
        prune::Use::of(bundle).is_ok_and(|noted| noted.is_some())
    }

    /// Those of `store`. Only root, be it of a user namespace, can mount them.
    pub fn open(store: &Store) -> Result<Layers> {
        let root = store.root().join("layers");
        // There are setuid programs below, which are nobody's to call.
        fs::DirBuilder::new().mode(0o700).recursive(true).create(root.join(BUNDLES)).map_err(failed("making", &root))?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).map_err(failed("making", &root))?;
        Ok(Layers { root })
    }

    /// Those that `bundle` is made of; None if it is no overlay.
    ///
    /// # Errors
    /// One of them is no longer there.
    pub fn of_bundle(bundle: &Path) -> Result<Option<Stack>> {
        let Some(noted) = prune::Use::of(bundle)? else { return Ok(None) };
        let layers = Layers { root: noted.store };
        let hold = layers.lock_shared()?;
        if let Some(gone) = noted.layers.iter().find(|name| layers.info(name).is_err()) {
            let cause = format!("its layer {gone} is no longer in {}", layers.root.display());
            return Err(Error::other("mounting the bundle", bundle.display().to_string(), cause).hint("unpack the image again"));
        }
        let attributes = None;
        Ok(Some(Stack { root: layers.root, names: noted.layers, attributes, _hold: hold }))
    }

    fn lock_shared(&self) -> Result<File> {
        let dir = File::open(&self.root).map_err(failed("opening", &self.root))?;
        dir.lock_shared().map_err(failed("locking", &self.root))?;
        Ok(dir)
    }

    /// All of `layers` unpacked: those that aren't yet, as many at once as there are processors.
    pub fn provide(&self, layers: &[Layer], open: &Open, options: &Options) -> Result<(Stack, Summary)> {
        if layers.is_empty() {
            return Err(Error::other("unpacking", "", "the image has no layers").hint("unpack it without --overlay"));
        }
        let hold = self.lock_shared()?;
        let chains = chain_ids(layers);
        let names: Vec<String> = chains.iter().map(|chain| name(chain, &options.owners)).collect();
        let missing: Vec<usize> = (0..layers.len()).filter(|at| !self.is_there(&names[*at])).collect();
        let mut summary = Summary::default();
        if !missing.is_empty() {
            let staging = self.stage()?;
            staging.check_marks()?;
            let job = Provide { owner: self, layers, chains: &chains, names: &names, open, options, staging: &staging };
            job.run(&missing, &mut summary)?;
            ids::tell_of_others(&summary);
        }
        let mut stack = Stack { root: self.root.clone(), names: Vec::new(), attributes: None, _hold: hold };
        for name in names.iter().rev() {
            let info = self.info(name)?;
            if stack.attributes.is_none() && info.root {
                stack.attributes = Some(self.root.join(name).join(FILES));
            }
            stack.names.push(name.clone());
            if info.opaque {
                break;
            }
        }
        Ok((stack, summary))
    }

    fn info(&self, name: &str) -> Result<Info> {
        let path = self.root.join(name).join(INFO);
        let text = fs::read(&path).map_err(failed("reading", &path))?;
        serde_json::from_slice(&text).map_err(|e| Error::other("reading", path.display().to_string(), e))
    }

    /// It is there, and what was written of it can't have been lost.
    fn is_there(&self, name: &str) -> bool {
        let Ok(info) = self.info(name) else { return false };
        let dir = self.root.join(name);
        let is_synced = dir.join(SYNCED).exists();
        if info.boot != boot_id() {
            return is_synced;
        }
        // By now the kernel has written it back, so this is cheap.
        let old = |m: fs::Metadata| m.modified().is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > Duration::from_secs(60)));
        if !is_synced && fs::metadata(dir.join(INFO)).is_ok_and(old) {
            let synced = File::open(&dir).is_ok_and(|dir| sys::tree::sync_filesystem(dir.as_fd()).is_ok());
            if synced {
                let _ = File::create(dir.join(SYNCED)).and_then(|marker| marker.sync_all());
            }
        }
        true
    }

    fn stage(&self) -> Result<Staging> {
        let _one_at_a_time = self.lock_staging()?;
        self.remove_stale()?;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path = self.root.join(format!("{STAGING}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).map_err(failed("making", &path))?;
        let dir = File::open(&path).map_err(failed("opening", &path))?;
        dir.lock().map_err(failed("locking", &path))?;
        Ok(Staging { path, dir })
    }

    /// Remove what processes left that were killed.
    pub(super) fn remove_left(&self) -> Result<()> {
        let _one_at_a_time = self.lock_staging()?;
        self.remove_stale()
    }

    /// Until a new staging area is locked nobody may take it for a left one.
    fn lock_staging(&self) -> Result<File> {
        let bundles = self.root.join(BUNDLES);
        File::open(&bundles).and_then(|dir| dir.lock().map(|()| dir)).map_err(failed("locking", &bundles))
    }

    /// What processes left that were killed.
    fn remove_stale(&self) -> Result<()> {
        for path in list(&self.root)? {
            let staged = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(STAGING));
            if let Some(dir) = staged.then(|| File::open(&path).ok()).flatten()
                && dir.try_lock().is_ok()
            {
                log::debug(&format!("removing {}, which a process left that was killed", path.display()));
                drop(Staging { path, dir });
            }
        }
        Ok(())
    }
}

impl Staging {
    /// In a user namespace it depends on kernel and file system whether overlayfs's marks can be made.
    fn check_marks(&self) -> Result<()> {
        if ids::ours().are_all() {
            return Ok(());
        }
        let hint = "that takes Linux 5.8 and a file system with user.* attributes that is no overlay itself: --store DIR";
        let told = |call: &'static str| move |e: Errno| e.error(call, "making whiteouts in", self.path.display().to_string()).hint(hint);
        let dir = self.dir.as_fd();
        sys::fs::mknodat(dir, c"whiteout", libc::S_IFCHR, 0, 0).map_err(told(MAKES_MARKS))?;
        sys::fs::set_xattr(dir, unpack::opaque_key(), b"n").map_err(told(MAKES_MARKS))?;
        sys::fs::unlinkat(dir, c"whiteout", 0).map_err(told("unlinkat"))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // A killed process may have left its mount.
        if let Ok(merged) = CString::new(self.path.join(overlay::MERGED).as_os_str().as_encoded_bytes()) {
            let _ = sys::mount::unmount(&merged, libc::MNT_DETACH);
        }
        if let Err(e) = remove_tree(&self.path) {
            log::warn(&format!("{e}"));
        }
    }
}

/// Unpack what is missing of an image.
struct Provide<'a> {
    owner: &'a Layers,
    layers: &'a [Layer],
    chains: &'a [Digest],
    names: &'a [String],
    open: &'a Open<'a>,
    options: &'a Options,
    staging: &'a Staging,
}

impl Provide<'_> {
    fn run(&self, missing: &[usize], summary: &mut Summary) -> Result<()> {
        let directories: Vec<File> = missing.iter().map(|at| self.make(*at)).collect::<Result<_>>()?;
        let way = |at: usize| if at == 0 { Way::Base } else { own_way() };
        let tasks: Vec<Task> =
            missing.iter().zip(&directories).map(|(at, dir)| Task { layer: &self.layers[*at], way: way(*at), directory: dir.as_fd() }).collect();
        let pairs = std::thread::available_parallelism().map_or(1, usize::from).min(4).min(tasks.len());
        let mut later = Vec::new();
        pipeline::run(&tasks, pairs, self.open, self.staging.dir.as_fd(), self.options, |number, done| {
            if let Some(why) = &done.applied.needs_below {
                log::debug(&format!("layer {} is put down over those below: {why}", self.layers[missing[number]].blob.digest));
                later.push(missing[number]);
                return Ok(());
            }
            summary.add(&done);
            self.keep(missing[number], &done)
        })?;
        // From the lowest, so that what is below is there.
        later.sort_unstable();
        later.into_iter().try_for_each(|at| self.over_those_below(at, summary))
    }

    fn path(&self, at: usize) -> PathBuf {
        self.staging.path.join(&self.names[at])
    }

    fn make(&self, at: usize) -> Result<File> {
        let files = self.path(at).join(FILES);
        fs::create_dir_all(&files).map_err(failed("making", &files))?;
        fs::set_permissions(&files, fs::Permissions::from_mode(0o755)).map_err(failed("making", &files))?;
        if let Some((uid, gid)) = self.options.owners.translate(0, 0)? {
            chown(&files, Some(uid), Some(gid)).map_err(failed("making", &files))?;
        }
        File::open(&files).map_err(failed("opening", &files))
    }

    /// The layer is whole: give it its name.
    fn keep(&self, at: usize, done: &Done) -> Result<()> {
        let path = self.path(at);
        let files = File::open(path.join(FILES)).map_err(failed("opening", &path))?;
        let opaque = sys::tree::get_xattr(files.as_fd(), unpack::opaque_key(), &mut [0; 8]).is_ok_and(|value| value == b"y");
        let info = Info { chain: self.chains[at].clone(), entries: done.applied.entries, bytes: done.bytes, root: done.applied.root, opaque, boot: boot_id() };
        let text = serde_json::to_vec(&info).map_err(|e| Error::other("writing", INFO, e))?;
        fs::write(path.join(INFO), text).map_err(failed("writing", &path))?;
        let target = self.owner.root.join(&self.names[at]);
        for _ in 0..2 {
            match fs::rename(&path, &target) {
                Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                    // Another process was quicker; or it is one that isn't to be trusted after a crash.
                    if self.owner.is_there(&self.names[at]) {
                        return Ok(());
                    }
                    let aside = self.staging.path.join(format!("old-{}", self.names[at]));
                    fs::rename(&target, &aside).map_err(failed("replacing", &target))?;
                }
                other => return other.map_err(failed("writing", &target)),
            }
        }
        Err(Error::other("writing", target.display().to_string(), "other processes are writing it too"))
    }

    /// The layer needs what is below it: have overlayfs show that, and write what changes.
    fn over_those_below(&self, at: usize, summary: &mut Summary) -> Result<()> {
        let path = self.path(at);
        remove_tree(&path)?;
        let files = self.make(at)?;
        let below: Vec<String> = self.names[..at].iter().rev().cloned().collect();
        let lower = self.owner.lower(&below)?;
        let (work, merged) = (self.staging.path.join("work"), self.staging.path.join(overlay::MERGED));
        for dir in [&work, &merged] {
            fs::create_dir_all(dir).map_err(failed("making", dir))?;
        }
        let attributes = self.owner.root.join(below.first().map_or("", String::as_str)).join(FILES);
        overlay::copy_attributes(&attributes, &path.join(FILES))?;
        drop(files);
        let mount = overlay::Mounted::new(&self.owner.root, &lower, &path.join(FILES), &work, &merged)?;
        let root = File::open(&merged).map_err(failed("opening", &merged))?;
        let task = [Task { layer: &self.layers[at], way: Way::Above, directory: root.as_fd() }];
        let mut outcome = None;
        pipeline::run(&task, 1, self.open, self.staging.dir.as_fd(), self.options, |_, done| {
            outcome = Some(done);
            Ok(())
        })?;
        drop(root);
        mount.unmount()?;
        remove_tree(&work)?;
        let Some(mut done) = outcome else { return Err(Error::other("unpacking", "", "the unpacker said nothing")) };
        done.applied.root = true;
        summary.add(&done);
        self.keep(at, &done)
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_string()).unwrap_or_default()
}

/// Remove a directory of ours with all in it, by descriptor.
pub(in crate::image) fn remove_tree(path: &Path) -> Result<()> {
    let told = |e: Errno| e.error("unlinkat", "removing", path.display().to_string());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = File::open(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }).map_err(failed("opening", parent))?;
    let name = CString::new(name.as_encoded_bytes()).map_err(|_| told(Errno(libc::EINVAL)))?;
    match unpack::remove(parent.as_fd(), &name, sys::process::geteuid() == 0) {
        Err(Errno(libc::ENOENT)) => Ok(()),
        other => other.map_err(told),
    }
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(failed("listing", dir))?;
    entries.map(|entry| Ok(entry.map_err(failed("listing", dir))?.path())).collect()
}

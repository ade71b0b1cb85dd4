//! A bundle from an image: `rootfs` (unpacked, or an overlay mount of shared layers) and `config.json`.
//!
//! It is made beside its place, under a name of its own and a lock, and renamed when it is whole. What a killed process
//! left there is removed by the next that makes the same bundle.

use super::convert::{Wishes, convert};
use super::ids;
pub use super::layers::Mounted;
use super::layers::{Layers, MAKES_MARKS, MOUNTS, OVERLAY, Stack, forget_use, remove_tree};
use super::pipeline::{self, Open, Options, Summary};
use super::store::{Image, Store, failed};
use super::unpack::Owners;
use crate::sys;
use crate::{Error, Kind, Result, log, spec};
use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// The root file system's name in a bundle.
pub const ROOTFS: &str = "rootfs";

/// Whether the root is a mount of shared layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlay {
    /// A copy.
    No,
    /// A copy where there can be no mount.
    Maybe,
    Yes,
}

/// What is to be made.
pub struct Request<'a> {
    /// Where the unpacked layers are shared.
    pub store: &'a Store,
    pub image: &'a Image,
    /// Opens a layer.
    pub open: &'a Open<'a>,
    pub overlay: Overlay,
    pub options: Options,
    pub wishes: Wishes,
}

/// Make the bundle at `bundle`, which is not there yet or empty. `settled` is asked before it appears: whether all that
/// it was made of was right.
pub fn make(request: &Request, bundle: &Path, settled: impl FnOnce() -> Result<()>) -> Result<Summary> {
    let draft = Draft::begin(bundle, &request.options.owners)?;
    let (summary, mounted) = fill(request, &draft.path, bundle)?;
    settled()?;
    if let Some(mounted) = mounted {
        // So that the mount is told of by its place, not by the draft's.
        mounted.unmount()?;
        draft.commit(bundle)?;
        // In a mount namespace of our own it would be gone with us: whoever runs the bundle mounts it.
        if !ids::ours().entered {
            remount(bundle)?;
        }
    } else {
        draft.commit(bundle)?;
    }
    summary.lost.iter().for_each(|line| log::warn(line));
    Ok(summary)
}

/// Root file system and configuration in the directory `draft`, for a bundle that will be at `bundle`.
pub fn fill(request: &Request, draft: &Path, bundle: &Path) -> Result<(Summary, Option<Mounted>)> {
    let layers = pipeline::layers(request.image)?;
    let rootfs = draft.join(ROOTFS);
    let overlaid = match request.overlay {
        Overlay::No => None,
        _ => match mounted(request, &layers, draft, bundle) {
            Err(e) if request.overlay == Overlay::Maybe && matches!(e.kind, Kind::Kernel { call: MAKES_MARKS | MOUNTS, .. }) => {
                log::warn(&format!("unpacking a copy: {e}"));
                forget_use(draft);
                ["upper", "work", ROOTFS, OVERLAY].iter().try_for_each(|name| remove_tree(&draft.join(name)))?;
                None
            }
            other => Some(other?),
        },
    };
    let mut root_mount = None;
    let (summary, mounted) = match overlaid {
        Some((summary, mounted, stack)) => {
            // What we mount here nobody else sees.
            let ours = !matches!(request.options.owners, Owners::Mapped(..));
            if ids::ours().entered && ours && request.overlay == Overlay::Yes {
                root_mount = Some(stack.as_root_mount(bundle)?);
            }
            (summary, Some(mounted))
        }
        None => {
            make_root(&rootfs, &request.options.owners)?;
            let (area, root) = (open_dir(draft)?, open_dir(&rootfs)?);
            (pipeline::onto_directory(&layers, request.open, area.as_fd(), root.as_fd(), &request.options)?, None)
        }
    };
    let root = open_dir(&rootfs)?;
    let mut config = convert(&request.image.config, root.as_fd(), &request.wishes)?;
    config.mounts.splice(0..0, root_mount);
    write_config(draft, &config)?;
    Ok((summary, mounted))
}

fn mounted(request: &Request, layers: &[pipeline::Layer], draft: &Path, bundle: &Path) -> Result<(Summary, Mounted, Stack)> {
    let shared = Layers::open(request.store)?;
    let (stack, summary) = shared.provide(layers, request.open, &request.options)?;
    shared.note_use(bundle, draft, stack.names())?;
    Ok((summary, stack.mount(draft)?.unmount_on_drop(), stack))
}

/// Of an overlay bundle, the configuration for a runtime that we start where it is mounted, and where ids are ours.
///
/// # Errors
/// It was made for ids that the caller has no longer.
pub fn for_us(config: &mut spec::Spec) -> Result<()> {
    config.mounts.retain(|mount| mount.destination != "/");
    let (ids, linux) = (ids::ours(), &mut config.linux);
    if linux.uid_mappings == ids.uids && linux.gid_mappings == ids.gids {
        linux.namespaces.retain(|namespace| namespace.kind != "user");
        (linux.uid_mappings, linux.gid_mappings) = Default::default();
        return Ok(());
    }
    linux.uid_mappings = ids.inside(&linux.uid_mappings, "uid")?;
    linux.gid_mappings = ids.inside(&linux.gid_mappings, "gid")?;
    Ok(())
}

pub fn write_config(bundle: &Path, config: &spec::Spec) -> Result<()> {
    let path = bundle.join("config.json");
    fs::write(&path, spec::defaults::to_pretty_json(config) + "\n").map_err(failed("writing", &path))
}

/// Mount the root of an overlay bundle that isn't mounted: after a reboot, or for the first time. None if there is
/// nothing to do.
pub fn remount(bundle: &Path) -> Result<Option<Mounted>> {
    let rootfs = bundle.join(ROOTFS);
    let Some(stack) = Layers::of_bundle(bundle)? else { return Ok(None) };
    if rootfs.is_dir() && sys::fs::is_mount_root(open_dir(&rootfs)?.as_fd()).unwrap_or(false) {
        return Ok(None);
    }
    stack.mount(bundle).map(Some)
}

fn make_root(rootfs: &Path, owners: &Owners) -> Result<()> {
    fs::create_dir(rootfs).map_err(failed("making", rootfs))?;
    fs::set_permissions(rootfs, fs::Permissions::from_mode(0o755)).map_err(failed("making", rootfs))?;
    if let Owners::Mapped(..) = owners
        && let Some((uid, gid)) = owners.translate(0, 0)?
    {
        chown(rootfs, Some(uid), Some(gid)).map_err(failed("making", rootfs))?;
    }
    Ok(())
}

fn open_dir(path: &Path) -> Result<File> {
    File::open(path).map_err(failed("opening", path))
}

/// A directory that is ours, and no symlink: others may have put one there, where they may write too.
fn open_own_dir(path: &Path) -> Result<File> {
    let dir = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_DIRECTORY).open(path).map_err(failed("opening", path))?;
    let owner = dir.metadata().map_err(failed("looking at", path))?.uid();
    if owner != sys::process::geteuid() {
        return Err(Error::other("making the bundle", path.display().to_string(), format!("it is there already and belongs to uid {owner}")).hint("remove it"));
    }
    Ok(dir)
}

/// A bundle in the making: removed when dropped, unless committed.
struct Draft {
    path: PathBuf,
    /// Locked. The unpacking process has it too, so that one that outlives us by a moment still has the lock.
    _dir: File,
    committed: bool,
}

impl Draft {
    fn begin(bundle: &Path, owners: &Owners) -> Result<Draft> {
        check_free(bundle)?;
        let name = bundle.file_name().ok_or_else(|| Error::usage(format!("{} is no name for a bundle", bundle.display())))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".dhowctl");
        let path = bundle.with_file_name(hidden);
        // There are setuid programs in it. The root of a user namespace has to get to its files.
        let mode = if matches!(owners, Owners::Mapped(..)) { 0o711 } else { 0o700 };
        loop {
            match DirBuilder::new().mode(mode).create(&path) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(failed("making", &path)(e)),
                _ => {}
            }
            let dir = open_own_dir(&path)?;
            if dir.try_lock().is_err() {
                log::debug(&format!("waiting for another process that makes {}", bundle.display()));
                dir.lock().map_err(failed("locking", &path))?;
            }
            // Whoever had the lock has renamed or removed it.
            let is_named =
                fs::symlink_metadata(&path).is_ok_and(|named| dir.metadata().is_ok_and(|open| open.ino() == named.ino() && open.dev() == named.dev()));
            if is_named {
                check_free(bundle)?;
                let draft = Draft { path, _dir: dir, committed: false };
                draft.clear()?;
                fs::set_permissions(&draft.path, fs::Permissions::from_mode(mode)).map_err(failed("making", &draft.path))?;
                return Ok(draft);
            }
        }
    }

    /// Away with what a killed process left.
    fn clear(&self) -> Result<()> {
        unmount(&self.path.join(ROOTFS));
        for entry in fs::read_dir(&self.path).map_err(failed("listing", &self.path))? {
            remove_tree(&entry.map_err(failed("listing", &self.path))?.path())?;
        }
        Ok(())
    }

    fn commit(mut self, bundle: &Path) -> Result<()> {
        fs::rename(&self.path, bundle).map_err(failed("making", bundle))?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.committed {
            remove(&self.path);
        }
    }
}

/// Remove a bundle directory of ours with its mount. There is nobody to tell of a failure but the user.
pub fn remove(path: &Path) {
    forget_use(path);
    unmount(&path.join(ROOTFS));
    if let Err(e) = remove_tree(path) {
        log::warn(&e.to_string());
    }
}

fn unmount(rootfs: &Path) {
    if let Ok(rootfs) = CString::new(rootfs.as_os_str().as_encoded_bytes()) {
        let _ = sys::mount::unmount(&rootfs, libc::MNT_DETACH);
    }
}

/// Nothing is there that a bundle would take the place of.
pub fn check_free(bundle: &Path) -> Result<()> {
    match fs::read_dir(bundle) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed("looking at", bundle)(e)),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Error::new(Kind::Exists, "making the bundle", bundle.display().to_string(), "it is there already, and not empty")
                .hint("remove it, or choose another place")),
        },
    }
}

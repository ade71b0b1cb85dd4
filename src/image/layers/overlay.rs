//! Overlay mounts of unpacked layers.

use super::fuse::{self, Daemon};
use super::{FILES, Layers, MOUNTS};
use crate::image::ids;
use crate::image::store::failed;
use crate::image::unpack;
use crate::sys::fs as calls;
use crate::sys::{self, Errno, mount, tree};
use crate::{Error, Result, log, spec};
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Once;

/// Where, below a staging directory, layers are mounted that another is put down over.
pub(super) const MERGED: &str = "merged";

/// mount(2) reads a page of options, and cuts what is more.
const MOST_OPTIONS: usize = 4096;

/// Layers to be mounted, the highest first. As long as it lives, none is removed.
#[derive(Debug)]
pub struct Stack {
    pub(super) root: PathBuf,
    pub(super) names: Vec<String>,
    /// The directory whose owner and mode the container's root is to have.
    pub(super) attributes: Option<PathBuf>,
    pub(super) _hold: File,
}

impl Layers {
    /// The names, highest first, down to one that hides what is below it.
    pub(super) fn lower(&self, names: &[String]) -> Result<Vec<String>> {
        let mut out = Vec::new();
        for name in names {
            out.push(name.clone());
            if self.info(name)?.opaque {
                break;
            }
        }
        Ok(out)
    }
}

impl Stack {
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The same as the first mount of a configuration: the runtime makes it, in the container's user namespace.
    pub fn as_root_mount(&self, bundle: &Path) -> Result<spec::Mount> {
        let (root, bundle) = (absolute(&self.root)?, absolute(bundle)?);
        let lower: Vec<Vec<u8>> = self.names.iter().map(|name| escaped(&root.join(name).join(FILES))).collect();
        let text = |key: &str, value: &[u8]| format!("{key}={}", String::from_utf8_lossy(value));
        let dir = |key: &str, name: &str| text(key, &escaped(&bundle.join(name)));
        let options = vec![text("lowerdir", &lower.join(&b':')), dir("upperdir", "upper"), dir("workdir", "work"), "userxattr".into()];
        Ok(spec::Mount { destination: "/".into(), kind: "overlay".into(), source: "overlay".into(), options, ..spec::Mount::default() })
    }

    /// Mount it at `bundle/rootfs`, writable, with what changes in `bundle/upper`.
    pub fn mount(&self, bundle: &Path) -> Result<Mounted> {
        let [rootfs, upper, work] = ["rootfs", "upper", "work"].map(|name| bundle.join(name));
        let is_new = !upper.exists();
        for dir in [&rootfs, &upper, &work] {
            fs::create_dir_all(dir).map_err(failed("making", dir))?;
        }
        if is_new {
            let top = || self.root.join(self.names.first().map_or("", String::as_str)).join(FILES);
            copy_attributes(&self.attributes.clone().unwrap_or_else(top), &upper)?;
        }
        Mounted::new(&self.root, &self.names, &upper, &work, &rootfs)
    }
}

/// A mount; it stays when this is dropped unless [`Mounted::unmount_on_drop`] was asked for.
#[derive(Debug)]
pub struct Mounted {
    target: CString,
    armed: bool,
    /// What answers for it, if that isn't the kernel.
    daemon: Option<Daemon>,
}

impl Mounted {
    pub(super) fn new(root: &Path, names: &[String], upper: &Path, work: &Path, target: &Path) -> Result<Mounted> {
        let writable = [b",upperdir=".to_vec(), escaped(&absolute(upper)?), b",workdir=".to_vec(), escaped(&absolute(work)?)].concat();
        Mounted::with(root, names, &writable, target)
    }

    /// Of at least two layers.
    pub(super) fn read_only(root: &Path, names: &[String], target: &Path) -> Result<Mounted> {
        Mounted::with(root, names, b"", target)
    }

    fn with(root: &Path, names: &[String], rest: &[u8], target: &Path) -> Result<Mounted> {
        let told = |e: Errno| e.error(MOUNTS, "mounting the layers at", target.display().to_string());
        let path = CString::new(absolute(target)?.as_os_str().as_encoded_bytes()).map_err(|_| told(Errno(libc::EINVAL)))?;
        let mounted = by_kernel(root, names, rest, &path).map_err(|e| told(e).hint(advice(e)));
        let daemon = match mounted {
            Ok(()) => None,
            Err(e) if ids::ours().are_all() => return Err(e),
            Err(e) => Some(by_daemon(root, names, rest, target, e)?),
        };
        Ok(Mounted { target: path, armed: false, daemon })
    }

    pub fn unmount_on_drop(mut self) -> Self {
        self.armed = true;
        self
    }

    /// Let it stay.
    pub fn leave(mut self) {
        self.armed = false;
    }

    pub fn unmount(mut self) -> Result<()> {
        self.armed = false;
        mount::unmount(&self.target, 0).map_err(|e| e.error("umount2", "unmounting", self.target.to_string_lossy()))?;
        self.daemon = None;
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.armed {
            let _ = mount::unmount(&self.target, libc::MNT_DETACH);
        } else {
            // It hears when we end.
            std::mem::forget(self.daemon.take());
        }
    }
}

/// The names are below `root`, which the kernel is told as our working directory: 127 whole paths would not fit.
fn by_kernel(root: &Path, names: &[String], rest: &[u8], target: &CStr) -> sys::Result<()> {
    let lower: Vec<String> = names.iter().map(|name| format!("{name}/{FILES}")).collect();
    let marks: &[u8] = if ids::ours().are_all() { b"" } else { b",userxattr" };
    let options = [b"lowerdir=", lower.join(":").as_bytes(), rest, marks].concat();
    if options.len() >= MOST_OPTIONS {
        return Err(Errno(libc::E2BIG));
    }
    let options = CString::new(options).map_err(|_| Errno(libc::EINVAL))?;
    let root = CString::new(root.as_os_str().as_encoded_bytes()).map_err(|_| Errno(libc::EINVAL))?;
    const DIRECTORY: i32 = libc::O_RDONLY | libc::O_DIRECTORY;
    let before = calls::openat(calls::CWD, c".", DIRECTORY, 0)?;
    let there = calls::openat(calls::CWD, &root, DIRECTORY, 0)?;
    calls::fchdir(there.as_fd())?;
    let mounted = mount::mount(c"overlay", target, c"overlay", 0, Some(&options));
    calls::fchdir(before.as_fd())?;
    mounted
}

/// `refused` is what the kernel said.
fn by_daemon(root: &Path, names: &[String], rest: &[u8], target: &Path, refused: Error) -> Result<Daemon> {
    let Some(program) = fuse::program() else { return Err(refused) };
    static TOLD: Once = Once::new();
    TOLD.call_once(|| log::warn(&format!("using fuse-overlayfs, which is slower: {refused}")));
    let root = absolute(root)?;
    let lower: Vec<Vec<u8>> = names.iter().map(|name| escaped(&root.join(name).join(FILES))).collect();
    Daemon::start(&program, &[b"lowerdir=", &lower.join(&b':')[..], rest].concat(), target)
}

fn advice(e: Errno) -> &'static str {
    match (ids::ours().are_all(), e.0) {
        (_, libc::E2BIG) => "there are more layers than mount(2) takes, some 140: unpack a copy (unpack without --overlay, run --copy)",
        (true, libc::EINVAL) => "the store must be on a file system that overlayfs takes, so none that is an overlay itself: --store DIR",
        (true, _) => "",
        (false, _) => {
            "in a user namespace that takes Linux 5.11, and the store on a file system that overlayfs takes: --store DIR; with fuse-overlayfs installed neither"
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(failed("looking for", path))
}

/// overlayfs separates options by commas, layers by colons.
fn escaped(path: &Path) -> Vec<u8> {
    let special = |b: &u8| matches!(b, b',' | b':' | b'\\');
    path.as_os_str().as_encoded_bytes().iter().flat_map(|b| [special(b).then_some(b'\\'), Some(*b)]).flatten().collect()
}

/// Owner, mode and extended attributes of a directory, but for overlayfs's own.
pub(super) fn copy_attributes(from: &Path, to: &Path) -> Result<()> {
    let meta = fs::metadata(from).map_err(failed("looking at", from))?;
    chown(to, Some(meta.uid()), Some(meta.gid())).map_err(failed("setting the owner of", to))?;
    fs::set_permissions(to, meta.permissions()).map_err(failed("setting the mode of", to))?;
    let (source, target) = (File::open(from).map_err(failed("opening", from))?, File::open(to).map_err(failed("opening", to))?);
    let told = |e: Errno| e.error("fsetxattr", "setting the attributes of", to.display().to_string());
    let (mut names, mut value) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let names = match tree::list_xattrs(source.as_fd(), &mut names) {
        Err(Errno(libc::EOPNOTSUPP)) => return Ok(()),
        other => other.map_err(told)?,
    };
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty() && unpack::is_kept(name)) {
        let Ok(name) = CString::new(name) else { continue };
        let value = tree::get_xattr(source.as_fd(), &name, &mut value).map_err(told)?;
        calls::set_xattr(target.as_fd(), &name, value).map_err(told)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped() {
        assert_eq!(escaped(Path::new("/a,b:c\\d")), b"/a\\,b\\:c\\\\d");
    }
}

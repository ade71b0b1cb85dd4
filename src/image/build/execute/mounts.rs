//! What `--mount` brings into a RUN, beside its root file system.

use super::agent::Agent;
use crate::image::build::plan::{MountKind, Sharing};
use crate::image::build::request::{BuildRequest, Secret};
use crate::image::layers::View;
use crate::image::store::failed;
use crate::image::{Digest, Store};
use crate::spec;
use crate::sys::mount;
use crate::{Error, Kind, Result};
use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Of the caches, below the store.
pub(super) const DIR: &str = "build/mounts";

/// What the container gets, and what has to live as long as it does.
#[derive(Default)]
pub(super) struct Mounts {
    pub list: Vec<spec::Mount>,
    /// Places to mount on: (path, it is a directory).
    pub places: Vec<(String, bool)>,
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    pub locks: Vec<File>,
    pub views: Vec<Arc<View>>,
    agents: Vec<Agent>,
    /// Where we mounted something for the container to take over.
    attached: Vec<CString>,
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for place in &self.attached {
            let _ = mount::unmount(place, libc::MNT_DETACH);
        }
    }
}

impl Mounts {
    /// Mount what `handle` is at `place`.
    pub fn attach(&mut self, handle: OwnedFd, place: &Path) -> Result<()> {
        let told = |e: crate::sys::Errno| e.error("move_mount", "mounting at", place.display().to_string());
        let path = CString::new(place.as_os_str().as_encoded_bytes()).map_err(|_| told(crate::sys::Errno(libc::EINVAL)))?;
        let tree = mount::clone_tree(handle.as_fd(), c"", false).map_err(told)?;
        let target = mount::open_path(&path).map_err(told)?;
        mount::attach(tree.as_fd(), target.as_fd()).map_err(told)?;
        self.attached.push(path);
        Ok(())
    }

    pub fn bind(&mut self, source: &str, target: &str, is_dir: bool, readonly: bool) {
        self.places.push((target.into(), is_dir));
        let options = ["rbind", if readonly { "ro" } else { "rw" }].map(String::from).to_vec();
        self.list.push(spec::Mount { destination: target.into(), kind: "bind".into(), source: source.into(), options, ..spec::Mount::default() });
    }

    pub fn tmpfs(&mut self, target: &str, size: Option<u64>) {
        self.places.push((target.into(), true));
        let mut options: Vec<String> = ["nosuid", "nodev", "mode=1777"].map(String::from).into();
        options.extend(size.map(|bytes| format!("size={bytes}")));
        self.list.push(spec::Mount { destination: target.into(), kind: "tmpfs".into(), source: "tmpfs".into(), options, ..spec::Mount::default() });
    }

    /// A secret as a file in `dir`, which is in memory, and/or as a variable.
    pub fn secret(&mut self, request: &BuildRequest, dir: &Path, target: &str, kind: &MountKind) -> Result<()> {
        let MountKind::Secret { id, env, required, mode, owner } = kind else { return Ok(()) };
        let value = match request.secrets.get(id) {
            Some(Secret::File(path)) => fs::read(path).map_err(|e| Error::io(&e, format!("reading the secret {id} from"), path.display().to_string()))?,
            Some(Secret::Env(name)) => match std::env::var_os(name) {
                Some(value) => value.into_encoded_bytes(),
                None => return Err(Error::new(Kind::NotFound, "reading the secret", id.clone(), format!("the environment has no {name}"))),
            },
            None if *required => {
                return Err(
                    Error::new(Kind::NotFound, "mounting the secret", id.clone(), "it was not given").hint(format!("--secret id={id},src=FILE gives it"))
                );
            }
            None => return Ok(()),
        };
        if let Some(name) = env {
            let text = String::from_utf8(value.clone()).map_err(|_| Error::other("setting a variable to the secret", id.clone(), "it is no UTF-8"))?;
            self.env.push(format!("{name}={text}"));
        }
        if target.is_empty() {
            return Ok(());
        }
        let file = dir.join(self.list.len().to_string());
        fs::write(&file, value).map_err(failed("writing", &file))?;
        chown(&file, Some(owner.0), Some(owner.1)).map_err(failed("writing", &file))?;
        fs::set_permissions(&file, Permissions::from_mode(*mode)).map_err(failed("writing", &file))?;
        self.bind(&file.display().to_string(), target, false, true);
        Ok(())
    }

    /// The caller's agent; by a socket in `dir` where it is to have an owner or a mode.
    pub fn ssh(&mut self, request: &BuildRequest, dir: &Path, target: &str, kind: &MountKind) -> Result<()> {
        let MountKind::Ssh { id, required, sets_env, owner, mode } = kind else { return Ok(()) };
        let found = request.ssh.get(id).and_then(|paths| paths.first());
        let Some(socket) = found else {
            if *required {
                return Err(Error::new(Kind::NotFound, "mounting the ssh agent", id.clone(), "it was not given").hint(format!("--ssh {id} gives it")));
            }
            return Ok(());
        };
        if (*owner, *mode) == ((0, 0), 0o600) {
            // Root may use it, whoever owns it.
            self.bind(&socket.display().to_string(), target, false, false);
        } else {
            let name = format!("agent-{}", self.agents.len());
            self.agents.push(Agent::start(socket, dir, &name, *owner, *mode)?);
            self.bind(&dir.join(name).display().to_string(), target, false, false);
        }
        if *sets_env {
            self.env.push(format!("SSH_AUTH_SOCK={target}"));
        }
        Ok(())
    }

    /// The directory of a cache; `fill` is called for one that is new.
    pub fn cache(&mut self, store: &Store, target: &str, kind: &MountKind, readonly: bool, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let MountKind::Cache { id, sharing, mode, owner, from, source } = kind else { return Ok(()) };
        let base = store.root().join(DIR);
        fs::create_dir_all(&base).map_err(failed("making", &base))?;
        fs::set_permissions(&base, Permissions::from_mode(0o700)).map_err(failed("making", &base))?;
        let name = Digest::of(format!("{id} {from:?} {source}").as_bytes());
        let (dir, lock) = claim(&base, name.hex(), *sharing)?;
        let content = dir.join("content");
        // Whoever is the first makes it, under a name of its own; a shared lock lets in several.
        if !content.exists() {
            let draft = dir.join(format!(".new-{}-{}", std::process::id(), self.list.len()));
            let _ = crate::image::layers::remove_tree(&draft);
            fs::create_dir(&draft).map_err(failed("making", &draft))?;
            chown(&draft, Some(owner.0), Some(owner.1)).map_err(failed("making", &draft))?;
            fs::set_permissions(&draft, Permissions::from_mode(*mode)).map_err(failed("making", &draft))?;
            fill(&draft)?;
            if let Err(e) = fs::rename(&draft, &content) {
                if !content.exists() {
                    return Err(failed("making", &content)(e));
                }
                crate::image::layers::remove_tree(&draft)?;
            }
        }
        self.locks.push(lock);
        self.bind(&content.display().to_string(), target, true, readonly);
        Ok(())
    }
}

/// The directory of a cache, locked as its sharing says.
fn claim(base: &Path, name: &str, sharing: Sharing) -> Result<(PathBuf, File)> {
    let open = |dir: &Path| -> Result<File> {
        fs::create_dir_all(dir).map_err(failed("making", dir))?;
        File::open(dir).map_err(failed("opening", dir))
    };
    let dir = base.join(name);
    match sharing {
        Sharing::Shared => {
            let lock = open(&dir)?;
            lock.lock_shared().map_err(failed("locking", &dir))?;
            Ok((dir, lock))
        }
        Sharing::Locked => {
            let lock = open(&dir)?;
            lock.lock().map_err(failed("locking", &dir))?;
            Ok((dir, lock))
        }
        Sharing::Private => {
            // The first that nobody has.
            for number in 0.. {
                let dir = if number == 0 { dir.clone() } else { base.join(format!("{name}-{number}")) };
                let lock = open(&dir)?;
                if lock.try_lock().is_ok() {
                    return Ok((dir, lock));
                }
            }
            Err(Error::other("locking", dir.display().to_string(), "all are in use"))
        }
    }
}

/// A file system in memory at `dir`, in our own mount namespace, so that secrets touch no disk.
pub(super) fn in_memory(mounts: &mut Mounts, dir: &Path) -> Result<()> {
    let told = |e: crate::sys::Errno| e.error("mount", "mounting a tmpfs on", dir.display().to_string());
    let target = CString::new(dir.as_os_str().as_encoded_bytes()).map_err(|_| told(crate::sys::Errno(libc::EINVAL)))?;
    mount::mount(c"tmpfs", &target, c"tmpfs", libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC, Some(c"mode=0700")).map_err(told)?;
    mounts.attached.push(target);
    Ok(())
}

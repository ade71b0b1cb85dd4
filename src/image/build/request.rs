//! What the command line of `dhowctl build` asks for.

use super::plan::Network;
use crate::image::bundle::check_free;
use crate::image::transport::Target;
use crate::image::{Platform, Reference};
use crate::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

/// One build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    pub context: Context,
    pub dockerfile: DockerfileFrom,
    /// `-t`.
    pub names: Vec<Reference>,
    pub target: Option<String>,
    /// `--build-arg`; one without a value has got that of the environment, or isn't here.
    pub args: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, Secret>,
    /// Paths of agents' sockets by id.
    pub ssh: BTreeMap<String, Vec<PathBuf>>,
    /// None: this machine's.
    pub platform: Option<Platform>,
    pub labels: BTreeMap<String, String>,
    pub no_cache: bool,
    /// Of images: fetch them even if they are in the store.
    pub pull: bool,
    pub contexts: BTreeMap<String, NamedContext>,
    /// Of RUNs that say nothing else. Default is the host's.
    pub network: Network,
    /// Bound into each RUN; no part of the cache's key.
    pub volumes: Vec<Volume>,
    pub output: Option<Output>,
    pub cache_to: Vec<CachePlace>,
    pub cache_from: Vec<CachePlace>,
    pub progress: Progress,
}

impl BuildRequest {
    /// What it names outside of the context is there: said before anything is built, not by the step that needs it.
    ///
    /// # Errors
    /// Something isn't.
    pub fn check(&self) -> Result<()> {
        for (id, secret) in &self.secrets {
            if let Secret::File(path) = secret {
                std::fs::metadata(path).map_err(|e| Error::io(&e, format!("looking for the secret {id} in"), path.display().to_string()))?;
            }
        }
        for path in self.ssh.values().flatten() {
            let shown = path.display().to_string();
            let meta = std::fs::metadata(path).map_err(|e| Error::io(&e, "looking for the ssh agent", shown.clone()))?;
            if !meta.file_type().is_socket() {
                return Err(
                    Error::unsupported("mounting the ssh agent", shown, "an agent's socket, not a key").hint("ssh-add the key to an agent and give its socket")
                );
            }
        }
        for volume in &self.volumes {
            std::fs::metadata(&volume.host).map_err(|e| Error::io(&e, "looking for the volume", volume.host.display().to_string()))?;
        }
        if let Some(Output::Bundle(dir)) = &self.output {
            check_free(dir)?;
        }
        for (name, context) in &self.contexts {
            if let NamedContext::Dir(dir) = context
                && !dir.is_dir()
            {
                return Err(Error::new(Kind::NotFound, "opening the build context", format!("{name}={}", dir.display()), "there is no such directory"));
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Context {
    Dir(PathBuf),
    /// `-`: a tar archive, of any compression, on standard input; or, if it isn't one, a Dockerfile without a context.
    Stdin,
}

#[derive(Debug, Clone, PartialEq)]
pub enum DockerfileFrom {
    /// `Dockerfile` of the context.
    Default,
    /// `-f FILE`, as it was typed: from the current directory; in an archive, from its top.
    File(PathBuf),
    /// `-f -`.
    Stdin,
}

/// `--secret id=ID,src=FILE` or `id=ID,env=NAME`.
#[derive(Debug, Clone, PartialEq)]
pub enum Secret {
    File(PathBuf),
    Env(String),
}

/// `--build-context NAME=…`.
#[derive(Debug, Clone, PartialEq)]
pub enum NamedContext {
    /// A path.
    Dir(PathBuf),
    /// `docker-image://REF`.
    Image(Reference),
    /// `oci-layout://DIR[:TAG|@DIGEST]`.
    Layout(PathBuf, String),
}

/// `--volume HOST:CONTAINER[:ro]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    pub host: PathBuf,
    pub container: String,
    pub readonly: bool,
}

/// `-o`.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// `bundle:DIR`.
    Bundle(PathBuf),
    /// `oci:DIR[:NAME]`, `docker-archive:FILE[:NAME]`.
    Image(Target),
}

/// Where the build cache is kept for others.
#[derive(Debug, Clone, PartialEq)]
pub enum CachePlace {
    Registry(Reference),
    /// `oci:DIR`.
    Layout(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// A terminal's if there is one.
    #[default]
    Auto,
    Plain,
    Tty,
    Quiet,
}

//! What the command line of `dhowctl build` asks for.

use super::plan::Network;
use crate::image::transport::Target;
use crate::image::{Platform, Reference};
use std::collections::BTreeMap;
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
    /// Paths of agents' sockets or of private keys by id.
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

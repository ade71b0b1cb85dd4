//! What a build will do, as data: nothing in here touches the machine.
//!
//! Two passes. [`Outline`] says which stages are needed, in an order in which each comes behind those it needs, and what
//! each begins with. A [`StagePlan`] says what is done in one stage; it is made when the config of the base is at hand,
//! since that brings ENV, SHELL, USER, WORKDIR and ONBUILD triggers. All variables are expanded in it.
//!
//! Each [`Action`] has all that it depends on, so its cache key is made of the action and the files before it; what only
//! changes the image's config makes no action.

use super::dockerfile::args::Values;
use crate::image::model::{Execution, ImageConfig};
use crate::image::{Digest, Platform};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// `comment` of the entries that a build adds to an image's history.
pub const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";

/// What the command line says about the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// `--build-arg`.
    pub args: BTreeMap<String, String>,
    pub target: Option<String>,
    /// This machine's.
    pub build_platform: Platform,
    /// `--platform`, else this machine's.
    pub target_platform: Platform,
    /// The names of all `--build-context`s.
    pub contexts: BTreeSet<String>,
}

/// The stages to build for a target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outline {
    /// In the Dockerfile's order; what a stage needs is before it.
    pub stages: Vec<StageOutline>,
    /// Those that nobody needs, unless a trigger of a base image does.
    pub spare: Vec<StageOutline>,
    /// The index (in the Dockerfile) of the stage that becomes the image: the last of `stages`.
    pub target: usize,
    /// `SOURCE_DATE_EPOCH`, seconds: the newest time that a file or the image may have.
    pub epoch: Option<u64>,
    pub warnings: Vec<Warning>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageOutline {
    /// Its number in the Dockerfile, from 0.
    pub index: usize,
    /// Lower case; `stage-N` if it has none.
    pub name: String,
    pub base: Origin,
    /// Of the base and of all that runs in it.
    pub platform: Platform,
    /// What its COPYs and mounts take, beside its base. ONBUILD triggers of the base may need more: see
    /// [`StagePlan::needs`].
    pub needs: BTreeSet<Origin>,
    pub source: Source,
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Nothing: an empty directory.
    Scratch,
    /// The build's context, without what .dockerignore names.
    Context,
    /// A stage by its number in the Dockerfile.
    Stage(usize),
    /// An image, as it was written.
    Image(String),
    /// A `--build-context`, by its name.
    Named(String),
}

/// Where in the Dockerfile.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Source {
    /// The first line, from 1.
    pub first_line: usize,
    /// The last line, here-documents included.
    pub last_line: usize,
    /// The trigger's text if it came with the base (then the lines are those of FROM).
    pub onbuild: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Warning {
    pub source: Source,
    /// BuildKit's name of the rule, as `# check=skip=…` names it.
    pub rule: &'static str,
    pub message: String,
}

/// What a stage starts from, and what it leaves to a stage that is `FROM` it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct State {
    /// The image's config so far, ONBUILD triggers and health check included.
    pub config: Execution,
    /// MAINTAINER.
    pub author: String,
    /// What RUN sees and variables are expanded with: ENVs, and ARGs that have a value.
    pub env: Values,
    /// The names of the ARGs declared so far, in order, each once, with their values.
    pub args: Vec<(String, Option<String>)>,
}

impl State {
    /// Of `FROM scratch`.
    pub fn scratch() -> State {
        State::default()
    }

    /// Of an image.
    pub fn of_image(image: &ImageConfig) -> State {
        State { config: image.config.clone(), author: image.author.clone(), ..State::default() }
    }
}

/// What is done in one stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StagePlan {
    pub index: usize,
    /// Triggers of the base first.
    pub steps: Vec<Step>,
    /// Behind the last step; `end.config` is the image's config (labels of the command line are not in it).
    pub end: State,
    pub warnings: Vec<Warning>,
}

impl StagePlan {
    /// All that its actions take files from, triggers of the base included.
    pub fn needs(&self) -> BTreeSet<Origin> {
        self.steps.iter().flat_map(|step| step.action.needs()).cloned().collect()
    }
}

/// An instruction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    pub source: Source,
    /// For people, variables expanded but secrets': `RUN pip install -r requirements.txt`.
    pub title: String,
    /// `created_by` of the image's history. None: the instruction leaves no entry (ONBUILD).
    pub history: Option<String>,
    pub action: Action,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It changes the config alone: an empty layer in the history, and nothing to do.
    Config,
    Run(Run),
    Copy(Copy),
    /// WORKDIR: make a directory, with those above it, if it isn't there. Not for `/`.
    MakeDir(MakeDir),
}

impl Action {
    fn needs(&self) -> Vec<&Origin> {
        match self {
            Action::Config | Action::MakeDir(_) => Vec::new(),
            Action::Run(run) => run.mounts.iter().filter_map(Mount::origin).collect(),
            Action::Copy(copy) => copy.sources.iter().filter_map(CopySource::origin).collect(),
        }
    }
}

/// RUN.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// The shell is in it if the shell form was used.
    pub args: Vec<String>,
    /// `NAME=VALUE` of PATH, ENVs and the declared ARGs that have a value; the last wins. All of it keys the cache.
    pub env: Vec<String>,
    /// `NAME=VALUE` of the proxies that `--build-arg` gives without an ARG: in the environment if `env` doesn't have the
    /// name, and never in the cache's key or the history.
    pub proxies: Vec<String>,
    pub cwd: String,
    /// As USER says, "" for root.
    pub user: String,
    /// A here-document with a `#!` line, which `args` names as a program: `/dev/pipes/NAME`, mode 0755, read-only.
    pub script: Option<Inline>,
    /// In the order in which they are mounted.
    pub mounts: Vec<Mount>,
    pub network: Network,
}

/// `--network` of a RUN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// What the command line says.
    #[default]
    Default,
    None,
    Host,
}

/// A file out of the Dockerfile.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inline {
    pub name: String,
    pub data: String,
}

/// `--mount` of a RUN.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mount {
    /// Absolute and clean. "" for a secret that is in the environment alone.
    pub target: String,
    /// What is written to a bind that is not read-only is thrown away.
    pub readonly: bool,
    pub kind: MountKind,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    /// `source` is absolute in `from`.
    Bind { from: Origin, source: String },
    /// A directory that outlives the build. `from` and `source` are what it has at first, `mode` and `owner` those of its
    /// top directory if that has to be made.
    Cache { id: String, sharing: Sharing, from: Origin, source: String, mode: u32, owner: (u32, u32) },
    /// `size` in bytes.
    Tmpfs { size: Option<u64> },
    /// A file with the secret's value, and/or a variable.
    Secret { id: String, env: Option<String>, required: bool, mode: u32, owner: (u32, u32) },
    /// A socket of the caller's agent; `SSH_AUTH_SOCK` names it if `sets_env`.
    Ssh { id: String, required: bool, mode: u32, owner: (u32, u32), sets_env: bool },
}

impl Mount {
    fn origin(&self) -> Option<&Origin> {
        match &self.kind {
            MountKind::Bind { from, .. } | MountKind::Cache { from, .. } => Some(from),
            _ => None,
        }
    }
}

/// How several RUNs use one cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    #[default]
    Shared,
    /// Each gets one of its own.
    Private,
    /// One waits for the other.
    Locked,
}

/// COPY and ADD.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Copy {
    pub sources: Vec<CopySource>,
    /// Absolute. A slash at its end says that it is a directory; so does more than one source.
    pub to: String,
    /// `user[:group]` by name (in the image) or number; "" for 0:0.
    pub chown: String,
    pub chmod: Option<Chmod>,
    /// The layer doesn't depend on what is below it: symbolic links of the image are not followed in `to`.
    pub link: bool,
    pub parents: bool,
    /// Patterns of what is left out, as in .dockerignore, relative to the source.
    pub exclude: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopySource {
    /// What matches `pattern` below the directory `base` of `from`; of a directory what is in it. Both are absolute;
    /// `base` is `/` but for `--parents` with a `/./`. With `--parents` the path below `base` is kept. Nothing that matches
    /// is an error unless there are wildcards. With `unpack` a local tar archive is unpacked.
    Files {
        from: Origin,
        base: String,
        pattern: String,
        unpack: bool,
    },
    /// A file from the web, to be named `name`.
    Http {
        url: String,
        name: String,
        checksum: Option<Digest>,
        unpack: bool,
    },
    Git(Git),
    /// A here-document, mode 0644.
    Inline(Inline),
}

impl CopySource {
    fn origin(&self) -> Option<&Origin> {
        match self {
            CopySource::Files { from, .. } => Some(from),
            _ => None,
        }
    }
}

/// A git repository's tree.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Git {
    pub remote: String,
    /// Branch, tag or commit; "" for HEAD.
    pub reference: String,
    /// Below which directory; "" for all.
    pub subdir: String,
    /// The commit has to be this one (or begin so).
    pub checksum: String,
    pub keep_git_dir: bool,
    pub submodules: bool,
}

/// `--chmod`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chmod {
    Mode(u32),
    /// As chmod(1) takes it: `u=rwX,go-w`.
    Symbolic(String),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MakeDir {
    /// Absolute and clean. Mode 0755.
    pub path: String,
    /// Its owner, as USER says; "" for root.
    pub user: String,
}

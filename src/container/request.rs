//! What the commands ask for, and what they get back: the library's face towards `cli`.

use crate::{Result, spec};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The global options that every verb gets.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// `--root`: the directory of all state, /run/dhow by default.
    pub root: PathBuf,
    pub debug: bool,
    /// `--rootless`: None is auto.
    pub rootless: Option<bool>,
    pub systemd_cgroup: bool,
}

/// `create` and `run`.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    pub id: String,
    pub bundle: PathBuf,
    pub console_socket: Option<PathBuf>,
    pub pidfd_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    pub preserve_fds: u32,
    /// `run` only.
    pub detach: bool,
    pub keep: bool,
    pub no_subreaper: bool,
}

/// `exec`: the process as the command line or the file gave it; what is None comes from the container's config.
#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    pub id: String,
    /// `--process FILE`, parsed; the other fields are then ignored but for the console's and pid file's.
    pub process: Option<spec::Process>,
    pub args: Vec<String>,
    pub tty: bool,
    pub cwd: Option<String>,
    pub env: Vec<String>,
    /// `--user UID[:GID]`.
    pub user: Option<(u32, Option<u32>)>,
    pub additional_gids: Vec<u32>,
    pub cap: Vec<String>,
    pub no_new_privs: bool,
    pub apparmor: Option<String>,
    pub process_label: Option<String>,
    /// `--cgroup [controller:]path`, relative to the container's.
    pub cgroup: Vec<String>,
    pub ignore_paused: bool,
    pub detach: bool,
    pub console_socket: Option<PathBuf>,
    pub pidfd_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub preserve_fds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// runtime.md § State, with runc's additions; what `state` prints and `list` tabulates.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StateReport {
    pub oci_version: String,
    pub id: String,
    /// 0 when stopped.
    pub pid: i32,
    pub status: Status,
    pub bundle: String,
    pub rootfs: String,
    /// RFC 3339, UTC, nanoseconds.
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The user name of the owner of the container's state.
    pub owner: String,
}

/// What `events` reports.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Event {
    Stats { id: String, data: serde_json::Value },
    Oom { id: String },
}

/// The verbs, as `cli` calls them; exit codes are those of the command line.
pub trait Verbs {
    fn create(&self, request: &CreateRequest) -> Result<()>;
    /// The exit status of the container's process (0 when detached).
    fn run(&self, request: &CreateRequest) -> Result<u8>;
    fn start(&self, id: &str) -> Result<()>;
    fn exec(&self, request: &ExecRequest) -> Result<u8>;
    fn kill(&self, id: &str, signal: i32, all: bool) -> Result<()>;
    fn delete(&self, id: &str, force: bool) -> Result<()>;
    fn state(&self, id: &str) -> Result<StateReport>;
    /// Containers that can't be read are warned of and left out.
    fn list(&self) -> Result<Vec<StateReport>>;
    /// Host pids of all processes in the container.
    fn pids(&self, id: &str) -> Result<Vec<i32>>;
    fn pause(&self, id: &str) -> Result<()>;
    fn resume(&self, id: &str) -> Result<()>;
    /// Also the two fields that only `update` has: (l3_cache_schema, mem_bw_schema).
    fn update(&self, id: &str, resources: &spec::Resources, rdt: Option<(String, String)>) -> Result<()>;
    /// Call `sink` for each event until it says stop (false) or the container is gone. `interval` None: stats once.
    fn events(&self, id: &str, interval: Option<std::time::Duration>, sink: &mut dyn FnMut(Event) -> bool) -> Result<()>;
}

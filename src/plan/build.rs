//! The order of a start. (Being written.)
use super::Plan;
use crate::host::Host;
use crate::spec::{Process, Spec};
use crate::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the command line adds to the config.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    pub id: String,
    /// Absolute.
    pub bundle: PathBuf,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    /// `run`: the program starts at once, no AwaitStart on the start socket is needed (the op stays; the parent answers it).
    /// Path of each hierarchy's cgroup for this container (absolute host path), keyed by v1 directory name, or "" for v2.
    pub cgroup_paths: BTreeMap<String, PathBuf>,
    /// A console socket was given (or a foreground terminal): process.terminal needs one.
    pub has_console: bool,
    /// `--preserve-fds`: how many from fd 3 on; LISTEN_FDS is set by the caller.
    pub preserve_fds: u32,
    /// Extra environment (NOTIFY_SOCKET, LISTEN_FDS…).
    pub extra_env: Vec<String>,
}

pub fn build(_spec: &Spec, _host: &Host, _options: &Options) -> Result<Plan> {
    unimplemented!()
}

/// exec: `process` into a container made from `spec`.
pub fn build_exec(_spec: &Spec, _process: &Process, _host: &Host, _options: &Options) -> Result<Plan> {
    unimplemented!()
}

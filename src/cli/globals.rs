//! The global options: where the state is, where the log goes. They may stand before or after the verb.

use super::args::{self, path, switch, text};
use crate::container::{self, Context};
use crate::{Error, Result, log};
use clap::{ArgMatches, Command};
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// Below the run directory, where all state is.
const STATE_DIR: &str = "dhow";

pub(crate) fn command() -> Command {
    let flags = vec![
        switch("debug", "write debug lines to the log"),
        path("log", "FILE", "append log lines to FILE (default: standard error)"),
        text("log-format", "FORMAT", "text or json (default: text)"),
        path("root", "DIR", "directory of all containers' state, best on a tmpfs (default: /run/dhow; without root: $XDG_RUNTIME_DIR/dhow)"),
        switch("systemd-cgroup", "have systemd make the cgroups, as transient scopes: cgroupsPath is SLICE:PREFIX:NAME"),
        text("rootless", "WHEN", "put up with missing permissions on cgroups: true, false or auto (default: auto)"),
        switch("version", "print the version").short('v'),
    ];
    args::command("dhow", flags)
}

/// What was typed, not yet acted on.
#[derive(Debug, Default)]
pub(crate) struct Globals {
    debug: bool,
    log: Option<PathBuf>,
    log_format: Option<String>,
    root: Option<PathBuf>,
    systemd_cgroup: bool,
    rootless: Option<String>,
    pub version: bool,
    pub help: bool,
}

impl Globals {
    pub fn read(command: Command, flags: Vec<OsString>) -> Result<Globals> {
        if flags.is_empty() {
            return Ok(Globals::default());
        }
        let matches = command.try_get_matches_from(flags).map_err(|e| Error::usage(args::one_line(&e)))?;
        Ok(Globals::from(&matches))
    }

    /// What stands after the verb counts more than what stands before it.
    pub fn merge(&mut self, later: Globals) {
        self.debug |= later.debug;
        self.systemd_cgroup |= later.systemd_cgroup;
        self.version |= later.version;
        self.help |= later.help;
        self.log = later.log.or(self.log.take());
        self.log_format = later.log_format.or(self.log_format.take());
        self.root = later.root.or(self.root.take());
        self.rootless = later.rootless.or(self.rootless.take());
    }

    /// Point the log to where `--log` says.
    pub fn open_log(&self) -> Result<()> {
        let format = match self.log_format.as_deref() {
            None | Some("" | "text") => log::Format::Text,
            Some("json") => log::Format::Json,
            Some(other) => return Err(Error::usage(format!("invalid log-format: {other}")).hint("text or json")),
        };
        let file = match &self.log {
            Some(path) if !path.as_os_str().is_empty() => {
                let file = OpenOptions::new().create(true).append(true).mode(0o644).open(path);
                Some(file.map_err(|e| Error::io(&e, "opening the log file", path.display().to_string()))?)
            }
            _ => None,
        };
        log::configure(log::Config { file, format, debug: self.debug });
        Ok(())
    }

    /// The library's context, and whether `--root` was given. The directory of a rootless default is made on the way.
    pub fn into_context(self) -> Result<(Context, bool)> {
        let given = self.root.is_some();
        let root = match self.root {
            Some(root) => checked_root(&root)?,
            None => default_root()?,
        };
        let rootless = match self.rootless.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("" | "auto") => None,
            Some("true" | "t" | "1") => Some(true),
            Some("false" | "f" | "0") => Some(false),
            Some(other) => return Err(Error::usage(format!("invalid value \"{other}\" for flag -rootless: true, false or auto"))),
        };
        Ok((Context { root, debug: self.debug, rootless, systemd_cgroup: self.systemd_cgroup }, given))
    }
}

impl From<&ArgMatches> for Globals {
    fn from(m: &ArgMatches) -> Globals {
        Globals {
            debug: m.get_flag("debug"),
            log: m.get_one("log").cloned(),
            log_format: m.get_one("log-format").cloned(),
            root: m.get_one("root").cloned(),
            systemd_cgroup: m.get_flag("systemd-cgroup"),
            rootless: m.get_one("rootless").cloned(),
            version: m.get_flag("version"),
            help: m.get_flag("help"),
        }
    }
}

/// Absolute and clean. `/` would make every directory of the machine a container to delete.
fn checked_root(root: &Path) -> Result<PathBuf> {
    let shown = root.display().to_string();
    let absolute = std::path::absolute(root).map_err(|e| Error::other("--root", shown.clone(), e))?;
    let mut clean = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    match clean.parent() {
        Some(_) => Ok(clean),
        None => Err(Error::usage("Option --root argument should not be set to /")),
    }
}

/// runc's rule: `$XDG_RUNTIME_DIR` for whoever is not the real root, `/run` otherwise.
fn default_root() -> Result<PathBuf> {
    let Some(base) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) else {
        return Ok(Path::new("/run").join(STATE_DIR));
    };
    if !prefers_xdg() {
        return Ok(Path::new("/run").join(STATE_DIR));
    }
    let root = Path::new(&base).join(STATE_DIR);
    // The sticky bit keeps the directory from being cleaned up (XDG base directory specification).
    let made = fs::create_dir_all(&root).and_then(|()| fs::set_permissions(&root, fs::Permissions::from_mode(0o1700)));
    made.map_err(|e| Error::io(&e, "making the state directory", root.display().to_string()).hint("$XDG_RUNTIME_DIR must be writable"))?;
    Ok(root)
}

/// Not root, or root of a user namespace only (unless `$USER` says that root is who we are meant to be).
fn prefers_xdg() -> bool {
    let (euid, _) = effective_ids();
    euid != 0 || (container::in_user_namespace() && std::env::var_os("USER").is_none_or(|user| user != "root"))
}

/// The effective uid and gid: the owner of our own directory in /proc; root where /proc can't say.
pub(crate) fn effective_ids() -> (u32, u32) {
    fs::metadata("/proc/self").map_or((0, 0), |meta| (meta.uid(), meta.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_made_absolute_and_clean() {
        assert_eq!(checked_root(Path::new("/a/./b/../c")).unwrap(), Path::new("/a/c"));
        assert!(checked_root(Path::new("rel")).unwrap().is_absolute());
        for slash in ["/", "/a/..", "/../.."] {
            assert!(checked_root(Path::new(slash)).is_err(), "{slash}");
        }
        assert!(checked_root(Path::new("")).is_err());
    }

    #[test]
    fn rootless_takes_three_words() {
        let of = |word: &str| Globals { rootless: Some(word.into()), root: Some("/r".into()), ..Globals::default() }.into_context();
        assert_eq!(of("auto").unwrap().0.rootless, None);
        assert_eq!(of("True").unwrap().0.rootless, Some(true));
        assert_eq!(of("false").unwrap().0.rootless, Some(false));
        assert!(of("perhaps").is_err());
    }
}

//! What a command gets: the library's context, its flags and its positionals, each by one short call.

use crate::container::Context;
use anyhow::{Result, anyhow};
use clap::ArgMatches;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub(crate) struct Call {
    /// The name that dhow was called by.
    pub program: String,
    pub context: Context,
    /// `--root` was given, rather than the default.
    pub root_given: bool,
    pub words: Words,
}

impl std::ops::Deref for Call {
    type Target = Words;

    fn deref(&self) -> &Words {
        &self.words
    }
}

impl Call {
    /// The container's id: the first positional.
    pub fn id(&self) -> Result<&str> {
        self.positional(0).map(Option::unwrap_or_default)
    }
}

/// A command's own words, whichever program's command it is.
pub(crate) struct Words {
    pub matches: ArgMatches,
    pub positionals: Vec<OsString>,
    /// Switches that were given as `=false`.
    pub off: Vec<String>,
}

impl Words {
    /// The positional at `index`, which has to be UTF-8.
    pub fn positional(&self, index: usize) -> Result<Option<&str>> {
        match self.positionals.get(index) {
            None => Ok(None),
            Some(word) => Ok(Some(word.to_str().ok_or_else(|| anyhow!("argument {word:?} is not UTF-8"))?)),
        }
    }

    /// The positionals from `first` on.
    pub fn positionals_from(&self, first: usize) -> Result<Vec<String>> {
        (first..self.positionals.len()).map(|i| Ok(self.positional(i)?.unwrap_or_default().to_string())).collect()
    }

    pub fn switch(&self, name: &str) -> bool {
        self.matches.get_flag(name)
    }

    /// The switch was turned off in so many words, which is more than not giving it.
    pub fn turned_off(&self, name: &str) -> bool {
        self.off.iter().any(|off| off == name)
    }

    /// A flag's string; an empty one is as good as none, as it is to runc.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.matches.get_one::<String>(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// All strings of a flag that may be repeated.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.matches.get_many::<String>(name).map(|all| all.cloned().collect()).unwrap_or_default()
    }

    /// A flag's number, 0 if it wasn't given.
    pub fn count(&self, name: &str) -> u32 {
        self.matches.get_one(name).copied().unwrap_or(0)
    }

    /// A flag's path as it was typed.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.matches.get_one::<PathBuf>(name).filter(|path| !path.as_os_str().is_empty()).cloned()
    }

    /// A flag's path, absolute: for what is opened after a chdir(2).
    pub fn absolute(&self, name: &str) -> Result<Option<PathBuf>> {
        match self.path(name) {
            None => Ok(None),
            Some(path) => Ok(Some(std::path::absolute(&path).map_err(|e| anyhow!("--{name} {}: {e}", path.display()))?)),
        }
    }

    /// The bundle that `--bundle`, or else the positional at `index`, names, or else the current directory.
    pub fn bundle(&self, index: Option<usize>) -> Result<PathBuf> {
        let positional = index.and_then(|i| self.positionals.get(i)).map(PathBuf::from);
        physical(&self.path("bundle").or(positional).unwrap_or_else(|| ".".into()))
    }
}

/// The path without symbolic links, as getcwd(2) would show it after a chdir(2) there: that is what `state` reports.
/// A path that doesn't exist stays as it is, for the error message of whoever opens it.
fn physical(path: &Path) -> Result<PathBuf> {
    match crate::container::real_path(path) {
        Ok(path) => Ok(path),
        Err(_) => std::path::absolute(path).map_err(|e| anyhow!("bundle {}: {e}", path.display())),
    }
}

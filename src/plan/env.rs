//! The environment of the container's process, and where its program may be.

use crate::{Error, Result};
use std::collections::HashSet;
use std::path::PathBuf;

/// What execve(2) is given, as far as it can be known before the container's files can be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Environment {
    pub variables: Vec<String>,
    /// No HOME, or an empty one: it is to be looked up in the container's /etc/passwd.
    pub needs_home: bool,
}

impl Environment {
    /// `env` of the config and what the caller adds, checked and without duplicates: the last of a name stays, in its
    /// place (as runc 1.5's prepareEnv).
    pub fn prepare(env: &[String], extra: &[String]) -> Result<Environment> {
        let all = || env.iter().chain(extra);
        for (i, variable) in all().enumerate() {
            let problem = match variable.split_once('=') {
                None => "missing '='",
                Some(("", _)) => "name cannot be empty",
                Some(_) if variable.contains('\0') => "contains nul byte (\\x00)",
                Some(_) => continue,
            };
            return Err(Error::invalid(format!("/process/env/{i}"), format!("invalid environment variable: {problem}")));
        }
        let mut seen = HashSet::new();
        let mut variables: Vec<String> = Vec::with_capacity(env.len() + extra.len());
        let mut needs_home = true;
        for variable in all().rev() {
            let (name, value) = variable.split_once('=').expect("checked above");
            if !seen.insert(name) {
                continue;
            }
            if name == "HOME" {
                needs_home = value.is_empty();
                if needs_home {
                    continue; // its place is taken by the one that is looked up
                }
            }
            variables.push(variable.clone());
        }
        variables.reverse();
        Ok(Environment { variables, needs_home })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.iter().find_map(|variable| variable.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
    }

    /// Where `program` may be: itself where it has a slash, else in each absolute directory of the container's PATH. The
    /// working directory is never searched, neither for an empty nor for a relative element: Go's LookPath, and so
    /// runc, refuses what it finds there.
    pub fn candidates(&self, program: &str) -> Vec<PathBuf> {
        if program.contains('/') {
            return vec![program.into()];
        }
        let path = self.get("PATH").unwrap_or("");
        path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| PathBuf::from(dir).join(program)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(env: &[&str]) -> Result<Environment> {
        Environment::prepare(&env.iter().map(|s| s.to_string()).collect::<Vec<_>>(), &[])
    }

    #[test]
    fn the_last_of_a_name_stays_where_it_is() {
        let env = prepare(&["A=1", "B=2", "A=3", "HOME=/h", "E="]).unwrap();
        assert_eq!(env.variables, ["B=2", "A=3", "HOME=/h", "E="]);
        assert!(!env.needs_home);
    }

    #[test]
    fn an_empty_home_is_looked_up() {
        for env in [&["A=1"][..], &["HOME=", "A=1"], &["HOME=/old", "HOME=", "A=1"]] {
            let env = prepare(env).unwrap();
            assert_eq!((env.variables, env.needs_home), (vec!["A=1".to_string()], true));
        }
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for bad in ["A", "=x", "A=\0"] {
            assert_eq!(prepare(&["OK=1", bad]).unwrap_err().subject, "/process/env/1", "{bad:?}");
        }
    }

    #[test]
    fn candidates_are_absolute() {
        let env = prepare(&["PATH=/bin::rel:/usr/bin/:."]).unwrap();
        assert_eq!(env.candidates("sh"), [PathBuf::from("/bin/sh"), PathBuf::from("/usr/bin/sh")]);
        assert_eq!(env.candidates("./sh"), [PathBuf::from("./sh")]);
        assert!(prepare(&[]).unwrap().candidates("sh").is_empty());
    }
}

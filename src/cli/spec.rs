//! `spec`: write a config.json to begin with.

use super::args::{path, switch};
use super::call::Call;
use super::{Verb, globals};
use crate::container;
use crate::spec::defaults;
use anyhow::{Context, Result, bail};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;

pub(crate) const VERB: Verb = Verb {
    name: "spec",
    about: "write a config.json to begin with",
    usage: "",
    positionals: (0, 0),
    stateless: true,
    flags: || {
        vec![
            path("bundle", "DIR", "where to write it (default: the current directory)").short('b'),
            switch("rootless", "for a container without root: a user namespace that maps the caller"),
        ]
    },
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    let ids = call.switch("rootless").then(globals::effective_ids);
    let mut spec = defaults::default_spec(ids);
    if container::has_unified_cgroups() {
        spec = defaults::with_cgroup_namespace(spec);
    }
    let text = defaults::to_pretty_json(&spec);
    let path = call.path("bundle").unwrap_or_else(|| ".".into()).join("config.json");
    // Created in one go with the check, so a file that appears meanwhile survives.
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o666).open(&path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => bail!("File {} exists. Remove it first", path.display()),
        other => other.with_context(|| format!("creating {}", path.display()))?,
    };
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    Ok(0)
}

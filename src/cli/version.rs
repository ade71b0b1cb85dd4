//! `version` and `--version`.

use super::call::Call;
use super::{Verb, output};
use anyhow::Result;

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
pub(crate) const COMMIT: Option<&str> = option_env!("DHOW_COMMIT");

pub(crate) const VERB: Verb = Verb {
    name: "version",
    about: "print the version",
    usage: "",
    positionals: (0, 0),
    stateless: true,
    run: |call: &Call| print(&call.program).map(|()| 0),
    ..Verb::BASE
};

/// Docker takes the last line with the word "version", go-runc the first line by its first word: the name that it
/// called. So a link named `runc` answers with that name, and who is really speaking stands in a line of its own.
pub(crate) fn print(program: &str) -> Result<()> {
    let commit = COMMIT.filter(|commit| !commit.is_empty()).unwrap_or("unknown");
    let spec = crate::spec::OCI_VERSION;
    let runtime = if program == "dhow" { "" } else { "runtime: dhow\n" };
    output::print(&format!("{program} version {VERSION}\ncommit: {commit}\nspec: {spec}\n{runtime}"))
}

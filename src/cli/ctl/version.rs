//! `version`.

use super::{Call, Verb, output};
use anyhow::Result;

pub(crate) const VERB: Verb =
    Verb { name: "version", about: "print the version", details: "The same as --version.", run: |call: &Call| print(&call.program).map(|()| 0), ..Verb::BASE };

pub(crate) fn print(program: &str) -> Result<()> {
    output::print(&format!("{program} version {}\n", crate::cli::version::VERSION))
}

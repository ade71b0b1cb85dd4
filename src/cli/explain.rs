//! `explain`: what `create` would do with a bundle, step by step, without doing it and without root.

use super::args::{format, path};
use super::call::Call;
use super::{Verb, output};
use crate::host::Host;
use crate::plan::{self, Options};
use crate::spec::Spec;
use anyhow::Result;

pub(crate) const VERB: Verb = Verb {
    name: "explain",
    about: "print what create would do with a bundle, step by step",
    usage: "[bundle]",
    positionals: (0, 1),
    stateless: true,
    flags: || vec![path("bundle", "DIR", "the bundle (default: the current directory)").short('b'), format(["text", "json"])],
    run,
    ..Verb::BASE
};

/// The id that stands for one not chosen yet.
const EXAMPLE_ID: &str = "example";

fn run(call: &Call) -> Result<u8> {
    let bundle = call.bundle(Some(0))?;
    let spec = Spec::load(&bundle)?;
    // Whoever asks for a terminal is taken to have a socket for it.
    let has_console = spec.process.as_ref().is_some_and(|process| process.terminal);
    let options = Options { id: EXAMPLE_ID.into(), bundle, has_console, ..Options::default() };
    let plan = plan::build(&spec, &Host::probe()?, &options)?;
    if call.text("format") == Some("json") {
        output::print_pretty_json(&plan, "  ")?;
    } else {
        output::print(&plan::explain::to_text(&plan))?;
    }
    Ok(0)
}

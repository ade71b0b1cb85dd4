//! `explain`: what `create` would do with a bundle, step by step, without doing it and without root.

use super::call::Call;
use super::{Verb, output};
use crate::plan;
use anyhow::Result;

pub(crate) const VERB: Verb = Verb { name: "explain", about: "print what create would do with a bundle, step by step", run, ..Verb::OF_BUNDLE };

fn run(call: &Call) -> Result<u8> {
    let plan = call.context.explain(&call.bundle(Some(0))?)?;
    if call.text("format") == Some("json") {
        output::print_pretty_json(&plan, "  ")?;
    } else {
        output::print(&plan::explain::to_text(&plan))?;
    }
    Ok(0)
}

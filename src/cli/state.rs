//! `state`: the state of a container as JSON.

use super::{Verb, output};

pub(crate) const VERB: Verb = Verb {
    name: "state",
    about: "print the state of a container",
    run: |call| {
        output::print_pretty_json(&call.context.state(call.id()?)?, "  ")?;
        Ok(0)
    },
    ..Verb::BASE
};

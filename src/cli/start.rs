//! `start`: run the program of a created container.

use super::Verb;

pub(crate) const VERB: Verb = Verb {
    name: "start",
    about: "run the program of a created container",
    run: |call| {
        call.context.start(call.id()?)?;
        Ok(0)
    },
    ..Verb::BASE
};

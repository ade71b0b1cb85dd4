//! `resume`: let a paused container go on.

use super::Verb;

pub(crate) const VERB: Verb = Verb {
    name: "resume",
    about: "let a paused container go on",
    run: |call| {
        call.context.resume(call.id()?)?;
        Ok(0)
    },
    ..Verb::BASE
};

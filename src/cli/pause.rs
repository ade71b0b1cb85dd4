//! `pause`: suspend all processes of a container.

use super::Verb;

pub(crate) const VERB: Verb = Verb {
    name: "pause",
    about: "suspend all processes of a container",
    run: |call| {
        call.context.pause(call.id()?)?;
        Ok(0)
    },
    ..Verb::BASE
};

//! `delete`: remove what is left of a container.

use super::Verb;
use super::args::switch;
use super::call::Call;
use crate::Kind;
use anyhow::Result;

pub(crate) const VERB: Verb = Verb {
    name: "delete",
    about: "remove a stopped container",
    flags: || vec![switch("force", "kill it first if it still runs; a missing container is no error").short('f')],
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    let force = call.switch("force");
    match call.context.delete(call.id()?, force) {
        Err(e) if force && e.kind == Kind::NotFound => Ok(0),
        result => Ok(result.map(|()| 0)?),
    }
}

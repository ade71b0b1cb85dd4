//! `run`: create, start, and stay until the container's program ends.

use super::args::switch;
use super::call::Call;
use super::{Failure, Prefix, Verb, create};
use crate::container::CreateRequest;
use anyhow::Result;

pub(crate) const VERB: Verb = Verb {
    name: "run",
    about: "create a container, start it and wait for it",
    flags,
    enters: true,
    run,
    failure: Failure { code: 1, prefix: Prefix::ProgramAndVerb },
    ..Verb::BASE
};

fn flags() -> Vec<clap::Arg> {
    let mut flags = create::flags();
    flags.extend([
        switch("detach", "leave as soon as the container runs").short('d'),
        switch("keep", "keep the container after its program has ended"),
        switch("no-subreaper", "do not adopt the container's orphans while waiting"),
    ]);
    flags
}

fn run(call: &Call) -> Result<u8> {
    let request =
        CreateRequest { detach: call.switch("detach"), keep: call.switch("keep"), no_subreaper: call.switch("no-subreaper"), ..create::request(call)? };
    Ok(call.context.run(&request)?)
}

//! `logout`: forget who we are to a registry.

use super::{Call, Verb, login, output};
use crate::image::registry::Keyring;
use anyhow::Result;

pub(crate) const VERB: Verb = Verb {
    name: "logout",
    about: "forget the login to a registry",
    usage: "[REGISTRY]",
    details: "Removes what `login` keeps for the registry (default: docker.io).",
    positionals: (0, 1),
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    let registry = login::registry(call)?;
    let text = if Keyring::open()?.erase(&registry)? { "logged out of" } else { "there was no login to" };
    output::print(&format!("{text} {registry}\n"))?;
    Ok(0)
}

//! `rmi`: remove images.

use super::{Call, Verb};
use super::{args::switch, output};
use crate::log;
use anyhow::Result;

pub(crate) const VERB: Verb = Verb {
    name: "rmi",
    about: "remove images from the store",
    usage: "IMAGE...",
    details: "The names go, and with them whatever no other name needs. Bundles that were unpacked stay.\n\n  dhowctl rmi nginx:1.27",
    positionals: (1, usize::MAX),
    flags: || vec![switch("keep-blobs", "remove the names only; `prune` removes the rest later")],
    run,
    ..Verb::BASE
};

/// All names are looked for first: either every one goes, or none.
fn run(call: &Call) -> Result<u8> {
    let store = call.store()?;
    let names = call.positionals_from(0)?;
    let entries = names.iter().map(|name| store.resolve(name)).collect::<Result<Vec<_>, _>>()?;
    for entry in &entries {
        store.unset(&entry.name)?;
        output::print(&format!("removed {}\n", entry.name))?;
    }
    if !call.switch("keep-blobs") && store.try_prune()?.is_none() {
        log::warn("a fetch is under way, so that the blobs are still there; `dhowctl prune` removes them");
    }
    Ok(0)
}

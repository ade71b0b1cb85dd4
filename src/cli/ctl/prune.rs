//! `prune`: remove what no image needs.

use super::images::human;
use super::{Call, Verb, output};
use anyhow::Result;

pub(crate) const VERB: Verb = Verb {
    name: "prune",
    about: "remove from the store what no image needs",
    details: "Blobs that belong to no image go, and what broken fetches left. It waits for fetches that are under way.",
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    let pruned = call.store()?.prune()?;
    output::print(&format!("removed {} blobs, {}\n", pruned.blobs, human(pruned.bytes)))?;
    Ok(0)
}

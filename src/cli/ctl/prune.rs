//! `prune`: remove what no image needs.

use super::images::human;
use super::{Call, Verb, output};
use crate::image::build::cache;
use anyhow::Result;

pub(crate) const VERB: Verb = Verb {
    name: "prune",
    about: "remove from the store what no image needs",
    details: "Blobs that belong to no image go, what broken fetches left, and all that builds keep: the steps' results and the\n\
        caches that RUNs mount. It waits for fetches and builds that are under way.",
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    let store = call.store()?;
    let pruned = store.prune()?;
    let cache = cache::prune(&store)?;
    output::print(&format!("removed {} blobs, {}\n", pruned.blobs, human(pruned.bytes)))?;
    if cache.records + cache.mounts > 0 {
        output::print(&format!("removed {} steps of builds, {} mounted caches\n", cache.records, cache.mounts))?;
    }
    Ok(0)
}

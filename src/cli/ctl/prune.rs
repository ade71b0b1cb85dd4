//! `prune`: remove what no image needs.

use super::images::human;
use super::{Call, Verb, output};
use crate::image::build::execute::cache;
use crate::image::layers::Layers;
use crate::image::transport::Staging;
use anyhow::Result;

pub(crate) const VERB: Verb = Verb {
    name: "prune",
    about: "remove from the store what no image needs",
    details: "Blobs that belong to no image go, unpacked layers that neither an image nor a bundle is made of, what broken\n\
        fetches left, and all that builds keep: the steps' results and the caches that RUNs mount. It waits for fetches\n\
        and builds that are under way.",
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    let store = call.store()?;
    let pruned = store.prune()?;
    Staging::remove_stale(&store);
    output::print(&format!("removed {} blobs, {}\n", pruned.blobs, human(pruned.bytes)))?;
    let cache = cache::prune(&store)?;
    if cache.records + cache.mounts > 0 {
        output::print(&format!("removed {} steps of builds, {} mounted caches\n", cache.records, cache.mounts))?;
    }
    if Layers::are_in(&store) {
        let layers = Layers::open(&store)?.prune(&store)?;
        output::print(&format!("removed {} unpacked layers, {}\n", layers.layers, human(layers.bytes)))?;
    }
    Ok(0)
}

//! `prune`: remove what no image needs.

use super::args::format;
use super::images::human;
use super::{Call, Verb, output};
use crate::image::build::execute::cache;
use crate::image::ids::Need;
use crate::image::layers::Layers;
use crate::image::transport::Staging;
use anyhow::Result;
use serde_json::json;

pub(crate) const VERB: Verb = Verb {
    name: "prune",
    about: "remove from the store what no image needs",
    details: "Blobs that belong to no image go, unpacked layers that neither an image nor a bundle is made of, what broken\n\
        fetches left, and all that builds keep: the steps' results and the caches that RUNs mount. It waits for fetches\n\
        and builds that are under way.",
    flags: || vec![format(["text", "json"])],
    need: |_| Need::Owners,
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    let store = call.store()?;
    let pruned = store.prune()?;
    Staging::remove_stale(&store);
    let cache = cache::prune(&store)?;
    let layers = if Layers::are_in(&store) { Some(Layers::open(&store)?.prune(&store)?) } else { None };
    if call.text("format") == Some("json") {
        let (count, bytes) = layers.map_or((0, 0), |layers| (layers.layers, layers.bytes));
        output::print_json(&json!({
            "blobs": {"count": pruned.blobs, "bytes": pruned.bytes},
            "layers": {"count": count, "bytes": bytes},
            "steps": cache.records,
            "caches": cache.mounts,
        }))?;
        return Ok(0);
    }
    output::print(&format!("removed {} blobs, {}\n", pruned.blobs, human(pruned.bytes)))?;
    if cache.records + cache.mounts > 0 {
        output::print(&format!("removed {} steps of builds, {} mounted caches\n", cache.records, cache.mounts))?;
    }
    if let Some(layers) = layers {
        output::print(&format!("removed {} unpacked layers, {}\n", layers.layers, human(layers.bytes)))?;
    }
    Ok(0)
}

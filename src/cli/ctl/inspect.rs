//! `inspect`: what an image is made of.

use super::args::{format, switch, text};
use super::images::{familiar, human, platforms, printable};
use super::{Call, Verb, output};
use crate::Error;
use crate::image::model::{Document, Execution, ImageConfig};
use crate::image::store::{Entry, Image};
use crate::image::transport::{Opened, Source};
use crate::image::{Platform, Store};
use anyhow::Result;
use serde_json::{Value, json};

pub(crate) const VERB: Verb = Verb {
    name: "inspect",
    about: "show an image's config, layers, history and platforms",
    usage: "IMAGE|oci:DIR[:NAME]",
    details: "Of the image in the store, or in another layout. --raw prints the manifest or index as it came, byte for byte.\n\n  dhowctl inspect nginx:1.27\n  dhowctl inspect --format json nginx:1.27 | jq .config.Env",
    positionals: (1, 1),
    flags: || {
        vec![
            format(["table", "json"]),
            text("platform", "OS/ARCH", "of an index, the image for this platform (default: this machine's)"),
            switch("raw", "print the manifest or index itself"),
        ]
    },
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    let source = Source::parse(call.word(0)?)?;
    if let Source::Archive { .. } = source {
        return Err(Error::usage("inspect: an archive has to be pushed or unpacked to be looked into").into());
    }
    let Opened { store, entry, hold: _hold } = source.open(|| Store::existing(&call.store_dir))?;
    if call.switch("raw") {
        let bytes = store.read_blob(&entry.descriptor)?;
        output::print(&String::from_utf8_lossy(&bytes))?;
        return Ok(0);
    }
    let platform = call.text("platform").map_or_else(|| Ok(Platform::host()), str::parse)?;
    // A single image is shown whatever it is for; a choice needs to be made only in an index.
    let image = match (call.text("platform"), store.document(&entry.descriptor)?) {
        (None, Document::Manifest(manifest)) if !manifest.is_image() => return artifact(call, &entry, &manifest),
        _ => store.image(&entry.descriptor, &platform)?,
    };
    if call.text("format") == Some("json") {
        output::print_pretty_json(&as_json(&store, &entry, &image), "  ")?;
    } else {
        output::print(&as_text(&store, &entry, &image))?;
    }
    Ok(0)
}

/// What isn't an image has no config to show, but its manifest.
fn artifact(call: &Call, entry: &Entry, manifest: &crate::image::Manifest) -> Result<u8> {
    if call.text("format") == Some("json") {
        output::print_pretty_json(&json!({"name": entry.name, "digest": entry.descriptor.digest, "artifact": manifest}), "  ")?;
        return Ok(0);
    }
    let kind = if manifest.artifact_type.is_empty() { &manifest.config.media_type } else { &manifest.artifact_type };
    let blobs: String = manifest.layers.iter().map(|l| format!("  {}  {:>9}  {}\n", l.digest, human(l.size), printable(&l.media_type))).collect();
    output::print(&format!("Name:      {}\nDigest:    {}\nArtifact:  {}\nBlobs:\n{blobs}", printable(&entry.name), entry.descriptor.digest, printable(kind)))?;
    Ok(0)
}

fn as_json(store: &Store, entry: &Entry, image: &Image) -> Value {
    let layers: Vec<Value> =
        layers(image).map(|(layer, diff_id)| json!({"digest": layer.digest, "size": layer.size, "mediaType": layer.media_type, "diffId": diff_id})).collect();
    json!({
        "name": entry.name,
        "digest": entry.descriptor.digest,
        "manifest": image.descriptor,
        "platform": image.config.platform.to_string(),
        "platforms": platforms(store, entry),
        "created": image.config.created,
        "author": image.config.author,
        "config": image.config.config,
        "layers": layers,
        "history": image.config.history,
        "annotations": image.manifest.annotations,
        "size": size(image),
    })
}

/// As the descriptors say, which may be anything as long as the blobs aren't here.
fn size(image: &Image) -> u64 {
    image.manifest.blobs().fold(0, |sum, d| sum.saturating_add(d.size))
}

/// Each layer with the diff id that belongs to it.
fn layers(image: &Image) -> impl Iterator<Item = (&crate::image::Descriptor, Option<&crate::image::Digest>)> {
    let ids = &image.config.rootfs.diff_ids;
    image.manifest.layers.iter().enumerate().map(|(i, layer)| (layer, ids.get(i)))
}

fn as_text(store: &Store, entry: &Entry, image: &Image) -> String {
    let mut out = String::new();
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            out.push_str(&format!("{label:<12} {}\n", printable(value)));
        }
    };
    line("Name", &familiar(&entry.name));
    line("Digest", &entry.descriptor.digest.to_string());
    line("Platform", &image.config.platform.to_string());
    let all = platforms(store, entry);
    line("Platforms", &if all.len() > 1 { all.join(", ") } else { String::new() });
    line("Created", &image.config.created);
    line("Author", &image.config.author);
    line("Size", &format!("{} in {} layers", human(size(image)), image.manifest.layers.len()));
    execution(&image.config.config, &mut line);
    out.push_str("\nLAYER\n");
    for (layer, _) in layers(image) {
        out.push_str(&format!("  {}  {:>9}  {}\n", layer.digest, human(layer.size), printable(layer.media_type.rsplit('.').next().unwrap_or_default())));
    }
    out.push_str(&history(&image.config));
    out
}

fn execution(config: &Execution, line: &mut impl FnMut(&str, &str)) {
    let words = |list: &[String]| serde_json::to_string(list).unwrap_or_default();
    let list = |list: &[String]| if list.is_empty() { String::new() } else { words(list) };
    line("Entrypoint", &list(&config.entrypoint));
    line("Cmd", &list(&config.cmd));
    line("User", &config.user);
    line("WorkingDir", &config.working_dir);
    line("StopSignal", &config.stop_signal);
    config.env.iter().for_each(|env| line("Env", env));
    config.exposed_ports.keys().for_each(|port| line("Port", port));
    config.volumes.keys().for_each(|volume| line("Volume", volume));
    config.labels.iter().for_each(|(key, value)| line("Label", &format!("{key}={value}")));
}

fn history(config: &ImageConfig) -> String {
    if config.history.is_empty() {
        return String::new();
    }
    let lines = config.history.iter().map(|step| {
        let mark = if step.empty_layer { " " } else { "+" };
        format!("  {mark} {}\n", printable(&step.created_by))
    });
    "\nHISTORY (+ made a layer)\n".to_string() + &lines.collect::<String>()
}

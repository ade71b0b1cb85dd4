//! `images`: what is in the store.

use super::args::{format, switch};
use super::{Call, Verb, output};
use crate::Kind;
use crate::image::model::Document;
use crate::image::{Reference, Store, store::Entry};
use anyhow::Result;
use serde::Serialize;

pub(crate) const VERB: Verb = Verb {
    name: "images",
    about: "list the images of the store",
    details: "SIZE is that of the blobs, compressed as they came; what images share counts for each.",
    flags: || vec![format(["table", "json"]), switch("quiet", "print the names only").short('q')],
    run,
    ..Verb::BASE
};

#[derive(Serialize)]
struct Row {
    name: String,
    digest: String,
    #[serde(rename = "mediaType")]
    media_type: String,
    platforms: Vec<String>,
    size: u64,
}

fn run(call: &Call) -> Result<u8> {
    // Looking makes nothing: where there is no store there are no images.
    let rows: Vec<Row> = match Store::existing(&call.store_dir) {
        Ok(store) => store.entries()?.iter().map(|entry| row(&store, entry)).collect(),
        Err(e) if e.kind == Kind::NotFound => Vec::new(),
        Err(e) => return Err(e.into()),
    };
    if call.switch("quiet") {
        output::print(&rows.iter().map(|row| format!("{}\n", row.name)).collect::<String>())?;
    } else if call.text("format") == Some("json") {
        output::print_json(&rows)?;
    } else {
        let header = ["NAME", "DIGEST", "PLATFORM", "SIZE"].map(String::from).to_vec();
        let cells = |row: &Row| {
            vec![printable(&familiar(&row.name)), row.digest[..19.min(row.digest.len())].into(), printable(&row.platforms.join(",")), human(row.size)]
        };
        let table: Vec<Vec<String>> = std::iter::once(header).chain(rows.iter().map(cells)).collect();
        output::print(&output::table(&table))?;
    }
    Ok(0)
}

fn row(store: &Store, entry: &Entry) -> Row {
    let d = &entry.descriptor;
    Row { name: entry.name.clone(), digest: d.digest.to_string(), media_type: d.media_type.clone(), platforms: platforms(store, entry), size: store.size_of(d) }
}

/// For which platforms the image is here; what can't be read has none.
pub(crate) fn platforms(store: &Store, entry: &Entry) -> Vec<String> {
    match store.document(&entry.descriptor) {
        Ok(Document::Index(index)) => {
            let here = index.manifests.iter().filter(|d| !d.is_attestation() && store.has(d));
            here.filter_map(|d| d.platform.as_ref().map(ToString::to_string)).collect()
        }
        Ok(Document::Manifest(manifest)) if manifest.is_image() => store.config(&manifest).map(|c| c.platform.to_string()).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// A name as people write it.
pub(crate) fn familiar(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_string(), |reference| reference.familiar())
}

/// Without what would move a terminal's cursor: the text is a stranger's.
pub(crate) fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

/// Bytes for people: `2.1 MB`.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn sizes_for_people() {
        let table = [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_140_000, "2.1 MB"), (999_960, "1.0 MB"), (5_000_000_000, "5.0 GB")];
        for (bytes, text) in table {
            assert_eq!(human(bytes), text);
        }
    }
}

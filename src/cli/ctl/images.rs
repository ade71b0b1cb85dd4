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
    usage: "[IMAGE]",
    details: "With IMAGE that one alone, or all tags of it if none is given. SIZE is that of the blobs, compressed as they came;\n\
        what images share counts for each.",
    positionals: (0, 1),
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
        Ok(store) => {
            let mut entries = store.entries()?;
            if let Some(word) = call.positional(0)? {
                entries.retain(|entry| is_meant(word, &entry.name));
            }
            entries.iter().map(|entry| row(&store, entry)).collect()
        }
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

/// `word` is the entry's name, or its repository's without a tag.
fn is_meant(word: &str, name: &str) -> bool {
    let has_version = word.contains('@') || word.rsplit('/').next().is_some_and(|last| last.contains(':'));
    match (word.parse::<Reference>(), name.parse::<Reference>()) {
        _ if word == name => true,
        (Ok(word), Ok(name)) if has_version => word == name,
        (Ok(word), Ok(name)) => word.name() == name.name(),
        _ => false,
    }
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
    use super::{human, is_meant};

    #[test]
    fn what_is_listed() {
        let one = "localhost:5000/a/b:1";
        for (word, name, meant) in [
            (one, one, true),
            ("localhost:5000/a/b", one, true),
            ("localhost:5000/a/b:2", one, false),
            ("localhost:5000/a", one, false),
            ("nginx", "docker.io/library/nginx:1.27", true),
            ("nginx:latest", "docker.io/library/nginx:1.27", false),
            ("v1", "v1", true),
            ("V1", "V 1", false),
        ] {
            assert_eq!(is_meant(word, name), meant, "{word} {name}");
        }
    }

    #[test]
    fn sizes_for_people() {
        let table = [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_140_000, "2.1 MB"), (999_960, "1.0 MB"), (5_000_000_000, "5.0 GB")];
        for (bytes, text) in table {
            assert_eq!(human(bytes), text);
        }
    }
}

//! The documents of image-spec 1.1 and of Docker's schema 2: descriptors, manifests, indexes, an image's config.
//!
//! All of them come from strangers. They are read from a bounded number of bytes, and a document has one meaning: what
//! its media type says, what its descriptor says and what its fields look like must agree (CVE-2021-41190).

use super::digest::{Digest, clip};
use super::platform::Platform;
use crate::spec::{is_default, null_is_default};
use crate::{Error, Result};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// No manifest, index or config is larger: registries keep to 4 MiB too.
pub const MOST_DOCUMENT: u64 = 4 << 20;
/// Index in index in index: nobody needs more, and a cycle must end.
pub const MOST_DEPTH: usize = 4;

pub mod media {
    //! Media types, in OCI's and Docker's names.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

    pub fn is_manifest(media_type: &str) -> bool {
        matches!(media_type, MANIFEST | DOCKER_MANIFEST)
    }

    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, INDEX | DOCKER_LIST)
    }

    pub fn is_config(media_type: &str) -> bool {
        matches!(media_type, CONFIG | DOCKER_CONFIG)
    }

    /// A layer that must not be pushed elsewhere (Windows base layers), which a registry may not have.
    pub fn is_foreign(media_type: &str) -> bool {
        media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
    }

    /// Something to unpack, however it is compressed.
    pub fn is_layer(media_type: &str) -> bool {
        let oci = media_type.starts_with("application/vnd.oci.image.layer.");
        oci || media_type.starts_with("application/vnd.docker.image.rootfs.")
    }
}

/// The annotation that names an entry of a layout's `index.json`.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// BuildKit's mark of an attestation in an index.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// Where a blob is and what it is (descriptor.md). `size` is in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    /// Where a foreign layer may be had.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub urls: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub artifact_type: String,
}

impl Descriptor {
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        let (urls, annotations, platform, artifact_type) = Default::default();
        Descriptor { media_type: media_type.into(), digest, size, urls, annotations, platform, artifact_type }
    }

    /// Of `bytes`, by SHA-256.
    pub fn of(media_type: &str, bytes: &[u8]) -> Descriptor {
        Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// An attestation (provenance, SBOM) that stands in an index among the images.
    pub fn is_attestation(&self) -> bool {
        self.annotations.contains_key(REFERENCE_TYPE) || self.platform.as_ref().is_some_and(Platform::is_unknown)
    }

    pub fn is_foreign(&self) -> bool {
        media::is_foreign(&self.media_type)
    }
}

/// manifest.md, and Docker's schema 2, which has the same shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub media_type: String,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub artifact_type: String,
    pub config: Descriptor,
    /// The lowest first.
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// It holds an image, not a Helm chart, a signature or whatever else registries store.
    pub fn is_image(&self) -> bool {
        self.artifact_type.is_empty() && media::is_config(&self.config.media_type)
    }

    /// Config and layers: all that must be there for the manifest to be whole.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

/// index.md, and Docker's manifest list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub media_type: String,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub artifact_type: String,
    pub manifests: Vec<Descriptor>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// The entry that runs best on `platform`; those that name no platform come last.
    ///
    /// # Errors
    /// None runs there: the message says for which there are images.
    pub fn choose(&self, platform: &Platform) -> Result<&Descriptor> {
        let images = || self.manifests.iter().filter(|d| !d.is_attestation());
        let ranked = images().filter_map(|d| match &d.platform {
            Some(offered) => Some((platform.rank(offered)?, d)),
            None => Some((usize::MAX, d)),
        });
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, d)| d).ok_or_else(|| {
            let mut offered: Vec<String> = images().filter_map(|d| d.platform.as_ref()).map(Platform::to_string).collect();
            offered.sort();
            offered.dedup();
            let cause = if offered.is_empty() { "there is no image in the index".into() } else { format!("there are images for {}", offered.join(", ")) };
            Error::new(crate::Kind::NotFound, "choosing an image for", platform.to_string(), cause).hint("--platform chooses another")
        })
    }
}

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// The fields that tell what a document is, and those of other kinds that it must not have.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<IgnoredAny>,
    #[serde(default)]
    layers: Option<IgnoredAny>,
    #[serde(default)]
    manifests: Option<IgnoredAny>,
    #[serde(default)]
    fs_layers: Option<IgnoredAny>,
    #[serde(default)]
    history: Option<IgnoredAny>,
}

impl Document {
    /// Read `bytes`, which were announced as `declared` (a descriptor's or a response's media type; "" if nobody said).
    ///
    /// # Errors
    /// It is no manifest and no index, is both, or isn't what it was announced as.
    pub fn parse(bytes: &[u8], declared: &str) -> Result<Document> {
        let wrong = |cause: String| Error::other("reading the manifest", "", cause);
        if bytes.len() as u64 > MOST_DOCUMENT {
            return Err(wrong(format!("it has {} bytes; {MOST_DOCUMENT} are the most", bytes.len())));
        }
        let probe: Probe = serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
        let is_index = kind_of(&probe, declared).map_err(wrong)?;
        let document = if is_index {
            Document::Index(serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?)
        } else {
            Document::Manifest(serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?)
        };
        Ok(document)
    }

    /// What it is in so many words; where it doesn't say, OCI's.
    pub fn media_type(&self) -> &str {
        match self {
            Document::Manifest(m) if m.media_type.is_empty() => media::MANIFEST,
            Document::Manifest(m) => &m.media_type,
            Document::Index(i) if i.media_type.is_empty() => media::INDEX,
            Document::Index(i) => &i.media_type,
        }
    }

    /// What it refers to and is not whole without.
    pub fn children(&self) -> Vec<&Descriptor> {
        match self {
            Document::Manifest(m) => m.blobs().collect(),
            Document::Index(i) => i.manifests.iter().collect(),
        }
    }
}

/// Whether it is an index, from all that is said of it; they have to agree.
fn kind_of(probe: &Probe, declared: &str) -> Result<bool, String> {
    if probe.fs_layers.is_some() || probe.history.is_some() || probe.schema_version == Some(1) {
        return Err("it is of Docker's schema 1, which is obsolete: push the image again with a newer tool".into());
    }
    if probe.schema_version != Some(2) {
        return Err(match probe.schema_version {
            Some(other) => format!("schemaVersion is {other}, not 2"),
            None => "it has no schemaVersion".into(),
        });
    }
    let inside = probe.media_type.as_deref().unwrap_or_default();
    let known = |t: &str| media::is_manifest(t) || media::is_index(t);
    // Registries that don't know better say application/json; only a manifest's own types mean something.
    let declared = declared.split(';').next().unwrap_or_default().trim();
    if !inside.is_empty() && !known(inside) {
        return Err(format!("mediaType {:?} is neither a manifest's nor an index's", clip(inside)));
    }
    if !inside.is_empty() && known(declared) && inside != declared {
        return Err(format!("it was announced as {declared}, but says that it is {inside}"));
    }
    let stated = if inside.is_empty() { declared } else { inside };
    let (looks_manifest, looks_index) = (probe.config.is_some() || probe.layers.is_some(), probe.manifests.is_some());
    match (looks_manifest, looks_index) {
        (true, true) => Err("it has both manifests and layers or config: one document must not be two things".into()),
        (false, false) => Err("it has neither manifests nor layers".into()),
        (manifest, _) if known(stated) && media::is_manifest(stated) != manifest => Err(format!("its fields are not those of {stated}")),
        (_, index) => Ok(index),
    }
}

/// config.md: what an image's processes get, and its layers' contents.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub created: String,
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub author: String,
    #[serde(flatten)]
    pub platform: Platform,
    #[serde(deserialize_with = "null_is_default")]
    pub config: Execution,
    pub rootfs: RootFs,
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub history: Vec<History>,
}

/// The defaults for a container of the image.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Execution {
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub user: String,
    /// The keys are `port[/protocol]`.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub exposed_ports: BTreeMap<String, Value>,
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub cmd: Vec<String>,
    /// The keys are paths in the container.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub volumes: BTreeMap<String, Value>,
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub working_dir: String,
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub stop_signal: String,
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub shell: Vec<String>,
    /// Docker's: triggers for a build from this image.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub on_build: Vec<String>,
    /// Docker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Docker's: Cmd needs no quoting on Windows; set whenever a Dockerfile sets Cmd.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub args_escaped: bool,
}

/// How Docker tells whether a container is well. Durations in nanoseconds, 0 for Docker's default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", program, …]` or `["CMD-SHELL", command]`.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub test: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub interval: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub retries: i64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    #[serde(rename = "type")]
    pub kind: String,
    /// Of each layer's tar, uncompressed, the lowest first.
    #[serde(deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub created: String,
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub created_by: String,
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub comment: String,
    /// The step made no layer.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Read an image's config.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig> {
        let wrong = |cause: String| Error::other("reading the image's config", "", cause);
        let config: ImageConfig = serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
        match config.rootfs.kind.as_str() {
            "layers" | "" => Ok(config),
            other => Err(wrong(format!("rootfs.type is {:?}, not \"layers\"", clip(other)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn descriptor(media_type: &str) -> Value {
        json!({"mediaType": media_type, "size": 3, "digest": Digest::of(b"abc").to_string()})
    }

    fn manifest() -> Value {
        json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "config": descriptor(media::CONFIG), "layers": [descriptor(media::LAYER_GZIP)]})
    }

    fn index(platforms: &[&str]) -> Index {
        let manifests: Vec<Value> = platforms
            .iter()
            .map(|p| {
                let mut d = descriptor(media::MANIFEST);
                let parts: Vec<&str> = p.split('/').collect();
                d["platform"] = json!({"os": parts[0], "architecture": parts[1], "variant": parts.get(2)});
                d["annotations"] = json!({"is": p});
                d
            })
            .collect();
        match parse(&json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": manifests}), "").unwrap() {
            Document::Index(index) => index,
            other => panic!("{other:?}"),
        }
    }

    fn parse(value: &Value, declared: &str) -> Result<Document> {
        Document::parse(value.to_string().as_bytes(), declared)
    }

    #[track_caller]
    fn refused(value: &Value, declared: &str, word: &str) {
        let message = parse(value, declared).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }

    #[test]
    fn manifests_and_indexes() {
        let Document::Manifest(m) = parse(&manifest(), media::MANIFEST).unwrap() else { panic!() };
        assert!(m.is_image() && m.layers.len() == 1);
        let mut nameless = manifest();
        nameless.as_object_mut().unwrap().remove("mediaType");
        for declared in ["", "application/json", "text/plain; charset=utf-8", media::DOCKER_MANIFEST] {
            parse(&nameless, declared).unwrap();
        }
        assert_eq!(index(&["linux/amd64", "linux/arm64"]).manifests.len(), 2);
    }

    #[test]
    fn one_document_is_one_thing() {
        let mut both = manifest();
        both["manifests"] = json!([]);
        refused(&both, "", "one document must not be two things");
        both["mediaType"] = json!(media::INDEX);
        refused(&both, media::INDEX, "one document must not be two things");
        refused(&manifest(), media::INDEX, "announced as");
        refused(&manifest(), media::DOCKER_MANIFEST, "announced as");
        let mut nameless = manifest();
        nameless.as_object_mut().unwrap().remove("mediaType");
        refused(&nameless, media::INDEX, "its fields are not those");
        let mut other = manifest();
        other["mediaType"] = json!("text/html");
        refused(&other, "", "neither a manifest's nor an index's");
    }

    #[test]
    fn what_is_no_manifest() {
        refused(&json!({}), "", "no schemaVersion");
        refused(&json!({"schemaVersion": 2}), "", "neither manifests nor layers");
        refused(&json!({"schemaVersion": 1, "fsLayers": [], "history": []}), "", "schema 1");
        refused(&json!({"schemaVersion": 3, "layers": []}), "", "schemaVersion is 3");
        refused(&json!([]), "", "reading the manifest");
        let mut bad = manifest();
        bad["layers"][0]["digest"] = json!("sha256:../../etc/passwd");
        refused(&bad, "", "invalid digest");
        let mut negative = manifest();
        negative["layers"][0]["size"] = json!(-1);
        refused(&negative, "", "invalid value");
        let huge = format!("{}{}", manifest(), " ".repeat(MOST_DOCUMENT as usize));
        assert!(Document::parse(huge.as_bytes(), "").unwrap_err().to_string().contains("are the most"));
        // As deep as a stack: refused by the reader's own limit.
        assert!(Document::parse("[".repeat(100_000).as_bytes(), "").is_err());
    }

    #[test]
    fn an_index_is_asked_for_a_platform() {
        let is = |index: &Index, platform: &str| index.choose(&platform.parse().unwrap()).map(|d| d.annotations["is"].clone()).map_err(|e| e.to_string());
        let all = index(&["linux/arm/v7", "linux/amd64", "linux/arm64/v8", "linux/arm/v6", "windows/amd64", "unknown/unknown"]);
        assert_eq!(is(&all, "linux/amd64").unwrap(), "linux/amd64");
        assert_eq!(is(&all, "linux/arm64").unwrap(), "linux/arm64/v8");
        assert_eq!(is(&all, "linux/arm/v6").unwrap(), "linux/arm/v6");
        assert_eq!(is(&all, "linux/arm/v8").unwrap(), "linux/arm/v7");
        let message = is(&all, "linux/s390x").unwrap_err();
        assert!(message.contains("linux/amd64, linux/arm/v6") && !message.contains("unknown"), "{message}");
        assert!(is(&index(&["unknown/unknown"]), "linux/amd64").unwrap_err().contains("no image in the index"));
    }

    #[test]
    fn docker_s_nulls_are_nothing() {
        let text = json!({"architecture": "amd64", "os": "linux", "config": {"Entrypoint": null, "Cmd": ["sh"], "Env": null, "Labels": null, "OnBuild": null},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"").to_string()]}, "history": null});
        let config = ImageConfig::parse(text.to_string().as_bytes()).unwrap();
        assert_eq!((config.platform.to_string().as_str(), config.config.cmd.len(), config.rootfs.diff_ids.len()), ("linux/amd64", 1, 1));
        assert!(ImageConfig::parse(b"{\"rootfs\":{\"type\":\"xfs\"}}").is_err());
    }

    /// Each byte of a manifest and of an index replaced by several others: an error or a document, never a panic.
    #[test]
    fn damaged_documents() {
        let index = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": [descriptor(media::MANIFEST)]});
        for text in [manifest().to_string(), index.to_string()] {
            for at in 0..text.len() {
                for byte in [b'"', b'{', b'}', b'[', b'0', b'-', b'\\', 0, 0xff] {
                    let mut bytes = text.clone().into_bytes();
                    bytes[at] = byte;
                    let _ = Document::parse(&bytes, media::MANIFEST);
                    let _ = Document::parse(&bytes[..at], "");
                    let _ = ImageConfig::parse(&bytes);
                }
            }
        }
    }
}

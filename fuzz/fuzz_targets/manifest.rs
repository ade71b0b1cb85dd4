//! Any bytes are a manifest, an index or an error, whatever they were announced as; so with configs.
#![no_main]

use dhow::image::model::media;
use dhow::image::{Document, ImageConfig, Platform};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for declared in ["", "application/json", media::MANIFEST, media::INDEX, media::DOCKER_LIST] {
        match Document::parse(bytes, declared) {
            Ok(Document::Index(index)) => {
                assert!(!media::is_manifest(declared));
                let _ = index.choose(&Platform::host());
            }
            Ok(Document::Manifest(_)) => assert!(!media::is_index(declared)),
            Err(_) => {}
        }
    }
    let _ = ImageConfig::parse(bytes);
});

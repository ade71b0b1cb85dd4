//! Any text is a reference or an error; a reference reads back as itself, whole and familiar.
#![no_main]

use dhow::image::Reference;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(reference) = text.parse::<Reference>() else { return };
    for text in [reference.to_string(), reference.familiar()] {
        assert_eq!(text.parse::<Reference>().ok().as_ref(), Some(&reference), "{text}");
    }
    assert!(!reference.repository().split('/').any(|part| part.is_empty() || part == "." || part == ".."));
});

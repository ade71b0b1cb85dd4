//! `verify`: digest the store again.

use super::args::format;
use super::images::human;
use super::{Call, Verb, output};
use crate::log;
use anyhow::Result;
use serde_json::json;

pub(crate) const VERB: Verb = Verb {
    name: "verify",
    about: "check every blob of the store against its digest",
    details: "Each fault is a line; the exit code is 1 if there is any. `rmi` and `fetch` of the image mend it.",
    flags: || vec![format(["text", "json"])],
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    let found = call.store()?.verify(|digest, size| log::debug(&format!("{digest}: {size} bytes")))?;
    if call.text("format") == Some("json") {
        let faults: Vec<_> = found.faults.iter().map(|f| json!({"subject": f.subject, "cause": f.cause})).collect();
        output::print_json(&json!({"blobs": found.blobs, "bytes": found.bytes, "faults": faults}))?;
    } else {
        let faults: String = found.faults.iter().map(|f| format!("{}: {}\n", f.subject, f.cause)).collect();
        output::print(&format!("{faults}{} blobs, {}, {} faults\n", found.blobs, human(found.bytes), found.faults.len()))?;
    }
    Ok(u8::from(!found.faults.is_empty()))
}

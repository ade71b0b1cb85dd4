//! `tag`: another name for an image.

use super::{Call, Verb};
use crate::image::Reference;
use anyhow::{Result, bail};

pub(crate) const VERB: Verb = Verb {
    name: "tag",
    about: "give an image of the store another name",
    usage: "IMAGE NAME",
    details: "NAME then stands for the same image; if it stood for another, it no longer does.\n\n  dhowctl tag nginx:1.27 localhost:5000/nginx:mine",
    positionals: (2, 2),
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    let name: Reference = call.word(1)?.parse()?;
    if name.digest().is_some() {
        bail!("{name}: a new name has a tag, not a digest");
    }
    let store = call.store()?;
    let entry = store.resolve(call.word(0)?)?;
    store.set(&name.to_string(), &entry.descriptor)?;
    Ok(0)
}

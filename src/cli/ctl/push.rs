//! `push`: an image to a registry.

use super::{Call, Verb, network, output};
use crate::Error;
use crate::image::transport::{Opened, Source};
use crate::image::{Reference, Store};
use anyhow::Result;
use serde_json::json;

pub(crate) const VERB: Verb = Verb {
    name: "push",
    about: "push an image to a registry",
    usage: "IMAGE [NAME]",
    details: "IMAGE is one of the store, or oci:DIR[:NAME] or docker-archive:FILE. NAME says where to, by default IMAGE's own\n\
        name. What the registry has already is not sent again. An index is pushed whole (see fetch --all-platforms).\n\n  \
        dhowctl push localhost:5000/nginx:mine\n  \
        dhowctl push oci:DIR:latest registry.lan:5000/a/b:1",
    positionals: (1, 2),
    flags: network::transfer_flags,
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    let source = Source::parse(call.word(0)?)?;
    let name: Reference = match (call.positional(1)?, &source) {
        (Some(name), _) => name.parse()?,
        (None, Source::Store(name)) => name.parse()?,
        (None, _) => return Err(Error::usage(format!("{}: where to? Give a NAME as second argument", call.word(0)?)).into()),
    };
    let client = network::client(call)?;
    let Opened { store, entry, hold } = source.open(|| Store::open(&call.store_dir))?;
    if name.digest().is_some_and(|digest| *digest != entry.descriptor.digest) {
        return Err(Error::usage(format!("{name}: the image has digest {}", entry.descriptor.digest)).into());
    }
    client.push(&store, &entry.descriptor, &name, &network::progress(call))?;
    drop(hold);
    if network::is_json(call) {
        output::print_json(&json!({"event": "image", "name": name.to_string(), "digest": entry.descriptor.digest}))?;
    } else {
        output::print(&format!("{}\n", entry.descriptor.digest))?;
    }
    Ok(0)
}

//! `fetch`: an image from a registry into the store.

use super::args::{switch, text};
use super::{Call, Verb, network, output};
use crate::Error;
use crate::image::registry::{Pull, Want};
use crate::image::transport::{self, Staging, Target};
use crate::image::{Reference, Store};
use anyhow::Result;
use serde_json::json;

pub(crate) const VERB: Verb = Verb {
    name: "fetch",
    about: "fetch an image from a registry",
    usage: "IMAGE",
    details: "The image comes into the store, or with -o elsewhere. What is there already is not fetched again, and what was\n\
        broken off goes on where it was. Prints the digest of what IMAGE stands for.\n\n  \
        dhowctl fetch nginx:1.27\n  \
        dhowctl fetch --platform linux/arm64 -o oci:DIR debian\n  \
        dhowctl fetch --insecure registry.lan:5000/a/b@sha256:…\n\n\
        -o oci:DIR[:NAME]              an OCI image layout, by default named as the tag; what is Docker's becomes OCI's\n\
        -o docker-archive:FILE[:NAME]  what `docker load` reads",
    positionals: (1, 1),
    flags: || {
        let mut all = vec![
            text("platform", "OS/ARCH", "of an index, the image for this platform (default: this machine's)"),
            switch("all-platforms", "of an index, all there is"),
            text("output", "WHERE", "oci:DIR or docker-archive:FILE, instead of the store").short('o'),
        ];
        all.extend(network::transfer_flags());
        all
    },
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    let reference: Reference = call.word(0)?.parse()?;
    let want = want(call)?;
    let target = call.text("output").map(|text| Target::parse(text, &reference)).transpose()?;
    if matches!(target, Some(Target::Archive { .. })) && want == Want::All {
        return Err(Error::usage("--all-platforms: an archive holds one platform").into());
    }
    let client = network::client(call)?;
    let start = |store: &Store| Pull::start(&client, store, &reference, &want, &network::progress(call));
    let entry = match &target {
        None => start(&call.store()?)?.finish()?,
        Some(Target::Layout { dir, name }) => start(&Store::open(dir)?)?.finish_as_oci(name)?,
        Some(Target::Archive { file, name }) => {
            let staging = Staging::begin(&call.store()?)?;
            let store = staging.store()?;
            let entry = start(&store)?.finish()?;
            transport::write_archive(&store, &entry.descriptor, file, name)?;
            entry
        }
    };
    if network::is_json(call) {
        let line = json!({"event": "image", "name": entry.name, "digest": entry.descriptor.digest, "mediaType": entry.descriptor.media_type});
        output::print_json(&line)?;
    } else {
        output::print(&format!("{}\n", entry.descriptor.digest))?;
    }
    Ok(0)
}

pub(crate) fn want(call: &Call) -> Result<Want> {
    match (call.text("platform"), call.switch("all-platforms")) {
        (Some(_), true) => Err(Error::usage("--platform and --all-platforms: one or the other").into()),
        (Some(text), false) => Ok(Want::Platform(text.parse()?)),
        (None, true) => Ok(Want::All),
        (None, false) => Ok(Want::Here),
    }
}

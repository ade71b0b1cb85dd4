//! `unpack`: a bundle from an image.

use super::args::switch;
use super::bring;
use super::{Call, Verb, network, output};
use crate::Error;
use crate::image::brought::Brought;
use crate::image::bundle::{self, Overlay, Request};
use crate::image::convert::Wishes;
use crate::image::ids::{self, Need};
use crate::image::live::own_mounts;
use crate::image::signals::Signals;
use crate::image::unpack::are_root;
use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;

pub(crate) const VERB: Verb = Verb {
    name: "unpack",
    about: "make a bundle of an image: root file system and config.json",
    usage: "IMAGE|oci:DIR[:NAME]|docker-archive:FILE[:NAME] BUNDLE",
    details: "What isn't in the store is fetched, and unpacked while it comes. BUNDLE must not exist, or be empty. With\n\
        --overlay its root is an overlay mount of layers that all bundles share; umount BUNDLE/rootfs before you remove it,\n\
        and `prune` removes the layers that nothing is made of any more. Without root it is mounted only where it runs.\n\n  \
        dhowctl unpack nginx:1.27 bundle && dhow run --bundle bundle web\n  \
        dhowctl unpack --uid-map 0:100000:65536 oci:DIR bundle\n  \
        dhowctl unpack --overlay docker-archive:saved.tar bundle",
    positionals: (2, 2),
    flags: || {
        let mut all = vec![
            switch("overlay", "mount shared layers instead of copying"),
            switch("tty", "the container gets a terminal").short('t'),
            switch("host-network", "the container has the host's network"),
        ];
        all.extend(bring::flags());
        all
    },
    need: |call| match (call.switch("rootless"), call.switch("overlay")) {
        (true, _) => Need::Nothing,
        (false, true) => Need::Mounts,
        (false, false) => Need::Owners,
    },
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    let target = PathBuf::from(call.positionals.get(1).cloned().unwrap_or_default());
    let options = bring::options(call)?;
    let overlay = call.switch("overlay");
    if overlay && !are_root() {
        return Err(Error::unsupported("mounting shared layers", "", "root, or a user namespace").hint("leave out --rootless, or --overlay").into());
    }
    if overlay && ids::ours().entered {
        own_mounts()?;
    }
    let signals = Signals::begin()?;
    let brought = bring::begin(call, call.word(0)?)?;
    let wishes = Wishes { terminal: call.switch("tty"), host_network: call.switch("host-network"), ..Wishes::for_caller(&options.owners) };
    let (store, image) = (brought.store.clone(), brought.image.clone());
    let summary = {
        let brought = std::cell::RefCell::new(Some(brought));
        let open = |layer: &crate::image::Descriptor| match &*brought.borrow() {
            Some(brought) => brought.open(layer),
            None => Err(Error::other("reading layer", layer.digest.to_string(), "the image is settled")),
        };
        let request = Request { store: &store, image: &image, open: &open, overlay: if overlay { Overlay::Yes } else { Overlay::No }, options, wishes };
        signals.clean_up_on_signal();
        let made = bundle::make(&request, &target, || brought.borrow_mut().take().map_or(Ok(()), Brought::settle));
        match (made, signals.code()) {
            (_, Some(code)) => return Ok(code),
            // The fetch's own failure says more than the layer that ended too early because of it.
            (Err(e), None) => return Err(brought.take().and_then(|b| b.settle().err()).unwrap_or(e).into()),
            (Ok(summary), None) => summary,
        }
    };
    if !overlay && !call.switch("rootless") {
        ids::tell_of_others(&summary);
    }
    if network::is_json(call) {
        let line = json!({"event": "unpacked", "bundle": target.display().to_string(), "image": image.descriptor.digest, "layers": summary.layers, "entries": summary.entries, "bytes": summary.bytes});
        output::print_json(&line)?;
    } else if !call.switch("quiet") {
        output::print(&format!("{}\n", target.display()))?;
    }
    Ok(0)
}

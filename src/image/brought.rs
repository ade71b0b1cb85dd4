//! An image to unpack, wherever it comes from.

use super::registry::{Pull, Want};
use super::store::Image;
use super::transport::{Opened, Source};
use super::{Descriptor, Platform, Reference, Store};
use crate::sys;
use crate::{Error, Kind, Result};
use std::os::fd::{AsFd, OwnedFd};

/// An image that is at hand, or on its way.
pub struct Brought {
    /// Where dhowctl keeps images and unpacked layers.
    pub store: Store,
    pub image: Image,
    from: From,
}

enum From {
    /// It is whole.
    Here(Box<Opened>),
    Registry(Box<Pull>),
}

impl Brought {
    /// `oci:DIR`, `docker-archive:FILE`, or a name: of an image in the store, or else (or if `anew`) of one that `fetch`
    /// begins to bring. That goes on while the layers are read.
    pub fn begin(
        store: Store,
        word: &str,
        platform: Option<Platform>,
        anew: bool,
        fetch: impl FnOnce(&Store, &Reference, &Want) -> Result<Pull>,
    ) -> Result<Brought> {
        let source = Source::parse(word)?;
        let named = matches!(source, Source::Store(_));
        if !(named && anew) {
            match source.open(|| Ok(store.clone())) {
                Ok(opened) => {
                    let image = opened.store.image(&opened.entry.descriptor, &platform.unwrap_or_else(Platform::host))?;
                    return Ok(Brought { store, image, from: From::Here(Box::new(opened)) });
                }
                Err(e) if named && e.kind == Kind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        let reference: Reference = word.parse()?;
        let pull = fetch(&store, &reference, &platform.map_or(Want::Here, Want::Platform))?;
        let image = pull.image().cloned().ok_or_else(|| Error::other("fetching", word, "it is no image").hint("only images can be unpacked"))?;
        Ok(Brought { store, image, from: From::Registry(Box::new(pull)) })
    }

    /// A layer's compressed bytes: a file, or a pipe that is written to as they come.
    pub fn open(&self, layer: &Descriptor) -> Result<OwnedFd> {
        match &self.from {
            From::Here(opened) if layer.is_foreign() && !opened.store.has(layer) => {
                Err(Error::other("reading layer", layer.digest.to_string(), "it is a foreign layer, which is not fetched"))
            }
            From::Here(opened) => Ok(opened.store.open_blob(&layer.digest)?.into()),
            From::Registry(pull) => {
                let stream = pull.layer_stream(layer)?;
                let (read, write) = sys::fs::pipe().map_err(|e| e.error("pipe2", "reading layer", layer.digest.to_string()))?;
                // Fewer wake-ups. Where the user's pipes are full already, the default does.
                let _ = sys::fs::set_pipe_size(write.as_fd(), 1 << 20);
                // What goes wrong with the fetch is told by `settle`, and by the reader who finds the layer truncated.
                std::thread::spawn(move || stream.pour(write.into()));
                Ok(read)
            }
        }
    }

    /// Wait until the image is whole in the store.
    pub fn settle(self) -> Result<()> {
        match self.from {
            From::Here(_) => Ok(()),
            From::Registry(pull) => pull.finish().map(drop),
        }
    }
}

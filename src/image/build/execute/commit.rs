//! The image of a stage, and where it goes.

use super::solve::Around;
use super::tip::Tip;
use crate::image::build::request::{BuildRequest, Output};
use crate::image::bundle;
use crate::image::convert::Wishes;
use crate::image::ids;
use crate::image::model::{ImageConfig, Manifest, RootFs, media};
use crate::image::pipeline::Options;
use crate::image::store::Image;
use crate::image::transport::{self, Target};
use crate::image::{Descriptor, Store};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// Write config and manifest of what `tip` came to.
pub(super) fn image(store: &Store, request: &BuildRequest, tip: &Tip) -> Result<Image> {
    let layers = tip.settled()?;
    let mut execution = tip.state.config.clone();
    execution.labels.extend(request.labels.clone());
    let config = ImageConfig {
        created: tip.created.clone(),
        author: tip.state.author.clone(),
        platform: tip.platform.clone(),
        config: execution,
        rootfs: RootFs { kind: "layers".into(), diff_ids: layers.iter().map(|layer| layer.diff_id.clone()).collect() },
        history: tip.history.clone(),
    };
    let wrong = |e: serde_json::Error| Error::other("writing", "the image", e);
    let manifest = Manifest {
        schema_version: 2,
        media_type: media::MANIFEST.into(),
        artifact_type: String::new(),
        config: store.put(media::CONFIG, &serde_json::to_vec(&config).map_err(wrong)?)?,
        layers: layers.into_iter().map(|layer| oci(layer.blob)).collect(),
        subject: None,
        annotations: BTreeMap::new(),
    };
    let mut descriptor = store.put(media::MANIFEST, &serde_json::to_vec(&manifest).map_err(wrong)?)?;
    descriptor.platform = Some(tip.platform.clone());
    Ok(Image { descriptor, manifest, config })
}

/// A base's layer may have Docker's name for what OCI calls otherwise.
fn oci(blob: Descriptor) -> Descriptor {
    let media_type = if blob.media_type == media::DOCKER_LAYER { media::LAYER_GZIP.into() } else { blob.media_type };
    Descriptor { media_type, annotations: BTreeMap::new(), ..blob }
}

/// Name it, and bring it where it is wanted.
pub(super) fn deliver(around: &Around, request: &BuildRequest, image: &Image) -> Result<()> {
    let store = &around.store;
    for name in &request.names {
        store.set(&name.to_string(), &image.descriptor)?;
    }
    match &request.output {
        None => Ok(()),
        Some(Output::Image(Target::Layout { dir, name })) => {
            let target = Store::open(dir)?;
            let _hold = target.hold()?;
            target.copy_image(store, &image.descriptor)?;
            target.set(name, &image.descriptor)
        }
        Some(Output::Image(Target::Archive { file, name })) => transport::write_archive(store, &image.descriptor, file, name),
        Some(Output::Bundle(dir)) => {
            let open = |layer: &Descriptor| Ok(store.open_blob(&layer.digest)?.into());
            let options = Options { owners: ids::owners(), ..Options::default() };
            let wishes = Wishes::for_caller(&options.owners);
            let request = bundle::Request { store, image, open: &open, overlay: bundle::Overlay::No, options, wishes };
            bundle::make(&request, dir, || Ok(())).map(drop)
        }
    }
}

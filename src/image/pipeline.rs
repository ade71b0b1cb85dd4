//! An image's layers through the unpacking process, several at once where they don't depend on each other.
//!
//! A layer goes through in one pass: whoever brings it (a file of the store, or a fetch that is still under way) → gzip
//! or zstd and the diff id in one thread → files in another. Nothing of it is used before its diff id was right.

use super::digest::{Algorithm, Digest};
use super::model::{Descriptor, media};
use super::store::Image;
use super::unpack::worker::{Done, Job, Worker};
use super::unpack::{Limits, Owners, Way};
use crate::{Error, Result};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Opens a layer's compressed bytes, to be read from their beginning.
pub type Open<'a> = dyn Fn(&Descriptor) -> Result<OwnedFd> + 'a;

/// A layer of an image: the blob, and the digest of what is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    pub blob: Descriptor,
    pub diff_id: Digest,
}

/// The layers of `image`, the lowest first.
///
/// # Errors
/// The manifest and the config disagree about them, or one is no layer.
pub fn layers(image: &Image) -> Result<Vec<Layer>> {
    let (blobs, ids) = (&image.manifest.layers, &image.config.rootfs.diff_ids);
    let wrong = |cause: String| Error::other("reading the image's layers", "", cause);
    if blobs.len() != ids.len() {
        return Err(wrong(format!("the manifest has {} layers, the config {}", blobs.len(), ids.len())));
    }
    if let Some(other) = blobs.iter().find(|b| !media::is_layer(&b.media_type)) {
        return Err(wrong(format!("{} is of type {}, which is no file system layer", other.digest, other.media_type)));
    }
    Ok(blobs.iter().cloned().zip(ids.iter().cloned()).map(|(blob, diff_id)| Layer { blob, diff_id }).collect())
}

/// How to unpack.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub owners: Owners,
    pub limits: Limits,
}

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    pub layers: usize,
    pub entries: u64,
    /// Decompressed.
    pub bytes: u64,
    /// Files of others than root became the caller's.
    pub others: bool,
    /// What could not be kept, a line each.
    pub lost: BTreeSet<String>,
}

impl Summary {
    pub(super) fn add(&mut self, done: &Done) {
        self.layers += 1;
        self.entries += done.applied.entries;
        self.bytes += done.bytes;
        self.others |= done.applied.others;
        self.lost.extend(done.applied.lost.iter().cloned());
    }
}

/// All `layers`, one after the other, onto the empty directory `rootfs`, which is below `area`. While one is written the
/// next is being decompressed.
pub fn onto_directory(layers: &[Layer], open: &Open, area: BorrowedFd, rootfs: BorrowedFd, options: &Options) -> Result<Summary> {
    let mut summary = Summary::default();
    let tasks = layers
        .iter()
        .enumerate()
        .map(|(number, layer)| Task { layer, way: if number == 0 { Way::Base } else { Way::Above }, directory: rootfs })
        .collect::<Vec<_>>();
    run(&tasks, 1, open, area, options, |_, done| {
        summary.add(&done);
        Ok(())
    })?;
    Ok(summary)
}

/// A layer with the directory it is for.
pub(super) struct Task<'a> {
    pub layer: &'a Layer,
    pub way: Way,
    pub directory: BorrowedFd<'a>,
}

/// Do `tasks`, up to `pairs` at once; `done` hears of each whose diff id was right, or that needs what is below it.
pub(super) fn run(
    tasks: &[Task],
    pairs: usize,
    open: &Open,
    area: BorrowedFd,
    options: &Options,
    mut done: impl FnMut(usize, Done) -> Result<()>,
) -> Result<()> {
    if tasks.is_empty() {
        return Ok(());
    }
    let mut worker = Worker::start(area, pairs, &options.limits)?;
    // One more than are being done, so that a thread finds its next layer at once.
    let ahead = pairs + 1;
    let begin = |worker: &Worker, number: usize| -> Result<()> {
        let Some(task) = tasks.get(number) else { return Ok(()) };
        let data = open(&task.layer.blob)?;
        let sha512 = task.layer.diff_id.algorithm() == Algorithm::Sha512;
        worker.begin(&Job { number, way: task.way, owners: options.owners.clone(), sha512 }, data.as_fd(), task.directory)
    };
    (0..ahead).try_for_each(|number| begin(&worker, number))?;
    for finished in 0..tasks.len() {
        let (number, outcome) = worker.answer()?;
        let Some(task) = tasks.get(number) else { return Err(Error::other("unpacking", "", "the unpacker made up a layer")) };
        let told = outcome.and_then(|outcome| {
            if outcome.applied.needs_below.is_none() {
                check(task.layer, outcome.diff_id.as_ref())?;
            }
            done(number, outcome)
        });
        told.map_err(|e| e.within(&format!("layer {}", task.layer.blob.digest)))?;
        begin(&worker, finished + ahead)?;
    }
    Ok(())
}

fn check(layer: &Layer, found: Option<&Digest>) -> Result<()> {
    match found {
        Some(found) if *found == layer.diff_id => Ok(()),
        found => {
            let found = found.map_or_else(|| "nothing".to_string(), Digest::to_string);
            let cause = format!("decompressed it is {found}, the image's config says {}", layer.diff_id);
            Err(Error::other("checking its diff id", "", cause).hint("the image is damaged, or was put together wrongly"))
        }
    }
}

//! What `unpack` and `run` have in common: where an image comes from, and how it is unpacked.

use super::args::{list, switch, text};
use super::{Call, network};
use crate::Error;
use crate::image::brought::Brought;
use crate::image::pipeline::Options;
use crate::image::registry::{Pull, Want};
use crate::image::unpack::{self, IdRange, Owners};
use crate::image::{Reference, Store, ids};
use anyhow::Result;

/// Flags of both.
pub(crate) fn flags() -> Vec<clap::Arg> {
    let mut all = vec![
        text("platform", "OS/ARCH", "of an index, the image for this platform (default: this machine's)"),
        switch("pull", "ask the registry even if the image is in the store"),
        list("uid-map", "C:H:N", "N uids from C on in the image are those from H on here; can be repeated"),
        list("gid-map", "C:H:N", "the same for gids (default: as --uid-map)"),
        switch("rootless", "all files become the caller's, as they do if the caller has no other ids"),
        text("max-size", "BYTES", "the most that the layers may have, decompressed (default: 64 GiB; K, M, G, T are understood)"),
        text("max-ratio", "N", "how many times its size a layer of over a GiB may have, decompressed (default: 100)"),
        text("max-entries", "N", "how many files and directories the layers may have (default: 4000000)"),
    ];
    all.extend(network::transfer_flags());
    all
}

/// The options that the flags say.
pub(crate) fn options(call: &Call) -> Result<Options> {
    let mut out = Options { owners: owners(call)?, ..Options::default() };
    if let Some(text) = call.text("max-size") {
        out.limits.bytes = size("max-size", text)?;
    }
    if let Some(text) = call.text("max-ratio") {
        out.limits.ratio = size("max-ratio", text)?;
    }
    if let Some(text) = call.text("max-entries") {
        out.limits.entries = size("max-entries", text)?;
    }
    Ok(out)
}

fn size(flag: &str, text: &str) -> Result<u64, Error> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => u32::MAX,
    };
    let value = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1u64.checked_shl(shift)?)).filter(|n| *n > 0);
    value.ok_or_else(|| Error::usage(format!("--{flag} {text:?}: a number is needed, with K, M, G or T behind it for larger ones")))
}

fn owners(call: &Call) -> Result<Owners> {
    let ranges = |flag: &str| call.list(flag).iter().map(|text| range(flag, text)).collect::<Result<Vec<_>, Error>>();
    let (uids, gids) = (ranges("uid-map")?, ranges("gid-map")?);
    if uids.is_empty() {
        if !gids.is_empty() {
            return Err(Error::usage("--gid-map without --uid-map").into());
        }
        return Ok(if call.switch("rootless") { Owners::Own } else { ids::owners() });
    }
    if call.switch("rootless") {
        return Err(Error::usage("--rootless and --uid-map: one or the other").into());
    }
    if !unpack::are_root() {
        let hint = format!("without --uid-map all files become yours; {}", ids::advice());
        return Err(Error::unsupported("translating owners", "", "root or subordinate ids").hint(hint).into());
    }
    let gids = if gids.is_empty() { uids.clone() } else { gids };
    let ours = ids::ours();
    if !ours.entered {
        return Ok(Owners::Mapped(uids, gids));
    }
    Ok(Owners::Mapped(ours.translate(&uids, "uid")?, ours.translate(&gids, "gid")?))
}

fn range(flag: &str, text: &str) -> Result<IdRange, Error> {
    let numbers: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[container, host, size])
            if size > 0 && container.checked_add(size - 1).is_some() && host.checked_add(size - 1).is_some_and(|last| last < u32::MAX) =>
        {
            Ok(IdRange { container, host, size })
        }
        _ => Err(Error::usage(format!("--{flag} {text:?}: CONTAINER:HOST:SIZE is needed, three numbers of 32 bits"))),
    }
}

/// The image that `word` names, at hand or on its way.
pub(crate) fn begin(call: &Call, word: &str) -> Result<Brought> {
    let platform = call.text("platform").map(str::parse).transpose()?;
    let fetch = |store: &Store, reference: &Reference, want: &Want| {
        Pull::start(&network::client(call).map_err(|e| Error::other("fetching", word, format!("{e:#}")))?, store, reference, want, &network::progress(call))
    };
    Ok(Brought::begin(call.store()?, word, platform, call.switch("pull"), fetch)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ranges() {
        assert_eq!(size("s", "12").unwrap(), 12);
        assert_eq!(size("s", "2g").unwrap(), 2 << 30);
        for bad in ["", "0", "x", "1Q", "99999999999T", "-1"] {
            assert!(size("s", bad).is_err(), "{bad}");
        }
        assert_eq!(range("r", "0:100000:65536").unwrap(), IdRange { container: 0, host: 100_000, size: 65_536 });
        for bad in ["", "0:1", "0:1:0", "0:4294967295:1", "1:2:4294967295", "a:b:c", "0:0:1:1", "4294967296:0:1"] {
            assert!(range("r", bad).is_err(), "{bad}");
        }
    }
}

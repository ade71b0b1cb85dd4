//! What the commands that talk to registries have in common: flags, client, progress.

use super::args::{count, format, path, switch};
use super::{Call, output};
use crate::Error;
use crate::image::progress::Progress;
use crate::image::registry::{Client, Options};
use anyhow::Result;
use clap::Arg;
use std::time::Duration;

/// Flags of every one of them.
pub(crate) fn flags() -> Vec<Arg> {
    vec![
        switch("insecure", "put up with plain http and with certificates that nobody vouches for"),
        path("cert-dir", "DIR", "*.crt (CAs), *.cert and *.key (ours) for the registry (default: HOST below /etc/containers/certs.d)"),
        path("registries-conf", "FILE", "mirrors and registries, instead of /etc/containers/registries.conf"),
        count("retries", "how often to try again what failed for a passing reason (default: 5)"),
        count("timeout", "seconds of silence after which a connection counts as broken (default: 30)"),
    ]
}

/// And of those that move blobs.
pub(crate) fn transfer_flags() -> Vec<Arg> {
    let mut all = flags();
    all.push(count("parallel", "how many blobs at once (default: 4)"));
    all.push(switch("quiet", "say nothing but the result").short('q'));
    all.push(format(["text", "json"]));
    all
}

pub(crate) fn client(call: &Call) -> Result<Client> {
    let mut options =
        Options { insecure: call.switch("insecure"), cert_dir: call.path("cert-dir"), registries_conf: call.path("registries-conf"), ..Options::default() };
    let given = |name: &str| call.matches.try_get_one::<u32>(name).ok().flatten().copied();
    if let Some(retries) = given("retries") {
        options.retries = retries;
    }
    if let Some(seconds) = given("timeout") {
        options.timeout = Duration::from_secs(positive("timeout", seconds)?.into());
    }
    if let Some(parallel) = given("parallel") {
        options.parallel = positive("parallel", parallel)? as usize;
    }
    Ok(Client::new(options)?)
}

fn positive(name: &str, value: u32) -> Result<u32> {
    if value == 0 { Err(Error::usage(format!("--{name} 0: at least 1 is needed")).into()) } else { Ok(value) }
}

/// Bars or lines on standard error, or with `--format json` an object a line on standard output.
pub(crate) fn progress(call: &Call) -> Progress {
    if call.switch("quiet") {
        Progress::quiet()
    } else if is_json(call) {
        Progress::json(|line| {
            // The result's own line will tell if nobody listens.
            let _ = output::print(&format!("{line}\n"));
        })
    } else {
        Progress::to_stderr()
    }
}

pub(crate) fn is_json(call: &Call) -> bool {
    call.text("format") == Some("json")
}

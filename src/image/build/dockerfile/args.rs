//! Where the values of ARGs come from: the command line, the Dockerfile's top, and what every build has.

use super::expand::Lexer;
use super::mistake::Mistake;
use super::parse::{Dockerfile, Instruction, Kind};
use crate::image::Platform;
use crate::image::build::plan::Inputs;
use serde::Serialize;
use std::collections::BTreeSet;

/// Names and values, in the order in which they were set; each name once.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Values(pub Vec<(String, String)>);

impl Values {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(own, _)| own != name);
        self.0.push((name.into(), value.into()));
    }

    /// For [`Lexer`].
    pub fn lookup(&self) -> impl Fn(&str) -> Option<String> {
        |name| self.get(name).map(String::from)
    }
}

/// In the environment of RUNs without an ARG, and not in the cache's key.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// `--build-arg`s that mean something to the builder.
pub const CACHE_SPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";
pub const HOSTNAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";
const OWN: [&str; 3] = [CACHE_SPACE, HOSTNAME, "SOURCE_DATE_EPOCH"];

fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
}

/// `NAME=VALUE` of the proxies among the build's arguments, in both cases, as programs read either.
pub fn proxies(inputs: &Inputs) -> Vec<String> {
    let given = |proxy: &str| inputs.args.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(proxy)).map(|(_, value)| value);
    PROXIES
        .iter()
        .filter_map(|proxy| Some((proxy, given(proxy)?)))
        .flat_map(|(proxy, value)| [format!("{proxy}={value}"), format!("{}={value}", proxy.to_lowercase())])
        .collect()
}

/// What is set before the Dockerfile's first line; the command line may say something else.
fn predefined(file: &Dockerfile, inputs: &Inputs) -> Values {
    let target = match (&inputs.target, file.stages.last()) {
        (Some(target), _) => target.clone(),
        (None, last) => last.and_then(|stage| stage.name.clone()).unwrap_or_else(|| "default".into()),
    };
    let mut out = Values::default();
    for (prefix, platform) in [("BUILD", &inputs.build_platform), ("TARGET", &inputs.target_platform)] {
        let Platform { os, os_version, architecture, variant, .. } = platform;
        let parts = [
            ("PLATFORM", platform.to_string()),
            ("OS", os.clone()),
            ("OSVERSION", os_version.clone()),
            ("ARCH", architecture.clone()),
            ("VARIANT", variant.clone()),
        ];
        for (name, value) in parts {
            out.set(&format!("{prefix}{name}"), &value);
        }
    }
    out.set("TARGETSTAGE", &target);
    for (name, value) in &mut out.0 {
        if let Some(given) = inputs.args.get(name) {
            value.clone_from(given);
        }
    }
    out
}

/// The values that FROM sees, and that an ARG without a default takes over.
pub fn globals(file: &Dockerfile, inputs: &Inputs) -> Result<Values, Mistake> {
    let mut out = predefined(file, inputs);
    for instruction in &file.args {
        let Kind::Arg(args) = &instruction.kind else { continue };
        for (name, default) in args {
            let value = match (inputs.args.get(name), default) {
                (Some(given), _) => given.clone(),
                (None, Some(default)) => Lexer::new(file.escape).word(default, &out.lookup()).map_err(|e| instruction.mistake(e))?.text,
                (None, None) => continue,
            };
            out.set(name, &value);
        }
    }
    Ok(out)
}

/// Names of `--build-arg` that nothing declares and that mean nothing by themselves.
pub fn unused(file: &Dockerfile, inputs: &Inputs) -> Vec<String> {
    let all = file.args.iter().chain(file.stages.iter().flat_map(|stage| &stage.instructions));
    let names = |instruction: &Instruction| match &instruction.kind {
        Kind::Arg(args) => args.iter().map(|(name, _)| name.clone()).collect(),
        _ => Vec::new(),
    };
    let declared: BTreeSet<String> = all.flat_map(names).chain(predefined(file, inputs).0.into_iter().map(|(name, _)| name)).collect();
    // Triggers of base images may declare more, but are not known yet.
    inputs.args.keys().filter(|name| !declared.contains(*name) && !is_proxy(name) && !OWN.contains(&name.as_str())).cloned().collect()
}

//! `config.json` → [`Spec`]: the runtime's own model of runtime-spec 1.3, as far as it concerns Linux.
//!
//! The model accepts what Go's decoder accepts (runc is the authority): a missing field and `null` are the same,
//! unknown properties are ignored. Values are kept as written; what they mean is `plan`'s business, what is wrong
//! with them is [`validate`]'s.

pub mod defaults;
mod linux;
mod process;
mod resources;
mod seccomp;
pub mod validate;

pub use linux::*;
pub use process::*;
pub use resources::*;
pub use seccomp::*;

use crate::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The runtime-spec version that dhow implements.
pub const OCI_VERSION: &str = "1.3.0";

/// Files of procfs that lxcfs and its like emulate, and which may therefore be mounted over; runc's list
/// (`checkProcMount`).
pub const PROC_FILES: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// A JSON object of the spec: camelCase names, every field optional, `null` as good as absent, defaults not printed.
macro_rules! object {
    ($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident : $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $(
                $(#[$fmeta])*
                #[serde(deserialize_with = "crate::spec::null_is_default", skip_serializing_if = "crate::spec::is_default")]
                pub $field: $ty,
            )*
        }
    };
}
pub(crate) use object;

pub(crate) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

object! {
    /// config.md: the whole of `config.json`.
    Spec {
        oci_version: String,
        process: Option<Process>,
        root: Option<Root>,
        hostname: String,
        domainname: String,
        mounts: Vec<Mount>,
        hooks: Hooks,
        annotations: BTreeMap<String, String>,
        linux: Linux,
    }
}

object! {
    /// config.md § Root.
    Root {
        path: String,
        readonly: bool,
    }
}

object! {
    /// config.md § Mounts.
    Mount {
        destination: String,
        #[serde(rename = "type")]
        kind: String,
        source: String,
        options: Vec<String>,
        uid_mappings: Vec<IdMapping>,
        gid_mappings: Vec<IdMapping>,
    }
}

object! {
    /// config.md § POSIX-platform Hooks: the six kinds.
    Hooks {
        prestart: Vec<Hook>,
        create_runtime: Vec<Hook>,
        create_container: Vec<Hook>,
        start_container: Vec<Hook>,
        poststart: Vec<Hook>,
        poststop: Vec<Hook>,
    }
}

object! {
    /// One hook; `timeout` in seconds.
    Hook {
        path: String,
        args: Vec<String>,
        env: Vec<String>,
        timeout: Option<i64>,
    }
}

impl Spec {
    /// Read `bundle/config.json`.
    pub fn load(bundle: &Path) -> Result<Spec> {
        Spec::parse(&read_config(bundle)?)
    }

    /// Parse the text of a `config.json`. A fault is reported with its JSON pointer.
    pub fn parse(text: &[u8]) -> Result<Spec> {
        // serde takes a list for an object, field by field; the validator then says what is wrong with it.
        let object = text.trim_ascii_start().first() == Some(&b'{');
        let parsed = if object { serde_json::from_slice(text) } else { Err(serde::de::Error::custom("it is no JSON object")) };
        parsed.or_else(|e: serde_json::Error| {
            if let Some(spec) = validate::read_joined(text, "") {
                return Ok(spec);
            }
            // The parser says what and at which line; the validator knows the field.
            let report = validate::validate(text);
            Err(match report.faults().next() {
                Some(fault) => invalid_file(
                    if fault.pointer.is_empty() { "the top level" } else { &fault.pointer },
                    format!("{}; expected {}", fault.message, fault.expected),
                )
                .hint(fault.hint.clone()),
                None => invalid_file("the top level", e.to_string()),
            })
        })
    }
}

fn invalid_file(pointer: &str, message: String) -> Error {
    let mut error = Error::invalid(pointer, message);
    error.doing = "parsing config.json: invalid value at".into();
    error
}

/// The bytes of `bundle/config.json`.
pub fn read_config(bundle: &Path) -> Result<Vec<u8>> {
    let path = bundle.join("config.json");
    std::fs::read(&path).map_err(|e| {
        let err = Error::io(&e, "reading the bundle's configuration", path.display().to_string());
        match e.kind() {
            std::io::ErrorKind::NotFound => err.hint("`--bundle` names a directory with config.json and a root filesystem; `dhow spec` writes one"),
            _ => err,
        }
    })
}

/// A `process` object, as `exec --process` reads it.
pub fn parse_process(text: &[u8]) -> Result<Process> {
    parse_part(text, "the process file", "/process", (br#"{"process":"#, b"}"))
}

/// A `resources` object, as `update --resources` reads it.
pub fn parse_resources(text: &[u8]) -> Result<Resources> {
    let (place, around): (_, (&[u8], &[u8])) = ("/linux/resources", (br#"{"linux":{"resources":"#, b"}}"));
    parse_part(text, "resources", place, around).or_else(|e| {
        let joined = validate::read_joined(&[around.0, text, around.1].concat(), place);
        joined.and_then(|spec| spec.linux.resources).ok_or(e)
    })
}

/// A part of a configuration. On failure the whole around it is made up, and the validator asked for the field.
fn parse_part<T: for<'a> Deserialize<'a>>(text: &[u8], what: &str, place: &str, (before, after): (&[u8], &[u8])) -> Result<T> {
    serde_json::from_slice(text).map_err(|e: serde_json::Error| {
        let whole = [before, text, after].concat();
        let report = validate::validate(&whole);
        // What is missing is filled in by the caller; what has the wrong type is what the parser tripped over.
        let fault = report.faults().filter(|f| f.message != "is missing").find_map(|f| Some((f.pointer.strip_prefix(place)?, f)));
        match fault {
            Some((pointer, fault)) if !e.is_syntax() && !e.is_eof() => {
                let mut error = Error::invalid(pointer, format!("{}; expected {}", fault.message, fault.expected)).hint(fault.hint.clone());
                error.doing = format!("parsing {what}: invalid value at");
                error
            }
            _ => Error::other(format!("parsing {what}"), "", e),
        }
    })
}

/// RFC 6901 § 3: `~` and `/` inside a token.
pub fn escape_pointer(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

/// A number of 64 bits where -1 is accepted for "unlimited" (as Docker's users write it).
pub(crate) fn u64_or_minus_one<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    #[derive(Deserialize, Serialize)]
    #[serde(untagged)]
    enum Number {
        Unsigned(u64),
        Signed(i64),
    }
    match Option::<Number>::deserialize(d)? {
        None => Ok(0),
        Some(Number::Unsigned(n)) => Ok(n),
        Some(Number::Signed(-1)) => Ok(u64::MAX),
        Some(Number::Signed(n)) => Err(serde::de::Error::custom(format!("{n} is negative; -1 is the only negative value allowed (unlimited)"))),
    }
}

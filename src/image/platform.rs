//! `os/architecture[/variant]`: which of an index's images is for whom.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What an image runs on, in Go's names (`linux`, `amd64`, `arm64`, `v8`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    #[serde(deserialize_with = "crate::spec::null_is_default")]
    pub architecture: String,
    #[serde(deserialize_with = "crate::spec::null_is_default")]
    pub os: String,
    #[serde(deserialize_with = "crate::spec::null_is_default", skip_serializing_if = "String::is_empty")]
    pub variant: String,
    #[serde(rename = "os.version", deserialize_with = "crate::spec::null_is_default", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    #[serde(rename = "os.features", deserialize_with = "crate::spec::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
}

impl Platform {
    fn new(os: &str, architecture: &str, variant: &str) -> Platform {
        let (architecture, variant) = normal_architecture(architecture, variant);
        Platform { architecture, os: os.to_ascii_lowercase(), variant, ..Platform::default() }
    }

    /// Of this machine.
    pub fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86" => ("386", ""),
            "arm" => ("arm", "v7"),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, x86_level()),
        };
        Platform::new("linux", architecture, variant)
    }

    /// Buildkit marks what isn't an image (attestations) so.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" || self.architecture == "unknown"
    }

    /// Itself and what else can run where it can, the best first.
    fn compatible(&self) -> Vec<Platform> {
        let with = |architecture: &str, variants: &[&str]| -> Vec<Platform> {
            variants
                .iter()
                .map(|variant| Platform { architecture: architecture.into(), variant: (*variant).into(), os: self.os.clone(), ..Platform::default() })
                .collect()
        };
        let from = |variants: &'static [&'static str]| -> &'static [&'static str] {
            let start = variants.iter().position(|v| *v == self.variant);
            start.map_or(&[], |at| &variants[at..])
        };
        let mut all = vec![self.clone()];
        match self.architecture.as_str() {
            "amd64" => all.extend(with("amd64", from(&["v4", "v3", "v2", ""]))),
            "arm" => all.extend(with("arm", from(&["v8", "v7", "v6", "v5"]))),
            "arm64" => {
                all.extend(with("arm64", from(&["v9", "v8", ""])));
                all.extend(with("arm", &["v8", "v7", "v6", "v5"]));
            }
            _ => {}
        }
        if self.architecture == "amd64" {
            all.extend(with("386", &[""]));
        }
        all
    }

    /// How good a match `offered` is: 0 the best, None for one that doesn't run here.
    pub fn rank(&self, offered: &Platform) -> Option<usize> {
        let offered = Platform::new(&offered.os, &offered.architecture, &offered.variant);
        self.compatible().iter().position(|mine| mine.os == offered.os && mine.architecture == offered.architecture && mine.variant == offered.variant)
    }
}

/// Aliases and default variants made one: `x86_64` is `amd64`, `arm64/v8` is `arm64`, `arm` is `arm/v7`.
fn normal_architecture(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = (architecture.to_ascii_lowercase(), variant.to_ascii_lowercase());
    let (name, variant) = match (architecture.as_str(), variant.as_str()) {
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", v) => ("amd64", v),
        ("i386" | "i486" | "i586" | "i686", _) => ("386", ""),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64", v) => ("arm64", v),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        ("ppc64el", v) => ("ppc64le", v),
        (other, v) => (other, v),
    };
    (name.to_string(), variant.to_string())
}

/// The x86-64 microarchitecture level of this machine, "" for the first and for other machines.
fn x86_level() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let v2 = has!("sse4.2") && has!("ssse3") && has!("popcnt") && has!("cmpxchg16b");
        let v3 = v2 && has!("avx2") && has!("bmi1") && has!("bmi2") && has!("fma") && has!("f16c") && has!("lzcnt") && has!("movbe");
        let v4 = v3 && has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
        [(v4, "v4"), (v3, "v3"), (v2, "v2")].into_iter().find(|level| level.0).map_or("", |level| level.1)
    }
    #[cfg(not(target_arch = "x86_64"))]
    ""
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Platform> {
        let wrong =
            |cause: &str| Error::usage(format!("invalid platform {text:?}: {cause}")).hint("it is written os/architecture[/variant], as in linux/arm64");
        let parts: Vec<&str> = text.split('/').collect();
        let allowed = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if !parts.iter().all(allowed) {
            return Err(wrong("each part has letters, digits and . _ -"));
        }
        match parts[..] {
            [os, architecture] => Ok(Platform::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Platform::new(os, architecture, variant)),
            _ => Err(wrong("there are two or three parts")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn text_and_back() {
        let table = [("linux/x86_64", "linux/amd64"), ("linux/aarch64", "linux/arm64"), ("linux/arm64/v8", "linux/arm64"), ("linux/arm", "linux/arm/v7")];
        for (text, normal) in table {
            assert_eq!(platform(text).to_string(), normal);
        }
        for bad in ["", "linux", "linux/", "linux/amd64/v1/x", "linux/am d64", "/"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn variants_run_downwards() {
        let rank = |mine: &str, offered: &str| platform(mine).rank(&platform(offered));
        assert_eq!(rank("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(rank("linux/amd64", "linux/amd64/v3"), None);
        assert!(rank("linux/amd64/v3", "linux/amd64/v2") < rank("linux/amd64/v3", "linux/amd64"));
        assert!(rank("linux/arm/v7", "linux/arm/v6").is_some());
        assert_eq!(rank("linux/arm/v6", "linux/arm/v7"), None);
        assert!(rank("linux/arm64", "linux/arm64/v8") < rank("linux/arm64", "linux/arm/v7"));
        assert!(rank("linux/arm64", "linux/arm/v7").is_some());
        assert_eq!(rank("linux/amd64", "windows/amd64"), None);
        assert_eq!(rank("linux/riscv64", "linux/riscv64"), Some(0));
    }

    #[test]
    fn the_host_runs_its_own() {
        assert!(Platform::host().rank(&Platform { variant: String::new(), ..Platform::host() }).is_some());
    }
}

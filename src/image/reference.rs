//! References as Docker writes them: `ubuntu`, `nginx:1.27`, `localhost:5000/a/b@sha256:…`.
//!
//! The short forms of Docker Hub are made whole when they are read (`docker.io/library/ubuntu:latest`), so that there is
//! one name for one thing; [`Reference::familiar`] shortens them again for people.

use super::digest::{Digest, clip};
use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

const HUB: &str = "docker.io";
const LEGACY_HUB: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const LATEST: &str = "latest";
/// distribution's limit for registry and repository together.
const MOST_NAME: usize = 255;
const MOST_TAG: usize = 128;

/// A whole reference: where an image is, and which one. There is a tag, a digest, or both (then the digest decides).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The host, with its port if one was given: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path below the host: `library/ubuntu`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `registry/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// What the registry's API calls it: the digest, else the tag.
    pub fn version(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| LATEST.into()),
        }
    }

    /// The same repository at `digest`.
    pub fn at(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// As people write it: without what Docker adds (`ubuntu:24.04`), as far as it then still means the same.
    pub fn familiar(&self) -> String {
        let whole = self.to_string();
        let without_hub = whole.strip_prefix(HUB).and_then(|rest| rest.strip_prefix('/'));
        let short = [without_hub.and_then(|rest| rest.strip_prefix(OFFICIAL)), without_hub];
        let same = |text: &&str| parse(text).as_ref() == Ok(self);
        short.into_iter().flatten().find(same).map_or_else(|| whole.clone(), String::from)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference> {
        parse(text).map_err(|cause| Error::usage(format!("invalid image reference {:?}: {cause}", clip(text))))
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    if let Some(scheme) = ["http://", "https://", "docker://"].into_iter().find(|s| text.starts_with(s)) {
        return Err(format!("leave out {scheme}"));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|e| e.to_string())?)),
        None => (text, None),
    };
    if digest.is_none() && is_bare_id(rest) {
        return Err("64 hex digits are an image's id, not a name; write NAME@sha256:…".into());
    }
    // A colon behind the last slash begins the tag; one before it is a port.
    let path_start = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[path_start..].find(':') {
        Some(at) => (&rest[..path_start + at], Some(&rest[path_start + at + 1..])),
        None => (rest, None),
    };
    let (registry, repository) = split_name(name);
    check_registry(&registry)?;
    check_repository(&repository)?;
    if registry.len() + 1 + repository.len() > MOST_NAME {
        return Err(format!("the name has more than {MOST_NAME} characters"));
    }
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let tag = tag.map(String::from).or_else(|| digest.is_none().then(|| LATEST.to_string()));
    Ok(Reference { registry, repository, tag, digest })
}

fn is_bare_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Docker's rule: the first part is a host if it looks like one, otherwise all of it is below Docker Hub.
fn split_name(name: &str) -> (String, String) {
    let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost" || part.chars().any(|c| c.is_ascii_uppercase());
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => (HUB, name),
    };
    let registry = if registry == LEGACY_HUB { HUB } else { registry };
    let official = registry == HUB && !repository.contains('/');
    (registry.to_string(), if official { format!("{OFFICIAL}{repository}") } else { repository.to_string() })
}

fn check_registry(registry: &str) -> Result<(), String> {
    let wrong = || Err(format!("{registry:?} is not a registry's host[:port]"));
    let (host, port) = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, rest)) => {
            if v6.parse::<std::net::Ipv6Addr>().is_err() || !(rest.is_empty() || rest.starts_with(':')) {
                return wrong();
            }
            ("v6", rest.strip_prefix(':'))
        }
        None => registry.split_once(':').map_or((registry, None), |(host, port)| (host, Some(port))),
    };
    let label = |l: &str| !l.is_empty() && !l.starts_with('-') && !l.ends_with('-') && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let port_is_good = port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok());
    if host.split('.').all(label) && port_is_good { Ok(()) } else { wrong() }
}

/// Parts of lower-case letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn check_repository(repository: &str) -> Result<(), String> {
    if repository.is_empty() {
        return Err("there is no repository in it".into());
    }
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("a repository's name is lower-case".into());
    }
    let part_is_good = |part: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let (starts, ends) = (part.bytes().next().is_some_and(inner), part.bytes().last().is_some_and(inner));
        let joints = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        starts && ends && joints.into_iter().all(|j| matches!(j, "" | "." | "_" | "__") || j.bytes().all(|b| b == b'-'))
    };
    match repository.split('/').find(|part| !part_is_good(part)) {
        None => Ok(()),
        Some(part) => Err(format!("{part:?} is not part of a repository's name: lower-case letters and digits, with . _ __ or - between them")),
    }
}

/// A tag: at most 128 of letters, digits and `_ . -`, the first none of `. -`.
pub(crate) fn check_tag(tag: &str) -> Result<(), String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let good = tag.len() <= MOST_TAG && tag.bytes().next().is_some_and(word) && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if good { Ok(()) } else { Err(format!("{tag:?} is not a tag: at most {MOST_TAG} letters, digits and _ . -")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn whole(text: &str) -> String {
        text.parse::<Reference>().unwrap().to_string()
    }

    #[test]
    fn docker_s_short_forms() {
        let table = [
            ("ubuntu", "docker.io/library/ubuntu:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("me/app", "docker.io/me/app:latest"),
            ("docker.io/ubuntu", "docker.io/library/ubuntu:latest"),
            ("index.docker.io/me/app:x", "docker.io/me/app:x"),
            ("ghcr.io/a/b/c", "ghcr.io/a/b/c:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a/b:t", "localhost:5000/a/b:t"),
            ("host:5000/a", "host:5000/a:latest"),
            ("Host/a", "Host/a:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("a__b/c-d---e.f", "docker.io/a__b/c-d---e.f:latest"),
            ("host:5000", "docker.io/library/host:5000"),
        ];
        for (text, expected) in table {
            assert_eq!(whole(text), expected, "{text}");
        }
        assert_eq!(whole(&format!("localhost:5000/a/b@{DIGEST}")), format!("localhost:5000/a/b@{DIGEST}"));
        assert_eq!(whole(&format!("a:t@{DIGEST}")), format!("docker.io/library/a:t@{DIGEST}"));
    }

    #[test]
    fn parts() {
        let reference: Reference = format!("reg.example.com:81/a/b:t@{DIGEST}").parse().unwrap();
        assert_eq!((reference.registry(), reference.repository(), reference.tag()), ("reg.example.com:81", "a/b", Some("t")));
        assert_eq!(reference.version(), DIGEST);
        assert_eq!("a".parse::<Reference>().unwrap().version(), "latest");
    }

    #[test]
    fn familiar_names_read_back() {
        for text in [
            "ubuntu:24.04",
            "me/app:latest",
            "localhost:5000/a:x",
            "ghcr.io/a/b:c",
            "docker.io/library/a/b:c",
            "docker.io/example.com/x",
            "docker.io/library/localhost/x",
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.familiar().parse::<Reference>().unwrap(), reference, "{text}");
        }
        assert_eq!("docker.io/library/ubuntu".parse::<Reference>().unwrap().familiar(), "ubuntu:latest");
    }

    #[test]
    fn what_is_no_reference() {
        let long_tag = format!("a:{}", "t".repeat(129));
        let long_name = "a".repeat(250);
        let id = "0".repeat(64);
        let wrong = [
            "",
            ":",
            "a:",
            "@",
            "A",
            "a/B",
            "/a",
            "a/",
            "a//b",
            "a b",
            "a\n",
            "a:b c",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "../a",
            "host:x/a",
            "host:99999/a",
            "https://host/a",
            "a@sha256:12",
            "a@md5:00",
            ":5000/a",
            "[::1/a",
            "[zz]:1/a",
            "-host.com/a",
            "ä",
            "a:.t",
            &long_tag,
            &long_name,
            &id,
        ];
        for text in wrong {
            let message = text.parse::<Reference>().unwrap_err().to_string();
            assert!(message.starts_with("invalid image reference"), "{text}: {message}");
        }
    }
}

//! registries.conf(5), version 2: where the images of a name really are.

use crate::image::reference::Reference;
use crate::{Error, Result, log};
use serde::Deserialize;
use std::path::{Path, PathBuf};

const SYSTEM: &str = "/etc/containers";
const NAME: &str = "registries.conf";

/// A repository at a place that may have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `host[:port]`
    pub host: String,
    pub repository: String,
    pub insecure: bool,
    pub mirror: bool,
}

/// What registries.conf says; more keys than these are other programs' business.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Config {
    registry: Vec<Rule>,
    /// Of version 1, which nobody writes any more.
    registries: Option<serde::de::IgnoredAny>,
}

/// `[[registry]]`
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Rule {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<Mirror>,
}

/// `[[registry.mirror]]`
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Mirror {
    location: String,
    insecure: bool,
    /// `all`, `digest-only` or `tag-only`.
    pull_from_mirror: String,
}

impl Rule {
    fn prefix(&self) -> &str {
        if self.prefix.is_empty() { &self.location } else { &self.prefix }
    }

    /// What of `name` the rule speaks of: the length of the part that it replaces.
    fn matches(&self, name: &str) -> Option<usize> {
        let prefix = self.prefix();
        if let Some(domain) = prefix.strip_prefix('*') {
            let host = name.split('/').next().unwrap_or_default();
            let bare = host.split(':').next().unwrap_or_default();
            return (domain.starts_with('.') && bare.ends_with(domain) && bare.len() > domain.len()).then_some(host.len());
        }
        let rest = name.strip_prefix(prefix)?;
        (!prefix.is_empty() && (rest.is_empty() || rest.starts_with('/'))).then_some(prefix.len())
    }
}

impl Config {
    /// From `file`, or from where containers' tools look: the user's or else the system's, and what stands in `.d` beside.
    pub fn load(file: Option<&Path>) -> Result<Config> {
        if let Some(file) = file {
            let text = std::fs::read_to_string(file).map_err(|e| Error::io(&e, "reading", file.display().to_string()))?;
            return Config::parse(&text, file);
        }
        if let Some(file) = std::env::var_os("CONTAINERS_REGISTRIES_CONF").filter(|f| !f.is_empty()) {
            return Config::load(Some(Path::new(&file)));
        }
        let user = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config/containers")).filter(|dir| dir.join(NAME).exists());
        let dirs = [user.clone().unwrap_or_else(|| SYSTEM.into()).join(NAME)];
        let drop_ins = [Some(PathBuf::from(SYSTEM)), user].into_iter().flatten().flat_map(|dir| drop_ins(&dir.join(format!("{NAME}.d"))));
        let mut all = Config::default();
        for path in dirs.into_iter().chain(drop_ins) {
            match std::fs::read_to_string(&path) {
                Ok(text) => all.merge(Config::parse(&text, &path)?),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io(&e, "reading", path.display().to_string())),
            }
        }
        Ok(all)
    }

    fn parse(text: &str, path: &Path) -> Result<Config> {
        let wrong = |cause: String| Error::other("reading", path.display().to_string(), cause);
        let config: Config = toml::from_str(text).map_err(|e| wrong(e.to_string().trim_end().replace('\n', " ")))?;
        if config.registries.is_some() {
            log::warn(&format!("{}: [registries] of version 1 is not read; write [[registry]]", path.display()));
        }
        for rule in &config.registry {
            if rule.prefix().is_empty() {
                return Err(wrong("a [[registry]] has neither prefix nor location".into()));
            }
            let modes = ["", "all", "digest-only", "tag-only"];
            if let Some(mirror) = rule.mirror.iter().find(|m| m.location.is_empty() || !modes.contains(&m.pull_from_mirror.as_str())) {
                return Err(wrong(format!("a mirror of {} has no location, or pull-from-mirror = {:?}", rule.prefix(), mirror.pull_from_mirror)));
            }
        }
        Ok(config)
    }

    /// A later file's rule replaces an earlier one's for the same prefix.
    fn merge(&mut self, later: Config) {
        self.registry.retain(|rule| !later.registry.iter().any(|l| l.prefix() == rule.prefix()));
        self.registry.extend(later.registry);
    }

    fn rule(&self, name: &str) -> Option<(&Rule, usize)> {
        let matching = self.registry.iter().filter_map(|rule| Some((rule, rule.matches(name)?)));
        matching.max_by_key(|(rule, _)| rule.prefix().trim_start_matches('*').len())
    }

    /// Where `reference` may be had, in the order in which to try.
    pub fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        let name = reference.name();
        let mut all = Vec::new();
        if let Some((rule, length)) = self.rule(&name) {
            let by_digest = reference.digest().is_some();
            let wanted = |mirror: &&Mirror| match mirror.pull_from_mirror.as_str() {
                "digest-only" => by_digest,
                "tag-only" => !by_digest,
                _ => by_digest || !rule.mirror_by_digest_only,
            };
            for mirror in rule.mirror.iter().filter(wanted) {
                all.push(endpoint(&mirror.location, &name[length..], mirror.insecure, true)?);
            }
        }
        all.push(self.home(reference)?);
        Ok(all)
    }

    /// The registry itself.
    pub fn home(&self, reference: &Reference) -> Result<Endpoint> {
        let name = reference.name();
        let Some((rule, length)) = self.rule(&name) else {
            return Ok(Endpoint { host: reference.registry().into(), repository: reference.repository().into(), insecure: false, mirror: false });
        };
        if rule.blocked {
            return Err(Error::other("fetching", reference.to_string(), "registries.conf blocks this registry"));
        }
        // A wildcard without a location says where nothing else is.
        let location = if rule.location.is_empty() { &name[..length] } else { &rule.location };
        endpoint(location, &name[length..], rule.insecure, false)
    }
}

/// `location` with the rest of the name behind it, taken apart.
fn endpoint(location: &str, rest: &str, insecure: bool, mirror: bool) -> Result<Endpoint> {
    let whole = format!("{location}{rest}");
    let reference: Reference = whole.parse().map_err(|e: Error| e.within(&format!("registries.conf, location {location:?}")))?;
    Ok(Endpoint { host: reference.registry().into(), repository: reference.repository().into(), insecure, mirror })
}

fn drop_ins(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "conf")).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = r#"
        unqualified-search-registries = ["docker.io"]
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "localhost:5001/hub"
        insecure = true
        [[registry.mirror]]
        location = "mirror.example.com"
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "docker.io/me"
        location = "quay.io/mine"
        [[registry]]
        location = "bad.example.com"
        blocked = true
        [[registry]]
        prefix = "*.corp"
        insecure = true
        [aliases]
        "a" = "b"
    "#;

    fn all(name: &str) -> Result<Vec<String>, String> {
        let config = Config::parse(CONF, Path::new("r.conf")).unwrap();
        let endpoints = config.endpoints(&name.parse().unwrap()).map_err(|e| e.to_string())?;
        Ok(endpoints.iter().map(|e| format!("{}/{}{}", e.host, e.repository, if e.insecure { " insecure" } else { "" })).collect())
    }

    #[test]
    fn rules_and_mirrors() {
        let digest = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(all("ubuntu").unwrap(), ["localhost:5001/hub/library/ubuntu insecure", "docker.io/library/ubuntu"]);
        assert_eq!(
            all(&format!("ubuntu{digest}")).unwrap(),
            ["localhost:5001/hub/library/ubuntu insecure", "mirror.example.com/library/ubuntu", "docker.io/library/ubuntu"]
        );
        assert_eq!(all("me/app").unwrap(), ["quay.io/mine/app"]);
        assert_eq!(all("meme/app").unwrap().len(), 2);
        assert_eq!(all("ghcr.io/a/b").unwrap(), ["ghcr.io/a/b"]);
        assert_eq!(all("reg.corp:5000/a").unwrap(), ["reg.corp:5000/a insecure"]);
        assert!(all("bad.example.com/a").unwrap_err().contains("blocks"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str| Config::parse(text, Path::new("r.conf")).unwrap_err().to_string();
        assert!(error("[[registry]]\n").contains("neither prefix nor location"));
        assert!(error("[[registry]]\nlocation=\"a.b\"\n[[registry.mirror]]\nlocation=\"c.d\"\npull-from-mirror=\"x\"").contains("pull-from-mirror"));
        assert!(error("[[registry").starts_with("reading r.conf"));
    }
}

//! Docker's `config.json` and its credential helpers: who we are to which registry.

use crate::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The key under which Docker keeps what belongs to Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";
const HUB_NAMES: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
/// A helper's user name that says that its secret is an identity token.
const TOKEN_USER: &str = "<token>";
/// Of a helper's answer, in bytes.
const MOST_ANSWER: u64 = 1 << 20;

/// What proves who we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// For token servers only (OAuth2's refresh token).
    Identity(String),
}

/// Secrets stay out of messages.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Credentials::Password { user, .. } => write!(f, "Password {{ user: {user:?}, … }}"),
            Credentials::Identity(_) => f.write_str("Identity(…)"),
        }
    }
}

/// `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
#[derive(Debug)]
pub struct Keyring {
    path: PathBuf,
    content: Map<String, Value>,
}

impl Keyring {
    /// A file that isn't there holds nothing.
    pub fn open() -> Result<Keyring> {
        let named = std::env::var_os("DOCKER_CONFIG").filter(|d| !d.is_empty()).map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
        let Some(dir) = named.or_else(home) else {
            return Ok(Keyring { path: PathBuf::new(), content: Map::new() });
        };
        let path = dir.join("config.json");
        let shown = path.display().to_string();
        let content = match fs::read(&path) {
            Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => Map::new(),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| Error::other("reading", shown, e))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(e) => return Err(Error::io(&e, "reading", shown)),
        };
        Ok(Keyring { path, content })
    }

    /// For `registry` (`host[:port]`): from the helper for it, else from the helper for all, else from the file.
    pub fn find(&self, registry: &str) -> Result<Option<Credentials>> {
        if let Some(helper) = self.helper(registry) {
            return helper_get(&helper, &key(registry));
        }
        let entries = self.content.get("auths").and_then(Value::as_object).into_iter().flatten();
        let mut matching: Vec<_> = entries.filter(|(k, _)| same_registry(k, registry)).collect();
        // The exact name before its other forms.
        matching.sort_by_key(|(k, _)| *k != &key(registry));
        for (k, entry) in matching {
            if let Some(found) = entry_credentials(entry).map_err(|e| Error::other("reading", format!("auths[{k:?}] in {}", self.path.display()), e))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn helper(&self, registry: &str) -> Option<String> {
        let own = self.content.get("credHelpers").and_then(Value::as_object).into_iter().flatten();
        let own = own.filter(|(k, _)| same_registry(k, registry)).find_map(|(_, v)| v.as_str());
        let helper = own.or_else(|| self.content.get("credsStore").and_then(Value::as_str))?;
        (!helper.is_empty()).then(|| helper.to_string())
    }

    /// Remember `credentials`; where, for a message.
    pub fn store(&mut self, registry: &str, credentials: &Credentials) -> Result<String> {
        let (user, secret) = match credentials {
            Credentials::Password { user, password } => (user.as_str(), password.as_str()),
            Credentials::Identity(token) => (TOKEN_USER, token.as_str()),
        };
        if let Some(helper) = self.helper(registry) {
            let input = json!({"ServerURL": key(registry), "Username": user, "Secret": secret}).to_string();
            run_helper(&helper, "store", &input)?.map_err(|said| Error::other("storing credentials with", program(&helper), said))?;
            return Ok(program(&helper));
        }
        let entry = match credentials {
            Credentials::Password { .. } => json!({"auth": STANDARD.encode(format!("{user}:{secret}"))}),
            Credentials::Identity(_) => json!({"auth": STANDARD.encode(format!("{TOKEN_USER}:")), "identitytoken": secret}),
        };
        let auths = self.content.entry("auths").or_insert_with(|| json!({}));
        let Some(auths) = auths.as_object_mut() else {
            return Err(Error::other("reading", self.path.display().to_string(), "auths is no object"));
        };
        auths.retain(|k, _| !same_registry(k, registry));
        auths.insert(key(registry), entry);
        self.save()?;
        Ok(self.path.display().to_string())
    }

    /// Forget; false if there was nothing.
    pub fn erase(&mut self, registry: &str) -> Result<bool> {
        let mut known = false;
        if let Some(helper) = self.helper(registry) {
            known = helper_get(&helper, &key(registry))?.is_some();
            if known {
                run_helper(&helper, "erase", &key(registry))?.map_err(|said| Error::other("erasing credentials with", program(&helper), said))?;
            }
        }
        if let Some(auths) = self.content.get_mut("auths").and_then(Value::as_object_mut) {
            let before = auths.len();
            auths.retain(|k, _| !same_registry(k, registry));
            if auths.len() < before {
                known = true;
                self.save()?;
            }
        }
        Ok(known)
    }

    /// For our eyes only, and whole or not at all.
    fn save(&self) -> Result<()> {
        let failed = |e: std::io::Error| Error::io(&e, "writing", self.path.display().to_string());
        let Some(dir) = self.path.parent().filter(|dir| !dir.as_os_str().is_empty()) else {
            return Err(Error::other("storing credentials", "", "neither DOCKER_CONFIG nor HOME is set"));
        };
        fs::create_dir_all(dir).map_err(failed)?;
        // A link that somebody made stays one.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let temporary = path.with_extension(format!("json.{}", std::process::id()));
        let text = serde_json::to_string_pretty(&self.content).map_err(|e| Error::other("writing", self.path.display().to_string(), e))?;
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|e| {
            let _ = fs::remove_file(&temporary);
            failed(e)
        })
    }
}

fn key(registry: &str) -> String {
    if HUB_NAMES.contains(&registry) { HUB_KEY.into() } else { registry.into() }
}

/// Keys are hosts, or URLs of any age.
fn same_registry(key: &str, registry: &str) -> bool {
    let bare = key.trim_start_matches("https://").trim_start_matches("http://");
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    // containers' tools have keys for parts of a registry; those are not for all of it.
    if !matches!(path.trim_end_matches('/'), "" | "v1" | "v2") {
        return false;
    }
    host.eq_ignore_ascii_case(registry) || (HUB_NAMES.contains(&host) && HUB_NAMES.contains(&registry))
}

fn entry_credentials(entry: &Value) -> Result<Option<Credentials>, String> {
    let text = |name: &str| entry[name].as_str().filter(|t| !t.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credentials::Identity(token.into())));
    }
    if let (Some(user), Some(password)) = (text("username"), text("password")) {
        return Ok(Some(Credentials::Password { user: user.into(), password: password.into() }));
    }
    let Some(auth) = text("auth") else { return Ok(None) };
    let decoded = STANDARD.decode(auth.trim()).map_err(|_| "auth is not base64")?;
    let decoded = String::from_utf8(decoded).map_err(|_| "auth is not UTF-8")?;
    let (user, password) = decoded.split_once(':').ok_or("auth has no colon in it")?;
    // Docker pads with zero bytes at times.
    Ok(Some(Credentials::Password { user: user.into(), password: password.trim_end_matches('\0').into() }))
}

fn program(helper: &str) -> String {
    format!("docker-credential-{helper}")
}

fn helper_get(helper: &str, key: &str) -> Result<Option<Credentials>> {
    let wrong = |cause: String| Error::other("asking for credentials with", program(helper), cause);
    let answer = match run_helper(helper, "get", key)? {
        Ok(answer) => answer,
        // The helpers' library says so, on stdout.
        Err(said) if said.contains("credentials not found") => return Ok(None),
        Err(said) => return Err(wrong(said)),
    };
    let json: Value = serde_json::from_str(&answer).map_err(|e| wrong(e.to_string()))?;
    match (json["Username"].as_str(), json["Secret"].as_str()) {
        (Some(TOKEN_USER), Some(secret)) => Ok(Some(Credentials::Identity(secret.into()))),
        (Some(user), Some(secret)) if !user.is_empty() => Ok(Some(Credentials::Password { user: user.into(), password: secret.into() })),
        (_, Some(_)) => Ok(None),
        _ => Err(wrong("its answer has no Username and Secret".into())),
    }
}

/// What it printed, or what it printed when it failed.
fn run_helper(helper: &str, action: &str, input: &str) -> Result<Result<String, String>> {
    let name = program(helper);
    if helper.contains('/') {
        return Err(Error::other("running", name, "a helper's name must not have a slash in it"));
    }
    let failed = |e: std::io::Error| Error::io(&e, "running credential helper", name.clone()).hint("config.json names it in credsStore or credHelpers");
    let mut child = Command::new(&name).arg(action).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that doesn't read has its reasons; its exit code tells.
        let _ = stdin.write_all(input.as_bytes());
    }
    let mut bytes = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MOST_ANSWER).read_to_end(&mut bytes).map_err(failed)?;
    }
    let status = child.wait().map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(if status.success() { Ok(text) } else { Err(crate::image::digest::clip(text.trim())) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(content: Value) -> Keyring {
        Keyring { path: "config.json".into(), content: content.as_object().unwrap().clone() }
    }

    fn password(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Password { user: user.into(), password: password.into() })
    }

    #[test]
    fn from_the_file() {
        let ring = keyring(json!({"auths": {
            "https://index.docker.io/v1/": {"auth": STANDARD.encode("me:pass:word")},
            "http://localhost:5000": {"username": "u", "password": "p"},
            "quay.io": {"identitytoken": "t"},
            "ghcr.io": {},
            "reg.example.com/team": {"auth": STANDARD.encode("x:y")},
        }}));
        let find = |registry: &str| ring.find(registry).unwrap();
        assert_eq!(find("docker.io"), password("me", "pass:word"));
        assert_eq!(find("localhost:5000"), password("u", "p"));
        assert_eq!(find("quay.io"), Some(Credentials::Identity("t".into())));
        for none in ["ghcr.io", "localhost", "localhost:5001", "reg.example.com"] {
            assert_eq!(find(none), None, "{none}");
        }
    }

    #[test]
    fn a_damaged_entry_is_named() {
        for auth in ["%%%", "bWU=", "/////w=="] {
            let ring = keyring(json!({"auths": {"a.b": {"auth": auth}}}));
            let message = ring.find("a.b").unwrap_err().to_string();
            assert!(message.contains("auths[\"a.b\"]"), "{message}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let shown = format!("{:?} {:?}", password("me", "hunter2"), Credentials::Identity("hunter2".into()));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

//! `RUN --mount=type=…,…`.

use crate::image::build::plan::{Mount, MountKind, Origin, Sharing};
use crate::spec::validate::suggest;

const KINDS: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "required",
    "size",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
    "env",
];

/// The `from` of a mount, before anything is expanded.
pub fn from(text: &str) -> Option<String> {
    fields(text).into_iter().rev().find_map(|field| Some(field.split_once('=').filter(|(key, _)| key.eq_ignore_ascii_case("from"))?.1.to_string()))
}

/// What the keys say.
#[derive(Default)]
struct Keys {
    kind: String,
    from: String,
    source: String,
    target: String,
    readonly: Option<bool>,
    required: Option<bool>,
    size: Option<u64>,
    id: String,
    sharing: Option<Sharing>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    env: Option<String>,
}

/// What a mount's surroundings are.
pub struct Around<'a> {
    pub expand: &'a dyn Fn(&str) -> Result<String, String>,
    pub origin: &'a dyn Fn(&str) -> Result<Origin, String>,
    pub cwd: &'a str,
    /// How many ssh mounts there were before in the same RUN.
    pub agents: usize,
    pub has_auth_sock: bool,
    /// Of the names of caches, "" for none.
    pub cache_space: &'a str,
}

/// Read one mount.
///
/// # Errors
/// In words: a key that doesn't exist or doesn't go with the type, a value that is none.
pub fn parse(text: &str, around: &Around) -> Result<Mount, String> {
    let mut keys = Keys { kind: "bind".into(), ..Keys::default() };
    for field in fields(text) {
        keys.take(&field, around)?;
    }
    keys.check()?;
    let owner = (keys.uid.unwrap_or(0), keys.gid.unwrap_or(0));
    let required = keys.required.unwrap_or(false);
    let from = |default: Origin| if keys.from.is_empty() { Ok(default) } else { (around.origin)(&keys.from) };
    let source = super::path::absolute("/", &keys.source);
    let kind = match keys.kind.as_str() {
        "bind" => MountKind::Bind { from: from(Origin::Context)?, source },
        "cache" => MountKind::Cache {
            id: cache_id(if keys.id.is_empty() { super::path::clean(&keys.target) } else { keys.id.clone() }, around.cache_space),
            sharing: keys.sharing.unwrap_or_default(),
            from: from(Origin::Scratch)?,
            source,
            mode: keys.mode.unwrap_or(0o755),
            owner,
        },
        "tmpfs" => MountKind::Tmpfs { size: keys.size },
        "secret" => return Ok(secret(keys, required, owner)),
        _ => return Ok(agent(keys, required, owner, around)),
    };
    let target = super::path::absolute(around.cwd, &keys.target);
    if target == "/" {
        return Err(format!(
            "the target is {:?} in the working directory {:?}: a directory other than / is needed, as in target=/src",
            keys.target, around.cwd
        ));
    }
    let readonly = keys.readonly.unwrap_or(keys.kind == "bind");
    Ok(Mount { target, readonly, kind })
}

fn cache_id(id: String, space: &str) -> String {
    if space.is_empty() { id } else { format!("{space}/{id}") }
}

fn secret(keys: Keys, required: bool, owner: (u32, u32)) -> Mount {
    let last = |path: &str| path.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default().to_string();
    let id = [&keys.source, &keys.id].into_iter().find(|id| !id.is_empty()).cloned().unwrap_or_else(|| last(&keys.target));
    let target = match (&keys.env, keys.target.as_str()) {
        (None, "") => format!("/run/secrets/{}", last(&id)),
        (_, "") => String::new(),
        (_, target) => super::path::absolute("/", target),
    };
    Mount { target, readonly: true, kind: MountKind::Secret { id, env: keys.env, required, mode: keys.mode.unwrap_or(0o400), owner } }
}

fn agent(keys: Keys, required: bool, owner: (u32, u32), around: &Around) -> Mount {
    let id = if keys.id.is_empty() { "default".into() } else { keys.id };
    let target = match keys.target.as_str() {
        "" => format!("/run/buildkit/ssh_agent.{}", around.agents),
        target => super::path::absolute("/", target),
    };
    let sets_env = around.agents == 0 && !around.has_auth_sock;
    Mount { target, readonly: true, kind: MountKind::Ssh { id, required, mode: keys.mode.unwrap_or(0o600), owner, sets_env } }
}

impl Keys {
    fn take(&mut self, field: &str, around: &Around) -> Result<(), String> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        let bare = matches!(key.as_str(), "readonly" | "ro" | "readwrite" | "rw" | "required");
        let value = match value {
            // Which stages there are must be known before any variable is.
            Some(value) if key == "from" => value.to_string(),
            Some(value) => (around.expand)(value)?,
            None if bare => "true".into(),
            None if KEYS.contains(&key.as_str()) => return Err(format!("{key} needs a value: {key}=…")),
            None => return Err(unknown("key", &key, &KEYS)),
        };
        let wrong = |needed: &str| format!("{key} is {value:?}: {needed} is needed");
        let truth = || boolean(&value).ok_or_else(|| wrong("true or false"));
        let number = || value.parse().map_err(|_| wrong("a number"));
        match key.as_str() {
            "type" => {
                self.kind = value.to_ascii_lowercase();
                if !KINDS.contains(&self.kind.as_str()) {
                    return Err(unknown("type", &value, &KINDS));
                }
            }
            "from" => self.from = value,
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "readonly" | "ro" => self.readonly = Some(truth()?),
            "readwrite" | "rw" => self.readonly = Some(!truth()?),
            "required" => self.required = Some(truth()?),
            "size" => self.size = Some(size(&value).ok_or_else(|| wrong("a number of bytes, with k, m, g or t behind it for larger ones,"))?),
            "id" => self.id = value,
            "sharing" => {
                let modes = [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];
                let found = modes.iter().find(|(name, _)| name.eq_ignore_ascii_case(&value));
                self.sharing = Some(found.ok_or_else(|| unknown("sharing", &value, &modes.map(|m| m.0)))?.1);
            }
            "mode" => self.mode = Some(u32::from_str_radix(&value, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(|| wrong("an octal mode"))?),
            "uid" => self.uid = Some(number()?),
            "gid" => self.gid = Some(number()?),
            "env" => self.env = Some(value),
            _ => return Err(unknown("key", &key, &KEYS)),
        }
        Ok(())
    }

    /// Which keys go with which type.
    fn check(&self) -> Result<(), String> {
        let kind = self.kind.as_str();
        let given = [
            ("required", self.required.is_some(), &["secret", "ssh"][..]),
            ("size", self.size.is_some(), &["tmpfs"]),
            ("sharing", self.sharing.is_some(), &["cache"]),
            ("mode", self.mode.is_some(), &["cache", "secret", "ssh"]),
            ("uid", self.uid.is_some(), &["cache", "secret", "ssh"]),
            ("gid", self.gid.is_some(), &["cache", "secret", "ssh"]),
            ("env", self.env.is_some(), &["secret"]),
            ("from", !self.from.is_empty(), &["bind", "cache"]),
            ("id", !self.id.is_empty(), &["cache", "secret", "ssh"]),
            ("source", !self.source.is_empty(), &["bind", "cache", "secret"]),
        ];
        if let Some((key, _, kinds)) = given.iter().find(|(_, given, kinds)| *given && !kinds.contains(&kind)) {
            return Err(format!("{key} doesn't go with type={kind}, but with {}", kinds.join(", ")));
        }
        if kind == "secret" && self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
            return Err("a secret needs id=…, or a target that ends in its id".into());
        }
        if kind == "secret" && !self.source.is_empty() && !self.id.is_empty() {
            return Err("source and id are the same for a secret: only one is needed".into());
        }
        Ok(())
    }
}

fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    let near = suggest::closest(word, known).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
    format!("{what} {word:?} is unknown: {near}there are {}", known.join(", "))
}

/// As Go's strconv.ParseBool.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Bytes: `64m`, `1.5g`, `2GiB`.
fn size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    let unit = lower[digits.len()..].trim_start().trim_end_matches('b').trim_end_matches('i');
    let shift = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit)?;
    let value: f64 = digits.parse().ok().filter(|v: &f64| v.is_finite() && *v >= 0.0)?;
    Some((value * (1u64 << (10 * shift)) as f64) as u64)
}

/// Fields between commas; one in double quotes may have commas.
fn fields(text: &str) -> Vec<String> {
    let (mut out, mut open, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => open.extend(chars.next()),
            '"' if quoted || open.is_empty() => quoted = !quoted,
            ',' if !quoted => out.push(std::mem::take(&mut open)),
            c => open.push(c),
        }
    }
    out.push(open);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Mount, String> {
        let expand = |text: &str| Ok(text.replace("$X", "x"));
        let origin = |name: &str| if name == "bad" { Err("no".into()) } else { Ok(Origin::Image(name.into())) };
        super::parse(text, &Around { expand: &expand, origin: &origin, cwd: "/work", agents: 0, has_auth_sock: false, cache_space: "" })
    }

    #[test]
    fn kinds() {
        let bind = parse("target=src,source=./a/../b,from=img").unwrap();
        assert_eq!(
            bind,
            Mount { target: "/work/src".into(), readonly: true, kind: MountKind::Bind { from: Origin::Image("img".into()), source: "/b".into() } }
        );
        assert_eq!(parse("type=bind").unwrap().target, "/work");
        assert!(!parse("dst=/a,rw").unwrap().readonly);
        assert!(parse("dst=/a,rw=false").unwrap().readonly);
        let cache = parse("type=cache,target=/root/.cache/,sharing=LOCKED,mode=0700,uid=7").unwrap();
        let kind =
            MountKind::Cache { id: "/root/.cache".into(), sharing: Sharing::Locked, from: Origin::Scratch, source: "/".into(), mode: 0o700, owner: (7, 0) };
        assert_eq!(cache, Mount { target: "/root/.cache".into(), readonly: false, kind });
        assert_eq!(
            parse("type=tmpfs,target=/$X,size=1.5k").unwrap(),
            Mount { target: "/x".into(), readonly: false, kind: MountKind::Tmpfs { size: Some(1536) } }
        );
        let ssh = parse("type=ssh").unwrap();
        assert_eq!(
            (ssh.target.as_str(), ssh.kind),
            ("/run/buildkit/ssh_agent.0", MountKind::Ssh { id: "default".into(), required: false, mode: 0o600, owner: (0, 0), sets_env: true })
        );
    }

    #[test]
    fn secrets() {
        let secret = |text: &str| match parse(text).unwrap() {
            Mount { target, kind: MountKind::Secret { id, env, required, .. }, .. } => (target, id, env, required),
            other => panic!("{other:?}"),
        };
        assert_eq!(secret("type=secret,id=a/b"), ("/run/secrets/b".into(), "a/b".into(), None, false));
        assert_eq!(secret("type=secret,id=a,env=A,required"), (String::new(), "a".into(), Some("A".into()), true));
        assert_eq!(secret("type=secret,id=a,env=A,target=/s"), ("/s".into(), "a".into(), Some("A".into()), false));
        assert_eq!(secret("type=secret,target=/etc/token"), ("/etc/token".into(), "token".into(), None, false));
    }

    #[test]
    fn fields_and_sizes() {
        assert_eq!(fields(r#"a=1,"b=2,3",c="x""#), ["a=1", "b=2,3", "c=\"x\""]);
        assert_eq!(from("type=bind,FROM=x,target=/y"), Some("x".into()));
        for (text, bytes) in [("10", 10), ("1k", 1024), ("2MiB", 2 << 20), ("3 gb", 3 << 30)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        assert_eq!((size("x"), size("-1"), size("1q")), (None, None, None));
    }

    #[test]
    fn mistakes() {
        let table = [
            ("type=cach,target=/a", "did you mean cache?"),
            ("tpye=bind", "did you mean type?"),
            ("target", "target needs a value"),
            ("foo", "unknown"),
            ("target=/", "other than /"),
            ("target=..", "other than /"),
            ("target=/a,size=1", "doesn't go with type=bind, but with tmpfs"),
            ("type=cache,target=/a,sharing=x", "shared, private, locked"),
            ("type=cache,target=/a,mode=9", "octal"),
            ("type=cache,target=/a,uid=x", "number"),
            ("type=secret", "needs id"),
            ("type=secret,id=a,source=b", "only one"),
            ("target=/a,from=bad", "no"),
            ("target=/a,ro=maybe", "true or false"),
        ];
        for (text, word) in table {
            let message = parse(text).unwrap_err();
            assert!(message.contains(word), "{text}: {message}");
        }
    }
}

//! What registries ask before they answer: basic authentication, or a token from somebody they trust (RFC 6750 as
//! distribution's token spec uses it). Nothing is sent unasked.

use super::credentials::{Credentials, Keyring};
use super::http::{Call, Fault, Http, Payload, join, origin, read_small, refusal};
use super::trust;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use ureq::Body;
use ureq::http::{Method, Response, header};

/// Of a token server's answer, in bytes.
const MOST_TOKEN: u64 = 1 << 20;
/// What the spec says for a token that doesn't say how long it lives.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// Taken from a token's life, so that it doesn't end on the way.
const MARGIN: Duration = Duration::from_secs(5);

/// A `WWW-Authenticate` challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: String, scope: String },
}

/// What one registry was told and gave for it.
#[derive(Default)]
pub(super) struct Auth {
    /// An Authorization header for each scope, and how long it is good.
    granted: Mutex<HashMap<String, (String, Option<Instant>)>>,
    /// Looked up once: a helper may ask the user.
    credentials: Mutex<Option<Option<Credentials>>>,
}

impl Auth {
    /// With these credentials, whatever is stored elsewhere: for `login`.
    pub fn with(credentials: Credentials) -> Auth {
        Auth { granted: Mutex::default(), credentials: Mutex::new(Some(Some(credentials))) }
    }

    /// What to send for `scope`, if we were granted something.
    pub fn header(&self, scope: &str) -> Option<String> {
        let granted = self.granted.lock().unwrap_or_else(|e| e.into_inner());
        let (value, end) = granted.get(scope)?;
        end.is_none_or(|end| Instant::now() < end).then(|| value.clone())
    }

    fn credentials(&self, registry: &str) -> Result<Option<Credentials>, Fault> {
        let mut known = self.credentials.lock().unwrap_or_else(|e| e.into_inner());
        if known.is_none() {
            *known = Some(Keyring::open()?.find(registry)?);
        }
        Ok(known.clone().flatten())
    }

    /// Who we are to `registry`, for messages.
    pub fn user(&self, registry: &str) -> Option<String> {
        match self.credentials(registry) {
            Ok(Some(Credentials::Password { user, .. })) => Some(user),
            Ok(Some(Credentials::Identity(_))) => Some("the stored identity token".into()),
            _ => None,
        }
    }

    /// Answer the challenges of a 401. False if there is nothing that could be answered.
    pub fn answer(&self, http: &Http, response: &Response<Body>, call: &Call, registry: &str, scope: &str) -> Result<bool, Fault> {
        let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenges: Vec<Challenge> = headers.iter().filter_map(|h| h.to_str().ok()).flat_map(parse).collect();
        let bearer = challenges.iter().find(|c| matches!(c, Challenge::Bearer { .. }));
        let granted = match bearer.or(challenges.first()) {
            None => return Ok(false),
            Some(Challenge::Basic) => match self.credentials(registry)? {
                Some(Credentials::Password { user, password }) => (basic(&user, &password), None),
                _ => return Ok(false),
            },
            Some(Challenge::Bearer { realm, service, scope: asked }) => {
                // The registry's words for what is needed count, except that we may need more than this one call.
                let scope = if scope.is_empty() { asked } else { scope };
                let request = TokenRequest { realm: &join(&call.url, realm)?, service, scope, call };
                request.send(http, self.credentials(registry)?.as_ref())?
            }
        };
        self.granted.lock().unwrap_or_else(|e| e.into_inner()).insert(scope.to_string(), granted);
        Ok(true)
    }
}

pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

struct TokenRequest<'a> {
    realm: &'a str,
    service: &'a str,
    /// Several are parted by blanks.
    scope: &'a str,
    call: &'a Call<'a>,
}

#[derive(serde::Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl TokenRequest<'_> {
    /// The Authorization header that it gives, and until when.
    fn send(&self, http: &Http, credentials: Option<&Credentials>) -> Result<(String, Option<Instant>), Fault> {
        let realm_host = origin(self.realm)?;
        let plain = self.realm.starts_with("http:");
        let local = trust::is_loopback(realm_host.rsplit('/').next().unwrap_or_default());
        if plain && !local && !self.call.insecure {
            return Err(Fault::Final {
                cause: format!("its token server {realm_host} does without encryption"),
                hint: "--insecure allows that, and shows your password to the network".into(),
            });
        }
        let started = Instant::now();
        let response = http.retrying(|_| {
            let response = match credentials {
                Some(Credentials::Identity(token)) => self.exchange(http, token)?,
                Some(Credentials::Password { user, password }) => self.get(http, Some(basic(user, password)))?,
                None => self.get(http, None)?,
            };
            if response.status().is_success() { Ok(response) } else { Err(refusal(response)) }
        })?;
        let token: Token = serde_json::from_slice(&read_small(response, MOST_TOKEN)?)
            .map_err(|e| Fault::last(format!("the token server {realm_host} answers with nonsense: {e}")))?;
        let value = token.token.or(token.access_token).filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_graphic()));
        let value = value.ok_or_else(|| Fault::last(format!("the token server {realm_host} gives no token")))?;
        let life = token.expires_in.map_or(SHORTEST_LIFE, Duration::from_secs).clamp(SHORTEST_LIFE, Duration::from_secs(86_400));
        Ok((format!("Bearer {value}"), Some(started + life - MARGIN)))
    }

    fn get(&self, http: &Http, authorization: Option<String>) -> Result<Response<Body>, Fault> {
        let mut url = format!("{}{}service={}", self.realm, if self.realm.contains('?') { '&' } else { '?' }, escape(self.service));
        for scope in self.scope.split(' ').filter(|s| !s.is_empty()) {
            url.push_str(&format!("&scope={}", escape(scope)));
        }
        self.request(http, Method::GET, url, authorization, Payload::None)
    }

    /// OAuth2: an identity token for an access token.
    fn exchange(&self, http: &Http, identity: &str) -> Result<Response<Body>, Fault> {
        let form = format!(
            "grant_type=refresh_token&service={}&client_id=dhowctl&scope={}&refresh_token={}",
            escape(self.service),
            escape(self.scope),
            escape(identity)
        );
        self.request(http, Method::POST, self.realm.to_string(), None, Payload::Bytes(form.as_bytes()))
    }

    fn request(&self, http: &Http, method: Method, url: String, authorization: Option<String>, payload: Payload) -> Result<Response<Body>, Fault> {
        let headers = match payload {
            Payload::None => Vec::new(),
            _ => vec![(header::CONTENT_TYPE, "application/x-www-form-urlencoded".to_string())],
        };
        http.send(&Call { method, url, headers, payload, authorization, insecure: self.call.insecure, small: true })
    }
}

/// Percent-encoding for a query's value.
pub(super) fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The challenges of one header, those that we know (RFC 9110 § 11.6.1).
fn parse(header: &str) -> Vec<Challenge> {
    let mut all = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', ',']).unwrap_or(rest.len());
        let (scheme, behind) = rest.split_at(end);
        let (params, next) = parameters(behind);
        let get = |name: &str| params.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone()).unwrap_or_default();
        if scheme.eq_ignore_ascii_case("basic") {
            all.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer") && !get("realm").is_empty() {
            all.push(Challenge::Bearer { realm: get("realm"), service: get("service"), scope: get("scope") });
        }
        rest = next;
    }
    all
}

/// `name=value` or `name="value"`, parted by commas; and what begins the next challenge.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut params = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',']);
    loop {
        let name_end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(name_end);
        let Some(value) = behind.trim_start().strip_prefix('=').filter(|_| !name.is_empty()) else {
            // Not even a scheme's name: there is no use in reading on.
            return (params, if name.is_empty() { "" } else { rest });
        };
        let (value, behind) = value_of(value.trim_start());
        params.push((name.to_string(), value));
        rest = behind.trim_start_matches([' ', ',']);
    }
}

fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', ',']).unwrap_or(text.len());
        return (text[..end].to_string(), &text[end..]);
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            c => value.push(c),
        }
    }
    (value, "")
}

/// The registry's own words for what a repository may be used for.
pub(super) fn scope(repository: &str, actions: &str) -> String {
    format!("repository:{repository}:{actions}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: &str, scope: &str) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.into(), scope: scope.into() }
    }

    #[test]
    fn challenges() {
        let hub = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:a/b:pull,push\"";
        assert_eq!(parse(hub), [bearer("https://auth.docker.io/token", "registry.docker.io", "repository:a/b:pull,push")]);
        assert_eq!(parse("Basic realm=\"x\""), [Challenge::Basic]);
        assert_eq!(parse("basic"), [Challenge::Basic]);
        assert_eq!(parse("Negotiate, Basic realm=\"a, b\", BEARER realm=r , service=\"s\\\"t\""), [Challenge::Basic, bearer("r", "s\"t", "")]);
        assert_eq!(parse("Digest realm=\"x\", nonce=\"y==\""), []);
    }

    #[test]
    fn nonsense_ends() {
        for text in ["", ",,,", "=", "Bearer", "Bearer realm", "Bearer realm=", "Bearer realm=\"", "Bearer =\"x\"", "\"\"\"", "Bearer realm=\"\\"] {
            assert_eq!(parse(text), [], "{text}");
        }
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escape("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
        assert_eq!(escape("a&b=c ä"), "a%26b%3Dc%20%C3%A4");
    }
}

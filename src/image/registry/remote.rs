//! One repository at one endpoint: the calls of distribution-spec's API.

use super::auth::{Auth, scope};
use super::config::Endpoint;
use super::http::{Call, Fault, Http, Payload, header_text, is_from_elsewhere, join, origin, read_small, refusal};
use crate::image::digest::Digest;
use crate::image::model::{MOST_DOCUMENT, media};
use crate::spec::validate::suggest;
use serde::Deserialize;
use std::io::Read;
use std::sync::Arc;
use std::sync::OnceLock;
use ureq::Body;
use ureq::http::{HeaderName, Method, Response, header};

const ACCEPTED: [&str; 4] = [media::MANIFEST, media::INDEX, media::DOCKER_MANIFEST, media::DOCKER_LIST];
/// Tags to look through for the one that was meant.
const MOST_TAGS: usize = 1000;
const MOST_TAG_LIST: u64 = 1 << 20;

pub(super) struct Remote {
    pub http: Arc<Http>,
    pub endpoint: Endpoint,
    pub auth: Auth,
    base: OnceLock<String>,
}

/// A manifest as it came.
pub(super) struct Raw {
    pub bytes: Vec<u8>,
    /// Content-Type, maybe "".
    pub media_type: String,
    /// What the registry says that it is.
    pub digest: Option<Digest>,
}

/// A request to this registry: everything else is known here.
pub(super) struct Ask<'a> {
    pub method: Method,
    /// Below `/v2/`, or a whole URL.
    pub to: &'a str,
    pub headers: Vec<(HeaderName, String)>,
    pub payload: Payload<'a>,
    pub scope: &'a str,
    pub small: bool,
}

impl<'a> Ask<'a> {
    pub fn new(method: Method, to: &'a str, scope: &'a str) -> Ask<'a> {
        Ask { method, to, headers: Vec::new(), payload: Payload::None, scope, small: true }
    }

    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Remote {
    pub fn new(http: Arc<Http>, endpoint: Endpoint) -> Remote {
        Remote { http, endpoint, auth: Auth::default(), base: OnceLock::new() }
    }

    fn insecure(&self) -> bool {
        self.endpoint.insecure || self.http.options.insecure
    }

    pub fn host(&self) -> &str {
        &self.endpoint.host
    }

    fn base(&self) -> Result<&str, Fault> {
        if let Some(base) = self.base.get() {
            return Ok(base);
        }
        let found = self.http.base(self.host(), self.insecure())?;
        Ok(self.base.get_or_init(|| found))
    }

    /// One try; a 401 is answered, once. Any other answer is the caller's to judge.
    pub fn ask(&self, ask: &Ask) -> Result<Response<Body>, Fault> {
        let base = self.base()?;
        let url = if ask.to.contains("://") { ask.to.to_string() } else { format!("{base}/v2/{}", ask.to) };
        let ours = origin(&url)? == origin(base)?;
        let mut call = Call {
            method: ask.method.clone(),
            url,
            headers: ask.headers.clone(),
            payload: ask.payload,
            authorization: self.auth.header(ask.scope).filter(|_| ours),
            insecure: self.insecure(),
            small: ask.small,
        };
        let response = self.http.send(&call)?;
        // What others ask for is not the registry's to get: a token's realm could be anywhere.
        if response.status().as_u16() != 401 || !ours || is_from_elsewhere(&response) {
            return Ok(response);
        }
        if !self.auth.answer(&self.http, &response, &call, self.host(), ask.scope).map_err(|e| self.denied(e))? {
            return Err(self.denied(refusal(response)));
        }
        // Read to its end, so that the connection can be used again.
        let _ = refusal(response);
        call.authorization = self.auth.header(ask.scope);
        self.http.send(&call)
    }

    /// A 401 or 403 with what to do about it.
    pub fn denied(&self, fault: Fault) -> Fault {
        let Fault::Answer { status: 401 | 403, said, .. } = fault else { return fault };
        let host = self.host();
        let hint = match self.auth.user(host) {
            None => format!("if it exists, it may need a login: dhowctl login {host}"),
            Some(user) => format!("{user} may not do this; for another user: dhowctl login {host}"),
        };
        Fault::Final { cause: said, hint }
    }

    /// The answer if it is one of success.
    pub fn success(&self, ask: &Ask) -> Result<Response<Body>, Fault> {
        let response = self.ask(ask)?;
        if response.status().is_success() { Ok(response) } else { Err(self.denied(refusal(response))) }
    }

    pub fn pull_scope(&self) -> String {
        scope(&self.endpoint.repository, "pull")
    }

    /// GET or HEAD of a manifest or index.
    pub fn manifest(&self, version: &str) -> Result<Raw, Fault> {
        let to = format!("{}/manifests/{version}", self.endpoint.repository);
        let scope = self.pull_scope();
        self.http.retrying(|_| {
            let response = self.success(&Ask::new(Method::GET, &to, &scope).header(header::ACCEPT, ACCEPTED.join(", ")))?;
            let media_type = header_text(&response, "content-type").unwrap_or_default();
            let digest = header_text(&response, "docker-content-digest").and_then(|d| d.parse().ok());
            Ok(Raw { bytes: read_small(response, MOST_DOCUMENT)?, media_type, digest })
        })
    }

    /// The tags that there are, for a message about one that isn't.
    pub fn tags(&self) -> Result<Vec<String>, Fault> {
        #[derive(Deserialize)]
        struct Tags {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let to = format!("{}/tags/list?n={MOST_TAGS}", self.endpoint.repository);
        let response = self.success(&Ask::new(Method::GET, &to, &self.pull_scope()))?;
        let list: Tags = serde_json::from_slice(&read_small(response, MOST_TAG_LIST)?).map_err(|e| Fault::last(e.to_string()))?;
        let mut tags = list.tags.unwrap_or_default();
        tags.retain(|tag| crate::image::reference::check_tag(tag).is_ok());
        tags.truncate(MOST_TAGS);
        Ok(tags)
    }

    /// What to say of a manifest that isn't there.
    pub fn which_tags(&self, wanted: &str) -> String {
        let Ok(tags) = self.tags() else {
            return format!("{} has no repository {}, or none that you may see", self.host(), self.endpoint.repository);
        };
        let known: Vec<&str> = tags.iter().map(String::as_str).collect();
        let list = || known.iter().rev().take(10).copied().collect::<Vec<_>>().join(", ");
        match suggest::closest(wanted, &known) {
            _ if known.is_empty() => "the repository has no tags".into(),
            Some(near) if known.len() == 1 => format!("did you mean {near}? It is the only tag"),
            None if known.len() == 1 => format!("its only tag is {}", known[0]),
            Some(near) => format!("did you mean {near}? There are {} tags, such as {}", known.len(), list()),
            None => format!("there are {} tags, such as {}", known.len(), list()),
        }
    }

    /// The bytes of a blob from `offset` on. How many of them are to be skipped (the server doesn't know ranges), and the rest.
    pub fn blob(&self, digest: &Digest, offset: u64, urls: &[String]) -> Result<(u64, Box<dyn Read + Send>), Fault> {
        let to = format!("{}/blobs/{digest}", self.endpoint.repository);
        let scope = self.pull_scope();
        let mut result = self.blob_at(&to, &scope, offset);
        // A foreign layer may be elsewhere.
        for url in urls.iter().filter(|url| url.starts_with("https://")) {
            if result.is_ok() {
                break;
            }
            result = self.blob_at(url, &scope, offset);
        }
        result
    }

    fn blob_at(&self, to: &str, scope: &str, offset: u64) -> Result<(u64, Box<dyn Read + Send>), Fault> {
        let mut ask = Ask { small: false, ..Ask::new(Method::GET, to, scope) };
        if offset > 0 {
            ask = ask.header(header::RANGE, format!("bytes={offset}-"));
        }
        let response = self.ask(&ask)?;
        let skip = match response.status().as_u16() {
            206 => {
                offset - starts_at(&response).filter(|at| *at <= offset).ok_or_else(|| Fault::last("the server answers with another range than asked for"))?
            }
            200 => offset,
            _ => return Err(self.denied(refusal(response))),
        };
        Ok((skip, Box::new(response.into_body().into_reader())))
    }

    /// The URL that `response` sends us to, for uploads.
    pub fn next_location(&self, response: &Response<Body>, base: &str) -> Result<String, Fault> {
        let text = header_text(response, "location").ok_or_else(|| Fault::last("the registry does not say where to go on with the upload"))?;
        let at = if base.contains("://") { base.to_string() } else { format!("{}/v2/{base}", self.base()?) };
        let next = join(&at, &text)?;
        if at.starts_with("https:") && next.starts_with("http:") && !self.insecure() {
            return Err(Fault::last(format!("uploads are to go to {}, without encryption", origin(&next)?)));
        }
        Ok(next)
    }
}

/// Where a partial answer begins: `Content-Range: bytes 5-9/10`.
fn starts_at(response: &Response<Body>) -> Option<u64> {
    header_text(response, "content-range")?.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

//! The client of registries: distribution-spec 1.1 over HTTP/1.1.
//!
//! - `config`: where a repository really is, mirrors and all (registries.conf).
//! - `trust`: which certificates are believed, which proxy is used; one HTTP agent for each host.
//! - `http`: a request and its answer, what can be tried again and what can't ([`http::Fault`]).
//! - `auth`, `credentials`: what the registry asks for before it answers, and where that comes from.
//! - `remote`: the calls of the API on one repository at one endpoint.
//! - `pull`, `push`: images; `stream`: a layer that is read while it comes.

mod auth;
mod config;
mod credentials;
mod http;
mod pull;
mod push;
mod remote;
mod stream;
mod trust;

pub use credentials::{Credentials, Keyring};
pub use pull::{Pull, Want};
pub use stream::LayerStream;

use super::reference::Reference;
use crate::Result;
use remote::Remote;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How registries are talked to.
#[derive(Debug, Clone)]
pub struct Options {
    /// Instead of the registries.conf of user and system.
    pub registries_conf: Option<PathBuf>,
    /// A directory with `*.crt` (CAs) and `*.cert` + `*.key` (ours), instead of `certs.d`.
    pub cert_dir: Option<PathBuf>,
    /// Plain http and certificates that nobody vouches for are good enough.
    pub insecure: bool,
    /// How often a request that failed for a passing reason is tried again.
    pub retries: u32,
    /// The longest silence on a connection.
    pub timeout: Duration,
    /// How many blobs at once.
    pub parallel: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { registries_conf: None, cert_dir: None, insecure: false, retries: 5, timeout: Duration::from_secs(30), parallel: 4 }
    }
}

/// A client, with what it has learnt of each host so far.
#[derive(Clone)]
pub struct Client {
    http: Arc<http::Http>,
    config: Arc<config::Config>,
}

impl Client {
    /// Read the configuration; nothing is connected yet.
    pub fn new(options: Options) -> Result<Client> {
        let config = config::Config::load(options.registries_conf.as_deref())?;
        Ok(Client { http: Arc::new(http::Http::new(options)), config: Arc::new(config) })
    }

    pub fn options(&self) -> &Options {
        &self.http.options
    }

    /// Where to look for an image: mirrors first, the registry itself last.
    fn remotes(&self, reference: &Reference) -> Result<Vec<Arc<Remote>>> {
        let endpoints = self.config.endpoints(reference)?;
        Ok(endpoints.into_iter().map(|e| Arc::new(Remote::new(self.http.clone(), e))).collect())
    }

    /// Whether `registry` lets us in with `credentials`. False: it lets everybody in, so that nobody knows.
    ///
    /// # Errors
    /// It doesn't.
    pub fn check_login(&self, registry: &str, credentials: &Credentials) -> Result<bool> {
        // Only the host counts.
        let reference: Reference = format!("{registry}/login").parse()?;
        let endpoint = self.config.home(&reference)?;
        let mut remote = Remote::new(self.http.clone(), endpoint);
        remote.auth = auth::Auth::with(credentials.clone());
        let ask = remote::Ask::new(ureq::http::Method::GET, "", "");
        self.http.retrying(|_| remote.success(&ask)).map_err(|fault| fault.error("logging in to", registry))?;
        Ok(remote.auth.header("").is_some())
    }

    /// What is at `url`, and when the server says that it was changed last, in seconds since 1970. Redirects are followed.
    pub fn get(&self, url: &str) -> Result<(impl std::io::Read + use<>, Option<i64>)> {
        let call = http::Call {
            method: ureq::http::Method::GET,
            url: url.to_string(),
            headers: Vec::new(),
            payload: http::Payload::None,
            authorization: None,
            insecure: self.options().insecure,
            small: false,
        };
        let answer = |_| {
            let response = self.http.send(&call)?;
            if response.status().is_success() { Ok(response) } else { Err(http::refusal(response)) }
        };
        let response = self.http.retrying(answer).map_err(|fault| fault.error("fetching", url))?;
        let modified = http::header_text(&response, "last-modified").and_then(|text| http::http_date(&text));
        Ok((response.into_body().into_reader(), modified))
    }

    /// Where to push to: the registry itself.
    fn home(&self, reference: &Reference) -> Result<Arc<Remote>> {
        let endpoint = self.config.home(reference)?;
        Ok(Arc::new(Remote::new(self.http.clone(), endpoint)))
    }
}

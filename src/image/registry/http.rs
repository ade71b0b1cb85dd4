//! One request and its answer, and the two kinds of failure: those that pass, and those that stay.

use super::{Options, trust};
use crate::image::digest::clip;
use crate::{Error, Kind, Result, log};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use ureq::http::{Method, Request, Response, header};
use ureq::{Agent, Body, SendBody};

/// No redirect leads further than this.
const MOST_REDIRECTS: usize = 10;
/// Of an answer that says why it is none.
const MOST_EXCUSE: u64 = 64 << 10;
/// A server may ask for more patience; nobody has it.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// The agents, one for each origin that was talked to.
pub(super) struct Http {
    pub options: Options,
    agents: Mutex<HashMap<(String, bool), Agent>>,
    /// The scheme that a host turned out to speak, where both are allowed.
    schemes: Mutex<HashMap<String, &'static str>>,
}

/// Why there is no answer to work with.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server said no.
    Answer { status: u16, said: String, retry_after: Option<Duration> },
    /// The connection broke, or there was silence. It may work the next time.
    Connection(String),
    /// It won't work the next time either: cause and advice.
    Final { cause: String, hint: String },
    /// On our side: the store, a file.
    Ours(Error),
}

impl Fault {
    pub fn last(cause: impl Into<String>) -> Fault {
        Fault::Final { cause: cause.into(), hint: String::new() }
    }

    fn passes(&self) -> bool {
        match self {
            Fault::Answer { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            Fault::Connection(_) => true,
            Fault::Final { .. } | Fault::Ours(_) => false,
        }
    }

    /// As the library's error.
    pub fn error(self, doing: &str, subject: impl Into<String>) -> Error {
        let (cause, hint) = match self {
            Fault::Answer { status: 404, said, .. } => return Error::new(Kind::NotFound, doing, subject, said),
            Fault::Answer { status: 429, said, .. } => (said, "wait, or log in: registries allow more to those they know".into()),
            Fault::Answer { said, .. } => (said, String::new()),
            Fault::Connection(cause) => (cause, String::new()),
            Fault::Final { cause, hint } => (cause, hint),
            Fault::Ours(e) => return e,
        };
        Error::other(doing, subject, cause).hint(hint)
    }
}

impl From<Error> for Fault {
    fn from(e: Error) -> Fault {
        Fault::Ours(e)
    }
}

/// What is sent with a request; it may have to be sent twice.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// A part of a file.
    File {
        file: &'a File,
        from: u64,
        length: u64,
    },
}

/// Reads a payload once. Of a file it reads a part, wherever others stand in it.
struct Reading<'a> {
    payload: Payload<'a>,
}

impl Read for Reading<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.payload {
            Payload::None => Ok(0),
            Payload::Bytes(bytes) => bytes.read(buf),
            Payload::File { file, from, length } => {
                let most = buf.len().min(usize::try_from(*length).unwrap_or(usize::MAX));
                let n = file.read_at(&mut buf[..most], *from)?;
                *from += n as u64;
                *length -= n as u64;
                Ok(n)
            }
        }
    }
}

/// A request, as often as it has to be sent.
pub(super) struct Call<'a> {
    pub method: Method,
    pub url: String,
    pub headers: Vec<(header::HeaderName, String)>,
    pub payload: Payload<'a>,
    /// For `url`'s origin only.
    pub authorization: Option<String>,
    pub insecure: bool,
    /// The answer is small, so that all of it has to come within some time.
    pub small: bool,
}

/// Marks an answer by another than who was asked, to whom a redirect led.
#[derive(Clone)]
struct Elsewhere;

pub(super) fn is_from_elsewhere(response: &Response<Body>) -> bool {
    response.extensions().get::<Elsewhere>().is_some()
}

impl Http {
    pub fn new(options: Options) -> Http {
        Http { options, agents: Mutex::default(), schemes: Mutex::default() }
    }

    fn agent(&self, scheme: &str, host: &str, insecure: bool) -> Result<Agent> {
        let origin = format!("{scheme}://{host}");
        let mut agents = self.agents.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(agent) = agents.get(&(origin.clone(), insecure)) {
            return Ok(agent.clone());
        }
        let agent = trust::agent(&self.options, scheme, host, insecure)?;
        agents.insert((origin, insecure), agent.clone());
        Ok(agent)
    }

    /// `https://host`; `http://host` for this machine and where insecure is good enough, if that is what it speaks.
    pub fn base(&self, host: &str, insecure: bool) -> Result<String, Fault> {
        // Docker Hub's API is elsewhere than its name says.
        let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
        if !insecure && !trust::is_loopback(host) {
            return Ok(format!("https://{host}"));
        }
        if let Some(scheme) = self.known_scheme(host) {
            return Ok(format!("{scheme}://{host}"));
        }
        let ping = |scheme: &str| {
            let url = format!("{scheme}://{host}/v2/");
            let call = Call { method: Method::GET, url, headers: Vec::new(), payload: Payload::None, authorization: None, insecure, small: true };
            self.once(&call)
        };
        let scheme = match ping("https") {
            Ok(_) => "https",
            Err(e) if speaks_no_tls(&e) => match ping("http") {
                Ok(_) => "http",
                Err(e) => return Err(self.explain(e, host)),
            },
            Err(e) => return Err(self.explain(e, host)),
        };
        self.schemes.lock().unwrap_or_else(|e| e.into_inner()).insert(host.to_string(), scheme);
        Ok(format!("{scheme}://{host}"))
    }

    fn known_scheme(&self, host: &str) -> Option<&'static str> {
        self.schemes.lock().unwrap_or_else(|e| e.into_inner()).get(host).copied()
    }

    /// Send the request, follow where it is sent, and let nothing go to others that isn't for them.
    pub fn send(&self, call: &Call) -> Result<Response<Body>, Fault> {
        let mut call =
            Call { headers: call.headers.clone(), url: call.url.clone(), method: call.method.clone(), authorization: call.authorization.clone(), ..*call };
        let asked = origin(&call.url)?;
        for _ in 0..=MOST_REDIRECTS {
            let (_, host) = split_url(&call.url)?;
            let mut response = self.once(&call).map_err(|e| self.explain(e, host))?;
            let follows = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) && matches!(call.method, Method::GET | Method::HEAD);
            let Some(location) = location(&response).filter(|_| follows) else {
                if origin(&call.url)? != asked {
                    response.extensions_mut().insert(Elsewhere);
                }
                return Ok(response);
            };
            let next = join(&call.url, &location)?;
            if origin(&call.url)? != origin(&next)? {
                call.authorization = None;
            }
            if call.url.starts_with("https:") && next.starts_with("http:") && !call.insecure {
                return Err(Fault::last(format!("{} sends on to {}, without encryption", origin(&call.url)?, origin(&next)?)));
            }
            log::debug(&format!("redirected to {}", origin(&next)?));
            call.url = next;
        }
        Err(Fault::last(format!("redirected more than {MOST_REDIRECTS} times")))
    }

    fn once(&self, call: &Call) -> Result<Response<Body>, ureq::Error> {
        let bad = |e: String| ureq::Error::BadUri(e);
        let (scheme, host) = split_url(&call.url).map_err(|_| bad(clip(&call.url)))?;
        let agent = self.agent(scheme, host, call.insecure).map_err(|e| ureq::Error::Other(Box::new(e)))?;
        log::debug(&format!("{} {}", call.method, call.url.split('?').next().unwrap_or_default()));
        let mut request = Request::builder().method(call.method.clone()).uri(&call.url);
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(value) = &call.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let length = match call.payload {
            Payload::None if matches!(call.method, Method::GET | Method::HEAD | Method::DELETE) => None,
            Payload::None => Some(0),
            Payload::Bytes(bytes) => Some(bytes.len() as u64),
            Payload::File { length, .. } => Some(length),
        };
        let limit = call.small.then(|| self.options.timeout * 2);
        let Some(length) = length else {
            return run(&agent, request.body(SendBody::none())?, limit);
        };
        let mut reading = Reading { payload: call.payload };
        run(&agent, request.header(header::CONTENT_LENGTH, length).body(SendBody::from_reader(&mut reading))?, limit)
    }

    /// What went wrong between us and `host`, and what to do about it.
    fn explain(&self, error: ureq::Error, host: &str) -> Fault {
        if let Some(tls) = tls_error(&error) {
            return explain_tls(tls, host);
        }
        let seconds = self.options.timeout.as_secs();
        match error {
            ureq::Error::Other(e) => match e.downcast::<Error>() {
                Ok(ours) => Fault::Ours(*ours),
                Err(e) => Fault::last(format!("{host}: {e}")),
            },
            ureq::Error::HostNotFound => Fault::last(format!("{host}: no such host")),
            ureq::Error::Timeout(_) => Fault::Connection(format!("{host} is silent: no answer within {seconds} seconds")),
            ureq::Error::Io(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                Fault::Final { cause: format!("{host}: connection refused"), hint: "is the registry running, is the port right?".into() }
            }
            ureq::Error::Io(e) if ["failed to lookup", "Name or service", "Name does not resolve"].iter().any(|w| e.to_string().contains(w)) => {
                Fault::last(format!("{host}: no such host"))
            }
            ureq::Error::Io(e) => Fault::Connection(format!("{host}: {}", crate::Error::io(&e, "", "").cause)),
            ureq::Error::ConnectProxyFailed(e) => Fault::last(format!("the proxy on the way to {host} refuses: {e}")),
            ureq::Error::Protocol(e) => Fault::last(format!("{host} does not speak HTTP properly: {e}")),
            other => Fault::last(format!("{host}: {other}")),
        }
    }

    /// Try until it works, fails for good, or the retries are used up. `f` gets the number of the try, from 0.
    pub fn retrying<T>(&self, mut f: impl FnMut(u32) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut count = 0;
        loop {
            let fault = match f(count) {
                Err(fault) if fault.passes() && count < self.options.retries => fault,
                other => return other,
            };
            let wait = wait_before_retry(&fault, count);
            log::debug(&format!("trying again in {} ms: {fault:?}", wait.as_millis()));
            std::thread::sleep(wait);
            count += 1;
        }
    }
}

fn run(agent: &Agent, request: Request<SendBody>, limit: Option<Duration>) -> Result<Response<Body>, ureq::Error> {
    agent.run(agent.configure_request(request).timeout_recv_body(limit).build())
}

/// Twice as long each time, with some chance so that not everybody comes back at once; longer if the server says so.
fn wait_before_retry(fault: &Fault, count: u32) -> Duration {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    let base = FIRST_WAIT * 2u32.pow(count.min(9));
    let backed_off = base + base * (nanos % 256) / 512;
    match fault {
        Fault::Answer { retry_after: Some(asked), .. } => (*asked).max(backed_off).min(LONGEST_WAIT),
        _ => backed_off.min(LONGEST_WAIT),
    }
}

fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(e) => Some(e),
        ureq::Error::Io(e) => e.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// It is no TLS that answers, or nobody does.
fn speaks_no_tls(error: &ureq::Error) -> bool {
    match tls_error(error) {
        Some(e) => matches!(e, rustls::Error::InvalidMessage(_)),
        None => {
            matches!(error, ureq::Error::Io(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset))
        }
    }
}

fn explain_tls(error: &rustls::Error, host: &str) -> Fault {
    use rustls::{AlertDescription as A, CertificateError as C};
    let (cause, hint) = match error {
        rustls::Error::InvalidMessage(_) => (
            format!("{host} does not speak TLS"),
            "if it is meant to speak plain http, use --insecure or `insecure = true` for it in registries.conf".to_string(),
        ),
        rustls::Error::InvalidCertificate(C::UnknownIssuer) => (format!("{host}: nobody we trust vouches for its certificate"), trust::where_to_put_a_ca(host)),
        rustls::Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => {
            (format!("{host}: its certificate has expired"), "renew it, or see that the clock is right".into())
        }
        rustls::Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
            (format!("{host}: its certificate is for another name"), "use the name in the certificate, or --insecure".into())
        }
        rustls::Error::InvalidCertificate(C::Other(e)) if e.to_string().contains("CaUsedAsEndEntity") => {
            (format!("{host}: its certificate is a CA's own, which cannot stand for a server"), "give it a certificate with CA:FALSE, or use --insecure".into())
        }
        // Go's servers say BadCertificate where there is none.
        rustls::Error::AlertReceived(A::CertificateRequired | A::BadCertificate | A::UnknownCA | A::CertificateUnknown | A::AccessDenied) => {
            (format!("{host} wants to be shown a client certificate that it knows"), trust::where_to_put_a_client_certificate(host))
        }
        other => (format!("{host}: {other}"), trust::where_to_put_a_ca(host)),
    };
    Fault::Final { cause, hint }
}

/// Scheme and authority of an absolute URL.
fn split_url(url: &str) -> Result<(&str, &str), Fault> {
    let wrong = || Fault::last(format!("{:?} is not an http URL", clip(url)));
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A user in it would make one host look like another.
    if !matches!(scheme, "http" | "https") || host.is_empty() || host.contains('@') {
        return Err(wrong());
    }
    Ok((scheme, host))
}

/// Scheme, host and port in one form.
pub(super) fn origin(url: &str) -> Result<String, Fault> {
    let (scheme, host) = split_url(url)?;
    let default = if scheme == "https" { ":443" } else { ":80" };
    Ok(format!("{scheme}://{}", host.strip_suffix(default).unwrap_or(host).to_ascii_lowercase()))
}

/// `location` as it is meant at `base`.
pub(super) fn join(base: &str, location: &str) -> Result<String, Fault> {
    let location = location.split('#').next().unwrap_or_default();
    if location.contains("://") && !location.starts_with('/') && location.find("://") < location.find(['/', '?']) {
        split_url(location)?;
        return Ok(location.to_string());
    }
    let (scheme, host) = split_url(base)?;
    if let Some(rest) = location.strip_prefix("//") {
        return Ok(format!("{scheme}://{rest}"));
    }
    if location.starts_with('/') {
        return Ok(format!("{scheme}://{host}{location}"));
    }
    let path = &base[scheme.len() + 3 + host.len()..];
    let path = path.split('?').next().unwrap_or_default();
    let dir = path.rfind('/').map_or("/", |at| &path[..=at]);
    Ok(format!("{scheme}://{host}{dir}{location}"))
}

pub(super) fn location(response: &Response<Body>) -> Option<String> {
    header_text(response, "location")
}

pub(super) fn header_text(response: &Response<Body>, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_string())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7) in seconds since 1970.
pub(super) fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split(' ').skip(1);
    let day: i64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|m| *m == name)? as i64 + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Years that begin in March, so that a leap day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// An answer that isn't the one hoped for, with the words of the server.
pub(super) fn refusal(response: Response<Body>) -> Fault {
    let status = response.status().as_u16();
    let retry_after = header_text(&response, "retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let reason = response.status().canonical_reason().unwrap_or("unknown").to_string();
    let body = read_small(response, MOST_EXCUSE).unwrap_or_default();
    let words = spoken(&body);
    let said = if words.is_empty() { format!("the server answers {status} {reason}") } else { format!("the server answers {status} {reason}: {words}") };
    Fault::Answer { status, said, retry_after }
}

/// The messages in a registry's or a token server's error, made fit to print.
fn spoken(body: &[u8]) -> String {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else { return String::new() };
    let text = |value: &serde_json::Value, key: &str| value[key].as_str().unwrap_or_default().to_string();
    let messages: Vec<String> = match json["errors"].as_array() {
        Some(errors) => errors.iter().take(3).map(|e| if text(e, "message").is_empty() { text(e, "code") } else { text(e, "message") }).collect(),
        None => vec![text(&json, "details"), text(&json, "error_description"), text(&json, "message")],
    };
    let joined = messages.iter().filter(|m| !m.is_empty()).map(String::as_str).collect::<Vec<_>>().join("; ");
    clip(&joined.replace(|c: char| c.is_control(), " "))
}

/// The whole body, which must not have more than `most` bytes.
pub(super) fn read_small(response: Response<Body>, most: u64) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let mut reader = response.into_body().into_reader().take(most + 1);
    reader.read_to_end(&mut bytes).map_err(|e| Fault::Connection(format!("the answer broke off: {e}")))?;
    if bytes.len() as u64 > most {
        return Err(Fault::last(format!("the answer has more than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let at = |location: &str| join("https://host:5000/v2/a/blobs/x?y=/z", location).unwrap();
        assert_eq!(at("https://cdn.example.com/b?c=d"), "https://cdn.example.com/b?c=d");
        assert_eq!(at("/b/c"), "https://host:5000/b/c");
        assert_eq!(at("//other/c"), "https://other/c");
        assert_eq!(at("c?to=http://x"), "https://host:5000/v2/a/blobs/c?to=http://x");
        assert_eq!(at("/c?to=http://x"), "https://host:5000/c?to=http://x");
        for bad in ["ftp://host/a", "https:///a", "https://me@host/a", "file:///etc/passwd"] {
            assert!(join("https://host/", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn dates() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Tue, 29 Feb 2000 12:00:00 GMT"), Some(951_825_600));
        assert_eq!(http_date("yesterday"), None);
    }

    #[test]
    fn origins() {
        assert_eq!(origin("https://Host:443/a").unwrap(), origin("https://host/b").unwrap());
        for other in ["http://host/", "https://host:5000/", "https://host.example.com/", "https://host.", "https://hostx"] {
            assert_ne!(origin(other).unwrap(), origin("https://host").unwrap(), "{other}");
        }
    }

    #[test]
    fn patience_grows_and_ends() {
        let broken = Fault::Connection(String::new());
        assert!(wait_before_retry(&broken, 3) >= FIRST_WAIT * 8 && wait_before_retry(&broken, 3) <= FIRST_WAIT * 12);
        assert_eq!(wait_before_retry(&broken, 60), LONGEST_WAIT.min(wait_before_retry(&broken, 60)));
        let busy = |seconds| Fault::Answer { status: 429, said: String::new(), retry_after: Some(Duration::from_secs(seconds)) };
        assert_eq!(wait_before_retry(&busy(7), 0), Duration::from_secs(7));
        assert_eq!(wait_before_retry(&busy(7000), 0), LONGEST_WAIT);
    }

    #[test]
    fn what_servers_say() {
        let body = br#"{"errors":[{"code":"A","message":"no\nway"},{"code":"B"}]}"#;
        assert_eq!(spoken(body), "no way; B");
        assert_eq!(spoken(b"<html>"), "");
        assert_eq!(spoken(br#"{"details":"incorrect username or password"}"#), "incorrect username or password");
    }
}

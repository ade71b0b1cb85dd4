//! Whom to believe and how to get there: CAs, client certificates, proxies; an HTTP agent for each origin.

use super::Options;
use crate::{Error, Result};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// Where systems keep their CAs.
const SYSTEM_CAS: [&str; 4] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

/// `host[:port]` is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = bare_host(host);
    bare == "localhost" || bare.ends_with(".localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Without the port, and without brackets.
fn bare_host(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split(':').next().unwrap_or_default(),
    }
}

fn port(host: &str) -> Option<&str> {
    host.rsplit_once(':').map(|(_, port)| port).filter(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

/// An agent for `scheme://host[:port]`: TLS as that host needs it, the timeouts of `options`, no redirects by itself.
pub(super) fn agent(options: &Options, scheme: &str, host: &str, insecure: bool) -> Result<Agent> {
    let mut builder = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("dhowctl/", env!("CARGO_PKG_VERSION")))
        .proxy(proxy(scheme, host)?)
        .timeout_resolve(Some(options.timeout))
        .timeout_connect(Some(options.timeout))
        .timeout_send_request(Some(options.timeout))
        .timeout_recv_response(Some(options.timeout))
        .timeout_per_read(Some(options.timeout))
        .timeout_per_write(Some(options.timeout))
        .max_idle_connections_per_host(options.parallel.max(3));
    if scheme == "https" {
        builder = builder.tls_config(tls(options, host, insecure)?);
    }
    Ok(builder.build().new_agent())
}

fn tls(options: &Options, host: &str, insecure: bool) -> Result<TlsConfig> {
    let mut roots = system_roots()?;
    let mut ours = None;
    for dir in cert_dirs(options, host) {
        read_cert_dir(&dir, &mut roots, &mut ours)?;
    }
    Ok(TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .client_cert(ours)
        .disable_verification(insecure)
        .build())
}

/// `--cert-dir`, or the directories of the host that there are.
fn cert_dirs(options: &Options, host: &str) -> Vec<PathBuf> {
    if let Some(dir) = &options.cert_dir {
        return vec![dir.clone()];
    }
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config/containers/certs.d"));
    let all = home.into_iter().chain(["/etc/containers/certs.d".into(), "/etc/docker/certs.d".into()]);
    all.map(|dir| dir.join(host)).filter(|dir| dir.is_dir()).collect()
}

/// Where to put a CA so that `host` is believed.
pub(super) fn where_to_put_a_ca(host: &str) -> String {
    format!("if you trust it, put its CA's certificate in /etc/containers/certs.d/{host}/ca.crt or into a directory given by --cert-dir")
}

pub(super) fn where_to_put_a_client_certificate(host: &str) -> String {
    format!("put it as NAME.cert, and its key as NAME.key, in /etc/containers/certs.d/{host} or into a directory given by --cert-dir")
}

/// `*.crt` are CAs; `NAME.cert` with `NAME.key` is what we show.
fn read_cert_dir(dir: &Path, roots: &mut Vec<Certificate<'static>>, ours: &mut Option<ClientCert>) -> Result<()> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io(&e, "reading certificates in", dir.display().to_string()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    files.sort();
    for file in files {
        match file.extension().and_then(|e| e.to_str()) {
            Some("crt") => roots.extend(certificates(&file)?),
            Some("cert") => {
                let key_file = file.with_extension("key");
                let pem = std::fs::read(&key_file).map_err(|e| Error::io(&e, "reading the key of a client certificate", key_file.display().to_string()))?;
                let key = PrivateKey::from_pem(&pem).map_err(|e| Error::other("reading", key_file.display().to_string(), e))?;
                *ours = Some(client_certificate(&file, &certificates(&file)?, key)?);
            }
            _ => {}
        }
    }
    Ok(())
}

/// A pair that fits together; ureq panics at one that doesn't.
fn client_certificate(file: &Path, chain: &[Certificate<'static>], key: PrivateKey<'static>) -> Result<ClientCert> {
    let failed = |cause: &dyn std::fmt::Display| {
        Error::other("using the client certificate", file.display().to_string(), cause).hint("its key must be in the file NAME.key beside it")
    };
    let chain_der = chain.iter().map(|c| CertificateDer::from(c.der()).into_owned()).collect();
    let key_der = PrivateKeyDer::try_from(key.der()).map_err(|e| failed(&e))?.clone_key();
    CertifiedKey::from_der(chain_der, key_der, &rustls::crypto::ring::default_provider()).map_err(|e| failed(&e))?;
    Ok(ClientCert::new_with_certs(chain, key))
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = std::fs::read(file).map_err(|e| Error::io(&e, "reading", file.display().to_string()))?;
    let items = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(e) => Some(Err(Error::other("reading", file.display().to_string(), e))),
    });
    items.collect()
}

/// The system's CAs, read once; `SSL_CERT_FILE` names others.
fn system_roots() -> Result<Vec<Certificate<'static>>> {
    static ROOTS: OnceLock<Vec<Certificate<'static>>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let named = std::env::var_os("SSL_CERT_FILE").filter(|f| !f.is_empty()).map(PathBuf::from);
    let file = named.or_else(|| SYSTEM_CAS.iter().map(PathBuf::from).find(|path| path.exists()));
    let roots = match file {
        Some(file) => certificates(&file)?,
        None => Vec::new(),
    };
    Ok(ROOTS.get_or_init(|| roots).clone())
}

/// From HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in either case; never for this machine itself.
fn proxy(scheme: &str, host: &str) -> Result<Option<ureq::Proxy>> {
    let get = |name: &str| {
        let either = std::env::var(name.to_ascii_lowercase()).or_else(|_| std::env::var(name));
        either.ok().filter(|value| !value.is_empty())
    };
    if is_loopback(host) || get("NO_PROXY").is_some_and(|list| is_exempt(&list, host)) {
        return Ok(None);
    }
    let name = if scheme == "https" { "HTTPS_PROXY" } else { "HTTP_PROXY" };
    let Some(url) = get(name).or_else(|| get("ALL_PROXY")) else { return Ok(None) };
    let wrong = |cause: &str| Error::other("reading the proxy's address in", format!("{name} or ALL_PROXY"), cause);
    if url.starts_with("socks") {
        return Err(wrong("SOCKS proxies are not supported").hint("use an http:// proxy"));
    }
    ureq::Proxy::new(&url).map(Some).map_err(|_| wrong("it is no proxy's URL"))
}

/// NO_PROXY as Go reads it: `*`, a host with its subdomains, `.domain`, an address, a network in CIDR form, each maybe with a port.
fn is_exempt(list: &str, host: &str) -> bool {
    let bare = bare_host(host).to_ascii_lowercase();
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        if entry == "*" {
            return true;
        }
        if let (Some((network, bits)), Ok(ip)) = (entry.split_once('/'), bare.parse::<IpAddr>()) {
            return in_network(ip, network, bits);
        }
        let is_v6 = entry.parse::<std::net::Ipv6Addr>().is_ok();
        if !is_v6
            && let Some(wanted) = port(&entry)
            && port(host) != Some(wanted)
        {
            return false;
        }
        let name = if is_v6 { entry.as_str() } else { bare_host(&entry) };
        let domain = name.trim_start_matches('*').trim_start_matches('.');
        let below = bare.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
        below || (bare == domain && !name.starts_with(['.', '*']))
    })
}

fn in_network(ip: IpAddr, network: &str, bits: &str) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let (a, b, width) = match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    // A shift by the whole width is no shift.
    bits <= width && (a ^ b).checked_shr(width - bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.3.2.1", "[::1]:5000", "a.localhost"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["docker.io", "10.0.0.1:5000", "[fe80::1]:5000", "localhost.example.com", "0.0.0.0"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn no_proxy() {
        for (list, host) in [
            ("*", "a.b"),
            ("a.b", "a.b:443"),
            ("a.b", "x.a.b"),
            (".a.b", "x.a.b"),
            ("x, a.b", "a.b"),
            ("10.0.0.0/8", "10.1.2.3:5000"),
            ("a.b:5000", "a.b:5000"),
            ("fe80::1", "[fe80::1]:5000"),
            ("fe80::/10", "[fe80::1]:5000"),
            ("0.0.0.0/0", "9.9.9.9"),
        ] {
            assert!(is_exempt(list, host), "{list} {host}");
        }
        for (list, host) in
            [("", "a.b"), ("b", "a.bb"), (".a.b", "a.b"), ("10.0.0.0/8", "11.1.2.3"), ("a.b:5000", "a.b:5001"), ("a.b", "xa.b"), ("10.0.0.0/99", "10.0.0.1")]
        {
            assert!(!is_exempt(list, host), "{list} {host}");
        }
    }
}

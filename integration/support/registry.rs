//! Debian's docker-registry on loopback: plain, behind TLS and a password, or behind a token server.

#![allow(dead_code)]

use crate::ctl::Scratch;
use crate::fake::{Fake, Reply, Request};
use crate::support::eventually;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

pub const USER: &str = "me";
pub const PASSWORD: &str = "sesame";
/// What stands for [`USER`] at the token server, as OAuth2's refresh token.
pub const IDENTITY: &str = "an identity/with+signs&more=";
/// bcrypt of [`PASSWORD`], the cheapest.
const HTPASSWD: &str = "me:$2a$04$fOVTVKKlfkrvWnbAWShZg.Jd/6d0ay31en1zXAVYX7CyK5Z4598uS\n";

/// A registry that runs until it is dropped.
pub struct Registry {
    /// `127.0.0.1:port`
    pub address: String,
    child: Child,
    pub tokens: Option<Fake>,
}

impl Registry {
    /// Without TLS, for everybody.
    pub fn plain(scratch: &Scratch) -> Registry {
        Registry::start(scratch, json!({}), json!({}), None)
    }

    /// With a certificate by the CA in `certs/ca.crt`, for [`USER`] only.
    pub fn with_password(scratch: &Scratch) -> Registry {
        make_certificates(scratch);
        fs::write(scratch.path("htpasswd"), HTPASSWD).unwrap();
        let tls = json!({"certificate": scratch.text("server.crt"), "key": scratch.text("server.key")});
        Registry::start(scratch, json!({"tls": tls}), json!({"htpasswd": {"realm": "test", "path": scratch.text("htpasswd")}}), None)
    }

    /// TLS, for those who show a certificate by the same CA: `shown/client.cert` with its key is one, `shown/ca.crt` the CA.
    pub fn with_client_certificates(scratch: &Scratch) -> Registry {
        make_certificates(scratch);
        let script = "set -e
            mkdir shown && cp certs/ca.crt shown
            openssl ecparam -name prime256v1 -genkey -noout -out shown/client.key
            openssl req -new -key shown/client.key -subj /CN=test-client -out client.csr
            printf 'extendedKeyUsage=clientAuth\\n' >client.ext
            openssl x509 -req -in client.csr -CA certs/ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile client.ext -out shown/client.cert";
        scratch.tool("sh", &["-c", script]);
        let tls = json!({"certificate": scratch.text("server.crt"), "key": scratch.text("server.key"), "clientcas": [scratch.text("certs/ca.crt")]});
        Registry::start(scratch, json!({"tls": tls}), json!({}), None)
    }

    /// Tokens decide: everybody may pull `public/…`, [`USER`] may do anything.
    pub fn with_tokens(scratch: &Scratch) -> Registry {
        make_certificates(scratch);
        let tokens = token_server(scratch);
        let auth = json!({"token": {
            "realm": format!("http://{}/token", tokens.address), "service": "test", "issuer": "tests", "rootcertbundle": scratch.text("server.crt"),
        }});
        Registry::start(scratch, json!({}), auth, Some(tokens))
    }

    fn start(scratch: &Scratch, mut http: Value, auth: Value, tokens: Option<Fake>) -> Registry {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // The kernel chooses the port; the log says which.
        http["addr"] = json!("127.0.0.1:0");
        let config = json!({
            "version": "0.1", "log": {"level": "info"}, "auth": auth, "http": http,
            "storage": {"filesystem": {"rootdirectory": scratch.text(&format!("registry.{number}"))}, "delete": {"enabled": true}},
        });
        let (file, log) = (scratch.path(&format!("registry.{number}.yml")), scratch.path(&format!("registry.{number}.log")));
        // JSON is YAML.
        fs::write(&file, config.to_string()).unwrap();
        let mut command = scratch.command("docker-registry", &["serve"]);
        command.arg(&file).env("OTEL_TRACES_EXPORTER", "none").stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let child = command.spawn().expect("docker-registry is installed");
        let address = eventually("docker-registry listens", || {
            let text = fs::read_to_string(&log).unwrap();
            let at = text.find("listening on ")? + "listening on ".len();
            text[at..].split(['"', ',', '\n']).next().filter(|_| text[at..].contains('\n')).map(String::from)
        });
        Registry { address, child, tokens }
    }

    /// The name of something in it.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `certs/ca.crt`, and `server.crt` with `server.key` by it for 127.0.0.1.
fn make_certificates(scratch: &Scratch) {
    fs::create_dir_all(scratch.path("certs")).unwrap();
    let script = "set -e
        openssl ecparam -name prime256v1 -genkey -noout -out ca.key
        openssl req -x509 -new -key ca.key -subj /CN=test-ca -days 30 -out certs/ca.crt
        openssl ecparam -name prime256v1 -genkey -noout -out server.key
        openssl req -new -key server.key -subj /CN=test-server -out server.csr
        printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' >server.ext
        openssl x509 -req -in server.csr -CA certs/ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile server.ext -out server.crt";
    scratch.tool("sh", &["-c", script]);
}

/// distribution's token protocol, as docker's auth server speaks it.
fn token_server(scratch: &Scratch) -> Fake {
    let dir = scratch.dir.clone();
    let pem = fs::read_to_string(dir.join("server.crt")).unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let login = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    Fake::start(move |request| {
        if request.method == "POST" {
            return exchange(request, |access| sign(&dir, &der, access));
        }
        let known = match request.header("authorization") {
            None => false,
            Some(header) if header == login => true,
            Some(_) => return Reply::status(401, r#"{"details":"incorrect username or password"}"#),
        };
        let query = request.path.split_once('?').map_or("", |(_, query)| query);
        let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope=")).map(unescape);
        let access: Vec<Value> = scopes.filter_map(|scope| grant(&scope, known)).collect();
        Reply::ok(json!({"token": sign(&dir, &der, &access), "expires_in": 300}).to_string())
    })
}

/// The same by OAuth2: [`IDENTITY`] for an access token.
fn exchange(request: &Request, sign: impl Fn(&[Value]) -> String) -> Reply {
    let form = String::from_utf8(request.body.clone()).unwrap();
    let field = |name: &str| form.split('&').filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| unescape(v)).unwrap_or_default();
    if field("grant_type") != "refresh_token" || field("service") != "test" || field("client_id").is_empty() {
        return Reply::status(400, r#"{"error":"invalid_request"}"#);
    }
    if field("refresh_token") != IDENTITY {
        return Reply::status(401, r#"{"details":"unknown refresh token"}"#);
    }
    let access: Vec<Value> = field("scope").split(' ').filter_map(|scope| grant(scope, true)).collect();
    Reply::ok(json!({"access_token": sign(&access), "expires_in": 300, "scope": field("scope")}).to_string())
}

/// What somebody gets of what was asked for.
fn grant(scope: &str, known: bool) -> Option<Value> {
    let (rest, actions) = scope.rsplit_once(':')?;
    let name = rest.strip_prefix("repository:")?;
    let may = |action: &&str| known || (name.starts_with("public/") && *action == "pull");
    let granted: Vec<&str> = actions.split(',').filter(may).collect();
    Some(json!({"type": "repository", "name": name, "actions": granted}))
}

/// A JWT by the server's key.
fn sign(dir: &std::path::Path, der: &str, access: &[Value]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [der]});
    let claims = json!({"iss": "tests", "sub": "", "aud": "test", "exp": now + 300, "nbf": now - 10, "iat": now, "jti": "1", "access": access});
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let unique = format!("{:?}", std::thread::current().id());
    let input = dir.join(format!("jwt-{unique}"));
    fs::write(&input, &signed).unwrap();
    let output = Command::new("openssl").args(["dgst", "-sha256", "-sign"]).arg(dir.join("server.key")).arg(&input).output().unwrap();
    assert!(output.status.success());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(raw_signature(&output.stdout)))
}

/// DER's SEQUENCE of two INTEGERs → the 64 bytes that a JWT has.
fn raw_signature(der: &[u8]) -> Vec<u8> {
    let integer = |at: usize| (&der[at + 2..at + 2 + usize::from(der[at + 1])], at + 2 + usize::from(der[at + 1]));
    let (r, next) = integer(2);
    let (s, _) = integer(next);
    let fixed = |n: &[u8]| {
        let digits = &n[n.len().saturating_sub(32)..];
        [vec![0; 32 - digits.len()], digits.to_vec()].concat()
    };
    [fixed(r), fixed(s)].concat()
}

fn unescape(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        out.push(u8::from_str_radix(&part[..2], 16).unwrap() as char);
        out.push_str(&part[2..]);
    }
    out
}

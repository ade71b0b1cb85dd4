//! dhowctl against registries that break off, fall silent, lie, and lead astray.
//!
//! Each test says how its registry behaves in a closure; the image it would have served is a real one.

#[path = "support/ctl.rs"]
mod ctl;
#[path = "support/fake.rs"]
mod fake;
mod support;

use ctl::{Scratch, image, noise, tar};
use dhow::image::model::media;
use dhow::image::{Descriptor, Document, Store};
use fake::{Fake, Proxy, Reply, Request};
use serde_json::json;
use std::fs;
use std::net::UdpSocket;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use support::{Tmpfs, eventually};

/// An image that a fake registry can serve.
#[derive(Clone)]
struct Served {
    store: Store,
    top: Descriptor,
    /// Of the (single) layer.
    layer: Descriptor,
}

impl Served {
    /// With a layer of about `size` bytes.
    fn new(scratch: &Scratch, size: usize) -> Served {
        let store = Store::open(&scratch.path("served")).unwrap();
        let top = image(&store, "image", "linux/amd64", &[tar("file", &noise(7, size))]);
        let Document::Manifest(manifest) = store.document(&top).unwrap() else { panic!() };
        Served { store, top, layer: manifest.layers[0].clone() }
    }

    fn bytes(&self, digest: &dhow::image::Digest) -> Option<Vec<u8>> {
        let path = self.store.root().join("blobs").join(digest.algorithm().name()).join(digest.hex());
        fs::read(path).ok()
    }

    fn layer_bytes(&self) -> Vec<u8> {
        self.bytes(&self.layer.digest).unwrap()
    }

    fn is_layer(&self, request: &Request) -> bool {
        request.path.contains("/blobs/") && request.path.ends_with(self.layer.digest.hex())
    }

    /// What an honest registry answers, ranges included.
    fn honest(&self, request: &Request) -> Reply {
        if request.path == "/v2/" {
            return Reply::ok("{}");
        }
        let last = request.path.rsplit('/').next().unwrap();
        if request.path.contains("/manifests/") {
            let digest = last.parse().unwrap_or_else(|_| self.top.digest.clone());
            return match self.bytes(&digest) {
                Some(bytes) => Reply::ok(bytes).with("Docker-Content-Digest", digest.to_string()),
                None => Reply::status(404, "{}"),
            };
        }
        let Some(bytes) = last.parse().ok().and_then(|digest| self.bytes(&digest)) else { return Reply::status(404, "{}") };
        match request.range() {
            Some(from) if from < bytes.len() => {
                let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                Reply::status(206, &bytes[from..]).with("Content-Range", range)
            }
            _ => Reply::ok(bytes),
        }
    }

    /// Honest but for the layer.
    fn but_for_layer(&self, reply: impl Fn(&Request, Vec<u8>) -> Reply + Send + Sync + 'static) -> Fake {
        let served = self.clone();
        Fake::start(move |request| if served.is_layer(request) { reply(request, served.layer_bytes()) } else { served.honest(request) })
    }

    fn fake(&self) -> Fake {
        let served = self.clone();
        Fake::start(move |request| served.honest(request))
    }
}

fn cut(bytes: &[u8], at: usize) -> Reply {
    Reply::Cut { status: 200, headers: Vec::new(), body: bytes[..at].to_vec(), length: bytes.len() }
}

fn name(fake: &Fake) -> String {
    format!("{}/a/b:t", fake.address)
}

#[test]
fn a_broken_blob_goes_on_where_it_was() {
    let scratch = Scratch::new("resume");
    let served = Served::new(&scratch, 900_000);
    let honest = served.clone();
    let fake = served.but_for_layer(move |request, bytes| if request.count == 0 { cut(&bytes, 500_000) } else { honest.honest(request) });
    scratch.ctl(&["fetch", &name(&fake)]).ok();
    let layer = fake.seen_of(served.layer.digest.hex());
    assert_eq!((layer.len(), layer[1].range()), (2, Some(500_000)));
    scratch.assert_sound();
}

#[test]
fn a_registry_without_ranges_sends_all_of_it_again() {
    let scratch = Scratch::new("norange");
    let served = Served::new(&scratch, 900_000);
    let fake = served.but_for_layer(|request, bytes| if request.count < 2 { cut(&bytes, 300_000 * (request.count + 1)) } else { Reply::ok(bytes) });
    scratch.ctl(&["fetch", &name(&fake)]).ok();
    assert_eq!(fake.seen_of(served.layer.digest.hex()).len(), 3);
    scratch.assert_sound();
}

#[test]
fn what_is_there_of_a_failed_fetch_is_used_by_the_next() {
    let scratch = Scratch::new("later");
    let served = Served::new(&scratch, 900_000);
    let dying = served.but_for_layer(|request, bytes| if request.range().is_some() { Reply::Raw(Vec::new()) } else { cut(&bytes, 400_000) });
    let failed = scratch.ctl(&["fetch", "--retries", "1", &name(&dying)]);
    failed.fails(1, &["fetching blob", "400000 of", "the next fetch goes on"]);
    scratch.ctl(&["verify"]).ok();
    assert_eq!(scratch.ctl(&["images", "-q"]).ok(), "");
    let healthy = served.fake();
    scratch.ctl(&["fetch", &name(&healthy)]).ok();
    assert_eq!(healthy.seen_of(served.layer.digest.hex())[0].range(), Some(400_000));
    scratch.assert_sound();
}

#[test]
fn a_damaged_rest_of_an_earlier_fetch_is_thrown_away() {
    let scratch = Scratch::new("damagedrest");
    let served = Served::new(&scratch, 900_000);
    let hex = served.layer.digest.hex();
    scratch.store();
    fs::create_dir(scratch.path("store/.ingest")).unwrap();
    fs::write(scratch.path(&format!("store/.ingest/sha256-{hex}")), [0; 1000]).unwrap();
    let fake = served.fake();
    scratch.ctl(&["fetch", &name(&fake)]).ok();
    assert_eq!(fake.seen_of(hex).iter().map(Request::range).collect::<Vec<_>>(), [Some(1000), None]);
    scratch.assert_sound();
}

#[test]
fn silence_has_an_end() {
    let scratch = Scratch::new("silence");
    let served = Served::new(&scratch, 900_000);
    let quick = ["fetch", "--timeout", "2", "--retries", "0"];
    let stalls = served.but_for_layer(|_, bytes| Reply::Stall { body: bytes[..1000].to_vec(), length: bytes.len() });
    scratch.ctl(&[&quick[..], &[&name(&stalls)]].concat()).fails(1, &["broke off after 1000 of", "silence"]);
    let drips = served.but_for_layer(|_, bytes| Reply::Drip { length: bytes.len() });
    scratch.ctl(&[&quick[..], &[&name(&drips)]].concat()).fails(1, &["is too slow"]);
    let hangs = Fake::start(|request| if request.path == "/v2/" { Reply::ok("{}") } else { Reply::Hang });
    scratch.ctl(&[&quick[..], &[&name(&hangs)]].concat()).fails(1, &["is silent: no answer within 2 seconds"]);
    let dead = Fake::start(|_| Reply::Hang);
    scratch.ctl(&[&quick[..], &[&name(&dead)]].concat()).fails(1, &["is silent"]);
}

#[test]
fn nonsense() {
    let scratch = Scratch::new("nonsense");
    let with_manifest = |reply: fn() -> Reply| Fake::start(move |request| if request.path == "/v2/" { Reply::ok("{}") } else { reply() });
    for (reply, words) in [
        ((|| Reply::ok("<html>Welcome to the hotel</html>")) as fn() -> Reply, "reading the manifest"),
        (|| Reply::ok(""), "reading the manifest"),
        (|| Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()), "does not speak HTTP properly"),
        (|| Reply::ok(vec![b'['; 1 << 20]), "reading the manifest"),
        (|| Reply::status(302, "").with("Location", "/v2/a/b/manifests/t"), "redirected more than"),
        (|| Reply::status(302, "").with("Location", "file:///etc/passwd"), "not an http URL"),
        (|| Reply::status(418, "{\"errors\":[{\"message\":\"I'm a \\u001b[31mteapot\"}]}"), "418 I'm a teapot: I'm a  [31mteapot"),
        (|| Reply::Endless, "has more than"),
    ] {
        let fake = with_manifest(reply);
        scratch.ctl(&["fetch", "--retries", "0", &name(&fake)]).fails(1, &["fetching", words]);
    }
    scratch.assert_sound();
}

#[test]
fn what_has_another_digest_is_not_kept() {
    let scratch = Scratch::new("digest");
    let served = Served::new(&scratch, 100_000);
    let lies = served.but_for_layer(|_, mut bytes| {
        bytes[50_000] ^= 1;
        Reply::ok(bytes)
    });
    scratch.ctl(&["fetch", &name(&lies)]).fails(1, &["checking the digest of blob", "the content has sha256:"]);
    scratch.assert_sound();
    assert!(!scratch.store().has_blob(&served.layer.digest));
    // The manifest too, asked for by its digest.
    let other = served.clone();
    let lies = Fake::start(move |request| {
        let honest = other.honest(request);
        if request.path.contains("/manifests/") {
            Reply::ok(format!("{} ", String::from_utf8(other.bytes(&other.top.digest).unwrap()).unwrap()))
        } else {
            honest
        }
    });
    let by_digest = format!("{}/a/b@{}", lies.address, served.top.digest);
    scratch.ctl(&["fetch", &by_digest]).fails(1, &["the content has sha256:"]);
}

#[test]
fn a_mirror_that_lies_is_passed_over() {
    let scratch = Scratch::new("mirror");
    let served = Served::new(&scratch, 300_000);
    let lies = served.but_for_layer(|_, mut bytes| {
        bytes[50_000] ^= 1;
        Reply::ok(bytes)
    });
    let breaks = served.but_for_layer(|_, bytes| cut(&bytes, 100_000));
    let honest = served.fake();
    let mirror = |fake: &Fake| format!("[[registry.mirror]]\nlocation = {:?}\n", fake.address);
    let conf = format!("[[registry]]\nlocation = {:?}\n{}{}", honest.address, mirror(&lies), mirror(&breaks));
    fs::write(scratch.path("registries.conf"), conf).unwrap();
    scratch.ctl(&["fetch", "--retries", "0", &name(&honest)]).ok();
    // What the second mirror had given was right, and is not fetched again.
    let hex = served.layer.digest.hex();
    assert_eq!((lies.seen_of(hex).len(), breaks.seen_of(hex).len(), honest.seen_of(hex)[0].range()), (1, 1, Some(100_000)));
    assert_eq!(honest.seen_of("/manifests/").len(), 0);
    scratch.assert_sound();
}

#[test]
fn a_blob_has_the_size_that_its_descriptor_says() {
    let scratch = Scratch::new("size");
    let served = Served::new(&scratch, 1000);
    let with_size = |size: u64, endless: bool| {
        let served = served.clone();
        let mut manifest: serde_json::Value = serde_json::from_slice(&served.bytes(&served.top.digest).unwrap()).unwrap();
        manifest["layers"][0]["size"] = json!(size);
        Fake::start(move |request| match () {
            () if request.path.contains("/manifests/") => Reply::ok(manifest.to_string()),
            () if served.is_layer(request) && endless => Reply::Endless,
            () => served.honest(request),
        })
    };
    let size = served.layer.size;
    scratch.ctl(&["fetch", &name(&with_size(size - 1, false))]).fails(1, &["there is more of it than the"]);
    scratch.ctl(&["fetch", &name(&with_size(size, true))]).fails(1, &["there is more of it than the"]);
    scratch.ctl(&["fetch", "--retries", "0", &name(&with_size(u64::MAX, false))]).fails(1, &["broke off after"]);
    scratch.ctl(&["prune"]).ok();
    scratch.assert_sound();
}

#[test]
fn one_document_is_one_thing() {
    let scratch = Scratch::new("confusion");
    let served = Served::new(&scratch, 1000);
    let mut both: serde_json::Value = serde_json::from_slice(&served.bytes(&served.top.digest).unwrap()).unwrap();
    both["manifests"] = json!([]);
    let honest: serde_json::Value = serde_json::from_slice(&served.bytes(&served.top.digest).unwrap()).unwrap();
    for (body, content_type, words) in [(both, media::MANIFEST, "must not be two things"), (honest, media::INDEX, "was announced as")] {
        let fake = Fake::start(move |request| match request.path.contains("/manifests/") {
            true => Reply::ok(body.to_string()).with("Content-Type", content_type),
            false => Reply::ok("{}"),
        });
        scratch.ctl(&["fetch", &name(&fake)]).fails(1, &[words]);
    }
}

#[test]
fn indexes_end() {
    let scratch = Scratch::new("deep");
    let mut served = Served::new(&scratch, 1000);
    for _ in 0..6 {
        let index = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": [served.top]});
        served.top = served.store.put(media::INDEX, index.to_string().as_bytes()).unwrap();
    }
    let fake = served.fake();
    scratch.ctl(&["fetch", &name(&fake)]).fails(1, &["nested more than"]);
    scratch.ctl(&["fetch", "--all-platforms", &name(&fake)]).fails(1, &["nested more than"]);
    // An index can't contain its own digest, so a cycle is a lie about one.
    let itself = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": [served.top]}).to_string();
    let fake = Fake::start(move |request| if request.path.contains("/manifests/") { Reply::ok(itself.clone()) } else { Reply::ok("{}") });
    scratch.ctl(&["fetch", &name(&fake)]).fails(1, &["checking the"]);
    scratch.assert_sound();
}

#[test]
fn a_token_stays_with_its_registry() {
    let scratch = Scratch::new("token");
    let served = Served::new(&scratch, 10_000);
    let elsewhere = served.fake();
    let target = elsewhere.address.clone();
    let registry = served.clone();
    let address: Arc<Mutex<String>> = Arc::default();
    let own = address.clone();
    let fake = Fake::start(move |request| {
        if request.path.starts_with("/token") {
            return Reply::ok(r#"{"token":"sesame","expires_in":300}"#);
        }
        if request.header("authorization") != Some("Bearer sesame") {
            let realm = format!("Bearer realm=\"http://{}/token\",service=\"fake\",scope=\"repository:a/b:pull\"", own.lock().unwrap());
            return Reply::status(401, "{}").with("WWW-Authenticate", realm);
        }
        if registry.is_layer(request) { Reply::status(307, "").with("Location", format!("http://{target}{}", request.path)) } else { registry.honest(request) }
    });
    *address.lock().unwrap() = fake.address.clone();
    scratch.ctl(&["fetch", &name(&fake)]).ok();
    let tokens = fake.seen_of("/token");
    assert_eq!(tokens.len(), 1, "one token for all");
    assert!(tokens[0].path.contains("scope=repository%3Aa%2Fb%3Apull") && tokens[0].header("authorization").is_none());
    let redirected = elsewhere.seen_of(served.layer.digest.hex());
    assert_eq!(redirected.len(), 1);
    assert_eq!(redirected[0].header("authorization"), None, "the token went to another host");
    scratch.assert_sound();
}

/// A redirect leads to somebody who asks for a login in the registry's stead (as in CVE-2020-15157): neither the
/// password nor a token for it gets there.
#[test]
fn a_login_is_shown_to_nobody_that_a_redirect_leads_to() {
    let scratch = Scratch::new("stranger");
    let served = Served::new(&scratch, 10_000);
    let address: Arc<Mutex<String>> = Arc::default();
    let own = address.clone();
    let stranger = Fake::start(move |request| {
        if request.path.starts_with("/token") {
            return Reply::ok(r#"{"token":"stolen"}"#);
        }
        let challenge = format!("Bearer realm=\"http://{}/token\",service=\"x\"", own.lock().unwrap());
        Reply::status(401, "{}").with("WWW-Authenticate", challenge)
    });
    *address.lock().unwrap() = stranger.address.clone();
    let to = stranger.address.clone();
    let fake = served.but_for_layer(move |request, _| Reply::status(307, "").with("Location", format!("http://{to}{}", request.path)));
    fs::write(scratch.path("docker/config.json"), json!({"auths": {&fake.address: {"username": "me", "password": "secret"}}}).to_string()).unwrap();
    scratch.ctl(&["fetch", &name(&fake)]).fails(1, &["fetching blob", "401"]);
    assert!(stranger.seen_of("/token").is_empty(), "a token was asked for: {:?}", stranger.seen());
    assert!(stranger.seen().iter().all(|request| request.header("authorization").is_none()));
}

/// Indexes that name the same thing a thousand times, on three levels: there is one manifest to fetch, check, push.
#[test]
fn what_an_index_repeats_is_looked_at_once() {
    let scratch = Scratch::new("repeats");
    let mut served = Served::new(&scratch, 1000);
    for _ in 0..3 {
        let index = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": vec![&served.top; 1000]});
        served.top = served.store.put(media::INDEX, index.to_string().as_bytes()).unwrap();
    }
    let fake = served.fake();
    scratch.ctl(&["fetch", "--all-platforms", &name(&fake)]).ok();
    assert_eq!(fake.seen_of("/manifests/").len(), 4);
    scratch.assert_sound();
    scratch.ctl(&["fetch", "--all-platforms", "-o", "oci:copy", &name(&fake)]).ok();
    scratch.ctl(&["prune"]).ok();
    scratch.ctl(&["push", &name(&fake), "127.0.0.1:1/a/b:t"]).fails(1, &["connection refused"]);
    scratch.ctl(&["rmi", &name(&fake)]).ok();
    assert_eq!(scratch.ctl(&["verify"]).ok(), "0 blobs, 0 B, 0 faults");
}

#[test]
fn an_index_has_so_many_manifests_and_no_more() {
    let scratch = Scratch::new("thousands");
    let mut served = Served::new(&scratch, 1000);
    let bytes = served.bytes(&served.top.digest).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let mut index_of = |count: usize, size: u64| {
        let one = |n: usize| {
            manifest["annotations"] = json!({"number": n.to_string()});
            served.store.put(media::MANIFEST, manifest.to_string().as_bytes()).unwrap()
        };
        let mut all: Vec<Descriptor> = (0..count).map(one).collect();
        all[0].size = all[0].size.max(size);
        let index = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": all});
        served.top = served.store.put(media::INDEX, index.to_string().as_bytes()).unwrap();
        served.fake()
    };
    let many = index_of(1001, 0);
    scratch.ctl(&["fetch", "--all-platforms", &name(&many)]).fails(1, &["more than 1000 manifests", "--platform"]);
    let large = index_of(2, 65 << 20);
    scratch.ctl(&["fetch", "--all-platforms", &name(&large)]).fails(1, &["more than 67108864 bytes"]);
    assert_eq!(scratch.ctl(&["images", "-q"]).ok(), "");
    scratch.assert_sound();
}

#[test]
fn a_busy_registry_is_given_the_time_it_asks_for() {
    let scratch = Scratch::new("busy");
    let served = Served::new(&scratch, 10_000);
    let fake = served.but_for_layer(|request, bytes| match request.count {
        0 => Reply::status(429, "{}").with("Retry-After", "1"),
        1 => Reply::status(503, "{}"),
        _ => Reply::ok(bytes),
    });
    let start = Instant::now();
    scratch.ctl(&["fetch", &name(&fake)]).ok();
    assert!(start.elapsed() >= Duration::from_secs(1));
    let busy = Fake::start(|_| Reply::status(429, r#"{"errors":[{"message":"pull rate limit"}]}"#));
    scratch.ctl(&["fetch", "--retries", "0", &name(&busy)]).fails(1, &["429 Too Many Requests: pull rate limit", "log in"]);
}

#[test]
fn a_registry_that_asks_for_a_login_is_named() {
    let scratch = Scratch::new("asks");
    let fake = Fake::start(|_| Reply::status(401, "{}").with("WWW-Authenticate", "Basic realm=\"x\""));
    scratch.ctl(&["fetch", &name(&fake)]).fails(1, &["401 Unauthorized", &format!("dhowctl login {}", fake.address)]);
    let nobody = scratch.ctl(&["fetch", "127.0.0.1:1/a/b"]);
    nobody.fails(1, &["connection refused", "is the registry running"]);
}

/// An address of this machine that isn't loopback.
fn own_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent; the kernel only chooses a source.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip().to_string()).filter(|ip| !ip.starts_with("127."))
}

#[test]
fn plain_http_is_for_this_machine_unless_told() {
    let Some(address) = own_address() else { skip!("no address but loopback") };
    let scratch = Scratch::new("plain");
    let served = Served::new(&scratch, 1000);
    let registry = served.clone();
    let fake = Fake::start_on(&address, move |request| registry.honest(request));
    scratch.ctl(&["fetch", "--retries", "0", &name(&fake)]).code(1);
    assert_eq!(fake.seen().len(), 0, "a request went out in plain text");
    scratch.ctl(&["fetch", "--insecure", &name(&fake)]).ok();
    fs::write(scratch.path("registries.conf"), format!("[[registry]]\nlocation = {:?}\ninsecure = true\n", fake.address)).unwrap();
    scratch.ctl(&["fetch", &name(&fake)]).ok();
}

#[test]
fn through_a_proxy() {
    let Some(address) = own_address() else { skip!("no address but loopback") };
    let scratch = Scratch::new("proxy");
    let served = Served::new(&scratch, 1000);
    let registry = served.clone();
    let fake = Fake::start_on(&address, move |request| registry.honest(request));
    let proxy = Proxy::start();
    let fetch = |no_proxy: &str| {
        let mut command = scratch.ctl_command(&["fetch", "--insecure", &name(&fake)]);
        command.env("HTTP_PROXY", format!("http://{}", proxy.address)).env("NO_PROXY", no_proxy);
        scratch.spawn(command).finish()
    };
    fetch(&format!("example.com,{address}/32")).ok();
    assert_eq!(proxy.tunnels(), Vec::<String>::new());
    fetch("example.com").ok();
    assert!(!proxy.tunnels().is_empty() && proxy.tunnels().iter().all(|t| *t == format!("CONNECT {}", fake.address)), "{:?}", proxy.tunnels());
    let mut command = scratch.ctl_command(&["fetch", "--insecure", &name(&fake)]);
    command.env("ALL_PROXY", "socks5://127.0.0.1:1");
    scratch.spawn(command).finish().fails(1, &["SOCKS proxies are not supported"]);
}

#[test]
fn a_broken_upload_goes_on_where_it_was() {
    let scratch = Scratch::new("upload");
    let served = Served::new(&scratch, 900_000);
    let half = 400_000;
    let fake = Fake::start(move |request| match request.method.as_str() {
        "HEAD" => Reply::status(404, ""),
        "POST" => Reply::status(202, "").with("Location", format!("/upload?id={}", request.count)),
        // Only half of the layer arrived, and then the connection broke.
        "PATCH" if request.count == 0 && request.header("content-length").is_some_and(|l| l.len() > 5) => Reply::Raw(Vec::new()),
        "PATCH" => Reply::status(202, "").with("Location", request.path.clone()),
        "GET" if request.path.starts_with("/upload") => Reply::status(204, "").with("Range", format!("0-{}", half - 1)),
        "PUT" => Reply::status(201, ""),
        _ => Reply::ok("{}"),
    });
    scratch.ctl(&["push", "--parallel", "1", "oci:served", &name(&fake)]).ok();
    let sent: Vec<String> = fake.seen().iter().filter_map(|r| r.header("content-range").map(String::from)).collect();
    let size = served.layer.size;
    assert!(sent.contains(&format!("0-{}", size - 1)) && sent.contains(&format!("{half}-{}", size - 1)), "{sent:?}");
    let put = fake.seen().into_iter().filter(|r| r.method == "PUT").map(|r| r.path).collect::<Vec<_>>();
    assert!(put.iter().any(|p| p.contains(served.layer.digest.hex())) && put.last().unwrap().ends_with("/manifests/t"), "{put:?}");
}

#[test]
fn a_killed_fetch_leaves_a_valid_store() {
    let scratch = Scratch::new("killed");
    let served = Served::new(&scratch, 900_000);
    let stalls = served.but_for_layer(|_, bytes| Reply::Stall { body: bytes[..400_000].to_vec(), length: bytes.len() });
    let mut begun = scratch.spawn(scratch.ctl_command(&["fetch", &name(&stalls)]));
    let partial = scratch.path(&format!("store/.ingest/sha256-{}", served.layer.digest.hex()));
    eventually("most of the layer", || fs::metadata(&partial).ok().filter(|m| m.len() == 400_000));
    begun.child.kill().unwrap();
    begun.child.wait().unwrap();
    scratch.ctl(&["verify"]).ok();
    assert_eq!(scratch.ctl(&["images", "-q"]).ok(), "");
    let healthy = served.fake();
    scratch.ctl(&["fetch", &name(&healthy)]).ok();
    assert_eq!(healthy.seen_of(served.layer.digest.hex())[0].range(), Some(400_000));
    scratch.assert_sound();
}

/// Killed at thirty points between its first request and its last sync: every time the store is valid, and
/// the next fetch makes it whole.
#[test]
fn a_fetch_killed_at_any_moment_leaves_a_valid_store() {
    let scratch = Scratch::new("killedfetch");
    let served = Served::new(&scratch, 300_000);
    let fake = served.fake();
    let began = std::time::Instant::now();
    scratch.ctl(&["fetch", "-o", "oci:timed", &name(&fake)]).ok();
    let duration = began.elapsed();
    let mut cut_short = 0;
    for at in 0..30 {
        let store = scratch.text(&format!("store.{at}"));
        let mut begun = scratch.spawn(scratch.ctl_command(&["--store", &store, "fetch", &name(&fake)]));
        std::thread::sleep(duration * at / 25);
        begun.child.kill().unwrap();
        begun.child.wait().unwrap();
        scratch.ctl(&["--store", &store, "verify"]).ok();
        let named = scratch.ctl(&["--store", &store, "images", "-q"]).ok().to_string();
        cut_short += usize::from(named.is_empty());
        scratch.ctl(&["--store", &store, "fetch", &name(&fake)]).ok();
        scratch.ctl(&["--store", &store, "verify"]).ok();
        assert_eq!(fs::read_dir(scratch.path(&format!("store.{at}/.ingest"))).into_iter().flatten().count(), 0);
    }
    assert!(cut_short > 0, "all of them were faster");
}

#[test]
fn two_at_once_fetch_a_blob_once() {
    let scratch = Scratch::new("two");
    let served = Served::new(&scratch, 900_000);
    let registry = served.clone();
    // The layer comes only when both have asked for the manifest.
    let gate = Arc::new((Mutex::new(0), Condvar::new()));
    let fake = Fake::start(move |request| {
        let (asked, changed) = &*gate;
        if request.path.contains("/manifests/") {
            *asked.lock().unwrap() += 1;
            changed.notify_all();
        }
        if registry.is_layer(request) {
            drop(changed.wait_while(asked.lock().unwrap(), |asked| *asked < 2).unwrap());
        }
        registry.honest(request)
    });
    let both = [(), ()].map(|()| scratch.spawn(scratch.ctl_command(&["fetch", &name(&fake)])));
    for begun in both {
        begun.finish().ok();
    }
    assert_eq!(fake.seen_of(served.layer.digest.hex()).len(), 1);
    scratch.assert_sound();
}

#[test]
fn a_full_disk() {
    needs_root!();
    let scratch = Scratch::new("full");
    let served = Served::new(&scratch, 3_000_000);
    let small = Served { store: Store::open(&scratch.path("small")).unwrap(), ..served.clone() };
    let small_top = image(&small.store, "small", "linux/amd64", &[tar("file", b"little")]);
    let small = Served { top: small_top, ..small };
    fs::create_dir(scratch.path("store")).unwrap();
    let _tmpfs = Tmpfs::new(scratch.path("store"), "size=1m");
    scratch.ctl(&["fetch", &name(&served.fake())]).fails(1, &["no space left on device", "dhowctl prune"]);
    scratch.assert_sound();
    assert_eq!(scratch.ctl(&["images", "-q"]).ok(), "");
    scratch.ctl(&["prune"]).ok();
    scratch.ctl(&["fetch", &name(&small.fake())]).ok();
    scratch.assert_sound();
}

/// Full at any point: in the first document, in the middle of the layer, at its end, at the index's last entry.
#[test]
fn a_disk_full_at_any_point() {
    needs_root!();
    let scratch = Scratch::new("fullany");
    let served = Served::new(&scratch, 120_000);
    let fake = served.fake();
    fs::create_dir(scratch.path("store")).unwrap();
    let mut outcomes = [0, 0];
    // The first page is for the file `oci-layout`, without which there is no store.
    for pages in (3..49).step_by(2) {
        let _tmpfs = Tmpfs::new(scratch.path("store"), &format!("size={}k", pages * 4));
        let fetched = scratch.ctl(&["fetch", &name(&fake)]);
        outcomes[usize::from(fetched.code == 0)] += 1;
        if fetched.code != 0 {
            fetched.fails(1, &["no space left on device"]);
            assert_eq!(scratch.ctl(&["images", "-q"]).ok(), "");
        }
        // A blob that was on its way when another filled the disk stays for the next try.
        scratch.ctl(&["verify"]).ok();
    }
    assert!(outcomes[0] > 2 && outcomes[1] > 2, "{outcomes:?}");
}

/// Where the blobs of an archive are staged, and where it is written to.
#[test]
fn a_full_disk_leaves_nothing_of_an_archive() {
    needs_root!();
    let scratch = Scratch::new("fullarchive");
    let served = Served::new(&scratch, 3_000_000);
    let fake = served.fake();
    for full in ["store", "out"] {
        fs::create_dir_all(scratch.path(full)).unwrap();
        fs::create_dir_all(scratch.path("out")).unwrap();
        let _tmpfs = Tmpfs::new(scratch.path(full), "size=1m");
        scratch.ctl(&["fetch", "-o", "docker-archive:out/image.tar", &name(&fake)]).fails(1, &["no space left on device"]);
        let left = |dir: &str| fs::read_dir(scratch.path(dir)).into_iter().flatten().count();
        assert_eq!((left("out"), left("store/.staged")), (0, 0), "{full}");
    }
}

/// Killed while the layer comes: an archive has not begun, and what there is of it goes with the next.
#[test]
fn a_killed_fetch_leaves_nothing_beside_the_archive() {
    let scratch = Scratch::new("archivekill");
    let served = Served::new(&scratch, 900_000);
    let stalls = served.but_for_layer(|_, bytes| Reply::Stall { body: bytes[..1000].to_vec(), length: bytes.len() });
    fs::create_dir(scratch.path("out")).unwrap();
    let listed = |dir: &str| fs::read_dir(scratch.path(dir)).into_iter().flatten().count();
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGINT] {
        let before = stalls.seen_of(served.layer.digest.hex()).len();
        let mut begun = scratch.spawn(scratch.ctl_command(&["fetch", "-o", "docker-archive:out/image.tar", &name(&stalls)]));
        eventually("the layer", || (stalls.seen_of(served.layer.digest.hex()).len() > before).then_some(()));
        // SAFETY: kill(2) of our own child, which is not reaped yet.
        unsafe { libc::kill(begun.child.id() as i32, signal) };
        begun.child.wait().unwrap();
        assert_eq!((listed("out"), listed("store/.staged")), (0, 1));
    }
    scratch.ctl(&["prune"]).ok();
    assert_eq!(listed("store/.staged"), 0);
    scratch.ctl(&["fetch", "-o", "docker-archive:out/image.tar", &name(&served.fake())]).ok();
    assert_eq!((listed("out"), listed("store/.staged"), scratch.ctl(&["images", "-q"]).ok()), (1, 0, ""));
    // It takes the place of an earlier one.
    scratch.ctl(&["fetch", "-o", "docker-archive:out/image.tar", &name(&served.fake())]).ok();
    assert_eq!(listed("out"), 1);
}

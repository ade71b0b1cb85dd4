//! dhowctl and a real registry, with skopeo and umoci as witnesses.

#[path = "support/ctl.rs"]
mod ctl;
#[path = "support/fake.rs"]
mod fake;
#[path = "support/registry.rs"]
mod registry;
mod support;

use ctl::{Scratch, busybox, image, noise, tar};
use dhow::image::model::media;
use dhow::image::{Descriptor, Store};
use registry::{IDENTITY, PASSWORD, Registry, USER};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A layout with a busybox image of two layers, named `v1`.
fn layout(scratch: &Scratch) -> (Store, Descriptor) {
    let store = Store::open(&scratch.path("layout")).unwrap();
    let descriptor = image(&store, "v1", "linux/amd64", &[tar("bin/busybox", &busybox()), tar("etc/motd", b"hello\n")]);
    (store, descriptor)
}

/// Pushed there by skopeo.
fn push_by_skopeo(scratch: &Scratch, registry: &Registry, name: &str) -> Descriptor {
    let (_, descriptor) = layout(scratch);
    scratch.tool("skopeo", &["copy", "--dest-tls-verify=false", "oci:layout:v1", &format!("docker://{}", registry.name(name))]);
    descriptor
}

/// What skopeo sees in the registry: the manifest's digest.
fn digest_by_skopeo(scratch: &Scratch, name: &str) -> String {
    let out = scratch.tool("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{name}")]);
    serde_json::from_str::<Value>(&out).unwrap()["Digest"].as_str().unwrap().to_string()
}

#[test]
fn what_skopeo_pushed_others_read_in_the_store() {
    let scratch = Scratch::new("skopeo");
    let registry = Registry::plain(&scratch);
    let descriptor = push_by_skopeo(&scratch, &registry, "a/b:v1");
    let name = registry.name("a/b:v1");
    assert_eq!(scratch.ctl(&["fetch", &name]).ok(), descriptor.digest.to_string());
    scratch.assert_sound();
    // skopeo and umoci find it by its name.
    scratch.tool("skopeo", &["copy", &format!("oci:store:{name}"), "dir:copied"]);
    assert!(scratch.tool("umoci", &["ls", "--layout", "store"]).contains(&name));
    scratch.tool("umoci", &["raw", "unpack", "--rootless", "--image", &format!("store:{name}"), "rootfs"]);
    assert_eq!(fs::read_to_string(scratch.path("rootfs/etc/motd")).unwrap(), "hello\n");
    // By digest there is nothing left to fetch, but another name.
    let by_digest = format!("{}@{}", registry.name("a/b"), descriptor.digest);
    let again = scratch.ctl(&["fetch", "--format", "json", &by_digest]);
    let events: Vec<Value> = again.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(events.iter().filter(|e| e["status"] == "exists").count(), 3, "{events:?}");
    assert_eq!(events.last().unwrap()["digest"], descriptor.digest.to_string());
}

#[test]
fn what_dhowctl_pushed_skopeo_reads() {
    let scratch = Scratch::new("push");
    let registry = Registry::plain(&scratch);
    let (_, descriptor) = layout(&scratch);
    let (first, second) = (registry.name("a/b:1"), registry.name("c/d:2"));
    scratch.ctl(&["push", "oci:layout:v1", &first]).ok();
    assert_eq!(digest_by_skopeo(&scratch, &first), descriptor.digest.to_string());
    // Again: it is there. Into another repository: taken over from the first.
    let statuses = |args: &[&str]| {
        let out = scratch.ctl(args);
        out.ok();
        let mut words: Vec<String> = out.err.lines().filter_map(|l| l.rsplit(' ').next()).map(String::from).collect();
        words.sort();
        words.join(" ")
    };
    assert_eq!(statuses(&["push", "oci:layout", &first]), "exists exists exists");
    scratch.ctl(&["fetch", &first]).ok();
    scratch.ctl(&["tag", &first, &second]).ok();
    assert_eq!(statuses(&["push", &second]), "mounted mounted mounted");
    assert_eq!(digest_by_skopeo(&scratch, &second), descriptor.digest.to_string());
}

#[test]
fn a_large_blob_goes_in_chunks() {
    let scratch = Scratch::new("chunks");
    let registry = Registry::plain(&scratch);
    let store = Store::open(&scratch.path("layout")).unwrap();
    // Uncompressed, just over two chunks of 32 MiB.
    let layer = store.put_reader(media::LAYER, std::io::Read::take(std::io::repeat(0), (64 << 20) + 512)).unwrap();
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [layer.digest]}});
    let config = store.put(media::CONFIG, config.to_string().as_bytes()).unwrap();
    let manifest = json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": [layer]});
    let manifest = store.put(media::MANIFEST, manifest.to_string().as_bytes()).unwrap();
    store.set("big", &manifest).unwrap();
    let name = registry.name("big:1");
    let pushed = scratch.ctl(&["--debug", "push", "oci:layout:big", &name]);
    pushed.ok();
    assert_eq!(pushed.err.matches("debug: PATCH").count(), 4, "{}", pushed.err);
    assert_eq!(scratch.ctl(&["fetch", &name]).ok(), manifest.digest.to_string());
    scratch.assert_sound();
}

#[test]
fn docker_s_schema_2() {
    let scratch = Scratch::new("schema2");
    let registry = Registry::plain(&scratch);
    layout(&scratch);
    let name = registry.name("a:docker");
    scratch.tool("skopeo", &["copy", "--format", "v2s2", "--dest-tls-verify=false", "oci:layout:v1", &format!("docker://{name}")]);
    scratch.ctl(&["fetch", &name]).ok();
    let raw = scratch.ctl(&["inspect", "--raw", &name]).json();
    assert_eq!(raw["mediaType"], media::DOCKER_MANIFEST);
    let inspected = scratch.ctl(&["inspect", "--format", "json", &name]).json();
    assert_eq!((inspected["layers"].as_array().unwrap().len(), &inspected["config"]["Labels"]["test"]), (2, &json!("v1")));
    // In the store it stays what it was; skopeo and umoci look for OCI's alone, so elsewhere it becomes that.
    scratch.ctl(&["fetch", "-o", "oci:out", &name]).ok();
    let copied: Value = serde_json::from_str(&scratch.tool("skopeo", &["inspect", "--raw", "oci:out:docker"])).unwrap();
    let types = [&copied["mediaType"], &copied["config"]["mediaType"], &copied["layers"][1]["mediaType"]];
    assert_eq!(types, [media::MANIFEST, media::CONFIG, media::LAYER_GZIP]);
    assert_eq!(copied["layers"][1]["digest"], raw["layers"][1]["digest"]);
    scratch.tool("umoci", &["raw", "unpack", "--rootless", "--image", "out:docker", "rootfs"]);
    scratch.ctl(&["--store", "out", "verify"]).ok();
    scratch.ctl(&["push", &name, &registry.name("b:docker")]).ok();
    // With all platforms, the list too.
    let list = json!({"schemaVersion": 2, "mediaType": media::DOCKER_LIST, "manifests": [
        {"mediaType": media::DOCKER_MANIFEST, "digest": inspected["digest"], "size": inspected["manifest"]["size"], "platform": {"os": "linux", "architecture": "amd64"}}]});
    let store = scratch.store();
    let list = store.put(media::DOCKER_LIST, list.to_string().as_bytes()).unwrap();
    store.set(&registry.name("b:list"), &list).unwrap();
    scratch.ctl(&["push", &registry.name("b:list")]).ok();
    scratch.ctl(&["fetch", "--all-platforms", "-o", "oci:out", &registry.name("b:list")]).ok();
    let copied: Value = serde_json::from_str(&scratch.tool("skopeo", &["inspect", "--raw", "oci:out:list"])).unwrap();
    assert_eq!((&copied["mediaType"], &copied["manifests"][0]["mediaType"]), (&json!(media::INDEX), &json!(media::MANIFEST)));
    assert_eq!(copied["manifests"][0]["platform"]["architecture"], "amd64");
    scratch.tool("skopeo", &["copy", "--all", "oci:out:list", "dir:copied"]);
    assert_eq!(digest_by_skopeo(&scratch, &registry.name("b:docker")), inspected["digest"]);
}

/// amd64, arm64, s390x and an attestation, pushed as `name`.
fn push_index(scratch: &Scratch, name: &str) -> Descriptor {
    let store = Store::open(&scratch.path("layout")).unwrap();
    let mut manifests: Vec<Descriptor> = ["linux/amd64", "linux/arm64", "linux/s390x"].map(|p| image(&store, p, p, &[tar("platform", p.as_bytes())])).to_vec();
    let mut attestation = image(&store, "attestation", "unknown/unknown", &[tar("sbom", b"{}")]);
    attestation.annotations.insert("vnd.docker.reference.type".into(), "attestation-manifest".into());
    manifests.push(attestation);
    let index = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": manifests});
    let index = store.put(media::INDEX, index.to_string().as_bytes()).unwrap();
    store.set("all", &index).unwrap();
    scratch.ctl(&["push", "oci:layout:all", name]).ok();
    index
}

#[test]
fn an_index_and_its_platforms() {
    let scratch = Scratch::new("index");
    let registry = Registry::plain(&scratch);
    let name = registry.name("multi:1");
    let index = push_index(&scratch, &name);
    let platform = |name: &str| scratch.ctl(&["inspect", "--format", "json", name]).json()["platform"].as_str().unwrap().to_string();
    scratch.ctl(&["fetch", "--platform", "linux/s390x", &name]).ok();
    assert_eq!(platform(&name), "linux/s390x");
    scratch.ctl(&["fetch", "--platform", "linux/arm64/v8", &name]).ok();
    assert_eq!(platform(&name), "linux/arm64");
    scratch.ctl(&["fetch", "--platform", "linux/riscv64", &name]).fails(1, &["linux/amd64, linux/arm64, linux/s390x", "--platform"]);
    // All of it, attestation and all; skopeo can take it on from there.
    assert_eq!(scratch.ctl(&["fetch", "--all-platforms", &name]).ok(), index.digest.to_string());
    scratch.assert_sound();
    scratch.tool("skopeo", &["copy", "--all", &format!("oci:store:{name}"), "dir:copied"]);
    let images = scratch.ctl(&["images", "--format", "json"]).json();
    assert_eq!(images[0]["platforms"], json!(["linux/amd64", "linux/arm64", "linux/s390x"]));
    // One that is of one platform only, asked for another.
    scratch.ctl(&["tag", &name, "single"]).ok();
    let single = registry.name("single:1");
    scratch.ctl(&["push", "oci:layout:linux/s390x", &single]).ok();
    scratch.ctl(&["fetch", "--platform", "linux/amd64", &single]).fails(1, &["the image is for linux/s390x, not for linux/amd64"]);
    assert!(scratch.ctl(&["fetch", &single]).err.contains("warning"));
}

#[test]
fn artifacts_are_kept_but_are_no_images() {
    let scratch = Scratch::new("artifact");
    let registry = Registry::plain(&scratch);
    let store = Store::open(&scratch.path("layout")).unwrap();
    let empty = store.put(media::EMPTY, b"{}").unwrap();
    let chart = store.put("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"a chart").unwrap();
    let manifest = json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "artifactType": "application/vnd.example", "config": empty, "layers": [chart]});
    let manifest = store.put(media::MANIFEST, manifest.to_string().as_bytes()).unwrap();
    store.set("chart", &manifest).unwrap();
    let name = registry.name("chart:1");
    scratch.ctl(&["push", "oci:layout:chart", &name]).ok();
    scratch.ctl(&["fetch", &name]).ok();
    assert!(scratch.ctl(&["inspect", &name]).ok().contains("application/vnd.example"));
    scratch.assert_sound();
}

#[test]
fn layouts_and_archives() {
    let scratch = Scratch::new("transports");
    let registry = Registry::plain(&scratch);
    let descriptor = push_by_skopeo(&scratch, &registry, "a/b:v1");
    let name = registry.name("a/b:v1");
    scratch.ctl(&["fetch", "-o", "oci:out", &name]).ok();
    scratch.tool("skopeo", &["inspect", "oci:out:v1"]);
    assert!(scratch.ctl(&["inspect", "oci:out"]).ok().contains("in 2 layers"));
    scratch.ctl(&["fetch", "-o", "docker-archive:image.tar:busybox:mine", &name]).ok();
    let seen: Value = serde_json::from_str(&scratch.tool("skopeo", &["inspect", "docker-archive:image.tar:busybox:mine"])).unwrap();
    assert_eq!(seen["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(scratch.ctl(&["images", "-q"]).ok(), "", "the store keeps nothing of them");
    assert_eq!(std::fs::read_dir(scratch.path("store/.staged")).unwrap().count(), 0);
    // And back: what skopeo wrote, and what we wrote.
    scratch.tool("skopeo", &["copy", "oci:layout:v1", "docker-archive:theirs.tar:busybox:theirs"]);
    for (archive, tag) in [("docker-archive:image.tar", "ours"), ("docker-archive:theirs.tar:busybox:theirs", "theirs")] {
        let pushed = registry.name(&format!("from/archive:{tag}"));
        scratch.ctl(&["push", archive, &pushed]).ok();
        let copied: Value = serde_json::from_str(&scratch.tool("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{pushed}")])).unwrap();
        assert_eq!(copied["Labels"]["test"], "v1");
    }
    let leftovers = fs::read_dir(&scratch.dir).unwrap().filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains("blobs-")).count();
    assert_eq!(leftovers, 0);
    assert!(!descriptor.digest.hex().is_empty());
    scratch.ctl(&["push", "docker-archive:image.tar"]).fails(1, &["where to?"]);
    scratch.ctl(&["fetch", "-o", "tar:x", &name]).fails(1, &["oci:DIR"]);
}

#[test]
fn what_is_not_there() {
    let scratch = Scratch::new("unknown");
    assert_eq!(scratch.ctl(&["images", "-q"]).ok(), "");
    assert!(!scratch.path("store").exists(), "looking makes nothing");
    let registry = Registry::plain(&scratch);
    push_by_skopeo(&scratch, &registry, "a/b:1.27-alpine");
    scratch.ctl(&["fetch", &registry.name("a/b:1.27-alpin")]).fails(1, &["manifest unknown", "did you mean 1.27-alpine?"]);
    scratch.ctl(&["fetch", &registry.name("a/b")]).fails(1, &["its only tag is 1.27-alpine"]);
    scratch.ctl(&["fetch", &registry.name("a/c")]).fails(1, &["has no repository a/c"]);
    scratch.ctl(&["fetch", "a/B"]).fails(1, &["invalid image reference", "lower-case"]);
    scratch.ctl(&["inspect", "nothing"]).fails(1, &["looking for image nothing", "dhowctl fetch"]);
    scratch.ctl(&["fecth", "x"]).fails(1, &["did you mean fetch?"]);
    for (word, advice) in
        [("pull", "fetch"), ("image", "images"), ("save", "fetch -o docker-archive:FILE"), ("load", "docker-archive:FILE"), ("ps", "dhow list")]
    {
        scratch.ctl(&[word, "x"]).fails(1, &[advice]);
    }
}

#[test]
fn tls_and_a_password() {
    let scratch = Scratch::new("tls");
    let registry = Registry::with_password(&scratch);
    layout(&scratch);
    let name = registry.name("a/b:1");
    let login = |password: &str| scratch.ctl_with_input(&["login", "-u", USER, "--cert-dir", "certs", &registry.address], password);
    // Whom to believe is the first question, who we are the second.
    scratch.ctl(&["push", "oci:layout:v1", &name]).fails(1, &["nobody we trust vouches", &format!("certs.d/{}/ca.crt", registry.address), "--cert-dir"]);
    scratch.ctl(&["push", "--cert-dir", "certs", "oci:layout:v1", &name]).fails(1, &["401", &format!("dhowctl login {}", registry.address)]);
    login("wrong\n").fails(1, &["logging in to", "401"]);
    assert!(!scratch.path("docker/config.json").exists());
    login(&format!("{PASSWORD}\n")).ok();
    assert_eq!(fs::metadata(scratch.path("docker/config.json")).unwrap().permissions().mode() & 0o777, 0o600);
    scratch.ctl(&["push", "--cert-dir", "certs", "oci:layout:v1", &name]).ok();
    // skopeo reads the same login.
    scratch.tool("skopeo", &["inspect", "--cert-dir", "certs", "--authfile", "docker/config.json", &format!("docker://{name}")]);
    let certs_d = scratch.path(&format!(".config/containers/certs.d/{}", registry.address));
    fs::create_dir_all(&certs_d).unwrap();
    fs::copy(scratch.path("certs/ca.crt"), certs_d.join("ca.crt")).unwrap();
    scratch.ctl(&["fetch", &name]).ok();
    scratch.assert_sound();
    scratch.ctl(&["logout", &registry.address]).ok();
    scratch.ctl(&["fetch", &name]).fails(1, &["401", "dhowctl login"]);
    assert!(scratch.ctl(&["logout", &registry.address]).ok().contains("there was no login"));
    assert!(!fs::read_to_string(scratch.path("docker/config.json")).unwrap().contains(&registry.address));
    // Not believing anybody, when told to.
    fs::remove_dir_all(&certs_d).unwrap();
    scratch.ctl(&["fetch", "--insecure", &name]).fails(1, &["401"]);
}

#[test]
fn a_credential_helper() {
    let scratch = Scratch::new("helper");
    let registry = Registry::with_password(&scratch);
    layout(&scratch);
    let script = "#!/bin/sh
        read -r server
        case $1 in
        get) [ -e kept ] || { echo credentials not found in native keychain; exit 1; }
             printf '{\"ServerURL\":\"%s\",\"Username\":\"me\",\"Secret\":\"sesame\"}' \"$server\" ;;
        store) echo \"$server\" >kept ;;
        erase) rm kept ;;
        esac";
    let bin = scratch.path("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("docker-credential-test"), script).unwrap();
    fs::set_permissions(bin.join("docker-credential-test"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(scratch.path("docker/config.json"), r#"{"credsStore":"test","other":1}"#).unwrap();
    let ctl = |args: &[&str], input: &str| {
        fs::write(scratch.path("input"), input).unwrap();
        let mut command = scratch.ctl_command(args);
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).stdin(fs::File::open(scratch.path("input")).unwrap());
        scratch.spawn(command).finish()
    };
    let name = registry.name("a:1");
    let push = ["push", "--cert-dir", "certs", "oci:layout:v1", &name];
    ctl(&push, "").fails(1, &["dhowctl login"]);
    ctl(&["login", "-u", USER, "--cert-dir", "certs", &registry.address], PASSWORD).ok();
    assert!(fs::read_to_string(scratch.path("kept")).unwrap().contains(PASSWORD));
    assert_eq!(fs::read_to_string(scratch.path("docker/config.json")).unwrap(), r#"{"credsStore":"test","other":1}"#);
    ctl(&push, "").ok();
    ctl(&["logout", &registry.address], "").ok();
    ctl(&push, "").fails(1, &["dhowctl login"]);
    fs::write(scratch.path("docker/config.json"), r#"{"credsStore":"nowhere"}"#).unwrap();
    ctl(&push, "").fails(1, &["running credential helper docker-credential-nowhere", "credsStore"]);
}

#[test]
fn tokens() {
    let scratch = Scratch::new("tokens");
    let registry = Registry::with_tokens(&scratch);
    layout(&scratch);
    let (public, private) = (registry.name("public/a:1"), registry.name("private/a:1"));
    scratch.ctl(&["push", "oci:layout:v1", &public]).fails(1, &["dhowctl login"]);
    scratch.ctl_with_input(&["login", "-u", USER, &registry.address], "wrong").fails(1, &["incorrect username or password"]);
    scratch.ctl_with_input(&["login", "-u", USER, &registry.address], PASSWORD).ok();
    scratch.ctl(&["push", "oci:layout:v1", &public]).ok();
    scratch.ctl(&["push", "oci:layout:v1", &private]).ok();
    scratch.ctl(&["fetch", &private]).ok();
    // A mount needs to read there as well.
    scratch.ctl(&["tag", &private, &registry.name("private/b:1")]).ok();
    assert!(scratch.ctl(&["push", &registry.name("private/b:1")]).err.contains("mounted"));
    scratch.ctl(&["logout", &registry.address]).ok();
    scratch.ctl(&["fetch", &public]).ok();
    scratch.ctl(&["fetch", &private]).fails(1, &["dhowctl login"]);
    scratch.assert_sound();
}

#[test]
fn an_identity_token() {
    let scratch = Scratch::new("identity");
    let registry = Registry::with_tokens(&scratch);
    layout(&scratch);
    let name = registry.name("private/a:1");
    let auths = |token: &str| json!({"auths": {&registry.address: {"auth": "PHRva2VuPjo=", "identitytoken": token}}}).to_string();
    fs::write(scratch.path("docker/config.json"), auths("another")).unwrap();
    scratch.ctl(&["push", "oci:layout:v1", &name]).fails(1, &["401", "unknown refresh token", "the stored identity token"]);
    fs::write(scratch.path("docker/config.json"), auths(IDENTITY)).unwrap();
    scratch.ctl(&["push", "oci:layout:v1", &name]).ok();
    scratch.ctl(&["fetch", &name]).ok();
    // A helper says by the user's name that it has one.
    let helper = scratch.path("docker-credential-test");
    fs::write(&helper, format!("#!/bin/sh\necho '{{\"Username\":\"<token>\",\"Secret\":\"{IDENTITY}\"}}'\n")).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(scratch.path("docker/config.json"), r#"{"credsStore":"test"}"#).unwrap();
    let mut command = scratch.ctl_command(&["push", &name, &registry.name("private/b:1")]);
    command.env("PATH", format!("{}:{}", scratch.dir.display(), std::env::var("PATH").unwrap()));
    scratch.spawn(command).finish().ok();
    // It is exchanged and never shown: not in an address, nor as a password.
    let asked = registry.tokens.as_ref().unwrap().seen();
    assert!(!asked.is_empty() && asked.iter().all(|r| r.method == "POST" && r.path == "/token" && r.header("authorization").is_none()), "{asked:?}");
    scratch.assert_sound();
}

#[test]
fn a_client_certificate() {
    let scratch = Scratch::new("mtls");
    let registry = Registry::with_client_certificates(&scratch);
    layout(&scratch);
    let name = registry.name("a/b:1");
    // The server is believed; but it wants to know who we are.
    scratch.ctl(&["push", "--retries", "0", "--cert-dir", "certs", "oci:layout:v1", &name]).fails(1, &["client certificate", ".cert", ".key"]);
    scratch.ctl(&["push", "--cert-dir", "shown", "oci:layout:v1", &name]).ok();
    scratch.tool("skopeo", &["inspect", "--cert-dir", "shown", &format!("docker://{name}")]);
    let certs_d = scratch.path(&format!(".config/containers/certs.d/{}", registry.address));
    fs::create_dir_all(&certs_d).unwrap();
    for file in ["ca.crt", "client.cert", "client.key"] {
        fs::copy(scratch.path("shown").join(file), certs_d.join(file)).unwrap();
    }
    scratch.ctl(&["fetch", &name]).ok();
    scratch.ctl(&["push", &name, &registry.name("c/d:1")]).ok();
    // A certificate without its key, and a key of something else.
    fs::rename(certs_d.join("client.key"), certs_d.join("other.key")).unwrap();
    scratch.ctl(&["fetch", &name]).fails(1, &["the key of a client certificate", "client.key"]);
    fs::copy(scratch.path("server.key"), certs_d.join("client.key")).unwrap();
    scratch.ctl(&["fetch", &name]).fails(1, &["using the client certificate", "client.cert"]);
    fs::write(certs_d.join("client.cert"), "").unwrap();
    scratch.ctl(&["fetch", &name]).fails(1, &["using the client certificate", "client.cert"]);
    scratch.assert_sound();
}

#[test]
fn mirrors() {
    let scratch = Scratch::new("mirrors");
    let registry = Registry::plain(&scratch);
    push_by_skopeo(&scratch, &registry, "mirror/library/busybox:v1");
    let conf = |text: String| fs::write(scratch.path("registries.conf"), text).unwrap();
    // One that isn't there, one that has it; the registry itself would be out of reach.
    conf(format!(
        "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"127.0.0.1:1\"\n[[registry.mirror]]\nlocation = \"{}/mirror\"\n",
        registry.address
    ));
    scratch.ctl(&["fetch", "busybox:v1"]).ok();
    assert_eq!(scratch.ctl(&["images", "-q"]).ok(), "docker.io/library/busybox:v1");
    // The name of something that is kept elsewhere.
    conf(format!("[[registry]]\nprefix = \"example.com/team\"\nlocation = \"{}/mirror/library\"\n", registry.address));
    scratch.ctl(&["fetch", "example.com/team/busybox:v1"]).ok();
    conf("[[registry]]\nlocation = \"example.com\"\nblocked = true\n".into());
    scratch.ctl(&["fetch", "example.com/team/busybox:v1"]).fails(1, &["blocks"]);
    scratch.assert_sound();
}

#[test]
fn the_store_s_commands() {
    let scratch = Scratch::new("commands");
    let registry = Registry::plain(&scratch);
    push_by_skopeo(&scratch, &registry, "a/b:v1");
    let name = registry.name("a/b:v1");
    let fetched = scratch.ctl(&["fetch", &name]);
    assert_eq!(fetched.err.lines().filter(|l| l.ends_with("done")).count(), 3, "{}", fetched.err);
    assert_eq!(scratch.ctl(&["fetch", "--quiet", &name]).err, "");
    scratch.ctl(&["tag", &name, "mine"]).ok();
    assert_eq!(scratch.ctl(&["images", "-q"]).ok(), format!("{name}\ndocker.io/library/mine:latest"));
    assert!(scratch.ctl(&["images"]).ok().contains("linux/amd64"));
    assert_eq!(scratch.ctl(&["images", "-q", "mine"]).ok(), "docker.io/library/mine:latest");
    assert_eq!(scratch.ctl(&["images", "-q", "mine:other"]).ok(), "");
    let shown = scratch.ctl(&["inspect", "mine"]);
    for word in ["[\"/bin/busybox\",\"true\"]", "Env", "PATH=/bin", "in 2 layers", "by hand", "sha256:"] {
        assert!(shown.ok().contains(word), "{word}: {}", shown.out);
    }
    // What the list shows is a name, too.
    let listed = scratch.ctl(&["images"]).ok().to_string();
    let digest = listed.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap();
    for short in [digest, digest.strip_prefix("sha256:").unwrap(), &digest[7..14]] {
        assert!(scratch.ctl(&["inspect", short]).ok().contains(digest), "{short}");
    }
    scratch.ctl(&["inspect", &digest[7..12]]).fails(1, &["looking for image"]);
    scratch.ctl(&["inspect", &format!("sha512:{}", &digest[7..])]).fails(1, &["looking for image"]);
    scratch.ctl(&["rmi", &name]).ok();
    scratch.assert_sound();
    assert_eq!(scratch.ctl(&["prune"]).ok(), "removed 0 blobs, 0 B");
    scratch.ctl(&["rmi", "--keep-blobs", "mine"]).ok();
    let pruned = scratch.ctl(&["prune", "--format", "json"]).json();
    assert!(pruned["blobs"]["count"] == 4 && pruned["blobs"]["bytes"].as_u64() > Some(0) && pruned["layers"]["count"] == 0, "{pruned}");
    assert_eq!(scratch.ctl(&["verify"]).ok(), "0 blobs, 0 B, 0 faults");
    // A damaged blob is found, and fetched again once the image is removed.
    scratch.ctl(&["fetch", &name]).ok();
    let blob = scratch.store().resolve(&name).unwrap().descriptor.digest;
    let layer = scratch.store().document(&scratch.store().resolve(&name).unwrap().descriptor).unwrap().children()[1].digest.clone();
    let path = scratch.path(&format!("store/blobs/sha256/{}", layer.hex()));
    let mut bytes = fs::read(&path).unwrap();
    bytes[0] ^= 1;
    fs::write(&path, bytes).unwrap();
    let found = scratch.ctl(&["verify", "--format", "json"]);
    assert_eq!(found.code, 1);
    assert_eq!(serde_json::from_str::<Value>(&found.out).unwrap()["faults"][0]["subject"], layer.to_string());
    scratch.ctl(&["rmi", &name]).ok();
    scratch.ctl(&["fetch", &name]).ok();
    scratch.assert_sound();
    assert!(!blob.hex().is_empty());
}

#[test]
fn help_says_what_there_is() {
    let scratch = Scratch::new("help");
    let all = scratch.ctl(&["--help"]);
    for verb in ["fetch", "push", "images", "inspect", "tag", "rmi", "prune", "login", "logout", "verify"] {
        assert!(all.ok().contains(&format!("\n  {verb} ")), "{verb}");
        assert!(scratch.ctl(&[verb, "--help"]).ok().contains("USAGE:"), "{verb}");
    }
    scratch.ctl(&["fetch"]).fails(1, &["\"fetch\" requires exactly 1 argument"]);
    scratch.ctl(&["fetch", "--nonsense", "x"]).fails(1, &["flag provided but not defined"]);
    assert!(scratch.ctl(&["--version"]).ok().contains("version"));
}

#[test]
fn layers_come_side_by_side() {
    let scratch = Scratch::new("parallel");
    let registry = Registry::plain(&scratch);
    let store = Store::open(&scratch.path("layout")).unwrap();
    let tars: Vec<Vec<u8>> = (0..20).map(|i| tar(&format!("file{i}"), &noise(i, 100_000))).collect();
    image(&store, "many", "linux/amd64", &tars);
    let name = registry.name("many:1");
    scratch.ctl(&["push", "--parallel", "8", "oci:layout:many", &name]).ok();
    scratch.ctl(&["fetch", "--parallel", "8", &name]).ok();
    scratch.assert_sound();
    scratch.ctl(&["fetch", "--parallel", "0", &name]).fails(1, &["at least 1"]);
}

//! `build`: an image from a Dockerfile.

use super::args::{list, path, switch, text};
use super::{Call, Verb, network, output, run};
use crate::Error;
use crate::image::build::plan::Network;
use crate::image::build::request::{BuildRequest, CachePlace, Context, DockerfileFrom, NamedContext, Output, Progress, Secret, Volume};
use crate::image::build::{self, Around};
use crate::image::ids::Need;
use crate::image::live::Runtime;
use crate::image::progress::Progress as Transfers;
use crate::image::signals::Signals;
use crate::image::transport::Target;
use crate::image::{Platform, Reference};
use anyhow::Result;
use clap::Arg;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) const VERB: Verb = Verb {
    name: "build",
    about: "make an image, and if wanted a bundle, from a Dockerfile",
    usage: "CONTEXT|-",
    details: "CONTEXT is the directory that COPY and ADD take from; - reads it from standard input, as a tar archive, or a\n\
        Dockerfile alone. Each RUN is done in a container of its own. What was done before and would come out the same is\n\
        taken from the cache. Prints the image's digest.\n\n  \
        dhowctl build -t app .\n  \
        dhowctl build -t app -o bundle:DIR . && dhow run --bundle DIR app\n  \
        dhowctl build --build-arg VERSION=2 --secret id=token,src=FILE --target test -f docker/Dockerfile .\n\n\
        -o bundle:DIR                  a bundle that dhow runs\n\
        -o oci:DIR[:NAME]              an OCI image layout\n\
        -o docker-archive:FILE[:NAME]  what `docker load` reads",
    positionals: (1, 1),
    flags,
    need: |_| Need::Mounts,
    run: run_build,
    ..Verb::BASE
};

fn flags() -> Vec<Arg> {
    let mut all = vec![
        list("tag", "NAME", "the image's name in the store; may be repeated").short('t'),
        path("file", "FILE", "the Dockerfile, - for standard input (default: Dockerfile in CONTEXT)").short('f'),
        text("target", "STAGE", "the stage to build (default: the last)"),
        list("build-arg", "NAME[=VALUE]", "for ARG; without a value that of the environment"),
        list("secret", "id=ID[,src=FILE|,env=NAME]", "for RUN --mount=type=secret"),
        list("ssh", "ID[=SOCKET]", "an agent for RUN --mount=type=ssh (default: default=$SSH_AUTH_SOCK)"),
        text("platform", "OS/ARCH", "of the image (default: this machine's)"),
        list("label", "NAME=VALUE", "a label of the image"),
        switch("no-cache", "do all steps again"),
        switch("pull", "fetch base images even if they are in the store"),
        list("build-context", "NAME=PLACE", "for FROM and --from: a directory, docker-image://REFERENCE or oci-layout://DIR[:TAG]"),
        text("network", "default|none|host", "of RUNs that don't say (default: the host's)"),
        list("volume", "HOST:CONTAINER[:ro]", "bind a host's file or directory into each RUN; not kept in the image"),
        text("output", "PLACE", "also bring the image to bundle:DIR, oci:DIR[:NAME] or docker-archive:FILE[:NAME]").short('o'),
        list("cache-to", "REFERENCE|oci:DIR", "keep the build cache there"),
        list("cache-from", "REFERENCE|oci:DIR", "take what is cached from there"),
        text("progress", "auto|plain|tty|quiet", "how to tell what is done (default: auto)"),
        path("runtime", "FILE", "the runtime (default: dhow beside dhowctl, or in $PATH)"),
        path("runtime-root", "DIR", "--root of the runtime"),
    ];
    all.extend(network::transfer_flags());
    all
}

fn run_build(call: &Call) -> Result<u8> {
    let request = request(call)?;
    let runtime = Runtime::new(run::runtime(call)?, call.path("runtime-root"), &call.store_dir);
    let signals = Signals::begin()?;
    let around = Around { store: call.store()?, client: network::client(call)?, runtime, progress: transfers(call, request.progress) };
    let image = match (build::build(&request, &around, &signals), signals.code()) {
        (Ok(image), _) => image,
        (Err(_), Some(code)) => return Ok(code),
        (Err(e), None) => return Err(e.into()),
    };
    let digest = &image.descriptor.digest;
    if network::is_json(call) {
        let names: Vec<String> = request.names.iter().map(Reference::to_string).collect();
        output::print_json(&json!({"event": "built", "digest": digest, "names": names}))?;
    } else {
        output::print(&format!("{digest}\n"))?;
    }
    Ok(0)
}

/// How fetches and pushes are shown, between the lines of the build.
fn transfers(call: &Call, progress: Progress) -> Transfers {
    match progress {
        _ if network::is_json(call) => network::progress(call),
        Progress::Quiet => Transfers::quiet(),
        Progress::Plain => Transfers::lines_to_stderr(),
        Progress::Auto | Progress::Tty => Transfers::beside_lines(),
    }
}

fn request(call: &Call) -> Result<BuildRequest> {
    let names = call.list("tag").iter().map(|name| name.parse()).collect::<crate::Result<Vec<Reference>>>()?;
    if let Some(named) = names.iter().find(|name| name.digest().is_some()) {
        return Err(Error::usage(format!("--tag {named}: the image's digest is what comes out")).hint("leave out @sha256:…").into());
    }
    let env = |name: &str| std::env::var(name).ok();
    Ok(BuildRequest {
        context: context(call.word(0)?)?,
        dockerfile: match call.path("file") {
            None => DockerfileFrom::Default,
            Some(file) if file == Path::new("-") => DockerfileFrom::Stdin,
            Some(file) => DockerfileFrom::File(file),
        },
        output: call.text("output").map(|text| place(text, names.first())).transpose()?,
        names,
        target: call.text("target").map(String::from),
        args: args(&call.list("build-arg"), env)?,
        secrets: each(call, "secret", |text| secret(text, env))?,
        ssh: each(call, "ssh", |text| agent(text, env))?,
        platform: call.text("platform").map(platform).transpose()?,
        labels: each(call, "label", |text| named(text).or_else(|_| Ok((text.to_string(), String::new()))))?,
        no_cache: call.switch("no-cache"),
        pull: call.switch("pull"),
        contexts: each(call, "build-context", named_context)?,
        network: match call.text("network") {
            None | Some("default") => Network::Default,
            Some("none") => Network::None,
            Some("host") => Network::Host,
            Some(other) => return Err(Error::usage(format!("--network {other:?}: default, none and host are there")).into()),
        },
        volumes: call.list("volume").iter().map(|text| volume(text)).collect::<crate::Result<_>>()?,
        cache_to: call.list("cache-to").iter().map(|text| cache(text)).collect::<crate::Result<_>>()?,
        cache_from: call.list("cache-from").iter().map(|text| cache(text)).collect::<crate::Result<_>>()?,
        progress: match (call.switch("quiet"), call.text("progress")) {
            (true, _) | (_, Some("quiet")) => Progress::Quiet,
            (_, None | Some("auto")) if network::is_json(call) => Progress::Plain,
            (_, None | Some("auto")) => Progress::Auto,
            (_, Some("plain")) => Progress::Plain,
            (_, Some("tty")) => Progress::Tty,
            (_, Some(other)) => return Err(Error::usage(format!("--progress {other:?}: auto, plain, tty and quiet are there")).into()),
        },
    })
}

/// The words of a flag that may be repeated, by name; the last of one name counts.
fn each<V>(call: &Call, flag: &str, read: impl Fn(&str) -> crate::Result<(String, V)>) -> crate::Result<BTreeMap<String, V>> {
    call.list(flag).iter().map(|text| read(text).map_err(|e| e.within(&format!("--{flag} {text}")))).collect()
}

/// `NAME=VALUE`.
fn named(text: &str) -> crate::Result<(String, String)> {
    let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
    parts.map(|(name, value)| (name.to_string(), value.to_string())).ok_or_else(|| Error::usage("NAME=VALUE is needed"))
}

fn context(text: &str) -> crate::Result<Context> {
    let is_remote = text.contains("://") || text.starts_with("git@") || text.starts_with("github.com/");
    match text {
        "-" => Ok(Context::Stdin),
        _ if is_remote && !Path::new(text).exists() => Err(Error::usage(format!("the context {text:?} is elsewhere"))
            .hint("a directory, or - for an archive on standard input, is needed: clone or fetch it first")),
        _ => Ok(Context::Dir(text.into())),
    }
}

fn args(given: &[String], env: impl Fn(&str) -> Option<String>) -> crate::Result<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    // Reproducible builds are asked for by the environment.
    out.extend(env("SOURCE_DATE_EPOCH").filter(|value| !value.is_empty()).map(|value| ("SOURCE_DATE_EPOCH".to_string(), value)));
    for text in given {
        match text.split_once('=') {
            Some(("", _)) => return Err(Error::usage(format!("--build-arg {text}: there is no name before ="))),
            Some((name, value)) => drop(out.insert(name.to_string(), value.to_string())),
            None => out.extend(env(text).map(|value| (text.clone(), value))),
        }
    }
    Ok(out)
}

/// `id=ID,src=FILE`, `id=ID,env=NAME`; of `id=ID` alone the variable of that name, or else the file.
fn secret(text: &str, env: impl Fn(&str) -> Option<String>) -> crate::Result<(String, Secret)> {
    let (mut id, mut file, mut variable, mut kind) = (String::new(), None, None, String::new());
    for field in text.split(',') {
        let (key, value) = named(field).map_err(|_| Error::usage(format!("{field:?} is no KEY=VALUE")))?;
        match key.as_str() {
            "id" => id = value,
            "src" | "source" => file = Some(value),
            "env" => variable = Some(value),
            "type" if ["file", "env"].contains(&value.as_str()) => kind = value,
            _ => return Err(Error::usage(format!("{field:?} is unknown")).hint("there are id=…, src=… and env=…")),
        }
    }
    if kind == "env" {
        variable = variable.or(file.take());
    }
    if id.is_empty() {
        return Err(Error::usage("id=… is missing"));
    }
    let secret = match (file, variable) {
        (Some(_), Some(_)) => return Err(Error::usage("src and env: one or the other")),
        (Some(file), None) => Secret::File(file.into()),
        (None, Some(name)) => Secret::Env(name),
        (None, None) if env(&id).is_some() => Secret::Env(id.clone()),
        (None, None) => Secret::File(id.clone().into()),
    };
    Ok((id, secret))
}

/// `ID=SOCKET`, or `ID` for the environment's agent.
fn agent(text: &str, env: impl Fn(&str) -> Option<String>) -> crate::Result<(String, Vec<PathBuf>)> {
    let (id, socket) = match text.split_once('=') {
        Some((id, socket)) => (id, socket.to_string()),
        None => (text, env("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).ok_or_else(|| Error::usage("there is no agent: $SSH_AUTH_SOCK is not set"))?),
    };
    if id.is_empty() || socket.is_empty() || socket.contains(',') {
        return Err(Error::usage("ID=SOCKET, with one socket, is needed"));
    }
    // git and the container have other working directories.
    let socket = std::path::absolute(&socket).map_err(|e| Error::io(&e, "looking for the ssh agent", socket.clone()))?;
    Ok((id.to_string(), vec![socket]))
}

fn platform(text: &str) -> crate::Result<Platform> {
    if text.contains(',') {
        return Err(Error::usage(format!("--platform {text}: one platform at a time")).hint("build each, then put them in an index"));
    }
    text.parse()
}

fn named_context(text: &str) -> crate::Result<(String, NamedContext)> {
    let (name, value) = named(text)?;
    let context = if let Some(reference) = value.strip_prefix("docker-image://") {
        NamedContext::Image(reference.parse()?)
    } else if let Some(layout) = value.strip_prefix("oci-layout://") {
        let (dir, version) = layout.split_once('@').or_else(|| layout.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))).unwrap_or((layout, "latest"));
        NamedContext::Layout(dir.into(), version.into())
    } else if value.contains("://") || value.starts_with("git@") || value.is_empty() {
        return Err(Error::usage("a directory, docker-image://REFERENCE or oci-layout://DIR[:TAG] is needed"));
    } else {
        NamedContext::Dir(value.into())
    };
    // A stage's name has no capitals.
    Ok((name.to_lowercase(), context))
}

fn volume(text: &str) -> crate::Result<Volume> {
    let wrong = |cause: &str| Error::usage(format!("--volume {text}: {cause}")).hint("HOST:CONTAINER[:ro] is needed, both absolute paths");
    let (host, container, mode) = match text.split(':').collect::<Vec<_>>()[..] {
        [host, container] => (host, container, "rw"),
        [host, container, mode] => (host, container, mode),
        _ => return Err(wrong("it has no two or three parts")),
    };
    if !host.starts_with('/') || !container.starts_with('/') || container.trim_matches('/').is_empty() {
        return Err(wrong("a path is not absolute, or CONTAINER is /"));
    }
    match mode {
        "ro" | "rw" => Ok(Volume { host: host.into(), container: container.into(), readonly: mode == "ro" }),
        other => Err(wrong(&format!("{other:?} is neither ro nor rw"))),
    }
}

fn place(text: &str, name: Option<&Reference>) -> crate::Result<Output> {
    let known = "bundle:DIR, oci:DIR[:NAME] and docker-archive:FILE[:NAME] are there";
    if let Some(dir) = text.strip_prefix("bundle:") {
        return if dir.is_empty() { Err(Error::usage(format!("--output {text}: the directory is missing"))) } else { Ok(Output::Bundle(dir.into())) };
    }
    if !text.starts_with("oci:") && !text.starts_with("docker-archive:") {
        return Err(Error::usage(format!("--output {text:?} is no place")).hint(known));
    }
    let unnamed: Reference = "image".parse()?;
    match Target::parse(text, name.unwrap_or(&unnamed))? {
        // An archive of no name would be loaded as what it isn't.
        Target::Archive { name: found, .. } if name.is_none() && found == unnamed && text.matches(':').count() == 1 => {
            Err(Error::usage(format!("--output {text}: the archive's image needs a name")).hint("-t NAME, or docker-archive:FILE:NAME"))
        }
        target => Ok(Output::Image(target)),
    }
}

fn cache(text: &str) -> crate::Result<CachePlace> {
    match text.strip_prefix("oci:") {
        Some("") => Err(Error::usage("oci: the directory is missing")),
        Some(dir) => Ok(CachePlace::Layout(dir.into())),
        None if text.contains('=') => Err(Error::usage(format!("the cache's place is {text:?}")).hint("REFERENCE for a registry, or oci:DIR")),
        None => Ok(CachePlace::Registry(text.parse()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        (name == "SSH_AUTH_SOCK" || name == "TOKEN").then(|| format!("/{name}"))
    }

    #[test]
    fn secrets_and_agents() {
        let secret = |text| secret(text, env);
        assert_eq!(secret("id=a,src=f").unwrap(), ("a".into(), Secret::File("f".into())));
        assert_eq!(secret("id=a,env=B").unwrap().1, Secret::Env("B".into()));
        assert_eq!(secret("type=env,id=a,src=B").unwrap().1, Secret::Env("B".into()));
        assert_eq!(secret("id=TOKEN").unwrap().1, Secret::Env("TOKEN".into()));
        assert_eq!(secret("id=f").unwrap().1, Secret::File("f".into()));
        for bad in ["src=f", "id=a,src=b,env=c", "a", "id=a,foo=b", "id=", ""] {
            assert!(secret(bad).is_err(), "{bad}");
        }
        assert_eq!(agent("default", env).unwrap(), ("default".into(), vec!["/SSH_AUTH_SOCK".into()]));
        assert_eq!(agent("x=/s", env).unwrap().1, [PathBuf::from("/s")]);
        assert!(agent("default", |_| None).is_err() && agent("x=/a,/b", env).is_err());
    }

    #[test]
    fn arguments() {
        let given = |list: &[&str]| args(&list.iter().map(|s| s.to_string()).collect::<Vec<_>>(), env).unwrap();
        let found = given(&["A=1=2", "TOKEN", "NONE", "A=3"]);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("A".into(), "3".into()), ("TOKEN".into(), "/TOKEN".into())]);
        assert!(args(&["=x".into()], env).is_err());
    }

    #[test]
    fn places() {
        let name: Reference = "app:1".parse().unwrap();
        assert_eq!(place("bundle:d", None).unwrap(), Output::Bundle("d".into()));
        assert_eq!(place("oci:d", Some(&name)).unwrap(), Output::Image(Target::Layout { dir: "d".into(), name: "1".into() }));
        assert!(place("docker-archive:f:x", None).is_ok());
        for bad in ["docker-archive:f", "type=local,dest=x", "bundle:", "d"] {
            assert!(place(bad, None).is_err(), "{bad}");
        }
        assert_eq!(cache("oci:d").unwrap(), CachePlace::Layout("d".into()));
        assert!(cache("type=inline").is_err());
        assert_eq!(context("-").unwrap(), Context::Stdin);
        assert!(context("https://github.com/a/b.git").is_err());
    }

    #[test]
    fn contexts_and_volumes() {
        assert_eq!(named_context("Src=.").unwrap(), ("src".into(), NamedContext::Dir(".".into())));
        assert_eq!(named_context("a=oci-layout:///d:x").unwrap().1, NamedContext::Layout("/d".into(), "x".into()));
        assert_eq!(named_context("a=oci-layout://d@sha256:00").unwrap().1, NamedContext::Layout("d".into(), "sha256:00".into()));
        assert!(matches!(named_context("a=docker-image://debian").unwrap().1, NamedContext::Image(_)));
        assert!(named_context("a=https://x").is_err() && named_context("a").is_err());
        assert_eq!(volume("/a:/b:ro").unwrap(), Volume { host: "/a".into(), container: "/b".into(), readonly: true });
        for bad in ["a:/b", "/a", "/a:/b:z", "/a:b", "/a:/"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
        assert!(platform("linux/amd64,linux/arm64").is_err());
    }
}

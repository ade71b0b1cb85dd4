//! The version, the root, the names, hooks and annotations (config.md).

use super::Checker;
use crate::spec::Hook;
use std::fmt::Display;

/// The minor version of the 1.x that dhow knows.
const KNOWN_MINOR: u64 = 3;
/// uname(2): `__NEW_UTS_LEN`.
const LONGEST_NAME: usize = 64;

pub fn check(cx: &mut Checker) {
    let spec = cx.spec;
    version(cx);
    match &spec.root {
        None => {
            cx.fault("/root", "is missing", "the root filesystem: {\"path\": …}").hint("the usual is \"root\": {\"path\": \"rootfs\"}");
        }
        Some(root) if root.path.is_empty() => {
            cx.fault("/root/path", "is empty", "a path, absolute or relative to the bundle").hint("the usual is \"rootfs\"");
        }
        Some(root) => cx.no_nul("/root/path", &root.path),
    }
    for (field, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        uts_name(cx, field, name);
    }
    let kinds = [
        ("prestart", &spec.hooks.prestart),
        ("createRuntime", &spec.hooks.create_runtime),
        ("createContainer", &spec.hooks.create_container),
        ("startContainer", &spec.hooks.start_container),
        ("poststart", &spec.hooks.poststart),
        ("poststop", &spec.hooks.poststop),
    ];
    for (kind, list) in kinds {
        for (i, one) in list.iter().enumerate() {
            hook(cx, format_args!("/hooks/{kind}/{i}"), one);
        }
    }
    if !spec.hooks.prestart.is_empty() {
        cx.note("/hooks/prestart", "is deprecated", "createRuntime, createContainer or startContainer");
    }
    annotations(cx);
}

/// config.md § Specification version: SemVer 2.0.0, compatible within a major version. runc doesn't look at it.
fn version(cx: &mut Checker) {
    const AT: &str = "/ociVersion";
    let version = cx.spec.oci_version.as_str();
    if version.is_empty() {
        cx.fault(AT, "is missing", "the version of runtime-spec").hint(format_args!("write {:?}", crate::spec::OCI_VERSION));
        return;
    }
    match parse_semver(version) {
        None => cx.fault(AT, format_args!("{version:?} is not a version"), "SemVer 2.0.0: MAJOR.MINOR.PATCH").hint("for example \"1.0.2\""),
        Some((1, minor)) if minor > KNOWN_MINOR => {
            cx.note(AT, format_args!("{version} is newer than what dhow knows"), format_args!("1.{KNOWN_MINOR} or older"))
                .hint("what later versions added is ignored");
        }
        Some((1, _)) => {}
        Some((0, _)) => {
            cx.warn(AT, format_args!("{version} is older than the first stable spec"), "1.x").hint("it is read as 1.x");
        }
        Some((major, _)) => {
            cx.fault(AT, format_args!("major version {major}"), "1.x").hint("another major version is another format");
        }
    }
}

/// (major, minor) of a semantic version (semver.org § Backus-Naur Form), pre-release and build metadata allowed.
fn parse_semver(text: &str) -> Option<(u64, u64)> {
    fn number(text: &str) -> Option<u64> {
        let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
        if plain { text.parse().ok() } else { None }
    }
    let labels = |list: &str| list.split('.').all(|l| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    let (text, build) = text.split_once('+').map_or((text, None), |(t, b)| (t, Some(b)));
    let (core, pre) = text.split_once('-').map_or((text, None), |(t, p)| (t, Some(p)));
    if !build.is_none_or(labels) || !pre.is_none_or(labels) {
        return None;
    }
    let mut parts = core.split('.').map(number);
    let (major, minor, _patch) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() { None } else { Some((major, minor)) }
}

/// sethostname(2) and setdomainname(2) change the UTS namespace: without its own, the host's name.
fn uts_name(cx: &mut Checker, field: &str, name: &str) {
    if name.is_empty() {
        return;
    }
    if cx.lacks("uts") {
        cx.fault(format_args!("/{field}"), format_args!("{name:?} without a uts namespace would be the host's"), "a uts namespace, or no name")
            .hint("add {\"type\": \"uts\"} to /linux/namespaces");
    }
    if name.len() > LONGEST_NAME {
        cx.fault(format_args!("/{field}"), format_args!("{} bytes long", name.len()), format_args!("at most {LONGEST_NAME} bytes (uname(2))"));
    }
}

/// config.md § POSIX-platform Hooks.
fn hook(cx: &mut Checker, at: impl Display, hook: &Hook) {
    cx.absolute(format_args!("{at}/path"), &hook.path);
    for (i, arg) in hook.args.iter().enumerate() {
        cx.no_nul(format_args!("{at}/args/{i}"), arg);
    }
    for (i, entry) in hook.env.iter().enumerate() {
        cx.no_nul(format_args!("{at}/env/{i}"), entry);
        if !entry.contains('=') {
            cx.warn(format_args!("{at}/env/{i}"), format_args!("{entry:?} has no `=`"), "NAME=VALUE");
        }
    }
    if let Some(seconds) = hook.timeout.filter(|t| *t <= 0) {
        cx.fault(format_args!("{at}/timeout"), format_args!("is {seconds}"), "more than 0 seconds").hint("leave it out for no timeout");
    }
}

/// config.md § Annotations; `org.systemd.property.` is runc's extension for the systemd driver.
fn annotations(cx: &mut Checker) {
    const SPECIFIED: [&str; 8] = ["os", "os.version", "os.features", "architecture", "variant", "author", "created", "stopSignal"];
    for key in cx.spec.annotations.keys() {
        if key.is_empty() {
            cx.fault("/annotations/", "an annotation without a name", "a name that is not empty, such as com.example.key");
        } else if let Some(property) = key.strip_prefix("org.systemd.property.") {
            if property.len() < 3 || !property.bytes().all(|b| b.is_ascii_alphabetic()) {
                let message = format_args!("{property:?} can't be a systemd property; with the systemd cgroup driver this fails");
                cx.warn(annotation(key), message, "at least three letters, as in org.systemd.property.TimeoutStopUSec");
            }
        } else if let Some(rest) = key.strip_prefix("org.opencontainers.")
            && !rest.strip_prefix("image.").is_some_and(|name| SPECIFIED.contains(&name))
        {
            cx.note(annotation(key), "is in the spec's own namespace, but not in the spec", "a name of your own, such as com.example.key");
        }
    }
}

fn annotation(key: &str) -> String {
    format!("/annotations/{}", crate::spec::escape_pointer(key))
}

#[cfg(test)]
mod tests {
    use super::parse_semver;

    #[test]
    fn semantic_versions() {
        for (text, parsed) in [("1.0.0", (1, 0)), ("1.2.1-rc.1", (1, 2)), ("1.0.0-rc2-dev", (1, 0)), ("1.3.0+dev", (1, 3)), ("0.1.0", (0, 1))] {
            assert_eq!(parse_semver(text), Some(parsed), "{text}");
        }
        for text in ["", "1", "1.0", "v1.0.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.x", " 1.0.0", "1.0.0-a..b", "1..0"] {
            assert_eq!(parse_semver(text), None, "{text}");
        }
    }
}

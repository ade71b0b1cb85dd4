//! What `run` is told beside the image, in Docker's flags: variables, user, directory, program, files of the host's.

use super::Call;
use super::args::{list, switch, text};
use crate::Error;
use crate::image::model::Execution;
use crate::spec::Mount;
use crate::spec::defaults::mount;
use anyhow::Result;
use clap::Arg;

pub(super) fn flags() -> Vec<Arg> {
    vec![
        list("env", "NAME[=VALUE]", "a variable; without a value that of the environment").short('e'),
        text("user", "USER[:GROUP]", "whose the process is, instead of the image's User").short('u'),
        text("workdir", "DIR", "its working directory, instead of the image's").short('w'),
        text("entrypoint", "PROGRAM", "instead of the image's Entrypoint and Cmd"),
        list("volume", "HOST:CONTAINER[:ro]", "bind a host's file or directory").short('v'),
        switch("interactive", "the process has our standard input, as it always has").short('i'),
        switch("rm", "what was made for the container goes with it, as it always does"),
    ]
}

/// The flags that change what a bundle's own configuration says.
const OF_IMAGES: [&str; 5] = ["env", "user", "workdir", "entrypoint", "volume"];

/// A bundle has a configuration to say all of that.
pub(super) fn refuse_for_bundle(call: &Call) -> Result<()> {
    let given = |name: &&&str| call.text(name).is_some() || !call.list(name).is_empty();
    match OF_IMAGES.iter().find(given) {
        None => Ok(()),
        Some(flag) => Err(Error::usage(format!("--{flag} is for images")).hint("of a bundle, change config.json").into()),
    }
}

/// Over what the image says.
pub(super) fn apply(call: &Call, execution: &mut Execution) -> Result<()> {
    for text in call.list("env") {
        let (name, line) = match text.split_once('=') {
            Some((name, _)) => (name, Some(text.clone())),
            None => (text.as_str(), std::env::var(&text).ok().map(|value| format!("{text}={value}"))),
        };
        if name.is_empty() {
            return Err(Error::usage(format!("--env {text}: there is no name before =")).into());
        }
        execution.env.retain(|known| known.split('=').next() != Some(name));
        execution.env.extend(line);
    }
    if let Some(user) = call.text("user") {
        execution.user = user.into();
    }
    if let Some(dir) = call.text("workdir") {
        if !dir.starts_with('/') {
            return Err(Error::usage(format!("--workdir {dir}: it is not absolute")).into());
        }
        execution.working_dir = dir.into();
    }
    // "" says that there is none, so it counts as given.
    if let Some(program) = call.matches.get_one::<String>("entrypoint") {
        execution.entrypoint = [program.clone()].into_iter().filter(|program| !program.is_empty()).collect();
        // It was meant for the other program.
        execution.cmd.clear();
    }
    Ok(())
}

pub(super) fn mounts(call: &Call) -> Result<Vec<Mount>> {
    call.list("volume").iter().map(|text| volume(text).map_err(Into::into)).collect()
}

/// `HOST:CONTAINER[:ro]`, HOST from the root or from `.` on.
fn volume(text: &str) -> crate::Result<Mount> {
    let wrong = |cause: &str| Error::usage(format!("--volume {text}: {cause}")).hint("HOST:CONTAINER[:ro] is needed");
    let (host, container, access) = match text.split(':').collect::<Vec<_>>()[..] {
        [host, container] => (host, container, "rw"),
        [host, container, access @ ("ro" | "rw")] => (host, container, access),
        _ => return Err(wrong("it has no two or three parts, or the third is neither ro nor rw")),
    };
    if !host.starts_with(['/', '.']) {
        return Err(wrong("HOST is no path; there are no named volumes"));
    }
    if !container.starts_with('/') || container.trim_matches('/').is_empty() {
        return Err(wrong("CONTAINER is not absolute, or is /"));
    }
    let host = std::path::absolute(host).and_then(|path| path.metadata().map(|_| path)).map_err(|e| Error::io(&e, format!("--volume {text}"), host))?;
    let Some(host) = host.to_str() else { return Err(wrong("HOST is no UTF-8")) };
    Ok(mount(container, "bind", host, &["rbind", "rprivate", access]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        let options = |text: &str| volume(text).unwrap().options;
        assert_eq!(options("/proc:/x"), ["rbind", "rprivate", "rw"]);
        assert_eq!(options("/proc:/x:ro"), ["rbind", "rprivate", "ro"]);
        assert!(volume(".:/x").unwrap().source.starts_with('/'));
        for bad in ["/proc", "data:/x", "/proc:x", "/proc:/", "/proc:/x:z", "/nowhere/at/all:/x", ":/x", "/a:/b:ro:z"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }
}

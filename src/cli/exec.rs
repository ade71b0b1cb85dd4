//! `exec`: start another process in a running container.

use super::args::{FlagsEnd, count, list, path, switch, text};
use super::call::Call;
use super::{Failure, Prefix, Verb};
use crate::container::ExecRequest;
use crate::spec::{self, Process};
use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeSet;

pub(crate) const VERB: Verb = Verb {
    name: "exec",
    about: "start another process in a container",
    usage: "<container-id> <command> [arguments]  |  -p process.json <container-id>",
    positionals: (1, usize::MAX),
    flags_end: FlagsEnd::AfterFirst,
    flags,
    enters: true,
    run,
    failure: Failure { code: 255, prefix: Prefix::Verb },
    ..Verb::BASE
};

fn flags() -> Vec<clap::Arg> {
    vec![
        path("console-socket", "SOCKET", "unix socket that is sent the master of the process's terminal"),
        path("pidfd-socket", "SOCKET", "unix socket that is sent a pidfd of the process"),
        text("cwd", "DIR", "working directory, inside the container"),
        list("env", "NAME=VALUE", "set an environment variable (repeatable)").short('e'),
        switch("tty", "give the process a terminal").short('t'),
        text("user", "UID[:GID]", "run as this user, by number").short('u'),
        list("additional-gids", "GID", "add a supplementary group (repeatable)").short('g'),
        path("process", "FILE", "take the whole process from a JSON file, as config.json's `process`").short('p'),
        switch("detach", "leave as soon as the process runs").short('d'),
        path("pid-file", "FILE", "write the pid of the process to FILE"),
        text("process-label", "LABEL", "SELinux label of the process"),
        text("apparmor", "PROFILE", "AppArmor profile of the process"),
        switch("no-new-privs", "set no_new_privs on the process"),
        list("cap", "CAP", "add a capability (repeatable)").short('c'),
        count("preserve-fds", "pass N more file descriptors, from 3 (+ $LISTEN_FDS) on"),
        list("cgroup", "[CONTROLLER:]PATH", "start in this existing cgroup below the container's (repeatable)"),
        switch("ignore-paused", "do so in a paused container too"),
    ]
}

fn run(call: &Call) -> Result<u8> {
    Ok(call.context.exec(&request(call)?)?)
}

fn request(call: &Call) -> Result<ExecRequest> {
    let process = read_process(call)?;
    let args = call.positionals_from(1)?;
    if process.is_none() && args.is_empty() {
        bail!("exec args cannot be empty");
    }
    if call.turned_off("no-new-privs") {
        bail!("--no-new-privs=false: what the container's config sets can't be taken back; use --process");
    }
    Ok(ExecRequest {
        id: call.id()?.to_string(),
        process,
        args,
        tty: call.switch("tty"),
        cwd: call.text("cwd").map(String::from),
        env: call.list("env"),
        user: call.text("user").map(parse_user).transpose()?,
        additional_gids: call.list("additional-gids").iter().map(|gid| parse_gid(gid)).collect::<Result<_>>()?,
        cap: call.list("cap"),
        no_new_privs: call.switch("no-new-privs"),
        apparmor: call.text("apparmor").map(String::from),
        process_label: call.text("process-label").map(String::from),
        cgroup: checked_cgroups(call.list("cgroup"))?,
        ignore_paused: call.switch("ignore-paused"),
        detach: call.switch("detach"),
        console_socket: call.path("console-socket"),
        pidfd_socket: call.path("pidfd-socket"),
        pid_file: call.absolute("pid-file")?,
        preserve_fds: call.count("preserve-fds"),
    })
}

fn read_process(call: &Call) -> Result<Option<Process>> {
    let Some(path) = call.path("process") else { return Ok(None) };
    let text = std::fs::read(&path).with_context(|| format!("reading --process {}", path.display()))?;
    Ok(Some(spec::parse_process(&text)?))
}

/// `UID[:GID]`. No names: dhow doesn't read the container's /etc/passwd.
fn parse_user(text: &str) -> Result<(u32, Option<u32>)> {
    let number = |what: &str, text: &str| text.parse::<u32>().map_err(|_| anyhow!("bad {what}: {text:?} is not a number (--user takes UID[:GID])"));
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number("uid", uid)?, Some(number("gid", gid)?))),
        None => Ok((number("uid", text)?, None)),
    }
}

fn parse_gid(text: &str) -> Result<u32> {
    text.parse().map_err(|_| anyhow!("additional-gids must be a positive number {text}"))
}

/// One bare path (cgroup v2), or paths that name each controller at most once.
fn checked_cgroups(all: Vec<String>) -> Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    for cgroup in &all {
        match cgroup.split_once(':') {
            None if all.len() > 1 => bail!("invalid --cgroup argument: {cgroup} (missing <controller>: prefix)"),
            None => {}
            Some((controllers, _)) => {
                for controller in controllers.split(',') {
                    if controller.is_empty() {
                        bail!("invalid --cgroup argument: {cgroup} (empty <controller> prefix)");
                    }
                    if !seen.insert(controller) {
                        bail!("invalid --cgroup argument(s): controller {controller} specified multiple times");
                    }
                }
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers() {
        assert_eq!(parse_user("1000").unwrap(), (1000, None));
        assert_eq!(parse_user("0:5").unwrap(), (0, Some(5)));
        for text in ["root", "1000:staff", "", ":5", "-1", "1:", "4294967296"] {
            assert!(parse_user(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cgroups_name_each_controller_once() {
        let check = |all: &[&str]| checked_cgroups(all.iter().map(|s| s.to_string()).collect());
        for good in [&["sub"][..], &["/"], &["cpu,cpuacct:a", "memory:b"], &[]] {
            assert_eq!(check(good).unwrap(), good);
        }
        for bad in [&["a", "b"][..], &["cpu:a", "b"], &[":a"], &["cpu,:a"], &["cpu:a", "memory,cpu:b"]] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}

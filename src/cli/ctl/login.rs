//! `login`: remember who we are to a registry.

use super::args::{switch, text};
use super::{Call, Verb, network, output};
use crate::image::prompt::Hidden;
use crate::image::registry::{Credentials, Keyring};
use crate::log;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, IsTerminal, Read};

pub(crate) const VERB: Verb = Verb {
    name: "login",
    about: "log in to a registry",
    usage: "[REGISTRY]",
    details: "Asks the registry (default: docker.io) whether it accepts user and password, then remembers them where Docker\n\
        does: with the credential helper that config.json names, else in ~/.docker/config.json (DOCKER_CONFIG names\n\
        another directory). The password is asked for at a terminal, which does not show it, or else read from standard\n\
        input.\n\n  \
        dhowctl login --username me\n  \
        dhowctl login --username me registry.example.com <password-file",
    positionals: (0, 1),
    flags: || {
        let mut all = vec![
            text("username", "NAME", "the user's name").short('u'),
            switch("password-stdin", "read the password from standard input even if that is a terminal, without asking for it"),
        ];
        all.extend(network::flags());
        all
    },
    run,
    ..Verb::BASE
};

/// More than this is no password.
const MOST_PASSWORD: u64 = 64 << 10;

fn run(call: &Call) -> Result<u8> {
    let registry = registry(call)?;
    let Some(user) = call.text("username") else { bail!("login: whose? Give --username NAME") };
    let client = network::client(call)?;
    let credentials = Credentials::Password { user: user.into(), password: password(call)? };
    if !client.check_login(&registry, &credentials)? {
        log::warn(&format!("{registry} lets everybody in, so that the password was not checked"));
    }
    let place = Keyring::open()?.store(&registry, &credentials)?;
    output::print(&format!("logged in to {registry}; the password is kept by {place}\n"))?;
    Ok(0)
}

/// Docker writes the registry as a URL at times.
pub(crate) fn registry(call: &Call) -> Result<String> {
    let word = call.positional(0)?.unwrap_or("docker.io");
    let bare = word.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let bare = if bare == "index.docker.io/v1" { "docker.io" } else { bare };
    if bare.is_empty() || bare.contains('/') {
        bail!("{word:?} is no registry's host[:port]");
    }
    Ok(bare.to_string())
}

/// From standard input, without the newline at its end; a terminal is asked for a line.
fn password(call: &Call) -> Result<String> {
    let stdin = std::io::stdin();
    let mut text = String::new();
    let read = if stdin.is_terminal() {
        let _hidden = Hidden::begin(!call.switch("password-stdin"))?;
        stdin.lock().take(MOST_PASSWORD).read_line(&mut text)
    } else {
        stdin.take(MOST_PASSWORD).read_to_string(&mut text)
    };
    read.context("reading the password from standard input")?;
    let password = text.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        bail!("there is no password on standard input");
    }
    Ok(password.to_string())
}

//! `create`: set a container up, up to where its program starts.

use super::args::{count, path, switch};
use super::call::Call;
use super::{Failure, Prefix, Verb};
use crate::container::CreateRequest;
use anyhow::Result;

pub(crate) const VERB: Verb = Verb {
    name: "create",
    about: "create a container, ready to start",
    flags,
    enters: true,
    run,
    failure: Failure { code: 1, prefix: Prefix::ProgramAndVerb },
    ..Verb::BASE
};

/// What `create` and `run` have in common.
pub(crate) fn flags() -> Vec<clap::Arg> {
    vec![
        path("bundle", "DIR", "the bundle: a directory with config.json (default: the current one)").short('b'),
        path("console-socket", "SOCKET", "unix socket that is sent the master of the container's terminal"),
        path("pidfd-socket", "SOCKET", "unix socket that is sent a pidfd of the container's init"),
        path("pid-file", "FILE", "write the pid of the container's init to FILE"),
        switch("no-pivot", "enter the root without pivot_root(2), for a root on a ramdisk"),
        switch("no-new-keyring", "keep the caller's session keyring"),
        count("preserve-fds", "pass N more file descriptors, from 3 (+ $LISTEN_FDS) on"),
    ]
}

fn run(call: &Call) -> Result<u8> {
    call.context.create(&request(call)?)?;
    Ok(0)
}

/// The request of both; `run` adds its own flags.
pub(crate) fn request(call: &Call) -> Result<CreateRequest> {
    Ok(CreateRequest {
        id: call.id()?.to_string(),
        bundle: call.bundle(None)?,
        console_socket: call.path("console-socket"),
        pidfd_socket: call.path("pidfd-socket"),
        pid_file: call.absolute("pid-file")?,
        no_pivot: call.switch("no-pivot"),
        no_new_keyring: call.switch("no-new-keyring"),
        preserve_fds: call.count("preserve-fds"),
        ..CreateRequest::default()
    })
}

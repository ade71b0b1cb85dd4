//! `unshare`: a command in the user namespace that dhowctl works in without root.

use super::args::FlagsEnd;
use super::{Call, Verb};
use crate::Error;
use crate::image::ids::Need;
use crate::image::live::own_mounts;
use anyhow::Result;
use std::os::unix::process::CommandExt;
use std::process::Command;

pub(crate) const VERB: Verb = Verb {
    name: "unshare",
    about: "run a command where files of subordinate ids are yours",
    usage: "COMMAND [ARG...]",
    details: "In a user namespace whose root you are and to whose other ids yours of /etc/subuid and /etc/subgid are mapped, and\n\
        in a mount namespace. As root it is COMMAND itself, in a mount namespace.\n\n  \
        dhowctl unshare rm -rf bundle\n  \
        dhowctl unshare chown 33:33 bundle/rootfs/srv",
    positionals: (1, usize::MAX),
    flags_end: FlagsEnd::AtFirst,
    need: |_| Need::Mounts,
    run,
    ..Verb::BASE
};

fn run(call: &Call) -> Result<u8> {
    own_mounts()?;
    let program = call.word(0)?;
    // It comes back only if there is no such program.
    let e = Command::new(program).args(call.positionals_from(1)?).exec();
    let code = if e.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
    crate::log::error(&Error::io(&e, "running", program).to_string());
    Ok(code)
}

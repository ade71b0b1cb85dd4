//! `restore`: refused, as `checkpoint` is. Podman looks for `--lsm-mount-context` by giving it no value.

use super::Verb;
use super::args::{path, switch, text};
use super::checkpoint::{criu_flags, refuse};

pub(crate) const VERB: Verb =
    Verb { name: "restore", about: "start a container from a checkpoint (not in this build)", flags, run: |_| refuse("restore"), ..Verb::BASE };

fn flags() -> Vec<clap::Arg> {
    let mut flags = criu_flags();
    flags.extend([
        path("console-socket", "SOCKET", "unix socket that is sent the master of the container's terminal"),
        path("bundle", "DIR", "the bundle (default: the current directory)").short('b'),
        switch("detach", "leave as soon as the container runs").short('d'),
        path("pid-file", "FILE", "write the pid of the container's init to FILE"),
        switch("no-subreaper", "do not adopt the container's orphans while waiting"),
        switch("no-pivot", "enter the root without pivot_root(2)"),
        text("lsm-profile", "TYPE:NAME", "security profile to restore with"),
        text("lsm-mount-context", "CONTEXT", "SELinux mount context to restore with"),
    ]);
    flags
}

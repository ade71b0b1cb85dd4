//! `checkpoint`: refused. Its flags are known, since callers ask for its help to see what a runtime can do.

use super::Verb;
use super::args::{list, path, switch, text};
use crate::Error;
use anyhow::Result;
use clap::Arg;

pub(crate) const VERB: Verb =
    Verb { name: "checkpoint", about: "save a running container (not in this build)", flags, run: |_| refuse("checkpoint"), ..Verb::BASE };

fn flags() -> Vec<Arg> {
    let mut flags = criu_flags();
    flags.extend([
        path("parent-path", "DIR", "images of an earlier pre-dump"),
        switch("leave-running", "leave the container running"),
        switch("tcp-skip-in-flight", "skip TCP connections in the making"),
        switch("link-remap", "link unlinked files back where possible"),
        text("status-fd", "FD", "file descriptor that CRIU reports readiness to"),
        text("page-server", "ADDRESS:PORT", "send memory pages there"),
        switch("pre-dump", "save the memory only"),
    ]);
    flags
}

/// What `checkpoint` and `restore` have in common.
pub(crate) fn criu_flags() -> Vec<Arg> {
    vec![
        path("image-path", "DIR", "directory of CRIU's image files"),
        path("work-path", "DIR", "directory of CRIU's work files and logs"),
        switch("tcp-established", "allow open TCP connections"),
        switch("ext-unix-sk", "allow unix sockets to the outside"),
        switch("shell-job", "allow shell jobs"),
        switch("lazy-pages", "fetch memory pages when they are needed"),
        switch("file-locks", "handle file locks"),
        text("manage-cgroups-mode", "MODE", "soft, full, strict or ignore"),
        list("empty-ns", "NAMESPACE", "make this namespace, but restore nothing in it (repeatable)"),
        switch("auto-dedup", "drop memory pages that are saved twice"),
    ]
}

pub(crate) fn refuse(what: &str) -> Result<u8> {
    Err(Error::unsupported("refusing to", what, "CRIU, which this build of dhow does not drive").into())
}
